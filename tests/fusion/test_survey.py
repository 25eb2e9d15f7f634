"""The six ways of a survey: sums, concatenation, hierarchies, and attention across."""

import pytest
import torch
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
    noise_for,
    padded,
    shaken,
    without,
)
from _tokens import double as double

from skfusion.encoders.batch import Tokens
from skfusion.encoders.transformer import recorded_attention
from skfusion.fusion import (
    CrossAttention,
    CrossAttentionConcat,
    EarlyConcat,
    EarlySum,
    Hierarchical,
    HierarchicalSplit,
)

EQUALLY_LONG = {2: {"a": 4, "b": 4}, 3: {"a": 4, "b": 4, "c": 4}}
BOTH_CROSSED = pytest.mark.parametrize("fusion_class", [CrossAttention, CrossAttentionConcat])


def reordered(tokens, name, order):
    values, mask = tokens[name]
    return {**tokens, name: Tokens(values[:, order], mask[:, order])}


@pytest.mark.parametrize(
    ("fusion_class", "lengths"),
    [
        (EarlySum, {"fusion": 4}),
        (EarlyConcat, {"a": 4, "b": 4, "c": 4}),
        (Hierarchical, {"a": 4, "b": 4, "c": 4}),
        (HierarchicalSplit, {"a": 4, "b": 4, "c": 4}),
        (CrossAttention, {"a": 4, "b": 4, "c": 4}),
        (CrossAttentionConcat, {"a": 4, "b": 4, "c": 4}),
    ],
)
@N_MODALITIES
def test_a_fusion_gives_as_many_tokens_as_the_survey_says(fusion_class, lengths, n_modalities):
    tokens = draw(EQUALLY_LONG[n_modalities])
    found = build(fusion_class, n_modalities)(tokens, everyone(tokens)).tokens
    expected = {name: length for name, length in lengths.items() if name in tokens or name == "fusion"}
    assert {name: t.values.shape[1] for name, t in found.items()} == expected


@pytest.mark.parametrize(
    ("fusion_class", "most"), [(EarlySum, 4), (EarlyConcat, 12), (Hierarchical, 12), (HierarchicalSplit, 12)]
)
def test_attention_costs_what_the_survey_says(fusion_class, most):
    fusion, tokens = build(fusion_class, 3), draw(EQUALLY_LONG[3])
    with recorded_attention(fusion) as records:
        fusion(tokens, everyone(tokens))
    assert max(record.weights[0].numel() for record in records) == most**2


@N_MODALITIES
def test_tokens_are_brought_to_one_width_and_told_whose_they_are(n_modalities):
    widths = dict(zip("abc", [WIDTH, WIDTH + 3, 2][:n_modalities]))
    fusion = shaken(EarlyConcat(widths, WIDTH, n_heads=2))
    tokens = {
        name: Tokens(torch.randn(3, 4, width), torch.tensor([[1, 1, 0, 1]] * 3).bool())
        for name, width in widths.items()
    }
    found = fusion.adapt(tokens, without(tokens, "b"))
    for m, (name, (values, mask)) in enumerate(tokens.items()):
        assert torch.equal(found[name].mask, mask if name != "b" else torch.zeros_like(mask))
        linear = fusion.adapters[m]
        adapted = values if name == "a" else values @ linear.weight.T + linear.bias
        assert_close(found[name].values, (adapted + fusion.modality[m]) * found[name].mask.unsqueeze(-1))


@N_MODALITIES
def test_equal_tokens_of_two_modalities_are_told_apart(n_modalities):
    fusion, same = build(EarlyConcat, n_modalities), draw({"a": 4})["a"]
    tokens = dict.fromkeys("abc"[:n_modalities], same)
    found = fusion(tokens, everyone(tokens)).tokens
    assert not torch.allclose(found["a"].values, found["b"].values, atol=1e-2)


# Early summation


@N_MODALITIES
def test_a_sum_with_weight_on_one_modality_is_the_transformer_on_that_one(n_modalities):
    tokens = draw(EQUALLY_LONG[n_modalities])
    for name in tokens:
        fusion = build(EarlySum, n_modalities, weights={**dict.fromkeys(tokens, 0.0), name: 1.0})
        output = fusion(tokens, everyone(tokens))
        adapted = fusion.adapt(tokens, everyone(tokens))[name].values
        assert_close(output.tokens["fusion"].values, fusion.mixer(adapted))
        assert_close(output.fused, fusion.refine(fusion.mixer(adapted).mean(1)))
        alone = build(EarlySum, 1, weights={"a": 1.0})
        state = fusion.state_dict()
        alone.load_state_dict(
            state | {"modality": state["modality"][[list(tokens).index(name)]], "weights": torch.ones(1)}
        )
        assert_close(output.fused, alone({"a": tokens[name]}, everyone(tokens)[:, :1]).fused)


@N_MODALITIES
def test_a_sum_is_the_transformer_of_the_weighted_sum(n_modalities):
    tokens, weights = draw(EQUALLY_LONG[n_modalities]), {"a": 0.5, "b": -2.0, "c": 3.0}
    weights = {name: weights[name] for name in tokens}
    fusion = build(EarlySum, n_modalities, weights=weights)
    adapted = fusion.adapt(tokens, everyone(tokens))
    total = sum(weights[name] * adapted[name].values for name in tokens)
    assert_close(fusion(tokens, everyone(tokens)).tokens["fusion"].values, fusion.mixer(total))


@N_MODALITIES
def test_a_sum_leaves_out_what_is_missing(n_modalities):
    fusion, tokens = build(EarlySum, n_modalities), draw(EQUALLY_LONG[n_modalities])
    weights = dict(zip(tokens, fusion.weights.tolist()))
    without_it = build(EarlySum, n_modalities, weights=weights | {"b": 0.0})
    without_it.load_state_dict(fusion.state_dict() | {"weights": without_it.weights})
    assert_close(fusion(tokens, without(tokens, "b")).fused, without_it(tokens, everyone(tokens)).fused)


@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.3, 0.3), (1.0, 0.9), (1.0, 0.0)])
@N_MODALITIES
def test_a_sum_commutes_if_and_only_if_weights_are_equal(n_modalities, weights):
    tokens = draw(EQUALLY_LONG[n_modalities])
    fusion = build(EarlySum, n_modalities, weights=dict(zip("abc", [*weights, 0.5][:n_modalities])))
    with torch.no_grad():
        fusion.modality.zero_()  # it says whose a token is
    swapped = {**tokens, "a": tokens["b"], "b": tokens["a"]}
    change = (fusion(swapped, everyone(tokens)).fused - fusion(tokens, everyone(tokens)).fused).abs().max()
    assert (change < 1e-6) == (weights[0] == weights[1])
    assert change < 1e-6 or change > 1e-3


def test_weights_of_a_sum_are_learned_from_one_on_unless_they_are_given():
    widths = {"a": WIDTH, "b": WIDTH}
    learned, given = EarlySum(widths, WIDTH), EarlySum(widths, WIDTH, weights={"b": 2, "a": 0.5})
    assert torch.equal(dict(learned.named_parameters())["weights"], torch.ones(2))
    assert "weights" not in dict(given.named_parameters())
    assert given.weights.tolist() == [0.5, 2.0]


def test_a_sum_adds_a_single_token_at_every_position():
    fusion, tokens = build(EarlySum, 2), draw({"a": 1, "b": 4})
    repeated = {**tokens, "a": Tokens(tokens["a"].values.expand(-1, 4, -1), tokens["b"].mask)}
    assert_close(fusion(tokens, everyone(tokens)).fused, fusion(repeated, everyone(tokens)).fused)


def test_a_single_token_does_not_make_padding_real_and_stands_alone_where_nothing_else_is():
    fusion, tokens = build(EarlySum, 2), padded(draw({"a": 1, "b": 4}), "b", 3)
    short = {**tokens, "b": Tokens(tokens["b"].values[:, :3], tokens["b"].mask[:, :3])}
    assert_close(fusion(tokens, everyone(tokens)).fused, fusion(short, everyone(tokens)).fused)
    alone = {**tokens, "b": Tokens(tokens["b"].values[:, :1], tokens["b"].mask[:, :1])}
    assert_close(fusion(tokens, without(tokens, "b")).fused, fusion(alone, without(tokens, "b")).fused)


def test_a_sum_refuses_other_lengths_and_other_names():
    tokens = draw({"a": 4, "b": 5})
    with pytest.raises(ValueError, match=r"'a': 4, 'b': 5.*early_concat"):
        build(EarlySum, 2)(tokens, everyone(tokens))
    with pytest.raises(ValueError, match=r"\['a'\]; due are the modalities \['a', 'b'\]"):
        build(EarlySum, 2, weights={"a": 1.0})


# Early concatenation


@N_MODALITIES
def test_concatenation_is_one_transformer_over_all_tokens(n_modalities):
    fusion, tokens = build(EarlyConcat, n_modalities), draw(n_modalities)
    adapted = torch.cat([t.values for t in fusion.adapt(tokens, everyone(tokens)).values()], 1)
    output = fusion(tokens, everyone(tokens))
    assert_close(torch.cat([t.values for t in output.tokens.values()], 1), fusion.mixer(adapted))
    assert_close(output.fused, fusion.refine(fusion.mixer(adapted).mean(1)))


@N_MODALITIES
@pytest.mark.parametrize("fusion_class", [EarlyConcat, Hierarchical, HierarchicalSplit, CrossAttentionConcat])
def test_reordering_a_modalitys_tokens_reorders_what_becomes_of_them_and_nothing_else(n_modalities, fusion_class):
    fusion, tokens = build(fusion_class, n_modalities), padded(draw(n_modalities), "b", 4)
    expected = fusion(tokens, everyone(tokens))
    for name in tokens:
        order = torch.randperm(tokens[name].values.shape[1], generator=torch.Generator().manual_seed(3))
        assert order.tolist() != sorted(order.tolist())
        found = fusion(reordered(tokens, name, order), everyone(tokens))
        assert_close(found.fused, expected.fused)
        wanted = reordered(expected.tokens, name, order)
        for other in tokens:
            real = wanted[other].mask
            assert_close(found.tokens[other].values[real], wanted[other].values[real])


@N_MODALITIES
def test_in_a_concatenation_every_token_hears_every_other(n_modalities):
    fusion, tokens = build(EarlyConcat, n_modalities), draw(n_modalities, n_samples=1)
    for name in tokens:
        for other in tokens:
            moved = influence(mixed(fusion, name), tokens, other)  # (T, D, T')
            assert (moved.sum(1) > 0).all()


# Hierarchies


@N_MODALITIES
def test_silencing_a_modalitys_own_transformer_removes_every_trace_of_it(n_modalities):
    for silent in range(n_modalities):
        fusion, tokens = build(Hierarchical, n_modalities), draw(n_modalities, n_samples=1)
        name = list(tokens)[silent]

        fused = head(fusion, "fusion")
        assert (influence(fused, tokens, name).sum(0) > 0).all()
        with torch.no_grad():
            fusion.own[silent].norm.weight.zero_()
            fusion.own[silent].norm.bias.zero_()
        assert not influence(fused, tokens, name).any()
        for other in set(tokens) - {name}:
            assert (influence(fused, tokens, other).sum(0) > 0).all()


@N_MODALITIES
def test_many_to_one_is_a_transformer_each_and_then_one_for_all(n_modalities):
    fusion, tokens = build(Hierarchical, n_modalities, n_fusion_layers=4), draw(n_modalities)
    adapted = fusion.adapt(tokens, everyone(tokens)).values()
    alone = torch.cat([own(t.values) for own, t in zip(fusion.own, adapted)], 1)
    assert_close(fusion(tokens, everyone(tokens)).fused, fusion.refine(fusion.mixer(alone).mean(1)))


@N_MODALITIES
def test_one_to_many_is_one_transformer_for_all_and_then_one_each(n_modalities):
    fusion, tokens = build(HierarchicalSplit, n_modalities, n_fusion_layers=4), draw(n_modalities)
    adapted = fusion.adapt(tokens, everyone(tokens))
    lengths = [t.values.shape[1] for t in adapted.values()]
    parts = fusion.mixer(torch.cat([t.values for t in adapted.values()], 1)).split(lengths, dim=1)
    output = fusion(tokens, everyone(tokens))
    assert list(output.tokens) == list(tokens)
    for own, part, found in zip(fusion.own, parts, output.tokens.values()):
        assert_close(found.values, own(part))


@N_MODALITIES
def test_in_one_to_many_every_part_has_heard_of_all_and_the_parts_end_apart(n_modalities):
    fusion, tokens = build(HierarchicalSplit, n_modalities), draw(n_modalities, n_samples=1)
    for name in tokens:
        for other in tokens:
            assert (influence(mixed(fusion, name), tokens, other).sum(1) > 0).all()
    # Once it is split, nothing passes from one to another.
    with torch.no_grad():
        fusion.own[0].norm.weight.zero_()
    assert not influence(mixed(fusion, "a"), tokens, "b").any()
    assert influence(mixed(fusion, "b"), tokens, "a").any()


@pytest.mark.parametrize("fusion_class", [Hierarchical, HierarchicalSplit])
@pytest.mark.parametrize(("depth", "own", "shared"), [(1, 1, 1), (2, 1, 1), (3, 1, 2), (6, 3, 3)])
def test_layers_of_a_hierarchy_are_shared_out(fusion_class, depth, own, shared):
    fusion = build(fusion_class, 3, n_fusion_layers=depth)
    assert [len(transformer.blocks) for transformer in fusion.own] == [own] * 3
    assert len(fusion.mixer.blocks) == shared


# Attention across


def test_a_row_of_cross_attention_knows_one_asking_token_and_all_that_are_asked():
    fusion, tokens = build(CrossAttention, 2), draw(2, n_samples=1)
    for asking, asked in (("b", "a"), ("a", "b")):
        row = mixed(fusion, asking)
        by_asking = influence(row, tokens, asking).sum(1)  # (T, T)
        assert torch.equal(by_asking > 0, torch.eye(len(by_asking), dtype=torch.bool))
        assert (influence(row, tokens, asked).sum(1) > 0).all()


def test_with_three_modalities_a_row_knows_one_asking_token_and_all_of_both_others():
    fusion, tokens = build(CrossAttention, 3), draw(3, n_samples=1)
    for asking in tokens:
        row = mixed(fusion, asking)
        by_asking = influence(row, tokens, asking).sum(1)
        assert torch.equal(by_asking > 0, torch.eye(len(by_asking), dtype=torch.bool))
        for asked in set(tokens) - {asking}:
            assert (influence(row, tokens, asked).sum(1) > 0).all()


@N_MODALITIES
def test_a_transformer_after_cross_attention_gives_back_the_context(n_modalities):
    fusion, tokens = build(CrossAttentionConcat, n_modalities), draw(n_modalities, n_samples=1)
    for name in tokens:
        for other in tokens:
            assert (influence(mixed(fusion, name), tokens, other).sum(1) > 0).all()


@N_MODALITIES
def test_reordering_tokens_that_ask_reorders_rows_and_those_that_are_asked_nothing(n_modalities):
    fusion, tokens = build(CrossAttention, n_modalities), draw(n_modalities)
    expected, order = fusion(tokens, everyone(tokens)).tokens, torch.tensor([3, 0, 4, 1, 2])
    found = fusion(reordered(tokens, "b", order), everyone(tokens)).tokens
    assert_close(found["b"].values, expected["b"].values[:, order])
    for name in set(tokens) - {"b"}:
        assert_close(found[name].values, expected[name].values)


def by_hand(fusion, tokens, asking, asked):
    """softmax(Q Kᵀ / √d) V of one modality's tokens (T, D) to those of another, head by head, before the map back."""
    names = list(tokens)
    m, k = names.index(asking), names.index(asked)
    query = fusion.attentions[m].qkv(fusion.norms[m](tokens[asking].values)).chunk(3, -1)[0]
    _, key, value = fusion.attentions[k].qkv(fusion.norms[k](tokens[asked].values)).chunk(3, -1)
    answers = []
    for q, a, v in zip(*(x.chunk(fusion.n_heads, -1) for x in (query, key, value))):
        answers.append((q @ a.mT * q.shape[-1] ** -0.5).softmax(-1) @ v)
    return torch.cat(answers, -1)


@N_MODALITIES
def test_cross_attention_is_its_formula_averaged_over_the_others(n_modalities):
    fusion, tokens = build(CrossAttention, n_modalities), draw(n_modalities)
    adapted = fusion.adapt(tokens, everyone(tokens))
    found = fusion(tokens, everyone(tokens)).tokens
    for m, asking in enumerate(tokens):
        answers = [by_hand(fusion, adapted, asking, asked) for asked in tokens if asked != asking]
        assert_close(found[asking].values, fusion.attentions[m].out(sum(answers) / len(answers)))


@N_MODALITIES
def test_without_anyone_to_ask_a_modality_asks_itself(n_modalities):
    fusion, tokens = build(CrossAttention, n_modalities), draw(n_modalities)
    only_b = without(tokens, *(name for name in tokens if name != "b"))
    found = fusion(tokens, only_b).tokens
    adapted = fusion.adapt(tokens, only_b)
    assert_close(found["b"].values, fusion.attentions[1].out(by_hand(fusion, adapted, "b", "b")))
    assert not found["a"].mask.any()


def test_of_three_modalities_those_that_are_there_ask_each_other():
    fusion, tokens = build(CrossAttention, 3), draw(3)
    found = fusion(tokens, without(tokens, "a")).tokens
    adapted = fusion.adapt(tokens, without(tokens, "a"))
    assert_close(found["b"].values, fusion.attentions[1].out(by_hand(fusion, adapted, "b", "c")))
    assert_close(found["c"].values, fusion.attentions[2].out(by_hand(fusion, adapted, "c", "b")))


@N_MODALITIES
def test_rows_of_cross_attention_sum_to_one_and_look_at_others_alone(n_modalities):
    fusion, tokens = build(CrossAttention, n_modalities), padded(draw(n_modalities), "b", 3)
    with recorded_attention(fusion) as records:
        fusion(tokens, everyone(tokens))
    (record,) = records
    queries, keys = record.owners
    real = torch.cat([t.mask for t in tokens.values()], 1)  # (B, T)
    assert_close(record.weights.sum(-1)[real], torch.ones(int(real.sum())))
    allowed = (queries.unsqueeze(1) != keys) & real.unsqueeze(1)
    assert torch.equal(record.weights[real] > 0, allowed[real])
    # A long partner and a short one share alike.
    if n_modalities == 3:
        for m in range(3):
            for k in set(range(3)) - {m}:
                assert_close(
                    record.weights[:, queries == m][..., keys == k].sum(-1)[real[:, queries == m]].mean(),
                    torch.tensor(0.5),
                )


@BOTH_CROSSED
@N_MODALITIES
def test_padding_of_those_that_are_asked_is_not_heard(fusion_class, n_modalities):
    fusion, tokens = build(fusion_class, n_modalities), padded(draw(n_modalities), "b", 3)
    short = {**tokens, "b": Tokens(tokens["b"].values[:, :3], tokens["b"].mask[:, :3])}
    output = fusion(tokens, everyone(tokens))
    assert_close(output.fused, fusion(short, everyone(tokens)).fused)
    assert not torch.allclose(output.fused, fusion(noise_for(tokens, "a"), everyone(tokens)).fused, atol=1e-2)


def test_a_single_token_that_is_asked_answers_with_its_value_whatever_the_question():
    fusion, tokens = build(CrossAttention, 2), draw({"a": 1, "b": 4})
    found = fusion(tokens, everyone(tokens)).tokens["b"].values
    normed = fusion.norms[0](tokens["a"].values + fusion.modality[0])
    answer = fusion.attentions[1].out(fusion.attentions[0].qkv(normed)[..., 2 * WIDTH :])
    assert_close(found, answer.expand(-1, 4, -1))


def test_what_is_crossed_goes_on_through_the_transformer():
    fusion, tokens = build(CrossAttentionConcat, 2), draw(2)
    with inputs_of(fusion.mixer) as seen:
        output = fusion(tokens, everyone(tokens))
    crossed = CrossAttention.mix(fusion, fusion.adapt(tokens, everyone(tokens)), everyone(tokens))
    assert_close(seen[0], torch.cat([t.values for t in crossed.values()], 1))
    assert_close(output.fused, fusion.refine(fusion.mixer(seen[0]).mean(1)))
