"""The dynamical model of RNA velocity: kinetics of every gene along one latent time that all genes share."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy import sparse
from scipy.sparse.csgraph import connected_components, laplacian
from scipy.sparse.linalg import eigsh
from sklearn.utils import Bunch, check_array
from sklearn.utils.extmath import randomized_svd
from torch import Tensor

from skfusion.decoders.kinetics import DURATION, Transcription, splicing_velocity
from skfusion.singlecell.neighbors import check_same_shape

_N_BINS = 100
_N_TIMES = 400
"""Points in time that a cell may be assigned to, at the end."""
_STEPS = 15
_RATE = 0.05
_TRIALS = ((6, 2), (12, 1))
"""Rounds, after which so many of the starts go on."""
_LEAST_NOISE = 1e-3
_LOG_RATES = (-8.0, 6.0)
_CHUNK = 4096


@dataclass(frozen=True)
class Dynamics:
    """Fitted kinetics of genes, in the units of the moments and of latent time.

    Attributes
    ----------
    before, alpha, after : ndarray (n_genes,)
        Rates of transcription before `start`, from `start` to `stop`, and after.
    beta, gamma : ndarray (n_genes,)
        Rates of splicing and degradation.
    scaling : ndarray (n_genes,)
        What is seen of unspliced counts, relative to what is seen of spliced ones.
    start, stop : ndarray (n_genes,)
        When transcription switches.
    noise : ndarray (n_genes,)
        Variance of the residuals, in units of each layer's variance.
    unspliced_sd, spliced_sd : ndarray (n_genes,)
        Standard deviations of the training moments.
    log_likelihood : float
        Mean over cells and genes.
    """

    before: Any
    alpha: Any
    after: Any
    beta: Any
    gamma: Any
    scaling: Any
    start: Any
    stop: Any
    noise: Any
    unspliced_sd: Any
    spliced_sd: Any
    log_likelihood: float = np.nan

    def at(self, time: Any) -> tuple[Any, Any]:
        """Return unspliced and spliced moments (n_times, n_genes) at `time` (n_times,)."""
        genes = Transcription._make([torch.from_numpy(getattr(self, name)) for name in Transcription._fields])
        u, s = genes.at(torch.as_tensor(np.asarray(time, dtype=np.float64))[:, None])
        return u.numpy() * self.scaling, s.numpy()

    def velocity(self, time: Any) -> Any:
        """Return ds/dt (n_times, n_genes) at `time` (n_times,), in spliced moments a unit of latent time."""
        u, s = self.at(time)
        return splicing_velocity(u / self.scaling, s, self.beta, self.gamma)

    def time(self, spliced: Any, unspliced: Any) -> Any:
        """Return the most likely latent time of cells.

        Parameters
        ----------
        spliced, unspliced : ndarray (n_cells, n_genes)
            Moments; a row of NaN is a layer that the cell lacks.

        Returns
        -------
        ndarray (n_cells,)
            From 0 to 20; NaN for a cell without a layer.
        """
        grid = np.linspace(0, DURATION, _N_TIMES)
        u, s = self.at(grid)
        scale = np.sqrt(self.noise)
        pairs = [(unspliced, u, scale * self.unspliced_sd), (spliced, s, scale * self.spliced_sd)]
        found = np.empty(len(spliced))
        for begin in range(0, len(spliced), _CHUNK):
            rows = slice(begin, begin + _CHUNK)
            distance = np.zeros((len(spliced[rows]), len(grid)))
            lacks = np.ones(len(distance), dtype=bool)
            for values, curve, unit in pairs:
                there = ~np.isnan(values[rows]).any(axis=1)
                distance[there] += _distances(values[rows][there] / unit, curve / unit)
                lacks &= ~there
            found[rows] = np.where(lacks, np.nan, grid[distance.argmin(axis=1)])
        return found


def dynamical_velocity(
    spliced_moments: Any, unspliced_moments: Any, connectivities: Any, *, max_iter: int = 30, tol: float = 1e-3
) -> Bunch:
    """Velocity by kinetics of all genes along one latent time, fitted by expectation-maximisation.

    A cell has one time, which all genes share, so that their rates are on one scale; only how fast the clock runs is
    left open. Transcription of a gene goes from one rate to a second and to a third, at two points in time; splicing
    and degradation are as in [1]_. Residuals of both layers are normal with one variance a gene, in units of each
    layer's own, so that neither layer can be explained away. Cells are assigned to the time on whose curve they most
    likely lie; kinetics follow from the means of cells of like times, by gradient steps.

    It starts from an order along the neighbour graph, and from one along the first principal component, each in both
    directions, and keeps the likeliest: unspliced counts lead spliced ones in one direction alone. There is one course:
    where fates branch, cells of all branches lie on the same curve.

    Parameters
    ----------
    spliced_moments, unspliced_moments : array-like of shape (n_cells, n_genes)
        First moments of both layers, of genes that vary in both.
    connectivities : CSR matrix of shape (n_cells, n_cells)
        Neighbours.
    max_iter : int, default=30
        Rounds at most.
    tol : float, default=1e-3
        It stops when the mean log-likelihood of a cell and gene gains less in a round.

    Returns
    -------
    Bunch
        ``velocity`` (n_cells, n_genes), spliced moments a unit of latent time; ``latent_time`` (n_cells,) from 0 to
        20; ``dynamics``, the kinetics, with ``time(spliced, unspliced)``, ``velocity(time)`` and ``at(time)`` for
        other cells.

    Raises
    ------
    ValueError
        Where shapes differ, or a gene does not vary in a layer.

    References
    ----------
    .. [1] Bergen et al., "Generalizing RNA velocity to transient cell states through dynamical modeling", Nature
       Biotechnology 38, 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion.singlecell import dynamical_velocity, nearest_neighbors
    >>> time, off = np.linspace(0, 20, 60)[:, None], np.linspace(4, 16, 5)
    >>> unspliced = np.where(time < off, 1 - np.exp(-time), (1 - np.exp(-off)) * np.exp(off - time))
    >>> spliced = np.cumsum(unspliced, axis=0) / 9
    >>> found = dynamical_velocity(spliced, unspliced, nearest_neighbors(spliced, 5), max_iter=5)
    >>> found.velocity.shape, found.latent_time.shape
    ((60, 5), (60,))
    """
    spliced, unspliced = (
        check_array(moments, dtype=np.float64, input_name=name)
        for moments, name in ((spliced_moments, "spliced_moments"), (unspliced_moments, "unspliced_moments"))
    )
    check_same_shape(spliced_moments=spliced, unspliced_moments=unspliced)
    if connectivities.shape != (len(spliced), len(spliced)):
        raise ValueError(
            f"connectivities has shape {connectivities.shape}; due is {(len(spliced), len(spliced))}, a row and a "
            "column a cell."
        )
    if max_iter < 1:
        raise ValueError(f"max_iter is {max_iter}; due is 1 or more.")
    still = np.flatnonzero((spliced.std(axis=0) == 0) | (unspliced.std(axis=0) == 0))
    if len(still):
        raise ValueError(
            f"{len(still)} genes do not vary in one of the layers, such as that of column {still[0]}; leave them out."
        )
    dynamics = fit_dynamics(spliced, unspliced, connectivities, max_iter=max_iter, tol=tol)
    time = dynamics.time(spliced, unspliced)
    return Bunch(velocity=dynamics.velocity(time), latent_time=time, dynamics=dynamics)


def fit_dynamics(
    spliced: Any, unspliced: Any, connectivities: Any, *, max_iter: int = 30, tol: float = 1e-3
) -> Dynamics:
    """Fit what `dynamical_velocity` describes to moments of float64, and return the kinetics."""
    starts = [order * sign for order in _orders(spliced, unspliced, connectivities) for sign in (1, -1)]
    runs = [_Run(spliced, unspliced, start) for start in starts]
    done = 0
    for rounds, n_kept in _TRIALS:
        for run in runs:
            for _ in range(min(rounds, max_iter - done)):
                run.round()
        done += rounds
        runs = sorted(runs, key=lambda run: run.log_likelihood)[-n_kept:]
    (best,) = runs
    for _ in range(done, max_iter):
        before = best.log_likelihood
        best.round()
        if best.log_likelihood - before < tol:
            break
    return best.result()


class _Parameters(NamedTuple):
    """Unconstrained parameters of genes; rates and scaling by their logarithms."""

    before: Tensor
    alpha: Tensor
    after: Tensor
    beta: Tensor
    gamma: Tensor
    scaling: Tensor
    start: Tensor
    width: Tensor

    def genes(self) -> Transcription:
        rates = [getattr(self, name).clamp(*_LOG_RATES).exp() for name in ("before", "alpha", "after", "beta", "gamma")]
        start = self.start.clamp(-DURATION, DURATION)
        return Transcription._make([*rates, start, start + F.softplus(self.width)])


class _Run:
    """Expectation-maximisation from one order of the cells."""

    def __init__(self, spliced: Any, unspliced: Any, order: Any) -> None:
        # One unit for both layers of a gene, so that rates keep their meaning.
        self.sd = spliced.std(axis=0), unspliced.std(axis=0)
        unit = self.sd[0]
        self.s, self.u = (torch.from_numpy(layer / unit) for layer in (spliced, unspliced))
        self.u_sd = torch.from_numpy(self.sd[1] / unit)
        self.grid = torch.linspace(0, DURATION, _N_BINS)
        ranks = np.argsort(np.argsort(order)) / max(len(order) - 1, 1)
        self.bins = torch.from_numpy(np.round(ranks * (_N_BINS - 1)).astype(np.int64))
        self.noise = torch.full_like(self.u_sd, 0.3)
        self.parameters = self._guess()
        self.optimizer = torch.optim.Adam(list(self.parameters), lr=_RATE)

    def _guess(self) -> _Parameters:
        """Guess that genes are off, on up to where the spliced count is highest, and off again."""
        most_u, most_s = (torch.quantile(layer, 0.98, dim=0).clamp(min=1e-3) for layer in (self.u, self.s))
        highest = self.s.topk(max(len(self.s) // 50, min(5, len(self.s))), dim=0).indices
        peak = self.grid[self.bins][highest].median(dim=0).values.clamp(1, DURATION - 1)
        beta = torch.full_like(most_u, 0.5)
        low = 0.05 * beta * most_u
        rates = [low, beta * most_u, low, beta, (beta * most_u / most_s).clamp(0.02, 10), torch.ones_like(beta)]
        width = peak + torch.log(-torch.expm1(-peak))  # softplus of it is the peak
        parameters = [*(rate.log() for rate in rates), torch.zeros_like(beta), width]
        # Single precision is enough for the steps, which take most of the time.
        return _Parameters._make([parameter.float().requires_grad_(True) for parameter in parameters])

    def curves(self, grid: Tensor) -> tuple[Tensor, Tensor]:
        u, s = self.parameters.genes().at(grid[:, None])
        return u * self.parameters.scaling.exp(), s

    def round(self) -> None:
        """Move the kinetics towards the cells, then the cells to their times."""
        counts = torch.bincount(self.bins, minlength=_N_BINS).double()[:, None]
        mean_u, mean_s = (
            (
                torch.zeros(_N_BINS, layer.shape[1], dtype=torch.float64).index_add_(0, self.bins, layer)
                / counts.clamp(min=1)
            )
            for layer in (self.u / self.u_sd, self.s)
        )
        weight = counts / (2 * self.noise * len(self.bins))
        mean_u, mean_s, weight, unit = (part.float() for part in (mean_u, mean_s, weight, self.u_sd))
        for _ in range(_STEPS):
            self.optimizer.zero_grad()
            u, s = self.curves(self.grid)
            error = (u / unit - mean_u).square() + (s - mean_s).square()
            # A scale that neither layer asks for stays near 1.
            prior = self.parameters.scaling.square().sum() / (2 * len(self.bins))
            ((weight * error).sum() + prior).backward()
            self.optimizer.step()
        with torch.no_grad():
            u, s = (curve.double() for curve in self.curves(self.grid))
            residual = ((u[self.bins] - self.u) / self.u_sd).square() + (s[self.bins] - self.s).square()
            self.noise = (residual.mean(dim=0) / 2).clamp(min=_LEAST_NOISE)
            scale = self.noise.sqrt()
            cells = torch.cat([self.u / self.u_sd, self.s], dim=1) / scale.repeat(2)
            curve = torch.cat([u / self.u_sd, s], dim=1) / scale.repeat(2)
            nearest = _distances(cells, curve).min(dim=1)
            self.bins = nearest.indices
            # Of a cell and gene, up to a constant.
            of_noise = self.noise.log().sum()
            self.log_likelihood = float(-(of_noise + nearest.values.mean() / 2) / len(self.noise))

    def result(self) -> Dynamics:
        with torch.no_grad():
            genes = {name: value.double().numpy() for name, value in self.parameters.genes()._asdict().items()}
            scaling = self.parameters.scaling.exp().double().numpy()
        unit = self.sd[0]
        for name in ("before", "alpha", "after"):
            genes[name] = genes[name] * unit
        return Dynamics(
            **genes,
            scaling=scaling,
            noise=self.noise.numpy(),
            unspliced_sd=self.sd[1],
            spliced_sd=self.sd[0],
            log_likelihood=self.log_likelihood,
        )


def _distances(a: Any, b: Any) -> Any:
    """Squared distances of rows of `a` (n, d) to rows of `b` (k, d), (n, k)."""
    return (a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * (a @ b.T)


def _orders(spliced: Any, unspliced: Any, connectivities: Any) -> list[Any]:
    """Order cells along the graph (its Fiedler vector), where it is connected, and along the first component."""
    both = np.hstack([(layer - layer.mean(axis=0)) / layer.std(axis=0) for layer in (spliced, unspliced)])
    orders = [randomized_svd(both, 1, random_state=0)[0][:, 0]]
    graph = sparse.csr_matrix(connectivities, dtype=np.float64)
    graph = graph.maximum(graph.T)
    if connected_components(graph, directed=False)[0] == 1 and graph.shape[0] > 3:
        # The largest of 2 - L are the smallest of the normalised Laplacian L, and are found much faster.
        flipped = 2 * sparse.identity(graph.shape[0]) - laplacian(graph, normed=True)
        start = np.random.default_rng(0).normal(size=graph.shape[0])
        values, vectors = eigsh(flipped, k=2, which="LA", v0=start)
        orders.append(vectors[:, values.argmin()] / np.sqrt(np.asarray(graph.sum(axis=1)).ravel()))
    return orders
