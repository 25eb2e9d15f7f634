import sys

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.utils import Bunch

from skfusion import FusionClassifier
from skfusion.inspection import (
    FusionComparisonDisplay,
    MissingModalityDisplay,
    ModalityImportanceDisplay,
    compare_fusions,
    missing_modality_curve,
    modality_importance,
)

mpl.use("agg")
MINUS = "\N{MINUS SIGN}"


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def result():
    scores = pd.DataFrame(
        {"rna": [0.7, 0.8, 0.9], "protein": [0.5, 0.6, 0.7], "late": [0.8, 0.9, 1.0], "joint": [0.9, 0.6, np.nan]}
    )
    table = pd.DataFrame(
        {
            "kind": ["single", "single", "fusion", "fusion"],
            "mean": scores.mean(skipna=False),
            "difference": [0.0, -0.2, 0.1, np.nan],
            "ci_low": [0.0, -0.3, -0.05, np.nan],
            "ci_high": [0.0, -0.1, 0.25, np.nan],
        },
        index=scores.columns,
    )
    return Bunch(table=table, scores=scores, best_single="rna", scoring="balanced_accuracy", confidence=0.9, n_splits=3)


def test_rows_are_sorted_and_lie_where_the_table_says(result):
    display = FusionComparisonDisplay.from_comparison(result)
    order = ["late", "rna", "protein", "joint"]
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == order
    top, bottom = display.ax_.get_ylim()[::-1]
    assert top < 0 < 3 < bottom, "the best is on top"
    for height, name in enumerate(order):
        (x,), (y,) = display.means_[name].get_data()
        np.testing.assert_equal(x, result.table.loc[name, "mean"])
        assert y == height
        dots = display.folds_[name].get_offsets()
        np.testing.assert_array_equal(np.ma.filled(dots[:, 0], np.nan), result.scores[name])
        assert ((dots[:, 1] > height) & (dots[:, 1] < height + 0.5)).all()
    assert list(display.reference_.get_xdata()) == [result.table.loc["rna", "mean"]] * 2


def test_bars_are_the_intervals_around_the_means(result):
    display = FusionComparisonDisplay.from_comparison(result)
    assert set(display.intervals_) == {"late", "protein"}, "none for the best single, nor for one that failed"
    (late,) = display.intervals_["late"].get_segments()
    np.testing.assert_allclose(late, [[0.75, 0], [1.05, 0]])
    (protein,) = display.intervals_["protein"].get_segments()
    np.testing.assert_allclose(protein, [[0.5, 2], [0.7, 2]])


def test_singles_and_fusions_differ_in_colour_and_marker(result):
    means = FusionComparisonDisplay.from_comparison(result).means_
    assert means["rna"].get_color() == means["protein"].get_color() != means["late"].get_color()
    assert means["rna"].get_marker() == means["protein"].get_marker() != means["late"].get_marker()


def test_numbers_stand_beside_their_rows(result):
    display = FusionComparisonDisplay.from_comparison(result)
    texts = {text.get_text().replace(MINUS, "-"): text.xy[1] for text in display.ax_.texts}
    assert texts["difference to rna [90% interval]"] == -1
    assert texts["+0.100 [-0.050, +0.250]"] == 0
    assert texts["best single modality"] == 1
    assert texts["-0.200 [-0.300, -0.100]"] == 2
    assert display.ax_.get_xlabel() == "balanced accuracy in 3 folds"
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels == ["fusion", "single modality", "fold", "interval"]


def test_everything_lies_inside_the_figure(result):
    figure = FusionComparisonDisplay.from_comparison(result).figure_
    figure.canvas.draw()
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert 0 <= box.x0 < box.x1 <= width
    assert 0 <= box.y0 < box.y1 <= height


def test_axes_and_artists_can_be_given(result):
    _, axes = plt.subplots(1, 2)
    display = FusionComparisonDisplay.from_comparison(
        result, ax=axes[1], fold_kw={"color": "black"}, mean_kw={"marker": "s"}, interval_kw={"linewidth": 5}
    )
    assert display.ax_ is axes[1]
    assert display.figure_ is axes[1].figure
    assert display.means_["late"].get_marker() == "s"
    assert display.intervals_["late"].get_linewidth() == [5]
    assert not axes[0].has_data()
    again = display.plot()
    assert again is display
    assert display.ax_ is not axes[1]


def test_scores_of_any_size_are_written_to_three_digits(result):
    result.scores, result.scoring = result.scores * -1000, lambda estimator, X, y: 0.0
    result.table[["mean", "difference", "ci_low", "ci_high"]] *= -1000
    texts = [text.get_text().replace(MINUS, "-") for text in FusionComparisonDisplay.from_comparison(result).ax_.texts]
    assert "-800" in texts
    result.scores = result.scores * 0 + 0.5
    assert FusionComparisonDisplay.from_comparison(result).ax_.texts


def test_from_estimators_draws_a_comparison():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 40)
    X = {"a": rng.normal(size=(80, 2)) + 2 * y[:, None], "b": rng.normal(size=(80, 2))}
    display = FusionComparisonDisplay.from_estimators(
        X, y, estimators={"early": FusionClassifier("early")}, cv=2, random_state=0
    )
    assert display.best_single == "a"
    assert display.means_["b"].get_xdata()[0] == display.table.loc["b", "mean"]
    assert len(display.scores) == 2


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    for module in [name for name in sys.modules if name.startswith("matplotlib")]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"pip install 'skfusion\[plot\]'"):
        FusionComparisonDisplay.from_estimators({}, None)


def test_each_display_draws_what_its_own_function_returned_alone():
    rng = np.random.default_rng(0)
    X, y, model = {name: rng.normal(size=(30, 2)) for name in "ab"}, np.arange(30) % 2, FusionClassifier("early")
    results = {
        "missing_modality_curve": missing_modality_curve(model, X, y, rates=[0, 0.5], cv=2, random_state=0),
        "compare_fusions": compare_fusions(X, y, estimators={"early": model}, cv=2, random_state=0),
        "modality_importance": modality_importance(model, X, y, method="ablation", cv=2, random_state=0),
    }
    displays = {
        "missing_modality_curve": MissingModalityDisplay.from_result,
        "compare_fusions": FusionComparisonDisplay.from_comparison,
        "modality_importance": ModalityImportanceDisplay.from_result,
    }
    for source, draw in displays.items():
        draw(results[source])
        others = [result for name, result in results.items() if name != source]
        for wrong in (*others, results[source].table, None, [], {"table": None}):
            said = rf"^result is of type {type(wrong).__name__}.*; due is what {source} returned\.$"
            with pytest.raises(TypeError, match=said):
                draw(wrong)
    with pytest.raises(TypeError, match=r"type dict with \['table'\]; due"):
        MissingModalityDisplay.from_result({"table": None})
