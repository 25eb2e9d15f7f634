"""Moments over neighbours, which RNA velocity is computed from."""

from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils import Bunch, check_array

from skfusion.singlecell.neighbors import (
    check_layers,
    log_pca,
    nearest_neighbors,
    normalize_layer,
    select_genes,
)


def first_moments(values: Any, connectivities: Any) -> np.ndarray:
    """Mean over each cell and its neighbours.

    Parameters
    ----------
    values : array-like or CSR matrix of shape (n_cells, n_genes)
        Normalised expression of the chosen genes.
    connectivities : CSR matrix of shape (n_cells, n_cells)
        Who is a neighbour of whom; positive weights count alike, as in scVelo.

    Returns
    -------
    ndarray of shape (n_cells, n_genes)
        Dense, so choose the genes before.

    References
    ----------
    .. [1] Bergen et al., "Generalizing RNA velocity to transient cell states through dynamical modeling", Nature
       Biotechnology, 2020.

    Examples
    --------
    >>> from skfusion.singlecell import first_moments, nearest_neighbors
    >>> first_moments([[1.0], [3.0], [9.0]], nearest_neighbors([[0.0], [1.0], [5.0]], n_neighbors=1))
    array([[2.],
           [2.],
           [6.]])
    """
    values = check_array(values, accept_sparse="csr", input_name="values")
    moments = averaging(connectivities, values.shape[0]) @ values
    return moments.toarray() if sparse.issparse(moments) else moments


def second_moments(spliced: Any, unspliced: Any, connectivities: Any) -> tuple[np.ndarray, np.ndarray]:
    """Means of spliced² and of spliced · unspliced over each cell and its neighbours.

    Parameters
    ----------
    spliced, unspliced : array-like or CSR matrix of shape (n_cells, n_genes)
        Normalised expression of the chosen genes.
    connectivities : CSR matrix of shape (n_cells, n_cells)
        As in `first_moments`.

    Returns
    -------
    tuple of two ndarrays of shape (n_cells, n_genes)
        What `steady_state_velocity` takes as `second_moments`.

    Examples
    --------
    >>> from skfusion.singlecell import nearest_neighbors, second_moments
    >>> near = nearest_neighbors([[0.0], [1.0], [5.0]], n_neighbors=1)
    >>> squares, products = second_moments([[1.0], [3.0], [9.0]], [[2.0], [0.0], [1.0]], near)
    >>> squares.ravel(), products.ravel()
    (array([ 5.,  5., 45.]), array([1. , 1. , 4.5]))
    """
    spliced, unspliced = (layer.astype(float) for layer in check_layers(spliced, unspliced))
    if sparse.issparse(spliced) or sparse.issparse(unspliced):
        spliced, unspliced = sparse.csr_matrix(spliced), sparse.csr_matrix(unspliced)
        return first_moments(spliced.multiply(spliced), connectivities), first_moments(
            spliced.multiply(unspliced), connectivities
        )
    return first_moments(spliced**2, connectivities), first_moments(spliced * unspliced, connectivities)


def averaging(connectivities: Any, n_cells: int) -> sparse.csr_matrix:
    """Return the matrix that averages over each cell and its neighbours: rows sum to 1."""
    if connectivities.shape != (n_cells, n_cells):
        raise ValueError(
            f"connectivities has shape {connectivities.shape}; due is {(n_cells, n_cells)}, a row and a column a cell."
        )
    near = sparse.csr_matrix(sparse.csr_matrix(connectivities) > 0, dtype=float)
    near.setdiag(1.0)
    return sparse.csr_matrix(sparse.diags(1 / np.asarray(near.sum(axis=1)).ravel()) @ near)


def splicing_moments(
    spliced: Any,
    unspliced: Any,
    *,
    min_shared_counts: float = 20,
    n_top_genes: int | None = 2000,
    n_components: int = 30,
    n_neighbors: int = 30,
    connectivities: Any = None,
) -> Bunch:
    """Choose genes, normalise, find neighbours by the spliced layer, and take the moments of both layers.

    Parameters
    ----------
    spliced, unspliced : array-like or CSR matrix of shape (n_cells, n_genes)
        Counts.
    min_shared_counts, n_top_genes
        Which genes, see `select_genes`.
    n_components : int, default=30
        Principal components of log1p of the normalised spliced counts, in which neighbours are looked for.
    n_neighbors : int, default=30
        How many neighbours each cell is averaged with.
    connectivities : CSR matrix of shape (n_cells, n_cells), default=None
        Neighbours from elsewhere, such as ``adata.obsp["connectivities"]``; None finds them.

    Returns
    -------
    Bunch
        ``genes`` (positions), ``spliced`` and ``unspliced`` (normalised, the chosen genes), ``spliced_moments`` and
        ``unspliced_moments`` (n_cells, n_chosen), ``connectivities``, and ``embedding`` (n_cells, n_components), None
        where connectivities were given.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion.singlecell import splicing_moments
    >>> rng = np.random.default_rng(0)
    >>> spliced, unspliced = rng.poisson(3.0, (50, 20)), rng.poisson(1.0, (50, 20))
    >>> m = splicing_moments(spliced, unspliced, n_top_genes=8, n_neighbors=5)
    >>> m.spliced_moments.shape, m.connectivities.nnz
    ((50, 8), 250)
    """
    spliced, unspliced = check_layers(spliced, unspliced)
    genes = select_genes(spliced, unspliced, min_shared_counts=min_shared_counts, n_top_genes=n_top_genes)
    spliced, unspliced = normalize_layer(spliced)[:, genes], normalize_layer(unspliced)[:, genes]
    embedding = None
    if connectivities is None:
        embedding = log_pca(spliced, n_components)
        connectivities = nearest_neighbors(embedding, n_neighbors)
    return Bunch(
        genes=genes,
        spliced=spliced,
        unspliced=unspliced,
        spliced_moments=first_moments(spliced, connectivities),
        unspliced_moments=first_moments(unspliced, connectivities),
        connectivities=connectivities,
        embedding=embedding,
    )
