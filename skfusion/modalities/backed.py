"""Values that stay in their h5ad file or zarr store: rows are chosen now and read later, some at a time."""

from collections.abc import Iterator
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from skfusion.modalities.gather import gather

_GAP = 1 << 15
"""Stored numbers that are read through, and dropped, rather than starting to read anew behind them."""
_AT_ONCE = 1 << 21
"""Stored numbers that are read in one go, where some of them are dropped."""
SCAN = 4096
"""Rows that are looked at together where all are."""

Rows = NDArray[np.intp]


class Stored:
    """A group or dataset of an HDF5 file or a zarr store, opened again where it was closed or has been pickled."""

    def __init__(self, element: Any) -> None:
        self.element = element
        self.is_hdf5 = type(element).__module__.startswith("h5py")
        self.name: str = element.name
        self.file: str = element.file.filename if self.is_hdf5 else ""

    def open(self) -> Any:
        """Return the group or dataset."""
        if self.element is None or (self.is_hdf5 and not self.element):
            import h5py

            try:
                self.element = h5py.File(self.file, "r")[self.name]
            except (OSError, KeyError) as error:
                raise ValueError(
                    f"{self.file!r}, where a modality lies at {self.name!r}, cannot be opened again ({error}). Put "
                    "the file back, or read it anew."
                ) from error
        return self.element

    def __getstate__(self) -> dict[str, Any]:
        # A handle of HDF5 belongs to its process.
        return {**vars(self), "element": None} if self.is_hdf5 else vars(self)

    def __deepcopy__(self, memo: Any) -> "Stored":
        return self


class Backed:
    """Rows of what is stored, in any order, repeated or empty; slicing reads nothing.

    Attributes
    ----------
    shape, dtype
        As of an array.
    rows : ndarray of int (n_rows,) or None
        Which stored row each is, -1 for an empty one; None for all in order.
    """

    dtype: Any
    _width: tuple[int, ...]
    """Shape of a stored row."""

    def __init__(self, stored: Stored, n_stored: int) -> None:
        self.stored = stored
        self.n_stored = n_stored
        self.rows: Rows | None = None
        self.columns: Rows | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of rows, and the shape of one."""
        width = self._width if self.columns is None else (len(self.columns), *self._width[1:])
        return (self.n_stored if self.rows is None else len(self.rows), *width)

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return 1 + len(self._width)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"{type(self).__name__} of shape {self.shape} and dtype {self.dtype}"

    def __getitem__(self, key: Any) -> Self:
        """Choose rows by a slice, positions or a mask."""
        return self._of(np.arange(len(self))[key] if self.rows is None else self.rows[key])

    def reindex(self, index: Rows) -> Self:
        """Choose rows by position; -1 is an empty row."""
        return self._of(np.where(index < 0, -1, index if self.rows is None else self.rows[index]))

    def with_columns(self, key: Any) -> Self:
        """Choose columns by a slice, positions or a mask."""
        part = self._of(self.rows)
        columns = np.arange(self._width[0]) if self.columns is None else self.columns
        if not np.array_equal(columns[key], columns):
            part.columns = columns[key]
        return part

    def with_dtype(self, dtype: Any) -> Self:
        """Choose what numbers are read as."""
        part = self._of(self.rows)
        part.dtype = np.dtype(dtype)
        return part

    def _of(self, rows: Rows | None) -> Self:
        part: Self = object.__new__(type(self))
        part.__dict__.update(self.__dict__)
        part.rows = rows
        return part

    @property
    def places(self) -> Rows:
        """Where in the file each row lies (n_rows,)."""
        return np.arange(self.n_stored) if self.rows is None else self.rows

    def scan(self) -> Iterator[Rows]:
        """Yield positions of some rows after the other, in the order of the file, until all were."""
        order = np.arange(len(self)) if self.rows is None else np.argsort(self.rows, kind="stable")
        for start in range(0, len(order), SCAN):
            yield order[start : start + SCAN]

    def read(self, rows: Any = slice(None)) -> Any:
        """Return the rows at these positions in memory, in this order."""
        wanted = self.places[rows]
        there = wanted >= 0
        whole = bool(there.all())
        increasing = whole and bool((np.diff(wanted) > 0).all())
        known, back = (wanted, None) if increasing else np.unique(wanted[there], return_inverse=True)
        values = self._columns_of(self._load(known))
        if back is None:
            return values
        # Empty rows are copies of one behind all others.
        index = np.full(len(wanted), len(known))
        index[there] = back
        return self._with_empty(values)[index] if not whole else values[index]

    def to_memory(self) -> Any:
        """Return all rows in memory."""
        return self.read()

    def _columns_of(self, values: Any) -> Any:
        return values if self.columns is None else values[:, self.columns]

    def _load(self, known: Rows) -> Any:
        """Read stored rows, increasing and each once."""
        raise NotImplementedError

    def _with_empty(self, values: Any) -> Any:
        """Append an empty row."""
        raise NotImplementedError


class BackedCSR(Backed):
    """A CSR matrix in a file (see `Backed`)."""

    def __init__(self, stored: Stored) -> None:
        group = stored.open()
        attributes = group.attrs
        n_rows, n_columns = attributes["shape"] if "shape" in attributes else attributes["h5sparse_shape"]
        super().__init__(stored, int(n_rows))
        self._width = (int(n_columns),)
        self.dtype, self._index_dtype = group["data"].dtype, group["indices"].dtype
        self.indptr = np.asarray(group["indptr"][:], dtype=np.int64)

    @property
    def n_values(self) -> Rows:
        """How many numbers are stored in each row, in all columns of the file (n_rows,)."""
        places = self.places
        return np.where(places < 0, 0, self.indptr[places + 1] - self.indptr[places])

    def toarray(self) -> NDArray[Any]:
        """Return all rows as an array in memory."""
        return self.read().toarray()  # type: ignore[no-any-return]

    def _load(self, known: Rows) -> Any:
        group = self.stored.open()
        starts, stops = self.indptr[known], self.indptr[known + 1]
        indptr = np.concatenate([[0], np.cumsum(stops - starts)])
        data, indices = np.empty(indptr[-1], self.dtype), np.empty(indptr[-1], self._index_dtype)
        # Either a run without gaps, of any length, or one with small ones that ends soon.
        gaps = starts[1:] - stops[:-1]
        ends = np.flatnonzero((gaps > _GAP) | ((gaps > 0) & (starts[1:] // _AT_ONCE > starts[:-1] // _AT_ONCE))) + 1
        for first, last in zip([0, *ends], [*ends, len(known)]):
            if first == last:
                continue
            begin, end = starts[first], stops[last - 1]
            out = slice(indptr[first], indptr[last])
            if end - begin == out.stop - out.start:
                _read_into(indices[out], group["indices"], slice(begin, end))
                _read_into(data[out], group["data"], slice(begin, end))
            else:
                offsets = self.indptr[known[first] : known[last - 1] + 2] - begin
                parts = group["indices"][begin:end], group["data"][begin:end]
                _, indices[out], data[out] = gather(known[first:last] - known[first], offsets, *parts)
        return sparse.csr_matrix((data, indices, indptr), shape=(len(known), *self._width))

    def _with_empty(self, values: Any) -> Any:
        parts = values.data, values.indices, np.append(values.indptr, values.indptr[-1])
        return sparse.csr_matrix(parts, shape=(values.shape[0] + 1, values.shape[1]))


class BackedArray(Backed):
    """An array of numbers in a file, of two dimensions or more (see `Backed`)."""

    def __init__(self, stored: Stored) -> None:
        dataset = stored.open()
        super().__init__(stored, int(dataset.shape[0]))
        self._width = tuple(map(int, dataset.shape[1:]))
        self.dtype = dataset.dtype

    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:
        return np.asarray(self.read(), dtype=dtype)

    def _load(self, known: Rows) -> Any:
        dataset = self.stored.open()
        out = np.empty((len(known), *self._width), self.dtype)
        size = max(int(np.prod(self._width)), 1)
        gaps = (np.diff(known) - 1) * size
        ends = np.flatnonzero((gaps > _GAP) | ((gaps > 0) & (np.diff(known * size // _AT_ONCE) > 0))) + 1
        for first, last in zip([0, *ends], [*ends, len(known)]):
            if first == last:
                continue
            begin, end = known[first], known[last - 1] + 1
            if end - begin == last - first:
                _read_into(out[first:last], dataset, slice(begin, end))
            else:
                out[first:last] = dataset[begin:end][known[first:last] - begin]
        return out

    def _with_empty(self, values: Any) -> Any:
        empty = np.nan if values.dtype.kind == "f" else 0
        return np.concatenate([values, np.full((1, *values.shape[1:]), empty, dtype=values.dtype)])


def is_backed(values: Any) -> bool:
    """Whether `values` lie in a file."""
    return isinstance(values, Backed)


def in_memory(values: Any) -> Any:
    """Return `values`, read where they lie in a file."""
    return values.to_memory() if is_backed(values) else values


def as_backed(name: str, values: Any) -> Backed | None:
    """Return what lies in a file as `Backed`, None for values that do not, and for text.

    Parameters
    ----------
    name : str
        The modality, for messages.
    values : object
        A dataset of h5py or zarr, a sparse dataset of anndata, or anything else.
    """
    if is_backed(values):
        return values  # type: ignore[no-any-return]
    bases = {c.__name__ for c in type(values).__mro__ if c.__module__.partition(".")[0] == "anndata"}
    if "CSCDataset" in bases:
        raise ValueError(
            f"modality {name!r} lies in its file as CSC, column by column, so that samples cannot be read one batch "
            "after the other. Write it as CSR once, as in adata.layers[key] = adata.layers[key].tocsr() before "
            "adata.write_h5ad(path), or read the whole file into memory, anndata.read_h5ad(path)."
        )
    element = values.group if "CSRDataset" in bases else values
    package = type(element).__module__.partition(".")[0]
    if package not in ("h5py", "zarr"):
        return None
    if package == "h5py" and not element:
        raise ValueError(f"modality {name!r} lies in a file that is closed; open it again, and pass what you read.")
    if "CSRDataset" in bases:
        return BackedCSR(Stored(element))
    numbers = getattr(element, "ndim", 0) >= 2 and element.dtype.kind in "fiub"
    return BackedArray(Stored(element)) if numbers else None


def _read_into(out: NDArray[Any], dataset: Any, part: slice) -> None:
    """Read a part of a dataset of h5py or zarr."""
    if hasattr(dataset, "read_direct") and len(out):
        dataset.read_direct(out, part)
    else:
        out[:] = dataset[part]
