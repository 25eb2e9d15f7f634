"""SplicingFusion on a MuData: the AnnData with the layers is found, and rows are those of the MuData."""

import mudata
import numpy as np
import pandas as pd
import pytest
from _planted import planted
from anndata import AnnData
from scipy import sparse
from sklearn.model_selection import cross_val_score

from skfusion.singlecell import SplicingFusion, read_backed

N_BESIDE = 20


def small(**params):
    return SplicingFusion(
        n_latent=16, n_hidden=16, n_heads=2, n_tokens=2, max_epochs=2, device="cpu", random_state=0, **params
    )


@pytest.fixture(scope="module", autouse=True)
def as_mudata_does_from_04_on():
    with mudata.set_options(pull_on_update=False):
        yield


@pytest.fixture(scope="module")
def rna():
    cells = planted(120, 30)
    cells.obs["lab"] = pd.Categorical(np.where(np.arange(120) % 2, "a", "b"))
    cells.obs["has"] = np.arange(120) % 4 > 0
    return cells


@pytest.fixture(scope="module")
def beside(rna):
    """A MuData whose peaks some of the cells lack, and other cells have."""
    names = [*rna.obs_names[10:], *(f"other{i}" for i in range(N_BESIDE))]
    peaks = sparse.random(len(names), 15, 0.3, "csr", rng=np.random.default_rng(0))
    peaks.data[:] = 1
    atac = AnnData(peaks, obs=pd.DataFrame(index=names), var=pd.DataFrame(index=[f"peak{i}" for i in range(15)]))
    return mudata.MuData({"rna": rna, "atac": atac})


@pytest.fixture(scope="module")
def fitted(beside):
    return small(batch_key="lab", present_keys={"unspliced": "has"}).fit(beside)


def test_the_layers_are_found_and_fitted_as_by_themselves(fitted, beside, rna):
    alone = small(batch_key="lab", present_keys={"unspliced": "has"}).fit(rna)
    for method in ("transform", "predict_expression", "velocity", "latent_time"):
        found, expected = getattr(fitted, method)(beside), getattr(alone, method)(rna)
        assert len(found) == beside.n_obs == 120 + N_BESIDE
        np.testing.assert_allclose(found[:120], expected, rtol=1e-5, atol=1e-6, err_msg=method)
        np.testing.assert_array_equal(getattr(fitted, method)(rna), expected, err_msg=method)
    assert fitted.score(beside) == pytest.approx(alone.score(rna), rel=1e-6)


def test_a_cell_that_only_another_modality_holds_lacks_both_layers(fitted, beside):
    embedding = fitted.transform(beside)
    assert (embedding[120:] == embedding[120]).all()
    assert (fitted.velocity(beside)[120:, fitted.velocity_genes_] == 0).all()
    assert np.isnan(fitted.latent_time(beside)[120:]).all()
    assert np.isfinite(fitted.predict_expression(beside)).all()


@pytest.mark.parametrize("kind", [int, bool])
def test_batches_are_known_whatever_their_kind_and_whoever_is_beside(rna, beside, kind):
    whole = beside.copy()
    whole.mod["rna"].obs["lab"] = (np.arange(120) % 2).astype(kind)
    codes = small(batch_key="lab", method=None).fit(whole)._covariates(whole, whole.n_obs)
    np.testing.assert_array_equal(codes[:120], np.eye(2)[np.arange(120) % 2])
    assert (codes[120:] == 0.5).all()


def test_rows_are_chosen_by_scikit_learn(beside):
    assert np.isfinite(cross_val_score(small(), beside, cv=2, error_score="raise")).all()


def test_annotate_writes_into_the_anndata_with_the_layers(fitted, beside):
    written = beside.copy()
    assert fitted.annotate(written) is written
    expected = fitted.annotate(beside.mod["rna"].copy())
    own = written.mod["rna"]
    assert {"X_fusion", "X_spliced", "X_unspliced"} <= set(own.obsm)
    np.testing.assert_array_equal(own.obsm["X_fusion"], expected.obsm["X_fusion"])
    np.testing.assert_array_equal(own.layers["velocity"], expected.layers["velocity"])
    assert not written.mod["atac"].obsm
    assert "latent_time" not in written.obs


def test_it_is_read_from_a_file(fitted, beside, tmp_path):
    beside.write_h5mu(tmp_path / "cells.h5mu")
    lazy = read_backed(tmp_path / "cells.h5mu")
    np.testing.assert_allclose(fitted.transform(lazy), fitted.transform(beside), rtol=1e-4, atol=1e-5)
    assert fitted.score(lazy) == pytest.approx(fitted.score(beside), rel=1e-6)


def test_which_anndata_is_asked_for_where_several_have_the_layers(rna, beside):
    nuclei = rna.copy()
    nuclei.var_names = [f"nuclear{i}" for i in range(30)]
    both = mudata.MuData({"cells": rna, "nuclei": nuclei})
    with pytest.raises(ValueError, match=r"are in \['cells', 'nuclei'\] of X.*mod='cells'"):
        small().fit(both)
    assert small(mod="nuclei", method=None).fit(both).genes_[0] == "nuclear0"
    # The one that has most of what is looked for.
    del both.mod["nuclei"].layers["unspliced"]
    assert small(method=None).fit(both).genes_[0] == "gene0"
    with pytest.raises(ValueError, match=r"mod is 'none', which X lacks; it has \['rna', 'atac'\]"):
        small(mod="none").fit(beside)
    with pytest.raises(ValueError, match=r"no AnnData with the layers \['s', 'u'\]; .* 'atac': \[\]"):
        small(spliced_layer="s", unspliced_layer="u").fit(beside)
    with pytest.raises(ValueError, match="X has no layer 'spliced', 'unspliced'"):
        small(mod="atac").fit(beside)
    with pytest.raises(ValueError, match="batch_key is 'none', which X lacks"):
        small(batch_key="none").fit(beside)
