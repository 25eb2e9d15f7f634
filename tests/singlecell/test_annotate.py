"""What `SplicingFusion.annotate` writes, read as scanpy and scVelo read it."""

import anndata
import numpy as np
import pytest
from _planted import planted
from scipy import sparse

from skfusion.singlecell import SplicingFusion, VelocityDisplay

N_CELLS, N_NEIGHBORS = 120, 12
METHODS = ["dynamical", "mixture", "minimal", "steady_state"]
TIMELESS = ("minimal", "steady_state")


@pytest.fixture(scope="module")
def cells():
    """Cells along one time, of which the last gene has no counts."""
    adata = planted(N_CELLS, 31)
    for name in ("spliced", "unspliced"):
        counts = adata.layers[name].toarray()
        counts[:, -1] = 0
        adata.layers[name] = sparse.csr_matrix(counts)
        adata.obs[f"has_{name}"] = True
    return adata


@pytest.fixture(scope="module")
def models(cells):
    keys = {name: f"has_{name}" for name in ("spliced", "unspliced")}
    small = {"max_epochs": 1, "n_latent": 8, "n_neighbors": N_NEIGHBORS, "imputer": None, "random_state": 0}
    return {m: SplicingFusion(method=m, present_keys=keys, **small).fit(cells) for m in [*METHODS, None]}


@pytest.fixture(params=METHODS)
def method(request):
    return request.param


def holds(adata):
    return {slot: set(getattr(adata, slot)) for slot in ("obs", "var", "obsm", "obsp", "layers", "uns")}


def test_layers_and_columns_are_what_scvelo_looks_for(models, cells, method, tmp_path):
    written = models[method].annotate(cells.copy())
    written.write_h5ad(tmp_path / "cells.h5ad")
    for adata in (written, anndata.read_h5ad(tmp_path / "cells.h5ad")):
        genes = adata.var["velocity_genes"]
        assert genes.dtype == bool
        assert 5 < genes.sum() < adata.n_vars
        for name in ("Ms", "Mu", "velocity"):
            layer = adata.layers[name]
            assert isinstance(layer, np.ndarray)
            assert (layer.shape, layer.dtype) == (adata.shape, np.float32)
            # scVelo leaves out a gene that is NaN in any cell.
            np.testing.assert_array_equal(np.isfinite(layer).all(axis=0), genes)
            np.testing.assert_array_equal(np.isnan(layer).all(axis=0), ~genes)
        assert (adata.layers["Ms"][:, genes] >= 0).all()
        for name in ("velocity_gamma", "velocity_r2"):
            assert adata.var[name].dtype == np.float64
            np.testing.assert_array_equal(np.isfinite(adata.var[name]), genes)
        # What begins so is drawn as kinetics.
        assert any(name.startswith("fit_") for name in [*adata.var, *adata.layers]) == (method == "dynamical")
        assert adata.uns["velocity_params"]["mode"] == method
        assert ("latent_time" in adata.obs) == (method not in TIMELESS)
        if method not in TIMELESS:
            assert adata.obs["latent_time"].dtype == np.float64
            assert adata.obs["latent_time"].between(0, 1).all()
        for name in ("X_fusion", "X_spliced", "X_unspliced"):
            assert (adata.obsm[name].shape, adata.obsm[name].dtype) == ((N_CELLS, 8), np.float32)
            assert np.isfinite(adata.obsm[name]).all()


def test_the_line_that_scvelo_draws_is_the_steady_state(models, cells):
    adata = models["steady_state"].annotate(cells.copy())
    genes = adata.var["velocity_genes"].to_numpy()
    s, u, velocity = (adata.layers[name][:, genes] for name in ("Ms", "Mu", "velocity"))
    np.testing.assert_allclose(u - adata.var["velocity_gamma"].to_numpy()[genes] * s, velocity, rtol=1e-3, atol=1e-4)


def test_the_curve_that_scvelo_draws_is_the_fitted_one_or_none(models, cells):
    adata = models["dynamical"].annotate(cells.copy())
    drawn = adata.var["fit_alpha"].notna().to_numpy()
    assert 3 <= drawn.sum() <= adata.var["velocity_genes"].sum()
    names = ["alpha", "beta", "gamma", "scaling", "t_", "u0", "s0"]
    alpha, beta, gamma, scaling, stop, u_base, s_base = (adata.var[f"fit_{name}"].to_numpy()[drawn] for name in names)
    t, beta = adata.layers["fit_t"].astype(float)[:, drawn], beta * scaling
    assert np.isfinite(t).all()

    def course(t, alpha, u, s):
        # Bergen et al. 2020, equation 3.
        decay, lost = np.exp(-beta * t), np.exp(-gamma * t)
        now = s * lost + alpha / gamma * (1 - lost) + (alpha - u * beta) / (gamma - beta) * (lost - decay)
        return u * decay + alpha / beta * (1 - decay), now

    at_stop = course(stop, alpha, 0, 0)
    on, off = course(t, alpha, 0, 0), course(np.maximum(t - stop, 0), 0, *at_stop)
    u, s = (np.where(t < stop, up, down) for up, down in zip(on, off))
    dynamics = models["dynamical"]._velocity.dynamics
    ours = dynamics.at(20 * adata.obs["latent_time"].to_numpy())
    fitted = drawn[adata.var["velocity_genes"].to_numpy()]
    for curve, mine, sd in [
        (u * scaling + u_base, ours[0], dynamics.unspliced_sd),
        (s + s_base, ours[1], dynamics.spliced_sd),
    ]:
        assert (np.abs(curve - mine[:, fitted]) / sd[fitted]).max() < 0.1 + 1e-4
    assert np.isnan(adata.layers["fit_t"][:, ~drawn]).all()


def test_neighbours_are_what_scanpy_and_scvelo_look_for(models, cells):
    adata = models["steady_state"].annotate(cells.copy())
    found = adata.uns["neighbors"]
    assert found["params"]["n_neighbors"] == N_NEIGHBORS
    assert found["params"]["method"] == "umap"
    assert adata.obsm[found["params"]["use_rep"]].shape[0] == N_CELLS
    distances, weights = adata.obsp[found["distances_key"]], adata.obsp[found["connectivities_key"]]
    assert isinstance(distances, sparse.csr_matrix)
    assert isinstance(weights, sparse.csr_matrix)
    # scVelo makes a table of the indices, with a row a cell.
    assert (np.diff(distances.indptr) == N_NEIGHBORS).all()
    assert (distances.data > 0).all()
    assert distances.diagonal().sum() == 0
    assert abs(weights - weights.T).max() < 1e-12
    assert 0 < weights.data.min() <= weights.data.max() <= 1
    near = np.linalg.norm(adata.obsm["X_fusion"][0] - adata.obsm["X_fusion"], axis=1).argsort()[1 : N_NEIGHBORS + 1]
    np.testing.assert_array_equal(np.sort(distances[0].indices), np.sort(near))


def test_few_cells_have_no_neighbours_of_another_embedding(models, cells):
    few = models["steady_state"].annotate(cells.copy())[:N_NEIGHBORS].copy()
    assert few.obsp["distances"].shape == (N_NEIGHBORS, N_NEIGHBORS)
    models["dynamical"].annotate(few)
    assert "neighbors" not in few.uns
    assert not few.obsp
    few.uns["neighbors"] = {"params": {"n_neighbors": 3}}
    assert models["dynamical"].annotate(few).uns["neighbors"] == {"params": {"n_neighbors": 3}}


@pytest.mark.parametrize("first", METHODS)
@pytest.mark.parametrize("then", [*METHODS, None])
def test_nothing_of_an_earlier_method_remains(models, cells, first, then, tmp_path):
    adata = cells.copy()
    adata.obs["time"] = 1.0
    models[first].annotate(adata).write_h5ad(tmp_path / "cells.h5ad")
    again = models[then].annotate(anndata.read_h5ad(tmp_path / "cells.h5ad"))
    once = models[then].annotate(cells.copy())
    assert holds(again) == {**holds(once), "obs": holds(once)["obs"] | {"time"}}
    assert (abs(again.obsp["distances"] - once.obsp["distances"]) > 1e-6).nnz == 0
    for name in set(once.layers) - set(cells.layers):
        np.testing.assert_array_equal(again.layers[name], once.layers[name])


def test_what_others_wrote_stays(models, cells):
    adata = cells.copy()
    adata.layers["Ms"], adata.obs["latent_time"], adata.var["fit_alpha"] = np.ones(adata.shape), 0.5, 1.0
    adata.uns["velocity_params"] = {"mode": "stochastic"}
    models[None].annotate(adata)
    assert (adata.layers["Ms"] == 1).all()
    assert adata.uns["velocity_params"] == {"mode": "stochastic"}
    models["steady_state"].annotate(adata)
    assert (adata.obs["latent_time"] == 0.5).all()
    assert "fit_alpha" in adata.var
    adata.uns["neighbors"] = {"params": {"n_neighbors": 3}}
    models["dynamical"].annotate(adata)
    assert adata.uns["neighbors"] == {"params": {"n_neighbors": 3}}
    models[None].annotate(adata)
    assert "latent_time" not in adata.obs


def test_cells_are_annotated_some_at_a_time(models, cells, method, monkeypatch):
    whole = models[method].annotate(cells.copy())
    monkeypatch.setattr("skfusion.singlecell._infer.CHUNK", 50)
    parts = models[method].annotate(cells.copy())
    assert ("fit_t" in parts.layers) == (method == "dynamical")
    for name in {"Ms", "Mu", "velocity", "fit_t"} & set(parts.layers):
        np.testing.assert_allclose(parts.layers[name], whole.layers[name], rtol=1e-4, atol=1e-5)
    if method not in TIMELESS:
        np.testing.assert_allclose(parts.obs["latent_time"], whole.obs["latent_time"], rtol=1e-4)


@pytest.mark.filterwarnings("ignore:.*nothing present")
def test_a_cell_with_no_layer_costs_no_gene(models, cells, method):
    adata = cells.copy()
    adata.obs.loc[adata.obs_names[:4], ["has_spliced", "has_unspliced"]] = False
    adata.obs.loc[adata.obs_names[4:9], "has_unspliced"] = False
    models[method].annotate(adata)
    genes = adata.var["velocity_genes"].to_numpy()
    velocity, moments = adata.layers["velocity"][:, genes], adata.layers["Ms"][:, genes]
    assert (velocity[:4] == 0).all()
    assert np.isnan(moments[:4]).all()
    assert np.isfinite(velocity).all()
    assert np.isfinite(moments[4:]).all()
    if method not in TIMELESS:
        np.testing.assert_array_equal(adata.obs["latent_time"].isna(), np.arange(N_CELLS) < 4)
    adata.obsm["X_umap"] = adata.obsm["X_fusion"][:, :2]
    arrows = VelocityDisplay.from_anndata(adata, kind="cells").arrows
    np.testing.assert_array_equal(np.isnan(arrows).all(axis=1), np.arange(N_CELLS) < 4)
