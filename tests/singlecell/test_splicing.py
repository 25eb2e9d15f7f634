"""SplicingFusion: what it learns, what it takes, and its contract as an estimator of AnnData."""

import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from _planted import planted
from anndata import AnnData
from scipy import sparse
from scipy.stats import pearsonr
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score

from skfusion import Modalities
from skfusion.objectives import Expression
from skfusion.singlecell import SplicingFusion

SMALL = {"n_latent": 16, "n_hidden": 16, "n_heads": 2, "n_tokens": 2, "device": "cpu", "random_state": 0}
QUICK = {**SMALL, "max_epochs": 2}


def quick(**params):
    return SplicingFusion(**{**QUICK, **params})


@pytest.fixture(scope="module")
def cells():
    return planted(120, 30)


@pytest.fixture(scope="module")
def fitted(cells):
    return quick().fit(cells)


@pytest.fixture(scope="module")
def learnt():
    """Planted cells, the model of most of them, and the others."""
    adata = planted()
    return SplicingFusion(**{**SMALL, "n_hidden": 32, "max_epochs": 40, "imputer": None}).fit(adata[:300]), adata


def without(adata, layer):
    adata = adata.copy()
    del adata.layers[layer]
    return adata


def test_the_setting_of_outputs_changes_the_container_of_transform_alone(cells, fitted):
    with config_context(transform_output="pandas"):
        model = quick().fit(cells)
        np.testing.assert_array_equal(model.velocity(cells), fitted.velocity(cells))
        drawn, plain = (each.sample(5, random_state=0).layers["spliced"] for each in (model, fitted))
        assert (drawn != plain).sum() == 0
        assert isinstance(model.transform(cells), pd.DataFrame)


# What it learns


def test_time_is_told_from_spliced_alone(learnt):
    model, adata = learnt
    embedding, time = model.embed(without(adata, "unspliced"), "spliced"), adata.obs["time"].to_numpy()
    ridge = Ridge().fit(embedding[:300], time[:300])
    assert r2_score(time[300:], ridge.predict(embedding[300:])) > 0.8


def test_unspliced_is_predicted_from_spliced(learnt):
    model, adata = learnt
    predicted = model.predict_expression(without(adata[300:], "unspliced"), "unspliced", output="counts")
    truth = adata.layers["mean_unspliced"][300:]
    gene_means = adata[:300].layers["unspliced"].toarray().mean(axis=0)
    assert np.mean([pearsonr(a, b)[0] for a, b in zip(predicted.T, truth.T)]) > 0.8
    assert np.square(predicted - truth).mean() < 0.5 * np.square(gene_means - truth).mean()


def test_denoised_counts_are_closer_to_the_truth_than_those_observed(learnt):
    model, adata = learnt
    predicted = model.predict_expression(adata[300:], "spliced", output="counts")
    truth, observed = adata.layers["mean_spliced"][300:], adata[300:].layers["spliced"].toarray()
    assert np.square(predicted - truth).mean() < 0.3 * np.square(observed - truth).mean()


def test_other_cells_are_likelier_than_shuffled_genes(learnt):
    model, adata = learnt
    shuffled = adata[300:].copy()
    order = np.random.default_rng(0).permutation(adata.n_vars)
    shuffled.layers["spliced"] = shuffled.layers["spliced"][:, order]
    assert model.score(adata[300:]) > model.score(shuffled) + 50


# Purity, and cells that lack a layer


def test_a_layers_embedding_has_seen_nothing_of_the_other(fitted, cells):
    noisy = cells.copy()
    noisy.layers["unspliced"] = sparse.csr_matrix(np.random.default_rng(1).poisson(5, size=cells.shape))
    assert np.array_equal(fitted.embed(noisy, "spliced"), fitted.embed(cells, "spliced"))
    assert not np.allclose(fitted.transform(noisy), fitted.transform(cells))
    assert not np.allclose(fitted.embed(noisy, "global"), fitted.embed(cells, "global"))


def test_a_layers_embedding_is_the_same_without_the_other(fitted, cells):
    assert np.array_equal(fitted.embed(without(cells, "unspliced"), "spliced"), fitted.embed(cells, "spliced"))


def test_cells_embed_as_they_are_ordered(fitted, cells):
    order = np.random.default_rng(0).permutation(len(cells))
    np.testing.assert_allclose(fitted.transform(cells[order]), fitted.transform(cells)[order], rtol=1e-4, atol=1e-5)


def test_what_lies_in_a_layer_that_a_cell_lacks_is_inert(cells):
    found = []
    for junk in (0, 7):
        adata = cells.copy()
        adata.obs["has_u"] = np.arange(len(cells)) % 3 > 0
        counts = adata.layers["unspliced"].toarray()
        counts[~adata.obs["has_u"].to_numpy()] = junk
        adata.layers["unspliced"] = counts
        model = quick(present_keys={"unspliced": "has_u"}).fit(adata)
        found.append((model.transform(adata), model.predict_expression(adata, "unspliced"), model.score(adata)))
    for first, second in zip(*found):
        np.testing.assert_array_equal(first, second)


def test_cells_are_scored_by_what_they_have(fitted, cells):
    tables = {}
    for layer, every in (("spliced", 3), ("unspliced", 2)):
        tables[layer] = pd.DataFrame(cells.layers[layer].toarray().astype(float), columns=cells.var_names)
        tables[layer].iloc[::every] = np.nan
    some = Modalities(tables)
    there = some[some.present.any(axis=1)]
    assert len(there) == 100
    assert fitted.score(some) == pytest.approx(fitted.score(there), rel=1e-6)
    none = Modalities({layer: rows * np.nan for layer, rows in tables.items()})
    with pytest.raises(ValueError, match="none of the 120 cells of X has a layer"):
        fitted.score(none)


@pytest.mark.parametrize("layer", ["spliced", "unspliced"])
def test_one_layer_alone_is_fitted(cells, layer):
    other = {"spliced": "unspliced", "unspliced": "spliced"}[layer]
    model = quick(**{f"{other}_layer": None}).fit(without(cells, other))
    assert model.layers_ == [layer]
    assert model.transform(cells).shape == (120, 16)
    assert np.isfinite(model.score(cells))
    assert list(model.sample(5, random_state=0).layers) == [layer]


@pytest.mark.parametrize("output", ["log_normalized", "normalized", "counts"])
@pytest.mark.parametrize("layer", ["spliced", "unspliced"])
def test_every_output_comes_with_and_without_the_layer(fitted, cells, output, layer):
    for adata in (cells, without(cells, layer)):
        found = fitted.predict_expression(adata, layer, output=output)
        assert found.shape == cells.shape
        assert np.isfinite(found).all()


def test_normalised_expression_adds_up_to_its_total(fitted, cells):
    found = fitted.predict_expression(cells, "unspliced", output="normalized")
    np.testing.assert_allclose(found.sum(axis=1), 1e4, rtol=1e-3)
    logs = fitted.predict_expression(cells, "unspliced")
    assert (logs <= np.log1p(found) + 1e-5).all()


# What it takes


def test_anndata_dict_and_modalities_agree(fitted, cells):
    frames = {
        layer: pd.DataFrame(cells.layers[layer].toarray(), index=cells.obs_names, columns=cells.var_names)
        for layer in ("spliced", "unspliced")
    }
    expected = fitted.transform(cells)
    np.testing.assert_array_equal(fitted.transform(frames), expected)
    np.testing.assert_array_equal(fitted.transform(Modalities(frames)), expected)
    again = quick().fit(Modalities(frames))
    np.testing.assert_array_equal(again.transform(cells), expected)


def test_arrays_without_names_go_by_position(cells):
    X = {layer: cells.layers[layer] for layer in ("spliced", "unspliced")}
    model = quick().fit(X)
    assert model.transform({"spliced": X["spliced"]}).shape == (120, 16)
    with pytest.raises(ValueError, match="layers have 29 genes; due are 30"):
        model.transform({"spliced": X["spliced"][:, 1:]})


def test_an_array_beside_a_table_has_its_genes(fitted, cells):
    counts = {layer: cells.layers[layer].toarray() for layer in ("spliced", "unspliced")}
    order = np.random.default_rng(0).permutation(cells.n_vars)
    for layer in counts:
        X = {name: rows[:, order] for name, rows in counts.items()}
        X[layer] = pd.DataFrame(X[layer], columns=cells.var_names[order])
        np.testing.assert_array_equal(fitted.transform(X), fitted.transform(cells))
        assert list(quick(method=None).fit(X).genes_) == list(cells.var_names[order])


def test_genes_are_aligned_by_name(fitted, cells):
    order = np.random.default_rng(0).permutation(cells.n_vars)
    np.testing.assert_array_equal(fitted.transform(cells[:, order]), fitted.transform(cells))
    with pytest.raises(ValueError, match=r"3 of 30 genes are missing from layer 'spliced': \['gene0', 'gene1'"):
        fitted.transform(cells[:, 3:])


def test_the_most_variable_genes_are_fitted(cells):
    adata = cells.copy()
    for layer in ("spliced", "unspliced"):
        counts = adata.layers[layer].toarray()
        counts[:, ::2] = 1  # varies with depth alone
        adata.layers[layer] = sparse.csr_matrix(counts)
    assert list(quick(n_top_genes=15).fit(adata).genes_) == list(cells.var_names[1::2])
    assert list(quick(genes=["gene4", "gene2"]).fit(adata).genes_) == ["gene4", "gene2"]
    with pytest.raises(ValueError, match=r"genes names 1 that X lacks: \['none'\]"):
        quick(genes=["none"]).fit(adata)


def test_a_batch_is_told_to_the_decoders(cells):
    adata = cells.copy()
    adata.obs["lab"] = pd.Categorical(np.where(np.arange(len(cells)) % 2, "a", "b"))
    counts = adata.layers["spliced"].toarray()
    counts[1::2, 0] += 40  # what lab a sees of the first gene
    adata.layers["spliced"] = sparse.csr_matrix(counts)
    model = quick(batch_key="lab", max_epochs=30, lr=0.02).fit(adata)
    drawn = {lab: model.sample(80, batch=lab, random_state=0).layers["spliced"][:, 0].mean() for lab in "ab"}
    assert drawn["a"] > 2 * drawn["b"]
    assert set(model.sample(40, random_state=0).obs["lab"]) == {"a", "b"}
    unknown = cells.copy()
    unknown.obs["lab"] = "c"
    assert np.isfinite(model.predict_expression(unknown, "unspliced")).all()
    assert np.isfinite(model.score(cells))
    with pytest.raises(ValueError, match="batch_key is 'lab', which X lacks"):
        model.fit(cells)
    with pytest.raises(ValueError, match="batch is 'c'"):
        model.sample(3, batch="c")


def test_scaled_layers_have_a_path_of_their_own(cells):
    adata = cells.copy()
    for layer in ("spliced", "unspliced"):
        adata.layers[layer] = np.log1p(adata.layers[layer].toarray()) - 1.0
    with pytest.warns(UserWarning, match="layer 'spliced' holds negative values") as caught:
        model = quick(max_epochs=20).fit(adata)
    assert len(caught) == 1
    found = model.predict_expression(adata, "spliced")
    error = np.square(found - adata.layers["spliced"]).mean()
    assert error < adata.layers["spliced"].var(axis=0).mean()
    assert isinstance(model.sample(4, random_state=0).layers["spliced"], np.ndarray)
    assert np.isfinite(model.score(adata))


def test_what_is_no_count_is_refused_where_counts_were_fitted(fitted, cells):
    for change, what in ((lambda x: x - 0.5, "negative"), (lambda x: x / 3, "fractions")):
        adata = cells.copy()
        adata.layers["unspliced"] = change(adata.layers["unspliced"].toarray())
        with pytest.raises(ValueError, match=f"layer 'unspliced' holds {what}.*due are counts"):
            fitted.transform(adata)


def test_bad_input_is_named(cells):
    with pytest.raises(ValueError, match=r"no layer 'unspliced'; it has \['spliced'"):
        quick().fit(without(cells, "unspliced"))
    with pytest.raises(ValueError, match="layers are of unequal shape"):
        quick().fit({"spliced": cells.layers["spliced"], "unspliced": cells.layers["unspliced"][:, :7]})
    twice = cells.copy()
    twice.var_names = ["gene1", *twice.var_names[1:]]
    with pytest.raises(ValueError, match="'gene1' occurs twice"):
        quick().fit(twice)
    frames = {name: pd.DataFrame(cells.layers[name].toarray()) for name in ("spliced", "unspliced")}
    frames["spliced"].index = [0, *range(119)]
    with pytest.raises(ValueError, match=r"(?i)twice|duplicate"):
        quick().fit(frames)
    with pytest.raises(TypeError, match="X is of type ndarray"):
        quick().fit(np.ones((4, 3)))
    with pytest.raises(ValueError, match="both None"):
        quick(spliced_layer=None, unspliced_layer=None).fit(cells)
    with pytest.raises(ValueError, match="which obs lacks"):
        quick(present_keys={"spliced": "none"}).fit(cells)
    with pytest.raises(ValueError, match="holds no count"):
        quick().fit({"spliced": cells.layers["spliced"], "unspliced": 0 * cells.layers["unspliced"]})


# Its contract as an estimator


def test_it_clones_pickles_and_repeats(fitted, cells):
    again = clone(fitted).fit(cells)
    np.testing.assert_array_equal(again.transform(cells), fitted.transform(cells))
    kept = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(kept.transform(cells), fitted.transform(cells))
    assert kept.score(cells) == fitted.score(cells)


def test_parameters_are_set_and_checked(cells):
    model = quick()
    assert set(model.get_params()) >= {"spliced_layer", "batch_key", "method", "n_neighbors"}
    assert model.set_params(n_latent=8).n_latent == 8
    for bad in ({"method": "none"}, {"likelihood": "normal"}, {"n_latent": 0}, {"lr": -1.0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            quick(**bad).fit(cells)


def test_nothing_heavy_is_loaded_before_fit():
    code = (
        "import sys\nfrom sklearn.base import clone\nfrom skfusion.singlecell import SplicingFusion\n"
        "repr(clone(SplicingFusion(n_latent=3)).set_params(lr=0.1))\n"
        "print([m for m in ('torch', 'skorch', 'anndata', 'matplotlib') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"


def test_unfitted_it_says_so(cells):
    for call in ("transform", "predict_expression", "score", "embed"):
        with pytest.raises(NotFittedError):
            getattr(quick(), call)(cells)
    with pytest.raises(NotFittedError):
        quick().sample(2)


def test_a_fit_that_fails_keeps_what_was_fitted(cells):
    model = quick().fit(cells)
    before = model.transform(cells)
    with pytest.raises(ValueError, match="no layer"):
        model.fit(without(cells, "unspliced"))
    np.testing.assert_array_equal(model.transform(cells), before)


def test_nothing_handed_in_is_changed(cells):
    adata = cells.copy()
    quick().fit(adata).predict_expression(adata)
    for layer in cells.layers:
        np.testing.assert_array_equal(np.asarray(abs(adata.layers[layer] - cells.layers[layer]).sum()), 0)
    assert list(adata.obs) == list(cells.obs)


def test_it_is_chosen_by_scikit_learn(cells):
    assert np.isfinite(cross_val_score(quick(), cells, cv=2)).all()
    search = GridSearchCV(quick(), {"n_latent": [8, 16]}, cv=2).fit(cells)
    assert search.best_params_["n_latent"] in (8, 16)


def test_it_names_what_it_gives(cells):
    model = quick().set_output(transform="pandas")
    frame = model.fit_transform(cells)
    assert list(frame) == list(model.get_feature_names_out())
    assert frame.shape == (120, 16)
    assert frame.to_numpy().dtype == np.float32
    assert frame.index.tolist() == cells.obs_names.tolist()


def test_what_needs_expression_says_so(cells):
    model = quick(objectives=["contrastive"]).fit(cells)
    assert model.transform(cells).shape == (120, 16)
    with pytest.raises(ValueError, match="needs the objective 'expression'"):
        model.score(cells)
    with pytest.raises(ValueError, match="output is 'log'"):
        model.predict_expression(cells, output="log")
    with pytest.raises(ValueError, match="head is 'none'"):
        model.embed(cells, "none")


def test_a_layer_that_is_left_out_at_predict_needs_no_column(cells):
    adata = cells.copy()
    adata.obs["has"] = True
    fitted = quick(present_keys={"unspliced": "has"}, method=None).fit(adata)
    alone = AnnData(var=adata.var, obs=adata.obs[[]], layers={"spliced": adata.layers["spliced"]})
    assert fitted.transform(alone).shape[0] == adata.n_obs


def test_a_mistyped_objective_is_told_before_anything_is_fitted(cells, monkeypatch):
    monkeypatch.setattr(SplicingFusion, "_fit_velocity", None)
    with pytest.raises(ValueError, match="objectives is 'expresion'; due is one of"):
        SplicingFusion(objectives=["contrastive", "expresion"]).fit(cells)


def test_named_objectives_know_of_batches(cells):
    adata = cells.copy()
    adata.obs["batch"] = np.where(np.arange(adata.n_obs) % 2, "a", "b")
    options = {"batch_key": "batch", "method": None, "likelihood": "poisson"}
    fitted = quick(objectives=["expression"], **options).fit(adata)
    assert np.isfinite(fitted.score(adata))
    assert fitted.predict_expression(adata).shape == adata.shape
    with pytest.raises(ValueError, match=r"knows nothing of batch_key; name it 'expression'"):
        quick(objectives=[Expression()], **options).fit(adata)


@pytest.mark.parametrize("value", [np.inf, 3e9])
def test_what_is_too_large_is_no_count(cells, fitted, value):
    odd = cells.copy()
    odd.layers["spliced"] = odd.layers["spliced"].toarray().astype(float)
    odd.layers["spliced"][3, 2] = value
    with pytest.raises(ValueError, match=r"'spliced' holds values as large as"):
        fitted.transform(odd)


def test_a_batch_to_draw_needs_a_batch_key(fitted):
    with pytest.raises(ValueError, match="no batch_key was fitted"):
        fitted.sample(2, batch="a")
