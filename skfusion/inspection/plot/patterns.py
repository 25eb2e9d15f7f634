"""A picture of who has what."""

from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import check_consistent_length, column_or_1d

from skfusion._compat import optional
from skfusion._targets import check_known
from skfusion.inspection.missing import patterns_of
from skfusion.inspection.plot._shared import COLOURS, check_whole, legend_of_height
from skfusion.modalities import align
from skfusion.modalities.ampute import as_modalities

_HATCHES = ("", "//////", "......", "xxxxxx")  # tell classes of one colour apart
_MANY = len(COLOURS) * len(_HATCHES)
_DOT, _NO_DOT, _STRIPE = "0.15", "0.85", "0.965"
_CELL = 0.34  # inches a pattern, and a modality


class MissingPatternDisplay:
    """Which modalities samples have: a column a missing pattern, a row a modality.

    Dots in a column are the modalities that a pattern has. Above it is a bar with how many samples have just these,
    most on the left, 75,334 as 75.3k; beside each modality is a bar with how many samples have it at all. Where `y` was
    given, bars are split by class.

    After [1]_, who draw intersections of sets this way. Make one with `from_modalities`.

    Parameters
    ----------
    patterns : DataFrame of bool (n_patterns, n_modalities)
        The modalities of each pattern.
    counts : DataFrame of int (n_patterns, n_classes)
        Samples of each pattern, a column a class; the one column ``"samples"`` where there are no classes.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes of shape (3,)
        The bars of the patterns, the dots, the bars of the modalities.
    figure_ : matplotlib Figure
        The figure of them.
    legend_ : matplotlib Legend
        What explains the classes; None where there are none.

    References
    ----------
    .. [1] Lex et al., "UpSet: Visualization of intersecting sets", IEEE Transactions on Visualization and Computer
       Graphics 20, 2014.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from skfusion import ampute
    >>> from skfusion.inspection import MissingPatternDisplay
    >>> X = {"labs": np.ones((100, 3)), "ecg": np.ones((100, 2)), "notes": ["stable"] * 100}
    >>> display = MissingPatternDisplay.from_modalities(ampute(X, {"ecg": 0.3, "notes": 0.6}, random_state=0))
    >>> display.counts.join(display.patterns)
                        samples  labs    ecg  notes
    pattern
    labs + ecg               44  True   True  False
    labs + ecg + notes       26  True   True   True
    labs                     16  True  False  False
    labs + notes             14  True  False   True
    >>> plt.close(display.figure_)
    """

    def __init__(self, *, patterns: pd.DataFrame, counts: pd.DataFrame) -> None:
        self.patterns = patterns
        self.counts = counts

    @classmethod
    def from_modalities(
        cls, X: Any, y: Any = None, *, modalities: Any = None, figure: Any = None, **options: Any
    ) -> "MissingPatternDisplay":
        """Count, and draw.

        Parameters
        ----------
        X : dict, Modalities, DataFrame with two-level columns, AnnData or MuData
            The samples. With `modalities` as in an estimator, a table or an AnnData is split the same way.
        y : array-like of shape (n_samples,), default=None
            Classes, by which bars are split: at most 32.
        modalities : dict or list, default=None
            How `X` is split, or which modalities to take.
        figure : matplotlib Figure or SubFigure, default=None
            Where to draw; None makes one.
        **options
            Given to `plot`.

        Returns
        -------
        MissingPatternDisplay
            With `axes_` and `figure_`.

        Raises
        ------
        ValueError
            Where `y` is of another length or order than `X`, lacks a value, or holds amounts instead of classes.
        """
        optional("matplotlib.pyplot")
        X = as_modalities(X, modalities)
        if y is None:
            classes, codes = np.array(["samples"]), np.zeros(len(X), dtype=np.intp)
        else:
            align.check_same_order("y", X.sample_ids, y)
            classes, codes = _classes(y)
            check_consistent_length(X, codes)
        rows = patterns_of(X.present, X.names)
        index = pd.Index(rows, name="pattern", dtype=object)
        of_each = [np.bincount(codes[members], minlength=len(classes)) for members in rows.values()]
        counts = pd.DataFrame(np.array(of_each).reshape(-1, len(classes)), index, classes)
        there = np.array([X.present[members[0]] for members in rows.values()]).reshape(-1, len(X.names))
        order = counts.sum(axis=1).sort_values(ascending=False, kind="stable").index
        patterns = pd.DataFrame(there, index, X.names)
        return cls(patterns=patterns.loc[order], counts=counts.loc[order]).plot(figure, **options)

    def plot(
        self, figure: Any = None, *, max_patterns: int = 25, bar_kw: dict[str, Any] | None = None
    ) -> "MissingPatternDisplay":
        """Draw.

        Parameters
        ----------
        figure : matplotlib Figure or SubFigure, default=None
            Where to draw; None makes one.
        max_patterns : int, default=25
            Patterns that get a column; of the rest, none of them more frequent, only the number is written. The bars of
            the modalities count all samples.
        bar_kw : dict, default=None
            Given to matplotlib's ``bar`` and ``barh``.

        Returns
        -------
        MissingPatternDisplay
            Itself.

        Raises
        ------
        ValueError
            Where `max_patterns` is no whole number of 1 or more.
        """
        plt = optional("matplotlib.pyplot")
        check_whole("max_patterns", max_patterns)
        shown, counts = self.patterns.iloc[:max_patterns], self.counts.iloc[:max_patterns]
        n_patterns, n_modalities = shown.shape
        wide, high = _CELL * max(n_patterns, 4), _CELL * n_modalities
        own = figure is None
        if own:
            figure = plt.figure(figsize=(wide + 3.4, high + 2.6), layout="constrained")
        grid = figure.add_gridspec(2, 2, width_ratios=(wide, 1.6), height_ratios=(1.8, high))
        dots = figure.add_subplot(grid[1, 0])
        above = figure.add_subplot(grid[0, 0], sharex=dots)
        beside = figure.add_subplot(grid[1, 1], sharey=dots)
        self.axes_, self.figure_ = np.array([above, dots, beside]), dots.figure
        self._draw_dots(dots, shown.to_numpy(dtype=bool))
        _stack(above.bar, counts.to_numpy(), list(counts.columns), "bottom", bar_kw)
        by_modality = self.patterns.to_numpy(dtype=int).T @ self.counts.to_numpy()  # (M, n_classes)
        _stack(beside.barh, by_modality, list(counts.columns), "left", bar_kw)
        self._explain(grid, own)
        self._name(above, beside, n_patterns, by_modality.sum(axis=1))
        self._make_room(above, grid, own)
        return self

    def _draw_dots(self, ax: Any, there: Any) -> None:
        n_patterns, n_modalities = there.shape
        for row in range(0, n_modalities, 2):
            ax.axhspan(row - 0.5, row + 0.5, color=_STRIPE, linewidth=0, zorder=0)
        columns, rows = np.meshgrid(np.arange(n_patterns), np.arange(n_modalities), indexing="ij")
        ax.scatter(columns, rows, s=70, color=np.where(there.ravel(), _DOT, _NO_DOT), zorder=2)
        for column in np.flatnonzero(there.sum(axis=1) > 1):
            has = np.flatnonzero(there[column])
            ax.plot([column, column], [has[0], has[-1]], color=_DOT, linewidth=2, zorder=1)
        ax.set_yticks(range(n_modalities), list(self.patterns.columns))
        ax.set_xlim(-0.6, max(n_patterns, 4) - 0.4)
        ax.set_ylim(n_modalities - 0.5, -0.5)
        ax.tick_params(length=0, labelbottom=False)
        ax.spines[:].set_visible(False)

    def _name(self, above: Any, beside: Any, n_shown: int, totals: Any) -> None:
        ticker = optional("matplotlib.ticker")
        for axes, axis in ((above, "x"), (beside, "y")):
            axes.tick_params(axis=axis, length=0, labelbottom=axis == "y", labelleft=axis == "x")
            axes.spines[["top", "right"]].set_visible(False)
        for axis in (above.yaxis, beside.xaxis):
            axis.set_major_locator(ticker.MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
            axis.set_major_formatter(ticker.FuncFormatter(lambda count, _: compact(count)))
            axis.set_label_text("samples")
        counts = self.counts.sum(axis=1).to_numpy()
        for column, height in enumerate(counts[:n_shown]):
            above.annotate(compact(height), (column, height), (0, 2), **_BESIDE, ha="center", va="bottom")
        n_samples = counts.sum()
        for row, total in enumerate(totals):
            share = f"{total / n_samples:.0%}" if n_samples else ""
            beside.annotate(share, (total, row), (3, 0), **_BESIDE, ha="left", va="center")
        beside.margins(x=0.25)
        n_more = len(counts) - n_shown
        if n_more:
            how = "rarer" if counts[n_shown] < counts[n_shown - 1] else "more"
            above.set_title(f"and {n_more} {how} pattern{'s' * (n_more > 1)}", fontsize="small", loc="right")

    def _make_room(self, above: Any, grid: Any, own: bool) -> None:
        """Keep counts apart: columns of a figure of our own get wider, and in one that was given they stand upright."""
        room = above.bbox.width / np.ptp(above.get_xlim())  # limits first, since texts beyond old ones have no size
        boxes = [text.get_window_extent() for text in above.texts]
        widest, tallest = (max((getattr(box, side) for box in boxes), default=0) for side in ("width", "height"))
        stretch, height = 1.15 * widest / room, above.bbox.height
        if stretch > 1 and own:
            wide, beside = grid.get_width_ratios()
            grid.set_width_ratios((stretch * wide, beside))
            self.figure_.set_figwidth(self.figure_.get_figwidth() + (stretch - 1) * wide)
        elif stretch > 1:
            for text in above.texts:
                text.set_rotation(90)
            tallest = min(widest, height / 2)
        above.margins(y=max(0.12, 1.2 * tallest / (height - tallest)))

    def _explain(self, grid: Any, own: bool) -> None:
        """Put a legend of the classes on the right, beyond all bars."""
        self.legend_ = None
        if list(self.counts.columns) == ["samples"]:
            return
        figure = self.figure_
        bars, labels = self.axes_[0].get_legend_handles_labels()
        height = 0.95 * figure.bbox.height
        self.legend_ = legend_of_height(figure, bars, labels, height, loc="outside right upper")
        width = self.legend_.get_window_extent().width
        if own:
            figure.set_figwidth(figure.get_figwidth() + width / figure.dpi)
        elif figure.get_layout_engine() is None:
            grid.update(right=0.95 - width / figure.bbox.width)


_BESIDE = {"textcoords": "offset points", "fontsize": "small"}


def compact(count: float) -> str:
    """Write a count of five digits and more with three, and thousands as k."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= max(0.9995 * size, 1e4):
            return f"{count / size:.3g}{letter}"
    return f"{count:.0f}"


def _stack(bar: Any, counts: Any, names: list[Any], base: str, bar_kw: dict[str, Any] | None) -> None:
    """Draw a bar for each row of `counts` (n_bars, n_classes), classes end to end."""
    ends = counts.cumsum(axis=1)
    for k, name in enumerate(names):
        look = {"color": COLOURS[k % len(COLOURS)], "hatch": _HATCHES[k // len(COLOURS) % len(_HATCHES)]}
        style = {**look, "edgecolor": "black", "linewidth": 0, "label": str(name), **(bar_kw or {})}
        bar(np.arange(len(counts)), counts[:, k], 0.62, **{base: ends[:, k] - counts[:, k]}, **style)


def _classes(y: Any) -> tuple[Any, Any]:
    """Return the classes, and that of each sample as a position among them (n_samples,)."""
    check_known(y, numeric=False)
    classes, codes = np.unique(column_or_1d(y), return_inverse=True)
    amounts = classes.dtype.kind == "f" and (classes % 1 != 0).any()
    if amounts or len(classes) > _MANY:
        kind = "values, with fractions" if amounts else "classes"
        raise ValueError(
            f"y has {len(classes)} {kind}; due are at most {_MANY} classes. Leave y out, or make classes of it, as by "
            "pandas.cut."
        )
    return classes, codes
