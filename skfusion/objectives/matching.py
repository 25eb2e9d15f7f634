"""Matching: whether all modalities are of the same sample."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skfusion.encoders.batch import Batch, ModalityBatch
from skfusion.fusion.output import FusionOutput
from skfusion.objectives.checks import WHEN, chosen, require_one_of, require_whole_numbers
from skfusion.objectives.context import Context, Part, Setting, concerned, mean_of, source_of_draws
from skfusion.objectives.objective import Objective


class Matching(Objective):
    """Tell from the fused embedding whether one of a sample's modalities was swapped for another sample's [1]_.

    In a view of its own, half of the samples that have several modalities get the values of one of them, chosen at
    random, from another sample that has it. The loss is the cross-entropy of a hidden layer with tanh.

    Parameters
    ----------
    when : {"any", "all", "only"}, default="any"
        Which samples with two modalities or more it concerns: all, those that have all of `modalities`, as in FLAVA, or
        those that have no others.
    modalities : list of str, default=None
        Which modalities `when` looks at, and which are swapped; None is all.
    n_hidden : int, default=None
        Width of the hidden layer; None is that of the fused embedding.

    References
    ----------
    .. [1] Singh et al., "FLAVA: a foundational language and vision alignment model", CVPR, 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion import MultimodalPretrainer
    >>> rng = np.random.default_rng(0)
    >>> X = {"a": rng.normal(size=(60, 4)), "b": rng.normal(size=(60, 3))}
    >>> pretrainer = MultimodalPretrainer(["contrastive", "matching"], max_epochs=1, random_state=0).fit(X)
    >>> "train_loss_of_matching" in pretrainer.history_[0]
    True
    """

    def __init__(
        self, *, when: str = "any", modalities: Sequence[str] | None = None, n_hidden: int | None = None
    ) -> None:
        super().__init__()
        require_one_of("Matching", WHEN, when=when)
        require_whole_numbers("Matching", or_none=True, n_hidden=n_hidden)
        self.when, self.n_hidden = when, n_hidden
        self.modalities = None if modalities is None else list(modalities)
        self._swapped: Tensor | None = None

    def prepare(self, setting: Setting) -> None:
        """Build what decides."""
        names = setting.network.names
        asked = chosen("Matching", self.modalities, names)
        self.columns = [names.index(name) for name in asked]
        self.register_buffer("asked", torch.tensor([name in asked for name in names]), persistent=False)
        width = setting.widths["fusion"]
        n_hidden = self.n_hidden or width
        self.head = nn.Sequential(nn.Linear(width, n_hidden), nn.Tanh(), nn.Linear(n_hidden, 2))

    asked: Tensor

    def views(self, batch: Batch, generator: torch.Generator | None = None) -> dict[str, Batch]:
        """Return the batch with one modality of some samples swapped; `loss` is asked for which next."""
        generator = source_of_draws(self.training, batch.present, generator)
        may = batch.present & self.asked & self._concerned(batch.present).unsqueeze(1)  # (B, M)
        sources = swap_sources(batch.present, may, generator)
        own = torch.arange(len(batch), device=sources.device).unsqueeze(1)
        self._swapped = (sources != own).any(1)  # (B,)
        return {"swapped": swapped(batch, sources)}

    def _concerned(self, present: Tensor) -> Tensor:
        return (present.sum(1) > 1) & concerned(self.when, present, self.columns)

    def loss(self, outputs: dict[str, FusionOutput], batch: Batch, context: Context) -> dict[str, Part]:
        """Return the cross-entropy of having been swapped."""
        if self._swapped is None:
            raise RuntimeError("loss of Matching needs the views of the same batch first.")
        each = F.cross_entropy(self.head(outputs["swapped"].fused), self._swapped.long(), reduction="none")  # (B,)
        self._swapped = None
        return {"loss": mean_of(self._concerned(batch.present), each)}


def swap_sources(present: Tensor, may: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Choose whose values each sample gets of each modality, (B, M) rows of the batch: mostly its own.

    Of each sample that `may` (B, M) swap something, with probability 1/2 one such modality, chosen at random, is that
    of another sample for which it is `present` (B, M). Where there is no other, it is the sample's own.
    """
    n, device = len(present), present.device
    own = torch.arange(n, device=device).unsqueeze(1)  # (B, 1)
    order_draw, choice_draw = torch.rand(2, *present.shape, device=device, generator=generator)  # (B, M)
    # All that have a modality stand in a circle, in random order, and each gets what the next one has.
    order = (order_draw + ~present).argsort(0)  # (B, M)
    holders = present.sum(0)  # (M,)
    following = order.roll(-1, 0)
    following = torch.where(own == holders - 1, order[:1], following)
    following = torch.where(own < holders, following, order)
    others = torch.empty_like(order).scatter_(0, order, following)
    taken = torch.where(may, choice_draw, -1.0).argmax(1, keepdim=True)  # (B, 1)
    coin = torch.rand(n, 1, device=device, generator=generator) < 0.5
    is_taken = torch.zeros_like(may).scatter(1, taken, coin) & may
    return torch.where(is_taken, others, own)


def swapped(batch: Batch, sources: Tensor) -> Batch:
    """Give each sample the values of each modality that the samples `sources` (B, M) have."""
    modalities = {
        name: ModalityBatch._make(None if part is None else part[rows] for part in modality)
        for (name, modality), rows in zip(batch.modalities.items(), sources.unbind(1))
    }
    return Batch(modalities, batch.present)
