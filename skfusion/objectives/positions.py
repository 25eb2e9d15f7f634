"""The positions of a modality, that is what masked modelling hides and predicts at a time, and drawing some of them.

They are the features of a table, where the columns of one category go together, or groups of consecutive features; the
steps of a sequence; the patches of an image or volume.
"""

import math
from fractions import Fraction
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Positions(NamedTuple):
    """Which of a sample's V values are at which of P positions, W at most, and which of them are symbols.

    Attributes
    ----------
    owner : Tensor of int
        (V,) the position of each value, P where it has none.
    place : Tensor of int
        (P, W) the values of each position; V where it has fewer.
    numbers : Tensor of bool
        (P, W) which of them are numbers.
    symbols : Tensor of int
        (S, K) the columns of each symbol (its one-hot code), counted in the P W places; P W where it has fewer.
    symbol_owner : Tensor of int
        (S,) the position of each symbol.
    """

    owner: Tensor
    place: Tensor
    numbers: Tensor
    symbols: Tensor
    symbol_owner: Tensor


def owners_of_values(
    shape: tuple[int, ...], *, side: int | None = None, groups: list[int] | None = None, n_raw: int = 0
) -> tuple[Tensor, int]:
    """Return the position of each value of a sample, flat (V,), and how many positions there are; -1 is none.

    Parameters
    ----------
    shape : tuple of int
        Shape of a sample, (D,), (T, C) or (C, H, W).
    side : int, default=None
        Features a position of a table, or side of a patch; None is one feature, or a quarter of the shortest side.
    groups : list of int, default=None
        The feature of each column of a table.
    n_raw : int, default=0
        So many of the last channels of a sequence belong to no position: they say where a step is, not what.
    """
    if len(shape) == 1:
        (width,) = shape
        column = torch.arange(width)
        if groups is not None:
            feature = torch.tensor(groups)
            if side is None:
                return feature, int(feature.max()) + 1
            # A category that lies across two patches belongs to the first as a whole.
            column = torch.full((width,), width).scatter_reduce(0, feature, column, "amin")[feature]
        side = side or 1
        return column // side, math.ceil(width / side)
    if len(shape) == 2:
        length, width = shape
        step = torch.arange(length).unsqueeze(1).repeat(1, width)  # (T, C)
        step[:, width - n_raw :] = -1
        return step.flatten(), length
    n_channels, *sides = shape
    side = side or math.ceil(min(sides) / 4)
    patch = torch.zeros(1, dtype=torch.int64)
    n_patches = 1
    for axis, length in enumerate(sides):
        n_along = math.ceil(length / side)
        along = torch.arange(length).view(-1, *[1] * (len(sides) - axis - 1)) // side
        patch, n_patches = patch * n_along + along, n_patches * n_along
    return patch.expand(n_channels, *sides).flatten(), n_patches


def positions(
    shape: tuple[int, ...],
    *,
    side: int | None = None,
    groups: list[int] | None = None,
    n_raw: int = 0,
    categorical: bool = False,
) -> Positions:
    """Return the positions of a sample of `shape`; those of a `categorical` sequence hold a symbol each.

    The other parameters are those of `owners_of_values`.
    """
    owner, n_positions = owners_of_values(shape, side=side, groups=groups, n_raw=n_raw)
    n_values = len(owner)
    order = owner.argsort(stable=True)
    order = order[owner[order] >= 0]  # values by position
    count = owner[order].bincount(minlength=n_positions)  # (P,)
    slot = torch.arange(len(order)) - (count.cumsum(0) - count)[owner[order]]
    width = int(count.max())
    place = torch.full((n_positions, width), n_values)
    place[owner[order], slot] = order
    flat = torch.full((n_values,), -1)
    flat[order] = owner[order] * width + slot
    kinds: dict[int, list[int]] = {}
    names = owner.tolist() if categorical else groups or []
    for value, name in enumerate(names):
        if name >= 0:
            kinds.setdefault(name, []).append(value)
    several = [torch.tensor(columns) for columns in kinds.values() if len(columns) > 1]
    symbols = torch.full((len(several), max(map(len, several), default=1)), n_positions * width)
    for row, columns in zip(symbols, several):
        row[: len(columns)] = flat[columns]
    numbers = (place < n_values).flatten()
    numbers[symbols[symbols < len(numbers)]] = False
    symbol_owner = symbols[:, 0] // width
    owner = torch.where(owner < 0, n_positions, owner)
    return Positions(owner, place, numbers.view_as(place), symbols, symbol_owner)


def draw(there: Tensor, rate: float, *, replacement: bool = True, generator: torch.Generator | None = None) -> Tensor:
    """Draw max(1, floor(rate L)) of the L positions that a sample has, `there` (B, P); return how often each, (B, P).

    With replacement a position may be drawn more than once. Of a sample without positions none is drawn.
    """
    share = Fraction(rate).limit_denominator(10**6)
    length = there.sum(1, keepdim=True)  # (B, 1)
    # Whole numbers: .29 * 100 is 28.999… as floats.
    wanted = (length * share.numerator // share.denominator).clamp(min=1).minimum(length)  # (B, 1)
    n_most = max(1, there.shape[1] * share.numerator // share.denominator)
    if replacement:
        level = torch.rand(len(there), n_most, device=there.device, generator=generator)
        rank = (level * length).long().minimum(length - 1)  # (B, n_most), from 0
        chosen = torch.searchsorted(there.cumsum(1), rank + 1).clamp(max=there.shape[1] - 1)
    else:
        level = torch.rand(there.shape, device=there.device, generator=generator)
        chosen = torch.where(there, level, -1.0).topk(n_most, dim=1).indices  # (B, n_most)
    counts = torch.arange(n_most, device=there.device) < wanted  # (B, n_most)
    return torch.zeros(there.shape, device=there.device).scatter_add(1, chosen, counts.float())


def hide(values: Tensor, drawn: Tensor, owner: Tensor) -> Tensor:
    """Set the values (B, …) of the positions that are `drawn` (B, P), more than 0 times, to 0."""
    hidden = F.pad(drawn > 0, (0, 1))[:, owner].view_as(values)  # (B, …)
    return torch.where(hidden, 0.0, values)
