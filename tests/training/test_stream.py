"""Data that stays in a file: what is read, in which order, and that the reading thread ends."""

import gc
import threading
import time
import warnings
from itertools import chain, pairwise

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from skfusion import Modalities
from skfusion.singlecell import read_backed
from skfusion.training.batches import TensorData
from skfusion.training.stream import StreamData, read_ahead

CPU = torch.device("cpu")
N, GENES = 100, 12


@pytest.fixture(scope="module")
def adata():
    rng = np.random.default_rng(0)
    counts = [sparse.csr_matrix(rng.poisson(0.5, size=(N, GENES)).astype(t)) for t in ("float32", "int32")]
    cells = pd.DataFrame(index=[f"cell{i}" for i in range(N)])
    return anndata.AnnData(
        obs=cells,
        layers=dict(zip(("spliced", "unspliced"), counts)),
        obsm={"protein": rng.normal(size=(N, 3)).astype(np.float32)},
    )


WHERE = {"spliced": "layers/spliced", "unspliced": "layers/unspliced", "protein": "obsm/protein"}


@pytest.fixture(scope="module", params=["h5ad", "zarr"])
def path(request, adata, tmp_path_factory):
    path = tmp_path_factory.mktemp("cells") / f"cells.{request.param}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the version of zarr's format
        getattr(adata, f"write_{request.param}")(path)
    return path


def stream(path, rows=slice(None), device=CPU, **options):
    X = Modalities.from_anndata(read_backed(path), WHERE)[rows]
    target = np.arange(N)[rows]
    return StreamData({n: X[n] for n in X.names}, X.present, device, target, target / 2.0, **options)


def in_memory(adata, rows=slice(None)):
    X = Modalities.from_anndata(adata, WHERE)[rows]
    target = np.arange(N)[rows]
    return TensorData({n: X[n] for n in X.names}, X.present, CPU, target, target / 2.0)


def assert_same_batches(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other):
        assert torch.equal(a.index, b.index)
        assert torch.equal(a.target, b.target)
        assert torch.equal(a.weight, b.weight)
        assert torch.equal(a.batch.present, b.batch.present)
        for name, modality in a.batch.modalities.items():
            assert torch.equal(modality.values, b.batch.modalities[name].values), name
            assert torch.equal(modality.mask, b.batch.modalities[name].mask), name


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("rows", [slice(None), np.random.default_rng(0).permutation(N)[:70], [5, 5, 3]])
def test_in_order_it_is_what_it_is_in_memory(path, adata, rows):
    found = list(stream(path, rows, chunk=8, n_chunks=2).iterate(5))
    assert_same_batches(found, list(in_memory(adata, rows).iterate(5)))


def test_where_all_fits_the_shuffled_order_is_that_in_memory(path, adata):
    found = list(stream(path).iterate(16, True, seeded()))
    assert_same_batches(found, list(in_memory(adata).iterate(16, True, seeded())))


@pytest.mark.parametrize("batch_size", [1, 4, 7, 33, 99, 200])
@pytest.mark.parametrize("rows", [None, np.random.default_rng(1).permutation(N)[:61]])
def test_every_sample_comes_once_an_epoch_with_its_own_values(path, adata, rows, batch_size):
    data, whole = stream(path, chunk=8, n_chunks=3), in_memory(adata)
    data = data if rows is None else data.subset(rows)
    batches = list(data.iterate(batch_size, True, seeded()))
    index = torch.cat([b.index for b in batches])
    assert sorted(index.tolist()) == sorted(range(N) if rows is None else rows)
    assert_same_batches(batches, [whole.take(b.index, b.index) for b in batches])
    assert all(len(b.index) == batch_size for b in batches[:-1] if len(b.index) != batch_size + 1)
    assert len(batches) == 1 or batch_size == 1 or len(batches[-1].index) > 1


def test_the_order_is_that_of_the_generator_and_mixes_chunks(path):
    data = stream(path, chunk=8, n_chunks=4)
    one, again, other = (torch.cat([b.index for b in data.iterate(4, True, seeded(s))]).numpy() for s in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
    # A block of 32 holds cells of some chunks, far apart.
    first = np.sort(one[:32])
    assert 1 <= np.sum(np.diff(first) > 1) <= 5
    assert not np.array_equal(one[:32], first)
    assert not np.array_equal(np.sort(one[:32]), np.sort(other[:32]))


def test_a_chunk_is_read_at_once_whatever_order_the_samples_are_in(path, monkeypatch):
    rows = np.random.default_rng(0).permutation(N)
    data = stream(path, rows, chunk=20, n_chunks=1)
    read = []
    spliced = data.values["spliced"]
    monkeypatch.setattr(spliced, "read", lambda r: read.append(spliced.places[r]) or type(spliced).read(spliced, r))
    list(data.iterate(20, True, seeded()))
    assert sum(map(len, read)) == N
    assert all((np.diff(places) > 0).all() for places in read)
    assert all(np.sum(np.diff(places) > 1) <= 2 for places in read), "parts of two chunks, or three"


def test_log_totals_come_with_counts(path, adata):
    X = Modalities.from_anndata(read_backed(path), WHERE)
    data = StreamData({n: X[n] for n in X.names}, X.present, CPU, counts=["spliced"])
    (samples,) = data.iterate(N)
    totals = np.asarray(adata.layers["spliced"].sum(axis=1)).ravel()
    np.testing.assert_allclose(samples.batch.modalities["spliced"].offset, np.log(np.maximum(totals, 1)), rtol=1e-6)
    assert samples.batch.modalities["protein"].offset is None


# The thread


def readers():
    return [t for t in threading.enumerate() if t.name.startswith("skfusion-read")]


def test_items_come_in_order_and_one_is_read_ahead():
    read = []
    found = read_ahead(lambda i: read.append(i) or i, range(5))
    assert next(found) == 0
    for _ in range(200):
        if len(read) == 2:
            break
        time.sleep(0.01)
    assert read == [0, 1], "no more than the next one"
    assert list(found) == [1, 2, 3, 4]
    assert not readers()


@pytest.mark.parametrize("end", ["close", "collected", "exhausted"])
def test_the_thread_ends_with_the_iteration(path, end):
    batches = stream(path, chunk=8, n_chunks=1).iterate(4)
    next(batches)
    assert readers()
    if end == "close":
        batches.close()
    elif end == "collected":
        del batches
        gc.collect()
    else:
        list(batches)
    assert not readers()


def test_an_error_of_the_reader_is_that_of_the_iteration():
    def read(item):
        if item == 2:
            raise OSError("the disk is gone")
        return item

    found = read_ahead(read, range(9))
    assert [next(found), next(found)] == [0, 1]
    with pytest.raises(OSError, match="the disk is gone"):
        next(found)
    assert not readers()


def test_no_sample_gives_no_batch(path):
    assert list(stream(path).subset([]).iterate(4, True, seeded())) == []
    assert not readers()


def test_blocks_hold_whole_batches(path):
    sizes = [[len(b.index) for b in stream(path, chunk=10, n_chunks=1).iterate(n)] for n in (3, 10, 64)]
    assert sizes == [[3] * 33 + [1], [10] * 10, [64, 36]]
    assert all(a >= b for batches in sizes for a, b in pairwise(batches))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_batches_are_on_the_device(path, adata):
    batches = list(stream(path, device=torch.device("cuda"), chunk=8, n_chunks=2).iterate(5, True, seeded()))
    tensors = chain.from_iterable([b.index, b.target, b.batch.modalities["spliced"].values] for b in batches)
    assert all(t.device.type == "cuda" for t in tensors)
    whole = in_memory(adata)
    for b in batches:
        rows = b.index.cpu()
        expected = whole.take(rows, rows).batch.modalities
        for name, modality in b.batch.modalities.items():
            torch.testing.assert_close(modality.values.cpu(), expected[name].values)
