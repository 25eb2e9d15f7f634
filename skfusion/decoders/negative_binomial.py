"""The negative binomial distribution, by its mean: counts that vary more than a Poisson's."""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Gamma, constraints
from torch.distributions.utils import broadcast_all


class NegativeBinomial(Distribution):
    r"""Counts of mean μ and variance μ + μ²/θ [1]_: a Poisson whose rate is a Gamma of shape θ and mean μ.

    .. math::
        \log p(x) = \log\frac{\Gamma(x + \theta)}{\Gamma(\theta)\, x!} + \theta \log\frac{\theta}{\theta + \mu}
        + x \log\frac{\mu}{\theta + \mu}

    Parameters
    ----------
    mu : Tensor
        Mean, above 0.
    theta : Tensor
        Inverse dispersion, above 0; of any shape that broadcasts with `mu`.
    validate_args : bool, default=None
        Whether parameters and values are checked, which waits for the device; None is torch's default.

    References
    ----------
    .. [1] Lopez et al., "Deep generative modeling for single-cell transcriptomics", Nature Methods 15, 2018.

    Examples
    --------
    >>> import torch
    >>> from skfusion.decoders import NegativeBinomial
    >>> counts = NegativeBinomial(torch.tensor(2.0), torch.tensor(1.5))
    >>> round(counts.log_prob(torch.tensor(3.0)).item(), 4)
    -2.167
    >>> round(counts.variance.item(), 4)
    4.6667
    """

    arg_constraints = {"mu": constraints.positive, "theta": constraints.positive}
    support = constraints.nonnegative_integer

    def __init__(self, mu: Tensor, theta: Tensor, validate_args: bool | None = None) -> None:
        self.mu, self.theta = broadcast_all(mu, theta)
        # As it came: functions of a theta that all cells share need not be computed for each of them.
        self._theta = torch.as_tensor(theta, dtype=self.mu.dtype, device=self.mu.device)
        super().__init__(self.mu.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        """Return μ."""
        mean: Tensor = self.mu
        return mean

    @property
    def variance(self) -> Tensor:
        """Return μ + μ²/θ."""
        variance: Tensor = self.mu + self.mu.square() / self.theta
        return variance

    def expand(self, batch_shape: Any, _instance: Any = None) -> "NegativeBinomial":
        """Return the same distribution over a batch of another shape."""
        return NegativeBinomial(self.mu.expand(batch_shape), self.theta.expand(batch_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability of counts `value`, as numbers of mu's dtype."""
        if self._validate_args:
            self._validate_sample(value)
        theta = self._theta
        ways = torch.lgamma(value + theta) - torch.lgamma(theta) - torch.lgamma(value + 1)
        # log1p keeps its digits where theta is large, and the distribution close to a Poisson.
        none: Tensor = torch.log1p(self.mu / theta)
        return ways - (theta + value) * none + value * (self.mu.log() - theta.log())

    @torch.no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw counts of shape `sample_shape` and that of the parameters."""
        rate: Tensor = Gamma(self.theta, self.theta / self.mu, validate_args=False).sample(sample_shape)
        return torch.poisson(rate)
