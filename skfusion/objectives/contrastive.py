"""Contrast: the modalities of one sample belong together, those of different samples do not."""

import math
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skfusion.encoders.batch import Batch, all_true
from skfusion.fusion.output import FusionOutput
from skfusion.objectives.checks import require_above_0, require_one_of, require_whole_numbers
from skfusion.objectives.context import Context, Part, Setting
from skfusion.objectives.objective import Objective
from skfusion.objectives.pairs import mean_over_pairs, several

_LARGEST_SCALE = 100.0
"""What similarities are multiplied by, at most, as in CLIP."""
_DIRECTIONS = ("mean", "sum", "one")


class Contrastive(Objective):
    r"""InfoNCE between the embeddings of each two modalities, and of each modality and the fusion [1]_.

    Embeddings go through a linear map a head, and are compared by their cosine. A sample's partner is its own embedding
    of the other modality; those of all other samples of the batch that have both modalities are the negatives. It is
    the mean over pairs of heads, and leaves a pair out where fewer than two samples have both.

    Parameters
    ----------
    temperature : float, default=0.07
        What similarities are divided by; where it is learned, its start.
    learn_temperature : bool, default=True
        Whether it is learned; it then stays at or above .01, as in CLIP.
    direction : {"mean", "sum", "one"}, default="mean"
        Whether to find b by a and a by b and take the mean of both losses, as CLIP does, their sum, as ProtST does, or
        just to find the later modality by the earlier one.
    with_fusion : bool, default=True
        Whether the fused embedding is contrasted with each modality's, as in [2]_. Without it nothing teaches a fusion
        whose heads are pure.
    n_projection : int, default=None
        Width of what is compared; None is that of the fused embedding.
    n_memory : int, default=0
        So many of the last embeddings serve as further negatives, one a sample, but for those of the sample itself.
        They are of a network as it was, with its dropout: with many of these, a small ``dropout_rate`` serves better.

    References
    ----------
    .. [1] Radford et al., "Learning transferable visual models from natural language supervision", ICML, 2021.
    .. [2] Recasens et al., "Zorro: the masked multimodal transformer", arXiv:2301.09595, 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion import MultimodalPretrainer
    >>> from skfusion.objectives import Contrastive
    >>> rng = np.random.default_rng(0)
    >>> latent = rng.normal(size=(100, 2))
    >>> X = {"a": latent @ rng.normal(size=(2, 5)), "b": latent @ rng.normal(size=(2, 4))}
    >>> pretrainer = MultimodalPretrainer([Contrastive(temperature=0.1)], max_epochs=2, random_state=0).fit(X)
    >>> pretrainer.retrieve(X, by="a", of="b", k=1).indices.shape
    (100, 1)
    """

    when = "any"

    def __init__(
        self,
        *,
        temperature: float = 0.07,
        learn_temperature: bool = True,
        direction: str = "mean",
        with_fusion: bool = True,
        n_projection: int | None = None,
        n_memory: int = 0,
    ) -> None:
        super().__init__()
        require_above_0("Contrastive", temperature=temperature)
        require_one_of("Contrastive", _DIRECTIONS, direction=direction)
        require_whole_numbers("Contrastive", or_none=True, n_projection=n_projection)
        require_whole_numbers("Contrastive", least=0, n_memory=n_memory)
        self.temperature, self.learn_temperature = temperature, learn_temperature
        self.direction, self.with_fusion = direction, with_fusion
        self.n_projection, self.n_memory = n_projection, n_memory
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)), requires_grad=learn_temperature)

    def prepare(self, setting: Setting) -> None:
        """Build a projection for each head."""
        names = setting.network.names
        self.heads = [*names, "fusion"] if self.with_fusion else several("contrastive", names)
        width = self.n_projection or setting.widths["fusion"]
        self.projections = nn.ModuleList(nn.Linear(setting.widths[head], width, bias=False) for head in self.heads)
        pairs = torch.tensor(list(combinations(range(len(self.heads)), 2)), dtype=torch.int64).view(-1, 2)
        self.register_buffer("pairs", pairs, persistent=False)
        self.register_buffer("memory", torch.zeros(len(self.heads), 0, width), persistent=False)  # (H, K, D)
        self.register_buffer("remembered", torch.zeros(len(self.heads), 0, dtype=torch.bool), persistent=False)
        self.register_buffer("owners", torch.zeros(0, dtype=torch.int64), persistent=False)  # samples, (K,)

    pairs: Tensor
    memory: Tensor
    remembered: Tensor
    owners: Tensor

    def views(self, batch: Batch, generator: object = None) -> dict[str, Batch]:
        """Return the batch as it is."""
        return {"clean": batch}

    def project(self, head: str, embedding: Tensor) -> Tensor:
        """Map the embedding of a head (B, D) to where heads are compared, of length 1, (B, n_projection)."""
        return F.normalize(self.projections[self.heads.index(head)](embedding), dim=-1)

    def loss(self, outputs: dict[str, FusionOutput], batch: Batch, context: Context) -> dict[str, Part]:
        """Return the mean of InfoNCE over pairs of heads."""
        output = outputs["clean"]
        unit = torch.stack([self.project(head, output.heads[head]) for head in self.heads])  # (H, B, D)
        there = torch.stack([context.network.present_in(head, batch.present) for head in self.heads])  # (H, B)
        a, b = self.pairs.unbind(1)  # (P,)
        both = there[a] & there[b]  # (P, B)
        loss = mean_over_pairs(self.each(unit, both, context.index), both, 2)
        if self.training and self.n_memory:
            self._remember(unit.detach(), there, context.index)
        return {"loss": loss}

    def each(self, unit: Tensor, both: Tensor, index: Tensor) -> Tensor:
        """Losses (P, B) of all pairs of heads, of `unit` (H, B, D) embeddings; who has `both` (P, B), and who it is."""
        a, b = self.pairs.unbind(1)  # (P,)
        scale = self._scale()
        logits = scale * unit[a] @ unit[b].mT  # (P, B, B)
        found = self._found(logits, scale * unit[a], b, both, index)  # (P, B)
        if self.direction == "one":
            return found
        back = self._found(logits.mT, scale * unit[b], a, both, index)
        return found + back if self.direction == "sum" else (found + back) / 2

    def _scale(self) -> Tensor:
        if self.log_scale.requires_grad:
            # The parameter itself: one that a clamp holds would get no gradient, and never come down again.
            with torch.no_grad():
                self.log_scale.clamp_(max=math.log(_LARGEST_SCALE))
        return self.log_scale.exp()

    def _found(self, logits: Tensor, queries: Tensor, of: Tensor, both: Tensor, index: Tensor) -> Tensor:
        """Cross-entropy of finding the heads `of` (P,) among those of the batch and of the memory, (P, B)."""
        known = both.unsqueeze(1)  # (P, 1, B)
        if not len(self.owners):
            return nce(logits, known)
        further = queries @ self.memory[of].to(queries.dtype).mT  # (P, B, K)
        # What a sample was some batches ago is no negative of it.
        other = self.remembered[of].unsqueeze(1) & (index.unsqueeze(1) != self.owners)  # (P, B, K)
        return nce(torch.cat([logits, further], -1), torch.cat([known.expand_as(logits), other], -1))

    @torch.no_grad()
    def _remember(self, unit: Tensor, there: Tensor, index: Tensor) -> None:
        """Let the embeddings of this batch push the oldest out, and those of the same samples."""
        kept = slice(0, self.n_memory)
        again = (self.owners.unsqueeze(1) == index).any(1)  # (K,)
        self.memory = torch.cat([unit, self.memory.to(unit.dtype)], dim=1)[:, kept]
        self.remembered = torch.cat([there, self.remembered & ~again], dim=1)[:, kept]
        self.owners = torch.cat([index, self.owners])[kept]

    def on_train_end(self) -> None:
        """Forget the embeddings, which are of the samples of this training."""
        self.memory, self.remembered = self.memory[:, :0].clone(), self.remembered[:, :0].clone()
        self.owners = self.owners[:0].clone()


def info_nce(a: Tensor, b: Tensor, temperature: float = 0.07, *, direction: str = "mean") -> Tensor:
    """Return the contrastive loss of the rows of `a` (B, D) and their partners in `b` (B, D).

    The mean cross-entropy of finding each partner among all rows by the cosine over `temperature`: of b by a ("one"),
    or of both ways their "mean" or their "sum".
    """
    if a.shape != b.shape:
        raise ValueError(
            f"a is {tuple(a.shape)} and b {tuple(b.shape)}; due are partners in the same rows and embeddings of one "
            "width, to which a linear map of each brings them."
        )
    logits = F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T / temperature  # (B, B)
    found = nce(logits).mean()
    if direction == "one":
        return found
    total = found + nce(logits.T).mean()
    return total if direction == "sum" else total / 2


def nce(logits: Tensor, known: Tensor | None = None) -> Tensor:
    """Return the cross-entropy of each row's own column, (…, B, K) -> (…, B).

    The partner of row i is column i; `known` (…, B or 1, K) says which columns count beside a row's own, None all.
    """
    if known is not None and not all_true(known):
        own = torch.eye(*logits.shape[-2:], dtype=torch.bool, device=logits.device)
        logits = torch.where(known | own, logits, -torch.inf)
    return -logits.log_softmax(-1).diagonal(dim1=-2, dim2=-1)
