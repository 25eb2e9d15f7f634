"""Transformer blocks over tokens, of which some may see only some others."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skfusion.encoders.batch import all_true
from skfusion.encoders.dropout import Dropout


class Mask(NamedTuple):
    """Which keys a query may see, made ready for attention once a forward pass.

    Attributes
    ----------
    open : Tensor of bool
        (B or 1, 1, Tq or 1, Tk); a query that may see nothing sees everything here, since a softmax over nothing is
        NaN.
    anyone : Tensor of bool
        (B or 1, 1, Tq or 1, 1); False for those, whose result is set to zero.
    """

    open: Tensor
    anyone: Tensor

    @classmethod
    def of(cls, allowed: Tensor) -> "Mask | None":
        """From `allowed` (Tq, Tk) or (B, Tq or 1, Tk); None where it is known that everyone sees everyone."""
        if all_true(allowed):
            return None
        allowed = allowed.view(-1, 1, *allowed.shape[-2:])
        anyone = allowed.any(-1, keepdim=True)
        return cls(allowed | ~anyone, anyone)


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Mask | None, scale: float | None = None) -> Tensor:
    """Scaled dot-product attention [1]_; a query that may see no key gives zero.

    Parameters
    ----------
    query, key, value : Tensor
        (B, H, Tq, d), (B, H, Tk, d) and (B, H, Tk, d).
    mask : Mask or None
        None lets everyone see everyone.
    scale : float, default=None
        None is ``1 / sqrt(d)``.

    Returns
    -------
    Tensor
        (B, H, Tq, d).

    References
    ----------
    .. [1] Vaswani et al., "Attention is all you need", NeurIPS, 2017.
    """
    if mask is None:
        return F.scaled_dot_product_attention(query, key, value, scale=scale)
    out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask.open, scale=scale)
    return torch.where(mask.anyone, out, 0.0)


def attention_weights(query: Tensor, key: Tensor, mask: Mask | None, scale: float | None = None) -> Tensor:
    """Return the weights (B, H, Tq, Tk) by which `attend` averages the values."""
    logits = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if mask is None:
        return logits.softmax(-1)
    return torch.where(mask.anyone, logits.masked_fill(~mask.open, -torch.inf).softmax(-1), 0.0)


Owners = tuple[Tensor, Tensor]
"""Whose each query (Tq,) and each key (Tk,) is, or for each sample (B, Tq) and (B, Tk)."""


class Attended(NamedTuple):
    """What one attention did: whose queries and keys there were, and weights (B, Tq, Tk), the mean over heads."""

    owners: Owners
    weights: Tensor


class MultiHeadAttention(nn.Module):
    """Projections, attention over several heads, and a projection back [1]_.

    Parameters
    ----------
    width : int
        Width of the tokens.
    n_heads : int
        Number of heads; it divides `width`.
    bias : bool, default=True
        Whether the projections have a bias.
    project_out : bool, default=True
        Whether a linear map follows.
    scale : float, default=None
        What logits are multiplied by; None is one over the root of a head's width.

    References
    ----------
    .. [1] Vaswani et al., "Attention is all you need", NeurIPS, 2017.
    """

    def __init__(
        self, width: int, n_heads: int, *, bias: bool = True, project_out: bool = True, scale: float | None = None
    ) -> None:
        super().__init__()
        require_divisor(n_heads, width)
        self.n_heads = n_heads
        self.scale = scale
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias) if project_out else nn.Identity()
        self.attended: list[Attended] | None = None

    def forward(
        self, x: Tensor, mask: Mask | None = None, owners: Owners | None = None, context: Tensor | None = None
    ) -> Tensor:
        """Tokens x (B, Tq, D) that attend to themselves, or to `context` (B, Tk, D), give (B, Tq, D).

        `owners` are for `recorded_attention` alone.
        """
        if context is None:
            query, key, value = self.project(x)
        else:
            width = x.shape[-1]
            bias = self.qkv.bias
            query = self.split(F.linear(x, self.qkv.weight[:width], None if bias is None else bias[:width]))
            both = F.linear(context, self.qkv.weight[width:], None if bias is None else bias[width:])
            key, value = (self.split(part) for part in both.chunk(2, dim=-1))
        if self.attended is not None and owners is not None:
            weights = attention_weights(query, key, mask, self.scale).mean(1)  # (B, Tq, Tk)
            if context is None and mask is not None:
                # A token that nobody may see is padding, whose own question is of no interest.
                weights = weights * (mask.open & mask.anyone).any(-2).mT
            self.attended.append(Attended(owners, weights))
        return self.join(attend(query, key, value, mask, self.scale))

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (B, T, D) to queries, keys and values (B, H, T, D / H)."""
        query, key, value = self.qkv(x).chunk(3, dim=-1)
        return self.split(query), self.split(key), self.split(value)

    def split(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, H, T, D / H)."""
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)

    def join(self, x: Tensor) -> Tensor:
        """(B, H, T, D / H) -> (B, T, D)."""
        out: Tensor = self.out(side_by_side(x))
        return out


def require_divisor(n_heads: int, width: int) -> None:
    """Raise where `width` does not fall into `n_heads` equal parts."""
    if n_heads < 1 or width % n_heads:
        raise ValueError(f"n_heads={n_heads} does not divide n_latent={width}; due is a divisor.")


def side_by_side(heads: Tensor) -> Tensor:
    """(B, H, T, D / H) -> (B, T, D)."""
    return heads.transpose(1, 2).flatten(2)


class FeedForward(nn.Module):
    """A linear map to `ratio` times the width, GELU, and a linear map back."""

    def __init__(self, width: int, dropout_rate: float, ratio: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, ratio * width), nn.GELU(), Dropout(dropout_rate), nn.Linear(ratio * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        out: Tensor = self.layers(x)
        return out


class Block(nn.Module):
    """x += attention(LN x); x += feed-forward(LN x): a transformer block with the norm first."""

    def __init__(
        self,
        width: int,
        n_heads: int,
        dropout_rate: float = 0.0,
        *,
        ratio: int = 4,
        attention: type[MultiHeadAttention] = MultiHeadAttention,
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = attention(width, n_heads)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, dropout_rate, ratio)
        self.dropout = Dropout(dropout_rate)

    def forward(self, x: Tensor, mask: Any = None, owners: Owners | None = None) -> Tensor:
        """Tokens (B, T, D) -> (B, T, D); `mask` is what the attention takes, a `Mask` or None."""
        x = x + self.dropout(self.attention(self.attention_norm(x), mask, owners))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class Transformer(nn.Module):
    """Blocks one after another, and a LayerNorm.

    Parameters
    ----------
    width, n_heads, n_layers : int
        Width of the tokens, heads of a block, number of blocks.
    dropout_rate : float, default=0.0
        Dropped in training: of what each half of a block adds, and of hidden units.
    """

    def __init__(self, width: int, n_heads: int, n_layers: int, dropout_rate: float = 0.0) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, n_heads, dropout_rate) for _ in range(n_layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, mask: Mask | None = None, owners: Owners | None = None) -> Tensor:
        """Tokens (B, T, D) -> (B, T, D)."""
        for block in self.blocks:
            x = block(x, mask, owners)
        out: Tensor = self.norm(x)
        return out


@contextmanager
def recorded_attention(module: nn.Module) -> Iterator[list[Attended]]:
    """Let every attention inside `module` recompute and keep its weights."""
    records: list[Attended] = []
    inside: list[Any] = [part for part in module.modules() if hasattr(part, "attended")]
    for part in inside:
        part.attended = records
    try:
        yield records
    finally:
        for part in inside:
            part.attended = None
