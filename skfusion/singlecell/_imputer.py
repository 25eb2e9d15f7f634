"""The log-normalised expression of one layer from the counts of the other, by a strategy of imputation."""

from typing import Any, Self

import numpy as np

from skfusion._compat import on_arrays
from skfusion.impute import ModalityImputer
from skfusion.modalities import Modalities
from skfusion.singlecell._layers import some
from skfusion.singlecell._libraries import totals

OTHER = {"spliced": "unspliced", "unspliced": "spliced"}
"""From which layer each is predicted."""

_GENES_OF_MUCH_SIGNAL = 200
"""A strategy chooses its penalty for all that it fills at once: for genes with more to predict, it is a lower one."""


class LayerImputer:
    """A `ModalityImputer` for the genes whose counts vary most, and one for the others.

    Parameters
    ----------
    strategy : str or Strategy
        As in `ModalityImputer`.
    layer, other : str
        What is predicted, and from what.
    device, seed
        As in `ModalityImputer`.
    """

    def __init__(self, strategy: Any, layer: str, other: str, *, device: Any, seed: int) -> None:
        self.strategy, self.layer, self.other, self.device, self.seed = strategy, layer, other, device, seed

    def fit(self, cells: Modalities, target: Any) -> Self:
        """Learn `target` (n_cells, n_genes) from the counts of cells that have both layers."""
        counts = cells[self.layer]
        variance = np.asarray(counts.power(2).mean(axis=0) - np.square(counts.mean(axis=0))).ravel()
        order = np.argsort(-variance, kind="stable")
        groups = [order[:_GENES_OF_MUCH_SIGNAL], order[_GENES_OF_MUCH_SIGNAL:]]
        self.groups = [np.sort(group) for group in groups if len(group)]
        source, genes = cells.select([self.other]), np.array(cells.columns(self.layer))
        self.imputers = []
        for group in self.groups:
            X = Modalities._of(
                {self.other: source[self.other], self.layer: target[:, group]},
                {self.other: source._columns[self.other], self.layer: tuple(genes[group])},
                np.ones((len(cells), 2), dtype=bool),
                None,
            )
            imputer = ModalityImputer(self.strategy, device=self.device, random_state=self.seed)
            self.imputers.append(on_arrays(imputer).fit(X))
        return self

    def predict(self, cells: Modalities) -> Any:
        """Return (n_cells, n_genes) for cells that have the other layer."""
        found = np.empty((len(cells), sum(map(len, self.groups))), dtype=np.float32)
        for group, imputer in zip(self.groups, self.imputers):
            found[:, group] = imputer.transform(cells.select([self.other]))[self.layer]
        return found


def fit_imputers(
    strategy: Any, whole: Modalities, cells: Modalities, target_sum: float, *, device: Any, seed: int
) -> dict[str, LayerImputer]:
    """Fit what predicts each layer from the other one; nothing where no cell has both.

    Parameters
    ----------
    strategy : str or Strategy
        As in `ModalityImputer`.
    whole, cells : Modalities
        Counts of both layers, of all genes and of those that are fitted.
    target_sum : float
        What the counts of all genes are normalised to.
    device, seed
        As in `ModalityImputer`.
    """
    both = np.flatnonzero(cells.present.all(axis=1))
    if not len(both):
        return {}
    both = some(both, seed)
    cells, fitted = cells[both].to_memory(), {}
    for layer, other in OTHER.items():
        scale = target_sum / np.maximum(totals(whole[layer][both]), 1)
        target = np.log1p(scale[:, None] * cells[layer].toarray())
        fitted[layer] = LayerImputer(strategy, layer, other, device=device, seed=seed).fit(cells, target)
    return fitted
