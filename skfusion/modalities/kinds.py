"""What a modality's values are: their kind, their canonical form, and row operations that work on every kind."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

Values = Any
"""A 2-D to 5-D array, a CSR matrix, a DataFrame with category columns, or a 1-D object array of strings or token lists."""

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


class Canonical(NamedTuple):
    """A modality's values in canonical form, with the row ids and column names that came with them."""

    values: Values
    ids: "pd.Index[Any] | None"
    columns: tuple[str, ...] | None


def kind_of(values: Values) -> str:
    """Name the kind of canonical `values`: a key of `KINDS`."""
    if sparse.issparse(values):
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
        return Canonical(canonical(name, values.X).values, values.obs_names, tuple(map(str, values.var_names)))
    if isinstance(values, pd.Series):
        if not _holds_text(values):
            return canonical(name, values.to_frame())
        return Canonical(_object_array(values), values.index, None)
    if isinstance(values, pd.DataFrame):
        return _from_frame(values)
    if sparse.issparse(values):
        return Canonical(_numeric(name, values.tocsr()), None, None)
    if isinstance(values, np.ndarray) or hasattr(values, "__array__"):
        array = np.asarray(values)
    elif isinstance(values, Sequence) and not isinstance(values, str):
        array = _from_sequence(values)
    else:
        raise TypeError(
            f"modality {name!r} is of type {type(values).__name__}; pass an array, a CSR matrix, a DataFrame, or a "
            "sequence of strings or token lists, one entry a sample."
        )
    if array.ndim == 1 and array.dtype.kind in "OUST":
        return Canonical(_check_texts(name, _object_array(array)), None, None)
    if array.ndim not in _BY_NDIM:
        raise ValueError(
            f"modality {name!r} has {array.ndim} dimension(s), shape {array.shape}; due are 2 to 5, samples first. "
            "Use values.reshape(-1, 1) for a single feature."
        )
    return Canonical(_numeric(name, array), None, None)


def take(values: Values, rows: Any) -> Values:
    """Rows of canonical `values`; a slice of an array is a view."""
    return values.iloc[rows] if isinstance(values, pd.DataFrame) else values[rows]


def n_rows(values: Values) -> int:
    """Return the number of samples in `values`."""
    return int(values.shape[0])


def scatter(values: Values, index: NDArray[np.intp]) -> Values:
    """Rows `index` of `values`, an empty row (NaN, None, nothing stored) where `index` is -1."""
    absent = index < 0
    if not absent.any():
        return take(values, index)
    if sparse.issparse(values):
        there = np.flatnonzero(~absent)
        ones = np.ones(len(there), dtype=values.dtype)
        pick = sparse.csr_matrix((ones, (there, index[there])), shape=(len(index), values.shape[0]))
        return pick @ values
    if isinstance(values, pd.DataFrame):
        return values.reset_index(drop=True).reindex(np.where(absent, len(values), index)).reset_index(drop=True)
    if values.dtype == object:
        out = np.full(len(index), None, dtype=object)
    else:
        dtype = values.dtype if values.dtype.kind == "f" else np.float64
        out = np.full((len(index), *values.shape[1:]), np.nan, dtype=dtype)
    out[~absent] = values[index[~absent]]
    return out


def stack(parts: Sequence[Values]) -> Values:
    """Canonical values of one kind, one below the other."""
    if sparse.issparse(parts[0]):
        return sparse.vstack(parts, format="csr")
    if isinstance(parts[0], pd.DataFrame):
        return pd.concat(parts, ignore_index=True)
    return np.concatenate(parts)


def _from_frame(frame: pd.DataFrame) -> Canonical:
    columns = tuple(map(str, frame.columns))
    if len(columns) and all(isinstance(t, pd.SparseDtype) for t in frame.dtypes):
        return Canonical(frame.sparse.to_coo().tocsr(), frame.index, columns)
    if not all(pd.api.types.is_numeric_dtype(t) for t in frame.dtypes):
        return Canonical(frame, frame.index, columns)
    if any(pd.api.types.is_extension_array_dtype(t) for t in frame.dtypes):
        return Canonical(frame.to_numpy(dtype=np.float64, na_value=np.nan), frame.index, columns)
    return Canonical(frame.to_numpy(), frame.index, columns)


def _from_sequence(values: Sequence[Any]) -> NDArray[Any]:
    first = next((v for v in values if v is not None), None)
    ragged = isinstance(first, (list, tuple)) and (
        any(v is None for v in values)
        or any(isinstance(v, str) for v in first)
        or len({len(v) for v in values if hasattr(v, "__len__")}) > 1
    )
    if first is None or isinstance(first, str) or ragged:
        return _object_array(values)
    return np.asarray(values)


def _object_array(values: Any) -> NDArray[np.object_]:
    out = np.empty(len(values), dtype=object)
    out[:] = [None if _is_null(v) else v for v in values]
    return out


def _check_texts(name: str, values: NDArray[np.object_]) -> NDArray[np.object_]:
    odd = next((v for v in values if v is not None and not isinstance(v, (str, list, tuple, np.ndarray))), None)
    if odd is not None:
        raise ValueError(
            f"modality {name!r} is one-dimensional and holds {odd!r} of type {type(odd).__name__}; a 1-D modality "
            "holds strings or token lists. Use values.reshape(-1, 1) for a single numeric feature."
        )
    return values


def _numeric(name: str, values: Values) -> Values:
    """Check that an array or CSR holds real numbers; object arrays of numbers become float."""
    kind = values.dtype.kind
    if kind in "fiub":
        return values
    if kind == "c":
        raise ValueError(f"Complex data not supported: modality {name!r} is of dtype {values.dtype}.")
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"modality {name!r} holds text or objects (dtype {values.dtype}) where numbers are due: {error}. Pass a "
            "DataFrame with category columns for categories, or a 1-D sequence of strings for text."
        ) from error


def _holds_text(series: "pd.Series[Any]") -> bool:
    return not isinstance(series.dtype, pd.CategoricalDtype) and (
        series.dtype == object or pd.api.types.is_string_dtype(series.dtype)
    )


def _is_null(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value))
