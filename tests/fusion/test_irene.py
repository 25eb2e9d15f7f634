"""IRENE: modalities attend to each other from the first layer on."""

import pytest
import torch
from _tokens import (
    N_HEADS,
    N_MODALITIES,
    WIDTH,
    assert_close,
    build,
    draw,
    everyone,
    head,
    influence,
    mixed,
    padded,
    without,
)
from _tokens import double as double

from skfusion.encoders.batch import Tokens
from skfusion.encoders.transformer import Block, recorded_attention
from skfusion.fusion import Irene
from skfusion.fusion.masks import partner_weights
from skfusion.fusion.partners import attend_to_partners


def block_of(layer, m):
    """An ordinary block with the weights that modality `m` has in a bidirectional one."""
    block = Block(WIDTH, N_HEADS)
    block.attention_norm.load_state_dict(layer.attention_norms[m].state_dict())
    block.attention.qkv.load_state_dict(layer.attentions[m].qkv.state_dict())
    block.attention.out.load_state_dict(layer.out.state_dict())
    block.feed_forward_norm.load_state_dict(layer.feed_forward_norms[m].state_dict())
    block.feed_forward.load_state_dict(layer.feed_forwards[m].state_dict())
    return block


def tie(layer):
    """Give all modalities the weights of the first."""
    for own in (layer.attention_norms, layer.attentions, layer.feed_forward_norms, layer.feed_forwards):
        for other in own:
            other.load_state_dict(own[0].state_dict())


@N_MODALITIES
def test_tied_weights_and_equal_inputs_make_plain_self_attention(n_modalities):
    layer = build(Irene, n_modalities).bidirectional[0]
    tie(layer)
    same = padded(draw({"a": 4}), "a", 3)["a"]
    tokens = dict.fromkeys("abc"[:n_modalities], same)
    found = layer(tokens, partner_weights(everyone(tokens), self_too=True))
    alone = {"a": same}
    expected = block_of(layer, 0)(same.values[:, :3])
    for t in (*found.values(), layer(alone, partner_weights(everyone(alone), self_too=True))["a"]):
        assert_close(t.values[:, :3], expected)


@N_MODALITIES
def test_a_partner_that_says_nothing_leaves_exactly_its_share_of_self_attention(n_modalities):
    layer, tokens = build(Irene, n_modalities).bidirectional[0], draw(n_modalities)
    with torch.no_grad():
        for attention in layer.attentions[1:]:
            attention.qkv.weight[2 * WIDTH :] = 0
            attention.qkv.bias[2 * WIDTH :] = 0
    weights = partner_weights(everyone(tokens), self_too=True)
    found = attend_to_partners(layer.attentions, tokens, weights)["a"].values
    query, key, value = layer.attentions[0].project(tokens["a"].values)
    alone = (query @ key.mT * (WIDTH / N_HEADS) ** -0.5).softmax(-1) @ value
    assert_close(found, alone.transpose(1, 2).flatten(2) / n_modalities)
    itself = attend_to_partners(layer.attentions, {"a": tokens["a"]}, weights.new_ones(3, 1, 1))["a"].values
    assert n_modalities != 2 or torch.equal(found, itself / 2)


@N_MODALITIES
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_without_partners_it_is_a_plain_transformer(n_modalities, depth):
    fusion, tokens = build(Irene, n_modalities, n_fusion_layers=depth), padded(draw(n_modalities), "b", 3)
    for m, name in enumerate(tokens):
        only = without(tokens, *(other for other in tokens if other != name))
        output = fusion(tokens, only)
        n_real = int(tokens[name].mask[0].sum())
        x = (tokens[name].values + fusion.modality[m])[:, :n_real]
        for layer in fusion.bidirectional:
            x = block_of(layer, m)(x)
        x = fusion.mixer(x)
        assert_close(output.tokens[name].values[:, :n_real], x)
        assert_close(output.fused, fusion.refine(x.mean(1)))
        assert_close(output.heads[name], output.fused)


def test_of_three_those_that_are_there_are_a_fusion_of_two():
    fusion, tokens = build(Irene, 3, n_fusion_layers=4), draw(3)
    smaller = build(Irene, 2, n_fusion_layers=4)
    state = fusion.state_dict()
    smaller.load_state_dict({name: state[name] for name in smaller.state_dict()} | {"modality": state["modality"][:2]})
    two = {name: tokens[name] for name in "ab"}
    assert_close(fusion(tokens, without(tokens, "c")).fused, smaller(two, everyone(two)).fused)


@N_MODALITIES
def test_every_modality_hears_every_other_in_one_bidirectional_block(n_modalities):
    layer, tokens = build(Irene, n_modalities).bidirectional[0], draw(n_modalities, n_samples=1)
    for name in tokens:
        for other in tokens:

            def out(tokens, name=name):
                return layer(tokens, partner_weights(everyone(tokens), self_too=True))[name].values

            assert (influence(out, tokens, other).sum(1) > 0).all()


@N_MODALITIES
def test_every_head_and_token_hears_every_modality(n_modalities):
    fusion, tokens = build(Irene, n_modalities), draw(n_modalities, n_samples=1)
    for name in tokens:
        for other in tokens:
            assert (influence(head(fusion, name), tokens, other).sum(0) > 0).all()
            assert (influence(mixed(fusion, name), tokens, other).sum(1) > 0).all()


@N_MODALITIES
def test_a_bidirectional_block_is_its_formula(n_modalities):
    layer, tokens = build(Irene, n_modalities).bidirectional[0], draw(n_modalities)
    found = layer(tokens, partner_weights(everyone(tokens), self_too=True))
    normed = [norm(t.values) for norm, t in zip(layer.attention_norms, tokens.values())]
    projected = [attention.qkv(x).chunk(3, -1) for attention, x in zip(layer.attentions, normed)]
    for m, (name, (values, _)) in enumerate(tokens.items()):
        answers = []
        for _, key, value in projected:
            heads = zip(projected[m][0].chunk(N_HEADS, -1), key.chunk(N_HEADS, -1), value.chunk(N_HEADS, -1))
            answers.append(torch.cat([(q @ k.mT * q.shape[-1] ** -0.5).softmax(-1) @ v for q, k, v in heads], -1))
        x = values + layer.out(sum(answers) / n_modalities)
        assert_close(found[name].values, x + layer.feed_forwards[m](layer.feed_forward_norms[m](x)))


@N_MODALITIES
@pytest.mark.parametrize(("depth", "bidirectional", "joint"), [(1, 1, 1), (2, 1, 1), (4, 2, 2), (5, 2, 3)])
def test_after_the_bidirectional_blocks_the_sequence_is_all_tokens(n_modalities, depth, bidirectional, joint):
    fusion, tokens = build(Irene, n_modalities, n_fusion_layers=depth), draw(n_modalities)
    assert len(fusion.bidirectional) == bidirectional
    with recorded_attention(fusion.mixer) as records:
        fusion(tokens, everyone(tokens))
    n_tokens = sum(t.values.shape[1] for t in tokens.values())
    assert [record.weights.shape for record in records] == [(3, n_tokens, n_tokens)] * joint


@N_MODALITIES
def test_rows_of_a_bidirectional_block_sum_to_one_with_equal_shares(n_modalities):
    fusion, tokens = build(Irene, n_modalities), padded(draw(n_modalities), "b", 2)
    with recorded_attention(fusion.bidirectional) as records:
        fusion(tokens, everyone(tokens))
    (record,) = records
    queries, keys = record.owners
    real = torch.cat([t.mask for t in tokens.values()], 1)
    for k in range(n_modalities):
        shares = record.weights[..., keys == k].sum(-1)[real]
        assert_close(shares, torch.full_like(shares, 1 / n_modalities))
    assert not record.weights.mT[~real].any()
    assert torch.equal(queries, keys)


@N_MODALITIES
def test_padding_is_not_heard(n_modalities):
    fusion, tokens = build(Irene, n_modalities, n_fusion_layers=4), padded(draw(n_modalities), "b", 3)
    short = {**tokens, "b": Tokens(tokens["b"].values[:, :3], tokens["b"].mask[:, :3])}
    found, expected = fusion(tokens, everyone(tokens)), fusion(short, everyone(tokens))
    assert_close(found.fused, expected.fused)
    assert_close(found.heads["a"], expected.heads["a"])
