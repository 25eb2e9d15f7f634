"""Batches of single cells from memory and from disk, and the memory of a whole fit on data in a file.

Two CSR layers of float32 counts over 2,000 genes, a tenth of them not zero; batches of 256, shuffled, as dense float32.

"memory": an epoch over 50,000 cells of `skfusion.training.batches.TensorData`, of anndata's AnnLoader, of scvi-tools'
AnnDataLoader (where it is installed; skfusion does not need it), and of slices of CSR written by hand; cells a second
(median of interleaved rounds), and the median over rounds of its seconds over those of skfusion. Due is 1.0 or more for
the faster of the two loaders. Memory is the peak while an epoch runs, less what was resident before with the data read,
in a process of its own; due is less than 30 MiB.

"disk": the same from h5ad and zarr as anndata writes them, by `skfusion.training.stream.StreamData`: chunks of 2,048
neighbouring cells, four of which are shuffled together. Due are 100,000 cells a second, and a peak of less than 150 MiB
above what was resident after imports. Files are warm: they have just been written. Beside it random rows of anndata's
sparse dataset, over a few batches.

"fit": peak of resident memory of a process that imports, opens the file and fits, on 50,000 and on 200,000 cells; due
is less than 10 % between the two. Networks are tiny, and run one epoch.

Seconds are of the wall, so let nothing else run; with ``--cpu`` they are of the process, all threads together.

    python benchmarks/singlecell.py --tables memory disk fit
"""

import argparse
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from _timing import interleave, machine, median_ratio
from scipy import sparse

N_GENES, DENSITY, BATCH = 2000, 0.1, 256
LAYERS = ("spliced", "unspliced")
BLOCK = 10_000


def make_block(seed, n_cells):
    """Return CSR counts (n_cells, N_GENES)."""
    rng = np.random.default_rng(seed)
    rows, columns = np.nonzero(rng.random((n_cells, N_GENES), dtype=np.float32) < DENSITY)
    counts = rng.integers(1, 9, size=len(rows)).astype(np.float32)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n_cells))])
    return sparse.csr_matrix((counts, columns.astype(np.int32), indptr.astype(np.int32)), shape=(n_cells, N_GENES))


def write(folder, n_cells, suffix):
    """Write both layers, a block after the other, and return the path."""
    import pandas as pd
    from anndata import AnnData
    from anndata.io import sparse_dataset, write_elem

    path = Path(folder) / f"{n_cells}.{suffix}"
    first = min(BLOCK, n_cells)
    index = pd.Index([f"cell{i}" for i in range(n_cells)])
    adata = AnnData(obs=pd.DataFrame(index=index[:first]), var=pd.DataFrame(index=[f"g{i}" for i in range(N_GENES)]))
    for number, layer in enumerate(LAYERS):
        adata.layers[layer] = make_block(number, first)
    getattr(adata, f"write_{suffix}")(path)
    with to_write(path) as root:
        for start in range(first, n_cells, BLOCK):
            for number, layer in enumerate(LAYERS):
                block = make_block(start + number, min(BLOCK, n_cells - start))
                sparse_dataset(root[f"layers/{layer}"]).append(block)
        write_elem(root, "obs", pd.DataFrame(index=index))
    return path


@contextmanager
def to_write(path):
    """Open a file or store to append to."""
    if path.suffix == ".zarr":
        import zarr

        yield zarr.open_group(str(path), mode="r+", use_consolidated=False)
        zarr.consolidate_metadata(str(path))
    else:
        import h5py

        with h5py.File(path, "r+") as root:
            yield root


def status(key):
    """Return resident memory (VmRSS), or its peak (VmHWM), of this process in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) / 1024
    raise KeyError(key)


def forget_peak():
    Path("/proc/self/clear_refs").write_text("5")


def in_a_process(run, *arguments):
    """Return ``run(*arguments)`` from a fresh process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(run, *arguments).result()


# What gives batches: each function takes an AnnData and returns a function that runs an epoch


def consume(batches):
    total = 0
    for values in batches:
        total += len(values[0])
    return total


def ours(adata):
    from skfusion.training.batches import TensorData

    values = {layer: adata.layers[layer] for layer in LAYERS}
    data = TensorData(values, np.ones((adata.n_obs, 2), dtype=bool), torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    return lambda: consume(
        [m.values for m in s.batch.modalities.values()] for s in data.iterate(BATCH, True, generator)
    )


def streamed(adata):
    from skfusion import Modalities
    from skfusion.training.stream import StreamData

    X = Modalities.from_anndata(adata, list(LAYERS))
    data = StreamData({name: X[name] for name in X.names}, X.present, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    return lambda: consume(
        [m.values for m in s.batch.modalities.values()] for s in data.iterate(BATCH, True, generator)
    )


def by_hand(adata):
    layers = [adata.layers[layer] for layer in LAYERS]
    rng = np.random.default_rng(0)

    def run():
        order = rng.permutation(adata.n_obs)
        parts = (order[i : i + BATCH] for i in range(0, len(order), BATCH))
        return consume([torch.from_numpy(layer[rows].toarray()) for layer in layers] for rows in parts)

    return run


def ann_loader(adata):
    from anndata.experimental import AnnLoader

    loader = AnnLoader(adata, batch_size=BATCH, shuffle=True)
    return lambda: consume([batch.layers[layer] for layer in LAYERS] for batch in loader)


def scvi_loader(adata):
    from scvi.data import AnnDataManager
    from scvi.data.fields import LayerField
    from scvi.dataloaders import AnnDataLoader

    fields = [LayerField(layer, layer, is_count_data=True) for layer in LAYERS]
    manager = AnnDataManager(fields=fields)
    manager.register_fields(adata)
    loader = AnnDataLoader(manager, batch_size=BATCH, shuffle=True)
    return lambda: consume([batch[layer] for layer in LAYERS] for batch in loader)


LOADERS = {"skfusion": ours, "AnnLoader": ann_loader, "scvi-tools": scvi_loader, "CSR by hand": by_hand}


def installed():
    """Return the loaders whose packages are there."""
    import importlib.util

    if importlib.util.find_spec("scvi") is None:
        print("scvi-tools: not installed, left out")
        return {name: loader for name, loader in LOADERS.items() if name != "scvi-tools"}
    return LOADERS


def peak_of_epoch(loader, path, is_read):
    """Return the MiB that an epoch takes at most, above data in memory, or above imports."""
    import anndata

    from skfusion.singlecell import read_backed

    torch.set_num_threads(1)
    small = anndata.AnnData(layers={layer: make_block(0, 2 * BATCH) for layer in LAYERS})
    if is_read:
        ours(small)()  # what is imported and set up at first use
        run = loader(anndata.read_h5ad(path))
    else:
        with tempfile.TemporaryDirectory() as folder:
            streamed(read_backed(write(folder, 2 * BATCH, path.suffix[1:])))()
    before = status("VmRSS")
    forget_peak()
    (run if is_read else loader(read_backed(path)))()
    return status("VmHWM") - before


def time_memory(folder, n_cells, rounds, clock):
    import anndata

    path = write(folder, n_cells, "h5ad")
    adata = anndata.read_h5ad(path)
    loaders = installed()
    seconds = interleave({name: loader(adata) for name, loader in loaders.items()}, rounds, clock)
    print(f"\n{n_cells} cells in memory, {rounds} rounds\n")
    print("| loader       | cells/s | skfusion is so many times as fast | peak above data, MiB |")
    print("| ------------ | ------- | --------------------------------- | -------------------- |")
    for name, loader in loaders.items():
        ratio = median_ratio(seconds[name], seconds["skfusion"])
        peak = in_a_process(peak_of_epoch, loader, path, True)
        print(f"| {name:<12} | {n_cells / np.median(seconds[name]):>7.0f} | {ratio:>33.2f} | {peak:>20.0f} |")


def random_rows(path, n_batches=20):
    """Return cells a second of random rows of anndata's sparse dataset."""
    import h5py
    from anndata.io import sparse_dataset

    with h5py.File(path) as file:
        layers = [sparse_dataset(file[f"layers/{layer}"]) for layer in LAYERS]
        rng = np.random.default_rng(0)
        n_cells = layers[0].shape[0]
        start = time.perf_counter()
        for _ in range(n_batches):
            rows = np.sort(rng.choice(n_cells, BATCH, replace=False))
            for layer in layers:
                torch.from_numpy(layer[rows].toarray())
    return n_batches * BATCH / (time.perf_counter() - start)


def time_disk(folder, n_cells, rounds, clock):
    from skfusion.singlecell import read_backed

    paths = {suffix: write(folder, n_cells, suffix) for suffix in ("h5ad", "zarr")}
    seconds = interleave({suffix: streamed(read_backed(path)) for suffix, path in paths.items()}, rounds, clock)
    print(f"\n{n_cells} cells on disk, {rounds} rounds\n")
    print("| format                    | cells/s | peak above imports, MiB |")
    print("| ------------------------- | ------- | ----------------------- |")
    for suffix, path in paths.items():
        peak = in_a_process(peak_of_epoch, streamed, path, False)
        print(f"| {suffix:<25} | {n_cells / np.median(seconds[suffix]):>7.0f} | {peak:>23.0f} |")
    print(f"| {'h5ad, random rows':<25} | {random_rows(paths['h5ad']):>7.0f} | {'':>23} |")


def pretrainer():
    from skfusion import MultimodalPretrainer

    return MultimodalPretrainer(n_hidden=16, n_latent=8, max_epochs=1, batch_size=BATCH, random_state=0, device="cpu")


def on_counts():
    return pretrainer().set_params(encoders="expression")


def splicing():
    from skfusion.singlecell import SplicingFusion

    options = {"method": "steady_state", "imputer": None, "max_epochs": 1, "batch_size": BATCH, "random_state": 0}
    return SplicingFusion(n_hidden=16, n_latent=8, **options)


ESTIMATORS = {
    "MultimodalPretrainer": pretrainer,
    "MultimodalPretrainer, expression": on_counts,
    "SplicingFusion, steady_state": splicing,
}


def peak_of_fit(make, path):
    """Return the peak of this process in MiB, and the seconds of the fit."""
    import warnings

    from skfusion.singlecell import read_backed

    torch.set_num_threads(1)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make().fit(read_backed(path))
    return status("VmHWM"), time.perf_counter() - start


def measure_fit(folder, sizes, suffix, wanted):
    paths = {n_cells: write(folder, n_cells, suffix) for n_cells in sizes}
    print(f"\npeak of a whole fit on {suffix}, MiB\n")
    print(f"| {'estimator':<32} | {' | '.join(f'{n:>7} cells' for n in sizes)} | ratio |   seconds |")
    print(f"| {'-' * 32} | {' | '.join('-' * 13 for _ in sizes)} | ----- | --------- |")
    for name in wanted:
        found = [in_a_process(peak_of_fit, ESTIMATORS[name], path) for path in paths.values()]
        peaks = " | ".join(f"{peak:>13.0f}" for peak, _ in found)
        took = ", ".join(f"{seconds:.0f}" for _, seconds in found)
        print(f"| {name:<32} | {peaks} | {found[-1][0] / found[0][0]:>5.3f} | {took:>9} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", choices=["memory", "disk", "fit"], default=["memory", "disk", "fit"])
    parser.add_argument("--cells", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cpu", action="store_true", help="seconds of the process instead of the wall")
    parser.add_argument("--fits", nargs="+", choices=ESTIMATORS, default=list(ESTIMATORS)[:1])
    parser.add_argument("--suffix", choices=["h5ad", "zarr"], default="h5ad", help="what fits read")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(__doc__.rpartition("\n\n    ")[0] + "\n")
    print(machine() + (", seconds of the process" if arguments.cpu else ""))
    clock = time.process_time if arguments.cpu else time.perf_counter
    with tempfile.TemporaryDirectory() as folder:
        if "memory" in arguments.tables:
            time_memory(folder, arguments.cells, arguments.rounds, clock)
        if "disk" in arguments.tables:
            time_disk(folder, arguments.cells, arguments.rounds, clock)
        if "fit" in arguments.tables:
            sizes = (arguments.cells, 4 * arguments.cells)
            measure_fit(folder, sizes, arguments.suffix, arguments.fits)


if __name__ == "__main__":
    main()
