"""One modality of masked modelling: what of it is drawn, what predicts it, and what that costs."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skfusion.decoders.negative_binomial import NegativeBinomial
from skfusion.encoders.batch import ModalityBatch, Tokens, masked_mean
from skfusion.objectives.decode import ValueDecoder, is_symbol, symbol_columns, symbol_error
from skfusion.objectives.positions import Positions, draw, positions

_LARGEST_LOG = 15.0
"""Of how far a predicted mean count may be from the mean of what is seen, as a logarithm."""


class Task(NamedTuple):
    """What is asked of a modality in a batch.

    Attributes
    ----------
    drawn : Tensor
        (B, P) how often each position was drawn.
    values : Tensor
        (B, P, W) the values of each position, zero where there is none.
    known : Tensor of bool
        (B, S) which symbols are known; an unknown category has all zeros.
    """

    drawn: Tensor
    values: Tensor
    known: Tensor


class MaskedModality(nn.Module):
    """One modality of masked modelling: its positions, and what predicts them.

    Parameters
    ----------
    name : str
        The modality, for messages.
    shape : tuple of int
        Shape of a prepared sample.
    n_tokens : tuple of int
        Number of its tokens before and after the fusion.
    n_in : int
        Width of what a prediction is made from.
    encoder : nn.Module
        Its encoder, whose `patch_size` and `n_raw` are looked at.
    groups : list of int or None
        The feature of each column of a table.
    likelihood : {"squared", "categorical", "nb"}
        What the values are.
    n_hidden : int
        Width of the decoder's hidden layer.
    """

    log_theta: nn.Parameter | None

    def __init__(
        self,
        name: str,
        shape: tuple[int, ...],
        n_tokens: tuple[int, int],
        n_in: int,
        *,
        encoder: nn.Module,
        groups: list[int] | None,
        likelihood: str,
        n_hidden: int,
    ) -> None:
        super().__init__()
        require_kind(name, shape, groups, likelihood)
        self.name, self.likelihood = name, likelihood
        self.options: dict[str, Any] = {
            "side": None if len(shape) == 2 else getattr(encoder, "patch_size", None),
            "groups": groups if len(shape) == 1 else None,
            "n_raw": getattr(encoder, "n_raw", 0) if len(shape) == 2 else 0,
            "categorical": likelihood == "categorical",
        }
        self._lay_out(shape, torch.device("cpu"))
        n_positions, width = self.get_buffer("place").shape
        self.by_token = n_tokens == (n_positions, n_positions)
        self.decoder = ValueDecoder(n_in, (width,) if self.by_token else (n_positions, width), n_hidden)
        self.log_theta = nn.Parameter(torch.zeros(n_positions, width)) if likelihood == "nb" else None
        self.are_counts_checked = False

    def positions_of(self, shape: tuple[int, ...]) -> Positions:
        """Positions of samples of `shape`; a sequence may be of another length than those before training."""
        if shape != self.shape:
            self._lay_out(shape, self.get_buffer("owner").device)
        return Positions(*(self.get_buffer(key) for key in Positions._fields))

    def _lay_out(self, shape: tuple[int, ...], device: torch.device) -> None:
        self.shape = shape
        for key, value in positions(shape, **self.options)._asdict().items():
            self.register_buffer(key, value.to(device), persistent=False)

    def task(
        self,
        modality: ModalityBatch,
        present: Tensor,
        at: Positions,
        rate: float,
        replacement: bool,
        generator: torch.Generator | None,
    ) -> Task:
        """Draw positions of the samples that are `present` (B,), and lay their values out."""
        mask = modality.mask & present.unsqueeze(1)  # (B, T or 1)
        real = mask.view(*mask.shape, *[1] * (modality.values.ndim - 2))
        values = torch.where(real, modality.values, 0.0)  # a mask alone does not stop NaN
        if self.likelihood == "nb" and not self.are_counts_checked:
            require_counts(self.name, values)
            self.are_counts_checked = True
        laid_out = F.pad(values.flatten(1), (0, 1))[:, at.place]  # (B, P, W)
        known = is_symbol(symbol_columns(laid_out, at.symbols))  # (B, S)
        there = mask & (units(known, at) > 0)  # (B, P)
        return Task(draw(there, rate, replacement=replacement, generator=generator), laid_out, known)

    def decode(self, tokens: Tokens, beside: Tensor) -> Tensor:
        """Predict from tokens (B, T, D) and an embedding (B, E) what is at the positions, (B, P, W)."""
        if self.by_token:
            values = tokens.values  # (B, P, D)
            seen = torch.cat([values, beside.unsqueeze(1).expand(-1, values.shape[1], -1)], -1)
        else:
            seen = torch.cat([masked_mean(tokens), beside], -1)  # (B, D + E)
        decoded: Tensor = self.decoder(seen)
        return decoded

    def each(self, decoded: Tensor, task: Task) -> Tensor:
        """Loss of each sample, (B,): the mean over its draws of that of a position, the mean over what is there."""
        if decoded.shape != task.values.shape:
            raise ValueError(
                f"modality {self.name!r} has {task.values.shape[1]} positions to predict, but {decoded.shape[1]} "
                "tokens or predictions; masked modelling needs all tokens (drop_token=0), and sequences as long as "
                "at the first fit where the encoder has not one token a step."
            )
        at = self.positions_of(self.shape)
        if self.log_theta is None:
            error = (decoded - task.values).square()  # (B, P, W)
        else:
            error = self._count_error(decoded, task, self.log_theta)
        total = torch.where(at.numbers, error, 0.0).sum(-1)  # (B, P)
        if len(at.symbols):
            logits = symbol_columns(decoded, at.symbols)
            missed = symbol_error(logits, symbol_columns(task.values, at.symbols))  # (B, S)
            total = total.index_add(1, at.symbol_owner, torch.where(task.known, missed, 0.0))
        return mean_over_draws(total / units(task.known, at).clamp(min=1), task.drawn)

    def _count_error(self, decoded: Tensor, task: Task, log_theta: Tensor) -> Tensor:
        """Minus log-likelihood of counts (B, P, W), whose means are relative to that of what is seen."""
        open_ = (task.drawn == 0).unsqueeze(-1)  # (B, P, 1)
        total = torch.where(open_, task.values, 0.0).sum((1, 2)) + 1  # (B,)
        seen = total / (open_.sum((1, 2)) + 1)
        mean = decoded.clamp(-_LARGEST_LOG, _LARGEST_LOG).exp() * seen.view(-1, 1, 1)
        return -NegativeBinomial(mean, log_theta.exp(), validate_args=False).log_prob(task.values)


def units(known: Tensor, at: Positions) -> Tensor:
    """How many numbers and known symbols (B, S) a position holds, (B, P)."""
    numbers = at.numbers.sum(1).expand(len(known), -1)  # (B, P)
    return numbers.index_add(1, at.symbol_owner, known.to(numbers.dtype))


def mean_over_draws(each: Tensor, drawn: Tensor) -> Tensor:
    """Mean of the losses of positions (B, P) over draws; one `drawn` (B, P) twice counts twice. 0 without draws, (B,).

    What was not drawn has no say, and no gradient.
    """
    return torch.where(drawn > 0, each * drawn, 0.0).sum(1) / drawn.sum(1).clamp(min=1)


def require_kind(name: str, shape: tuple[int, ...], groups: list[int] | None, likelihood: str) -> None:
    """Raise where samples of `shape` cannot have that likelihood."""
    if likelihood == "categorical" and len(shape) != 2:
        raise ValueError(
            f"likelihood[{name!r}] is 'categorical', which is for sequences (steps, channels); samples of {name!r} "
            f"have shape {shape}. Category columns of a DataFrame are symbols by themselves."
        )
    if likelihood == "nb" and (len(shape) != 1 or (groups is not None and len(set(groups)) < len(groups))):
        raise ValueError(
            f"likelihood[{name!r}] is 'nb', which is for tables of counts; samples of {name!r} have shape {shape}"
            + (" and category columns." if groups is not None else ".")
        )


def require_counts(name: str, values: Tensor) -> None:
    """Raise where values are no counts."""
    odd = values[(values < 0) | (values != values.floor())]
    if len(odd):
        raise ValueError(
            f"likelihood[{name!r}] is 'nb', but the prepared values of {name!r} hold {odd[0].item():g}; due are "
            "counts, whole numbers of at least 0: give raw counts without NaN, and scale=False. A CSR table of more "
            "than 512 columns is projected, and has no counts."
        )
