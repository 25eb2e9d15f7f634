"""How right, and how smooth, velocity is, beside controls that show what each figure is worth."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.utils import Bunch, check_array, check_random_state

from skfusion._compat import on_arrays
from skfusion.singlecell.moments import first_moments
from skfusion.singlecell.neighbors import check_neighbors
from skfusion.singlecell.projection import (
    check_embedding,
    check_finite,
    check_velocity,
    mean_cosine,
    project_velocity,
    step_cosines,
)

_UNKNOWN = -1  # the code of a cell without a label


def cross_boundary_correctness(
    X: Any,
    velocity: Any,
    neighbors: Any,
    labels: Any,
    edges: Sequence[tuple[Any, Any]],
    *,
    min_cells: int = 20,
) -> Bunch:
    """Whether velocity points from each cluster to the one that is known to follow it (CBDir, [1]_).

    For a cell of the source that has neighbours in the target, the mean cosine between its velocity and the ways to
    these neighbours; then the mean over such cells, and over the edges that have enough of them.

    Parameters
    ----------
    X, velocity : array-like of shape (n_cells, n_dimensions)
        Expression and velocity, or both projected. In gene space the figure is one of the model; in a picture it is
        one of the picture as well.
    neighbors : CSR matrix of shape (n_cells, n_cells)
        Who is a neighbour of whom.
    labels : array-like of shape (n_cells,)
        Cluster of each cell.
    edges : list of (source, target)
        Known transitions.
    min_cells : int, default=20
        An edge counts in the mean from so many cells of its source with a neighbour in its target.

    Returns
    -------
    Bunch
        ``mean``, NaN with a warning where no edge counts; ``edges``, a DataFrame with source, target, correctness,
        n_cells and whether the edge is counted.

    Raises
    ------
    ValueError
        Where shapes do not go together, or `edges` names a cluster that `labels` lacks.

    References
    ----------
    .. [1] Qiao and Huang, "Representation learning of RNA velocity reveals robust cell transitions", PNAS, 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion.singlecell import cross_boundary_correctness, nearest_neighbors
    >>> X = np.linspace([0.0, 0.0], [1.0, 1.0], 100)  # a line, along which cells go
    >>> labels = np.repeat(["early", "late"], 50)
    >>> result = cross_boundary_correctness(
    ...     X, np.ones_like(X), nearest_neighbors(X, 10), labels, [("early", "late")], min_cells=5
    ... )
    >>> result.edges.round(3)
      source target  correctness  n_cells  counted
    0  early   late          1.0        5     True
    """
    X, velocity = check_velocity(X, velocity)
    neighbors = check_neighbors(neighbors, len(X))
    return _correctness(X, velocity, Boundary(neighbors, labels, edges, min_cells))


class Boundary:
    """The pairs of neighbours across each edge, found once for all velocities that are judged by them."""

    def __init__(self, neighbors: sparse.csr_matrix, labels: Any, edges: Any, min_cells: int) -> None:
        codes, names = factorize(labels, neighbors.shape[0])
        self.edges = check_edges(edges, names)
        rows = np.repeat(np.arange(neighbors.shape[0]), np.diff(neighbors.indptr))
        columns = neighbors.indices
        place = {name: code for code, name in enumerate(names)}
        across = [np.flatnonzero((codes[rows] == place[a]) & (codes[columns] == place[b])) for a, b in self.edges]
        self.rows, self.columns = rows[np.concatenate(across)], columns[np.concatenate(across)]
        self.edge = np.repeat(np.arange(len(across)), [len(pairs) for pairs in across])
        # A cell may be the source of several edges, so what is averaged over is a cell of an edge.
        _, self.cell = np.unique(self.edge * len(codes) + self.rows, return_inverse=True)
        first = np.unique(self.cell, return_index=True)[1]
        self.edge_of_cell = self.edge[first]
        self.n_cells = np.bincount(self.edge_of_cell, minlength=len(across))
        self.counted = self.n_cells >= min_cells
        if not self.counted.any():
            warnings.warn(
                f"no edge has min_cells={min_cells} cells with a neighbour across it; the most is "
                f"{self.n_cells.max()}. The mean is NaN: use more neighbours, or lower min_cells.",
                UserWarning,
                stacklevel=3,
            )

    def mean_over_cells(self, cosines: np.ndarray) -> np.ndarray:
        """Mean over the pairs of a cell, then over the cells of an edge; NaN for an edge without a cell."""
        of_cell = np.bincount(self.cell, cosines) / np.maximum(np.bincount(self.cell), 1)
        total = np.bincount(self.edge_of_cell, of_cell, minlength=len(self.n_cells))
        return np.divide(total, self.n_cells, out=np.full(len(total), np.nan), where=self.n_cells > 0)

    def mean(self, of_edge: np.ndarray) -> float:
        """Mean over the edges that count."""
        return mean_of_known(of_edge[self.counted])


def _correctness(X: np.ndarray, velocity: np.ndarray, boundary: Boundary) -> Bunch:
    of_edge = boundary.mean_over_cells(step_cosines(X, velocity, boundary.rows, boundary.columns))
    table = pd.DataFrame(boundary.edges, columns=["source", "target"])
    table = table.assign(correctness=of_edge, n_cells=boundary.n_cells, counted=boundary.counted)
    return Bunch(mean=boundary.mean(of_edge), edges=table)


def in_cluster_coherence(velocity: Any, neighbors: Any, labels: Any) -> Bunch:
    """How alike velocities of neighbours of one cluster are (ICCoh, [1]_).

    It says that velocity is smooth, not that it is right: moments over neighbours make any velocity smooth, and a
    reversed one is as coherent. Read it beside `cross_boundary_correctness` and its controls, as `velocity_report`
    shows it.

    Parameters
    ----------
    velocity : array-like of shape (n_cells, n_dimensions)
        Velocity.
    neighbors : CSR matrix of shape (n_cells, n_cells)
        Who is a neighbour of whom.
    labels : array-like of shape (n_cells,)
        Cluster of each cell.

    Returns
    -------
    Bunch
        ``mean`` over the clusters, and ``clusters``, a Series with that of each: the mean over its cells of the mean
        cosine to neighbours in the cluster.

    References
    ----------
    .. [1] Qiao and Huang, "Representation learning of RNA velocity reveals robust cell transitions", PNAS, 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion.singlecell import in_cluster_coherence, nearest_neighbors
    >>> X = np.random.default_rng(0).normal(size=(60, 2))
    >>> field = np.tile([0.0, 3.0], (60, 1))
    >>> round(in_cluster_coherence(field, nearest_neighbors(X, 5), np.repeat(["a", "b"], 30)).mean, 6)
    1.0
    """
    velocity = check_array(velocity, dtype=float, ensure_all_finite=False, input_name="velocity")
    check_finite(velocity)
    neighbors = check_neighbors(neighbors, len(velocity))
    codes, names = factorize(labels, len(velocity))
    of_cluster = _coherence(velocity, within_clusters(neighbors, codes), codes, len(names))
    return Bunch(mean=mean_of_known(of_cluster), clusters=pd.Series(of_cluster, index=names, name="coherence"))


def _coherence(velocity: np.ndarray, within: sparse.csr_matrix, codes: np.ndarray, n_clusters: int) -> np.ndarray:
    cosines = mean_cosine(velocity, within)
    found = np.isfinite(cosines) & (codes != _UNKNOWN)
    total = np.bincount(codes[found], cosines[found], minlength=n_clusters)
    number = np.bincount(codes[found], minlength=n_clusters)
    return np.divide(total, number, out=np.full(n_clusters, np.nan), where=number > 0)


def within_clusters(neighbors: sparse.csr_matrix, codes: np.ndarray) -> sparse.csr_matrix:
    """Leave the neighbours of the cell's own cluster."""
    pairs = neighbors.tocoo()
    kept = codes[pairs.row] == codes[pairs.col]
    return sparse.csr_matrix((pairs.data[kept], (pairs.row[kept], pairs.col[kept])), shape=neighbors.shape)


def velocity_confidence(velocity: Any, neighbors: Any, *, velocity_genes: Any = None) -> np.ndarray:
    """Correlation of each cell's velocity with those of its neighbours [1]_.

    Like coherence it measures smoothness, not correctness.

    Parameters
    ----------
    velocity : array-like of shape (n_cells, n_genes)
        Velocity.
    neighbors : CSR matrix of shape (n_cells, n_cells)
        Who is a neighbour of whom.
    velocity_genes : array-like of bool of shape (n_genes,), default=None
        Genes that count; None is all.

    Returns
    -------
    ndarray of shape (n_cells,)
        Mean correlation over genes, 0 where it is negative; NaN for a cell without a neighbour.

    References
    ----------
    .. [1] Bergen et al., "Generalizing RNA velocity to transient cell states through dynamical modeling", Nature
       Biotechnology, 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion.singlecell import nearest_neighbors, velocity_confidence
    >>> X = np.random.default_rng(0).normal(size=(50, 2))
    >>> field = np.tile([0.0, 1.0, 5.0], (50, 1))
    >>> velocity_confidence(field, nearest_neighbors(X, 5))[:3].round(6)
    array([1., 1., 1.])
    """
    velocity = check_array(velocity, dtype=float, ensure_all_finite=False, input_name="velocity")
    velocity = velocity[:, check_genes(velocity_genes, velocity.shape[1])]
    check_finite(velocity)
    return _confidence(velocity, check_neighbors(neighbors, len(velocity)))


def _confidence(velocity: np.ndarray, neighbors: sparse.csr_matrix) -> np.ndarray:
    return np.maximum(mean_cosine(velocity - velocity.mean(axis=1, keepdims=True), neighbors), 0)


def velocity_report(
    X: Any,
    velocity: Any,
    neighbors: Any,
    labels: Any,
    edges: Sequence[tuple[Any, Any]],
    *,
    velocity_genes: Any = None,
    embedding: Any = None,
    unspliced: Any = None,
    refit: Callable[[np.ndarray], Any] | None = None,
    n_permutations: int = 20,
    min_cells: int = 20,
    random_state: Any = None,
) -> Bunch:
    """Judge velocity by known transitions, beside controls that must do worse.

    Genes, neighbours and moments are chosen once, from the real data, and every control uses them: one that chose its
    genes anew would keep hardly any, and be bad for that reason alone. The controls are

    - **reversed**: the velocity with its sign turned. What it shares with the velocity, such as coherence and
      confidence, says nothing about direction.
    - **permuted within genes**: each gene's velocities dealt out to the cells at random. What is left is a gene's mean
      velocity alone, without any cell.
    - **shuffled unspliced**: cells of the unspliced layer dealt out at random before the moments, and the model
      refitted. What is left comes from the spliced layer, the neighbours and the method.

    Parameters
    ----------
    X, velocity : array-like of shape (n_cells, n_genes)
        The spliced moments and their velocity.
    neighbors : CSR matrix of shape (n_cells, n_cells)
        What the moments were taken over.
    labels : array-like of shape (n_cells,)
        Cluster of each cell.
    edges : list of (source, target)
        Known transitions.
    velocity_genes : array-like of bool of shape (n_genes,), default=None
        Genes that count, for the velocity and for every control; None is all.
    embedding : array-like of shape (n_cells, n_dimensions), default=None
        Where the projected figure is taken, through `project_velocity`; None is two principal components of `X`, onto
        which velocity is projected linearly. This figure depends on the picture: it is shown, and is no bar.
    unspliced : array-like or CSR matrix of shape (n_cells, n_genes), default=None
        Normalised unspliced expression before the moments, to be shuffled.
    refit : callable, default=None
        ``refit(unspliced_moments) -> velocity`` fits the model to other unspliced moments, with all else as it was.
        Without `unspliced` and `refit` the table lacks the third control.
    n_permutations : int, default=20
        How often each random control is drawn.
    min_cells : int, default=20
        As in `cross_boundary_correctness`.
    random_state : int, RandomState or None, default=None
        Seed of the random controls.

    Returns
    -------
    Bunch
        ``table``, a DataFrame with a row for the velocity and for each control: ``n`` draws, the mean of
        ``correctness`` in gene space, its 95th percentile ``q95``, and the means of ``projected``, ``coherence`` and
        ``confidence``; ``margin``, the correctness less that of velocity permuted within genes; ``edges``, the
        correctness of each edge beside that of both random controls; ``draws``, a dict with the correctness of every
        draw.

    Raises
    ------
    ValueError
        As in `cross_boundary_correctness`, and where only one of `unspliced` and `refit` is given, or `refit` returns
        another shape.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion.singlecell import nearest_neighbors, velocity_report
    >>> X = np.linspace(np.zeros(20), np.arange(20.0), 120)
    >>> labels = np.repeat(["a", "b", "c"], 40)
    >>> report = velocity_report(
    ...     X, np.gradient(X, axis=0), nearest_neighbors(X, 50), labels, [("a", "b"), ("b", "c")], random_state=0
    ... )
    >>> report.table[["n", "correctness", "coherence"]].round(2)
                           n  correctness  coherence
    velocity               1          1.0        1.0
    reversed               1         -1.0        1.0
    permuted within genes  20         1.0        1.0
    >>> round(report.margin, 2)  # a constant field is no evidence of a direction that depends on the cell
    0.0
    """
    X = check_array(X, dtype=float, input_name="X")
    velocity = check_array(velocity, dtype=float, ensure_all_finite=False, input_name="velocity")
    check_refit(unspliced, refit, X, n_permutations)
    if velocity.shape == X.shape:
        kept = check_genes(velocity_genes, X.shape[1])
        X, velocity = X[:, kept], velocity[:, kept]
    X, velocity = check_velocity(X, velocity)
    neighbors = check_neighbors(neighbors, len(X))
    rng = check_random_state(random_state)
    judge = _Judge(X, neighbors, labels, edges, min_cells, embedding)
    found = {
        "velocity": [judge(velocity)],
        "reversed": [judge(-velocity)],
        "permuted within genes": [judge(v) for v in permuted_within_genes(velocity, n_permutations, rng)],
    }
    if refit is not None:
        shuffled = refitted_on_shuffled(unspliced, refit, neighbors, n_permutations, rng, kept)
        found["shuffled unspliced"] = [judge(v) for v in shuffled]
    return _summary(found, judge.boundary)


class _Judge:
    """All figures of one velocity, on the genes, neighbours and embedding that were chosen."""

    def __init__(self, X: Any, neighbors: Any, labels: Any, edges: Any, min_cells: int, embedding: Any) -> None:
        self.X, self.neighbors = X, neighbors
        self.codes, self.names = factorize(labels, len(X))
        self.within = within_clusters(neighbors, self.codes)
        self.boundary = Boundary(neighbors, labels, edges, min_cells)
        self.embedding = None if embedding is None else check_embedding(embedding, len(X))
        if embedding is None:
            pca = on_arrays(PCA(min(2, *X.shape), random_state=0)).fit(X)
            self.components, self.projected = pca.components_.T, pca.transform(X)

    def __call__(self, velocity: np.ndarray) -> dict[str, Any]:
        result = _correctness(self.X, velocity, self.boundary)
        if self.embedding is None:
            where, arrows = self.projected, velocity @ self.components
        else:
            where, arrows = self.embedding, project_velocity(self.X, velocity, self.neighbors, self.embedding)
        return {
            "of_edge": result.edges["correctness"].to_numpy(),
            "correctness": result.mean,
            "projected": _correctness(where, arrows, self.boundary).mean,
            "coherence": mean_of_known(_coherence(velocity, self.within, self.codes, len(self.names))),
            "confidence": mean_of_known(_confidence(velocity, self.neighbors)),
        }


def _summary(found: dict[str, list[dict[str, Any]]], boundary: Boundary) -> Bunch:
    draws = {name: np.array([figures["correctness"] for figures in all_]) for name, all_ in found.items()}
    rows = {}
    for name, all_ in found.items():
        means = {key: np.mean([one[key] for one in all_]) for key in ("projected", "coherence", "confidence")}
        q95 = np.quantile(draws[name], 0.95) if len(all_) > 1 else np.nan
        rows[name] = {"n": len(all_), "correctness": draws[name].mean(), "q95": q95, **means}
    edges = pd.DataFrame(boundary.edges, columns=["source", "target"])
    for name, all_ in found.items():
        if name != "reversed":
            edges[name] = np.mean([one["of_edge"] for one in all_], axis=0)
    edges = edges.assign(n_cells=boundary.n_cells, counted=boundary.counted)
    margin = float(draws["velocity"][0] - draws["permuted within genes"].mean())
    return Bunch(table=pd.DataFrame(rows).T.astype({"n": int}), margin=margin, edges=edges, draws=draws)


def permuted_within_genes(velocity: np.ndarray, n: int, rng: np.random.RandomState) -> Iterator[np.ndarray]:
    """Deal out each gene's velocities to the cells at random, `n` times."""
    deal = np.random.default_rng(rng.randint(np.iinfo(np.int32).max))
    return (deal.permuted(velocity, axis=0) for _ in range(n))


def refitted_on_shuffled(
    unspliced: Any, refit: Callable[[np.ndarray], Any], neighbors: Any, n: int, rng: np.random.RandomState, kept: Any
) -> Iterator[np.ndarray]:
    """Refit to moments of unspliced rows that were dealt out to the cells at random, `n` times."""
    unspliced = check_array(unspliced, accept_sparse="csr", input_name="unspliced")
    for _ in range(n):
        moments = first_moments(unspliced[rng.permutation(unspliced.shape[0])], neighbors)
        velocity = check_array(refit(moments), dtype=float, ensure_all_finite=False, input_name="refit's velocity")
        if velocity.shape != moments.shape:
            raise ValueError(
                f"refit returns a velocity of shape {velocity.shape}; due is {moments.shape}, the cells and genes of "
                "the moments that it got."
            )
        check_finite(velocity[:, kept])
        yield velocity[:, kept]


def mean_of_known(values: np.ndarray) -> float:
    """Mean of what is not NaN, and NaN where everything is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else np.nan


def check_refit(unspliced: Any, refit: Any, X: np.ndarray, n_permutations: int) -> None:
    """Check what the third control needs."""
    if n_permutations < 1:
        raise ValueError(f"n_permutations is {n_permutations}; due is at least 1, and 20 for a 95th percentile.")
    if (unspliced is None) != (refit is None):
        given, lacking = ("unspliced", "refit") if refit is None else ("refit", "unspliced")
        raise ValueError(
            f"{given} is given without {lacking}; the control with shuffled unspliced counts needs both, and is left "
            "out where neither is given."
        )
    if refit is None:
        return
    if not callable(refit):
        raise TypeError(f"refit is {refit!r}; due is a function of the unspliced moments that returns the velocity.")
    if unspliced.shape != X.shape:
        raise ValueError(f"unspliced has shape {unspliced.shape} and X {X.shape}; due are the same cells and genes.")


def check_genes(velocity_genes: Any, n_genes: int) -> np.ndarray:
    """Check the mask of genes that count."""
    if velocity_genes is None:
        return np.ones(n_genes, dtype=bool)
    mask = np.asarray(velocity_genes)
    if mask.dtype != bool or mask.shape != (n_genes,):
        raise ValueError(
            f"velocity_genes has dtype {mask.dtype} and shape {mask.shape}; due is a bool for each of {n_genes} genes."
        )
    if not mask.any():
        raise ValueError("velocity_genes leaves no gene; lower min_r2 or min_gamma of the model.")
    return mask


def factorize(labels: Any, n_cells: int) -> tuple[np.ndarray, list[Any]]:
    """Return the code of each cell, -1 where it has no label, and the names."""
    labels = np.asarray(labels, dtype=object)
    if labels.shape != (n_cells,):
        raise ValueError(f"labels has shape {labels.shape}; due is {(n_cells,)}, a label a cell.")
    codes, names = pd.factorize(labels, sort=True)
    if not len(names):
        raise ValueError("labels are all missing; due is a cluster for each cell.")
    return codes, list(names)


def check_edges(edges: Any, names: list[Any]) -> list[tuple[Any, Any]]:
    """Check known transitions: pairs of clusters that exist."""
    edges = list(edges)
    if not edges:
        raise ValueError("edges is empty; due is a list of (source, target), such as [('stem', 'mature')].")
    odd = [edge for edge in edges if isinstance(edge, str) or np.size(edge) != 2]
    if odd:
        raise ValueError(f"edges has {odd[0]!r}; due are pairs (source, target) of labels.")
    unknown = sorted({str(name) for edge in edges for name in edge if name not in names})
    if unknown:
        raise ValueError(f"edges name {unknown}, which labels lack. They have {list(map(str, names))}.")
    return [(source, target) for source, target in edges]
