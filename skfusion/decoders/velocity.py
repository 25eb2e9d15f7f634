"""Decoders of RNA velocity: an embedding to states of transcription, times and kinetics of every gene."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Categorical, Dirichlet, Distribution, MixtureSameFamily, Normal

from skfusion.decoders.kinetics import DURATION, splicing_velocity, unspliced_spliced

_MOST = 50.0
"""Rates at most."""
_PRIOR = 0.25
"""Concentration of the Dirichlet prior of states: it favours one state a cell and gene."""
_QUIET = 0.1
"""The noise where a gene is off, relative to its other states."""


class SplicingStates(NamedTuple):
    """What a cell may be up to in each gene; states are on, on and steady, off, off and steady.

    Attributes
    ----------
    concentration : Tensor (B, G, 4)
        Of the Dirichlet distribution of the states' probabilities.
    unspliced, spliced : Tensor (B, G, 4)
        What is expected in each state.
    time : Tensor (B, G, 4)
        Time on the gene's own clock in each state, from 0 to `DURATION`.
    """

    concentration: Tensor
    unspliced: Tensor
    spliced: Tensor
    time: Tensor

    @property
    def probabilities(self) -> Tensor:
        """Return the expected probabilities of the states (B, G, 4)."""
        return self.concentration / self.concentration.sum(-1, keepdim=True)


class VelocityDecoder(nn.Module):
    r"""An embedding to a mixture over four states of transcription, whose kinetics are the genes' own [1]_.

    In a gene, transcription is on from time 0 at the rate :math:`\alpha`, up to :math:`t_s`, and then off; splicing and
    degradation have the rates :math:`\beta, \gamma`. The embedding tells how likely each state is, a Dirichlet
    distribution, and how far the cell is in it, :math:`t = t_s \rho` while on and :math:`t - t_s = (20 - t_s) \tau`
    while off. Unspliced and spliced moments are mixtures of normals with the states' probabilities in common.

    Parameters
    ----------
    n_in : int
        Width of the embedding.
    n_genes : int
        Number of genes.
    n_hidden : int, default=128
        Width of the hidden layers.
    n_layers : int, default=1
        Number of these.

    References
    ----------
    .. [1] Gayoso et al., "Deep generative modeling of transcriptional dynamics for RNA velocity analysis in single
       cells", Nature Methods 21, 2024.

    Examples
    --------
    >>> import torch
    >>> from skfusion.decoders import VelocityDecoder
    >>> decoder = VelocityDecoder(8, n_genes=5)
    >>> embedding = torch.randn(3, 8)
    >>> decoder(embedding).log_prob(torch.rand(3, 5, 2)).shape  # unspliced and spliced moments, from 0 to 1
    torch.Size([3, 5, 2])
    >>> decoder.velocity(embedding).shape
    torch.Size([3, 5])
    """

    def __init__(self, n_in: int, n_genes: int, *, n_hidden: int = 128, n_layers: int = 1) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = n_in
        for _ in range(n_layers):
            layers += [nn.Linear(width, n_hidden), nn.LayerNorm(n_hidden), nn.GELU()]
            width = n_hidden
        self.layers = nn.Sequential(*layers)
        self.of_states, self.of_times = nn.Linear(width, 4 * n_genes), nn.Linear(width, 2 * n_genes)
        # Unconstrained: softplus of each is the rate. Moments go up to 1, which is alpha / beta.
        self.alpha, self.beta, self.gamma = (
            nn.Parameter(torch.full((n_genes,), _inverse_softplus(r))) for r in (1, 1, 1)
        )
        self.switch = nn.Parameter(torch.zeros(n_genes))
        self.noise = nn.Parameter(torch.full((2, n_genes), _inverse_softplus(0.1)))

    def rates(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return α, β and γ (G,), above 0 and at most 50."""
        alpha, beta, gamma = (F.softplus(r).clamp(1e-4, _MOST) for r in (self.alpha, self.beta, self.gamma))
        return alpha, beta, gamma

    def switch_time(self) -> Tensor:
        """Return when transcription goes off (G,), between 0 and 20."""
        time: Tensor = DURATION * self.switch.sigmoid()
        return time

    def states(self, embedding: Tensor) -> SplicingStates:
        """Return states, times and expected moments of embeddings (B, D)."""
        hidden = self.layers(embedding)
        concentration = F.softplus(self.of_states(hidden)).unflatten(-1, (-1, 4)) + 1e-3  # (B, G, 4)
        on, off = self.of_times(hidden).sigmoid().chunk(2, -1)  # (B, G) each
        (alpha, beta, gamma), switch = self.rates(), self.switch_time()
        none = torch.zeros_like(alpha)
        at_switch = unspliced_spliced(switch, alpha, beta, gamma)
        inducing = unspliced_spliced(on * switch, alpha, beta, gamma)
        repressing = unspliced_spliced(off * (DURATION - switch), none, beta, gamma, *at_switch)
        steady = (alpha / beta, alpha / gamma)
        unspliced, spliced = (
            torch.stack([inducing[i], steady[i].expand_as(on), repressing[i], torch.zeros_like(on)], -1) for i in (0, 1)
        )
        times = [on * switch, switch.expand_as(on), switch + off * (DURATION - switch), torch.full_like(on, DURATION)]
        return SplicingStates(concentration, unspliced, spliced, torch.stack(times, -1))

    def forward(self, embedding: Tensor) -> Distribution:
        """(B, D) -> a distribution over moments (B, G, 2), unspliced and spliced."""
        states = self.states(embedding)
        return self.mixture(states, states.probabilities)

    def mixture(self, states: SplicingStates, probabilities: Tensor) -> Distribution:
        """Return the distribution over moments (B, G, 2), given the states' probabilities (B, G, 4)."""
        mean = torch.stack([states.unspliced, states.spliced], -2)  # (B, G, 2, 4)
        quiet = mean.new_tensor([1.0, 1.0, 1.0, _QUIET])
        scale = (F.softplus(self.noise).T.unsqueeze(-1) * quiet).clamp(min=1e-3)  # (G, 2, 4)
        weights = Categorical(probs=probabilities.unsqueeze(-2).expand_as(mean), validate_args=False)
        return MixtureSameFamily(weights, Normal(mean, scale.expand_as(mean), validate_args=False), validate_args=False)

    def negative_evidence(self, embedding: Tensor, moments: Tensor) -> Tensor:
        """Minus the evidence lower bound of `moments` (B, G, 2), a sum over genes (B,); draws in training."""
        states = self.states(embedding)
        posterior = Dirichlet(states.concentration, validate_args=False)
        probabilities = posterior.rsample() if self.training else states.probabilities
        prior = Dirichlet(torch.full_like(states.concentration, _PRIOR), validate_args=False)
        apart: Tensor = torch.distributions.kl_divergence(posterior, prior).sum(-1)
        likelihood = self.mixture(states, probabilities.clamp(min=1e-6)).log_prob(moments).flatten(1).sum(-1)
        return apart - likelihood

    def velocity(self, embedding: Tensor) -> Tensor:
        """Return the expected ds/dt (B, G) over the states; it is 0 in those that are steady."""
        states = self.states(embedding)
        _, beta, gamma = self.rates()
        each = splicing_velocity(states.unspliced, states.spliced, beta.unsqueeze(-1), gamma.unsqueeze(-1))
        moving = each.new_tensor([1.0, 0.0, 1.0, 0.0])
        return (states.probabilities * each * moving).sum(-1)

    def time(self, embedding: Tensor) -> Tensor:
        """Return the expected time on each gene's own clock (B, G)."""
        states = self.states(embedding)
        return (states.probabilities * states.time).sum(-1)


class MinimalVelocityDecoder(nn.Module):
    r"""An embedding to moments of both layers, and their velocity :math:`\beta \hat u - \gamma \hat s`.

    The likelihood says nothing of the rates: give those of a steady state, or train them by a loss of their velocity.

    Parameters
    ----------
    n_in : int
        Width of the embedding.
    n_genes : int
        Number of genes.
    n_hidden : int, default=128
        Width of the hidden layer.
    beta, gamma : Tensor (n_genes,), default=None
        Rates to start from, above 0; None is 1.

    Examples
    --------
    >>> import torch
    >>> from skfusion.decoders import MinimalVelocityDecoder
    >>> decoder = MinimalVelocityDecoder(8, n_genes=5, gamma=torch.full((5,), 0.3))
    >>> decoder(torch.randn(3, 8)).mean.shape, decoder.velocity(torch.randn(3, 8)).shape
    (torch.Size([3, 5, 2]), torch.Size([3, 5]))
    """

    def __init__(
        self, n_in: int, n_genes: int, *, n_hidden: int = 128, beta: Tensor | None = None, gamma: Tensor | None = None
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(n_in, n_hidden), nn.GELU(), nn.Linear(n_hidden, 2 * n_genes))
        self.noise = nn.Parameter(torch.full((n_genes, 2), _inverse_softplus(0.1)))
        given = (torch.ones(n_genes) if rate is None else rate for rate in (beta, gamma))
        # The inverse of softplus, in a form that large rates do not overflow.
        self.beta, self.gamma = (nn.Parameter(r + torch.log(-torch.expm1(-r))) for r in (r.float() for r in given))

    def forward(self, embedding: Tensor) -> Distribution:
        """(B, D) -> a normal distribution over moments (B, G, 2), unspliced and spliced."""
        mean = F.softplus(self.layers(embedding)).unflatten(-1, (-1, 2))  # (B, G, 2)
        return Normal(mean, F.softplus(self.noise).clamp(min=1e-3).expand_as(mean), validate_args=False)

    def negative_evidence(self, embedding: Tensor, moments: Tensor) -> Tensor:
        """Minus the log-likelihood of `moments` (B, G, 2), a sum over genes (B,)."""
        likelihood: Tensor = self(embedding).log_prob(moments).flatten(1).sum(-1)
        return -likelihood

    def velocity(self, embedding: Tensor) -> Tensor:
        """Return βu - γs (B, G)."""
        u, s = self(embedding).mean.unbind(-1)
        return splicing_velocity(u, s, F.softplus(self.beta), F.softplus(self.gamma))


def _inverse_softplus(value: float) -> float:
    return float(torch.log(torch.expm1(torch.tensor(value, dtype=torch.float64))))
