"""What is written into an AnnData, under the names that scanpy and scVelo look for."""

from typing import Any

import numpy as np
from sklearn.neighbors import kneighbors_graph

from skfusion.singlecell._velocity import VelocityModel

_GRAPHS = {"connectivity": "connectivities", "distance": "distances"}


def velocity_slots(
    model: VelocityModel, spliced: Any, unspliced: Any, velocity: Any, time: Any, own: Any, n_genes: int
) -> dict[str, dict[str, Any]]:
    """Return what goes into layers, var and obs: values of `n_genes` genes, NaN for those without velocity.

    `own` says where those are that have one, whose moments and velocity are given.
    """

    def spread(values: Any, empty: Any = np.nan, dtype: Any = np.float64) -> Any:
        out = np.full((*np.shape(values)[:-1], n_genes), empty, dtype=dtype)
        out[..., own] = values
        return out

    layers = {"Ms": spliced, "Mu": unspliced, "velocity": velocity}
    var = {
        "velocity_genes": spread(np.ones(len(own), dtype=bool), False, bool),
        "velocity_gamma": spread(model.gamma),
        "velocity_r2": spread(model.r2),
    }
    slots = {"layers": {key: spread(values, dtype=np.float32) for key, values in layers.items()}, "var": var}
    if time is not None:
        slots["obs"] = {"latent_time": time}
    dynamics = model.dynamics
    if dynamics is not None:
        from skfusion.decoders.kinetics import DURATION

        rates = {name: getattr(dynamics, name) for name in ("alpha", "beta", "gamma", "scaling", "start")}
        rates |= {"t_": dynamics.stop - dynamics.start, "before": dynamics.before, "after": dynamics.after}
        since = np.maximum(DURATION * time[:, None] - dynamics.start, 0)
        slots["layers"]["fit_t"] = spread(since, dtype=np.float32)
        var |= {f"fit_{name}": spread(values) for name, values in rates.items()}
    return slots


def write_neighbors(adata: Any, embedding: Any, n_neighbors: int) -> None:
    """Write the nearest neighbours in an embedding, as scanpy does."""
    for mode, key in _GRAPHS.items():
        graph = kneighbors_graph(embedding, n_neighbors, mode=mode)
        adata.obsp[key] = graph.maximum(graph.T)
    adata.uns["neighbors"] = {
        "connectivities_key": "connectivities",
        "distances_key": "distances",
        "params": {"n_neighbors": n_neighbors, "method": "knn", "use_rep": "X_fusion"},
    }
