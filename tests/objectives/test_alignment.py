"""Alignment: what it costs to move the tokens of one modality to those of another."""

import pytest
import torch
import torch.nn.functional as F
from _outputs import Scene
from torch import nn

from skfusion.objectives import Alignment
from skfusion.objectives.alignment import exact_plans
from skfusion.objectives.transport import exact_plan

METHODS = pytest.mark.parametrize("method", ["sinkhorn", "exact"])


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def plain(scene, **options):
    """An objective that compares the tokens themselves."""
    objective = scene.prepared(Alignment(**options))
    objective.projections = nn.ModuleList(nn.Identity() for _ in scene.names)
    return objective


def cost_by_hand(a, b):
    cost = 1 - F.normalize(a, dim=1) @ F.normalize(b, dim=1).T
    return (torch.from_numpy(exact_plan(cost.detach())) * cost).sum()


def test_it_is_the_mean_least_cost_over_samples_that_have_both():
    scene = Scene({"a": 3, "b": 5, "c": 1}, 4, missing=[(0, "a"), (2, "b")])
    scene.masks["b"][3, 2:] = False
    means = []
    for a, b, rows in (("a", "b", [1, 3]), ("a", "c", [1, 2, 3]), ("b", "c", [0, 1, 3])):
        tokens = [[scene.tokens[name][row][scene.masks[name][row]] for row in rows] for name in (a, b)]
        means.append(torch.stack([cost_by_hand(*pair) for pair in zip(*tokens)]).mean())
    found = scene.loss(plain(scene, method="exact"))
    torch.testing.assert_close(found.mean, torch.stack(means).mean(), rtol=1e-10, atol=0)
    assert found.n == 4
    # The entropic cost comes down to that.
    assert scene.loss(plain(scene)).mean > found.mean
    close = scene.loss(plain(scene, epsilon=0.002, n_iter=2000)).mean
    torch.testing.assert_close(close, found.mean, rtol=0, atol=1e-3)


@METHODS
def test_tokens_in_another_order_cost_nothing(method):
    scene = Scene({"a": 4, "b": 4}, 5)
    scene.tokens["b"] = 3 * scene.tokens["a"].detach()[:, [2, 0, 3, 1]]
    found = scene.loss(plain(scene, method=method, **({"epsilon": 0.01} if method == "sinkhorn" else {}))).mean
    assert found.item() == pytest.approx(0, abs=1e-3 if method == "sinkhorn" else 1e-12)


@METHODS
def test_no_gradient_runs_through_the_plan(method):
    scene = Scene({"a": 4, "b": 3}, 2)
    objective = plain(scene, method=method)
    scene.loss(objective).mean.backward()
    a, b = (scene.tokens[name].detach().requires_grad_() for name in "ab")
    cost = 1 - F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).mT
    everything = [torch.ones(2, n, dtype=torch.bool) for n in (4, 3)]
    ((objective._plan(cost.detach(), *everything) * cost).sum((1, 2)).mean()).backward()
    torch.testing.assert_close(scene.tokens["a"].grad, a.grad)
    assert (a.grad != 0).any()


@METHODS
def test_what_is_not_there_has_no_say_and_no_gradient(method):
    scene = Scene({"a": 4, "b": 3}, 5, missing=[(0, "a"), (1, "b"), (2, "a"), (2, "b")])
    scene.masks["a"][3, 1:] = False
    objective = scene.prepared(Alignment(method=method))
    before = scene.loss(objective)
    before.mean.backward()
    assert (scene.tokens["a"].grad[:3] == 0).all()
    assert (scene.tokens["a"].grad[3, 1:] == 0).all()
    assert (scene.tokens["b"].grad[:3] == 0).all()
    with torch.no_grad():
        scene.tokens["a"][0] = float("nan")
        scene.tokens["a"][3, 1:] = float("inf")
    assert scene.loss(objective).mean == before.mean
    assert before.n == 2


def test_exact_plans_of_padded_samples():
    cost = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0))
    rows = torch.tensor([[True] * 4, [True, True, False, False], [False] * 4])
    columns = torch.tensor([[True] * 5, [True, False, True, True, False], [True] * 5])
    plans = exact_plans(cost, rows, columns)
    torch.testing.assert_close(plans.sum(2), rows / rows.sum(1, keepdim=True).clamp(min=1))
    torch.testing.assert_close(plans[:2].sum(1), columns[:2] / columns[:2].sum(1, keepdim=True))
    assert (plans[2] == 0).all()


def test_with_a_margin_it_must_cost_less_than_with_another_sample():
    scene = Scene({"a": 3, "b": 3}, 4, missing=[(1, "b")])
    own, other = ([], [])
    for row in (0, 3):  # the sample before 2 is 1, which lacks b; the one before 0 is 3
        own.append(cost_by_hand(scene.tokens["a"][row], scene.tokens["b"][row]))
        other.append(cost_by_hand(scene.tokens["a"][row], scene.tokens["b"][(row - 1) % 4]))
    found = scene.loss(plain(scene, method="exact", margin=0.5))
    expected = F.relu(0.5 + torch.stack(own) - torch.stack(other)).mean()
    torch.testing.assert_close(found.mean, expected, rtol=1e-10, atol=0)
    assert found.n == 2


def test_all_tokens_alike_are_free_but_for_a_margin():
    scene = Scene({"a": 3, "b": 3}, 4)
    for name in "ab":
        scene.tokens[name] = torch.ones(4, 3, 4)
    assert scene.loss(plain(scene)).mean.item() == pytest.approx(0, abs=1e-12)
    assert scene.loss(plain(scene, margin=0.2)).mean.item() == pytest.approx(0.2, abs=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "emd"}, "'sinkhorn', 'exact'"),
        ({"epsilon": 0}, "epsilon of Alignment is 0"),
        ({"n_iter": 0}, "n_iter of Alignment is 0"),
        ({"margin": 0}, "margin of Alignment is 0"),
        ({"n_projection": 0}, "n_projection of Alignment is 0"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        Alignment(**options)


def test_wrong_pairs():
    with pytest.raises(ValueError, match="pairs of Alignment"):
        Scene({"a": 3, "b": 3}).prepared(Alignment(pairs=[("a", "x")]))
