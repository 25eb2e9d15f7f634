"""What a modality's values are: their kind, their canonical form, and row operations that work on every kind."""

import numbers
import reprlib
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from skfusion.modalities.backed import BackedCSR, as_backed, in_memory, is_backed

Values = Any
"""A 2-D to 5-D array, CSR, a DataFrame with category columns, or a 1-D object array of strings or token lists.

Arrays and CSR may lie in a file (`Backed`).
"""

KINDS = {
    "dense": "a 2-D array of numbers",
    "sparse": "a CSR matrix",
    "table": "a DataFrame with category columns",
    "sequence": "a 3-D array (samples, time, channels)",
    "image": "a 4-D array (samples, channels, height, width)",
    "volume": "a 5-D array (samples, channels, depth, height, width)",
    "text": "strings",
    "tokens": "token lists",
}
_BY_NDIM = {2: "dense", 3: "sequence", 4: "image", 5: "volume"}
_NUMBERS = (numbers.Real, Decimal, np.bool_)
"""Types of the cells that make an object column one of numbers."""
DATES = ("date", "datetime", "datetime64", "time", "timedelta", "timedelta64", "period")
"""What pandas infers of an object column of dates or times."""


class Canonical(NamedTuple):
    """A modality's values in canonical form, with the row ids, column names and presence that came with them."""

    values: Values
    ids: "pd.Index[Any] | None"
    columns: tuple[str, ...] | None
    present: "NDArray[np.bool_] | None" = None
    """Who has it, beyond what the values say: integers and CSR cannot mark an empty row."""


def kind_of(values: Values) -> str:
    """Name the kind of canonical `values`: a key of `KINDS`."""
    if sparse.issparse(values) or isinstance(values, BackedCSR):
        return "sparse"
    if isinstance(values, pd.DataFrame):
        return "table"
    if values.ndim == 1:
        first = next((v for v in values if not _is_null(v)), "")
        return "text" if isinstance(first, str) else "tokens"
    return _BY_NDIM[values.ndim]


def is_instance_of(obj: object, package: str, name: str) -> bool:
    """Whether `obj` is an instance of `package`'s class `name`, asked without importing the package."""
    return any(c.__name__ == name and c.__module__.partition(".")[0] == package for c in type(obj).__mro__)


def canonical(name: str, values: Any) -> Canonical:
    """Bring what a user handed in for the modality `name` into one of the forms of `KINDS`."""
    if is_instance_of(values, "anndata", "AnnData"):
        part = canonical(name, values.X)
        return Canonical(part.values, values.obs_names, tuple(map(str, values.var_names)), part.present)
    backed = as_backed(name, values)
    if backed is not None:
        return Canonical(_numeric(name, backed), None, None)
    # What AnnData holds elsewhere than in memory.
    if hasattr(values, "to_memory"):
        values = values.to_memory()
    elif type(values).__module__.startswith("h5py"):
        values = values[:]
    if isinstance(values, pd.Series):
        values = values.infer_objects()
        if not _holds_text(values) or _holds_numbers(values):
            return canonical(name, values.to_frame())
        return Canonical(_texts(name, values), values.index, None)
    if isinstance(values, pd.DataFrame):
        return _from_frame(name, values)
    if sparse.issparse(values):
        return Canonical(_numeric(name, _plain_csr(values)), None, None)
    present = None
    if isinstance(values, np.ma.MaskedArray):
        array = np.ma.filled(values.astype(np.float64), np.nan) if values.mask.any() else values.data
    elif isinstance(values, np.ndarray) or hasattr(values, "__array__"):
        array = np.asarray(values)
    elif isinstance(values, Sequence) and not isinstance(values, (str, bytes)):
        array, present = _from_sequence(name, values)
    else:
        raise TypeError(
            f"modality {name!r} is of type {type(values).__name__}; pass an array, a CSR matrix, a DataFrame, or a "
            "sequence of strings or token lists, one entry a sample."
        )
    if array.ndim == 1 and array.dtype.kind in "OUST":
        return Canonical(_texts(name, array), None, None)
    if array.ndim not in _BY_NDIM:
        raise ValueError(
            f"modality {name!r} has {array.ndim} dimension(s), shape {array.shape}; due are 2 to 5, samples first. "
            "Use values.reshape(-1, 1) for a single feature."
        )
    return Canonical(_numeric(name, array), None, None, present)


def take(values: Values, rows: Any) -> Values:
    """Rows of canonical `values`; a slice of an array is a view."""
    return values.iloc[rows] if isinstance(values, pd.DataFrame) else values[rows]


def n_rows(values: Values) -> int:
    """Return the number of samples in `values`."""
    return int(values.shape[0])


def scatter(values: Values, index: NDArray[np.intp]) -> Values:
    """Rows `index` of `values`, in their dtype; an empty row (NaN, None, 0 in integers and CSR) where it is -1."""
    absent = index < 0
    if not absent.any():
        return take(values, index)
    if is_backed(values):
        return values.reindex(index)
    if sparse.issparse(values):
        empty = type(values)((1, values.shape[1]), dtype=values.dtype)
        return sparse.vstack([values, empty], format="csr", dtype=values.dtype)[
            np.where(absent, values.shape[0], index)
        ]
    if isinstance(values, pd.DataFrame):
        values = values.copy(deep=False)
        for position, dtype in enumerate(values.dtypes):
            if dtype.kind == "b" and isinstance(dtype, np.dtype):  # which has no NaN
                values.isetitem(position, values.iloc[:, position].astype(np.float64))
        return values.reset_index(drop=True).reindex(np.where(absent, len(values), index)).reset_index(drop=True)
    out = np.full((len(index), *values.shape[1:]), empty_value(values.dtype), dtype=values.dtype)
    out[~absent] = values[index[~absent]]
    return out


def is_blank(values: Values) -> bool:
    """Whether no sample has a text, so that nothing tells strings from token lists."""
    return not any(v is not None for v in values)


def empty_value(dtype: Any) -> Any:
    """Return what fills a missing slot of an array: NaN or None where the dtype has one, else 0."""
    return {"f": np.nan, "O": None}.get(np.dtype(dtype).kind, 0)


def stack(parts: Sequence[Values]) -> Values:
    """Canonical values of one kind, one below the other, in memory."""
    parts = [in_memory(part) for part in parts]
    if sparse.issparse(parts[0]):
        return sparse.vstack(parts, format="csr")
    if isinstance(parts[0], pd.DataFrame):
        return _stack_frames(parts)
    return np.concatenate(parts)


def _stack_frames(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Rows of tables of equal columns; categories are united, so that those that are integers stay categories."""
    labels = frames[0].columns
    if all(frame.columns.equals(labels) and frame.dtypes.equals(frames[0].dtypes) for frame in frames):
        return pd.concat(frames, ignore_index=True)
    columns = [_stack_columns([frame.iloc[:, i] for frame in frames]) for i in range(len(labels))]
    return pd.concat(columns, axis=1).set_axis(labels, axis=1)


def _stack_columns(columns: "list[pd.Series[Any]]") -> "pd.Series[Any]":
    columns = [column for column in columns if len(column)] or columns
    dtypes: list[Any] = [column.dtype for column in columns]
    if all(isinstance(dtype, pd.CategoricalDtype) for dtype in dtypes):
        found = {dtype.categories.dtype for dtype in dtypes}
        if len(found) > 1 and all(dtype.kind in "iuf" for dtype in found):
            every = np.concatenate([dtype.categories.astype(object) for dtype in dtypes])
            union = pd.Index(pd.unique(every).tolist())  # floats where some are integers and some floats
            columns = [column.cat.set_categories(union) for column in columns]
        return pd.Series(pd.api.types.union_categoricals(columns, ignore_order=True))
    if not all(pd.api.types.is_numeric_dtype(dtype) for dtype in dtypes) and len(set(dtypes)) > 1:
        columns = [column.astype(object) for column in columns]
    return pd.concat(columns, ignore_index=True)


def _from_frame(name: str, frame: pd.DataFrame) -> Canonical:
    """Numbers become an array, sparse columns CSR; with categories or strings among them it stays a DataFrame."""
    columns = tuple(map(str, frame.columns))
    frame = settle(name, frame if type(frame) is pd.DataFrame else pd.DataFrame(frame))
    dtypes: set[Any] = set(frame.dtypes)
    for column, dtype in zip(columns, frame.dtypes):
        if not (pd.api.types.is_numeric_dtype(dtype) or _is_category(dtype)):
            raise ValueError(
                f"modality {name!r} holds dtype {dtype} in the column {column!r}; due are numbers or categories. Make "
                "numbers of it first, e.g. (dates - dates.min()).dt.days for dates."
            )
    if any(_is_category(dtype) for dtype in dtypes):
        return Canonical(frame, frame.index, columns)
    if dtypes and all(isinstance(dtype, pd.SparseDtype) and dtype.fill_value == 0 for dtype in dtypes):
        accessor: Any = frame.sparse
        return Canonical(_numeric(name, _plain_csr(accessor.to_coo())), frame.index, columns)
    if len(dtypes) < 2 and not any(pd.api.types.is_extension_array_dtype(dtype) for dtype in dtypes):
        return Canonical(_numeric(name, frame.to_numpy()), frame.index, columns)
    common = np.result_type(*(getattr(t, "numpy_dtype", getattr(t, "subtype", t)) for t in dtypes))
    if not frame.isna().to_numpy().any():
        return Canonical(_numeric(name, frame.to_numpy(dtype=common)), frame.index, columns)
    common = common if common.kind in "fc" else np.dtype(np.float64)
    return Canonical(_numeric(name, frame.to_numpy(dtype=common, na_value=np.nan)), frame.index, columns)


def settle(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Object columns of numbers, booleans, or nothing but None, to numbers; the frame that came is left alone.

    Raises where the cells of a column, or its categories, are neither all numbers nor all strings.
    """
    if any(pd.api.types.is_object_dtype(dtype) for dtype in frame.dtypes):
        frame = frame.infer_objects()
    for position, dtype in enumerate(frame.dtypes):
        if pd.api.types.is_object_dtype(dtype):
            column: Any = frame.iloc[:, position]
            if not _are_strings(column):
                check_cells(name, str(frame.columns[position]), column)
                frame.isetitem(position, column.where(column.notna(), None).to_numpy().astype(np.float64))
        elif isinstance(dtype, pd.CategoricalDtype) and pd.api.types.is_object_dtype(dtype.categories.dtype):
            check_cells(name, str(frame.columns[position]), dtype.categories, declared=True)
    return frame


def _are_strings(column: Any) -> bool:
    return pd.api.types.infer_dtype(column, skipna=True) in ("string", "bytes")


def _first_cells(column: Any) -> dict[type, Any]:
    """Return the first cell of each type in a column or index, missing ones aside."""
    cells: dict[type, Any] = {}
    for cell in column[column.notna()]:
        cells.setdefault(type(cell), cell)
    return cells


def _are_numbers(cells: dict[type, Any]) -> bool:
    return all(issubclass(kind, _NUMBERS) for kind in cells)


def check_cells(name: str, label: str, column: Any, declared: bool = False, where: str = "") -> None:
    """Raise on cells that are no numbers; declared categories may be anything of one type that can be sorted.

    The message says `where` they lie.
    """
    cells = _first_cells(column)
    scalar = all(map(pd.api.types.is_scalar, cells.values()))
    if _are_numbers(cells) or (declared and (_are_strings(column) or (scalar and len(cells) == 1))):
        return
    types = ", ".join(f"{kind.__name__} ({reprlib.repr(cell)})" for kind, cell in cells.items())
    if pd.api.types.infer_dtype(column, skipna=True) in DATES:
        due = (
            "due are numbers or categories. Make numbers of it first, e.g. (dates - dates.min()).dt.days with "
            "dates = pandas.to_datetime(column)."
        )
    elif scalar and len(cells) > 1:
        due = (
            "due are numbers alone or strings alone. Use pandas.to_numeric(column, errors='coerce') where they are "
            "numbers, and column.astype('string') where they are categories."
        )
    else:
        due = (
            "due is one number or string a cell. Make columns of what a cell holds, a category of it by "
            "column.map(str, na_action='ignore'), or, of token lists, a modality of its own, column.tolist()."
        )
    raise ValueError(f"modality {name!r} holds cells of type {types} in the column {label!r}{where}; {due}")


def _is_category(dtype: Any) -> bool:
    return isinstance(dtype, pd.CategoricalDtype) or pd.api.types.is_string_dtype(dtype)


def _from_sequence(name: str, values: Sequence[Any]) -> "tuple[NDArray[Any], NDArray[np.bool_] | None]":
    """Strings and token lists to a 1-D object array, rows of numbers to an array; a row that is None is missing."""
    there = np.fromiter((not _is_null(v) for v in values), dtype=bool, count=len(values))
    rows = [v for v, is_there in zip(values, there) if is_there]
    if not rows or isinstance(rows[0], str) or _are_token_lists(rows):
        return np.fromiter(values, dtype=object, count=len(values)), None
    try:
        array = np.asarray(rows)
    except ValueError as error:
        shapes = sorted({np.shape(row) for row in rows if isinstance(row, np.ndarray)})
        raise ValueError(
            f"modality {name!r} holds samples of unequal shapes {shapes[:5]}; due is one shape. Pad sequences with NaN "
            "to one array (samples, time, channels), and bring images to one size."
        ) from error
    if there.all() or array.ndim == 1:
        return array, None
    return scatter(array, np.where(there, np.cumsum(there) - 1, -1)), there


def _are_token_lists(rows: Sequence[Any]) -> bool:
    if not all(isinstance(row, (list, tuple)) or (isinstance(row, np.ndarray) and row.ndim == 1) for row in rows):
        return False
    first = next((row[0] for row in rows if len(row)), "")
    return isinstance(first, str) or len({len(row) for row in rows}) > 1


def _texts(name: str, values: Any) -> NDArray[np.object_]:
    """Strings or token lists to a 1-D object array, None where there is none; an empty string or list is a value."""
    out = np.fromiter((None if _is_null(v) else v for v in values), dtype=object, count=len(values))
    odd = next((v for v in out if not _is_text(v)), None)
    if odd is not None:
        raise ValueError(
            f"modality {name!r} is one-dimensional and holds {odd!r} of type {type(odd).__name__}; a 1-D modality "
            "holds strings, or token lists of strings or integers. Use values.reshape(-1, 1) for a single numeric "
            "feature, and pad sequences of unequal length with NaN to one array (samples, time, channels)."
        )
    if len({isinstance(v, str) for v in out if v is not None}) > 1:
        raise ValueError(f"modality {name!r} holds strings and token lists; due is one of the two for all samples.")
    return out


def _is_text(value: Any) -> bool:
    if value is None or isinstance(value, str):
        return True
    return isinstance(value, (list, tuple, np.ndarray)) and (
        len(value) == 0 or isinstance(value[0], (str, int, np.integer))
    )


def _plain_csr(values: Any) -> Any:
    """CSR of scipy's own class, no data copied: AnnData's views are subclasses that refer back to it."""
    plain = sparse.csr_array if isinstance(values, sparse.sparray) else sparse.csr_matrix
    values = values.tocsr()
    return values if type(values) is plain else plain(values)


def _numeric(name: str, values: Values) -> Values:
    """Check that an array or CSR holds real numbers; object arrays of numbers become float."""
    kind = values.dtype.kind
    if kind in "fiub":
        return values
    if kind == "c":
        raise ValueError(f"Complex data not supported: modality {name!r} is of dtype {values.dtype}.")
    if kind in "mM":
        raise ValueError(
            f"modality {name!r} holds dates or times (dtype {values.dtype}) where numbers are due. Make numbers of "
            "them first, e.g. (dates - dates.min()) / np.timedelta64(1, 'D')."
        )
    try:
        if kind != "O":
            raise TypeError(f"strings are not converted, such as {str(values.flat[0])!r}")
        return values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"modality {name!r} holds text or objects (dtype {values.dtype}) where numbers are due: {error}. Pass a "
            "DataFrame with category columns for categories, or a 1-D sequence of strings for text."
        ) from error


def _holds_text(series: "pd.Series[Any]") -> bool:
    return not isinstance(series.dtype, pd.CategoricalDtype) and _is_category(series.dtype)


def _holds_numbers(series: "pd.Series[Any]") -> bool:
    """Whether a series of objects holds a number, and but for missing values nothing else."""
    if not pd.api.types.is_object_dtype(series.dtype) or _are_strings(series):
        return False
    cells = _first_cells(series)
    return bool(cells) and _are_numbers(cells)


def _is_null(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, (float, np.floating)) and bool(np.isnan(value)))
