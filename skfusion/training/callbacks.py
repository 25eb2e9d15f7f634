"""Callbacks of our own."""

from typing import Any

from skorch.callbacks import Callback


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
