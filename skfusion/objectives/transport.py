"""Exact optimal transport, for costs that need no gradient."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment, linprog
from scipy.sparse import csr_array, eye_array, kron, vstack

Floats = NDArray[np.float64]
_SAME_MASS = 1e-9
"""By how much of itself the mass of rows may differ from that of columns."""
_TOLERANCE = 1e-10
"""By how much a linear program may miss a sum; the least that HiGHS takes."""


def exact_plan(cost: ArrayLike, a: ArrayLike | None = None, b: ArrayLike | None = None) -> Floats:
    r"""Return the plan of least cost between two distributions.

    It minimises :math:`\sum_{ij} P_{ij} C_{ij}` over :math:`P \geq 0` with row sums `a` and column sums `b`: an
    assignment where both are uniform over as many, else a linear program. The plan is a corner of its polytope, with at
    most r + k - 1 entries that are not 0.

    Parameters
    ----------
    cost : array-like of shape (r, k)
        What it costs to move a unit from each row to each column; finite.
    a, b : array-like of shape (r,) and (k,), default=None
        Masses, at least 0, that add up to the same; None is uniform, of mass 1.

    Returns
    -------
    ndarray of float64 (r, k)
        The plan. Rows and columns without mass are 0.

    Examples
    --------
    >>> from skfusion.objectives.transport import exact_plan
    >>> exact_plan([[0.0, 1.0, 1.0], [1.0, 1.0, 0.0]], b=[0.5, 0.25, 0.25])
    array([[0.5 , 0.  , 0.  ],
           [0.  , 0.25, 0.25]])
    """
    cost = np.asarray(cost, dtype=np.float64)
    if cost.ndim != 2 or not cost.size:
        raise ValueError(f"cost has shape {cost.shape}; due is a matrix of at least one row and one column.")
    if not np.isfinite(cost).all():
        raise ValueError("cost holds NaN or inf; give masses of 0 to what shall not be matched.")
    rows, columns = (_masses(name, given, n) for name, given, n in zip("ab", (a, b), cost.shape))
    if abs(rows.sum() - columns.sum()) > _SAME_MASS * rows.sum():
        raise ValueError(f"a adds up to {rows.sum()} and b to {columns.sum()}; due are masses that add up to the same.")
    plan = np.zeros(cost.shape)
    # What has no mass is left out: it would only make the program degenerate.
    used = np.ix_(rows > 0, columns > 0)
    plan[used] = _plan(cost[used], rows[rows > 0], columns[columns > 0])
    return plan


def _masses(name: str, given: ArrayLike | None, n: int) -> Floats:
    if given is None:
        return np.full(n, 1 / n)
    masses = np.asarray(given, dtype=np.float64)
    if masses.shape != (n,):
        raise ValueError(f"{name} has shape {masses.shape}; due is ({n},), one mass for each of the cost's.")
    if not (np.isfinite(masses).all() and (masses >= 0).all() and masses.any()):
        raise ValueError(f"{name} is {given!r}; due are finite masses of at least 0 that are not all 0.")
    return masses


def _plan(cost: Floats, a: Floats, b: Floats) -> Floats:
    """Return the plan between masses above 0."""
    r, k = cost.shape
    if 1 in (r, k):
        return np.outer(a, b) / a.sum()
    if r == k and np.ptp(np.concatenate([a, b])) <= _SAME_MASS * a[0]:
        plan = np.zeros((r, k))
        plan[linear_sum_assignment(cost)] = a[0]
        return plan
    return _corner(cost, a, b * (a.sum() / b.sum()))


def _corner(cost: Floats, a: Floats, b: Floats) -> Floats:
    """Return the plan of a linear program, a corner of what its sums allow."""
    r, k = cost.shape
    sums = vstack([kron(eye_array(r), np.ones((1, k))), kron(np.ones((1, r)), eye_array(k))])
    # Sums are met up to the tolerance, so masses are brought to an average of 1 before.
    unit = a.sum() / max(r, k)
    found = linprog(
        cost.ravel(),
        A_eq=csr_array(sums)[:-1],  # one sum follows from all others
        b_eq=np.concatenate([a, b])[:-1] / unit,
        method="highs-ds",
        options={"primal_feasibility_tolerance": _TOLERANCE},
    )
    if found.x is None:
        raise RuntimeError(f"no plan of least cost was found: {found.message}")
    # Rounding leaves entries of a degenerate corner next to 0, on either side.
    return np.where(found.x > _TOLERANCE, found.x, 0.0).reshape(r, k) * unit
