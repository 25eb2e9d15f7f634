"""Attention to one modality at a time, averaged over the modalities."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skfusion.encoders.batch import Tokens
from skfusion.encoders.transformer import Attended, Mask, attend, attention_weights, side_by_side
from skfusion.fusion.blocks import cleaned
from skfusion.fusion.masks import owners


def attend_to_partners(
    attentions: Any, tokens: dict[str, Tokens], weights: Tensor, out: nn.Module | None = None
) -> dict[str, Tokens]:
    """Average over partners k of softmax(Q_m K_kᵀ) V_k, for the tokens of each modality m.

    The softmax runs over one partner's tokens at a time, so that a long modality does not drown a short one.

    Parameters
    ----------
    attentions : list of MultiHeadAttention
        The projections of each modality.
    tokens : dict of str to Tokens
        Adapted tokens (B, T, D) of each.
    weights : Tensor
        (B, M, M), how much modality m listens to modality k; see `partner_weights`.
    out : nn.Module, default=None
        The projection back, where modalities share it; None is each one's own.

    Returns
    -------
    dict of str to Tokens
        (B, T, D) of each; zero where a token is not real.
    """
    projected = [attention.project(t.values) for attention, t in zip(attentions, tokens.values())]
    lengths = [t.values.shape[1] for t in tokens.values()]
    n_partners, longest = len(lengths), max(lengths)
    owner = owners(tuple(lengths), 0, weights.device)
    query = torch.cat([q for q, _, _ in projected], dim=2)  # (B, H, T, d)
    n_heads = query.shape[1]
    # One partner after the other along the heads, padded to the longest: a single attention for all.
    asked = query.unsqueeze(1).expand(-1, n_partners, -1, -1, -1).flatten(1, 2)  # (B, M H, T, d)
    key, value = (
        torch.stack([lengthened(part[k], longest) for part in projected], 1).flatten(1, 2) for k in (1, 2)
    )  # (B, M H, Tmax, d)
    seen = torch.stack([F.pad(t.mask, (0, longest - t.mask.shape[1])) for t in tokens.values()], 1)  # (B, M, Tmax)
    seen = seen.repeat_interleave(n_heads, dim=1).unsqueeze(2)  # (B, M H, 1, Tmax)
    anyone = seen.any(-1, keepdim=True)
    mask = Mask(seen | ~anyone, anyone)
    share = weights[:, owner].mT[:, :, None, :, None]  # (B, M, 1, T, 1)
    answers = attend(asked, key, value, mask, attentions[0].scale).unflatten(1, (n_partners, n_heads))
    total = (share * answers).sum(1)  # (B, H, T, d)
    if attentions[0].attended is not None:
        each = attention_weights(asked, key, mask, attentions[0].scale).unflatten(1, (n_partners, n_heads))
        each = (share * each).mean(2)  # (B, M, T, Tmax)
        real = torch.cat([t.mask for t in tokens.values()], 1).unsqueeze(-1)  # (B, T, 1)
        whole = torch.cat([each[:, k, :, :length] for k, length in enumerate(lengths)], -1)  # (B, T, T)
        attentions[0].attended.append(Attended((owner, owner), whole * real))
    parts = {name: side_by_side(part) for name, part in zip(tokens, total.split(lengths, dim=2))}
    maps = [attention.out for attention in attentions] if out is None else [out] * len(parts)
    return {name: cleaned(Tokens(back(part), tokens[name].mask)) for back, (name, part) in zip(maps, parts.items())}


def lengthened(heads: Tensor, length: int) -> Tensor:
    """Pad tokens (B, H, T, d) with zeros to `length`."""
    missing = length - heads.shape[2]
    return F.pad(heads, (0, 0, 0, missing)) if missing else heads
