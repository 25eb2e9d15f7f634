"""Folds of the rows that are learnt from."""

import numbers
import warnings
from typing import Any

import numpy as np
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, check_cv

from skfusion._targets import TrainingSet


def training_folds(
    cv: Any, data: TrainingSet, target: Any, n_samples: int, y: Any, groups: Any, *, classify: bool
) -> list[tuple[Any, Any]]:
    """Return the (train, test) rows of each fold, as positions among the rows that are learnt from.

    Given folds speak of the `n_samples` rows that came, with `y` and `groups`, some of which may have been dropped. An
    integer is stratified by `target` (n_rows,) where it holds classes as codes, keeps groups whole, and is lowered for
    rare classes, few samples and few groups rather than failing.
    """
    if not (cv is None or isinstance(cv, numbers.Integral)):
        position = np.full(n_samples, -1)
        position[data.kept] = np.arange(len(data.kept))
        given = check_cv(cv, y, classifier=classify).split(np.zeros((n_samples, 1)), y, groups)
        splits = [tuple(position[np.asarray(rows)] for rows in split) for split in given]
        return [(train[train >= 0], test[test >= 0]) for train, test in splits]
    most = int(np.bincount(target).max()) if classify else len(target)
    most = most if data.groups is None else min(most, len(np.unique(data.groups)))
    n_folds = min(int(cv or 5), most)
    if n_folds < 2:
        raise ValueError(f"n_samples={len(target)} is too few for folds: a class needs 2 samples, in 2 groups.")
    by_group = StratifiedGroupKFold if classify else GroupKFold
    splitter = check_cv(n_folds if data.groups is None else by_group(n_folds), target, classifier=classify)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        return list(splitter.split(np.zeros((len(target), 1)), target, data.groups))
