"""The density of trained embeddings, fitted after training, which new ones are drawn from."""

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

    References
    ----------
    .. [1] Ghosh et al., "From variational to deterministic autoencoders", ICLR, 2020 (ex-post density estimation).
    """

    def __init__(self, n_components: int = 20) -> None:
        self.n_components = n_components

    def fit(self, points: Any, seed: int) -> Self:
        """Learn from `points` (n_points, n_columns)."""
        points = np.asarray(points, dtype=np.float64)
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
        return self.mean + scores @ self.axes
