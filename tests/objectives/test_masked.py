"""Masked modelling: what is drawn, what is hidden, what is predicted from what, and what it costs."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from _batches import batch, loss, prepared, setting

from skfusion import MultimodalPretrainer
from skfusion.decoders import NegativeBinomial
from skfusion.encoders import Conv2d, FeatureTokenizer, Patch2d, Patch3d, Patches, Regions, Steps
from skfusion.encoders.batch import ModalityBatch
from skfusion.fusion import FUSIONS
from skfusion.objectives import Context, CrossMasked, Masked
from skfusion.objectives.decode import symbol_error
from skfusion.objectives.masked_modality import MaskedModality, Task, mean_over_draws
from skfusion.objectives.positions import draw, hide, positions

SMALL = {"n_hidden": 16, "n_latent": 16, "device": "cpu", "random_state": 0}
GROUPS = [0, 1, 1, 1, 2, 3, 3]  # a number, a category of three, a number, a category of two


# Which positions are drawn


@pytest.mark.parametrize("length", [1, 3, 6, 7, 13, 20, 40, 100, 333])
def test_as_many_positions_are_drawn_as_the_formula_says(length):
    there = torch.ones(5, 400, dtype=torch.bool)
    there[:, length:] = False
    n = max(1, int(0.15 * length))
    assert (draw(there, 0.15).sum(1) == n).all()
    distinct = draw(there, 0.15, replacement=False)
    assert (distinct.sum(1) == n).all()
    assert distinct.max() == 1


def test_what_is_not_there_is_never_drawn():
    torch.manual_seed(0)
    there = torch.rand(50, 30) < 0.3
    there[0] = False
    for replacement in (True, False):
        drawn = sum(draw(there, 0.6, replacement=replacement) for _ in range(50))
        assert (drawn[~there] == 0).all()
        assert (drawn[there] > 0).all()


def test_padding_and_missing_samples_are_never_drawn():
    torch.manual_seed(0)
    part = modality((6, 4), "categorical")
    mask = torch.rand(40, 6) < 0.5
    mask[0] = False
    values = F.one_hot(torch.randint(4, (40, 6)), 4).float()
    task = ask(part, values, mask, rate=1.0)
    assert (task.drawn[~mask] == 0).all()
    assert torch.equal(task.drawn.sum(1), mask.sum(1).float())


def test_draws_are_uniform_and_with_replacement_by_default():
    torch.manual_seed(0)
    there = torch.ones(20_000, 10, dtype=torch.bool)
    drawn = draw(there, 0.5)
    assert drawn.max() > 1
    torch.testing.assert_close(drawn.mean(0), torch.full((10,), 0.5), rtol=0, atol=0.02)
    # The chance that a position is among 5 of 10 draws with replacement.
    assert (drawn > 0).float().mean().item() == pytest.approx(1 - 0.9**5, abs=0.01)


# What positions are


@pytest.mark.parametrize(
    ("encoder", "shape", "options"),
    [
        (FeatureTokenizer, (7,), {}),
        (FeatureTokenizer, (7,), {"groups": GROUPS}),
        (Patches, (7,), {"patch_size": 3}),
        (Steps, (6, 3), {}),
        (partial(Regions, n_segments=2), (5, 8), {}),
        (Patch2d, (2, 7, 10), {"patch_size": 3}),
        (Patch3d, (1, 4, 4, 6), {}),
    ],
)
def test_a_position_is_what_one_token_covers(encoder, shape, options):
    torch.manual_seed(0)
    built = encoder(shape, 4, dropout_rate=0.0, **options)
    raw = getattr(built, "n_raw", 0)
    at = positions(shape, side=getattr(built, "patch_size", None), groups=options.get("groups"), n_raw=raw)
    values = torch.rand(1, *shape) + 0.5
    if raw:
        values[..., -1] = 1.0  # a segment
    mask = torch.ones(1, shape[0] if len(shape) == 2 else 1, dtype=torch.bool)
    tokens = built(ModalityBatch(values, mask)).values[0]
    n_positions = len(at.place)
    assert tokens.shape[0] == n_positions
    for position in range(n_positions):
        drawn = torch.zeros(1, n_positions)
        drawn[0, position] = 1
        hidden = built(ModalityBatch(hide(values, drawn, at.owner), mask)).values[0]
        changed = (hidden != tokens).any(-1)
        assert changed.nonzero().flatten().tolist() == [position]
    # Every value but those that say where a step is has one position.
    assert sorted(at.place[at.place < values.numel()].tolist()) == (at.owner < n_positions).nonzero().flatten().tolist()


def test_a_category_that_lies_across_two_patches_belongs_to_one():
    at = positions((7,), side=2, groups=GROUPS)
    assert at.owner.tolist() == [0, 0, 0, 0, 2, 2, 2]
    assert at.numbers.sum(1).tolist() == [1, 0, 1, 0]
    assert at.symbol_owner.tolist() == [0, 2]


# What it costs


def modality(shape, likelihood="squared", groups=None, n_tokens=None, **options):
    n = len(positions(shape, groups=groups).place) if n_tokens is None else n_tokens
    return MaskedModality(
        "m", shape, (n, n), 4, encoder=torch.nn.Identity(), groups=groups, likelihood=likelihood, n_hidden=8, **options
    )


def ask(part, values, mask=None, rate=0.5):
    mask = (
        torch.ones(len(values), values.shape[1] if values.ndim == 3 else 1, dtype=torch.bool) if mask is None else mask
    )
    at = part.positions_of(tuple(values.shape[1:]))
    return part.task(ModalityBatch(values, mask), mask.any(1), at, rate, True, None)


def test_the_loss_is_the_mean_over_draws_and_one_drawn_twice_counts_twice():
    each = torch.tensor([[1.0, 5.0, 100.0], [2.0, 3.0, 4.0]])
    drawn = torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(mean_over_draws(each, drawn), torch.tensor([7 / 3, 0.0]))


@pytest.mark.parametrize(("shape", "likelihood"), [((12,), "squared"), ((9, 4), "categorical"), ((9, 4), "squared")])
def test_what_is_not_drawn_gives_predictions_no_gradient(shape, likelihood):
    torch.manual_seed(0)
    part = modality(shape, likelihood)
    values = torch.randn(6, *shape)
    task = ask(part, values, rate=0.3)
    decoded = torch.randn_like(task.values, requires_grad=True)
    part.each(decoded, task).sum().backward()
    touched = (decoded.grad != 0).any(-1)
    assert (touched == (task.drawn > 0)).all()


def test_numbers_cost_their_squared_error():
    part = modality((4,))
    values, decoded = torch.arange(8.0).view(2, 4), torch.ones(2, 4, 1)
    drawn = torch.tensor([[1.0, 0, 2, 0], [0, 0, 0, 1]])
    task = ask(part, values)._replace(drawn=drawn)
    torch.testing.assert_close(part.each(decoded, task), torch.tensor([(1 + 2 * 1) / 3, 36.0]))


def test_symbols_cost_their_cross_entropy_whatever_the_scale():
    torch.manual_seed(0)
    logits, label = torch.randn(50, 5), torch.randint(5, (50,))
    codes = F.one_hot(label, 5).float()
    scaled = (codes - codes.mean(0)) / codes.std(0)
    expected = F.cross_entropy(logits, label, reduction="none")
    for values in (codes, scaled):
        torch.testing.assert_close(symbol_error(logits, values), expected, rtol=0, atol=1e-6)


def test_categories_of_a_table_are_symbols_and_unknown_ones_are_not_asked_for():
    part = modality((7,), groups=GROUPS)
    values = torch.tensor([[0.5, 0, 1, 0, -1.0, 1, 0], [0.5, 0, 0, 0, 2.0, 0, 1]])
    task = ask(part, values, rate=1.0)
    assert task.known.tolist() == [[True, True], [False, True]]
    torch.manual_seed(0)
    drawn = sum(ask(part, values, rate=1.0).drawn for _ in range(30))
    assert (drawn[0] > 0).all()
    assert (drawn[1] > 0).tolist() == [True, False, True, True]
    decoded = torch.randn(2, 4, 3)
    by_hand = torch.stack(
        [
            (decoded[0, 0, 0] - 0.5).square(),
            F.cross_entropy(decoded[0, 1], torch.tensor(1)),
            (decoded[0, 2, 0] + 1).square(),
            F.cross_entropy(decoded[0, 3, :2], torch.tensor(0)),
        ]
    )
    for position, expected in enumerate(by_hand):
        drawn = F.one_hot(torch.tensor([position, 0]), 4).float()
        torch.testing.assert_close(part.each(decoded, task._replace(drawn=drawn))[0], expected)


def test_counts_cost_their_negative_log_likelihood():
    part = modality((3,), "nb")
    counts = torch.tensor([[3.0, 5.0, 7.0]])
    with torch.no_grad():
        part.log_theta.copy_(torch.tensor([[0.2], [0.0], [-0.4]]))
    task = ask(part, counts)._replace(drawn=torch.tensor([[1.0, 0.0, 0.0]]))
    decoded = torch.tensor([[[0.3], [0.0], [0.0]]])
    # The mean is relative to that of the two counts that are seen, one more count and feature added.
    mean = torch.tensor(0.3).exp() * (5 + 7 + 1) / 3
    expected = -NegativeBinomial(mean, torch.tensor(0.2).exp()).log_prob(torch.tensor(3.0))
    torch.testing.assert_close(part.each(decoded, task)[0], expected)


def test_a_prediction_of_counts_never_looks_at_what_is_hidden():
    part = modality((3,), "nb")
    task = Task(torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[[3.0], [5.0], [7.0]]]), torch.zeros(1, 0))
    other = task._replace(values=torch.tensor([[[9.0], [5.0], [7.0]]]))
    decoded = torch.zeros(1, 3, 1)
    mean = torch.tensor(13 / 3)
    for asked, count in ((task, 3.0), (other, 9.0)):
        expected = -NegativeBinomial(mean, torch.tensor(1.0)).log_prob(torch.tensor(count))
        torch.testing.assert_close(part.each(decoded, asked)[0], expected)


def test_values_that_are_no_counts_are_refused_by_name():
    X = {"rna": np.random.default_rng(0).poisson(3.0, size=(30, 4)), "b": np.ones((30, 2))}
    objectives = [Masked(likelihood={"rna": "nb"})]
    with pytest.raises(ValueError, match=r"prepared values of 'rna' hold .*scale=False"):
        MultimodalPretrainer(objectives, max_epochs=1, **SMALL).fit(X)
    pretrainer = MultimodalPretrainer(objectives, max_epochs=2, scale=False, **SMALL).fit(X)
    assert np.isfinite(pretrainer.history_[-1]["train_loss_of_masked_rna"])


# What it is predicted from


def two_sequences(n=6):
    torch.manual_seed(3)
    return {"a": torch.randn(n, 5, 3), "b": torch.randn(n, 4, 2)}


@pytest.mark.parametrize("fusion", FUSIONS)
def test_masked_sees_nothing_of_other_modalities_and_cross_masked_does(fusion):
    values = {**two_sequences(), "b": torch.randn(6, 5, 2)}
    told = setting({"a": (5, 3), "b": (5, 2)}, {"a": "steps", "b": "steps"}, fusion)
    told.network.eval()
    for kind in (Masked, CrossMasked):
        objective = prepared(kind(rate=0.4), told)
        leaf = values["b"].clone().requires_grad_()
        part = loss(objective, told, batch({"a": values["a"], "b": leaf}))[f"of_{kind.label}_a"].mean
        seen = torch.autograd.grad(part, leaf, allow_unused=True)[0]
        touched = seen is not None and bool((seen != 0).any())
        assert touched == (kind is CrossMasked)


@pytest.mark.parametrize("fusion", ["zorro", "early_concat"])
def test_hidden_values_never_reach_what_predicts_them(fusion):
    told = setting({"a": (5, 3), "b": (4, 2)}, {"a": "steps", "b": "steps"}, fusion)
    told.network.eval()
    for kind in (Masked, CrossMasked):
        objective = prepared(kind(rate=0.4), told)
        found = []
        for shift in (0.0, 7.0):
            values = two_sequences()
            torch.manual_seed(0)
            views = objective.views(batch(values), None)
            drawn = objective._tasks["a"].drawn > 0
            values["a"] = torch.where(drawn.unsqueeze(-1), values["a"] + shift, values["a"])
            torch.manual_seed(0)
            views = objective.views(batch(values), None)
            outputs = {name: told.network(view) for name, view in views.items()}
            found.append(objective.parts[0].decode(*objective.seen(outputs, "a")))
        assert torch.equal(*found)


def test_each_token_predicts_its_own_position_and_else_one_decoder_predicts_all():
    shapes = {"t": (7,), "s": (5, 3), "i": (1, 8, 8), "v": (6,)}
    told = setting(shapes, {"t": "tokens", "s": "conv1d", "i": "conv2d", "v": "mlp"}, groups={"t": GROUPS})
    objective = prepared(Masked(), told)
    assert [part.by_token for part in objective.parts] == [True, True, False, False]
    # Two layers of stride two leave four cells, of sixteen patches.
    assert isinstance(told.network.encoders[2], Conv2d)
    assert objective.parts[2].get_buffer("place").shape == (16, 4)
    values = {name: torch.randn(4, *shape) for name, shape in shapes.items()}
    found = loss(objective, told, batch(values))
    assert all(part.mean > 0 and part.n == 4 for name, part in found.items() if name != "loss")


def test_sequences_of_another_length_than_before_training():
    told = setting({"a": (5, 3), "b": (4,)}, {"a": "steps", "b": "mlp"})
    objective = prepared(Masked(likelihood={"a": "categorical"}), told)
    found = loss(objective, told, batch({"a": torch.randn(3, 9, 3), "b": torch.randn(3, 4)}))
    assert found["of_masked_a"].n == 3
    assert found["of_masked_a"].mean.isfinite()


def test_dropped_tokens_are_refused():
    told = setting({"a": (8, 3)}, {"a": "steps"}, drop_token=0.5)
    objective = prepared(Masked(), told)
    with pytest.raises(ValueError, match=r"'a' has 8 positions .*drop_token=0"):
        loss(objective, told, batch({"a": torch.randn(3, 8, 3)}))


def test_several_keep_apart_what_they_have_drawn():
    told = setting({"a": (5, 3), "b": (4, 2)}, {"a": "steps", "b": "steps"}, "early_concat")
    told.network.eval()
    objectives = [prepared(kind(rate=rate), told) for kind, rate in ((Masked, 0.2), (Masked, 1.0), (CrossMasked, 0.5))]
    samples = batch(two_sequences())
    alone = [loss(objective, told, samples, seed)["loss"].mean for seed, objective in enumerate(objectives)]
    outputs = []
    for seed, objective in enumerate(objectives):  # the views of all, before any loss
        torch.manual_seed(seed)
        outputs.append({name: told.network(view) for name, view in objective.views(samples, None).items()})
    context = Context(told.network, None, None, torch.arange(6), 6)
    found = [objective.loss(seen, samples, context)["loss"].mean for objective, seen in zip(objectives, outputs)]
    assert torch.equal(torch.stack(found), torch.stack(alone))


# Whom it concerns

PRESENT = [[True, True, True], [True, True, False], [True, False, False], [False, False, True]]


@pytest.mark.parametrize(
    ("objective", "n"),
    [
        (Masked(), [3, 2, 2]),
        (Masked(when="only"), [1, 0, 1]),
        (Masked(when="all"), [1, 1, 1]),
        (Masked(when="all", modalities=["b", "a"]), [2, 2]),
        (CrossMasked(), [2, 2, 1]),
        (CrossMasked(when="all"), [1, 1, 1]),
        (CrossMasked(when="only", modalities=["a", "b"]), [1, 1]),
        (CrossMasked(modalities=["c"]), [1]),
    ],
)
def test_each_modality_counts_the_samples_that_it_concerns(objective, n):
    shapes = dict.fromkeys("abc", (4,))
    told = setting(shapes, dict.fromkeys("abc", "mlp"))
    found = loss(prepared(objective, told), told, batch({name: torch.randn(4, 4) for name in "abc"}, PRESENT))
    assert [int(part.n) for name, part in found.items() if name != "loss"] == n


@pytest.mark.parametrize("kind", [Masked, CrossMasked])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0.0}, "rate of .* is 0.0"),
        ({"when": "never"}, "when of .* is 'never'"),
        ({"likelihood": {"a": "gamma"}}, "'gamma' for 'a'"),
        ({"likelihood": "nb"}, "due is a dict"),
        ({"n_hidden": 0}, "n_hidden of .* is 0"),
    ],
)
def test_options_that_are_not_due_are_refused(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modalities": ["x"]}, "'x'; due are some of"),
        ({"likelihood": {"x": "nb"}}, "'x'; due are some of"),
        ({"likelihood": {"a": "categorical"}}, "which is for sequences"),
        ({"likelihood": {"s": "nb"}}, "which is for tables of counts"),
    ],
)
def test_modalities_that_cannot_be_had_are_refused(options, message):
    told = setting({"a": (4,), "s": (5, 3)}, {"a": "mlp", "s": "steps"})
    with pytest.raises(ValueError, match=message):
        Masked(**options).prepare(told)


# What is learned


def planted(n, rng, n_symbols=8, length=6):
    """Words, and residues each of which its word determines."""
    words = rng.integers(n_symbols, size=(n, length))
    residues = rng.permutation(n_symbols)[words]
    return {"words": np.eye(n_symbols)[words], "residues": np.eye(n_symbols)[residues]}


def accuracy(pretrainer, objective, X):
    """Share of the residues that are found where one is hidden and no word is."""
    data = pretrainer._tensors(pretrainer_input(pretrainer, X))
    pretrainer.network_.eval()
    with torch.no_grad():
        torch.manual_seed(0)
        samples = next(data.iterate(len(data))).batch
        views = objective.views(samples, None)
        task = objective._tasks["residues"]
        outputs = {name: pretrainer.network_(view) for name, view in views.items()}
        decoded = objective.parts[objective.names.index("residues")].decode(*objective.seen(outputs, "residues"))
        hits = (decoded.argmax(-1) == task.values.argmax(-1))[task.drawn > 0]
    return hits.float().mean().item()


def pretrainer_input(pretrainer, X):
    from skfusion.modalities import check_modalities

    return check_modalities(pretrainer, X, reset=False)


def test_residues_are_found_through_the_fusion_and_not_without():
    rng = np.random.default_rng(0)
    X = planted(400, rng)
    train = {name: values[:300] for name, values in X.items()}
    test = {name: values[300:] for name, values in X.items()}
    options = {"modalities": ["residues"], "likelihood": {"residues": "categorical"}}
    pretrainer = MultimodalPretrainer(
        [Masked(**options), CrossMasked(**options)],
        encoders="steps",
        fusion="early_concat",
        n_latent=32,
        n_fusion_layers=1,
        dropout_rate=0.0,
        lr=0.01,
        max_epochs=40,
        device="cpu",
        random_state=0,
    ).fit(train)
    objectives = pretrainer.objectives_
    assert accuracy(pretrainer, objectives["cross_masked"], test) > 0.9
    # Chance is 1 / 8.
    assert accuracy(pretrainer, objectives["masked"], test) < 0.3


def test_categories_are_learned_from_a_frame():
    rng = np.random.default_rng(0)
    x = rng.normal(size=300)
    frame = pd.DataFrame({"x": x, "sign": np.where(x > 0, "plus", "minus")})
    pretrainer = MultimodalPretrainer(
        [Masked(rate=0.5)], encoders="tokens", lr=0.01, max_epochs=40, dropout_rate=0.0, **SMALL
    ).fit(frame)
    first, last = (pretrainer.history_[row]["train_loss_of_masked"] for row in (0, -1))
    assert last < 0.6 * first
