"""Importance of modalities: axioms of the values, planted modalities, and the picture."""

import math

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import KFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from skfusion import EarlyFusionTransformer, FusionClassifier, FusionRegressor
from skfusion.inspection import ModalityImportanceDisplay, is_worth_it, modality_importance
from skfusion.inspection._values import (
    last_interaction,
    sampled_shapley_values,
    shapley_interaction,
    shapley_values,
)

mpl.use("agg")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


# The values of a game


def game(seed, n_players=4):
    table = {}
    rng = np.random.default_rng(seed)

    def worth(chosen):
        return table.setdefault(chosen, rng.normal())

    return worth


def test_an_additive_game_is_valued_by_its_parts_and_has_no_interactions():
    parts = np.array([3.0, -1.0, 0.5])
    worth = lambda chosen: 7 + sum(parts[k] for k in chosen)  # noqa: E731
    np.testing.assert_allclose(shapley_values(worth, 3), parts)
    assert shapley_interaction(worth, 3, (0, 2)) == pytest.approx(0)
    assert last_interaction(worth, 3, (0, 2)) == pytest.approx(0)


def test_golden_values_of_a_game_of_gloves():
    # One left glove, two right ones: a pair is worth 1.
    worth = lambda chosen: float(0 in chosen and len(chosen) > 1)  # noqa: E731
    np.testing.assert_allclose(shapley_values(worth, 3), [4 / 6, 1 / 6, 1 / 6])


@pytest.mark.parametrize("seed", range(3))
def test_values_sum_up_to_the_worth_of_all_less_that_of_none(seed):
    worth = game(seed)
    due = worth(frozenset(range(4))) - worth(frozenset())
    assert shapley_values(worth, 4).sum() == pytest.approx(due, abs=1e-12)
    sampled, errors = sampled_shapley_values(worth, 4, 5, np.random.default_rng(0))
    assert sampled.sum() == pytest.approx(due, abs=1e-12)
    assert (errors >= 0).all()


def test_sampled_values_are_within_their_standard_errors_of_the_exact_ones():
    worth = game(0, 6)
    sampled, errors = sampled_shapley_values(worth, 6, 400, np.random.default_rng(0))
    assert (np.abs(sampled - shapley_values(worth, 6)) < 4 * errors + 1e-12).all()
    assert errors.max() < 0.2


def test_a_pair_that_needs_each_other_is_synergy_a_copy_redundancy():
    both = lambda chosen: float({0, 1} <= chosen)  # noqa: E731
    either = lambda chosen: float(bool({0, 1} & chosen))  # noqa: E731
    for interaction in (shapley_interaction, last_interaction):
        assert interaction(both, 3, (0, 1)) == pytest.approx(1)
        assert interaction(either, 3, (0, 1)) == pytest.approx(-1)
        assert interaction(both, 3, (0, 2)) == interaction(either, 3, (1, 2)) == pytest.approx(0)


# Planted modalities


class Neighbours(ClassifierMixin, BaseEstimator):
    """Nearest neighbours over the modalities present, so that what is missing says nothing."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.X_, self.y_, self.prior_ = X, y, np.bincount(y).argmax()
        return self

    def predict(self, X):
        names = [name for k, name in enumerate(X.names) if X.present[:, k].any()]
        if not names:
            return np.full(len(X), self.prior_)
        seen, asked = (np.hstack([data[name] for name in names]) for data in (self.X_, X))
        return KNeighborsClassifier(9).fit(seen, self.y_).predict(asked)


def planted(n_samples=300):
    """Return two bits of which only the exclusive or matters, one that matters, twice, and noise."""
    rng = np.random.default_rng(0)
    left, right, shown = (rng.integers(0, 2, size=n_samples) for _ in range(3))

    def column(bits):
        return bits[:, None] + 0.05 * rng.normal(size=(n_samples, 1))

    X = {"left": column(left), "right": column(right), "shown": column(shown), "copy": column(shown)}
    return {**X, "noise": 0.1 * rng.normal(size=(n_samples, 1))}, 2 * (left ^ right) + shown


@pytest.mark.parametrize("method", ["shapley", "ablation", "retrain", "permutation"])
def test_a_planted_pair_is_synergy_and_noise_is_worth_nothing(method):
    X, y = planted()
    result = modality_importance(Neighbours(), X, y, method=method, n_repeats=3, random_state=0)
    noise = result.table.loc["noise"]
    assert noise["ci_low"] <= 0 <= noise["ci_high"]
    assert result.interactions.loc["left + right", "kind"] == "synergy"
    assert (result.interactions.loc["left + right", "interaction"] == result.interactions["interaction"]).sum() == 1
    assert result.interactions["interaction"].idxmax() == "left + right"
    if method != "permutation":  # copies that disagree mislead
        assert result.interactions.loc["shown + copy", "kind"] == "redundancy"
    if method == "shapley":
        assert result.table.loc["left", "ci_low"] > 0
        assert result.table["importance"].sum() == pytest.approx(result.score - result.empty_score, abs=1e-9)
        np.testing.assert_allclose(result.importances.mean(), result.table["importance"])
        assert (result.table["standard_error"] == 0).all()


def test_above_eight_modalities_values_are_sampled_with_standard_errors():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 40)
    X = {f"m{k}": rng.normal(size=(80, 1)) + (2 if k == 3 else 0) * y[:, None] for k in range(9)}
    result = modality_importance(FusionClassifier("early"), X, y, method="shapley", cv=2, n_repeats=3, random_state=0)
    assert result.table["importance"].idxmax() == "m3"
    assert result.table["standard_error"].max() > 0
    assert result.table["importance"].sum() == pytest.approx(result.score - result.empty_score, abs=1e-9)


def test_retrain_is_the_difference_to_a_fit_without_it():
    rng = np.random.default_rng(0)
    X = {"a": rng.normal(size=(90, 2)), "b": rng.normal(size=(90, 2))}
    y = X["a"][:, 0] + 0.5 * X["b"][:, 1] + 0.1 * rng.normal(size=90)
    model = make_pipeline(EarlyFusionTransformer(), LinearRegression())
    result = modality_importance(model, X, y, method="retrain", cv=KFold(3))
    for fold, (train, test) in enumerate(KFold(3).split(y)):
        whole = LinearRegression().fit(np.hstack([X["a"], X["b"]])[train], y[train])
        less = LinearRegression().fit(X["a"][train], y[train])
        due = whole.score(np.hstack([X["a"], X["b"]])[test], y[test]) - less.score(X["a"][test], y[test])
        assert result.importances.loc[fold, "b"] == pytest.approx(due)
    assert math.isnan(result.empty_score)


def test_what_makes_no_sense_raises():
    X, y = planted(40)
    with pytest.raises(ValueError, match=r"method is 'lime'; due is one of \['shapley', 'ablation', 'perm"):
        modality_importance(Neighbours(), X, y, method="lime")
    with pytest.raises(ValueError, match="n_repeats is 1; due is 2 or more"):
        modality_importance(Neighbours(), X, y, n_repeats=1)
    with pytest.raises(ValueError, match=r"retrain leaves out a modality, but X has \['noise'\] alone"):
        modality_importance(Neighbours(), {"noise": X["noise"]}, y, method="retrain")


# Worth


def test_sentences_say_what_a_modality_is_worth():
    rng = np.random.default_rng(0)
    X = {name: rng.normal(size=(300, 2)) for name in ("labs", "ecg", "notes")}
    y = (X["labs"][:, 0] + X["ecg"][:, 0] > 0).astype(int)
    table = is_worth_it(X, y, costs={"labs": 10, "notes": 0}, random_state=0)
    assert table.loc["labs", "sentence"].startswith("labs costs 10 and is worth having: it adds 0.")
    assert table.loc["ecg", "sentence"].startswith("ecg is worth having: it adds")
    assert table.loc["notes", "sentence"].startswith("notes costs 0 and adds nothing that shows: ")
    assert table.loc["notes", "sentence"].endswith("in accuracy.")
    assert table.loc["labs", "gain_per_cost"] == pytest.approx(table.loc["labs", "gain"] / 10)
    assert np.isnan(table.loc[["ecg", "notes"], "gain_per_cost"]).all()
    with pytest.raises(ValueError, match=r"costs has 'mri': 3; due is a cost of 0 or more for one of \['labs'"):
        is_worth_it(X, y, costs={"mri": 3})
    target = X["labs"][:, 0]
    numbers = is_worth_it(X, target, estimator=FusionRegressor("early"), cv=3, random_state=0)
    assert numbers.loc["labs", "sentence"].endswith("in r2 to the others.")


# The picture


def test_bars_are_the_values_with_pairs_below():
    X, y = planted(200)
    display = ModalityImportanceDisplay.from_estimator(
        Neighbours(), X, y, method="shapley", random_state=0, scoring="accuracy"
    )
    assert [label.get_text() for label in display.axes_[0].get_yticklabels()] == display.table[
        "importance"
    ].sort_values(ascending=False).index.tolist()
    for name, value in display.table["importance"].items():
        assert display.bars_[name].get_width() == pytest.approx(value)
    assert display.axes_[0].get_xlabel() == "Shapley value, accuracy, 95% interval"
    green = display.bars_["left + right"].get_facecolor()
    assert green != display.bars_["shown + copy"].get_facecolor()
    assert len(display.plot(max_pairs=2).bars_) == 7
    with pytest.raises(ValueError, match=r"max_pairs is -1; due is a whole number of 0 or more"):
        display.plot(max_pairs=-1)
    single = modality_importance(Neighbours(), {"left": X["left"]}, y, method="ablation", cv=3)
    assert len(ModalityImportanceDisplay.from_result(single).axes_) == 1
