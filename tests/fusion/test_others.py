"""Bottlenecks, selection, mixtures of experts, shared and specific features."""

import pytest
import torch
import torch.nn.functional as F
from _tokens import (
    N_MODALITIES,
    WIDTH,
    assert_close,
    build,
    draw,
    everyone,
    head,
    influence,
    inputs_of,
    mixed,
    padded,
    without,
)
from _tokens import double as double

from skfusion.encoders.batch import Tokens
from skfusion.fusion import Bottleneck, MixtureOfExperts, Select, SharedSpecific

PATTERNS = {
    2: torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1], [1, 1]]).bool(),
    3: torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1], [1, 0, 1], [0, 1, 1], [1, 1, 1]]).bool(),
}


def before_refine(fusion, tokens, present):
    """What a fusion puts together, and its output."""
    with inputs_of(fusion.refine) as seen:
        output = fusion(tokens, present)
    return seen[0], output


def pooled(tokens, present):
    """Means of each modality's tokens (B, M, D), zero where it is missing."""
    return torch.stack([t.values.mean(1) for t in tokens.values()], 1) * present.unsqueeze(-1)


# Bottleneck


def bottleneck_by_hand(fusion, tokens, missing=()):
    """Tokens of each modality that is there, and fusion tokens, after each layer; no padding."""
    there = [name for name in tokens if name not in missing]
    place = {name: m for m, name in enumerate(tokens)}
    values = {name: tokens[name].values + fusion.modality[place[name]] for name in there}
    fused, history = fusion.fusion_tokens.expand(3, -1, -1), []
    for depth, blocks in enumerate(fusion.layers):
        if depth < fusion.fusion_from:
            values = {name: blocks[place[name]](x) for name, x in values.items()}
        else:
            lengths = [[x.shape[1], fused.shape[1]] for x in values.values()]
            both = [
                blocks[place[name]](torch.cat([x, fused], 1)).split(length, dim=1)
                for (name, x), length in zip(values.items(), lengths)
            ]
            values = dict(zip(values, (own for own, _ in both)))
            fused = sum(theirs for _, theirs in both) / len(both)
        history.append((values, fused))
    return history


@N_MODALITIES
@pytest.mark.parametrize(("depth", "fusion_from"), [(1, 0), (2, 0), (4, 1), (4, None)])
@pytest.mark.parametrize("missing", [(), ("a",)])
def test_a_bottleneck_is_its_formula(n_modalities, depth, fusion_from, missing):
    fusion = build(Bottleneck, n_modalities, n_fusion_layers=depth, fusion_from=fusion_from)
    tokens = draw(n_modalities)
    output = fusion(tokens, without(tokens, *missing))
    values, fused = bottleneck_by_hand(fusion, tokens, missing)[-1]
    for name, x in values.items():
        assert_close(output.tokens[name].values, fusion.norm(x))
        assert_close(output.heads[name], fusion.refine(fusion.norm(x).mean(1)))
    assert_close(output.tokens["fusion"].values, fusion.norm(fused))
    assert_close(output.fused, fusion.refine(fusion.norm(torch.cat([*values.values(), fused], 1)).mean(1)))


@pytest.mark.parametrize(("depth", "first"), [(1, 0), (2, 0), (3, 1), (6, 4)])
def test_the_last_two_layers_fuse_where_nothing_else_is_asked(depth, first):
    assert build(Bottleneck, 2, n_fusion_layers=depth).fusion_from == first


@N_MODALITIES
@pytest.mark.parametrize(("depth", "fusion_from"), [(4, 0), (4, 1), (4, 2), (5, 2)])
def test_modalities_hear_each_other_from_the_second_layer_of_fusion_on(n_modalities, depth, fusion_from):
    """Before `fusion_from` nothing passes; there the fusion tokens learn; in the layer after they pass it on."""
    fusion = build(Bottleneck, n_modalities, n_fusion_layers=depth, fusion_from=fusion_from)
    tokens = draw(n_modalities, n_samples=1)
    for layer in range(depth):
        for m, name in enumerate(tokens):

            def after(tokens, layer=layer, m=m, name=name):
                caught = []
                handle = fusion.layers[layer][m].register_forward_hook(lambda _, __, out: caught.append(out))
                fusion(tokens, everyone(tokens))
                handle.remove()
                return caught[0][:, : tokens[name].values.shape[1]]

            for other in tokens:
                moved = influence(after, tokens, other).sum(1) > 0  # (T, T')
                assert moved.all() if name == other or layer > fusion_from else not moved.any()


@N_MODALITIES
def test_a_single_layer_of_fusion_keeps_modalities_apart_and_fuses_in_its_tokens(n_modalities):
    fusion = build(Bottleneck, n_modalities, n_fusion_layers=3, fusion_from=2)
    tokens = draw(n_modalities, n_samples=1)
    for name in tokens:
        for other in set(tokens) - {name}:
            assert not influence(head(fusion, name), tokens, other).any()
        assert (influence(mixed(fusion, "fusion"), tokens, name).sum((0, 1)) > 0).all()


@N_MODALITIES
def test_without_fusion_tokens_there_is_no_exchange_at_any_depth(n_modalities):
    fusion = build(Bottleneck, n_modalities, n_fusion_layers=4, fusion_from=0, n_fusion_tokens=0)
    tokens = draw(n_modalities, n_samples=1)
    for name in tokens:
        for other in tokens:
            assert bool(influence(head(fusion, name), tokens, other).any()) == (name == other)


@N_MODALITIES
def test_every_modality_reaches_every_head_through_the_bottleneck(n_modalities):
    fusion, tokens = build(Bottleneck, n_modalities), draw(n_modalities, n_samples=1)
    for name in (*tokens, "fusion", "global"):
        for other in tokens:
            assert (influence(head(fusion, name), tokens, other).sum(0) > 0).all()


@N_MODALITIES
def test_padding_of_a_bottleneck_is_not_heard(n_modalities):
    fusion, tokens = build(Bottleneck, n_modalities, n_fusion_layers=3), padded(draw(n_modalities), "b", 3)
    short = {**tokens, "b": Tokens(tokens["b"].values[:, :3], tokens["b"].mask[:, :3])}
    found, expected = fusion(tokens, everyone(tokens)), fusion(short, everyone(tokens))
    for name in expected.heads:
        assert_close(found.heads[name], expected.heads[name])


@pytest.mark.parametrize("fusion_from", [-1, 2])
def test_a_layer_that_is_not_there_cannot_be_the_first_to_fuse(fusion_from):
    with pytest.raises(ValueError, match=f"fusion_from is {fusion_from}; due is a layer from 0 to 1"):
        build(Bottleneck, 2, n_fusion_layers=2, fusion_from=fusion_from)


# Select


@N_MODALITIES
def test_select_sums_normalised_embeddings_times_gates(n_modalities):
    fusion, present = build(Select, n_modalities), PATTERNS[n_modalities]
    tokens = draw(n_modalities, n_samples=len(present))
    found, _ = before_refine(fusion, tokens, present)
    normed = F.layer_norm(pooled(tokens, present), (WIDTH,))
    assert_close(found, sum(fusion.gates[m] * present[:, [m]] * normed[:, m] for m in range(n_modalities)))


@N_MODALITIES
def test_a_closed_gate_hides_its_modality(n_modalities):
    fusion, tokens = build(Select, n_modalities), draw(n_modalities, n_samples=1)
    with torch.no_grad():
        fusion.tenths[1] = 0
    for name in tokens:
        assert bool(influence(head(fusion, "fusion"), tokens, name).any()) == (name != "b")


@N_MODALITIES
def test_an_embeddings_size_does_not_make_up_for_a_small_gate(n_modalities):
    fusion, tokens = build(Select, n_modalities), draw(n_modalities)
    larger = {**tokens, "a": Tokens(100 * tokens["a"].values, tokens["a"].mask)}
    expected = fusion(tokens, everyone(tokens)).fused
    torch.testing.assert_close(fusion(larger, everyone(tokens)).fused, expected, rtol=1e-2, atol=1e-3)
    assert not list(fusion.norm.parameters())


@N_MODALITIES
def test_the_penalty_is_the_sum_of_absolute_gates(n_modalities):
    fusion, tokens = build(Select, n_modalities, penalty=0.5), draw(n_modalities)
    with torch.no_grad():
        fusion.tenths.copy_(torch.tensor([0.1, -0.3, 0.025])[:n_modalities])
    losses = fusion(tokens, everyone(tokens)).losses
    assert losses["gates"].item() == pytest.approx(0.5 * (4.0 if n_modalities == 2 else 4.25))


# Mixture of experts


def experts_by_hand(fusion, x, weights):
    """A weighted sum of what each expert makes of x (D,)."""
    return sum(w * F.gelu(x @ fusion.up[e]) @ fusion.down[e] for e, w in enumerate(weights) if w != 0)


def pattern_of(there):
    return sum(2**m for m, is_there in enumerate(there.tolist()) if is_there)


@N_MODALITIES
@pytest.mark.parametrize("options", [{}, {"n_active": 2}, {"n_experts": 2}, {"n_experts": 5, "n_active": 3}])
def test_a_mixture_of_experts_is_its_formula(n_modalities, options):
    fusion, present = build(MixtureOfExperts, n_modalities, **options), PATTERNS[n_modalities]
    tokens = draw(n_modalities, n_samples=len(present))
    found, _ = before_refine(fusion, tokens, present)
    means = pooled(tokens, present)
    for i, there in enumerate(present):
        pattern = pattern_of(there)
        own = torch.stack([means[i, m] if there[m] else fusion.bank[pattern, m] for m in range(n_modalities)])
        merged = fusion.merge(own.flatten())
        x = fusion.norm(merged)
        weights = torch.zeros(fusion.n_experts)
        if there.all():
            best = fusion.router(x).argsort(descending=True)[: fusion.n_active]
            weights[best] = fusion.router(x)[best].softmax(0)
        else:
            weights[(pattern - 1) % fusion.n_experts] = 1
        assert_close(found[i], merged + experts_by_hand(fusion, x, weights))


@pytest.mark.parametrize(("n", "n_experts"), [(1, 1), (2, 3), (3, 7), (4, 15), (5, 16)])
def test_there_is_an_expert_a_pattern_up_to_sixteen(n, n_experts):
    fusion = MixtureOfExperts({f"m{i}": WIDTH for i in range(n)}, WIDTH)
    assert fusion.n_experts == n_experts
    assert fusion.n_active == min(4, n_experts)
    assert fusion.bank.shape == (2**n, n, WIDTH)


@N_MODALITIES
def test_a_complete_sample_goes_to_so_many_experts_with_weights_that_sum_to_one(n_modalities):
    for n_active in (1, 2, 3):
        fusion = build(MixtureOfExperts, n_modalities, n_active=n_active)
        logits = torch.randn(20, fusion.n_experts)
        weights = fusion.routed(logits)
        assert_close(weights.sum(1), torch.ones(20))
        assert ((weights > 0).sum(1) == n_active).all()
        # They are those of the largest logits, in that order.
        assert torch.equal(weights.argmax(1), logits.argmax(1))
        assert (
            logits.masked_fill(weights == 0, torch.inf).amin(1) >= logits.masked_fill(weights > 0, -torch.inf).amax(1)
        ).all()


@N_MODALITIES
def test_an_incomplete_sample_knows_the_expert_of_its_pattern_alone(n_modalities):
    fusion, present = build(MixtureOfExperts, n_modalities), PATTERNS[n_modalities]
    tokens = draw(n_modalities, n_samples=len(present))
    expected = fusion(tokens, present).fused
    for expert in range(fusion.n_experts):
        state = fusion.state_dict()
        state = {name: value.clone() for name, value in state.items()}
        with torch.no_grad():
            fusion.down[expert] += 1
        changed = (fusion(tokens, present).fused - expected).abs().amax(1) > 1e-3
        fusion.load_state_dict(state)
        for i, there in enumerate(present):
            if there.any() and not there.all():
                assert changed[i] == (pattern_of(there) - 1 == expert)


@N_MODALITIES
def test_the_bank_stands_in_for_what_is_missing_alone(n_modalities):
    fusion, present = build(MixtureOfExperts, n_modalities), PATTERNS[n_modalities]
    tokens = draw(n_modalities, n_samples=len(present))
    for i, there in enumerate(present):
        fused = fusion(tokens, present).fused[i]
        (gradient,) = torch.autograd.grad(fused.square().sum(), fusion.bank)
        used = torch.zeros(2**n_modalities, n_modalities, dtype=torch.bool)
        used[pattern_of(there)] = ~there
        assert torch.equal(gradient.abs().sum(-1) > 0, used)


@N_MODALITIES
def test_losses_of_routing_are_balance_of_complete_samples_and_the_pattern_of_others(n_modalities):
    fusion = build(MixtureOfExperts, n_modalities, penalty=0.5, n_active=2)
    present = PATTERNS[n_modalities][1:].repeat(3, 1)
    tokens = draw(n_modalities, n_samples=len(present))
    with inputs_of(fusion.router) as seen:
        losses = fusion(tokens, present).losses
    logits, whole = fusion.router(seen[0]), present.all(1)
    importance = fusion.routed(logits[whole]).sum(0)
    assert_close(losses["balance"], 0.5 * importance.var(unbiased=False) / importance.mean() ** 2)
    own = torch.tensor([pattern_of(there) - 1 for there in present[~whole]])
    assert_close(losses["pattern"], 0.5 * F.cross_entropy(logits[~whole], own))


def test_losses_of_routing_are_zero_without_samples_of_their_kind():
    fusion, tokens = build(MixtureOfExperts, 2), draw(2)
    assert fusion(tokens, without(tokens, "a")).losses["balance"] == 0
    assert fusion(tokens, everyone(tokens)).losses["pattern"] == 0


def test_more_modalities_than_a_bank_can_hold_are_refused():
    with pytest.raises(ValueError, match=r"13 modalities have 2\^13.*at most 12.*'shared_specific'"):
        MixtureOfExperts({f"m{i}": 2 for i in range(13)}, 4)


# Shared and specific features


def features(fusion, tokens, present):
    """What is put together, (B, M, D), and the shared features of what is there."""
    found, output = before_refine(fusion, tokens, present)
    means = pooled(tokens, present)
    shared = fusion.shared(means)
    specific = torch.stack([map_(means[:, m]) for m, map_ in enumerate(fusion.specific)], 1)
    return found.unflatten(1, (present.shape[1], WIDTH)), shared, specific, output


@N_MODALITIES
def test_a_missing_feature_is_the_mean_of_the_shared_ones_and_one_that_is_there_its_formula(n_modalities):
    fusion, present = build(SharedSpecific, n_modalities), PATTERNS[n_modalities]
    tokens = draw(n_modalities, n_samples=len(present))
    found, shared, specific, _ = features(fusion, tokens, present)
    for i, there in enumerate(present):
        for m in range(n_modalities):
            if there[m]:
                both = torch.cat([shared[i, m], specific[i, m]])
                assert_close(found[i, m], shared[i, m] + fusion.project(both))
            elif there.any():
                assert_close(found[i, m], shared[i][there].mean(0))
            else:
                assert not found[i, m].any()


@N_MODALITIES
def test_what_is_shared_agrees_and_what_is_specific_tells_the_modality(n_modalities):
    fusion = build(SharedSpecific, n_modalities, agreement=0.5, identity=2.0)
    present = PATTERNS[n_modalities]
    tokens = draw(n_modalities, n_samples=len(present))
    _, shared, specific, output = features(fusion, tokens, present)
    apart, told = [], []
    for i, there in enumerate(present):
        own = [m for m in range(n_modalities) if there[m]]
        apart += [(shared[i, m] - shared[i, k]).abs().mean() for m in own for k in own if m < k]
        told += [-fusion.which(specific[i, m]).log_softmax(0)[m] for m in own]
    assert_close(output.losses["agreement"], 0.5 * sum(apart) / len(apart))
    assert_close(output.losses["identity"], 2.0 * sum(told) / len(told))


def test_losses_of_features_are_the_published_ones_in_size():
    fusion = SharedSpecific({"a": WIDTH, "b": WIDTH}, WIDTH)
    assert (fusion.agreement, fusion.identity) == (0.1, 0.02)


@N_MODALITIES
def test_equal_modalities_agree_wholly(n_modalities):
    fusion, same = build(SharedSpecific, n_modalities), draw({"a": 4})["a"]
    output = fusion(dict.fromkeys("abc"[:n_modalities], same), torch.ones(3, n_modalities, dtype=torch.bool))
    assert output.losses["agreement"] == 0
    assert output.losses["identity"] > 0
