"""Joining tables by the ids of their rows; nothing is ever joined by position when ids disagree."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Index = Any


def common_order(ids: Mapping[str, Index | None], join: str | None = None) -> Index | None:
    """Return the row ids that all tables are brought to, or None where no table carries ids.

    Parameters
    ----------
    ids : mapping of str to Index or None
        The row ids of each table; None for an array, which aligns by position.
    join : {"outer", "inner", "left"}, default=None
        How unequal ids are joined: the union, the intersection, or those of the first table. None raises there.

    Returns
    -------
    Index or None
        The common ids, in the order of the first table.
    """
    if join not in (None, "outer", "inner", "left"):
        raise ValueError(f"join is {join!r}; due is 'outer', 'inner', 'left' or None.")
    named = {name: index for name, index in ids.items() if index is not None}
    if not named:
        return None
    (first_name, first), *others = named.items()
    if all(first.equals(index) for _, index in others):
        return first
    for name, index in named.items():
        if not index.is_unique:
            twice = index[index.duplicated()][:3].tolist()
            raise ValueError(
                f"the tables must be joined by id, but {name!r} holds the same id twice, as {twice}. "
                "Make ids unique, e.g. frame[~frame.index.duplicated()]."
            )
    by_position = [name for name, index in ids.items() if index is None]
    if by_position:
        raise ValueError(
            f"the tables {list(named)} carry ids in different orders, and {by_position} carry none, so that nobody "
            "knows which row is whose. Give every modality as a DataFrame with ids, or bring them into one order."
        )
    for name, index in others:
        if join is None and (len(index) != len(first) or not index.isin(first).all()):
            missing = first[~first.isin(index)][:3].tolist() or index[~index.isin(first)][:3].tolist()
            raise ValueError(
                f"{first_name!r} and {name!r} hold different ids ({len(first)} and {len(index)}; only in "
                f"one of them: {missing}). Say how to join: Modalities.from_frames(frames, join='outer') keeps all "
                "samples, join='inner' those that have every modality. Tables whose ids mean nothing align by "
                "position as arrays: frame.to_numpy()."
            )
    common = first
    for _, index in others:
        if join == "outer":
            common = common.append(index[~index.isin(common)])
        elif join == "inner":
            common = common[common.isin(index)]
    if len(common) == 0:
        raise ValueError(f"no id is common to the tables {list(named)}; join='outer' keeps all samples.")
    return common


def positions(index: Index, common: Index) -> NDArray[np.intp]:
    """Where each id of `common` stands in `index`; -1 where it does not."""
    return np.asarray(index.get_indexer(common), dtype=np.intp)


def check_same_order(what: str, ids: Index | None, table: Any) -> None:
    """Raise where `table` is a Series or DataFrame whose index holds the samples' ids in another order."""
    if ids is None or not isinstance(table, (pd.Series, pd.DataFrame)) or ids.equals(table.index):
        return
    index = table.index
    if len(index) == len(ids) and index.isin(ids).all() and ids.isin(index).all():
        raise ValueError(
            f"{what} has the same ids as X in another order; it is never joined silently. Bring it into the order of "
            "X with .loc[ids] (those of a Modalities are X.sample_ids), or pass .to_numpy() if the positions count."
        )
