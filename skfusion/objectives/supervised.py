"""The supervised loss of a joint network."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skfusion.encoders.batch import Batch
from skfusion.fusion.output import FusionOutput
from skfusion.objectives.context import Context


class Supervised(nn.Module):
    """Mean over the samples of a batch of a criterion times their weights, which are 1 on average.

    Parameters
    ----------
    criterion : nn.Module, default=None
        Takes predictions and targets and gives one value a sample and output (``reduction="none"``). None is
        cross-entropy where `n_classes` is given, else the squared error.
    n_classes : list of int, default=None
        Number of classes of each output; the logits of all outputs lie side by side.
    label_smoothing : float, default=0.0
        Share of the probability that cross-entropy spreads over all classes.
    """

    when = "any"

    def __init__(
        self,
        criterion: nn.Module | None = None,
        *,
        n_classes: list[int] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.criterion = criterion
        self.n_classes = n_classes
        self.label_smoothing = label_smoothing

    def views(self, batch: Batch, generator: object = None) -> dict[str, Batch]:
        """Return the batch as it is."""
        return {"clean": batch}

    def loss(self, outputs: dict[str, FusionOutput], batch: Batch, context: Context) -> dict[str, Tensor]:
        """Return the loss of the clean view against ``context.target``."""
        prediction = context.network.predict(outputs["clean"])
        return {"loss": self.forward(prediction, context.target, context.weight)}

    def forward(self, prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Predictions (B, n_out), targets (B,) or (B, n_outputs), weights (B,) to a scalar."""
        if self.n_classes is None or len(self.n_classes) == 1:
            losses = [self._each(prediction, target)]
        else:
            parts = prediction.split(self.n_classes, dim=1)
            losses = [self._each(part, target[:, k]) for k, part in enumerate(parts)]
        each = torch.stack([loss if loss.ndim == 1 else loss.flatten(1).mean(1) for loss in losses]).mean(0)  # (B,)
        if weight is None:
            return each.mean()
        return (each * weight).mean()

    def _each(self, prediction: Tensor, target: Tensor) -> Tensor:
        if self.criterion is not None:
            out: Tensor = self.criterion(prediction, target)
            return out
        if self.n_classes is not None:
            return F.cross_entropy(prediction, target, reduction="none", label_smoothing=self.label_smoothing)
        return F.mse_loss(prediction, target, reduction="none")
