"""Unseen combinations: every modality is laid out on the same places."""

import pytest
import torch
from _tokens import (
    N_MODALITIES,
    WIDTH,
    assert_close,
    build,
    draw,
    everyone,
    influence,
    inputs_of,
    noise_for,
    padded,
    without,
)
from _tokens import double as double
from _tokens import single as single

from skfusion.encoders.batch import Tokens
from skfusion.fusion import Unseen

K = 6


@N_MODALITIES
@pytest.mark.parametrize("n_places", [2, 8, 32])
def test_the_sum_over_places_is_the_sum_over_tokens(n_modalities, n_places):
    fusion, tokens = build(Unseen, n_modalities, n_places=n_places), padded(draw(n_modalities), "b", 3)
    for spread, (values, mask) in zip(fusion.spreads, tokens.values()):
        real = torch.where(mask.unsqueeze(-1), values, 0.0)
        places = spread(Tokens(real, mask))
        assert places.shape == (3, n_places, WIDTH)
        assert_close(places.sum(1), real.sum(1))


@N_MODALITIES
def test_tokens_are_shared_out_by_a_softmax_over_places(n_modalities):
    fusion, tokens = build(Unseen, n_modalities), draw(n_modalities)
    for spread, (values, mask) in zip(fusion.spreads, tokens.values()):
        shares = spread.head(spread.transformer(spread.enter(values))).softmax(2)
        assert_close(spread(Tokens(values, mask)), shares.mT @ values)


@N_MODALITIES
def test_the_branches_read_places_to_which_the_modalities_that_are_there_are_added(n_modalities):
    fusion, tokens = build(Unseen, n_modalities, n_places=K), draw(n_modalities)
    for missing in ((), ("a",), ("b",)):
        with inputs_of(fusion.branch) as seen:
            fusion(tokens, without(tokens, *missing))
        total = fusion.places.expand(3, -1, -1)
        for m, (name, t) in enumerate(tokens.items()):
            if name not in missing:
                total = total + fusion.projections[m](fusion.spreads[m](t))
        read = seen[0].unflatten(0, (3, 2))  # (B, 2, 1 + K / 2, D)
        assert_close(read[:, :, 0], fusion.readers.squeeze(1).expand(3, -1, -1))
        assert_close(read[:, :, 1:].flatten(1, 2), total)


@pytest.mark.usefixtures("single")
@N_MODALITIES
def test_a_missing_modality_has_no_influence_to_the_bit(n_modalities):
    fusion, tokens = build(Unseen, n_modalities), draw(n_modalities)
    for name in tokens:
        expected = fusion(tokens, without(tokens, name))
        found = fusion(noise_for(tokens, name), without(tokens, name))
        assert torch.equal(found.fused, expected.fused)
        assert torch.equal(found.second, expected.second)
        assert all(torch.equal(found.heads[other], expected.heads[other]) for other in found.heads)
        assert not torch.allclose(fusion(tokens, everyone(tokens)).fused, expected.fused, atol=1e-3)


def test_a_modality_that_is_there_is_laid_out_the_same_in_every_combination():
    fusion, tokens = build(Unseen, 3), draw(3)
    alone = fusion(tokens, without(tokens, "b", "c")).heads["a"]
    for missing in ((), ("b",), ("c",)):
        assert_close(fusion(tokens, without(tokens, *missing)).heads["a"], alone)


@N_MODALITIES
def test_all_modalities_move_both_predictions(n_modalities):
    fusion, tokens = build(Unseen, n_modalities), draw(n_modalities, n_samples=1)
    for name in tokens:
        for part in ("fused", "second"):

            def out(tokens, part=part):
                return getattr(fusion(tokens, everyone(tokens)), part)

            assert (influence(out, tokens, name).sum(0) > 0).all()


@N_MODALITIES
def test_each_branch_reads_its_half_of_the_places(n_modalities):
    fusion, tokens = build(Unseen, n_modalities, n_places=K), draw(n_modalities)
    output = fusion(tokens, everyone(tokens))
    for half, embedding in ((slice(0, K // 2), output.fused), (slice(K // 2, K), output.second)):
        (gradient,) = torch.autograd.grad(embedding.square().sum(), fusion.places, retain_graph=True)
        other = torch.ones(K, dtype=torch.bool)
        other[half] = False
        assert gradient[half].abs().sum(1).all()
        assert not gradient[other].any()


@N_MODALITIES
def test_branches_share_their_weights(n_modalities):
    # With readers and halves of the places exchanged, the two predictions change places.
    fusion, tokens = build(Unseen, n_modalities, n_places=K), draw(n_modalities)
    before = fusion(tokens, everyone(tokens))
    with torch.no_grad():
        fusion.readers.copy_(fusion.readers.flip(0))
        fusion.places.copy_(fusion.places.roll(K // 2, 0))
        for spread in fusion.spreads:
            spread.head.weight.copy_(spread.head.weight.roll(K // 2, 0))
            spread.head.bias.copy_(spread.head.bias.roll(K // 2, 0))
    after = fusion(tokens, everyone(tokens))
    assert_close(after.fused, before.second)
    assert_close(after.second, before.fused)
    assert not torch.allclose(before.fused, before.second, atol=1e-2)
    assert_close(before.heads["global"], (before.fused + before.second) / 2)


@N_MODALITIES
def test_padding_is_not_laid_out(n_modalities):
    fusion, tokens = build(Unseen, n_modalities), padded(draw(n_modalities), "b", 3)
    short = {**tokens, "b": Tokens(tokens["b"].values[:, :3], tokens["b"].mask[:, :3])}
    assert_close(fusion(tokens, everyone(tokens)).fused, fusion(short, everyone(tokens)).fused)


@pytest.mark.parametrize("n_places", [0, 3])
def test_places_have_to_be_halved(n_places):
    with pytest.raises(ValueError, match=f"n_places is {n_places}; due is an even number"):
        build(Unseen, 2, n_places=n_places)
