"""What several fusions share: pooling to one embedding a modality, or packing all modalities' tokens."""

from numbers import Integral
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from skfusion.encoders.batch import Tokens, all_true, masked_mean
from skfusion.encoders.dropout import Dropout
from skfusion.encoders.transformer import Transformer
from skfusion.fusion.masks import owners
from skfusion.fusion.output import FusionOutput

SHARE_IN_BLOCKS = 0.4
"""Of `dropout_rate`: blocks add to what they get, and there are several of them."""


class PooledFusion(nn.Module):
    """A fusion of one embedding a modality: pools each modality's tokens, then calls `combine`.

    Parameters
    ----------
    widths : dict of str to int
        Width of each modality's tokens; where it is not `n_latent`, a linear map comes first.
    n_latent : int
        Width of the fused embedding.
    dropout_rate : float, default=0.0
        Share of fused units that are dropped in training.
    n_heads : int, default=4
        Attention heads, where the fusion has attention.
    """

    is_pure = True
    """Whether a modality's head and tokens have seen nothing of the others."""

    def __init__(
        self, widths: dict[str, int], n_latent: int, *, dropout_rate: float = 0.0, n_heads: int = 4, **options: object
    ) -> None:
        super().__init__()
        self.adapters = self.adapted(widths, n_latent)
        self.build(widths, n_latent, n_heads)
        self.refine: nn.Module = Refine(self.width, n_latent, dropout_rate)

    def adapted(self, widths: dict[str, int], n_latent: int) -> nn.ModuleList:
        """Return maps that bring each modality to the width that `combine` wants."""
        return adapters(widths, n_latent)

    def build(self, widths: dict[str, int], n_latent: int, n_heads: int) -> None:
        """Set up parameters, and `width`, that of what `combine` gives."""
        self.width = n_latent

    def combine(self, stacked: list[Tensor], present: Tensor) -> Tensor:
        """Combine M embeddings (B, D), zero where missing, given `present` (B, M), to (B, width)."""
        raise TypeError(f"{type(self).__name__} defines no combine(stacked, present).")

    def losses(self) -> dict[str, Tensor]:
        """Losses of the parameters themselves, scalars."""
        return {}

    def forward(self, tokens: dict[str, Tokens], present: Tensor) -> FusionOutput:
        """Tokens (B, T, D) a modality and `present` (B, M) to a `FusionOutput`."""
        pooled = self.pool(tokens, present)
        return self.output(self.combine(pooled, present), pooled, tokens, self.losses())

    def pool(self, tokens: dict[str, Tokens], present: Tensor) -> list[Tensor]:
        """Mean token of each modality, M x (B, D); zero where it is missing."""
        pooled = []
        for m, (t, adapter) in enumerate(zip(tokens.values(), self.adapters)):
            there = present[:, m : m + 1]  # (B, 1)
            mean = masked_mean(Tokens(t.values, t.mask & there))
            pooled.append(mean if isinstance(adapter, nn.Identity) else adapter(mean) * there)
        return pooled

    def output(
        self, combined: Tensor, pooled: list[Tensor], tokens: dict[str, Tokens], losses: dict[str, Tensor]
    ) -> FusionOutput:
        """Refine what was combined (B, width)."""
        fused = self.refine(combined)  # (B, n_latent)
        return FusionOutput(fused, {**dict(zip(tokens, pooled)), "fusion": fused, "global": fused}, tokens, losses)


class TokenFusion(nn.Module):
    """A fusion of tokens: brings all modalities to one width, says whose each token is, then calls `mix`.

    Parameters
    ----------
    widths : dict of str to int
        Width of each modality's tokens; where it is not `n_latent`, a linear map comes first.
    n_latent : int
        Width of all tokens from there on, and of the fused embedding.
    dropout_rate : float, default=0.0
        Share of fused units that are dropped in training; inside blocks .4 of that.
    n_heads : int, default=4
        Attention heads.
    n_fusion_layers : int, default=2
        Blocks of each transformer.
    """

    is_pure = False
    """Whether a modality's head and tokens have seen nothing of the others."""
    predicts_by_head = False
    """Whether a modality's head is its mixed tokens, and predicts; else it is what came in, untouched by others."""

    def __init__(
        self,
        widths: dict[str, int],
        n_latent: int,
        *,
        dropout_rate: float = 0.0,
        n_heads: int = 4,
        n_fusion_layers: int = 2,
        **options: object,
    ) -> None:
        super().__init__()
        self.names = list(widths)
        self.n_latent, self.n_heads, self.n_layers = n_latent, n_heads, n_fusion_layers
        self.dropout_rate = SHARE_IN_BLOCKS * dropout_rate
        self.adapters = adapters(widths, n_latent)
        self.modality = nn.Parameter(0.02 * torch.randn(len(widths), n_latent))
        self.build()
        self.refine = Refine(n_latent, n_latent, dropout_rate)

    def build(self) -> None:
        """Set up parameters."""

    def mix(self, tokens: dict[str, Tokens], present: Tensor) -> dict[str, Tokens]:
        """Mix adapted tokens (B, T, n_latent), zero where not real; all that it gives is pooled."""
        raise TypeError(f"{type(self).__name__} defines no mix(tokens, present).")

    def transformer(self, n_layers: int | None = None) -> Transformer:
        """Return a transformer of the fusion's width, heads, depth and dropout."""
        depth = self.n_layers if n_layers is None else n_layers
        return Transformer(self.n_latent, self.n_heads, depth, self.dropout_rate)

    def adapt(self, tokens: dict[str, Tokens], present: Tensor) -> dict[str, Tokens]:
        """Bring tokens to one width and add their modality's embedding; zero where not real."""
        return {
            name: cleaned(Tokens(adapter(values) + own, mask))
            for (name, (values, mask)), adapter, own in zip(
                only_present(tokens, present).items(), self.adapters, self.modality
            )
        }

    def forward(self, tokens: dict[str, Tokens], present: Tensor) -> FusionOutput:
        """Tokens (B, T, D) a modality and `present` (B, M) to a `FusionOutput`."""
        adapted = self.adapt(tokens, present)
        mixed = self.mix(adapted, present)
        fused = self.refine(masked_mean(together(mixed)))  # (B, n_latent)
        if self.predicts_by_head:
            heads = {name: self.refine(masked_mean(mixed[name])) for name in tokens}
        else:
            heads = {name: masked_mean(t) for name, t in adapted.items()}
        return FusionOutput(fused, {**heads, "fusion": fused, "global": fused}, mixed)


def require_whole(name: str, value: Any, least: int = 1) -> None:
    """Raise unless `value` is a whole number of at least `least`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} is {value!r}; due is a whole number of at least {least}.")


def adapters(widths: dict[str, int], n_latent: int) -> nn.ModuleList:
    """Return a linear map to `n_latent` a modality, nothing where it has that width."""
    return nn.ModuleList(
        nn.Identity() if width == n_latent else nn.Linear(width, n_latent) for width in widths.values()
    )


class Refine(nn.Module):
    """A linear map, LayerNorm and GELU: what lets modalities interact after they were put together.

    A LayerNorm before the map would take from raw values what they share and how large they are: all there is to know
    of a single number. With `norm=False` there is none.
    """

    def __init__(self, width: int, n_latent: int, dropout_rate: float, *, norm: bool = True) -> None:
        super().__init__()
        normed = [nn.LayerNorm(n_latent)] if norm else []
        self.layers = nn.Sequential(Dropout(dropout_rate), nn.Linear(width, n_latent), *normed, nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        """(B, width) -> (B, n_latent)."""
        out: Tensor = self.layers(x)
        return out


class Packed(NamedTuple):
    """All modalities' tokens in one sequence: values (B, T, D), the owner of each (T,), and which are real (B, T)."""

    values: Tensor
    owner: Tensor
    real: Tensor


def pack(tokens: dict[str, Tokens], fusion_tokens: Tensor | None = None) -> Packed:
    """Lay tokens side by side, `fusion_tokens` (F, D) at the end."""
    values, masks = [t.values for t in tokens.values()], [t.mask for t in tokens.values()]
    lengths = tuple(v.shape[1] for v in values)
    n_fusion = 0 if fusion_tokens is None else len(fusion_tokens)
    if fusion_tokens is not None:
        batch = len(masks[0])
        values = [*values, fusion_tokens.expand(batch, -1, -1)]
        masks = [*masks, masks[0].new_ones(batch, n_fusion)]
    return Packed(torch.cat(values, 1), owners(lengths, n_fusion, masks[0].device), torch.cat(masks, 1))


def unpack(values: Tensor, like: dict[str, Tokens]) -> dict[str, Tokens]:
    """Cut values (B, T, D) that were packed from `like`; fusion tokens at the end are left out."""
    lengths = [t.values.shape[1] for t in like.values()]
    parts = values[:, : sum(lengths)].split(lengths, dim=1)
    return {name: Tokens(part, t.mask) for (name, t), part in zip(like.items(), parts)}


def together(tokens: dict[str, Tokens]) -> Tokens:
    """All tokens in one sequence."""
    return Tokens(torch.cat([t.values for t in tokens.values()], 1), torch.cat([t.mask for t in tokens.values()], 1))


def only_present(tokens: dict[str, Tokens], present: Tensor) -> dict[str, Tokens]:
    """Tokens whose masks know of `present` (B, M), and whose values are zero where not real."""
    return {
        name: cleaned(Tokens(values, mask & present[:, m : m + 1]))
        for m, (name, (values, mask)) in enumerate(tokens.items())
    }


def cleaned(tokens: Tokens) -> Tokens:
    """Overwrite what is not real with zeros: a mask alone does not stop NaN."""
    if all_true(tokens.mask):
        return tokens
    return Tokens(torch.where(tokens.mask.unsqueeze(-1), tokens.values, 0.0), tokens.mask)


def stack(embeddings: list[Tensor]) -> Tensor:
    """M embeddings (B, D) to (B, M, D)."""
    return torch.stack(embeddings, dim=1)
