"""What late fusion fits: the estimators of a modality behind their preprocessing, whole and fold by fold."""

import copy
from collections.abc import Callable, Container
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.pipeline import make_pipeline

from skfusion._targets import fit_with
from skfusion.modalities import Modalities
from skfusion.modalities.kinds import take
from skfusion.preprocessing import MeanFill, present_rows, takes_nan

METHODS = ("predict_proba", "decision_function", "predict")
ALL = "all"
"""Stands for all modalities at once where estimators are named by modality."""


@dataclass(frozen=True)
class Base:
    """One estimator of one modality, unfitted or fitted, and what of it is stacked."""

    modality: str
    name: str
    estimator: Any
    method: str
    n_classes: int
    fill: Any = None
    seen: Any = None

    @property
    def key(self) -> str:
        """The name in `estimators_`."""
        return f"{self.modality}__{self.name}"

    @property
    def n_columns(self) -> int:
        """Width of the predictions."""
        single = self.method == "predict" or (self.method == "decision_function" and self.n_classes == 2)
        return 1 if single else self.n_classes

    @property
    def is_binary(self) -> bool:
        """Whether the predictions are probabilities of two classes, of which one says it all."""
        return self.method == "predict_proba" and self.n_columns == 2

    def fit(self, rows: Any, y: Any, weights: Any, groups: Any) -> "Base":
        """Return a fitted copy."""
        seen = None
        if self.n_classes:
            seen, codes = np.unique(y, return_inverse=True)
            if len(seen) == 1:
                # All that can be learnt is to say so.
                only = DummyClassifier(strategy="prior").fit(np.zeros((len(y), 1)), y)
                return replace(self, estimator=only, seen=seen)
            # Some, such as XGBoost, want classes without a gap.
            y = codes if len(seen) < self.n_classes else y
        fill = None
        if not isinstance(rows, pd.DataFrame | Modalities) and len(rows.shape) == 2 and not takes_nan(self.estimator):
            fill = MeanFill().fit(rows)
            rows = fill.transform(rows)
        fitted = fit_with(clone(self.estimator, safe=False), rows, y, sample_weight=weights, groups=groups)
        return replace(self, estimator=fitted, fill=fill, seen=seen)

    def predict(self, rows: Any) -> Any:
        """Return predictions (n_rows, n_columns) in the order of all classes; a class that was never seen has 0."""
        if self.seen is not None and len(self.seen) == 1:
            return self._repeat(self.seen[0], rows.shape[0])
        rows = rows if self.fill is None else self.fill.transform(rows)
        return self.align(getattr(self.estimator, self.method)(rows))

    def align(self, raw: Any) -> Any:
        """Return what the estimator says as (n_rows, n_columns)."""
        raw = np.asarray(raw, dtype=np.float64)
        if self.n_columns == 1:
            raw = raw.reshape(-1, 1)
            is_gapped = self.seen is not None and len(self.seen) < self.n_classes
            return self.seen[raw.astype(np.intp)].astype(np.float64) if is_gapped else raw
        raw = np.stack([-raw, raw], axis=1) if raw.ndim == 1 else raw
        if raw.shape[1] != len(self.seen):
            raise ValueError(
                f"{self.method} of the estimator {self.name!r} of modality {self.modality!r} gives {raw.shape[1]} "
                f"columns for {len(self.seen)} classes; due is one a class, as with decision_function_shape='ovr'."
            )
        if raw.shape[1] == self.n_columns:
            return raw
        out = np.full((len(raw), self.n_columns), 0.0 if self.method == "predict_proba" else raw.min())
        out[:, self.seen] = raw
        return out

    def _repeat(self, only: int, n_rows: int) -> Any:
        """Return the predictions of who has seen one class."""
        if self.n_columns == 1:
            return np.full((n_rows, 1), only if self.method == "predict" else 2.0 * only - 1)
        return np.tile(np.eye(self.n_columns)[only], (n_rows, 1))


@dataclass(frozen=True)
class Branch:
    """Estimators of one modality that share a preprocessing, which is fitted once for all of them."""

    modality: str
    prepare: Any
    bases: tuple[Base, ...]

    def fit(self, rows: Any, y: Any, weights: Any, groups: Any) -> "Branch":
        """Return a fitted copy."""
        prepare = None
        if self.prepare is not None:
            prepare = clone(self.prepare).fit(rows, y)
            rows = prepare.transform(rows)
        bases = tuple(base.fit(rows, y, weights, groups) for base in self.bases)
        return replace(self, prepare=prepare, bases=bases)

    def predict(self, rows: Any) -> dict[str, Any]:
        """Return the predictions (n_rows, n_columns) of each estimator by its key."""
        rows = rows if self.prepare is None else self.prepare.transform(rows)
        return {base.key: base.predict(rows) for base in self.bases}

    def less(self, keys: Container[str]) -> "Branch | None":
        """Return the branch without the estimators `keys`; None where none is left."""
        left = tuple(base for base in self.bases if base.key not in keys)
        return replace(self, bases=left) if left else None

    def filled_by(self, rows: Any) -> "Branch":
        """Return the branch with single NaN filled by the means of `rows`, where its estimators need that."""
        bases = (base if base.fill is None else replace(base, fill=MeanFill().fit(rows)) for base in self.bases)
        return self if self.prepare is not None else replace(self, bases=tuple(bases))

    def named(self) -> dict[str, Any]:
        """Return the fitted estimator, with its preprocessing, of each by its key."""
        if self.prepare is None:
            return {base.key: base.estimator for base in self.bases}
        return {base.key: make_pipeline(self.prepare, base.estimator) for base in self.bases}


@dataclass(frozen=True, eq=False)
class Lessons:
    """What the estimators of a modality learn from: the rows of training, and who of them has it."""

    values: Any
    target: Any
    weights: Any
    groups: Any
    present: Any

    def take(self, rows: Any) -> tuple[Any, Any, Any, Any]:
        """Return values, target, weights and groups of those of `rows` that have the modality."""
        if rows is None:
            values, rows = present_rows(self.values, self.present), self.present
        else:
            values = take(self.values, rows)
        parts = (None if part is None else part[rows] for part in (self.weights, self.groups))
        return values, self.target[rows], *parts


class Outcome(NamedTuple):
    """What came of a branch on a fold: fitted branches, predictions of the test part and errors by estimator."""

    branches: list[Branch]
    predictions: dict[str, Any]
    errors: dict[str, str]


def fit_branch(
    branch: Branch, split: Any, is_kept: bool, key: str, lessons: Lessons
) -> tuple[Branch | None, dict[str, Any]]:
    """Fit a branch on a fold's training part, all rows without a `split`, and predict its test part.

    Returns the fitted branch where it `is_kept`, and the predictions. `key` is what a cache knows the `lessons` by.
    """
    if split is None:
        return branch.fit(*lessons.take(None)), {}
    train, test = (rows[lessons.present[rows]] for rows in split)
    if not len(train):
        raise ValueError(
            f"modality {branch.modality!r} is missing for every sample of a fold's training part; use fewer folds, or "
            "leave the modality out."
        )
    fitted = branch.fit(*lessons.take(train))
    empty = {base.key: np.zeros((0, base.n_columns)) for base in branch.bases}
    predictions = fitted.predict(take(lessons.values, test)) if len(test) else empty
    return (fitted if is_kept else None), predictions


def _travels(error: Exception) -> bool:
    """Whether another process can make the error anew; that of a pool which cannot says nothing of its cause."""
    try:
        copy.copy(error)
    except Exception:
        return False
    return True


def try_branch(fit: Callable[..., Any], branch: Branch, where: str, is_strict: bool, *arguments: Any) -> Outcome:
    """Call `fit`, which is `fit_branch` or a cache of it, and name who fails; the others of the branch go on.

    Where it `is_strict`, the first error is raised, with a note, or told by a RuntimeError where it could not travel.
    """
    try:
        fitted, predictions = fit(branch, *arguments)
    except Exception as error:
        if len(branch.bases) > 1:
            parts = [
                try_branch(fit, replace(branch, bases=(base,)), where, is_strict, *arguments) for base in branch.bases
            ]
            branches = [fitted for part in parts for fitted in part.branches]
            found = {key: values for part in parts for key, values in part.predictions.items()}
            return Outcome(branches, found, {key: text for part in parts for key, text in part.errors.items()})
        (base,) = branch.bases
        if is_strict:
            note = (
                f"raised by the estimator {base.name!r} of modality {base.modality!r} {where}; error_score=np.nan "
                "would go on without it."
            )
            if _travels(error):
                error.add_note(note)
                raise
            told = RuntimeError(f"{type(error).__name__}: {error}")
            told.add_note(note)
            raise told from error
        return Outcome([], {}, {base.key: f"{where}: {type(error).__name__}: {error}"})
    return Outcome([] if fitted is None else [fitted], predictions, {})
