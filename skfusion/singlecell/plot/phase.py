"""A picture of a gene's unspliced over its spliced expression."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import sparse

from skfusion.singlecell._annotate import KINETICS
from skfusion.singlecell.plot._cells import Colour, dot_size, new_axes, part_of

_RATES = ("alpha", "beta", "gamma", "t_switch")
_OPTIONAL = {"before": 0.0, "after": 0.0, "start": 0.0, "scaling": 1.0, "duration": np.inf, "u0": 0.0, "s0": 0.0}
_LONG = 12.0  # so many mean lifetimes after the switch, nothing changes any more


class PhasePortraitDisplay:
    """A gene's unspliced over its spliced expression, with the fitted kinetics and the steady state.

    Along the solid line a gene is switched on, from no expression on, and off after ``t_switch``. On the dashed line
    spliced expression would not change: cells above it gain some, cells below lose some.

    Make one with `from_moments` or `from_anndata`.

    Parameters
    ----------
    spliced, unspliced : array-like of shape (n_cells,)
        Moments of the gene.
    gene : str, default=None
        Its name, the title.
    color : array-like of shape (n_cells,), default=None
        Labels, or floats such as latent time.
    kinetics : dict of str to float, default=None
        ``alpha``, ``beta``, ``gamma`` and ``t_switch`` (for how long transcription is on) of the gene. Where they are
        known: ``before`` and ``after``, the rates of transcription before and after, 0 otherwise; ``start``, when it
        goes on, and ``duration``, when time ends, to draw what lies between time 0 and that alone; ``scaling``, what is
        seen of unspliced relative to spliced expression; ``u0`` and ``s0``, what is always there of both.
    steady_state : float or (float, float), default=None
        Slope of the steady state, with its offset; None is γ / β of the kinetics, where there are some.
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
    curve_ : Line2D or None
        The kinetics.
    line_ : Line2D or None
        The steady state.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from skfusion.singlecell import PhasePortraitDisplay
    >>> t = np.linspace(0, 8, 50)
    >>> unspliced = 10 * (1 - np.exp(-0.5 * t))
    >>> spliced = 10 / 0.6 * (1 - np.exp(-0.3 * t)) - 5 / 0.2 * (np.exp(-0.3 * t) - np.exp(-0.5 * t))
    >>> display = PhasePortraitDisplay.from_moments(
    ...     spliced, unspliced, gene="Sulf2", kinetics={"alpha": 5, "beta": 0.5, "gamma": 0.3, "t_switch": 8}
    ... )
    >>> display.curve_.get_label(), display.line_.get_label()
    ('fitted kinetics', 'steady state')
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        *,
        spliced: Any,
        unspliced: Any,
        gene: str | None = None,
        color: Any = None,
        kinetics: Mapping[str, float] | None = None,
        steady_state: Any = None,
        name: str | None = None,
    ) -> None:
        self.spliced = spliced
        self.unspliced = unspliced
        self.gene = gene
        self.color = color
        self.kinetics = kinetics
        self.steady_state = steady_state
        self.name = name

    @classmethod
    def from_moments(
        cls,
        spliced: Any,
        unspliced: Any,
        *,
        gene: str | None = None,
        color: Any = None,
        kinetics: Mapping[str, float] | None = None,
        steady_state: Any = None,
        name: str | None = None,
        ax: Any = None,
        **options: Any,
    ) -> "PhasePortraitDisplay":
        """Draw one gene.

        Parameters
        ----------
        spliced, unspliced, gene, color, kinetics, steady_state, name
            As in the class.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        **options
            Given to `plot`.

        Returns
        -------
        PhasePortraitDisplay
            With `ax_` and `figure_`.
        """
        return cls(
            spliced=spliced,
            unspliced=unspliced,
            gene=gene,
            color=color,
            kinetics=kinetics,
            steady_state=steady_state,
            name=name,
        ).plot(ax, **options)

    @classmethod
    def from_anndata(
        cls,
        adata: Any,
        gene: str,
        *,
        color: str | None = None,
        spliced_layer: str = "Ms",
        unspliced_layer: str = "Mu",
        ax: Any = None,
        **options: Any,
    ) -> "PhasePortraitDisplay":
        """Draw one gene of an AnnData, with what ``var`` holds of it.

        The kinetics are those that `SplicingFusion.annotate` writes (``kinetics_alpha`` and so on), until a fit by
        scVelo takes the place of its velocity or rates; else scVelo's (``fit_alpha`` and so on). Without kinetics the
        steady state is ``velocity_gamma``, with ``velocity_offset``.

        Parameters
        ----------
        adata : AnnData
            The cells.
        gene : str
            One of ``var_names``.
        color : str, default=None
            Column of ``obs``.
        spliced_layer, unspliced_layer : str, default="Ms" and "Mu"
            Layers of the moments.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        **options
            Given to `plot`.

        Returns
        -------
        PhasePortraitDisplay
            With `ax_` and `figure_`.

        Raises
        ------
        ValueError
            Where the gene, a layer or a column is not there.
        """
        if gene not in adata.var_names:
            raise ValueError(f"gene is {gene!r}, which var_names lack; they start with {list(adata.var_names[:5])}.")
        at = adata.var_names.get_loc(gene)
        s, u = (
            _column(part_of(adata, "layers", layer, argument), at)
            for layer, argument in ((spliced_layer, "spliced_layer"), (unspliced_layer, "unspliced_layer"))
        )
        if not (np.isfinite(s).any() and np.isfinite(u).any()):
            raise ValueError(
                f"gene {gene!r} has no moments in {spliced_layer!r} and {unspliced_layer!r}; choose one that has a "
                'velocity, adata.var_names[adata.var["velocity_genes"]].'
            )
        row = adata.var.loc[gene]
        duration = adata.uns.get("velocity_params", {}).get("duration")
        kinetics, steady = _own_kinetics(row, duration) or _scvelo_kinetics(row), None
        if kinetics is None and _known(row, "velocity_gamma"):
            steady = float(row["velocity_gamma"]), float(row.get("velocity_offset", 0.0))
        values = None if color is None else part_of(adata, "obs", color, "color")
        return cls.from_moments(s, u, gene=gene, color=values, kinetics=kinetics, steady_state=steady, ax=ax, **options)

    def plot(
        self,
        ax: Any = None,
        *,
        cell_kw: dict[str, Any] | None = None,
        curve_kw: dict[str, Any] | None = None,
        line_kw: dict[str, Any] | None = None,
    ) -> "PhasePortraitDisplay":
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        cell_kw, curve_kw, line_kw : dict, default=None
            Given to matplotlib's ``scatter`` (the cells) and ``plot`` (the kinetics, and the steady state).

        Returns
        -------
        PhasePortraitDisplay
            Itself.
        """
        s, u = _one_gene(self.spliced, "spliced"), _one_gene(self.unspliced, "unspliced")
        if len(s) != len(u):
            raise ValueError(f"spliced has {len(s)} cells and unspliced {len(u)}; due are the same cells.")
        colour = Colour(self.color, len(s), self.name)
        self.ax_ = ax = new_axes(ax, (6 if self.color is not None else 4.8, 4))
        self.figure_ = ax.figure
        dots = {"s": dot_size(len(s)), "alpha": 0.6, "linewidths": 0, "zorder": 1, **(cell_kw or {})}
        self.cells_ = colour.scatter(ax, np.column_stack([s, u]), **dots)
        self.curve_ = self.line_ = None
        furthest = np.nanmax(s, initial=0)  # cells without a layer are NaN
        if self.kinetics is not None:
            curve_u, curve_s = trajectory(_rates(self.kinetics))
            style = {"color": "0.1", "linewidth": 1.8, "zorder": 3, "label": "fitted kinetics", **(curve_kw or {})}
            (self.curve_,) = ax.plot(curve_s, curve_u, **style)
            furthest = max(furthest, curve_s.max())
        slope = self._steady_state()
        if slope is not None:
            at = np.array([0.0, furthest])
            style = {"color": "0.4", "linewidth": 1.5, "linestyle": (0, (4, 3)), "zorder": 2, "label": "steady state"}
            (self.line_,) = ax.plot(at, slope[0] * at + slope[1], **{**style, **(line_kw or {})})
        self._name_axes(colour, max(np.nanmax(u, initial=0), 0.0 if self.curve_ is None else curve_u.max()))
        return self

    def _steady_state(self) -> tuple[float, float] | None:
        if self.steady_state is not None:
            slope = np.atleast_1d(np.asarray(self.steady_state, dtype=float))
            return float(slope[0]), float(slope[1]) if len(slope) > 1 else 0.0
        if self.kinetics is not None:
            rates = _rates(self.kinetics)
            ratio = rates["gamma"] / rates["beta"] * rates["scaling"]
            return ratio, rates["u0"] - ratio * rates["s0"]
        return None

    def _name_axes(self, colour: Colour, highest: float) -> None:
        ax = self.ax_
        # Dots on the axes shall be whole; and a steep steady state shall not squeeze the cells.
        right = ax.get_xlim()[1]
        ax.set_xlim(-0.02 * right, right)
        ax.set_ylim(-0.02 * highest, 1.08 * highest or 1)
        ax.set_xlabel("spliced")
        ax.set_ylabel("unspliced")
        if self.gene is not None:
            ax.set_title(self.gene, style="italic")
        ax.spines[["top", "right"]].set_visible(False)
        lines = [line for line in (self.curve_, self.line_) if line is not None]
        if lines:
            # Above the axes: a curve may run through any corner.
            above = {"loc": "lower right", "bbox_to_anchor": (1, 1), "ncols": 2, "borderaxespad": 0.1}
            first = ax.legend(lines, [line.get_label() for line in lines], frameon=False, fontsize="small", **above)
            if self.gene is not None:
                ax.set_title(self.gene, style="italic", loc="left")
                ax.title.set_text("")
            ax.add_artist(first)
        colour.explain(ax, self.cells_)


def trajectory(rates: Mapping[str, float], n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Unspliced and spliced expression along the kinetics, of which `rates` has all."""
    import torch

    from skfusion.decoders.kinetics import Transcription

    alpha, beta, gamma, on = (rates[name] for name in _RATES)
    off = rates["start"] + on
    if np.isfinite(rates["duration"]):
        time = np.linspace(0, rates["duration"], 2 * n)
    else:
        # Dense where it is fast.
        time = np.r_[np.linspace(rates["start"], off, n), off + _LONG / min(beta, gamma) * np.linspace(0, 1, n) ** 2]
    named = {"before": rates["before"], "alpha": alpha, "after": rates["after"], "beta": beta, "gamma": gamma}
    gene = Transcription(
        **{name: torch.tensor(value, dtype=torch.float64) for name, value in named.items()},
        start=torch.tensor(rates["start"], dtype=torch.float64),
        stop=torch.tensor(off, dtype=torch.float64),
    )
    u, s = (layer.numpy() for layer in gene.at(torch.from_numpy(time)))
    return u * rates["scaling"] + rates["u0"], s + rates["s0"]


def _rates(kinetics: Mapping[str, float]) -> dict[str, float]:
    """Check kinetics, and fill in what is not known."""
    if not set(_RATES) <= set(kinetics) <= {*_RATES, *_OPTIONAL}:
        raise ValueError(f"kinetics has {sorted(kinetics)}; due are {list(_RATES)}, and maybe {list(_OPTIONAL)}.")
    rates = {name: float(value) for name, value in {**_OPTIONAL, **kinetics}.items()}
    low = {name: value for name, value in rates.items() if name in (*_RATES, "scaling", "duration") and not value > 0}
    low |= {name: rates[name] for name in ("before", "after") if not rates[name] >= 0}
    low |= {name: rates[name] for name in (*_RATES, "start", "scaling", "u0", "s0") if not np.isfinite(rates[name])}
    if low:
        raise ValueError(f"kinetics has {low}; due are positive rates and times, and a finite start.")
    return rates


def _own_kinetics(row: Any, duration: Any) -> dict[str, float] | None:
    """Return the kinetics that skfusion fitted to a gene, a row of `var`, if it did and scVelo has not since.

    scVelo's velocity knows no `duration`, and its rates are not those that skfusion wrote in its terms.
    """
    if duration is None or not all(_known(row, f"kinetics_{name}") for name in KINETICS):
        return None
    if _known(row, "fit_gamma") and not np.isclose(row["fit_gamma"], row["kinetics_gamma"]):
        return None
    rates = {name: float(row[f"kinetics_{name}"]) for name in KINETICS}
    rates["t_switch"] = rates.pop("stop") - rates["start"]
    return {**rates, "duration": float(duration)}


def _scvelo_kinetics(row: Any) -> dict[str, float] | None:
    """Return the kinetics that scVelo fitted to a gene, if it did."""
    if not all(_known(row, f"fit_{name}") for name in ("alpha", "beta", "gamma", "t_")):
        return None
    names = ("alpha", "beta", "gamma", "scaling", "u0", "s0")
    rates = {name: float(row[f"fit_{name}"]) for name in names if _known(row, f"fit_{name}")}
    # scVelo's splicing rate is that of unspliced counts as they are seen.
    return {**rates, "beta": rates["beta"] * rates.get("scaling", 1.0), "t_switch": float(row["fit_t_"])}


def _known(row: Any, name: str) -> bool:
    return name in row and bool(np.isfinite(row[name]))


def _one_gene(values: Any, name: str) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if values.ndim != 1:
        raise ValueError(f"{name} has shape {values.shape}; due is one gene, (n_cells,).")
    return values


def _column(layer: Any, at: int) -> np.ndarray:
    column = layer[:, at]
    return np.asarray(column.toarray() if sparse.issparse(column) else column, dtype=float).ravel()
