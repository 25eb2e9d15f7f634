"""A picture of `missing_modality_curve`."""

from typing import Any

import numpy as np
import pandas as pd

from skfusion._compat import optional
from skfusion.inspection._removal import VALUE_MECHANISMS, stays_behind
from skfusion.inspection.plot._shared import METRICS, legend_of_height, parts_of

# Okabe and Ito's colours, told apart by colour-blind people, less yellow.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "black")
_MARKERS = "oDs^vPX<>"
_DASHES = ("-", "--", ":", "-.")
_ALONE: dict[str, Any] = {"color": "0.45", "marker": "o", "linestyle": (0, (4, 3))}
_WHERE = {"predict": "at predict", "fit": "at fit", "both": "at fit and at predict"}


class MissingModalityDisplay:
    """Mean score over the share of modalities that are missing, or of single values: one line an estimator.

    A band is one standard deviation of the fold scores around the mean. The best single modality, where it was asked
    for, is grey and dashed. The legend on the right has the names in the order in which lines end; those without any
    score come last, as failed.

    Make one with `from_result`.

    Parameters
    ----------
    table, best_single, scoring, at, mechanism, reached
        As `missing_modality_curve` returns them; where `reached` stays behind the rates, the axis says so.

    Attributes
    ----------
    ax_ : matplotlib Axes
        What is drawn on.
    figure_ : matplotlib Figure
        The figure of it.
    lines_ : dict of str to Line2D
        The line of each estimator.
    bands_ : dict of str to FillBetweenPolyCollection
        The band of each estimator.
    legend_ : matplotlib Legend
        The names.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from skfusion import FusionClassifier
    >>> from skfusion.inspection import MissingModalityDisplay, missing_modality_curve
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat([0, 1], 60)
    >>> X = {"labs": rng.normal(size=(120, 3)) + 2 * y[:, None], "ecg": rng.normal(size=(120, 2)) + y[:, None]}
    >>> result = missing_modality_curve({"early": FusionClassifier("early")}, X, y, single="auto", random_state=0)
    >>> display = MissingModalityDisplay.from_result(result)
    >>> sorted(display.lines_)
    ['early', 'labs alone']
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        *,
        table: pd.DataFrame,
        best_single: str | None = None,
        scoring: Any = "score",
        at: str = "predict",
        mechanism: str = "mcar",
        reached: Any = None,
    ) -> None:
        self.table = table
        self.best_single = best_single
        self.scoring = scoring
        self.at = at
        self.mechanism = mechanism
        self.reached = reached

    @classmethod
    def from_result(cls, result: Any, *, ax: Any = None, **options: Any) -> "MissingModalityDisplay":
        """Draw what `missing_modality_curve` returned.

        Parameters
        ----------
        result : Bunch
            What `missing_modality_curve` returned.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        **options
            Given to `plot`.

        Returns
        -------
        MissingModalityDisplay
            With `ax_` and `figure_`.

        Raises
        ------
        TypeError
            Where `result` is anything else.
        """
        parts = ("table", "best_single", "scoring", "at", "mechanism", "reached")
        return cls(**parts_of(result, "missing_modality_curve", parts, column="rate")).plot(ax, **options)

    def plot(
        self, ax: Any = None, *, line_kw: dict[str, Any] | None = None, band_kw: dict[str, Any] | None = None
    ) -> "MissingModalityDisplay":
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        line_kw, band_kw : dict, default=None
            Given to matplotlib's ``plot`` (the lines) and ``fill_between`` (the bands).

        Returns
        -------
        MissingModalityDisplay
            Itself.
        """
        plt = optional("matplotlib.pyplot")
        own = ax is None
        if own:
            _, ax = plt.subplots(figsize=(5.2, 4), layout="constrained")
        self.ax_, self.figure_ = ax, ax.figure
        self.lines_, self.bands_ = {}, {}
        for i, (name, rows) in enumerate(self.table.groupby("estimator", sort=False)):
            style = _style(i)
            if self.best_single is not None and name == f"{self.best_single} alone":
                style = _ALONE
            low, high = rows["mean"] - rows["sd"], rows["mean"] + rows["sd"]
            band = {"color": style["color"], "alpha": 0.1, "linewidth": 0, "zorder": 1, **(band_kw or {})}
            self.bands_[name] = ax.fill_between(rows["rate"], low, high, **band)
            line = {"linewidth": 2, "markersize": 7, "markeredgecolor": "white", "zorder": 3, **style}
            (self.lines_[name],) = ax.plot(rows["rate"], rows["mean"], **{**line, **(line_kw or {})})
        self._name_axes(self._name_lines(own))
        return self

    def _name_axes(self, width: float) -> None:
        ax = self.ax_
        rates = sorted(self.table["rate"].unique())
        ax.set_xticks(rates, _percents(rates))
        widest = max(label.get_window_extent().width for label in ax.get_xticklabels())
        shown = thinned(rates, 1.15 * widest * np.ptp(ax.get_xlim()) / width)
        ax.set_xticks(shown, _percents(shown))
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(axis="y", color="0.92")
        ax.set_axisbelow(True)
        name = self.scoring if isinstance(self.scoring, str) else getattr(self.scoring, "__name__", "score")
        ax.set_ylabel(METRICS.get(name, name.replace("_", " ")))
        what = "single values missing" if self.mechanism in VALUE_MECHANISMS else "modalities missing"
        what = "samples of one modality alone" if self.mechanism == "unseen" else what
        behind = self.reached is not None and bool(stays_behind(self.reached).any())
        ax.set_xlabel(f"{what} {_WHERE[self.at]}" + ", as asked for" * behind)

    def _name_lines(self, own: bool) -> float:
        """Put the legend on the right, and return the pixels that it leaves to the width of the Axes.

        A figure of our own grows by it; in one that was given, the Axes shrink.
        """
        ax, figure = self.ax_, self.figure_
        ends: Any = self.table.dropna(subset="mean").groupby("estimator")["mean"].last()
        names = sorted(self.lines_, key=lambda name: -ends.get(name, -np.inf))
        labels = [str(name) + " (failed)" * (name not in ends) for name in names]
        where = {"loc": "upper left", "bbox_to_anchor": (1, 1), "borderaxespad": 0, "handlelength": 3.6}
        lines = [self.lines_[name] for name in names]
        self.legend_ = legend_of_height(ax, lines, labels, ax.bbox.height, **where)
        room, width = ax.bbox.width, self.legend_.get_window_extent().width
        if own:
            figure.set_figwidth(figure.get_figwidth() + width / figure.dpi)
            return room
        room = max(room - width, room / 3)  # lines keep some, however long the names
        if figure.get_layout_engine() is None:
            left, bottom, _, height = ax.get_position().bounds
            ax.set_position((left, bottom, room / figure.bbox.width, height))
        return room


def _style(i: int) -> dict[str, Any]:
    """Return colour, marker and dashes of the line `i`; those of a colour differ in both others."""
    dashes = _DASHES[i // len(_COLOURS) % len(_DASHES)]
    return {"color": _COLOURS[i % len(_COLOURS)], "marker": _MARKERS[i % len(_MARKERS)], "linestyle": dashes}


def _percents(rates: list[float]) -> list[str]:
    return [f"{100 * rate:.3g}%" for rate in rates]


def thinned(rates: list[float], gap: float) -> list[float]:
    """Return those of sorted `rates` that lie `gap` apart, with the first and the last."""
    kept = [rates[0]]
    for rate in rates[1:-1]:
        if rate - kept[-1] >= gap and rates[-1] - rate >= gap:
            kept.append(rate)
    return kept if len(rates) == 1 else [*kept, rates[-1]]
