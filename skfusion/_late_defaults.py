"""The default estimators of late fusion, chosen by kind and size of a modality, and what they learn from."""

from typing import Any

import numpy as np
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skfusion._compat import on_arrays
from skfusion.modalities.kinds import kind_of
from skfusion.preprocessing import WIDE, table_preprocessor, to_dense

SMALL = 200
_SVM_UP_TO = 10_000
_MIN_TO_CALIBRATE = 15
_TREES = 30
"""Of boosting where data is scarce, shared out among the classes down to a third."""
_C_OF_WORDS = 3.0
"""Of the linear model of texts, whose rows have norm 1; chosen on clothing reviews, on other folds than reported."""


def default_inputs(
    name: str, rows: Any, estimators: list[tuple[str, Any]], scale: bool, seed: int
) -> list[tuple[Any, list[tuple[str, Any]]]]:
    """Put default preprocessing before `estimators`, the linear one first: [(preprocessing, estimators), ...].

    The linear model takes wide CSR as it is; the others want a narrow dense table. Where both are the same, it is
    fitted once.
    """
    narrow = on_arrays(
        make_pipeline(
            table_preprocessor(name, rows, scale=scale, project=True, random_state=seed),
            FunctionTransformer(to_dense, accept_sparse=True),
        )
    )
    wide = kind_of(rows) == "sparse" and rows.shape[1] > WIDE
    if wide or kind_of(rows) in ("text", "tokens", "table"):
        whole = table_preprocessor(name, rows, scale=scale, project=False, random_state=seed)
        return [(whole, estimators[:1]), (narrow, estimators[1:])]
    return [(narrow, estimators)]


def default_classifiers(target: Any, *, calibrated: bool, seed: int, kind: str = "dense") -> list[tuple[str, Any]]:
    """Return the default classifiers of a modality of a `kind` whose samples have the classes `target` (n_samples,).

    Where probabilities are averaged, the SVM is `calibrated`, and left out where a class is too rare for that.
    """
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import SVC

    n_samples, counts = len(target), np.unique(target, return_counts=True)[1]
    n_trees = 50 if n_samples < SMALL else 100
    named: list[tuple[str, Any]] = [
        ("lr", LogisticRegression(C=_C_OF_WORDS if kind in ("text", "tokens") else 1.0, max_iter=1000)),
        ("et", ExtraTreesClassifier(n_trees, random_state=seed)),
    ]
    if n_samples >= SMALL:
        named.append(("hgb", HistGradientBoostingClassifier(**_boosting(n_samples, len(counts)), random_state=seed)))
    if SMALL <= n_samples <= _SVM_UP_TO and not (calibrated and counts.min() < _MIN_TO_CALIBRATE):
        named.append(("svm", CalibratedClassifierCV(SVC(), ensemble=False, cv=3) if calibrated else SVC()))
    return named


def default_regressors(n_samples: int, *, seed: int) -> list[tuple[str, Any]]:
    """Return the default regressors of a modality with `n_samples`."""
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingRegressor
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVR

    n_trees = 50 if n_samples < SMALL else 100
    named: list[tuple[str, Any]] = [
        ("ridge", Ridge()),
        ("et", ExtraTreesRegressor(n_trees, max_features=1 / 3, random_state=seed)),
    ]
    if n_samples >= SMALL:
        named.append(("hgb", HistGradientBoostingRegressor(**_boosting(n_samples), random_state=seed)))
    if SMALL <= n_samples <= _SVM_UP_TO:
        named.append(("svm", TransformedTargetRegressor(SVR(), transformer=on_arrays(StandardScaler()))))
    return named


def _boosting(n_samples: int, n_classes: int = 2) -> dict[str, Any]:
    """Few small trees where data is scarce: boosting is one voice among several, and by far the slowest."""
    if n_samples <= _SVM_UP_TO:
        n_rounds = _TREES if n_classes <= 2 else max(_TREES // 3, _TREES // n_classes)  # a round has a tree a class
        return {
            "max_iter": n_rounds,
            "max_leaf_nodes": 8,
            "learning_rate": 0.3,
            "max_bins": 64,
            "early_stopping": False,
        }
    return {"max_iter": 100, "early_stopping": False}
