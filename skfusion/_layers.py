"""Layers above the base estimators: what they learn from, and levels of estimators below the final one."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from joblib import delayed
from scipy import sparse
from sklearn.base import clone

from skfusion._combine import PatternFinals, log_odds
from skfusion._parallel import run_fits
from skfusion._stacking import Base
from skfusion._targets import fit_with
from skfusion.modalities import Modalities
from skfusion.preprocessing import MeanFill


class Inputs:
    """Lays predictions, who lacks what, and what else is passed side by side: the features of a layer.

    Parameters
    ----------
    bases : list of Base
        Whose predictions.
    names : list of str
        The modalities.
    indicated : ndarray of int
        The modalities with a column that says who lacks them.
    passed : EarlyFusionTransformer or None
        What makes a table of the values, fitted.
    as_odds : bool
        Whether log-odds stand for probabilities.
    """

    def __init__(self, bases: list[Base], names: list[str], indicated: Any, passed: Any, as_odds: bool) -> None:
        self.bases, self.names, self.indicated, self.passed, self.as_odds = bases, names, indicated, passed, as_odds

    def fit(self, predictions: list[Any]) -> "Inputs":
        """Learn what stands for predictions that are missing: the mean of each column."""
        self.fills = [MeanFill().fit(self._seen(*pair)) for pair in zip(self.bases, predictions)]
        return self

    def transform(self, X: Modalities, predictions: list[Any]) -> Any:
        """Return the features (n_samples, n_features)."""
        columns = []
        for base, fill, found in zip(self.bases, self.fills, predictions):
            filled = fill.transform(self._seen(base, found))
            columns.append(filled[:, 1:] if base.is_binary else filled)
        if len(self.indicated):
            columns.append((~X.present[:, self.indicated]).astype(np.float64))
        if self.passed is None:
            return np.hstack(columns)
        table = self.passed.transform(X)
        if sparse.issparse(table):
            return sparse.hstack([*columns, table], format="csr")
        return np.hstack([*columns, table])

    def _seen(self, base: Base, found: Any) -> Any:
        """Return predictions (n_samples, n_columns) as the layer sees them."""
        return log_odds(found) if self.as_odds and base.method == "predict_proba" else found

    @property
    def owners(self) -> Any:
        """The position of the modality that each feature is about, -1 for all of them."""
        where = {name: position for position, name in enumerate(self.names)}
        of_bases = [[where.get(base.modality, -1)] * (base.n_columns - base.is_binary) for base in self.bases]
        of_values = [] if self.passed is None else self.passed.widths_.items()
        values = [[where.get(name, -1)] * width for name, width in of_values]
        return np.concatenate([*of_bases, self.indicated, *values]).astype(np.intp)


@dataclass(frozen=True)
class Level:
    """Estimators that learn from the predictions of the layer below, a clone for each missing pattern."""

    inputs: Inputs
    bases: list[Base]
    finals: list[PatternFinals]

    def predict(self, X: Modalities, present: Any, predictions: list[Any]) -> list[Any]:
        """Return the predictions (n_samples, n_columns) of each estimator; NaN for who has nothing."""
        features = self.inputs.transform(X, predictions)
        return [_ask(base, finals, features, present) for base, finals in zip(self.bases, self.finals)]


def fit_level(
    bases: list[Base], inputs: Inputs, lessons: tuple[Any, ...], splits: list[Any], *, seed: int, n_jobs: Any
) -> tuple[Level, list[Any]]:
    """Fit `bases` on features, target, weights, groups and presence, and predict the test part of each fold.

    Returns the level and, a base, the mean of its predictions out of fold (n_samples, n_columns), NaN where no fold
    tests.
    """
    tasks = [(base, split) for base in bases for split in [None, *splits]]
    calls = [delayed(_fit_one)(base, inputs.owners, lessons, split, seed) for base, split in tasks]
    results = iter(run_fits(calls, [lessons], n_jobs=n_jobs))
    finals, out_of_fold = [], []
    for base in bases:
        finals.append(next(results))
        parts = [(split[1], next(results)) for split in splits]
        out_of_fold.append(mean_out_of_fold(parts, len(lessons[1]), base.n_columns))
    return Level(inputs, bases, finals), out_of_fold


def mean_out_of_fold(parts: list[tuple[Any, Any]], n_samples: int, n_columns: int) -> Any:
    """Return the mean of predictions of rows, [(rows, (n_rows, n_columns)), ...]; NaN where a row has none."""
    total, count = np.zeros((n_samples, n_columns)), np.zeros(n_samples)
    for rows, found in parts:
        total[rows] += found
        count[rows] += 1
    total /= np.maximum(count, 1)[:, None]
    total[count == 0] = np.nan
    return total


def splits_among(splits: list[Any], covered: Any, target: Any, *, classify: bool) -> list[Any]:
    """Return folds as positions among the rows that are `covered`, less those that leave too little to learn from."""
    position = np.cumsum(covered) - 1
    inside = [tuple(position[rows[covered[rows]]] for rows in split) for split in splits]
    codes = target[covered]
    return [
        (train, test)
        for train, test in inside
        if len(train) and len(test) and (not classify or len(np.unique(codes[train])) > 1)
    ]


def _fit_one(base: Base, owners: Any, lessons: tuple[Any, ...], split: Any, seed: int) -> Any:
    """Fit one estimator of a level, and predict a fold's test part; without a split, return what is fitted."""
    train = slice(None) if split is None else split[0]
    features, target, weights, groups, present = (None if part is None else part[train] for part in lessons)
    whole = fit_with(clone(base.estimator, safe=False), features, target, sample_weight=weights, groups=groups)
    finals = PatternFinals(whole, owners, seed, bool(base.n_classes))
    finals.fit(features, target, weights, groups, present, n_jobs=1)
    return finals if split is None else _ask(base, finals, lessons[0][split[1]], lessons[4][split[1]])


def _ask(base: Base, finals: PatternFinals, features: Any, present: Any) -> Any:
    out = np.full((len(present), base.n_columns), np.nan)
    for rows, final, found in finals.ask(features, present, base.method):
        seen = getattr(final, "classes_", np.arange(base.n_classes))
        out[rows] = replace(base, seen=np.asarray(seen) if base.n_classes else None).align(found)
    return out
