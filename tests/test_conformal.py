"""What is special to conformal prediction by missing pattern: coverage in each of them, and who calibrates whom."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from skfusion import (
    FusionClassifier,
    FusionRegressor,
    Modalities,
    PatternConformalClassifier,
    PatternConformalRegressor,
    ampute,
)
from skfusion._calibration import (
    class_scores,
    find_threshold,
    hold_out,
    hold_out_groups,
    least_samples,
    nearest_patterns,
)
from skfusion._coins import flip_coins
from skfusion.modalities.patterns import name_pattern

SEEDS = 50
LOWEST, HIGHEST = -0.005, 0.02
"""How far from nominal the coverage of a pattern may be on average."""


class Summing(BaseEstimator):
    """Adds up what the modalities say; it has nothing to learn."""

    def __init__(self, decimals=None):
        self.decimals = decimals

    def fit(self, X, y):
        raise AssertionError("a frozen estimator was fitted")

    def __sklearn_is_fitted__(self):
        return True

    def said(self, X):
        return sum(np.where(X.present[:, [m]], X[name], 0) for m, name in enumerate(X.names))


class SummingClassifier(ClassifierMixin, Summing):
    classes_ = np.array(["p", "q", "r", "s"])

    def predict_proba(self, X):
        odds = np.exp(self.said(X))
        proba = odds / odds.sum(axis=1, keepdims=True)
        return proba if self.decimals is None else proba.round(self.decimals)

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


class SummingRegressor(RegressorMixin, Summing):
    def predict(self, X):
        return self.said(X)[:, 0]


def present_by(shares, n_samples, rng):
    """Draw who has a and b, by the shares of those that have both, a alone, and b alone."""
    return np.array([[True, True], [True, False], [False, True]])[rng.choice(3, size=n_samples, p=shares)]


def classes(n_samples, seed, shares=(0.4, 0.3, 0.3)):
    """Four classes, of which `a` knows much and `b` little, but speaks as loudly."""
    rng = np.random.default_rng(seed)
    y = rng.integers(4, size=n_samples)
    truth = np.eye(4)[y]
    data = {"a": 4 * truth + rng.normal(size=(n_samples, 4)), "b": 4 * (0.3 * truth + rng.normal(size=(n_samples, 4)))}
    return Modalities(data, present=present_by(shares, n_samples, rng)), SummingClassifier.classes_[y]


def numbers(n_samples, seed, shares=(0.4, 0.3, 0.3)):
    """A sum, of which `a` holds the larger part."""
    rng = np.random.default_rng(seed)
    a, b = 3 * rng.normal(size=(n_samples, 1)), rng.normal(size=(n_samples, 1))
    y = (a + b)[:, 0] + 0.3 * rng.normal(size=n_samples)
    return Modalities({"a": a, "b": b}, present=present_by(shares, n_samples, rng)), y


def classifier(decimals=None, **params):
    return PatternConformalClassifier(FrozenEstimator(SummingClassifier(decimals)), **params)


def regressor(**params):
    return PatternConformalRegressor(FrozenEstimator(SummingRegressor()), **params)


def covered(model, X, y):
    """Return for each sample whether its set or interval holds the truth."""
    if hasattr(model, "predict_interval"):
        low, high = model.predict_interval(X).T
        return (low <= y) & (y <= high)
    return model.predict_set(X)[np.arange(len(y)), np.searchsorted(model.classes_, y)]


BORROWED = pytest.mark.filterwarnings("ignore:too few calibration samples have just the modalities")


def coverage(model, draw, *, n_samples=1000, shares=(0.4, 0.3, 0.3), new_shares=(0.4, 0.3, 0.3)):
    """Return the coverage of each pattern, averaged over seeds."""
    found = []
    for seed in range(SEEDS):
        X, y = draw(n_samples, 2 * seed, shares)
        model.set_params(random_state=seed).fit(X, y)
        X, y = draw(2000, 2 * seed + 1, new_shares)
        held = pd.Series(covered(model, X, y)).groupby([name_pattern(row, X.names) for row in X.present]).mean()
        found.append(held)
    return pd.concat(found, axis=1).mean(axis=1)


# Coverage


@pytest.mark.parametrize("confidence", [0.8, 0.9])
@pytest.mark.parametrize("method", ["lac", "aps"])
def test_sets_hold_the_truth_in_each_pattern_as_often_as_promised(method, confidence):
    found = coverage(classifier(method=method, confidence=confidence), classes)
    assert found.index.tolist() == ["a", "a + b", "b"]
    assert found.between(confidence + LOWEST, confidence + HIGHEST).all(), found


@pytest.mark.parametrize("confidence", [0.8, 0.9])
def test_intervals_hold_the_truth_in_each_pattern_as_often_as_promised(confidence):
    found = coverage(regressor(confidence=confidence), numbers)
    assert found.between(confidence + LOWEST, confidence + HIGHEST).all(), found


@BORROWED
@pytest.mark.parametrize(("make", "draw"), [(classifier, classes), (regressor, numbers)])
def test_one_threshold_for_all_patterns_would_not_hold_its_promise_in_each(make, draw):
    found = coverage(make(min_samples=10**6, pooling="nearest"), draw)
    assert found["b"] < 0.9 - 0.05
    assert found["a + b"] > 0.9 + HIGHEST


def test_scores_that_tie_make_no_larger_sets():
    model = classifier(decimals=1)
    found = coverage(model, classes)
    assert found.between(0.9 + LOWEST, 0.9 + HIGHEST).all(), found
    X, y = classes(4000, seed=999)
    scores = 1 - model.predict_proba(X)[np.arange(4000), np.searchsorted(model.classes_, y)]
    b = ~X.present[:, 0]
    assert np.mean(scores[b] <= model.patterns_.loc["b", "threshold"]) > 0.9 + 2 * HIGHEST


def test_aps_evens_out_what_is_easy_and_what_is_difficult():
    rng = np.random.default_rng(0)
    scale = rng.choice([0.3, 4.0], size=(20_000, 1))
    logits = scale * rng.normal(size=(20_000, 4))
    proba = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    y = SummingClassifier.classes_[(proba.cumsum(axis=1) < rng.random((20_000, 1))).sum(axis=1)]
    X, difficult = Modalities({"a": logits}), scale[:, 0] < 1
    gaps = {}
    for method in ("lac", "aps"):
        model = classifier(method=method, random_state=0, modalities=["a"]).fit(X[:5000], y[:5000])
        held = covered(model, X[5000:], y[5000:])
        gaps[method] = held[~difficult[5000:]].mean() - held[difficult[5000:]].mean()
    assert abs(gaps["aps"]) < 0.02
    assert gaps["lac"] > 0.05


def test_who_has_more_gets_smaller_sets_and_narrower_intervals():
    X, y = classes(2000, 0)
    n_classes = classifier().fit(X, y).predict_set(X).sum(axis=1)
    both, a, b = (np.flatnonzero((X.present == row).all(axis=1)) for row in ([1, 1], [1, 0], [0, 1]))
    assert n_classes[a].mean() < n_classes[both].mean() < n_classes[b].mean()  # b is loud, and mostly wrong
    X, y = numbers(2000, 0)
    low, high = regressor().fit(X, y).predict_interval(X).T
    width = high - low
    both, a, b = (width[(X.present == row).all(axis=1)].mean() for row in ([1, 1], [1, 0], [0, 1]))
    assert both < a < b


def test_an_interval_is_the_prediction_and_the_quantile_of_absolute_residuals():
    X, y = numbers(500, 0)
    model = regressor().fit(X, y)
    assert model.calibration_indices_.tolist() == list(range(500))
    a = (X.present == [True, False]).all(axis=1)
    residuals = np.sort(np.abs(y - SummingRegressor().predict(X))[a])
    due = residuals[int(np.ceil((a.sum() + 1) * 0.9)) - 1]
    assert model.patterns_.loc["a", "threshold"] == due
    expected = model.predict(X[a])[:, None] + [-due, due]
    np.testing.assert_array_equal(model.predict_interval(X[a]), expected)


# Patterns with too few


RARE = (0.79, 0.2, 0.01)


@BORROWED
@pytest.mark.parametrize(("make", "draw"), [(classifier, classes), (regressor, numbers)])
def test_samples_that_have_more_are_cut_down_to_a_rare_pattern(make, draw):
    found = coverage(make(), draw, shares=RARE)
    assert found.between(0.9 + LOWEST, 0.9 + HIGHEST).all(), found
    assert coverage(make(pooling="nearest"), draw, shares=RARE)["b"] < 0.8


@BORROWED
def test_pooling_is_said():
    X, y = classes(400, 0, RARE)
    counts = pd.Series([tuple(row) for row in X.present]).value_counts()
    n_both, n_a, n_b = counts[True, True], counts[True, False], counts[False, True]
    assert n_b < 50 < n_a
    for pooling in ("subset", "nearest"):
        table = classifier(pooling=pooling).fit(X, y).patterns_
        assert table.index.tolist() == ["b", "a", "a + b"]
        assert table["n_calibration"].tolist() == [n_b, n_a, n_both]
        assert table["pooled_with"].tolist() == [("a + b",), (), ()]
        assert table["n_pooled"].tolist() == [n_b + n_both, n_a, n_both]
        assert (table.index.name, table["threshold"].dtype) == ("pattern", float)
    assert table.loc["a", "threshold"] < table.loc["b", "threshold"]


def test_a_pattern_of_fit_that_borrows_from_unlike_ones_is_told_once_with_what_to_do():
    # Whoever has b alone is calibrated on samples that have a alone.
    X, y = numbers(1000, 0, (0, 0.98, 0.02))
    new, truth = numbers(4000, 1, (0, 0, 1))
    text = r"too few .* just the modalities of \['b'\]; these are calibrated on \['a'\], .* more such samples"
    for pooling, advice in (("subset", ""), ("nearest", ", or use pooling='subset'")):
        model = regressor(pooling=pooling, random_state=0)
        with pytest.warns(UserWarning, match=text + advice + r", or lower min_samples to 9\.$") as said:
            model.fit(X, y)
        assert [warning.filename for warning in said] == [__file__]
        coverage_of_b = covered(model, new, truth).mean()  # and no warning anew
    assert coverage_of_b < 0.6
    X, y = numbers(300, 0, (0, 0.98, 0.02))  # 5 with b alone would never do by themselves
    with pytest.warns(UserWarning, match=r"Fit with more such samples\.$"):
        regressor().fit(X, y)
    X, y = classes(100, 0)
    text = r"of \['b', 'a', 'a \+ b'\]; .* samples, or use pooling='subset', or lower min_samples to 9\.$"
    with pytest.warns(UserWarning, match=text):
        classifier(pooling="nearest").fit(X, y)


def test_exact_pools_and_sets_that_rule_nothing_out_are_told_nothing_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier(pooling="subset").fit(*classes(400, 0, RARE))  # others are cut down
        classifier(pooling="nearest").fit(*classes(600, 0))  # no others
        X, y = classes(8, 0)
        classifier().fit(X, y)  # infinite thresholds, of which predict_set tells
        X, _ = classes(400, 0, (0, 0.98, 0.02))
        PatternConformalClassifier(FusionClassifier("early")).fit(X, np.zeros(400))


@pytest.mark.parametrize("seen", [True, False])
def test_of_many_patterns_a_warning_names_a_few(seen):
    rng = np.random.default_rng(0)
    y = rng.normal(size=600)
    data = {f"m{i}": y[:, None] + rng.normal(size=(600, 1)) for i in range(8)}
    rare = np.array(np.meshgrid(*[[False, True]] * 7)).reshape(7, -1).T[1:71]
    present = np.vstack([np.eye(8, dtype=bool)[np.full(530, 7)], np.hstack([rare, np.zeros((70, 1), dtype=bool)])])
    X = Modalities(data, present=present)
    model = regressor(min_samples=300, random_state=0)
    if seen:
        with pytest.warns(
            UserWarning, match=r"\] and 65 others; these are calibrated on .* and 6\d others, which"
        ) as said:
            model.fit(X, y)
    else:
        model.fit(X[:530], y[:530])
        with pytest.warns(UserWarning, match=r"\] and 65 others; these are calibrated on \['m7'\], which") as said:
            model.predict_interval(X)
    assert len(said) == 1
    assert len(str(said[0].message)) < 700


def test_scores_of_a_subset_are_those_of_samples_without_the_rest():
    X, y = numbers(300, 0, (1, 0, 0))
    model = regressor().fit(X, y)
    low, high = model.predict_interval({"b": X["b"]}).T
    residuals = np.sort(np.abs(y - X["b"][:, 0]))
    np.testing.assert_allclose((high - low) / 2, residuals[int(np.ceil(301 * 0.9)) - 1])


@BORROWED
@pytest.mark.filterwarnings("ignore:no sample of fit had just the modalities")
def test_many_patterns_are_calibrated_at_once(monkeypatch):
    rng = np.random.default_rng(0)
    y = rng.integers(4, size=400)
    tables = {f"m{i}": rng.normal(size=(400, 4)) + np.eye(4)[y] for i in range(9)}
    X = ampute(tables, 0.4, random_state=0)
    asked, predict = [], SummingClassifier.predict_proba
    monkeypatch.setattr(SummingClassifier, "predict_proba", lambda self, X: asked.append(len(X)) or predict(self, X))

    def fit():
        asked.clear()
        frozen = FrozenEstimator(SummingClassifier())
        model = PatternConformalClassifier(frozen, random_state=0).fit(X[:300], np.array(list("pqrs"))[y[:300]])
        return model, len(asked), model.predict_set(X[300:])

    model, n_calls, sets = fit()
    assert len(model.patterns_) > 100
    assert n_calls <= 3
    monkeypatch.setattr("skfusion.conformal._BATCH", 1)
    again, n_calls, same = fit()
    assert n_calls > 100
    pd.testing.assert_frame_equal(again.patterns_, model.patterns_)
    np.testing.assert_array_equal(same, sets)


def test_a_pattern_that_fit_has_not_seen_is_a_subset_silently_or_borrows_with_a_warning():
    X, y = classes(600, 0, (1, 0, 0))
    new, truth = classes(4000, 1, (0, 0, 1))
    assert covered(classifier(random_state=0).fit(X, y), new, truth).mean() == pytest.approx(0.9, abs=0.03)
    model = classifier(pooling="nearest", random_state=0).fit(X, y)
    with pytest.warns(
        UserWarning, match=r"just the modalities of \['b'\]; these are calibrated on \['a \+ b'\]"
    ) as said:
        assert covered(model, new, truth).mean() < 0.8
    assert len(said) == 1
    X, y = classes(600, 0, (0, 1, 0))
    model = classifier(random_state=0).fit(X, y)
    with pytest.warns(UserWarning, match=r"just the modalities of \['b', 'a \+ b'\]; these are calibrated on \['a'\]"):
        model.predict_set(classes(20, 1)[0])


def test_a_pattern_of_the_training_part_alone_is_in_the_table():
    X, y = numbers(200, 0, (1, 0, 0))
    present = X.present.copy()
    present[7] = [False, True]
    model = PatternConformalRegressor(FusionRegressor("early"), calibration_size=0.1, random_state=1)
    model.fit(Modalities(X, present=present), y)
    assert 7 not in model.calibration_indices_
    assert model.patterns_["n_calibration"].to_dict() == {"b": 0, "a + b": 20}
    assert model.patterns_.loc["b", "pooled_with"] == ("a + b",)


@pytest.mark.parametrize(
    ("pattern", "enough", "subset", "expected"),
    [
        ([1, 0, 0], 30, True, [0]),
        ([1, 0, 0], 31, True, [0, 2]),
        ([1, 0, 0], 80, True, [0, 2, 3]),
        ([1, 1, 0], 31, True, [2, 3]),
        ([1, 1, 0], 80, True, [0, 1, 2, 3]),
        ([1, 1, 0], 31, False, [0, 1, 2]),
        ([1, 1, 1], 41, False, [2, 3]),
        ([0, 0, 1], 1, False, [0, 1]),
        ([0, 0, 1], 1, True, [3]),
        ([0, 0, 0], 1, True, [0, 1]),
        ([1, 0, 0], 1000, False, [0, 1, 2, 3]),
    ],
)
def test_the_nearest_patterns_are_taken_till_there_are_enough(pattern, enough, subset, expected):
    patterns = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [1, 1, 1]], dtype=bool)
    counts = np.array([30, 30, 30, 40])
    for order in ([0, 1, 2], [2, 0, 1]):
        found = nearest_patterns(
            np.array(pattern, dtype=bool)[order], patterns[:, order], counts, enough, subset=subset
        )
        assert np.flatnonzero(found).tolist() == expected


def test_too_few_calibration_samples_rule_nothing_out_and_say_so_once():
    X, y = classes(8, 0, (1, 0, 0))
    with pytest.warns(
        UserWarning, match=r"8 calibration samples are too few for confidence=0.9, which needs 9"
    ) as said:
        assert classifier().fit(X, y).predict_set(X).all()
    assert len(said) == 1
    X, y = numbers(9, 0, (1, 0, 0))
    assert np.isfinite(regressor().fit(X, y).predict_interval(X)).all()
    with pytest.warns(UserWarning, match="which needs 19"):
        found = regressor(confidence=0.95).fit(X, y).predict_interval(X)
    assert np.isneginf(found[:, 0]).all()
    assert np.isposinf(found[:, 1]).all()


def test_nothing_present_gets_the_set_of_the_prior():
    X, _ = classes(400, 0)
    y = np.random.default_rng(0).permutation(np.repeat(["p", "q", "r", "s"], [200, 140, 40, 20]))
    nothing = {name: np.full((2, 4), np.nan) for name in ("a", "b")}
    for method, pooling in (("lac", "subset"), ("lac", "nearest"), ("aps", "subset")):
        for confidence, due in ((0.45, 1), (0.8, 2), (0.99, 4)):
            model = classifier(method=method, pooling=pooling, confidence=confidence, random_state=0).fit(X, y)
            found = model.predict_set(nothing)
            assert (found[0] == found[1]).all()
            # One coin for all who have nothing: under "aps" it decides whether the last class is in.
            assert found[0].sum() in ((due,) if method == "lac" else (due - 1, due, due + 1))
            assert (np.diff(found[0].astype(int)) <= 0).all()
    X, y = numbers(400, 0)
    found = regressor().fit(X, y).predict_interval({"a": np.full((1, 1), np.nan)})
    far = np.sort(np.abs(y - y.mean()))[int(np.ceil(401 * 0.9)) - 1]
    np.testing.assert_allclose(found, [[y.mean() - far, y.mean() + far]])


# The same sample, the same set


@pytest.mark.parametrize("method", ["lac", "aps"])
def test_a_sample_has_the_same_set_in_any_batch_and_at_any_time(method):
    X, y = classes(600, 0)
    model = classifier(decimals=1, method=method, random_state=0).fit(X, y)
    sets = model.predict_set(X)
    np.testing.assert_array_equal(model.predict_set(X), sets)
    rows = np.random.default_rng(1).permutation(600)[:100]
    np.testing.assert_array_equal(model.predict_set(X[rows]), sets[rows])
    again, other = (classifier(decimals=1, method=method, random_state=seed).fit(X, y) for seed in (0, 1))
    np.testing.assert_array_equal(again.predict_set(X), sets)
    assert (other.predict_set(X) != sets).any()


def test_coins_are_fair_and_belong_to_what_is_present():
    rng = np.random.default_rng(0)
    n = 2000
    tables = {
        "counts": rng.poisson(1.0, size=(n, 12)),
        "csr": sparse.csr_matrix(rng.poisson(0.5, size=(n, 20))),
        "numbers": rng.normal(size=(n, 2)),
        "notes": [f"note {i}" for i in range(n)],
        "words": [["a", str(i)] for i in range(n)],
        "labels": pd.DataFrame({"x": pd.Categorical([str(i) for i in range(n)])}),
        "images": rng.normal(size=(n, 1, 2, 2)),
    }
    for name, values in tables.items():
        X = Modalities({name: values})
        coins = flip_coins(X, seed=0)
        assert np.abs(np.sort(coins) - (np.arange(n) + 0.5) / n).max() < 0.04, name
        np.testing.assert_array_equal(flip_coins(X[5:9], seed=0), coins[5:9])
        assert abs(np.corrcoef(flip_coins(X, seed=1), coins)[0, 1]) < 0.1
    X = Modalities(tables)
    coins = flip_coins(X, seed=0)
    np.testing.assert_array_equal(flip_coins(X.select(X.names[::-1]), seed=0), coins)
    narrow = X["numbers"].astype(np.float32)
    wide = flip_coins(Modalities({"numbers": narrow.astype(np.float64)}), seed=0)
    np.testing.assert_array_equal(flip_coins(Modalities({"numbers": narrow}), seed=0), wide)
    gone = {"numbers": np.arange(n) % 2 == 0}
    left, right = (
        flip_coins(Modalities({**tables, "numbers": values}, present=gone), seed=0)
        for values in (tables["numbers"], np.where(gone["numbers"][:, None], tables["numbers"], 7.0))
    )
    np.testing.assert_array_equal(left, right)
    assert ((left == coins) == gone["numbers"]).all()


# The parts


def test_the_quantile_is_the_golden_one():
    scores = np.random.default_rng(0).permutation(np.arange(1.0, 100.0))
    coins = np.zeros(99)
    assert find_threshold(scores, coins, 0.9).score == 90
    assert find_threshold(scores, coins, 0.55).score == 55  # 100 * .55 is a little more than 55
    assert find_threshold(scores, coins, 0.991) == (np.inf, 1.0)
    assert find_threshold(scores[:0], coins[:0], 0.5) == (np.inf, 1.0)
    assert find_threshold(np.ones(9), np.arange(9) / 9, 0.5) == (1.0, 4 / 9)
    assert [least_samples(confidence) for confidence in (0.5, 0.9, 0.95, 0.99)] == [1, 9, 19, 99]
    for confidence in (0.5, 0.9, 0.95, 0.99):
        n = least_samples(confidence)
        assert np.isfinite(find_threshold(np.arange(n), np.zeros(n), confidence).score)
        assert np.isinf(find_threshold(np.arange(n - 1), np.zeros(n - 1), confidence).score)


def test_scores_of_classes_are_the_golden_ones():
    proba, coins = np.array([[0.2, 0.5, 0.3], [0.0, 1.0, 0.0]]), np.array([0.5, 1.0])
    np.testing.assert_allclose(class_scores(proba, coins, "lac"), [[0.8, 0.5, 0.7], [1, 0, 1]])
    np.testing.assert_allclose(class_scores(proba, coins, "aps"), [[0.9, 0.25, 0.65], [1, 1, 1]])


def test_each_pattern_and_class_gives_its_share_and_keeps_one():
    rng = np.random.RandomState(0)
    present = np.repeat([[True, True], [True, False], [False, True]], [400, 200, 1], axis=0)
    codes = np.r_[np.arange(600) % 2, 2]
    held_out = hold_out(present, codes, 0.25, rng)
    for pattern in ([True, True], [True, False]):
        for code in (0, 1):
            rows = (present == pattern).all(axis=1) & (codes == code)
            assert abs(held_out[rows].sum() - rows.sum() / 4) <= 2
    assert not held_out[-1]


def test_whole_groups_are_held_out_and_what_one_alone_has_stays():
    groups = np.repeat(np.arange(20), 30)
    has = np.stack([groups >= 0, groups == 7, np.isin(groups, [3, 4])], axis=1)
    drawn = set()
    for seed in range(40):
        held_out = hold_out_groups(has, ["a", "b", "c"], groups, 0.25, np.random.RandomState(seed))
        assert len(set(groups[held_out])) == 5
        assert not set(groups[held_out]) & set(groups[~held_out])
        assert has[~held_out].any(axis=0).all()
        drawn |= set(groups[held_out])
    assert drawn == set(range(20)) - {7}
    # Where all that could go would take something along, fewer do.
    has = np.stack([groups >= 0, groups < 18], axis=1)
    held_out = hold_out_groups(has[groups > 16], ["a", "b"], groups[groups > 16], 0.9, np.random.RandomState(0))
    assert set(groups[groups > 16][held_out]) == {18, 19}


# Around estimators


@BORROWED
def test_the_estimator_learns_from_the_rows_that_do_not_calibrate():
    X, y = classes(300, 0)
    model = PatternConformalClassifier(FusionClassifier("early"), random_state=0).fit(X, y)
    learnt_from = np.setdiff1d(np.arange(300), model.calibration_indices_)
    assert abs(len(learnt_from) - 225) <= 6  # one of each class and modality stays
    alone = FusionClassifier("early").fit(X[learnt_from], y[learnt_from])
    np.testing.assert_array_equal(model.predict_proba(X), alone.predict_proba(X))
    np.testing.assert_array_equal(model.predict(X), alone.predict(X))


@BORROWED
@pytest.mark.parametrize(
    ("model", "facade", "draw"),
    [
        (PatternConformalClassifier, FusionClassifier, classes),
        (PatternConformalRegressor, FusionRegressor, numbers),
    ],
)
def test_the_default_is_the_facade(model, facade, draw):
    X, y = draw(60, 0)
    found = model(random_state=0).fit(X, y)
    assert repr(found.estimator_.set_params(random_state=None)) == repr(facade())
    assert found.estimator is None


def test_a_frozen_classifier_may_know_more_classes_than_the_samples_that_calibrate_not_fewer():
    X, y = classes(300, 0)
    rows = y != "s"
    model = classifier(random_state=0).fit(X[rows], y[rows])
    assert model.classes_.tolist() == ["p", "q", "r", "s"]
    assert model.predict_set(X).shape == (300, 4)
    for labels, unknown in (
        (np.where(y == "s", "z", y), r"\['z'\]"),
        (np.unique(y, return_inverse=True)[1], r"\[0, 1, 2, 3\]"),
    ):
        with pytest.raises(ValueError, match=rf"y has the classes {unknown}, .*; it knows \['p', 'q', 'r', 's'\]"):
            classifier().fit(X, labels)
    model = classifier(random_state=0).fit(X, y.astype(object))
    assert model.predict_set(X).shape == (300, 4)


def test_a_class_of_one_sample_is_learnt_and_any_classifier_takes_one_table():
    X, y = classes(200, 0)
    table, y = X["a"], y.astype(object)
    y[3] = "rare"
    for seed in range(5):
        model = PatternConformalClassifier(DecisionTreeClassifier(random_state=0), random_state=seed).fit(table, y)
        assert model.estimator_.classes_.tolist() == ["p", "q", "r", "rare", "s"]
        assert 3 not in model.calibration_indices_


def test_one_class_is_in_every_set():
    X, _ = classes(100, 0)
    model = PatternConformalClassifier(FusionClassifier("early"), random_state=0).fit(X, np.full(100, "p"))
    np.testing.assert_array_equal(model.predict_set(X), np.ones((100, 1), dtype=bool))


@BORROWED
def test_groups_stay_whole():
    X, y = classes(200, 0)
    groups = np.arange(200) % 10
    model = PatternConformalClassifier(FusionClassifier("early"), random_state=0).fit(X, y, groups=groups)
    held_out = set(groups[model.calibration_indices_])
    assert len(model.calibration_indices_) == 20 * len(held_out) == 60
    with pytest.raises(ValueError, match="groups holds a single group; due are 2 or more"):
        model.fit(X, y, groups=np.zeros(200))


@BORROWED
def test_groups_that_alone_have_a_class_or_modality_stay_in_training_or_are_named():
    X, y = classes(200, 0, (1, 0, 0))
    groups = np.arange(200) // 40
    y = np.where(groups == 1, "rare", y)
    X = Modalities(X, present={"b": groups == 3})
    for seed in range(8):
        model = PatternConformalClassifier(FusionClassifier("early"), random_state=seed).fit(X, y, groups=groups)
        assert not {1, 3} & set(groups[model.calibration_indices_])
        assert model.estimator_.classes_.tolist() == ["p", "q", "r", "rare", "s"]
    some = np.isin(groups, [1, 3])
    with pytest.raises(ValueError, match=r"only group 1 has the class 'rare', .* calibration holds out whole groups"):
        model.fit(X[some], y[some], groups=groups[some])
    some = np.isin(groups, [2, 3])
    regressor = PatternConformalRegressor(FusionRegressor("early"), random_state=0)
    regressor.fit(X[some], np.arange(80.0), groups=groups[some])
    assert set(groups[some][regressor.calibration_indices_]) == {2}


@BORROWED
def test_parameters_of_the_estimator_can_be_searched():
    X, y = classes(200, 0)
    model = PatternConformalClassifier(FusionClassifier("early"), random_state=0)
    grid = GridSearchCV(model, {"estimator__fusion": ["early"], "method": ["lac", "aps"]}, cv=2).fit(X, y)
    assert grid.predict(X).shape == (200,)
    assert grid.best_estimator_.predict_set(X).shape == (200, 4)


def test_errors_say_what_to_do():
    X, y = classes(60, 0)
    with pytest.raises(ValueError, match=r"LinearSVC gives no probabilities.*CalibratedClassifierCV"):
        PatternConformalClassifier(LinearSVC()).fit(X["a"], y)
    for model, labels, other in (
        (PatternConformalClassifier(Ridge()), y, "Regressor"),
        (PatternConformalClassifier(FrozenEstimator(Ridge().fit(X["a"], range(60)))), y, "Regressor"),
        (PatternConformalRegressor(LogisticRegression()), np.arange(60.0), "Classifier"),
        (PatternConformalRegressor(FusionClassifier("early")), np.arange(60.0), "Classifier"),
    ):
        with pytest.raises(ValueError, match=rf"estimator \w+ is a {other.lower()}; .* PatternConformal{other}"):
            model.fit(X["a"], labels)
    for wrapper, inner, labels in (
        (PatternConformalClassifier, LogisticRegression, y),
        (PatternConformalRegressor, Ridge, np.arange(60.0)),
    ):
        with pytest.raises(TypeError, match=rf"estimator is the class {inner.__name__}; due is an instance"):
            wrapper(inner).fit(X["a"], labels)
        with pytest.raises(
            NotFittedError, match=rf"FrozenEstimator of a {inner.__name__} that is not fitted\. Fit that"
        ):
            wrapper(FrozenEstimator(inner())).fit(X["a"], labels)
    assert not hasattr(PatternConformalClassifier(LinearSVC()), "predict_proba")
    assert hasattr(PatternConformalClassifier(LogisticRegression()), "predict_proba")
    for name, value in {"confidence": 1, "method": "raps", "calibration_size": 0, "pooling": "mean"}.items():
        with pytest.raises(ValueError, match=rf"'{name}' parameter"):
            classifier(**{name: value}).fit(X, y)
