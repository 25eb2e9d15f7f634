"""What objectives over pairs of modalities share."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from skfusion.objectives.context import Part


def several(who: str, names: list[str]) -> list[str]:
    """Return the names of modalities, of which `who` needs two or more."""
    if len(names) < 2:
        raise ValueError(
            f"{who} learns from pairs of modalities, and there is only {names[0]!r}; give samples of two or more, "
            "or pretrain with 'reconstruction'."
        )
    return names


def checked_pairs(who: str, pairs: Iterable[Sequence[str]], names: list[str]) -> list[tuple[str, str]]:
    """Return pairs of modalities that a user has named."""
    found: list[tuple[str, str]] = []
    for pair in pairs:
        if isinstance(pair, str) or len(pair) != 2 or pair[0] == pair[1] or not set(pair) <= set(names):
            raise ValueError(f"pairs of {who} holds {pair!r}; due are pairs of two different modalities of {names}.")
        found.append((pair[0], pair[1]))
    if not found:
        raise ValueError(f"pairs of {who} is empty; due is at least one pair of modalities.")
    return found


def mean_over_pairs(each: Tensor, both: Tensor, least: int = 1, weights: Tensor | None = None) -> Part:
    """Mean over pairs of the mean of the losses `each` (P, B) over the samples that have `both` (P, B).

    Pairs that fewer than `least` samples have are left out; `weights` (P,) are those of the pairs.
    """
    n = both.sum(1)  # (P,)
    losses = torch.where(both, each, 0.0).sum(1) / n.clamp(min=1)  # (P,)
    counts = n >= least
    share = counts.to(losses.dtype) if weights is None else torch.where(counts, weights, 0.0)  # (P,)
    total = share.sum()
    loss = torch.where(counts, losses * share, 0.0).sum() / torch.where(total > 0, total, 1.0)
    return Part(loss, (both & (share > 0).unsqueeze(1)).any(0).sum())
