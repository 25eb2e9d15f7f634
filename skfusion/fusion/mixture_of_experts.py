"""A mixture of experts, routed by what is present."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skfusion.encoders.batch import Tokens
from skfusion.fusion.blocks import PooledFusion, require_whole, stack
from skfusion.fusion.output import FusionOutput

_MOST_MODALITIES = 12


class MixtureOfExperts(PooledFusion):
    r"""Flex-MoE: learned stand-ins for what is missing, and experts for what is present [1]_.

    A missing modality is replaced by a learned embedding that depends on which modalities the sample has. A complete
    sample goes to the `n_active` experts of its router, weighted by their softmax; an incomplete one to the expert of
    its pattern, which complete samples have trained as well. Two losses join the supervised one: that the router
    spreads complete samples over the experts (the squared coefficient of variation of their importance), and that it
    tells an incomplete sample's pattern.

    Parameters
    ----------
    widths, n_latent, dropout_rate, n_heads
        As in every fusion of embeddings.
    n_experts : int, default=None
        None is one a pattern, and at most 16; patterns share them in turn.
    n_active : int, default=4
        Experts that a complete sample goes to; all of them where there are fewer.
    penalty : float, default=0.01
        Weight of the two losses.

    References
    ----------
    .. [1] Yun et al., "Flex-MoE: modeling arbitrary modality combination via the flexible mixture-of-experts", NeurIPS,
       2024.
    """

    fills_missing = True
    """What stands in for a missing modality is its own affair."""

    def __init__(
        self,
        widths: dict[str, int],
        n_latent: int,
        *,
        n_experts: int | None = None,
        n_active: int = 4,
        penalty: float = 0.01,
        **options: object,
    ) -> None:
        require_whole("n_active", n_active)
        if n_experts is not None:
            require_whole("n_experts", n_experts)
        super().__init__(widths, n_latent, **options)  # type: ignore[arg-type]
        n_modalities = len(widths)
        if n_modalities > _MOST_MODALITIES:
            raise ValueError(
                f"fusion 'mixture_of_experts' learns an embedding a pattern of presence, which {n_modalities} "
                f"modalities have 2^{n_modalities} of; due are at most {_MOST_MODALITIES}. Use 'shared_specific'."
            )
        n_patterns = 2**n_modalities - 1
        self.n_experts = min(n_patterns, 16) if n_experts is None else n_experts
        self.n_active, self.penalty = min(n_active, self.n_experts), penalty
        self.bank = nn.Parameter(0.02 * torch.randn(n_patterns + 1, n_modalities, n_latent))
        self.merge = nn.Linear(n_modalities * n_latent, n_latent)
        self.norm = nn.LayerNorm(n_latent)
        self.router = nn.Linear(n_latent, self.n_experts)
        n_hidden = 2 * n_latent
        self.up = nn.Parameter(n_latent**-0.5 * torch.randn(self.n_experts, n_latent, n_hidden))
        self.down = nn.Parameter(n_hidden**-0.5 * torch.randn(self.n_experts, n_hidden, n_latent))
        self.register_buffer("powers", 2 ** torch.arange(n_modalities), persistent=False)

    powers: Tensor

    def forward(self, tokens: dict[str, Tokens], present: Tensor) -> FusionOutput:
        """Tokens (B, T, D) a modality and `present` (B, M) to a `FusionOutput`."""
        pooled = self.pool(tokens, present)
        pattern = (present * self.powers).sum(1)  # (B,), 0 is nothing
        whole = present.all(1)  # (B,)
        completed = torch.where(present.unsqueeze(-1), stack(pooled), self.bank[pattern])  # (B, M, D)
        merged = self.merge(completed.flatten(1))  # (B, D)
        x = self.norm(merged)
        logits = self.router(x)  # (B, E)
        own = (pattern - 1) % self.n_experts  # (B,), the expert of a pattern
        weights = torch.where(whole.unsqueeze(1), self.routed(logits), F.one_hot(own, self.n_experts))
        hidden = F.gelu(torch.einsum("bd,edh->beh", x, self.up))  # (B, E, H)
        answers = torch.einsum("beh,ehd,be->bd", hidden, self.down, weights)  # (B, D)
        return self.output(merged + answers, pooled, tokens, self.routing_losses(logits, weights, own, whole))

    def routed(self, logits: Tensor) -> Tensor:
        """Softmax over the best `n_active` experts, 0 for the others (B, E)."""
        best = logits.topk(self.n_active, dim=1)
        weights = best.values.softmax(1)  # float32 under autocast on a GPU
        return weights.new_zeros(logits.shape).scatter(1, best.indices, weights)

    def routing_losses(self, logits: Tensor, weights: Tensor, own: Tensor, whole: Tensor) -> dict[str, Tensor]:
        """Balance of the experts over complete samples, and the pattern of the others."""
        n_whole, n_partial = whole.sum(), (~whole).sum()
        importance = (weights * whole.unsqueeze(1)).sum(0)  # (E,)
        mean = importance.mean().clamp(min=1e-6)
        spread = (importance - mean).square().mean() / mean.square()
        told = (F.cross_entropy(logits, own, reduction="none") * ~whole).sum() / n_partial.clamp(min=1)
        return {
            "balance": self.penalty * torch.where(n_whole > 0, spread, 0.0),
            "pattern": self.penalty * told,
        }
