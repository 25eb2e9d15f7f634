"""Moments of distributions over counts that have no closed form."""

from typing import Any

import torch
from torch import Tensor

_FEW = 1e-6


@torch.no_grad()
def expected_log1p(counts: Any, scale: Tensor | float = 1.0, *, n_terms: int = 64) -> Tensor:
    r"""Return :math:`E[\log(1 + s x)]` of counts x, which is below :math:`\log(1 + s\,E[x])`.

    It adds up `n_terms` probabilities; what is left counts as if it lay at its mean.

    Parameters
    ----------
    counts : Distribution
        Over counts, with `log_prob` and `mean`.
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
    mean = counts.mean
    total, mass, first = torch.zeros_like(mean), torch.zeros_like(mean), torch.zeros_like(mean)
    for x in range(n_terms):
        p = counts.log_prob(torch.full_like(mean, x)).exp()
        total += p * torch.log1p(torch.as_tensor(scale * x, dtype=mean.dtype, device=mean.device))
        mass += p
        first += x * p
    left = (1 - mass).clamp(min=0)
    # Rounding leaves a little mass that lies nowhere.
    beyond = torch.where(left > _FEW, ((mean - first) / left.clamp(min=_FEW)).clamp(min=float(n_terms)), 0.0)
    return total + torch.where(left > _FEW, left * torch.log1p(scale * beyond), 0.0)
