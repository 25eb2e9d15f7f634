"""Conversion: from the embedding of one modality to that of another."""

from itertools import pairwise, permutations

import torch
from torch import Tensor, nn

from skfusion.encoders.batch import Batch
from skfusion.fusion.output import FusionOutput
from skfusion.objectives.checks import require_whole_numbers
from skfusion.objectives.context import Context, Part, Setting, mean_of
from skfusion.objectives.objective import Objective
from skfusion.objectives.pairs import several


class Conversion(Objective):
    r"""Squared error of each modality's embedding as predicted from that of each other [1]_.

    With :math:`h_b` held fixed, it is :math:`\sum_{a \neq b} \| C_{ab}(h_a) - h_b \|^2 / D_b`, each a mean over the
    samples that have both. `convert` then gives what stands in for the embedding of a missing modality.

    Parameters
    ----------
    n_layers : int, default=1
        Hidden layers, with GELU; 0 is a linear map.
    n_hidden : int, default=128
        Their width.
    cotrain : bool, default=False
        Whether the network learns to be convertible, too; else only the converters learn, from whatever it gives. By
        itself it would teach a network to be the same everywhere, so it needs another objective beside it.

    References
    ----------
    .. [1] Ma, "Multi-modality deep learning", 2024, on ProtST (Xu et al., ICML, 2023).

    Examples
    --------
    >>> import numpy as np, torch
    >>> from skfusion import MultimodalPretrainer
    >>> rng = np.random.default_rng(0)
    >>> X = {"a": rng.normal(size=(60, 4)), "b": rng.normal(size=(60, 3))}
    >>> pretrainer = MultimodalPretrainer(["contrastive", "conversion"], max_epochs=1, random_state=0).fit(X)
    >>> embedding = torch.from_numpy(pretrainer.embed(X, "a"))
    >>> pretrainer.objectives_["conversion"].convert("a", "b", embedding).shape
    torch.Size([60, 64])
    """

    when = "any"

    def __init__(self, *, n_layers: int = 1, n_hidden: int = 128, cotrain: bool = False) -> None:
        super().__init__()
        require_whole_numbers("Conversion", least=0, n_layers=n_layers)
        require_whole_numbers("Conversion", n_hidden=n_hidden)
        self.n_layers, self.n_hidden, self.cotrain = n_layers, n_hidden, cotrain

    def prepare(self, setting: Setting) -> None:
        """Build a converter for each two modalities, in both directions."""
        names = several("conversion", setting.network.names)
        self.pairs = list(permutations(names, 2))
        self.converters = nn.ModuleList(
            converter(setting.widths[a], setting.widths[b], self.n_layers, self.n_hidden) for a, b in self.pairs
        )

    def views(self, batch: Batch, generator: object = None) -> dict[str, Batch]:
        """Return the batch as it is."""
        return {"clean": batch}

    def convert(self, from_: str, to: str, embedding: Tensor) -> Tensor:
        """Predict the embedding of modality `to` from that of modality `from_`, (B, D) -> (B, D)."""
        if (from_, to) not in self.pairs:
            raise ValueError(f"there is no conversion from {from_!r} to {to!r}; there are those of {self.pairs}.")
        found: Tensor = self.converters[self.pairs.index((from_, to))](embedding)
        return found

    def loss(self, outputs: dict[str, FusionOutput], batch: Batch, context: Context) -> dict[str, Part]:
        """Return the sum over pairs."""
        heads, present_in = outputs["clean"].heads, context.network.present_in
        total, concerned = outputs["clean"].fused.new_zeros(()), torch.zeros_like(batch.present[:, 0])
        for a, b in self.pairs:
            both = present_in(a, batch.present) & present_in(b, batch.present)  # (B,)
            source = heads[a] if self.cotrain else heads[a].detach()
            total = total + conversion_error(self.convert(a, b, source), heads[b], both)
            concerned = concerned | both
        return {"loss": Part(total, concerned.sum())}


def conversion_error(converted: Tensor, target: Tensor, both: Tensor) -> Tensor:
    """Mean squared error to a `target` (B, D) that gets no gradient, over the samples that have `both` (B,)."""
    return mean_of(both, (converted - target.detach()).square().mean(1)).mean


def converter(n_in: int, n_out: int, n_layers: int, n_hidden: int) -> nn.Sequential:
    """Build a map of embeddings (B, n_in) to (B, n_out)."""
    widths = [n_in, *[n_hidden] * n_layers]
    hidden = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.GELU())]
    return nn.Sequential(*hidden, nn.Linear(widths[-1], n_out))
