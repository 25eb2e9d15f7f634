"""Totals of cells: over the genes that are fitted, of all genes, and in a layer that a cell lacks."""

from typing import Any, Self

import numpy as np

from skfusion.modalities import Modalities
from skfusion.modalities.backed import is_backed
from skfusion.preprocessing import median_total


class Libraries:
    """Totals over the fitted genes; one that is missing follows from that of the other layer.

    Attributes
    ----------
    sizes : dict of str to float
        Median total of a layer.
    parts : dict of str to float
        Part that the fitted genes have in all counts of a layer.
    """

    def fit(self, whole: Modalities, chosen: Modalities, layers: list[str]) -> Self:
        """Learn from the cells with all genes, and with those that are fitted, of `layers` of counts."""
        self.sizes: dict[str, float] = {}
        self.parts: dict[str, float] = {}
        self.lines: dict[str, tuple[str, float, float]] = {}
        logs = {}
        for column, name in enumerate(chosen.names):
            if name not in layers:
                continue
            there = np.flatnonzero(chosen.present[:, column])
            own, every = totals(chosen[name]), totals(whole[name][there])
            if not own[there].any():
                raise ValueError(f"layer {name!r} holds no count of the genes that are fitted; leave it out.")
            self.sizes[name] = median_total(own[there])
            self.parts[name] = float(own[there].sum() / every.sum())
            logs[name] = np.full(len(own), np.nan)
            logs[name][there] = np.log(np.maximum(own[there], 1))
        if len(logs) == 2:
            first, second = logs
            both = np.isfinite(logs[first]) & np.isfinite(logs[second])
            for name, other in ((first, second), (second, first)):
                x, y = logs[other][both], logs[name][both]
                if len(x) > 2 and np.ptp(x) > 0:
                    slope = float(np.cov(x, y)[0, 1] / np.var(x, ddof=1))
                    self.lines[name] = (other, float(y.mean() - slope * x.mean()), slope)
        return self

    def of(self, cells: Modalities, layer: str) -> Any:
        """Return the totals of a layer (n_cells,), float32: what is there, else what is expected."""
        found = np.full(len(cells), self.sizes[layer])
        there = has(cells, layer)
        if layer in self.lines:
            other, intercept, slope = self.lines[layer]
            rows = np.flatnonzero(has(cells, other) & ~there)
            if len(rows):
                found[rows] = np.exp(intercept + slope * np.log(np.maximum(totals(cells[other][rows]), 1)))
        if there.any():
            found = np.where(there, np.maximum(totals(cells[layer]), 1), found)
        return found.astype(np.float32)


def totals(rows: Any) -> Any:
    """Return the sum over genes of each cell (n_cells,), float64; what lies in a file is read in parts."""
    if is_backed(rows):
        found = np.empty(len(rows))
        for part in rows.scan():
            found[part] = totals(rows.read(part))
        return found
    return np.asarray(rows.sum(axis=1), dtype=np.float64).ravel()


def has(cells: Modalities, layer: str) -> Any:
    """Which cells have a layer (n_cells,)."""
    if layer not in cells:
        return np.zeros(len(cells), dtype=bool)
    return cells.present[:, cells.names.index(layer)]
