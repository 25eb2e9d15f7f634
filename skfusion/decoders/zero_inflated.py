"""The zero-inflated negative binomial distribution: counts some of whose zeros have another cause."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.distributions.utils import broadcast_all

from skfusion.decoders.negative_binomial import NegativeBinomial


class ZeroInflatedNegativeBinomial(Distribution):
    r"""With probability π a zero, else a count of a negative binomial of mean μ and inverse dispersion θ [1]_.

    .. math::
        p(0) = \pi + (1 - \pi)\, \mathrm{NB}(0), \qquad p(x) = (1 - \pi)\, \mathrm{NB}(x), \quad x > 0

    Parameters
    ----------
    mu : Tensor
        Mean of the negative binomial, above 0.
    theta : Tensor
        Its inverse dispersion, above 0.
    pi_logit : Tensor
        Log-odds of π; all three are of shapes that broadcast. At minus infinity it is the negative binomial.
    validate_args : bool, default=None
        Whether parameters and values are checked, which waits for the device; None is torch's default.

    References
    ----------
    .. [1] Lopez et al., "Deep generative modeling for single-cell transcriptomics", Nature Methods 15, 2018.

    Examples
    --------
    >>> import torch
    >>> from skfusion.decoders import ZeroInflatedNegativeBinomial
    >>> counts = ZeroInflatedNegativeBinomial(torch.tensor(2.0), torch.tensor(1.5), torch.tensor(0.4))
    >>> round(counts.log_prob(torch.tensor(0.0)).item(), 4)
    -0.3407
    >>> round(counts.mean.item(), 4)
    0.8026
    """

    arg_constraints = {"mu": constraints.positive, "theta": constraints.positive, "pi_logit": constraints.dependent}
    support = constraints.nonnegative_integer

    def __init__(self, mu: Tensor, theta: Tensor, pi_logit: Tensor, validate_args: bool | None = None) -> None:
        self.mu, self.theta, self.pi_logit = broadcast_all(mu, theta, pi_logit)
        super().__init__(self.mu.shape, validate_args=validate_args)

    @property
    def counts(self) -> NegativeBinomial:
        """Return the negative binomial that is inflated."""
        return NegativeBinomial(self.mu, self.theta, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """Return (1 - π) μ."""
        mean: Tensor = torch.sigmoid(-self.pi_logit) * self.mu
        return mean

    @property
    def variance(self) -> Tensor:
        """Return (1 - π) (μ + μ²/θ + π μ²)."""
        inflated = self.counts.variance + torch.sigmoid(self.pi_logit) * self.mu.square()
        variance: Tensor = torch.sigmoid(-self.pi_logit) * inflated
        return variance

    def expand(self, batch_shape: Any, _instance: Any = None) -> "ZeroInflatedNegativeBinomial":
        """Return the same distribution over a batch of another shape."""
        mu, theta, pi_logit = (part.expand(batch_shape) for part in (self.mu, self.theta, self.pi_logit))
        return ZeroInflatedNegativeBinomial(mu, theta, pi_logit, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability of counts `value`, as numbers of mu's dtype."""
        if self._validate_args:
            self._validate_sample(value)
        counted = self.counts.log_prob(value)
        zero = torch.logaddexp(self.pi_logit, counted)
        return torch.where(value == 0, zero, counted) - F.softplus(self.pi_logit)

    @torch.no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw counts of shape `sample_shape` and that of the parameters."""
        counts = self.counts.sample(sample_shape)
        kept = torch.rand_like(counts) >= torch.sigmoid(self.pi_logit)
        return counts * kept
