"""Rehearsal: a network that learns on imitates what it was, on mixtures of a few samples that were kept."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skfusion.encoders.batch import Batch, ModalityBatch
from skfusion.fusion.output import FusionOutput
from skfusion.objectives.context import Context, Part, Setting, mean_of, source_of_draws


class Rehearsal(nn.Module):
    r"""MedCoSS: the squared difference between features of a network and of what it was before this stage [1]_.

    At each step as many stored samples as the batch has are drawn, and each is mixed with another one that has the same
    modalities, λ x_a + (1 - λ) x_b with λ ~ U(0, 1) (`mixed`). The network and its frozen earlier self see the same
    mixtures, the same tokens left out where `drop_token` leaves some out. Features are the embeddings of the modalities
    that a sample has, and the fused one; see `feature_error`. No other objective sees the stored samples.

    Parameters
    ----------
    stored : TensorData
        Prepared samples of earlier stages, at least one.
    teacher : FusionNetwork
        The network as it was; it is frozen here, so let it be a copy. Its modalities are the first ones of the network.

    References
    ----------
    .. [1] Ye et al., "Continual self-supervised learning: towards universal multi-modal medical data representation
       learning", CVPR, 2024.
    """

    when = "any"

    def __init__(self, stored: Any, teacher: nn.Module) -> None:
        super().__init__()
        self.stored = stored
        self.teacher: Any = teacher.eval().requires_grad_(False)
        first, count = groups_of(stored.present.cpu())
        self.order = torch.argsort(first, stable=True)  # samples of a group lie side by side
        self.first, self.count = first[self.order], count[self.order]
        self.view: Batch | None = None

    def prepare(self, setting: Setting) -> None:
        """Learn which columns of tables are numbers."""
        self.numbers = {name: are_numbers(groups) for name, groups in setting.groups.items()}

    def train(self, mode: bool = True) -> "Rehearsal":
        """Set the mode; the teacher stays as it is used."""
        super().train(mode)
        self.teacher.eval()
        return self

    def views(self, batch: Batch, generator: object = None) -> dict[str, Batch]:
        """Return mixtures of as many stored samples as the batch has."""
        n = len(batch)
        source = source_of_draws(self.training, self.order, None)
        place = torch.randint(len(self.order), (n,), generator=source)
        count = self.count[place]
        partner = self.first[place] + torch.minimum((torch.rand(n, generator=source) * count).long(), count - 1)
        one, other = (next(self.stored.subset(self.order[p]).iterate(n)).batch for p in (place, partner))
        share = torch.rand(n, generator=source).to(batch.present.device)
        modalities = {
            name: mixed(values, other.modalities[name], share, self.numbers.get(name))
            for name, values in one.modalities.items()
        }
        absent = {name: self._absent(name, batch) for name in batch.modalities if name not in modalities}
        present = F.pad(one.present, (0, len(absent)))  # (B, M)
        # What the network drops is kept with the batch, so that the teacher drops the same.
        self.view = Batch({**modalities, **absent}, present, draws={} if self.training else None)
        return {"stored": self.view}

    def loss(self, outputs: dict[str, FusionOutput], batch: Batch, context: Context) -> dict[str, Part]:
        """Return the mean over the stored samples of this step."""
        view, self.view = self.view, None
        assert view is not None
        names = self.teacher.names
        known = Batch(view.modalities, view.present[:, : len(names)], draws=view.draws)
        with torch.no_grad():
            target = context.run(self.teacher, known)
        each = feature_error(outputs["stored"].heads, target.heads, known.present, names)  # (B,)
        return {"loss": mean_of(known.present.any(1), each)}

    def _absent(self, name: str, batch: Batch) -> ModalityBatch:
        values, mask = batch.modalities[name][:2]
        return ModalityBatch(values.new_zeros(1).expand_as(values), torch.zeros_like(mask))


def feature_error(found: dict[str, Tensor], due: dict[str, Tensor], present: Tensor, names: list[str]) -> Tensor:
    """Mean squared difference of the embeddings of each sample, (B,).

    Parameters
    ----------
    found, due : dict of str to Tensor
        Embeddings (B, D) by head.
    present : Tensor of bool
        (B, M).
    names : list of str
        The M modalities. The mean runs over the heads of those that a sample has, and ``"fusion"``.
    """
    errors = [(found[head].float() - due[head].float()).square().mean(1) for head in (*names, "fusion")]
    there = torch.cat([present, present.any(1, keepdim=True)], dim=1)  # (B, M + 1)
    return torch.where(there, torch.stack(errors, 1), 0.0).sum(1) / there.sum(1).clamp(min=1)


def mixed(one: ModalityBatch, other: ModalityBatch, share: Tensor, numbers: Tensor | None = None) -> ModalityBatch:
    """Return `share` (B,) of `one` and the rest of `other`, where both are real; elsewhere `one`.

    `numbers` (D,) says which columns of a table may be mixed; the others are those of `one`. None is all.
    """
    values = one.values
    share = share.view(-1, *[1] * (values.ndim - 1))
    between = share * values + (1 - share) * other.values
    both = one.mask & other.mask  # (B, T)
    real = both if both.shape[1] == 1 else both.unsqueeze(-1)
    may = real.view(*real.shape, *[1] * (values.ndim - real.ndim))
    if numbers is not None:
        may = may & numbers.to(values.device)
    return one._replace(values=torch.where(may, between, values))


def groups_of(present: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each sample of `present` (N, M) where those with the same modalities start, and how many these are.

    Samples are thought of as sorted by what they have.
    """
    _, group, counts = torch.unique(present, dim=0, return_inverse=True, return_counts=True)
    starts = counts.cumsum(0) - counts
    return starts[group], counts[group]


def are_numbers(groups: list[int] | None) -> Tensor | None:
    """Which columns of a table are by themselves (D,), and not one of several that stand for a category."""
    if groups is None:
        return None
    group = torch.tensor(groups)
    return torch.bincount(group)[group] == 1
