"""Masks and weights that say who attends to whom."""

from itertools import combinations
from math import comb

import pytest
import torch
from _tokens import double as double

from skfusion.fusion.masks import (
    FUSION,
    GLOBAL,
    own_mask,
    owners,
    partner_weights,
    readout_mask,
    subsets,
    zorro_mask,
)

A, V, T = 0, 1, 2
PUBLISHED = torch.tensor([A, A, FUSION, V])
THREE = torch.tensor([A, A, FUSION, V, T, FUSION, T])


def rows(*lines):
    return torch.tensor([[letter == "1" for letter in line] for line in lines])


def reached(mask, n_layers):
    """What each token has heard of after some layers."""
    heard = torch.eye(len(mask), dtype=torch.bool)
    for _ in range(n_layers):
        heard = heard | (mask.float() @ heard.float() > 0)
    return heard


def test_zorro_mask_is_the_published_one():
    assert torch.equal(zorro_mask(PUBLISHED, PUBLISHED), rows("1100", "1100", "1111", "0001"))


def test_zorro_mask_of_three_modalities_follows_its_definition():
    mask = zorro_mask(THREE, THREE)
    expected = [[i in (j, FUSION) for j in THREE.tolist()] for i in THREE.tolist()]
    assert mask.tolist() == expected


@pytest.mark.parametrize("types", [PUBLISHED, THREE], ids=["2", "3"])
def test_under_zorros_mask_no_number_of_layers_brings_a_modality_news_of_another(types):
    pure = types != FUSION
    assert torch.equal(reached(zorro_mask(types, types), 6)[pure], own_mask(types, types)[pure])
    assert reached(zorro_mask(types, types), 1)[~pure].all()


def test_a_readout_sees_its_own_and_a_global_one_sees_everything():
    queries = torch.tensor([A, V, FUSION, GLOBAL])
    assert torch.equal(readout_mask(queries, PUBLISHED), rows("1100", "0001", "0010", "1111"))


def test_own_mask_pairs_equal_owners():
    assert torch.equal(own_mask(torch.tensor([V, FUSION]), PUBLISHED), rows("0001", "0010"))


def test_owners_follow_the_order_of_packing():
    assert owners((2, 0, 3), 2, torch.device("cpu")).tolist() == [0, 0, 2, 2, 2, FUSION, FUSION]


@pytest.mark.parametrize(
    ("present", "self_too", "expected"),
    [
        ([1, 1], True, [[1 / 2, 1 / 2], [1 / 2, 1 / 2]]),
        ([1, 1], False, [[0, 1], [1, 0]]),
        ([1, 0], True, [[1, 0], [0, 0]]),
        ([1, 0], False, [[1, 0], [0, 0]]),
        ([0, 0], False, [[0, 0], [0, 0]]),
        ([1, 1, 1], True, [[1 / 3] * 3] * 3),
        ([1, 1, 1], False, [[0, 1 / 2, 1 / 2], [1 / 2, 0, 1 / 2], [1 / 2, 1 / 2, 0]]),
        ([1, 0, 1], True, [[1 / 2, 0, 1 / 2], [0, 0, 0], [1 / 2, 0, 1 / 2]]),
        ([1, 0, 1], False, [[0, 0, 1], [0, 0, 0], [1, 0, 0]]),
        ([0, 1, 0], False, [[0, 0, 0], [0, 1, 0], [0, 0, 0]]),
    ],
)
def test_partners_that_are_present_share_the_weight(present, self_too, expected):
    # A whole sample beside it, since weights are a sample's own.
    both = torch.tensor([present, [1] * len(present)], dtype=torch.bool)
    weights = partner_weights(both, self_too=self_too)
    torch.testing.assert_close(weights[0], torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(weights[1].sum(-1), torch.ones(len(present)))


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_up_to_two_of_n_make_n_and_n_choose_2_subsets_single_ones_first(n):
    found = subsets(n, 2)
    assert len(found) == n + comb(n, 2)
    assert found[:n] == [(m,) for m in range(n)]
    assert found[n:] == list(combinations(range(n), 2))


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_up_to_n_of_n_make_every_subset_once(n):
    found = subsets(n, n + 4)
    assert len(set(found)) == len(found) == 2**n - 1
