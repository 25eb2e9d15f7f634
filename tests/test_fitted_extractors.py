"""How transformers by modality are fitted: the seed they get, and what is said where they fail."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.random_projection import GaussianRandomProjection

from skfusion import EarlyFusionTransformer, JointFusionClassifier, ModalityImputer

RNG = np.random.default_rng(0)
X = {"a": RNG.normal(size=(30, 8)), "b": RNG.normal(size=(30, 2))}
Y = np.arange(30) % 2


def early(extractor, seed=0):
    return EarlyFusionTransformer(transformers={"a": extractor}, random_state=seed).fit(X, Y).transformers_["a"]


def joint(extractor, seed=0):
    fitted = JointFusionClassifier({"a": extractor}, max_epochs=1, n_latent=4, device="cpu", random_state=seed)
    return fitted.fit(X, Y).preprocessors_["a"]


def imputer(extractor, seed=0):
    return ModalityImputer("mean", encoders={"a": extractor}, random_state=seed).fit(X).encoders_["a"]


every_holder = pytest.mark.parametrize("fit", [early, joint, imputer])


@every_holder
def test_an_extractor_without_a_seed_gets_one(fit):
    extractor = make_pipeline(StandardScaler(), GaussianRandomProjection(5))
    present = np.ones(30, dtype=bool)
    first, again, other = (fit(extractor, seed).apply(X["a"], present) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    assert extractor[-1].random_state is None


@every_holder
def test_an_extractor_keeps_a_seed_of_its_own(fit):
    present = np.ones(30, dtype=bool)
    first, other = (fit(GaussianRandomProjection(5, random_state=3), s).apply(X["a"], present) for s in (0, 1))
    np.testing.assert_array_equal(first, other)


class Failing(TransformerMixin, BaseEstimator):
    """Raises `error` in fit."""

    def __init__(self, error, random_state=None):
        self.error = error
        self.random_state = random_state

    def fit(self, X, y=None):
        raise self.error

    def transform(self, X):
        return X


@every_holder
def test_what_fails_is_shown_as_it_was_handed_in(fit):
    with pytest.raises(ValueError, match=r"\['a'\] is Failing\(error=RuntimeError\('odd'\)\), which fails .*: odd"):
        fit(Failing(RuntimeError("odd")))


class OutOfMemory(RuntimeError):
    """As torch's."""


@every_holder
@pytest.mark.parametrize("error", [OutOfMemory, NotImplementedError, RecursionError, MemoryError])
def test_errors_that_are_not_about_the_values_pass_as_they_came(fit, error):
    with pytest.raises(error, match="enough"):
        fit(Failing(error("enough")))
