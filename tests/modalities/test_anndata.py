import pickle
import sys

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
from _tiny import Checked, says
from scipy import sparse

from skfusion import Modalities
from skfusion.modalities.backed import BackedArray, BackedCSR

nan = np.nan
CELLS = [f"cell{i}" for i in range(6)]


def counts(seed, kind=sparse.csr_matrix, n=6):
    return kind(np.random.default_rng(seed).poisson(1.0, size=(n, 4)).astype(np.float32))


@pytest.fixture
def adata():
    rng = np.random.default_rng(0)
    return anndata.AnnData(
        X=counts(0),
        obs=pd.DataFrame({"batch": pd.Categorical(list("ababab")), "age": np.arange(6.0)}, index=CELLS),
        var=pd.DataFrame(index=list("wxyz")),
        layers={"spliced": counts(1), "unspliced": counts(2, sparse.csr_array), "scaled": rng.normal(size=(6, 4))},
        obsm={
            "protein": rng.normal(size=(6, 2)).astype(np.float32),
            "clinic": pd.DataFrame({"crp": np.arange(6.0)}, index=CELLS),
            "ecg": rng.normal(size=(6, 5, 2)),
        },
    )


def backed(adata, path, mode="r"):
    adata.write_h5ad(path / "cells.h5ad")
    return anndata.read_h5ad(path / "cells.h5ad", backed=mode)


@pytest.fixture(params=["memory", "view", "view of a view", "backed", "backed dense", "backed view", "reloaded"])
def form(request, adata, tmp_path):
    """The same six cells, held in every way that AnnData has."""
    if request.param == "backed dense":
        adata.X = adata.X.toarray()
    if request.param.startswith("backed") or request.param == "reloaded":
        read = backed(adata, tmp_path, None if request.param == "reloaded" else "r")
        yield read[np.arange(6)] if "view" in request.param else read
        if request.param != "reloaded":
            read.file.close()
    else:
        order = np.arange(6)
        views = {"memory": adata, "view": adata[order], "view of a view": adata[order][order]}
        yield views[request.param]


WHERE = {"rna": "X", "spliced": "layers/spliced", "protein": "obsm/protein", "scaled": "layers/scaled"}


def test_anndata_is_read_in_every_form(form, adata):
    X = Modalities.from_anndata(form, WHERE)
    assert X.names == list(WHERE)
    assert X.sample_ids.tolist() == CELLS
    assert X.present.all()
    rna = X["rna"].toarray() if X.kind("rna") == "sparse" else X["rna"]
    np.testing.assert_array_equal(rna, counts(0).toarray())
    np.testing.assert_array_equal(X["spliced"].toarray(), adata.layers["spliced"].toarray())
    np.testing.assert_array_equal(X["protein"], adata.obsm["protein"])
    np.testing.assert_array_equal(X["scaled"], adata.layers["scaled"])
    assert [X[name].dtype for name in X.names] == ["float32", "float32", "float32", "float64"]
    assert X.columns("rna") == X.columns("spliced") == list("wxyz")


def test_what_is_read_is_plain(form):
    """AnnData's views are subclasses of arrays that refer back to it, and its files do not pickle."""
    X = Modalities.from_anndata(form, WHERE)
    assert (type(X["rna"]) in (BackedCSR, BackedArray)) == form.isbacked
    X = X.to_memory()
    for name in X.names:
        assert type(X[name]) in (np.ndarray, sparse.csr_matrix, sparse.csr_array)
    assert X.kind("spliced") == "sparse"
    again = pickle.loads(pickle.dumps(X[[4, 1]]))
    assert again.sample_ids.tolist() == ["cell4", "cell1"]
    np.testing.assert_array_equal(again["protein"], X["protein"][[4, 1]])


def test_rows_of_a_backed_file_are_the_rows_asked_for(adata, tmp_path):
    file = backed(adata, tmp_path)
    X = Modalities.from_anndata(file[[4, 1, 2]], WHERE)
    assert X.sample_ids.tolist() == ["cell4", "cell1", "cell2"]
    np.testing.assert_array_equal(X["rna"].toarray(), counts(0).toarray()[[4, 1, 2]])
    np.testing.assert_array_equal(X["spliced"].toarray(), counts(1).toarray()[[4, 1, 2]])
    file.file.close()


def test_reading_from_memory_copies_nothing(adata):
    X = Modalities.from_anndata(adata, WHERE)
    assert X["spliced"] is adata.layers["spliced"]
    assert np.shares_memory(X["protein"], adata.obsm["protein"])


def test_each_layer_of_a_view_is_sliced_once(adata, monkeypatch):
    asked = []
    original = anndata.AnnData.X.fget
    monkeypatch.setattr(anndata.AnnData, "X", property(lambda self: asked.append(self.is_view) or original(self)))
    for where, times in (({"rna": "X"}, 1), (None, 0), (["spliced"], 0)):
        view = adata[:3]
        asked.clear()
        Modalities.from_anndata(view, where)
        assert sum(asked) == times


def test_none_takes_spliced_and_unspliced_where_both_exist_else_x(adata):
    X = Modalities.from_anndata(adata)
    assert X.names == ["spliced", "unspliced"]
    assert type(X["spliced"]) is sparse.csr_matrix
    assert type(X["unspliced"]) is sparse.csr_array
    del adata.layers["unspliced"]
    assert Modalities.from_anndata(adata).names == ["X"]


def test_a_list_names_layers(adata):
    X = Modalities.from_anndata(adata, ["scaled", "spliced", "X"])
    assert X.names == ["scaled", "spliced", "X"]
    np.testing.assert_array_equal(X["X"].toarray(), adata.X.toarray())


def test_obsm_and_obs_give_every_kind(adata):
    where = {"ecg": "obsm/ecg", "clinic": "obsm/clinic", "batch": "obs/batch", "age": "obs/age"}
    X = Modalities.from_anndata(adata[[5, 0]], where)
    assert [X.kind(name) for name in X.names] == ["sequence", "dense", "table", "dense"]
    assert X.columns("clinic") == ["crp"]
    assert X["clinic"].ravel().tolist() == X["age"].ravel().tolist() == [5, 0]
    assert X["batch"]["batch"].tolist() == ["b", "a"]


def test_a_cell_whose_protein_is_all_nan_lacks_it(adata):
    adata.obsm["protein"][2] = nan
    X = Modalities.from_anndata(adata, {"rna": "X", "protein": "obsm/protein"})
    assert X.present[:, 1].tolist() == [True, True, False, True, True, True]
    assert X.present[:, 0].all(), "a cell without a count has all its zeros"


def test_repeated_cells_are_allowed(adata):
    X = Modalities.from_anndata(adata[[0, 0, 3]], WHERE)
    assert X.sample_ids.tolist() == ["cell0", "cell0", "cell3"]


def test_what_an_anndata_lacks_raises(adata):
    for path in ("layers/ambiguous", "obsm/atac", "obs/sex"):
        with says(
            ValueError, f"'rna' asks for '{path}'", "lacks", "layers ['spliced'", "obsm ['protein'", "modalities={"
        ):
            Modalities.from_anndata(adata, {"rna": path})
    with says(ValueError, "'ambiguous' asks for 'layers/ambiguous'"):
        Modalities.from_anndata(adata, ["spliced", "ambiguous"])
    empty = anndata.AnnData(obs=adata.obs, layers={"spliced": counts(1)})
    for where in (None, {"rna": "X"}):
        with says(ValueError, "asks for 'X'", "It has layers ['spliced']", "say where"):
            Modalities.from_anndata(empty, where)


def test_what_is_no_place_raises(adata):
    for path in ("raw", "layers", "layers/", "varm/pcs", "x"):
        with says(ValueError, f"'{path}' is no place in an AnnData", "'layers/<key>'"):
            Modalities.from_anndata(adata, {"rna": path})
    with says(ValueError, "for an AnnData, modalities maps names to 'X'", "{'rna': [0, 1]}"):
        Modalities.from_anndata(adata, {"rna": [0, 1], "protein": "obsm/protein"})
    for where in ("spliced", 3):
        with says(TypeError, f"modalities is {where!r}", "a dict or a list of layer names"):
            Modalities.from_anndata(adata, where)


# as X of an estimator


@pytest.mark.parametrize(
    ("asked", "names"), [(None, ["spliced", "unspliced"]), (WHERE, list(WHERE)), (["scaled", "X"], ["scaled", "X"])]
)
def test_an_estimator_reads_every_form(form, asked, names):
    estimator = Checked(modalities=asked).fit(form)
    assert estimator.X_.names == names
    assert estimator.read(form).names == names
    assert estimator.X_.sample_ids.tolist() == CELLS


def test_an_anndata_without_the_layers_is_one_modality_called_x(adata):
    adata.layers.clear()
    estimator = Checked().fit(adata)
    assert estimator.X_.names == ["X"]
    assert estimator.n_features_in_ == 4
    assert estimator.read(adata[[1]])["X"].shape == (1, 4)


def test_a_layer_absent_at_predict_is_missing_for_all(adata):
    for asked in (None, {"spliced": "layers/spliced", "unspliced": "layers/unspliced"}, ["spliced", "unspliced"]):
        estimator = Checked(modalities=asked).fit(adata)
        less = adata.copy()
        del less.layers["unspliced"]
        X = estimator.read(less)
        assert X.names == ["spliced", "unspliced"]
        assert X.present.tolist() == [[True, False]] * 6
        del less.layers["spliced"]
        with says(ValueError, "no known modality", "it has ['X', 'scaled'", "fitted were ['spliced', 'unspliced']"):
            estimator.read(less)


def test_a_layer_lacking_in_training_raises(adata):
    del adata.layers["unspliced"]
    with says(ValueError, "'unspliced' asks for 'layers/unspliced'"):
        Checked(modalities=["spliced", "unspliced"]).fit(adata)


def test_anndata_and_dict_stand_for_each_other(adata):
    estimator = Checked().fit({"spliced": counts(1), "unspliced": counts(2)})
    np.testing.assert_array_equal(estimator.read(adata)["spliced"].toarray(), counts(1).toarray())
    estimator = Checked(modalities=WHERE).fit(adata)
    assert estimator.read({"rna": counts(0), "protein": np.ones((6, 2))}).present[0].tolist() == [
        True, False, True, False,
    ]  # fmt: skip


def test_genes_in_another_order_raise(adata):
    with says(ValueError, "'spliced' has other columns than at fit", "'z' where 'w' is due"):
        Checked().fit(adata).read(adata[:, list("zyxw")])


def test_a_target_in_another_order_of_cells_raises(adata):
    y = pd.Series(range(6), index=CELLS[::-1])
    with says(ValueError, "y has the same ids as X in another order"):
        Checked().fit(adata, y)
    Checked().fit(adata, y.loc[adata.obs_names])


# MuData


@pytest.fixture
def mdata():
    """Rna of cells 0 to 3, protein of cells 2, 5 and 4, in that order."""
    rna = anndata.AnnData(X=counts(0, n=4), obs=pd.DataFrame(index=CELLS[:4]), var=pd.DataFrame(index=list("wxyz")))
    rna.layers["spliced"] = counts(1, n=4)
    protein = anndata.AnnData(
        X=np.array([[2, 2], [5, 5], [4, 4]], dtype=np.int32),
        obs=pd.DataFrame(index=["cell2", "cell5", "cell4"]),
        var=pd.DataFrame(index=["cd3", "cd4"]),
    )
    # What mudata 0.4 does by itself.
    with mudata.set_options(pull_on_update=False):
        yield mudata.MuData({"rna": rna, "protein": protein})


def due(X):
    """Who must have what, and the protein of those."""
    number = np.array([int(cell[-1]) for cell in X.sample_ids])
    has_protein = np.isin(number, [2, 4, 5])
    return np.column_stack([number < 4, has_protein]), number[has_protein, None] * np.ones(2)


@pytest.mark.parametrize("rows", [slice(None), [0, 1, 5], [4, 2], [5], [1]])
def test_mudata_gives_the_union_of_its_samples(mdata, rows):
    part = mdata[rows]
    X = Modalities.from_mudata(part)
    assert X.names == ["rna", "protein"]
    assert X.sample_ids.tolist() == list(part.obs_names)
    present, protein = due(X)
    np.testing.assert_array_equal(X.present, present)
    np.testing.assert_array_equal(X["protein"][present[:, 1]], protein)
    assert X["protein"].dtype == np.int32
    rna = pd.DataFrame(counts(0, n=4).toarray(), index=CELLS[:4]).reindex(X.sample_ids)
    np.testing.assert_array_equal(X["rna"].toarray(), rna.fillna(0))
    assert type(X["rna"]) is sparse.csr_matrix
    assert X.columns("protein") == ["cd3", "cd4"]


def test_mudata_says_which_modalities_and_where(mdata):
    assert Modalities.from_mudata(mdata, ["protein"]).shape == (6, 1)
    X = Modalities.from_mudata(mdata, {"rna": "layers/spliced", "protein": "X"})
    np.testing.assert_array_equal(X["rna"].toarray()[:4], counts(1, n=4).toarray())
    with says(ValueError, "'atac' is not in this MuData, which has ['rna', 'protein']"):
        Modalities.from_mudata(mdata, ["rna", "atac"])
    with says(ValueError, "'rna' asks for 'layers/counts'"):
        Modalities.from_mudata(mdata, {"rna": "layers/counts"})


def test_mudata_joined_with_what_its_rows_say(mdata):
    mdata.mod["protein"].X = np.array([[nan, nan], [5, nan], [4, 4]])
    X = Modalities.from_mudata(mdata)
    assert X.present[:, 1].tolist() == [cell in ("cell5", "cell4") for cell in X.sample_ids]


@pytest.mark.parametrize("asked", [None, ["protein", "rna"], {"rna": "layers/spliced", "protein": "X"}])
def test_an_estimator_reads_mudata(mdata, asked):
    estimator = Checked(modalities=asked).fit(mdata)
    names = ["rna", "protein"] if asked is None else list(asked)
    assert estimator.X_.names == names
    rna = estimator.read(mdata[[0, 4]]).select(["rna", "protein"])["rna"].toarray()
    np.testing.assert_array_equal(rna[0], counts(1 if isinstance(asked, dict) else 0, n=4).toarray()[0])
    alone = mudata.MuData({"protein": mdata.mod["protein"]})
    assert estimator.read(alone).select(["rna", "protein"]).present.tolist() == [[False, True]] * 3
    other = mudata.MuData({"atac": mdata.mod["protein"]})
    with says(ValueError, "no known modality", "it has ['atac']"):
        estimator.read(other)


def test_a_dict_of_anndata_is_read_by_x(adata, tmp_path):
    X = Modalities({"rna": adata, "protein": adata.obsm["protein"]})
    assert X["rna"] is adata.X
    assert X.columns("rna") == list("wxyz")
    assert X.sample_ids.tolist() == CELLS
    file = backed(adata, tmp_path)
    np.testing.assert_array_equal(Modalities({"rna": file})["rna"].toarray(), adata.X.toarray())
    file.file.close()


def test_anndata_is_recognised_without_being_imported():
    from skfusion.modalities import anndata as reader

    assert not {"anndata", "mudata"} & set(vars(reader))
    assert sys.modules["anndata"] is anndata
