import warnings

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from scipy import sparse
from scipy.stats import spearmanr
from sklearn.base import clone

from skfusion import Modalities, MultimodalPretrainer
from skfusion.decoders.kinetics import Transcription, splicing_velocity
from skfusion.objectives import Velocity
from skfusion.singlecell import SplicingFusion, read_backed, steady_state_velocity


def planted(n_cells=250, n_genes=40, seed=0):
    """Counts of genes that go on and off along one time, and their velocity; the last gene keeps totals alike."""
    rng = np.random.default_rng(seed)
    alpha, beta, gamma = (np.exp(rng.normal(np.log(m), 0.4, n_genes)) for m in (40, 0.5, 0.3))
    stop, time = rng.uniform(2, 18, n_genes), rng.uniform(0, 20, n_cells)
    none = np.full(n_genes, 0.5)
    rates = map(torch.from_numpy, (none, alpha, none, beta, gamma, 0 * none, stop))
    u, s = (layer.numpy() for layer in Transcription._make(rates).at(torch.from_numpy(time)[:, None]))
    u[:, -1], s[:, -1] = 10_000, 20_000
    layers = {"spliced": sparse.csr_matrix(rng.poisson(s)), "unspliced": sparse.csr_matrix(rng.poisson(u))}
    var = pd.DataFrame(index=[f"gene{i}" for i in range(n_genes)])
    obs = pd.DataFrame({"time": time}, index=[f"cell{i}" for i in range(n_cells)])
    true = splicing_velocity(u, s, beta, gamma)
    true[:, -1] = 0
    return AnnData(obs=obs, var=var, layers=layers), true


def model(**options):
    return SplicingFusion(**{"max_epochs": 1, "n_latent": 8, "n_neighbors": 15, "random_state": 0, **options})


@pytest.fixture(scope="module")
def fitted():
    return model().fit(planted()[0])


def without(adata, layer):
    adata = adata.copy()
    del adata.layers[layer]
    return adata


def cosine(a, b):
    return ((a * b).sum(1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-12)).mean()


def test_velocity_and_time_are_those_that_were_planted(fitted):
    adata, true = planted()
    genes = fitted.velocity_genes_
    assert genes.sum() > 20
    genes[-1] = False
    velocity = fitted.velocity(adata)
    assert velocity.shape == adata.shape
    assert velocity.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(velocity[:, :-1]), np.broadcast_to(~genes, velocity.shape)[:, :-1])
    time = fitted.latent_time(adata)
    assert time.min() >= 0
    assert time.max() <= 1
    assert spearmanr(time, adata.obs["time"])[0] > 0.9
    assert cosine(velocity[:, genes], true[:, genes]) > 0.6
    still = clone(fitted).set_params(method="steady_state").fit(adata)
    assert cosine(velocity[:, genes], true[:, genes]) > cosine(still.velocity(adata)[:, genes], true[:, genes])


def test_cells_with_one_layer_have_a_velocity(fitted):
    adata, _ = planted()
    both, time = fitted.velocity(adata), fitted.latent_time(adata)
    np.testing.assert_array_equal(fitted.velocity(without(adata, "unspliced")), both)
    assert spearmanr(fitted.latent_time(without(adata, "spliced")), time)[0] > 0.9


@pytest.mark.filterwarnings("ignore:.*nothing present")
def test_a_missing_layer_is_inert(fitted):
    adata, _ = planted()
    frames = {
        name: pd.DataFrame(adata.layers[name].toarray().astype(float), adata.obs_names, adata.var_names)
        for name in ("spliced", "unspliced")
    }
    found = []
    for what in (np.nan, 7.0):
        changed = frames["spliced"].copy()
        changed.iloc[:50] = what
        present = np.ones((250, 2), dtype=bool)
        present[:50, 0] = False
        present[:3] = False
        found.append(fitted.velocity(Modalities({**frames, "spliced": changed}, present=present)))
    np.testing.assert_array_equal(*found)
    assert (found[0][:3][:, fitted.velocity_genes_] == 0).all()


def test_cells_in_a_file_are_fitted_and_predicted_like_those_in_memory(fitted, tmp_path):
    adata, _ = planted()
    adata.write_h5ad(tmp_path / "cells.h5ad")
    backed = read_backed(tmp_path / "cells.h5ad")
    again = model().fit(backed)
    dense = AnnData(obs=adata.obs, var=adata.var, layers={k: v.toarray() for k, v in adata.layers.items()})
    dense.write_h5ad(tmp_path / "dense.h5ad")
    read = model(method=None, max_epochs=1).fit(read_backed(tmp_path / "dense.h5ad"))
    np.testing.assert_allclose(read.transform(adata), fitted.transform(adata), atol=1e-5)
    np.testing.assert_allclose(again.transform(backed), fitted.transform(adata), atol=1e-5)
    np.testing.assert_allclose(again.velocity(backed), fitted.velocity(adata), rtol=1e-5)
    np.testing.assert_allclose(again.predict_expression(backed), fitted.predict_expression(adata), atol=1e-4)
    assert again.score(backed) == pytest.approx(fitted.score(adata))
    assert again.sample(3, random_state=0).shape == (3, 40)


def test_velocity_of_a_cell_does_not_depend_on_the_others(fitted):
    adata, _ = planted()
    np.testing.assert_allclose(fitted.velocity(adata[[7, 3]].copy()), fitted.velocity(adata)[[7, 3]], rtol=1e-6)


def test_annotate_writes_what_scanpy_and_scvelo_look_for(fitted, tmp_path):
    adata, _ = planted()
    order = np.random.default_rng(1).permutation(adata.n_vars)
    extra = AnnData(
        var=pd.DataFrame(index=["other"]),
        obs=adata.obs[[]],
        layers={name: sparse.csr_matrix(np.ones((250, 1), dtype=int)) for name in ("spliced", "unspliced")},
    )
    wider = anndata.concat([adata[:, order], extra], axis=1)
    assert fitted.annotate(wider) is wider
    np.testing.assert_array_equal(wider.obsm["X_fusion"], fitted.transform(adata))
    assert {"X_spliced", "X_unspliced"} <= set(wider.obsm)
    back = wider[:, adata.var_names]
    np.testing.assert_array_equal(back.layers["velocity"], fitted.velocity(adata))
    np.testing.assert_array_equal(back.var["velocity_genes"], fitted.velocity_genes_)
    assert not wider.var["velocity_genes"]["other"]
    np.testing.assert_array_equal(wider.obs["latent_time"], fitted.latent_time(adata))
    rates = [f"kinetics_{name}" for name in ("before", "alpha", "after", "beta", "gamma", "scaling")]
    assert (wider.var.loc[wider.var["velocity_genes"], rates] > 0).all(axis=None)
    assert wider.obsp["connectivities"].shape == wider.obsp["distances"].shape == (250, 250)
    assert wider.uns["neighbors"]["params"]["n_neighbors"] == 15
    wider.write_h5ad(tmp_path / "annotated.h5ad")
    again = anndata.read_h5ad(tmp_path / "annotated.h5ad")
    np.testing.assert_array_equal(again.layers["Ms"], wider.layers["Ms"])


def test_annotate_finds_genes_without_names_by_position(fitted):
    adata, _ = planted()
    layers = {name: adata.layers[name] for name in ("spliced", "unspliced")}
    nameless = model(method="steady_state").fit(layers)
    nameless.annotate(adata)
    np.testing.assert_array_equal(adata.var["velocity_genes"], nameless.velocity_genes_)
    np.testing.assert_array_equal(adata.layers["velocity"], nameless.velocity(layers))


def test_kinetics_are_on_the_clock_of_the_cells(fitted):
    adata, _ = planted()
    fitted.annotate(adata)
    genes = adata.var["velocity_genes"].to_numpy()
    field = {name: torch.from_numpy(adata.var[f"kinetics_{name}"].to_numpy()[genes]) for name in Transcription._fields}
    time = torch.from_numpy(20 * adata.obs["latent_time"].to_numpy())[:, None]
    u, s = Transcription(**field).at(time)
    rate = splicing_velocity(u, s, field["beta"], field["gamma"])
    np.testing.assert_allclose(adata.layers["velocity"][:, genes], rate, rtol=1e-4, atol=1e-4)
    seen = u.numpy() * adata.var["kinetics_scaling"].to_numpy()[genes]
    assert np.corrcoef(seen.ravel(), adata.layers["Mu"][:, genes].ravel())[0, 1] > 0.9


def test_a_mixture_of_states_is_trained_with_the_embedding():
    adata, true = planted()
    mixed = model(method="mixture", max_epochs=40).fit(adata)
    genes = mixed.velocity_genes_
    genes[-1] = False
    velocity = mixed.velocity(adata)[:, genes]
    assert cosine(velocity, true[:, genes]) > 0.6
    shuffled = np.random.default_rng(0).permutation(len(velocity))
    assert cosine(velocity, true[:, genes]) > cosine(velocity[shuffled], true[:, genes]) + 0.3
    assert abs(spearmanr(mixed.latent_time(adata), adata.obs["time"])[0]) > 0.7
    np.testing.assert_allclose(mixed.velocity(adata[:4].copy())[:, genes], velocity[:4], rtol=1e-3, atol=1e-4)
    holding = [o for o in mixed.pretrainer_.objectives if hasattr(o, "moments")]
    assert all(o.moments is None for o in holding)
    mixed.annotate(adata)
    assert "kinetics_alpha" not in adata.var
    np.testing.assert_allclose(adata.layers["velocity"][:, genes], velocity, rtol=1e-5)
    np.testing.assert_allclose(adata.obs["latent_time"], mixed.latent_time(adata), rtol=1e-5)


def test_minimal_velocity_is_that_of_smoothed_moments_and_nothing_of_shuffled_ones():
    adata, true = planted()
    fitted = model(method="minimal", max_epochs=30).fit(adata)
    genes = fitted.velocity_genes_
    spliced, unspliced = fitted._velocity.moments(fitted._read(adata))
    kinetic = np.flatnonzero(genes) != adata.n_vars - 1
    truth = true[:, genes][:, kinetic]

    def found(unspliced):
        """Velocity by the objective itself, on the genes and neighbours of the real data."""
        steady = steady_state_velocity(spliced, unspliced)
        high = unspliced.max(axis=0), spliced.max(axis=0)
        moments = np.stack([unspliced / high[0], spliced / high[1]], axis=-1)
        objective = Velocity(moments, decoder="minimal", beta=high[0] / high[1], gamma=steady.gamma)
        X = {"u": unspliced, "s": spliced}
        options = {"n_hidden": 32, "n_latent": 16, "lr": 0.01, "max_epochs": 40, "device": "cpu", "random_state": 0}
        pretrainer = MultimodalPretrainer([objective], fusion="mean", **options).fit(X)
        decoder = pretrainer.objectives_["Velocity"].module.eval()
        np.testing.assert_allclose(torch.nn.functional.softplus(decoder.gamma).detach(), steady.gamma, rtol=1e-4)
        with torch.inference_mode():
            return decoder.velocity(torch.from_numpy(pretrainer.transform(X))).numpy() * high[1]

    real = cosine(found(unspliced)[:, kinetic], truth)
    shuffled = cosine(found(unspliced[np.random.default_rng(0).permutation(len(unspliced))])[:, kinetic], truth)
    velocity = fitted.velocity(adata)
    assert real > 0.75
    assert shuffled < 0.3
    assert cosine(velocity[:, genes][:, kinetic], truth) > 0.65
    with pytest.raises(ValueError, match="'minimal', which knows no time"):
        fitted.latent_time(adata)
    assert "latent_time" not in fitted.annotate(adata.copy()).obs


def test_annotate_keeps_neighbours_that_are_there(fitted):
    adata, _ = planted()
    adata.uns["neighbors"] = {"connectivities_key": "mine"}
    fitted.annotate(adata)
    assert adata.uns["neighbors"] == {"connectivities_key": "mine"}
    assert not len(adata.obsp)


def test_no_velocity_says_why():
    adata, _ = planted(40)
    with pytest.raises(ValueError, match=r"method is None.*set method='dynamical'"):
        model(method=None).fit(adata).velocity(adata)
    still = model(method="steady_state").fit(adata)
    with pytest.raises(ValueError, match=r"'steady_state', which knows no time"):
        still.latent_time("nothing that could be read")
    alone = model(unspliced_layer=None).fit(adata)
    with pytest.raises(ValueError, match=r"fitted is the layer 'spliced' alone, and velocity needs both"):
        alone.velocity(adata)
    assert "velocity" not in alone.annotate(adata.copy()).layers
    once = np.eye(40, dtype=int)  # each gene once, in a cell of its own
    rare = AnnData(layers={"spliced": sparse.csr_matrix(once), "unspliced": sparse.csr_matrix(once)})
    with pytest.raises(ValueError, match="no velocity was fitted"):
        model(n_top_genes=None).fit(rare).velocity(rare)
    few = model(n_neighbors=60).fit(adata)
    with pytest.raises(ValueError, match=r"40 training cells.*lower n_neighbors"):
        few.velocity_genes_  # noqa: B018


@pytest.mark.parametrize("method", ["dynamical", "mixture", "steady_state"])
def test_a_method_by_name_that_cannot_be_fitted_warns_at_fit(method):
    adata, _ = planted(40)
    with pytest.warns(
        UserWarning, match=rf"method is '{method}', but no velocity was fitted: fitted is.*alone"
    ) as said:
        alone = model(method=method, unspliced_layer=None).fit(adata)
    assert len(said) == 1
    assert said[0].filename == __file__
    for ask in (alone.velocity, alone.latent_time):
        with pytest.raises(ValueError, match="no velocity was fitted"):
            ask("nothing that could be read")


def test_the_default_is_dynamical_where_it_can_be(fitted):
    assert fitted.get_params()["method"] == "auto"
    adata, _ = planted()
    assert fitted.annotate(adata).uns["velocity_params"]["mode"] == "dynamical"
    named = model(method="dynamical").fit(planted()[0])
    np.testing.assert_array_equal(named.velocity(adata), fitted.velocity(adata))


def test_scaled_layers_have_no_velocity_and_normalised_ones_do():
    adata, _ = planted(80)
    dense = {name: adata.layers[name].toarray().astype(float) for name in ("spliced", "unspliced")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scaled = AnnData(layers={name: rows - rows.mean(axis=0) for name, rows in dense.items()})
        with pytest.raises(ValueError, match="hold negative values"):
            model().fit(scaled).velocity(scaled)
        normalised = AnnData(layers={name: rows / 3.7 for name, rows in dense.items()})
        found = model(method="steady_state").fit(normalised)
        assert np.isfinite(found.velocity(normalised)[:, found.velocity_genes_]).all()
