"""Values in a file: chosen lazily, read as numpy and scipy would choose them, and what cannot be read says so."""

import pickle

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from _tiny import Checked, says
from anndata.io import sparse_dataset
from scipy import sparse

from skfusion import Modalities
from skfusion.modalities import backed as module
from skfusion.modalities.backed import BackedArray, BackedCSR, as_backed
from skfusion.modalities.presence import rows_present

N, GENES = 40, 6


def counts(seed=0, dtype="float32"):
    return sparse.csr_matrix(np.random.default_rng(seed).poisson(0.6, size=(N, GENES)).astype(dtype))


@pytest.fixture
def file(tmp_path):
    adata = anndata.AnnData(
        layers={"csr": counts(), "array": np.random.default_rng(1).normal(size=(N, GENES)), "csc": counts().tocsc()},
        obs=pd.DataFrame(index=[f"c{i}" for i in range(N)]),
    )
    adata.write_h5ad(tmp_path / "cells.h5ad")
    with h5py.File(tmp_path / "cells.h5ad") as file:
        yield file


@pytest.fixture(params=["csr", "array"])
def pair(request, file):
    """What lies in the file, and the same as an array."""
    element = file[f"layers/{request.param}"]
    if request.param == "csr":
        return as_backed("a", sparse_dataset(element)), counts().toarray()
    return as_backed("a", element), element[:]


def dense(values):
    return values.toarray() if sparse.issparse(values) else values


ROWS = {
    "all": slice(None),
    "every third": slice(1, 30, 3),
    "backwards": slice(None, None, -1),
    "any order": np.random.default_rng(0).permutation(N)[:17],
    "repeated": [3, 3, 39, 0],
    "from the end": [-1, -40],
    "mask": np.arange(N) % 3 == 0,
    "none": [],
}


@pytest.mark.parametrize("gap", [0, 8, 1 << 15])
@pytest.mark.parametrize("at_once", [16, 1 << 21])
@pytest.mark.parametrize("rows", ROWS)
def test_rows_are_those_of_an_array(pair, rows, gap, at_once, monkeypatch):
    monkeypatch.setattr(module, "_GAP", gap)
    monkeypatch.setattr(module, "_AT_ONCE", at_once)
    backed, array = pair
    key = np.asarray(ROWS[rows], dtype=int) if rows == "none" else ROWS[rows]
    part = backed[key]
    assert isinstance(part, type(backed))
    assert (part.shape, part.dtype, part.ndim, len(part)) == (array[key].shape, array.dtype, 2, len(array[key]))
    np.testing.assert_array_equal(dense(part.to_memory()), array[key], strict=True)
    np.testing.assert_array_equal(dense(backed.read(key)), array[key], strict=True)
    twice = part[::-1].with_columns([4, 0])
    np.testing.assert_array_equal(dense(twice.to_memory()), array[key][::-1][:, [4, 0]], strict=True)


def test_choosing_reads_nothing_but_where_rows_begin(file, monkeypatch):
    backed = as_backed("a", sparse_dataset(file["layers/csr"]))
    X = Modalities({"a": backed})
    monkeypatch.setattr(BackedCSR, "_load", None)
    part = X[[3, 1]].select(["a"])[[0]]["a"]
    assert part.shape == (1, GENES)
    assert "in a file" in repr(Modalities({"a": part}))


def test_an_empty_row_is_zeros_or_nan(pair):
    backed, array = pair
    part = backed.reindex(np.array([2, -1, 0]))
    empty = np.zeros(GENES) if isinstance(backed, BackedCSR) else np.full(GENES, np.nan)
    np.testing.assert_array_equal(dense(part.to_memory()), np.stack([array[2], empty, array[0]]))
    np.testing.assert_array_equal(dense(part[[1, 1]].to_memory()), np.stack([empty, empty]))


def test_a_pickle_opens_the_file_itself_and_a_file_that_was_closed_is_opened_again(pair, file):
    backed, array = pair
    again = pickle.loads(pickle.dumps(backed[[5, 2]]))
    np.testing.assert_array_equal(dense(again.to_memory()), array[[5, 2]])
    file.close()
    np.testing.assert_array_equal(dense(backed.read([1])), array[[1]])


def test_a_file_that_is_gone_says_so(tmp_path):
    anndata.AnnData(counts()).write_h5ad(tmp_path / "cells.h5ad")
    with h5py.File(tmp_path / "cells.h5ad") as file:
        backed = as_backed("a", sparse_dataset(file["X"]))
    (tmp_path / "cells.h5ad").unlink()
    with says(ValueError, "cells.h5ad', where a modality lies at '/X', cannot be opened again", "Put the file back"):
        backed.read([0])


def test_what_cannot_be_read_by_rows_says_what_to_do(file):
    with says(ValueError, "'rna' lies in its file as CSC", "Write it as CSR once", "tocsr()"):
        Modalities({"rna": sparse_dataset(file["layers/csc"])})
    closed = sparse_dataset(file["layers/csr"])
    file.close()
    with says(ValueError, "'rna' lies in a file that is closed", "open it again"):
        Modalities({"rna": closed})


def stored(tmp_path, values):
    anndata.AnnData(values).write_h5ad(tmp_path / "cells.h5ad")
    element = h5py.File(tmp_path / "cells.h5ad")["X"]
    return sparse_dataset(element) if sparse.issparse(values) else element


def test_a_row_of_nan_is_missing_in_a_file_too(tmp_path):
    values = counts().toarray()
    values[[2, 7]] = np.nan
    values[3, 1] = np.nan
    for kind in (np.asarray, sparse.csr_matrix):
        backed = as_backed("a", stored(tmp_path, kind(values)))
        assert np.flatnonzero(~rows_present(backed)).tolist() == [2, 7]
        assert np.flatnonzero(~rows_present(backed[[7, 0, 2]])).tolist() == [0, 2]
        assert np.flatnonzero(~rows_present(backed.with_columns([1]))).tolist() == [2, 3, 7]
        backed.stored.element.file.close()


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
def test_inf_in_a_file_raises_and_nan_is_counted_in_chunks(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(module, "SCAN", 16)
    values = counts().toarray()
    values[30, 2], values[4, 4] = np.nan, np.nan

    class Streaming(Checked):
        _reads_in_chunks = True

    backed = as_backed("a", stored(tmp_path, kind(values)))
    with pytest.warns(UserWarning, match=r"single values are missing .*\{'a': 2\}"):
        X = Streaming().fit({"a": backed}).X_
    assert isinstance(X["a"], BackedCSR | BackedArray)
    with pytest.warns(UserWarning, match="single values"):
        X = Checked().fit({"a": backed}).X_
    assert not isinstance(X["a"], BackedCSR | BackedArray), "others get it in memory"
    backed.stored.element.file.close()
    values[35, 0] = np.inf
    backed = as_backed("a", stored(tmp_path, kind(values)))
    with says(ValueError, "modality 'a' holds inf in a row that is present"):
        Streaming().fit({"a": backed})
    backed.stored.element.file.close()


def test_ids_in_another_order_are_joined_in_the_file(file):
    first = anndata.AnnData(counts(3), obs=pd.DataFrame(index=[f"c{i}" for i in range(N)]))
    lazily = anndata.AnnData(sparse_dataset(file["layers/csr"]), obs=first.obs.iloc[::-1])
    X = Modalities({"a": first, "b": lazily})
    assert isinstance(X["b"], BackedCSR)
    np.testing.assert_array_equal(X["b"].toarray(), counts().toarray()[::-1])
    twice = first.obs.index.to_list()
    twice[1] = twice[0]
    lazily.obs_names = twice
    with says(ValueError, "must be joined by id, but 'b' holds the same id twice"):
        Modalities({"a": first, "b": lazily})


def test_data_sets_are_stacked_in_memory(file):
    backed = as_backed("a", sparse_dataset(file["layers/csr"]))
    X = Modalities.concat([{"a": backed}, {"a": counts(1)}])
    np.testing.assert_array_equal(X["a"].toarray(), np.vstack([counts().toarray(), counts(1).toarray()]))
