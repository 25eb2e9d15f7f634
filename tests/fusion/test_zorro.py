"""Zorro: what a modality says by itself stays pure, at any depth."""

import pytest
import torch
from _tokens import (
    N_MODALITIES,
    assert_close,
    build,
    draw,
    everyone,
    head,
    influence,
    inputs_of,
    noise_for,
    padded,
    without,
)
from _tokens import double as double
from _tokens import single as single

from skfusion.encoders.transformer import attend, recorded_attention
from skfusion.fusion import Zorro
from skfusion.fusion.masks import FUSION, own_mask, zorro_mask

DEPTHS = pytest.mark.parametrize("depth", [2, 6])


def others(tokens, name):
    return [other for other in tokens if other != name]


@pytest.mark.usefixtures("single")
@N_MODALITIES
@DEPTHS
def test_a_modalitys_head_and_tokens_are_the_same_to_the_bit_whatever_the_others_hold(n_modalities, depth):
    fusion, tokens = build(Zorro, n_modalities, n_fusion_layers=depth), draw(n_modalities)
    expected = fusion(tokens, everyone(tokens))
    for name in tokens:
        found = fusion(noise_for(tokens, *others(tokens, name)), everyone(tokens))
        assert torch.equal(found.heads[name], expected.heads[name])
        assert torch.equal(found.tokens[name].values, expected.tokens[name].values)
        for other in ("fusion", "global", *others(tokens, name)):
            assert (found.heads[other] - expected.heads[other]).abs().max() > 1e-2


@pytest.mark.usefixtures("single")
@N_MODALITIES
@DEPTHS
def test_a_modalitys_head_is_the_same_to_the_bit_where_others_are_missing(n_modalities, depth):
    fusion, tokens = build(Zorro, n_modalities, n_fusion_layers=depth), draw(n_modalities)
    expected = fusion(tokens, everyone(tokens))
    for name in tokens:
        for missing in (others(tokens, name), others(tokens, name)[:1]):
            found = fusion(tokens, without(tokens, *missing))
            assert torch.equal(found.heads[name], expected.heads[name])
            assert not torch.allclose(found.fused, expected.fused, atol=1e-2)


@pytest.mark.usefixtures("single")
@N_MODALITIES
@DEPTHS
def test_a_modalitys_head_is_the_same_to_the_bit_whatever_the_fusion_tokens_hold(n_modalities, depth):
    fusion, tokens = build(Zorro, n_modalities, n_fusion_layers=depth), draw(n_modalities)
    expected = fusion(tokens, everyone(tokens)).heads
    with torch.no_grad():
        fusion.fusion_tokens.normal_(std=10)
    found = fusion(tokens, everyone(tokens)).heads
    assert all(torch.equal(found[name], expected[name]) for name in tokens)
    assert not torch.allclose(found["fusion"], expected["fusion"], atol=1e-2)


@N_MODALITIES
@DEPTHS
def test_the_jacobian_of_a_modalitys_head_by_another_is_zero(n_modalities, depth):
    fusion, tokens = build(Zorro, n_modalities, n_fusion_layers=depth), draw(n_modalities, n_samples=1)
    for head_name in [*tokens, "fusion", "global"]:
        for name in tokens:
            moved = influence(head(fusion, head_name), tokens, name)  # (D, T)
            if head_name in tokens and head_name != name:
                assert not moved.any()
            else:
                assert (moved.sum(0) > 0).all()


@N_MODALITIES
def test_one_layer_would_hide_a_leak_through_fusion_tokens_that_two_show(n_modalities, monkeypatch):
    # The reason why the tests above go deep: each layer's mask has to be closed, not only what one layer passes on.
    leaky = lambda queries, keys: zorro_mask(queries, keys) | (keys == FUSION)  # noqa: E731
    monkeypatch.setattr("skfusion.fusion.zorro.zorro_mask", leaky)
    tokens = draw(n_modalities, n_samples=1)
    for depth in (1, 2):
        fusion = build(Zorro, n_modalities, n_fusion_layers=depth)
        moved = influence(head(fusion, "a"), tokens, "b")
        assert moved.any() == (depth == 2)


@N_MODALITIES
def test_pooled_outputs_are_not_means_over_all_tokens(n_modalities):
    """A published implementation compares `mask | types == GLOBAL`, which Python reads as `(mask | types) == GLOBAL`.

    No key is left to the queries of a modality, and a softmax over nothing but the lowest number is uniform.
    """
    fusion, tokens = build(Zorro, n_modalities), draw(n_modalities)
    with inputs_of(fusion.mixer.norm) as before:
        heads = fusion(tokens, everyone(tokens)).heads
    values = fusion.mixer.norm(before[0])  # (B, T, D)
    readout, lengths = fusion.readout, [t.values.shape[1] for t in tokens.values()]
    _, _, value = readout.project(values)
    spans = [*values.split([*lengths, len(fusion.fusion_tokens)], dim=1), values]
    for row, (name, own) in enumerate(zip(heads, spans)):
        uniform = readout.join(value.mean(2, keepdim=True))[:, 0]
        assert not torch.allclose(heads[name], fusion.refine(fusion.queries[row] + uniform), atol=1e-2)
        assert not torch.allclose(heads[name], values.mean(1), atol=1e-2)
        # What it is: one query's attention over the tokens that are its own.
        query, _, _ = readout.project(fusion.queries[row].expand(len(values), 1, -1))
        _, key, own_value = readout.project(own)
        assert_close(
            heads[name], fusion.refine(fusion.queries[row] + readout.join(attend(query, key, own_value, None))[:, 0])
        )


@N_MODALITIES
def test_without_a_modality_it_is_the_fusion_of_the_others(n_modalities):
    fusion, tokens = build(Zorro, n_modalities), draw(n_modalities)
    *kept, last = tokens
    found = fusion(tokens, without(tokens, last)).heads
    smaller = build(Zorro, n_modalities - 1)
    weights = fusion.state_dict()
    weights["modality"] = weights["modality"][:-1]
    weights["queries"] = torch.cat([weights["queries"][: len(kept)], weights["queries"][-2:]])
    smaller.load_state_dict(weights)
    rest = {name: tokens[name] for name in kept}
    expected = smaller(rest, everyone(rest)).heads
    for name in expected:
        assert_close(found[name], expected[name])


@pytest.mark.usefixtures("single")
@N_MODALITIES
def test_a_missing_modality_is_one_whose_keys_are_masked(n_modalities):
    fusion, tokens = build(Zorro, n_modalities), draw(n_modalities)
    missing = fusion(tokens, without(tokens, "b")).heads
    masked = fusion(padded(tokens, "b", 0), everyone(tokens)).heads
    assert all(torch.equal(missing[name], masked[name]) for name in missing)


@N_MODALITIES
def test_every_layer_attends_under_the_mask(n_modalities):
    fusion, tokens = build(Zorro, n_modalities, n_fusion_layers=3), padded(draw(n_modalities), "b", 3)
    with recorded_attention(fusion.mixer) as records:
        fusion(tokens, everyone(tokens))
    assert len(records) == 3
    real = torch.cat([*(t.mask for t in tokens.values()), torch.ones(3, 4, dtype=torch.bool)], 1)
    for record in records:
        queries, keys = record.owners
        pure = queries != FUSION
        allowed = (own_mask(queries, keys) | ~pure.unsqueeze(1)) & real.unsqueeze(1) & real.unsqueeze(2)
        assert torch.equal(record.weights > 0, allowed)


@N_MODALITIES
def test_samples_in_another_order_come_out_in_that_order(n_modalities):
    fusion, tokens, order = build(Zorro, n_modalities), draw(n_modalities), torch.tensor([2, 0, 1])
    present = everyone(tokens)
    present[0, 0] = present[1, 1] = False
    expected = fusion(tokens, present).heads
    found = fusion({name: type(t)(t.values[order], t.mask[order]) for name, t in tokens.items()}, present[order]).heads
    for name in expected:
        assert_close(found[name], expected[name][order])


@N_MODALITIES
def test_the_prediction_comes_from_the_fusion_head(n_modalities):
    fusion, tokens = build(Zorro, n_modalities), draw(n_modalities)
    output = fusion(tokens, everyone(tokens))
    assert torch.equal(output.fused, output.heads["fusion"])
    assert not torch.allclose(output.fused, output.heads["global"], atol=1e-2)


def test_a_readout_without_any_key_is_its_query_alone():
    fusion, tokens = build(Zorro, 2), draw(2)
    alone = fusion.refine(fusion.queries[1] + fusion.readout.out.bias)
    assert_close(fusion(tokens, without(tokens, "b")).heads["b"], alone.expand(3, -1))
