"""MIL-NCE: a bag of tokens of which some belong to an embedding."""

import pytest
import torch
import torch.nn.functional as F
from _outputs import Scene

from skfusion.encoders.batch import Tokens
from skfusion.objectives import MILNCE
from skfusion.objectives.contrastive import info_nce
from skfusion.objectives.mil_nce import bag_loss, mil_nce


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_golden_number():
    similarity = torch.tensor([[[0.6, 0.5], [0.1, -0.3]], [[0.1, -0.3], [0.6, 0.5]]])
    found = mil_nce(similarity, torch.ones(2, 2, dtype=torch.bool), 0.07)
    assert found.tolist() == pytest.approx([0.0006395704458628753] * 2, abs=1e-12)


def test_with_one_positive_it_is_info_nce_with_the_same_negatives():
    a, b = draw(7, 4), draw(7, 4, seed=1)
    similarity = F.normalize(a, dim=1) @ F.normalize(b, dim=1).T
    found = mil_nce(similarity.unsqueeze(-1), torch.ones(7, 1, dtype=torch.bool), 0.07).mean()
    torch.testing.assert_close(found, info_nce(a, b, 0.07, direction="one"), rtol=1e-12, atol=0)


def test_a_token_that_does_not_belong_costs_nothing_beside_one_that_does():
    similarity = torch.tensor([[[0.9, -0.9], [0.0, 0.1]], [[0.0, 0.1], [0.9, -0.9]]])
    one, two = (mil_nce(similarity, torch.tensor([[True, other], [True, True]]))[0] for other in (False, True))
    torch.testing.assert_close(one, two, rtol=0, atol=1e-9)


def test_a_row_without_a_positive_has_no_loss_and_no_gradient():
    similarity = draw(3, 3, 2).requires_grad_()
    mask = torch.tensor([[False, False], [True, False], [True, True]])
    loss = mil_nce(similarity, mask)
    loss.sum().backward()
    assert loss[0] == 0
    assert (similarity.grad[0] == 0).all()
    assert torch.equal(similarity.grad[1:] != 0, mask.expand(2, 3, 2))


def test_only_real_tokens_count():
    query, values = draw(3, 4), draw(3, 5, 4, seed=1)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False], [False] * 5])
    found = bag_loss(query, Tokens(values, mask), 0.5)
    tokens = F.normalize(torch.cat([values[0], values[1, :2]]), dim=1)
    similarity = F.normalize(query[:2], dim=1) @ tokens.T / 0.5
    expected = similarity.logsumexp(1) - torch.stack([similarity[0, :5].logsumexp(0), similarity[1, 5:].logsumexp(0)])
    torch.testing.assert_close(found[:2], expected, rtol=1e-12, atol=0)
    assert found[2] == 0
    for junk in (1e3, float("inf"), float("nan")):
        other = torch.where(mask.unsqueeze(-1), values, junk).requires_grad_()
        again = bag_loss(query, Tokens(other, mask), 0.5)
        assert torch.equal(again, found)
        again.sum().backward()
        assert (other.grad[~mask] == 0).all()


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ({"a": 1, "b": 5}, [("a", "b")]),
        ({"a": 1, "b": 5, "c": 1}, [("a", "b"), ("c", "b")]),
        ({"a": 1, "b": 1}, [("a", "b"), ("b", "a")]),
        ({"a": 2, "b": 5}, [("a", "b"), ("b", "a")]),
    ],
)
def test_auto_compares_one_with_several(lengths, expected):
    assert Scene(lengths).prepared(MILNCE()).pairs == expected


def test_it_is_the_mean_over_pairs_among_samples_that_have_both():
    scene = Scene({"a": 1, "b": 5, "c": 3}, 7, missing=[(0, "a"), (2, "b"), (5, "c")])
    scene.masks["b"][3, 2:] = False
    objective = scene.prepared(MILNCE(pairs=[("a", "b"), ("c", "b")], temperature=0.3))
    expected = []
    for i, (a, b) in enumerate([("a", "b"), ("c", "b")]):
        both = scene.present[:, [scene.names.index(a), 1]].all(1)
        query = objective.of_embedding[i](scene.heads[a][both])
        keys = objective.of_tokens[i](scene.tokens[b][both])
        expected.append(bag_loss(query, Tokens(keys, scene.masks[b][both]), 0.3).mean())
    found = scene.loss(objective)
    torch.testing.assert_close(found.mean, torch.stack(expected).mean(), rtol=1e-12, atol=0)
    assert found.n == 6  # all but the one without b
    found.mean.backward()
    assert (scene.heads["a"].grad.abs().sum(1) > 0).tolist() == [row not in (0, 2) for row in range(7)]
    assert (scene.tokens["b"].grad.abs().sum(2) > 0)[3].tolist() == [True, True, False, False, False]
    assert (scene.tokens["b"].grad[2] == 0).all()


def test_a_token_of_a_sample_is_told_from_those_of_others():
    """Each embedding is one of its sample's tokens; the linear maps have to find out which channels say so."""
    tokens = draw(60, 4, 16)
    scene = Scene({"a": 1, "b": 4}, 60, width=16)
    scene.heads["a"], scene.tokens["b"] = tokens[:, 2], tokens
    objective = scene.prepared(MILNCE())
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.05)
    first = scene.loss(objective).mean.item()
    for _ in range(100):
        optimizer.zero_grad()
        scene.loss(objective).mean.backward()
        optimizer.step()
    assert first > 2
    assert scene.loss(objective).mean < 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pairs": "all"}, "due is 'auto' or a list"),
        ({"temperature": -1}, "temperature of MILNCE is -1"),
        ({"n_projection": 0}, "n_projection of MILNCE is 0"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        MILNCE(**options)


@pytest.mark.parametrize("pairs", [[("a", "x")], [("a", "a")], ["ab"], []])
def test_wrong_pairs(pairs):
    with pytest.raises(ValueError, match="pairs of MILNCE"):
        Scene({"a": 1, "b": 5}).prepared(MILNCE(pairs=pairs))
