"""Filling by ridge regression, in closed form."""

from typing import Any, Self

import numpy as np
from scipy import linalg

from skfusion._compat import integer, options, real
from skfusion.imputation.strategy import Settings, Strategy
from skfusion.imputation.tables import Sources, Targets, patterns
from skfusion.modalities import Modalities
from skfusion.preprocessing import LogNormalizer, MeanFill, holds_counts, to_dense

ALPHAS = np.logspace(-2, 5, 15)
"""Penalties that cross-validation chooses from, on standardised columns."""


class Linear(Strategy):
    """Ridge regression from the modalities present, in closed form.

    Each pattern of what is present has a regression of its own, from the training samples that have all of that and the
    modality to be filled. Where those are fewer than `min_samples`, sources are left out, first the one that brings
    back most samples.

    Columns with the same name in a source, such as the gene of another layer, enter the regression of their namesake
    beside the standardised, and where wide CSR projected, columns of all sources.

    Parameters
    ----------
    alpha : float or "auto", default="auto"
        Penalty on standardised columns; 0 is ordinary least squares. "auto" is chosen for each modality by generalised
        cross-validation [1]_, from `ALPHAS`.
    min_samples : int, default=100
        Samples that a regression is due, where leaving out sources gets there.

    References
    ----------
    .. [1] Golub, Heath and Wahba, "Generalized cross-validation as a method for choosing a good ridge parameter",
           Technometrics 21, 1979.

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
        self.sources_ = Sources().fit(X, settings.seed)
        self.targets_ = Targets().fit(X, names, settings.seed)
        self.present_, self.names_ = X.present, X.names
        self.tables_ = self.sources_.encode(X)
        self.coded_ = {name: self.targets_.encode(X, name) for name in names}
        self.namesakes_ = {name: _Namesakes(X, name if self.targets_.by_value(name) else None) for name in names}
        self.own_ = {name: self.namesakes_[name].values(X) for name in names}
        self.alphas_ = {name: self._choose(name) for name in names}
        return self

    def _choose(self, name: str) -> float:
        if self.alpha != "auto":
            return float(self.alpha)
        others = [other for other in self.names_ if other != name]
        rows, sources = self._support(name, others)
        if not sources or len(rows) < 3:
            return 1.0
        return generalised_cross_validation(*self._training(name, rows, sources)[:2])

    def _support(self, name: str, sources: list[str]) -> tuple[Any, list[str]]:
        """Return the training rows that have `name` and `sources`, less those sources without which rows are enough."""
        own = self.present_[:, self.names_.index(name)]

        def rows(chosen: list[str]) -> Any:
            return own & self.present_[:, [self.names_.index(source) for source in chosen]].all(axis=1)

        enough = min(self.min_samples, own.sum())
        while len(sources) > 1 and rows(sources).sum() < enough:
            sources = max(([s for s in sources if s != left] for left in sources), key=lambda rest: rows(rest).sum())
        found = np.flatnonzero(rows(sources))
        return found, sources if len(found) > 1 else []

    def _training(self, name: str, rows: Any, sources: list[str]) -> tuple[Any, Any, Any]:
        """Return sources (n, p), target (n, q), and the namesakes in each source that has some, (n, q) each."""
        own = [self.own_[name][source][rows] for source in sources if source in self.own_[name]]
        return np.hstack([self.tables_[source][rows] for source in sources]), self.coded_[name][rows], own

    def fill(self, X: Modalities, name: str) -> Any:
        """Return (n_samples, n_values)."""
        out = np.tile(self.targets_.means[name], (len(X), 1))
        others = [other for other in X.names if other != name]
        tables, own = self.sources_.encode(X), self.namesakes_[name].values(X)
        fitted: dict[tuple[str, ...], Any] = {}
        for given, where in patterns(X.present[:, [X.names.index(other) for other in others]]):
            rows, sources = self._support(name, [other for other, there in zip(others, given) if there])
            if not sources:
                continue
            key = tuple(sources)
            if key not in fitted:
                fitted[key] = Ridge(self.alphas_[name]).fit(*self._training(name, rows, sources))
            query = np.hstack([tables[source][where] for source in sources])
            beside = [own[source][where] for source in sources if source in own]
            out[where] = self.targets_.decode(name, fitted[key].predict(query, beside))
        return out


class Ridge:
    """Ridge regression of many columns, each with a few columns of its own beside those that all share.

    By the theorem of Frisch, Waugh and Lovell the own columns get their coefficients from what the shared ones leave.
    """

    def __init__(self, alpha: float) -> None:
        self.alpha = alpha

    def fit(self, Z: Any, Y: Any, own: list[Any]) -> Self:
        """Fit on shared columns (n, p), targets (n, q), and own columns (n, q) each."""
        self.centre, self.offsets = Z.mean(axis=0), [part.mean(axis=0) for part in (Y, *own)]
        Z = Z - self.centre
        parts = [part - offset for part, offset in zip((Y, *own), self.offsets)]
        coefficients = ridge_coefficients(Z, np.hstack(parts), self.alpha)  # (p, (1 + len(own)) q)
        self.coefficients = np.split(coefficients, len(parts), axis=1)
        target, *left = (part - Z @ c for part, c in zip(parts, self.coefficients))
        self.slopes = _columnwise(np.array(left), target, self.alpha) if own else np.zeros((0, Y.shape[1]))
        return self

    def predict(self, Z: Any, own: list[Any]) -> Any:
        """Return (n, q)."""
        Z = Z - self.centre
        out = Z @ self.coefficients[0] + self.offsets[0]
        for slope, part, offset, c in zip(self.slopes, own, self.offsets[1:], self.coefficients[1:]):
            out += slope * (part - offset - Z @ c)
        return out


def ridge_coefficients(Z: Any, Y: Any, alpha: float) -> Any:
    """Return the (p, q) that minimise ‖Y − Zβ‖² + alpha ‖β‖²; of least norm where alpha is 0."""
    if alpha == 0:
        return np.linalg.lstsq(Z, Y, rcond=None)[0]
    n, p = Z.shape
    if p <= n:
        return linalg.solve(Z.T @ Z + alpha * np.eye(p), Z.T @ Y, assume_a="pos")
    return Z.T @ linalg.solve(Z @ Z.T + alpha * np.eye(n), Y, assume_a="pos")


def generalised_cross_validation(Z: Any, Y: Any) -> float:
    """Return the penalty of `ALPHAS` with the least generalised cross-validation error, summed over columns."""
    n = len(Z)
    U, s, _ = linalg.svd(Z - Z.mean(axis=0), full_matrices=False)
    Y = Y - Y.mean(axis=0)
    inside = np.square(U.T @ Y).sum(axis=1)  # (rank,)
    outside = max(float(np.square(Y).sum() - inside.sum()), 0.0)
    left = ALPHAS[:, None] / (np.square(s) + ALPHAS[:, None])  # (n_alphas, rank), what shrinking takes away
    error = np.square(left) @ inside + outside
    freedom = n - 1 - (1 - left).sum(axis=1)
    return float(ALPHAS[np.argmin(error / np.square(np.maximum(freedom, 1e-9)))])


def _columnwise(X: Any, Y: Any, alpha: float) -> Any:
    """Return the ridge coefficients (k, q) of each column of Y (n, q) on its own k columns X (k, n, q)."""
    scale = np.maximum(np.square(X).mean(axis=(0, 1)), 1e-30)  # the penalty is one on standardised columns
    gram = np.einsum("anq,bnq->qab", X, X) + alpha * scale[:, None, None] * np.eye(len(X))
    # A column that the shared ones explain in full has nothing to add.
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
