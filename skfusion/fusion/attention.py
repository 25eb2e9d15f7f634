"""Fusion by attention over modalities."""

import torch
from torch import Tensor, nn

from skfusion.encoders.transformer import Attended, Mask, attend, attention_weights, require_divisor
from skfusion.fusion.blocks import PooledFusion, stack
from skfusion.fusion.masks import GLOBAL


class Attention(PooledFusion):
    """One learned query attends to the embeddings that are present [1]_.

    Keys and values are linear maps of the embeddings, with a learned bias a modality so that the query can tell who is
    who.

    References
    ----------
    .. [1] Vaswani et al., "Attention is all you need", NeurIPS, 2017.
    """

    def build(self, widths: dict[str, int], n_latent: int, n_heads: int) -> None:
        """Query, keys and values over `n_heads` heads."""
        require_divisor(n_heads, n_latent)
        self.width, self.n_heads = n_latent, n_heads
        self.norm = nn.LayerNorm(n_latent)
        self.modality = nn.Parameter(0.02 * torch.randn(len(widths), n_latent))
        self.query = nn.Parameter(0.02 * torch.randn(n_latent))
        self.attended: list[Attended] | None = None
        self.keys_values = nn.Linear(n_latent, 2 * n_latent)

    def combine(self, stacked: list[Tensor], present: Tensor) -> Tensor:
        """M x (B, D) -> (B, n_latent)."""
        x = self.norm(stack(stacked)) + self.modality  # (B, M, D)
        batch, n_modalities, width = x.shape
        shape = (batch, n_modalities, self.n_heads, width // self.n_heads)
        keys, values = (t.view(shape).transpose(1, 2) for t in self.keys_values(x).chunk(2, dim=-1))  # (B, H, M, D/H)
        query = self.query.view(1, self.n_heads, 1, -1).expand(batch, -1, -1, -1)  # (B, H, 1, D/H)
        mask = Mask.of(present.unsqueeze(1))
        if self.attended is not None:
            owners = torch.tensor([GLOBAL], device=x.device), torch.arange(n_modalities, device=x.device)
            self.attended.append(Attended(owners, attention_weights(query, keys, mask).mean(1)))
        return attend(query, keys, values, mask).reshape(batch, width)
