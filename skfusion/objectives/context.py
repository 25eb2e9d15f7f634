"""What an objective may look at beside the outputs of its views."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class Setting:
    """What an objective is told before training, so that it can build what it learns.

    Attributes
    ----------
    network : FusionNetwork
        The network that it will train.
    shapes : dict of str to tuple of int
        Shape of a modality's prepared sample, (D,), (T, C) or (C, H, W).
    widths : dict of str to int
        Width of each head's embedding: that of a modality's name, ``"fusion"`` and ``"global"``.
    groups : dict of str to list of int or None
        The feature of each column of a table, where one-hot made several columns of one.
    counts : dict of str to CountStatistics or None
        What training says of the modalities whose encoders get counts.
    """

    network: Any
    shapes: dict[str, tuple[int, ...]]
    widths: dict[str, int]
    groups: dict[str, list[int] | None] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Context:
    """The surroundings of a batch.

    Attributes
    ----------
    network : FusionNetwork
        The network that is trained.
    target, weight : Tensor or None
        Targets (B,) or (B, n_outputs) and weights (B,) of the samples.
    index : Tensor
        (B,) which samples of the training data these are.
    n_samples : int
        How many samples the training data has.
    epoch : int
        Counted from 0.
    teacher : nn.Module or None
        A frozen network to learn from.
    supervised : Supervised or None
        The supervised objective, whose `each` is the loss of a sample.
    run : callable
        ``run(network, batch)`` is the output of any network in the precision of the training.
    """

    network: Any
    target: Any
    weight: Tensor | None
    index: Tensor
    n_samples: int = 0
    epoch: int = 0
    teacher: Any = None
    supervised: Any = None
    run: Callable[[Any, Any], Any] = lambda network, batch: network(batch)


class Part(NamedTuple):
    """A loss, or a part of one: its mean over those samples of a batch that it concerns, and their number."""

    mean: Tensor
    n: Tensor


def concerned(when: str, present: Tensor, columns: list[int]) -> Tensor:
    """Which samples an objective concerns, (B, M) -> (B,).

    Those that have any of its modalities, the `columns` of `present`; all of them; or ("only") any of them and nothing
    else.
    """
    # A list as an index would be copied to the device, which waits for that.
    own = torch.stack([present[:, column] for column in columns], 1)  # (B, number of columns)
    if when == "all":
        return own.all(1)
    if when == "any":
        return own.any(1)
    if when == "only":
        return own.any(1) & (own.sum(1) == present.sum(1))
    raise ValueError(f"when is {when!r}; due is 'any', 'all' or 'only'.")


def source_of_draws(training: bool, like: Tensor, generator: torch.Generator | None) -> torch.Generator | None:
    """Return what views draw from on the device of `like`: `generator`, or torch's own (None) in training.

    In evaluation it is one that starts anew with each batch, so that losses of one epoch compare with those of another.
    """
    if generator is not None or training:
        return generator
    return torch.Generator(like.device).manual_seed(0)


def mean_of(there: Tensor, each: Tensor) -> Part:
    """Mean of the losses `each` (B,) over the samples that are `there` (B,), and their number; 0 where none is."""
    n = there.sum()
    return Part(torch.where(there, each, 0.0).sum() / n.clamp(min=1), n)
