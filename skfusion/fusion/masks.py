"""Who may attend to whom: pure functions of who owns which token.

An owner is a number a token: the position of its modality, `FUSION` for fusion tokens, `GLOBAL` for a query that sees
all of them.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, wraps
from itertools import combinations
from typing import Any, NamedTuple

import torch
from torch import Tensor

FUSION = -1
GLOBAL = -2


def zorro_mask(queries: Tensor, keys: Tensor) -> Tensor:
    """Zorro's mask [1]_: a modality's tokens see their own kind, fusion and global tokens see everything.

    Parameters
    ----------
    queries, keys : Tensor of int
        Owners (Tq,) and (Tk,).

    Returns
    -------
    Tensor of bool
        (Tq, Tk).

    References
    ----------
    .. [1] Recasens et al., "Zorro: the masked multimodal transformer", arXiv:2301.09595, 2023.
    """
    return own_mask(queries, keys) | (queries < 0).unsqueeze(1)


def own_mask(queries: Tensor, keys: Tensor) -> Tensor:
    """Let each owner's queries (Tq,) see the keys (Tk,) of that owner alone."""
    return queries.unsqueeze(1) == keys.unsqueeze(0)


def readout_mask(queries: Tensor, keys: Tensor) -> Tensor:
    """Let a global query see everything, any other one the tokens of its owner alone (Tq, Tk)."""
    return own_mask(queries, keys) | (queries == GLOBAL).unsqueeze(1)


def partner_weights(present: Tensor, *, self_too: bool) -> Tensor:
    """Weights of the average over partners that are present.

    Parameters
    ----------
    present : Tensor of bool
        (B, M).
    self_too : bool
        Whether a modality is its own partner; otherwise it is only where it has no other.

    Returns
    -------
    Tensor
        (B, M, M): row m are the weights with which modality m listens to each; rows of missing modalities are 0.
    """
    there = present.unsqueeze(1) & present.unsqueeze(2)  # (B, M, M)
    if not self_too:
        own = torch.eye(present.shape[1], dtype=torch.bool, device=present.device)
        others = there & ~own
        there = torch.where(others.any(-1, keepdim=True), others, there)
    weights = there.to(torch.get_default_dtype())
    return weights / weights.sum(-1, keepdim=True).clamp(min=1)


def subsets(n_modalities: int, max_subset: int) -> list[tuple[int, ...]]:
    """All subsets of up to `max_subset` modalities, single ones first."""
    sizes = range(1, min(max_subset, n_modalities) + 1)
    return [subset for size in sizes for subset in combinations(range(n_modalities), size)]


def made_once(make: Callable[..., Any]) -> Callable[..., Any]:
    """Keep what a function of hashable arguments makes, for the next call; let nobody write to it."""
    # Autograd refuses what inference mode made.
    cached = lru_cache(maxsize=256)(torch.inference_mode(False)(make))

    @wraps(make)
    def made(*arguments: Any) -> Any:
        # The compiler makes a constant of it, and warns of caches.
        return make(*arguments) if torch.compiler.is_compiling() else cached(*arguments)

    return made


@made_once
def owners(lengths: Sequence[int], n_fusion: int, device: torch.device) -> Tensor:
    """Owners of packed tokens: `lengths` of each modality, then `n_fusion` fusion tokens (T,)."""
    parts = [torch.full((length,), m) for m, length in enumerate(lengths)]
    return torch.cat([*parts, torch.full((n_fusion,), FUSION)]).to(device)


class Layout(NamedTuple):
    """How subsets of modalities lie over packed tokens.

    Attributes
    ----------
    positions : Tensor of int
        (S, Tmax), which packed tokens a subset has, padded with 0.
    valid : Tensor of bool
        (S, Tmax), False where it is padding.
    rows : list of Tensor of int
        A modality, which subsets it is in.
    """

    positions: Tensor
    valid: Tensor
    rows: list[Tensor]


@made_once
def layout(parts: Sequence[tuple[int, ...]], lengths: Sequence[int], device: torch.device) -> Layout:
    """Lay `parts`, subsets of modalities, over packed tokens of these `lengths`."""
    starts = [sum(lengths[:m]) for m in range(len(lengths))]
    where = [[starts[m] + t for m in part for t in range(lengths[m])] for part in parts]
    longest = max(len(positions) for positions in where)
    positions = torch.tensor([p + [0] * (longest - len(p)) for p in where])
    valid = torch.tensor([[t < len(p) for t in range(longest)] for p in where])
    rows = [torch.tensor([s for s, part in enumerate(parts) if m in part]) for m in range(len(lengths))]
    return Layout(positions.to(device), valid.to(device), [r.to(device) for r in rows])
