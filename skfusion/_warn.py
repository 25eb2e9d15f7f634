"""Warnings that point at the user's line."""

import sys
import warnings

_OURS = ("skfusion", "sklearn", "joblib")
"""Packages whose lines tell a user nothing."""


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn where this package, or scikit-learn on the way to it, was called."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _OURS:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
