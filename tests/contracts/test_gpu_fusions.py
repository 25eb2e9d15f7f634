"""Every fusion on CUDA: as on the CPU, in bf16, and compiled."""

import pickle

import numpy as np
import pytest
import torch
from instances import NET

from skfusion import JointFusionClassifier
from skfusion.fusion import FUSIONS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device"),
]
EVERY = pytest.mark.parametrize("fusion", FUSIONS)


def classifier(**params):
    return JointFusionClassifier(**{**NET, "encoders": "patches", "device": "cuda", **params})


def tables(n_samples=90, seed=0):
    """Three tables that all know the class, of which a part is missing."""
    rng = np.random.default_rng(seed)
    y = np.arange(n_samples) % 2
    X = {name: rng.normal(size=(n_samples, 6)) + (2 * y - 1)[:, None] for name in "abc"}
    X["b"][::5] = np.nan
    X["a"][1::5] = X["c"][1::5] = np.nan
    return X, y


@EVERY
def test_a_fitted_network_says_on_cuda_what_it_says_on_the_cpu(fusion):
    X, y = tables()
    model = classifier(fusion=fusion, unimodal_heads=True, max_epochs=10).fit(X, y)
    heads = ["fusion", *model.network_.head_names]
    expected = {head: model.predict_proba(X, head) for head in heads}
    model.net_.device = "cpu"
    model.network_.to("cpu")
    for head in heads:
        np.testing.assert_allclose(model.predict_proba(X, head), expected[head], atol=5e-3, err_msg=head)


@EVERY
def test_bf16_computes_nearly_what_float32_does(fusion):
    X, y = tables()
    model = classifier(fusion=fusion, max_epochs=10).fit(X, y)
    expected = model.predict_proba(X)
    model.net_.precision = "bf16"
    apart = np.abs(model.predict_proba(X) - expected).max()
    assert 0 < apart < 3e-2
    assert model.transform(X).dtype == np.float32


@EVERY
def test_bf16_trains_float32_weights(fusion):
    X, y = tables()
    model = classifier(fusion=fusion, precision="bf16").fit(X, y)
    assert {(p.dtype, p.device.type) for p in model.network_.parameters()} == {(torch.float32, "cuda")}
    assert np.isfinite(model.history_[:, "train_loss"]).all()
    assert model.score(X, y) > 0.8
    stored = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(stored.predict_proba(X), model.predict_proba(X))


# The compiler warns of caches that it looks through, and advises other precisions.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("precision", ["float32", "bf16"])
@EVERY
def test_compiled_training_learns_the_same(fusion, precision):
    torch.compiler.reset()  # or the compiler gives up on code that it has seen with many other networks
    X, y = tables()
    options = {"fusion": fusion, "precision": precision, "dropout_rate": 0.0, "max_epochs": 12}
    plain = classifier(**options).fit(X, y)
    model = classifier(compile=True, **options).fit(X, y)
    assert model.score(X, y) > 0.8
    assert model.score(X, y) == pytest.approx(plain.score(X, y), abs=0.1)
    first = [m.history_[0]["train_loss"] for m in (plain, model)]
    assert first[1] == pytest.approx(first[0], rel=1e-2 if precision == "float32" else 5e-2)
    stored = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(stored.predict_proba(X), model.predict_proba(X))
    assert stored.partial_fit(X, y).n_iter_ == 13


@pytest.mark.parametrize("balance", ["gradient_blending", "ogm"])
def test_balanced_training_pickles_and_goes_on(balance):
    X, y = tables()
    model = classifier(balance=balance, max_epochs=4, warm_start=True).fit(X, y)
    stored = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(stored.predict_proba(X, "a"), model.predict_proba(X, "a"))
    assert stored.fit(X, y).n_iter_ == 8


@pytest.mark.parametrize("fusion", ["attention", "zorro", "everything_at_once"])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_attention_maps_come_as_arrays(fusion, precision):
    X, y = tables()
    found = classifier(fusion=fusion, precision=precision, max_epochs=2).fit(X, y).attention_maps(X)
    asked = ~np.isnan(found.maps).any(axis=2)
    assert found.maps.dtype == np.float32
    np.testing.assert_allclose(found.maps[asked].sum(axis=1), 1, atol=2e-2)


def test_a_shared_encoder_and_dropped_tokens_train():
    X, y = tables()
    X["s"] = np.random.default_rng(0).normal(size=(90, 7, 2)) + (2 * y - 1)[:, None, None]
    assert classifier(encoders="shared", drop_token=0.5, fusion="zorro").fit(X, y).score(X, y) > 0.8
