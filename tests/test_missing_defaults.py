"""No default falls below the best single modality, where half of everything is missing at fit and at predict."""

import numpy as np
import pytest
from sklearn.base import clone

from skfusion import FusionClassifier, LateFusionStacker, Modalities

SEEDS = range(2)
STRENGTH = {"a": 0.9, "b": 0.7, "c": 0.5}
MODELS = {
    "early": FusionClassifier("early", random_state=0),
    "joint": FusionClassifier("joint", device="cpu", random_state=0),
    "late": FusionClassifier("late", random_state=0),
    "product": LateFusionStacker(final_estimator="product", random_state=0),
}


def additive(n_samples, rng):
    """Three modalities with evidence of their own; each sample lacks each with probability .5, and has one."""
    y = rng.integers(3, size=n_samples)
    X = {name: rng.normal(size=(n_samples, 6)) + s * np.eye(3, 6)[y] * 2 for name, s in STRENGTH.items()}
    present = rng.random((n_samples, 3)) < 0.5
    present[np.arange(n_samples), rng.integers(3, size=n_samples)] |= ~present.any(axis=1)
    return Modalities(X, present=present), y


@pytest.fixture(scope="module")
def draws():
    """Training and test samples of each seed, and how often each modality alone is right where it is there."""
    found = []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        (X, y), (new, truth) = additive(240, rng), additive(2000, rng)
        right = {}
        for column, name in enumerate(X.names):
            has, will = X.present[:, column], new.present[:, column]
            alone = FusionClassifier("early").fit(X.select([name])[has], y[has])
            right[name] = alone.score(new.select([name])[will], truth[will])
        found.append((X, y, new, truth, right))
    return found


@pytest.mark.parametrize("kind", MODELS)
def test_no_default_falls_below_a_modality_fitted_where_it_is_present(kind, draws):
    margins = []
    for X, y, new, truth, right in draws:
        hit = MODELS[kind].fit(X, y).predict(new) == truth
        margins.append([hit[new.present[:, m]].mean() - right[name] for m, name in enumerate(X.names)])
    assert np.min(np.mean(margins, axis=0)) > 0, margins


def shared(n_samples, rng):
    """Three modalities of one latent, each with a share of its own; the third tells most of the class."""
    y = rng.integers(3, size=n_samples)
    z = rng.normal(size=(n_samples, 4)) + 1.5 * np.eye(3, 4)[y]
    loadings = np.random.default_rng(9)
    noise = {"a": 2.0, "b": 2.5, "protein": 0.5}
    X = {name: z @ loadings.normal(size=(4, 30)) + s * rng.normal(size=(n_samples, 30)) for name, s in noise.items()}
    return Modalities(X), y


@pytest.mark.parametrize("kind", ["early", "late"])
def test_a_modality_that_training_alone_has_costs_no_more_than_a_point(kind):
    gains = []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        (X, y), (new, truth) = shared(120, rng), shared(2000, rng)
        always = ["a", "b"]
        with_it, without = (clone(MODELS[kind]).fit(part, y) for part in (X, X.select(always)))
        gains.append(with_it.score(new.select(always), truth) - without.score(new.select(always), truth))
    assert np.mean(gains) > -0.01, gains
