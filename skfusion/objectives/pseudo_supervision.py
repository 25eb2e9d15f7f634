"""Supervision by what each modality says by itself."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skfusion.encoders.batch import Batch
from skfusion.fusion.output import FusionOutput
from skfusion.objectives.context import Context
from skfusion.objectives.supervised import mean_over


class PseudoSupervision(nn.Module):
    r"""Teach a fusion's second embedding what each modality predicts by itself, averaged over epochs [1]_.

    The loss is the mean over the modalities m that are present of KL(p_m || softmax of the second prediction), where
    p_m is the mean of that modality's own predictions for the sample over the epochs so far: what changes from epoch to
    epoch is unreliable, and averages out. For numbers it is the squared difference to that mean. With one output of
    classes, the modalities' embeddings are also drawn to a learned vector of their class.

    Parameters
    ----------
    n_classes : list of int or None
        Classes of each output; None is regression.
    n_latent : int
        Width of the modalities' embeddings.
    weight : float, default=1.0
        Weight of the pseudo-supervised loss.
    alignment : float, default=1e-3
        Weight of the squared distance to the class vectors.

    References
    ----------
    .. [1] Zhang et al., "Learning unseen modality interaction", NeurIPS, 2023.
    """

    when = "any"

    def __init__(
        self, n_classes: list[int] | None, n_latent: int, *, weight: float = 1.0, alignment: float = 1e-3
    ) -> None:
        super().__init__()
        self.n_classes = n_classes
        self.weight, self.alignment = weight, alignment
        self.class_vectors = None
        if n_classes is not None and len(n_classes) == 1:
            self.class_vectors = nn.Parameter(0.02 * torch.randn(n_classes[0], n_latent))
        self._sums: Tensor | None = None
        self._counts: Tensor | None = None

    def views(self, batch: Batch, generator: object = None) -> dict[str, Batch]:
        """Return the batch as it is."""
        return {"clean": batch}

    def loss(self, outputs: dict[str, FusionOutput], batch: Batch, context: Context) -> dict[str, Tensor]:
        """Return the loss of the second embedding."""
        network, output = context.network, outputs["clean"]
        if output.second is None or output.present is None:
            raise ValueError("PseudoSupervision needs a fusion with a second embedding, such as 'unseen'.")
        own = torch.stack([network.predict(output, name) for name in network.names], 1)  # (B, M, n_out)
        said = self._average(own.detach(), output.present, context)  # (B, M, n_out)
        second = network.head(output.second).unsqueeze(1)  # (B, 1, n_out)
        apart = self._apart(second, said)  # (B, M)
        sample_weight = 1.0 if context.weight is None else context.weight.unsqueeze(1)  # (B, 1)
        loss = self.weight * mean_over(output.present, apart * sample_weight)
        if self.class_vectors is None:
            return {"loss": loss, "of_pseudo": loss}
        embeddings = torch.stack([output.heads[name] for name in network.names], 1)  # (B, M, D)
        distance = (embeddings - self.class_vectors[context.target].unsqueeze(1)).square().sum(-1)  # (B, M)
        aligned = mean_over(output.present, distance * sample_weight)
        return {"loss": loss + self.alignment * aligned, "of_pseudo": loss}

    def on_train_end(self) -> None:
        """Forget what the samples of this training were said to be."""
        self._sums = self._counts = None

    def _average(self, own: Tensor, present: Tensor, context: Context) -> Tensor:
        """Add this epoch's predictions to those before; return the means (B, M, n_out)."""
        now = own if self.n_classes is None else torch.cat([p.softmax(-1) for p in own.split(self.n_classes, -1)], -1)
        now = torch.where(present.unsqueeze(-1), now, 0.0).float()
        if self._sums is None or self._counts is None or len(self._sums) != context.n_samples:
            self._sums = now.new_zeros(context.n_samples, *now.shape[1:])
            self._counts = now.new_zeros(context.n_samples, now.shape[1], 1)
        self._sums.index_add_(0, context.index, now)
        self._counts.index_add_(0, context.index, present.unsqueeze(-1).to(now.dtype))
        return self._sums[context.index] / self._counts[context.index].clamp(min=1)

    def _apart(self, second: Tensor, said: Tensor) -> Tensor:
        """Divergence of what was said (B, M, n_out) from the second prediction (B, 1, n_out), (B, M)."""
        if self.n_classes is None:
            return (second - said).square().mean(-1)
        parts: list[Any] = [
            F.kl_div(s.log_softmax(-1).expand_as(p), p, reduction="none").sum(-1)
            for s, p in zip(second.split(self.n_classes, -1), said.split(self.n_classes, -1))
        ]
        return torch.stack(parts).mean(0)
