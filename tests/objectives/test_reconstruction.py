"""Reconstruction: what is there is decoded, from what was fused and from a modality's own embedding."""

import numpy as np
import pytest
import torch
from _outputs import Scene
from torch import nn

from skfusion import MultimodalPretrainer
from skfusion.objectives import Reconstruction
from skfusion.objectives.decode import ValueDecoder, squared_error


def identity(objective):
    """Make all decoders of vectors the identity."""
    for decoder in [*objective.of_fused, *objective.of_own]:
        decoder.layers = nn.Identity()
    return objective


def test_it_is_the_squared_error_from_both_embeddings():
    scene = Scene({"a": 1, "b": 1}, 5, missing=[(0, "a"), (1, "b"), (2, "a"), (2, "b")])
    objective = identity(scene.prepared(Reconstruction()))
    fused, expected = scene.heads["fusion"], []
    for row, names in enumerate(["b", "a", "", "ab", "ab"]):
        errors = [
            (decoded[row] - scene.values[name][row]).square().mean()
            for name in names
            for decoded in (fused, scene.heads[name])
        ]
        expected += [torch.stack(errors).sum() / len(names)] if names else []
    found = scene.loss(objective)
    torch.testing.assert_close(found.mean, torch.stack(expected).mean())
    assert found.n == 4


def test_what_is_missing_is_not_reconstructed():
    scene = Scene({"a": 1, "b": 1}, 4, missing=[(0, "a"), (1, "a"), (1, "b")])
    scene.loss(scene.prepared(Reconstruction())).mean.backward()
    for head, rows in {"a": [2, 3], "b": [0, 2, 3], "fusion": [0, 2, 3]}.items():
        assert scene.heads[head].grad.abs().sum(1).nonzero().ravel().tolist() == rows


def test_a_wide_modality_counts_like_a_narrow_one():
    scene = Scene({"a": 1, "b": 1}, 4)
    objective = identity(scene.prepared(Reconstruction()))
    before = scene.loss(objective).mean
    for what in (scene.values, scene.heads):
        what["b"] = what["b"].repeat(1, 5)
    objective.of_fused[1].layers = Repeat()
    for decoders in (objective.of_fused, objective.of_own):
        decoders[1].shape = (20,)
    torch.testing.assert_close(scene.loss(objective).mean, before)


class Repeat(nn.Module):
    def forward(self, x):
        return x.repeat(1, 5)


def test_padded_steps_have_no_say():
    scene = Scene({"a": 6, "b": 1}, 3)
    scene.masks["a"][:, 4:] = False
    objective = scene.prepared(Reconstruction())
    before = scene.loss(objective).mean
    scene.values["a"][:, 4:] += 7
    assert scene.loss(objective).mean == before
    scene.values["a"][:, 3] += 7
    assert scene.loss(objective).mean > before


def test_the_error_of_a_sequence_is_the_mean_over_its_own_steps():
    scene = Scene({"a": 6, "b": 1}, 3)
    scene.masks["a"][0, 2:] = False
    decoded = torch.zeros_like(scene.values["a"])
    found = squared_error(decoded, scene.batch.modalities["a"])
    expected = [scene.values["a"][row, :n].square().mean() for row, n in enumerate((2, 6, 6))]
    torch.testing.assert_close(found, torch.stack(expected))


def test_a_decoder_gives_samples_of_their_shape():
    assert ValueDecoder(5, (3, 4, 2))(torch.zeros(7, 5)).shape == (7, 3, 4, 2)


@pytest.mark.parametrize("junk", [float("nan"), float("inf")])
def test_what_lies_in_missing_slots_and_in_padding_never_matters(junk):
    gradients = []
    for content in (0.0, junk):
        scene = Scene({"a": 6, "b": 1}, 4, missing=[(0, "a"), (1, "b")])
        scene.masks["a"][2, 3:] = False
        scene.values["a"][0], scene.values["b"][1], scene.values["a"][2, 3:] = content, content, content
        objective = scene.prepared(Reconstruction())
        scene.loss(objective).mean.backward()
        gradients.append([p.grad for p in [*objective.parameters(), *scene.heads.values()]])
    for expected, found in zip(*gradients):
        assert expected.isfinite().all()
        assert torch.equal(found, expected)


def test_wrong_options():
    with pytest.raises(ValueError, match="n_hidden of Reconstruction is 0"):
        Reconstruction(n_hidden=0)


@pytest.mark.parametrize("fusion", ["concat", "zorro"])
def test_a_table_of_low_rank_is_learned(fusion):
    rng = np.random.default_rng(0)
    X = {"a": rng.normal(size=(200, 2)) @ rng.normal(size=(2, 8))}
    sizes = {"n_hidden": 32, "n_latent": 8, "n_heads": 2, "n_fusion_layers": 1, "dropout_rate": 0.0}
    pretrainer = MultimodalPretrainer(fusion=fusion, lr=0.01, max_epochs=40, random_state=0, device="cpu", **sizes)
    history = pretrainer.fit(X).history_
    assert list(pretrainer.objectives_) == ["reconstruction"]
    # Two decoders of standardised values: 2 is what the mean alone has.
    assert history[0]["train_loss"] > 1
    assert history[-1]["train_loss_of_reconstruction"] < 0.1
