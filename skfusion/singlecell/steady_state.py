"""The steady-state model of RNA velocity, deterministic and stochastic."""

from typing import Any

import numpy as np
from sklearn.utils import Bunch, check_array

from skfusion.singlecell.neighbors import check_same_shape


def steady_state_velocity(
    spliced_moments: Any,
    unspliced_moments: Any,
    *,
    second_moments: tuple[Any, Any] | None = None,
    offset: bool = False,
    lower: float = 5,
    upper: float = 95,
    min_r2: float = 0.01,
    min_gamma: float = 0.01,
) -> Bunch:
    r"""Velocity as the distance from a steady state that the extreme cells of each gene show [1]_.

    Where a gene is in its steady state, u = γ' s, with γ' = γ / β. γ' is fitted by least squares through the origin
    over the cells of largest s / max s + u / max u, and the velocity is u − γ' s, in units of β.

    Parameters
    ----------
    spliced_moments, unspliced_moments : array-like of shape (n_cells, n_genes)
        First moments of both layers.
    second_moments : tuple of two array-likes of shape (n_cells, n_genes), default=None
        As `second_moments` returns them. With them the model is the stochastic one [2]_: u + 2 us = γ' (2 ss − s) in
        the steady state as well, and both equations are weighted by their residual variances. Velocity genes are those
        of the first equation alone.
    offset : bool, default=False
        Fit u = γ' s + o, with o at least 0, over the cells of both extremes.
    lower, upper : float, default=5 and 95
        Percentiles beyond which a cell is extreme. `lower` is used with `offset` alone.
    min_r2, min_gamma : float, default=0.01
        A gene is a velocity gene where its R² over all cells and its γ' are above these.

    Returns
    -------
    Bunch
        ``gamma``, ``offset`` and ``r2`` (n_genes,), ``velocity`` (n_cells, n_genes) and ``velocity_genes`` (n_genes,)
        bool. A gene without spliced counts in its extreme cells has γ' = 0.

    References
    ----------
    .. [1] La Manno et al., "RNA velocity of single cells", Nature, 2018.
    .. [2] Bergen et al., "Generalizing RNA velocity to transient cell states through dynamical modeling", Nature
       Biotechnology, 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion.singlecell import steady_state_velocity
    >>> spliced = np.array([[0.0], [1.0], [2.0], [4.0]])
    >>> unspliced = np.array([[0.0], [0.9], [0.8], [2.0]])  # the last cell is in the steady state
    >>> result = steady_state_velocity(spliced, unspliced)
    >>> result.gamma, result.velocity.ravel().round(1)
    (array([0.5]), array([ 0. ,  0.4, -0.2,  0. ]))
    """
    s, u = (_check(m, n) for m, n in ((spliced_moments, "spliced_moments"), (unspliced_moments, "unspliced_moments")))
    check_same_shape(spliced_moments=s, unspliced_moments=u)
    if not 0 <= lower < upper <= 100:
        raise ValueError(
            f"lower and upper are {lower} and {upper}; due are percentiles with 0 <= lower < upper <= 100."
        )
    extreme = extreme_cells(s, u, lower if offset else None, upper)
    gamma, shift = fit_line(s, u, extreme, offset)
    velocity = u - gamma * s - shift
    r2 = 1 - _ratio((velocity**2).sum(axis=0), ((u - u.mean(axis=0)) ** 2).sum(axis=0), empty=1.0)
    kept = (r2 > min_r2) & (gamma > min_gamma)
    if second_moments is not None:
        squares, products = (_check(moment, "second_moments") for moment in second_moments)
        check_same_shape(spliced_moments=s, squares=squares, products=products)
        extreme |= s >= np.percentile(s, upper, axis=0)
        gamma = fit_both(s, u - shift, 2 * squares - s, 2 * products + u, extreme, gamma)
        velocity = u - gamma * s - shift
    return Bunch(gamma=gamma, offset=shift, r2=r2, velocity=velocity, velocity_genes=kept)


def extreme_cells(s: np.ndarray, u: np.ndarray, lower: float | None, upper: float) -> np.ndarray:
    """Cells, by gene, beyond the percentiles of s / max s + u / max u."""
    size = _ratio(s, s.max(axis=0)) + _ratio(u, u.max(axis=0))  # (n_cells, n_genes)
    extreme = size >= np.percentile(size, upper, axis=0)
    return extreme if lower is None else extreme | (size <= np.percentile(size, lower, axis=0))


def fit_line(x: np.ndarray, y: np.ndarray, weight: np.ndarray, offset: bool) -> tuple[np.ndarray, np.ndarray]:
    """Least squares of y = slope x (+ intercept, where it is not negative), by column, over the cells of weight 1."""
    xx, xy = (weight * x * x).sum(axis=0), (weight * x * y).sum(axis=0)
    slope, shift = _ratio(xy, xx), np.zeros(x.shape[1])
    if not offset:
        return slope, shift
    n, sum_x, sum_y = weight.sum(axis=0), (weight * x).sum(axis=0), (weight * y).sum(axis=0)
    free = _ratio(n * xy - sum_x * sum_y, n * xx - sum_x**2)
    intercept = (sum_y - free * sum_x) / n
    return np.where(intercept > 0, free, slope), np.maximum(intercept, 0)


def fit_both(
    s: np.ndarray, u: np.ndarray, x2: np.ndarray, y2: np.ndarray, extreme: np.ndarray, gamma: np.ndarray
) -> np.ndarray:
    """Refit γ' to u = γ' s, over extreme cells, and y2 = γ' x2, over all, each by its residual variance."""
    second, _ = fit_line(x2, y2, np.ones_like(extreme), offset=False)
    # Each equation times the other's variance: one that holds exactly then stands alone.
    w1, w2 = np.var(y2 - second * x2, axis=0), np.var(u - gamma * s, axis=0)  # (n_genes,)
    xy = w1 * (extreme * s * u).sum(axis=0) + w2 * (x2 * y2).sum(axis=0)
    xx = w1 * (extreme * s * s).sum(axis=0) + w2 * (x2 * x2).sum(axis=0)
    return np.where(xx > 0, _ratio(xy, xx), gamma)


def _check(values: Any, name: str) -> np.ndarray:
    return check_array(values, dtype=(np.float64, np.float32), input_name=name)


def _ratio(above: Any, below: Any, empty: float = 0.0) -> np.ndarray:
    """Divide, and give `empty` where there is nothing to divide by."""
    above, below = np.broadcast_arrays(np.asarray(above, dtype=float), below)
    return np.divide(above, below, out=np.full(above.shape, empty), where=below > 0)
