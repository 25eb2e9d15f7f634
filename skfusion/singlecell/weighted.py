"""Neighbours by several modalities at once, each cell by the modalities that say most about it."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import Bunch

from skfusion.modalities import Modalities, check_modalities
from skfusion.modalities.check import Reader
from skfusion.modalities.kinds import is_instance_of
from skfusion.preprocessing import FittedOnPresent, MeanFill, holds_counts, present_rows, table_preprocessor, to_dense

_EPSILON = 1e-4  # of the paper: keeps a score finite where the others predict nothing
_MOST = 200.0  # of the paper's code: no score is larger
_CHUNK = 1 << 16  # pairs of cells whose differences are held at once


def weighted_neighbors(
    adata: Any,
    modalities: Any = None,
    *,
    n_neighbors: int = 20,
    n_candidates: int = 200,
    normalize: bool = True,
    key_added: str = "wnn",
    random_state: int | None = 0,
) -> None:
    """Weighted nearest neighbours [1]_: write neighbours by all modalities where scanpy finds them.

    A modality weighs much in a cell where neighbours in that modality predict the cell better than neighbours in the
    others do. Neighbours are those of largest similarity, the weighted sum over modalities.

    Parameters
    ----------
    adata : AnnData or MuData
        Gets ``obsp["wnn_connectivities"]``, ``obsp["wnn_distances"]``, ``uns["wnn"]``, and ``obs["<name>_weight"]`` for
        each modality. scanpy uses them by ``neighbors_key="wnn"``, as in ``sc.tl.umap(adata, neighbors_key="wnn")``.
    modalities : dict of str to str, or list of layer names, default=None
        As everywhere: ``{"rna": "obsm/X_pca", "protein": "obsm/protein"}``; None takes the spliced and unspliced
        layers, or all of a MuData. Embeddings are taken as they are. Counts are log-normalised, and so is CSR, which is
        projected to 50 principal components where it is wide.
    n_neighbors : int, default=20
        Neighbours of a cell, both in each modality and in the result.
    n_candidates : int, default=200
        So many nearest cells of each modality are looked at.
    normalize : bool, default=True
        Bring each cell's embedding to length 1, as in the paper, so that the distance goes by the angle.
    key_added : str, default="wnn"
        What stands for ``wnn`` in the names above.
    random_state : int or None, default=0
        Seed of the projection.

    Raises
    ------
    ValueError
        Where there are fewer than two modalities, one is not there (it lists what is), or one is present in too few
        cells for `n_neighbors`.

    Notes
    -----
    A cell that lacks a modality (a row of NaN, or no row in a MuData) has weight 0 there. Similarity to a cell that
    lacks a modality is 0 in that modality. A cell with nothing has no neighbours. With three or more modalities, a
    modality is compared with the mean of the others.

    References
    ----------
    .. [1] Hao et al., "Integrated analysis of multimodal single-cell data", Cell, 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from anndata import AnnData
    >>> from skfusion.singlecell import weighted_neighbors
    >>> rng = np.random.default_rng(0)
    >>> kind = np.repeat([0, 1, 2], 40)
    >>> rna, noise = 4 * np.eye(3)[kind] + rng.normal(size=(120, 3)), rng.normal(size=(120, 3))
    >>> adata = AnnData(obsm={"rna": rna, "noise": noise})
    >>> weighted_neighbors(adata, {"rna": "obsm/rna", "noise": "obsm/noise"}, n_neighbors=10)
    >>> bool(adata.obs["rna_weight"].mean() > 0.6)
    True
    >>> list(adata.obsp)
    ['wnn_distances', 'wnn_connectivities']
    """
    if not is_instance_of(adata, "anndata", "AnnData") and not is_instance_of(adata, "mudata", "MuData"):
        raise TypeError(f"adata is a {type(adata).__name__}; due is an AnnData or a MuData, which gets the neighbours.")
    X = check_modalities(Reader(modalities), adata, reset=True)
    if len(X.names) < 2:
        raise ValueError(
            f"modalities gives {X.names} alone; due are two or more, as in "
            'modalities={"rna": "obsm/X_pca", "protein": "obsm/protein"}.'
        )
    embeddings = {name: embed(X, name, random_state) for name in X.names}
    found = weighted_graph(
        embeddings, X.present, n_neighbors=n_neighbors, n_candidates=n_candidates, normalize=normalize
    )
    for name in X.names:
        adata.obs[f"{name}_weight"] = found.weights[name].to_numpy()
    adata.obsp[f"{key_added}_distances"] = found.distances
    adata.obsp[f"{key_added}_connectivities"] = found.connectivities
    # scanpy looks at a representation of the cells, if only for its width.
    paths = list(modalities.values()) if isinstance(modalities, Mapping) else []
    keys = [
        path.partition("/")[2] for path in paths if path.startswith("obsm/") and path.partition("/")[2] in adata.obsm
    ]
    if not keys:
        keys = [f"{key_added}_{X.names[0]}"]
        adata.obsm[keys[0]] = embeddings[X.names[0]]
    params = {
        "n_neighbors": n_neighbors,
        "method": "umap",
        "metric": "euclidean",
        "use_rep": keys[0],
        "random_state": 0,
    }
    adata.uns[key_added] = {
        "connectivities_key": f"{key_added}_connectivities",
        "distances_key": f"{key_added}_distances",
        "params": params,
    }


def embed(X: Modalities, name: str, random_state: int | None = 0) -> np.ndarray:
    """Return a modality as a dense table: embeddings as they are, counts and CSR by the default preprocessing."""
    values, present = X[name], X.present[:, X.names.index(name)]
    if X.kind(name) == "dense":
        counts = present_rows(values, present)
        counts = sparse.csr_matrix(counts) if np.isfinite(counts).all() else None
        if counts is None or not holds_counts(counts):
            return FittedOnPresent(MeanFill(), present_rows(values, present)).apply(values, present).astype(float)
        values = sparse.csr_matrix(np.where(present[:, None], values, 0))
    elif X.kind(name) != "sparse":
        raise ValueError(
            f"modality {name!r} is of kind {X.kind(name)!r}; due is a table or an embedding, one row a cell."
        )
    prepare = table_preprocessor(name, values, project=True, random_state=random_state)
    return to_dense(FittedOnPresent(prepare, present_rows(values, present)).apply(values, present)).astype(float)


def weighted_graph(
    embeddings: Mapping[str, np.ndarray],
    present: np.ndarray,
    *,
    n_neighbors: int,
    n_candidates: int = 200,
    normalize: bool = True,
) -> Bunch:
    """Weights of the modalities and neighbours by all of them.

    Parameters
    ----------
    embeddings : dict of str to ndarray of shape (n_cells, n_dimensions)
        One a modality; rows of cells that lack it may hold anything.
    present : ndarray of bool of shape (n_cells, n_modalities)
        Which cell has what.
    n_neighbors, n_candidates, normalize
        As in `weighted_neighbors`.

    Returns
    -------
    Bunch
        ``weights``, a DataFrame (n_cells, n_modalities); ``distances`` and ``connectivities``, CSR (n_cells, n_cells).
    """
    if n_neighbors < 2:
        raise ValueError(f"n_neighbors is {n_neighbors}; due is at least 2.")
    for name, there in zip(embeddings, present.T):
        if there.sum() <= n_neighbors:
            raise ValueError(
                f"modality {name!r} is present in {there.sum()} cells; due are more than n_neighbors={n_neighbors}."
            )
    spaces = [
        _Space(values, there, n_neighbors, n_candidates, normalize)
        for values, there in zip(embeddings.values(), present.T)
    ]
    weights = modality_weights(spaces)
    candidates = sparse.csr_matrix(sum((space.candidates for space in spaces[1:]), spaces[0].candidates))
    rows, columns = pairs_of(candidates)
    similarity = np.zeros(len(rows))
    for space, weight in zip(spaces, weights.T):
        both = space.there[rows] & space.there[columns]
        affinity = space.affinity(rows[both], space.distance(rows[both], columns[both]))
        similarity[both] += weight[rows[both]] * affinity
    best = first_of_each_row(candidates.indptr, (columns, -similarity), n_neighbors)
    # The furthest two cells can be from each other, similarity 0, is the root of a half.
    apart = np.sqrt(np.maximum(1 - similarity[best], 0) / 2)
    distances = sparse.csr_matrix((apart, (rows[best], columns[best])), shape=candidates.shape)
    return Bunch(
        weights=pd.DataFrame(weights, columns=list(embeddings)),
        distances=distances,
        connectivities=fuzzy_connectivities(distances, n_neighbors),
    )


class _Space:
    """One modality: who is near whom in it, and how distance becomes affinity around each cell."""

    def __init__(self, values: np.ndarray, there: np.ndarray, k: int, n_candidates: int, normalize: bool) -> None:
        self.there = there
        self.values = np.where(there[:, None], values, 0.0)
        if normalize:
            length = np.linalg.norm(self.values, axis=1, keepdims=True)
            self.values /= np.where(length > 0, length, 1)
        self.cells = np.flatnonzero(there)
        most = min(max(k, n_candidates), len(self.cells) - 1)
        distances, near = NearestNeighbors(n_neighbors=most).fit(self.values[there]).kneighbors()
        self.candidates = self._graph(near)
        self.near = self._graph(near[:, :k])
        self.nearest = self._of_all(distances[:, 0])
        self.bandwidth = self._of_all(self._bandwidth(near[:, :k]))

    def _graph(self, near: np.ndarray) -> sparse.csr_matrix:
        n = len(self.there)
        rows, columns = np.repeat(self.cells, near.shape[1]), self.cells[near.ravel()]
        return sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(n, n))

    def _of_all(self, values: np.ndarray) -> np.ndarray:
        result = np.zeros(len(self.there))
        result[self.cells] = values
        return result

    def _bandwidth(self, near: np.ndarray) -> np.ndarray:
        """Mean distance to the k cells that share least of their neighbours with a cell, but share some."""
        n, k = near.shape
        around = sparse.csr_matrix((np.ones(n * k), (np.repeat(np.arange(n), k), near.ravel())), shape=(n, n))
        around = around + sparse.eye(n, format="csr")
        shared = sparse.csr_matrix(around @ around.T)
        shared.setdiag(0)
        shared.eliminate_zeros()
        rows, columns = pairs_of(shared)
        distance = self.distance(self.cells[rows], self.cells[columns])
        # Jaccard similarity grows with the number of shared neighbours; of equals, the further comes first.
        least = first_of_each_row(shared.indptr, (columns, -distance, shared.data), k)
        return np.bincount(rows[least], distance[least], minlength=n) / np.bincount(rows[least], minlength=n)

    def distance(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Distances of pairs of cells."""
        result = np.empty(len(rows))
        for start in range(0, len(rows), _CHUNK):
            part = slice(start, start + _CHUNK)
            result[part] = np.linalg.norm(self.values[rows[part]] - self.values[columns[part]], axis=1)
        return result

    def affinity(self, rows: np.ndarray, distance: np.ndarray) -> np.ndarray:
        """exp(−(distance beyond the nearest neighbour) / (bandwidth beyond it)), around the cells `rows`."""
        beyond = np.maximum(distance - self.nearest[rows], 0)
        width = self.bandwidth[rows] - self.nearest[rows]
        # Where all that is near lies equally far, only what lies further is unlike.
        ratio = np.divide(beyond, width, out=np.where(beyond > 0, np.inf, 0.0), where=width > 0)
        return np.exp(-ratio)

    def predicted_by(self, near: sparse.csr_matrix) -> np.ndarray:
        """Affinity of each cell to the mean of its neighbours `near` that have this modality; NaN without one."""
        near = near @ sparse.diags(self.there.astype(float))
        number = np.asarray(near.sum(axis=1)).ravel()
        mean = (near @ self.values) / np.maximum(number, 1)[:, None]
        affinity = self.affinity(np.arange(len(mean)), np.linalg.norm(self.values - mean, axis=1))
        return np.where(self.there & (number > 0), affinity, np.nan)


def modality_weights(spaces: list[_Space]) -> np.ndarray:
    """Softmax, over the modalities a cell has, of how much better each predicts itself than the others predict it."""
    scores = np.full((len(spaces[0].there), len(spaces)), -np.inf)  # (n_cells, n_modalities)
    for m, space in enumerate(spaces):
        others = np.stack([space.predicted_by(other.near) for other in spaces if other is not space])
        known = np.isfinite(others)
        cross = np.where(known, others, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        within = np.nan_to_num(space.predicted_by(space.near))
        scores[space.there, m] = np.minimum(within / (cross + _EPSILON), _MOST)[space.there]
    some = np.isfinite(scores).any(axis=1)
    weights = np.zeros_like(scores)
    weights[some] = np.exp(scores[some] - scores[some].max(axis=1, keepdims=True))
    weights[some] /= weights[some].sum(axis=1, keepdims=True)
    return weights


def pairs_of(matrix: sparse.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of each stored entry, row by row."""
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr)), matrix.indices


def first_of_each_row(indptr: np.ndarray, keys: tuple[np.ndarray, ...], k: int) -> np.ndarray:
    """Positions of the first k entries of each row, sorted by `keys`, of which the last counts first.

    Many short sorts: a single one of all entries takes several times as long.
    """
    rows = (slice(start, stop) for start, stop in pairwise(indptr))
    return np.concatenate([row.start + np.lexsort([key[row] for key in keys])[:k] for row in rows])


def fuzzy_connectivities(distances: sparse.csr_matrix, n_neighbors: int) -> sparse.csr_matrix:
    """Weights of a symmetric graph from distances to neighbours, as UMAP makes them (McInnes et al., 2018)."""
    rows, _ = pairs_of(distances)
    nearest = np.full(distances.shape[0], np.inf)
    np.minimum.at(nearest, rows, distances.data)
    beyond = distances.data - nearest[rows]
    low, high = np.zeros(len(nearest)), np.full(len(nearest), np.inf)
    width = np.ones(len(nearest))
    for _ in range(64):
        total = np.bincount(rows, np.exp(-beyond / width[rows]), minlength=len(nearest))
        wide = total > np.log2(n_neighbors)
        high, low = np.where(wide, width, high), np.where(wide, low, width)
        width = np.where(np.isinf(high), 2 * width, (low + high) / 2)
        width = np.clip(width, 1e-8, 1e8)
    graph = sparse.csr_matrix((np.exp(-beyond / width[rows]), distances.indices, distances.indptr), distances.shape)
    turned = graph.T.tocsr()
    both = sparse.csr_matrix(graph + turned - graph.multiply(turned))
    both.eliminate_zeros()
    return both
