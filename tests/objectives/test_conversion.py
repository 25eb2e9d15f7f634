"""Conversion: a linear converter is least squares, and a target is a target."""

import pytest
import torch
from _outputs import Scene

from skfusion.objectives import Conversion
from skfusion.objectives.conversion import conversion_error


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_a_linear_converter_is_least_squares():
    generator = torch.Generator().manual_seed(0)
    scene = Scene({"a": 1, "b": 1}, 200)
    a = scene.heads["a"].detach()
    scene.heads["b"] = a @ torch.randn(4, 4, generator=generator) + 1 + 0.3 * torch.randn(200, 4, generator=generator)
    objective = scene.prepared(Conversion(n_layers=0))
    optimizer = torch.optim.LBFGS(objective.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = scene.loss(objective).mean
        loss.backward()
        return loss

    optimizer.step(closure)
    design = torch.cat([a, torch.ones(200, 1)], 1)
    residual = scene.heads["b"] - design @ torch.linalg.lstsq(design, scene.heads["b"]).solution
    found = (objective.convert("a", "b", a) - scene.heads["b"]).square().mean()
    assert found.item() == pytest.approx(residual.square().mean().item(), abs=1e-4)
    assert found < 0.1


def test_it_is_the_sum_over_pairs_and_directions_of_those_that_have_both():
    scene = Scene({"a": 1, "b": 1, "c": 1}, 8, missing=[(0, "a"), (3, "b"), (4, "b"), (6, "c")])
    objective = scene.prepared(Conversion())
    expected = 0
    for a in "abc":
        for b in set("abc") - {a}:
            both = scene.present[:, [scene.names.index(a), scene.names.index(b)]].all(1)
            converted = objective.convert(a, b, scene.heads[a][both])
            expected = expected + (converted - scene.heads[b][both]).square().mean()
    found = scene.loss(objective)
    torch.testing.assert_close(found.mean, expected, rtol=1e-12, atol=0)
    assert found.n == 8


def test_a_target_gets_no_gradient():
    converted, target = torch.ones(3, 2, requires_grad=True), torch.zeros(3, 2, requires_grad=True)
    conversion_error(converted, target, torch.tensor([True, False, True])).backward()
    assert target.grad is None
    torch.testing.assert_close(converted.grad, torch.tensor([[0.5] * 2, [0.0] * 2, [0.5] * 2]))


@pytest.mark.parametrize("cotrain", [False, True])
def test_the_network_learns_to_be_convertible_on_request(cotrain):
    scene = Scene({"a": 1, "b": 1}, 5, missing=[(0, "a"), (2, "b")])
    objective = scene.prepared(Conversion(cotrain=cotrain))
    scene.loss(objective).mean.backward()
    assert all((parameter.grad != 0).any() for parameter in objective.parameters())
    for head in (scene.heads["a"], scene.heads["b"]):
        learns = [row in (1, 3, 4) for row in range(5)] if cotrain else [False] * 5
        gradient = torch.zeros_like(head) if head.grad is None else head.grad
        assert (gradient.abs().sum(1) > 0).tolist() == learns


def test_hidden_layers():
    scene = Scene({"a": 1, "b": 1})
    linear, deep = (scene.prepared(Conversion(n_layers=n, n_hidden=7)).converters[0] for n in (0, 2))
    assert [part.weight.shape for part in linear] == [(4, 4)]
    assert [part.weight.shape for part in deep if hasattr(part, "weight")] == [(7, 4), (7, 7), (4, 7)]


def test_an_unknown_conversion():
    objective = Scene({"a": 1, "b": 1}).prepared(Conversion())
    with pytest.raises(ValueError, match="no conversion from 'a' to 'x'"):
        objective.convert("a", "x", torch.zeros(1, 4))


@pytest.mark.parametrize("options", [{"n_layers": -1}, {"n_hidden": 0}])
def test_wrong_options(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} of Conversion"):
        Conversion(**options)
