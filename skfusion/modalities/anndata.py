"""AnnData and MuData to named arrays, recognised and read without importing either package."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skfusion.modalities.kinds import Canonical, canonical, scatter


def read_anndata(adata: Any, modalities: Any = None, *, strict: bool = True) -> dict[str, Canonical]:
    """Read the modalities of an AnnData, each layer once.

    Parameters
    ----------
    adata : AnnData
        In memory, backed, or a view.
    modalities : dict of str to str, list of str, default=None
        Name to "X", "layers/<key>", "obsm/<key>" or "obs/<column>"; or a list of layer names. None takes the layers
        spliced and unspliced where both exist, else X.
    strict : bool, default=True
        Raise where something that is asked for is not there; otherwise leave it out.
    """
    where = _resolve(adata, modalities)
    parts = {}
    for name, path in where.items():
        slot, _, key = path.partition("/")
        if not _has(adata, slot, key):
            if not strict:
                continue
            raise ValueError(
                f"modality {name!r} asks for {path!r}, which this AnnData lacks. It has "
                f"{'X, ' if adata.X is not None else ''}layers {list(adata.layers)}, obsm {list(adata.obsm)}; "
                'say where, as in modalities={"rna": "X", "protein": "obsm/protein", "spliced": "layers/spliced"}.'
            )
        if slot == "X":
            values = adata.X
        elif slot == "obs":
            values = adata.obs[[key]]
        else:
            values = getattr(adata, slot)[key]
        # A backed X is a dataset on disk: reading it whole keeps CSR as CSR.
        if hasattr(values, "to_memory"):
            values = values.to_memory()
        elif type(values).__module__.startswith("h5py"):
            values = values[:]
        columns = tuple(map(str, adata.var_names)) if slot in ("X", "layers") else None
        part = canonical(name, values)
        parts[name] = Canonical(part.values, adata.obs_names, columns or part.columns)
    return parts


def read_mudata(mdata: Any, modalities: Any = None) -> tuple[dict[str, Canonical], NDArray[np.bool_]]:
    """Read each modality's X over the union of the samples, and who has what (n_samples, n_modalities)."""
    names = list(mdata.mod) if modalities is None else list(modalities)
    paths = modalities if isinstance(modalities, Mapping) else dict.fromkeys(names, "X")
    parts, present = {}, []
    for name in names:
        if name not in mdata.mod:
            raise ValueError(f"modality {name!r} is not in this MuData, which has {list(mdata.mod)}.")
        inner = mdata.mod[name]
        index = inner.obs_names.get_indexer(mdata.obs_names)
        part = read_anndata(inner, {name: paths[name]})[name]
        parts[name] = Canonical(scatter(part.values, index), mdata.obs_names, part.columns)
        present.append(index >= 0)
    return parts, np.stack(present, axis=1)


def _resolve(adata: Any, modalities: Any) -> dict[str, str]:
    if modalities is None:
        if "spliced" in adata.layers and "unspliced" in adata.layers:
            return {"spliced": "layers/spliced", "unspliced": "layers/unspliced"}
        if adata.X is not None:
            return {"X": "X"}
        raise ValueError(
            f"this AnnData has neither X nor both layers spliced and unspliced; it has layers {list(adata.layers)}, "
            f"obsm {list(adata.obsm)}. Say what the modalities are, as in modalities={{'rna': 'layers/counts'}}."
        )
    if isinstance(modalities, Mapping):
        odd = {k: v for k, v in modalities.items() if not isinstance(v, str)}
        if odd:
            raise ValueError(f"for an AnnData, modalities maps names to 'X', 'layers/…', 'obsm/…' or 'obs/…'; got {odd}.")
        return dict(modalities)
    if isinstance(modalities, str) or not isinstance(modalities, Iterable):
        raise TypeError(f"modalities is {modalities!r}; due is a dict or a list of layer names.")
    return {name: name if name == "X" else f"layers/{name}" for name in modalities}


def _has(adata: Any, slot: str, key: str) -> bool:
    if slot == "X":
        return adata.X is not None
    if slot not in ("layers", "obsm", "obs") or not key:
        raise ValueError(f"{slot + '/' + key!r} is no place in an AnnData; due is 'X', 'layers/…', 'obsm/…' or 'obs/…'.")
    return key in getattr(adata, slot)
