"""Targets and groups that nothing can be learnt from, said the same way by all who take them."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from skfusion import (
    FusionClassifier,
    FusionDistiller,
    FusionRegressor,
    JointFusionClassifier,
    JointFusionRegressor,
    LateFusionRegressor,
    LateFusionStacker,
    Modalities,
    ModalityScheduler,
    PatternConformalClassifier,
    PatternConformalRegressor,
)
from skfusion.inspection import compare_fusions, is_worth_it, missing_modality_curve, modality_importance

N = 20
LABELS = ["ill", "well"] * (N // 2)
DATES = pd.date_range("2020", periods=N)
CLASSIFIER, REGRESSOR = FusionClassifier("early"), FusionRegressor("early")
CLASSIFIERS = [
    CLASSIFIER.fit,
    JointFusionClassifier().fit,
    JointFusionClassifier().partial_fit,
    LateFusionStacker(LogisticRegression()).fit,
    PatternConformalClassifier(CLASSIFIER).fit,
    ModalityScheduler(CLASSIFIER).fit,
    FusionDistiller().fit,
]
REGRESSORS = [
    REGRESSOR.fit,
    JointFusionRegressor().fit,
    LateFusionRegressor(Ridge()).fit,
    PatternConformalRegressor(REGRESSOR).fit,
]
COMPARISONS = [
    lambda X, y, **options: missing_modality_curve(CLASSIFIER, X, y, **options),
    lambda X, y, **options: compare_fusions(X, y, estimators={"early": CLASSIFIER}, **options),
    lambda X, y, **options: modality_importance(CLASSIFIER, X, y, **options),
    is_worth_it,
]


@pytest.fixture
def X():
    rng = np.random.default_rng(0)
    return {"labs": rng.normal(size=(N, 2)), "ecg": rng.normal(size=(N, 2))}


def with_gaps(gap):
    return [gap, *LABELS[1:-1], gap]


@pytest.mark.parametrize("learn", [*CLASSIFIERS, *COMPARISONS])
@pytest.mark.parametrize(
    "y",
    [
        with_gaps(None),
        with_gaps(np.nan),
        np.array(with_gaps(None), dtype=object),
        np.array(with_gaps(np.nan), dtype=object),
        pd.Series(with_gaps(pd.NA), dtype="string"),
        pd.Categorical(with_gaps(None)),
        np.array([np.nan, *np.arange(N - 2) % 2, np.nan]),
    ],
    ids=["list of None", "list of NaN", "array of None", "array of NaN", "string", "category", "numbers"],
)
def test_missing_classes_are_counted(X, learn, y):
    with pytest.raises(ValueError, match=r"^y is missing for 2 of 20 samples; due is .*class for each\. Leave these"):
        learn(X, y)


@pytest.mark.parametrize("learn", REGRESSORS)
@pytest.mark.parametrize("y", [[None, *range(1, N)], pd.Series([pd.NA, *range(1, N)], dtype="Int64")])
def test_missing_numbers_are_counted(X, learn, y):
    with pytest.raises(ValueError, match=r"^y is missing for 1 of 20 samples; due is a number .* samples out\.$"):
        learn(X, y)


def test_a_sample_that_lacks_two_outputs_counts_once(X):
    y = np.ones((N, 2))
    y[3] = np.nan
    with pytest.raises(ValueError, match="y is missing for 1 of 20 samples"):
        JointFusionRegressor().fit(X, y)


@pytest.mark.parametrize("learn", [*CLASSIFIERS, *COMPARISONS])
@pytest.mark.parametrize("form", [list, lambda y: np.array(y, dtype=object), pd.Series])
def test_strings_beside_numbers_are_no_classes(X, learn, form):
    with pytest.raises(ValueError, match=r"^y mixes \['int', 'str'\]; due are classes of one type\. .*astype\(str\)"):
        learn(X, form([1, *LABELS[1:]]))


@pytest.mark.parametrize(
    "y", [DATES, DATES.to_numpy(), list(DATES.date), pd.Series(DATES.tz_localize("UTC")), DATES.to_period("D")]
)
def test_dates_are_neither_numbers_nor_classes(X, y):
    numbers, classes = r"numbers of it first, e\.g\. \(dates - dates", r"classes of it first, e\.g\. pandas\.cut"
    due = "y holds dates or times .*; due is"
    for learn in REGRESSORS:
        with pytest.raises(ValueError, match=rf"{due} a number for each\. Make {numbers}"):
            learn(X, y)
    for learn in CLASSIFIERS:
        with pytest.raises(ValueError, match=rf"{due} a class for each\. Make {classes}"):
            learn(X, y)
    for learn in COMPARISONS:
        with pytest.raises(ValueError, match=rf"{due} a number or class for each\. Make {numbers}.*, or {classes}"):
            learn(X, y)


@pytest.mark.parametrize("learn", [*REGRESSORS, *CLASSIFIERS, *COMPARISONS])
def test_durations_are_to_be_made_numbers(X, learn):
    with pytest.raises(ValueError, match=r"y holds dates or times .*Make numbers .*pandas\.to_timedelta"):
        learn(X, DATES - DATES[0])


@pytest.mark.parametrize("learn", [*(one for one in CLASSIFIERS if one.__name__ != "partial_fit"), *COMPARISONS])
@pytest.mark.parametrize(("groups", "shape"), [(np.arange(3), r"\(3,\)"), (np.ones((N, 2)), r"\(20, 2\)")])
def test_groups_are_one_entry_a_sample(X, learn, groups, shape):
    with pytest.raises(ValueError, match=rf"^groups has shape {shape}; due is \(20,\), one entry a sample\.$"):
        learn(X, LABELS, groups=groups)


def of_curve(*arguments):
    return missing_modality_curve(*arguments, rates=[0])


@pytest.mark.parametrize("compare", [of_curve, modality_importance])
def test_an_estimator_behind_samples_and_target_looks_swapped(X, compare):
    y, call = np.array(LABELS), r"where .* due: arguments look swapped\. The call is \w+\(estimator, X, y\)\.$"
    for estimator in (CLASSIFIER, {"early": CLASSIFIER}):
        with pytest.raises(TypeError, match=rf"^X is one value a sample \(ndarray of shape \(20,\)\), {call}"):
            compare(X, y, estimator)
        with pytest.raises(TypeError, match=rf"^X is an estimator \({type(estimator).__name__}\), {call}"):
            compare(X, estimator, y)
        with pytest.raises(TypeError, match=rf"^y is an estimator \({type(estimator).__name__}\), {call}"):
            compare(y, X, estimator)
    with pytest.raises(TypeError, match=rf"^X is one value a sample \(list of shape \(20,\)\), {call}"):
        compare(CLASSIFIER, LABELS, X)
    with pytest.raises(TypeError, match=rf"^y is samples \(dict\), {call}"):
        compare(CLASSIFIER, X, X)


@pytest.mark.parametrize("compare", [compare_fusions, is_worth_it])
def test_samples_and_target_look_swapped(X, compare):
    for samples in (X, CLASSIFIER, Modalities(X)):
        with pytest.raises(TypeError, match=rf"arguments look swapped\. The call is {compare.__name__}\(X, y, est"):
            compare(LABELS, samples)
        with pytest.raises(TypeError, match=r"^y is (samples|an estimator) .*look swapped"):
            compare(X, samples)


def test_what_is_no_estimator_is_shown_in_short(X):
    with pytest.raises(TypeError, match=r"^estimator is .{1,60}; due is a classifier or regressor") as caught:
        missing_modality_curve(np.array(LABELS * 50), X, LABELS)
    assert len(str(caught.value)) < 200
    assert missing_modality_curve(CLASSIFIER, {**X, "more": pd.DataFrame({"fit": np.ones(N)})}, LABELS, cv=2)
