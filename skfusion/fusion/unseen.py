"""Learning unseen modality interaction: every modality is laid out on the same few tokens, which are added up."""

import torch
from torch import Tensor, nn

from skfusion.encoders.batch import Tokens
from skfusion.encoders.transformer import Mask, Transformer
from skfusion.fusion.blocks import SHARE_IN_BLOCKS, Refine, adapters, cleaned, only_present
from skfusion.fusion.output import FusionOutput


class Unseen(nn.Module):
    r"""Modalities projected to an aligned space of K tokens, added up, and read by two branches [1]_.

    A modality's tokens x (T, D) are shared out over K places, F = O^T x with O = softmax over the K of
    Head(Tf(LN-Linear-LN(x))), so that the sum over places is the sum over tokens: nothing is lost. Projected to one
    width and summed over the modalities that are present, any combination looks alike, also one that training has not
    seen. Half of the places and a learned token go to each of two branches that share a transformer. The first learns
    from the labels, the second from what each modality by itself says, averaged over epochs (`PseudoSupervision`); the
    prediction is the mean of both. Here x are an encoder's tokens at the fusion's width, and their positions are left
    to the encoder.

    Parameters
    ----------
    widths : dict of str to int
        Width of each modality's tokens.
    n_latent : int
        Width of the aligned space, and of the embeddings.
    dropout_rate : float, default=0.0
        Share of fused units that are dropped in training.
    n_heads : int, default=4
        Attention heads.
    n_fusion_layers : int, default=2
        Blocks of the branches' transformer.
    n_places : int, default=8
        K; the paper has 512 for video.

    References
    ----------
    .. [1] Zhang et al., "Learning unseen modality interaction", NeurIPS, 2023.
    """

    predicts_by_head = True
    objectives = ("pseudo_supervision",)

    def __init__(
        self,
        widths: dict[str, int],
        n_latent: int,
        *,
        dropout_rate: float = 0.0,
        n_heads: int = 4,
        n_fusion_layers: int = 2,
        n_places: int = 8,
        **options: object,
    ) -> None:
        super().__init__()
        if n_places % 2 or n_places < 2:
            raise ValueError(f"n_places is {n_places}; due is an even number, half for each branch.")
        rate = SHARE_IN_BLOCKS * dropout_rate
        self.adapters = adapters(widths, n_latent)
        self.spreads = nn.ModuleList(Spread(n_latent, n_heads, n_places, rate) for _ in widths)
        self.projections = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(n_latent), nn.Linear(n_latent, n_latent), nn.LayerNorm(n_latent)) for _ in widths
        )
        self.places = nn.Parameter(0.02 * torch.randn(n_places, n_latent))
        self.readers = nn.Parameter(0.02 * torch.randn(2, 1, n_latent))
        self.branch = Transformer(n_latent, n_heads, n_fusion_layers, rate)
        self.refine = Refine(n_latent, n_latent, dropout_rate)

    def forward(self, tokens: dict[str, Tokens], present: Tensor) -> FusionOutput:
        """Tokens (B, T, D) a modality and `present` (B, M) to a `FusionOutput`."""
        real = only_present(tokens, present)
        aligned = self.places.expand(len(present), -1, -1)  # (B, K, D)
        heads, placed = {}, {}
        for m, (name, t) in enumerate(real.items()):
            adapted = cleaned(Tokens(self.adapters[m](t.values), t.mask))  # (B, T, D)
            there = present[:, m : m + 1]  # (B, 1)
            places = self.spreads[m](adapted)  # (B, K, D)
            placed[name] = Tokens(places, there.expand(-1, places.shape[1]))
            own = torch.where(there.unsqueeze(-1), self.projections[m](places), 0.0)  # (B, K, D)
            aligned = aligned + own
            heads[name] = own.mean(1)  # (B, D)
        halves = aligned.unflatten(1, (2, -1)).flatten(0, 1)  # (B 2, K / 2, D)
        readers = self.readers.expand(len(present), 2, 1, -1).flatten(0, 1)  # (B 2, 1, D)
        read = self.branch(torch.cat([readers, halves], 1))[:, 0]  # (B 2, D)
        first, second = self.refine(read).unflatten(0, (-1, 2)).unbind(1)  # (B, D) each
        return FusionOutput(first, {**heads, "fusion": first, "global": (first + second) / 2}, placed, second=second)


class Spread(nn.Module):
    """Shares out a modality's tokens over K places; the sum over places is the sum over tokens."""

    def __init__(self, width: int, n_heads: int, n_places: int, dropout_rate: float) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.LayerNorm(width))
        self.transformer = Transformer(width, n_heads, 1, dropout_rate)
        self.head = nn.Linear(width, n_places)

    def forward(self, tokens: Tokens) -> Tensor:
        """Tokens (B, T, D), zero where not real, to places (B, K, D)."""
        values, mask = tokens
        shares = self.head(self.transformer(self.enter(values), Mask.of(mask.unsqueeze(1)))).softmax(-1)  # (B, T, K)
        return torch.einsum("btk,btd->bkd", shares, values)
