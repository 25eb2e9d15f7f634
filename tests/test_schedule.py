"""The scheduler: honest gains, what it may not ask for, when it stops, policies, and accuracy at equal cost."""

import importlib.util
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.ensemble import RandomForestRegressor
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier

from skfusion import EarlyFusionTransformer, LateFusionStacker, Modalities, ModalityScheduler, _scheduling
from skfusion._policies import best_of
from skfusion._scheduling import held_out
from skfusion.modalities.patterns import name_pattern

spec = importlib.util.spec_from_file_location(
    "scheduler", Path(__file__).resolve().parent.parent / "benchmarks" / "scheduler.py"
)
planted = importlib.util.module_from_spec(spec)
spec.loader.exec_module(planted)

FEWER_TREES = partial(RandomForestRegressor, n_estimators=40)
"""As good where the planted gains are large, and faster."""
LATE = LateFusionStacker(LogisticRegression(), "mean", cv=2)


def tables(n_samples=200, seed=0):
    """Two tables that know the class, one better than the other, and one that knows nothing."""
    rng = np.random.default_rng(seed)
    y = rng.integers(2, size=n_samples)
    strength = {"strong": 1.5, "weak": 0.7, "none": 0.0}
    X = {name: rng.normal(size=(n_samples, 2)) + s * (y[:, None] - 0.5) for name, s in strength.items()}
    return Modalities(X), np.array(["no", "yes"])[y]


@pytest.fixture(scope="module")
def fitted():
    X, y = tables()
    return ModalityScheduler(planted.BySet(), cv=3, random_state=0).fit(X, y)


def with_params(fitted, **params):
    """Return a fitted copy that differs in what plays no part in fit."""
    other = ModalityScheduler(**fitted.get_params(deep=False))
    vars(other).update(vars(fitted))
    return other.set_params(**params)


def names_of(found, X):
    return [name_pattern(row, X.names) for row in found.present]


NOTHING = {"strong": np.full((1, 2), np.nan), "weak": np.full((1, 2), np.nan)}

# Gains


def test_from_nothing_the_gain_is_the_mean_reduction_of_the_held_out_loss():
    X, y = tables()
    cv, codes = KFold(4), (y == "yes").astype(int)
    scheduler = ModalityScheduler(planted.BySet(LogisticRegression()), cv=cv, lookahead=1, random_state=0).fit(X, y)
    prior = np.array([np.mean(codes == 0), np.mean(codes == 1)])[codes]
    for name in X.names:
        p = cross_val_predict(LogisticRegression(), X[name], codes, cv=cv, method="predict_proba")
        smoothed = 0.99 * p[np.arange(len(y)), codes] + 0.01 * prior
        gain = np.mean(np.log(smoothed) - np.log(prior))
        assert scheduler.gains(NOTHING).loc[0, name] == pytest.approx(gain)


def test_gains_are_of_what_is_lacking_and_shrink_with_what_is_known():
    scheduler = ModalityScheduler(planted.BySet(LogisticRegression()), cv=3, random_state=0).fit(*tables(1500))
    X, _ = tables(500, seed=1)
    alone, after = scheduler.gains(NOTHING), scheduler.gains(X.select(["strong"]))
    assert alone.columns.tolist() == after.columns.tolist() == X.names
    assert after["strong"].isna().all()
    assert after["weak"].notna().all()
    assert 0 < after["weak"].mean() < alone.loc[0, "weak"]
    doubt = np.abs(X["strong"].sum(axis=1))
    assert after["weak"][doubt < 0.5].mean() > 2 * after["weak"][doubt > 3].mean()


def test_gains_are_those_of_held_out_samples_and_not_what_the_classifier_thinks_of_itself():
    X, y = tables()
    # A tree knows its training samples by heart: it is certain of new ones, and often wrong.
    scheduler = ModalityScheduler(planted.BySet(DecisionTreeClassifier(random_state=0)), cv=3, random_state=0)
    assert scheduler.fit(X, y).gains(NOTHING).loc[0, "none"] < 0


def test_sets_are_bounded_where_there_are_many_modalities():
    rng = np.random.default_rng(0)
    codes, prior = rng.integers(2, size=50), np.array([0.5, 0.5])
    asked = []

    def predict(columns):
        asked.append(columns)
        p = np.clip(0.5 + 0.05 * sum(m < 2 for m in columns) + 0.01 * rng.random(50), 0, 1)
        return np.where(np.arange(2) == codes[:, None], p[:, None], 1 - p[:, None])

    few, _ = held_out(predict, 6, codes, prior)
    assert len(few) == 2**6
    many, losses = held_out(predict, 10, codes, prior)
    sizes = np.bincount([len(s) for s in many])
    assert sizes[:4].tolist() == [1, 10, 45, 8]
    assert sizes[4:].max() == 8
    assert len(sizes) == 11
    assert all({0, 1} <= s for s in losses if len(s) == 3)


def test_what_few_samples_have_together_is_forecast_from_less():
    X, y = tables()
    present = X.present.copy()
    present[::2, 0], present[1::2, 1] = False, False  # nobody has strong and weak
    scheduler = ModalityScheduler(LATE, cv=3, random_state=0).fit(Modalities(X, present=present), y)
    gains = scheduler.gains({"strong": X["strong"]})
    np.testing.assert_allclose(gains["weak"], scheduler.gains(NOTHING).loc[0, "weak"], atol=0.2)
    assert np.ptp(gains["weak"]) == 0


def fit_linear(features, targets, weights, seed):
    """Stand in for a forest; forecasts are those of the samples themselves."""
    learnt = ~np.isnan(targets).any(axis=1)
    model = LinearRegression().fit(features[learnt], targets[learnt])
    return model, model.predict(np.nan_to_num(features))[:, 0]


def test_what_stands_in_for_a_set_forecasts_from_its_own_probabilities(monkeypatch):
    monkeypatch.setattr(_scheduling, "_fit", fit_linear)
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=120)
    names = list("abcdefg")
    X = Modalities({name: rng.normal(size=(120, 1)) + (y[:, None] - 0.5) for name in names})
    scheduler = ModalityScheduler(planted.BySet(GaussianNB()), cv=2, lookahead=1, random_state=0).fit(X, y)
    learnt = {known for known, _ in scheduler._forecaster.forecasts_}
    unknown = [s for s in map(frozenset, combinations(range(7), 4)) if s not in learnt]
    assert unknown
    for s in unknown[:3]:
        stand_ins = scheduler._forecaster.stand_ins(s)
        assert set(stand_ins) == set(range(7)) - s
        gains = scheduler.gains(X.select([names[m] for m in s]))
        for m, known in stand_ins.items():
            assert known < s
            smaller = X.select([names[k] for k in known])
            np.testing.assert_array_equal(gains[names[m]], scheduler.gains(smaller)[names[m]])


def test_gains_ask_no_policy_and_know_no_budget(fitted):
    X, _ = tables(20)

    def policy(state):
        raise AssertionError("gains asked the policy")

    some = X.select(["weak"])
    gains = with_params(fitted, policy=policy, budget=0.5, threshold=0.1).gains(some)
    pd.testing.assert_frame_equal(gains, fitted.gains(some))
    assert gains.notna().all().to_dict() == {"strong": True, "weak": False, "none": True}


# When it asks, and when it stops


def test_no_gain_is_worth_any_price(fitted):
    X, y = tables()
    scheduler = ModalityScheduler(planted.BySet(), trade_off=1e6, cv=3, random_state=0).fit(X, y)
    found = scheduler.schedule(X)
    assert not found.present.any()
    assert set(found.trace["reason"]) == {"no gain worth its cost"}
    np.testing.assert_array_equal(found.probabilities, np.tile([np.mean(y == "no"), np.mean(y == "yes")], (200, 1)))


def test_for_nothing_all_that_informs_is_taken_and_noise_is_not():
    taken, n_samples = [], 2000
    for seed in range(2):
        rng = np.random.default_rng(seed)
        y = rng.integers(2, size=n_samples)
        tables = {"strong": (1.5, 2), "weak": (1.0, 2), "none": (0.0, 4)}
        X = Modalities(
            {name: rng.normal(size=(n_samples, k)) + s * (y[:, None] - 0.5) for name, (s, k) in tables.items()}
        )
        y = np.where(rng.random(n_samples) < 0.2, 1 - y, y)  # nobody is ever sure
        scheduler = ModalityScheduler(planted.BySet(), trade_off=0.0, cv=3, random_state=0).fit(X, y)
        taken.append(scheduler.schedule(X).present.mean(axis=0))
    strong, weak, none = np.transpose(taken)
    assert min(*strong, *weak) >= 0.95
    assert none.max() <= 0.05


def test_the_price_of_cost_is_what_the_gain_must_exceed(fitted):
    X, y = tables()
    gain = fitted.gains(NOTHING).loc[0]
    for cost, name in ((2.0, "strong"), (100.0, None)):
        scheduler = ModalityScheduler(
            planted.BySet(), {"weak": 90.0, "none": 90.0, "strong": cost}, cv=3, random_state=0
        )
        assert scheduler.fit(X, y).next(NOTHING).tolist() == [name]
    assert gain["strong"] < 100 * 0.01


def test_what_costs_nothing_is_there_from_the_start():
    X, y = tables()
    scheduler = ModalityScheduler(LATE, {"none": 0.0}, trade_off=1e6, cv=3, random_state=0).fit(X, y)
    found = scheduler.schedule(X)
    assert names_of(found, X) == ["none"] * 200
    assert not found.cost.any()
    started = scheduler.schedule(X, start=["weak"])
    assert set(names_of(started, X)) <= {"weak", "weak + none"}
    np.testing.assert_array_equal(started.cost, 1.0)


def test_a_threshold_stops_those_who_are_sure(fitted):
    X, _ = tables(seed=1)
    trace = with_params(fitted, threshold=0.9).schedule(X).trace
    sure = trace[["probability__no", "probability__yes"]].max(axis=1) >= 0.9
    assert sure.any()
    assert (trace["action"][sure].isna()).all()
    assert set(trace["reason"][sure]) <= {"confident", "nothing left to ask for"}
    assert "confident" not in set(trace["reason"][~sure])


@pytest.mark.parametrize(("budget", "most"), [(0.5, 0), (1, 1), (2.9, 2), (3, 3)])
def test_nobody_spends_more_than_the_budget(fitted, budget, most):
    X, _ = tables(seed=1)
    found = with_params(fitted, budget=budget, policy=lambda state: next(iter(state.available))).schedule(X)
    assert found.present.sum(axis=1).tolist() == [most] * 200
    assert set(found.trace.groupby("sample")["reason"].last()) == {
        "nothing left to ask for" if most == 3 else "over budget"
    }


def test_together_or_not_at_all():
    X, y, _ = planted.synergy(700, np.random.default_rng(0))
    X = Modalities(X).select(["left", "right"])
    train, test = np.arange(500), np.arange(500, 700)
    greedy, ahead = (
        ModalityScheduler(planted.BySet(), lookahead=k, trade_off=0.05, cv=3, random_state=0).fit(X[train], y[train])
        for k in (1, 2)
    )
    assert greedy.schedule(X[test]).cost.max() == 0
    assert ahead.schedule(X[test]).cost.min() == 2
    assert ahead.score(X[test], y[test]) > 0.9
    # One alone is worth nothing, and is not asked for where the other cannot be had, or paid for.
    assert ahead.schedule(X[test], available=["left"]).cost.max() == 0
    assert with_params(ahead, budget=1.5).schedule(X[test]).cost.max() == 0


def weak_and_strong(seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(2, size=600)
    return Modalities(
        {name: rng.normal(size=(600, 2)) + s * y[:, None] for name, s in (("weak", 0.3), ("strong", 1.2))}
    ), y


@pytest.mark.parametrize("seed", [0, 3])
def test_where_both_are_worth_their_cost_the_one_that_gains_most_comes_first(seed):
    # Gains along either order add up to the same, but for the last digits.
    X, y = weak_and_strong(seed)
    classifier = make_pipeline(EarlyFusionTransformer(add_indicator=True), LogisticRegression())
    costs = []
    for lookahead in (1, 2):
        scheduler = ModalityScheduler(
            classifier, lookahead=lookahead, threshold=0.8, trade_off=0.001, cv=3, random_state=0
        )
        found = scheduler.fit(X, y).schedule(X)
        assert set(found.trace["action"][found.trace["step"] == 0]) == {"strong"}
        costs.append(found.cost.mean())
    gains = scheduler.gains(NOTHING).loc[0]
    assert gains["strong"] == pytest.approx(gains["weak"])
    assert max(costs) < 1.6


def test_ties_go_by_the_immediate_gain_then_by_cost_then_by_position():
    value = np.array([[0.3, 0.3 + 1e-16, 0.3], [0.3, 0.31, 0.0], [0.3, 0.3, 0.3], [-np.inf, 0.3, 0.3]])
    immediate = np.array([[0.1, 0.0, 0.2], [0.3, 0.0, 0.0], [0.1, 0.1, 0.1], [0.9, 0.1, 0.1]])
    assert best_of(value, immediate, np.array([2.0, 1.0, 1.0])).tolist() == [2, 1, 1, 1]
    assert best_of(value, immediate, np.array([1.0, 1.0, 0.5])).tolist() == [2, 1, 2, 2]


def test_a_cheap_one_tells_which_dear_one_to_ask_for():
    X, y, costs = planted.gated(1000, np.random.default_rng(0))
    X, train, test = Modalities(X), np.arange(800), np.arange(800, 1000)
    scheduler = ModalityScheduler(planted.BySet(), costs, trade_off=0.1, cv=3, random_state=0).fit(X[train], y[train])
    found = scheduler.schedule(X[test])
    assert found.present[:, 0].all()
    right = X[test]["gate"][:, 0] > 0
    assert np.mean(found.present[:, 2] == right) > 0.9
    assert np.mean(found.present[:, 1] != right) > 0.9


# What cannot be had


def test_what_cannot_be_had_is_never_asked_for(fitted):
    X, _ = tables(seed=1)
    rng = np.random.default_rng(0)
    has, may = rng.random((2, 200, 3)) < 0.5
    for policy in ("value", lambda state: next(iter(state.available))):
        scheduler = with_params(fitted, policy=policy, trade_off=0.0)
        found = scheduler.schedule(Modalities(X, present=has), available=may)
        assert not (found.present & ~(has & may)).any()
        assert found.present.any()
        asked = found.trace.dropna(subset="action")
        column = asked["action"].map(X.names.index).to_numpy()
        assert (has & may)[asked["sample"], column].all()
    assert set(scheduler.next(NOTHING, available=["weak"])) <= {"weak", None}


def test_nothing_is_looked_at_before_it_is_asked_for(fitted):
    X, _ = tables(seed=1)
    found = fitted.schedule(X)
    assert 0 < found.present.mean() < 1
    rng = np.random.default_rng(0)
    other = {
        name: np.where(found.present[:, [m]], X[name], 9 * rng.normal(size=X[name].shape))
        for m, name in enumerate(X.names)
    }
    again = fitted.schedule(other)
    np.testing.assert_array_equal(again.probabilities, found.probabilities)
    assert again.trace.equals(found.trace)


def test_asking_one_by_one_is_the_schedule(fitted):
    X, _ = tables(60, seed=1)
    present = np.zeros((60, 3), dtype=bool)
    for _ in range(4):
        for row, name in enumerate(fitted.next(Modalities(X, present=present))):
            if name is not None:
                present[row, X.names.index(name)] = True
    np.testing.assert_array_equal(present, fitted.schedule(X).present)


# The trace


def test_the_trace_accounts_for_everything(fitted):
    X, _ = tables(seed=1)
    found = fitted.schedule(X)
    trace = found.trace
    by_sample = trace.groupby("sample")
    np.testing.assert_allclose(by_sample["cost"].sum(), found.cost)
    assert by_sample["action"].apply(lambda a: a.notna().iloc[:-1].all() and a.isna().iloc[-1]).all()
    p = trace[["probability__no", "probability__yes"]].to_numpy()
    np.testing.assert_allclose(trace["entropy"], -(p * np.log(p)).sum(axis=1))
    following = by_sample["entropy"].shift(-1)
    np.testing.assert_array_equal(trace["entropy_after"], following.fillna(trace["entropy"]))
    last = by_sample.tail(1)
    np.testing.assert_array_equal(last[["probability__no", "probability__yes"]], found.probabilities)
    assert last["present"].tolist() == names_of(found, X)
    assert (trace["present"] == "nothing").equals(trace["step"] == 0)
    gains = trace[[f"gain__{name}" for name in X.names]].to_numpy()
    asked = trace["action"].notna()
    chosen = gains[asked, trace["action"][asked].map(X.names.index)]
    np.testing.assert_allclose(chosen, np.nanmax(gains[asked], axis=1))
    assert (np.nanmax(gains[asked], axis=1) > 0.01).all()
    stopped = trace["reason"] == "no gain worth its cost"
    assert (np.nanmax(gains[stopped], axis=1) <= 0.01).all()


# Policies


class Scripted:
    """Answers from a list, as a language model might."""

    def __init__(self, *answers):
        self.answers, self.states = list(answers), []

    def __call__(self, state):
        self.states.append(state)
        return self.answers[state.step]


def test_a_policy_decides_and_sees_what_is_present_alone(fitted):
    X, _ = tables(2, seed=1)
    policy = Scripted("none", "strong", None)
    found = with_params(fitted, policy=policy, budget=2.5).schedule(X)
    assert names_of(found, X) == ["strong + none"] * 2
    # After two the budget allows no third, so that nobody is asked.
    assert [(s.sample, s.step) for s in policy.states] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    first, last = policy.states[0], policy.states[-1]
    assert (first.present, first.budget) == ({}, 2.5)
    assert first.available == {"none": 1.0, "strong": 1.0, "weak": 1.0}
    assert first.gains == pytest.approx(fitted.gains(NOTHING).loc[0].to_dict())
    assert list(last.present) == ["none"]
    np.testing.assert_array_equal(last.present["none"], X["none"][1:])
    assert (last.budget, list(last.available)) == (1.5, ["strong", "weak"])
    assert last.probabilities.keys() == {"no", "yes"}
    assert found.trace["reason"].tolist() == ["chosen by the policy", "chosen by the policy", "over budget"] * 2


@pytest.mark.parametrize("answer", ["weak", "The ECG, please.", 3])
def test_what_a_policy_may_not_have_is_refused_and_stops(fitted, answer):
    X, _ = tables(5)
    scheduler = with_params(fitted, policy=Scripted("strong", answer))
    with pytest.warns(UserWarning, match="policy gave 5 answers that were refused") as said:
        found = scheduler.schedule(X, available=["strong", "none"])
    assert len(said) == 1
    assert f"the first: {answer!r} is not available; ['none'] are" in str(said[0].message)
    assert said[0].filename == __file__
    assert names_of(found, X) == ["strong"] * 5
    assert found.trace["reason"].tolist() == ["chosen by the policy", f"refused: {answer!r} is not available"] * 5


def test_a_policy_with_a_typo_is_told_once_by_whatever_asks_it(fitted):
    X, _ = tables(20)
    scheduler = with_params(fitted, policy=lambda state: "STRONG")
    nothing = Modalities(X, present=np.zeros((20, 3), dtype=bool))
    for ask in (scheduler.predict, scheduler.predict_proba, scheduler.schedule, lambda X: scheduler.next(nothing)):
        with pytest.warns(
            UserWarning, match=r"20 answers .*'STRONG' is not .* \['none', 'strong', 'weak'\] are"
        ) as said:
            ask(X)
        assert len(said) == 1
    answers = iter(["strong", "strong, " * 500])
    with pytest.warns(UserWarning, match="1 answer that") as said:
        with_params(fitted, policy=lambda state: next(answers)).schedule(X[:1])
    assert len(str(said[0].message)) < 500


def test_a_policy_that_stops_is_obeyed(fitted):
    X, _ = tables(5)
    found = with_params(fitted, policy=lambda state: None).schedule(X)
    assert set(found.trace["reason"]) == {"stopped by the policy"}
    assert found.cost.max() == 0


# Parts, and errors


def test_a_frozen_classifier_keeps_its_fit():
    X, y = tables()
    inner = LATE.fit(*tables(seed=1))
    scheduler = ModalityScheduler(FrozenEstimator(inner), cv=3, random_state=0).fit(X, y)
    whole = scheduler.schedule(X).present.all(axis=1)
    np.testing.assert_array_equal(scheduler.estimator_.predict_proba(X), inner.predict_proba(X))
    np.testing.assert_allclose(scheduler.predict_proba(X)[whole], inner.predict_proba(X)[whole])
    with pytest.raises(ValueError, match=r"knows the classes \['no', 'yes'\], which y lacks"):
        scheduler.fit(X, (y == "no").astype(str))


def test_an_estimator_must_be_an_instance_and_a_frozen_one_fitted():
    X, y = tables(20)
    with pytest.raises(TypeError, match="estimator is the class LateFusionStacker; due is an instance"):
        ModalityScheduler(LateFusionStacker).fit(X, y)
    with pytest.raises(NotFittedError, match="FrozenEstimator of a LateFusionStacker that is not fitted"):
        ModalityScheduler(FrozenEstimator(clone(LATE))).fit(X, y)


def test_costs_may_be_a_series():
    X, y = tables(40)
    scheduler = clone(ModalityScheduler(LATE, pd.Series({"weak": 2, "strong": 0.5}), cv=2, random_state=0)).fit(X, y)
    assert scheduler.costs_ == {"strong": 0.5, "weak": 2.0, "none": 1.0}
    for costs, message in (
        (pd.Series({"ecg": 1.0}), r"costs names the modalities \['ecg'\]"),
        (pd.Series({"weak": np.nan}), "costs has nan for the modality 'weak'"),
        ([1.0, 2.0, 3.0], "'costs' parameter"),
    ):
        with pytest.raises(ValueError, match=message):
            scheduler.set_params(costs=costs).fit(X, y)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"costs": {"strong": -1.0}}, r"costs has -1.0 for the modality 'strong'; due is a finite number from 0 on"),
        ({"costs": {"ecg": 1.0}}, r"costs names the modalities \['ecg'\], which X lacks"),
        ({"costs": {"weak": "much"}}, "costs has 'much' for the modality 'weak'"),
        ({"lookahead": 3}, "lookahead is 3; due is 1 or 2"),
        ({"threshold": 1.5}, "threshold"),
        ({"policy": "random"}, "policy"),
        ({"estimator": RidgeClassifier()}, "estimator"),
    ],
)
def test_parameters_that_are_not_as_due_raise(params, message):
    with pytest.raises(ValueError, match=message):
        ModalityScheduler(**params).fit(*tables(20))


@pytest.mark.parametrize("available", ["weak", ["ecg"], np.ones((3, 3)), np.ones((3, 2), dtype=bool)])
def test_what_is_available_must_be_names_or_one_bool_a_slot(fitted, available):
    with pytest.raises(ValueError, match=r"available .*; due is"):
        fitted.schedule(tables(3)[0], available=available)
    with pytest.raises(ValueError, match=r"start is \['ecg'\]; due is a list of names out of \['none', 'strong'"):
        fitted.schedule(tables(3)[0], start=["ecg"])


@pytest.mark.parametrize("form", [pd.DataFrame, dict], ids=["DataFrame", "dict"])
def test_a_table_of_what_is_available_goes_by_its_columns(fitted, form):
    X, _ = tables(20)
    may = pd.DataFrame({"weak": True, "none": True, "strong": False}, index=range(20))
    found = fitted.schedule(X, available=form(may))
    due = fitted.schedule(X, available=may[fitted.modality_names_in_.tolist()].to_numpy())
    np.testing.assert_array_equal(found.present, due.present)
    assert found.present.any()
    assert not found.present[:, list(fitted.modality_names_in_).index("strong")].any()
    with pytest.raises(ValueError, match=r"available has the columns \['weak', 'none'\] of .*; due is one of bool"):
        fitted.schedule(X, available=form(may[["weak", "none"]]))
    with pytest.raises(ValueError, match=r"available has shape \(20, 3\) and dtype float64; due is"):
        fitted.schedule(X, available=form(may.astype(float)))
    with pytest.raises(ValueError, match=r"start is [\s\S]*; due is a list of names"):
        fitted.schedule(X, start=form(may))


# What it is for


def additive(n_samples, rng):
    """As in the benchmark, with two modalities that know something and one that does not."""
    X, y, costs = planted.additive(n_samples, rng)
    return tuple(
        {name: values[name] for name in "abd"} if isinstance(values, dict) else values for values in (X, y, costs)
    )


@pytest.mark.parametrize(("make", "most"), [(additive, 3.9), (planted.gated, 2.1), (planted.synergy, 2.6)])
def test_at_equal_cost_it_is_no_worse_than_the_best_fixed_order(make, most, monkeypatch):
    monkeypatch.setattr(_scheduling, "RandomForestRegressor", FEWER_TREES)
    rows = [
        planted.compare(make, seed, trade_offs=(0.01, 0.03, 0.1), lookaheads=(2,), n_train=400) for seed in range(3)
    ]
    *_, cost, accuracy, fixed = np.mean(rows, axis=0).T
    assert (accuracy >= fixed - 0.005).all(), accuracy - fixed
    assert (accuracy > 0.88).all()
    assert cost[1] < most
    assert (np.diff(cost) < 0).all()


def test_the_fixed_orders_of_the_comparison_are_all_orders():
    X, y, costs = planted.additive(400, np.random.default_rng(0))
    X = Modalities(X)
    classifier = planted.BySet().fit(X, y)
    curves = planted.fixed_orders(classifier, X, y, costs, 0.5)
    assert len(curves) == 24
    ends = {tuple(np.round((cost[-1], accuracy[-1]), 6)) for cost, accuracy in curves}
    assert ends == {(6.0, round(np.mean(classifier.predict(X) == y), 6))}
    halves = {round(accuracy[2], 6) for _, accuracy in curves}
    assert halves == {round(np.mean(classifier.predict(X.select(p)) == y), 6) for p in combinations(costs, 2)}
