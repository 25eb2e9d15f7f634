import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.stats import spearmanr
from sklearn.neighbors import kneighbors_graph

from skfusion.decoders.kinetics import DURATION, Transcription, splicing_velocity
from skfusion.singlecell.dynamics import Dynamics, fit_dynamics


def simulate(n_cells=400, n_genes=40, seed=0, noise=0.1):
    """Cells along one time, genes that go on at 0 and off at a time of their own; noise in units of a gene's sd."""
    rng = np.random.default_rng(seed)
    alpha, beta, gamma = (np.exp(rng.normal(np.log(m), 0.4, n_genes)) for m in (5, 0.5, 0.3))
    stop, time = rng.uniform(2, 18, n_genes), rng.uniform(0, 20, n_cells)
    none = torch.zeros(n_genes, dtype=torch.float64)
    genes = Transcription(
        none, *map(torch.from_numpy, (alpha, none.numpy(), beta, gamma)), none, torch.from_numpy(stop)
    )
    u, s = (layer.numpy() for layer in genes.at(torch.from_numpy(time)[:, None]))
    noisy_s, noisy_u = (layer + noise * layer.std(axis=0) * rng.normal(size=layer.shape) for layer in (s, u))
    return noisy_s, noisy_u, splicing_velocity(u, s, beta, gamma), time


def graph(spliced, unspliced, n_neighbors=15):
    return kneighbors_graph(np.hstack([spliced / spliced.std(0), unspliced / unspliced.std(0)]), n_neighbors)


def cosine(a, b):
    return ((a * b).sum(1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-12)).mean()


def test_it_recovers_velocity_and_time_which_shuffled_unspliced_counts_do_not_tell():
    spliced, unspliced, true, time = simulate()
    fitted = fit_dynamics(spliced, unspliced, graph(spliced, unspliced))
    found = fitted.time(spliced, unspliced)
    velocity = fitted.velocity(found)
    assert spearmanr(found, time)[0] > 0.98
    assert cosine(velocity, true) > 0.95
    assert (np.sign(velocity) == np.sign(true)).mean() > 0.95
    seen_less = fit_dynamics(spliced, 0.2 * unspliced, graph(spliced, unspliced))
    assert cosine(seen_less.velocity(seen_less.time(spliced, 0.2 * unspliced)), true) > 0.9
    steady = unspliced - (unspliced * spliced).sum(0) / (spliced**2).sum(0) * spliced
    assert cosine(velocity, true) > cosine(steady, true) + 0.05

    shuffled = unspliced[np.random.default_rng(0).permutation(len(unspliced))]
    control = fit_dynamics(spliced, shuffled, graph(spliced, shuffled))
    assert cosine(control.velocity(control.time(spliced, shuffled)), true) < 0.3


def test_direction_comes_from_the_data_and_not_from_the_order_of_the_cells():
    spliced, unspliced, _, time = simulate(200, 30)
    backwards = np.argsort(-time)
    for order in (backwards, backwards[::-1]):
        s, u = spliced[order], unspliced[order]
        assert spearmanr(fit_dynamics(s, u, graph(s, u)).time(s, u), time[order])[0] > 0.9


def test_units_do_not_matter():
    spliced, unspliced, _, _ = simulate(200, 30)
    near = graph(spliced, unspliced)
    one = fit_dynamics(spliced, unspliced, near, max_iter=3)
    other = fit_dynamics(1000 * spliced, 1000 * unspliced, near, max_iter=3)
    np.testing.assert_allclose(other.time(1000 * spliced, 1000 * unspliced), one.time(spliced, unspliced))
    np.testing.assert_allclose(other.velocity([3.0]), 1000 * one.velocity([3.0]), rtol=1e-6)


def test_a_graph_in_pieces_is_no_obstacle():
    spliced, unspliced, _, time = simulate(200, 30)
    fitted = fit_dynamics(spliced, unspliced, sparse.csr_matrix((200, 200)))
    assert spearmanr(fitted.time(spliced, unspliced), time)[0] > 0.9


@pytest.fixture
def known():
    rng = np.random.default_rng(3)
    rates = [rng.uniform(0.2, 1.0, 6) for _ in range(5)]
    start, stop = rng.uniform(0, 5, 6), rng.uniform(8, 15, 6)
    rates[1] = rates[1] + 4
    return Dynamics(*rates, np.full(6, 0.5), start, stop, *np.ones((3, 6)))


def test_cells_on_the_curve_get_their_time_from_either_layer(known):
    time = np.linspace(4, 14, 9)
    u, s = known.at(time)
    nothing = np.full_like(s, np.nan)
    for spliced, unspliced in ((s, u), (s, nothing), (nothing, u)):
        np.testing.assert_allclose(known.time(spliced, unspliced), time, atol=DURATION / 100)
    assert np.isnan(known.time(nothing, nothing)).all()


def test_velocity_is_the_slope_of_the_curve(known):
    step = 1e-5
    time = np.array([2.0, 6.0, 18.0])
    slope = (known.at(time + step)[1] - known.at(time - step)[1]) / (2 * step)
    np.testing.assert_allclose(known.velocity(time), slope, atol=1e-6)
