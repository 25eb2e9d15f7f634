"""From counts to neighbours: which genes, how layers are normalised, and who is near whom."""

from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.neighbors import kneighbors_graph
from sklearn.utils import check_array

from skfusion._compat import on_arrays
from skfusion.preprocessing import median_total


def normalize_layer(counts: Any) -> Any:
    """Scale each cell of a layer to the median total of the layer.

    Each layer goes by its own totals, so that the share of unspliced counts in a cell has no influence. A cell without
    a count stays empty, and is left out of the median.

    Parameters
    ----------
    counts : array-like or CSR matrix of shape (n_cells, n_genes)
        Counts of one layer, none negative.

    Returns
    -------
    ndarray or CSR matrix of shape (n_cells, n_genes)
        As it came, in floats: sparse stays sparse.

    Examples
    --------
    >>> from skfusion.singlecell import normalize_layer
    >>> normalize_layer([[1, 1], [2, 4], [3, 0]])
    array([[1.5, 1.5],
           [1. , 2. ],
           [3. , 0. ]])
    """
    counts = check_layer(counts, "counts")
    totals = np.asarray(counts.sum(axis=1), dtype=float).ravel()
    scale = np.divide(median_total(totals), totals, out=np.zeros_like(totals), where=totals > 0)
    return sparse.csr_matrix(sparse.diags(scale) @ counts) if sparse.issparse(counts) else counts * scale[:, None]


def select_genes(
    spliced: Any, unspliced: Any, *, min_shared_counts: float = 20, n_top_genes: int | None = 2000
) -> np.ndarray:
    """Choose genes that both layers see, and among these the most variable ones of the spliced layer.

    Dispersion is the logarithm of variance over mean of the normalised spliced counts, standardised among genes of a
    similar mean [1]_.

    Parameters
    ----------
    spliced, unspliced : array-like or CSR matrix of shape (n_cells, n_genes)
        Counts.
    min_shared_counts : float, default=20
        Least number of counts of a gene, both layers together, in cells that have it in both layers.
    n_top_genes : int, default=2000
        How many of these genes to keep; None keeps all.

    Returns
    -------
    ndarray of int
        Positions of the genes, ascending.

    Raises
    ------
    ValueError
        Where no gene reaches `min_shared_counts`, or the layers' shapes differ.

    References
    ----------
    .. [1] Satija et al., "Spatial reconstruction of single-cell gene expression data", Nature Biotechnology, 2015.

    Examples
    --------
    >>> from skfusion.singlecell import select_genes
    >>> select_genes([[9, 0, 4], [1, 7, 5]], [[3, 3, 1], [2, 0, 1]], min_shared_counts=10)
    array([0, 2])
    """
    spliced, unspliced = check_layers(spliced, unspliced)
    shared = shared_counts(spliced, unspliced)
    genes = np.flatnonzero(shared >= min_shared_counts)
    if not len(genes):
        raise ValueError(
            f"no gene has min_shared_counts={min_shared_counts} counts in cells that have it in both layers; the most "
            f"is {shared.max(initial=0):g}. Lower min_shared_counts."
        )
    if n_top_genes is None or n_top_genes >= len(genes):
        return genes
    if n_top_genes < 1:
        raise ValueError(f"n_top_genes is {n_top_genes}; due is a positive integer, or None for all genes.")
    dispersion = standardized_dispersion(normalize_layer(spliced[:, genes]))
    return np.sort(genes[np.argsort(-dispersion, kind="stable")[:n_top_genes]])


def shared_counts(spliced: Any, unspliced: Any) -> np.ndarray:
    """Count, a gene, what lies in cells that have the gene in both layers."""
    if sparse.issparse(spliced) or sparse.issparse(unspliced):
        spliced, unspliced = sparse.csr_matrix(spliced), sparse.csr_matrix(unspliced)
        both = (spliced > 0).multiply(unspliced > 0)
        return np.asarray((spliced + unspliced).multiply(both).sum(axis=0), dtype=float).ravel()
    return np.where((spliced > 0) & (unspliced > 0), spliced + unspliced, 0).sum(axis=0, dtype=float)


def standardized_dispersion(values: Any, n_bins: int = 20) -> np.ndarray:
    """Standardise log(variance / mean) among the genes of a bin of mean expression; genes without variance get -inf."""
    mean, variance = mean_and_variance(values)
    varied = (mean > 0) & (variance > 0)
    table = pd.DataFrame({"mean": np.log1p(mean[varied]), "dispersion": np.log(variance[varied] / mean[varied])})
    bins = table.groupby(pd.cut(table["mean"], n_bins), observed=True)["dispersion"]
    centre, spread = bins.transform("mean"), bins.transform("std")
    # A gene alone in its bin is extreme in its mean; as in the paper's code it counts as variable.
    alone = spread.isna() | (spread == 0)
    result = np.full(len(mean), -np.inf)
    result[varied] = np.where(alone, 1.0, (table["dispersion"] - centre) / spread.where(~alone, 1.0))
    return result


def mean_and_variance(values: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and unbiased variance of each column, without making a sparse matrix dense."""
    n = values.shape[0]
    square = values.multiply(values) if sparse.issparse(values) else values**2
    mean = np.asarray(values.mean(axis=0), dtype=float).ravel()
    variance = np.asarray(square.mean(axis=0), dtype=float).ravel() - mean**2
    return mean, np.maximum(variance, 0) * n / max(n - 1, 1)


def log_pca(values: Any, n_components: int = 30) -> np.ndarray:
    """Principal components of log1p of normalised values, as float64 of shape (n_cells, n_components).

    Fewer come back where cells or genes are fewer. The result is deterministic: signs are fixed by scikit-learn.
    """
    n_components = min(n_components, *values.shape)
    solver = "arpack" if sparse.issparse(values) and n_components < min(values.shape) else "auto"
    logged = values.log1p() if sparse.issparse(values) else np.log1p(values)
    if solver == "auto" and sparse.issparse(logged):
        logged = logged.toarray()
    pca = on_arrays(PCA(n_components, svd_solver=solver, random_state=0))
    return pca.fit_transform(logged.astype(float))


def nearest_neighbors(embedding: Any, n_neighbors: int = 30) -> sparse.csr_matrix:
    """Connect each cell with its nearest ones.

    Parameters
    ----------
    embedding : array-like of shape (n_cells, n_dimensions)
        Where the cells lie.
    n_neighbors : int, default=30
        How many neighbours, the cell itself not counted.

    Returns
    -------
    CSR matrix of shape (n_cells, n_cells)
        A 1 in row i for each neighbour of cell i, never for i itself. Being near is not mutual, so it need not be
        symmetric.

    Raises
    ------
    ValueError
        Where there are not more cells than neighbours.

    Examples
    --------
    >>> from skfusion.singlecell import nearest_neighbors
    >>> nearest_neighbors([[0.0], [1.0], [5.0]], n_neighbors=1).toarray()
    array([[0., 1., 0.],
           [1., 0., 0.],
           [0., 1., 0.]])
    """
    embedding = check_array(embedding, dtype=(np.float64, np.float32), input_name="embedding")
    check_n_neighbors(n_neighbors, len(embedding))
    return sparse.csr_matrix(kneighbors_graph(embedding, n_neighbors, include_self=False))


def check_n_neighbors(n_neighbors: int, n_cells: int) -> None:
    """Check that each cell can have that many neighbours."""
    if not 1 <= n_neighbors < n_cells:
        raise ValueError(
            f"n_neighbors is {n_neighbors} for {n_cells} cells; due is at least 1 and less than the number of cells, "
            "since a cell is no neighbour of itself."
        )


def check_layer(values: Any, name: str) -> Any:
    """Check one layer: CSR or array, finite and not negative."""
    values = check_array(values, accept_sparse="csr", input_name=name, dtype="numeric")
    if values.shape[0] and (values.data if sparse.issparse(values) else values).min(initial=0) < 0:
        raise ValueError(f"{name} has negative values; due are counts, or counts that were scaled, but not centred.")
    return values


def check_layers(spliced: Any, unspliced: Any) -> tuple[Any, Any]:
    """Check both layers and that their shapes agree."""
    spliced, unspliced = check_layer(spliced, "spliced"), check_layer(unspliced, "unspliced")
    check_same_shape(spliced=spliced, unspliced=unspliced)
    return spliced, unspliced


def check_same_shape(**arrays: Any) -> None:
    """Check that arrays have one shape, and name them where they do not."""
    if len({array.shape for array in arrays.values()}) > 1:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(f"shapes differ: {shapes}. Due are the same cells and genes, in the same order.")


def check_neighbors(neighbors: Any, n_cells: int) -> sparse.csr_matrix:
    """Check who is a neighbour of whom: every positive weight counts as 1, and no cell is its own neighbour."""
    if not sparse.issparse(neighbors):
        raise TypeError(
            f"neighbors is a {type(neighbors).__name__}; due is a CSR matrix of shape (n_cells, n_cells), such as "
            "nearest_neighbors(embedding) or adata.obsp['connectivities']."
        )
    if neighbors.shape != (n_cells, n_cells):
        raise ValueError(
            f"neighbors has shape {neighbors.shape}; due is {(n_cells, n_cells)}, a row and a column a cell."
        )
    pairs = sparse.coo_matrix(neighbors)
    kept = (pairs.data > 0) & (pairs.row != pairs.col)
    ones = np.ones(int(kept.sum()))
    return sparse.csr_matrix((ones, (pairs.row[kept], pairs.col[kept])), shape=neighbors.shape)
