"""What flows through the networks: a batch of modalities in, tokens out."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class ModalityBatch(NamedTuple):
    """One modality of a batch; a missing slot holds zeros.

    Attributes
    ----------
    values : Tensor
        (B, D), (B, T, C), (B, C, H, W) or what else the modality's kind has.
    mask : Tensor of bool
        (B, T) which steps are real; (B, 1) where the modality has no time axis.
    times, variables, offset : Tensor, optional
        Observation times, variable ids, and log library size, where the modality has them.
    """

    values: Tensor
    mask: Tensor
    times: Tensor | None = None
    variables: Tensor | None = None
    offset: Tensor | None = None


@dataclass(frozen=True)
class Batch:
    """Some samples: a `ModalityBatch` a modality, and who has what (B, M) in the same order.

    Where there are `draws`, the network that sees the batch first keeps there, by shape, what it draws to leave tokens
    out, and those after it leave out the same ones.
    """

    modalities: dict[str, ModalityBatch]
    present: Tensor
    draws: dict[torch.Size, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.present)

    def padded(self, n_more: int) -> "Batch":
        """Append `n_more` samples with nothing present."""
        if not n_more:
            return self
        modalities = {
            name: ModalityBatch._make(None if t is None else _pad(t, n_more) for t in modality)
            for name, modality in self.modalities.items()
        }
        return Batch(modalities, _pad(self.present, n_more))


class Tokens(NamedTuple):
    """What an encoder gives: `values` (B, T, D), and `mask` (B, T), True where a token is real."""

    values: Tensor
    mask: Tensor


def all_true(mask: Tensor) -> bool:
    """Whether `mask` is known to be True everywhere; another device than the CPU, and the compiler, are not asked."""
    return mask.device.type == "cpu" and not torch.compiler.is_compiling() and bool(mask.all())


def masked_mean(tokens: Tokens) -> Tensor:
    """Mean over the real tokens of each sample, (B, T, D) -> (B, D); zeros where none is real."""
    values, mask = tokens
    if all_true(mask):
        return values[:, 0] if values.shape[1] == 1 else values.mean(1)  # (B, D)
    # torch.where, not a product: a mask does not stop NaN.
    if values.shape[1] == 1:
        return torch.where(mask, values[:, 0], 0.0)  # (B, D)
    kept = torch.where(mask.unsqueeze(-1), values, 0.0)  # (B, T, D)
    return kept.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)  # (B, D)


def _pad(tensor: Tensor, n_more: int) -> Tensor:
    return torch.cat([tensor, tensor.new_zeros(n_more, *tensor.shape[1:])])  # (B, …) -> (B + n_more, …)
