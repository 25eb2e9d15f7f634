"""Attention, blocks and the record of who attended to whom."""

import pytest
import torch
from _tokens import N_HEADS, WIDTH, assert_close, shaken
from _tokens import double as double
from torch import nn

from skfusion.encoders.transformer import (
    Block,
    Mask,
    MultiHeadAttention,
    Transformer,
    attend,
    attention_weights,
    recorded_attention,
)

T = 5
SOME = torch.tensor([[1, 0, 0, 1, 0], [0, 1, 1, 0, 0], [1, 1, 1, 1, 1], [0, 0, 1, 0, 0], [1, 0, 0, 0, 1]]).bool()


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def a_block():
    torch.manual_seed(0)
    return shaken(Block(WIDTH, N_HEADS))


def torchs_attention(attention):
    """PyTorch's own, with the same weights."""
    other = nn.MultiheadAttention(WIDTH, N_HEADS, batch_first=True)
    with torch.no_grad():
        other.in_proj_weight.copy_(attention.qkv.weight)
        other.in_proj_bias.copy_(attention.qkv.bias)
        other.out_proj.weight.copy_(attention.out.weight)
        other.out_proj.bias.copy_(attention.out.bias)
    return other


@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_that_of_pytorch_and_so_are_its_weights(masked):
    attention, x = a_block().attention, draw(2, T, WIDTH)
    expected, weights = torchs_attention(attention)(x, x, x, attn_mask=~SOME if masked else None)
    with recorded_attention(attention) as records:
        found = attention(x, Mask.of(SOME) if masked else None, (torch.arange(T), torch.arange(T)))
    assert_close(found, expected)
    assert_close(records[0].weights, weights)


def test_attention_to_a_context_is_that_of_pytorch():
    attention, x, context = a_block().attention, draw(2, 3, WIDTH), draw(2, T, WIDTH, seed=1)
    expected, _ = torchs_attention(attention)(x, context, context, attn_mask=~SOME[:3])
    assert_close(attention(x, Mask.of(SOME[:3]), context=context), expected)


def test_a_block_is_that_of_pytorch_with_the_norm_first():
    block, x = a_block(), draw(2, T, WIDTH)
    other = nn.TransformerEncoderLayer(WIDTH, N_HEADS, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True)
    other.self_attn = torchs_attention(block.attention)
    other.norm1, other.norm2 = block.attention_norm, block.feed_forward_norm
    other.linear1, other.linear2 = block.feed_forward.layers[0], block.feed_forward.layers[3]
    assert_close(block(x, Mask.of(SOME)), other(x, src_mask=~SOME))


def test_a_transformer_is_its_blocks_in_turn_and_a_norm():
    torch.manual_seed(0)
    transformer, x = shaken(Transformer(WIDTH, N_HEADS, 3)), draw(2, T, WIDTH)
    first, second, third = transformer.blocks
    assert torch.equal(transformer(x), transformer.norm(third(second(first(x)))))


def test_a_query_without_any_key_gives_zero_and_no_gradient_that_is_not_finite():
    query, key, value = (draw(2, N_HEADS, T, 4, seed=seed).requires_grad_() for seed in range(3))
    allowed = SOME.clone()
    allowed[2] = False
    mask = Mask.of(allowed)
    out = attend(query, key, value, mask)
    assert not out[:, :, 2].any()
    assert out[:, :, [0, 1, 3, 4]].all()
    assert not attention_weights(query, key, mask)[:, :, 2].any()
    out.square().sum().backward()
    assert all(x.grad.isfinite().all() for x in (query, key, value))


def test_weights_are_those_of_the_average_sum_to_one_and_are_zero_where_masked():
    query, key, value = (draw(2, N_HEADS, T, 4, seed=seed) for seed in range(3))
    for mask, scale in ((None, None), (Mask.of(SOME), None), (Mask.of(SOME), 1.0)):
        weights = attention_weights(query, key, mask, scale)
        assert_close(weights @ value, attend(query, key, value, mask, scale))
        assert_close(weights.sum(-1), torch.ones(2, N_HEADS, T))
        assert mask is None or not weights[..., ~SOME].any()


@pytest.mark.parametrize(("scale", "factor"), [(None, WIDTH**-0.5), (1.0, 1.0), (0.3, 0.3)])
def test_logits_are_scaled_by_the_root_of_a_heads_width_or_as_asked(scale, factor):
    torch.manual_seed(0)
    attention, x = MultiHeadAttention(WIDTH, 1, bias=False, project_out=False, scale=scale), draw(2, T, WIDTH)
    query, key, value = (x @ weight.T for weight in attention.qkv.weight.chunk(3))
    assert_close(attention(x), (factor * query @ key.mT).softmax(-1) @ value)


def test_attention_without_biases_or_a_map_back_has_neither():
    attention = MultiHeadAttention(WIDTH, N_HEADS, bias=False, project_out=False)
    assert [name for name, _ in attention.named_parameters()] == ["qkv.weight"]


def test_a_mask_serves_each_sample_by_itself():
    block, x = a_block(), draw(2, T, WIDTH)
    allowed = torch.stack([SOME, SOME.T])
    both = block(x, Mask.of(allowed))
    assert_close(both, torch.cat([block(x[[i]], Mask.of(allowed[i])) for i in range(2)]))
    keys = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]).bool()
    assert_close(block(x, Mask.of(keys.unsqueeze(1)))[0, :3], block(x[[0], :3])[0])


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="n_heads=3 does not divide n_latent=8"):
        MultiHeadAttention(WIDTH, 3)


def test_attention_is_recorded_layer_by_layer_and_only_while_asked():
    torch.manual_seed(0)
    transformer, x, owners = Transformer(WIDTH, N_HEADS, 3), draw(2, T, WIDTH), (torch.arange(T), torch.arange(T))
    with recorded_attention(transformer) as records:
        watched = transformer(x, Mask.of(SOME), owners)
    assert torch.equal(watched, transformer(x, Mask.of(SOME), owners))
    assert len(records) == 3
    for record in records:
        assert record.owners is owners
        assert_close(record.weights.sum(-1), torch.ones(2, T))
        assert not record.weights[:, ~SOME].any()


def test_a_block_drops_in_training_alone():
    torch.manual_seed(0)
    block, x = Block(WIDTH, N_HEADS, 0.5), draw(2, T, WIDTH)
    assert not torch.equal(block.train()(x), block(x))
    assert torch.equal(block.eval()(x), block(x))
