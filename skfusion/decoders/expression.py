"""From an embedding to a distribution over the expression of genes."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution, Normal, Poisson

from skfusion.decoders.negative_binomial import NegativeBinomial
from skfusion.decoders.zero_inflated import ZeroInflatedNegativeBinomial
from skfusion.encoders.counts import CountStatistics
from skfusion.encoders.dropout import Dropout

LIKELIHOODS = ("negative_binomial", "zero_inflated_negative_binomial", "poisson", "normal")
_DISPERSIONS = ("gene", "gene-cell")
_SMALLEST = 1e-8
_STEPS = 10.0
"""Dispersions, which have far to go, take so many times the steps of weights."""


class ExpressionDecoder(nn.Module):
    r"""An embedding z to counts of mean :math:`\mu = \ell \rho`, shares :math:`\rho = \mathrm{softmax}(f(z))` [1]_.

    f is a multilayer perceptron plus a linear map. Under "normal" f gives the mean itself, and the library size ℓ has
    no part in it.

    Parameters
    ----------
    n_in : int
        Width of the embedding.
    n_genes : int
        Number of genes.
    likelihood : str, default="negative_binomial"
        Distribution of a gene's count, "negative_binomial", "zero_inflated_negative_binomial" or "poisson"; or, of
        values that are no counts, "normal".
    dispersion : {"gene", "gene-cell"}, default="gene"
        Whether θ, or the standard deviation, is one a gene, or one a gene and cell, decoded as well.
    n_hidden : int, default=128
        Width of the hidden layers.
    n_layers : int, default=1
        Number of hidden layers; with 0 there is just the linear map.
    n_covariates : int, default=0
        Width of `batch`, what is known of a cell beside its embedding, such as its batch, one-hot.
    dropout_rate : float, default=0.0
        Share of hidden units that are dropped in training.
    statistics : CountStatistics, default=None
        What training says of the counts: the shares and dispersions that the decoder starts from.

    References
    ----------
    .. [1] Lopez et al., "Deep generative modeling for single-cell transcriptomics", Nature Methods 15, 2018.

    Examples
    --------
    >>> import torch
    >>> from skfusion.decoders import ExpressionDecoder
    >>> decoder = ExpressionDecoder(n_in=4, n_genes=6)
    >>> counts = decoder(torch.randn(2, 4), library=torch.tensor([100.0, 200.0]))
    >>> counts.mean.sum(1).round().tolist()
    [100.0, 200.0]
    """

    def __init__(
        self,
        n_in: int,
        n_genes: int,
        *,
        likelihood: str = "negative_binomial",
        dispersion: str = "gene",
        n_hidden: int = 128,
        n_layers: int = 1,
        n_covariates: int = 0,
        dropout_rate: float = 0.0,
        statistics: CountStatistics | None = None,
    ) -> None:
        super().__init__()
        for name, value, due in (("likelihood", likelihood, LIKELIHOODS), ("dispersion", dispersion, _DISPERSIONS)):
            if value not in due:
                raise ValueError(f"{name} is {value!r}; due is one of {list(due)}.")
        self.likelihood, self.dispersion = likelihood, dispersion
        width = n_in + n_covariates
        self.skip = nn.Linear(width, n_genes)
        layers: list[nn.Module] = []
        for _ in range(n_layers):
            layers += [nn.Linear(width, n_hidden), nn.LayerNorm(n_hidden), nn.GELU(), Dropout(dropout_rate)]
            width = n_hidden
        self.hidden = nn.Sequential(*layers)
        self.out = nn.Linear(width, n_genes, bias=False) if n_layers else None
        self.log_dispersion = (
            nn.Parameter(torch.zeros(n_genes)) if self._is_dispersed and dispersion == "gene" else None
        )
        self.dispersed = nn.Linear(width, n_genes) if self._is_dispersed and dispersion == "gene-cell" else None
        self.inflated = nn.Linear(width, n_genes) if likelihood.startswith("zero_inflated") else None
        with torch.no_grad():
            nn.init.normal_(self.skip.weight, std=0.01)
            for layer in (self.out, self.dispersed, self.inflated):
                if layer is not None:
                    nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(self.skip.bias)
            if statistics is not None and likelihood != "normal":
                self.skip.bias.copy_(_logs(statistics.shares))
                if self.log_dispersion is not None:
                    self.log_dispersion.copy_(_logs(statistics.thetas) / _STEPS)
                if self.dispersed is not None:
                    self.dispersed.bias.copy_(_logs(statistics.thetas))

    @property
    def _is_dispersed(self) -> bool:
        return self.likelihood != "poisson"

    def forward(self, embedding: Tensor, *, library: Tensor | None = None, batch: Tensor | None = None) -> Distribution:
        """Embedding (B, n_in), `library` (B,) and `batch` (B, n_covariates) to a distribution over (B, n_genes)."""
        x = embedding if batch is None else torch.cat([embedding, batch.to(embedding.dtype)], dim=1)
        hidden = self.hidden(x)  # (B, n_hidden)
        out = (self.skip(x) if self.out is None else self.skip(x) + self.out(hidden)).float()  # (B, n_genes)
        if self.dispersed is not None:
            log_dispersion = self.dispersed(hidden).float()  # (B, n_genes)
        elif self.log_dispersion is not None:
            log_dispersion = _STEPS * self.log_dispersion.float()  # (n_genes,)
        if self.likelihood == "normal":
            return Normal(out, F.softplus(log_dispersion + 0.5) + 1e-3, validate_args=False)
        if library is None:
            raise ValueError(f"library is None, but the likelihood {self.likelihood!r} needs the total of each cell.")
        mu = (library.unsqueeze(1) * out.softmax(-1)).clamp(min=_SMALLEST)  # (B, n_genes)
        if self.likelihood == "poisson":
            return Poisson(mu, validate_args=False)
        theta = log_dispersion.clamp(-10, 10).exp()
        if self.inflated is None:
            return NegativeBinomial(mu, theta, validate_args=False)
        # Starts close to none.
        return ZeroInflatedNegativeBinomial(mu, theta, self.inflated(hidden).float() - 3, validate_args=False)


def _logs(values: Any) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float32).clamp(min=_SMALLEST).log()
