"""From embeddings back to the values that a network got, numbers and symbols."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skfusion.encoders.batch import ModalityBatch


class ValueDecoder(nn.Module):
    """A hidden layer with GELU, and a linear map to all values of a sample.

    Parameters
    ----------
    n_in : int
        Width of the embedding.
    shape : tuple of int
        Shape of a prepared sample.
    n_hidden : int, default=128
        Width of the hidden layer.
    """

    def __init__(self, n_in: int, shape: tuple[int, ...], n_hidden: int = 128) -> None:
        super().__init__()
        self.shape = shape
        self.layers = nn.Sequential(nn.Linear(n_in, n_hidden), nn.GELU(), nn.Linear(n_hidden, math.prod(shape)))

    def forward(self, embedding: Tensor) -> Tensor:
        """(B, n_in) -> (B, *shape)."""
        values: Tensor = self.layers(embedding)
        return values.unflatten(-1, self.shape)


def squared_error(decoded: Tensor, batch: ModalityBatch) -> Tensor:
    """Mean squared error of each sample over its values (B, …), padded steps left out, (B,)."""
    real = batch.mask.view(*batch.mask.shape, *[1] * (decoded.ndim - 2))  # (B, T or 1, …)
    error = torch.where(real, decoded - batch.values, 0.0).square()  # (B, …)
    if batch.mask.shape[1] == 1:
        return error.flatten(1).mean(1)
    return error.mean(-1).sum(1) / batch.mask.sum(1).clamp(min=1)


def symbol_columns(values: Tensor, symbols: Tensor) -> Tensor:
    """Columns `symbols` (S, K) of each symbol, (B, …) of V values -> (B, S, K).

    A symbol that has fewer than K has the column V, which gives minus infinity.
    """
    return F.pad(values.flatten(1), (0, 1), value=-torch.inf)[:, symbols]


def is_symbol(values: Tensor) -> Tensor:
    """Whether one-hot codes (…, K) are of a known symbol, (…).

    Standardised or not: one channel is above its mean, and above 0. An unknown symbol has zeros, which are below.
    """
    return values.amax(-1) > 0


def symbol_error(logits: Tensor, values: Tensor) -> Tensor:
    """Cross-entropy of the symbols whose code is `values` (…, K), the largest, under `logits` (…, K), (…)."""
    target = values.argmax(-1, keepdim=True)  # (…, 1)
    return logits.logsumexp(-1) - logits.gather(-1, target).squeeze(-1)
