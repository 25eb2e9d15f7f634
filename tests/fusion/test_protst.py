"""ProtST's fusion, and its norm over real tokens."""

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
    influence,
    mixed,
    noise_for,
    padded,
    shaken,
    without,
)
from _tokens import double as double
from torch import nn

from skfusion.encoders.batch import Tokens
from skfusion.encoders.transformer import recorded_attention
from skfusion.fusion import ProtST
from skfusion.fusion.masks import partner_weights
from skfusion.fusion.partners import attend_to_partners
from skfusion.fusion.protst import TokenBatchNorm


def unscaled(attention, other, x, y):
    """softmax(Q Kᵀ) V of real tokens x (T, D) to those of another y, head by head."""
    query = (x @ attention.qkv.weight[:WIDTH].T).chunk(N_HEADS, -1)
    key = (y @ other.qkv.weight[WIDTH : 2 * WIDTH].T).chunk(N_HEADS, -1)
    value = (y @ other.qkv.weight[2 * WIDTH :].T).chunk(N_HEADS, -1)
    return torch.cat([(q @ k.mT).softmax(-1) @ v for q, k, v in zip(query, key, value)], -1)


def attended(fusion, tokens, present):
    """What attention alone gives: neither norm nor ReLU."""
    return attend_to_partners(fusion.attentions, tokens, partner_weights(present, self_too=True))


@N_MODALITIES
def test_tied_weights_and_equal_inputs_make_unscaled_self_attention(n_modalities):
    fusion = build(ProtST, n_modalities)
    for attention in fusion.attentions:
        attention.load_state_dict(fusion.attentions[0].state_dict())
    same = draw({"a": 4})["a"]
    tokens = dict.fromkeys("abc"[:n_modalities], same)
    first = fusion.attentions[0]
    for t in attended(fusion, tokens, everyone(tokens)).values():
        assert_close(t.values, unscaled(first, first, same.values, same.values))


@N_MODALITIES
def test_a_partner_that_says_nothing_leaves_exactly_its_share_of_self_attention(n_modalities):
    fusion, tokens = build(ProtST, n_modalities), draw(n_modalities)
    with torch.no_grad():
        for attention in fusion.attentions[1:]:
            attention.qkv.weight[2 * WIDTH :] = 0
    found = attended(fusion, tokens, everyone(tokens))["a"].values
    alone = attended(fusion, tokens, without(tokens, *list(tokens)[1:]))["a"].values
    assert_close(found, alone / n_modalities)
    assert n_modalities != 2 or torch.equal(found, alone / 2)
    assert_close(alone, unscaled(fusion.attentions[0], fusion.attentions[0], tokens["a"].values, tokens["a"].values))


@N_MODALITIES
@pytest.mark.parametrize("missing", [(), ("a",), ("b",)])
def test_the_fusion_is_its_formula_sample_by_sample(n_modalities, missing):
    fusion = build(ProtST, n_modalities)
    for norm in fusion.norms:
        norm.mean.normal_()
        norm.variance.uniform_(0.5, 2.0)
    tokens = padded(draw(n_modalities), "b", 3)
    output = fusion(tokens, without(tokens, *missing))
    there = [name for name in tokens if name not in missing]
    adapted = {
        name: (t.values + fusion.modality[m])[:, : int(t.mask[0].sum())]
        for m, (name, t) in enumerate(tokens.items())
        if name in there
    }
    attentions = dict(zip(tokens, fusion.attentions))
    everything = []
    for norm, name in zip(fusion.norms, tokens):
        if name not in there:
            continue
        answers = [unscaled(attentions[name], attentions[k], adapted[name], adapted[k]) for k in there]
        mean = sum(answers) / len(there)
        normed = (mean - norm.mean) / (norm.variance + 1e-5).sqrt() * norm.weight + norm.bias
        everything.append(normed.relu())
        assert_close(output.tokens[name].values[:, : mean.shape[1]], everything[-1])
    assert_close(output.fused, fusion.refine(torch.cat(everything, 1).mean(1)))


@N_MODALITIES
def test_every_modality_hears_every_other(n_modalities):
    fusion, tokens = build(ProtST, n_modalities), draw(n_modalities, n_samples=1)
    for name in tokens:
        for other in tokens:
            assert (influence(mixed(fusion, name), tokens, other).sum((0, 1)) > 0).all()


@N_MODALITIES
def test_a_token_is_not_added_to_what_it_hears(n_modalities):
    # No residual: what a token says of itself comes through its question alone, which a single key cannot answer.
    fusion, tokens = build(ProtST, n_modalities), draw(dict.fromkeys("abc"[:n_modalities], 1), n_samples=1)
    own = lambda tokens: attended(fusion, tokens, everyone(tokens))["a"].values  # noqa: E731
    values = [
        tokens[name].values @ attention.qkv.weight[2 * WIDTH :].T for name, attention in zip(tokens, fusion.attentions)
    ]
    assert_close(own(tokens), sum(values) / n_modalities)


@N_MODALITIES
@pytest.mark.parametrize("training", [False, True])
def test_padding_has_no_influence_in_training_either(n_modalities, training):
    fusion, tokens = build(ProtST, n_modalities), padded(draw(n_modalities), "b", 3)
    short = {**tokens, "b": Tokens(tokens["b"].values[:, :3], tokens["b"].mask[:, :3])}
    noisy = {**tokens, "b": Tokens(torch.where(tokens["b"].mask.unsqueeze(-1), tokens["b"].values, 1e3), short_mask(3))}
    fusion.train(training)
    state = {name: value.clone() for name, value in fusion.state_dict().items()}
    results = []
    for these in (tokens, short, noisy):
        fusion.load_state_dict(state)
        results.append((fusion(these, everyone(these)).fused, [norm.mean.clone() for norm in fusion.norms]))
    for fused, means in results[1:]:
        assert_close(fused, results[0][0])
        for mean, expected in zip(means, results[0][1]):
            assert_close(mean, expected)
    assert not torch.allclose(fusion(noise_for(tokens, "b"), everyone(tokens)).fused, results[0][0], atol=1e-2)


def short_mask(n_real):
    return (torch.arange(5) < n_real).expand(3, -1)


@N_MODALITIES
def test_rows_sum_to_one_with_equal_shares(n_modalities):
    fusion, tokens = build(ProtST, n_modalities), padded(draw(n_modalities), "b", 2)
    with recorded_attention(fusion) as records:
        fusion(tokens, everyone(tokens))
    (record,) = records
    real = torch.cat([t.mask for t in tokens.values()], 1)
    for k in range(n_modalities):
        shares = record.weights[..., record.owners[1] == k].sum(-1)[real]
        assert_close(shares, torch.full_like(shares, 1 / n_modalities))


# The norm


def tokens_of_two_lengths():
    tokens = padded(draw({"a": 5}, n_samples=6), "a", 5)["a"]
    mask = torch.arange(5) < torch.tensor([[5], [2], [1], [0], [4], [3]])
    return Tokens(torch.where(mask.unsqueeze(-1), tokens.values, 0.0), mask)


def test_statistics_go_over_real_tokens_alone():
    torch.manual_seed(0)
    norm, torchs, tokens = shaken(TokenBatchNorm(WIDTH)), nn.BatchNorm1d(WIDTH), tokens_of_two_lengths()
    with torch.no_grad():
        torchs.weight.copy_(norm.weight)
        torchs.bias.copy_(norm.bias)
    for step in range(3):
        now = Tokens((1 + step) * tokens.values, tokens.mask)
        assert_close(norm(now)[now.mask], torchs(now.values[now.mask]))
        assert_close(norm.mean, torchs.running_mean)
        assert_close(norm.variance, torchs.running_var)
    norm.eval()
    torchs.eval()
    assert_close(norm(tokens)[tokens.mask], torchs(tokens.values[tokens.mask]))
    assert_close(norm.mean, torchs.running_mean)


def test_gradients_of_the_norm_are_those_of_pytorch():
    norm, torchs, tokens = TokenBatchNorm(WIDTH), nn.BatchNorm1d(WIDTH), tokens_of_two_lengths()
    gradients = []
    for function in (lambda x: norm(Tokens(x, tokens.mask))[tokens.mask], lambda x: torchs(x[tokens.mask])):
        values = tokens.values.clone().requires_grad_()
        function(values).pow(3).sum().backward()
        gradients.append(values.grad[tokens.mask])
    assert_close(*gradients)


@pytest.mark.parametrize("n_real", [0, 1])
def test_fewer_than_two_real_tokens_use_and_leave_what_was_learned(n_real):
    norm, values = TokenBatchNorm(WIDTH), draw({"a": 2}, n_samples=1)["a"].values
    norm.mean.normal_()
    norm.variance.uniform_(0.5, 2.0)
    mean, variance = norm.mean.clone(), norm.variance.clone()
    tokens = Tokens(torch.where(torch.arange(2).unsqueeze(-1) < n_real, values, 0.0), torch.arange(2)[None] < n_real)
    found = norm(tokens)
    assert_close(found, (tokens.values - mean) / (variance + 1e-5).sqrt())
    assert_close(norm.mean, mean)
    assert_close(norm.variance, variance)
