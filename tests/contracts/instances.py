"""Small, fast instances of every public estimator, and the data that the contracts are checked on."""

import inspect
import pickle
import pickletools

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator, clone, is_classifier, is_regressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline

import skfusion
from skfusion import (
    EarlyFusionTransformer,
    FusionClassifier,
    FusionDistiller,
    FusionRegressor,
    JointFusionClassifier,
    JointFusionRegressor,
    LateFusionRegressor,
    LateFusionStacker,
    Modalities,
    ModalityImputer,
    ModalityScheduler,
    MultiBlockPLS,
    MultiBlockPLSRegressor,
    MultimodalPretrainer,
    PatternConformalClassifier,
    PatternConformalRegressor,
)
from skfusion.imputation import GAN, VAE, Conversion, Diffusion, Regressor

PUBLIC = {
    name: cls
    for name in skfusion.__all__
    if inspect.isclass(cls := getattr(skfusion, name)) and issubclass(cls, BaseEstimator)
}
"""The public estimators, by name."""

SMALL = {"n_hidden": 16, "n_latent": 8, "dropout_rate": 0.1, "lr": 0.01, "max_epochs": 30}
NET = {**SMALL, "device": "cpu", "random_state": 0}

INSTANCES = {
    "early": EarlyFusionTransformer(),
    "early-auto": EarlyFusionTransformer(transformers="auto", add_indicator=True),
    "joint-classifier": JointFusionClassifier(**NET),
    "joint-regressor": JointFusionRegressor(**NET),
    "joint-missing": JointFusionClassifier(
        fill_missing="prior", modality_dropout="curriculum", objectives=["ranking"], **NET
    ),
    "late-stacker": LateFusionStacker(LogisticRegression(), cv=3),
    "late-weighted": LateFusionStacker(LogisticRegression(), "weighted", cv=3),
    "late-levels": LateFusionStacker(
        LogisticRegression(), "hill_climb", cv=3, levels=[LogisticRegression()], calibration="sigmoid", random_state=0
    ),
    "late-regressor": LateFusionRegressor(Ridge(tol=1e-12), cv=3),
    "late-average": LateFusionRegressor(Ridge(tol=1e-12), "hill_climb", cv=3, refit="average", random_state=0),
    "pls": MultiBlockPLS(),
    "pls-sparse": MultiBlockPLS(n_features=2),
    "pls-regressor": MultiBlockPLSRegressor(),
    "pretrainer": MultimodalPretrainer(**{**NET, "max_epochs": 3}),
    "pretrainer-reconstruction": MultimodalPretrainer(
        ["reconstruction"], fusion="concat", modality_dropout=0.3, **{**NET, "max_epochs": 3}
    ),
    "imputer-conversion": ModalityImputer(Conversion(estimator=JointFusionRegressor(**NET)), random_state=0),
    "imputer-knn": ModalityImputer("knn"),
    "imputer-linear": ModalityImputer("linear", random_state=0),
    "imputer-factor": ModalityImputer("factor", random_state=0),
    "imputer-regressor": ModalityImputer(Regressor(Ridge())),
    "imputer-vae": ModalityImputer(VAE(max_steps=20), device="cpu", random_state=0),
    "imputer-gan": ModalityImputer(GAN(max_steps=10, n_draws=2), device="cpu", random_state=0),
    "imputer-diffusion": ModalityImputer(
        Diffusion(max_steps=30, n_diffusion_steps=10, n_draws=2), device="cpu", random_state=0
    ),
    "facade-joint": FusionClassifier(joint=JointFusionClassifier(**SMALL), device="cpu", random_state=0),
    "facade-early": FusionClassifier("early"),
    "facade-late": FusionClassifier("late", late=LateFusionStacker(LogisticRegression(), cv=3)),
    "facade-joint-regressor": FusionRegressor(joint=JointFusionRegressor(**SMALL), device="cpu", random_state=0),
    "facade-early-regressor": FusionRegressor("early"),
    "distiller": FusionDistiller(
        FusionClassifier("early"), JointFusionClassifier(**SMALL), device="cpu", random_state=0
    ),
    # Filled by the mean: what the default fills in is so good here that it asks for nothing.
    "scheduler": ModalityScheduler(
        make_pipeline(EarlyFusionTransformer(transformers="auto"), LogisticRegression()), cv=3, random_state=0
    ),
    "conformal-classifier": PatternConformalClassifier(FusionClassifier("early"), min_samples=5, random_state=0),
    "conformal-regressor": PatternConformalRegressor(FusionRegressor("early"), min_samples=5, random_state=0),
}
"""At least one of each public estimator; more where parameters choose another mechanism."""

METHODS = ("predict_proba", "decision_function", "predict", "predict_set", "predict_interval", "transform")


def instance(key):
    """Return a fresh, unfitted copy."""
    return clone(INSTANCES[key])


def make_data(n_samples=60, seed=0):
    """Two tables, the second of them lacking in a fifth of the samples; each knows a part of the latent value."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=n_samples)
    a = rng.normal(size=(n_samples, 4)) + latent[:, None]
    b = rng.normal(size=(n_samples, 3)) - latent[:, None]
    b[rng.permutation(n_samples)[: n_samples // 5]] = np.nan
    return {"a": a, "b": b}


def make_target(estimator, n_samples=60, seed=0):
    """Return what `estimator` learns on `make_data`: three classes by name, or a number."""
    latent = np.random.default_rng(seed).normal(size=n_samples)
    if is_regressor(estimator):
        return latent + 10.0
    assert is_classifier(estimator) or hasattr(estimator, "transform")
    return np.array(["low", "middle", "high"])[np.digitize(latent, (-0.4, 0.4))]


N = 60
DATA = make_data(N)
NEW = make_data(12, seed=1)
COLUMNS = {name: [f"{name}{i}" for i in range(values.shape[1])] for name, values in DATA.items()}


def wide_frame(X):
    """Lay the tables of `X` side by side, columns named as in COLUMNS."""
    return pd.concat([pd.DataFrame(values, columns=COLUMNS[name]) for name, values in X.items()], axis=1)


SCORES_BY_MODALITY = {"MultiBlockPLS", "MultiBlockPLSRegressor"}
"""Classes whose `transform` gives scores by modality, NaN where it is missing, instead of one embedding."""


def scores_by_modality(estimator):
    return type(estimator).__name__ in SCORES_BY_MODALITY


def needs(condition, capability):
    """Skip a contract that is about a capability that the estimator has not."""
    if not condition:
        pytest.skip(f"without {capability}")


def holds_network(fitted):
    """Whether torch weights are in the fitted estimator."""
    # By names and not by bytes: the padding in arrays of trees may hold anything.
    names = (name for _, name, _ in pickletools.genops(pickle.dumps(fitted)) if isinstance(name, str))
    return any(name.partition(".")[0] == "torch" for name in names)


def seeded(estimator, seed):
    """Return an unfitted copy that draws by `seed`, and so do its parts."""
    params = [name for name in estimator.get_params(deep=True) if name.split("__")[-1] == "random_state"]
    return clone(estimator).set_params(**dict.fromkeys(params, seed))


def outputs(estimator, X):
    """Return everything that a fitted estimator says of `X`, as arrays by method."""
    found = {method: getattr(estimator, method)(X) for method in METHODS if hasattr(estimator, method)}
    if hasattr(estimator, "embed"):
        found |= {f"embed {head}": estimator.embed(X, head) for head in estimator.embedding_means_}
    return {key: as_array(value) for key, value in found.items()}


def as_array(values):
    """Return a table, CSR, DataFrame or Modalities as one array."""
    if isinstance(values, Modalities):
        assert values.present.all()
        return np.hstack([as_array(values[name]).reshape(len(values), -1) for name in values.names])
    if isinstance(values, pd.DataFrame):
        return values.to_numpy()
    return values.toarray() if sparse.issparse(values) else np.asarray(values)


def assert_same(left, right, *, rtol=None):
    """Compare `outputs`: to the bit, or numbers up to `rtol`."""
    assert list(left) == list(right)
    assert left
    for key in left:
        if rtol is None or left[key].dtype.kind not in "f":
            np.testing.assert_array_equal(left[key], right[key], err_msg=key, strict=True)
        else:
            np.testing.assert_allclose(left[key], right[key], rtol=rtol, atol=rtol, err_msg=key)
