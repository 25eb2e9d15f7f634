"""Every public estimator takes single cells as they come: AnnData and MuData, in memory and in a file, some lacking.

RNA counts beside dense protein, and beside peaks that are open or not, which are sparse as well.
"""

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
from instances import as_array, assert_same, needs, outputs
from scipy import sparse
from sklearn.base import clone
from sklearn.model_selection import PredefinedSplit, cross_val_score

from skfusion import Modalities
from skfusion.modalities.backed import is_backed
from skfusion.singlecell import read_backed

N = 60
WHERE = {"a": "X", "b": "obsm/b"}
KINDS = ["protein", "peaks"]


def make_cells(kind):
    """RNA counts, and another assay that a fifth of the cells lack."""
    rng = np.random.default_rng(0)
    rna = sparse.csr_matrix(rng.poisson(1.0, size=(N, 8)).astype(np.float32))
    other = rng.normal(size=(N, 3)) if kind == "protein" else (rng.random((N, 12)) < 0.3).astype(np.float32)
    other[rng.permutation(N)[: N // 5]] = np.nan
    cells = pd.DataFrame(index=[f"cell{i}" for i in range(N)])
    other = other if kind == "protein" else sparse.csr_matrix(other)
    return anndata.AnnData(rna, obs=cells, var=pd.DataFrame(index=list("ABCDEFGH")), obsm={"b": other})


@pytest.fixture(scope="module", autouse=True)
def as_mudata_does_from_04_on():
    with mudata.set_options(pull_on_update=False):
        yield


@pytest.fixture(scope="module", params=KINDS)
def forms(request, tmp_path_factory, as_mudata_does_from_04_on):
    """The same cells in memory and in a file."""
    folder = tmp_path_factory.mktemp("cells")
    cells = make_cells(request.param)
    other = cells.obsm["b"]
    has = ~np.isnan(np.asarray(other.sum(axis=1)).ravel())
    names = pd.DataFrame(index=[f"x{i}" for i in range(other.shape[1])])
    protein = anndata.AnnData(other[has], obs=cells.obs[has], var=names)
    both = mudata.MuData({"a": anndata.AnnData(cells.X, obs=cells.obs, var=cells.var), "b": protein})
    both.write_h5mu(folder / "cells.h5mu")
    cells.write_h5ad(folder / "cells.h5ad")
    return {
        "AnnData": cells,
        "AnnData in a file": read_backed(folder / "cells.h5ad"),
        "MuData": both,
        "MuData in a file": read_backed(folder / "cells.h5mu"),
    }


def test_they_are_the_same_cells(forms):
    expected = Modalities.from_anndata(forms["AnnData"], WHERE)
    for name, X in forms.items():
        X = Modalities.from_anndata(X, WHERE) if "AnnData" in name else Modalities.from_mudata(X)
        assert is_backed(X["a"]) == ("in a file" in name)
        assert X.sample_ids.tolist() == expected.sample_ids.tolist()
        np.testing.assert_array_equal(X.present, expected.present)
        np.testing.assert_array_equal(X.to_memory()["a"].toarray(), expected["a"].toarray())
        there = X.to_memory()[X.present[:, 1]]["b"], expected[expected.present[:, 1]]["b"]
        np.testing.assert_array_equal(*map(as_array, there))
        assert 0 < X.present[:, 1].sum() < N


def test_what_is_learnt_is_the_same(estimator, y, forms):
    fitted = clone(estimator).set_params(modalities=WHERE).fit(forms["AnnData"], y)
    expected = outputs(fitted, forms["AnnData"][:7])
    lazy = forms["AnnData in a file"]
    assert_same(outputs(clone(estimator).set_params(modalities=WHERE).fit(lazy, y), lazy[:7]), expected)
    both = clone(estimator).fit(forms["MuData in a file"], y)
    names = forms["AnnData"].obs_names[:7]
    assert_same(outputs(both, forms["MuData in a file"][names]), expected)
    assert_same(outputs(both, forms["MuData"][names]), expected)
    # One of the two modalities alone.
    rna = Modalities.from_anndata(lazy[:7], {"a": "X"})
    assert_same(outputs(both, rna), outputs(both, rna.to_memory()))
    other = forms["MuData"].mod["b"][:7]
    assert_same(outputs(both, mudata.MuData({"b": other})), outputs(both, Modalities({"b": other.X})))


@pytest.mark.filterwarnings("ignore:too few calibration samples have just:UserWarning")
def test_rows_are_cross_validated(estimator, y, forms):
    needs(hasattr(estimator, "predict"), "predict")
    fold = PredefinedSplit(np.where(np.arange(N) % 3, -1, 0))
    expected = None
    for name, X in forms.items():
        estimator = clone(estimator).set_params(modalities=WHERE if "AnnData" in name else None)
        scores = cross_val_score(estimator, X, y, cv=fold, error_score="raise")
        expected = scores if expected is None else expected
        np.testing.assert_array_equal(scores, expected, err_msg=name)
