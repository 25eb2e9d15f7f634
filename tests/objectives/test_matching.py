"""Matching: who is swapped with whom, and that swapped samples are seen by nothing else."""

import numpy as np
import pytest
import torch
from _batches import batch, loss, prepared, setting

from skfusion import MultimodalPretrainer
from skfusion.objectives import Context, CrossMasked, Matching
from skfusion.objectives.matching import swap_sources, swapped

SHAPES = {"a": (4,), "b": (3,), "c": (2,)}


def patterns(n, seed=0):
    rng = np.random.default_rng(seed)
    present = rng.random((n, 3)) < 0.6
    present[~present.any(1), 0] = True
    return torch.from_numpy(present)


def test_half_of_those_with_several_get_one_modality_of_another_that_has_it():
    torch.manual_seed(0)
    present = patterns(4000)
    several = present.sum(1) > 1
    sources = swap_sources(present, present & several.unsqueeze(1))
    changed = sources != torch.arange(4000).unsqueeze(1)
    assert changed.sum(1).max() == 1
    assert not changed[~several].any()
    assert changed[several].any(1).float().mean().item() == pytest.approx(0.5, abs=0.03)
    for m in range(3):
        assert present[sources[changed[:, m], m], m].all()
        assert present[changed[:, m], m].all()
    both = present.sum(1) == 3
    shares = changed[both].float().mean(0)
    torch.testing.assert_close(shares, torch.full((3,), 1 / 6), rtol=0, atol=0.03)


def test_who_has_no_other_to_swap_with_keeps_its_own_and_is_no_negative():
    torch.manual_seed(0)
    present = torch.tensor([[True, True], [True, False], [True, False]])
    for _ in range(30):
        sources = swap_sources(present, present & (present.sum(1, keepdim=True) > 1))
        assert sources[:, 1].tolist() == [0, 1, 2]
        assert sources[1:, 0].tolist() == [1, 2]
    one = torch.tensor([[True, True]])
    assert swap_sources(one, one).tolist() == [[0, 0]]


def test_values_and_masks_are_swapped_together():
    values = {"a": torch.arange(3.0).unsqueeze(1), "s": torch.arange(12.0).view(3, 2, 2)}
    mask = torch.tensor([[True, True], [True, False], [True, True]])
    samples = batch(values, masks={"s": mask})
    found = swapped(samples, torch.tensor([[0, 1], [1, 0], [1, 2]]))
    assert found.modalities["a"].values.flatten().tolist() == [0, 1, 1]
    assert torch.equal(found.modalities["s"].values, values["s"][[1, 0, 2]])
    assert torch.equal(found.modalities["s"].mask, mask[[1, 0, 2]])
    assert torch.equal(found.present, samples.present)


def test_only_samples_with_several_modalities_count():
    told = setting(SHAPES, dict.fromkeys(SHAPES, "mlp"))
    values = {name: torch.randn(40, *shape) for name, shape in SHAPES.items()}
    present = patterns(40)
    for options, n in (
        ({}, present.sum(1) > 1),
        ({"when": "all"}, present.all(1)),
        ({"when": "all", "modalities": ["a", "b"]}, present[:, :2].all(1)),
        ({"when": "only", "modalities": ["a", "b"]}, present[:, :2].all(1) & ~present[:, 2]),
    ):
        objective = prepared(Matching(**options), told)
        assert loss(objective, told, batch(values, present.tolist()))["loss"].n == n.sum()


def test_swapped_samples_are_not_seen_by_masked_modelling():
    told = setting(SHAPES, dict.fromkeys(SHAPES, "mlp"), "early_concat")
    told.network.eval()
    values = {name: torch.randn(8, *shape, requires_grad=True) for name, shape in SHAPES.items()}
    samples = batch(values)
    matching, masked = prepared(Matching(), told), prepared(CrossMasked(), told)
    torch.manual_seed(0)
    views = {**matching.views(samples), **masked.views(samples)}
    negative = matching._swapped.clone()
    assert negative.any()
    outputs = {name: told.network(view) for name, view in views.items()}
    context = Context(told.network, None, None, torch.arange(8), 8)
    of_masked = masked.loss(outputs, samples, context)["loss"].mean
    of_matching = matching.loss(outputs, samples, context)["loss"].mean
    swapped_values = [modality.values for modality in views["swapped"].modalities.values()]
    gradients = torch.autograd.grad(of_masked, swapped_values, allow_unused=True, retain_graph=True)
    assert all(gradient is None for gradient in gradients)
    gradients = torch.autograd.grad(of_matching, swapped_values)
    assert any((gradient[negative] != 0).any() for gradient in gradients)


def test_a_shared_latent_is_matched_above_chance():
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(600, 2))
    X = {"a": latent, "b": latent @ rng.normal(size=(2, 2))}
    pretrainer = MultimodalPretrainer(
        ["matching"], fusion="tensor", n_hidden=32, n_latent=16, lr=0.01, max_epochs=60, dropout_rate=0.0,
        device="cpu", random_state=0,
    ).fit(X)  # fmt: skip
    # Chance is log 2, .69.
    assert pretrainer.history_[-1]["train_loss_of_matching"] < 0.5


def test_options_that_are_not_due_are_refused():
    with pytest.raises(ValueError, match="when of Matching is 'never'"):
        Matching(when="never")
    with pytest.raises(ValueError, match="n_hidden of Matching is 0"):
        Matching(n_hidden=0)
    with pytest.raises(ValueError, match="'x'; due are some of"):
        Matching(modalities=["x"]).prepare(setting(SHAPES, dict.fromkeys(SHAPES, "mlp")))
