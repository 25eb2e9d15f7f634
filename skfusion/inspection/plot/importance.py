"""A picture of `modality_importance`."""

from typing import Any

import numpy as np
import pandas as pd

from skfusion._compat import optional
from skfusion.inspection.importance import modality_importance
from skfusion.inspection.plot._shared import METRICS, check_whole, parts_of

_BAR, _SYNERGY, _REDUNDANCY = "#0072B2", "#009E73", "#D55E00"
_WHAT = {
    "permutation": "lost where the modality is permuted",
    "ablation": "lost where the modality is missing",
    "shapley": "Shapley value",
    "retrain": "lost where fitted without the modality",
}


class ModalityImportanceDisplay:
    """What each modality adds to the score, and what each pair adds beyond its members.

    Bars are means over the folds, largest on top, lines their intervals, dots the folds. Below are pairs, green for a
    synergy, red for a redundancy, and grey where the interval holds 0; those closest to 0 are left out where there are
    many.

    Make one with `from_result` or `from_estimator`.

    Parameters
    ----------
    table, interactions, importances, method, scoring, confidence
        As `modality_importance` returns them.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        The modalities and, where there are pairs, the pairs.
    figure_ : matplotlib Figure
        The figure of them.
    bars_ : dict of str to Rectangle
        The bar of each modality and of each pair that is shown.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from skfusion import FusionClassifier
    >>> from skfusion.inspection import ModalityImportanceDisplay, modality_importance
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat([0, 1], 60)
    >>> X = {"labs": rng.normal(size=(120, 3)) + 2 * y[:, None], "ecg": rng.normal(size=(120, 2))}
    >>> result = modality_importance(FusionClassifier("early"), X, y, method="shapley", random_state=0)
    >>> display = ModalityImportanceDisplay.from_result(result)
    >>> list(display.bars_)
    ['labs', 'ecg', 'labs + ecg']
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        *,
        table: pd.DataFrame,
        interactions: pd.DataFrame,
        importances: pd.DataFrame,
        method: str,
        scoring: Any = None,
        confidence: float = 0.95,
    ) -> None:
        self.table = table
        self.interactions = interactions
        self.importances = importances
        self.method = method
        self.scoring = scoring
        self.confidence = confidence

    @classmethod
    def from_result(cls, result: Any, *, figure: Any = None, **options: Any) -> "ModalityImportanceDisplay":
        """Draw what `modality_importance` returned.

        Parameters
        ----------
        result : Bunch
            What `modality_importance` returned.
        figure : matplotlib Figure or SubFigure, default=None
            Where to draw; None makes one.
        **options
            Given to `plot`.

        Returns
        -------
        ModalityImportanceDisplay
            With `axes_` and `figure_`.

        Raises
        ------
        TypeError
            Where `result` is anything else.
        """
        parts = ("table", "interactions", "importances", "method", "scoring", "confidence")
        return cls(**parts_of(result, "modality_importance", parts, column="importance")).plot(figure, **options)

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: Any, *, figure: Any = None, **options: Any
    ) -> "ModalityImportanceDisplay":
        """Compute, and draw.

        Parameters
        ----------
        estimator, X, y
            As in `modality_importance`.
        figure : matplotlib Figure or SubFigure, default=None
            Where to draw; None makes one.
        **options
            Given to `modality_importance`.

        Returns
        -------
        ModalityImportanceDisplay
            With `axes_` and `figure_`.
        """
        optional("matplotlib.pyplot")  # to fail before the fits, not after them
        return cls.from_result(modality_importance(estimator, X, y, **options), figure=figure)

    def plot(
        self, figure: Any = None, *, max_pairs: int = 10, bar_kw: dict[str, Any] | None = None
    ) -> "ModalityImportanceDisplay":
        """Draw.

        Parameters
        ----------
        figure : matplotlib Figure or SubFigure, default=None
            Where to draw; None makes one.
        max_pairs : int, default=10
            Pairs that are shown, those furthest from 0.
        bar_kw : dict, default=None
            Given to matplotlib's ``barh``.

        Returns
        -------
        ModalityImportanceDisplay
            Itself.

        Raises
        ------
        ValueError
            Where `max_pairs` is no whole number of 0 or more.
        """
        plt = optional("matplotlib.pyplot")
        check_whole("max_pairs", max_pairs, least=0)
        rows = self.table.sort_values("importance", ascending=False, kind="stable")
        strength = self.interactions["interaction"].abs().sort_values(ascending=False, kind="stable")
        pairs = self.interactions.loc[strength.index[:max_pairs]]
        pairs = pairs.sort_values("interaction", ascending=False, kind="stable")
        sizes = [len(rows), len(pairs)] if len(pairs) else [len(rows)]
        if figure is None:
            figure = plt.figure(figsize=(6.4, 1.2 * len(sizes) + 0.34 * sum(sizes)), layout="constrained")
        axes = figure.subplots(len(sizes), 1, squeeze=False, gridspec_kw={"height_ratios": [n + 1 for n in sizes]})
        self.axes_, self.figure_ = axes[:, 0], figure
        self.bars_: dict[str, Any] = {}
        self._draw(self.axes_[0], rows, "importance", [_BAR] * len(rows), bar_kw)
        for height, name in enumerate(rows.index):
            folds = self.importances[name].to_numpy()
            self.axes_[0].scatter(folds, np.full(len(folds), height + 0.3), s=10, color="0.25", alpha=0.5, linewidths=0)
        named = METRICS.get(self.scoring, str(self.scoring).replace("_", " ")) if self.scoring else "score"
        metric = named if isinstance(self.scoring, str | None) else "score"
        self.axes_[0].set_xlabel(f"{_WHAT[self.method]}, {metric}, {self.confidence:.0%} interval")
        if len(pairs):
            colours = [{"synergy": _SYNERGY, "redundancy": _REDUNDANCY}.get(kind, "0.6") for kind in pairs["kind"]]
            self._draw(self.axes_[1], pairs, "interaction", colours, bar_kw)
            self.axes_[1].set_xlabel(f"redundancy \N{LEFTWARDS ARROW} {metric}, pairs \N{RIGHTWARDS ARROW} synergy")
        return self

    def _draw(self, ax: Any, rows: pd.DataFrame, what: str, colours: list[str], bar_kw: Any) -> None:
        heights = np.arange(len(rows))
        bars = ax.barh(heights, rows[what], 0.5, color=colours, alpha=0.8, **(bar_kw or {}))
        self.bars_.update(zip(rows.index, bars))
        known = np.isfinite(rows["ci_low"].to_numpy())
        ax.hlines(heights[known], rows["ci_low"][known], rows["ci_high"][known], color="0.15", linewidth=1.5)
        ax.axvline(0, color="0.35", linewidth=1)
        ax.set_yticks(heights, list(rows.index))
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.tick_params(axis="y", length=0)
        ax.spines[["left", "top", "right"]].set_visible(False)
        ax.grid(axis="x", color="0.92")
        ax.set_axisbelow(True)
