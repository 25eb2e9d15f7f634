"""Supervision by what each modality says by itself."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skfusion.encoders.batch import Batch, masked_mean
from skfusion.fusion.output import FusionOutput
from skfusion.objectives.checks import require_at_least_0
from skfusion.objectives.context import Context, Setting, mean_of
from skfusion.objectives.objective import Objective


class PseudoSupervision(Objective):
    r"""Teach a fusion's second embedding what each modality predicts by itself, averaged over epochs [1]_.

    For a sample y it is λ times the mean over the modalities m that are present of KL(p_m || softmax of the second
    prediction), plus α times that of ||mean_k F_m - b_y||^2. p_m is the mean of that modality's own predictions for the
    sample over the epochs so far: what changes from epoch to epoch is unreliable, and averages out. For numbers the
    divergence is the squared difference to that mean. F_m are the modality's tokens laid out on K places, before their
    projection, and b_y is a learned vector of the class; there are such vectors for one output of classes.

    Both weights are relative to the loss of the fused prediction, which is one of several where heads predict as well.

    Parameters
    ----------
    n_classes : list of int, default=None
        Classes of each output; None is regression.
    n_latent : int, default=None
        Width of the modalities' tokens. None leaves it and `n_classes` to the estimator.
    weight : float, default=1.0
        λ.
    alignment : float, default=1e-3
        α.

    Examples
    --------
    One that is given to an estimator takes the place of the one that the fusion brings.

    >>> import numpy as np
    >>> from skfusion import JointFusionClassifier
    >>> from skfusion.objectives import PseudoSupervision
    >>> rng = np.random.default_rng(0)
    >>> X, y = {"a": rng.normal(size=(40, 3)), "b": rng.normal(size=(40, 2))}, np.arange(40) % 2
    >>> objectives = [PseudoSupervision(weight=0.3, alignment=0.0)]
    >>> model = JointFusionClassifier(fusion="unseen", objectives=objectives, max_epochs=1, random_state=0).fit(X, y)
    >>> [type(objective).__name__ for objective in model.net_.criterion_]
    ['Supervised', 'PseudoSupervision']

    References
    ----------
    .. [1] Zhang et al., "Learning unseen modality interaction", NeurIPS, 2023.
    """

    when = "any"
    needs_target = True

    def __init__(
        self,
        n_classes: list[int] | None = None,
        n_latent: int | None = None,
        *,
        weight: float = 1.0,
        alignment: float = 1e-3,
    ) -> None:
        super().__init__()
        require_at_least_0("PseudoSupervision", weight=weight, alignment=alignment)
        self.weight, self.alignment = weight, alignment
        self.n_classes = n_classes
        self.class_vectors: nn.Parameter | None = None
        self._sums: Tensor | None = None
        self._counts: Tensor | None = None
        self._is_ready = False
        if n_latent is not None:
            self._build(n_classes, n_latent)

    def prepare(self, setting: Setting) -> None:
        """Learn what there is to predict, and how wide tokens are; what is known already stays."""
        if not self._is_ready:
            self._build(setting.network.n_classes, setting.widths["fusion"])

    def _build(self, n_classes: list[int] | None, n_latent: int) -> None:
        self.n_classes, self._is_ready = n_classes, True
        if n_classes is not None and len(n_classes) == 1:
            self.class_vectors = nn.Parameter(0.02 * torch.randn(n_classes[0], n_latent))

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
        # The supervised loss is the mean over the fused prediction and those of the heads.
        share = 1 / (1 + len(network.head_names))
        loss = share * self.weight * by_sample(output.present, self._apart(second, said), context.weight)
        if self.class_vectors is None:
            return {"loss": loss, "of_pseudo": loss}
        means = torch.stack([masked_mean(output.tokens[name]) for name in network.names], 1)  # (B, M, D)
        distance = (means - self.class_vectors[context.target].unsqueeze(1)).square().sum(-1)  # (B, M)
        aligned = share * self.alignment * by_sample(output.present, distance, context.weight)
        return {"loss": loss + aligned, "of_pseudo": loss}

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


def by_sample(present: Tensor, values: Tensor, weight: Tensor | None) -> Tensor:
    """Mean over samples of `weight` (B,) times the mean of `values` (B, M) over the modalities of each."""
    each = torch.where(present, values, 0.0).sum(1) / present.sum(1).clamp(min=1)  # (B,)
    return mean_of(present.any(1), each if weight is None else each * weight).mean
