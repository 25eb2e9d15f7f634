"""Attention to one modality at a time, averaged over the modalities."""

from typing import Any

import torch
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
    recording = attentions[0].attended is not None
    asked = [[True] * len(lengths)] * len(lengths) if recording else who_asks(weights)
    said: list[list[Tensor]] = [[] for _ in lengths]
    each = []
    # One partner after the other, for the queries of all who ask it.
    for k, ((_, key, value), (_, seen)) in enumerate(zip(projected, tokens.values())):
        asking = [m for m in range(len(lengths)) if asked[m][k]]
        if not asking:
            continue
        query = torch.cat([projected[m][0] for m in asking], dim=2)  # (B, H, T, d)
        mask = Mask.of(seen.unsqueeze(1))
        own = owners(tuple(n if m in asking else 0 for m, n in enumerate(lengths)), 0, weights.device)
        share = weights[:, own, k].view(-1, 1, len(own), 1)  # (B, 1, T, 1)
        answers = share * attend(query, key, value, mask, attentions[0].scale)  # (B, H, T, d)
        for m, answer in zip(asking, answers.split([lengths[m] for m in asking], dim=2)):
            said[m].append(answer)
        if recording:
            each.append(attention_weights(query, key, mask, attentions[0].scale).mean(1))  # (B, T, Tk)
    owner = owners(tuple(lengths), 0, weights.device)
    if recording:
        share = weights[:, owner].unsqueeze(-1)  # (B, T, M, 1)
        real = torch.cat([t.mask for t in tokens.values()], 1).unsqueeze(-1)  # (B, T, 1)
        whole = torch.cat([share[:, :, k] * part for k, part in enumerate(each)], -1)  # (B, T, T)
        attentions[0].attended.append(Attended((owner, owner), whole * real))
    parts = {
        name: side_by_side(sum(own[1:], own[0]) if own else torch.zeros_like(query))
        for name, own, (query, _, _) in zip(tokens, said, projected)
    }
    maps = [attention.out for attention in attentions] if out is None else [out] * len(parts)
    return {name: cleaned(Tokens(back(part), tokens[name].mask)) for back, (name, part) in zip(maps, parts.items())}


def who_asks(weights: Tensor) -> list[list[bool]]:
    """Whether modality m listens to modality k in any sample of (B, M, M); the CPU alone is asked."""
    if weights.device.type != "cpu" or torch.compiler.is_compiling():
        return [[True] * weights.shape[1]] * weights.shape[1]
    answer: list[list[bool]] = (weights > 0).any(0).tolist()
    return answer
