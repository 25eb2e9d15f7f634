"""One modality is the fused embedding; the others have heads, and stand in where it is missing."""

import pickle

import pytest
import torch
from _tokens import N_MODALITIES, WIDTH, build, draw, everyone, influence, noise_for, without
from _tokens import double as double

from skfusion.fusion import Mean, Primary


@N_MODALITIES
@pytest.mark.parametrize("primary", ["a", "b", None])
def test_the_primary_modality_alone_is_fused_and_all_have_heads(n_modalities, primary):
    fusion = build(Primary, n_modalities, modality=primary)
    tokens = draw(n_modalities)
    output = fusion(tokens, everyone(tokens))
    assert torch.equal(output.fused, fusion.refine(tokens[primary or "a"].values.mean(1)))
    for name in tokens:
        torch.testing.assert_close(output.heads[name], tokens[name].values.mean(1))
        moved = influence(lambda t: fusion(t, everyone(t)).fused, draw(n_modalities, 1), name)
        assert (moved > 0).all() if name == (primary or "a") else not moved.any()


@N_MODALITIES
def test_what_the_others_hold_or_lack_changes_no_bit(n_modalities):
    fusion, tokens = build(Primary, n_modalities, modality="a"), draw(n_modalities)
    others = [name for name in tokens if name != "a"]
    expected = fusion(tokens, everyone(tokens)).fused
    assert torch.equal(fusion(noise_for(tokens, *others), everyone(tokens)).fused, expected)
    assert torch.equal(fusion(tokens, without(tokens, *others)).fused, expected)


def test_without_the_primary_modality_it_is_the_mean_of_the_others():
    fusion, mean, tokens = build(Primary, 3, modality="b"), build(Mean, 3), draw(3)
    assert [p.shape for p in fusion.parameters()] == [p.shape for p in mean.parameters()]
    for missing in (["b"], ["b", "c"], ["a", "b"], ["a", "b", "c"]):
        present = without(tokens, *missing)
        assert torch.equal(fusion(tokens, present).fused, mean(tokens, present).fused)
    mixed = everyone(tokens)
    mixed[1, 1] = False
    found = fusion(tokens, mixed).fused
    torch.testing.assert_close(found[1], mean(tokens, without(tokens, "b")).fused[1])
    torch.testing.assert_close(found[::2], fusion(tokens, everyone(tokens)).fused[::2])


@pytest.mark.parametrize("junk", [float("nan"), float("inf")])
def test_missing_slots_have_no_say_in_values_or_gradients(junk):
    fusion, tokens = build(Primary, 3, modality="b").train(), draw(3)
    present = without(tokens, "b")
    tokens["b"].values.fill_(junk)
    tokens = {name: t._replace(values=t.values.requires_grad_()) for name, t in tokens.items()}
    fused = fusion(tokens, present).fused
    fused.square().sum().backward()
    assert fused.isfinite().all()
    assert not tokens["b"].values.grad.any()
    assert all(p.grad.isfinite().all() for p in fusion.parameters() if p.grad is not None)


def test_widths_may_differ_and_an_unknown_modality_raises():
    fusion = pickle.loads(pickle.dumps(Primary({"a": WIDTH, "b": 3}, WIDTH, modality="b", dropout_rate=0.5, n_heads=2)))
    assert fusion.column == 1
    assert fusion.is_pure
    with pytest.raises(ValueError, match=r"modality of Primary is 'c'; due is one of \['a', 'b'\], or None"):
        Primary({"a": WIDTH, "b": 3}, WIDTH, modality="c")
