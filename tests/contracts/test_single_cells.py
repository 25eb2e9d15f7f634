"""Every public estimator takes single cells as they come: AnnData and MuData, in memory and in a file, some lacking."""

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
from instances import assert_same, needs, outputs
from scipy import sparse
from sklearn.base import clone
from sklearn.model_selection import PredefinedSplit, cross_val_score

from skfusion import Modalities
from skfusion.modalities.backed import is_backed
from skfusion.singlecell import read_backed

N = 60
WHERE = {"a": "X", "b": "obsm/b"}


def make_cells():
    """RNA counts, and protein that a fifth of the cells lack."""
    rng = np.random.default_rng(0)
    rna = sparse.csr_matrix(rng.poisson(1.0, size=(N, 8)).astype(np.float32))
    protein = rng.normal(size=(N, 3))
    protein[rng.permutation(N)[: N // 5]] = np.nan
    cells = pd.DataFrame(index=[f"cell{i}" for i in range(N)])
    return anndata.AnnData(rna, obs=cells, var=pd.DataFrame(index=list("ABCDEFGH")), obsm={"b": protein})


@pytest.fixture(scope="module")
def forms(tmp_path_factory):
    """The same cells in memory and in a file."""
    folder = tmp_path_factory.mktemp("cells")
    cells = make_cells()
    has = ~np.isnan(cells.obsm["b"]).any(axis=1)
    protein = anndata.AnnData(cells.obsm["b"][has], obs=cells.obs[has], var=pd.DataFrame(index=list("xyz")))
    with mudata.set_options(pull_on_update=False):
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
        np.testing.assert_array_equal(X.to_memory()["b"], expected["b"])


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


def test_rows_in_a_file_are_cross_validated(estimator, y, forms):
    needs(hasattr(estimator, "predict"), "predict")
    estimator.set_params(modalities=WHERE)
    fold = PredefinedSplit(np.where(np.arange(N) % 3, -1, 0))
    scores = [cross_val_score(estimator, forms[name], y, cv=fold) for name in ("AnnData", "AnnData in a file")]
    np.testing.assert_array_equal(*scores)
