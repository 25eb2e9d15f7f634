"""Who has what: which samples lack a modality, and which numbers are missing inside a row that is there."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from skfusion.modalities import align
from skfusion.modalities.backed import SCAN, BackedCSR, is_backed
from skfusion.modalities.kinds import Values

BoolArray = NDArray[np.bool_]


def rows_present(values: Values) -> BoolArray:
    """Which rows of canonical `values` (n_samples, ...) are there: not all-NaN and not None; zero is a value."""
    if is_backed(values):
        return _backed_rows_present(values)
    if sparse.issparse(values):
        return _sparse_rows_present(values)
    if isinstance(values, pd.DataFrame):
        return np.asarray(values.notna().any(axis=1), dtype=bool) if values.shape[1] else np.ones(len(values), bool)
    if values.dtype == object:
        return np.fromiter((v is not None for v in values), dtype=bool, count=len(values))
    present = np.ones(len(values), dtype=bool)
    if values.dtype.kind != "f" or values.size == 0:
        return present
    # Only rows whose first number is NaN can be all-NaN: the common case reads one column.
    suspects = np.flatnonzero(np.isnan(values[(slice(None), *([0] * (values.ndim - 1)))]))
    if len(suspects):
        present[suspects] = ~np.isnan(values[suspects]).reshape(len(suspects), -1).all(axis=1)
    return present


def _sparse_rows_present(values: Any) -> BoolArray:
    present = np.ones(values.shape[0], dtype=bool)
    if values.dtype.kind != "f" or values.shape[1] == 0:
        return present
    full = np.flatnonzero(np.diff(values.indptr) == values.shape[1])
    for row in full[np.isnan(values.data[values.indptr[full]])]:
        present[row] = not np.isnan(values.data[values.indptr[row] : values.indptr[row + 1]]).all()
    return present


def _backed_rows_present(values: Any) -> BoolArray:
    """Look at some rows after the other; of CSR only at those that could be full."""
    present = np.ones(len(values), dtype=bool)
    if values.dtype.kind != "f" or 0 in values.shape:
        return present
    parts = values.scan()
    if isinstance(values, BackedCSR):
        suspects = np.flatnonzero(values.n_values >= values.shape[1])
        parts = iter(np.split(suspects, range(SCAN, len(suspects), SCAN)) if len(suspects) else [])
    for rows in parts:
        present[rows] = rows_present(values.read(rows))
    return present


def check_present(present: Any, names: list[str], n_samples: int, ids: Any = None) -> BoolArray:
    """Bring a user's `present` (an array, or a mapping or DataFrame by name) to bool (n_samples, n_modalities)."""
    align.check_same_order("present", ids, present)
    if isinstance(present, (Mapping, pd.DataFrame)):
        unknown = [name for name in present if name not in names]
        if unknown:
            raise ValueError(f"present names {unknown}, which are no modalities; there are {names}.")
        for column in present:
            align.check_same_order(f"present[{column!r}]", ids, present[column])
        columns = [np.asarray(present[name] if name in present else np.ones(n_samples, bool)) for name in names]
        shapes = {column.shape for column in columns}
        if shapes != {(n_samples,)}:
            raise ValueError(f"present holds columns of shapes {sorted(shapes)}; due is ({n_samples},), one a sample.")
        present = np.stack(columns, axis=1)
    present = np.asarray(present)
    if present.shape != (n_samples, len(names)):
        raise ValueError(
            f"present has shape {present.shape}; due is (n_samples, n_modalities) = ({n_samples}, {len(names)}), "
            f"columns in the order {names}."
        )
    if present.dtype != bool and not np.isin(present, (0, 1)).all():
        raise ValueError(f"present is of dtype {present.dtype} and holds other values than 0 and 1; due is bool.")
    return present.astype(bool)


def check_finite(name: str, values: Values, present: BoolArray, columns: Sequence[str] | None = None) -> int:
    """Raise on inf in a present row of numeric `values`; return how many NaN lie inside present rows."""
    if isinstance(values, pd.DataFrame):
        numbers = values.loc[:, [pd.api.types.is_numeric_dtype(dtype) for dtype in values.dtypes]]
        dense = numbers.to_numpy(dtype=np.float64, na_value=np.nan) if numbers.shape[1] else np.zeros((len(values), 0))
        return check_finite(name, dense, present, [str(label) for label in numbers.columns])
    if values.dtype.kind != "f" or not present.any():
        return 0
    if is_backed(values):
        return sum(check_finite(name, values.read(rows), present[rows], columns) for rows in values.scan())
    data = values.data if sparse.issparse(values) else values
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(np.sum(data, dtype=np.float64)):
            return 0
    if sparse.issparse(values):
        data = data[np.repeat(present, np.diff(values.indptr))]
    elif not present.all():
        data = data[present]
    infinite = np.isinf(data)
    if infinite.any():
        where = ""
        if columns is not None and data.ndim == 2:
            where = f", in the column {columns[int(np.argmax(infinite.any(axis=0)))]!r}"
        raise ValueError(
            f"modality {name!r} holds inf in a row that is present{where}; due are finite numbers, or NaN where a "
            "value is missing. Replace inf, or mark the row as missing with Modalities(..., present=...)."
        )
    nan = np.isnan(data)
    if nan.ndim == 3:
        # A time step that is NaN in every channel is padding, not missing values.
        nan = nan[~nan.all(axis=2)]
    return int(nan.sum())
