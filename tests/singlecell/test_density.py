"""The density that embeddings are drawn from."""

import numpy as np

from skfusion.singlecell._density import Density


def test_it_finds_clusters_and_their_spread():
    rng = np.random.default_rng(0)
    which = rng.integers(2, size=600)
    points = np.array([[-4.0, 0, 1], [4.0, 2, 1]])[which] + rng.normal(size=(600, 3)) * [1.0, 0.2, 0.5]
    density = Density().fit(points, seed=0)
    assert len(density.mixture.weights_) == 2
    drawn = density.sample(4000, np.random.RandomState(0))
    np.testing.assert_allclose(drawn.mean(axis=0), points.mean(axis=0), atol=0.2)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(points.T), atol=0.6)
    assert (np.abs(drawn[:, 0]) < 0.5).mean() < 0.01  # nothing between them


def test_points_that_are_all_alike_are_drawn_alike():
    drawn = Density().fit(np.ones((50, 4)), seed=0).sample(10, np.random.RandomState(0))
    np.testing.assert_allclose(drawn, 1, atol=1e-3)


def test_directions_beyond_those_that_are_kept_stay_at_their_mean():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(300, 5)) * [5, 3, 0.1, 0.1, 0.1] + 1
    drawn = Density(n_components=2).fit(points, seed=0).sample(500, np.random.RandomState(0))
    assert np.linalg.matrix_rank(drawn - drawn.mean(axis=0), tol=1e-6) == 2
