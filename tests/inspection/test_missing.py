import warnings

import numpy as np
import pandas as pd
import pytest
from _recording import Failing, Recording
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline

from skfusion import EarlyFusionTransformer, FusionClassifier, FusionRegressor, LateFusionStacker, Modalities, ampute
from skfusion.inspection import compare_fusions, corrected_resampled_interval, missing_modality_curve

N = 90
NAMES = ["good", "fair", "noise"]
EARLY = FusionClassifier("early")


def data(n=N, seed=0):
    """Three modalities: two that say something of y, and noise; the first column of each numbers the rows."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    number = np.arange(n)[:, None]
    return {
        "good": np.hstack([number, rng.normal(size=(n, 2)) + 1.5 * y[:, None]]),
        "fair": np.hstack([number, rng.normal(size=(n, 2)) + 0.8 * y[:, None]]),
        "noise": np.hstack([number, rng.normal(size=(n, 2))]),
    }, y


class ByPresence(ClassifierMixin, BaseEstimator):
    """Knows the truth of every row number, but tells it only of who has `needs`; of others it says 0."""

    def __init__(self, needs="good"):
        self.needs = needs

    def fit(self, X, y):
        self.classes_ = np.array([0, 1])
        return self

    def predict(self, X):
        truth = np.array([TRUTH[int(row)] for row in X[X.names[0]][:, 0]])
        return np.where(X.present[:, X.names.index(self.needs)], truth, 0)


class Demanding(ByPresence):
    """Fails where anything is missing."""

    def predict(self, X):
        if not X.present.all():
            raise ValueError("a modality is missing")
        return super().predict(X)


class Masked(Recording):
    """Keeps who had what, in training and when asked."""

    def fit(self, X, y, groups=None):
        super().fit(X, y, groups)
        self.entry_["trained_on"] = X.present
        return self

    def predict(self, X):
        predicted = super().predict(X)
        self.seen[-1]["asked_on"] = X.present
        return predicted


TRUTH = data()[1]


@pytest.fixture
def recorded():
    Recording.seen.clear()
    return Recording.seen


# scores


def test_scores_are_those_of_hand_made_masks():
    X, y = data()
    result = missing_modality_curve(EARLY, X, y, rates=(0, 0.3, 0.6), cv=3, random_state=7)
    folds = StratifiedKFold(3, shuffle=True, random_state=7)
    seeds = np.random.RandomState(7).randint(np.iinfo(np.int32).max, size=(3, 2))
    X = Modalities(X)
    scores = result.scores.set_index(["estimator", "rate", "fold"])["score"]
    for fold, (train, test) in enumerate(folds.split(y, y)):
        model = FusionClassifier("early").fit(X[train], y[train])
        for rate in (0, 0.3, 0.6):
            left = ampute(X[test], rate, random_state=int(seeds[fold, 1]))
            assert scores["FusionClassifier", rate, fold] == model.score(left, y[test])


def test_at_rate_zero_it_is_cross_validation():
    X, y = data()
    result = missing_modality_curve({"early": EARLY}, X, y, rates=[0], scoring="roc_auc", single="auto", random_state=7)
    folds = StratifiedKFold(5, shuffle=True, random_state=7)
    due = cross_val_score(EARLY, Modalities(X), y, cv=folds, scoring="roc_auc")
    np.testing.assert_array_equal(result.scores.query("estimator == 'early'")["score"], due)
    compared = compare_fusions(X, y, estimators={"early": EARLY}, scoring="roc_auc", random_state=7)
    assert result.best_single == compared.best_single == "good"
    alone = result.scores.query("estimator == 'good alone'")["score"]
    np.testing.assert_array_equal(alone, compared.scores["good"])
    assert result.area.tolist() == result.table["mean"].tolist()
    assert (result.relative_robustness == 0).all()


def test_the_table_is_made_of_the_scores():
    X, y = data()
    late = LateFusionStacker(LogisticRegression(), "mean", cv=2)
    result = missing_modality_curve({"early": EARLY, "late": late}, X, y, cv=3, random_state=0)
    assert result.rates == (0, 0.3, 0.5)
    assert (result.n_splits, result.scoring, result.at, result.mechanism) == (3, "accuracy", "predict", "mcar")
    assert list(result.table) == ["estimator", "rate", "missing", "mean", "sd", "difference", "ci_low", "ci_high"]
    assert result.table[["estimator", "rate"]].apply(tuple, axis=1).tolist() == [
        (name, rate) for name in ("early", "late") for rate in (0, 0.3, 0.5)
    ]
    by_fold = result.scores.pivot(index="fold", columns=["estimator", "rate"], values="score")
    for row in result.table.itertuples():
        own, first = by_fold[row.estimator, row.rate], by_fold["early", row.rate]
        assert row.missing == pytest.approx(row.rate, abs=1e-12)
        assert (row.mean, row.sd) == pytest.approx((own.mean(), own.std(ddof=1)))
        assert row.difference == pytest.approx((own - first).mean(), abs=1e-12)
        assert (row.ci_low, row.ci_high) == corrected_resampled_interval(own - first, 60, 30)
    means = result.table.pivot(index="rate", columns="estimator", values="mean")
    assert (means.loc[0.5] < means.loc[0]).all()


def test_areas_are_what_a_ruler_says():
    X, y = data()
    needs = {"good": ByPresence("good"), "fair": ByPresence("fair"), "demanding": Demanding()}
    with pytest.warns(
        FitFailedWarning, match="the estimator 'demanding' failed in 5 of 5 folds.*a modality is missing"
    ):
        result = missing_modality_curve(needs, X, y, rates=(0.1, 0.3, 0.6), random_state=0, error_score=np.nan)
    f = result.table.pivot(index="rate", columns="estimator", values="mean")
    for name in ("good", "fair"):
        own, base = f[name].to_numpy(), f["good"].to_numpy()
        due = 0.2 * (own[0] + own[1]) / 2 + 0.3 * (own[1] + own[2]) / 2
        assert result.relative_robustness[name] == pytest.approx(due, abs=1e-12)
        assert result.area[name] == pytest.approx(due / 0.5, abs=1e-12)
        d = own - (base + own[0] - base[0])
        due = 0.2 * (d[0] + d[1]) / 2 + 0.3 * (d[1] + d[2]) / 2
        assert result.effective_robustness[name] == pytest.approx(due, abs=1e-12)
    assert result.effective_robustness["good"] == 0
    assert np.isnan(result.area["demanding"])
    assert list(result.area.index) == list(needs)


def test_effective_robustness_does_not_care_for_the_level():
    X, y = data()

    def shifted(estimator, X, y):
        return accuracy_score(y, estimator.predict(X)) - (0.3 if estimator.needs == "fair" else 0)

    estimators = {"a": ByPresence("good"), "b": ByPresence("fair")}
    plain, lower = (
        missing_modality_curve(estimators, X, y, cv=2, scoring=scoring, random_state=0)
        for scoring in (lambda estimator, X, y: shifted(estimator, X, y) + 0.3 * (estimator.needs == "fair"), shifted)
    )
    assert lower.effective_robustness["b"] == pytest.approx(plain.effective_robustness["b"], abs=1e-12)
    assert lower.area["b"] == pytest.approx(plain.area["b"] - 0.3, abs=1e-12)


def test_an_estimator_that_needs_nothing_missing_loses_nothing():
    X, y = data()
    result = missing_modality_curve(
        {"good": ByPresence("good"), "fair": ByPresence("fair")}, X, y, affected=["fair", "noise"], rates=(0, 0.4, 0.8)
    )
    means = result.table.pivot(index="rate", columns="estimator", values="mean")
    assert (means["good"] == 1).all()
    assert means["fair"].is_monotonic_decreasing
    assert means.loc[0.8, "fair"] < 0.7
    assert result.effective_robustness["fair"] < -0.1


# patterns


@pytest.mark.parametrize(("scoring", "metric"), [("roc_auc", roc_auc_score), ("accuracy", accuracy_score)])
def test_patterns_are_scored_over_the_pooled_test_samples(scoring, metric):
    X, y = data(150)
    X["noise"][::10] = np.nan
    result = missing_modality_curve({"early": EARLY}, X, y, rates=(0, 0.5), cv=3, scoring=scoring, random_state=1)
    X = Modalities(X)
    seeds = np.random.RandomState(1).randint(np.iinfo(np.int32).max, size=(3, 2))
    predicted, present = np.zeros(150), np.zeros((150, 3), dtype=bool)
    for fold, (train, test) in enumerate(StratifiedKFold(3, shuffle=True, random_state=1).split(y, y)):
        model = FusionClassifier("early").fit(X[train], y[train])
        left = ampute(X[test], 0.5, random_state=int(seeds[fold, 1]))
        answer = model.predict_proba(left)[:, 1]
        predicted[test], present[test] = answer if scoring == "roc_auc" else model.predict(left), left.present
    found = result.by_pattern.query("rate == 0.5").set_index("pattern")
    assert list(found.index)[:2] == ["good + fair + noise", "good + fair"]
    assert list(found.index)[-3:] == NAMES
    assert found["n_samples"].sum() == 150
    for pattern, row in found.iterrows():
        has = np.isin(NAMES, pattern.split(" + "))
        members = (present == has).all(axis=1)
        assert row["n_samples"] == members.sum()
        assert row["score"] == pytest.approx(metric(y[members], predicted[members]), abs=1e-12)
    assert result.by_pattern.query("rate == 0")["pattern"].tolist() == ["good + fair + noise", "good + fair"]


def test_a_pattern_without_a_score_is_nan_and_quiet():
    X, y = data()
    y = np.sort(y)
    X["good"][y == 0] = np.nan
    result = missing_modality_curve({"early": EARLY}, X, y, rates=[0], cv=3, scoring="roc_auc", random_state=0)
    assert result.by_pattern["pattern"].tolist() == ["good + fair + noise", "fair + noise"]
    assert result.by_pattern["score"].isna().all(), "one class has no ROC AUC"
    assert result.by_pattern["n_samples"].tolist() == [(y == 1).sum(), (y == 0).sum()]


def test_a_scorer_that_asks_for_more_than_predictions_has_no_patterns():
    X, y = data()
    result = missing_modality_curve(
        {"needy": ByPresence()}, X, y, cv=2, rates=[0], scoring=lambda estimator, X, y: estimator.score(X, y)
    )
    assert (result.scores["score"] == 1).all()
    assert result.by_pattern["score"].isna().all()


# who sees what


@pytest.mark.parametrize("at", ["predict", "fit", "both"])
def test_all_estimators_lack_the_same(recorded, at):
    X, y = data()
    estimators = {"one": Masked("one"), "two": Masked("two")}
    result = missing_modality_curve(estimators, X, y, at=at, rates=(0.2, 0.5), cv=3, random_state=0)
    assert len(recorded) == 2 * 2 * 3
    one, two = ([entry for entry in recorded if entry["name"] == name] for name in estimators)
    for a, b in zip(one, two):
        for key in ("train", "test", "trained_on", "asked_on"):
            np.testing.assert_array_equal(a[key], b[key])
    spoilt = {"predict": (False, True), "fit": (True, False), "both": (True, True)}[at]
    for entry in one:
        assert (not entry["trained_on"].all(), not entry["asked_on"].all()) == spoilt
        assert entry["trained_on"].any(axis=1).all()
        assert entry["asked_on"].any(axis=1).all()
    np.testing.assert_allclose(result.table["missing"], result.table["rate"], atol=0.01)


def test_one_fit_a_fold_serves_all_rates_at_predict(monkeypatch):
    fits = []
    original = ByPresence.fit
    monkeypatch.setattr(ByPresence, "fit", lambda self, X, y: fits.append(len(X)) or original(self, X, y))
    X, y = data()
    missing_modality_curve(ByPresence(), X, y, rates=(0, 0.1, 0.2, 0.3), cv=3)
    assert fits == [60] * 3
    missing_modality_curve(ByPresence(), X, y, rates=(0, 0.1, 0.2, 0.3), cv=3, at="fit")
    assert fits == [60] * (3 + 12)


def test_what_is_missing_at_a_rate_is_missing_at_the_next(recorded):
    X, y = data()
    missing_modality_curve(Masked(), X, y, rates=(0.6, 0.2, 0.4), cv=2, random_state=0)
    for fold in range(2):
        few, some, many = (entry["asked_on"] for entry in recorded[3 * fold : 3 * fold + 3])
        assert few.sum() > some.sum() > many.sum()
        assert not (many & ~some).any()
        assert not (some & ~few).any()


def test_mechanisms_reach_the_masks(recorded):
    X, y = data()
    missing_modality_curve(Masked(), X, y, mechanism="mar", by="fair", rates=[0.8], cv=2, random_state=0)
    assert all(entry["asked_on"][:, 1].all() for entry in recorded)
    recorded.clear()
    missing_modality_curve(Masked(), X, y, mechanism="unseen", at="fit", rates=[1], cv=2, random_state=0)
    assert all((entry["trained_on"].sum(axis=1) == 1).all() and entry["asked_on"].all() for entry in recorded)
    recorded.clear()
    groups = np.arange(N) // 5
    missing_modality_curve(
        Masked(), X, y, mechanism="block", groups=groups, rates=[0.4], cv=KFold(3), at="both", random_state=0
    )
    for entry in recorded:
        for rows, present in ((entry["train"], entry["trained_on"]), (entry["test"], entry["asked_on"])):
            assert not present.all()
            for group in np.unique(groups[rows]):
                assert len(np.unique(present[groups[rows] == group], axis=0)) == 1
        np.testing.assert_array_equal(entry["groups"], groups[entry["train"]])


class Valued(Recording):
    """Keeps the values that it saw, in training and when asked."""

    def fit(self, X, y, groups=None):
        super().fit(X, y, groups)
        self.entry_["trained_on"] = X
        return self

    def predict(self, X):
        predicted = super().predict(X)
        self.seen[-1]["asked_on"] = X
        return predicted


@pytest.mark.parametrize("at", ["predict", "fit", "both"])
def test_single_values_go_alike_for_all_estimators(recorded, at):
    X, y = data()
    X["noise"][::9] = np.nan
    X = {name: X[name] for name in ("fair", "good", "noise")}  # the first has the numbers of the rows, and keeps them
    estimators = {"one": Valued("one"), "two": Valued("two")}
    result = missing_modality_curve(
        estimators, X, y, mechanism="values", at=at, rates=(0.2, 0.4), affected=["good", "noise"], cv=3, random_state=0
    )
    one, two = ([entry for entry in recorded if entry["name"] == name] for name in estimators)
    spoilt = {"trained_on": at != "predict", "asked_on": at != "fit"}
    X = Modalities(X)
    for a, b in zip(one, two):
        for key, rows in (("trained_on", a["train"]), ("asked_on", a["test"])):
            np.testing.assert_array_equal(a[key].present, X.present[rows])
            for name in NAMES:
                np.testing.assert_array_equal(a[key][name], b[key][name])
                gone = np.isnan(a[key][name][X.present[rows, X.names.index(name)]])
                assert gone.any() == (spoilt[key] and name != "fair")
                assert not gone.all(axis=1).any()
    # Of nine columns, six lose values; a ninth of the rows of three are missing already.
    np.testing.assert_allclose(result.table["missing"], result.table["rate"] * (90 + 80) / (90 + 90 + 80), atol=0.01)
    assert result.mechanism == "values"
    for _, rows in result.by_pattern.groupby(["estimator", "rate"]):
        assert rows["pattern"].tolist() == ["fair + good + noise", "fair + good"]
        assert rows["n_samples"].tolist() == [80, 10]


def test_single_values_missing_at_a_rate_are_missing_at_the_next(recorded):
    X, y = data()
    missing_modality_curve(Valued(), X, y, mechanism="values", rates=(0.1, 0.3, 0.5), cv=2, random_state=0)
    for fold in range(2):
        masks = [np.isnan(entry["asked_on"]["good"]) for entry in recorded[3 * fold : 3 * fold + 3]]
        assert masks[0].sum() < masks[1].sum() < masks[2].sum()
        assert not (masks[0] & ~masks[1]).any()
        assert not (masks[1] & ~masks[2]).any()


def test_high_values_go_first_where_they_decide(recorded):
    X, y = data()
    X = {name: X[name] for name in ("fair", "good")}  # the first has the numbers of the rows, and keeps them
    options = {"rates": 0.4, "affected": ["good"], "cv": 2, "random_state": 0}
    lost = {}
    for mechanism in ("values", "values_mnar"):
        missing_modality_curve(Valued(), X, y, mechanism=mechanism, **options)
        left, before = recorded[-1]["asked_on"]["good"], X["good"][recorded[-1]["test"]]
        gone = np.isnan(left)
        np.testing.assert_array_equal(left[~gone], before[~gone])
        assert gone.mean() == pytest.approx(0.4)
        standing = (before - before.mean(axis=0)) / before.std(axis=0)
        lost[mechanism] = standing[gone].mean()
    assert abs(lost["values"]) < 0.3
    assert lost["values_mnar"] > 0.6


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("at", ["predict", "both"])
def test_scores_fall_with_the_values_and_nothing_is_said(at):
    X, y = data(150)
    late = LateFusionStacker(LogisticRegression(), "mean", cv=2)
    result = missing_modality_curve(
        {"early": EARLY, "late": late}, X, y, mechanism="values", at=at, single="auto", cv=3, random_state=0
    )
    assert result.rates == (0, 0.3, 0.5), "two of three columns can go at most"
    np.testing.assert_allclose(result.table["missing"], result.table["rate"], atol=0.01)
    means = result.table.pivot(index="rate", columns="estimator", values="mean")
    assert (means.loc[0.5] < means.loc[0]).all()


def test_values_may_go_from_one_modality_and_a_text_has_none():
    X, y = data()
    table = {"good": X["good"]}
    assert missing_modality_curve(EARLY, table, y, mechanism="values", cv=2, rates=0.3).rates == (0.3,)
    X = {**table, "age": X["fair"][:, [1]], "notes": ["x"] * N, "counts": sparse.csr_matrix(X["fair"])}
    for name, why in (
        ("age", "'age' is a 2-D array of numbers, whose rows hold one value"),
        ("notes", "'notes' is strings, which have no single values"),
        ("counts", "'counts' is a CSR matrix, whose absent values are zeros"),
    ):
        with pytest.raises(ValueError, match=rf"{why}.*pass affected=\['good'\]"):
            missing_modality_curve(EARLY, {**table, name: X[name]}, y, mechanism="values", cv=2)
    result = missing_modality_curve(EARLY, X, y, mechanism="values", affected="good", cv=2, rates=[0.3], random_state=0)
    assert result.table["missing"].tolist() == pytest.approx([0.3 * 3 / 4], abs=0.01)
    with pytest.raises(ValueError, match="pass another mechanism"):
        missing_modality_curve(EARLY, {"notes": X["notes"]}, y, mechanism="values", cv=2)


@pytest.mark.parametrize("affected", [None, ["good"]])
def test_rates_that_are_not_reached_are_told_once(affected):
    X, y = data()
    X = Modalities(X).select(["good", "fair"])
    X = ampute(X, 0.4, random_state=0)
    options = {"rates": (0.1, 0.4, 0.5), "affected": affected, "cv": 2, "random_state": 0}
    with pytest.warns(UserWarning, match=r"rates \[0.4, 0.5\] are not reached, only \[") as said:
        result = missing_modality_curve(EARLY, X, y, **options)
    assert len(said) == 1
    names = affected or ["good", "fair"]
    taken = ampute(X, dict.fromkeys(names, 0.5), random_state=0).select(names).present.sum()
    assert result.reached[0.5] == pytest.approx(1 - taken / X.select(names).present.sum(), abs=0.02)
    assert result.reached[0.1] == pytest.approx(0.1, abs=0.01)


@pytest.mark.filterwarnings("error")
def test_default_rates_end_with_the_most_that_can_go():
    X, y = data()
    X = ampute(Modalities(X).select(["good", "fair"]), 0.4, random_state=0)
    result = missing_modality_curve(EARLY, X, y, cv=2, random_state=0)
    assert result.rates[0] == 0
    assert 0 < result.rates[-1] < 0.3
    np.testing.assert_allclose(result.reached, result.rates, atol=0.02)


@pytest.mark.parametrize("X", [["red dog", "blue cat"] * 30, np.arange(60.0)])
def test_a_vector_may_be_samples(X):
    y = np.repeat([0, 1], 30)
    with pytest.raises((ValueError, TypeError)) as said:
        missing_modality_curve(EARLY, X, y)
    assert "swapped" not in str(said.value)
    with pytest.raises(ValueError, match="y is None; due is a number or class for each"):
        missing_modality_curve(EARLY, {"a": np.ones((4, 2))}, None)


def test_one_rate_needs_no_list():
    X, y = data()
    assert missing_modality_curve(ByPresence(), X, y, rates=0.3, cv=2).rates == (0.3,)


def test_the_best_single_modality_is_fitted_where_it_is_there():
    X, y = data()
    X["good"][::6] = np.nan
    result = missing_modality_curve({"early": EARLY}, X, y, rates=(0, 0.4), single=EARLY, cv=3, random_state=0)
    assert result.best_single == "good"
    assert result.table["estimator"].unique().tolist() == ["early", "good alone"]
    assert set(result.by_pattern["estimator"]) == set(result.area.index) == {"early", "good alone"}
    train, test = next(StratifiedKFold(3, shuffle=True, random_state=0).split(y, y))
    seed = np.random.RandomState(0).randint(np.iinfo(np.int32).max, size=(3, 2))[0, 1]
    X = Modalities(X)
    kept = train[X.present[train, 0]]
    model = FusionClassifier("early").fit(X[kept].select(["good"]), y[kept])
    due = model.score(ampute(X[test], 0.4, random_state=int(seed)).select(["good"]), y[test])
    found = result.scores.query("estimator == 'good alone' and rate == 0.4 and fold == 0")["score"]
    assert found.tolist() == [due]


def test_the_default_rates_are_those_that_can_be_reached():
    X, y = data()
    two = {name: X[name] for name in ("good", "fair")}
    four = {**X, "more": X["noise"]}
    for data_, options, due in (
        (two, {}, (0, 0.3, 0.5)),
        (four, {}, (0, 0.3, 0.5, 0.7)),
        (two, {"mechanism": "mar"}, (0, 0.3, 0.5, 0.7)),
        (two, {"affected": ["fair"]}, (0, 0.3, 0.5, 0.7)),
    ):
        assert missing_modality_curve(ByPresence(), data_, y, cv=2, **options).rates == due


def test_regression_and_other_forms_of_X():
    X, _ = data()
    y = X["good"][:, 1] + X["fair"][:, 1]
    frame = pd.concat({name: pd.DataFrame(values) for name, values in X.items()}, axis=1)
    first, second = (
        missing_modality_curve(FusionRegressor("early"), form, y, single="auto", cv=3, random_state=0)
        for form in (X, frame)
    )
    assert first.scoring == "r2"
    assert first.area["FusionRegressor"] > first.area["good alone"]
    pd.testing.assert_frame_equal(first.table, second.table)
    assert not first.by_pattern["score"].isna().all()


@pytest.mark.parametrize("at", ["predict", "both"])
def test_same_seed_same_scores_in_one_process_and_in_two(at):
    X, y = data(60)
    first, second, third = (
        missing_modality_curve({"early": EARLY}, X, y, cv=2, at=at, single="auto", random_state=seed, n_jobs=n_jobs)
        for seed, n_jobs in ((0, 1), (0, 2), (np.random.RandomState(0), None))
    )
    pd.testing.assert_frame_equal(first.scores, second.scores, check_exact=True)
    pd.testing.assert_frame_equal(first.by_pattern, second.by_pattern, check_exact=True)
    assert not first.scores.equals(third.scores)


# failures and errors


def test_an_estimator_that_takes_no_missing_modality_raises_and_is_named():
    X, y = data()
    with pytest.raises(ValueError, match="a modality is missing") as caught:
        missing_modality_curve({"fine": ByPresence(), "odd": Demanding()}, X, y, cv=2)
    assert "raised by the estimator 'odd' at rate 0.3" in caught.value.__notes__[0]


def test_a_failing_rate_scores_nan_and_the_others_stay():
    X, y = data()
    with pytest.warns(FitFailedWarning, match="the estimator 'odd' failed in 2 of 2 folds") as caught:
        result = missing_modality_curve(
            {"fine": ByPresence(), "odd": Demanding()}, X, y, cv=2, rates=(0, 0.3), error_score=np.nan
        )
    assert len(caught) == 1
    assert caught[0].filename == __file__
    odd = result.table.query("estimator == 'odd'")
    assert odd["mean"].isna().tolist() == [False, True]
    assert odd["difference"].isna().tolist() == [False, True]
    assert not result.table.query("estimator == 'fine'").isna().any().any()
    patterns = result.by_pattern.query("estimator == 'odd'")
    assert patterns["score"].isna().tolist() == [False] + [True] * (len(patterns) - 1)
    assert np.isnan(result.area["odd"])


def test_a_failing_fit_scores_nan_at_every_rate():
    X, y = data()
    with pytest.warns(FitFailedWarning, match="failed in 1 of 3 folds.*the first sample is gone"):
        result = missing_modality_curve(
            {"fine": EARLY, "odd": Failing("early")}, X, y, cv=3, random_state=0, error_score=np.nan
        )
    assert result.scores.query("estimator == 'odd'")["score"].isna().sum() == len(result.rates)


def test_samples_with_nothing_and_single_missing_values_are_said_once():
    X, y = data()
    for values in X.values():
        values[4] = np.nan
    X["good"][7, 1] = np.nan
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = missing_modality_curve({"early": EARLY}, X, y, cv=3, at="both", random_state=0)
    said = [str(w.message) for w in caught]
    assert len(said) == 2
    assert "single values are missing" in said[0]
    assert "1 of 90 samples have no modality present" in said[1]
    assert all(w.filename == __file__ for w in caught)
    assert result.by_pattern.query("rate == 0")["pattern"].tolist() == ["good + fair + noise", "nothing"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rates": (0, 0.7)}, ValueError, r"rates has 0.7, .*0.667 is the most .*affected=\['good'\]"),
        ({"rates": (0, 1)}, ValueError, "rates has 1; due are numbers from 0 up to"),
        ({"rates": (-0.1, 0.3)}, ValueError, "rates has -0.1; due are numbers from 0 up to"),
        ({"rates": ()}, ValueError, r"rates is \[\]"),
        ({"rates": ["half"]}, ValueError, r"rates is \['half'\]"),
        ({"at": "test"}, ValueError, "at is 'test'; due is 'predict', 'fit' or 'both'"),
        ({"mechanism": "random"}, ValueError, "mechanism is 'random'"),
        ({"by": "good"}, ValueError, "by is given, but mechanism is 'mcar'"),
        ({"affected": ["rna"]}, ValueError, r"affected is \['rna'\]; due are names of modalities"),
        ({"affected": []}, ValueError, r"affected is \[\]"),
        ({"affected": 3}, ValueError, "affected is 3"),
        ({"affected": ["good"], "mechanism": "unseen"}, ValueError, "affected is given, but mechanism is 'unseen'"),
        ({"rates": True}, ValueError, "rates is True; due are numbers"),
        ({"by": "good", "mechanism": "values"}, ValueError, "by is given, but mechanism is 'values'"),
        ({"by": "good", "mechanism": "values_mnar"}, ValueError, "by is given, but mechanism is 'values_mnar'"),
        (
            {"rates": 0.9, "mechanism": "values"},
            ValueError,
            "rates has 0.9, but one of the single values .*0.667 is the most",
        ),
        ({"cv": 1}, ValueError, "cv is 1; due are at least 2 folds"),
        ({"cv": []}, ValueError, r"cv is \[\], which gives no folds"),
        ({"cv": [(1, 2)]}, ValueError, r"cv is \[\(1, 2\)\]"),
        ({"groups": "site"}, ValueError, r"groups has shape \(\); due is \(90,\)"),
        ({"modalities": ["good"]}, ValueError, r"X has no modality but \['good'\]"),
        ({"single": "best"}, TypeError, "single is 'best'.*'auto' is the default one"),
        ({"estimator": {}}, ValueError, "estimator is an empty dict"),
        ({"estimator": {"a": EARLY, "b": "late"}}, TypeError, r"estimator\['b'\] is 'late'"),
        ({"estimator": FusionClassifier}, TypeError, "estimator is .*due is a classifier"),
        ({"estimator": {"good alone": EARLY}, "single": "auto"}, ValueError, "'good alone', which `single` needs"),
        ({"confidence": 95}, ValueError, "confidence is 95"),
        ({"error_score": "nan"}, ValueError, "error_score is 'nan'"),
    ],
)
def test_errors_say_what_is_due(options, error, message):
    X, y = data()
    options = {"estimator": EARLY, **options}
    with pytest.raises(error, match=message):
        missing_modality_curve(options.pop("estimator"), X, y, **{"cv": 2, **options})


def test_pipelines_are_estimators(capsys):
    X, y = data()
    pipeline = make_pipeline(EarlyFusionTransformer(transformers="auto"), LogisticRegression(max_iter=1000))
    result = missing_modality_curve(pipeline, X, y, cv=2, scoring="neg_log_loss", verbose=1, random_state=0)
    assert result.table["estimator"].unique().tolist() == ["Pipeline"]
    assert not result.by_pattern["score"].isna().all()
    assert "missing_modality_curve" in capsys.readouterr().err
    ridge = make_pipeline(EarlyFusionTransformer(), Ridge())
    assert missing_modality_curve(ridge, X, y.astype(float), cv=2, rates=[0.2]).scoring == "r2"


def test_values_of_tables_with_categories_are_counted():
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    table = pd.DataFrame({"ward": ["a", "b", None] * 20, "age": rng.normal(size=60)})
    X = {"table": table, "a": rng.normal(size=(60, 3)) + y[:, None]}
    options = {"mechanism": "values", "cv": 2, "rates": 0.2, "random_state": 0}
    alone = missing_modality_curve(EARLY, X, y, affected=["a"], **options)
    np.testing.assert_allclose(alone.table["missing"], 0.2 * 180 / (180 + 100), atol=0.02)
    both = missing_modality_curve(EARLY, X, y, **options)
    np.testing.assert_allclose(both.table["missing"], 0.2, atol=0.02)
