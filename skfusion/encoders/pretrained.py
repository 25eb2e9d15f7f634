"""Encoders that were handed in as torch modules."""

import torch
from torch import Tensor, nn

from skfusion.encoders.batch import ModalityBatch, Tokens


class Wrapped(nn.Module):
    """Any torch module as an encoder.

    Parameters
    ----------
    module : nn.Module
        Takes the values (B, …) and gives (B, D), (B, T, D) or `Tokens`.
    shape : tuple of int
        Shape of a sample.
    name : str
        The modality, for messages.
    """

    def __init__(self, module: nn.Module, shape: tuple[int, ...], name: str) -> None:
        super().__init__()
        self.module = module
        was_training = module.training
        parameter = next(module.parameters(), torch.zeros(()))
        try:
            with torch.no_grad():
                out = module.eval()(torch.zeros(2, *shape, device=parameter.device))
        except (RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"the encoder of modality {name!r}, {type(module).__name__}, does not take its values (B, "
                f"{', '.join(map(str, shape))}) as float32: {error}"
            ) from error
        finally:
            module.train(was_training)
        values = out.values if isinstance(out, Tokens) else out
        if not isinstance(values, Tensor) or values.ndim not in (2, 3):
            got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise ValueError(
                f"the encoder of modality {name!r}, {type(module).__name__}, gave {got}; due is (B, D), (B, T, D) or "
                "Tokens."
            )
        self.n_out = values.shape[-1]

    def forward(self, batch: ModalityBatch) -> Tokens:
        """Values (B, …) -> tokens (B, T, D)."""
        there = batch.mask.any(1)  # (B,)
        if bool(there.all()):
            return self._tokens(self.module(batch.values), batch.mask)
        # A foreign module may normalise by what is missing, or give NaN on zeros: it sees present samples alone.
        if not there.any():
            return Tokens(batch.values.new_zeros(len(there), 1, self.n_out), there.unsqueeze(1))
        values, mask = self._tokens(self.module(batch.values[there]), batch.mask[there])
        shape = (len(there), *values.shape[1:2])
        return Tokens(
            values.new_zeros(*shape, self.n_out).index_put((there,), values),
            mask.new_zeros(shape).index_put((there,), mask),
        )

    def _tokens(self, out: Tensor | Tokens, mask: Tensor) -> Tokens:
        if isinstance(out, Tokens):
            return out
        if out.ndim == 2:
            return Tokens(out.unsqueeze(1), mask.any(1, keepdim=True))
        same_length = out.shape[1] == mask.shape[1]
        return Tokens(out, mask if same_length else mask.any(1, keepdim=True).expand(-1, out.shape[1]))
