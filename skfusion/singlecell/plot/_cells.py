"""What the Displays share: cells as dots, coloured by label or by a number, and what an AnnData has."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from skfusion._compat import optional

# Okabe and Ito's colours, told apart by colour-blind people, then darker and lighter ones of the same hues.
_COLOURS = (
    *("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#555555", "#F0E442"),
    *("#00466E", "#8F6300", "#00624A", "#8A3D00", "#8A4A6E", "#A9D6F2", "#A89E00", "#AAAAAA"),
)
_UNKNOWN = "0.8"
CMAP = "viridis"


class Colour:
    """How cells are coloured: by number, by label, or all alike.

    Parameters
    ----------
    values : array-like of shape (n_cells,), default=None
        Numbers, or labels; a categorical keeps the order of its categories.
    n_cells : int
        How many cells there are.
    name : str, default=None
        What the values are, for the colour bar.
    """

    def __init__(self, values: Any, n_cells: int, name: str | None = None) -> None:
        series = None if values is None else pd.Series(values).reset_index(drop=True)
        if series is not None and len(series) != n_cells:
            raise ValueError(f"color has {len(series)} values for {n_cells} cells; due is one a cell.")
        self.name = str(name if name is not None else getattr(values, "name", None) or "").replace("_", " ")
        self.numbers = self.codes = None
        self.labels: list[str] = []
        if series is None:
            return
        if pd.api.types.is_float_dtype(series.dtype):
            self.numbers = series.to_numpy(dtype=float)
            return
        kinds = pd.Categorical(series)
        kinds = kinds.remove_unused_categories()
        self.codes, self.labels = kinds.codes, list(map(str, kinds.categories))

    def of_label(self, code: int) -> Any:
        """Return the colour of a label; beyond those that can be told apart, one of a rainbow."""
        if len(self.labels) <= len(_COLOURS):
            return _COLOURS[code]
        return optional("matplotlib").colormaps["turbo"]((code + 0.5) / len(self.labels))

    def scatter(self, ax: Any, points: np.ndarray, **style: Any) -> list[Any]:
        """Draw the cells; labels one after another, so that each has an entry for a legend."""
        if self.numbers is not None:
            # Those known last come on top of those that are not.
            known = np.isfinite(self.numbers)
            drawn = [ax.scatter(*points[~known].T, **{"color": _UNKNOWN, **style})] if not known.all() else []
            return [*drawn, ax.scatter(*points[known].T, c=self.numbers[known], **{"cmap": CMAP, **style})]
        if self.codes is None:
            return [ax.scatter(*points.T, **{"color": "0.55", **style})]
        drawn = []
        if (self.codes < 0).any():
            drawn.append(ax.scatter(*points[self.codes < 0].T, **{"color": _UNKNOWN, **style}))
        for code, label in enumerate(self.labels):
            own = points[self.codes == code]
            drawn.append(ax.scatter(*own.T, **{"color": self.of_label(code), "label": label, **style}))
        return drawn

    def explain(self, ax: Any, drawn: list[Any]) -> None:
        """Put a colour bar or a legend on the right, where no data can lie."""
        if self.numbers is not None:
            bar = ax.figure.colorbar(drawn[-1], ax=ax, label=self.name, shrink=0.7, aspect=25)
            bar.solids.set(alpha=1)
        elif self.labels:
            # One large opaque dot each, whatever the size and the transparency of the cells.
            line = optional("matplotlib.lines").Line2D
            dots = [line([], [], linestyle="", marker="o", color=self.of_label(i)) for i in range(len(self.labels))]
            beside = {"loc": "center left", "bbox_to_anchor": (1, 0.5), "frameon": False, "fontsize": "small"}
            ax.legend(dots, self.labels, **beside)


def new_axes(ax: Any, figsize: tuple[float, float]) -> Any:
    """Return `ax`, or that of a new figure."""
    plt = optional("matplotlib.pyplot")
    return plt.subplots(figsize=figsize, layout="constrained")[1] if ax is None else ax


def dot_size(n_cells: int) -> float:
    """Area of a dot, in points², at which so many cells leave a picture readable."""
    return float(np.clip(12_000 / max(n_cells, 1), 2, 30))


def bare(ax: Any) -> None:
    """Take ticks and frame away, and make both sides alike: an embedding has no unit."""
    ax.set_aspect("equal", adjustable="datalim")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)


def part_of(adata: Any, slot: str, key: str, argument: str) -> Any:
    """Return ``adata.<slot>[key]``; where it lacks it, say what it has."""
    has = getattr(adata, slot)
    if key not in has:
        names: Sequence[str] = list(has.columns if slot in ("obs", "var") else has)
        raise ValueError(f"{argument} is {key!r}, which {slot} lacks; it has {list(map(str, names))}.")
    return has[key]
