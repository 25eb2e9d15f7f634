"""Modalities as dense tables: what strategies compute from, and what they can turn back into values."""

import math
from typing import Any, Self

import numpy as np
from scipy import sparse
from sklearn.decomposition import TruncatedSVD

from skfusion._compat import on_arrays
from skfusion.modalities import Modalities
from skfusion.modalities.kinds import Values
from skfusion.preprocessing import (
    N_COMPONENTS,
    WIDE,
    FittedOnPresent,
    MeanFill,
    Projection,
    clip,
    present_rows,
    table_preprocessor,
    to_dense,
    varies,
)

NUMERIC = ("dense", "sparse", "sequence", "image", "volume")
_ROUNDING = 1e-12
"""Share of the mean that a constant column's spread may have."""
_BLOCK = 1024
"""Columns that are compared at a time."""


def to_float32(table: Any) -> Any:
    """Return a standardised table (n_samples, n_columns) in single precision, in which squares stay finite."""
    with np.errstate(over="ignore"):
        out = table.astype(np.float32)
    clip(out)
    return out


def flat(values: Values) -> Any:
    """Numeric values (n_samples, …) as a table (n_samples, n_values); CSR stays CSR."""
    return values if sparse.issparse(values) else np.asarray(values).reshape(len(values), math.prod(values.shape[1:]))


def mean_r2(truth: Any, filled: Any) -> float:
    """Return the mean R² of the columns of `filled` (n_samples, n_values) where `truth` is known, and not NaN.

    A column counts where it varies; one that does not says nothing of how well it is filled, and many, such as genes
    that no sample expresses, would drown the others. NaN where none varies. CSR is never dense as a whole.
    """
    truth, filled = (table.tocsc() if sparse.issparse(table) else table for table in (truth, filled))
    scores = [
        _r2(to_dense(truth[:, start : start + _BLOCK]), to_dense(filled[:, start : start + _BLOCK]))
        for start in range(0, truth.shape[1], _BLOCK)
    ]
    found = np.concatenate([part[~np.isnan(part)] for part in scores])
    return float(found.mean()) if len(found) else float("nan")


def _r2(truth: Any, filled: Any) -> Any:
    """R² of each column (n_values,), NaN where it does not vary."""
    known = ~np.isnan(truth)
    counts = known.sum(axis=0)
    mean = np.where(known, truth, 0).sum(axis=0, dtype=np.float64) / np.maximum(counts, 1)
    total, left = (np.square(np.where(known, truth - other, 0)).sum(axis=0) for other in (mean, filled))
    varies = total > counts * np.square(_ROUNDING * mean)
    return np.where(varies, 1 - left / np.where(varies, total, 1), np.nan)


class Sources:
    """Every modality, of any kind, as a standardised table to predict from; a missing row is zero, the mean."""

    def fit(self, X: Modalities, seed: int) -> Self:
        """Learn the preprocessing of each modality from the rows that have it."""
        self.tables_ = {}
        for name, present in zip(X.names, X.present.T):
            rows = present_rows(X[name], present)
            self.tables_[name] = FittedOnPresent(table_preprocessor(name, rows, project=True, random_state=seed), rows)
        return self

    def encode(self, X: Modalities) -> dict[str, Any]:
        """Return dense tables (n_samples, n_columns) by modality."""
        return {
            name: to_dense(self.tables_[name].apply(X[name], present)) for name, present in zip(X.names, X.present.T)
        }


class Targets:
    """Numeric modalities as standardised tables that can be turned back into values.

    Parameters
    ----------
    n_components : int or None, default=None
        Wider tables are projected to so many principal components, all divided by one scale; None projects wide CSR
        alone.
    """

    def __init__(self, n_components: int | None = None) -> None:
        self.n_components = n_components

    def fit(self, X: Modalities, names: list[str], seed: int) -> Self:
        """Learn means, scales and components of the modalities `names` from the rows that have them."""
        self.codes_ = {
            name: _Code(self.n_components, seed).fit(flat(present_rows(X[name], X.present[:, X.names.index(name)])))
            for name in names
        }
        return self

    @property
    def means(self) -> dict[str, Any]:
        """The mean of each value, (n_values,) by modality."""
        return {name: code.fill.means_ for name, code in self.codes_.items()}

    def by_value(self, name: str) -> bool:
        """Whether each column is a value, so that nothing was projected."""
        return self.codes_[name].projection is None

    def encode(self, X: Modalities, name: str) -> Any:
        """Return (n_samples, n_columns) float64; zeros where the modality is missing."""
        code, present = self.codes_[name], X.present[:, X.names.index(name)]
        out = np.zeros((len(X), code.n_columns))
        if present.any():
            out[present] = code.encode(flat(present_rows(X[name], present)))
        return out

    def decode(self, name: str, table: Any) -> Any:
        """Return the values (n_samples, n_values) of a table (n_samples, n_columns)."""
        return self.codes_[name].decode(table)

    def decode_spread(self, name: str, root: Any, noise: Any) -> Any:
        """Return the standard deviations (n_values,) of values whose columns have covariance root rootᵀ + diag(noise).

        `root` is (n_columns, k), `noise` (n_columns,).
        """
        return self.codes_[name].decode_spread(root, noise)


class _Code:
    """One table, standardised and projected where it is wide."""

    def __init__(self, n_components: int | None, seed: int) -> None:
        self.n_components, self.seed = n_components, seed

    def fit(self, values: Any) -> Self:
        n_samples, width = values.shape
        self.fill = MeanFill().fit(values)
        values = self.fill.transform(values)
        wide = sparse.issparse(values) and width > WIDE
        limit = self.n_components or (N_COMPONENTS if wide else None)
        n_components = width if limit is None else min(limit, n_samples - 1, width)
        projected = 0 < n_components < width
        self.keeps_csr = wide and projected
        self.mean, self.scale, self.spread = self.fill.means_, np.ones(1), np.ones(1)
        if wide:
            self.mean = np.zeros(width)
        else:
            values = to_dense(values).astype(np.float64)
            self.spread = values.std(axis=0)
            # Rounding leaves a constant column with a spread just above 0. What fills it is the constant.
            self.spread[self.spread <= _ROUNDING * np.abs(self.mean)] = 0.0
            self.scale = np.where(self.spread > 0, self.spread, 1.0)
        self.projection: Any = None
        self.n_columns, self.shift, self.unit = width, 0.0, 1.0
        if projected:
            components: Any = TruncatedSVD if wide and varies(values) else Projection
            standardised = self._standardised(values)
            self.projection = on_arrays(components(n_components, random_state=self.seed)).fit(standardised)
            self.n_columns = len(self.projection.components_)
            table = self.projection.transform(standardised)
            self.shift = table.mean(axis=0)
            self.unit = float(np.sqrt(np.mean(np.square(table - self.shift)))) or 1.0
        return self

    def _standardised(self, values: Any) -> Any:
        return values if self.keeps_csr else (to_dense(values).astype(np.float64) - self.mean) / self.scale

    def _project(self, values: Any) -> Any:
        table = self._standardised(values)
        return table if self.projection is None else self.projection.transform(table)

    def encode(self, values: Any) -> Any:
        return (self._project(self.fill.transform(values)) - self.shift) / self.unit

    def decode(self, table: Any) -> Any:
        table = np.asarray(table, dtype=np.float64) * self.unit + self.shift
        if self.projection is not None:
            table = self.projection.inverse_transform(table)
        return table * self.spread + self.mean

    def decode_spread(self, root: Any, noise: Any) -> Any:
        if self.projection is not None:
            components = self.projection.components_  # (n_columns, n_values)
            root, noise = components.T @ root, noise @ np.square(components)
        return np.sqrt(np.square(root).sum(axis=1) + noise) * self.unit * self.spread
