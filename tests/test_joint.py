"""What is special to joint fusion: networks that are trained end to end, and what training can be asked for."""

import copy
import pickle
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, r2_score, recall_score
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback, EarlyStopping, GradientNormClipping, LRScheduler
from torch import nn
from torch.optim.lr_scheduler import CyclicLR, ReduceLROnPlateau, StepLR

from skfusion import JointFusionClassifier, JointFusionRegressor, LateFusionStacker, Modalities
from skfusion._network import batch_size
from skfusion.encoders import MLP, Conv1d, Conv3d, Wrapped
from skfusion.encoders.batch import Batch, ModalityBatch
from skfusion.fusion import Select

SMALL = {
    "n_hidden": 16,
    "n_latent": 8,
    "dropout_rate": 0.1,
    "lr": 0.01,
    "max_epochs": 15,
    "device": "cpu",
    "random_state": 0,
}
PLAIN = {"optimizer": torch.optim.SGD, "scheduler": None, "weight_decay": 0.0}


def classifier(**params):
    return JointFusionClassifier(**{**SMALL, **params})


def regressor(**params):
    return JointFusionRegressor(**{**SMALL, **params})


def two_classes(n_samples=120, seed=0, distance=1.0):
    """Two tables that both know the class."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, size=n_samples)
    side = distance * (2 * y - 1)[:, None]
    return {"a": rng.normal(size=(n_samples, 4)) + side, "b": rng.normal(size=(n_samples, 3)) - side}, y


def linear(n_samples=200, seed=0, noise=0.1):
    rng = np.random.default_rng(seed)
    X = {"a": rng.normal(size=(n_samples, 4)), "b": rng.normal(size=(n_samples, 3))}
    return X, 50 + 10 * (X["a"][:, 0] + X["b"][:, 1] + noise * rng.normal(size=n_samples))


def rows(X, which):
    return {name: values[which] for name, values in X.items()}


def weights_of(estimator):
    return copy.deepcopy(estimator.network_.state_dict())


def distance(left, right):
    return max(float((left[key] - right[key]).abs().max()) for key in left)


class Watch(Callback):
    """Keeps the weights at the start, what was trained on, and the learning rate of each epoch."""

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        self.start_ = copy.deepcopy(net.module_.state_dict())
        self.train_, self.valid_ = X
        self.rates_ = []

    def on_epoch_begin(self, net, **kwargs):
        self.rates_.append(net.optimizer_.param_groups[0]["lr"])


class WatchBatches(Watch):
    def on_train_begin(self, net, X=None, y=None, **kwargs):
        super().on_train_begin(net, X, y, **kwargs)
        self.batch_rates_, self.sizes_, self.norms_, self.losses_ = [], [], [], []

    def on_batch_begin(self, net, batch=None, training=None, **kwargs):
        self.batch_rates_.append(net.optimizer_.param_groups[0]["lr"])
        self.sizes_.append(len(batch.index))

    def on_batch_end(self, net, batch=None, training=None, loss=None, **kwargs):
        self.losses_.append(float(loss))
        grads = [p.grad for p in net.module_.parameters() if p.grad is not None]
        self.norms_.append(float(torch.stack([g.norm() for g in grads]).norm()))


def watch(estimator, kind=Watch):
    return next(callback for _, callback in estimator.net_.callbacks_ if isinstance(callback, kind))


# The loss reaches everything


def test_after_one_step_every_parameter_of_every_encoder_has_changed():
    rng = np.random.default_rng(0)
    X, y = two_classes()
    X["sequence"], X["image"] = rng.normal(size=(120, 9, 2)), rng.normal(size=(120, 1, 8, 8))
    model = classifier(max_epochs=1, batch_size=120, callbacks=[Watch()], **{**PLAIN, "lr": 0.5}).fit(X, y)
    start, end = watch(model).start_, weights_of(model)
    assert model.n_iter_ == 1
    assert sum(key.startswith("encoders.") for key in start) > 20
    assert not [key for key in start if torch.equal(start[key], end[key])]


@pytest.mark.parametrize("make", [classifier, regressor])
@pytest.mark.parametrize("fusion", ["concat", "gated", "attention"])
def test_the_gradient_of_an_encoder_s_weight_is_that_of_finite_differences(make, fusion):
    X, y = two_classes(20)
    model = make(fusion=fusion, max_epochs=1, callbacks=[Watch()]).fit(X, y)
    (samples,) = watch(model).train_.iterate(20)
    batch = Batch(
        {k: ModalityBatch(m.values.double(), m.mask) for k, m in samples.batch.modalities.items()},
        samples.batch.present,
    )
    target = samples.target if samples.target.dtype == torch.int64 else samples.target.double()
    network, objective = model.network_.double().eval(), model.net_.criterion_[0]
    weight = network.encoders[0].layers[1].weight

    def loss():
        return objective(network.predict(network(batch)), target)

    network.zero_grad()
    loss().backward()
    for index in ((0, 0), (3, 2)):
        step = 1e-5
        with torch.no_grad():
            weight[index] += step
            above = loss()
            weight[index] -= 2 * step
            below = loss()
            weight[index] += step
        numeric = float(above - below) / (2 * step)
        assert abs(numeric) > 1e-6
        assert float(weight.grad[index]) == pytest.approx(numeric, rel=1e-3)


def test_a_branch_by_identity_has_no_parameters_and_gives_the_scaled_values():
    X, y = two_classes()
    model = classifier(encoders={"a": "identity"}, max_epochs=1).fit(X, y)
    assert not list(model.network_.encoders[0].parameters())
    assert list(model.network_.encoders[1].parameters())
    np.testing.assert_allclose(model.embed(X, "a"), StandardScaler().fit_transform(X["a"]), atol=1e-5)


# What fusion is for


def xor(n_samples, seed, n_noise=4):
    """The class is the exclusive or of one bit of each modality, so that neither alone says anything."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2, size=(2, n_samples))
    X = {
        name: np.c_[2 * bit - 1 + 0.2 * rng.normal(size=n_samples), rng.normal(size=(n_samples, n_noise))]
        for name, bit in zip("ab", bits)
    }
    return X, bits[0] ^ bits[1]


@pytest.mark.parametrize("fusion", ["concat", "product", "gated", "attention"])
def test_the_defaults_learn_an_exclusive_or_of_two_modalities(fusion):
    (X, y), (new, truth) = xor(600, 0), xor(1000, 1)
    model = JointFusionClassifier(fusion=fusion, device="cpu", random_state=0).fit(X, y)
    assert model.score(new, truth) > 0.95


def test_late_fusion_knows_nothing_of_an_exclusive_or():
    (X, y), (new, truth) = xor(600, 0), xor(1000, 1)
    for final in (None, "mean"):
        assert LateFusionStacker(random_state=0, final_estimator=final).fit(X, y).score(new, truth) < 0.6


def test_late_fusion_is_no_worse_where_noisy_evidence_adds_up_and_samples_are_few():
    scores = {"joint": [], "stacked": [], "averaged": []}
    for seed in range(20):
        rng = np.random.default_rng(seed)
        y = rng.integers(0, 2, size=1120)
        X = {}
        for name in "ab":
            direction = rng.normal(size=4)
            direction *= 0.5 / np.linalg.norm(direction)
            X[name] = rng.normal(size=(1120, 4)) + np.outer(2 * y - 1, direction)
        X, new = Modalities(X)[:120], Modalities(X)[120:]
        for name, model in {
            "joint": JointFusionClassifier(device="cpu", random_state=seed),
            "stacked": LateFusionStacker(LogisticRegression()),
            "averaged": LateFusionStacker(LogisticRegression(), "mean"),
        }.items():
            scores[name].append(model.fit(X, y[:120]).score(new, y[120:]))
    assert np.mean(scores["joint"]) > 0.65
    for name in ("stacked", "averaged"):
        assert np.mean(np.subtract(scores[name], scores["joint"])) >= 0


def one_is_easy(n_samples, seed):
    """Both modalities know the class: `a` at a glance, `b` by the sign of a product of two columns."""
    rng = np.random.default_rng(seed)
    y, sign = rng.integers(0, 2, size=n_samples), rng.choice([-1, 1], size=n_samples)
    b = 0.3 * rng.normal(size=(n_samples, 6))
    b[:, 0] += sign
    b[:, 1] += sign * (2 * y - 1)
    return {"a": 0.3 * rng.normal(size=(n_samples, 5)) + (2 * y - 1)[:, None], "b": b}, y


@pytest.mark.parametrize("fusion", ["concat", "attention"])
def test_modality_dropout_makes_the_modality_useful_that_would_be_left_aside(fusion):
    (X, y), (new, truth) = one_is_easy(400, 0), one_is_easy(500, 1)
    score = {}
    for rate in (0.0, 0.5):
        model = classifier(fusion=fusion, modality_dropout=rate, n_hidden=32, n_latent=16, max_epochs=30).fit(X, y)
        assert model.score(new, truth) > 0.99
        score[rate] = model.score({"b": new["b"]}, truth)
    assert score[0.0] < 0.85
    assert score[0.5] > 0.95


@pytest.mark.parametrize("plan", ["curriculum", {"a": 0.5}])
def test_a_plan_helps_the_modality_that_stands_alone_and_costs_little(plan):
    (X, y), (new, truth) = one_is_easy(400, 0), one_is_easy(500, 1)
    options = {"n_hidden": 32, "n_latent": 16, "max_epochs": 30}
    plain, dropped = (classifier(modality_dropout=rate, **options).fit(X, y) for rate in (0.0, plan))
    assert dropped.score({"b": new["b"]}, truth) > plain.score({"b": new["b"]}, truth) + 0.05
    assert dropped.score(new, truth) > plain.score(new, truth) - 0.02


# Encoders by kind


def words(rng, y):
    good, bad = ["soft", "warm", "lovely"], ["itchy", "cheap", "torn"]
    other = ["coat", "dress", "bought", "size", "colour", "the", "a", "it"]
    return [" ".join(rng.permutation([*rng.choice(good if label else bad, 2), *rng.choice(other, 5)])) for label in y]


def counts(rng, y, width):
    rate = np.full((len(y), width), 0.3)
    rate[:, :10] += np.where(y, 2.0, 0.2)[:, None]
    return sparse.csr_matrix(rng.poisson(rate))


def padded(rng, y):
    X = rng.normal(size=(len(y), 12, 2)) + 0.8 * (2 * y - 1)[:, None, None]
    for row, length in enumerate(rng.integers(4, 13, size=len(y))):
        X[row, length:] = np.nan
    return X


KINDS = {
    "table": lambda rng, y: rng.normal(size=(len(y), 5)) + (2 * y - 1)[:, None],
    "narrow counts": lambda rng, y: counts(rng, y, 20),
    "wide counts": lambda rng, y: counts(rng, y, 600),
    "floats in csr": lambda rng, y: counts(rng, y, 20) * 0.37,
    "categories": lambda rng, y: pd.DataFrame(
        {
            "colour": pd.Categorical(np.where(y ^ (rng.random(len(y)) < 0.1), "red", "blue")),
            "age": rng.normal(size=len(y)),
        }
    ),
    "sequence": padded,
    "image": lambda rng, y: rng.normal(size=(len(y), 1, 8, 8)) + 2 * np.eye(8) * (2 * y - 1)[:, None, None, None],
    "volume": lambda rng, y: rng.normal(size=(len(y), 1, 4, 4, 4)) + 0.5 * (2 * y - 1)[:, None, None, None, None],
    "text": words,
    "tokens": lambda rng, y: [text.split() for text in words(rng, y)],
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_learnt_by_its_default_encoder(kind):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, size=300)
    X = Modalities({"m": KINDS[kind](rng, y), "noise": rng.normal(size=(300, 2))})
    assert classifier(max_epochs=20).fit(X[:160], y[:160]).score(X[160:], y[160:]) > 0.8


@pytest.mark.parametrize(("encoder", "width"), [(MLP, 16), (partial(MLP, n_hidden=5), 5)], ids=["class", "partial"])
def test_an_encoder_may_come_as_its_class_and_keeps_what_a_partial_sets(encoder, width):
    X, y = two_classes()
    model = clone(classifier(encoders={"a": encoder}, max_epochs=1)).fit(X, y)
    assert [e.layers[1].out_features for e in model.network_.encoders] == [width, 16]


def test_wide_counts_are_projected_and_narrow_ones_are_not():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, size=100)
    X = {"wide": counts(rng, y, 600), "narrow": counts(rng, y, 20)}
    model = classifier(max_epochs=1).fit(X, y)
    assert [encoder.layers[1].in_features for encoder in model.network_.encoders] == [50, 20]


def test_an_unknown_category_is_no_category():
    frame = pd.DataFrame({"colour": pd.Categorical(["red", "blue"] * 30)})
    model = classifier().fit({"m": frame}, np.arange(60) % 2)
    purple = model.predict_proba({"m": pd.DataFrame({"colour": ["purple"]})})
    assert np.isfinite(purple).all()
    assert model.score({"m": frame}, np.arange(60) % 2) == 1


def test_a_volume_is_taken_by_its_default_encoder_and_by_a_module():
    X = {"scan": np.random.default_rng(0).normal(size=(20, 1, 3, 3, 3))}
    flat = nn.Sequential(nn.Flatten(), nn.Linear(27, 4))
    for encoder, built in (("auto", Conv3d), (flat, Wrapped)):
        model = classifier(encoders={"scan": encoder}, max_epochs=1).fit(X, np.arange(20) % 2)
        assert type(model.network_.encoders[0]) is built
        assert model.transform(X).shape == (20, 8)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"encoders": "mpl"}, ValueError, r"encoders\['a'\] is 'mpl'; due is one of \['conv1d', .*'identity'.*'mlp'"),
        ({"encoders": {"b": 3}}, TypeError, r"encoders\['b'\] is 3; due is one of .*'auto', an nn.Module or a trans"),
        ({"encoders": {"c": "mlp"}}, ValueError, r"encoders names the modalities \['c'\], which X lacks; X has \['a'"),
        (
            {"encoders": {"a": "conv1d"}},
            ValueError,
            "'a' is a 2-D array of numbers, but the encoder 'conv1d' takes a 3",
        ),
        (
            {"encoders": {"a": partial(Conv1d, kernel_size=3)}},
            ValueError,
            r"but the encoder 'Conv1d' takes a 3-D array \(samples, time, channels\). Use 'identity' or 'linear'",
        ),
        ({"encoders": Conv1d}, ValueError, "'a' is a 2-D array of numbers, but the encoder 'Conv1d' takes a 3-D array"),
        ({"encoders": nn.Linear}, TypeError, r"due is one of .* or an encoder class, or functools.partial of one"),
        (
            {"encoders": {"a": partial(nn.Linear, bias=False)}},
            TypeError,
            r"is functools.partial\(.*Linear.*; due is one",
        ),
        (
            {"encoders": {"a": nn.Linear(9, 2)}},
            ValueError,
            r"'a', Linear, does not take its values \(B, 4\) as float32",
        ),
        ({"encoders": {"a": nn.Unflatten(1, (2, 2, 1))}}, ValueError, r"Unflatten, gave \(2, 2, 2, 1\); due is \(B, D"),
        ({"fusion": "stack"}, ValueError, r"fusion is 'stack'; due is one of \['attention', .*'concat', .*'sum'"),
        ({"fusion": 3}, TypeError, r"fusion is 3; due is one of \['attention'.* or an nn.Module"),
        ({"fusion": "zorro", "n_heads": 3}, ValueError, "n_heads=3 does not divide n_latent=8"),
        ({"balance": "equal"}, ValueError, "'balance' parameter"),
        ({"encoders": {"a": "shared"}}, ValueError, "'shared', which is for all modalities at once"),
        ({"fusion": "attention", "n_heads": 3}, ValueError, "n_heads=3 does not divide n_latent=8"),
        ({"device": "gpu"}, ValueError, "device is 'gpu'; due is 'auto' or a torch device such as 'cpu' or 'cuda:0'"),
        ({"device": "cuda:99"}, ValueError, r"device is 'cuda:99', but torch finds (no|\d+) CUDA device"),
        ({"criterion": nn.Identity()}, TypeError, r"criterion is Identity\(\); due is a torch loss with a reduction"),
        ({"optimizer": "sgd"}, ValueError, r"'optimizer' parameter .*must be a str among \{'adamw'\} or a callable"),
    ],
)
def test_parameters_that_make_no_sense_raise_what_is_due(params, error, message):
    X, y = two_classes(20)
    with pytest.raises(error, match=message):
        classifier(**params).fit(X, y)


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has one")
def test_a_device_that_torch_does_not_find_raises():
    with pytest.raises(ValueError, match="device is 'mps', but torch finds no MPS device here; use device='auto'"):
        classifier(device="mps").fit(*two_classes(20))


@pytest.mark.parametrize("name", ["fusion", "global"])
def test_a_modality_must_not_be_called_like_a_head(name):
    X, y = two_classes(20)
    with pytest.raises(ValueError, match=f"a modality is called '{name}', which is the name of a head; rename it"):
        classifier().fit({"a": X["a"], name: X["b"]}, y)


# Modules and transformers as encoders


def module(width=4, out=6):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(width, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, out))


def test_a_module_is_copied_and_trained_and_the_one_handed_in_stays_as_it_was():
    X, y = two_classes(65)  # the last of batches of 64 would hold one sample, which batch normalisation refuses
    handed_in = module().eval()
    before = copy.deepcopy(handed_in.state_dict())
    model = classifier(encoders={"a": handed_in}, max_epochs=20, batch_size=64, callbacks=[Watch()]).fit(X, y)
    start = watch(model).start_
    assert all(torch.equal(start[f"encoders.0.module.{key}"], before[key]) for key in before)
    assert distance(model.network_.encoders[0].module.state_dict(), before) > 0.01
    assert all(torch.equal(handed_in.state_dict()[key], before[key]) for key in before)
    assert all(parameter.grad is None for parameter in handed_in.parameters())
    assert not handed_in.training
    assert model.embed(X, "a").shape == (65, 6)
    assert model.score(X, y) > 0.9


def test_a_module_may_give_tokens():
    class Steps(nn.Module):
        def __init__(self):
            super().__init__()
            self.map = nn.Linear(2, 5)

        def forward(self, x):
            return self.map(x)  # (B, T, 5)

    X = np.random.default_rng(0).normal(size=(30, 6, 2))
    X[::3, 4:] = np.nan
    model = classifier(encoders=Steps(), scale=False, max_epochs=1).fit({"m": X}, np.arange(30) % 2)
    with torch.no_grad():
        steps = model.network_.encoders[0].module(torch.tensor(np.nan_to_num(X), dtype=torch.float32)).numpy()
    expected = [row[: 4 if i % 3 == 0 else 6].mean(axis=0) for i, row in enumerate(steps)]
    np.testing.assert_allclose(model.embed({"m": X}, "m"), expected, atol=1e-5)


def test_a_module_may_be_the_fusion():
    from skfusion.fusion import Concat

    X, y = two_classes()
    fusion = Concat({"a": 8, "b": 8}, 8)
    before = copy.deepcopy(fusion.state_dict())
    assert classifier(fusion=fusion).fit(X, y).score(X, y) > 0.9
    assert all(torch.equal(fusion.state_dict()[key], before[key]) for key in before)


@pytest.mark.parametrize("extractor", [PCA(2), LinearDiscriminantAnalysis()])
def test_a_transformer_is_fitted_on_the_training_data_and_its_features_enter_raw(extractor):
    X, y = two_classes()
    model = classifier(encoders={"a": extractor}, max_epochs=1).fit(X, y)
    expected = clone(extractor).fit(X["a"], y).transform(X["a"])
    np.testing.assert_allclose(model.embed(X, "a"), expected, atol=1e-5)
    assert not list(model.network_.encoders[0].parameters())
    assert not hasattr(extractor, "n_features_in_")


# Early stopping


def test_early_stopping_stops_and_restores_the_weights_of_the_lowest_validation_loss():
    rng = np.random.default_rng(0)
    X, y = two_classes(150, distance=0.3)
    y = np.where(rng.random(150) < 0.3, 1 - y, y)
    model = classifier(
        early_stopping=True, n_iter_no_change=5, label_smoothing=0.0, max_epochs=60, lr=0.05, callbacks=[Watch()]
    ).fit(X, y)
    losses = model.history_[:, "valid_loss"]
    held_out = watch(model).valid_.rows.numpy()
    found = log_loss(y[held_out], model.predict_proba(rows(X, held_out)))
    assert len(losses) < 60
    assert losses[-1] > min(losses) + 1e-3
    assert found == pytest.approx(min(losses), rel=1e-5)
    assert len(losses) - 1 - int(np.argmin(losses)) == 5


def test_what_is_held_out_is_as_asked_for_and_stratified():
    X, _ = two_classes(100)
    y = (np.arange(100) % 5 == 0).astype(int)
    model = classifier(early_stopping=True, validation_fraction=0.2, max_epochs=1, callbacks=[Watch()]).fit(X, y)
    train, held_out = (part.rows.numpy() for part in (watch(model).train_, watch(model).valid_))
    assert sorted([*train, *held_out]) == list(range(100))
    assert np.bincount(y[held_out]).tolist() == [16, 4]


def test_groups_are_held_out_whole():
    X, y = two_classes(100)
    groups = np.random.default_rng(0).permutation(np.arange(100) % 10)
    model = classifier(early_stopping=True, validation_fraction=0.2, max_epochs=1, callbacks=[Watch()])
    model.fit(X, y, groups=groups)
    train, held_out = (set(groups[part.rows.numpy()]) for part in (watch(model).train_, watch(model).valid_))
    assert len(held_out) == 2
    assert not train & held_out


@pytest.mark.parametrize("reason", ["few samples", "a class of one", "one group", "more classes than places"])
def test_nothing_is_held_out_silently_where_it_cannot_be(reason):
    X, y = two_classes(49 if reason == "few samples" else 80)
    fit_params = {}
    if reason == "a class of one":
        y[0] = 2
    elif reason == "one group":
        fit_params = {"groups": np.zeros(80)}
    elif reason == "more classes than places":
        y = np.arange(80) % 20
    model = classifier(early_stopping=True, max_epochs=2, callbacks=[Watch()]).fit(X, y, **fit_params)
    assert watch(model).valid_ is None
    assert "valid_loss" not in model.history_[-1]
    assert len(model.history_) == 2


def test_a_regressor_stops_early_as_well():
    X, y = linear(150, noise=2)
    model = regressor(early_stopping=True, n_iter_no_change=3, max_epochs=60, lr=0.05, callbacks=[Watch()]).fit(X, y)
    held_out = watch(model).valid_.rows.numpy()
    loss = np.mean((model.predict(rows(X, held_out)) - y[held_out]) ** 2) / y.var()
    assert len(model.history_) < 60
    assert loss == pytest.approx(min(model.history_[:, "valid_loss"]), rel=1e-4)


# Weights


def test_balanced_class_weights_help_the_rare_class():
    def draw(seed):
        rng = np.random.default_rng(seed)
        y = (np.arange(400) % 20 == 0).astype(int)
        return {"a": rng.normal(size=(400, 3)) + y[:, None], "b": rng.normal(size=(400, 2)) + y[:, None]}, y

    (X, y), (new, truth) = draw(0), draw(1)
    recall = {
        weight: recall_score(truth, classifier(class_weight=weight).fit(X, y).predict(new))
        for weight in (None, "balanced")
    }
    assert recall["balanced"] > recall[None] + 0.3
    by_hand = classifier(class_weight={0: 400 / 760, 1: 400 / 40}).fit(X, y)
    balanced = classifier(class_weight="balanced").fit(X, y)
    np.testing.assert_allclose(by_hand.predict_proba(new), balanced.predict_proba(new), atol=1e-6)


@pytest.mark.parametrize("make", [classifier, regressor])
def test_samples_of_little_weight_teach_little(make):
    X, y = two_classes(200)
    wrong = np.arange(200) < 120
    taught = np.where(wrong, 1 - y, y)
    model = make(max_epochs=20).fit(X, taught, sample_weight=np.where(wrong, 0.01, 1.0))
    assert np.mean((model.predict(X) > 0.5) == y) > 0.9


def test_a_weight_of_2_is_the_sample_twice_in_a_full_batch():
    X, y = two_classes(60)
    twice = np.r_[np.arange(60), np.arange(20)]
    model = classifier(dropout_rate=0.0, scale=False, batch_size=80, max_epochs=5, **PLAIN)
    weighted = clone(model).fit(X, y, sample_weight=np.where(np.arange(60) < 20, 2.0, 1.0))
    repeated = clone(model).fit(rows(X, twice), y[twice])
    np.testing.assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), atol=1e-5)
    assert np.abs(clone(model).fit(X, y).predict_proba(X) - repeated.predict_proba(X)).max() > 1e-3


# Several outputs


def test_several_targets_of_classes_give_a_list_of_probabilities():
    X, first = two_classes(200)
    second = np.array(["low", "middle", "high"])[np.digitize(X["a"][:, 0] - X["b"][:, 0], (-2, 2))]
    y = np.stack([np.array(["no", "yes"])[first], second], axis=1)
    model = classifier(max_epochs=30).fit(X, y)
    assert [list(c) for c in model.classes_] == [["no", "yes"], ["high", "low", "middle"]]
    probabilities = model.predict_proba(X)
    assert [p.shape for p in probabilities] == [(200, 2), (200, 3)]
    for p in probabilities:
        np.testing.assert_allclose(p.sum(axis=1), 1)
    found = model.predict(X)
    assert found.shape == (200, 2)
    assert (found == y).mean(axis=0).min() > 0.9
    nothing = {name: np.full((1, values.shape[1]), np.nan) for name, values in X.items()}
    np.testing.assert_allclose(model.predict_proba(nothing)[1][0], [np.mean(second == c) for c in model.classes_[1]])


def test_labels_that_exclude_nothing_are_learnt_together():
    X, first = two_classes(200)
    y = np.stack([first, 1 - first, X["a"][:, 0] > 0], axis=1).astype(int)
    assert classifier(max_epochs=30).fit(X, y).score(X, y) > 0.85


def test_several_numbers_are_predicted_on_their_own_scales():
    X, y = linear(200)
    both = np.stack([y, -1000 * y + 7], axis=1)
    model = regressor(max_epochs=40).fit(X, both)
    assert model.predict(X).shape == (200, 2)
    assert r2_score(both, model.predict(X), multioutput="raw_values").min() > 0.9
    assert model.fit(X, y).predict(X).shape == (200,)


# Losses, optimizers, schedules


def test_a_criterion_of_one_s_own_is_what_is_minimised():
    X = {"a": np.zeros((90, 2))}
    y = np.where(np.arange(90) % 3 == 0, 100.0, 0.0)  # mean 33, median 0
    found = {}
    for criterion in (None, nn.L1Loss(), nn.L1Loss):
        model = regressor(criterion=criterion, encoders="identity", batch_size=90, max_epochs=300, lr=0.03)
        found[str(criterion)] = model.fit(X, y).predict(X)[0]
    assert found["None"] == pytest.approx(100 / 3, abs=1)
    assert found["L1Loss()"] == pytest.approx(0, abs=2)
    assert found["L1Loss()"] == found[str(nn.L1Loss)]


def test_a_criterion_for_classes_is_copied_and_takes_the_logits():
    X, y = two_classes()
    criterion = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 50.0]))
    model = classifier(criterion=criterion).fit(X, np.where(np.arange(120) % 2, y, 0))
    assert criterion.reduction == "mean"
    assert model.predict(X).mean() > 0.4


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        ("adamw", {"lr": 0.02, "weight_decay": 0.3, "fused": True}),
        (torch.optim.SGD, {"lr": 0.02, "weight_decay": 0.3, "momentum": 0}),
        (partial(torch.optim.SGD, momentum=0.9, lr=0.5), {"lr": 0.5, "weight_decay": 0.3, "momentum": 0.9}),
        (partial(torch.optim.Adam, weight_decay=0.0), {"lr": 0.02, "weight_decay": 0.0}),
        (torch.optim.Rprop, {"lr": 0.02}),
        (torch.optim.Adagrad, {"lr": 0.02, "weight_decay": 0.3}),
    ],
)
@pytest.mark.parametrize("scheduler", [None, "one_cycle"])
def test_any_torch_optimizer_gets_the_parameters_that_it_knows(optimizer, expected, scheduler):
    X, y = two_classes()
    model = classifier(
        optimizer=optimizer, scheduler=scheduler, lr=0.02, weight_decay=0.3, max_epochs=2, callbacks=[WatchBatches()]
    ).fit(X, y)
    group = model.net_.optimizer_.param_groups[0]
    if scheduler is None:
        assert {key: group[key] for key in expected} == expected
    assert len(model.history_) == 2
    assert max(watch(model).batch_rates_) <= expected["lr"] + 1e-12
    assert distance(watch(model).start_, weights_of(model)) > 0


def test_weight_decay_shrinks_weights():
    X, y = two_classes()
    size = {
        decay: sum(float(w.square().sum()) for w in weights_of(classifier(weight_decay=decay).fit(X, y)).values())
        for decay in (0.0, 1.0)
    }
    assert size[1.0] < 0.9 * size[0.0]


def test_one_cycle_rises_to_the_learning_rate_and_falls_to_nothing():
    X, y = two_classes(128)
    model = classifier(batch_size=32, max_epochs=10, lr=0.01, callbacks=[WatchBatches()]).fit(X, y)
    rates = watch(model).batch_rates_
    assert len(rates) == 40
    assert rates[0] == pytest.approx(0.01 / 25)
    assert max(rates) == pytest.approx(0.01, rel=0.01)
    assert 10 <= int(np.argmax(rates)) <= 13
    assert rates[-1] < 1e-6


def test_a_schedule_steps_an_epoch_unless_it_is_one_that_steps_a_batch():
    X, y = two_classes(128)
    options = {"batch_size": 32, "lr": 0.04, "callbacks": [WatchBatches()]}
    epochs = classifier(scheduler=partial(StepLR, step_size=2, gamma=0.5), max_epochs=5, **options).fit(X, y)
    np.testing.assert_allclose(watch(epochs).rates_, [0.04, 0.04, 0.02, 0.02, 0.01])
    cyclic = partial(CyclicLR, base_lr=0.01, max_lr=0.03, step_size_up=2, cycle_momentum=False)
    batches = classifier(scheduler=cyclic, max_epochs=2, **options).fit(X, y)
    np.testing.assert_allclose(watch(batches).batch_rates_, [0.01, 0.02, 0.03, 0.02] * 2, rtol=1e-6)
    constant = classifier(scheduler=None, max_epochs=2, **options).fit(X, y)
    np.testing.assert_allclose(watch(constant).batch_rates_, 0.04)


def test_a_plateau_lowers_the_learning_rate():
    X, _ = two_classes(64)
    plateau = partial(ReduceLROnPlateau, patience=0, factor=0.1, threshold=1.0, threshold_mode="abs")
    model = classifier(scheduler=plateau, max_epochs=4, lr=0.01, callbacks=[Watch()]).fit(X, np.arange(64) % 2)
    np.testing.assert_allclose(watch(model).rates_, [0.01, 0.01, 1e-3, 1e-4])


# Callbacks of skorch


def test_history_of_batches_exists_only_where_a_callback_watches_batches():
    X, y = two_classes(100)
    without = classifier(batch_size=32, max_epochs=3, callbacks=[Watch()]).fit(X, y)
    watched = classifier(batch_size=32, max_epochs=3, callbacks=[WatchBatches()]).fit(X, y)
    assert [row["batches"] for row in without.history_.to_list()] == [[], [], []]
    losses = watched.history_[:, "batches", :, "train_loss"]
    assert np.shape(losses) == (3, 4)
    np.testing.assert_allclose(np.ravel(losses), watch(watched).losses_)
    sizes = watched.history_[:, "batches", :, "train_batch_size"]
    assert np.ravel(sizes).tolist() == watch(watched).sizes_ == [32, 32, 32, 4] * 3
    np.testing.assert_allclose(
        watched.history_[:, "train_loss"], np.average(losses, axis=1, weights=sizes[0]), rtol=1e-5
    )
    assert distance(weights_of(without), weights_of(watched)) == 0


def test_early_stopping_of_skorch_is_taken():
    X, y = two_classes(100)
    stop = EarlyStopping(monitor="train_loss", patience=2, threshold=10, threshold_mode="abs", sink=str)
    model = classifier(max_epochs=20, callbacks=[("stop", stop)]).fit(X, y)
    assert len(model.history_) == 3
    assert not hasattr(stop, "best_epoch_")


def test_a_schedule_of_skorch_is_taken():
    X, y = two_classes(100)
    rates = LRScheduler(policy=StepLR, step_size=1, gamma=0.5)
    model = classifier(scheduler=None, max_epochs=3, lr=0.04, callbacks=[rates, Watch()]).fit(X, y)
    np.testing.assert_allclose(watch(model).rates_, [0.04, 0.02, 0.01])
    np.testing.assert_allclose(model.history_[:, "event_lr"], [0.04, 0.02, 0.01])


def test_gradients_are_clipped_before_the_step():
    X, y = two_classes(100)
    largest = {}
    for name, callbacks in {"free": [], "clipped": [GradientNormClipping(0.05)]}.items():
        model = classifier(max_epochs=2, callbacks=[*callbacks, WatchBatches()], **{**PLAIN, "lr": 0.1}).fit(X, y)
        largest[name] = max(watch(model).norms_)
    assert largest["free"] > 0.1
    assert largest["clipped"] == pytest.approx(0.05, rel=1e-3)


# Going on


def test_partial_fit_learns_epoch_by_epoch():
    X, y = two_classes(200, distance=0.5)
    model = classifier(optimizer=torch.optim.SGD, lr=0.05, dropout_rate=0.0)
    losses = [log_loss(y, model.partial_fit(X, y).predict_proba(X)) for _ in range(12)]
    assert losses[0] > losses[1] > losses[2] > losses[3]
    assert losses[-1] < losses[0] - 0.2
    assert model.n_iter_ == 12


def test_partial_fit_takes_classes_and_numbers_a_part_at_a_time():
    X, y = two_classes(200)
    names = np.array(["no", "yes"])[y]
    model = classifier()
    for _ in range(10):
        for part in np.array_split(np.argsort(y), 4):
            model.partial_fit(rows(X, part), names[part], classes=["yes", "no"])
    assert model.classes_.tolist() == ["no", "yes"]
    with pytest.raises(ValueError, match=r"y holds classes unknown before: \['maybe'\]; known are \['no' 'yes'\]"):
        model.partial_fit(rows(X, [0]), ["maybe"])
    X, y = linear()
    model = regressor(lr=0.01)
    for _ in range(15):
        for part in np.array_split(np.arange(200), 2):
            model.partial_fit(rows(X, part), y[part])
    assert model.score(X, y) > 0.8
    with pytest.raises(ValueError, match="y has 2 outputs; due are 1, as before"):
        model.partial_fit(X, np.stack([y, y], axis=1))


def test_partial_fit_after_fit_learns_at_the_learning_rate_not_where_the_schedule_ended():
    X, y = two_classes()
    model = classifier(max_epochs=5, lr=0.01, callbacks=[WatchBatches()]).fit(X, y)
    before = weights_of(model)
    model.partial_fit(X, 1 - y)
    np.testing.assert_allclose(watch(model).batch_rates_, 0.01)
    assert distance(before, weights_of(model)) > 0.01
    assert model.net_.optimizer_.param_groups[0]["betas"] == (0.9, 0.999)


def test_samples_to_go_on_with_may_lack_a_modality():
    X, y = two_classes()
    model = classifier(max_epochs=2).fit(X, y)
    mean = model.embedding_means_["b"]
    model.partial_fit({"a": X["a"]}, y)
    np.testing.assert_array_equal(model.embed({"a": X["a"]}, "b")[0], mean)
    assert np.isfinite(model.predict_proba(X)).all()


@pytest.mark.parametrize("schedule", [{}, {"scheduler": None}])
def test_a_warm_start_goes_on_from_the_weights(schedule):
    X, y = two_classes(150, distance=0.6)
    model = classifier(warm_start=True, max_epochs=3, callbacks=[Watch()], **schedule).fit(X, y)
    first, loss = weights_of(model), model.history_[-1]["train_loss"]
    before = copy.deepcopy(model)
    model.fit(X, y)
    assert all(torch.equal(watch(model).start_[key], first[key]) for key in first)
    assert model.n_iter_ == 6
    assert model.history_[-1]["train_loss"] < loss - 0.01
    assert distance(weights_of(before), first) == 0
    cold = classifier(max_epochs=3, **schedule).fit(X, y).fit(X, y)
    assert cold.n_iter_ == 3
    assert distance(weights_of(cold), first) == 0


@pytest.mark.parametrize("go_on", ["fit", "partial_fit"])
def test_what_fails_while_going_on_leaves_the_network_as_it_was(go_on):
    class Fails(Callback):
        def on_epoch_end(self, net, **kwargs):
            if len(net.history) > 2:
                raise RuntimeError("the disk is full")

    X, y = two_classes()
    model = classifier(warm_start=True, max_epochs=2, callbacks=[Fails()]).fit(X, y)
    net, weights, expected = model.net_, weights_of(model), model.predict_proba(X)
    with pytest.raises(RuntimeError, match="the disk is full"):
        getattr(model, go_on)(X, y)
    assert model.net_ is net
    assert distance(weights_of(model), weights) == 0
    assert model.n_iter_ == 2
    np.testing.assert_array_equal(model.predict_proba(X), expected)


def test_a_warm_start_on_classes_unknown_before_raises():
    X, y = two_classes()
    model = classifier(warm_start=True, max_epochs=1).fit(X, y)
    with pytest.raises(ValueError, match=r"y holds classes unknown before: \[2\]"):
        model.fit(X, y + 1)


# Divergence


@pytest.mark.parametrize("max_epochs", [1, 3])
def test_training_that_diverges_raises_what_to_do_and_keeps_the_old_fit(max_epochs):
    X, y = two_classes(40)
    model = classifier(**{**PLAIN, "max_epochs": 2}).fit(X, y)
    expected = model.predict_proba(X)
    with pytest.raises(ValueError, match=r"training diverged: .*Use a smaller lr \(it is 1e\+38\), or scale=True"):
        model.set_params(lr=1e38, max_epochs=max_epochs, batch_size=40).fit(X, y)
    np.testing.assert_array_equal(model.predict_proba(X), expected)


# Pretrained


def another_fit(X, y):
    return classifier(max_epochs=5, random_state=7).fit({"a": X["a"] * 3 + 10}, y)


def test_a_frozen_pretrained_network_gives_encoders_and_scaling_and_stays_as_it_was():
    X, y = two_classes()
    source = another_fit(X, y)
    before = weights_of(source)
    model = classifier(pretrained=FrozenEstimator(source), callbacks=[Watch()], max_epochs=3).fit(X, y)
    start = watch(model).start_
    theirs = source.network_.encoders[0].state_dict()
    assert all(torch.equal(start[f"encoders.0.{key}"], theirs[key]) for key in theirs)
    assert distance(model.network_.encoders[0].state_dict(), theirs) > 0
    assert distance(weights_of(source), before) == 0
    assert model.preprocessors_["a"] is source.preprocessors_["a"]
    assert start["encoders.1.layers.1.weight"].shape == (16, 3)


def test_a_pretrained_shared_encoder_is_handed_over():
    X, y = two_classes()
    source = classifier(encoders="shared", fusion="early_concat", max_epochs=2).fit({"a": X["a"]}, y)
    before = copy.deepcopy(source.network_.trunk.state_dict())
    frozen = {"pretrained": FrozenEstimator(source), "fusion": "early_concat", "encoders": "shared"}
    model = classifier(**frozen, lr=1e-9, weight_decay=0.0, max_epochs=1).fit(X, y)
    for name, tensor in model.network_.trunk.state_dict().items():
        torch.testing.assert_close(tensor, before[name])
    assert model.network_.trunk is not source.network_.trunk
    with pytest.raises(
        ValueError, match=r"modalities \['b'\] have tokens 12 wide, but the shared .* takes 8; set n_lat"
    ):
        classifier(**frozen, n_latent=12).fit(X, y)


def test_a_pretrained_network_that_is_not_frozen_is_fitted_again_on_the_training_data():
    X, y = two_classes()
    source = another_fit(X, y)
    model = classifier(pretrained=source, callbacks=[Watch()], max_epochs=1).fit(X, y)
    refitted = clone(source).fit(X, y)
    theirs = refitted.network_.encoders[0].state_dict()
    assert all(torch.equal(watch(model).start_[f"encoders.0.{key}"], theirs[key]) for key in theirs)
    assert distance(theirs, source.network_.encoders[0].state_dict()) > 0.01
    np.testing.assert_allclose(model.preprocessors_["a"].transformer[0].scaler_.mean_, X["a"].mean(axis=0))


# Objectives


class Small(nn.Module):
    """Keeps embeddings small, of the samples as they are or of a view in which one modality is hidden."""

    when = "any"

    def __init__(self, factor, hide=False):
        super().__init__()
        self.factor, self.hide = factor, hide
        self.seen = []

    def views(self, batch, generator=None):
        if not self.hide:
            return {"clean": batch}
        present = batch.present.clone()
        present[:, 0] = False
        return {"half": Batch(batch.modalities, present)}

    def loss(self, outputs, batch, context):
        self.seen.append((context.epoch, len(context.index), context.network))
        (output,) = outputs.values()
        return {"loss": self.factor * output.fused.square().mean()}


@pytest.mark.parametrize("hide", [False, True])
def test_objectives_are_added_to_the_loss(hide):
    X, y = two_classes()
    plain = classifier(**PLAIN).fit(X, y)
    objective = Small(10.0, hide)
    model = classifier(objectives=[objective], **PLAIN).fit(X, y)
    assert np.square(model.transform(X)).mean() < 0.5 * np.square(plain.transform(X)).mean()
    trained = model.net_.criterion_[1]
    assert not objective.seen
    assert [epoch for epoch, _, _ in trained.seen] == [e for e in range(15) for _ in range(4)]
    assert trained.seen[0][2] is model.network_
    still = classifier(objectives=[Small(0.0)], **PLAIN).fit(X, y)
    assert distance(weights_of(still), weights_of(plain)) < 1e-6


def test_the_validation_loss_is_the_supervised_one_alone():
    X, y = two_classes(100)
    options = {"early_stopping": True, "max_epochs": 1, **PLAIN, "lr": 1e-9}
    plain = classifier(**options).fit(X, y)
    model = classifier(objectives=[Small(1000.0)], **options).fit(X, y)
    assert model.history_[0]["train_loss"] > plain.history_[0]["train_loss"] + 10
    assert model.history_[0]["valid_loss"] == pytest.approx(plain.history_[0]["valid_loss"], rel=1e-4)


# Embeddings


def test_every_head_is_an_embedding():
    X, y = two_classes()
    model = classifier(encoders={"b": "identity"}).fit(X, y)
    assert {head: model.embed(X, head).shape[1] for head in ("a", "b", "fusion", "global")} == {
        "a": 8,
        "b": 3,
        "fusion": 8,
        "global": 8,
    }
    np.testing.assert_array_equal(model.transform(X), model.embed(X, "fusion"))
    assert model.get_feature_names_out().tolist() == [f"jointfusionclassifier{i}" for i in range(8)]
    with pytest.raises(ValueError, match=r"head is 'c'; due is one of \['a', 'b', 'fusion', 'global'\]"):
        model.embed(X, "c")


def test_predictions_are_a_linear_map_of_the_fused_embedding():
    X, y = two_classes()
    model = classifier().fit(X, y)
    head = model.network_.head
    logits = model.transform(X) @ head.weight.detach().numpy().T + head.bias.detach().numpy()
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.predict_proba(X), expected, atol=1e-6)


def test_the_head_of_a_modality_is_the_training_mean_where_it_is_missing():
    X, y = two_classes()
    X["b"][::3] = np.nan
    model = classifier(max_epochs=2).fit(X, y)
    there = ~np.isnan(X["b"][:, 0])
    embedding = model.embed(X, "b")
    np.testing.assert_allclose(embedding[~there], np.tile(embedding[there].mean(axis=0), (40, 1)), rtol=1e-4, atol=1e-6)
    assert embedding[there].std(axis=0).min() > 0


# Scaling


@pytest.mark.parametrize("scale", [True, False])
def test_scaling_can_be_switched_off(scale):
    X, y = two_classes()
    X = {"a": X["a"] * 100 + 7, "b": sparse.csr_matrix(np.random.default_rng(0).poisson(2, size=(120, 5)))}
    found = classifier(encoders="identity", scale=scale, max_epochs=1).fit(X, y)
    a, b = found.embed(X, "a"), found.embed(X, "b")
    if scale:
        np.testing.assert_allclose(a, StandardScaler().fit_transform(X["a"]), atol=1e-4)
        np.testing.assert_allclose(b.std(axis=0), 1, atol=1e-4)
    else:
        np.testing.assert_allclose(a, X["a"], rtol=1e-5)
        np.testing.assert_array_equal(b, X["b"].toarray())


def test_a_target_is_standardised_inside():
    X, y = linear()
    model = regressor(max_epochs=40)
    scores = [clone(model).fit(X, target).score(X, target) for target in (y, 1e6 * y - 1e8)]
    assert scores[0] > 0.9
    assert scores[1] == pytest.approx(scores[0], abs=1e-3)


# Progress, devices, pickles


def test_verbose_1_shows_a_bar_and_silence_is_the_default(capsys):
    X, y = two_classes(40)
    model = classifier(max_epochs=3, early_stopping=True).fit(X, y)
    assert capsys.readouterr() == ("", "")
    model.set_params(verbose=1).fit(X, y)
    out, err = capsys.readouterr()
    assert out == ""
    assert "0/3" in err
    assert "train_loss=" in err
    pickle.dumps(model)


def test_verbose_2_prints_a_line_an_epoch(capsys):
    classifier(max_epochs=3, verbose=2).fit(*two_classes(40))
    out = capsys.readouterr().out
    assert "train_loss" in out
    assert len(out.strip().splitlines()) == 5


def test_auto_takes_the_best_device_there_is():
    model = classifier(device="auto", max_epochs=1).fit(*two_classes(20))
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert next(model.network_.parameters()).device.type == best


@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_pickle_holds_the_weights_once(early_stopping):
    X, y = two_classes(60)
    model = classifier(n_hidden=4096, early_stopping=early_stopping, max_epochs=2, **PLAIN).fit(X, y)
    size = sum(parameter.nbytes for parameter in model.network_.parameters())
    assert size < len(pickle.dumps(model)) < 1.1 * size
    moments = classifier(n_hidden=4096, early_stopping=early_stopping, max_epochs=2).fit(X, y)
    assert len(pickle.dumps(moments)) < 3.1 * size  # AdamW's two moments, so that training can go on


def test_a_pickle_goes_on_as_the_original_does():
    X, y = two_classes()
    model = classifier(max_epochs=3).fit(X, y)
    copied = pickle.loads(pickle.dumps(model))
    assert distance(weights_of(model.partial_fit(X, y)), weights_of(copied.partial_fit(X, y))) == 0


@pytest.mark.parametrize(("n_samples", "expected"), [(60, 32), (3000, 128), (20_000, 512), (10**6, 1024)])
def test_batches_grow_with_the_samples(n_samples, expected):
    assert batch_size("auto", n_samples, n_batches=30, smallest=32) == expected
    assert batch_size(7, n_samples, n_batches=30, smallest=32) == 7


def test_the_penalty_closes_the_gates_of_noise_and_leaves_that_of_a_signal():
    rng = np.random.default_rng(0)
    y = np.arange(300) % 3
    X = {f"noise {k}": rng.normal(size=(300, 6)) for k in range(2)}
    X["signal"] = rng.normal(size=(300, 6)) + 2 * np.eye(3, 6)[y]
    share = {}
    for penalty in (0.0, 0.1):
        model = JointFusionClassifier(fusion=partial(Select, penalty=penalty), n_hidden=32, n_latent=16, random_state=0)
        gates = model.fit(X, y).network_.fusion.gates.detach()
        share[penalty] = (gates[:2].abs().max() / gates[2]).item()
    assert share[0.1] < 0.02 < 0.1 < share[0.0]
