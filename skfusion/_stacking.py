"""What late fusion fits: the estimators of a modality behind their preprocessing, by default and as given."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skfusion._targets import fit_with
from skfusion.modalities.kinds import kind_of, take
from skfusion.preprocessing import WIDE, MeanFill, present_rows, table_preprocessor, takes_nan, to_dense

METHODS = ("predict_proba", "decision_function", "predict")
_SMALL = 200
_SVM_UP_TO = 10_000
_MIN_TO_CALIBRATE = 15


@dataclass(frozen=True)
class Base:
    """One estimator of one modality, unfitted or fitted, and what of it is stacked."""

    modality: str
    name: str
    estimator: Any
    method: str
    n_classes: int
    fill: Any = None

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

    def fit(self, rows: Any, y: Any, weights: Any) -> "Base":
        """Return a fitted copy."""
        if self.n_classes and len(np.unique(y)) < 2:
            # The rows hold one class: all that can be learnt is to say so.
            return replace(self, estimator=DummyClassifier(strategy="prior").fit(rows, y))
        fill = None
        if not takes_nan(self.estimator) and not isinstance(rows, pd.DataFrame) and len(rows.shape) == 2:
            fill = MeanFill().fit(rows)
            rows = fill.transform(rows)
        return replace(self, estimator=fit_with(clone(self.estimator), rows, y, sample_weight=weights), fill=fill)

    def predict(self, rows: Any) -> Any:
        """Return predictions (n_rows, n_columns) in the order of all classes; a class that was never seen has 0."""
        rows = rows if self.fill is None else self.fill.transform(rows)
        if isinstance(self.estimator, DummyClassifier) and len(self.estimator.classes_) == 1:
            sure = self.estimator.classes_[0]
            if self.n_columns == 1:
                return np.full((rows.shape[0], 1), sure if self.method == "predict" else 2.0 * sure - 1)
            return np.tile(np.eye(self.n_columns)[sure], (rows.shape[0], 1))
        raw = np.asarray(getattr(self.estimator, self.method)(rows), dtype=np.float64)
        if self.n_columns == 1:
            return raw.reshape(-1, 1)
        raw = np.stack([-raw, raw], axis=1) if raw.ndim == 1 else raw
        if raw.shape[1] != len(self.estimator.classes_):
            raise ValueError(
                f"{self.method} of the estimator {self.name!r} of modality {self.modality!r} gives {raw.shape[1]} "
                f"columns for {len(self.estimator.classes_)} classes; due is one a class, as with "
                "decision_function_shape='ovr'."
            )
        if raw.shape[1] == self.n_columns:
            return raw
        out = np.full((len(raw), self.n_columns), 0.0 if self.method == "predict_proba" else raw.min())
        out[:, self.estimator.classes_] = raw
        return out


@dataclass(frozen=True)
class Branch:
    """Estimators of one modality that share a preprocessing, which is fitted once for all of them."""

    modality: str
    prepare: Any
    bases: tuple[Base, ...]

    def fit(self, rows: Any, y: Any, weights: Any) -> "Branch":
        """Return a fitted copy."""
        prepare = None
        if self.prepare is not None:
            prepare = clone(self.prepare).fit(rows, y)
            rows = prepare.transform(rows)
        return replace(self, prepare=prepare, bases=tuple(base.fit(rows, y, weights) for base in self.bases))

    def predict(self, rows: Any) -> list[Any]:
        """Return the predictions (n_rows, n_columns) of each estimator."""
        rows = rows if self.prepare is None else self.prepare.transform(rows)
        return [base.predict(rows) for base in self.bases]

    def named(self) -> list[tuple[str, Any]]:
        """Return ``modality__name`` and the fitted estimator, with its preprocessing, of each."""
        if self.prepare is None:
            return [(base.key, base.estimator) for base in self.bases]
        return [(base.key, make_pipeline(self.prepare, base.estimator)) for base in self.bases]


def fit_branch(branch: Branch, values: Any, target: Any, weights: Any, split: Any, present: Any) -> Any:
    """Fit a branch on a fold's training part and return its predictions of the test part.

    Without a `split` it is fitted on all rows, and returned itself.
    """
    if split is None:
        rows = present_rows(values, present)
        return branch.fit(rows, target[present], None if weights is None else weights[present])
    train = split[0][present[split[0]]]
    if not len(train):
        raise ValueError(
            f"modality {branch.modality!r} is missing for every sample of a fold's training part; use fewer folds, or "
            "leave the modality out."
        )
    fitted = branch.fit(take(values, train), target[train], None if weights is None else weights[train])
    test = split[1][present[split[1]]]
    if not len(test):
        return [np.zeros((0, base.n_columns)) for base in branch.bases]
    return fitted.predict(take(values, test))


def default_inputs(
    name: str, rows: Any, estimators: list[tuple[str, Any]], scale: bool, seed: int
) -> list[tuple[Any, list[tuple[str, Any]]]]:
    """Put default preprocessing before `estimators`, the linear one first: [(preprocessing, estimators), ...].

    The linear model takes wide CSR as it is; the others want a narrow dense table. Where both are the same, it is
    fitted once.
    """
    narrow = make_pipeline(
        table_preprocessor(name, rows, scale=scale, project=True, random_state=seed),
        FunctionTransformer(to_dense, accept_sparse=True),
    )
    wide = kind_of(rows) == "sparse" and rows.shape[1] > WIDE
    if wide or kind_of(rows) in ("text", "tokens", "table"):
        whole = table_preprocessor(name, rows, scale=scale, project=False, random_state=seed)
        return [(whole, estimators[:1]), (narrow, estimators[1:])]
    return [(narrow, estimators)]


def default_classifiers(target: Any, *, calibrated: bool, seed: int) -> list[tuple[str, Any]]:
    """Return the default classifiers of a modality whose samples have the classes `target` (n_samples,).

    Where probabilities are averaged, the SVM is `calibrated`, and left out where a class is too rare for that.
    """
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import SVC

    n_samples, counts = len(target), np.unique(target, return_counts=True)[1]
    n_trees = 50 if n_samples < _SMALL else 100
    named: list[tuple[str, Any]] = [
        ("lr", LogisticRegression(max_iter=1000)),
        ("rf", RandomForestClassifier(n_trees, random_state=seed)),
    ]
    if n_samples >= _SMALL:
        named.append(("hgb", HistGradientBoostingClassifier(**_boosting(n_samples), random_state=seed)))
    if _SMALL <= n_samples <= _SVM_UP_TO and not (calibrated and counts.min() < _MIN_TO_CALIBRATE):
        named.append(("svm", CalibratedClassifierCV(SVC(), ensemble=False, cv=3) if calibrated else SVC()))
    return named


def default_regressors(n_samples: int, *, seed: int) -> list[tuple[str, Any]]:
    """Return the default regressors of a modality with `n_samples`."""
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVR

    n_trees = 50 if n_samples < _SMALL else 100
    named: list[tuple[str, Any]] = [
        ("ridge", Ridge()),
        ("rf", RandomForestRegressor(n_trees, max_features=1 / 3, random_state=seed)),
    ]
    if n_samples >= _SMALL:
        named.append(("hgb", HistGradientBoostingRegressor(**_boosting(n_samples), random_state=seed)))
    if _SMALL <= n_samples <= _SVM_UP_TO:
        named.append(("svm", TransformedTargetRegressor(SVR(), transformer=StandardScaler())))
    return named


def _boosting(n_samples: int) -> dict[str, Any]:
    """Few small trees where data is scarce: boosting is one voice among several, and by far the slowest."""
    if n_samples <= _SVM_UP_TO:
        return {"max_iter": 30, "max_leaf_nodes": 8, "learning_rate": 0.3, "max_bins": 64, "early_stopping": False}
    return {"max_iter": 100, "early_stopping": False}
