"""Warnings that point at the user's line."""

import sys
import warnings
from typing import Any

_OURS = ("skfusion", "sklearn", "joblib")
"""Packages whose lines tell a user nothing."""


def listed(names: list[Any], most: int = 5) -> str:
    """Return how a message lists `names`: all of a few; of many the first, and how many others there are."""
    n_others = len(names) - most
    if n_others <= 0:
        return str(names)
    return f"{names[:most]} and {n_others} other{'s' if n_others > 1 else ''}"


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn where this package, or scikit-learn on the way to it, was called."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _OURS:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
