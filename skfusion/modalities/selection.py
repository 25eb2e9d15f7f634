"""Splitting one table into modalities by columns, as in scikit-learn's ColumnTransformer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray


@dataclass(frozen=True)
class Selection:
    """Which columns of one table belong to which modality: settled at fit, so that callables are asked once."""

    positions: dict[str, NDArray[np.intp]]
    n_columns: int
    labels: Any = None
    """The columns of the DataFrame at fit; None for an array."""

    @classmethod
    def settle(cls, table: Any, modalities: Mapping[str, Any]) -> "Selection":
        """Read `modalities`: a name to columns, as names, positions, a slice, a mask, or a callable of `table`."""
        labels = table.columns if isinstance(table, pd.DataFrame) else None
        positions = {}
        for name, columns in modalities.items():
            wanted = columns(table) if callable(columns) else columns
            positions[name] = _positions(name, wanted, labels, table.shape[1])
            if len(positions[name]) == 0:
                raise ValueError(
                    f"modality {name!r} selects no column ({wanted!r}) of the {table.shape[1]} that X has."
                )
        return cls(positions, table.shape[1], labels)

    def split(self, table: Any) -> dict[str, Any]:
        """Split `table` into one table a modality; DataFrames by name, so that the order of columns may differ.

        A modality none of whose columns are there is left out; one that lacks some of them raises.
        """
        by_name = isinstance(table, pd.DataFrame) and self.labels is not None and self.labels.is_unique
        if not by_name:
            if table.shape[1] != self.n_columns:
                raise ValueError(
                    f"X has {table.shape[1]} columns; due are {self.n_columns}, as at fit, since the modalities "
                    f"{list(self.positions)} are taken by position."
                )
            return {name: _columns(table, positions) for name, positions in self.positions.items()}
        parts = {}
        for name, positions in self.positions.items():
            labels = self.labels[positions]
            there = labels.isin(table.columns)
            if there.any():
                if not there.all():
                    raise _lacking(name, list(labels[~there]), len(labels), table.columns)
                parts[name] = _columns(table, table.columns.get_indexer_for(labels))
        return parts


def split_levels(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Split a DataFrame with two-level columns: the first level names the modality."""
    return {str(name): frame[name] for name in frame.columns.get_level_values(0).unique()}


def _columns(table: Any, positions: NDArray[np.intp]) -> Any:
    """Columns of a table; neighbours are taken as a slice, which copies nothing."""
    first, last = int(positions[0]), int(positions[-1])
    columns: Any = positions
    if np.array_equal(positions, np.arange(first, last + 1)):
        columns = slice(first, last + 1)
    return table.iloc[:, columns] if isinstance(table, pd.DataFrame) else table[:, columns]


def _positions(name: str, wanted: Any, labels: Any, n_columns: int) -> NDArray[np.intp]:
    if isinstance(wanted, str):
        wanted = [wanted]
    if isinstance(wanted, slice):
        return np.arange(n_columns)[_positional(name, wanted, labels)]
    array = np.atleast_1d(np.asarray(wanted))
    if array.size == 0:
        return np.zeros(0, dtype=np.intp)
    if array.dtype.kind in "UST" or (array.dtype == object and all(isinstance(v, str) for v in array.flat)):
        return np.concatenate(_of_labels(name, list(wanted), labels))
    if array.dtype == bool:
        if array.shape != (n_columns,):
            raise ValueError(f"modality {name!r} has a column mask of shape {array.shape}; due is ({n_columns},).")
        return np.flatnonzero(array)
    if array.dtype.kind not in "iu":
        raise ValueError(
            f"modality {name!r} selects columns by {wanted!r}; due are names, positions, a slice or a mask."
        )
    beyond = array[(array < -n_columns) | (array >= n_columns)]
    if len(beyond):
        raise ValueError(f"modality {name!r} asks for column {int(beyond[0])}, but X has {n_columns} columns.")
    return np.arange(n_columns)[array]


def _positional(name: str, wanted: slice, labels: Any) -> slice:
    """Turn a slice of names, its end included, into one of positions."""
    if not any(isinstance(end, str) for end in (wanted.start, wanted.stop)):
        return wanted
    start = None if wanted.start is None else int(_of_labels(name, [wanted.start], labels)[0][0])
    stop = None if wanted.stop is None else int(_of_labels(name, [wanted.stop], labels)[0][-1]) + 1
    return slice(start, stop, wanted.step)


def _of_labels(name: str, wanted: list[Any], labels: Any) -> list[NDArray[np.intp]]:
    """Where each name stands: once, or more often where columns share it or it is the first of two levels."""
    if labels is None:
        raise ValueError(
            f"modality {name!r} asks for columns by name ({wanted}), but X is an array without names. Pass a "
            "DataFrame, or positions, a slice or a mask."
        )
    lacking = [label for label in wanted if label not in labels]
    if lacking:
        raise _lacking(name, lacking, len(wanted), labels)
    every = np.arange(len(labels))
    return [np.atleast_1d(every[labels.get_loc(label)]) for label in wanted]


def _lacking(name: str, lacking: list[Any], n_wanted: int, labels: Any) -> ValueError:
    return ValueError(
        f"modality {name!r} asks for columns that X lacks: {lacking[:5]} ({len(lacking)} of {n_wanted}). X has "
        f"{list(labels[:5])}, {len(labels)} in all."
    )
