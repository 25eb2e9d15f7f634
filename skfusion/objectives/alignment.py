"""Alignment: the tokens of two modalities lie where moving the ones to the others costs little."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skfusion.encoders.batch import Batch, Tokens
from skfusion.fusion.optimal_transport import precise, sinkhorn
from skfusion.fusion.output import FusionOutput
from skfusion.objectives.checks import require_above_0, require_one_of, require_whole_numbers
from skfusion.objectives.context import Context, Part, Setting
from skfusion.objectives.objective import Objective
from skfusion.objectives.pairs import checked_pairs, mean_over_pairs, several
from skfusion.objectives.transport import exact_plan

_METHODS = ("sinkhorn", "exact")


class Alignment(Objective):
    r"""Cost of moving the tokens of one modality of a sample to those of another [1]_.

    That is :math:`\langle P, C \rangle` with :math:`C = 1 - \cos` of what a linear map a modality makes of the tokens
    that encoders give, and the plan P of least cost between uniform distributions over real tokens [2]_. No gradient
    runs through P. It is the mean over samples that have both and over pairs of modalities.

    All tokens alike cost nothing, so by itself it teaches a network to forget. It is meant beside an objective that
    tells samples apart, ``objectives=["contrastive", "alignment"]``, or with a `margin`.

    Parameters
    ----------
    method : {"sinkhorn", "exact"}, default="sinkhorn"
        Entropic transport on the device, or the plan of least cost itself, a sample at a time on the CPU.
    epsilon : float, default=0.05
        Entropic regularisation of "sinkhorn".
    n_iter : int, default=50
        Iterations of "sinkhorn".
    margin : float, default=None
        By how much it must cost less to move to a sample's own tokens than to those of another sample, the one before
        it in the batch: the loss is :math:`\max(0, \text{margin} + \text{own} - \text{other})`.
    pairs : list of (str, str), default=None
        Names of modalities; None is each two.
    n_projection : int, default=None
        Width of what is compared; None is that of the fused embedding.

    References
    ----------
    .. [1] Chen et al., "UNITER: universal image-text representation learning", ECCV, 2020.
    .. [2] Cuturi, "Sinkhorn distances: lightspeed computation of optimal transport", NeurIPS, 2013.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion import MultimodalPretrainer
    >>> rng = np.random.default_rng(0)
    >>> X = {"eeg": rng.normal(size=(60, 8, 3)), "ecg": rng.normal(size=(60, 12, 2))}
    >>> pretrainer = MultimodalPretrainer(
    ...     ["contrastive", "alignment"], encoders="steps", max_epochs=1, random_state=0
    ... ).fit(X)
    >>> bool(0 < pretrainer.history_[-1]["train_loss_of_alignment"] < 2)
    True
    """

    when = "any"

    def __init__(
        self,
        *,
        method: str = "sinkhorn",
        epsilon: float = 0.05,
        n_iter: int = 50,
        margin: float | None = None,
        pairs: Sequence[tuple[str, str]] | None = None,
        n_projection: int | None = None,
    ) -> None:
        super().__init__()
        require_one_of("Alignment", _METHODS, method=method)
        require_above_0("Alignment", epsilon=epsilon)
        if margin is not None:
            require_above_0("Alignment", margin=margin)
        require_whole_numbers("Alignment", n_iter=n_iter)
        require_whole_numbers("Alignment", or_none=True, n_projection=n_projection)
        self.method, self.epsilon, self.n_iter, self.margin = method, epsilon, n_iter, margin
        self.given, self.n_projection = pairs, n_projection

    def arguments(self) -> dict[str, Any]:
        """Return the arguments; the pairs as they were given."""
        return {**super().arguments(), "pairs": self.given}

    def prepare(self, setting: Setting) -> None:
        """Build a projection of each modality's tokens."""
        names = several("alignment", setting.network.names)
        pairs = combinations(names, 2) if self.given is None else checked_pairs("Alignment", self.given, names)
        self.pairs = [(names.index(a), names.index(b)) for a, b in pairs]
        width = self.n_projection or setting.widths["fusion"]
        self.projections = nn.ModuleList(
            nn.Linear(encoder.n_out, width, bias=False) for encoder in setting.network.encoders
        )

    def views(self, batch: Batch, generator: object = None) -> dict[str, Batch]:
        """Return the batch as it is."""
        return {"clean": batch}

    def loss(self, outputs: dict[str, FusionOutput], batch: Batch, context: Context) -> dict[str, Part]:
        """Return the mean cost over pairs of modalities."""
        tokens = []
        for m, (name, projection) in enumerate(zip(context.network.names, self.projections)):
            values, mask = outputs["clean"].encoded[name]
            mask = mask & batch.present[:, m : m + 1]
            tokens.append(Tokens(projection(torch.where(mask.unsqueeze(-1), values, 0.0)), mask))
        losses, boths = [], []
        for a, b in self.pairs:
            own, both = self._moved(tokens[a], tokens[b])
            if self.margin is not None:
                other, another = self._moved(tokens[a], Tokens(*(part.roll(1, 0) for part in tokens[b])))
                own, both = F.relu(self.margin + own - other), both & another
            losses.append(own)
            boths.append(both)
        return {"loss": mean_over_pairs(torch.stack(losses), torch.stack(boths))}

    def _moved(self, a: Tokens, b: Tokens) -> tuple[Tensor, Tensor]:
        """Return what it costs to move the tokens of each sample, and who has tokens of both, (B,)."""
        cost = 1 - F.normalize(a.values, dim=-1) @ F.normalize(b.values, dim=-1).mT  # (B, Ta, Tb)
        plan = self._plan(precise(cost.detach()), a.mask, b.mask)
        return (plan * cost).sum((1, 2)), a.mask.any(1) & b.mask.any(1)

    def _plan(self, cost: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        if self.method == "sinkhorn":
            return sinkhorn(cost, rows, columns, self.epsilon, self.n_iter)
        return exact_plans(cost, rows, columns)


def exact_plans(cost: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Plans of least cost (B, Ta, Tb) between uniform distributions over real `rows` (B, Ta) and `columns` (B, Tb).

    Zero where a row or column is not real, or where a sample has none.
    """
    costs, real_rows, real_columns = (part.cpu().numpy() for part in (cost, rows, columns))
    plans = np.zeros(costs.shape)
    for plan, own, i, j in zip(plans, costs, real_rows, real_columns):
        if i.any() and j.any():
            plan[np.ix_(i, j)] = exact_plan(own[np.ix_(i, j)])
    return torch.from_numpy(plans).to(cost)
