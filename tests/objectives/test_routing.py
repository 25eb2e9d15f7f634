"""Which samples which objective concerns: FLAVA's table, and what all self-supervised objectives obey."""

import numpy as np
import pytest
import torch
from _batches import batch, loss, prepared, setting

from skfusion import Modalities, MultimodalPretrainer
from skfusion.objectives import Contrastive, CrossMasked, Masked, Matching, NextToken

LIKELIHOOD = {"text": "categorical"}


def flava():
    return [
        Contrastive(with_fusion=False),
        Masked(when="only", likelihood=LIKELIHOOD),
        CrossMasked(when="all", likelihood=LIKELIHOOD),
        Matching(),
    ]


def images_and_texts(n=64, seed=0):
    rng = np.random.default_rng(seed)
    return {"image": rng.normal(size=(n, 1, 8, 8)), "text": np.eye(5)[rng.integers(5, size=(n, 6))]}


ENCODERS = {"image": "patch2d", "text": "steps"}
PAIR = {"contrastive", "cross_masked", "cross_masked_image", "cross_masked_text", "matching"}


@pytest.mark.filterwarnings("ignore:the objectives .* concern no sample")
@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        ((True, False), {"masked", "masked_image"}),
        ((False, True), {"masked", "masked_text"}),
        ((True, True), PAIR),
    ],
)
def test_flavas_routing_table(kept, expected):
    """Of a pretrainer that goes on with images alone, texts alone, or pairs, those losses count that should."""
    X = images_and_texts()
    options = {"n_hidden": 16, "n_latent": 16, "n_heads": 2, "max_epochs": 1, "device": "cpu", "random_state": 0}
    pretrainer = MultimodalPretrainer(flava(), encoders=ENCODERS, warm_start=True, **options).fit(X)
    pretrainer.fit(Modalities(X, present=np.tile(kept, (64, 1))))
    row = pretrainer.history_[-1]
    # The mean over nobody is NaN.
    counted = {name for name in row if name.startswith("train_loss_of_") and np.isfinite(row[name])}
    assert counted == {f"train_loss_of_{name}" for name in expected}
    assert np.isfinite(row["train_loss"])
    assert all(parameter.isfinite().all() for parameter in pretrainer.network_.parameters())


def every_objective():
    return [
        Masked(likelihood=LIKELIHOOD),
        Masked(when="only", likelihood=LIKELIHOOD, replacement=False),
        CrossMasked(likelihood=LIKELIHOOD),
        Matching(),
        NextToken(likelihood=LIKELIHOOD, n_latent=16, n_heads=2, n_layers=1),
        NextToken(n_latent=16, n_heads=2, n_layers=1),
    ]


def tensors(n=12):
    return {name: torch.from_numpy(part).float() for name, part in images_and_texts(n).items()}


def told(fusion="zorro"):
    return setting({"image": (1, 8, 8), "text": (6, 5)}, ENCODERS, fusion)


@pytest.mark.parametrize("objective", every_objective(), ids=lambda o: type(o).__name__)
@pytest.mark.parametrize("fusion", ["zorro", "early_concat"])
def test_what_lies_in_a_missing_slot_never_matters(objective, fusion):
    network = told(fusion)
    network.network.eval()
    prepared(objective, network)
    present = np.random.default_rng(1).random((12, 2)) < 0.6
    mask = torch.from_numpy(np.random.default_rng(2).random((12, 6)) < 0.7)
    gone = {"image": ~present[:, 0], "text": ~present[:, 1]}
    found = []
    for fill in (0.0, 3.0, torch.nan, torch.inf):
        values = tensors()
        for name, rows in gone.items():
            values[name][rows] = fill
        values["text"][~mask] = fill
        found.append(loss(objective, network, batch(values, present.tolist(), {"text": mask})))
    for other in found[1:]:
        for name, part in found[0].items():
            assert part.mean.isfinite()
            assert torch.equal(part.mean, other[name].mean)
            assert torch.equal(part.n, other[name].n)


@pytest.mark.parametrize("objective", every_objective(), ids=lambda o: type(o).__name__)
def test_decoders_get_a_gradient_that_missing_slots_leave_finite(objective):
    network = told()
    prepared(objective, network)
    present = [[True, True]] * 4 + [[True, False]] * 4 + [[False, True]] * 4
    values = tensors()
    values["image"][8:], values["text"][4:8] = torch.nan, torch.nan
    # Encoders get zeros in missing slots; what is laid out as targets is the objective's own affair.
    samples = batch({name: part.clone() for name, part in values.items()}, present)
    loss(objective, network, samples)["loss"].mean.backward()
    gradients = [p.grad for p in objective.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("objective", every_objective(), ids=lambda o: type(o).__name__)
@pytest.mark.parametrize("fusion", ["zorro", "concat", "early_concat", "cross_attention"])
def test_a_batch_with_nobody_concerned_costs_nothing(objective, fusion):
    network = told(fusion)
    prepared(objective, network)
    found = loss(objective, network, batch(tensors(), [[False, False]] * 12))
    for part in found.values():
        assert part.mean == 0
        assert part.n == 0
    if found["loss"].mean.requires_grad:
        found["loss"].mean.backward()
        assert all(p.grad is None or (p.grad == 0).all() for p in network.network.parameters())


@pytest.mark.parametrize("objective", every_objective(), ids=lambda o: type(o).__name__)
def test_who_is_not_concerned_has_no_say(objective):
    """The loss of some samples is the same whoever else is in the batch with nothing present."""
    network = told()
    network.network.eval()
    prepared(objective, network)
    present = torch.tensor([[True, True]] * 3 + [[True, False]] * 3 + [[False, True]] * 3 + [[False, False]] * 3)
    values = tensors()
    leaves = {name: part.requires_grad_() for name, part in values.items()}
    loss(objective, network, batch(leaves, present.tolist()))["loss"].mean.backward()
    for leaf, column in zip(leaves.values(), present.T):
        assert leaf.grad is None or (leaf.grad[~column] == 0).all()


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_all_of_them_train_together(precision):
    X = images_and_texts(48)
    present = np.random.default_rng(0).random((48, 2)) < 0.7
    present[~present.any(1)] = True
    objectives = [Masked(likelihood=LIKELIHOOD), CrossMasked(), "matching", NextToken(likelihood=LIKELIHOOD)]
    pretrainer = MultimodalPretrainer(
        objectives, encoders=ENCODERS, n_latent=16, n_heads=2, max_epochs=2, precision=precision, device="cpu",
        random_state=0,
    ).fit(Modalities(X, present=present))  # fmt: skip
    assert np.isfinite(pretrainer.history_[-1]["train_loss"])
    again = MultimodalPretrainer(**pretrainer.get_params()).fit(Modalities(X, present=present))
    assert again.history_[-1]["train_loss"] == pretrainer.history_[-1]["train_loss"]
