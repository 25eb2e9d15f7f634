"""What the generative strategies share: one table of all modalities, small networks, and the loop that trains them."""

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skfusion.imputation.tables import to_float32

Loss = Callable[[Tensor, Tensor], Tensor]


class ResidualMLP(nn.Module):
    """Residual blocks of one width between two linear layers.

    Parameters
    ----------
    n_in, n_out, n_hidden, n_layers : int
        Sizes.
    """

    def __init__(self, n_in: int, n_out: int, n_hidden: int, n_layers: int) -> None:
        super().__init__()
        self.first = nn.Linear(n_in, n_hidden)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.SiLU(), nn.Linear(n_hidden, n_hidden), nn.SiLU(), nn.Linear(n_hidden, n_hidden))
            for _ in range(n_layers)
        )
        self.last = nn.Linear(n_hidden, n_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, n_in) to (B, n_out)."""
        x = self.first(x)
        for block in self.blocks:
            x = x + block(x)  # (B, n_hidden)
        out: Tensor = self.last(nn.functional.silu(x))
        return out


class Layout:
    """Where each modality lies in the table of all.

    Parameters
    ----------
    widths : list of int
        Columns of each modality.
    device : torch.device
        Where.
    """

    def __init__(self, widths: list[int], device: torch.device) -> None:
        self.widths = widths
        self.owner = torch.repeat_interleave(torch.arange(len(widths)), torch.tensor(widths)).to(device)  # (D,)

    def repeat(self, by_modality: Tensor) -> Tensor:
        """Repeat (B, M) over the columns of each modality: (B, D)."""
        return by_modality[:, self.owner]

    def split(self, table: Tensor) -> tuple[Tensor, ...]:
        """Cut (B, D) into the tables of the modalities."""
        return table.split(self.widths, dim=1)


def random_targets(present: Tensor, everything: float = 0.05) -> Tensor:
    """Choose which of the modalities present are to be filled (B, M): any number of them, at least one left to go by.

    A share of the samples, `everything`, has nothing left to go by; of the others one with a single modality has none
    to be filled.
    """
    n_present = present.sum(dim=1, keepdim=True)  # (B, 1)
    n_targets = 1 + torch.floor(torch.rand(len(present), 1, device=present.device) * (n_present - 1))
    order = torch.where(present, torch.rand(present.shape, device=present.device), 2.0).argsort(dim=1).argsort(dim=1)
    chosen = order < torch.minimum(n_targets, n_present - 1)
    if everything:
        chosen = chosen | (torch.rand(len(present), 1, device=present.device) < everything)
    return present & chosen


def moved(value: Any, device: Any) -> Any:
    """Return a copy of a tensor, module, `Layout`, or tuple of those, on `device`; None stays None."""
    if isinstance(value, tuple):
        return tuple(moved(part, device) for part in value)
    if isinstance(value, Layout):
        return Layout(value.widths, device)
    return None if value is None else copy.deepcopy(value).to(device)


def train(
    modules: list[nn.Module],
    step: Callable[[Tensor, Tensor], Iterator[Tensor]],
    table: Tensor,
    present: Tensor,
    *,
    lrs: list[float],
    betas: tuple[float, float],
    max_steps: int,
    batch_size: int,
    verbose: int,
    title: str,
) -> list[nn.Module]:
    """Train and return the running averages of the modules.

    Parameters
    ----------
    modules : list of Module
        Each has an optimiser of its own.
    step : callable
        ``step(values (B, D), present (B, M))`` yields the loss of each module in turn, computed only once the module
        before has been updated.
    table, present : Tensor
        All samples, (n, D) and (n, M).
    lrs, betas
        Of Adam; the rates fall to zero along a cosine.
    max_steps, batch_size : int
        How long.
    verbose : int
        1 shows a progress bar.
    title : str
        What stands beside it.
    """
    averages = [copy.deepcopy(module).requires_grad_(False) for module in modules]
    weights = [list(module.parameters()) for module in modules]
    kept: list[list[Tensor]] = [list(average.parameters()) for average in averages]
    optimizers = [torch.optim.Adam(own, lr=lr, betas=betas) for own, lr in zip(weights, lrs)]
    schedulers = [torch.optim.lr_scheduler.CosineAnnealingLR(o, max_steps) for o in optimizers]
    batch_size = min(batch_size, len(table))
    order = torch.randperm(len(table), device=table.device)
    start = 0
    for number in _progress(max_steps, title, verbose):
        if start + batch_size > len(order):
            order, start = torch.randperm(len(table), device=table.device), 0
        rows = order[start : start + batch_size]
        start += batch_size
        losses = step(table[rows], present[rows])
        for own, optimizer, scheduler in zip(weights, optimizers, schedulers):
            loss = next(losses)
            optimizer.zero_grad(set_to_none=True)
            loss.backward(inputs=own)
            nn.utils.clip_grad_norm_(own, 10.0)
            optimizer.step()
            scheduler.step()
        keep = min(0.999, (1 + number) / (10 + number))
        for average, own in zip(kept, weights):
            torch._foreach_lerp_(average, [p.data for p in own], 1 - keep)
    return averages


def _progress(max_steps: int, title: str, verbose: int) -> Any:
    if not verbose:
        return range(max_steps)
    from tqdm.auto import tqdm

    return tqdm(range(max_steps), desc=title, unit="step", leave=False)


def time_features(t: Tensor, n_features: int = 32) -> Tensor:
    """Sines and cosines of t (B,) in [0, 1]: (B, n_features)."""
    frequency = torch.exp(torch.linspace(0, math.log(1000.0), n_features // 2, device=t.device))
    angle = t[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def to_tensors(tables: list[Any], present: Any, device: torch.device) -> tuple[Tensor, Tensor]:
    """Lay the tables (n, D_m) side by side on the device, (n, D), with `present` (n, M)."""
    table = torch.from_numpy(to_float32(np.hstack(tables))).to(device)
    return table, torch.from_numpy(np.ascontiguousarray(present)).to(device)
