"""Fusion by attention over modalities."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from skfusion.encoders.transformer import Attended, Mask, attend, attention_weights, require_divisor
from skfusion.fusion.blocks import PooledFusion, stack
from skfusion.fusion.masks import GLOBAL


class AttentionPooling(nn.Module):
    """A learned query a head attends to embeddings, each of an owner of its own.

    Keys and values are linear maps of the embeddings, with a learned bias an owner so that the query can tell who is
    who.

    Parameters
    ----------
    owners : sequence of int
        Whose each embedding is (T,), see `skfusion.fusion.masks`.
    width, n_heads : int
        Width of the embeddings, and into how many heads it is split.
    """

    def __init__(self, owners: Sequence[int], width: int, n_heads: int) -> None:
        super().__init__()
        require_divisor(n_heads, width)
        self.owners, self.n_heads = list(owners), n_heads
        self.norm = nn.LayerNorm(width)
        self.modality = nn.Parameter(0.02 * torch.randn(len(self.owners), width))
        self.query = nn.Parameter(0.02 * torch.randn(width))
        self.attended: list[Attended] | None = None
        self.keys_values = nn.Linear(width, 2 * width)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        """Embeddings (B, T, D), and which are real (B, T), to (B, D); zero where none is."""
        x = self.norm(x) + self.modality  # (B, T, D)
        batch, length, width = x.shape
        shape = (batch, length, self.n_heads, width // self.n_heads)
        keys, values = (t.view(shape).transpose(1, 2) for t in self.keys_values(x).chunk(2, dim=-1))  # (B, H, T, D/H)
        query = self.query.view(1, self.n_heads, 1, -1).expand(batch, -1, -1, -1)  # (B, H, 1, D/H)
        mask = Mask.of(real.unsqueeze(1))
        if self.attended is not None:
            owners = torch.tensor([GLOBAL], device=x.device), torch.tensor(self.owners, device=x.device)
            self.attended.append(Attended(owners, attention_weights(query, keys, mask).mean(1)))
        return attend(query, keys, values, mask).reshape(batch, width)


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
        self.width = n_latent
        self.pooling = AttentionPooling(range(len(widths)), n_latent, n_heads)

    def combine(self, stacked: list[Tensor], present: Tensor) -> Tensor:
        """M x (B, D) -> (B, n_latent)."""
        out: Tensor = self.pooling(stack(stacked), present)
        return out
