"""A picture of `compare_fusions`."""

from typing import Any

import numpy as np
import pandas as pd

from skfusion._compat import optional
from skfusion.inspection.comparison import compare_fusions
from skfusion.inspection.plot._shared import METRICS, parts_of

# Okabe and Ito's colours, told apart by colour-blind people and in grey; the markers differ as well.
_STYLES = {
    "single": {"color": "#D55E00", "marker": "o"},
    "fusion": {"color": "#0072B2", "marker": "D"},
}
_LABELS = {"fusion": "fusion", "single": "single modality"}
_BELOW = 0.24  # how far below its row the dots lie, so that the bar does not hide them


class FusionComparisonDisplay:
    """Every single modality and every fusion, one row each, sorted by their mean.

    Faint dots are folds. A marker is their mean, and a bar the interval of the paired difference to the best single
    modality, drawn around that mean: a bar that crosses the vertical line says that the difference may be zero.

    Make one with `from_comparison` or `from_estimators`.

    Parameters
    ----------
    table, scores, best_single, scoring, confidence
        As `compare_fusions` returns them.

    Attributes
    ----------
    ax_ : matplotlib Axes
        What is drawn on.
    figure_ : matplotlib Figure
        The figure of it.
    folds_ : dict of str to PathCollection
        The dots of each candidate.
    means_ : dict of str to Line2D
        The marker of each candidate.
    intervals_ : dict of str to LineCollection
        The bar of each candidate that has an interval.
    reference_ : Line2D
        The mean of the best single modality.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from skfusion import FusionClassifier
    >>> from skfusion.inspection import FusionComparisonDisplay, compare_fusions
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat([0, 1], 60)
    >>> X = {"labs": rng.normal(size=(120, 3)) + 2 * y[:, None], "ecg": rng.normal(size=(120, 2)) + y[:, None]}
    >>> result = compare_fusions(X, y, estimators={"early": FusionClassifier("early")}, random_state=0)
    >>> display = FusionComparisonDisplay.from_comparison(result)
    >>> [label.get_text() for label in display.ax_.get_yticklabels()]
    ['early', 'labs', 'ecg']
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        *,
        table: pd.DataFrame,
        scores: pd.DataFrame,
        best_single: str,
        scoring: Any = "score",
        confidence: float = 0.95,
    ) -> None:
        self.table = table
        self.scores = scores
        self.best_single = best_single
        self.scoring = scoring
        self.confidence = confidence

    @classmethod
    def from_comparison(cls, result: Any, *, ax: Any = None, **options: Any) -> "FusionComparisonDisplay":
        """Draw what `compare_fusions` returned.

        Parameters
        ----------
        result : Bunch
            What `compare_fusions` returned.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        **options
            Given to `plot`.

        Returns
        -------
        FusionComparisonDisplay
            With `ax_` and `figure_`.

        Raises
        ------
        TypeError
            Where `result` is anything else.
        """
        parts = ("table", "scores", "best_single", "scoring", "confidence")
        return cls(**parts_of(result, "compare_fusions", parts, column="kind")).plot(ax, **options)

    @classmethod
    def from_estimators(
        cls,
        X: Any,
        y: Any,
        *,
        estimators: Any = None,
        single: Any = None,
        modalities: Any = None,
        cv: Any = 5,
        groups: Any = None,
        scoring: Any = None,
        confidence: float = 0.95,
        error_score: Any = "raise",
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
        ax: Any = None,
    ) -> "FusionComparisonDisplay":
        """Compare, and draw what came out; it is kept as `table` and `scores`.

        Parameters
        ----------
        X, y, estimators, single, modalities, cv, groups, scoring, confidence, error_score, n_jobs, random_state, \
verbose
            As in `compare_fusions`.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        FusionComparisonDisplay
            With `ax_` and `figure_`.
        """
        optional("matplotlib.pyplot")  # to fail before the fits, not after them
        result = compare_fusions(
            X,
            y,
            estimators=estimators,
            single=single,
            modalities=modalities,
            cv=cv,
            groups=groups,
            scoring=scoring,
            confidence=confidence,
            error_score=error_score,
            n_jobs=n_jobs,
            random_state=random_state,
            verbose=verbose,
        )
        return cls.from_comparison(result, ax=ax)

    def plot(
        self,
        ax: Any = None,
        *,
        fold_kw: dict[str, Any] | None = None,
        mean_kw: dict[str, Any] | None = None,
        interval_kw: dict[str, Any] | None = None,
    ) -> "FusionComparisonDisplay":
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        fold_kw, mean_kw, interval_kw : dict, default=None
            Given to matplotlib's ``scatter`` (the dots), ``plot`` (the markers) and ``hlines`` (the bars).

        Returns
        -------
        FusionComparisonDisplay
            Itself.
        """
        plt = optional("matplotlib.pyplot")
        rows = self.table.sort_values("mean", ascending=False, kind="stable")
        if ax is None:
            _, ax = plt.subplots(figsize=(7.2, 1.3 + 0.34 * len(rows)), layout="constrained")
        best = rows.loc[self.best_single, "mean"]
        self.ax_, self.figure_ = ax, ax.figure
        self.reference_ = ax.axvline(best, color="0.35", linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        self.folds_, self.means_, self.intervals_ = {}, {}, {}
        for height, (name, row) in enumerate(rows.iterrows()):
            folds, style = self.scores[name].to_numpy(), _STYLES[row["kind"]]
            dots = {"s": 14, "alpha": 0.45, "linewidths": 0, "zorder": 2, "color": style["color"], **(fold_kw or {})}
            self.folds_[name] = ax.scatter(folds, np.full(len(folds), height + _BELOW), **dots)
            if name != self.best_single and np.isfinite(row["ci_low"]):
                bar = {"color": style["color"], "linewidth": 2, "zorder": 3, **(interval_kw or {})}
                self.intervals_[name] = ax.hlines(height, best + row["ci_low"], best + row["ci_high"], **bar)
            mean = {"markersize": 7, "markeredgecolor": "white", "linestyle": "", "zorder": 4, **style}
            (self.means_[name],) = ax.plot(row["mean"], height, **{**mean, **(mean_kw or {})})
        self._name_rows(rows)
        self._write_numbers(rows)
        self._explain(rows)
        return self

    def _name_rows(self, rows: pd.DataFrame) -> None:
        ax = self.ax_
        ax.set_yticks(range(len(rows)), list(rows.index))
        ax.set_ylim(len(rows) - 0.4, -0.5)
        ax.tick_params(axis="y", length=0)
        ax.spines[["left", "top", "right"]].set_visible(False)
        ax.grid(axis="x", color="0.92")
        ax.set_axisbelow(True)
        name = self.scoring if isinstance(self.scoring, str) else getattr(self.scoring, "__name__", "score")
        ax.set_xlabel(f"{METRICS.get(name, name.replace('_', ' '))} in {len(self.scores)} folds")

    def _write_numbers(self, rows: pd.DataFrame) -> None:
        """Write the mean and the difference of each row on the right of it."""
        digits = _digits(self.scores)
        means = [_number(f"{mean:.{digits}f}") for mean in rows["mean"]]
        differences = [
            "best single modality" if name == self.best_single else _difference(row, digits)
            for name, row in rows.iterrows()
        ]
        title = f"difference to {self.best_single} [{self.confidence:.0%} interval]"
        # In points from the edge, since the width of a text does not shrink with the axes.
        beyond = 18 + 5.5 * max(map(len, ["mean", *means]))
        for points, texts in ((10, ["mean", *means]), (beyond, [title, *differences])):
            for height, text in enumerate(texts, start=-1):
                where = {"xy": (1, height), "xycoords": ("axes fraction", "data"), "xytext": (points, 0)}
                self.ax_.annotate(text, **where, textcoords="offset points", va="center", fontsize="small")

    def _explain(self, rows: pd.DataFrame) -> None:
        """Put the legend below the numbers, where no data can lie."""
        first = {
            kind: next(name for name in rows.index if rows.loc[name, "kind"] == kind) for kind in set(rows["kind"])
        }
        entries = {_LABELS[kind]: self.means_[first[kind]] for kind in _LABELS if kind in first}
        entries["fold"] = self.folds_[rows.index[0]]
        if self.intervals_:
            entries["interval"] = next(iter(self.intervals_.values()))
        beside = {"loc": "upper left", "bbox_to_anchor": (1, 0), "borderaxespad": 0.2, "columnspacing": 1.2}
        self.ax_.legend(entries.values(), entries.keys(), ncols=2, fontsize="small", frameon=False, **beside)


def _digits(scores: pd.DataFrame) -> int:
    """Decimals that tell the scores apart: three significant digits of their range."""
    span = float(np.nanmax(scores.to_numpy()) - np.nanmin(scores.to_numpy()))
    return int(np.clip(2 - np.floor(np.log10(span)), 0, 6)) if span > 0 else 3


def _difference(row: pd.Series, digits: int) -> str:
    if not np.isfinite(row["ci_low"]):
        return ""
    return _number(f"{row['difference']:+.{digits}f} [{row['ci_low']:+.{digits}f}, {row['ci_high']:+.{digits}f}]")


def _number(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")
