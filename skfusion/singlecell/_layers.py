"""From what a user has to two layers over the same genes: read, checked, and aligned by the names of genes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from skfusion._build import training_rows
from skfusion._compat import on_arrays
from skfusion.modalities import Modalities, kinds
from skfusion.modalities.backed import BackedArray, BackedCSR, in_memory, is_backed
from skfusion.modalities.kinds import scatter
from skfusion.preprocessing import LogNormalizer, holds_counts, to_dense
from skfusion.singlecell._counts import check_counts
from skfusion.singlecell._mudata import anndata_of, for_cells

ENOUGH = 10_000
"""Cells that densities, kinetics and imputers are fitted to, where there are more: memory does not grow with these."""
LAYERS = ("spliced", "unspliced")
"""What the layers are called inside, whatever their names in an AnnData."""


def read_layers(
    X: Any, keys: Mapping[str, str | None], present_keys: Mapping[str, str] | None, mod: str | None, *, fit: bool
) -> Modalities:
    """Return a Modalities of the layers that `X` has, over the same genes.

    Parameters
    ----------
    X : AnnData, MuData, dict or Modalities
        Cells. A dict and a Modalities hold "spliced" and "unspliced". Of a MuData all cells are read; one that the
        AnnData with the layers does not hold lacks them.
    keys : dict of str to str or None
        Name of each layer in an AnnData; None for a layer that nobody shall look for.
    present_keys : dict of str to str or None
        Columns of ``obs`` that say which cells have a layer.
    mod : str or None
        Which AnnData of a MuData holds the layers (see `anndata_of`).
    fit : bool
        Whether every layer that `keys` names must be there.
    """
    wanted = [layer for layer in LAYERS if keys[layer] is not None]
    source = anndata_of(X, mod, keys)
    if kinds.is_instance_of(source, "anndata", "AnnData"):
        found = _from_anndata(source, {layer: str(keys[layer]) for layer in wanted}, present_keys or {}, fit=fit)
        found = found if source is X else for_cells(found, X.obs_names)
    elif isinstance(X, Modalities | Mapping):
        whole = X if isinstance(X, Modalities) else Modalities(X)
        names = [layer for layer in wanted if layer in whole]
        _require(names, wanted, whole.names, fit=fit)
        found = whole.select(names)
    else:
        raise TypeError(
            f"X is of type {type(X).__name__}; due is an AnnData with layers, a MuData that holds one, or a dict or "
            f"Modalities of {wanted}."
        )
    if len(found) == 0:
        raise ValueError("X holds no cell; due is at least one.")
    if any(isinstance(found[name], BackedArray) for name in found.names):
        # Dense layers in a file are read whole; it is CSR that is worth streaming.
        found = found.to_memory()
    return _over_the_same_genes(found)


def _from_anndata(adata: Any, keys: dict[str, str], present_keys: Mapping[str, str], *, fit: bool) -> Modalities:
    layers = list(adata.layers)
    names = [layer for layer, key in keys.items() if key in layers]
    _require([keys[n] for n in names], list(keys.values()), layers, fit=fit)
    found = Modalities.from_anndata(adata, {name: f"layers/{keys[name]}" for name in names})
    present = {}
    for name, column in present_keys.items():
        if name not in LAYERS:
            raise ValueError(f"present_keys names {name!r}; due are some of {list(LAYERS)}.")
        if name not in found:
            continue
        if column not in adata.obs:
            raise ValueError(f"present_keys[{name!r}] is {column!r}, which obs lacks; it has {list(adata.obs)}.")
        values = adata.obs[column]
        if not pd.api.types.is_bool_dtype(values.dtype) or values.isna().any():
            raise ValueError(
                f"present_keys[{name!r}] is {column!r}, of dtype {values.dtype}; due is bool, True or False for each "
                "cell."
            )
        present[name] = values.to_numpy(dtype=bool)
    return Modalities(found, present=present) if present else found


def _require(has: Sequence[str], wanted: Sequence[str], all_there: Sequence[str], *, fit: bool) -> None:
    lacking = [key for key in wanted if key not in has]
    if lacking and (fit or not has):
        raise ValueError(
            f"X has no layer {', '.join(map(repr, lacking))}; it has {list(all_there)}. Name them by spliced_layer and "
            "unspliced_layer; None there fits the other one alone."
        )


def _over_the_same_genes(X: Modalities) -> Modalities:
    """Check the layers, and bring the second to the genes of the first."""
    for name in X.names:
        if X.kind(name) not in ("dense", "sparse"):
            raise ValueError(f"layer {name!r} is {kinds.KINDS[X.kind(name)]}; due are numbers, cells by genes.")
        columns = X._columns[name]
        if columns is not None and len(set(columns)) < len(columns):
            twice = pd.Index(columns)[pd.Index(columns).duplicated()][0]
            raise ValueError(f"the gene {twice!r} occurs twice in layer {name!r}; call adata.var_names_make_unique().")
    if len(X.names) < 2:
        return X
    first, second = X.names
    if X[first].shape != X[second].shape:
        raise ValueError(
            f"layers are of unequal shape: {first!r} {X[first].shape}, {second!r} {X[second].shape}; due are the same "
            "cells and genes in both."
        )
    names = [columns for columns in (X._columns[first], X._columns[second]) if columns is not None]
    if len(names) == 1:
        # An array goes by position; its genes are those of the table beside it.
        return Modalities._of(dict(X._data), dict.fromkeys(X.names, names[0]), X.present, X.sample_ids)
    return with_genes(X, names[0]) if len(names) == 2 and names[0] != names[1] else X


def with_genes(X: Modalities, genes: Sequence[str]) -> Modalities:
    """Return the layers of `X` for `genes`, by name; genes that are missing raise."""
    data = {}
    for name in X.names:
        columns = X._columns[name]
        if columns is not None and list(columns) == list(genes):
            data[name] = X[name]
            continue
        where = pd.Index(X.columns(name)).get_indexer(pd.Index(genes))
        missing = [gene for gene, position in zip(genes, where) if position < 0]
        if missing:
            raise ValueError(
                f"{len(missing)} of {len(genes)} genes are missing from layer {name!r}: {missing[:5]}"
                f"{' and others' if len(missing) > 5 else ''}. Pass the genes that were fitted, under the names that "
                "they had, or fit again."
            )
        data[name] = X[name].with_columns(where) if is_backed(X[name]) else X[name][:, where]
    return Modalities._of(data, dict.fromkeys(X.names, tuple(genes)), X.present, X.sample_ids)


def read_fitted(
    X: Modalities, layers: Sequence[str], genes: Any, counts: Sequence[str], width: int | None
) -> Modalities:
    """Return what `read_layers` gives of the fitted `layers` over the fitted genes, of the kinds that were fitted."""
    known = [name for name in X.names if name in layers]
    if not known:
        raise ValueError(f"X has the layers {X.names}, and fitted was {list(layers)}; pass one of these.")
    return fitted_genes(check_counts(X.select(known), counts), genes, counts, width)


def fitted_genes(X: Modalities, genes: Any, counts: Sequence[str], width: int | None) -> Modalities:
    """Return the layers of `X` over `genes`: those that are `counts` as CSR of integers, others dense.

    `width` is that of the layers at fit, where genes had no names but their positions; None where they had.
    """
    first = X.names[0]
    named = X._columns[first] is not None
    if width is None and not named:
        raise ValueError("X has no names of genes, and fitted were genes by name; pass an AnnData or DataFrames.")
    if width is not None:
        if X[first].shape[1] != width:
            raise ValueError(
                f"layers have {X[first].shape[1]} genes; due are {width}, as at fit, where genes had no names to be "
                "aligned by. Fit on an AnnData, or on DataFrames."
            )
        columns = tuple(map(str, range(width)))
        X = Modalities._of(dict(X._data), dict.fromkeys(X.names, columns), X.present, X.sample_ids)
    X = with_genes(X, list(genes))
    data = {}
    for name, there in zip(X.names, X.present.T):
        if name not in counts:
            data[name] = to_dense(in_memory(X[name])).astype(np.float32)
            continue
        if isinstance(X[name], BackedCSR):
            data[name] = X[name].reindex(np.where(there, np.arange(len(X)), -1)).with_dtype(np.int32)
            continue
        rows = sparse.csr_matrix(in_memory(X[name]))
        if not there.all():
            # What lies in the rows of cells that lack the layer may be anything.
            rows = scatter(rows[np.flatnonzero(there)], np.where(there, np.cumsum(there) - 1, -1))
        data[name] = rows.astype(np.int32)
    return Modalities._of(data, X._columns, X.present, X.sample_ids)


def choose_genes(X: Modalities, genes: Any, n_top_genes: int | None) -> list[str]:
    """Return `genes`, or those whose log-normalised values vary most in either layer, in the order of `X`."""
    known = X.columns(X.names[0])
    if genes is not None:
        asked = list(map(str, genes))
        unknown = [gene for gene in asked if gene not in set(known)]
        if unknown:
            raise ValueError(f"genes names {len(unknown)} that X lacks: {unknown[:5]}; X has {known[:5]} and others.")
        if len(set(asked)) < len(asked) or not asked:
            raise ValueError("genes is empty or names one twice; due is each gene once.")
        return asked
    if n_top_genes is None or n_top_genes >= len(known):
        return known
    best = np.zeros(len(known))
    for column, name in enumerate(X.names):
        if X.present[:, column].any():
            rows, _ = training_rows(X, name)
            variance = _variances(rows)
            best = np.maximum(best, variance / max(variance.max(), 1e-12))
    top = np.sort(np.argsort(-best, kind="stable")[:n_top_genes])
    return [known[i] for i in top]


def _variances(rows: Any) -> Any:
    """Variance of each gene, of counts after they were log-normalised."""
    if not holds_counts(rows):
        return np.nanvar(to_dense(rows), axis=0)
    return column_variance(LogNormalizer().fit_transform(sparse.csr_matrix(rows)))


def column_variance(values: Any) -> Any:
    """Variance of each column, CSR or dense."""
    if not sparse.issparse(values):
        return values.var(axis=0)
    return np.asarray(values.power(2).mean(axis=0) - np.square(values.mean(axis=0))).ravel()


def some(rows: Any, seed: int) -> Any:
    """Return `rows`, or `ENOUGH` of them in their order."""
    if len(rows) <= ENOUGH:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, ENOUGH, replace=False))


def loadings(X: Modalities, width: int, seed: int) -> Any:
    """Return loadings (n_genes, at most width) of principal components, an equal number of each layer.

    The scores of a layer on its own have standard deviations that are the roots of those of the components, and
    variances whose mean is 1.
    """
    found = []
    for column, name in enumerate(X.names):
        if not X.present[:, column].any():
            continue
        rows, _ = training_rows(X, name)
        if sparse.issparse(rows):
            logs = LogNormalizer().fit_transform(rows)
        else:
            logs = np.nan_to_num(on_arrays(StandardScaler()).fit_transform(rows))
        n_components = min(width // len(X.names), *(n - 1 for n in logs.shape))
        # Cells that are all alike have no direction.
        if n_components < 1 or column_variance(logs).max() < 1e-10:
            continue
        pca = PCA(n_components, svd_solver="arpack", random_state=seed).fit(logs)
        spread = np.sqrt(np.maximum(pca.explained_variance_, 1e-12))
        found.append(pca.components_.T / np.sqrt(spread * spread.mean()))
    return np.hstack(found) if found else None
