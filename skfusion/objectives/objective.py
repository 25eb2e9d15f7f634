"""What the objectives here have in common: how they are shown."""

import inspect
from typing import Any

from torch import Tensor, nn


class Objective(nn.Module):
    """Base of objectives, whose repr tells which arguments are not at their default, so that a grid's does.

    Attributes are called as the arguments that they come from.
    """

    def arguments(self) -> dict[str, Any]:
        """Return the arguments that it was built with, as far as they are kept."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters if hasattr(self, name)}

    def extra_repr(self) -> str:
        """Return the arguments that are not at their default; of tensors the shape."""
        defaults = {name: p.default for name, p in inspect.signature(type(self)).parameters.items()}
        shown = []
        for name, value in self.arguments().items():
            if isinstance(value, Tensor):
                shown.append(f"{name}=<{' x '.join(map(str, value.shape))}>")
            elif value != defaults[name] and not (defaults[name] is None and value in ({}, [], ())):
                shown.append(f"{name}={value!r}")
        return ", ".join(shown)
