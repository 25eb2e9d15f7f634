"""AnnData and MuData to named arrays, recognised and read without importing either package."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from skfusion.modalities.backed import as_backed
from skfusion.modalities.kinds import Canonical, canonical


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
    parts = {}
    for name, path in _resolve(adata, modalities).items():
        values = _at(adata, name, path)
        if values is not None:
            part = canonical(name, values)
            columns = part.columns if path.startswith("obs") else tuple(map(str, adata.var_names))
            parts[name] = Canonical(part.values, adata.obs_names, columns)
        elif strict:
            raise ValueError(
                f"modality {name!r} asks for {path!r}, which this AnnData lacks. {_contents(adata)}; say where, as in "
                'modalities={"rna": "X", "protein": "obsm/protein", "spliced": "layers/spliced"}.'
            )
    return parts


def read_mudata(mdata: Any, modalities: Any = None, *, strict: bool = True) -> dict[str, Canonical]:
    """Read the modalities of a MuData, each with the ids of its own samples."""
    names = list(mdata.mod) if modalities is None else list(modalities)
    paths = modalities if isinstance(modalities, Mapping) else dict.fromkeys(names, "X")
    parts: dict[str, Canonical] = {}
    for name in names:
        if name in mdata.mod:
            parts |= read_anndata(mdata.mod[name], {name: paths[name]}, strict=strict)
        elif strict:
            raise ValueError(f"modality {name!r} is not in this MuData, which has {list(mdata.mod)}.")
    return parts


def _resolve(adata: Any, modalities: Any) -> dict[str, str]:
    if modalities is None:
        if "spliced" in adata.layers and "unspliced" in adata.layers:
            return {"spliced": "layers/spliced", "unspliced": "layers/unspliced"}
        return {"X": "X"}
    if isinstance(modalities, Mapping):
        odd = {k: v for k, v in modalities.items() if not isinstance(v, str)}
        if odd:
            raise ValueError(
                "for an AnnData, modalities maps names to 'X', 'layers/<key>', 'obsm/<key>' or 'obs/<column>'; got "
                f"{odd}."
            )
        return dict(modalities)
    if isinstance(modalities, str) or not isinstance(modalities, Iterable):
        raise TypeError(f"modalities is {modalities!r}; due is a dict or a list of layer names.")
    return {name: name if name == "X" else f"layers/{name}" for name in modalities}


def _at(adata: Any, name: str, path: str) -> Any:
    """Return what lies at `path`, None where nothing does. A view slices at each access, so this is asked once."""
    slot, _, key = path.partition("/")
    if path != "X" and (slot not in ("layers", "obsm", "obs") or not key):
        raise ValueError(
            f"{path!r} is no place in an AnnData; due is 'X', 'layers/<key>', 'obsm/<key>' or 'obs/<column>'."
        )
    if slot == "obs":
        return adata.obs[[key]] if key in adata.obs else None
    if path != "X" and key not in getattr(adata, slot):
        return None
    return _rows_on_disk(adata, name, slot, key) if adata.is_view else _element(adata, slot, key)


def _element(adata: Any, slot: str, key: str) -> Any:
    return adata.X if slot == "X" else getattr(adata, slot)[key]


def _rows_on_disk(view: Any, name: str, slot: str, key: str) -> Any:
    """Return what a view holds; it would read its part of a file, of which rows are only chosen here."""
    parent = view._adata_ref
    backed = None if slot == "obsm" else as_backed(name, _element(parent, slot, key))
    if backed is None:
        return _element(view, slot, key)
    return backed[np.arange(parent.n_obs)[view._oidx]].with_columns(view._vidx)


def _contents(adata: Any) -> str:
    x = "" if adata.X is None else "X, "
    return f"It has {x}layers {list(adata.layers)}, obsm {list(adata.obsm)}, obs {list(adata.obs.columns)[:5]}"
