import sys
from itertools import combinations, pairwise

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.utils import Bunch

from skfusion import Modalities
from skfusion.inspection import MissingModalityDisplay, MissingPatternDisplay
from skfusion.inspection.plot.missing import thinned

mpl.use("agg")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def result():
    table = pd.DataFrame(
        {
            "estimator": np.repeat(["late", "early", "ecg alone"], 3),
            "rate": [0, 0.3, 0.5] * 3,
            "mean": [0.9, 0.8, 0.7, 0.95, 0.8, 0.69, 0.8, 0.7, 0.6],
            "sd": [0.01, 0.02, 0.03] * 3,
        }
    )
    return Bunch(
        table=table,
        best_single="ecg",
        scoring="roc_auc",
        at="both",
        mechanism="mcar",
        reached=pd.Series([0, 0.3, 0.5], [0, 0.3, 0.5]),
        area=None,
    )


def inside(figure):
    figure.canvas.draw()
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    return 0 <= box.x0 < box.x1 <= width and 0 <= box.y0 < box.y1 <= height


# the curve


def test_lines_and_bands_lie_where_the_table_says(result):
    display = MissingModalityDisplay.from_result(result)
    assert list(display.lines_) == list(display.bands_) == ["late", "early", "ecg alone"]
    for name, rows in result.table.groupby("estimator"):
        np.testing.assert_array_equal(display.lines_[name].get_xdata(), rows["rate"])
        np.testing.assert_array_equal(display.lines_[name].get_ydata(), rows["mean"])
        band = display.bands_[name].get_paths()[0].vertices
        last = band[band[:, 0] == 0.5, 1]
        assert (last.min(), last.max()) == pytest.approx((rows["mean"].iloc[-1] - 0.03, rows["mean"].iloc[-1] + 0.03))
    assert len({line.get_color() for line in display.lines_.values()}) == 3
    assert display.lines_["ecg alone"].get_linestyle() == "--"
    assert display.lines_["late"].get_linestyle() == "-"


def test_the_axes_say_what_is_drawn(result):
    display = MissingModalityDisplay.from_result(result)
    assert display.ax_.get_ylabel() == "ROC AUC"
    assert display.ax_.get_xlabel() == "modalities missing at fit and at predict"
    display.figure_.canvas.draw()
    assert [label.get_text() for label in display.ax_.get_xticklabels()] == ["0%", "30%", "50%"]
    assert inside(display.figure_)


@pytest.mark.parametrize("mechanism", ["values", "values_mnar"])
def test_the_axis_says_that_single_values_are_missing(result, mechanism):
    result.mechanism, result.at = mechanism, "predict"
    assert MissingModalityDisplay.from_result(result).ax_.get_xlabel() == "single values missing at predict"


def test_the_axis_says_where_rates_are_not_reached_and_what_unseen_takes(result):
    result.reached = pd.Series([0, 0.28, 0.29], [0, 0.3, 0.5])
    xlabel = "modalities missing at fit and at predict, as asked for"
    assert MissingModalityDisplay.from_result(result).ax_.get_xlabel() == xlabel
    result.reached, result.mechanism = pd.Series([0, 0.3, 0.5], [0, 0.3, 0.5]), "unseen"
    xlabel = "samples of one modality alone at fit and at predict"
    assert MissingModalityDisplay.from_result(result).ax_.get_xlabel() == xlabel


def test_a_single_rate_is_a_whole_percentage(result):
    result.table = result.table[result.table["rate"] == 0.3]
    ax = MissingModalityDisplay.from_result(result).ax_
    assert [label.get_text() for label in ax.get_xticklabels()] == ["30%"]


def test_ticks_that_would_overlap_are_left_out(result):
    result.table["rate"] = [0.3, 1 / 3, 0.7] * 3
    display = MissingModalityDisplay.from_result(result)
    display.figure_.canvas.draw()
    assert [label.get_text() for label in display.ax_.get_xticklabels()] == ["30%", "70%"]
    assert thinned([0, 0.3, 0.33, 0.48, 0.5], 0.1) == [0, 0.3, 0.5]


def many_lines(n, failed=()):
    names = [f"estimator number {i}" for i in range(n)]
    means = [np.nan if i in failed else 0.9 - 0.02 * i for i in range(n)]
    table = pd.DataFrame({"estimator": np.repeat(names, 2), "rate": [0, 0.5] * n, "mean": np.repeat(means, 2), "sd": 0})
    return Bunch(table=table, best_single=None, scoring="roc_auc", at="predict", mechanism="mcar", reached=None)


def test_lines_of_one_colour_differ_in_marker_and_dashes():
    lines = MissingModalityDisplay.from_result(many_lines(24)).lines_.values()
    for one, other in combinations(lines, 2):
        if one.get_color() == other.get_color():
            assert one.get_marker() != other.get_marker()
            assert one.get_linestyle() != other.get_linestyle()


def test_the_legend_is_in_the_order_of_the_ends(result):
    result.table.loc[5, "mean"] = 0.71
    legend = MissingModalityDisplay.from_result(result).legend_
    assert [text.get_text() for text in legend.get_texts()] == ["early", "late", "ecg alone"]


@pytest.mark.parametrize("n", [3, 10, 24])
@pytest.mark.parametrize("given", [None, "constrained", "tight", "none"])
def test_the_legend_stays_inside_the_figure_and_off_the_data(n, given):
    ax = None if given is None else plt.subplots(1, 2, figsize=(16, 4), layout=given)[1][1]
    display = MissingModalityDisplay.from_result(many_lines(n), ax=ax)
    assert inside(display.figure_)
    assert display.legend_.get_window_extent().x0 >= display.ax_.bbox.x1 - 1
    assert display.ax_.bbox.width > 100


def test_an_estimator_that_failed_is_named_last(result):
    result.table.loc[3:5, "mean"] = np.nan
    legend = MissingModalityDisplay.from_result(result).legend_
    assert [text.get_text() for text in legend.get_texts()] == ["late", "ecg alone", "early (failed)"]


def test_axes_and_artists_of_the_curve_can_be_given(result):
    _, axes = plt.subplots(1, 2)
    display = MissingModalityDisplay.from_result(result, ax=axes[1], line_kw={"linewidth": 5}, band_kw={"alpha": 0.5})
    assert display.ax_ is axes[1]
    assert display.figure_ is axes[1].figure
    assert not axes[0].has_data()
    assert {line.get_linewidth() for line in display.lines_.values()} == {5}
    assert {band.get_alpha() for band in display.bands_.values()} == {0.5}
    assert display.plot() is display
    assert display.ax_ is not axes[1]


# the patterns


@pytest.fixture
def X():
    present = np.array([[1, 1, 1]] * 5 + [[1, 0, 1]] * 8 + [[0, 0, 1]] * 2 + [[0, 0, 0]], dtype=bool)
    return Modalities({name: np.ones((16, 2)) for name in ("labs", "ecg", "notes")}, present=present)


def heights(ax):
    return [bar.get_height() for bar in ax.patches]


def test_patterns_are_counted_most_frequent_first(X):
    display = MissingPatternDisplay.from_modalities(X)
    assert display.counts["samples"].to_dict() == {
        "labs + notes": 8,
        "labs + ecg + notes": 5,
        "notes": 2,
        "nothing": 1,
    }
    assert display.patterns.columns.tolist() == ["labs", "ecg", "notes"]
    assert display.patterns.loc["labs + notes"].tolist() == [True, False, True]
    above, dots, beside = display.axes_
    assert heights(above) == [8, 5, 2, 1]
    assert [bar.get_width() for bar in beside.patches] == [13, 5, 15]
    assert [text.get_text() for text in beside.texts] == ["81%", "31%", "94%"]
    assert [text.get_text() for text in above.texts] == ["8", "5", "2", "1"]
    assert [label.get_text() for label in dots.get_yticklabels()] == ["labs", "ecg", "notes"]
    assert display.legend_ is None
    assert inside(display.figure_)


def test_dots_are_the_modalities_of_a_pattern(X):
    dots = MissingPatternDisplay.from_modalities(X).axes_[1]
    (scatter,) = dots.collections
    dark = scatter.get_facecolors()[:, 0] < 0.5
    found = {tuple(xy) for xy in scatter.get_offsets()[dark].astype(int).tolist()}
    assert found == {(0, 0), (0, 2), (1, 0), (1, 1), (1, 2), (2, 2)}
    assert [line.get_xdata()[0] for line in dots.lines] == [0, 1], "a line joins several dots"
    top, bottom = dots.get_ylim()[::-1]
    assert top < 0 < 2 < bottom, "the first modality is on top"


def test_bars_are_split_by_class(X):
    y = np.array(["well", "ill"] * 8)
    display = MissingPatternDisplay.from_modalities(X, y)
    assert display.counts.columns.tolist() == ["ill", "well"]
    assert display.counts.loc["labs + notes"].tolist() == [4, 4]
    above, _, beside = display.axes_
    assert [text.get_text() for text in display.legend_.get_texts()] == ["ill", "well"]
    bars = above.patches
    assert bars[0].get_y() == 0
    assert bars[4].get_y() == bars[0].get_height() == 4, "the second class stands on the first"
    assert sum(bar.get_width() for bar in beside.patches) == 13 + 5 + 15
    assert inside(display.figure_)


def looks(patches):
    return {(patch.get_facecolor(), patch.get_hatch()) for patch in patches}


@pytest.mark.parametrize("n_classes", [3, 12, 32])
@pytest.mark.parametrize("given", [None, "constrained", "none"])
def test_many_classes_are_told_apart_and_all_named(n_classes, given):
    X = Modalities({"labs": np.ones((64, 1)), "ecg": np.ones((64, 1))}, present=[[1, 1]] * 32 + [[1, 0]] * 32)
    figure = None if given is None else plt.figure(figsize=(9, 4), layout=given)
    display = MissingPatternDisplay.from_modalities(X, np.arange(64) % n_classes, figure=figure)
    assert len(looks(display.axes_[0].patches)) == n_classes
    assert len(looks(display.legend_.legend_handles)) == n_classes
    assert inside(display.figure_)
    legend = display.legend_.get_window_extent()
    assert display.figure_.bbox.y0 <= legend.y0
    assert legend.x1 <= display.figure_.bbox.x1
    assert all(ax.get_tightbbox().x1 <= legend.x0 for ax in display.axes_)


@pytest.mark.parametrize("n", [0, -1, 2.5, True])
def test_a_wrong_number_of_patterns_is_named(X, n):
    with pytest.raises(ValueError, match=rf"max_patterns is {n}; due is a whole number of 1 or more"):
        MissingPatternDisplay.from_modalities(X, max_patterns=n)


def test_rare_patterns_are_left_out_of_the_picture_alone(X):
    display = MissingPatternDisplay.from_modalities(X, max_patterns=2)
    above, _, beside = display.axes_
    assert heights(above) == [8, 5]
    assert above.get_title(loc="right") == "and 2 rarer patterns"
    assert [bar.get_width() for bar in beside.patches] == [13, 5, 15]
    assert len(display.counts) == 4


def of_counts(counts, **options):
    """A picture of patterns with so many samples."""
    index = [f"p{i}" for i in range(len(counts))]
    there = [[bool(i + 1 & bit) for bit in (1, 2, 4, 8, 16)] for i in range(len(counts))]
    patterns = pd.DataFrame(there, index, list("abcde"))
    return MissingPatternDisplay(patterns=patterns, counts=pd.DataFrame({"samples": counts}, index)).plot(**options)


def apart(texts, side):
    """Whether texts, from left to right, or from the bottom up, do not touch."""
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    ends = [(getattr(box, f"{side}0"), getattr(box, f"{side}1")) for box in boxes]
    return all(before[1] + 1 < after[0] for before, after in pairwise(ends))


@pytest.mark.parametrize(
    "counts", [[75_334, 75_121], [1_200_000, 800_000, 150_414], [37_500] * 20], ids=["two", "millions", "many"]
)
@pytest.mark.parametrize("size", [None, (5, 3), (9, 4)])
def test_large_counts_and_ticks_do_not_touch(counts, size):
    display = of_counts(counts, figure=None if size is None else plt.figure(figsize=size, layout="constrained"))
    display.figure_.canvas.draw()
    above, _, beside = display.axes_
    assert apart(above.texts, "x")
    assert apart(beside.get_xticklabels(), "x")
    assert apart(above.get_yticklabels(), "y")
    top = max(text.get_window_extent().y1 for text in above.texts)
    assert top <= display.figure_.bbox.height


def test_counts_are_written_with_three_digits_from_ten_thousand_on():
    display = of_counts([999_960, 75_334, 75_000, 9_999, 1])
    assert [text.get_text() for text in display.axes_[0].texts] == ["1M", "75.3k", "75k", "9999", "1"]


@pytest.mark.parametrize("counts", [[1], [2, 1], [3, 2, 1]])
def test_ticks_of_small_counts_are_whole(counts):
    above, _, beside = of_counts(counts).axes_
    for ticks in (above.get_yticks(), beside.get_xticks()):
        assert ticks.max() >= 1
        assert (ticks % 1 == 0).all()


@pytest.mark.parametrize(
    ("counts", "title"),
    [
        ([2, 1, 1], "and 1 more pattern"),
        ([1] * 5, "and 3 more patterns"),
        ([3, 2, 1], "and 1 rarer pattern"),
        ([3, 2], ""),
    ],
)
def test_patterns_left_out_are_called_rarer_where_they_are(counts, title):
    assert of_counts(counts, max_patterns=2).axes_[0].get_title(loc="right") == title


def test_patterns_of_other_forms_and_in_a_given_figure(X):
    figure = plt.figure(layout="constrained")
    left, right = figure.subfigures(1, 2)
    display = MissingPatternDisplay.from_modalities(
        np.ones((4, 3)), modalities={"a": [0], "b": [1, 2]}, figure=right, bar_kw={"alpha": 0.5}
    )
    assert display.counts["samples"].to_dict() == {"a + b": 4}
    assert not left.axes
    assert set(right.axes) == set(display.axes_)
    assert display.axes_[0].patches[0].get_alpha() == 0.5


def test_y_must_fit(X):
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        MissingPatternDisplay.from_modalities(X, np.zeros(3))


@pytest.mark.parametrize("gap", [None, np.nan, pd.NA])
def test_y_must_be_known(X, gap):
    with pytest.raises(ValueError, match=r"y is missing for 2 of 16 samples.*[Ll]eave"):
        MissingPatternDisplay.from_modalities(X, ["well", gap] + ["ill"] * 13 + [gap])


def test_y_must_be_classes(X):
    with pytest.raises(ValueError, match=r"y has 16 values, with fractions; .*pandas\.cut"):
        MissingPatternDisplay.from_modalities(X, np.linspace(0, 1, 16))
    many = {"labs": np.ones((40, 1)), "ecg": np.ones((40, 1))}
    with pytest.raises(ValueError, match=r"y has 40 classes; due are at most 32"):
        MissingPatternDisplay.from_modalities(many, np.arange(40))
    with pytest.raises(ValueError, match=r"y mixes \['int', 'str'\]; .*astype\(str\)"):
        MissingPatternDisplay.from_modalities(X, np.array(["well", 1] * 8, dtype=object))
    assert MissingPatternDisplay.from_modalities(X, np.repeat([0.0, 1.0], 8)).counts.shape == (4, 2)


def test_without_matplotlib_the_extra_is_named(monkeypatch, result, X):
    for module in [name for name in sys.modules if name.startswith("matplotlib")]:
        monkeypatch.setitem(sys.modules, module, None)
    for draw in (lambda: MissingModalityDisplay.from_result(result), lambda: MissingPatternDisplay.from_modalities(X)):
        with pytest.raises(ImportError, match=r"pip install 'skfusion\[plot\]'"):
            draw()
