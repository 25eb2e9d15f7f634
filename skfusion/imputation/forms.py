"""The forms that samples are handed out in: filled as they came, or as one array."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from scipy import sparse

from skfusion.imputation.tables import NUMERIC, flat
from skfusion.modalities import Modalities
from skfusion.preprocessing import MeanFill, present_rows, side_by_side, to_dense


def is_one_table(X: Any) -> bool:
    """Whether the samples came as a single array, CSR matrix or DataFrame."""
    several = isinstance(X, (Modalities, Mapping)) or hasattr(X, "obs_names")
    return sparse.issparse(X) or not several  # a dok_matrix is a dict as well


@dataclass(frozen=True)
class Layout:
    """Whose the columns of one table are."""

    n_columns: int
    labels: Any
    """The Index of a DataFrame; None for other tables."""
    positions: dict[str, Any]
    """Where those of each modality stand."""

    @classmethod
    def of(cls, X: Any, names: list[str], selection: Any) -> Self:
        """Read the table `X` of the modalities `names`; `selection` says which column is whose, if anything does."""
        labels = X.columns if isinstance(X, pd.DataFrame) else None
        n_columns = (X if hasattr(X, "shape") else np.asarray(X)).shape[1]
        if selection is not None:
            positions = selection.positions
        elif isinstance(labels, pd.MultiIndex):
            first = labels.get_level_values(0).astype(str)
            positions = {name: np.flatnonzero(first == name) for name in names}
        else:
            positions = {names[0]: np.arange(n_columns)}
        return cls(n_columns, labels, {name: positions[name] for name in names})

    @property
    def owners(self) -> dict[int, tuple[str, int]]:
        """Whose column stands at a position, and which of its columns it is; of several the last."""
        return {int(at): (name, i) for name, places in self.positions.items() for i, at in enumerate(places)}

    def column_names(self) -> list[str]:
        """Return what `like_table` calls the columns: their own names, ``modality__0`` where they have none."""
        if self.labels is not None:
            several = isinstance(self.labels, pd.MultiIndex)
            return ["__".join(map(str, label)) if several else str(label) for label in self.labels]
        owners = self.owners
        return ["{}__{}".format(*owners[at]) if at in owners else f"x{at}" for at in range(self.n_columns)]


def like_table(X: Any, filled: Modalities, layout: Layout) -> Any:
    """Bring what was filled to the form of the table `X`; columns of no modality pass as they came.

    A DataFrame gets all columns of `layout`, in that order, though `X` may lack modalities.
    """
    if isinstance(X, pd.DataFrame):
        return _like_frame(X, filled, layout)
    if len(layout.positions) == 1 and len(layout.owners) == layout.n_columns:
        (name,) = layout.positions
        if np.array_equal(layout.positions[name], np.arange(layout.n_columns)):
            return filled[name]
    if sparse.issparse(X):
        table: Any = sparse.lil_array(X) if isinstance(X, sparse.sparray) else sparse.lil_matrix(X)
    else:
        table = np.array(X)
    if table.dtype.kind != "f":
        table = table.astype(np.float64)
    for name, columns in layout.positions.items():
        table[:, columns] = filled[name]
    return table.tocsr() if sparse.issparse(table) else table


def _like_frame(X: pd.DataFrame, filled: Modalities, layout: Layout) -> pd.DataFrame:
    blocks, starts = [X.set_axis(range(X.shape[1]), axis=1)], {}
    for name in layout.positions:
        values = filled[name]
        block = values if isinstance(values, pd.DataFrame) else pd.DataFrame(to_dense(values))
        starts[name] = sum(other.shape[1] for other in blocks)
        blocks.append(block.set_axis(X.index).set_axis(range(block.shape[1]), axis=1))
    places = _places(layout.labels, X.columns)
    for at, (name, column) in layout.owners.items():
        places[at] = starts[name] + column
    kept = np.flatnonzero(places >= 0)
    return pd.concat(blocks, axis=1).iloc[:, places[kept]].set_axis(layout.labels.take(kept), axis=1)


def _places(labels: Any, columns: Any) -> Any:
    """Return where among `columns` each of `labels` stands, -1 for nowhere; by order where labels are not unique."""
    if not labels.is_unique and len(labels) == len(columns):
        return np.arange(len(labels))
    first = np.flatnonzero(~columns.duplicated())
    found = columns[first].get_indexer(labels)
    return np.where(found >= 0, first[found], -1)


def all_columns(filled: Modalities) -> Any:
    """Return the columns of all modalities side by side."""
    return side_by_side([flat(filled[name]) for name in filled.names])


def require_numbers(X: Modalities, asked: str, instead: str) -> None:
    """Raise where `all_columns`, which the user `asked` for, would have to hold what is no number."""
    odd = [name for name in X.names if X.kind(name) not in NUMERIC]
    if odd:
        raise ValueError(f"{asked} needs numbers, but {odd} hold none; leave them out, or use {instead}.")


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
