"""Exact optimal transport: sums, corners, and costs that another solver gives."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from skfusion.fusion.optimal_transport import sinkhorn
from skfusion.objectives.transport import exact_plan

SHAPES = pytest.mark.parametrize("shape", [(1, 1), (1, 4), (5, 1), (4, 4), (3, 7), (20, 13)])


def draw(shape, seed=0):
    return np.random.default_rng(seed).uniform(0, 2, shape)


def masses(n, seed, concentration=1.0):
    return np.random.default_rng(seed).dirichlet(np.full(n, concentration))


@SHAPES
@pytest.mark.parametrize("concentration", [None, 1.0, 0.1])
def test_a_plan_has_its_sums_and_is_a_corner(shape, concentration):
    r, k = shape
    given = [None, None] if concentration is None else [masses(n, i, concentration) for i, n in enumerate(shape)]
    plan = exact_plan(draw(shape), *given)
    a, b = (np.full(n, 1 / n) if mass is None else mass for n, mass in zip(shape, given))
    assert (plan >= 0).all()
    np.testing.assert_allclose(plan.sum(1), a, atol=1e-9)
    np.testing.assert_allclose(plan.sum(0), b, atol=1e-9)
    assert np.count_nonzero(plan) <= r + k - 1


def test_costs_that_tie_still_give_a_corner():
    plan = exact_plan(np.zeros((6, 9)))
    assert np.count_nonzero(plan) <= 14
    np.testing.assert_allclose(plan.sum(0), 1 / 9, atol=1e-9)


@pytest.mark.parametrize("n", [2, 5, 12])
def test_the_linear_program_costs_what_the_assignment_does(n):
    cost = draw((n, n))
    rows, columns = linear_sum_assignment(cost)
    assigned = cost[rows, columns].sum() / n
    assert (exact_plan(cost) * cost).sum() == pytest.approx(assigned, abs=1e-12)
    # A row twice, each of half the mass, cannot be assigned; the least cost is the same.
    halves = np.concatenate([[0.5, 0.5], np.ones(n - 1)]) / n
    plan = exact_plan(np.concatenate([cost[:1], cost]), halves)
    assert (plan * np.concatenate([cost[:1], cost])).sum() == pytest.approx(assigned, abs=1e-9)


def test_no_other_plan_costs_less():
    cost, a, b = draw((4, 6)), masses(4, 1), masses(6, 2)
    best = (exact_plan(cost, a, b) * cost).sum()
    rng = np.random.default_rng(3)
    for _ in range(50):
        other = rng.exponential(size=(4, 6)) ** 4
        for _ in range(2000):
            other *= (a / other.sum(1))[:, None]
            other *= b / other.sum(0)
        assert (other * cost).sum() >= best - 1e-9


def test_the_entropic_plan_goes_to_the_exact_one():
    cost = draw((5, 7))
    exact = (exact_plan(cost) * cost).sum()
    everything = torch.ones(1, 5, dtype=torch.bool), torch.ones(1, 7, dtype=torch.bool)
    gaps = []
    for epsilon in (1.0, 0.1, 0.01, 0.001):
        plan = sinkhorn(torch.from_numpy(cost)[None], *everything, epsilon, 5000)[0].numpy()
        gaps.append((plan * cost).sum() - exact)
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] > 0.1
    assert abs(gaps[-1]) < 1e-5


def test_what_has_no_mass_is_left_out():
    cost = draw((4, 5))
    a, b = np.array([0.5, 0, 0.5, 0]), np.array([0, 0.2, 0.3, 0, 0.5])
    plan = exact_plan(cost, a, b)
    assert not plan[[1, 3]].any()
    assert not plan[:, [0, 3]].any()
    np.testing.assert_array_equal(
        plan[np.ix_([0, 2], [1, 2, 4])], exact_plan(cost[np.ix_([0, 2], [1, 2, 4])], b=b[[1, 2, 4]])
    )


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_mass_may_add_up_to_anything(scale):
    cost, a, b = draw((3, 4)), masses(3, 0), masses(4, 1)
    np.testing.assert_allclose(
        exact_plan(cost, scale * a, scale * b), scale * exact_plan(cost, a, b), atol=1e-9 * scale
    )


@pytest.mark.parametrize(
    ("cost", "options", "message"),
    [
        (np.zeros(3), {}, r"cost has shape \(3,\)"),
        ([[0, np.nan]], {}, "NaN or inf"),
        (np.zeros((2, 2)), {"a": [1.0]}, r"a has shape \(1,\)"),
        (np.zeros((2, 2)), {"b": [-1.0, 2.0]}, "at least 0"),
        (np.zeros((2, 2)), {"a": [1.0, 1.0]}, "a adds up to 2.0 and b to 1.0"),
    ],
)
def test_wrong_input(cost, options, message):
    with pytest.raises(ValueError, match=message):
        exact_plan(cost, **options)
