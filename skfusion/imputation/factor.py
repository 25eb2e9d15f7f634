"""Filling by a linear-Gaussian latent that all modalities share."""

from typing import Any, Self

import numpy as np
from scipy import linalg
from sklearn.utils.extmath import randomized_svd

from skfusion._compat import integer, options, real
from skfusion.imputation.strategy import Settings, Strategy
from skfusion.imputation.tables import Targets
from skfusion.modalities import Modalities
from skfusion.modalities.patterns import by_pattern

_LEAST_NOISE = 1e-6


class Factor(Strategy):
    r"""A linear-Gaussian latent that all modalities share, fitted by EM [1]_, [2]_.

    :math:`x_m = \mu_m + W_m z + \varepsilon_m` with :math:`z \sim N(0, I)` and :math:`\varepsilon_m \sim N(0, \Psi_m)`,
    :math:`\Psi_m` diagonal. From the modalities present, the posterior of the latent is
    :math:`N(S \sum_m W_m^\top \Psi_m^{-1} (x_m - \mu_m), S)`, :math:`S = (I + \sum_m W_m^\top \Psi_m^{-1} W_m)^{-1}`.
    Missing modalities are left out of the sums, in training too, which is right where they are missing at random.
    Those that are not numeric have no say.

    Parameters
    ----------
    n_components : int or "auto", default="auto"
        Width of the latent. "auto" is a tenth of the training samples, from 1 to 100, and less than all columns.
    max_iter : int, default=100
        Iterations of EM at most.
    tol : float, default=1e-4
        EM ends where the log-likelihood a value gains less.

    Attributes
    ----------
    log_likelihood_ : list of float
        The log-likelihood of each iteration, a value.

    References
    ----------
    .. [1] Rubin and Thayer, "EM algorithms for ML factor analysis", Psychometrika 47, 1982.
    .. [2] Liu et al., "Calibrated multimodal representation learning with missing modalities", 2025.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion import ModalityImputer
    >>> from skfusion.imputation import Factor
    >>> a = np.arange(20.0)[:, None]
    >>> X = {"a": a, "b": np.r_[10 * a[:19], [[np.nan]]]}
    >>> ModalityImputer(Factor(1)).fit_transform(X)["b"][-1].round(0)
    array([190.])
    """

    _parameter_constraints = {
        "n_components": [integer(1), options("auto")],
        "max_iter": [integer(1)],
        "tol": [real(0)],
    }

    def __init__(self, n_components: int | str = "auto", *, max_iter: int = 100, tol: float = 1e-4) -> None:
        self.n_components = n_components
        self.max_iter = max_iter
        self.tol = tol

    def fit(self, X: Modalities, names: list[str], settings: Settings) -> Self:
        """Fit by EM."""
        self.targets_ = Targets().fit(X, names, settings.seed)
        tables, present = self._tables(X)
        p = sum(table.shape[1] for table in tables)
        k = int(np.clip(len(X) // 10, 1, 100)) if self.n_components == "auto" else int(self.n_components)
        self.model_, self.log_likelihood_ = fit_factors(tables, present, min(k, max(p - 1, 1)), self.max_iter, self.tol)
        return self

    def _tables(self, X: Modalities) -> tuple[list[Any], Any]:
        names = list(self.targets_.codes_)
        return [self.targets_.encode(X, name) for name in names], X.present[:, [X.names.index(n) for n in names]]

    def _posterior(self, X: Modalities, name: str | None = None) -> tuple[Any, Any, Any, Any]:
        """Mean of the latent from all, or all but `name`; covariances by pattern, and the pattern of each sample."""
        tables, present = self._tables(X)
        if name is not None:
            present = present & (np.array(list(self.targets_.codes_)) != name)
        return (*self.model_.posterior(tables, present), present)

    def fill(self, X: Modalities, name: str) -> Any:
        """Return (n_samples, n_values)."""
        mean, _, _, present = self._posterior(X, name)
        m = list(self.targets_.codes_).index(name)
        out = self.targets_.decode(name, mean @ self.model_.loadings[m].T + self.model_.means[m])
        out[~present.any(axis=1)] = self.targets_.means[name]
        return out

    def draw(self, X: Modalities, rng: np.random.Generator) -> dict[str, Any]:
        """Return a draw of all modalities from the posterior of the latent, and the noise around it."""
        z, covariances, group, _ = self._posterior(X)
        noise = rng.standard_normal(z.shape)
        for i, covariance in enumerate(covariances):
            z[group == i] += noise[group == i] @ linalg.cholesky(covariance, lower=True).T
        out = {}
        for name, loading, offset, noise in zip(
            self.targets_.codes_, self.model_.loadings, self.model_.means, self.model_.noises
        ):
            x = z @ loading.T + offset
            out[name] = self.targets_.decode(name, x + np.sqrt(noise) * rng.standard_normal(x.shape))
        return out

    def spread(self, X: Modalities, name: str) -> Any:
        """Return the posterior standard deviation (n_samples, n_values)."""
        spreads, group = self._spreads(X, name)
        return spreads[group]

    def mean_spread(self, X: Modalities, name: str) -> Any:
        """Return the mean posterior standard deviation (n_values,) over the samples that have the modality."""
        spreads, group = self._spreads(X, name)
        counts = np.bincount(group[X.present[:, X.names.index(name)]], minlength=len(spreads))
        return counts @ spreads / counts.sum()

    def _spreads(self, X: Modalities, name: str) -> tuple[Any, Any]:
        """Return the standard deviations (n_patterns, n_values) given all others, and the pattern of each sample."""
        codes = list(self.targets_.codes_)
        present = X.present[:, [X.names.index(code) for code in codes]] & (np.array(codes) != name)
        covariances, group = self.model_.covariances(present)
        W, noise = self.model_.loadings[codes.index(name)], self.model_.noises[codes.index(name)]
        roots = [W @ linalg.cholesky(covariance, lower=True) for covariance in covariances]
        spreads = np.array([self.targets_.decode_spread(name, root, noise) for root in roots])
        return spreads.reshape(len(roots), -1), group


class FactorModel:
    """Means (p_m,), loadings (p_m, k) and noise variances (p_m,) of each modality."""

    def __init__(self, means: list[Any], loadings: list[Any], noises: list[Any]) -> None:
        self.means, self.loadings, self.noises = means, loadings, noises

    def posterior(self, tables: list[Any], present: Any) -> tuple[Any, Any, Any]:
        """Return the posterior mean (n, k), the covariances (n_patterns, k, k), and the pattern of each sample (n,).

        `tables` hold zeros where a modality is missing, or where `present` says so they are not looked at.
        """
        covariances, group = self.covariances(present)
        mean = np.zeros((len(present), covariances.shape[1]))
        weighted = [W / noise[:, None] for W, noise in zip(self.loadings, self.noises)]  # Ψ⁻¹ W
        for covariance, (pattern, rows) in zip(covariances, by_pattern(present)):
            for m in np.flatnonzero(pattern):
                mean[rows] += (tables[m][rows] - self.means[m]) @ weighted[m]
            mean[rows] = mean[rows] @ covariance
        return mean, covariances, group

    def covariances(self, present: Any) -> tuple[Any, Any]:
        """Return the posterior covariances (n_patterns, k, k), and the pattern of each sample (n,)."""
        k = self.loadings[0].shape[1]
        grams = [W.T @ (W / noise[:, None]) for W, noise in zip(self.loadings, self.noises)]  # Wᵀ Ψ⁻¹ W
        group, covariances = np.zeros(len(present), dtype=np.intp), []
        for i, (pattern, rows) in enumerate(by_pattern(present)):
            precision = np.eye(k) + sum((grams[m] for m in np.flatnonzero(pattern)), np.zeros((k, k)))
            covariance = linalg.inv(precision)
            covariances.append((covariance + covariance.T) / 2)
            group[rows] = i
        return np.array(covariances).reshape(-1, k, k), group

    def log_likelihood(self, tables: list[Any], present: Any) -> float:
        """Return the log-likelihood of what is present."""
        mean, covariances, group = self.posterior(tables, present)
        total = 0.0
        # log N(x; μ, WWᵀ + Ψ) by the matrix inversion and determinant lemmas.
        for m, (offset, W, noise) in enumerate(zip(self.means, self.loadings, self.noises)):
            rows = np.flatnonzero(present[:, m])
            left = tables[m][rows] - offset
            square = (np.square(left) / noise).sum() - np.einsum(
                "np,nk,pk->", left / noise, mean[rows], W, optimize=True
            )
            total -= 0.5 * (square + len(rows) * np.log(2 * np.pi * noise).sum())
        determinants = np.array([np.linalg.slogdet(c)[1] for c in covariances])
        return total + 0.5 * float(determinants[group].sum())


def fit_factors(tables: list[Any], present: Any, k: int, max_iter: int, tol: float) -> tuple[FactorModel, list[float]]:
    """Fit a `FactorModel` of width `k` by EM; return it with the log-likelihood a value of each iteration."""
    n_values = sum(int(present[:, m].sum()) * table.shape[1] for m, table in enumerate(tables))
    rows = [np.flatnonzero(column) for column in present.T]
    model = _start(tables, k)
    path: list[float] = []
    for _ in range(max_iter):
        path.append(model.log_likelihood(tables, present) / n_values)
        if len(path) > 1 and path[-1] - path[-2] < tol:
            break
        mean, covariances, group = model.posterior(tables, present)
        # Each modality regresses on (z, 1), where z is known up to its posterior.
        z = np.hstack([mean, np.ones((len(mean), 1))])
        counts = np.array([np.bincount(group[r], minlength=len(covariances)) for r in rows])  # (M, n_patterns)
        for m, (table, there) in enumerate(zip(tables, rows)):
            second = z[there].T @ z[there]
            second[:k, :k] += np.tensordot(counts[m], covariances, axes=1)
            cross = table[there].T @ z[there]  # (p, k + 1)
            solution = linalg.solve(second + 1e-9 * np.eye(k + 1), cross.T, assume_a="pos").T
            left = np.square(table[there]).sum(axis=0) - (solution * cross).sum(axis=1)
            model.loadings[m], model.means[m] = solution[:, :k], solution[:, k]
            model.noises[m] = np.maximum(left / len(there), _LEAST_NOISE)
    return model, path


def _start(tables: list[Any], k: int) -> FactorModel:
    """Start from the principal components of what is there, the rest at the mean."""
    joint = np.hstack(tables)
    if 10 * k < min(joint.shape):
        _, s, V = randomized_svd(joint, k, random_state=0)
    else:
        _, s, V = linalg.svd(joint, full_matrices=False)
    loadings = (V[:k].T * (s[:k] / np.sqrt(len(joint)))).copy()  # (p, at most k)
    if loadings.shape[1] < k:
        loadings = np.hstack([loadings, np.zeros((len(loadings), k - loadings.shape[1]))])
    ends = np.cumsum([table.shape[1] for table in tables])[:-1]
    parts = np.split(loadings, ends)
    noises = [np.clip(1 - np.square(part).sum(axis=1), 0.1, 1) for part in parts]
    return FactorModel([np.zeros(table.shape[1]) for table in tables], parts, noises)
