"""The one front door: whatever a user hands to an estimator becomes a checked Modalities here, and only here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from skfusion._warn import warn as say
from skfusion.modalities import align, kinds
from skfusion.modalities.anndata import read_anndata, read_mudata
from skfusion.modalities.backed import in_memory
from skfusion.modalities.container import Modalities
from skfusion.modalities.kinds import Values
from skfusion.modalities.presence import check_finite
from skfusion.modalities.selection import Selection, split_levels

SINGLE = "X"
"""The name of the one modality of a plain 2-D table."""


@dataclass(frozen=True)
class ModalitySpec:
    """What a modality was at fit: kind, shape of a sample, dtype, names of its columns."""

    kind: str
    shape: tuple[int, ...]
    dtype: Any
    columns: tuple[str, ...] | None
    template: Any = None

    @property
    def n_features(self) -> int:
        """Columns of a table, channels of a sequence, image or volume, 1 for text."""
        if self.kind == "sequence":
            return self.shape[-1]
        return self.shape[0] if self.shape else 1


class Reader:
    """What stands where an estimator is due, in functions that read `X` without one."""

    def __init__(self, modalities: Any = None) -> None:
        self.modalities = modalities

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import Tags, TargetTags

        return Tags(estimator_type=None, target_tags=TargetTags(required=False))


def check_modalities(estimator: Any, X: Any, y: Any = None, *, reset: bool, grow: bool = False) -> Modalities:
    """Bring `X` to a Modalities and check it against `estimator`.

    Parameters
    ----------
    estimator : estimator
        Its ``modalities`` says how to read `X`. What lies in a file is read here, unless its ``_reads_in_chunks`` is
        True. With `reset`, gets ``modality_names_in_``, ``n_features_in_`` and
        ``n_features_by_modality_``.
    X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
        The samples.
    y : array-like, default=None
        The target; a Series with the ids of `X` in another order raises.
    reset : bool
        True in fit; False where `X` must match what was fitted.
    grow : bool, default=False
        Where `X` must match: whether modalities that were not fitted join those that were, at their end. For training
        that goes on.

    Returns
    -------
    Modalities
        The modalities known from fit, in the order of fit. One that is absent from `X` is missing for every sample.

    Raises
    ------
    ValueError
        Names the modality, what came, what was due, and what to do.
    """
    asked = getattr(estimator, "modalities", None)
    if isinstance(asked, str):
        raise TypeError(f"modalities is {asked!r}; due is a list of names or a dict of name to columns.")
    if asked is not None and not len(asked):
        raise ValueError("modalities is empty; due is at least one name, or None for all that X has.")
    streams = getattr(estimator, "_reads_in_chunks", False)
    if not reset:
        found = _read(estimator, X, asked, reset=False, grow=grow)
        if grow:
            new = [n for n in found.names if n not in estimator._modality_specs_ and (asked is None or n in asked)]
            _learn(estimator, {**estimator._modality_specs_, **{name: _spec(found, name) for name in new}})
        return _conform(estimator, found, warn=grow, streams=streams)
    # What an earlier fit on another form of X has left behind.
    for stale in ("feature_names_in_", "_selection_"):
        vars(estimator).pop(stale, None)
    found = _read(estimator, X, asked, reset=True)
    wanted = list(asked) if asked is not None else found.names
    lacking = [name for name in wanted if name not in found]
    if lacking:
        raise ValueError(
            f"modalities asks for {lacking}, which X lacks; X has {found.names}. In training every modality that is "
            "asked for must be there (missing for some samples is fine)."
        )
    found = found.select(wanted)
    found = found if streams else found.to_memory()
    align.check_same_order("y", found.sample_ids, y)
    _check_values(found, fills=getattr(estimator, "_fills_gaps", _always))
    _learn(estimator, {name: _spec(found, name) for name in found.names})
    return found


def _learn(estimator: Any, specs: dict[str, ModalitySpec]) -> None:
    """Set what an estimator knows of its modalities."""
    estimator._modality_specs_ = specs
    estimator.modality_names_in_ = np.array(list(specs), dtype=object)
    estimator.n_features_by_modality_ = {name: spec.n_features for name, spec in specs.items()}
    first = next(iter(specs.values()))
    single = len(specs) == 1 and len(first.shape) == 1
    estimator.n_features_in_ = first.shape[0] if single else len(specs)
    if len(specs) > 1:
        # The names of the columns of one table that others have joined.
        vars(estimator).pop("feature_names_in_", None)


def _read(estimator: Any, X: Any, asked: Any, *, reset: bool, grow: bool = False) -> Modalities:
    """Recognise the form of `X`; no check against the fit yet, but for a plain table's own."""
    if isinstance(X, Modalities):
        return X
    # A dok_matrix is a dict as well.
    if isinstance(X, Mapping) and not sparse.issparse(X):
        # What nobody asks for is not even looked at: it may be anything.
        wanted = {name: values for name, values in X.items() if asked is None or name in asked} or X
        return Modalities(wanted if reset else _some(estimator, wanted, list(X)))
    if kinds.is_instance_of(X, "anndata", "AnnData"):
        where = asked if reset or grow or isinstance(asked, Mapping) else list(estimator.modality_names_in_)
        has = ["X", *X.layers, *X.obsm]
        return _joined(X.obs_names, _some(estimator, read_anndata(X, where, strict=reset), has))
    if kinds.is_instance_of(X, "mudata", "MuData"):
        return _joined(X.obs_names, _some(estimator, read_mudata(X, asked, strict=reset), list(X.mod)))
    if isinstance(X, pd.DataFrame) and isinstance(X.columns, pd.MultiIndex) and not isinstance(asked, Mapping):
        return Modalities(split_levels(X))
    if isinstance(asked, Mapping):
        table = X if isinstance(X, pd.DataFrame) else _check_table(estimator, X, reset=reset, alone=False)
        selection = getattr(estimator, "_selection_", None) or Selection.settle(table, asked)
        if reset:
            estimator._selection_ = selection
        return Modalities(_some(estimator, selection.split(table), list(getattr(table, "columns", ()))[:5]))
    table = _check_table(estimator, X, reset=reset, alone=True)
    name = SINGLE
    if asked is not None:
        if len(asked) != 1:
            raise ValueError(
                f"modalities names {list(asked)}, but X is one table without saying which column is whose; use "
                "modalities={'name': columns, ...}."
            )
        (name,) = asked
    elif not reset and len(estimator.modality_names_in_) == 1:
        name = str(estimator.modality_names_in_[0])
    ids = X.index if isinstance(X, pd.DataFrame) else None
    part = Modalities({name: table}, sample_ids=ids)
    if isinstance(X, pd.DataFrame):
        part._columns[name] = tuple(map(str, X.columns))
    return part


def _some(estimator: Any, known: Any, has: list[Any]) -> Any:
    """Return `known`, what X has of the fitted modalities, if that is anything at all."""
    if not known:
        raise ValueError(
            f"X has no known modality: it has {has}, and fitted were {list(estimator.modality_names_in_)}. Pass at "
            "least one of these."
        )
    return known


def _joined(ids: Any, parts: Mapping[str, Any]) -> Modalities:
    self = Modalities.__new__(Modalities)
    self._assemble(dict(parts), ids, join="left")
    return self


def _check_table(estimator: Any, X: Any, *, reset: bool, alone: bool) -> Any:
    """Check one 2-D table as scikit-learn does; a DataFrame with category columns passes as it is."""
    from sklearn.utils.validation import check_array, validate_data

    options: dict[str, Any] = {"accept_sparse": "csr", "ensure_all_finite": False, "dtype": "numeric"}
    if not alone:
        return check_array(X, **options)
    categories = isinstance(X, pd.DataFrame) and not all(pd.api.types.is_numeric_dtype(t) for t in X.dtypes)
    if not reset and [s.shape for s in estimator._modality_specs_.values()] != [(estimator.n_features_in_,)]:
        if not categories:
            check_array(X, **options)
        raise ValueError(
            f"X is one table, but fitted were the modalities {list(estimator.modality_names_in_)}; pass a dict of "
            "these (those that are missing may be left out)."
        )
    if categories:
        return validate_data(estimator, X, reset=reset, skip_check_array=True)
    return validate_data(estimator, X, reset=reset, **options)


def _always(X: Modalities, name: str) -> bool:
    return True


def _check_values(X: Modalities, *, fills: Callable[[Modalities, str], bool] | None) -> None:
    """Check numbers and sizes, and warn of gaps in modalities whose gaps somebody `fills`."""
    if len(X) == 0:
        raise ValueError("Found array with 0 sample(s) (X is empty) while a minimum of 1 is required.")
    counts = {}
    for column, name in enumerate(X.names):
        values = X[name]
        if len(values.shape) > 1 and 0 in values.shape[1:]:
            raise ValueError(
                f"Found array with 0 feature(s) (shape={values.shape}) while a minimum of 1 is required: modality "
                f"{name!r}."
            )
        missing = check_finite(name, values, X.present[:, column], X._columns[name])
        if missing and fills is not None and fills(X, name):
            counts[name] = missing
    if counts:
        say(
            f"single values are missing (NaN) inside rows that are present, {counts} by modality; each is filled with "
            "its column's training mean, or 0 where training has no value of the column. Impute beforehand to choose "
            "otherwise."
        )


def _spec(X: Modalities, name: str) -> ModalitySpec:
    values, kind = X[name], X.kind(name)
    return ModalitySpec(
        kind=kind,
        shape=tuple(values.shape[1:]),
        dtype=None if kind == "table" else values.dtype,
        columns=X._columns[name],
        template=values.iloc[:0] if kind == "table" else None,
    )


def _conform(estimator: Any, found: Modalities, *, warn: bool, streams: bool) -> Modalities:
    """Bring `found` to the modalities known from fit; what is absent becomes missing for every sample."""
    specs: dict[str, ModalitySpec] = estimator._modality_specs_
    _some(estimator, [name for name in specs if name in found], found.names)
    unknown = [name for name in found.names if name not in specs]
    if unknown and getattr(estimator, "modalities", None) is None:
        raise ValueError(
            f"X has modalities unknown at fit: {unknown}; fitted were {list(specs)}. Leave them out with "
            "X.drop(names), or fit again."
        )
    n_samples = len(found)
    data, present = {}, np.zeros((n_samples, len(specs)), dtype=bool)
    for column, (name, spec) in enumerate(specs.items()):
        if name in found:
            values = _match(name, found, spec)
            data[name] = values if streams else in_memory(values)
            present[:, column] = found.present[:, found.names.index(name)]
        else:
            data[name] = _absent(spec, n_samples)
    X = Modalities._of(data, {name: s.columns for name, s in specs.items()}, present, found.sample_ids)
    _check_values(X, fills=_always if warn else None)
    return X


def _match(name: str, found: Modalities, spec: ModalitySpec) -> Values:
    values, kind = found[name], found.kind(name)
    if spec.kind == "table" and kind == "dense" and found._columns[name] == spec.columns:
        # No category is left among the columns of these samples.
        values, kind = pd.DataFrame(values, columns=spec.template.columns), "table"
    if spec.kind == "dense" and kind == "table" and found._columns[name] == spec.columns:
        numbers = pd.DataFrame(columns=values.columns, dtype=np.float64)
        values, kind = _match_dtypes(name, values, numbers).to_numpy(dtype=np.float64, na_value=np.nan), "dense"
    if {kind, spec.kind} == {"dense", "sparse"}:
        values = values.toarray() if kind == "sparse" else sparse.csr_matrix(in_memory(values))
        kind = spec.kind
    if {kind, spec.kind} == {"text", "tokens"} and kinds.is_blank(values):
        return values
    if spec.kind == "tokens" and kind == "dense" and values.dtype.kind in "iu":
        # Lists of integers that happen to be equally long, as a single one always is.
        return np.fromiter((list(row) for row in values), dtype=object, count=len(values))
    if kind != spec.kind:
        raise ValueError(
            f"modality {name!r} is {kinds.KINDS[kind]}, shape {values.shape}; due is {kinds.KINDS[spec.kind]}, as at "
            "fit. Convert it, or fit again."
        )
    fixed = slice(1, None) if kind == "sequence" else slice(None)
    if values.shape[1:][fixed] != spec.shape[fixed]:
        due = f"{spec.n_features} channels, at any length" if kind == "sequence" else f"shape {spec.shape}"
        raise ValueError(
            f"modality {name!r} has samples of shape {values.shape[1:]}; due is {due}, as at fit. Pass the columns "
            "of the training data, or fit again."
        )
    columns = found._columns[name]
    if columns is not None and spec.columns is not None and columns != spec.columns:
        odd = next(pair for pair in zip(columns, spec.columns) if pair[0] != pair[1])
        raise ValueError(
            f"modality {name!r} has other columns than at fit: {odd[0]!r} where {odd[1]!r} is due. Reorder with "
            "frame[columns_at_fit]."
        )
    return _match_dtypes(name, values, spec.template) if kind == "table" else values


def _match_dtypes(name: str, frame: pd.DataFrame, template: pd.DataFrame) -> pd.DataFrame:
    """Numbers stay numbers, and what was a category at fit is one, though these samples hold only numbers or NaN."""
    frame = frame.copy(deep=False)
    for position, (came, due) in enumerate(zip(frame.dtypes, template.dtypes)):
        due_number, came_number = pd.api.types.is_numeric_dtype(due), pd.api.types.is_numeric_dtype(came)
        if due_number and not came_number:
            if frame.iloc[:, position].isna().all():
                frame.isetitem(position, np.full(len(frame), np.nan))
                continue
            raise ValueError(
                f"modality {name!r} holds text or categories (dtype {came}) in the column "
                f"{template.columns[position]!r}; due are numbers (dtype {due}), as at fit. Convert it with "
                "pandas.to_numeric."
            )
        if came_number and not due_number:
            frame.isetitem(position, frame.iloc[:, position].to_numpy(dtype=object, na_value=np.nan))
    return frame


def _absent(spec: ModalitySpec, n_samples: int) -> Values:
    """Values of a modality that no sample has: no memory is spent on them."""
    if spec.kind == "sparse":
        return sparse.csr_matrix((n_samples, spec.shape[0]), dtype=spec.dtype)
    if spec.kind == "table":
        return spec.template.reindex(range(n_samples))
    return np.broadcast_to(np.array(kinds.empty_value(spec.dtype), dtype=spec.dtype), (n_samples, *spec.shape))
