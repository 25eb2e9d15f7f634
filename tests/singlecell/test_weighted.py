import numpy as np
import pytest
from anndata import AnnData
from scipy import sparse
from sklearn.neighbors import NearestNeighbors

from skfusion._compat import optional
from skfusion.singlecell import weighted_neighbors
from skfusion.singlecell.weighted import fuzzy_connectivities, weighted_graph


def planted(n=150, seed=0, spread=1.0):
    """Cells of three kinds, told apart by one modality."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(3, size=n)
    return kind, 5 * np.eye(6)[kind] + rng.normal(scale=spread, size=(n, 6)), rng.normal(size=(n, 6))


def everyone(*embeddings):
    return np.ones((len(embeddings[0]), len(embeddings)), dtype=bool)


def neighbors_of(distances):
    return [set(row) for row in np.split(distances.indices, distances.indptr[1:-1])]


def test_a_constant_modality_leaves_the_neighbours_of_the_other():
    _, informative, _ = planted()
    constant = np.ones((150, 4))
    found = weighted_graph({"a": informative, "b": constant}, everyone(informative, constant), n_neighbors=10)
    unit = informative / np.linalg.norm(informative, axis=1, keepdims=True)
    alone = NearestNeighbors(n_neighbors=10).fit(unit).kneighbors(return_distance=False)
    assert neighbors_of(found.distances) == [set(row) for row in alone]
    assert (found.weights["a"] > 0.5).all()


def test_the_same_modality_twice_weighs_the_same_and_gives_its_neighbours():
    _, informative, _ = planted()
    found = weighted_graph({"a": informative, "b": informative}, everyone(informative, informative), n_neighbors=8)
    np.testing.assert_allclose(found.weights, 0.5)
    unit = informative / np.linalg.norm(informative, axis=1, keepdims=True)
    alone = NearestNeighbors(n_neighbors=8).fit(unit).kneighbors(return_distance=False)
    assert neighbors_of(found.distances) == [set(row) for row in alone]


def test_weight_goes_to_the_modality_that_says_something():
    kind, informative, noise = planted()
    found = weighted_graph({"noise": noise, "rna": informative}, everyone(noise, informative), n_neighbors=15)
    assert found.weights["rna"].mean() > 0.65
    np.testing.assert_allclose(found.weights.sum(axis=1), 1)
    same = kind[found.distances.indices] == np.repeat(kind, 15)
    assert same.mean() > 0.95
    turned = weighted_graph({"rna": informative, "noise": noise}, everyone(noise, informative), n_neighbors=15)
    np.testing.assert_allclose(turned.weights["rna"], found.weights["rna"])


def test_weights_are_those_of_each_cell():
    """One half of the cells has its structure in one modality, the other half in the other."""
    kind, informative, noise = planted(n=300, spread=0.5)
    first = np.arange(300) < 150
    a, b = np.where(first[:, None], informative, noise), np.where(first[:, None], noise, informative)
    a[~first, 5] += 30  # far from the others, so that each half finds its neighbours in itself
    b[first, 5] += 30
    found = weighted_graph({"a": a, "b": b}, everyone(a, b), n_neighbors=15, normalize=False)
    assert found.weights["a"][first].mean() > 0.6
    assert found.weights["b"][~first].mean() > 0.6
    same = kind[found.distances.indices] == np.repeat(kind, 15)
    one = NearestNeighbors(n_neighbors=15).fit(a).kneighbors(return_distance=False)
    assert same.mean() > (kind[one] == kind[:, None]).mean() + 0.2


def test_weights_of_two_follow_the_paper():
    """Formulas of the paper, a cell at a time."""
    rng = np.random.default_rng(3)
    values = {"a": rng.normal(size=(40, 3)), "b": rng.normal(size=(40, 2))}
    k = 5
    found = weighted_graph(values, np.ones((40, 2), bool), n_neighbors=k, n_candidates=39, normalize=False)
    distance = {n: np.linalg.norm(v[:, None] - v[None], axis=2) for n, v in values.items()}
    near = {n: np.argsort(d + np.diag(np.full(40, np.inf)), axis=1)[:, :k] for n, d in distance.items()}

    def bandwidth(name, i):
        own = {*near[name][i], i}
        jaccard = np.array([len(own & {*near[name][j], j}) / len(own | {*near[name][j], j}) for j in range(40)])
        pairs = sorted((jaccard[j], -distance[name][i, j]) for j in range(40) if j != i and jaccard[j] > 0)
        return np.mean([-d for _, d in pairs[:k]])

    def affinity(name, i, d):
        nearest = distance[name][i, near[name][i, 0]]
        return np.exp(-max(d - nearest, 0) / (bandwidth(name, i) - nearest))

    def to_mean(name, i, by):
        return affinity(name, i, np.linalg.norm(values[name][i] - values[name][near[by][i]].mean(axis=0)))

    for i in (0, 17, 39):
        score = {m: to_mean(m, i, m) / (to_mean(m, i, o) + 1e-4) for m, o in (("a", "b"), ("b", "a"))}
        weight = np.exp(score["a"]) / (np.exp(score["a"]) + np.exp(score["b"]))
        assert found.weights["a"][i] == pytest.approx(weight)
        similarity = [
            weight * affinity("a", i, distance["a"][i, j]) + (1 - weight) * affinity("b", i, distance["b"][i, j])
            for j in range(40)
        ]
        similarity[i] = -1
        best = np.argsort(similarity)[::-1][:k]
        row = found.distances[i]
        assert set(row.indices) == set(best)
        np.testing.assert_allclose(np.sort(row.data), np.sqrt((1 - np.sort(similarity)[::-1][:k]) / 2))


def test_a_missing_modality_has_no_weight_and_no_influence():
    kind, informative, noise = planted()
    present = np.ones((150, 2), dtype=bool)
    present[:30, 0], present[30:50, 1], present[50] = False, False, False
    a, b = informative.copy(), informative + 0.1 * noise
    found = weighted_graph({"a": a, "b": b}, present, n_neighbors=10)
    assert (found.weights["a"][:30] == 0).all()
    assert (found.weights["b"][:30] == 1).all()
    assert (found.weights["a"][30:50] == 1).all()
    assert (found.weights.loc[50] == 0).all()
    assert found.distances[50].nnz == found.distances[:, 50].nnz == 0
    assert found.distances[:50].getnnz(axis=1).tolist() == [10] * 50
    assert (kind[found.distances[:30].indices] == np.repeat(kind[:30], 10)).mean() > 0.95
    for junk in (np.nan, np.inf, 1e9):
        a[:30], b[30:50], a[50], b[50] = junk, junk, junk, junk
        again = weighted_graph({"a": a, "b": b}, present, n_neighbors=10)
        assert (again.distances != found.distances).nnz == 0
        np.testing.assert_array_equal(again.weights, found.weights)


def test_three_modalities():
    kind, informative, noise = planted()
    other = np.random.default_rng(5).normal(size=(150, 4))
    parts = {"x": noise, "rna": informative, "y": other}
    found = weighted_graph(parts, np.ones((150, 3), bool), n_neighbors=10)
    np.testing.assert_allclose(found.weights.sum(axis=1), 1)
    assert found.weights["rna"].mean() > max(found.weights["x"].mean(), found.weights["y"].mean()) + 0.1
    assert (kind[found.distances.indices] == np.repeat(kind, 10)).mean() > 0.9


def test_connectivities_are_a_fuzzy_symmetric_graph():
    _, informative, _ = planted()
    distances = sparse.csr_matrix(NearestNeighbors(n_neighbors=12).fit(informative).kneighbors_graph(mode="distance"))
    graph = fuzzy_connectivities(distances, 12)
    assert abs(graph - graph.T).max() < 1e-12
    assert graph.data.min() > 0
    assert graph.data.max() <= 1
    nearest = np.array([row.indices[row.data.argmin()] for row in distances])
    np.testing.assert_allclose(np.asarray(graph[np.arange(150), nearest]).ravel(), 1)
    # Before it is made symmetric, the weights of a cell sum to log2 of the number of neighbours.
    line = sparse.csr_matrix(([1.0, 2.0, 3.0, 4.0], ([0, 0, 0, 0], [1, 2, 3, 4])), shape=(5, 5))
    assert fuzzy_connectivities(line, 4)[0].sum() == pytest.approx(2)


@pytest.fixture
def adata():
    kind, informative, noise = planted()
    rng = np.random.default_rng(1)
    counts = sparse.csr_matrix(rng.poisson(np.exp(0.3 * informative @ rng.normal(size=(6, 700)))))
    protein = rng.poisson(np.exp(1 + 0.3 * informative)).astype(np.int64)
    return AnnData(
        counts, obs={"kind": kind.astype(str)}, obsm={"X_pca": informative, "protein": protein, "noise": noise}
    )


def test_what_scanpy_needs_is_written(adata):
    weighted_neighbors(adata, {"rna": "obsm/X_pca", "noise": "obsm/noise"}, n_neighbors=10, key_added="both")
    assert set(adata.obsp) == {"both_distances", "both_connectivities"}
    assert adata.obsp["both_distances"].getnnz(axis=1).tolist() == [10] * 150
    assert adata.uns["both"]["connectivities_key"] == "both_connectivities"
    assert adata.uns["both"]["params"]["use_rep"] in adata.obsm
    assert adata.uns["both"]["params"]["n_neighbors"] == 10
    assert adata.obs["rna_weight"].mean() > 0.65


def test_counts_are_prepared(adata):
    weighted_neighbors(adata, {"rna": "X", "protein": "obsm/protein"}, n_neighbors=10)
    distances = adata.obsp["wnn_distances"]
    kind = adata.obs["kind"].to_numpy()
    assert (kind[distances.indices] == np.repeat(kind, 10)).mean() > 0.9
    assert adata.uns["wnn"]["params"]["use_rep"] == "protein"
    assert adata.obsm["protein"].dtype == np.int64
    again = adata.copy()
    weighted_neighbors(again, {"rna": "X", "protein": "obsm/protein"}, n_neighbors=10)
    assert (again.obsp["wnn_distances"] != distances).nnz == 0


def test_layers_are_read_and_a_representation_is_left(adata):
    adata.layers["spliced"], adata.layers["unspliced"] = adata.X, adata.X[:, ::-1]
    weighted_neighbors(adata, n_neighbors=10)
    assert {"spliced_weight", "unspliced_weight"} <= set(adata.obs)
    assert adata.obsm[adata.uns["wnn"]["params"]["use_rep"]].shape == (150, 50)


@pytest.mark.filterwarnings("ignore")
def test_mudata(adata):
    mudata = optional("mudata")
    protein = AnnData(adata.obsm["protein"].astype(float), obs=adata.obs)[20:].copy()
    mdata = mudata.MuData({"rna": adata, "protein": protein})
    weighted_neighbors(mdata, {"rna": "obsm/X_pca", "protein": "X"}, n_neighbors=10)
    lacking = ~mdata.obs_names.isin(protein.obs_names)
    assert (mdata.obs["protein_weight"][lacking] == 0).all()
    assert (mdata.obs["rna_weight"][lacking] == 1).all()
    assert mdata.obsp["wnn_connectivities"].shape == (150, 150)


def test_bad_input_says_what_is_due(adata):
    with pytest.raises(ValueError, match=r"'obsm/umap', which this AnnData lacks. It has X, layers \[\], obsm \["):
        weighted_neighbors(adata, {"rna": "obsm/X_pca", "b": "obsm/umap"})
    with pytest.raises(ValueError, match=r"modalities gives \['X'\] alone; due are two or more"):
        weighted_neighbors(adata)
    with pytest.raises(TypeError, match="adata is a dict; due is an AnnData or a MuData"):
        weighted_neighbors({"a": np.ones((3, 3))})
    with pytest.raises(ValueError, match="modality 'rna' is present in 150 cells; due are more than n_neighbors=150"):
        weighted_neighbors(adata, {"rna": "obsm/X_pca", "noise": "obsm/noise"}, n_neighbors=150)
    with pytest.raises(ValueError, match="n_neighbors is 1; due is at least 2"):
        weighted_neighbors(adata, {"rna": "obsm/X_pca", "noise": "obsm/noise"}, n_neighbors=1)
    with pytest.raises(ValueError, match="modality 'kind' is of kind 'table'"):
        weighted_neighbors(adata, {"rna": "obsm/X_pca", "kind": "obs/kind"})
