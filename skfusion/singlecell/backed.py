"""AnnData and MuData whose matrices stay in their file."""

from pathlib import Path
from typing import Any

from skfusion._compat import optional

_ANNOTATIONS = ("obs", "var", "obsm", "varm", "uns")


def read_backed(path: Any) -> Any:
    """Open an h5ad or h5mu file or a zarr store; X and layers stay there, and everything else is read.

    ``anndata.read_h5ad(path, backed="r")`` leaves X alone in the file. Joint estimators and `MultimodalPretrainer` read
    what is opened here some cells at a time, in `fit` and after it, so that memory does not grow with the number of
    cells; all other estimators read it into memory, once, when they are given it. Rows of it, such as
    ``adata[adata.obs["batch"] == "b1"]``, stay in the file as well.

    Parameters
    ----------
    path : str or Path
        An h5ad or h5mu file, or a zarr store of either. Sparse matrices are due as CSR.

    Returns
    -------
    AnnData or MuData
        Without obsp, varp and raw. Its file stays open as long as it is in use.

    Raises
    ------
    ValueError
        Where the file is neither HDF5 nor zarr, holds no AnnData, or has layers of unequal shape.
    FileNotFoundError
        Where there is none.
    ImportError
        Where a zarr store, or a MuData, needs a package that is not installed; the message names the extra.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skfusion import Modalities
    >>> from skfusion.datasets import load_dentate_gyrus
    >>> from skfusion.singlecell import read_backed
    >>> path = Path(tempfile.mkdtemp()) / "cells.h5ad"
    >>> load_dentate_gyrus().data.write_h5ad(path)
    >>> X = Modalities.from_anndata(read_backed(path)[:100])
    >>> X["spliced"]
    BackedCSR of shape (100, 278) and dtype float32
    >>> X["spliced"].read([3, 1]).shape
    (2, 278)
    """
    root = _open(Path(path))
    try:
        return _read(root, path)
    except BaseException:
        # A zarr store has nothing to close.
        if hasattr(root, "close"):
            root.close()
        raise


def _read(root: Any, path: Any) -> Any:
    """Return what a file or store holds."""
    if "mod" not in root:
        return _anndata(root, path)
    from anndata.io import read_elem

    mudata = optional("mudata")
    order = list(root["mod"].attrs.get("mod-order", root["mod"]))
    with mudata.set_options(pull_on_update=False):
        found = mudata.MuData({name: _anndata(root[f"mod/{name}"], f"{path}, {name}") for name in order})
    obs = read_elem(root["obs"])
    if found.obs_names.equals(obs.index):
        found.obs = obs
    return found


def _open(path: Path) -> Any:
    """Return the root of a file or store."""
    if not path.exists():
        raise FileNotFoundError(f"there is no {str(path)!r}.")
    if path.is_dir():
        zarr = optional("zarr")
        try:
            return zarr.open_group(str(path), mode="r")
        except (FileNotFoundError, ValueError) as error:
            raise _neither(path) from error
    import h5py

    if not h5py.is_hdf5(path):
        raise _neither(path)
    return h5py.File(path, "r")


def _neither(path: Path) -> ValueError:
    return ValueError(
        f"{str(path)!r} is neither an h5ad file nor a zarr store; due is what adata.write_h5ad(path) or "
        "adata.write_zarr(path) writes."
    )


def _anndata(root: Any, path: Any) -> Any:
    from anndata import AnnData
    from anndata.io import read_elem

    lacking = [key for key in ("obs", "var") if key not in root]
    if lacking:
        raise ValueError(f"{str(path)!r} holds no {lacking[0]}, so that it is no AnnData; it has {list(root)}.")
    parts = {key: read_elem(root[key]) for key in _ANNOTATIONS if key in root}
    X = _matrix(root["X"]) if "X" in root else None
    matrices = {} if X is None else {"X": X}  # an h5mu file may say that there is none
    layers = {key: _matrix(root[f"layers/{key}"]) for key in root["layers"]} if "layers" in root else {}
    due = (len(parts["obs"]), len(parts["var"]))
    odd = {key: tuple(values.shape) for key, values in (matrices | layers).items() if tuple(values.shape) != due}
    if odd:
        raise ValueError(
            f"{str(path)!r} has layers of unequal shape: {odd}; due is {due}, (cells, genes). Keep a matrix of other "
            "columns in obsm, or as another modality of a MuData."
        )
    return AnnData(**matrices, layers=layers, **parts)


def _matrix(element: Any) -> Any:
    """Return a dataset, or sparse values, in the file; in memory where they are neither."""
    from anndata.io import read_elem, sparse_dataset

    if getattr(element, "shape", None) is not None:
        return element
    if str(element.attrs.get("encoding-type", element.attrs.get("h5sparse_format", ""))).startswith(("csr", "csc")):
        return sparse_dataset(element)
    return read_elem(element)
