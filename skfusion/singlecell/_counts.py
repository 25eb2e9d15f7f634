"""Which layers are counts, and that they are still, also those that lie in a file."""

from collections.abc import Collection
from typing import Any

import numpy as np
from scipy import sparse

from skfusion._warn import warn
from skfusion.modalities import Modalities
from skfusion.modalities.backed import BackedCSR, is_backed


def learn_counts(X: Modalities) -> list[str]:
    """Return the layers that are counts; warn of those that are not."""
    odd = {name: what_is_no_count(X[name], there) for name, there in zip(X.names, X.present.T)}
    scaled = {name: what for name, what in odd.items() if what is not None}
    if scaled:
        said = "; ".join(f"layer {name!r} holds {what}" for name, what in scaled.items())
        warn(
            f"{said}, where counts are due. It is standardised instead of log-normalised, and decoded by a normal "
            "distribution; pass raw counts where there are some."
        )
    return [name for name, what in odd.items() if what is None]


def check_counts(X: Modalities, counts: Collection[str]) -> Modalities:
    """Check that the layers `counts` hold counts: those in a file as their rows are read, the others now."""
    data = dict(X._data)
    for name, there in zip(X.names, X.present.T):
        if name not in counts:
            continue
        if isinstance(data[name], BackedCSR):
            data[name] = CheckedCounts.of(data[name], name)
        else:
            _require_counts(name, data[name], there)
    return Modalities._of(data, X._columns, X.present, X.sample_ids)


class CheckedCounts(BackedCSR):
    """Counts of a layer in a file, checked in all genes as they are read."""

    layer: str

    @classmethod
    def of(cls, values: BackedCSR, layer: str) -> "CheckedCounts":
        """Return `values`, of which reading checks what is read."""
        part: CheckedCounts = object.__new__(cls)
        part.__dict__.update(vars(values), layer=layer)
        return part

    def _load(self, known: Any) -> Any:
        stored = self.stored.open()["data"].dtype
        # Read as what they are: as integers they would have lost their fractions.
        rows = BackedCSR._load(self if self.dtype == stored else self.with_dtype(stored), known)
        _require_counts(self.layer, rows, np.ones(len(known), dtype=bool))
        return rows.astype(self.dtype)


def _require_counts(layer: str, values: Any, present: Any) -> None:
    odd = what_is_no_count(values, present)
    if odd is not None:
        raise ValueError(
            f"layer {layer!r} holds {odd}; due are counts, as at fit. Pass the raw layer, or fit on scaled ones."
        )


def what_is_no_count(values: Any, present: Any) -> str | None:
    """Say what in the rows that are present is no count, None where all are."""
    if is_backed(values):
        parts = (what_is_no_count(values.read(rows), present[rows]) for rows in values.scan())
        return next((odd for odd in parts if odd is not None), None)
    rows = values if present.all() else values[np.flatnonzero(present)]
    data = rows.data if sparse.issparse(rows) else np.ravel(rows)
    if data.dtype.kind not in "iufb":
        return f"values of dtype {data.dtype}"
    if data.size and data.dtype.kind == "f" and np.isnan(data).any():
        return "NaN"
    if data.size and data.max() > np.iinfo(np.int32).max:
        return f"values as large as {data.max():g}"
    if data.size and data.min() < 0:
        return f"negative values, such as {data.min():g}"
    if data.dtype.kind == "f" and not np.equal(np.floor(data), data).all():
        return f"fractions, such as {data[np.floor(data) != data][0]:g}"
    return None
