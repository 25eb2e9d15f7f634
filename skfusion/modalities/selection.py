"""Splitting one table into modalities by columns, as in scikit-learn's ColumnTransformer."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd


def split_frame(frame: pd.DataFrame, modalities: Mapping[str, Any], *, strict: bool) -> dict[str, pd.DataFrame]:
    """Split `frame` into one DataFrame a modality.

    `modalities` maps a name to columns: names, positions, a slice, a boolean mask, or a callable of the frame. With
    `strict`, columns that the frame lacks raise; without, a modality none of whose columns are there is left out.
    """
    parts = {}
    for name, columns in modalities.items():
        wanted = columns(frame) if callable(columns) else columns
        wanted = [wanted] if isinstance(wanted, str) else wanted
        if _by_name(wanted):
            names = list(frame.columns[frame.columns.slice_indexer(wanted.start, wanted.stop, wanted.step)]) if (
                isinstance(wanted, slice)
            ) else list(wanted)
            lacking = [column for column in names if column not in frame.columns]
            if lacking and not strict and len(lacking) == len(names):
                continue
            if lacking:
                raise ValueError(
                    f"modality {name!r} asks for columns that X lacks: {lacking[:5]} ({len(lacking)} of {len(names)}). "
                    f"X has {list(frame.columns[:5])}, {frame.shape[1]} in all."
                )
            parts[name] = frame[names]
        else:
            parts[name] = frame.iloc[:, _check_positions(name, wanted, frame.shape[1])]
    return parts


def split_array(X: Any, modalities: Mapping[str, Any]) -> dict[str, Any]:
    """Split a 2-D array or CSR matrix into one array a modality, by positions, slices, masks or callables."""
    parts = {}
    for name, columns in modalities.items():
        wanted = columns(X) if callable(columns) else columns
        if isinstance(wanted, str) or _by_name(wanted):
            raise ValueError(
                f"modality {name!r} asks for columns by name ({wanted!r}), but X is an array without names. Pass a "
                "DataFrame, or positions, a slice or a mask."
            )
        parts[name] = X[:, _check_positions(name, wanted, X.shape[1])]
    return parts


def split_levels(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Split a DataFrame with two-level columns: the first level names the modality."""
    return {str(name): frame[name] for name in frame.columns.get_level_values(0).unique()}


def _by_name(wanted: Any) -> bool:
    if isinstance(wanted, slice):
        return isinstance(wanted.start, str) or isinstance(wanted.stop, str)
    array = np.asarray(wanted)
    return array.dtype.kind in "OUST" and array.size > 0


def _check_positions(name: str, wanted: Any, n_columns: int) -> Any:
    if isinstance(wanted, slice):
        return wanted
    array = np.atleast_1d(np.asarray(wanted))
    if array.dtype == bool:
        if array.shape != (n_columns,):
            raise ValueError(f"modality {name!r} has a column mask of shape {array.shape}; due is ({n_columns},).")
        return np.flatnonzero(array)
    if array.size == 0:
        raise ValueError(f"modality {name!r} selects no column.")
    if array.dtype.kind not in "iu":
        raise ValueError(f"modality {name!r} selects columns by {wanted!r}; due are names, positions, a slice or a mask.")
    if array.min() < -n_columns or array.max() >= n_columns:
        raise ValueError(f"modality {name!r} asks for column {int(array.max())}, but X has {n_columns} columns.")
    return array
