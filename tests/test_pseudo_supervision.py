"""Unseen combinations: supervision by what each modality says, and what training on modalities apart is good for."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.base import clone
from sklearn.metrics import log_loss
from skorch.callbacks import Callback
from torch import nn

from skfusion import JointFusionClassifier, JointFusionRegressor
from skfusion.encoders.batch import Tokens
from skfusion.fusion import FusionOutput, Unseen
from skfusion.objectives import PseudoSupervision
from skfusion.objectives.context import Context

SMALL = {"n_hidden": 16, "n_latent": 8, "dropout_rate": 0.1, "lr": 0.01, "max_epochs": 3, "device": "cpu"}


def classifier(**params):
    return JointFusionClassifier(**{**SMALL, "fusion": "unseen", "random_state": 0, **params})


def regressor(**params):
    return JointFusionRegressor(**{**SMALL, "fusion": "unseen", "random_state": 0, **params})


class Fake(nn.Module):
    """Stands in for a network: predictions are the embeddings."""

    names = ("a", "b")
    head_names = ()

    def predict(self, output, head):
        return output.heads[head]

    def head(self, second):
        return second


def draw(n_samples=4, n_out=3, seed=0, missing=()):
    """Two modalities' embeddings, a second fused one, and who has what."""
    a, b, second = torch.randn(3, n_samples, n_out, generator=torch.Generator().manual_seed(seed))
    present = torch.ones(n_samples, 2, dtype=torch.bool)
    for row, m in missing:
        present[row, m] = False
    places = torch.randn(2, n_samples, 4, n_out, generator=torch.Generator().manual_seed(seed + 100))
    tokens = {
        name: Tokens(laid_out, there.unsqueeze(1).expand(-1, 4))
        for name, laid_out, there in zip("ab", places, present.T)
    }
    return FusionOutput(second, {"a": a, "b": b}, tokens, second=second, present=present)


def context(index, target=None, weight=None):
    index = torch.tensor(index)
    return Context(Fake(), index % 3 if target is None else target, weight, index, 4)


def divergence(said, second):
    """KL(said || softmax of second), (B,)."""
    return (said * (said.log() - second.log_softmax(-1))).sum(-1)


# What was said, averaged over epochs


def test_what_a_modality_says_is_averaged_over_the_epochs_so_far():
    objective = PseudoSupervision([3], 3, alignment=0.0)
    outputs = [draw(seed=seed) for seed in range(3)]
    said = {name: torch.zeros(4, 3) for name in "ab"}
    for epoch, (output, order) in enumerate(zip(outputs, ([0, 1, 2, 3], [2, 0, 3, 1], [3, 2, 1, 0])), start=1):
        losses = objective.loss({"clean": output}, None, context(order))
        expected = []
        for name in "ab":
            said[name][order] += output.heads[name].softmax(-1)
            expected.append(divergence(said[name][order] / epoch, output.second))
        torch.testing.assert_close(losses["loss"], torch.stack(expected).mean())
        torch.testing.assert_close(losses["of_pseudo"], losses["loss"])


def test_the_average_runs_over_the_epochs_in_which_the_modality_was_there():
    objective = PseudoSupervision([3], 3, alignment=0.0)
    first, second = draw(seed=0, missing=[(0, 0), (2, 1)]), draw(seed=1, missing=[(1, 0), (2, 1)])
    objective.loss({"clean": first}, None, context([0, 1, 2, 3]))
    found = objective.loss({"clean": second}, None, context([0, 1, 2, 3]))["loss"]
    probabilities = [{name: e.softmax(-1) for name, e in output.heads.items()} for output in (first, second)]
    both = {name: (probabilities[0][name] + probabilities[1][name]) / 2 for name in "ab"}
    said = {
        "a": torch.stack([probabilities[1]["a"][0], both["a"][2], both["a"][3]]),
        "b": torch.stack([both["b"][0], both["b"][1], both["b"][3]]),
    }
    a = dict(zip((0, 2, 3), divergence(said["a"], second.second[[0, 2, 3]])))
    b = dict(zip((0, 1, 3), divergence(said["b"], second.second[[0, 1, 3]])))
    # Over the modalities of a sample first, then over samples.
    apart = [(a[0] + b[0]) / 2, b[1], a[2], (a[3] + b[3]) / 2]
    torch.testing.assert_close(found, torch.stack(apart).mean())


def test_a_second_prediction_that_says_the_same_has_no_loss():
    objective = PseudoSupervision([3], 3, alignment=0.0)
    output = draw()
    output.heads["b"] = output.heads["a"] + 5.0  # the same softmax
    output.second = output.heads["a"] - 2.0
    same = objective.loss({"clean": output}, None, context([0, 1, 2, 3]))["loss"]
    torch.testing.assert_close(same, torch.zeros(()), atol=1e-6, rtol=0)
    output.second = -output.second
    assert objective.loss({"clean": output}, None, context([0, 1, 2, 3]))["loss"] > 0.1


def test_samples_count_by_their_weights():
    output, weight, target = draw(), torch.tensor([0.5, 2.0, 1.0, 0.5]), torch.tensor([2, 0, 1, 2])
    objective = PseudoSupervision([3], 3, alignment=0.25)
    weighted = context([0, 1, 2, 3], target, weight=weight)
    found = objective.loss({"clean": output}, None, weighted)
    said = {name: e.softmax(-1) for name, e in output.heads.items()}
    expected = torch.stack([weight * divergence(said[name], output.second) for name in "ab"]).mean()
    torch.testing.assert_close(found["of_pseudo"], expected)
    means = [laid_out.mean(1) for laid_out, _ in output.tokens.values()]
    distances = [weight * (mean - objective.class_vectors[target]).square().sum(-1) for mean in means]
    torch.testing.assert_close(found["loss"], expected + 0.25 * torch.stack(distances).mean())


def test_each_of_several_outputs_has_a_softmax_of_its_own():
    objective = PseudoSupervision([2, 3], 5)
    assert objective.class_vectors is None
    output = draw(n_out=5)
    found = objective.loss({"clean": output}, None, context([0, 1, 2, 3]))
    expected = [
        divergence(output.heads[name][:, part].softmax(-1), output.second[:, part])
        for name in "ab"
        for part in (slice(2), slice(2, 5))
    ]
    torch.testing.assert_close(found["loss"], torch.stack(expected).mean())


def test_numbers_are_drawn_to_their_mean_by_squares():
    objective = PseudoSupervision(None, 2, weight=3.0)
    first, second = draw(n_out=2, seed=0), draw(n_out=2, seed=1)
    objective.loss({"clean": first}, None, context([0, 1, 2, 3]))
    found = objective.loss({"clean": second}, None, context([0, 1, 2, 3]))["loss"]
    expected = [F.mse_loss(second.second, (first.heads[name] + second.heads[name]) / 2) for name in "ab"]
    torch.testing.assert_close(found, 3.0 * torch.stack(expected).mean())


def test_the_mean_place_of_a_modality_is_drawn_to_the_vector_of_the_class():
    torch.manual_seed(0)
    objective = PseudoSupervision([3], 3, weight=0.5, alignment=0.25)
    output, target = draw(missing=[(1, 0), (3, 1)]), torch.tensor([2, 0, 1, 2])
    found = objective.loss({"clean": output}, None, context([0, 1, 2, 3], target))
    vectors = objective.class_vectors[target]
    assert objective.class_vectors.shape == (3, 3)
    a, b = ((output.tokens[name].values.mean(1) - vectors).square().sum(-1) for name in "ab")
    distances = [(a[0] + b[0]) / 2, b[1], (a[2] + b[2]) / 2, a[3]]
    torch.testing.assert_close(found["loss"] - found["of_pseudo"], 0.25 * torch.stack(distances).mean())
    plain = PseudoSupervision([3], 3, alignment=0.0).loss({"clean": output}, None, context([0, 1, 2, 3], target))
    torch.testing.assert_close(found["of_pseudo"], 0.5 * plain["of_pseudo"])


def test_places_are_those_before_their_projection():
    torch.manual_seed(0)
    fusion = Unseen({"a": 8, "b": 8}, 8, n_heads=2).eval()
    there = torch.ones(5, 3, dtype=torch.bool)
    tokens = {name: Tokens(torch.randn(5, 3, 8), there) for name in "ab"}
    placed = fusion(tokens, torch.tensor([[True, True], [True, False]] * 2 + [[False, False]])).tokens
    for name in "ab":
        torch.testing.assert_close(placed[name].values[0].sum(0), tokens[name].values[0].sum(0))
    assert placed["b"].mask.all(1).tolist() == placed["b"].mask.any(1).tolist() == [True, False, True, False, False]


@pytest.mark.parametrize("n_heads", [0, 2, 6])
def test_the_weight_is_relative_to_the_loss_of_the_fused_prediction(n_heads):
    # Which is one of 1 + n_heads in the mean of them.
    network = Fake()
    network.head_names = tuple(map(str, range(n_heads)))
    output, target = draw(), torch.tensor([2, 0, 1, 2])
    alone = context([0, 1, 2, 3], target)
    objective = PseudoSupervision([3], 3, weight=0.7, alignment=0.25)
    beside = replace(alone, network=network)
    expected, found = (objective.loss({"clean": output}, None, c) for c in (alone, beside))
    for name in ("loss", "of_pseudo"):
        torch.testing.assert_close((1 + n_heads) * found[name], expected[name])


@pytest.mark.parametrize("name", ["weight", "alignment"])
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_a_weight_below_zero_raises(name, value):
    with pytest.raises(ValueError, match=f"{name} of PseudoSupervision is {value}; due is a number of at least 0"):
        PseudoSupervision(**{name: value})


def test_what_is_said_teaches_the_second_prediction_and_is_not_taught_by_it():
    output = draw()
    for tensor in (output.second, *output.heads.values()):
        tensor.requires_grad_()
    PseudoSupervision([3], 3, alignment=0.0).loss({"clean": output}, None, context([0, 1, 2, 3]))["loss"].backward()
    assert output.second.grad.abs().max() > 0
    for name in "ab":
        grad = output.heads[name].grad
        assert grad is None or not grad.any()


def test_what_has_nothing_present_has_no_loss():
    objective = PseudoSupervision([3], 3)
    output = draw(missing=[(row, m) for row in range(4) for m in range(2)])
    assert objective.loss({"clean": output}, None, context([0, 1, 2, 3]))["loss"] == 0


def test_a_fusion_without_a_second_embedding_raises():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="PseudoSupervision needs a fusion with a second embedding, such as 'unseen'"):
        classifier(fusion="concat", objectives=[PseudoSupervision([2], 8)]).fit(
            {"a": rng.normal(size=(20, 3))}, np.arange(20) % 2
        )


# In the estimator


def two_tables(n_samples=100, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, size=n_samples)
    X = {name: rng.normal(size=(n_samples, 4)) + np.eye(4)[y] * 2 for name in "ab"}
    X["b"][::4] = np.nan
    return X, y


class Watch(Callback):
    """Keeps what the objective has recorded, and its class vectors at the start."""

    def on_train_begin(self, net, X=None, **kwargs):
        _, self.held_out_ = X
        self.vectors_ = net.criterion_[1].class_vectors.detach().clone()
        self.counts_ = []

    def on_epoch_end(self, net, **kwargs):
        self.counts_.append(net.criterion_[1]._counts.squeeze(-1).clone())


def watch(model):
    return next(callback for _, callback in model.net_.callbacks_ if isinstance(callback, Watch))


def test_every_sample_is_recorded_once_an_epoch_where_it_has_the_modality():
    X, y = two_tables()
    model = classifier(callbacks=[Watch()]).fit(X, y)
    there = np.stack([np.ones(100), ~np.isnan(X["b"][:, 0])], axis=1)
    for epoch, counts in enumerate(watch(model).counts_, start=1):
        np.testing.assert_array_equal(counts.numpy(), epoch * there)
    assert isinstance(model.net_.criterion_[1], PseudoSupervision)
    assert (model.net_.criterion_[1].class_vectors - watch(model).vectors_).abs().max() > 1e-3
    assert "train_loss_of_pseudo" in model.history_[-1]


@pytest.mark.parametrize("holds_out", [{"early_stopping": True}, {"balance": "gradient_blending"}])
def test_samples_that_are_held_out_are_not_recorded(holds_out):
    X, y = two_tables()
    model = classifier(callbacks=[Watch()], **holds_out).fit(X, y)
    counts = watch(model).counts_[-1][:, 0]
    assert counts.tolist().count(3) == 90
    assert counts.tolist().count(0) == 10


def test_recorded_predictions_are_dropped_after_training_so_that_pickles_stay_small():
    sizes = {}
    for n_samples in (200, 20_000):
        X, y = two_tables(n_samples)
        model = classifier(max_epochs=1, batch_size=1000, n_fusion_layers=1).fit(X, y)
        objective = model.net_.criterion_[1]
        assert objective._sums is None
        assert objective._counts is None
        sizes[n_samples] = len(pickle.dumps(model))
    assert sizes[20_000] < 1.02 * sizes[200]


def test_training_that_goes_on_starts_its_record_anew():
    X, y = two_tables()
    model = classifier(callbacks=[Watch()], warm_start=True).fit(X, y).fit(X, y)
    assert watch(model).counts_[-1][:, 0].tolist() == [3] * 100
    model.partial_fit({name: values[:30] for name, values in X.items()}, y[:30])
    assert watch(model).counts_[-1][:, 0].tolist() == [1] * 30


def test_the_validation_loss_is_that_of_the_prediction():
    X, y = two_tables(200)
    still = {"optimizer": torch.optim.SGD, "lr": 1e-12, "scheduler": None, "label_smoothing": 0.0}
    model = classifier(early_stopping=True, callbacks=[Watch()], **still).fit(X, y)
    rows = watch(model).held_out_.rows.numpy()
    found = log_loss(y[rows], model.predict_proba({name: values[rows] for name, values in X.items()}))
    assert model.history_[-1]["valid_loss"] == pytest.approx(found, rel=1e-4)


def both_predictions(model, X):
    network, first, second = model.network_, [], []
    for output in model.net_.outputs(model._tensors(conformed(model, X))):
        with torch.inference_mode():
            first.append(network.head(output.fused).double().numpy())
            second.append(network.head(output.second).double().numpy())
    return np.concatenate(first), np.concatenate(second)


def conformed(model, X):
    from skfusion.modalities import check_modalities

    return check_modalities(model, X, reset=False)


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_the_prediction_is_the_mean_of_both_softmaxes():
    X, y = two_tables()
    model = classifier(max_epochs=6).fit(X, y)
    first, second = both_predictions(model, X)
    assert np.abs(softmax(first) - softmax(second)).max() > 1e-3
    np.testing.assert_allclose(model.predict_proba(X), (softmax(first) + softmax(second)) / 2, atol=1e-6)
    targets = classifier(max_epochs=3).fit(X, np.stack([y, y > 0], axis=1))
    first, second = both_predictions(targets, X)
    for part, found in zip((slice(3), slice(3, 5)), targets.predict_proba(X)):
        np.testing.assert_allclose(found, (softmax(first[:, part]) + softmax(second[:, part])) / 2, atol=1e-6)


def test_a_number_is_the_mean_of_both_predictions():
    X, y = two_tables()
    model = regressor(max_epochs=6).fit(X, 100.0 + 7 * y)
    first, second = both_predictions(model, X)
    assert np.abs(first - second).max() > 1e-3
    expected = (first + second)[:, 0] / 2 * np.std(7 * y) + np.mean(100 + 7 * y)
    np.testing.assert_allclose(model.predict(X), expected, rtol=1e-5)


def test_one_that_is_given_stands_in_for_the_fusions_own():
    X, y = two_tables()
    given = PseudoSupervision(weight=0.3, alignment=0.5)
    model = clone(classifier(objectives=[given])).fit(X, y)
    _, used = model.net_.criterion_
    assert (used.weight, used.alignment, used.n_classes, used.class_vectors.shape) == (0.3, 0.5, [3], (3, 8))
    assert given.class_vectors is None, "what was given is left as it was"
    plain = classifier().fit(X, y)
    assert len(plain.net_.criterion_) == 2
    assert np.abs(model.predict_proba(X) - plain.predict_proba(X)).max() > 1e-4
    # Its defaults are those of the fusion's own.
    same = classifier(objectives=[PseudoSupervision()]).fit(X, y)
    np.testing.assert_array_equal(same.predict_proba(X), plain.predict_proba(X))
    numbers = regressor(objectives=[PseudoSupervision(weight=0.3)]).fit(X, y)
    assert (numbers.net_.criterion_[1].n_classes, numbers.net_.criterion_[1].class_vectors) == (None, None)


# What it is for


def evidence(seed, n_train=600, n_test=1000, n_classes=4, distance=1.5):
    """Both modalities hold independent evidence of the class, which adds up; no sample to learn from has both."""
    rng = np.random.default_rng(seed)
    n = n_train + n_test
    y = rng.integers(0, n_classes, size=n)
    X = {}
    for name in "ab":
        centres = rng.normal(size=(n_classes, 6))
        centres *= distance / np.linalg.norm(centres, axis=1, keepdims=True)
        X[name] = centres[y] + rng.normal(size=(n, 6))
    train, test = (
        {name: values[part].copy() for name, values in X.items()} for part in (slice(n_train), slice(n_train, n))
    )
    train["a"][::2] = np.nan
    train["b"][1::2] = np.nan
    return train, y[:n_train], test, y[n_train:]


def test_modalities_that_were_never_seen_together_add_up():
    scores = {name: [] for name in ("a", "b", "both", "mean", "product")}
    for seed in range(3):
        X, y, new, truth = evidence(seed)
        model = classifier(n_hidden=32, n_latent=32, lr=3e-3, max_epochs=20, batch_size=64, random_state=seed).fit(X, y)
        a, b = (model.predict_proba({name: new[name]}) for name in "ab")
        for name, found in {"a": a, "b": b, "both": model.predict_proba(new), "mean": a + b, "product": a * b}.items():
            scores[name].append(np.mean(found.argmax(axis=1) == truth))
    mean = {name: float(np.mean(values)) for name, values in scores.items()}
    assert mean["both"] > max(mean["a"], mean["b"]) + 0.05
    assert mean["both"] > mean["mean"]
    assert mean["both"] > mean["product"] - 0.03


def test_pseudo_labels_matter_where_one_modality_is_unreliable():
    # b tells the class in half of the samples, and is loud noise in the others.
    X, y, new, truth = evidence(0)
    rng = np.random.default_rng(1)
    for part in (X, new):
        loud = (rng.random(len(part["b"])) < 0.5) & ~np.isnan(part["b"][:, 0])
        part["b"][loud] = 3 * rng.normal(size=(loud.sum(), 6))
    quick = {"n_hidden": 32, "n_latent": 32, "lr": 3e-3, "max_epochs": 10, "batch_size": 64}
    without, taught = (
        classifier(objectives=[PseudoSupervision(weight=weight)], **quick).fit(X, y).predict_proba(new)
        for weight in (0.0, 1.0)
    )
    assert np.abs(taught - without).mean() > 0.02
    assert np.mean(taught.argmax(axis=1) == truth) > np.mean(without.argmax(axis=1) == truth)


def test_an_interaction_that_some_pairs_show_is_learned():
    # The class is whether two bits differ: alone neither says anything, and nor do their predictions put together.
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2, size=(1000, 2))
    X = {name: (2 * bits[:, [m]] - 1) + 0.5 * rng.normal(size=(1000, 6)) for m, name in enumerate("ab")}
    y = bits[:, 0] ^ bits[:, 1]
    train, new = ({name: values[part].copy() for name, values in X.items()} for part in (slice(600), slice(600, None)))
    train["a"][::3] = train["b"][1::3] = np.nan
    model = classifier(n_hidden=32, n_latent=32, lr=3e-3, max_epochs=12, batch_size=64).fit(train, y[:600])
    a, b = (model.predict_proba({name: new[name]}) for name in "ab")
    best = max(np.mean(late.argmax(axis=1) == y[600:]) for late in (a + b, a * b))
    assert model.score(new, y[600:]) > max(best + 0.1, 0.9)
