"""Small parts that several fusions share."""

import torch
from torch import Tensor, nn

from skfusion.encoders.batch import Tokens, masked_mean
from skfusion.encoders.dropout import Dropout
from skfusion.fusion.output import FusionOutput


class PooledFusion(nn.Module):
    """A fusion of one embedding a modality: pools each modality's tokens, then calls `combine`.

    Parameters
    ----------
    widths : dict of str to int
        Width of each modality's tokens.
    n_latent : int
        Width of the fused embedding.
    dropout_rate : float, default=0.0
        Share of fused units that are dropped in training.
    n_heads : int, default=4
        Attention heads, where the fusion has attention.
    """

    equal_widths = True

    def __init__(
        self, widths: dict[str, int], n_latent: int, *, dropout_rate: float = 0.0, n_heads: int = 4, **options: object
    ) -> None:
        super().__init__()
        if self.equal_widths and set(widths.values()) != {n_latent}:
            raise ValueError(
                f"fusion {type(self).__name__.lower()!r} needs every modality's embedding n_latent={n_latent} wide; "
                f"the encoders give {widths}. Use the encoder 'linear' or 'mlp' there, or fusion='concat'."
            )
        self.build(widths, n_latent, n_heads)
        self.refine = Refine(self.width, n_latent, dropout_rate)

    def build(self, widths: dict[str, int], n_latent: int, n_heads: int) -> None:
        """Set up parameters, and `width`, that of what `combine` gives."""
        self.width = n_latent

    def combine(self, stacked: list[Tensor], present: Tensor) -> Tensor:
        """Combine M embeddings (B, D), zero where missing, given `present` (B, M), to (B, width)."""
        raise TypeError(f"{type(self).__name__} defines no combine(stacked, present).")

    def forward(self, tokens: dict[str, Tokens], present: Tensor) -> FusionOutput:
        """Tokens (B, T, D) a modality and `present` (B, M) to a `FusionOutput`."""
        pooled = [
            masked_mean(Tokens(t.values, t.mask & present[:, m : m + 1])) for m, t in enumerate(tokens.values())
        ]  # M x (B, D)
        fused = self.refine(self.combine(pooled, present))  # (B, n_latent)
        heads = dict(zip(tokens, pooled))
        return FusionOutput(fused, {**heads, "fusion": fused, "global": fused}, tokens)


class Refine(nn.Module):
    """A linear map, LayerNorm and GELU: what lets modalities interact after they were put together.

    A LayerNorm before the map would take from raw values what they share and how large they are: all there is to know
    of a single number.
    """

    def __init__(self, width: int, n_latent: int, dropout_rate: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Dropout(dropout_rate), nn.Linear(width, n_latent), nn.LayerNorm(n_latent), nn.GELU()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, width) -> (B, n_latent)."""
        out: Tensor = self.layers(x)
        return out


def stack(embeddings: list[Tensor]) -> Tensor:
    """M embeddings (B, D) to (B, M, D)."""
    return torch.stack(embeddings, dim=1)
