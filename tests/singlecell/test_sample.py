"""Cells that SplicingFusion draws from a prior: like held-out ones, and of the batch that was asked for."""

import pickle
from functools import partial

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from skfusion.decoders import GenerativeDecoder
from skfusion.objectives import Expression, Generative
from skfusion.singlecell import SplicingFusion, generation_report
from skfusion.singlecell._density import LogTotals

LAYERS = ("spliced", "unspliced")


def two_types(n_cells=700, n_genes=40, seed=0):
    """Cells of two types, of genes that correlate within both; lab b sees more of the first gene."""
    rng = np.random.default_rng(seed)
    kind, lab = rng.integers(2, size=(2, n_cells))
    places = 1.2 + rng.normal(size=(n_cells, 2)) @ (0.35 * rng.normal(size=(2, n_genes)))
    places += (0.4 * rng.normal(size=(2, n_genes)))[kind] + 0.3 * rng.normal(size=n_genes)
    places[:, 0] += 1.5 * lab
    rates = np.exp(places) * rng.lognormal(0, 0.15, size=(n_cells, 1))
    share = rng.uniform(0.4, 0.8, size=n_genes)
    layers = {"spliced": rng.poisson(rates), "unspliced": rng.poisson(share * rates)}
    obs = pd.DataFrame({"lab": np.where(lab, "b", "a")}, index=[f"cell{i}" for i in range(n_cells)])
    var = pd.DataFrame(index=[f"gene{i}" for i in range(n_genes)])
    return AnnData(obs=obs, var=var, layers={name: sparse.csr_matrix(rows) for name, rows in layers.items()})


def small(**params):
    options = {"n_latent": 16, "n_hidden": 32, "n_heads": 2, "n_tokens": 2, "imputer": None, "method": None}
    return SplicingFusion(**{**options, "device": "cpu", "random_state": 0, "generator": "vae", **params})


@pytest.fixture(scope="module")
def cells():
    adata = two_types()
    return adata[:400].copy(), adata[400:].copy()


@pytest.fixture(scope="module")
def fitted(cells):
    return small(batch_key="lab", max_epochs=60, lr=0.01).fit(cells[0])


def report(model, cells, layer):
    train, test = (half.layers[layer] for half in cells)
    return generation_report(train, test, model.sample(300, random_state=0).layers[layer])


@pytest.mark.parametrize("layer", LAYERS)
def test_cells_from_the_prior_pass(fitted, cells, layer):
    found = report(fitted, cells, layer)
    assert found["passed"].all(), found


def test_cells_of_one_latent_fail(fitted, cells, monkeypatch):
    whole = GenerativeDecoder.decode_one
    monkeypatch.setattr(GenerativeDecoder, "decode_one", lambda self, name, z, *a: whole(self, name, 0 * z, *a))
    found = report(fitted, cells, "spliced")["passed"]
    assert not found[["correlation of correlations", "two-sample AUC"]].any()


def test_cells_are_of_the_batch_that_is_asked_for(fitted, cells):
    drawn = {lab: fitted.sample(300, batch=lab, random_state=0) for lab in "ab"}
    train = cells[0]
    for lab, own in drawn.items():
        assert set(own.obs["lab"]) == {lab}
        known = train.layers["spliced"][(train.obs["lab"] == lab).to_numpy()]
        assert own.layers["spliced"][:, 0].mean() == pytest.approx(known[:, 0].mean(), rel=0.25)
    assert drawn["b"].layers["spliced"][:, 0].mean() > 3 * drawn["a"].layers["spliced"][:, 0].mean()
    assert set(fitted.sample(40, random_state=0).obs["lab"]) == {"a", "b"}


def test_latents_have_a_name_of_their_own(fitted, cells):
    drawn = fitted.sample(200, random_state=0)
    assert list(drawn.obsm) == ["X_vae"]
    latent = drawn.obsm["X_vae"]
    assert latent.shape == (200, 5)
    assert np.abs(latent.mean(axis=0)).max() < 0.3
    again = pickle.loads(pickle.dumps(fitted)).sample(200, random_state=0)
    np.testing.assert_array_equal(again.layers["spliced"].toarray(), drawn.layers["spliced"].toarray())
    # A generator that is set after fit waits for the next one.
    other = pickle.loads(pickle.dumps(fitted)).set_params(generator="density")
    assert list(other.sample(2).obsm) == ["X_vae"]
    assert list(other.set_params(max_epochs=1).fit(cells[0]).sample(2).obsm) == ["X_fusion"]


def test_it_is_trained_beside_others_and_alone(cells):
    train = cells[0][:100].copy()
    for objectives in (["contrastive", "expression", "generative"], ["generative"]):
        model = small(objectives=objectives, generator="density", batch_key="lab", max_epochs=2).fit(train)
        assert list(model.pretrainer_.objectives_).count("generative") == 1
        assert np.isfinite(model.history_[-1]["train_loss_of_generative"])
        assert model.pretrainer_.objectives_["generative"].decoder.n_conditions == 2
    with pytest.raises(ValueError, match="needs the objective 'expression'"):
        model.sample(2)
    own = small(objectives=[Generative(n_latent=3)], max_epochs=2).fit(train)
    assert own.sample(2, random_state=0).obsm["X_vae"].shape == (2, 3)
    with pytest.raises(ValueError, match="knows nothing of batch_key; name it 'generative'"):
        small(objectives=[Generative()], batch_key="lab").fit(train)
    # What comes as a class is one that comes by name.
    model = small(objectives=[Expression, Generative], batch_key="lab", max_epochs=1, likelihood="poisson").fit(train)
    assert list(model.pretrainer_.objectives_) == ["expression", "generative"]
    assert {o.likelihood for o in model.pretrainer_.objectives_.values()} == {"poisson"}
    assert model.sample(2, random_state=0).shape == (2, 40)
    assert model.predict_expression(train).shape == (100, 40)
    own = small(objectives=[partial(Generative, n_latent=3)], max_epochs=1).fit(train)
    assert list(own.pretrainer_.objectives_) == ["generative"]


@pytest.mark.parametrize("kind", [Expression, Generative])
def test_an_objective_that_cannot_know_of_new_cells_is_refused_at_fit(cells, kind):
    train, name = cells[0][:100].copy(), kind.__name__
    with pytest.raises(ValueError, match=f"{name} of its own.*batch_key; name it '{name.lower()}'"):
        small(objectives=[partial(kind, n_layers=2)], batch_key="lab").fit(train)
    with pytest.raises(ValueError, match=f"{name} with covariates.*name it '{name.lower()}', and set batch_key"):
        small(objectives=[kind(covariates=np.eye(2)[np.arange(100) % 2])]).fit(train)


def test_bad_generators_are_named(cells):
    with pytest.raises(ValueError, match="generator"):
        small(generator="gan").fit(cells[0])


def test_one_layer_and_scaled_layers_are_drawn_from_the_prior(cells):
    train = cells[0][:100].copy()
    alone = small(unspliced_layer=None, max_epochs=2).fit(train).sample(5, random_state=0)
    assert list(alone.layers) == ["spliced"]
    scaled = train.copy()
    for layer in LAYERS:
        scaled.layers[layer] = np.log1p(train.layers[layer].toarray()) - 1.0
    with pytest.warns(UserWarning, match="holds negative values"):
        model = small(max_epochs=2).fit(scaled)
    assert isinstance(model.sample(5, random_state=0).layers["spliced"], np.ndarray)


def test_totals_are_those_of_the_batch():
    rng = np.random.default_rng(0)
    codes = np.eye(3)[np.r_[np.repeat([0, 1], 2000), [2]]]
    mixing = np.array([[0.3, 0.2], [0.0, 0.1]])
    logs = np.where(codes[:, :1] == 1, 5.0, 7.0) + rng.normal(size=(4001, 2)) @ mixing
    density = LogTotals().fit(logs, codes)
    for batch, mean in ((0, 5), (1, 7)):
        drawn = density.sample(np.eye(3)[np.full(4000, batch)], np.random.RandomState(0))
        np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=0.03)
        np.testing.assert_allclose(np.cov(drawn.T), mixing.T @ mixing, atol=0.01)
    rare = density.sample(np.eye(3)[np.full(1000, 2)], np.random.RandomState(0))
    assert (rare.std(axis=0) > 0.05).all()
