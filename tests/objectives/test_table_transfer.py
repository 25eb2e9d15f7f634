"""A table teaches an image's network: which channels a column sees, what that costs, and what predict needs of it."""

import pickle
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from skfusion import JointFusionClassifier, JointFusionRegressor, Modalities
from skfusion.encoders import FeatureTokenizer, Patch2d
from skfusion.encoders.batch import Batch, ModalityBatch
from skfusion.fusion import FusionNetwork, Primary
from skfusion.objectives import OBJECTIVES, Context, Setting, Supervised, TableTransfer, channels, table_transfer
from skfusion.objectives.channels import channel_groups, similarities, transport_cost, visible_channels
from skfusion.objectives.table_transfer import category_loss

SMALL = {"n_latent": 8, "n_hidden": 16, "dropout_rate": 0.1, "max_epochs": 2, "device": "cpu", "random_state": 0}


# Who sees what: pure functions


def planted(seed=0, n=60, n_noise=2):
    """Maps (n, 4, 18) of three groups of six channels, one after the other, and columns, the first a group each.

    The tokens (n, F, 8) of a column are its value times one vector; the last `n_noise` columns are noise.
    """
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    levels = normal(n, 3)
    pattern = normal(3, 4)
    group = torch.arange(3).repeat_interleave(6)
    maps = (levels.unsqueeze(-1) * pattern)[:, group].transpose(1, 2) + 0.3 * normal(n, 4, 18)
    values = torch.cat([2 * levels[:, [2, 0, 1]] - 0.5, normal(n, n_noise)], 1)
    columns = values.unsqueeze(-1) * normal(3 + n_noise, 8) + 0.1 * normal(3 + n_noise, 8)
    return maps, columns, group, torch.tensor([2, 0, 1])


@pytest.mark.parametrize("n_noise", [0, 2, 5])
@pytest.mark.parametrize("seed", range(4))
def test_a_column_sees_the_channels_that_it_is_a_linear_function_of(seed, n_noise):
    maps, columns, group, seen_by = planted(seed, n_noise=n_noise)
    found = visible_channels(maps, columns, 3)[:3]
    truth = seen_by.unsqueeze(1) == group
    overlap = (found & truth).sum(1) / (found | truth).sum(1)
    assert found.dtype == torch.bool
    assert overlap.mean() > 0.8


def test_the_plan_has_uniform_sums_and_few_entries(monkeypatch):
    plans = []
    monkeypatch.setattr(channels, "exact_plan", lambda cost: plans.append(plan_of(cost)) or plans[-1])
    maps, columns, *_ = planted()
    for n_clusters in (2, 5, 7, 40):
        visible_channels(maps, columns, n_clusters)
    for plan, k in zip(plans, (2, 5, 7, 18)):
        assert plan.shape == (5, k)
        np.testing.assert_allclose(plan.sum(1), 1 / 5, atol=1e-9)
        np.testing.assert_allclose(plan.sum(0), 1 / k, atol=1e-9)
        assert (plan > 0).sum() <= 5 + k - 1


plan_of = channels.exact_plan


def test_the_cost_is_that_of_similarities_written_out():
    maps, columns, *_ = planted(n=7)
    centres = maps.permute(2, 0, 1)[:4]  # (k, n, T)
    found = transport_cost(columns.transpose(0, 1), centres)
    for r in range(5):
        for c in range(4):
            x, z = columns[:, r], centres[c]
            x, z = x / x.norm(), z / z.norm()
            torch.testing.assert_close(found[r, c], (x @ x.T - z @ z.T).square().sum(), rtol=1e-10, atol=1e-10)
    many = columns.transpose(0, 1).repeat(30, 1, 1)
    torch.testing.assert_close(transport_cost(many, centres), found.repeat(30, 1))
    assert not similarities(torch.zeros(2, 3, 4)).any()
    assert similarities(columns.transpose(0, 1)).diagonal(dim1=1, dim2=2).sum(1).allclose(torch.ones(5).double())


def test_a_similarity_knows_no_scale_and_no_rotation():
    maps, columns, *_ = planted()
    turned = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))[0]
    assert torch.equal(visible_channels(7 * maps, columns @ turned * 3, 5), visible_channels(maps, columns, 5))


def test_channels_are_grouped_by_their_maps():
    maps, _, group, _ = planted()
    flat = maps.permute(2, 0, 1).flatten(1)
    found = channel_groups(flat, 3)
    assert torch.equal(found[:, None] == found, group[:, None] == group)
    assert torch.equal(channel_groups(flat, 3), found)
    assert torch.equal(channel_groups(flat, 18).sort().values, torch.arange(18))
    assert torch.equal(channel_groups(flat, 1000).sort().values, torch.arange(18))
    assert channel_groups(flat, 1).unique().tolist() == [0]


def test_channels_that_are_alike_or_silent_make_one_group():
    flat = torch.tensor([[0.0, 0.0], [1.0, 2.0], [0.0, 0.0], [1.0, 2.0], [5.0, 5.0]])
    found = channel_groups(flat, 4)
    assert torch.equal(found[:, None] == found, torch.cdist(flat, flat) == 0)
    assert not channel_groups(torch.zeros(6, 3), 4).any()
    seen = visible_channels(torch.zeros(4, 2, 6), torch.randn(4, 3, 2))
    assert seen.all()


# The loss


def parts(n=6, groups=(0, 1, 2, 2, 2), n_out=3, head=True, **options):
    """An objective that is prepared for a network of images (1, 4, 4) and a table of two numbers and a category."""
    torch.manual_seed(0)
    n_in, n_features = len(groups), max(groups) + 1
    encoders = {
        "table": FeatureTokenizer((n_in,), 5, groups=list(groups), dropout_rate=0.0),
        "image": Patch2d((1, 4, 4), 6, patch_size=2),
    }
    widths = {"table": 5, "image": 6, "fusion": 6, "global": 6}
    fusion = Primary({"table": 5, "image": 6}, 6, modality="image")
    network = FusionNetwork(encoders, fusion, nn.Linear(6, n_out), n_classes=[3] if n_out == 3 else None)
    objective = TableTransfer(**options)
    objective.prepare(Setting(network, {"table": (n_in,), "image": (1, 4, 4)}, widths, {"table": list(groups)}))
    numbers = torch.randn(n, groups.count(0) + groups.count(1))
    table = torch.cat([numbers, F.one_hot(torch.arange(n) % 3, 3)], 1) if n_features == 3 else torch.randn(n, n_in)
    values = {"table": table, "image": torch.randn(n, 1, 4, 4)}
    return network, objective, values


def outcome(network, objective, values, present=None, target=None, weight=None, epoch=1):
    n = len(values["table"])
    present = torch.ones(n, 2, dtype=torch.bool) if present is None else torch.tensor(present)
    batch = Batch({k: ModalityBatch(v, present[:, [m]]) for m, (k, v) in enumerate(values.items())}, present)
    target = torch.arange(n) % 3 if target is None else target
    supervised = Supervised(n_classes=network.n_classes)
    context = Context(network, target, weight, torch.arange(n), n, epoch, supervised=supervised)
    return objective.loss({"clean": network(batch)}, batch, context)


def test_the_loss_is_its_formula_written_out():
    network, objective, values = parts()
    objective.visible.copy_(torch.rand(3, 6, generator=torch.Generator().manual_seed(1)) > 0.5)
    weight = torch.tensor([0.5, 2.0, 1.0, 0.0, 1.5, 1.0])
    found = outcome(network, objective, values, weight=weight)
    there = torch.ones(6, 1, dtype=torch.bool)
    table, image = (network.encoders[m](ModalityBatch(values[name], there)).values for m, name in enumerate(values))
    own = F.cross_entropy(objective.head(table.mean(1)), torch.arange(6) % 3, reduction="none")
    f, maps = image.mean(1), objective.columns
    numbers = [
        (((objective.visible[r] * f) @ maps.weight[r] + maps.bias[r]) - values["table"][:, r]).square() for r in (0, 1)
    ]
    logits = (objective.visible[2] * f) @ maps.weight[2:].T + maps.bias[2:]
    category = F.cross_entropy(logits, torch.arange(6) % 3, reduction="none")
    columns = sum(numbers) / 2 + category
    torch.testing.assert_close(found["of_table"].mean, (own * weight).mean())
    torch.testing.assert_close(found["of_columns"].mean, (columns * weight).mean())
    torch.testing.assert_close(found["loss"].mean, 0.6 * (own * weight).mean() + 0.03 * (columns * weight).mean())
    assert found["loss"].n == 6


def test_weights_are_relative_to_the_loss_of_the_fused_prediction():
    network, objective, values = parts(table_weight=2.0, transfer_weight=0.5)
    alone = outcome(network, objective, values)
    torch.testing.assert_close(alone["loss"].mean, 2 * alone["of_table"].mean + 0.5 * alone["of_columns"].mean)
    network.head_names = ["table", "image"]
    torch.testing.assert_close(3 * outcome(network, objective, values)["loss"].mean, alone["loss"].mean)


def test_a_number_to_predict_takes_the_squared_error():
    network, objective, values = parts(groups=(0, 1, 2, 3, 4), n_out=2)
    target = torch.randn(6, 2)
    found = outcome(network, objective, values, target=target)
    tokens = network.encoders[0](ModalityBatch(values["table"], torch.ones(6, 1, dtype=torch.bool))).values
    torch.testing.assert_close(found["of_table"].mean, (objective.head(tokens.mean(1)) - target).square().mean())
    predicted = objective.columns(network.encoders[1](ModalityBatch(values["image"], torch.ones(6, 1))).values.mean(1))
    torch.testing.assert_close(found["of_columns"].mean, (predicted - values["table"]).square().mean())


def test_categories_of_unequal_length_and_unknown_levels():
    predicted = torch.randn(3, 7)
    values = torch.zeros(3, 7)
    for row, column in ((0, 1), (0, 5), (1, 3)):  # the second category of sample 1 and all of sample 2 are unknown
        values[row, column] = 1
    levels = torch.tensor([[1, 2, 3], [5, 6, 7]])  # of seven columns, 7 is none
    first = [F.cross_entropy(predicted[i, 1:4], torch.tensor(j)) for i, j in ((0, 0), (1, 2))]
    second = F.cross_entropy(predicted[0, 5:], torch.tensor(0))
    expected = torch.stack([(first[0] + second) / 2, first[1], torch.tensor(0.0)])
    torch.testing.assert_close(category_loss(predicted, values, levels), expected)


def test_a_column_teaches_only_the_channels_that_it_sees():
    _, objective, _ = parts()
    objective.visible.fill_(False)
    objective.visible[0, 1:3] = objective.visible[2, 4] = True
    channels = torch.randn(5, 6, requires_grad=True)
    objective.transfer(channels, torch.randn(5, 5)).sum().backward()
    assert channels.grad.abs().sum(0).gt(0).tolist() == [False, True, True, False, True, False]
    assert objective.columns.weight.grad[1].abs().max() == 0


@pytest.mark.parametrize("junk", [1e6, float("nan"), float("inf")])
def test_a_sample_that_lacks_one_has_no_say_and_gets_no_gradient(junk):
    network, objective, values = parts()
    present = [[True, True], [True, False], [False, True], [False, False], [True, True], [True, True]]
    gradients = []
    for content in (0.0, junk):
        filled = {name: v.clone() for name, v in values.items()}
        for m, name in enumerate(filled):
            filled[name][~torch.tensor(present)[:, m]] = content
        filled["image"].requires_grad_()
        network.zero_grad()
        objective.zero_grad()
        found = outcome(network, objective, filled, present)
        found["loss"].mean.backward()
        gradients.append([p.grad.clone() for p in objective.parameters()])
        gradients[-1] += [found[name].mean.detach() for name in found]
        # The image learns where both are there; Primary's own part is not in this loss.
        reached = torch.nan_to_num(filled["image"].grad).flatten(1).abs().amax(1) > 0
        assert reached.tolist() == [True, False, False, False, True, True]
    assert all(torch.equal(a, b) for a, b in zip(*gradients))
    assert (found["of_table"].n, found["of_columns"].n, found["loss"].n) == (4, 3, 4)
    rows = [0, 4, 5]
    both = outcome(network, objective, {name: v[rows] for name, v in values.items()}, target=torch.tensor(rows) % 3)
    torch.testing.assert_close(found["of_columns"].mean, both["of_columns"].mean)


def test_a_batch_that_concerns_nobody_costs_nothing():
    network, objective, values = parts()
    found = outcome(network, objective, values, [[False, True]] * 6)
    assert all(part.mean == 0 and part.n == 0 for part in found.values())


# The plan in training


def test_a_plan_is_made_of_the_first_samples_that_have_both():
    network, objective, values = parts(n_clusters=3, n_samples=5)
    present = [[True, True], [True, False], [True, True], [False, True], [True, True], [True, True]]
    network.train()
    for _ in range(2):  # four have both: of the second batch one is taken
        outcome(network, objective, values, present, epoch=5)
    rows = [0, 2, 4, 5, 0]
    kept = objective._gathered
    assert torch.equal(kept.batch.modalities["image"].values[:5], values["image"][rows])
    objective.on_epoch_end()
    assert objective._gathered is None
    assert network.training
    there = torch.ones(5, 1, dtype=torch.bool)
    table, image = (
        network.encoders[m](ModalityBatch(values[name][rows], there)).values.detach().double()
        for m, name in enumerate(values)
    )
    expected = visible_channels(image, table, 3)
    assert torch.equal(objective.visible, expected)
    assert not expected.all()


def test_epochs_between_plans_and_evaluation_gather_nothing():
    network, objective, values = parts()
    outcome(network, objective, values, epoch=4)
    outcome(network, objective.eval(), values, epoch=5)
    objective.on_epoch_end()
    assert objective._gathered is None
    assert objective.visible.all()
    objective.train()
    outcome(network, objective, values, [[True, False]] * 5 + [[True, True]], epoch=5)  # one alone resembles nobody
    objective.on_epoch_end()
    assert objective.visible.all()
    outcome(network, objective, values, epoch=5)
    objective.on_train_end()
    assert objective._gathered is None


# In the estimator


def images_and_table(n=60, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    images = rng.normal(size=(n, 1, 8, 8))
    images[:, 0, :4, :4] += 1.5 * y[:, None, None]
    table = pd.DataFrame(
        {
            "size": images[:, 0, :4, :4].mean((1, 2)),
            "colour": np.array(["red", "green", "blue"])[rng.integers(0, 3, n)],
            "noise": rng.normal(size=n),
        }
    )
    return {"image": images, "table": table}, y


def fitted(X, y, model=JointFusionClassifier, objective=None, **options):
    defaults = {"encoders": {"image": "patch2d", "table": "tokens"}, "fusion": partial(Primary, modality="image")}
    objective = TableTransfer(n_clusters=4) if objective is None else objective
    return model(**{**SMALL, **defaults, "objectives": [objective], **options}).fit(X, y)


@pytest.mark.parametrize(("every", "epochs", "plans"), [(5, 11, 3), (2, 4, 2), (1, 3, 3)])
def test_the_plan_is_made_every_so_many_epochs(every, epochs, plans, monkeypatch):
    X, y = images_and_table(20)
    made = []
    find = table_transfer.visible_channels
    monkeypatch.setattr(table_transfer, "visible_channels", lambda *args: made.append(args) or find(*args))
    model = fitted(X, y, objective=TableTransfer(n_clusters=4, every=every), max_epochs=epochs)
    assert len(made) == plans
    maps, columns, n_clusters = made[0]
    assert (maps.shape, columns.shape, n_clusters) == ((20, 16, 8), (20, 3, 8), 4)
    assert torch.equal(model.net_.criterion_[1].visible, find(*made[-1]))
    if plans == epochs:
        assert not torch.equal(made[0][0], made[-1][0])


def test_the_table_has_no_say_in_what_is_predicted():
    X, y = images_and_table()
    model = fitted(X, y)
    expected = model.predict_proba(X)
    garbage = pd.DataFrame({"size": 1e6, "colour": "never seen", "noise": [np.nan, -1e9] * 30})
    for others in ({}, {"table": garbage}):
        np.testing.assert_array_equal(model.predict_proba({"image": X["image"], **others}), expected)
    assert np.ptp(model.predict_proba({"table": X["table"]})[:, 0]) > 0  # and alone it is better than nothing
    history = model.history_[-1]
    assert {f"train_loss_{name}" for name in ("of_table_transfer", "of_table", "of_columns")} <= set(history)


@pytest.mark.parametrize("model", [JointFusionClassifier, JointFusionRegressor])
def test_a_fitted_model_pickles_and_goes_on(model):
    X, y = images_and_table()
    X = Modalities(X, present=np.arange(60)[:, None] % [5, 10] != [0, 1])
    first = fitted(X, y, model, warm_start=True, modality_dropout=0.2)
    stored = pickle.loads(pickle.dumps(first))
    assert torch.equal(stored.net_.criterion_[1].visible, first.net_.criterion_[1].visible)
    assert not first.net_.criterion_[1].visible.all()
    for again in (first, stored):
        again.fit(X, y)
    np.testing.assert_array_equal(first.predict(X), stored.predict(X))
    assert np.isfinite(first.history_[:, "train_loss"]).all()


def test_the_same_seed_gives_the_same_network_and_others_learn_otherwise():
    X, y = images_and_table()
    a, b = (fitted(X, y, max_epochs=3).predict_proba(X) for _ in range(2))
    np.testing.assert_array_equal(a, b)
    assert np.abs(fitted(X, y, objective="ranking", max_epochs=3).predict_proba(X) - a).max() > 1e-6
    by_name = fitted(X, y, objective="table_transfer", max_epochs=3, batch_size=64)
    assert isinstance(by_name.net_.criterion_[1], TableTransfer)
    assert "table_transfer" in OBJECTIVES


def test_dropped_tokens_and_other_modalities_do_not_shift_columns():
    X, y = images_and_table()
    X["extra"] = np.random.default_rng(1).normal(size=(60, 5))
    objective = TableTransfer("image", "table", n_clusters=4, every=1)
    model = fitted(X, y, objective=objective, drop_token=0.5)
    assert model.net_.criterion_[1].visible.shape == (3, 8)
    assert np.isfinite(model.history_[:, "train_loss"]).all()


def test_columns_that_no_image_shows_do_no_harm():
    X, y = images_and_table(240)
    rng = np.random.default_rng(3)
    noise = {f"n{i}": rng.normal(size=240) for i in range(12)}
    new, truth = images_and_table(400, seed=1)
    quick = {"max_epochs": 12, "batch_size": 32, "n_latent": 16, "lr": 0.01}
    seen, with_noise = (
        fitted({**X, "table": table}, y, **quick).score({"image": new["image"]}, truth)
        for table in (X["table"], X["table"].assign(**noise))
    )
    assert seen > 0.9
    assert abs(seen - with_noise) < 0.03


# What it refuses


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_clusters": 0}, "n_clusters of TableTransfer is 0; due is a whole number of at least 1"),
        ({"every": 0.5}, "every of TableTransfer is 0.5; due is a whole number of at least 1"),
        ({"n_samples": 1}, "n_samples of TableTransfer is 1; due is a whole number of at least 2"),
        ({"table_weight": -1.0}, "table_weight of TableTransfer is -1.0; due is a number of at least 0"),
        ({"transfer_weight": float("nan")}, "transfer_weight of TableTransfer is nan; due is a number"),
        ({"image": "a", "table": "a"}, "image and table of TableTransfer are both 'a'; due are two modalities"),
    ],
)
def test_an_option_out_of_range_raises(options, message):
    with pytest.raises(ValueError, match=message):
        TableTransfer(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"image": "scan", "table": "table"},
            r"image of TableTransfer is 'scan', which X lacks; X has \['image', 'table', 'other'\]",
        ),
        ({"table": "labs"}, r"table of TableTransfer is 'labs', which X lacks; X has"),
        ({}, r"table of TableTransfer is None, but X has \['table', 'other'\] to choose from; name one of"),
        ({"table": "image"}, r"table of TableTransfer is 'image', whose samples have the shape \(1, 8, 8\); due is"),
        (
            {"table": "other"},
            r"the encoder of 'other' gives 1 tokens for 4 columns; .*encoders=\{'other': \"tokens\"\}",
        ),
    ],
)
def test_modalities_that_do_not_fit_raise(options, message):
    X, y = images_and_table(20)
    X["other"] = np.random.default_rng(0).normal(size=(20, 4))
    with pytest.raises(ValueError, match=message):
        fitted(X, y, objective=TableTransfer(**options))


def test_images_of_one_token_will_do():
    X, y = images_and_table(20)
    X["image"] = X["image"].reshape(20, -1)
    model = fitted(X, y, objective=TableTransfer("image", "table", n_clusters=3), encoders={"table": "tokens"})
    assert model.net_.criterion_[1].visible.shape == (3, 8)
    assert SimpleNamespace(**model.history_[-1]).train_loss_of_columns > 0
