"""A variational latent between an embedding and expression, whose prior new cells are drawn from."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal

from skfusion.decoders.expression import ExpressionDecoder


def kl_standard_normal(mean: Tensor, log_scale: Tensor) -> Tensor:
    r"""Divergence of N(mean, exp(log_scale)²) from N(0, 1), (B, D) -> (B,), summed over D.

    .. math:: \tfrac12 \sum_d (\sigma_d^2 + \mu_d^2 - 1) - \log\sigma_d
    """
    return ((2 * log_scale).exp() + mean.square() - 1).sum(-1) / 2 - log_scale.sum(-1)


class Generated(NamedTuple):
    """What `GenerativeDecoder` makes of embeddings.

    Attributes
    ----------
    posterior : Normal
        Of the latent, (B, n_latent).
    kl : Tensor
        (B,) its divergence from the prior.
    expression : dict of str to Distribution
        Of each modality's values (B, n_genes), decoded from one draw of the posterior, or, in evaluation, its mean.
    """

    posterior: Normal
    kl: Tensor
    expression: dict[str, Distribution]


class GenerativeDecoder(nn.Module):
    """A variational autoencoder [1]_ from an embedding to the expression of modalities; it draws cells from its prior.

    What is known of a cell, such as its type or batch, goes to the posterior and to the decoders as a condition, so
    that the latent need not hold it, and cells of a type can be asked for.

    Parameters
    ----------
    n_in : int
        Width of the embedding.
    n_genes : dict of str to int
        Number of genes of each modality.
    n_latent : int, default=10
        Width of the latent.
    n_conditions : int, default=0
        Width of the condition; 0 is unconditional.
    n_hidden : int, default=128
        Width of the hidden layers.
    n_layers : int, default=1
        Hidden layers of the decoders.
    likelihood : str or dict of str to str, default="negative_binomial"
        As in `ExpressionDecoder`, for all modalities or for each.
    dispersion : str, default="gene"
        As in `ExpressionDecoder`.
    statistics : dict of str to CountStatistics, default=None
        What the decoders start from.

    References
    ----------
    .. [1] Kingma and Welling, "Auto-encoding variational Bayes", ICLR, 2014.

    Examples
    --------
    >>> import torch
    >>> from skfusion.decoders import GenerativeDecoder
    >>> decoder = GenerativeDecoder(8, {"spliced": 20, "unspliced": 20}, n_conditions=3).eval()
    >>> library = {"spliced": torch.full((5,), 100.0), "unspliced": torch.full((5,), 30.0)}
    >>> cells = decoder.sample(5, library=library, condition=torch.eye(3)[[0, 1, 2, 0, 1]])
    >>> cells["spliced"].shape
    torch.Size([5, 20])
    """

    def __init__(
        self,
        n_in: int,
        n_genes: Mapping[str, int],
        *,
        n_latent: int = 10,
        n_conditions: int = 0,
        n_hidden: int = 128,
        n_layers: int = 1,
        likelihood: str | Mapping[str, str] = "negative_binomial",
        dispersion: str = "gene",
        statistics: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.names, self.n_latent, self.n_conditions = list(n_genes), n_latent, n_conditions
        self.posterior = nn.Sequential(
            nn.Linear(n_in + n_conditions, n_hidden),
            nn.LayerNorm(n_hidden),
            nn.GELU(),
            nn.Linear(n_hidden, 2 * n_latent),
        )
        self.decoders = nn.ModuleList(
            ExpressionDecoder(
                n_latent,
                n,
                likelihood=likelihood if isinstance(likelihood, str) else likelihood[name],
                dispersion=dispersion,
                n_hidden=n_hidden,
                n_layers=n_layers,
                n_covariates=n_conditions,
                statistics=(statistics or {}).get(name),
            )
            for name, n in n_genes.items()
        )

    def forward(
        self, embedding: Tensor, *, library: Mapping[str, Tensor] | None = None, condition: Tensor | None = None
    ) -> Generated:
        """Embedding (B, n_in), `library` (B,) a modality and `condition` (B, n_conditions) to what is `Generated`."""
        self._check(condition)
        known = embedding if condition is None else torch.cat([embedding, condition.to(embedding.dtype)], 1)
        mean, log_scale = self.posterior(known).chunk(2, dim=1)  # (B, n_latent) each
        log_scale = log_scale.clamp(-8, 4)
        posterior = Normal(mean, log_scale.exp(), validate_args=False)
        latent = posterior.rsample() if self.training else mean
        return Generated(posterior, kl_standard_normal(mean, log_scale), self.decode(latent, library, condition))

    def decode(
        self, latent: Tensor, library: Mapping[str, Tensor] | None = None, condition: Tensor | None = None
    ) -> dict[str, Distribution]:
        """Latent (B, n_latent) to a distribution over each modality's values."""
        library = library or {}
        return {name: self.decode_one(name, latent, library.get(name), condition) for name in self.names}

    def decode_one(
        self, name: str, latent: Tensor, library: Tensor | None = None, condition: Tensor | None = None
    ) -> Distribution:
        """Latent (B, n_latent) and `library` (B,) to a distribution over one modality's values."""
        found: Distribution = self.decoders[self.names.index(name)](latent, library=library, batch=condition)
        return found

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        library: Mapping[str, Tensor] | None = None,
        condition: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Draw `n` cells: the latent from the prior by `generator`, and values (n, n_genes) of each modality."""
        self._check(condition)
        like = next(self.parameters())
        latent = torch.randn(n, self.n_latent, generator=generator, device=like.device, dtype=like.dtype)
        return {name: found.sample() for name, found in self.decode(latent, library, condition).items()}

    def elbo(
        self,
        embedding: Tensor,
        values: Mapping[str, Tensor],
        *,
        library: Mapping[str, Tensor] | None = None,
        condition: Tensor | None = None,
        kl_weight: float = 1.0,
    ) -> Tensor:
        """Return the evidence lower bound (B,) of `values` (B, n_genes), its divergence times `kl_weight`."""
        found = self(embedding, library=library, condition=condition)
        logs = torch.stack([found.expression[name].log_prob(values[name]).sum(1) for name in self.names])
        bound: Tensor = logs.sum(0) - kl_weight * found.kl
        return bound

    def _check(self, condition: Tensor | None) -> None:
        width = 0 if condition is None else condition.shape[1]
        if width != self.n_conditions:
            raise ValueError(f"condition is {width} wide; due is {self.n_conditions}, as the decoder was built for.")
