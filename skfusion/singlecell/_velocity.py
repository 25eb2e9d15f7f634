"""RNA velocity of cells that come with one layer or both, by their nearest training cells that have both."""

from typing import Any

import numpy as np
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline

from skfusion._compat import on_arrays
from skfusion.modalities import Modalities
from skfusion.modalities.backed import in_memory
from skfusion.preprocessing import LogNormalizer, Projection, median_total, to_dense
from skfusion.singlecell._layers import column_variance, some
from skfusion.singlecell._libraries import totals
from skfusion.singlecell.neighbors import shared_counts
from skfusion.singlecell.steady_state import steady_state_velocity

_MIN_SHARED_COUNTS = 20
_N_COMPONENTS = 30
_LEAST_VARIANCE = 1e-10
CHUNK = 4096
"""Cells whose moments are held at once."""


class NoVelocity(ValueError):
    """The data has no velocity, and why."""


class VelocityModel:
    """Neighbours, moments and kinetics, learnt from training cells that have both layers.

    Parameters
    ----------
    method : {"dynamical", "steady_state", "mixture", "minimal"}
        The model of transcription. Of the last two it has the moments that a decoder is trained on.
    n_neighbors : int
        Neighbours over which moments are taken, the cell itself not counted.
    counts : list of str
        Layers that hold counts, which are normalised.
    seed : int
        Which cells, where there are many.
    """

    def __init__(self, method: str, n_neighbors: int, counts: list[str], seed: int) -> None:
        self.method, self.n_neighbors, self.counts, self.seed = method, n_neighbors, counts, seed
        self.knows_time = method in ("dynamical", "mixture")

    def fit(self, X: Modalities) -> "VelocityModel":
        """Learn from cells over the fitted genes.

        Raises
        ------
        NoVelocity
            Where there is one layer alone, too few cells have both, or no gene has a velocity.
        """
        if len(X.names) < 2:
            raise NoVelocity(f"fitted is the layer {X.names[0]!r} alone, and velocity needs both; name both, and fit.")
        both = np.flatnonzero(X.present.all(axis=1))
        if len(both) <= self.n_neighbors:
            raise NoVelocity(
                f"{len(both)} training cells have both layers, and velocity needs more than n_neighbors="
                f"{self.n_neighbors} of them; give more, or lower n_neighbors."
            )
        both = some(both, self.seed)
        layers = {name: in_memory(X[name][both]) for name in ("spliced", "unspliced")}
        self._learn_layers(layers)
        near = self._learn_places(layers)
        self._require_shared(layers)
        # Of training cells, the nearest one is the cell itself.
        moments = self._choose_genes(X[both])
        self.dynamics: Any = None
        if self.method in ("mixture", "minimal"):
            self._scale(both, moments)
        if self.method == "dynamical":
            from skfusion.singlecell.dynamics import fit_dynamics

            self.dynamics = fit_dynamics(moments[0], moments[1], _graph(near, len(both)))
        return self

    def _learn_layers(self, layers: dict[str, Any]) -> None:
        """Normalise the layers, and keep them."""
        self.targets = {name: median_total(totals(layers[name])) for name in self.counts}
        self.layers = {name: self._normalized(name, rows) for name, rows in layers.items()}
        unknown = [name for name, rows in self.layers.items() if np.isnan(rows.min())]
        if unknown:
            raise NoVelocity(f"the layers {unknown} hold NaN in cells that have them; fill them first.")
        negative = [name for name, rows in self.layers.items() if rows.min() < 0]
        if negative:
            raise NoVelocity(
                f"the layers {negative} hold negative values, of which there is no velocity; give counts, or "
                "normalised ones."
            )

    def _learn_places(self, layers: dict[str, Any]) -> Any:
        """Learn where cells lie by each layer; return their neighbours (n_cells, n_neighbors) by the spliced one."""
        self.projections, self.searches = {}, {}
        for name, rows in layers.items():
            is_counts = name in self.counts
            scaled = LogNormalizer().fit_transform(rows) if is_counts else to_dense(rows)
            if column_variance(scaled).max(initial=0) < _LEAST_VARIANCE:
                raise NoVelocity(f"layer {name!r} is alike in all cells.")
            projection = (
                make_pipeline(LogNormalizer(), Projection(_N_COMPONENTS, random_state=0))
                if is_counts
                else PCA(min(_N_COMPONENTS, *(n - 1 for n in rows.shape)), random_state=0)
            )
            places = on_arrays(projection).fit_transform(rows if is_counts else scaled)
            self.projections[name] = projection
            self.searches[name] = NearestNeighbors(n_neighbors=self.n_neighbors + 1).fit(places)
        return self.searches["spliced"].kneighbors(n_neighbors=self.n_neighbors, return_distance=False)

    def _require_shared(self, layers: dict[str, Any]) -> None:
        """Leave genes that both layers of counts see."""
        self.genes = np.arange(layers["spliced"].shape[1])
        if len(self.counts) < 2:
            return
        self._keep(np.flatnonzero(shared_counts(layers["spliced"], layers["unspliced"]) >= _MIN_SHARED_COUNTS))
        if not len(self.genes):
            raise NoVelocity(
                f"no gene has {_MIN_SHARED_COUNTS} counts in cells that have it in both layers; fit more genes, or "
                "more cells."
            )

    def _choose_genes(self, cells: Modalities) -> list[Any]:
        """Leave genes that show a steady state; return the moments of the others."""
        moments = self.moments(cells)
        steady = steady_state_velocity(*moments)
        kept = steady.velocity_genes & (moments[0].std(axis=0) > 0) & (moments[1].std(axis=0) > 0)
        if not kept.any():
            raise NoVelocity(
                "no gene shows a steady state in both layers, so that there is no velocity; fit more genes, or more "
                "cells."
            )
        self.gamma, self.r2 = steady.gamma[kept], steady.r2[kept]
        self._keep(np.flatnonzero(kept))
        return [layer[:, kept] for layer in moments]

    def _scale(self, cells: Any, moments: Any) -> None:
        """Keep moments (n_chosen, n_genes, 2), unspliced and spliced, from 0 to 1, of the chosen `cells`."""
        both = np.stack(moments[::-1], axis=-1)
        # Velocity is linear in moments that are in proportion.
        low, high = both.min(axis=0) if self.method == "mixture" else 0.0 * both[0], both.max(axis=0)
        self.ratio = high[:, 0] / high[:, 1]
        self.span = high[:, 1] - low[:, 1]
        self.scaled: Any = (((both - low) / (high - low)).astype(np.float32), cells)

    def _keep(self, genes: Any) -> None:
        """Leave the chosen ones of `genes`."""
        self.genes = self.genes[genes]
        self.layers = {name: rows[:, genes] for name, rows in self.layers.items()}

    def _normalized(self, name: str, rows: Any) -> Any:
        if name not in self.counts:
            return to_dense(rows).astype(np.float64)
        return sparse.csr_matrix(sparse.diags_array(self.targets[name] / np.maximum(totals(rows), 1)) @ rows)

    def neighbors(self, X: Modalities) -> Any:
        """Return the nearest training cells (n_cells, n_neighbors + 1) of cells: by the spliced layer, else the other.

        -1 where a cell has no layer.
        """
        found = np.full((len(X), self.n_neighbors + 1), -1)
        for name in ("unspliced", "spliced"):
            if name in X:
                rows = np.flatnonzero(X.present[:, X.names.index(name)])
                if len(rows):
                    values = in_memory(X[name][rows])
                    values = values if name in self.counts else to_dense(values)
                    places = self.projections[name].transform(values)
                    found[rows] = self.searches[name].kneighbors(places, return_distance=False)
        return found

    def moments(self, X: Modalities) -> tuple[Any, Any]:
        """Return the means of spliced and of unspliced over each cell's neighbours (n_cells, n_genes).

        NaN for a cell with no layer.
        """
        near = self.neighbors(X)
        there = near[:, 0] >= 0
        averaging = _graph(near[there], self.layers["spliced"].shape[0]) / near.shape[1]
        found = []
        for name in ("spliced", "unspliced"):
            out = np.full((len(X), len(self.genes)), np.nan)
            out[there] = to_dense(averaging @ self.layers[name])
            found.append(out)
        return found[0], found[1]

    def infer(self, spliced: Any, unspliced: Any) -> tuple[Any, Any]:
        """Return what moments (n_cells, n_genes) tell.

        Velocities (n_cells, n_genes), and times from 0 to 1 (n_cells,) or None where the method knows none. A cell with
        no layer has the velocity 0, and the time NaN.
        """
        time = None
        if self.dynamics is None:
            velocity = unspliced - self.gamma * spliced
        else:
            from skfusion.decoders.kinetics import DURATION

            time = self.dynamics.time(spliced, unspliced)
            velocity, time = self.dynamics.velocity(time), time / DURATION
        return np.nan_to_num(velocity).astype(np.float32), time


def _graph(near: Any, n_columns: int) -> Any:
    """CSR with a 1 for each neighbour."""
    starts = np.arange(0, near.size + 1, near.shape[1])
    return sparse.csr_matrix((np.ones(near.size), near.ravel(), starts), shape=(len(near), n_columns))
