"""The kinetics of splicing: how unspliced and spliced RNA follow the rate of transcription."""

from typing import NamedTuple

import torch
from torch import Tensor

DURATION = 20.0
"""Latent time runs from 0 to this; its unit is arbitrary, since counts do not tell how fast a clock runs."""
_SERIES_BELOW = 1e-3
"""Below it three terms of the series are exact to float64, and expm1(x) / x has no gradient at 0."""


def unspliced_spliced(
    time: Tensor, alpha: Tensor, beta: Tensor, gamma: Tensor, u0: Tensor | float = 0.0, s0: Tensor | float = 0.0
) -> tuple[Tensor, Tensor]:
    r"""Solve :math:`du/dt = \alpha - \beta u`, :math:`ds/dt = \beta u - \gamma s` from `u0`, `s0` at time 0 [1]_.

    .. math::
        u(t) &= u_0 e^{-\beta t} + \frac{\alpha}{\beta} (1 - e^{-\beta t}) \\
        s(t) &= s_0 e^{-\gamma t} + \frac{\alpha}{\gamma} (1 - e^{-\gamma t})
        + (\alpha - \beta u_0) \frac{e^{-\gamma t} - e^{-\beta t}}{\gamma - \beta}

    At :math:`\beta = \gamma` the last fraction is its limit, :math:`-t e^{-\beta t}`.

    Parameters
    ----------
    time : Tensor
        Time since `u0` and `s0`, at least 0; of any shape that broadcasts with the others.
    alpha, beta, gamma : Tensor
        Rates of transcription (counts a unit of time, at least 0), splicing and degradation (1 / time, above 0).
    u0, s0 : Tensor or float, default=0.0
        Unspliced and spliced counts at time 0.

    Returns
    -------
    u, s : Tensor
        Unspliced and spliced counts at `time`.

    References
    ----------
    .. [1] Bergen et al., "Generalizing RNA velocity to transient cell states through dynamical modeling", Nature
       Biotechnology 38, 2020.

    Examples
    --------
    >>> import torch
    >>> from skfusion.decoders.kinetics import unspliced_spliced
    >>> alpha, beta, gamma = torch.tensor([5.0, 0.5, 0.3], dtype=torch.float64)
    >>> u, s = unspliced_spliced(torch.tensor(3.0, dtype=torch.float64), alpha, beta, gamma)
    >>> round(u.item(), 6), round(s.item(), 6)
    (7.768698, 5.304518)
    """
    of_u, of_s = torch.exp(-beta * time), torch.exp(-gamma * time)
    u = u0 * of_u - alpha / beta * torch.expm1(-beta * time)
    s = s0 * of_s - alpha / gamma * torch.expm1(-gamma * time) + (alpha - beta * u0) * _difference(time, beta, gamma)
    return u, s


def _difference(time: Tensor, beta: Tensor, gamma: Tensor) -> Tensor:
    """(exp(-γt) - exp(-βt)) / (γ - β), with its limit where the rates are equal.

    The slower rate is taken out, so that nothing overflows.
    """
    x = (gamma - beta).abs() * time
    small = x < _SERIES_BELOW
    apart = torch.where(small, 1.0, x)
    share = torch.where(small, 1 - x / 2 + x.square() / 6 - x**3 / 24, -torch.expm1(-apart) / apart)
    return -time * torch.exp(-torch.minimum(beta, gamma) * time) * share


def splicing_velocity(u: Tensor, s: Tensor, beta: Tensor, gamma: Tensor) -> Tensor:
    """Return ds/dt = βu - γs, in spliced counts a unit of time."""
    return beta * u - gamma * s


class Transcription(NamedTuple):
    """Kinetics of genes whose transcription switches twice: each field has a value a gene.

    Attributes
    ----------
    before, alpha, after : Tensor
        Rates of transcription up to `start`, from there to `stop`, and then. At time 0 the gene is in the steady state
        of `before`.
    beta, gamma : Tensor
        Rates of splicing and degradation.
    start, stop : Tensor
        When transcription switches on and off.
    """

    before: Tensor
    alpha: Tensor
    after: Tensor
    beta: Tensor
    gamma: Tensor
    start: Tensor
    stop: Tensor

    def at(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """Return unspliced and spliced counts at `time`, which broadcasts with genes."""
        steady = self.before / self.beta, self.before / self.gamma
        on = (time - self.start).clamp(min=0)
        u, s = unspliced_spliced(torch.minimum(on, self.stop - self.start), self.alpha, self.beta, self.gamma, *steady)
        return unspliced_spliced((time - self.stop).clamp(min=0), self.after, self.beta, self.gamma, u, s)
