"""Objectives that none of the samples concerns."""

import math
from typing import Any

from skorch.callbacks import Callback


def idle(names: list[str], rows: Any) -> list[str]:
    """Return those objectives whose loss is over no sample in all `rows` of a history, where it is NaN."""
    return [name for name in names if all(math.isnan(row.get(f"train_loss_of_{name}", 0.0)) for row in rows)]


class RefuseIdle(Callback):
    """Raise after the first epoch where none of the objectives has concerned any sample.

    Parameters
    ----------
    names : list of str
        The objectives.
    message : str
        What the ValueError says.
    """

    def __init__(self, names: list[str], message: str) -> None:
        self.names, self.message = names, message

    def on_train_begin(self, net: Any, *args: Any, **kwargs: Any) -> None:
        """Note where this training starts."""
        self.n_before_ = len(net.history)

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Look at the first epoch."""
        rows = net.history[self.n_before_ :]
        if len(rows) == 1 and len(idle(self.names, rows)) == len(self.names):
            raise ValueError(self.message)
