"""A picture of `missing_modality_curve`."""

from typing import Any

import numpy as np
import pandas as pd

from skfusion._compat import optional
from skfusion.inspection.plot.comparison import METRICS

# Okabe and Ito's colours, told apart by colour-blind people; the markers differ as well.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "0.25")
_MARKERS = "oDs^vPX"
_ALONE: dict[str, Any] = {"color": "0.45", "marker": "o", "linestyle": (0, (4, 3))}
_GAP = 0.055  # between two names, as a part of the height
_WHERE = {"predict": "at predict", "fit": "at fit", "both": "at fit and at predict"}


class MissingModalityDisplay:
    """Mean score over the share of modalities, or values, that are missing, one line an estimator, named at its end.

    A band is one standard deviation of the fold scores around the mean. The best single modality, where it was asked
    for, is grey and dashed.

    Make one with `from_result`.

    Parameters
    ----------
    table, best_single, scoring, at, mechanism
        As `missing_modality_curve` returns them.

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
    ) -> None:
        self.table = table
        self.best_single = best_single
        self.scoring = scoring
        self.at = at
        self.mechanism = mechanism

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
        """
        keys = ("table", "best_single", "scoring", "at", "mechanism")
        return cls(**{key: result[key] for key in keys}).plot(ax, **options)

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
        if ax is None:
            _, ax = plt.subplots(figsize=(6.4, 4), layout="constrained")
        self.ax_, self.figure_ = ax, ax.figure
        self.lines_, self.bands_ = {}, {}
        for i, (name, rows) in enumerate(self.table.groupby("estimator", sort=False)):
            style: dict[str, Any] = {"color": _COLOURS[i % len(_COLOURS)], "marker": _MARKERS[i % len(_MARKERS)]}
            if self.best_single is not None and name == f"{self.best_single} alone":
                style = _ALONE
            low, high = rows["mean"] - rows["sd"], rows["mean"] + rows["sd"]
            band = {"color": style["color"], "alpha": 0.1, "linewidth": 0, "zorder": 1, **(band_kw or {})}
            self.bands_[name] = ax.fill_between(rows["rate"], low, high, **band)
            line = {"linewidth": 2, "markersize": 7, "markeredgecolor": "white", "zorder": 3, **style}
            (self.lines_[name],) = ax.plot(rows["rate"], rows["mean"], **{**line, **(line_kw or {})})
        self._name_axes()
        self._name_lines()
        return self

    def _name_axes(self) -> None:
        ax = self.ax_
        formatter = optional("matplotlib.ticker").PercentFormatter(1, decimals=None)
        ax.set_xticks(sorted(self.table["rate"].unique()))
        ax.xaxis.set_major_formatter(formatter)
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(axis="y", color="0.92")
        ax.set_axisbelow(True)
        name = self.scoring if isinstance(self.scoring, str) else getattr(self.scoring, "__name__", "score")
        ax.set_ylabel(METRICS.get(name, name.replace("_", " ")))
        what = "values" if self.mechanism == "values" else "modalities"
        ax.set_xlabel(f"{what} missing {_WHERE[self.at]}")

    def _name_lines(self) -> None:
        """Write each name beside the end of its line, and move apart what would overlap."""
        low, high = self.ax_.get_ylim()
        last = {name: line.get_ydata()[-1] for name, line in self.lines_.items()}
        names = sorted((name for name in last if np.isfinite(last[name])), key=lambda name: last[name])
        heights = apart([(last[name] - low) / (high - low) for name in names], _GAP)
        for name, height in zip(names, heights):
            self.ax_.annotate(
                name,
                xy=(1, height),
                xycoords="axes fraction",
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                color=self.lines_[name].get_color(),
            )


def apart(heights: list[float], gap: float) -> list[float]:
    """Move sorted `heights` as little as keeps each `gap` above the one below.

    What touches forms a block, which lies around the mean of where its members would be.
    """
    blocks: list[list[float]] = []
    for height in heights:
        blocks.append([height])
        while len(blocks) > 1 and _base(blocks[-1], gap) - _base(blocks[-2], gap) < gap * len(blocks[-2]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    return [_base(block, gap) + gap * i for block in blocks for i in range(len(block))]


def _base(block: list[float], gap: float) -> float:
    """Return the lowest height of a block whose members lie `gap` apart."""
    return float(np.mean(block)) - gap * (len(block) - 1) / 2
