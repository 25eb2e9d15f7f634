"""What ``set_config(transform_output="pandas")`` leaves alone: all that estimators compute from."""

import numpy as np
import pandas as pd
import pytest
import sklearn
from scipy import sparse
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from skfusion import (
    EarlyFusionTransformer,
    FusionClassifier,
    JointFusionClassifier,
    LateFusionRegressor,
    LateFusionStacker,
    ModalityImputer,
    ModalityScheduler,
)
from skfusion.imputation import Regressor

N = 60
NET = {"n_hidden": 8, "n_latent": 4, "max_epochs": 2, "device": "cpu", "random_state": 0}


def samples():
    """One modality a kind, the first of which a few samples lack."""
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(N, 3))
    dense[:6] = np.nan
    wide = sparse.random(N, 600, density=0.05, format="csr", random_state=0)
    counts = wide.copy()
    counts.data = np.ceil(counts.data * 9)
    texts = np.array([" ".join(rng.choice(["red", "blue", "green", "dark"], 3)) for _ in range(N)], dtype=object)
    return {
        "dense": dense,
        "wide": wide,
        "counts": counts,
        "table": pd.DataFrame({"size": rng.normal(size=N), "shape": rng.choice(["round", "flat"], N)}),
        "texts": texts,
        "series": rng.normal(size=(N, 5, 2)),
        "images": rng.normal(size=(N, 1, 4, 4)),
    }


X, Y = samples(), np.arange(N) % 2


def said(estimator, inputs):
    """Return what a fit of `estimator` says of `inputs`."""
    fitted = clone(estimator).fit(inputs, Y)
    found = fitted.transform(inputs) if hasattr(fitted, "transform") else fitted.predict(inputs)
    return found.toarray() if sparse.issparse(found) else np.asarray(found)


@pytest.mark.parametrize(
    "estimator",
    [
        LateFusionStacker(cv=2, passthrough=True, modalities=["dense", "table"], random_state=0),
        LateFusionStacker(cv=2, modalities=["wide", "counts", "texts", "series", "images"], random_state=0),
        FusionClassifier("early", random_state=0),
        JointFusionClassifier(**NET),
        ModalityScheduler(FusionClassifier("early"), modalities=["dense", "wide", "table"], cv=2, random_state=0),
    ],
    ids=["late-tables", "late-others", "early", "joint", "scheduler"],
)
def test_modalities_of_every_kind_are_prepared_the_same(estimator):
    plain = said(estimator, X)
    with sklearn.config_context(transform_output="pandas"):
        np.testing.assert_array_equal(said(estimator, X), plain)


@pytest.mark.parametrize(
    "estimator",
    [
        EarlyFusionTransformer(transformers={"dense": PCA(2), "size": StandardScaler()}),
        JointFusionClassifier(encoders={"dense": PCA(2), "size": StandardScaler()}, **NET),
        LateFusionStacker({"dense": [("lr", sklearn.pipeline.make_pipeline(PCA(2), LogisticRegression()))]}, cv=2),
    ],
    ids=["transformers", "encoders", "estimators"],
)
def test_transformers_of_the_user_may_give_frames(estimator):
    inputs = {"dense": X["dense"], "size": np.asarray(X["table"][["size"]])}
    plain = said(estimator, inputs)
    with sklearn.config_context(transform_output="pandas"):
        np.testing.assert_array_equal(said(estimator, inputs), plain)


class TakesArrays(RegressorMixin, BaseEstimator):
    """Takes nothing but arrays."""

    def fit(self, X, y, sample_weight=None):
        assert type(X) is np.ndarray
        self.ridge_ = Ridge().fit(X, y)
        return self

    def predict(self, X):
        assert type(X) is np.ndarray
        return self.ridge_.predict(X)


@pytest.mark.parametrize(
    "estimator",
    [
        ModalityImputer(Regressor(TakesArrays())),
        LateFusionRegressor(TakesArrays(), final_estimator=TakesArrays(), passthrough=True, cv=2),
        LateFusionRegressor(TakesArrays(), levels=[TakesArrays()], cv=2),
    ],
    ids=["imputer", "late", "levels"],
)
def test_estimators_of_the_user_get_arrays(estimator):
    inputs = {name: X[name] for name in ("dense", "series")}
    if not isinstance(estimator, ModalityImputer):
        inputs["series"] = inputs["series"].reshape(N, -1)
    with sklearn.config_context(transform_output="pandas"):
        assert np.isfinite(said(estimator, inputs)).all()
