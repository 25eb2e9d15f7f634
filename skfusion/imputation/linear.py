"""Filling by ridge regression, in closed form."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Self

import numpy as np
from scipy import linalg
from sklearn.base import clone
from sklearn.model_selection import KFold

from skfusion._compat import integer, options, real
from skfusion.imputation.strategy import Settings, Strategy
from skfusion.imputation.tables import Sources, Targets
from skfusion.modalities import Modalities
from skfusion.modalities.patterns import by_pattern
from skfusion.preprocessing import LogNormalizer, MeanFill, holds_counts, to_dense

ALPHAS = np.logspace(-2, 5, 15)
"""Penalties that cross-validation chooses from, on standardised columns."""
_ENOUGH = 5000
"""Samples that choose the penalty, which does not grow with their number."""
_ROUNDING = 1e-12
"""Share of a column's variance below which it is rounding; float32 tables are good to 1e-7 of a value."""
_KEPT_BYTES = 1 << 28
"""What regressions may take that are kept for the next samples of their pattern."""


class Linear(Strategy):
    """Ridge regression [1]_ from the modalities present, in closed form.

    Each pattern of what is present has a regression of its own, from the training samples that have all of that and the
    modality to be filled. Where those are fewer than `min_samples`, sources are left out, first the one that brings
    back most samples, as long as that at least doubles them.

    Columns with the same name in a source, such as the gene of another layer, enter the regression of their namesake
    beside the standardised, and where wide CSR projected, columns of all sources.

    Parameters
    ----------
    alpha : float or "auto", default="auto"
        Penalty on standardised columns; 0 is ordinary least squares. "auto" is chosen for each modality by 5-fold
        cross-validation, from `ALPHAS`.
    min_samples : int, default=100
        Samples from which on no source is left out.

    References
    ----------
    .. [1] Hoerl and Kennard, "Ridge regression: biased estimation for nonorthogonal problems", Technometrics 12, 1970.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion import ModalityImputer
    >>> from skfusion.imputation import Linear
    >>> X = {"a": np.array([[1.0], [3.0], [4.0]]), "b": np.array([[10.0], [30.0], [np.nan]])}
    >>> ModalityImputer(Linear(alpha=0)).fit_transform(X)["b"].ravel().round(6)
    array([10., 30., 40.])
    """

    _parameter_constraints = {"alpha": [real(0), options("auto")], "min_samples": [integer(1)]}

    def __init__(self, alpha: float | str = "auto", *, min_samples: int = 100) -> None:
        self.alpha = alpha
        self.min_samples = min_samples

    def fit(self, X: Modalities, names: list[str], settings: Settings) -> Self:
        """Keep the training samples as tables, and choose the penalties."""
        self._keep(X, names, settings.seed)
        self.alphas_ = {name: self._choose(X, name, settings.seed) for name in names}
        return self

    def _keep(self, X: Modalities, names: list[str], seed: int) -> Self:
        # Nothing is predicted from itself.
        sources = X.select([source for source in X.names if names != [source]] or names)
        self.sources_ = Sources().fit(sources, seed)
        self.targets_ = Targets().fit(X, names, seed)
        self.present_, self.names_ = X.present, X.names
        self.tables_ = self.sources_.encode(sources)
        self.coded_ = {name: self.targets_.encode(X, name) for name in names}
        self.namesakes_ = {name: _Namesakes(X, name if self.targets_.by_value(name) else None) for name in names}
        self.own_ = {name: self.namesakes_[name].values(X) for name in names}
        self._recent = _Recent()
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without regressions that are fitted anew where they are needed."""
        state: dict[str, Any] = super().__getstate__()
        return state | {"_recent": _Recent()} if "_recent" in state else state

    def _choose(self, X: Modalities, name: str, seed: int) -> float:
        """Return the penalty of least squared error in cross-validation."""
        if self.alpha != "auto":
            return float(self.alpha)
        column = X.names.index(name)
        rows = np.flatnonzero(X.present[:, column] & np.delete(X.present, column, axis=1).any(axis=1))
        if len(rows) < 3:
            return 1.0
        if len(rows) > _ENOUGH:
            rows = np.sort(np.random.default_rng(0).choice(rows, _ENOUGH, replace=False))
        error = np.zeros(len(ALPHAS))
        # Folds are always the same, since a closed form is not to depend on chance.
        for train, test in KFold(min(5, len(rows)), shuffle=True, random_state=0).split(rows):
            # Components are learnt anew: on the samples that they come from, they vary more than on others.
            there = X.present[rows[train]].any(axis=0)
            known = X.select(list(np.array(X.names)[there]))
            inner = clone(self)._keep(known[rows[train]], [name], seed)
            held_out = known[rows[test]]
            truth = inner.targets_.encode(held_out, name)
            ridges: dict[Any, Ridge] = {}
            for where, key, query, own in inner._queries(held_out, name):
                ridge = ridges[key] = ridges.get(key) or inner._ridge(*key)
                for i, predicted in enumerate(ridge.path(query, own, ALPHAS)):
                    error[i] += np.square(truth[where] - predicted).sum()
        return float(ALPHAS[np.argmin(error)])

    def _support(self, name: str, sources: list[str]) -> tuple[str, ...]:
        """Return `sources`, less those that too few training rows have together with `name`; none without two rows."""

        def rows(chosen: list[str]) -> int:
            return int(self.present_[:, [self.names_.index(source) for source in [name, *chosen]]].all(axis=1).sum())

        def gain(left: str) -> tuple[int, int]:
            # Where two are missing together, leaving out one gains nothing yet: the rarer one goes.
            return rows([s for s in rest if s != left]), -rows([left])

        rest = sources
        while len(rest) > 1 and rows(sources) < self.min_samples:
            left = max(rest, key=gain)
            rest = [s for s in rest if s != left]
            # A source is worth more than a few samples.
            if rows(rest) >= 2 * rows(sources):
                sources = rest
        return tuple(sources) if rows(sources) > 1 else ()

    def _fitted(self, name: str, sources: tuple[str, ...]) -> "_Map":
        return self._ridge(name, sources).at(self.alphas_[name])

    def _ridge(self, name: str, sources: tuple[str, ...]) -> "Ridge":
        """Return the regression on `sources`, of the training rows that have them and `name`."""
        columns = [self.names_.index(source) for source in (name, *sources)]
        rows = np.flatnonzero(self.present_[:, columns].all(axis=1))
        own = [self.own_[name][source][rows] for source in sources if source in self.own_[name]]
        return Ridge().fit(np.hstack([self.tables_[source][rows] for source in sources]), self.coded_[name][rows], own)

    def fill(self, X: Modalities, name: str) -> Any:
        """Return (n_samples, n_values)."""
        out = np.tile(self.targets_.means[name], (len(X), 1))
        for where, key, query, own in self._queries(X, name):
            found = self._recent.get(key, self._fitted)
            out[where] = self.targets_.decode(name, found.predict(query, own))
        return out

    def _queries(self, X: Modalities, name: str) -> Iterator[tuple[Any, tuple[str, tuple[str, ...]], Any, list[Any]]]:
        """Yield, a pattern of what is present, its rows, which regression is theirs, and what that predicts from."""
        others = [other for other in X.names if other != name]
        if not others:
            return
        tables, own = self.sources_.encode(X.select(others)), self.namesakes_[name].values(X)
        for given, where in by_pattern(X.present[:, [X.names.index(other) for other in others]]):
            sources = self._support(name, [other for other, there in zip(others, given) if there])
            if sources:
                query = np.hstack([tables[source][where] for source in sources])
                yield where, (name, sources), query, [own[source][where] for source in sources if source in own]


class _Map(NamedTuple):
    """A fitted regression: from shared columns (n, p) and own ones (n, q) each to targets (n, q)."""

    centre: Any
    factors: list[Any]
    """Matrices whose product has the weights (p, q): one, or two where that is less to multiply by."""
    offset: Any
    own_centres: list[Any]
    slopes: Any

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in (self.centre, *self.factors, *self.slopes))

    def predict(self, Z: Any, own: list[Any]) -> Any:
        out = Z - self.centre
        for factor in self.factors:
            out = out @ factor
        out = out + self.offset
        for slope, part, centre in zip(self.slopes, own, self.own_centres):
            out += slope * (part - centre)
        return out


class _Recent:
    """The regressions that were asked for last, as many as fit into `_KEPT_BYTES`."""

    def __init__(self) -> None:
        self.kept: OrderedDict[Any, _Map] = OrderedDict()

    def get(self, key: tuple[Any, ...], make: Callable[..., _Map]) -> _Map:
        """Return what was kept for `key`, or make it."""
        found = self.kept.pop(key, None) or make(*key)
        self.kept[key] = found
        while sum(part.nbytes for part in [*self.kept.values()]) > _KEPT_BYTES:
            self.kept.popitem(last=False)
        return found


class Ridge:
    """Ridge regression of many columns, each with a few columns of its own beside those that all share.

    By the theorem of Frisch, Waugh and Lovell the own columns get their coefficients from what the shared ones leave,
    in the samples and in the penalty, which is as good as further samples.
    """

    def fit(self, Z: Any, Y: Any, own: list[Any]) -> Self:
        """Decompose shared columns (n, p), for targets (n, q) and own columns (n, q) each."""
        self.centre, self.offsets = Z.mean(axis=0), [part.mean(axis=0) for part in (Y, *own)]
        self.parts = [part - offset for part, offset in zip((Y, *own), self.offsets)]
        self.axes, self.scores, self.variances = principal_axes(Z - self.centre)
        self.inside = [self.scores.T @ part for part in self.parts]  # (rank, q) each
        return self

    def path(self, Z: Any, own: list[Any], alphas: Iterable[float]) -> Iterator[Any]:
        """Yield the predictions (n, q) for each penalty; 0 is least squares of least norm."""
        scores = (Z - self.centre) @ self.axes
        for alpha in alphas:
            weights, slopes = self._coefficients(alpha)
            yield _Map(0, [weights], self.offsets[0], self.offsets[1:], slopes).predict(scores, own)

    def at(self, alpha: float) -> _Map:
        """Return the regression with this penalty, without the samples."""
        weights, slopes = self._coefficients(alpha)
        (p, rank), q = self.axes.shape, weights.shape[1]
        factors = [self.axes @ weights] if p * q <= rank * (p + q) else [self.axes, weights]
        return _Map(self.centre, factors, self.offsets[0], self.offsets[1:], slopes)

    def _coefficients(self, alpha: float) -> tuple[Any, Any]:
        """Return those of the scores on the axes (rank, q), and of the own columns (k, q)."""
        weights, *others = [part / (self.variances + alpha)[:, None] for part in self.inside]
        if not others:
            return weights, ()
        target, *left = (
            np.vstack([part - self.scores @ c, np.sqrt(alpha) * c]) for part, c in zip(self.parts, [weights, *others])
        )
        total = np.array([_squares(part) for part in self.parts[1:]])  # (k, q)
        # A column that the shared ones explain in full has nothing to add.
        left = [rest * (_squares(rest) > _ROUNDING * square) for rest, square in zip(left, total)]
        # The penalty is one on standardised columns.
        slopes = _columnwise(np.array(left), target, alpha * total / len(self.scores))
        # What the shared columns say of an own one is theirs already.
        return weights - sum(slope * c for slope, c in zip(slopes, others)), slopes


def principal_axes(Z: Any) -> tuple[Any, Any, Any]:
    """Return the axes (p, rank) of centred Z (n, p), the scores on them (n, rank), and the scores' sums of squares."""
    n, p = Z.shape
    squares, vectors = linalg.eigh(Z.T @ Z if p <= n else Z @ Z.T)
    real = squares > max(n, p) * np.finfo(np.float64).eps * max(squares[-1], 1e-300)
    squares, vectors = squares[real], vectors[:, real]
    if p <= n:
        return vectors, Z @ vectors, squares
    scores = vectors * np.sqrt(squares)
    return Z.T @ (vectors / np.sqrt(squares)), scores, squares


def _squares(part: Any) -> Any:
    return np.square(part).sum(axis=0)


def _columnwise(X: Any, Y: Any, penalty: Any) -> Any:
    """Return the ridge coefficients (k, q) of each column of Y (n, q) on its own k columns X (k, n, q).

    `penalty` is (k, q).
    """
    gram = np.einsum("anq,bnq->qab", X, X) + penalty.T[:, :, None] * np.eye(len(X))
    right = np.einsum("anq,nq->qa", X, Y)
    return np.einsum("qab,qb->aq", np.linalg.pinv(gram, hermitian=True), right)


class _Namesakes:
    """The columns of other modalities that are called as the target's."""

    def __init__(self, X: Modalities, name: str | None) -> None:
        self.positions: dict[str, Any] = {}
        self.steps: dict[str, Any] = {}
        if name is None or not _has_names(X, name):
            return
        for other in X.names:
            if other == name or not _has_names(X, other):
                continue
            where = {column: i for i, column in enumerate(X.columns(other))}
            found = [where.get(column, -1) for column in X.columns(name)]
            if max(found) < 0:
                continue
            rows = X[other][np.flatnonzero(X.present[:, X.names.index(other)])]
            counts = X.kind(other) == "sparse" and holds_counts(rows)
            self.steps[other] = [MeanFill().fit(rows), *([LogNormalizer().fit(rows)] if counts else [])]
            self.positions[other] = np.array(found)

    def values(self, X: Modalities) -> dict[str, Any]:
        """Return (n_samples, n_values) by source; zeros for columns without a namesake, and where it is missing."""
        out = {}
        for other, positions in self.positions.items():
            there = np.flatnonzero(X.present[:, X.names.index(other)])
            rows = X[other][there]
            for step in self.steps[other]:
                rows = step.transform(rows)
            own = np.zeros((len(X), len(positions)))
            known = np.flatnonzero(positions >= 0)
            own[np.ix_(there, known)] = to_dense(rows[:, positions[known]])
            out[other] = own
        return out


def _has_names(X: Modalities, name: str) -> bool:
    columns = X._columns[name]
    # Numbers count the columns, and mean no more.
    return X.kind(name) in ("dense", "sparse") and columns is not None and not all(c.isdigit() for c in columns)
