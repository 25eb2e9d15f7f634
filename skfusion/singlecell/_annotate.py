"""What is written into an AnnData, under the names that scanpy and scVelo look for."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.neighbors import kneighbors_graph

from skfusion.singlecell._velocity import VelocityModel
from skfusion.singlecell.weighted import fuzzy_connectivities

KINETICS = ("before", "alpha", "after", "beta", "gamma", "scaling", "start", "stop")
"""Columns of ``var``, after "kinetics_"."""
_ALIKE = 0.1
"""Standard deviations of the moments that curves may lie apart and still be called the same."""
_RECORD = "skfusion"


def velocity_columns(model: VelocityModel, own: Any, n_genes: int) -> dict[str, Any]:
    """Return what goes into var, of `n_genes` genes of which those at `own` have a velocity."""

    def spread(values: Any, empty: Any = np.nan) -> Any:
        out = np.full(n_genes, empty)
        out[own] = values
        return out

    columns = {
        "velocity_genes": spread(True, False),
        "velocity_gamma": spread(model.gamma),
        "velocity_r2": spread(model.r2),
    }
    if model.dynamics is not None:
        columns |= {f"kinetics_{name}": spread(getattr(model.dynamics, name)) for name in KINETICS}
        columns |= {f"fit_{name}": spread(values) for name, values in as_scvelo(model.dynamics).items()}
    return columns


def as_scvelo(dynamics: Any) -> dict[str, Any]:
    """Return kinetics (n_genes,) in scVelo's terms, NaN for genes whose curve these cannot say.

    scVelo's genes start from a base level at time 0, are transcribed up to t_, and go back to the base level; beta is
    that of what is seen of unspliced counts.
    """
    from skfusion.decoders.kinetics import DURATION

    base, time = dynamics.before, np.linspace(0, DURATION, 200)
    closed = replace(dynamics, after=base)
    gaps = [
        np.abs(mine - theirs).max(axis=0) / sd
        for mine, theirs, sd in zip(
            dynamics.at(time), closed.at(time), (dynamics.unspliced_sd, dynamics.spliced_sd), strict=True
        )
    ]
    known = (np.maximum(*gaps) <= _ALIKE) & (dynamics.alpha > base)
    terms = {
        "alpha": dynamics.alpha - base,
        "beta": dynamics.beta / dynamics.scaling,
        "gamma": dynamics.gamma,
        "scaling": dynamics.scaling,
        "t_": dynamics.stop - dynamics.start,
        "u0": base / dynamics.beta * dynamics.scaling,
        "s0": base / dynamics.gamma,
    }
    return {name: np.where(known, values, np.nan) for name, values in terms.items()}


def write(adata: Any, slots: Mapping[str, Mapping[str, Any]]) -> None:
    """Write entries of slots, and remove those that an earlier call wrote and this one does not."""
    for slot, keys in adata.uns.get(_RECORD, {}).items():
        for key in set(keys) - set(slots.get(slot, ())):
            if key in getattr(adata, slot):
                del getattr(adata, slot)[key]
    for slot, entries in slots.items():
        for key, values in entries.items():
            getattr(adata, slot)[key] = values
    adata.uns[_RECORD] = {slot: list(entries) for slot, entries in slots.items()}


def write_neighbors(adata: Any, embedding: Any, n_neighbors: int) -> None:
    """Write the nearest neighbours in an embedding, as scanpy does, unless others are there already.

    As few cells as `n_neighbors` get none, and lose those of an earlier call, which are of another embedding.
    """
    params = adata.uns.get("neighbors", {}).get("params", {})
    known = "neighbors" in adata.uns or {"connectivities", "distances"} & set(adata.obsp)
    if known and params.get("source") != _RECORD:
        return
    if adata.n_obs <= n_neighbors:
        adata.uns.pop("neighbors", None)
        for key in ("connectivities", "distances"):
            adata.obsp.pop(key, None)
        return
    # As many a row, which scVelo counts on; connectivities alone are the same in both directions.
    distances = kneighbors_graph(embedding, n_neighbors, mode="distance")
    adata.obsp["distances"] = distances
    adata.obsp["connectivities"] = fuzzy_connectivities(distances, n_neighbors)
    params = {"n_neighbors": n_neighbors, "method": "umap", "metric": "euclidean", "use_rep": "X_fusion"}
    adata.uns["neighbors"] = {
        "connectivities_key": "connectivities",
        "distances_key": "distances",
        "params": {**params, "source": _RECORD},
    }
