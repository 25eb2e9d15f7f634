"""Densities, fitted after training, which new cells are drawn from: of embeddings, and of totals."""

import warnings
from typing import Any, Self

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

_SIZES = (1, 2, 4, 8, 16)
_CELLS_PER_COMPONENT = 30
_NOTHING = 1e-9
"""Points of less variance are all alike."""


class Density:
    """A Gaussian mixture over principal components of points, of as many components as BIC prefers [1]_.

    Parameters
    ----------
    n_components : int, default=20
        Principal components, at most.
    spread : ndarray (n_columns,), default=1.0
        What columns of points are divided by before.

    References
    ----------
    .. [1] Ghosh et al., "From variational to deterministic autoencoders", ICLR, 2020 (ex-post density estimation).
    """

    def __init__(self, n_components: int = 20, spread: Any = 1.0) -> None:
        self.n_components, self.spread = n_components, spread

    def fit(self, points: Any, seed: int) -> Self:
        """Learn from `points` (n_points, n_columns)."""
        points = np.asarray(points / self.spread, dtype=np.float64)
        self.mean = points.mean(axis=0)
        self.axes = np.linalg.svd(points - self.mean, full_matrices=False)[2][: self.n_components]
        scores = (points - self.mean) @ self.axes.T
        spread = float(scores.var())
        most = 1 if spread < _NOTHING else max(1, len(points) // _CELLS_PER_COMPONENT)
        with warnings.catch_warnings():
            # One that needs more steps is compared as it is.
            warnings.simplefilter("ignore", ConvergenceWarning)
            fits = [
                GaussianMixture(size, reg_covar=1e-3 * max(spread, _NOTHING), random_state=seed).fit(scores)
                for size in _SIZES
                if size <= most
            ]
        self.mixture = min(fits, key=lambda fit: fit.bic(scores))
        return self

    def sample(self, n: int, rng: np.random.RandomState) -> Any:
        """Draw (n, n_columns)."""
        which = rng.choice(len(self.mixture.weights_), size=n, p=self.mixture.weights_)
        noise = rng.normal(size=(n, self.mixture.means_.shape[1]))
        roots = np.linalg.cholesky(self.mixture.covariances_)  # (K, D, D)
        scores = self.mixture.means_[which] + np.einsum("nij,nj->ni", roots[which], noise)
        return (self.mean + scores @ self.axes) * self.spread


class LogTotals:
    """A normal density of the log totals of cells in each batch, which it takes for one cell more than it has.

    That one is as the average of all cells, so that a batch of a few cells has a density as well.
    """

    def fit(self, logs: Any, codes: Any) -> Self:
        """Learn from `logs` (n_cells, n_layers) of cells, and their batches `codes` (n_cells, n_batches), one-hot."""
        logs, codes = np.asarray(logs, dtype=np.float64), np.asarray(codes, dtype=np.float64)
        n = codes.sum(axis=0)[:, None] + 1
        self.means = (codes.T @ logs + logs.mean(axis=0)) / n  # (n_batches, n_layers)
        apart = logs - codes @ self.means
        common = apart.T @ apart / len(logs)
        covariances = (np.einsum("cb,ci,cj->bij", codes, apart, apart) + common) / n[..., None]
        self.roots = np.linalg.cholesky(covariances + _NOTHING * np.eye(logs.shape[1]))
        return self

    def sample(self, codes: Any, rng: np.random.RandomState) -> Any:
        """Draw log totals (n, n_layers) of cells of the batches `codes` (n, n_batches), one-hot."""
        which = codes.argmax(axis=1)
        noise = rng.normal(size=(len(codes), self.means.shape[1]))
        return self.means[which] + np.einsum("nij,nj->ni", self.roots[which], noise)
