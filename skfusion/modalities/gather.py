"""Rows of CSR in any order, copied or made dense by scipy's kernels, without the checks of a matrix in between."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Private, but as old as scipy's CSR, whose own slicing calls these.
from scipy.sparse import _sparsetools

_DENSE = "?bBhHiIlLqQfd"
"""What the kernels add up."""


def gather(rows: Any, indptr: Any, indices: Any, data: Any) -> tuple[Any, Any, Any]:
    """Return (indptr, indices, data) of some rows (n,) of CSR."""
    kind = indices.dtype
    rows = rows.astype(kind, copy=False)
    starts = indptr[rows]
    bounds = np.zeros(len(rows) + 1, dtype=kind)
    np.cumsum(indptr[rows + 1] - starts, out=bounds[1:])
    found = np.empty(bounds[-1], kind), np.empty(bounds[-1], data.dtype)
    # Numbers are moved and not looked at, so that any of their size will do.
    raw = f"u{data.dtype.itemsize}"
    _sparsetools.csr_row_index(
        len(rows), rows, indptr.astype(kind, copy=False), indices, data.view(raw), found[0], found[1].view(raw)
    )
    return bounds, *found


def plain(csr: Any) -> Any:
    """Return CSR whose indices are of one dtype and whose numbers `dense` can read; the same one where they are."""
    if csr.data.dtype.char not in _DENSE or not csr.data.dtype.isnative:
        csr = csr.astype(np.float32)
    if csr.indices.dtype != csr.indptr.dtype:
        csr = type(csr)((csr.data, csr.indices, csr.indptr), shape=csr.shape)
    return csr


def dense(csr: Any, rows: Any, out: NDArray[np.float32]) -> None:
    """Add some rows of `plain` CSR, a slice or positions (n,), to `out` (n, n_features); duplicates add up."""
    if isinstance(rows, slice):
        indptr = csr.indptr[rows.start : rows.stop + 1]
        part = slice(indptr[0], indptr[-1])
        indptr, indices, data = indptr - indptr[0], csr.indices[part], csr.data[part]
    else:
        indptr, indices, data = gather(rows, csr.indptr, csr.indices, csr.data)
    _sparsetools.csr_todense(len(out), out.shape[1], indptr, indices, data.astype(np.float32, copy=False), out)
