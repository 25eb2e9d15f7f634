"""Moments of distributions over counts that have no closed form."""

from typing import Any

import torch
from torch import Tensor

_FEW = 1e-6


@torch.no_grad()
def expected_log1p(counts: Any, scale: Tensor | float = 1.0, *, n_terms: int = 64) -> Tensor:
    r"""Return :math:`E[\log(1 + s x)]` of counts x, which is below :math:`\log(1 + s\,E[x])`.

    It adds up `n_terms` probabilities; for what is left it expands the logarithm about its mean, to the variance.

    Parameters
    ----------
    counts : Distribution
        Over counts, with `log_prob`, `mean` and `variance`.
    scale : Tensor or float, default=1.0
        s, of a shape that broadcasts with the counts.
    n_terms : int, default=64
        How many counts, from 0 on, are added up.

    Returns
    -------
    Tensor
        Of the shape of the counts.

    Examples
    --------
    >>> import torch
    >>> from torch.distributions import Poisson
    >>> from skfusion.decoders.moments import expected_log1p
    >>> round(expected_log1p(Poisson(torch.tensor(2.0))).item(), 4)
    0.978
    """
    mean, square = counts.mean, counts.variance + counts.mean.square()
    scale = torch.as_tensor(scale, dtype=mean.dtype, device=mean.device)
    total, mass, first, second = (torch.zeros_like(mean) for _ in range(4))
    for x in range(n_terms):
        p = counts.log_prob(torch.full_like(mean, x)).exp()
        total += p * torch.log1p(scale * x)
        mass += p
        first += x * p
        second += x**2 * p
    left = 1 - mass
    share = left.clamp(min=_FEW)
    beyond = ((mean - first) / share).clamp(min=float(n_terms))
    variance = ((square - second) / share - beyond.square()).clamp(min=0)
    tail = torch.log1p(scale * beyond) - variance * (scale / (1 + scale * beyond)).square() / 2
    # Rounding leaves a little mass that lies nowhere.
    return total + torch.where(left > _FEW, left * tail.clamp(min=0), 0.0)
