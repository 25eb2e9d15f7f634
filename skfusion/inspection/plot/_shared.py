"""What the Displays share: colours, names of metrics, legends that keep inside the figure, and a check."""

from collections.abc import Mapping
from math import ceil
from numbers import Integral
from typing import Any

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "0.35")
"""Okabe and Ito's, told apart by colour-blind people."""
METRICS = {"r2": "R²", "roc_auc": "ROC AUC"}


def legend_of_height(owner: Any, handles: Any, labels: list[str], height: float, **how: Any) -> Any:
    """Return a legend of `owner`, a figure or Axes, in as many columns as keep it within `height` pixels."""
    how = {"frameon": False, "fontsize": "small", "columnspacing": 1.2, **how}
    legend = owner.legend(handles, labels, **how)
    n_columns = ceil(legend.get_window_extent().height / height)
    if n_columns > 1:
        legend.remove()
        legend = owner.legend(handles, labels, ncols=n_columns, **how)
    return legend


def is_whole(value: Any) -> bool:
    """Whether `value` is a whole number."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_whole(name: str, value: Any, least: int = 1) -> None:
    """Check that `value`, which the user calls `name`, is a whole number of `least` or more."""
    if not is_whole(value) or value < least:
        raise ValueError(f"{name} is {value!r}; due is a whole number of {least} or more.")


def parts_of(result: Any, source: str, names: tuple[str, ...], column: str) -> dict[str, Any]:
    """Return the parts `names` of what the function `source` returned, whose table alone has `column`."""
    if not isinstance(result, Mapping) or any(name not in result for name in names) or column not in result["table"]:
        came = f" with {list(result)}" if isinstance(result, Mapping) else ""
        raise TypeError(f"result is of type {type(result).__name__}{came}; due is what {source} returned.")
    return {name: result[name] for name in names}
