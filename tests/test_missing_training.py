"""Training joint fusion where modalities are missing: dropout by a plan, stand-ins, and ranking."""

import copy

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback

from skfusion import JointFusionClassifier, JointFusionRegressor, Modalities
from skfusion.encoders.batch import Batch, Tokens
from skfusion.encoders.dropout import Dropout
from skfusion.fusion.missing import MissingTokens, Priors
from skfusion.fusion.network import drop_modalities
from skfusion.fusion.output import FusionOutput
from skfusion.objectives import Ranking
from skfusion.objectives.context import Context
from skfusion.objectives.ranking import without_one
from skfusion.objectives.supervised import Supervised

SMALL = {"n_hidden": 16, "n_latent": 8, "dropout_rate": 0.1, "lr": 0.01, "max_epochs": 15, "device": "cpu"}
PRESENT = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]], dtype=torch.bool)
WIDTHS = {"a": 4, "b": 3, "c": 2}


def classifier(**params):
    return JointFusionClassifier(**{**SMALL, "random_state": 0, **params})


def redundant(n_samples=300, seed=0):
    """Two tables that both tell the class, the first one better."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, size=n_samples)
    side = (2 * y - 1)[:, None]
    return {"a": rng.normal(size=(n_samples, 4)) + 1.5 * side, "b": rng.normal(size=(n_samples, 12)) + 0.35 * side}, y


def holed(X, seed=1, share=0.4):
    present = np.random.default_rng(seed).random((len(X["a"]), 2)) > share
    present[~present.any(axis=1), 0] = True
    return Modalities(X, present=present)


# Modality dropout by a plan


def test_each_modality_is_dropped_at_its_own_rate_and_one_is_kept():
    torch.manual_seed(0)
    present = torch.ones(20_000, 3, dtype=torch.bool)
    present[:5000, 1] = False
    kept = drop_modalities(present, torch.tensor([0.0, 0.3, 0.6]))
    assert kept.any(1).all()
    assert not (kept & ~present).any()
    rates = 1 - kept[5000:].float().mean(0)
    torch.testing.assert_close(rates, torch.tensor([0.0, 0.3, 0.6]), atol=0.02, rtol=0)


@pytest.mark.parametrize(
    ("params", "due"),
    [
        ({}, 0.5),
        ({"modality_dropout": {"a": 0.0}}, 0.5),
        ({"modality_dropout": 0.3}, 0.1),
        ({"modality_dropout": {"b": 0.3}}, 0.1),
        ({"modality_dropout": "curriculum"}, 0.1),
        ({"modality_dropout": 0.3, "dropout_rate": 0.4}, 0.4),
    ],
)
def test_hidden_units_are_dropped_less_where_modalities_are(params, due):
    X, y = redundant(40)
    model = classifier(**{"dropout_rate": "auto", "max_epochs": 1, **params}).fit(X, y)
    assert max(module.rate for module in model.network_.modules() if isinstance(module, Dropout)) == due


class Rates(Callback):
    """Notes the rates of each epoch."""

    def __init__(self):
        self.seen = []

    def on_batch_begin(self, net, batch=None, training=None, **kwargs):
        if training:
            self.seen.append(net.module_.dropout_rates.tolist())


def rates_of(**params):
    X, y = redundant(30)
    model = classifier(callbacks=[("rates", Rates())], batch_size=64, **params).fit(X, y)
    return np.array(dict(model.net_.callbacks_)["rates"].seen), model


def test_the_curriculum_rises_to_its_peak_over_the_first_half():
    rates, model = rates_of(modality_dropout="curriculum", max_epochs=9)
    np.testing.assert_allclose(rates[:, 0], [0, 0.125, 0.25, 0.375, 0.5, 0.5, 0.5, 0.5, 0.5])
    np.testing.assert_array_equal(rates[:, 0], rates[:, 1])
    model.partial_fit(*redundant(30))
    assert dict(model.net_.callbacks_)["rates"].seen[-1] == [0.5, 0.5]


def test_a_dict_of_rates_leaves_alone_what_it_does_not_name():
    rates, _ = rates_of(modality_dropout={"b": 0.25}, max_epochs=2)
    np.testing.assert_array_equal(rates, [[0, 0.25]] * 2)


def test_one_rate_equals_a_dict_of_the_same():
    X, y = redundant(60)
    one, each = (classifier(modality_dropout=rate).fit(X, y) for rate in (0.3, {"a": 0.3, "b": 0.3}))
    np.testing.assert_array_equal(one.predict_proba(X), each.predict_proba(X))


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({"a": 1.0}, r"modality_dropout\['a'\] is 1.0; due is a number from 0 to below 1"),
        ({"z": 0.1}, r"modality_dropout names the modalities \['z'\], which X lacks"),
        ("often", "'modality_dropout' parameter .*Got 'often'"),
        (1.5, "'modality_dropout' parameter .*Got 1.5"),
    ],
)
def test_rates_that_make_no_sense_raise(rates, message):
    with pytest.raises(ValueError, match=message):
        classifier(modality_dropout=rates).fit(*redundant(20))


# Stand-ins


def draw(n_tokens=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    tokens = {}
    for m, (name, width) in enumerate(WIDTHS.items()):
        values = torch.randn(len(PRESENT), n_tokens, width, generator=generator)
        tokens[name] = Tokens(values, PRESENT[:, m : m + 1].expand(-1, n_tokens))
    return tokens


@pytest.mark.parametrize("stand_in", [MissingTokens, Priors])
def test_a_stand_in_takes_the_place_of_what_is_missing_and_of_nothing_else(stand_in):
    torch.manual_seed(0)
    tokens = draw()
    filled, somebody, _ = stand_in(WIDTHS).eval()(tokens, PRESENT)
    assert somebody.tolist() == [[True] * 3] * 3 + [[False] * 3]
    for m, name in enumerate(WIDTHS):
        there = PRESENT[:, m]
        assert torch.equal(filled[name].values[there], tokens[name].values[there])
        assert torch.equal(filled[name].mask[there], tokens[name].mask[there])
        gone = somebody[:, m] & ~there
        assert (filled[name].mask[gone] == torch.tensor([True, False])).all()
        assert not filled[name].mask[3].any()


def test_the_learned_token_is_one_of_the_modality_and_one_of_each_present():
    torch.manual_seed(0)
    stand_in = MissingTokens(WIDTHS)
    filled, _, _ = stand_in(draw(), PRESENT)
    torch.testing.assert_close(filled["b"].values[1, 0], stand_in.own[1] + stand_in.given[1][0] + stand_in.given[1][2])
    torch.testing.assert_close(filled["a"].values[2, 0], stand_in.own[0] + stand_in.given[0][1])
    assert not torch.allclose(filled["c"].values[2, 0], stand_in.own[2])


def test_the_centres_of_a_prior_are_those_of_the_embeddings():
    torch.manual_seed(0)
    centres = torch.tensor([[5.0, 0, 0], [0, 5, 0], [-5, -5, 0]])
    stand_in = Priors({"a": 2, "b": 3}, n_centres=8)
    present = torch.ones(64, 2, dtype=torch.bool)
    for _ in range(200):
        group = torch.randint(3, (64,))
        values = [torch.randn(64, 1, 2), (centres[group] + 0.1 * torch.randn(64, 3))[:, None]]
        stand_in({n: Tokens(v, present[:, :1]) for n, v in zip("ab", values)}, present)
    apart = torch.cdist(centres, stand_in.centres1)
    assert apart.min(1).values.max() < 0.2  # each true centre has one


def test_a_prior_is_a_mixture_weighted_by_the_others_alone():
    torch.manual_seed(0)
    stand_in = Priors(WIDTHS, n_centres=4).eval()
    for m in range(3):
        stand_in.get_buffer(f"centres{m}").normal_()
    tokens = draw(1)
    found, losses = stand_in.stand_ins(tokens, PRESENT)
    assert losses == {}
    weights = torch.linalg.lstsq(
        torch.cat([stand_in.centres0.T, torch.ones(1, 4)]), torch.cat([found[0].T, torch.ones(1, len(PRESENT))])
    ).solution
    torch.testing.assert_close(weights.sum(0), torch.ones(len(PRESENT)))
    other = {**tokens, "a": Tokens(100 * torch.randn_like(tokens["a"].values), tokens["a"].mask)}
    assert torch.equal(stand_in.stand_ins(other, PRESENT)[0][0], found[0])
    assert not torch.equal(stand_in.stand_ins(other, PRESENT)[0][1], found[1])


def test_a_prior_learns_to_predict_the_embedding_from_the_others():
    torch.manual_seed(0)
    stand_in = Priors({"a": 1, "b": 1}, n_centres=4, penalty=1.0)
    optimizer = torch.optim.Adam(stand_in.parameters(), lr=0.05)
    present = torch.ones(128, 2, dtype=torch.bool)
    losses = []
    for _ in range(150):
        side = torch.randint(2, (128, 1)) * 2.0 - 1
        tokens = {"a": Tokens(side[:, None], present[:, :1]), "b": Tokens(3 * side[:, None], present[:, :1])}
        loss = stand_in(tokens, present)[2]["prior"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 < losses[3]


@pytest.mark.parametrize("fill_missing", ["token", "prior", MissingTokens])
@pytest.mark.parametrize("fusion", ["concat", "zorro", "early_concat"])
def test_networks_train_with_stand_ins_and_missing_slots_stay_inert(fill_missing, fusion):
    X, y = redundant(80)
    model = classifier(fusion=fusion, fill_missing=fill_missing, max_epochs=3).fit(holed(X), y)
    plain = classifier(fusion=fusion, max_epochs=3).fit(holed(X), y)
    new = redundant(20, seed=2)[0]
    noise = {name: values.copy() for name, values in new.items()}
    some = holed(new)
    for m, name in enumerate("ab"):
        noise[name][~some.present[:, m]] = 1e9
    found = model.predict_proba(some)
    np.testing.assert_array_equal(model.predict_proba(Modalities(noise, present=some.present)), found)
    assert np.abs(found - plain.predict_proba(some)).max() > 1e-4


def test_fill_missing_works_for_numbers_and_names_what_it_takes():
    X, y = redundant(60)
    model = JointFusionRegressor(fill_missing="prior", **SMALL, random_state=0).fit(holed(X), y.astype(float))
    assert np.isfinite(model.predict({"a": X["a"]})).all()
    with pytest.raises(ValueError, match=r"'fill_missing' parameter .*Got 'zeros'"):
        classifier(fill_missing="zeros").fit(X, y)


# Ranking


def test_one_modality_is_taken_from_samples_that_have_several():
    torch.manual_seed(0)
    present = PRESENT.repeat(3000, 1)
    fewer = without_one(present)
    assert not (fewer & ~present).any()
    taken = present.sum(1) - fewer.sum(1)
    assert torch.equal(taken, (present.sum(1) > 1).long())
    shares = (present & ~fewer)[::4].float().mean(0)
    torch.testing.assert_close(shares, torch.full((3,), 1 / 3), atol=0.03, rtol=0)


class Plain(torch.nn.Module):
    """A network whose prediction is its embedding."""

    def predict(self, output, head="fusion"):
        return output.fused


def test_ranking_is_how_much_worse_more_is_and_does_not_move_the_bar():
    objective = Ranking(weight=2.0, fewer=0.5)
    more, fewer = (torch.tensor(v, requires_grad=True) for v in ([[3.0], [1.0], [9.0]], [[1.0], [2.0], [0.0]]))
    target, weight = torch.zeros(3, 1), torch.tensor([1.0, 0.5, 1.5])
    present = torch.tensor([[True, True], [True, True], [False, True]])
    context = Context(Plain(), target, weight, torch.arange(3), supervised=Supervised())
    outputs = {"clean": FusionOutput(more, {}), "fewer": FusionOutput(fewer, {})}
    losses = objective.loss(outputs, Batch({}, present), context)
    assert losses["of_ranking"].item() == pytest.approx(2.0 * (9 - 1) / 2)
    assert losses["of_fewer"].item() == pytest.approx(0.5 * (1 * 1 + 0.5 * 4) / 2)
    assert losses["loss"].item() == pytest.approx((losses["of_ranking"] + losses["of_fewer"]).item())
    losses["of_ranking"].backward()
    assert fewer.grad is None or not fewer.grad.any()
    assert more.grad[0] > 0 == more.grad[1] == more.grad[2]


class Pairs(Ranking):
    """Notes who had what in both views."""

    def loss(self, outputs, batch, context):
        self.seen = [*getattr(self, "seen", []), (outputs["clean"].present, outputs["fewer"].present)]
        return super().loss(outputs, batch, context)


def test_fewer_is_a_part_of_more_under_modality_dropout_as_well():
    X, y = redundant(60)
    X["c"] = X["a"] + 1
    model = classifier(objectives=[Pairs()], modality_dropout=0.5, max_epochs=3).fit(X, y)
    more, fewer = (torch.cat(part) for part in zip(*model.net_.criterion_[1].seen))
    assert not (fewer & ~more).any()
    assert torch.equal(more.sum(1) - fewer.sum(1), (more.sum(1) > 1).long())
    assert (more.sum(1) == 1).any()
    assert (more.sum(1) == 2).any()


def test_ranking_goes_by_the_criterion_of_the_estimator():
    X, y = redundant(60)
    model = JointFusionRegressor(criterion=torch.nn.L1Loss(), objectives=["ranking"], **{**SMALL, "max_epochs": 1})
    recorded = model.set_params(objectives=[Pairs()]).fit(X, y.astype(float)).net_.criterion_
    assert isinstance(recorded[0].criterion, torch.nn.L1Loss)
    outputs = {"clean": FusionOutput(torch.tensor([[3.0]]), {}), "fewer": FusionOutput(torch.tensor([[1.0]]), {})}
    context = Context(Plain(), torch.zeros(1, 1), None, torch.arange(1), supervised=recorded[0])
    losses = Ranking().loss(outputs, Batch({}, torch.ones(1, 2, dtype=torch.bool)), context)
    assert losses["of_ranking"].item() == 2.0


@pytest.mark.parametrize("fusion", ["shared_specific", "mixture_of_experts"])
def test_a_fusion_with_stand_ins_of_its_own_takes_no_others(fusion):
    with pytest.raises(ValueError, match=f"fill_missing is 'token', but fusion='{fusion}' has what stands in"):
        classifier(fusion=fusion, fill_missing="token").fit(*redundant(20))


def test_ranking_lowers_how_much_worse_more_is():
    X, y = redundant(200)
    X["b"] = np.random.default_rng(0).normal(size=(200, 60))  # nothing but noise to overfit on
    new, truth = redundant(1000, seed=1)
    new["b"] = np.random.default_rng(1).normal(size=(1000, 60))

    def worse(weight):
        options = {"n_hidden": 32, "n_latent": 16, "max_epochs": 30, "label_smoothing": 0.0}
        model = classifier(objectives=[Ranking(weight=weight)], **options).fit(X, y)
        both, alone = model.predict_proba(new), model.predict_proba({"a": new["a"]})
        rows = np.arange(len(truth))
        return np.maximum(np.log(alone[rows, truth]) - np.log(both[rows, truth]), 0).mean()

    assert worse(10.0) < 0.8 * worse(0.0)


@pytest.mark.parametrize("keyword", ["weight", "fewer"])
def test_weights_below_zero_raise(keyword):
    with pytest.raises(ValueError, match=f"{keyword} of Ranking is -1"):
        Ranking(**{keyword: -1})


def test_an_unknown_objective_lists_those_that_exist():
    with pytest.raises(ValueError, match=r"objectives is 'rank'; due is one of \[.*'ranking'.*\]"):
        classifier(objectives=["rank"]).fit(*redundant(20))
    objectives = [Ranking(weight=0.3)]
    before = copy.deepcopy(vars(objectives[0]))
    classifier(objectives=objectives, max_epochs=1).fit(*redundant(20))
    assert vars(objectives[0]) == before
