"""Optimal transport between the tokens of modalities."""

import numpy as np
import pytest
import torch
from _tokens import LENGTHS, N_MODALITIES, assert_close, build, draw, everyone, inputs_of, noise_for, padded, without
from _tokens import double as double
from _tokens import single as single
from scipy.optimize import linear_sum_assignment

from skfusion.encoders.batch import Tokens
from skfusion.fusion import EarlyConcat, OptimalTransport
from skfusion.fusion.optimal_transport import sinkhorn

REAL = {
    "all": (torch.ones(3, 4, dtype=torch.bool), torch.ones(3, 6, dtype=torch.bool)),
    "some": (torch.arange(4) < torch.tensor([[4], [1], [3]]), torch.arange(6) < torch.tensor([[2], [6], [1]])),
    "scattered": (torch.tensor([[1, 0, 0, 1]] * 3).bool(), torch.tensor([[0, 1, 1, 0, 0, 1]] * 3).bool()),
}


def costs(*shape, seed=0):
    return 2 * torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def cosine_costs(x, y):
    """1 - cos of every pair, from the definition."""
    return 1 - (x @ y.mT) / (x.norm(dim=-1).unsqueeze(2) * y.norm(dim=-1).unsqueeze(1))


# The plan


@pytest.mark.parametrize("real", REAL)
def test_marginals_are_uniform_over_what_is_real(real):
    rows, columns = REAL[real]
    plan = sinkhorn(costs(3, 4, 6), rows, columns, epsilon=0.5, n_iter=200)
    assert_close(plan.sum(2), rows / rows.sum(1, keepdim=True))
    assert_close(plan.sum(1), columns / columns.sum(1, keepdim=True))
    assert torch.equal(plan > 0, rows.unsqueeze(2) & columns.unsqueeze(1))


@pytest.mark.usefixtures("single")
def test_the_iterations_of_the_default_are_enough():
    rows, columns = REAL["all"]
    plan = sinkhorn(costs(3, 4, 6), rows, columns, epsilon=0.05, n_iter=50)
    assert_close(plan.sum(2), torch.full((3, 4), 1 / 4))
    assert (plan.sum(1) - 1 / 6).abs().max() < 0.01


def test_a_plan_does_not_know_what_is_not_real():
    rows, columns = REAL["some"]
    cost = costs(3, 4, 6)
    plan = sinkhorn(cost, rows, columns, epsilon=0.1, n_iter=100)
    other = torch.where(rows.unsqueeze(2) & columns.unsqueeze(1), cost, 7.0)
    assert torch.equal(sinkhorn(other, rows, columns, epsilon=0.1, n_iter=100), plan)
    for i, (n_rows, n_columns) in enumerate([(4, 2), (1, 6), (3, 1)]):
        small = cost[[i], :n_rows, :n_columns]
        everything = [torch.ones(1, n, dtype=torch.bool) for n in (n_rows, n_columns)]
        assert_close(plan[i, :n_rows, :n_columns], sinkhorn(small, *everything, epsilon=0.1, n_iter=100)[0])


def test_a_plan_is_that_of_plain_scaling():
    rows, columns = REAL["all"]
    cost = costs(3, 4, 6)
    kernel = np.exp(-cost[0].numpy() / 0.3)
    u = np.ones(4)
    for _ in range(25):
        v = (1 / 6) / (kernel.T @ u)
        u = (1 / 4) / (kernel @ v)
    assert_close(sinkhorn(cost, rows, columns, epsilon=0.3, n_iter=25)[0], torch.as_tensor(u[:, None] * kernel * v))


@pytest.mark.parametrize("seed", range(4))
def test_with_a_vanishing_epsilon_it_costs_what_the_best_assignment_costs(seed):
    cost, epsilon = costs(3, 5, 5, seed=seed), 5e-3
    everything = torch.ones(3, 5, dtype=torch.bool)
    plan = sinkhorn(cost, everything, everything, epsilon, n_iter=2000)
    for i in range(3):
        best = cost[i].numpy()[linear_sum_assignment(cost[i].numpy())].mean()
        # What entropy may cost at most.
        assert best - 1e-4 <= (plan[i] * cost[i]).sum() <= best + epsilon * np.log(5) + 1e-4


@pytest.mark.parametrize("seed", range(4))
def test_with_a_vanishing_epsilon_it_is_the_best_assignment_of_what_is_real(seed):
    # The best pairs are ahead of all others by 0.3, but not the cheapest of their rows: columns differ in price.
    random = np.random.default_rng(seed)
    reduced = 0.3 + 0.5 * random.random((4, 4))
    reduced[np.arange(4), random.permutation(4)] = 0
    cost = np.full((5, 6), -9.0)
    rows, columns = np.array([0, 1, 3, 4]), np.array([1, 2, 3, 5])
    cost[np.ix_(rows, columns)] = reduced + 3 * random.random((4, 1)) + 3 * random.random(4)
    chosen = linear_sum_assignment(cost[np.ix_(rows, columns)])
    assert (cost[np.ix_(rows, columns)].argmin(1) != chosen[1]).any()
    expected = np.zeros((5, 6))
    expected[rows[chosen[0]], columns[chosen[1]]] = 1 / 4
    real = [torch.isin(torch.arange(n), torch.as_tensor(which)).unsqueeze(0) for n, which in ((5, rows), (6, columns))]
    plan = sinkhorn(torch.as_tensor(cost).unsqueeze(0), *real, epsilon=0.01, n_iter=500)[0]
    torch.testing.assert_close(plan, torch.as_tensor(expected), rtol=0, atol=0.01)


def test_with_an_endless_epsilon_everything_goes_everywhere():
    rows, columns = REAL["some"]
    plan = sinkhorn(costs(3, 4, 6), rows, columns, epsilon=1e9, n_iter=3)
    expected = (rows / rows.sum(1, keepdim=True)).unsqueeze(2) * (columns / columns.sum(1, keepdim=True)).unsqueeze(1)
    torch.testing.assert_close(plan, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_sample_without_rows_or_columns_has_a_plan_of_zeros(dtype):
    rows = torch.tensor([[True] * 4, [False] * 4, [False] * 4])
    columns = torch.tensor([[False] * 6, [True] * 6, [False] * 6])
    assert not sinkhorn(costs(3, 4, 6).to(dtype), rows, columns, epsilon=1e-3, n_iter=50).any()


# The fusion


def aligned_by_hand(fusion, tokens, missing):
    """The tokens that go on, sample by sample alike: `tokens` have no padding."""
    there = [name for name in tokens if name not in missing]
    adapted = {name: tokens[name].values + fusion.modality[list(tokens).index(name)] for name in there}
    if "a" not in there:
        return adapted
    first, ready = adapted["a"], {"a": adapted["a"]}
    for name in there[1:]:
        everything = [torch.ones(3, adapted[n].shape[1], dtype=torch.bool) for n in ("a", name)]
        plan = sinkhorn(cosine_costs(first, adapted[name]), *everything, fusion.epsilon, fusion.n_iter)
        ready[name] = first.shape[1] * plan @ adapted[name]
    return ready


@N_MODALITIES
@pytest.mark.parametrize("missing", [(), ("a",), ("b",)])
def test_the_tokens_of_the_others_are_moved_to_the_first_and_all_are_mixed(n_modalities, missing):
    fusion, tokens = build(OptimalTransport, n_modalities), draw(n_modalities)
    expected = torch.cat(list(aligned_by_hand(fusion, tokens, missing).values()), 1)
    output = fusion(tokens, without(tokens, *missing))
    assert_close(output.fused, fusion.refine(fusion.mixer(expected).mean(1)))
    for t in output.tokens.values():
        assert len(set(t.mask.sum(1).tolist())) == 1
    n_real = sum(int(t.mask[0].sum()) for t in output.tokens.values())
    assert n_real == expected.shape[1]


@N_MODALITIES
def test_samples_with_and_without_the_first_go_side_by_side(n_modalities):
    fusion, tokens = build(OptimalTransport, n_modalities), draw(n_modalities)
    present = everyone(tokens)
    present[0, 0] = present[1, 1] = False
    found = fusion(tokens, present).fused
    for i, missing in enumerate((("a",), ("b",), ())):
        assert_close(found[i], fusion(tokens, without(tokens, *missing)).fused[i])


def test_tokens_in_another_order_are_brought_back_into_order():
    fusion = build(OptimalTransport, 2, epsilon=1e-3, n_iter=200)
    with torch.no_grad():
        fusion.modality.zero_()
    first, order = draw({"a": 4})["a"], torch.tensor([2, 0, 3, 1])
    tokens = {"a": first, "b": Tokens(first.values[:, order], first.mask)}
    with inputs_of(fusion.mixer) as seen:
        fusion(tokens, everyone(tokens))
    torch.testing.assert_close(seen[0][:, :4], first.values)
    torch.testing.assert_close(seen[0][:, 4:8], first.values, rtol=1e-3, atol=1e-3)


def test_aligned_tokens_are_averages_and_with_an_endless_epsilon_the_mean():
    fusion, tokens = build(OptimalTransport, 2, epsilon=1e9), padded(draw(2), "b", 3)
    with inputs_of(fusion.mixer) as seen:
        fusion(tokens, everyone(tokens))
    mean = (tokens["b"].values[:, :3] + fusion.modality[1]).mean(1, keepdim=True)
    torch.testing.assert_close(seen[0][:, 4:8], mean.expand(-1, 4, -1), rtol=1e-6, atol=1e-6)


@N_MODALITIES
def test_no_gradient_runs_through_the_plan(n_modalities):
    fusion, tokens = build(OptimalTransport, n_modalities), draw(n_modalities)
    values = tokens["a"].values.requires_grad_()
    with inputs_of(fusion.mixer) as seen:
        fusion(tokens, everyone(tokens))
    moved = seen[0][:, LENGTHS["a"] :]
    (gradient,) = torch.autograd.grad(moved.square().sum(), values, allow_unused=True, materialize_grads=True)
    assert not gradient.any()


@N_MODALITIES
def test_padding_is_not_moved(n_modalities):
    fusion, tokens = build(OptimalTransport, n_modalities), padded(padded(draw(n_modalities), "b", 3), "a", 2)
    short = {name: Tokens(values[:, mask[0]], mask[:, mask[0]]) for name, (values, mask) in tokens.items()}
    assert_close(fusion(tokens, everyone(tokens)).fused, fusion(short, everyone(tokens)).fused)
    assert not torch.allclose(
        fusion(noise_for(tokens, "b"), everyone(tokens)).fused, fusion(tokens, everyone(tokens)).fused, atol=1e-2
    )


def test_of_one_modality_it_is_the_transformer():
    fusion, tokens = build(OptimalTransport, 1), draw(1)
    plain = build(EarlyConcat, 1)
    plain.load_state_dict(fusion.state_dict())
    assert_close(fusion(tokens, everyone(tokens)).fused, plain(tokens, everyone(tokens)).fused)
