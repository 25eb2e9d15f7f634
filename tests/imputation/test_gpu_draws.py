"""Strategies with a network on CUDA: what they fill, draw, and draw where nothing is present."""

import pickle

import numpy as np
import pytest
import torch
from _data import complete, has, with_gaps

from skfusion import ModalityImputer
from skfusion.imputation import GAN, VAE, Diffusion

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device"),
]
NETWORKS = {"vae": VAE(max_steps=20), "gan": GAN(max_steps=20), "diffusion": Diffusion(max_steps=20)}


@pytest.mark.parametrize("name", NETWORKS)
def test_everything_is_drawn_and_a_pickle_fills_the_same(name):
    X = with_gaps(complete(80))
    imputer = ModalityImputer(NETWORKS[name], device="cuda", random_state=0).fit(X)
    new = with_gaps(complete(20, seed=1), share=0.5)
    for values in new.values():
        values[0] = np.nan
    one, other = imputer.sample(new, 2)
    for key, values in new.items():
        there = has(new, key)
        np.testing.assert_array_equal(one[key][there], values[there])
        assert np.isfinite(one[key]).all()
        assert not np.isclose(one[key][0], other[key][0]).any()
        np.testing.assert_allclose(imputer.transform(new)[key][0], np.nanmean(X[key], axis=0), rtol=1e-5)
    filled, again = imputer.transform(new), pickle.loads(pickle.dumps(imputer)).transform(new)
    np.testing.assert_allclose(again["b"], filled["b"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_what_was_never_seen_together_is_drawn_from_training_samples(name):
    X = complete(40)
    X["a"][20:], X["b"][:20] = np.nan, np.nan
    fitted = ModalityImputer(NETWORKS[name], device="cuda", random_state=0).fit({key: X[key] for key in "ab"})
    (drawn,) = fitted.sample({"a": np.full((50, 4), np.nan)})
    assert (np.abs(drawn["b"][:, None] - X["b"][None, 20:]).max(axis=2).min(axis=1) < 1e-5).all()
