"""Everything At Once: one block over every subset of the modalities."""

from itertools import combinations
from math import comb

import pytest
import torch
import torch.nn.functional as F
from _tokens import (
    N_HEADS,
    N_MODALITIES,
    WIDTH,
    assert_close,
    build,
    draw,
    everyone,
    inputs_of,
    noise_for,
    padded,
    without,
)
from _tokens import double as double

from skfusion.encoders.batch import Tokens
from skfusion.fusion import EverythingAtOnce

MAX_SUBSET = pytest.mark.parametrize("max_subset", [1, 2, 3])


def members(subset):
    return set(subset)


def one_by_one(fusion, tokens, max_subset):
    """Embeddings of every subset, from a pass a subset and sample over nothing but its real tokens."""
    names, found = list(tokens), {}
    for size in range(1, min(max_subset, len(names)) + 1):
        for subset in combinations(names, size):
            rows = []
            for i in range(len(everyone(tokens))):
                own = [fusion.projections[names.index(n)](tokens[n].values[i][tokens[n].mask[i]]) for n in subset]
                mixed = fusion.block(torch.cat(own).unsqueeze(0))[0].split([len(x) for x in own])
                parts = [fusion.outs[names.index(n)](x.mean(0)) for n, x in zip(subset, mixed)]
                rows.append(sum(part / part.norm() for part in parts) / size)
            found[subset] = torch.stack(rows)
    return found


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_there_is_an_embedding_for_each_modality_and_each_pair(n):
    widths = {f"m{i}": WIDTH for i in range(n)}
    tokens = draw(dict.fromkeys(widths, 2))
    subsets = EverythingAtOnce(widths, WIDTH, n_heads=N_HEADS)(tokens, everyone(tokens)).subsets
    assert len(subsets) == n + comb(n, 2)
    assert list(subsets)[:n] == [(name,) for name in widths]
    assert list(subsets)[n:] == list(combinations(widths, 2))


@N_MODALITIES
@MAX_SUBSET
def test_one_batched_pass_is_the_loop_over_subsets(n_modalities, max_subset):
    fusion = build(EverythingAtOnce, n_modalities, max_subset=max_subset)
    tokens = padded(draw(n_modalities), "b", 3)
    tokens["a"].mask[0, 1:] = False
    found = fusion(tokens, everyone(tokens)).subsets
    expected = one_by_one(fusion, tokens, max_subset)
    assert list(found) == list(expected)
    for subset in expected:
        assert_close(found[subset], expected[subset])


@N_MODALITIES
@MAX_SUBSET
def test_one_call_of_the_block_serves_all_subsets(n_modalities, max_subset):
    fusion, tokens = build(EverythingAtOnce, n_modalities, max_subset=max_subset), draw({"a": 4, "b": 4, "c": 4})
    tokens = {name: tokens[name] for name in list(tokens)[:n_modalities]}
    with inputs_of(fusion.block) as seen:
        fusion(tokens, everyone(tokens))
    (x,) = seen
    # Nothing is padded: three samples of every subset, of four tokens a member.
    assert x.shape == (sum(3 * 4 * len(subset) for subset in fusion.subsets), WIDTH)


@N_MODALITIES
@MAX_SUBSET
def test_fused_comes_from_the_mean_of_the_largest_subsets_that_a_sample_has(n_modalities, max_subset):
    fusion = build(EverythingAtOnce, n_modalities, max_subset=max_subset)
    tokens = draw(n_modalities)
    for missing in ((), ("a",), ("b",)):
        output = fusion(tokens, without(tokens, *missing))
        there = set(tokens) - set(missing)
        found = {s: e for s, e in one_by_one(fusion, tokens, max_subset).items() if members(s) <= there}
        largest = [e for s, e in found.items() if len(members(s)) == min(max_subset, len(there))]
        assert_close(output.fused, fusion.refine(sum(largest) / len(largest)))


@N_MODALITIES
def test_samples_that_have_other_modalities_are_fused_side_by_side(n_modalities):
    fusion, tokens = build(EverythingAtOnce, n_modalities), draw(n_modalities)
    present = everyone(tokens)
    present[0, 0] = present[1, 1] = False
    found = fusion(tokens, present).fused
    for i in range(3):
        missing = [name for name, there in zip(tokens, present[i]) if not there]
        assert_close(found[i], fusion(tokens, without(tokens, *missing)).fused[i])


@N_MODALITIES
def test_heads_of_modalities_are_single_subsets_of_length_one(n_modalities):
    fusion, tokens = build(EverythingAtOnce, n_modalities), draw(n_modalities)
    output = fusion(tokens, without(tokens, "b"))
    for name in set(tokens) - {"b"}:
        assert_close(output.heads[name], output.subsets[name,])
        assert_close(output.heads[name].norm(dim=1), torch.ones(3))
    assert not output.heads["b"].any()


@N_MODALITIES
def test_the_order_of_tokens_does_not_matter(n_modalities):
    fusion, tokens = build(EverythingAtOnce, n_modalities), padded(draw(n_modalities), "b", 4)
    expected, order = fusion(tokens, everyone(tokens)), torch.tensor([4, 2, 0, 3, 1])
    values, mask = tokens["b"]
    found = fusion({**tokens, "b": Tokens(values[:, order], mask[:, order])}, everyone(tokens))
    assert_close(found.fused, expected.fused)
    for subset in expected.subsets:
        assert_close(found.subsets[subset], expected.subsets[subset])


@N_MODALITIES
def test_the_order_of_modalities_does_not_matter(n_modalities):
    fusion, tokens = build(EverythingAtOnce, n_modalities), draw(n_modalities)
    names = list(tokens)
    order = [1, 0] if n_modalities == 2 else [2, 0, 1]
    other = EverythingAtOnce({names[m]: WIDTH for m in order}, WIDTH, n_heads=N_HEADS).eval()
    for part in ("block", "refine"):
        getattr(other, part).load_state_dict(getattr(fusion, part).state_dict())
    for new, old in enumerate(order):
        other.projections[new].load_state_dict(fusion.projections[old].state_dict())
        other.outs[new].load_state_dict(fusion.outs[old].state_dict())
    present = everyone(tokens)
    present[0, 0] = False
    expected, found = fusion(tokens, present), other({names[m]: tokens[names[m]] for m in order}, present[:, order])
    assert_close(found.fused, expected.fused)
    same = {frozenset(members(subset)): e for subset, e in found.subsets.items()}
    assert len(same) == len(expected.subsets)
    for subset, embedding in expected.subsets.items():
        assert_close(same[frozenset(members(subset))], embedding)


@N_MODALITIES
def test_dropping_a_modality_changes_the_subsets_that_contain_it_alone(n_modalities):
    fusion, tokens = build(EverythingAtOnce, n_modalities), draw(n_modalities)
    expected = fusion(tokens, everyone(tokens)).subsets
    for name in tokens:
        dropped = fusion(tokens, without(tokens, name)).subsets
        replaced = fusion(noise_for(tokens, name), everyone(tokens)).subsets
        for found in (dropped, replaced):
            for subset in expected:
                if name in members(subset):
                    assert not torch.allclose(found[subset], expected[subset], atol=1e-3)
                else:
                    assert_close(found[subset], expected[subset])


@N_MODALITIES
def test_nothing_says_whose_a_token_is_but_its_projections(n_modalities):
    fusion = build(EverythingAtOnce, n_modalities)
    for parts in (fusion.projections, fusion.outs):
        for part in parts:
            part.load_state_dict(parts[0].state_dict())
    same = draw({"a": 4})["a"]
    subsets = fusion(dict.fromkeys("abc"[:n_modalities], same), torch.ones(3, n_modalities, dtype=torch.bool)).subsets
    for embedding in subsets.values():
        assert_close(embedding, subsets["a",])


def test_projections_are_gated_units():
    fusion, tokens = build(EverythingAtOnce, 2), draw(2)
    unit, norm = fusion.projections[0]
    x = tokens["a"].values
    y = x @ unit.linear.weight.T + unit.linear.bias
    gated = y * torch.sigmoid(y @ unit.gate.weight.T + unit.gate.bias)
    assert_close(fusion.projections[0](x), F.layer_norm(gated, (WIDTH,), norm.weight, norm.bias, 1e-6))


def test_the_block_is_as_narrow_inside_as_outside():
    assert build(EverythingAtOnce, 2).block.feed_forward.layers[0].out_features == WIDTH
