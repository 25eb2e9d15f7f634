"""What an objective may look at beside the outputs of its views."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor


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
    """

    network: Any
    target: Any
    weight: Tensor | None
    index: Tensor
    n_samples: int = 0
    epoch: int = 0
    teacher: Any = None
    supervised: Any = None


class Part(NamedTuple):
    """A part of a loss, for the history: its mean over those samples of a batch that it concerns, and their number."""

    mean: Tensor
    n: Tensor
