"""The density of trained embeddings, fitted after training, which new ones are drawn from."""

from typing import Any, Self

import numpy as np
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

_SIZES = (1, 2, 4, 8, 16)
_CELLS_PER_COMPONENT = 30


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
        self.pca = PCA(min(self.n_components, *points.shape), svd_solver="full").fit(points)
        scores = self.pca.transform(points)
        sizes = [size for size in _SIZES if size == 1 or size * _CELLS_PER_COMPONENT <= len(points)]
        fits = [
            GaussianMixture(size, reg_covar=1e-3 * max(scores.var(), 1e-12), random_state=seed).fit(scores)
            for size in sizes
        ]
        self.mixture = min(fits, key=lambda fit: fit.bic(scores))
        return self

    def sample(self, n: int, rng: np.random.RandomState) -> Any:
        """Draw (n, n_columns)."""
        which = rng.choice(len(self.mixture.weights_), size=n, p=self.mixture.weights_)
        noise = rng.normal(size=(n, self.mixture.means_.shape[1]))
        roots = np.linalg.cholesky(self.mixture.covariances_)  # (K, D, D)
        return self.pca.inverse_transform(self.mixture.means_[which] + np.einsum("nij,nj->ni", roots[which], noise))
