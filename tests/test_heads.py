"""Predictions of single heads: what each modality says by itself, beside the fused prediction."""

import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.base import clone
from sklearn.metrics import log_loss, r2_score
from torch import nn

from skfusion import JointFusionClassifier, JointFusionRegressor
from skfusion.encoders.batch import Batch
from skfusion.fusion import FUSIONS, FusionOutput
from skfusion.objectives import Supervised
from skfusion.objectives.context import Context

SMALL = {
    "n_hidden": 16,
    "n_latent": 8,
    "dropout_rate": 0.1,
    "lr": 0.01,
    "max_epochs": 10,
    "device": "cpu",
    "random_state": 0,
}
LISTENS = ("irene", "bottleneck")
"""Fusions in which what a modality says is about its own tokens, which have listened to the others."""
HEADS = {
    "zorro": ["a", "b", "global"],
    "bottleneck": ["a", "b"],
    "irene": ["a", "b"],
    "unseen": ["a", "b"],
    "evidential": ["a", "b"],
}
"""Fusions that predict by head in any case."""


def classifier(**params):
    return JointFusionClassifier(**{**SMALL, **params})


def regressor(**params):
    return JointFusionRegressor(**{**SMALL, **params})


def two_classes(n_samples=100, seed=0):
    """Two tables that both know the class; every fourth sample lacks the second."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, size=n_samples)
    side = 1.2 * (2 * y - 1)[:, None]
    X = {"a": rng.normal(size=(n_samples, 4)) + side, "b": rng.normal(size=(n_samples, 4)) - side}
    X["b"][::4] = np.nan
    return X, y


def complete(X, y):
    return {name: np.nan_to_num(values) for name, values in X.items()}, y


def two_numbers(n_samples=150, seed=0):
    rng = np.random.default_rng(seed)
    X = {"a": rng.normal(size=(n_samples, 3)), "b": rng.normal(size=(n_samples, 2))}
    X["b"][:, 0] = X["a"][:, 0] + 0.1 * X["b"][:, 0]
    X["b"][::4] = np.nan
    return X, 50 + 10 * X["a"][:, 0]


def others_replaced(X, name):
    """The same samples, of which only the modality `name` stays as it is."""
    rng = np.random.default_rng(7)
    return {other: values if other == name else 5 * rng.normal(size=values.shape) for other, values in X.items()}


def history(model, key):
    return np.array(model.history_[:, key])


# What a head predicts


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_modality_s_head_depends_on_that_modality_alone(fusion):
    X, y = two_classes(60)
    model = classifier(fusion=fusion, encoders="patches", unimodal_heads=True, max_epochs=2).fit(X, y)
    for name in X:
        own = model.predict_proba(X, head=name)
        replaced = model.predict_proba(others_replaced(X, name), head=name)
        alone = model.predict_proba({name: X[name]}, head=name)
        there = ~np.isnan(X[name][:, 0])
        assert np.ptp(own[there, 0]) > 1e-4
        if fusion in LISTENS:
            assert np.abs(own - replaced)[there].max() > 1e-5
            continue
        np.testing.assert_array_equal(own, replaced)
        np.testing.assert_array_equal(own, alone)


def test_the_heads_of_zorro_stay_pure_through_many_layers():
    X, y = two_classes(60)
    model = classifier(fusion="zorro", encoders="tokens", n_fusion_layers=4, max_epochs=2).fit(X, y)
    for name in X:
        replaced = others_replaced(X, name)
        np.testing.assert_array_equal(model.predict_proba(X, name), model.predict_proba(replaced, name))
        for head in ("fusion", "global"):
            assert np.abs(model.predict_proba(X, head) - model.predict_proba(replaced, head)).max() > 1e-4


@pytest.mark.parametrize("fusion", ["concat", "attention", "early_concat", *HEADS])
def test_every_head_learns(fusion):
    X, y = two_classes(160)
    there = ~np.isnan(X["b"][:, 0])
    model = classifier(fusion=fusion, unimodal_heads=True, max_epochs=20).fit(X, y)
    score = {head: np.mean((model.predict(X, head) == y)[there]) for head in ("fusion", "a", "b")}
    assert min(score.values()) > 0.9
    # The fused prediction is another one than that of either head.
    for head in "ab":
        assert np.abs(model.predict_proba(X, head) - model.predict_proba(X)).max() > 1e-3


def test_a_head_predicts_from_its_modality_s_embedding():
    X, y = two_classes()
    model = classifier(unimodal_heads=True).fit(X, y)
    there = ~np.isnan(X["b"][:, 0])
    for head, linear in zip(model.network_.head_names, model.network_.heads):
        logits = model.embed(X, head) @ linear.weight.detach().numpy().T + linear.bias.detach().numpy()
        expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(model.predict_proba(X, head)[there], expected[there], atol=1e-6)


def test_a_head_s_width_is_that_of_its_embedding():
    X, y = two_classes()
    model = classifier(encoders={"b": "identity"}, unimodal_heads=True, max_epochs=2).fit(X, y)
    assert {h: part.in_features for h, part in zip(model.network_.head_names, model.network_.heads)} == {"a": 8, "b": 4}


@pytest.mark.parametrize("fusion", ["concat", "zorro"])
def test_samples_without_the_modality_get_the_prior(fusion):
    X, y = two_classes()
    y = np.array(["yes", "no", "perhaps"])[np.where(np.arange(100) < 10, 2, y)]
    weight = np.where(y == "no", 3.0, 1.0)
    model = classifier(fusion=fusion, unimodal_heads=True, max_epochs=2).fit(X, y, sample_weight=weight)
    prior = np.array([weight[y == c].sum() for c in ("no", "perhaps", "yes")]) / weight.sum()
    missing = np.isnan(X["b"][:, 0])
    found = model.predict_proba(X, head="b")
    np.testing.assert_allclose(found[missing], np.tile(prior, (25, 1)))
    assert np.abs(found[~missing] - prior).max(axis=1).min() > 1e-6
    assert set(model.predict(X, head="b")[missing]) == {"no"}
    np.testing.assert_allclose(model.predict_proba({"a": X["a"]}, head="b"), np.tile(prior, (100, 1)))
    # What has the other modality still has a fused prediction.
    assert np.abs(model.predict_proba(X)[missing] - prior).max(axis=1).min() > 1e-6


def test_samples_without_the_modality_get_the_mean():
    X, y = two_numbers()
    model = regressor(unimodal_heads=True, max_epochs=2).fit(X, y)
    missing = np.isnan(X["b"][:, 0])
    found = model.predict(X, head="b")
    np.testing.assert_allclose(found[missing], y.mean())
    assert np.ptp(found[~missing]) > 1e-3


def test_the_global_head_gives_the_prior_only_where_nothing_is_there():
    X, y = two_classes()
    model = classifier(fusion="zorro", max_epochs=2).fit(X, y)
    nothing = {name: np.full((2, values.shape[1]), np.nan) for name, values in X.items()}
    np.testing.assert_allclose(model.predict_proba(nothing, "global"), np.tile(np.bincount(y) / 100, (2, 1)))
    assert np.ptp(model.predict_proba(X, "global")[np.isnan(X["b"][:, 0]), 0]) > 1e-4


@pytest.mark.parametrize("make", [classifier, regressor])
def test_the_fused_head_is_the_prediction(make):
    X, y = two_classes()
    model = make(unimodal_heads=True, max_epochs=3).fit(X, y)
    np.testing.assert_array_equal(model.predict(X, head="fusion"), model.predict(X))
    if make is classifier:
        np.testing.assert_array_equal(model.predict_proba(X, head="fusion"), model.predict_proba(X, head=None))


# Which heads there are


@pytest.mark.parametrize("fusion", FUSIONS)
def test_heads_are_there_where_asked_for_or_where_the_fusion_brings_them(fusion):
    X, y = two_classes(40)
    plain = classifier(fusion=fusion, max_epochs=1).fit(X, y)
    assert plain.network_.head_names == HEADS.get(fusion, [])
    asked = classifier(fusion=fusion, max_epochs=1, unimodal_heads=True).fit(X, y)
    assert asked.network_.head_names == HEADS.get(fusion, ["a", "b"])
    for head in ["fusion", *asked.network_.head_names]:
        probabilities = asked.predict_proba(X, head)
        assert probabilities.shape == (40, 2)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1)


@pytest.mark.parametrize("make", [classifier, regressor])
def test_an_unknown_head_lists_those_that_exist(make):
    X, y = two_classes(40)
    model = make(unimodal_heads=True, max_epochs=1).fit(X, y)
    with pytest.raises(ValueError, match=r"head is 'c'; due is one of \['fusion', 'a', 'b'\]"):
        model.predict(X, head="c")
    with pytest.raises(ValueError, match=r"head is 'global'; due is one of \['fusion', 'a', 'b'\]"):
        model.predict(X, head="global")
    zorro = make(fusion="zorro", max_epochs=1).fit(X, y)
    with pytest.raises(ValueError, match=r"head is 'c'; due is one of \['fusion', 'a', 'b', 'global'\]"):
        zorro.predict(X, head="c")


@pytest.mark.parametrize("make", [classifier, regressor])
def test_without_heads_a_modality_s_prediction_raises_what_to_do(make):
    X, y = two_classes(40)
    model = make(max_epochs=1).fit(X, y)
    with pytest.raises(ValueError, match=r"head is 'a'; due is one of \['fusion'\]. unimodal_heads=True gives every"):
        model.predict(X, head="a")
    np.testing.assert_array_equal(model.predict(X, head="fusion"), model.predict(X))


def test_the_embedding_of_every_head_is_to_be_had():
    X, y = two_classes(60)
    model = classifier(unimodal_heads=True, max_epochs=2).fit(X, y)
    there = ~np.isnan(X["b"][:, 0])
    assert list(model.embedding_means_) == ["a", "b", "fusion", "global"]
    embedding = model.embed(X, "b")
    assert embedding.shape == (60, 8)
    np.testing.assert_allclose(embedding[~there], np.tile(embedding[there].mean(axis=0), (15, 1)), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(embedding, model.embed(others_replaced(X, "b"), "b"))


# What is trained and recorded


def test_history_has_the_loss_of_every_head_and_their_mean():
    X, y = complete(*two_classes())
    model = classifier(unimodal_heads=True, max_epochs=3).fit(X, y)
    parts = [history(model, f"train_loss_{head}") for head in ("fusion", "a", "b")]
    np.testing.assert_allclose(history(model, "train_loss"), np.mean(parts, axis=0), rtol=1e-5)
    assert np.ptp(parts, axis=0).min() > 1e-4
    assert not [key for key in model.history_[-1] if key.startswith("valid")]
    plain = classifier(max_epochs=1).fit(X, y)
    assert not [key for key in plain.history_[-1] if key.startswith("train_loss_") and key != "train_loss_best"]


def test_the_loss_of_an_epoch_counts_samples_alike_also_where_batches_have_unequally_many():
    X, y = two_classes(90)
    X["b"][:20] = np.nan
    still = {"optimizer": torch.optim.SGD, "lr": 1e-12, "scheduler": None, "dropout_rate": 0.0, "label_smoothing": 0.0}
    model = classifier(unimodal_heads=True, max_epochs=1, batch_size=32, **still).fit(X, y)
    there = ~np.isnan(X["b"][:, 0])
    for head, rows in (("a", slice(None)), ("b", there), ("fusion", slice(None))):
        expected = log_loss(y[rows], model.predict_proba(X, head)[rows])
        assert model.history_[-1][f"train_loss_{head}"] == pytest.approx(expected, rel=1e-4)


def test_the_validation_loss_is_that_of_the_fused_prediction_alone():
    X, y = complete(*two_classes())
    model = classifier(unimodal_heads=True, early_stopping=True, max_epochs=3).fit(X, y)
    np.testing.assert_allclose(history(model, "valid_loss"), history(model, "valid_loss_fusion"), rtol=1e-6)
    parts = [history(model, f"valid_loss_{head}") for head in ("fusion", "a", "b")]
    assert np.ptp(parts, axis=0).min() > 1e-4
    train = [history(model, f"train_loss_{head}") for head in ("fusion", "a", "b")]
    np.testing.assert_allclose(history(model, "train_loss"), np.mean(train, axis=0), rtol=1e-5)


def test_the_head_of_a_modality_teaches_an_encoder_that_would_be_left_aside():
    rng = np.random.default_rng(0)
    y, sign = rng.integers(0, 2, size=400), rng.choice([-1, 1], size=400)
    b = 0.3 * rng.normal(size=(400, 6))
    b[:, 0] += sign
    b[:, 1] += sign * (2 * y - 1)
    X = {"a": 0.3 * rng.normal(size=(400, 5)) + (2 * y - 1)[:, None], "b": b}
    model = classifier(unimodal_heads=True, n_hidden=32, n_latent=16, max_epochs=25).fit(X, y)
    assert np.mean(model.predict(X, "b") == y) > 0.95


class Fake:
    """Stands in for a network: predictions are the embeddings."""

    training = True
    names = head_names = ("a", "b")

    def predict(self, output, head="fusion"):
        return output.fused if head == "fusion" else output.heads[head]

    def final(self, output):
        return output.fused

    def present_in(self, head, present):
        return present[:, self.names.index(head)]


def loss_of(output, target, weight=None, *, training=True):
    context = Context(Fake(), target, weight, torch.arange(len(target)))
    return Supervised(n_classes=[2]).train(training).loss({"clean": output}, Batch({}, output.present), context)


def fake_output(n_samples=4, present=None):
    generator = torch.Generator().manual_seed(0)
    fused, a, b = (part.requires_grad_() for part in torch.randn(3, n_samples, 2, generator=generator))
    present = torch.tensor([[True, True], [True, False], [False, True], [True, False]]) if present is None else present
    return FusionOutput(fused, {"a": a, "b": b}, present=present)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_of_a_head_is_the_mean_over_the_samples_that_have_its_modality(weighted):
    output, target = fake_output(), torch.tensor([0, 1, 1, 0])
    weight = torch.tensor([0.5, 1.0, 1.5, 1.0]) if weighted else None
    losses = loss_of(output, target, weight)
    w = torch.ones(4) if weight is None else weight
    each = {name: w * F.cross_entropy(e, target, reduction="none") for name, e in output.heads.items()}
    fused = (w * F.cross_entropy(output.fused, target, reduction="none")).mean()
    a, b = each["a"][[0, 1, 3]].mean(), each["b"][[0, 2]].mean()
    for head, expected, n in (("a", a, 3), ("b", b, 2), ("fusion", fused, 4)):
        torch.testing.assert_close(losses[head].mean, expected)
        assert losses[head].n == n
    torch.testing.assert_close(losses["loss"], (a + b + fused) / 3)
    torch.testing.assert_close(loss_of(output, target, weight, training=False)["loss"], fused)


def test_a_batch_in_which_nobody_has_a_modality_gives_its_head_no_loss_and_no_gradient():
    output = fake_output(present=torch.tensor([[True, False]] * 4))
    losses = loss_of(output, torch.tensor([0, 1, 1, 0]))
    assert losses["b"].mean == losses["b"].n == 0
    losses["loss"].backward()
    assert not output.heads["b"].grad.any()


def test_a_head_has_what_it_needs_where_its_modality_is_and_a_global_one_where_anything_is():
    X, y = two_classes(40)
    network = classifier(fusion="zorro", max_epochs=1).fit(X, y).network_
    present = torch.tensor([[True, True], [True, False], [False, True], [False, False]])
    found = {head: network.present_in(head, present).tolist() for head in network.head_names}
    anything = [True, True, True, False]
    assert found == {"a": present[:, 0].tolist(), "b": present[:, 1].tolist(), "global": anything}


def test_modality_dropout_takes_the_sample_from_the_head_s_loss():
    X, y = two_classes(40)
    X["b"] = np.nan_to_num(X["b"])
    seen = []

    class Counting(Supervised):
        def loss(self, outputs, batch, context):
            seen.append((outputs["clean"].present.clone(), batch.present.clone()))
            return super().loss(outputs, batch, context)

    model = classifier(unimodal_heads=True, max_epochs=1, modality_dropout=0.5).fit(X, y)
    net = model.net_
    net.criterion_ = nn.ModuleList([Counting(n_classes=[2])])
    net.partial_fit((model._tensors(model_input(model, X), y), None))
    used, came = (torch.cat(parts) for parts in zip(*seen))
    assert torch.equal(used, came)
    assert 0 < (~used).sum() < 40
    assert used.any(1).all()


def model_input(model, X):
    from skfusion.modalities import check_modalities

    return check_modalities(model, X, reset=False)


# Several outputs


def test_heads_of_several_targets_of_classes_give_a_list():
    X, first = two_classes(160)
    second = np.array(["low", "middle", "high"])[np.digitize(X["a"][:, 0], (-1, 1))]
    y = np.stack([np.array(["no", "yes"])[first], second], axis=1)
    model = classifier(unimodal_heads=True, max_epochs=20).fit(X, y)
    missing = np.isnan(X["b"][:, 0])
    probabilities = model.predict_proba(X, head="b")
    assert [p.shape for p in probabilities] == [(160, 2), (160, 3)]
    for p, column in zip(probabilities, y.T):
        np.testing.assert_allclose(p.sum(axis=1), 1)
        np.testing.assert_allclose(p[missing], [[np.mean(column == c) for c in np.unique(column)]] * missing.sum())
    found = model.predict(X, head="a")
    assert found.shape == (160, 2)
    assert (found == y).mean(axis=0).min() > 0.8
    assert (model.predict(X, head="b")[~missing, 0] == y[~missing, 0]).mean() > 0.9


def test_heads_of_several_numbers_are_on_their_own_scales():
    X, y = two_numbers()
    both = np.stack([y, -1000 * y + 7], axis=1)
    model = regressor(unimodal_heads=True, max_epochs=40).fit(X, both)
    missing = np.isnan(X["b"][:, 0])
    found = model.predict(X, head="b")
    assert found.shape == (150, 2)
    np.testing.assert_allclose(found[missing], np.tile(both.mean(axis=0), (missing.sum(), 1)))
    assert r2_score(both[~missing], found[~missing], multioutput="raw_values").min() > 0.8
    assert r2_score(both, model.predict(X, head="a"), multioutput="raw_values").min() > 0.9


# Fitted once more, copied, stored


@pytest.mark.parametrize("fusion", ["concat", "zorro", "unseen"])
def test_heads_are_pickled_cloned_and_trained_on(fusion):
    X, y = two_classes()
    model = classifier(fusion=fusion, unimodal_heads=True, warm_start=True, max_epochs=2).fit(X, y)
    expected = {head: model.predict_proba(X, head) for head in ("fusion", *model.network_.head_names)}
    stored = pickle.loads(pickle.dumps(model))
    again = clone(model)
    assert again.unimodal_heads
    again.fit(X, y)
    for head, values in expected.items():
        np.testing.assert_array_equal(stored.predict_proba(X, head), values)
        np.testing.assert_array_equal(again.predict_proba(X, head), values)
    loss = model.history_[-1]["train_loss_a"]
    model.fit(X, y)
    assert model.n_iter_ == 4
    assert model.history_[-1]["train_loss_a"] < loss
    for head, values in expected.items():
        assert np.abs(model.predict_proba(X, head) - values).max() > 1e-4
    stored.partial_fit(X, y)
    assert stored.history_[-1]["train_loss_b"] > 0


def test_an_unfitted_head_raises_that_it_is_not_fitted():
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        classifier(unimodal_heads=True).predict({"a": np.zeros((2, 3))}, head="a")
