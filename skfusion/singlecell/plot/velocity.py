"""A picture of velocity over an embedding."""

from typing import Any

import numpy as np
from scipy import sparse
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import check_array

from skfusion.singlecell.plot._cells import Colour, bare, dot_size, new_axes, part_of
from skfusion.singlecell.projection import check_embedding, project_velocity

_KINDS = ("stream", "grid", "cells")


class VelocityDisplay:
    """Where cells are heading, over any embedding in two dimensions: as a stream, or as arrows.

    What is drawn is a projection: it shows whether neighbours lie in the direction of the velocity, smoothed over the
    picture. Whether the direction is right, `velocity_report` tells, in gene space and beside controls.

    Make one with `from_velocity` or `from_anndata`.

    Parameters
    ----------
    embedding : array-like of shape (n_cells, 2)
        Where the cells are drawn.
    arrows : array-like of shape (n_cells, 2)
        Where they are heading, as `project_velocity` gives it. A cell whose row is NaN is drawn without an arrow.
    color : array-like of shape (n_cells,), default=None
        Labels, or floats such as latent time.
    name : str, default=None
        What `color` is; a Series has its own name.

    Attributes
    ----------
    ax_ : matplotlib Axes
        What is drawn on.
    figure_ : matplotlib Figure
        The figure of it.
    cells_ : list of PathCollection
        The dots, one collection a label.
    stream_ : StreamplotSet
        The stream, of ``kind="stream"``.
    arrows_ : Quiver
        The arrows, of the other kinds.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from skfusion.singlecell import VelocityDisplay, nearest_neighbors
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(300, 2))
    >>> whirl = np.column_stack([-X[:, 1], X[:, 0]])
    >>> display = VelocityDisplay.from_velocity(X, whirl, nearest_neighbors(X, 20), embedding=X, color=X[:, 0])
    >>> len(display.cells_)
    1
    >>> plt.close(display.figure_)
    """

    def __init__(self, *, embedding: Any, arrows: Any, color: Any = None, name: str | None = None) -> None:
        self.embedding = embedding
        self.arrows = arrows
        self.color = color
        self.name = name

    @classmethod
    def from_velocity(
        cls,
        X: Any,
        velocity: Any,
        neighbors: Any,
        embedding: Any,
        *,
        color: Any = None,
        name: str | None = None,
        ax: Any = None,
        **options: Any,
    ) -> "VelocityDisplay":
        """Project velocity onto an embedding, and draw.

        Parameters
        ----------
        X, velocity, neighbors, embedding
            As in `project_velocity`.
        color, name
            As in the class.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        **options
            Given to `plot`.

        Returns
        -------
        VelocityDisplay
            With `ax_` and `figure_`.
        """
        arrows = project_velocity(X, velocity, neighbors, embedding)
        return cls(embedding=embedding, arrows=arrows, color=color, name=name).plot(ax, **options)

    @classmethod
    def from_anndata(
        cls,
        adata: Any,
        basis: str = "X_umap",
        *,
        color: str | None = None,
        velocity_layer: str = "velocity",
        expression_layer: str = "Ms",
        neighbors_key: str = "connectivities",
        ax: Any = None,
        **options: Any,
    ) -> "VelocityDisplay":
        """Draw what an AnnData holds.

        Genes without velocity (NaN) are left out, and those that ``var["velocity_genes"]`` leaves out. Cells that have
        no moments or no velocity are drawn without an arrow.

        Parameters
        ----------
        adata : AnnData
            With the two layers, the neighbours in ``obsp``, and the embedding in ``obsm``.
        basis : str, default="X_umap"
            Key of ``obsm``; its first two columns are drawn.
        color : str, default=None
            Column of ``obs``, such as ``"clusters"`` or ``"latent_time"``.
        velocity_layer, expression_layer : str, default="velocity" and "Ms"
            Layers.
        neighbors_key : str, default="connectivities"
            Key of ``obsp``.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        **options
            Given to `plot`.

        Returns
        -------
        VelocityDisplay
            With `ax_` and `figure_`.

        Raises
        ------
        ValueError
            Where something that is named is not there; it lists what is.
        """
        embedding = np.asarray(part_of(adata, "obsm", basis, "basis"), dtype=float)[:, :2]
        velocity = _dense(part_of(adata, "layers", velocity_layer, "velocity_layer"))
        X = _dense(part_of(adata, "layers", expression_layer, "expression_layer"))
        neighbors = part_of(adata, "obsp", neighbors_key, "neighbors_key")
        values = None if color is None else part_of(adata, "obs", color, "color")
        finite = np.isfinite(velocity)
        kept = finite[finite.any(axis=1)].all(axis=0) & finite.any(axis=0)
        if "velocity_genes" in adata.var:
            kept &= adata.var["velocity_genes"].to_numpy(dtype=bool)
        if not kept.any():
            raise ValueError(
                f"layer {velocity_layer!r} has no gene whose velocity is known in all cells that have one."
            )
        return cls.from_velocity(
            X[:, kept], velocity[:, kept], sparse.csr_matrix(neighbors), embedding, color=values, ax=ax, **options
        )

    def plot(
        self,
        ax: Any = None,
        *,
        kind: str = "stream",
        n_grid: int = 32,
        smoothing: float = 1.0,
        cell_kw: dict[str, Any] | None = None,
        arrow_kw: dict[str, Any] | None = None,
    ) -> "VelocityDisplay":
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        kind : {"stream", "grid", "cells"}, default="stream"
            Lines that follow the arrows, the mean arrow at each point of a grid, or one arrow a cell.
        n_grid : int, default=32
            Points of the grid on the longer side.
        smoothing : float, default=1.0
            Width of the Gaussian that arrows are averaged by, in steps of the grid.
        cell_kw, arrow_kw : dict, default=None
            Given to matplotlib's ``scatter`` (the cells), and ``streamplot`` or ``quiver``.

        Returns
        -------
        VelocityDisplay
            Itself.
        """
        if kind not in _KINDS:
            raise ValueError(f"kind is {kind!r}; due is one of {list(_KINDS)}.")
        points, arrows = check_pictured(self.embedding, self.arrows)
        known = np.isfinite(arrows).all(axis=1)
        colour = Colour(self.color, len(points), self.name)
        self.ax_ = ax = new_axes(ax, (7.2 if colour.labels else 6.4, 5))
        self.figure_ = ax.figure
        dots = {"s": dot_size(len(points)), "alpha": 0.55, "linewidths": 0, "zorder": 1, **(cell_kw or {})}
        self.cells_ = colour.scatter(ax, points, **dots)
        if kind == "cells":
            self.arrows_ = _quiver(ax, points[known], arrows[known], 1.5 * _spacing(points, n_grid), arrow_kw)
        else:
            x, y, mean = velocity_on_grid(points[known], arrows[known], n_grid=n_grid, smoothing=smoothing)
            if kind == "stream":
                length = np.linalg.norm(mean, axis=2)
                # Thin lines where arrows are short or disagree.
                width = 0.4 + 1.2 * np.nan_to_num(length / max(np.nanmax(length, initial=0), 1e-12))
                style = {"color": "0.1", "density": 1.3, "linewidth": width, "arrowsize": 1.0, "zorder": 2}
                self.stream_ = ax.streamplot(x, y, mean[..., 0], mean[..., 1], **{**style, **(arrow_kw or {})})
            else:
                at = np.stack(np.meshgrid(x, y), axis=2)[np.isfinite(mean[..., 0])]
                self.arrows_ = _quiver(ax, at, mean[np.isfinite(mean[..., 0])], 1.3 * (x[1] - x[0]), arrow_kw)
        bare(ax)
        colour.explain(ax, self.cells_)
        return self


def check_pictured(embedding: Any, arrows: Any) -> tuple[np.ndarray, np.ndarray]:
    """Check cells and arrows of a picture: two columns each."""
    points = check_embedding(embedding, len(embedding))
    arrows = check_array(arrows, dtype=float, ensure_all_finite=False, input_name="arrows")
    lacks = np.isnan(arrows).all(axis=1)
    if lacks.all():
        raise ValueError("arrows is NaN for all cells; due is an arrow for some of them.")
    check_embedding(np.where(lacks[:, None], 0, arrows), len(points))
    for name, table in (("embedding", points), ("arrows", arrows)):
        if table.shape[1] != 2:
            raise ValueError(f"{name} has {table.shape[1]} columns; due are the two that shall be drawn.")
    return points, arrows


def velocity_on_grid(
    points: np.ndarray, arrows: np.ndarray, *, n_grid: int, smoothing: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Average arrows around the points of a grid by a Gaussian; NaN where no cells are near.

    Returns
    -------
    x, y : ndarrays of shape (n_x,) and (n_y,)
        The grid; its steps are the same on both sides.
    mean : ndarray of shape (n_y, n_x, 2)
        Mean arrows.
    """
    if n_grid < 2 or smoothing <= 0:
        raise ValueError(f"n_grid is {n_grid} and smoothing {smoothing}; due are at least 2, and more than 0.")
    step = _spacing(points, n_grid)
    low, high = points.min(axis=0) - step, points.max(axis=0) + step
    x, y = (low[i] + step * np.arange(int(np.ceil((high[i] - low[i]) / step)) + 1) for i in range(2))
    nodes = np.stack(np.meshgrid(x, y), axis=2).reshape(-1, 2)
    width = smoothing * step
    k = min(len(points), 100)
    distance, near = NearestNeighbors(n_neighbors=k).fit(points).kneighbors(nodes)
    weight = np.exp(-0.5 * (distance / width) ** 2)  # (n_nodes, k)
    mass = weight.sum(axis=1)
    mean = np.einsum("nk,nkd->nd", weight, arrows[near]) / np.maximum(mass, 1e-12)[:, None]
    # Less than one cell within reach, or all of them on one far side.
    mean[(mass < 0.6) | (distance[:, 0] > 1.2 * width)] = np.nan
    return x, y, mean.reshape(len(y), len(x), 2)


def _spacing(points: np.ndarray, n_grid: int) -> float:
    return float(np.ptp(points, axis=0).max() / (n_grid - 1)) or 1.0


def _quiver(ax: Any, points: np.ndarray, arrows: np.ndarray, longest: float, given: dict[str, Any] | None) -> Any:
    """Draw arrows, so that the long ones (95th percentile) are `longest`."""
    length = np.linalg.norm(arrows, axis=1)
    typical = np.quantile(length, 0.95) if len(length) else 0.0
    scale = {"angles": "xy", "scale_units": "xy", "scale": max(typical, 1e-12) / longest}
    style = {"color": "0.15", "width": 0.002, "headwidth": 4, "headlength": 5, "headaxislength": 4.5, "zorder": 2}
    return ax.quiver(*points.T, *arrows.T, **{**scale, **style, **(given or {})})


def _dense(values: Any) -> np.ndarray:
    return values.toarray() if sparse.issparse(values) else np.asarray(values)
