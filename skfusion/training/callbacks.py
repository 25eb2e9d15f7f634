"""Callbacks of our own."""

import copy
from typing import Any

from skorch.callbacks import Callback, EarlyStopping


class ProgressBar(Callback):
    """A bar over the epochs with the latest losses.

    Parameters
    ----------
    description : str, default="fit"
        What stands before the bar.
    """

    def __init__(self, description: str = "fit") -> None:
        self.description = description

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Open the bar."""
        from tqdm.auto import tqdm

        self.bar_ = tqdm(total=net.max_epochs, desc=self.description, unit="epoch", leave=False)

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Move the bar."""
        last = net.history[-1]
        self.bar_.set_postfix({key: f"{last[key]:.4f}" for key in ("train_loss", "valid_loss") if key in last})
        self.bar_.update()

    def on_train_end(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Close the bar, which does not pickle."""
        self.bar_.close()
        del self.bar_


class StopEarly(EarlyStopping):
    """Early stopping that restores what objectives have learnt together with the network: they belong together."""

    def on_train_begin(self, net: Any, *args: Any, **kwargs: Any) -> None:
        """Forget an earlier training."""
        super().on_train_begin(net, *args, **kwargs)
        self.best_objectives_: Any = None

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Keep the objectives of the best epoch too."""
        before = self.best_epoch_
        try:
            super().on_epoch_end(net, **kwargs)
        finally:  # stopping is an exception
            if self.best_epoch_ != before:
                self.best_objectives_ = copy.deepcopy(net.criterion_.state_dict())

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Restore both."""
        super().on_train_end(net, **kwargs)
        if self.best_objectives_ is not None and self.best_epoch_ != net.history[-1, "epoch"]:
            net.criterion_.load_state_dict(self.best_objectives_)
        self.best_objectives_ = None
