"""Ensemble selection as a pure function, and as the final estimator of late fusion."""

import numpy as np
import pytest
from scipy.optimize import nnls
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss, make_scorer, roc_auc_score
from sklearn.naive_bayes import GaussianNB

from skfusion import LateFusionRegressor, LateFusionStacker
from skfusion._combine import fit_weights
from skfusion._hill_climb import accuracy, hill_climb, negative_squared_error


def library(n_bases, n_samples=80, n_outputs=2, seed=0):
    rng = np.random.default_rng(seed)
    target = rng.normal(size=(n_samples, n_outputs))
    noise = rng.normal(size=(n_bases, n_samples, n_outputs)) * np.linspace(0.5, 2, n_bases)[:, None, None]
    return target + noise, target


def by_hand(predictions, target, n_steps):
    """Forward selection with replacement, as in a textbook."""
    chosen, best = [], (np.inf, None)
    for _ in range(n_steps):
        errors = [
            np.square(predictions[[*chosen, k]].mean(axis=0) - target).sum(axis=1).mean()
            for k in range(len(predictions))
        ]
        chosen.append(int(np.argmin(errors)))
        if min(errors) < best[0]:
            best = min(errors), np.bincount(chosen, minlength=len(predictions)) / len(chosen)
    return best[1]


@pytest.mark.parametrize("seed", range(3))
def test_one_bag_is_forward_selection_with_replacement(seed):
    predictions, target = library(4, seed=seed)
    found = hill_climb(predictions, negative_squared_error(target), target.mean(axis=0), n_steps=30)
    np.testing.assert_allclose(found, by_hand(predictions, target, 30), atol=1e-12)
    assert len(np.unique(found)) > 2, "bases are chosen more than once"


def test_bags_are_halves_of_the_bases_and_their_weights_are_averaged():
    predictions, target = library(12)
    score, mean = negative_squared_error(target), target.mean(axis=0)
    found = hill_climb(predictions, score, mean, n_bags=5, seed=3)
    rng = np.random.default_rng(3)
    expected = np.zeros(12)
    for _ in range(5):
        bag = np.sort(rng.permutation(12)[:6])
        expected[bag] += by_hand(predictions[bag], target, 50) / 5
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert found.sum() == pytest.approx(1)
    assert not np.allclose(found, hill_climb(predictions, score, mean, n_bags=5, seed=4))


def test_a_perfect_base_gets_all_the_weight():
    predictions, target = library(4)
    predictions[2] = target
    found = hill_climb(predictions, negative_squared_error(target), target.mean(axis=0))
    np.testing.assert_array_equal(found, [0, 0, 1, 0])


def test_two_bases_with_opposite_errors_are_worth_more_than_the_best():
    rng = np.random.default_rng(0)
    target = rng.normal(size=(50, 1))
    error = rng.normal(size=(50, 1))
    predictions = np.stack([target + error, target - error, target + 0.5 * rng.normal(size=(50, 1))])
    found = hill_climb(predictions, negative_squared_error(target), target.mean(axis=0))
    assert found[0] == pytest.approx(found[1], abs=0.1)
    assert found[0] > 0.3


def test_where_a_base_has_nothing_to_say_the_others_count_and_the_mean_where_none_has():
    target = np.array([[1.0], [2.0], [3.0], [4.0]])
    predictions = np.stack([target, np.full((4, 1), np.nan)])
    predictions[0, 3] = np.nan
    seen = []

    def score(averages):
        seen.append(averages.copy())
        return negative_squared_error(target)(averages)

    found = hill_climb(predictions, score, target.mean(axis=0), n_steps=2)
    np.testing.assert_array_equal(seen[0][:, :, 0], [[1, 2, 3, 2.5], [2.5] * 4])
    np.testing.assert_array_equal(seen[1][:, :, 0], [[1, 2, 3, 2.5]] * 2)
    np.testing.assert_array_equal(found, [1, 0])


def test_weights_of_samples_count_in_the_squared_error():
    target = np.array([[0.0], [0.0]])
    predictions = np.array([[[0.0], [1.0]], [[1.0], [0.0]]])
    score = negative_squared_error(target, np.array([1.0, 3.0]))
    np.testing.assert_allclose(score(predictions), [-0.75, -0.25])


def test_accuracy_comes_first_and_squared_error_splits_ties():
    target = np.eye(2)[[0, 0, 1]]
    sure, unsure = np.array([0.9, 0.9, 0.9]), np.array([0.6, 0.6, 0.4])  # of class 0
    surer = np.array([0.7, 0.7, 0.3])
    averages = np.stack([np.stack([p, 1 - p], axis=1) for p in (sure, unsure, surer)])
    two_thirds, one, more = accuracy(target)(averages)
    assert two_thirds < 2 / 3 < 0.99 < one < more < 1
    assert accuracy(target, np.array([1.0, 1.0, 8.0]))(averages)[0] < 0.2


def test_least_squares_are_drawn_towards_equal_weights_where_that_is_more_accurate():
    rng = np.random.default_rng(0)
    codes = rng.integers(3, size=600)
    target = np.eye(3)[codes]
    logits = 1.2 * target + rng.normal(size=(6, 600, 3))
    # The first one is sure of itself.
    logits[0] *= 2
    predictions = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    least, _ = nnls(predictions.reshape(6, -1).T, target.ravel())
    least /= least.sum()
    found = fit_weights("weighted", predictions, target)
    share = (found - 1 / 6) @ (least - 1 / 6) / np.square(least - 1 / 6).sum()
    np.testing.assert_allclose(found, 1 / 6 + share * (least - 1 / 6), atol=1e-12)
    assert 0 <= share < 1

    def right(weights):
        return (np.tensordot(weights, predictions, 1).argmax(axis=1) == codes).mean()

    assert right(found) > right(least)
    assert right(found) >= right(np.full(6, 1 / 6))


# As the final estimator


def three(n_samples=150, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, size=n_samples)
    X = {name: rng.normal(size=(n_samples, 3)) + shift * y[:, None] for name, shift in (("a", 1), ("b", 0.7), ("c", 0))}
    return X, np.array(["no", "yes"])[y]


BASES = [("lr", LogisticRegression()), ("bayes", GaussianNB())]


def test_the_weights_are_those_of_hill_climbing_on_out_of_fold_predictions():
    (X, y), (new, _) = three(), three(seed=1)
    model = LateFusionStacker(BASES, "hill_climb", random_state=0).fit(X, y)
    out_of_fold = np.stack(list(model.oof_predictions_.values()))
    goal = (y[:, None] == model.classes_).astype(float)
    seed = int(np.random.RandomState(0).randint(np.iinfo(np.int32).max))
    weights = hill_climb(out_of_fold, accuracy(goal), goal.mean(axis=0), seed=seed)
    np.testing.assert_allclose(model.base_weights_, weights)
    assert model.base_weights_[:2].sum() > model.base_weights_[4:].sum()
    parts = np.stack([e.predict_proba(new[key[0]]) for key, e in model.estimators_.items()])
    np.testing.assert_allclose(model.predict_proba(new), np.tensordot(weights, parts, 1), atol=1e-12)


@pytest.mark.parametrize(
    ("scoring", "measure"),
    [
        ("roc_auc", lambda y, p: roc_auc_score(y, p[:, 1])),
        ("neg_log_loss", lambda y, p: -log_loss(y, p)),
        ("accuracy", lambda y, p: np.mean((p[:, 1] > 0.5) == (y == "yes"))),
        (make_scorer(lambda y, p: np.mean((p == "yes") == (y == "yes"))), None),
    ],
    ids=["roc_auc", "neg_log_loss", "accuracy", "of one's own"],
)
def test_any_scorer_is_climbed(scoring, measure):
    X, y = three()
    model = LateFusionStacker(LogisticRegression(), "hill_climb", scoring=scoring, random_state=0).fit(X, y)
    assert model.base_weights_.sum() == pytest.approx(1)
    if measure is not None:
        out_of_fold = np.stack(list(model.oof_predictions_.values()))
        climbed = measure(y, np.tensordot(model.base_weights_, out_of_fold, 1))
        assert climbed >= max(measure(y, own) for own in out_of_fold) - 1e-12


def test_scorers_get_the_weights_of_the_samples():
    X, y = three()
    seen = []

    def scorer(estimator, X, y_true, sample_weight=None):
        seen.append(sample_weight)
        return float(np.average(estimator.predict(X) == y_true, weights=sample_weight))

    weights = np.linspace(1, 2, 150)
    LateFusionStacker(LogisticRegression(), "hill_climb", scoring=scorer).fit(X, y, sample_weight=weights)
    np.testing.assert_array_equal(seen[0], weights)
    LateFusionStacker(LogisticRegression(), "hill_climb", scoring=lambda e, X, y: 0.0).fit(X, y, sample_weight=weights)


def test_numbers_are_climbed_as_well():
    X, _ = three()
    y = 3 * X["a"][:, 0] + X["b"][:, 0] + 10
    for scoring in (None, "neg_mean_absolute_error"):
        model = LateFusionRegressor(Ridge(), "hill_climb", scoring=scoring, random_state=0).fit(X, y)
        assert model.base_weights_.argmax() == 0
        parts = np.stack([model.estimators_[f"{name}__ridge"].predict(X[name]) for name in "abc"])
        np.testing.assert_allclose(model.predict(X), model.base_weights_ @ parts)
        assert clone(model).get_params()["scoring"] == scoring
