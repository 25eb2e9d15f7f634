"""Velocity seen in an embedding: cosines to the neighbours, transition probabilities, projected arrows."""

from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils import check_array

from skfusion.singlecell.neighbors import check_neighbors, check_same_shape

_CHUNK = 2048  # pairs of cells whose displacements are held at once


def project_velocity(X: Any, velocity: Any, neighbors: Any, embedding: Any, *, scale: float = 10.0) -> np.ndarray:
    """Project velocity onto any embedding of the cells by way of transition probabilities [1]_ [2]_.

    A cell goes to a neighbour with a probability that grows with the cosine between its velocity and the way there,
    both in gene space. Its arrow is the expected unit step in the embedding, less what equal probabilities would give.

    Parameters
    ----------
    X, velocity : array-like of shape (n_cells, n_genes)
        Expression, such as the spliced moments, and its velocity, of the velocity genes. A row of NaN in either is a
        cell of which nothing is known: no other goes there.
    neighbors : CSR matrix of shape (n_cells, n_cells)
        Who is a neighbour of whom.
    embedding : array-like of shape (n_cells, n_dimensions)
        Where the arrows shall be.
    scale : float, default=10.0
        Sharpness: probabilities go by exp(scale · cosine) − 1.

    Returns
    -------
    ndarray of shape (n_cells, n_dimensions)
        Arrows without a unit; 0 for a cell without neighbours, NaN for one of which nothing is known.

    Raises
    ------
    ValueError
        Where shapes do not go together.

    References
    ----------
    .. [1] La Manno et al., "RNA velocity of single cells", Nature, 2018.
    .. [2] Bergen et al., "Generalizing RNA velocity to transient cell states through dynamical modeling", Nature
       Biotechnology, 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion.singlecell import nearest_neighbors, project_velocity
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 2))
    >>> arrows = project_velocity(X, np.tile([1.0, 0.0], (200, 1)), nearest_neighbors(X, 20), embedding=X)
    >>> bool(arrows[:, 0].mean() > 5 * abs(arrows[:, 1].mean()))
    True
    """
    X, velocity = (
        check_array(values, dtype=float, ensure_all_finite=False, input_name=name)
        for values, name in ((X, "X"), (velocity, "velocity"))
    )
    check_same_shape(X=X, velocity=velocity)
    neighbors = check_neighbors(neighbors, len(X))
    embedding = check_embedding(embedding, len(X))
    known = ~(np.isnan(X).all(axis=1) | np.isnan(velocity).all(axis=1))
    known |= not known.any()  # then the check says what is wrong
    arrows = np.full(embedding.shape, np.nan)
    X, velocity = check_velocity(X[known], velocity[known])
    arrows[known] = _expected_steps(X, velocity, neighbors[known][:, known], embedding[known], scale)
    return arrows


def _expected_steps(
    X: np.ndarray, velocity: np.ndarray, neighbors: sparse.csr_matrix, embedding: np.ndarray, scale: float
) -> np.ndarray:
    """Project the velocity of cells that all have one."""
    transitions = transition_matrix(velocity_graph(X, velocity, neighbors), scale)
    rows, columns = _pairs(transitions)
    steps = _unit(embedding[columns] - embedding[rows])  # (n_pairs, n_dimensions)
    degree = np.maximum(np.diff(transitions.indptr), 1)
    drift = np.asarray(transitions.sum(axis=1)).ravel() / degree  # (n_cells,)
    weight = transitions.data - drift[rows]  # (n_pairs,)
    gather = sparse.csr_matrix((weight, (rows, np.arange(len(rows)))), shape=(len(X), len(rows)))
    return gather @ steps


def velocity_graph(X: np.ndarray, velocity: np.ndarray, neighbors: sparse.csr_matrix) -> sparse.csr_matrix:
    """Cosine between each cell's velocity and the way to each of its neighbours, where these are."""
    rows, columns = _pairs(neighbors)
    cosines = step_cosines(X, velocity, rows, columns)
    return sparse.csr_matrix((cosines, neighbors.indices, neighbors.indptr), shape=neighbors.shape)


def transition_matrix(graph: sparse.csr_matrix, scale: float) -> sparse.csr_matrix:
    """Weights of the steps to neighbours: sign(c) (exp(scale |c|) − 1), absolute values of a row summing to 1."""
    weights = graph.copy()
    weights.data = np.sign(graph.data) * np.expm1(scale * np.abs(graph.data))
    total = np.asarray(abs(weights).sum(axis=1)).ravel()
    weights.data /= np.repeat(np.where(total > 0, total, 1.0), np.diff(weights.indptr))
    return weights


def step_cosines(X: np.ndarray, velocity: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Cosine between the velocity of cell `rows[k]` and its way to cell `columns[k]`; 0 where either is nothing."""
    direction = _unit(velocity)
    cosines = np.empty(len(rows))
    for start in range(0, len(rows), _CHUNK):
        part = slice(start, start + _CHUNK)
        steps = _unit(X[columns[part]] - X[rows[part]])  # (n_pairs, n_genes)
        cosines[part] = np.einsum("pg,pg->p", steps, direction[rows[part]])
    return cosines


def mean_cosine(values: np.ndarray, neighbors: sparse.csr_matrix) -> np.ndarray:
    """Mean cosine between each cell's row and those of its neighbours; NaN for a cell without a neighbour."""
    unit = _unit(values)
    degree = np.diff(neighbors.indptr)
    total = np.einsum("ng,ng->n", unit, neighbors @ unit)
    return np.divide(total, degree, out=np.full(len(unit), np.nan), where=degree > 0)


def check_velocity(X: Any, velocity: Any) -> tuple[np.ndarray, np.ndarray]:
    """Check expression and velocity: dense, finite, of one shape."""
    X = check_array(X, dtype=float, input_name="X")
    velocity = check_array(velocity, dtype=float, ensure_all_finite=False, input_name="velocity")
    check_same_shape(X=X, velocity=velocity)
    check_finite(velocity)
    return X, velocity


def check_finite(velocity: np.ndarray) -> None:
    """Check that no velocity is NaN or infinite, as tools leave it for genes that they did not fit."""
    odd = int((~np.isfinite(velocity)).any(axis=0).sum())
    if odd:
        raise ValueError(
            f"velocity has NaN or infinity in {odd} of {velocity.shape[1]} genes; pass the velocity genes alone, of "
            "X too."
        )


def check_embedding(embedding: Any, n_cells: int) -> np.ndarray:
    """Check an embedding: finite, a row a cell."""
    embedding = check_array(embedding, dtype=float, input_name="embedding")
    if len(embedding) != n_cells:
        raise ValueError(f"embedding has {len(embedding)} rows for {n_cells} cells; due is a row a cell.")
    return embedding


def _pairs(matrix: sparse.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr)), matrix.indices


def _unit(values: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return np.divide(values, length, out=np.zeros_like(values), where=length > 0)
