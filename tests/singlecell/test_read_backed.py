"""SplicingFusion on layers in a file: the same as in memory; and what `read_backed` opens, and refuses."""

import sys

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from skfusion.modalities.backed import BackedCSR
from skfusion.singlecell import SplicingFusion, read_backed
from skfusion.training.stream import StreamData


@pytest.fixture(scope="module")
def cells():
    rng = np.random.default_rng(0)
    rate = rng.gamma(2.0, 0.5, size=(60, 1)) * rng.gamma(2.0, 1.0, size=(2, 1, 12))
    spliced, unspliced = (sparse.csr_matrix(rng.poisson(r).astype(np.float32)) for r in rate)
    names = pd.DataFrame({"has": np.arange(60) % 5 > 0}, index=[f"cell{i}" for i in range(60)])
    genes = pd.DataFrame(index=[f"gene{i}" for i in range(12)])
    return anndata.AnnData(obs=names, var=genes, layers={"spliced": spliced, "unspliced": unspliced})


@pytest.fixture(scope="module")
def path(cells, tmp_path_factory):
    path = tmp_path_factory.mktemp("cells") / "cells.h5ad"
    cells.write_h5ad(path)
    return path


def test_splicing_fusion_learns_the_same_from_a_file(cells, path, monkeypatch):
    monkeypatch.setattr("skfusion.modalities.backed.SCAN", 16)
    model = SplicingFusion(
        n_latent=8, n_hidden=16, max_epochs=2, n_top_genes=8, present_keys={"unspliced": "has"}, random_state=0
    ).set_params(method=None, imputer=None, device="cpu")
    expected = model.fit(cells).transform(cells)
    score = model.score(cells)
    shapes, load = [], BackedCSR._load
    monkeypatch.setattr(BackedCSR, "_load", lambda self, rows: shapes.append(len(rows)) or load(self, rows))
    streams, iterate = [], StreamData.iterate
    monkeypatch.setattr(StreamData, "iterate", lambda self, *a, **k: streams.append(1) or iterate(self, *a, **k))
    fitted = model.fit(read_backed(path))
    assert streams
    lazy = read_backed(path)
    np.testing.assert_allclose(fitted.transform(lazy), expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(fitted.transform(lazy[5:9]), expected[5:9], rtol=1e-4, atol=1e-5)
    assert fitted.score(lazy) == pytest.approx(score, rel=1e-6)


def test_counts_are_checked_as_they_are_read(cells, path, tmp_path, monkeypatch):
    monkeypatch.setattr("skfusion.modalities.backed.SCAN", 16)
    model = SplicingFusion(
        n_latent=8, n_hidden=16, max_epochs=1, n_top_genes=8, method=None, imputer=None, device="cpu", random_state=0
    ).fit(cells)
    read, load = [], BackedCSR._load
    monkeypatch.setattr(BackedCSR, "_load", lambda self, rows: read.append(len(rows)) or load(self, rows))
    lazy = read_backed(path)
    model.transform(lazy)
    # Each layer once, and beside that rows without a zero, which could be missing.
    assert 2 * len(cells) <= sum(read) < 2.5 * len(cells)
    odd = cells.copy()
    layer = odd.layers["unspliced"] = odd.layers["unspliced"].toarray()
    unfitted = next(i for i, gene in enumerate(odd.var_names) if gene not in model.genes_)
    layer[40, unfitted] = 0.5
    odd.layers["unspliced"] = sparse.csr_matrix(layer)
    odd.write_h5ad(tmp_path / "odd.h5ad")
    lazy = read_backed(tmp_path / "odd.h5ad")
    message = r"layer 'unspliced' holds fractions, such as 0.5; due are counts, as at fit"
    for X in (odd, lazy):
        for method in ("transform", "predict_expression", "score"):
            with pytest.raises(ValueError, match=message):
                getattr(model, method)(X)
    assert model.transform(lazy[:40]).shape == (40, 8)
    with pytest.warns(UserWarning, match="layer 'unspliced' holds fractions"):
        model.fit(lazy)


def test_what_is_opened_is_what_was_written(cells, path):
    lazy = read_backed(path)
    assert lazy.obs_names.equals(cells.obs_names)
    assert lazy.obs["has"].tolist() == cells.obs["has"].tolist()
    assert lazy.var_names.equals(cells.var_names)
    assert not isinstance(lazy.layers["spliced"], sparse.csr_matrix)
    np.testing.assert_array_equal(lazy.layers["spliced"].to_memory().toarray(), cells.layers["spliced"].toarray())


def test_what_is_no_anndata_is_refused(tmp_path, path):
    with pytest.raises(FileNotFoundError, match=r"there is no .*nowhere.h5ad"):
        read_backed(tmp_path / "nowhere.h5ad")
    (tmp_path / "cells.csv").write_text("a,b\n1,2\n")
    (tmp_path / "folder").mkdir()
    for name in ("cells.csv", "folder"):
        with pytest.raises(ValueError, match=rf"{name}' is neither an h5ad file nor a zarr store"):
            read_backed(tmp_path / name)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["values"] = np.zeros(3)
    with pytest.raises(ValueError, match=r"other.h5' holds no obs, so that it is no AnnData; it has \['values'\]"):
        read_backed(tmp_path / "other.h5")


def test_a_file_that_is_refused_is_closed(cells, tmp_path, monkeypatch):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["values"] = np.zeros(3)
    opened, open_file = [], h5py.File
    monkeypatch.setattr(h5py, "File", lambda *args: opened.append(open_file(*args)) or opened[-1])
    with pytest.raises(ValueError, match="holds no obs"):
        read_backed(tmp_path / "other.h5")
    assert len(opened) == 1
    assert not opened[0]


def test_a_store_without_zarr_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(ImportError, match=r"needs zarr, which is not installed; pip install 'skfusion\[zarr\]'"):
        read_backed(tmp_path)


def test_layers_of_unequal_shape_are_named(cells, tmp_path):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    with h5py.File(tmp_path / "cells.h5ad", "r+") as file:
        file["layers/unspliced"].attrs["shape"] = (60, 13)
    with pytest.raises(ValueError, match=r"layers of unequal shape: \{'unspliced': \(60, 13\)\}; due is \(60, 12\)"):
        read_backed(tmp_path / "cells.h5ad")
