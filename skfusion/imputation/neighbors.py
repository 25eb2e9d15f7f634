"""Filling from the nearest training samples."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from sklearn.utils import gen_batches

from skfusion._coins import flip_coins
from skfusion._compat import integer, options
from skfusion.imputation.forms import put
from skfusion.imputation.strategy import Settings, Strategy
from skfusion.imputation.tables import NUMERIC, Sources, flat, to_float32
from skfusion.modalities import Modalities
from skfusion.modalities.kinds import take
from skfusion.modalities.patterns import by_pattern
from skfusion.preprocessing import MeanFill, to_dense

_LEAST_IN_A_GROUP = 128
"""Donors of a pattern, on average, from which on a search for each pattern is the faster way."""
_DISTANCES = 1 << 22
"""How many are held at a time."""


class Neighbors(Strategy):
    """The nearest training samples that have the modality: their mean, or one of them.

    The distance is the mean squared difference of the standardised values over the modalities that both have. Texts and
    category tables are copied from the nearest one; where no training sample can be compared, a text is the most
    frequent one, and so is each value of a category table, but for floats, which are the mean.

    Parameters
    ----------
    n_neighbors : int, default=5
        How many; 1 copies the nearest.
    pick : {"mean", "random"}, default="mean"
        The mean of the nearest, or one of them at random, always the same for equal samples. `sample` always draws
        one, for all modalities that a sample lacks where these have the same nearest.

    Notes
    -----
    Samples are compared a pair of patterns at a time, so that each comparison is an ordinary nearest-neighbour search,
    or, where patterns are many for the samples that there are, with all donors at once; no matrix of all distances is
    held.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion import ModalityImputer
    >>> from skfusion.imputation import Neighbors
    >>> X = {"a": np.array([[1.0], [3.0], [4.0]]), "b": np.array([[10.0], [30.0], [np.nan]])}
    >>> ModalityImputer(Neighbors(n_neighbors=1)).fit_transform(X)["b"].ravel()
    array([10., 30., 30.])
    """

    _parameter_constraints = {"n_neighbors": [integer(1)], "pick": [options("mean", "random")]}
    copies = True

    def __init__(self, n_neighbors: int = 5, *, pick: str = "mean") -> None:
        self.n_neighbors = n_neighbors
        self.pick = pick

    def fit(self, X: Modalities, names: list[str], settings: Settings) -> Self:
        """Keep the training samples, and learn the scaling."""
        self.sources_ = Sources().fit(X, settings.seed)
        self.X_, self.names_, self.seed_ = X, names, settings.seed
        self.scaled_ = self._scaled(X)
        self.values_, self.means_, self.typical_ = {}, {}, {}
        for name in names:
            # A missing row may hold anything, and is never a donor.
            donors = take(X[name], self._donors(name))
            if X.kind(name) in NUMERIC:
                fill = MeanFill().fit(flat(donors))
                self.values_[name] = fill.transform(flat(donors))
                self.means_[name] = fill.means_
            else:
                self.typical_[name] = most_frequent(donors)
        return self

    def _scaled(self, X: Modalities) -> dict[str, Any]:
        return {name: to_float32(table) for name, table in self.sources_.encode(X).items()}

    def _donors(self, name: str) -> Any:
        return np.flatnonzero(self.X_.present[:, self.X_.names.index(name)])

    def fill(self, X: Modalities, name: str) -> Any:
        """Return (n_samples, n_values), or rows of the modality where it is not numeric."""
        if self.pick == "random" and name in self.values_:
            return self._pick(X, name, flip_coins(X, self.seed_))
        nearest, known = self._nearest(X, name, self.n_neighbors if name in self.values_ else 1)
        if name not in self.values_:
            alone = np.flatnonzero(~known[:, 0])
            copied = take(self.X_[name], self._donors(name)[nearest[:, 0]])
            return put(copied, alone, take(self.typical_[name], np.zeros(len(alone), dtype=np.intp)))
        return self._average(name, nearest, _shares(known))

    def spread(self, X: Modalities, name: str) -> Any:
        """Return the standard deviation of the nearest (n_samples, n_values), of all training values without any."""
        nearest, known = self._nearest(X, name, self.n_neighbors)
        mean = to_dense(self._average(name, nearest, _shares(known)))
        out = np.zeros_like(mean)
        for share, donors in zip(_shares(known).T, nearest.T):
            out += share[:, None] * np.square(to_dense(self.values_[name][donors]) - mean)
        alone = ~known.any(axis=1)
        if alone.any():
            out[alone] = StandardScaler(with_mean=False).fit(self.values_[name]).var_
        return np.sqrt(out)

    def draw(self, X: Modalities, rng: np.random.Generator) -> dict[str, Any]:
        """Return one of the nearest by chance; the same for several modalities where they have the same nearest.

        A sample with nothing present becomes a training sample, and what that one lacks is drawn as for any other.
        Where no donor could be compared, all are equally near.
        """
        chance, by_chance = rng.random((2, len(X)))
        nobody = np.flatnonzero(~X.present.any(axis=1))
        rows = rng.integers(len(self.X_), size=len(nobody))
        models = self.X_[rows]
        drawn = {}
        for name in self.names_:
            donors = self._donors(name)
            chosen = self._chosen(X, name, chance, by_chance)
            if len(nobody):
                whole = models.present[:, models.names.index(name)]
                others = self._chosen(models, name, chance[nobody], by_chance[nobody])
                chosen[nobody] = np.where(whole, np.searchsorted(donors, rows), others)
            drawn[name] = self.values_[name][chosen] if name in self.values_ else take(self.X_[name], donors[chosen])
        return drawn

    def _chosen(self, X: Modalities, name: str, chance: Any, by_chance: Any) -> Any:
        """Return the position among the donors of the neighbour that `chance` falls upon, (n_samples,).

        Where none could be compared, `by_chance` falls upon any donor; both go from 0 to 1.
        """
        nearest, known = self._nearest(X, name, self.n_neighbors)
        count, n_donors = known.sum(axis=1), len(self._donors(name))
        near = nearest[np.arange(len(X)), (chance * count).astype(np.intp)]
        return np.where(count > 0, near, (by_chance * n_donors).astype(np.intp))

    def _pick(self, X: Modalities, name: str, chance: Any) -> Any:
        """Return the neighbour that `chance` (n_samples,), from 0 to 1, falls upon."""
        nearest, known = self._nearest(X, name, self.n_neighbors)
        place = (chance * known.sum(axis=1)).astype(np.intp)
        return self._average(name, nearest, known & (np.arange(known.shape[1]) == place[:, None]))

    def _average(self, name: str, nearest: Any, weights: Any) -> Any:
        """Return the weighted mean of donors; the training mean where no donor could be compared."""
        n_samples, k = nearest.shape
        ends = np.arange(0, n_samples * k + 1, k)
        values = self.values_[name]
        mean = sparse.csr_matrix((weights.ravel(), nearest.ravel(), ends), (n_samples, values.shape[0])) @ values
        alone = np.flatnonzero(weights.sum(axis=1) == 0)
        if sparse.issparse(mean) and len(alone):
            whose = sparse.csr_matrix((np.ones(len(alone)), (alone, np.zeros(len(alone)))), (n_samples, 1))
            return mean + whose @ sparse.csr_matrix(self.means_[name])
        if len(alone):
            mean = mean.astype(np.float64, copy=False)  # a copy of integers is one, and their mean is not
            mean[alone] = self.means_[name]
        return mean

    def _nearest(self, X: Modalities, name: str, n_neighbors: int) -> tuple[Any, Any]:
        """Positions of the nearest donors (n_samples, k), nearest first, and whether each could be compared at all."""
        others = [other for other in X.names if other != name]
        columns = [X.names.index(other) for other in others]
        donors = self._donors(name)
        k = min(n_neighbors, len(donors))
        queries = self._scaled(X)
        nearest, known = np.zeros((len(X), k), dtype=np.intp), np.zeros((len(X), k), dtype=bool)
        there = self.X_.present[np.ix_(donors, columns)]
        tables = {other: self.scaled_[other][donors] for other in others}
        search = _by_group if len(by_pattern(there)) * _LEAST_IN_A_GROUP <= len(donors) else _at_once
        for given, rows in by_pattern(X.present[:, columns]):
            distance, position = np.full((len(rows), k), np.inf), np.zeros((len(rows), k), dtype=np.intp)
            sides = [
                (queries[other][rows], tables[other], has)
                for other, has, is_known in zip(others, there.T, given)
                if is_known
            ]
            if sides:
                for near, found in search(sides, k):
                    # Each leaves the k nearest so far.
                    distance, position = np.hstack([distance, near]), np.hstack([position, found])
                    order = np.argsort(distance, axis=1, kind="stable")[:, :k]
                    distance, position = (np.take_along_axis(part, order, axis=1) for part in (distance, position))
            nearest[rows], known[rows] = position, np.isfinite(distance)
        return nearest, known


Side = tuple[Any, Any, Any]
"""A modality that the queries have: their table (n, d), the donors' (n_donors, d), and which of these have it."""


def _by_group(sides: list[Side], k: int) -> Iterator[tuple[Any, Any]]:
    """Yield the nearest donors of each pattern and how far they are, (n, at most k)."""
    for has, group in by_pattern(np.column_stack([there for *_, there in sides])):
        shared = [side for side, both in zip(sides, has) if both]
        if shared:
            search = NearestNeighbors(algorithm="brute", metric="sqeuclidean")
            search.fit(np.hstack([donors[group] for _, donors, _ in shared]))
            query = np.hstack([own for own, *_ in shared])
            near, found = search.kneighbors(query, min(k, len(group)))
            yield near / query.shape[1], group[found]


def _at_once(sides: list[Side], k: int) -> Iterator[tuple[Any, Any]]:
    """Yield how far the nearest of all donors are, and which these are, some samples at a time, (n, k)."""
    own, donors = (np.hstack([side[i] for side in sides]).astype(np.float64) for i in (0, 1))
    has = np.column_stack([there for *_, there in sides]).astype(np.float64)  # (n_donors, M)
    n_shared = has @ [table.shape[1] for table, *_ in sides]
    lengths = np.column_stack([np.square(table, dtype=np.float64).sum(axis=1) for table, *_ in sides])  # (n, M)
    donor_lengths = np.square(donors).sum(axis=1)  # (n_donors,)
    near, found = np.full((len(own), k), np.inf), np.zeros((len(own), k), dtype=np.intp)
    for rows in gen_batches(len(own), max(_DISTANCES // len(donors), 1)):
        # Zeros stand for what a donor lacks, so that no difference is counted where a sample's own length is not.
        distance = lengths[rows] @ has.T + donor_lengths - 2 * own[rows] @ donors.T
        distance = np.divide(distance, n_shared, out=np.full_like(distance, np.inf), where=n_shared > 0)
        found[rows] = np.argpartition(distance, k - 1, axis=1)[:, :k]
        near[rows] = np.maximum(np.take_along_axis(distance, found[rows], axis=1), 0)
    yield near, found


def _shares(known: Any) -> Any:
    """Return equal weights (n_samples, k) of the neighbours that are known; they add up to 1, or to 0 without any."""
    return known / np.maximum(known.sum(axis=1, keepdims=True), 1)


def most_frequent(values: Any) -> Any:
    """Return one row: the most frequent text or token list, or each column's value; the mean of a column of floats."""
    if isinstance(values, pd.DataFrame):
        columns = [_typical(values.iloc[:, position]) for position in range(values.shape[1])]
        return pd.concat(columns, axis=1)
    keys = [value if isinstance(value, str) else tuple(value) for value in values]
    most = Counter(keys).most_common(1)[0][0]
    return values[[keys.index(most)]]


def _typical(column: Any) -> Any:
    if pd.api.types.is_float_dtype(column.dtype):
        return pd.Series([column.mean()], name=column.name, dtype=column.dtype)
    found = column.value_counts()
    known = len(found) and found.iloc[0]
    return pd.Series([found.index[0] if known else None], name=column.name, dtype=column.dtype)
