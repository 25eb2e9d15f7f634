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
    masks = [t.mask for t in tokens.values()]
    scale = attentions[0].scale
    if attentions[0].attended is not None:
        attentions[0].attended.append(attended_partners(projected, masks, weights, scale))
    answers = [side_by_side(answer) for answer in averaged_answers(projected, masks, weights, scale)]  # M x (B, T, D)
    maps = [attention.out for attention in attentions] if out is None else [out] * len(answers)
    return {name: cleaned(Tokens(back(answer), mask)) for name, back, answer, mask in zip(tokens, maps, answers, masks)}


def averaged_answers(
    projected: list[tuple[Tensor, Tensor, Tensor]], masks: list[Tensor], weights: Tensor, scale: float | None
) -> list[Tensor]:
    """Average what partners answer to each modality's queries, M x (B, H, T, d)."""
    lengths = [mask.shape[1] for mask in masks]
    asked = who_asks(weights)
    said: list[list[Tensor]] = [[] for _ in lengths]
    # One partner after the other, for the queries of all who ask it.
    for k, ((_, key, value), seen) in enumerate(zip(projected, masks)):
        asking = [m for m in range(len(lengths)) if asked[m][k]]
        if not asking:
            continue
        query = torch.cat([projected[m][0] for m in asking], dim=2)  # (B, H, T, d)
        own = owners(tuple(n if m in asking else 0 for m, n in enumerate(lengths)), 0, weights.device)
        share = weights[:, own, k].view(-1, 1, len(own), 1)  # (B, 1, T, 1)
        answers = share * attend(query, key, value, Mask.of(seen.unsqueeze(1)), scale)  # (B, H, T, d)
        for m, answer in zip(asking, answers.split([lengths[m] for m in asking], dim=2)):
            said[m].append(answer)
    return [sum(own[1:], own[0]) if own else torch.zeros_like(query) for own, (query, _, _) in zip(said, projected)]


def attended_partners(
    projected: list[tuple[Tensor, Tensor, Tensor]], masks: list[Tensor], weights: Tensor, scale: float | None
) -> Attended:
    """Weights by which `averaged_answers` averages the values of all partners, for `recorded_attention`."""
    owner = owners(tuple(mask.shape[1] for mask in masks), 0, weights.device)  # (T,)
    query = torch.cat([query for query, _, _ in projected], dim=2)  # (B, H, T, d)
    share = weights[:, owner].unsqueeze(-1)  # (B, T, M, 1)
    parts = [
        share[:, :, k] * attention_weights(query, key, Mask.of(seen.unsqueeze(1)), scale).mean(1)  # (B, T, Tk)
        for k, ((_, key, _), seen) in enumerate(zip(projected, masks))
    ]
    return Attended((owner, owner), torch.cat(parts, -1) * torch.cat(masks, 1).unsqueeze(-1))


def who_asks(weights: Tensor) -> list[list[bool]]:
    """Whether modality m listens to modality k in any sample of (B, M, M); the CPU alone is asked."""
    if weights.device.type != "cpu" or torch.compiler.is_compiling():
        return [[True] * weights.shape[1]] * weights.shape[1]
    answer: list[list[bool]] = (weights > 0).any(0).tolist()
    return answer
