"""The AnnData of a MuData that holds the layers of cells."""

from collections.abc import Mapping
from typing import Any

from skfusion.modalities import Modalities, kinds


def anndata_of(X: Any, mod: str | None, keys: Mapping[str, str | None]) -> Any:
    """Return the AnnData of a MuData that holds the layers: `mod`, or the one that has most of them.

    What is no MuData is returned as it is.
    """
    if not kinds.is_instance_of(X, "mudata", "MuData"):
        return X
    if mod is not None:
        if mod not in X.mod:
            raise ValueError(f"mod is {mod!r}, which X lacks; it has {list(X.mod)}.")
        return X.mod[mod]
    wanted = [key for key in keys.values() if key is not None]
    layers = {name: list(getattr(part, "layers", ())) for name, part in X.mod.items()}
    found = {name: sum(key in has for key in wanted) for name, has in layers.items()}
    best = [name for name, n in found.items() if n and n == max(found.values())]
    if not best:
        raise ValueError(
            f"X has no AnnData with the layers {wanted}; the layers of each are {layers}. Name them by spliced_layer "
            "and unspliced_layer."
        )
    if len(best) > 1:
        raise ValueError(
            f"the layers {wanted} are in {best} of X, all the same; say in which to look, mod={best[0]!r}."
        )
    return X.mod[best[0]]


def rows_in(X: Any, source: Any) -> Any:
    """Return where each cell of a MuData `X` is in `source`, one of its AnnData, -1 for nowhere; None for all there."""
    if source is X or source.obs_names.equals(X.obs_names):
        return None
    return source.obs_names.get_indexer(X.obs_names)


def for_cells(X: Modalities, ids: Any) -> Modalities:
    """Bring the layers to the cells `ids`; those that `X` does not hold lack them."""
    parts = {
        name: kinds.Canonical(X[name], X.sample_ids, X._columns[name], there)
        for name, there in zip(X.names, X.present.T)
    }
    found = Modalities.__new__(Modalities)
    found._assemble(parts, ids, join="left")
    return found
