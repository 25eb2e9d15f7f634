"""A picture of latent time."""

from typing import Any

import numpy as np
import pandas as pd

from skfusion._compat import optional
from skfusion.singlecell.plot._cells import CMAP, Colour, bare, dot_size, part_of
from skfusion.singlecell.projection import check_embedding


class LatentTimeDisplay:
    """Latent time of cells: over an embedding, and by label, sorted by its median.

    A bar reaches from the first to the third quartile of a label, and a line marks its median.

    Make one with `from_time` or `from_anndata`.

    Parameters
    ----------
    time : array-like of shape (n_cells,)
        Latent time; NaN where it is not known.
    labels : array-like of shape (n_cells,), default=None
        Cluster of each cell; None draws the embedding alone.
    embedding : array-like of shape (n_cells, 2), default=None
        Where cells are drawn; None draws the labels alone.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        What is drawn on: the embedding, the labels, or both.
    figure_ : matplotlib Figure
        The figure of it.
    order_ : list of str
        Labels, by their median, the earliest first.
    medians_ : Series
        The median of each label, in that order.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from skfusion.singlecell import LatentTimeDisplay
    >>> rng = np.random.default_rng(0)
    >>> labels = np.repeat(["mature", "stem", "growing"], 50)
    >>> time = np.repeat([0.9, 0.1, 0.5], 50) + rng.normal(scale=0.05, size=150)
    >>> display = LatentTimeDisplay.from_time(time, labels)
    >>> display.order_
    ['stem', 'growing', 'mature']
    >>> plt.close(display.figure_)
    """

    def __init__(self, *, time: Any, labels: Any = None, embedding: Any = None) -> None:
        self.time = time
        self.labels = labels
        self.embedding = embedding

    @classmethod
    def from_time(
        cls, time: Any, labels: Any = None, *, embedding: Any = None, ax: Any = None, **options: Any
    ) -> "LatentTimeDisplay":
        """Draw latent time.

        Parameters
        ----------
        time, labels, embedding
            As in the class.
        ax : matplotlib Axes or array of them, default=None
            Where to draw, one a panel; None makes a figure.
        **options
            Given to `plot`.

        Returns
        -------
        LatentTimeDisplay
            With `axes_` and `figure_`.
        """
        return cls(time=time, labels=labels, embedding=embedding).plot(ax, **options)

    @classmethod
    def from_anndata(
        cls,
        adata: Any,
        labels: str | None = None,
        *,
        basis: str | None = None,
        time: str = "latent_time",
        ax: Any = None,
        **options: Any,
    ) -> "LatentTimeDisplay":
        """Draw what an AnnData holds.

        Parameters
        ----------
        adata : AnnData
            The cells.
        labels : str, default=None
            Column of ``obs``.
        basis : str, default=None
            Key of ``obsm``, such as ``"X_umap"``; its first two columns are drawn.
        time : str, default="latent_time"
            Column of ``obs``.
        ax : matplotlib Axes or array of them, default=None
            Where to draw, one a panel; None makes a figure.
        **options
            Given to `plot`.

        Returns
        -------
        LatentTimeDisplay
            With `axes_` and `figure_`.

        Raises
        ------
        ValueError
            Where something that is named is not there; it lists what is.
        """
        return cls.from_time(
            part_of(adata, "obs", time, "time"),
            None if labels is None else part_of(adata, "obs", labels, "labels"),
            embedding=None if basis is None else np.asarray(part_of(adata, "obsm", basis, "basis"))[:, :2],
            ax=ax,
            **options,
        )

    def plot(self, ax: Any = None, *, cell_kw: dict[str, Any] | None = None) -> "LatentTimeDisplay":
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or array of them, default=None
            Where to draw, one a panel; None makes a figure.
        cell_kw : dict, default=None
            Given to matplotlib's ``scatter`` (the cells of both panels).

        Returns
        -------
        LatentTimeDisplay
            Itself.
        """
        time = np.asarray(self.time, dtype=float)
        if time.ndim != 1 or not np.isfinite(time).any():
            raise ValueError(f"time has shape {time.shape}; due is one number a cell, some of them known.")
        panels = [name for name in ("embedding", "labels") if getattr(self, name) is not None]
        if not panels:
            raise ValueError("neither labels nor embedding is given; due is at least one of them to draw time over.")
        self.axes_ = self._axes(ax, panels)
        self.figure_ = self.axes_[0].figure
        dots = {"s": dot_size(len(time)), "alpha": 0.7, "linewidths": 0, **(cell_kw or {})}
        for axes, panel in zip(self.axes_, panels):
            if panel == "embedding":
                self._draw_embedding(axes, time, dots)
            else:
                self._draw_labels(axes, time, dots)
        return self

    def _axes(self, ax: Any, panels: list[str]) -> Any:
        if ax is None:
            plt = optional("matplotlib.pyplot")
            rows = 0 if self.labels is None else pd.Series(self.labels).nunique()
            size = (5.4 * len(panels), max(4.2 if "embedding" in panels else 0, 1.2 + 0.42 * rows))
            return plt.subplots(1, len(panels), figsize=size, squeeze=False, layout="constrained")[1].ravel()
        axes = np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
        if len(axes) != len(panels):
            raise ValueError(f"ax has {len(axes)} Axes; due are {len(panels)}, one for each of {panels}.")
        return axes

    def _draw_embedding(self, ax: Any, time: np.ndarray, dots: dict[str, Any]) -> None:
        points = check_embedding(self.embedding, len(time))
        if points.shape[1] != 2:
            raise ValueError(f"embedding has {points.shape[1]} columns; due are the two that shall be drawn.")
        colour = Colour(time, len(time), "latent time")
        # Late cells would hide early ones wherever they meet; at random, neither does.
        order = np.random.default_rng(0).permutation(len(time))
        colour.numbers = time[order]
        drawn = colour.scatter(ax, points[order], **dots)
        bare(ax)
        colour.explain(ax, drawn)

    def _draw_labels(self, ax: Any, time: np.ndarray, dots: dict[str, Any]) -> None:
        labels = pd.Series(np.asarray(self.labels, dtype=object))
        if len(labels) != len(time):
            raise ValueError(f"labels has {len(labels)} values for {len(time)} cells; due is one a cell.")
        by_label = pd.Series(time).groupby(labels.astype(str).where(labels.notna()))
        quartiles = pd.DataFrame({"first": by_label.quantile(0.25), "third": by_label.quantile(0.75)})
        quartiles.insert(1, "median", by_label.median())
        quartiles = quartiles.dropna().sort_values("median", kind="stable")
        self.order_, self.medians_ = list(quartiles.index), quartiles["median"]
        rng = np.random.default_rng(0)
        limits = {"cmap": CMAP, "vmin": np.nanmin(time), "vmax": np.nanmax(time)}
        for row, (label, (first, median, third)) in enumerate(quartiles.iterrows()):
            own = by_label.get_group(label).dropna().to_numpy()
            at = row + rng.uniform(-0.22, 0.22, len(own)) - 0.06
            ax.scatter(own, at, c=own, zorder=1, **{**limits, **dots})
            ax.hlines(row + 0.3, first, third, color="0.25", linewidth=2.5, zorder=2)
            ax.vlines(median, row + 0.2, row + 0.4, color="0.1", linewidth=2.5, zorder=3)
        ax.set_yticks(range(len(quartiles)), self.order_)
        ax.set_ylim(len(quartiles) - 0.45, -0.5)
        ax.tick_params(axis="y", length=0)
        ax.spines[["left", "top", "right"]].set_visible(False)
        ax.grid(axis="x", color="0.92")
        ax.set_axisbelow(True)
        ax.set_xlabel("latent time")
