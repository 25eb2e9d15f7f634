"""What options of objectives must be; messages say whose they are, what came, and what is due."""

import math
from collections.abc import Sequence
from typing import Any

from skfusion.fusion.blocks import require_whole

WHEN = ("any", "all", "only")


def require_above_0(owner: str, **options: float) -> None:
    """Raise unless all are finite numbers above 0."""
    for name, value in options.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} of {owner} is {value!r}; due is a number above 0.")


def require_at_least_0(owner: str, **options: float) -> None:
    """Raise unless all are finite numbers of at least 0."""
    for name, value in options.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} of {owner} is {value!r}; due is a number of at least 0.")


def require_whole_numbers(owner: str, *, least: int = 1, or_none: bool = False, **options: int | None) -> None:
    """Raise unless all are whole numbers of at least `least`, or, where that may be, None."""
    for name, value in options.items():
        if value is not None or not or_none:
            require_whole(f"{name} of {owner}", value, least)


def require_one_of(owner: str, allowed: Sequence[str], **options: str) -> None:
    """Raise unless all are among those `allowed`."""
    for name, value in options.items():
        if value not in allowed:
            raise ValueError(f"{name} of {owner} is {value!r}; due is one of {list(allowed)}.")


def chosen(owner: str, asked: Sequence[str] | None, names: list[str]) -> list[str]:
    """Return those of `names` that are asked for, all for None, in the network's order; others raise."""
    unknown = [name for name in asked or () if name not in names]
    if unknown:
        raise ValueError(f"{owner} names the modality {unknown[0]!r}; due are some of {names}.")
    return names if asked is None else [name for name in names if name in asked]


def require_covariates(objective: Any, n_covariates: int) -> None:
    """Raise where an objective that was built for so many covariates has forgotten them, as it does after training."""
    if n_covariates and objective.covariates is None:
        raise ValueError(
            f"{type(objective).__name__} has let go of its covariates at the end of the last training; give a new one, "
            "and set warm_start=False."
        )
