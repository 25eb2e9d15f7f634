"""What frozen embeddings are worth, beside embeddings that cost nothing."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_samples
from sklearn.utils import check_array, check_random_state

from skfusion.modalities.kinds import is_instance_of
from skfusion.preprocessing import holds_counts
from skfusion.singlecell.neighbors import (
    check_n_neighbors,
    log_pca,
    nearest_neighbors,
    normalize_layer,
    standardized_dispersion,
)

_N_TOP_GENES = 2000
_IDLE = 1e-12  # a learning rate that changes no weight


def zero_shot_report(
    adata: Any,
    embeddings: Mapping[str, Any],
    labels: Any,
    batch: Any = None,
    *,
    layer: str | None = None,
    estimator: Any = None,
    n_neighbors: int = 15,
    n_seeds: int = 5,
    n_components: int = 50,
    max_cells: int = 10_000,
    random_state: Any = 0,
) -> pd.DataFrame:
    """Judge embeddings by labels that they never saw, beside baselines [1]_.

    The baselines are the principal components of highly variable genes, the library size alone (one number a cell),
    and, with an `estimator`, its embedding before any training. They are in the table also where they win.

    Parameters
    ----------
    adata : AnnData
        The cells.
    embeddings : dict of str to array-like (n_cells, n_dimensions) or str
        Name to embedding, or to a key of ``obsm``: ``{"fusion": "X_fusion"}``.
    labels : str or array-like of shape (n_cells,)
        Column of ``obs``, or cell types. Cells without a label are left out.
    batch : str or array-like of shape (n_cells,), default=None
        Column of ``obs``, or batches, for the batch silhouette.
    layer : str, default=None
        Counts for the baselines; None is ``X``, or the layer "spliced" where there is no ``X``.
    estimator : estimator, default=None
        What made an embedding, such as a `SplicingFusion`: a clone with the parameters ``lr`` and ``max_epochs`` set so
        that it does not learn gives the untrained embedding.
    n_neighbors : int, default=15
        Neighbours for the purity.
    n_seeds : int, default=5
        Runs of k-means, as many clusters as there are labels.
    n_components : int, default=50
        Principal components of the baseline.
    max_cells : int, default=10000
        Silhouettes, which need all distances, are taken over so many cells at most, drawn at random.
    random_state : int, RandomState or None, default=0
        Seed of k-means and of that draw.

    Returns
    -------
    DataFrame
        A row an embedding, best first by ``ari``: ``kind`` ("embedding" or "baseline"), ``n_dimensions``, the means
        over runs of ``ari`` and ``nmi`` (adjusted Rand index and normalised mutual information of clusters and labels)
        with ``ari_sd``, ``label_silhouette`` (−1 to 1), ``neighbor_purity``, the mean share of neighbours with the
        cell's label, and, with a `batch`, ``batch_silhouette``: 1 where batches of a cell type are mixed, 0 where they
        lie apart [2]_.

    Raises
    ------
    ValueError
        Where a key of ``obsm``, a column or a layer is not there (it lists those that are), or lengths differ.

    References
    ----------
    .. [1] Kedzierska et al., "Zero-shot evaluation reveals limitations of single-cell foundation models", Genome
       Biology, 2025.
    .. [2] Luecken et al., "Benchmarking atlas-level data integration in single-cell genomics", Nature Methods, 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from anndata import AnnData
    >>> from skfusion.singlecell import zero_shot_report
    >>> rng = np.random.default_rng(0)
    >>> kind = np.repeat([0, 1, 2], 40)
    >>> adata = AnnData(rng.poisson(np.exp(rng.normal(size=(3, 60)))[kind]), obs={"type": kind.astype(str)})
    >>> adata.obsm["X_noise"] = rng.normal(size=(120, 5))
    >>> report = zero_shot_report(adata, {"noise": "X_noise"}, "type")
    >>> report[["kind", "ari", "neighbor_purity"]].round(1)
                                kind  ari  neighbor_purity
    highly variable genes   baseline  1.0              1.0
    library size            baseline  0.2              0.5
    noise                  embedding  0.0              0.3
    """
    if not is_instance_of(adata, "anndata", "AnnData"):
        raise TypeError(f"adata is a {type(adata).__name__}; due is an AnnData.")
    if n_seeds < 1:
        raise ValueError(f"n_seeds is {n_seeds}; due is at least 1.")
    rng = check_random_state(random_state)
    labels = _per_cell(adata, labels, "labels")
    batch = None if batch is None else _per_cell(adata, batch, "batch")
    tables = {name: _embedding(adata, name, value) for name, value in _named(embeddings).items()}
    kinds = dict.fromkeys(tables, "embedding")
    for name, table in baselines(adata, layer, estimator, n_components).items():
        key = name if name not in tables else f"{name} (baseline)"
        tables[key], kinds[key] = table, "baseline"
    known = np.flatnonzero(pd.notna(labels))
    codes, names = pd.factorize(labels[known])
    if len(names) < 2:
        raise ValueError(f"labels are {list(names)} in all cells; due are at least two labels.")
    check_n_neighbors(n_neighbors, len(known))
    batches = None if batch is None else pd.factorize(batch[known])[0]
    seeds = rng.randint(np.iinfo(np.int32).max, size=n_seeds)
    some = rng.permutation(len(known))[:max_cells]
    rows = {name: judge(tables[name][known], codes, batches, n_neighbors, seeds, some) for name in tables}
    report = pd.DataFrame(rows).T
    report.insert(0, "n_dimensions", [tables[name].shape[1] for name in report.index])
    report.insert(0, "kind", [kinds[name] for name in report.index])
    return report.sort_values("ari", ascending=False, kind="stable")


def judge(
    table: np.ndarray, codes: np.ndarray, batches: np.ndarray | None, n_neighbors: int, seeds: Any, some: np.ndarray
) -> dict[str, float]:
    """All figures of one embedding; `some` are the cells of the silhouettes."""
    clusters = [KMeans(codes.max() + 1, n_init=3, random_state=seed).fit_predict(table) for seed in seeds]
    ari = [adjusted_rand_score(codes, found) for found in clusters]
    near = nearest_neighbors(table, n_neighbors)
    same = codes[near.indices] == np.repeat(codes, np.diff(near.indptr))
    figures = {
        "ari": float(np.mean(ari)),
        "ari_sd": float(np.std(ari, ddof=1)) if len(ari) > 1 else np.nan,
        "nmi": float(np.mean([normalized_mutual_info_score(codes, found) for found in clusters])),
        "label_silhouette": _silhouette(table[some], codes[some]),
        "neighbor_purity": float(same.mean()),
    }
    if batches is not None:
        figures["batch_silhouette"] = batch_silhouette(table[some], codes[some], batches[some])
    return figures


def batch_silhouette(table: np.ndarray, codes: np.ndarray, batches: np.ndarray) -> float:
    """1 − |silhouette of the batches|, over the cells of a label, then over the labels that have several batches."""
    means = []
    for code in np.unique(codes):
        cells = np.flatnonzero((codes == code) & (batches >= 0))
        if 2 <= len(np.unique(batches[cells])) < len(cells):
            means.append(float(np.mean(1 - np.abs(silhouette_samples(table[cells], batches[cells])))))
    return float(np.mean(means)) if means else np.nan


def _silhouette(table: np.ndarray, codes: np.ndarray) -> float:
    if not 2 <= len(np.unique(codes)) < len(codes):
        return np.nan
    return float(silhouette_samples(table, codes).mean())


def baselines(adata: Any, layer: str | None, estimator: Any, n_components: int) -> dict[str, np.ndarray]:
    """Embeddings that need no training of a network."""
    counts = _counts(adata, layer)
    totals = np.asarray(counts.sum(axis=1), dtype=float).reshape(-1, 1)
    if holds_counts(counts):
        values = normalize_layer(counts)
    else:
        values = counts
        warnings.warn(
            f"{_called(layer, adata)} holds no counts: it is taken as normalised, and its sums as library sizes. Pass "
            "layer= for the counts.",
            UserWarning,
            stacklevel=3,
        )
    best = np.argsort(-standardized_dispersion(values), kind="stable")[:_N_TOP_GENES]
    found = {
        "highly variable genes": log_pca(values[:, np.sort(best)], n_components),
        "library size": np.log1p(totals),
    }
    if estimator is not None:
        found[f"untrained {type(estimator).__name__}"] = untrained(estimator, adata)
    return found


def untrained(estimator: Any, adata: Any) -> np.ndarray:
    """Return the embedding of a clone of `estimator` whose network stays as it was drawn."""
    lacking = [name for name in ("lr", "max_epochs") if name not in estimator.get_params(deep=False)]
    if lacking or not hasattr(estimator, "transform"):
        raise ValueError(
            f"estimator is a {type(estimator).__name__} without {lacking or 'transform'}; due is one that trains a "
            "network by lr and max_epochs, and has transform, such as SplicingFusion."
        )
    fitted = clone(estimator).set_params(lr=_IDLE, max_epochs=1).fit(adata)
    return check_array(fitted.transform(adata), dtype=float, input_name="the untrained embedding")


def _counts(adata: Any, layer: str | None) -> sparse.csr_matrix:
    if layer is None and adata.X is None and "spliced" in adata.layers:
        layer = "spliced"
    if layer is None and adata.X is None:
        raise ValueError(f"adata has no X; pass layer=, one of {list(adata.layers)}.")
    if layer is not None and layer not in adata.layers:
        raise ValueError(f"layer is {layer!r}; adata has the layers {list(adata.layers)}.")
    values = adata.X if layer is None else adata.layers[layer]
    values = check_array(values, accept_sparse="csr", input_name=_called(layer, adata))
    values = sparse.csr_matrix(values)
    if values.data.min(initial=0) < 0:
        raise ValueError(
            f"{_called(layer, adata)} has negative values, so it was centred; pass layer=, one of "
            f"{list(adata.layers)}, that holds counts."
        )
    return values


def _called(layer: str | None, adata: Any) -> str:
    return f"the layer {layer!r}" if layer is not None else "X" if adata.X is not None else "the layer 'spliced'"


def _named(embeddings: Any) -> dict[str, Any]:
    if not isinstance(embeddings, Mapping) or not embeddings:
        raise TypeError(f"embeddings is {embeddings!r}; due is a dict of names to arrays or keys of obsm.")
    return dict(embeddings)


def _embedding(adata: Any, name: str, value: Any) -> np.ndarray:
    if isinstance(value, str):
        if value not in adata.obsm:
            raise ValueError(f"embeddings[{name!r}] is {value!r}, which obsm lacks; it has {list(adata.obsm)}.")
        value = adata.obsm[value]
    table = check_array(value, dtype=float, input_name=f"embeddings[{name!r}]")
    if len(table) != adata.n_obs:
        raise ValueError(f"embeddings[{name!r}] has {len(table)} rows for {adata.n_obs} cells; due is a row a cell.")
    return table


def _per_cell(adata: Any, values: Any, name: str) -> np.ndarray:
    if isinstance(values, str):
        if values not in adata.obs:
            raise ValueError(f"{name} is {values!r}, which obs lacks; it has {list(adata.obs.columns)}.")
        values = adata.obs[values]
    values = np.asarray(values, dtype=object)
    if values.shape != (adata.n_obs,):
        raise ValueError(f"{name} has shape {values.shape}; due is {(adata.n_obs,)}, one a cell.")
    return values
