"""The container that every estimator works on: named modalities of the same samples, sliceable by row."""

from collections.abc import Iterable, Mapping
from typing import Any, NoReturn, Self

import numpy as np
import pandas as pd

from skfusion.modalities import align, kinds
from skfusion.modalities.anndata import read_anndata, read_mudata
from skfusion.modalities.backed import in_memory, is_backed
from skfusion.modalities.kinds import Canonical, Values
from skfusion.modalities.presence import BoolArray, check_present, rows_present


class Modalities:
    """Several modalities of the same samples, with who has what.

    scikit-learn cannot slice a plain dict by rows; a Modalities it can, so this is what goes into ``cross_validate``,
    ``GridSearchCV`` and the like.

    Parameters
    ----------
    data : dict of str to array-like, or Modalities
        Name to a 2-D array, a CSR matrix, a DataFrame, a 3-D array (samples, time, channels), a 4-D array (samples,
        channels, height, width), a 5-D array (samples, channels, depth, height, width), or a sequence of strings or
        token lists. DataFrames are joined by their index when they hold the same ids in different orders.
    present : array-like of bool (n_samples, n_modalities) or dict of str to bool (n_samples,), default=None
        Who has what. United with what the data says: a row that is all-NaN or None is missing as well.
    sample_ids : array-like of shape (n_samples,), default=None
        Ids of the rows; None takes the index of the DataFrames, where there are any.

    Attributes
    ----------
    names : list of str
        The modalities, in order.
    shape : tuple of int
        (n_samples, n_modalities).
    present : ndarray of bool (n_samples, n_modalities)
        Whether a sample has a modality. Read-only.
    sample_ids : Index or None
        Ids of the rows.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion import Modalities
    >>> X = Modalities({"labs": np.array([[1.0, 2.0], [np.nan, np.nan]]), "notes": ["stable", "worse"]})
    >>> X.names, X.shape
    (['labs', 'notes'], (2, 2))
    >>> X.present
    array([[ True,  True],
           [False,  True]])
    >>> X[[1]]["notes"]
    array(['worse'], dtype=object)
    """

    def __init__(self, data: "Mapping[str, Any] | Modalities", *, present: Any = None, sample_ids: Any = None) -> None:
        if isinstance(data, Modalities):
            parts = {
                name: Canonical(data._data[name], data.sample_ids, data._columns[name], data.present[:, column])
                for column, name in enumerate(data.names)
            }
        elif isinstance(data, Mapping):
            parts = {_check_name(name): kinds.canonical(name, values) for name, values in data.items()}
        else:
            raise TypeError(
                f"data is of type {type(data).__name__}; due is a dict of name to array. Use Modalities.from_anndata "
                "or Modalities.from_mudata for those, and Modalities({'X': array}) for a single table."
            )
        ids = None if sample_ids is None else pd.Index(sample_ids)
        self._assemble(parts, ids)
        if present is not None:
            self._set_present(self.present & check_present(present, self.names, len(self), self.sample_ids))

    # construction from elsewhere

    @classmethod
    def from_frames(cls, frames: Mapping[str, Any], join: str | None = None) -> Self:
        """Join tables by the ids of their rows.

        Parameters
        ----------
        frames : dict of str to DataFrame or Series
            One table a modality, ids in the index.
        join : {"outer", "inner", "left"}, default=None
            Unequal ids raise with None. "outer" keeps every sample, and marks the modalities that it lacks as missing;
            "inner" keeps the samples that have all; "left" those of the first table.

        Returns
        -------
        Modalities
            In the order of the first table.

        Raises
        ------
        ValueError
            Where ids are unequal and no join is asked for, where none is common, or where an id occurs twice.

        Examples
        --------
        >>> import pandas as pd
        >>> from skfusion import Modalities
        >>> labs = pd.DataFrame({"crp": [3.0, 9.0]}, index=["anna", "bo"])
        >>> ecg = pd.DataFrame({"rate": [61.0, 80.0]}, index=["bo", "cy"])
        >>> X = Modalities.from_frames({"labs": labs, "ecg": ecg}, join="outer")
        >>> X.sample_ids.tolist(), X.present.tolist()
        (['anna', 'bo', 'cy'], [[True, False], [True, True], [False, True]])
        """
        parts = {_check_name(name): kinds.canonical(name, frame) for name, frame in frames.items()}
        without = [name for name, part in parts.items() if part.ids is None]
        if without:
            raise TypeError(f"from_frames joins by index, but {without} have none; pass DataFrames, or use Modalities.")
        self = cls.__new__(cls)
        self._assemble(parts, None, join)
        return self

    @classmethod
    def from_anndata(cls, adata: Any, modalities: Any = None) -> Self:
        """Read modalities from an AnnData; sparse layers stay sparse, and what is backed stays in its file.

        Parameters
        ----------
        adata : AnnData
            Samples in rows.
        modalities : dict of str to str or list of str, default=None
            Name to ``"X"``, ``"layers/<key>"``, ``"obsm/<key>"`` or ``"obs/<column>"``; or a list of layer names. None
            takes the layers spliced and unspliced where both exist, else X.

        Returns
        -------
        Modalities
            With the cell names as ids.
        """
        self = cls.__new__(cls)
        self._assemble(read_anndata(adata, modalities), None)
        return self

    @classmethod
    def from_mudata(cls, mdata: Any, modalities: Any = None) -> Self:
        """Read modalities from a MuData over the union of its samples.

        Parameters
        ----------
        mdata : MuData
            A sample that a modality does not hold is missing there.
        modalities : list of str or dict of str to str, default=None
            Which modalities, or which place of each (as in `from_anndata`). None takes the X of each.

        Returns
        -------
        Modalities
            With the names of the union as ids.
        """
        self = cls.__new__(cls)
        self._assemble(read_mudata(mdata, modalities), mdata.obs_names, join="left")
        return self

    @classmethod
    def concat(cls, datasets: Iterable["Modalities | Mapping[str, Any]"]) -> Self:
        """Stack data sets that share only some modalities, one below the other; in memory.

        Parameters
        ----------
        datasets : iterable of Modalities or dict
            A modality that a data set lacks is missing for its samples.

        Returns
        -------
        Modalities
            The union of the modalities, in order of first appearance.

        Raises
        ------
        ValueError
            Where a modality is of another kind, has other columns, or has numbers in a column that holds categories in
            another data set, or categories of another type; where some data sets carry ids and others none. It names
            the positions of those that do not fit.

        Examples
        --------
        >>> import numpy as np
        >>> from skfusion import Modalities
        >>> X = Modalities.concat([{"labs": np.ones((2, 3))}, {"labs": np.zeros((1, 3)), "ecg": np.ones((1, 2))}])
        >>> X.present.tolist()
        [[True, False], [True, False], [True, True]]
        """
        if isinstance(datasets, (Mapping, Modalities, pd.DataFrame)):
            raise TypeError(
                f"datasets is a single {type(datasets).__name__}; due is a list of data sets: "
                "Modalities.concat([first, second])."
            )
        sets = [d if isinstance(d, Modalities) else Modalities(d) for d in datasets]
        if not sets:
            raise ValueError("datasets is empty; due is at least one data set.")
        names = list(dict.fromkeys(name for d in sets for name in d.names))
        parts = {name: _stack_modality(name, sets) for name in names}
        indexes = [d.sample_ids for d in sets if d.sample_ids is not None]
        without = [i for i, d in enumerate(sets) if d.sample_ids is None]
        if without and all(ids.equals(pd.RangeIndex(len(ids))) for ids in indexes):
            indexes = []  # they are what pandas counts by itself, and say nothing
        if without and indexes:
            raise ValueError(
                f"the data sets at positions {without} carry no ids, the others do, which would be lost. Give ids to "
                "all with Modalities(data, sample_ids=ids): any, such as range(n_samples), where they mean nothing."
            )
        ids = indexes[0].append(indexes[1:]) if indexes else None
        self = cls.__new__(cls)
        self._assemble(parts, ids)
        return self

    @classmethod
    def _of(cls, data: dict[str, Values], columns: dict[str, Any], present: BoolArray, ids: Any) -> Self:
        """Build from parts that are known to be right."""
        self = cls.__new__(cls)
        self._data, self._columns, self.sample_ids = data, columns, ids
        self.names = list(data)
        self.shape = present.shape
        self._set_present(present)
        return self

    def _assemble(self, parts: dict[str, Canonical], ids: "pd.Index[Any] | None", join: str | None = None) -> None:
        """Bring `parts` to one order of rows: that of `ids`, where given, else that of the first table with ids."""
        if not parts:
            raise ValueError("data holds no modality; due is at least one name with its values.")
        tables: dict[str, Any] = {name: part.ids if part.ids is not None else ids for name, part in parts.items()}
        common = align.common_order(tables if ids is None else {"sample_ids": ids, **tables}, join)
        parts = {name: _bring(part, common) for name, part in parts.items()}
        lengths = {name: kinds.n_rows(part.values) for name, part in parts.items()}
        if common is not None:
            lengths = {"sample_ids": len(common), **lengths}
        if len(set(lengths.values())) > 1:
            raise ValueError(
                f"modalities have unequal lengths: {lengths}. Without ids they align by position and must be equally "
                "long; with ids in the index, use Modalities.from_frames(frames, join='outer')."
            )
        self._data = {name: part.values for name, part in parts.items()}
        self._columns = {name: part.columns for name, part in parts.items()}
        self.sample_ids = common
        self.names = list(parts)
        self.shape: tuple[int, int] = (next(iter(lengths.values())), len(parts))
        present = [
            rows_present(part.values) & (True if part.present is None else part.present) for part in parts.values()
        ]
        self._set_present(np.stack(present, axis=1))

    def _set_present(self, present: BoolArray) -> None:
        self.present: BoolArray = present
        self.present.flags.writeable = False

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A pickle forgets that an array is read-only.
        vars(self).update(state)
        self._set_present(self.present)

    # reading

    def __len__(self) -> int:
        return self.shape[0]

    def __contains__(self, name: object) -> bool:
        return name in self._data

    def __getitem__(self, key: Any) -> Any:
        """Return a modality's values by name, or a Modalities of the rows asked for."""
        if isinstance(key, str):
            if key not in self._data:
                raise KeyError(f"there is no modality {key!r}; there are {self.names}.")
            return self._data[key]
        if isinstance(key, tuple):
            whole = len(key) == 2 and (key[1] is Ellipsis or (isinstance(key[1], slice) and key[1] == slice(None)))
            if not whole:
                raise TypeError(
                    "a Modalities is sliced by rows alone: X[rows]. For some of the modalities use X.select(names); "
                    "for columns take a modality first, X['name']."
                )
            key = key[0]
        rows = self._rows(key)
        return Modalities._of(
            {name: kinds.take(values, rows) for name, values in self._data.items()},
            self._columns,
            self.present[rows],
            None if self.sample_ids is None else self.sample_ids[rows],
        )

    def _rows(self, key: Any) -> Any:
        if isinstance(key, slice):
            return key
        if isinstance(key, pd.Series) and pd.api.types.is_bool_dtype(key.dtype):
            align.check_same_order("the row mask", self.sample_ids, key)
        rows = np.atleast_1d(np.asarray(key))
        if rows.dtype == bool:
            if rows.shape != (len(self),):
                raise IndexError(f"the row mask has shape {rows.shape}; due is ({len(self)},).")
            return np.flatnonzero(rows)
        if rows.ndim > 1:
            raise IndexError(f"rows have shape {rows.shape}; due is one dimension.")
        if rows.size == 0:
            return np.zeros(0, dtype=np.intp)
        if isinstance(rows[0], str):
            raise TypeError(f"names are no row index; use X.select({rows.tolist()!r}).")
        if rows.dtype.kind not in "iu":
            raise TypeError(f"rows are of dtype {rows.dtype}; due are integers, a boolean mask or a slice.")
        return rows

    def select(self, names: Iterable[str]) -> "Modalities":
        """Keep the modalities `names`, in that order; no data is copied."""
        names = self._known(names)
        if not names:
            raise ValueError(f"no modality is left; due is at least one of {self.names}.")
        present = self.present[:, [self.names.index(name) for name in names]]
        columns = {name: self._columns[name] for name in names}
        return Modalities._of({name: self._data[name] for name in names}, columns, present, self.sample_ids)

    def drop(self, names: Iterable[str]) -> "Modalities":
        """Leave out the modalities `names`; no data is copied."""
        dropped = self._known(names)
        return self.select([name for name in self.names if name not in dropped])

    def to_memory(self) -> "Modalities":
        """Read what lies in a file; the same Modalities where nothing does."""
        if not any(map(is_backed, self._data.values())):
            return self
        data = {name: in_memory(values) for name, values in self._data.items()}
        return Modalities._of(data, self._columns, self.present, self.sample_ids)

    def _known(self, names: Iterable[str]) -> list[str]:
        names = [names] if isinstance(names, str) else list(names)
        lacking = [name for name in names if name not in self._data]
        if lacking:
            raise ValueError(f"there is no modality {lacking}; there are {self.names}.")
        if len(set(names)) < len(names):
            raise ValueError(f"names holds a modality twice: {names}.")
        return names

    def kind(self, name: str) -> str:
        """Return the kind of a modality: dense, sparse, table, sequence, image, volume, text or tokens."""
        return kinds.kind_of(self[name])

    def columns(self, name: str) -> list[str]:
        """Return the names of a 2-D modality's columns: those that came, else ``"0"``, ``"1"`` and so on."""
        columns = self._columns[name]
        return list(columns) if columns is not None else [str(i) for i in range(self[name].shape[1])]

    def __repr__(self) -> str:
        lines = [f"Modalities of {len(self)} samples"]
        for name, share in zip(self.names, self.present.mean(axis=0) if len(self) else np.ones(len(self.names))):
            values = self._data[name]
            dtype = "" if self.kind(name) in ("table", "text", "tokens") else f" {values.dtype}"
            where = ", in a file" if is_backed(values) else ""
            lines.append(f"  {name}: {self.kind(name)} {tuple(values.shape[1:])}{dtype}, present in {share:.0%}{where}")
        return "\n".join(lines)

    # what a Modalities is not

    def __array__(self, dtype: Any = None, copy: Any = None) -> NoReturn:
        raise TypeError(
            "a Modalities is no array. Take one modality, X['name'], or put EarlyFusionTransformer() before an "
            "estimator that needs a single table; where a scikit-learn meta-estimator makes an array of X "
            "(BaggingClassifier, passthrough=True), put the Modalities estimator outside of it."
        )

    def __iter__(self) -> NoReturn:
        raise TypeError("iterating a Modalities is ambiguous; use X.names, or X[i:j] for rows.")

    def __eq__(self, other: object) -> bool:
        raise TypeError("comparing a Modalities with == is ambiguous; compare modality by modality, X['name'].")

    __hash__ = None  # type: ignore[assignment]
    __reversed__ = None


def _check_name(name: Any) -> str:
    if not isinstance(name, str) or not name:
        raise TypeError(f"a modality is named {name!r}; due is a non-empty string.")
    return name


def _bring(part: Canonical, common: Any) -> Canonical:
    """Rows of `part` in the order of the ids `common`; one that it lacks is missing."""
    if common is None or part.ids is None or part.ids.equals(common):
        return part
    index = align.positions(part.ids, common)
    present = index >= 0
    if part.present is not None:
        present[present] = part.present[index[present]]
    return Canonical(kinds.scatter(part.values, index), common, part.columns, present)


def _stack_modality(name: str, sets: list[Modalities]) -> Canonical:
    """Rows of the modality `name` of all `sets`, one below the other; missing where a set lacks it."""
    positions = [i for i, d in enumerate(sets) if name in d]
    holders = [sets[i] for i in positions]
    parts = _held(name, holders)
    # A set in which nobody has the text does not tell strings from token lists.
    first = next((i for i, d in enumerate(holders) if d.present[:, d.names.index(name)].any()), 0)
    values, columns, named = parts[first], holders[first]._columns[name], first
    for i, (d, part) in enumerate(zip(holders, parts)):
        given = d._columns[name]
        here, there = (f"in the data set at position {positions[at]}" for at in (i, first))
        if given is not None and columns is not None and given != columns:
            there = f"in that at position {positions[named]}"
            raise ValueError(f"modality {name!r} {_difference(given, columns, here, there)}")
        kind, due = kinds.kind_of(part), kinds.kind_of(values)
        equal = kind == due and part.shape[1:] == values.shape[1:]
        if not equal and not ({kind, due} == {"text", "tokens"} and kinds.is_blank(part)):
            raise ValueError(
                f"modality {name!r} is {kind} of shape {part.shape} {here} and {due} of shape {values.shape} {there}; "
                "due are equal kinds and widths."
            )
        if kind == "table":
            _check_same_sort(name, part, values, here, there)
        if columns is None:
            columns, named = given, i
    held = iter(parts)
    blocks = [next(held) if name in d else kinds.scatter(values, np.full(len(d), -1, dtype=np.intp)) for d in sets]
    present = [d.present[:, d.names.index(name)] if name in d else np.zeros(len(d), dtype=bool) for d in sets]
    stacked = kinds.stack(blocks)
    stacked = kinds.settle(name, stacked) if isinstance(stacked, pd.DataFrame) else stacked
    return Canonical(stacked, None, columns, np.concatenate(present))


def _held(name: str, holders: list[Modalities]) -> list[Values]:
    """Values of the modality `name`; where one is a table, named columns of numbers are one as well."""
    parts = [d[name] for d in holders]
    if not any(isinstance(part, pd.DataFrame) for part in parts):
        return parts
    for i, d in enumerate(holders):
        if kinds.kind_of(parts[i]) == "dense" and d._columns[name] is not None:
            parts[i] = pd.DataFrame(in_memory(parts[i]), columns=d.columns(name))
    return parts


def _difference(columns: tuple[str, ...], others: tuple[str, ...], here: str, there: str) -> str:
    """Say how unequal names of columns differ, and what to do."""
    alone = [c for c in columns if c not in others], [c for c in others if c not in columns]
    if any(alone):
        return (
            f"has the columns {alone[0]} {here} alone, and {alone[1]} {there} alone. Rename or drop them, or add "
            "those that lack as NaN with frame.reindex(columns=...)."
        )
    return (
        f"has its columns in another order {here} than {there}; bring them into one with frame[columns_of_the_other]."
    )


def _check_same_sort(name: str, table: pd.DataFrame, other: pd.DataFrame, here: str, there: str) -> None:
    """Raise where a column holds numbers in one table and categories in the other, or categories of other types.

    A column without values fits both.
    """
    for i, label in enumerate(table.columns):
        pair = table.iloc[:, i], other.iloc[:, i]
        dtypes = [column.dtype for column in pair]
        if dtypes[0] == dtypes[1]:
            continue
        are_numbers = {pd.api.types.is_numeric_dtype(dtype) for dtype in dtypes}
        if are_numbers == {True, False} and all(c.notna().any() for c in pair):
            raise ValueError(
                f"modality {name!r} holds dtype {dtypes[0]} in the column {str(label)!r} {here} and {dtypes[1]} "
                f"{there}; due are numbers in both or categories in both. Use "
                "pandas.to_numeric(column, errors='coerce') or column.astype('string')."
            )
        if are_numbers == {False}:
            # Cells of one table are alike.
            cells = pd.Series([cell for column in reversed(pair) for cell in _one_cell(column)], dtype=object)
            kinds.check_cells(name, str(label), cells, declared=True, where=f", {there} and {here}")


def _one_cell(column: "pd.Series[Any]") -> Any:
    """Return a category or a cell that is there, in an array of one, or of none."""
    categories = isinstance(column.dtype, pd.CategoricalDtype)
    cells: Any = column.cat.categories if categories else column[column.notna()]
    return cells[:1].astype(object)
