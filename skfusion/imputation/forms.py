"""The forms that samples are handed out in: filled as they came, or as one array."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from skfusion.imputation.tables import NUMERIC, flat
from skfusion.modalities import Modalities
from skfusion.preprocessing import MeanFill, present_rows, side_by_side


def is_one_table(X: Any) -> bool:
    """Whether the samples came as a single array, CSR matrix or DataFrame."""
    several = isinstance(X, (Modalities, Mapping)) or hasattr(X, "obs_names")
    return sparse.issparse(X) or not several  # a dok_matrix is a dict as well


def like_table(X: Any, filled: Modalities, selection: Any) -> Any:
    """Bring what was filled to the form of the table `X`; `selection` says which column is whose, None that all are."""
    if isinstance(X, pd.DataFrame):
        return _like_frame(X, filled, selection)
    if selection is None:
        return filled[filled.names[0]]
    table: Any = sparse.lil_array(X) if sparse.issparse(X) else np.array(X)
    if table.dtype.kind != "f":
        table = table.astype(np.float64)
    for name, columns in selection.positions.items():
        table[:, columns] = filled[name]
    return table.tocsr() if sparse.issparse(table) else table


def _like_frame(X: pd.DataFrame, filled: Modalities, selection: Any) -> pd.DataFrame:
    if selection is not None:
        parts = {name: part.columns for name, part in selection.split(X).items()}
    elif isinstance(X.columns, pd.MultiIndex):
        level = X.columns.get_level_values(0).astype(str)
        parts = {name: X.columns[level == name] for name in level.unique()}
    else:
        parts = {filled.names[0]: X.columns}
    out = X.copy()
    for name, columns in parts.items():
        if name not in filled:
            continue
        values = filled[name]
        if isinstance(values, pd.DataFrame):
            for position, column in enumerate(columns):
                out[column] = values.iloc[:, position].array
        else:
            out[columns] = values.toarray() if sparse.issparse(values) else np.asarray(values)
    return out


def all_columns(filled: Modalities) -> Any:
    """Return the columns of all modalities side by side; ValueError where one is not numeric."""
    odd = [name for name in filled.names if filled.kind(name) not in NUMERIC]
    if odd:
        raise ValueError(f"output='array' needs numbers, but {odd} hold none; leave them out, or use 'modalities'.")
    return side_by_side([flat(filled[name]) for name in filled.names])


def column_names(X: Modalities) -> list[str]:
    """Return ``modality__column`` of each column of `all_columns`."""
    names: list[str] = []
    for name in X.names:
        if X.kind(name) in ("text", "tokens"):
            continue
        shape = X[name].shape[1:]
        columns = X.columns(name) if len(shape) == 1 else [str(i) for i in range(math.prod(shape))]
        names += [f"{name}__{column}" for column in columns]
    return names


def fill_singles(fill: MeanFill, values: Any, present: Any) -> Any:
    """Fill single NaN of the rows that are `present`; without any, `values` pass uncopied."""
    rows = present_rows(values, present)
    table = flat(rows)
    filled = fill.transform(table)
    if filled is table:
        return values
    if rows.ndim == 3:
        filled = filled.reshape(rows.shape)
        filled[np.isnan(rows).all(axis=2)] = np.nan  # padding stays padding
    return put(values, np.flatnonzero(present), filled)


def put(values: Any, rows: Any, filled: Any) -> Any:
    """Return a copy of `values` with `rows` set; `filled` is a flat table, or rows of the same kind."""
    if isinstance(values, pd.DataFrame):
        out = values.copy()
        for position in range(values.shape[1]):
            out.isetitem(position, _put_column(values.iloc[:, position], rows, filled.iloc[:, position]))
        return out
    if values.dtype == object:
        out = values.copy()
        out[rows] = filled
        return out
    dtype = values.dtype if values.dtype.kind == "f" else np.float64
    if sparse.issparse(values):
        order = np.arange(values.shape[0])
        order[rows] = values.shape[0] + np.arange(len(rows))
        return sparse.vstack([values, type(values)(filled, dtype=dtype)], format="csr", dtype=dtype)[order]
    out = values.astype(dtype, copy=True)
    out[rows] = filled.reshape(len(rows), *values.shape[1:])
    return out


def _put_column(column: Any, rows: Any, filled: Any) -> Any:
    """Return a copy of a Series with `rows` set; categories that it does not know are added."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        new = [category for category in filled.dropna().unique() if category not in column.cat.categories]
        column = column.cat.add_categories(new)
    elif all(isinstance(part.dtype, np.dtype) and part.dtype.kind in "fiu" for part in (column, filled)):
        column = column.astype(np.result_type(column.dtype, filled.dtype))
    else:
        column = column.copy()
    column.iloc[rows] = filled.to_numpy()
    return column
