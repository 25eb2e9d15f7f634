"""Strategies that fill a missing modality from those that are present.

A strategy is fitted on a complete view of the training data, and `fill` gives the values of one modality for samples
that lack it. Numeric modalities travel as flat tables (n_samples, n_values).
"""

import math
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.decomposition import TruncatedSVD

from skfusion.modalities import Modalities
from skfusion.modalities.kinds import KINDS, Values, take
from skfusion.preprocessing import (
    N_COMPONENTS,
    WIDE,
    FittedOnPresent,
    MeanFill,
    present_rows,
    table_preprocessor,
    to_dense,
)

NUMERIC = ("dense", "sparse", "sequence", "image", "volume")
_CHUNK = 2**22
"""Distances held at a time."""


def flat(values: Values) -> Any:
    """Numeric values (n_samples, …) as a table (n_samples, n_values); CSR stays CSR."""
    return values if sparse.issparse(values) else np.asarray(values).reshape(len(values), math.prod(values.shape[1:]))


class Constant:
    """Fills with the training mean of each value, or with zero."""

    def __init__(self, zero: bool = False) -> None:
        self.zero = zero

    def fit(self, X: Modalities, names: list[str]) -> "Constant":
        """Learn the means of the modalities `names`."""
        self.means_ = {}
        for name in names:
            _require_numeric(X, name, "mean, zero")
            rows = flat(take(X[name], np.flatnonzero(X.present[:, X.names.index(name)])))
            means = MeanFill().fit(rows).means_
            self.means_[name] = np.zeros_like(means) if self.zero else means
        return self

    def fill(self, X: Modalities, name: str) -> Any:
        """Return (n_samples, n_values)."""
        return np.broadcast_to(self.means_[name], (len(X), len(self.means_[name])))


class Neighbors:
    """Fills with the mean of the nearest training samples that have the modality.

    The distance is the mean squared difference of the standardised values over the modalities that both have. Text and
    category tables are copied from the nearest one.
    """

    def __init__(self, n_neighbors: int, random_state: Any) -> None:
        self.n_neighbors, self.random_state = n_neighbors, random_state

    def fit(self, X: Modalities, names: list[str]) -> "Neighbors":
        """Keep the training samples, and learn the scaling."""
        self.tables_, self.means_, self.values_ = {}, {}, {}
        for column, name in enumerate(X.names):
            rows = present_rows(X[name], X.present[:, column])
            preprocessor = table_preprocessor(name, rows, project=True, random_state=self.random_state)
            self.tables_[name] = FittedOnPresent(preprocessor, rows)
            if name in names and X.kind(name) in NUMERIC:
                fill = MeanFill().fit(flat(rows))
                self.means_[name], self.values_[name] = fill.means_, fill.transform(flat(X[name]))
        self.X_ = X
        self.scaled_ = self._scaled(X)
        return self

    def _scaled(self, X: Modalities) -> list[Any]:
        return [
            to_dense(table.apply(X[name], X.present[:, X.names.index(name)])).astype(np.float32)
            for name, table in self.tables_.items()
        ]

    def fill(self, X: Modalities, name: str) -> Any:
        """Return (n_samples, n_values), or rows of the modality where it is not numeric."""
        own = self.X_.names.index(name)
        donors = np.flatnonzero(self.X_.present[:, own])
        k = min(self.n_neighbors, len(donors)) if name in self.values_ else 1
        nearest, compared = self._nearest(X, own, donors, k)
        if name not in self.values_:
            return take(self.X_[name], donors[nearest[:, 0]])
        values = self.values_[name]
        out = np.zeros((len(X), values.shape[1]))
        for neighbor, counts in zip(nearest.T, compared.T):
            out += np.where(counts[:, None], to_dense(values[donors[neighbor]]), 0)
        out /= np.maximum(compared.sum(axis=1, keepdims=True), 1)
        out[~compared.any(axis=1)] = self.means_[name]
        return out

    def _nearest(self, X: Modalities, own: int, donors: Any, k: int) -> tuple[Any, Any]:
        """Positions among `donors` of the `k` nearest to each sample, and whether they could be compared at all."""
        queries = self._scaled(X)
        others = [m for m in range(len(X.names)) if m != own]
        there = self.X_.present[donors].astype(np.float32)
        given = X.present.astype(np.float32)
        widths = np.array([queries[m].shape[1] for m in others], dtype=np.float32)
        nearest = np.zeros((len(X), k), dtype=np.intp)
        comparable = np.zeros((len(X), k), dtype=bool)
        step = max(_CHUNK // len(donors), 1)
        candidates = [self.scaled_[m][donors] for m in others]
        norms = [np.square(c).sum(axis=1) for c in candidates]
        for start in range(0, len(X), step):
            rows = slice(start, start + step)
            distance = np.zeros((len(given[rows]), len(donors)), dtype=np.float32)
            for m, candidate, norm in zip(others, candidates, norms):
                query = queries[m][rows]
                squared = np.square(query).sum(axis=1)[:, None] + norm - 2 * query @ candidate.T
                distance += squared * given[rows, m, None] * there[:, m]
            compared = (given[rows][:, others] * widths) @ there[:, others].T
            with np.errstate(invalid="ignore", divide="ignore"):
                distance = np.where(compared > 0, distance / compared, np.inf)
            closest = np.argpartition(distance, k - 1, axis=1)[:, :k]
            order = np.take_along_axis(distance, closest, axis=1).argsort(axis=1)
            nearest[rows] = np.take_along_axis(closest, order, axis=1)
            comparable[rows] = np.isfinite(np.take_along_axis(distance, nearest[rows], axis=1))
        return nearest, comparable


class Conversion:
    """Fills by networks that convert what is present into what is missing, trained on the squared error.

    Parameters
    ----------
    source : {"all", "pairs"}
        "all": one network a modality, from all others that are present. "pairs": one network for each ordered pair,
        whose conversions are averaged over the modalities present.
    estimator : JointFusionRegressor
        What is trained; cloned.
    """

    def __init__(self, source: str, estimator: Any, random_state: Any) -> None:
        self.source, self.estimator, self.random_state = source, estimator, random_state

    def fit(self, X: Modalities, names: list[str]) -> "Conversion":
        """Train on the samples that have the modality and another one."""
        from sklearn.base import clone

        self.means_ = Constant().fit(X, names).means_
        self.converters_: dict[str, list[tuple[list[str], Any]]] = {}
        self.projections_: dict[str, Any] = {}
        for name in names:
            others = [other for other in X.names if other != name]
            sources = [others] if self.source == "all" else [[other] for other in others]
            own = X.present[:, X.names.index(name)]
            self.converters_[name] = []
            for source in filter(None, sources):
                inputs = X.select(source)
                rows = np.flatnonzero(own & inputs.present.any(axis=1))
                if len(rows) < 2:
                    continue
                # In a mosaic, not every other modality occurs together with this one.
                source = [other for other in source if X.present[rows, X.names.index(other)].any()]
                inputs = X.select(source)
                target = self._target(name, flat(take(X[name], rows)))
                self.converters_[name].append((source, clone(self.estimator).fit(inputs[rows], target)))
        return self

    def _target(self, name: str, values: Any) -> Any:
        """Return what is regressed: the values, or components of wide CSR."""
        values = MeanFill().fit(values).transform(values)
        n_components = min(N_COMPONENTS, values.shape[0] - 1)
        if sparse.issparse(values) and values.shape[1] > WIDE and n_components > 0:
            if name not in self.projections_:
                self.projections_[name] = TruncatedSVD(n_components, random_state=self.random_state).fit(values)
            return self.projections_[name].transform(values)
        return to_dense(values).astype(np.float64)

    def fill(self, X: Modalities, name: str) -> Any:
        """Return (n_samples, n_values)."""
        total, count = np.zeros((len(X), len(self.means_[name]))), np.zeros(len(X))
        for source, converter in self.converters_[name]:
            inputs = X.select(source)
            rows = np.flatnonzero(inputs.present.any(axis=1))
            if len(rows):
                converted = converter.predict(inputs[rows]).reshape(len(rows), -1)
                if name in self.projections_:
                    converted = self.projections_[name].inverse_transform(converted)
                total[rows] += converted
                count[rows] += 1
        return np.where(count[:, None] > 0, total / np.maximum(count, 1)[:, None], self.means_[name])


def _require_numeric(X: Modalities, name: str, strategies: str) -> None:
    if X.kind(name) not in NUMERIC:
        raise ValueError(
            f"modality {name!r} is {KINDS[X.kind(name)]} and misses samples; the strategies {strategies} fill numbers "
            "alone. Use strategy='knn', which copies from the nearest sample, or leave the modality out."
        )
