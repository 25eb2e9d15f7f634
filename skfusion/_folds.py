"""Folds of the rows that are learnt from."""

import numbers
import warnings
from typing import Any

import numpy as np
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, check_cv

from skfusion._calibration import hold_out
from skfusion._targets import TrainingSet
from skfusion.modalities import Modalities


def training_folds(
    cv: Any, data: TrainingSet, target: Any, n_samples: int, y: Any, groups: Any, *, classify: bool
) -> list[tuple[Any, Any]]:
    """Return the (train, test) rows of each fold, as positions among the rows that are learnt from.

    Given folds speak of the `n_samples` rows that came, with `y` and `groups`, some of which may have been dropped. An
    integer is stratified by `target` (n_rows,) where it holds classes as codes, and by what is missing where something
    is and there are no groups, which it keeps whole; it is lowered for rare classes, few samples and few groups rather
    than failing.
    """
    if not (cv is None or isinstance(cv, numbers.Integral)):
        position = np.full(n_samples, -1)
        position[data.kept] = np.arange(len(data.kept))
        given = _given_folds(check_cv(cv, y, classifier=classify), n_samples, y, groups)
        splits = [tuple(position[np.asarray(rows)] for rows in split) for split in given]
        return [(train[train >= 0], test[test >= 0]) for train, test in splits]
    most = int(np.bincount(target).max()) if classify else len(target)
    most = most if data.groups is None else min(most, len(np.unique(data.groups)))
    n_folds = min(int(cv or 5), most)
    if n_folds < 2:
        due = ("a class needs 2 samples" if classify else "due are 2 samples") + ", in 2 groups" * (
            data.groups is not None
        )
        raise ValueError(f"n_samples={len(target)} is too few for folds: {due}.")
    if data.groups is None and not data.X.present.all():
        return _even_folds(data.X, target if classify else np.zeros(len(target), dtype=np.intp), n_folds)
    by_group = StratifiedGroupKFold if classify else GroupKFold
    splitter = check_cv(n_folds if data.groups is None else by_group(n_folds), target, classifier=classify)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        return list(splitter.split(np.zeros((len(target), 1)), target, data.groups))


def _even_folds(X: Modalities, codes: Any, n_folds: int) -> list[tuple[Any, Any]]:
    """Return folds that have as many of each class, and of each missing pattern in it, in runs of successive rows.

    Of data sets stacked one below the other, a fold of successive rows alone could hold all that have a modality.
    """
    present = X.present[:, np.argsort(X.names)]  # whatever order modalities are in
    order = np.lexsort((*present.T, codes))
    ordered = np.column_stack([codes, present])[order]
    stratum = np.r_[0, np.cumsum((ordered[1:] != ordered[:-1]).any(axis=1))]
    dealt = np.arange(len(order)) % n_folds  # how many of a stratum a fold gets
    fold_of = np.empty(len(order), dtype=np.intp)
    fold_of[order] = dealt[np.lexsort((dealt, stratum))]
    return [(np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)) for fold in range(n_folds)]


def held_out_fold(share: float, data: TrainingSet, target: Any, seed: int, *, classify: bool) -> list[tuple[Any, Any]]:
    """Return one fold, whose test part is a `share` of the samples of each class and missing pattern, or of groups."""
    codes = target if classify else np.zeros(len(target), dtype=np.intp)
    if data.groups is not None:
        n_folds = min(max(round(1 / share), 2), len(np.unique(data.groups)))
        if n_folds < 2:
            raise ValueError("groups holds a single group; due are 2 or more, since blend holds out whole ones.")
        splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
            return [next(splitter.split(np.zeros((len(codes), 1)), codes, data.groups))]
    held_out = hold_out(data.X.present, codes, share, np.random.default_rng(seed))
    if not held_out.any():
        raise ValueError(f"blend={share} holds out none of {len(target)} samples; use a larger part, or cv.")
    return [(np.flatnonzero(~held_out), np.flatnonzero(held_out))]


def _given_folds(splitter: Any, n_samples: int, y: Any, groups: Any) -> list[Any]:
    try:
        return list(splitter.split(np.zeros((n_samples, 1)), y, groups))
    except ValueError as error:
        if groups is None and "groups" in str(error):
            raise ValueError(
                f"cv is {splitter!r}, which splits by groups, but fit got none; pass groups, one a sample, to fit."
            ) from error
        raise
