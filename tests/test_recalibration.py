"""Calibration of base predictions: golden numbers, planted distortions, and no label used for its own sample."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, softmax
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import KFold
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import SVC

from skfusion import LateFusionStacker
from skfusion._recalibration import CALIBRATIONS, Recalibration, recalibrate


def margins(n_samples=2000, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n_samples, n_classes)) * 2
    codes = (softmax(scores, axis=1).cumsum(axis=1) < rng.uniform(size=(n_samples, 1))).sum(axis=1)
    return scores, codes


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 3.0])
def test_a_planted_temperature_is_found(sharpness):
    scores, codes = margins()
    distorted = softmax(scores * sharpness, axis=1)
    found = Recalibration("temperature", is_margin=False).fit(distorted, codes, 3)
    assert found.temperature_ == pytest.approx(sharpness, rel=0.1)
    np.testing.assert_allclose(found.transform(distorted), softmax(scores, axis=1), atol=0.03)


def test_the_temperature_makes_the_truth_most_likely():
    scores, codes = margins(100)
    weights = np.random.default_rng(1).uniform(0.5, 2, size=100)
    found = Recalibration("temperature", is_margin=True).fit(scores, codes, 3, weights)

    def loss(log_t):
        return -np.average(log_softmax(scores / np.exp(log_t), axis=1)[np.arange(100), codes], weights=weights)

    assert np.log(found.temperature_) == pytest.approx(minimize(loss, [0.0]).x[0], abs=1e-3)


def test_sigmoid_of_a_binary_margin_is_logistic_regression():
    rng = np.random.default_rng(0)
    margin = rng.normal(size=(500, 1))
    codes = (rng.uniform(size=500) < expit(3 * margin[:, 0] - 1)).astype(int)
    found = Recalibration("sigmoid", is_margin=True).fit(margin, codes, 2).transform(margin)
    expected = LogisticRegression(C=np.inf).fit(margin, codes).predict_proba(margin)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_isotonic_goes_class_by_class_and_is_normalised():
    scores, codes = margins(300)
    probabilities = softmax(scores, axis=1)
    odds = np.log(probabilities) - np.log1p(-probabilities)
    found = Recalibration("isotonic", is_margin=False).fit(probabilities, codes, 3).transform(probabilities)
    one = [IsotonicRegression(y_min=0, y_max=1).fit(odds[:, k], codes == k).predict(odds[:, k]) for k in range(3)]
    expected = np.stack(one, axis=1)
    np.testing.assert_allclose(found, expected / expected.sum(axis=1, keepdims=True), atol=1e-12)


@pytest.mark.parametrize("method", CALIBRATIONS)
def test_nan_stays_nan_and_a_class_that_was_not_seen_is_improbable(method):
    scores, codes = margins(200)
    codes[codes == 2] = 0
    found = Recalibration(method, is_margin=True).fit(scores, codes, 3)
    new = np.vstack([scores[:5], np.full((1, 3), np.nan)])
    out = found.transform(new)
    np.testing.assert_allclose(out[:5].sum(axis=1), 1)
    assert np.isnan(out[5]).all()
    if method != "temperature":
        np.testing.assert_array_equal(out[:5, 2], 0)


def test_each_fold_is_calibrated_by_the_others():
    scores, codes = margins(90)
    scores[7] = np.nan
    folds = np.arange(90) % 3
    out, whole = recalibrate(scores, codes, folds, "sigmoid", True, 3, None)
    there = ~np.isnan(scores[:, 0])
    for fold in range(3):
        others = there & (folds != fold)
        own = there & (folds == fold)
        learnt = Recalibration("sigmoid", is_margin=True).fit(scores[others], codes[others], 3)
        np.testing.assert_allclose(out[own], learnt.transform(scores[own]), atol=1e-12)
    assert np.isnan(out[7]).all()
    expected = Recalibration("sigmoid", is_margin=True).fit(scores[there], codes[there], 3).transform(scores[:5])
    np.testing.assert_allclose(whole.transform(scores[:5]), expected, atol=1e-12)


def test_an_overconfident_base_is_worth_more_calibrated():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, size=400)
    # Copies of one column, which naive Bayes counts as so many independent ones.
    a = np.repeat(rng.normal(size=(400, 1)) + y[:, None], 12, axis=1)
    plain, calibrated = (
        LateFusionStacker(GaussianNB(), "mean", calibration=calibration).fit(a[:200], y[:200])
        for calibration in (None, "sigmoid")
    )
    assert log_loss(y[200:], calibrated.predict_proba(a[200:])) < log_loss(y[200:], plain.predict_proba(a[200:])) - 0.2


def test_margins_become_probabilities_that_can_be_averaged():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, size=120)
    X = {"a": rng.normal(size=(120, 3)) + y[:, None], "b": rng.normal(size=(120, 3)) - y[:, None]}
    model = LateFusionStacker(SVC(), "weighted", calibration="isotonic", cv=KFold(4)).fit(X, y)
    np.testing.assert_allclose(model.oof_predictions_["a__svc"].sum(axis=1), 1)
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1)
    assert model.score(X, y) > 0.6


def test_labels_have_nothing_to_calibrate_and_a_hold_out_no_other_fold():
    rng = np.random.default_rng(0)
    X, y = {"a": rng.normal(size=(60, 3))}, np.arange(60) % 2
    with pytest.raises(ValueError, match="calibration is 'sigmoid', but 'gaussiannb' of modality 'a', Gauss"):
        LateFusionStacker(GaussianNB(), calibration="sigmoid", stack_method="predict").fit(X, y)
    with pytest.raises(ValueError, match="calibration goes by fold, and blend holds out one part; use cv instead"):
        LateFusionStacker(GaussianNB(), calibration="sigmoid", blend=0.3).fit(X, y)
