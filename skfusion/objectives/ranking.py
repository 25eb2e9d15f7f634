"""More modalities are never worse."""

import torch
import torch.nn.functional as F
from torch import Tensor

from skfusion.encoders.batch import Batch
from skfusion.fusion.output import FusionOutput
from skfusion.objectives.checks import require_at_least_0
from skfusion.objectives.context import Context, mean_of
from skfusion.objectives.objective import Objective


class Ranking(Objective):
    r"""Punish a sample whose loss is larger with a modality more [1]_.

    That is :math:`\max(0, \ell_\text{more} - \ell_\text{fewer})`. A second view of each batch lacks one modality,
    chosen at random, of each sample that has several. The loss with fewer is a bar and gets no gradient from this; it
    joins with a weight of its own, so that the bar is an honest one.

    Parameters
    ----------
    weight : float, default=1.0
        Weight of the ranking.
    fewer : float, default=1.0
        Weight of the supervised loss with fewer modalities.

    References
    ----------
    .. [1] Li et al., "SimMLM: a simple framework for multi-modal learning with missing modality", ICCV, 2025.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion import JointFusionClassifier
    >>> rng = np.random.default_rng(0)
    >>> X, y = {"a": rng.normal(size=(40, 3)), "b": rng.normal(size=(40, 2))}, np.arange(40) % 2
    >>> model = JointFusionClassifier(objectives=["ranking"], max_epochs=1, random_state=0).fit(X, y)
    >>> sorted(name for name in model.history_[0] if name.startswith("train_loss_of"))
    ['train_loss_of_fewer', 'train_loss_of_ranking']
    """

    when = "any"
    needs_target = True

    def __init__(self, *, weight: float = 1.0, fewer: float = 1.0) -> None:
        super().__init__()
        require_at_least_0("Ranking", weight=weight, fewer=fewer)
        self.weight, self.fewer = weight, fewer

    def views(self, batch: Batch, generator: torch.Generator | None = None) -> dict[str, Batch]:
        """Return the batch as it is, and with one modality less."""
        return {"clean": batch, "fewer": Batch(batch.modalities, without_one(batch.present, generator))}

    def loss(self, outputs: dict[str, FusionOutput], batch: Batch, context: Context) -> dict[str, Tensor]:
        """Return the ranking loss and that with fewer modalities, over the samples that have several."""
        more, fewer = (
            context.supervised.each(context.network.predict(outputs[view]), context.target)
            for view in ("clean", "fewer")
        )
        several = batch.present.sum(1) > 1  # (B,)
        weight = torch.ones_like(more) if context.weight is None else context.weight
        ranking = self.weight * mean_of(several, F.relu(more - fewer.detach()) * weight).mean
        supervised = self.fewer * mean_of(several, fewer * weight).mean
        return {"loss": ranking + supervised, "of_ranking": ranking, "of_fewer": supervised}


def without_one(present: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Take one modality, chosen at random, from each sample that has several, (B, M) -> (B, M)."""
    draw = torch.rand(present.shape, device=present.device, generator=generator)
    taken = torch.where(present, draw, -1.0).argmax(1, keepdim=True)
    several = present.sum(1, keepdim=True) > 1
    return present & ~(torch.zeros_like(present).scatter(1, taken, True) & several)
