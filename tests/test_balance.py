"""What keeps one modality from starving the others: weights of losses, and gradients that are held back."""

import math

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch import nn

from skfusion import JointFusionClassifier, JointFusionRegressor
from skfusion.encoders import MLP
from skfusion.encoders.batch import Batch, ModalityBatch
from skfusion.fusion import Concat, FusionNetwork
from skfusion.objectives import Supervised
from skfusion.objectives.context import Context
from skfusion.objectives.supervised import blending_weights, modulation

SMALL = {"n_hidden": 16, "n_latent": 8, "lr": 0.01, "max_epochs": 6, "device": "cpu", "random_state": 0}


def classifier(**params):
    return JointFusionClassifier(**{**SMALL, **params})


def two_classes(n_samples=100, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, size=n_samples)
    side = (2 * y - 1)[:, None]
    return {"a": rng.normal(size=(n_samples, 4)) + side, "b": rng.normal(size=(n_samples, 3)) - side}, y


# Gradient blending


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        # G / O² = .1 / .1² = 10, .05 / .5² = .2 and .2 / .4² = 1.25.
        (
            {"a": (0.7, 0.7), "b": (0.7, 0.7), "fusion": (0.7, 0.8)},
            {"a": (0.5, 0.6), "b": (0.15, 0.65), "fusion": (0.1, 0.6)},
            {"a": 10 / 11.45, "b": 0.2 / 11.45, "fusion": 1.25 / 11.45},
        ),
        # What overfits without gaining anything has no weight, however little it overfits.
        ({"a": (1.0, 1.0), "b": (1.0, 1.0)}, {"a": (0.8, 0.9), "b": (0.99, 1.01)}, {"a": 1.0, "b": 0.0}),
        # A gap that closes counts as one that opens.
        (
            {"a": (0.9, 1.0), "b": (1.0, 1.0)},
            {"a": (0.9, 0.9), "b": (0.8, 0.9)},
            {"a": 0.5, "b": 0.5},
        ),
        # Twice the gain has twice the weight, twice the overfitting a quarter.
        ({"a": (1.0, 1.0), "b": (1.0, 1.0)}, {"a": (0.7, 0.8), "b": (0.8, 0.9)}, {"a": 2 / 3, "b": 1 / 3}),
        ({"a": (1.0, 1.0), "b": (1.0, 1.0)}, {"a": (0.6, 0.8), "b": (0.7, 0.8)}, {"a": 0.2, "b": 0.8}),
    ],
)
def test_losses_are_weighted_by_gain_over_overfitting_squared(before, after, expected):
    assert blending_weights(before, after) == pytest.approx(expected)


@pytest.mark.parametrize(
    "after",
    [
        {"a": (0.1, 1.2), "b": (0.2, 1.0), "c": (1.0, 1.1)},
        {"a": (1.0, 1.0), "b": (1.0, 1.0), "c": (1.0, 1.0)},
        {"a": (0.5, 0.6), "b": (0.5, math.nan), "c": (0.5, -math.inf)},
    ],
)
def test_where_no_head_gains_or_losses_are_not_finite_weights_are_equal(after):
    before = dict.fromkeys("abc", (1.0, 1.0))
    assert blending_weights(before, after) == pytest.approx(dict.fromkeys("abc", 1 / 3))


def test_without_overfitting_weights_are_finite_and_sum_to_1():
    weights = blending_weights(dict.fromkeys("ab", (1.0, 1.0)), {"a": (0.5, 0.5), "b": (0.9, 0.9)})
    assert weights == pytest.approx({"a": 5 / 6, "b": 1 / 6})
    rng = np.random.default_rng(0)
    for _ in range(20):
        before, after = ({head: tuple(pair) for head, pair in zip("abcd", rng.random((4, 2)))} for _ in range(2))
        weights = blending_weights(before, after)
        assert sum(weights.values()) == pytest.approx(1)
        assert min(weights.values()) >= 0


def row(**losses):
    """A row of a history: the training and validation loss of each head, beside what else there is."""
    parts = {
        f"{side}_loss_{head}": pair[i] for head, pair in losses.items() for i, side in enumerate(("train", "valid"))
    }
    return {
        **parts,
        "train_loss": 1.0,
        "valid_loss": 1.0,
        "valid_loss_best": True,
        "epoch": 1,
        "train_loss_of_pseudo": 3.0,
    }


def test_weights_are_about_what_has_happened_since_the_first_epoch():
    first, between = row(a=(1.0, 1.0), fusion=(1.0, 1.0)), row(a=(0.1, 3.0), fusion=(0.1, 3.0))
    last = row(a=(0.6, 0.8), fusion=(0.7, 0.8))
    supervised = Supervised(n_classes=[2], balance="gradient_blending")
    supervised.on_epoch_end([first])
    assert supervised.blend == pytest.approx({"a": 0.5, "fusion": 0.5})
    supervised.on_epoch_end([first, between, last])
    assert supervised.blend == pytest.approx({"a": 0.2, "fusion": 0.8})
    # An earlier fit may have held nothing out.
    supervised.on_epoch_end([{"train_loss": 1.0}, first, last])
    assert supervised.blend == pytest.approx({"a": 0.2, "fusion": 0.8})


@pytest.mark.parametrize("balance", ["none", "ogm"])
def test_without_gradient_blending_weights_stay_equal(balance):
    supervised = Supervised(n_classes=[2], balance=balance)
    supervised.on_epoch_end([row(a=(1.0, 1.0), fusion=(1.0, 1.0)), row(a=(0.6, 0.8), fusion=(0.7, 0.8))])
    assert supervised.blend == {}


def test_weights_are_those_of_the_losses_in_training_alone():
    network, batch, target = build_network(), draw_batch(), torch.arange(12) % 2
    output = network(batch)
    context = Context(network, target, None, torch.arange(12))
    supervised = Supervised(n_classes=[2], balance="gradient_blending")
    supervised.blend = {"fusion": 0.1, "a": 0.7, "b": 0.2}
    losses = supervised.loss({"clean": output}, batch, context)
    torch.testing.assert_close(losses["loss"], sum(w * losses[h].mean for h, w in supervised.blend.items()))
    evaluated = supervised.eval().loss({"clean": output}, batch, context)
    torch.testing.assert_close(evaluated["loss"], losses["fusion"].mean)


class Weights(Callback):
    """Keeps what was trained on, and the weights of the heads after each epoch."""

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        self.parts_, self.weights_ = X, []

    def on_epoch_end(self, net, **kwargs):
        self.weights_.append(dict(net.criterion_[0].blend))


def watch(model):
    return next(callback for _, callback in model.net_.callbacks_ if isinstance(callback, Weights))


def test_gradient_blending_holds_a_part_out_and_weighs_the_heads_anew():
    X, y = two_classes()
    model = classifier(balance="gradient_blending", validation_fraction=0.2, callbacks=[Weights()]).fit(X, y)
    train, held_out = watch(model).parts_
    assert (len(train), len(held_out)) == (80, 20)
    weights = model.net_.criterion_[0].blend
    assert sorted(weights) == ["a", "b", "fusion"]
    assert sum(weights.values()) == pytest.approx(1)
    assert np.ptp(list(weights.values())) > 0.01
    rows = model.history_[0], model.history_[-1]
    pairs = [{h: (r[f"train_loss_{h}"], r[f"valid_loss_{h}"]) for h in weights} for r in rows]
    assert weights == pytest.approx(blending_weights(*pairs))
    assert model.n_iter_ == 6
    # The epoch's loss is weighted by what the epoch before has shown.
    (*_, before, now), last = watch(model).weights_, model.history_[-1]
    assert before != now == weights
    assert last["train_loss"] == pytest.approx(sum(before[h] * last[f"train_loss_{h}"] for h in before), rel=1e-4)


@pytest.mark.parametrize("reason", ["few samples", "a class of one"])
def test_where_nothing_can_be_held_out_gradient_blending_leaves_the_weights_equal(reason):
    X, y = two_classes(49 if reason == "few samples" else 80)
    if reason == "a class of one":
        y[0] = 2
    model = classifier(balance="gradient_blending", callbacks=[Weights()]).fit(X, y)
    assert watch(model).parts_[1] is None
    assert model.net_.criterion_[0].blend == {}
    last = model.history_[-1]
    assert last["train_loss"] == pytest.approx(np.mean([last[f"train_loss_{h}"] for h in ("fusion", "a", "b")]))
    assert np.isfinite(model.predict_proba(X, "b")).all()


@pytest.mark.parametrize("balance", ["gradient_blending", "ogm"])
@pytest.mark.parametrize("fusion", ["concat", "zorro", "unseen"])
def test_balance_turns_heads_on_and_goes_with_every_way_to_fit(balance, fusion):
    X, y = two_classes()
    X["b"][::3] = np.nan
    options = {"fusion": fusion, "warm_start": True, "max_epochs": 2, "early_stopping": True}
    model = classifier(balance=balance, **options).fit(X, y)
    assert set(model.network_.head_names) >= {"a", "b"}
    assert model.predict_proba(X, head="a").shape == (100, 2)
    model.fit(X, y).partial_fit(X, y)
    assert model.n_iter_ == 5
    numbers = JointFusionRegressor(balance=balance, **{**SMALL, **options}).fit(X, y + 10.0)
    assert np.isfinite(numbers.predict(X, head="b")).all()


# Gradients that are held back


@pytest.mark.parametrize(
    ("scores", "alpha", "expected"),
    [
        ([0.8, 0.4], 0.5, [1 - math.tanh(1.0), 1]),
        ([0.4, 0.8], 0.5, [1, 1 - math.tanh(1.0)]),
        ([0.8, 0.4], 0.1, [1 - math.tanh(0.2), 1]),
        ([0.9, 0.4, 0.2], 0.5, [1 - math.tanh(1.5), 1, 1]),
        ([0.6, 0.7, 0.2], 0.3, [1 - math.tanh(0.3 * 0.6 / 0.45), 1 - math.tanh(0.3 * 0.7 / 0.4), 1]),
        ([0.5, 0.5], 0.5, [1, 1]),
        ([0.3, 0.3, 0.3], 0.5, [1, 1, 1]),
        ([0.0, 0.0], 0.5, [1, 1]),
        ([0.7, math.nan], 0.5, [1, 1]),
        ([0.8, math.nan, 0.4], 0.5, [1 - math.tanh(1.0), 1, 1]),
        ([math.nan, math.nan], 0.5, [1, 1]),
    ],
)
def test_the_modality_that_is_ahead_is_slowed_by_how_far_it_is(scores, alpha, expected):
    found = modulation(torch.tensor(scores), alpha)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=found.dtype))


def test_what_is_far_ahead_of_nothing_stands_still():
    torch.testing.assert_close(modulation(torch.tensor([0.9, 0.0]), 0.5), torch.tensor([0.0, 1.0]))


def build_network(seed=0):
    torch.manual_seed(seed)
    encoders = {name: MLP((width,), 4, n_hidden=64, dropout_rate=0.0) for name, width in (("a", 30), ("b", 20))}
    heads = {name: nn.Linear(4, 2) for name in encoders}
    return FusionNetwork(encoders, Concat({"a": 4, "b": 4}, 4), nn.Linear(4, 2), heads=heads)


def draw_batch(missing=()):
    generator = torch.Generator().manual_seed(3)
    present = torch.ones(12, 2, dtype=torch.bool)
    for column, name in enumerate("ab"):
        present[:, column] = name not in missing
    values = {"a": torch.randn(12, 30, generator=generator), "b": torch.randn(12, 20, generator=generator)}
    return Batch({k: ModalityBatch(v, present[:, [m]]) for m, (k, v) in enumerate(values.items())}, present)


def gradients(balance, *, ahead="a", missing=(), alpha=0.5, on_gradients=True):
    """Gradients by name, and what the heads give the truth, of a network one head of which knows the class."""
    network, batch, target = build_network(), draw_batch(missing), torch.ones(12, dtype=torch.int64)
    with torch.no_grad():
        network.heads["ab".index(ahead)].bias.copy_(torch.tensor([-1.0, 1.0]))
    supervised = Supervised(n_classes=[2], balance=balance, alpha=alpha)
    output = network(batch)
    supervised.loss({"clean": output}, batch, Context(network, target, None, torch.arange(12)))["loss"].backward()
    scores = {name: float(network.predict(output, name).detach().softmax(1)[:, 1].mean()) for name in "ab"}
    if on_gradients:
        torch.manual_seed(1)
        supervised.on_gradients(network)
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}, scores


def of_encoder(found, name):
    return {key: grad for key, grad in found.items() if key.startswith(f"encoders.{'ab'.index(name)}.")}


@pytest.mark.parametrize(("ahead", "behind"), ["ab", "ba"])
@pytest.mark.parametrize("alpha", [0.1, 0.5])
def test_ogm_scales_the_encoder_that_is_ahead_and_nothing_else(monkeypatch, ahead, behind, alpha):
    plain, scores = gradients("none", ahead=ahead)
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    found, _ = gradients("ogm", ahead=ahead, alpha=alpha)
    factor = 1 - math.tanh(alpha * scores[ahead] / scores[behind])
    assert scores[ahead] > scores[behind]
    slowed = of_encoder(found, ahead)
    assert len(slowed) == len(of_encoder(found, behind)) == 6
    for key, grad in found.items():
        assert plain[key].abs().max() > 0
        if key in slowed:
            torch.testing.assert_close(grad, factor * plain[key], rtol=1e-4, atol=1e-8)
        else:
            assert torch.equal(grad, plain[key])


def test_ogm_adds_noise_as_large_as_the_gradient_to_the_encoder_that_is_ahead():
    plain, scores = gradients("none")
    found, _ = gradients("ogm")
    factor = 1 - math.tanh(0.5 * scores["a"] / scores["b"])
    noise = {key: found[key] - factor * plain[key] for key in of_encoder(found, "a")}
    ratios = [float(noise[key].std() / plain[key].std()) for key in noise if plain[key].numel() > 100]
    assert len(ratios) == 2
    assert ratios == pytest.approx([1, 1], rel=0.15)
    assert all(torch.equal(found[key], plain[key]) for key in plain if key not in noise)


@pytest.mark.parametrize("missing", ["a", "b"])
def test_ogm_slows_nobody_in_a_batch_that_lacks_the_rival(missing):
    found, _ = gradients("ogm", missing=(missing,))
    plain, _ = gradients("none", missing=(missing,))
    assert all(torch.equal(found[key], plain[key]) for key in plain)


def test_ogm_with_one_modality_changes_nothing():
    X, y = two_classes(40)
    plain, ogm = (
        classifier(balance=balance, unimodal_heads=True, max_epochs=2).fit({"a": X["a"]}, y)
        for balance in ("none", "ogm")
    )
    np.testing.assert_array_equal(plain.transform({"a": X["a"]}), ogm.transform({"a": X["a"]}))


def test_ogm_changes_what_an_estimator_learns_and_leaves_the_losses_equally_weighted():
    X, y = two_classes(100)
    X["a"] += 2 * (2 * y - 1)[:, None]
    plain, ogm = (classifier(balance=b, unimodal_heads=True, max_epochs=8).fit(X, y) for b in ("none", "ogm"))
    assert ogm.history_[-1]["train_loss_a"] > plain.history_[-1]["train_loss_a"]
    last = ogm.history_[-1]
    assert last["train_loss"] == pytest.approx(np.mean([last[f"train_loss_{h}"] for h in ("fusion", "a", "b")]))


# What it is for


def slow_beside_fast(seed, n_train=300, n_test=1000):
    """`a` knows the class by the sign of a product, which takes a while; `b` is wide enough to be learnt by heart."""
    rng = np.random.default_rng(seed)
    n = n_train + n_test
    y, sign = rng.integers(0, 2, size=n), rng.choice([-1, 1], size=n)
    a = 0.35 * rng.normal(size=(n, 4))
    a[:, 0] += sign
    a[:, 1] += sign * (2 * y - 1)
    b = rng.normal(size=(n, 400))
    b[:, :20] += 0.15 * (2 * y - 1)[:, None]
    X = {"a": a, "b": b}
    train, test = ({name: values[part] for name, values in X.items()} for part in (slice(n_train), slice(n_train, n)))
    return train, y[:n_train], test, y[n_train:]


def test_what_is_learnt_by_heart_starves_the_modality_that_generalises_unless_training_is_balanced():
    options = {
        "n_hidden": 64,
        "n_latent": 32,
        "dropout_rate": 0.0,
        "weight_decay": 0.0,
        "label_smoothing": 0.0,
        "max_epochs": 30,
        "batch_size": 32,
        "validation_fraction": 0.2,
        "device": "cpu",
    }
    cases = {
        "a": ("a", {}),
        "b": ("b", {}),
        "plain": ("ab", {}),
        "blended": ("ab", {"balance": "gradient_blending"}),
        "ogm": ("ab", {"balance": "ogm"}),
    }
    scores = {name: [] for name in cases}
    for seed in range(10):
        X, y, new, truth = slow_beside_fast(seed)
        for name, (modalities, balance) in cases.items():
            model = JointFusionClassifier(random_state=seed, **options, **balance)
            model.fit({m: X[m] for m in modalities}, y)
            scores[name].append(model.score({m: new[m] for m in modalities}, truth))
    mean = {name: float(np.mean(values)) for name, values in scores.items()}
    best = max(mean["a"], mean["b"])
    assert best > 0.95
    assert mean["plain"] < best - 0.1
    assert mean["blended"] > best - 0.005
    assert mean["plain"] + 0.05 < mean["ogm"]
