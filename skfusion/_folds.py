"""Folds of the rows that are learnt from."""

import numbers
import warnings
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, check_cv

from skfusion._targets import TrainingSet


def class_folds(cv: Any, data: TrainingSet, codes: Any, n_samples: int, y: Any, groups: Any) -> list[tuple[Any, Any]]:
    """Return the (train, test) rows of each fold, as positions among the rows that are learnt from.

    Given folds speak of the `n_samples` rows that came, with `y` and `groups`. An integer is stratified by `codes`
    (n_rows,), keeps groups whole, and is lowered where no class has so many samples.
    """
    if not (cv is None or isinstance(cv, numbers.Integral)):
        position = np.full(n_samples, -1)
        position[data.kept] = np.arange(len(data.kept))
        given = check_cv(cv, y, classifier=True).split(np.zeros((n_samples, 1)), y, groups)
        splits = [tuple(position[np.asarray(rows)] for rows in split) for split in given]
        return [(train[train >= 0], test[test >= 0]) for train, test in splits]
    most = int(np.bincount(codes).max())
    most = most if data.groups is None else min(most, len(np.unique(data.groups)))
    n_folds = min(int(cv or 5), most)
    if n_folds < 2:
        raise ValueError(f"n_samples={len(codes)} is too few for folds: a class needs 2 samples, in 2 groups.")
    whole = n_folds if data.groups is None else StratifiedGroupKFold(n_folds)
    splitter = check_cv(whole, codes, classifier=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        return list(splitter.split(np.zeros((len(codes), 1)), codes, data.groups))
