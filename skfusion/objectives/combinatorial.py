"""Everything at once: subsets of the modalities of one sample belong together, those of different samples do not."""

import math
from collections.abc import Collection, Mapping
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from skfusion.encoders.batch import Batch
from skfusion.fusion.output import FusionOutput
from skfusion.objectives.checks import require_above_0, require_at_least_0, require_one_of
from skfusion.objectives.context import Context, Part, Setting
from skfusion.objectives.contrastive import nce
from skfusion.objectives.objective import Objective
from skfusion.objectives.pairs import mean_over_pairs, several

_VARIANTS = ("norm_softmax", "mms")
_MOST = 3
"""Modalities in both subsets of a pair together."""
_DUE = "due are pairs of subsets that share no modality, of one modality each or one and two"

Pair = frozenset[frozenset[str]]


class Combinatorial(Objective):
    r"""Contrast between the embeddings of subsets of the modalities: one and one, and one and two [1]_.

    With the weights :math:`w` of all pairs of subsets that share no modality, it is :math:`\sum_w w L / \sum_w w`, and
    a pair's L is the sum of finding the one subset by the other and back, among the samples of the batch that have
    all members of both; a pair that fewer than two samples have is left out. Under ``fusion="everything_at_once"``
    all embeddings come from one pass, and `MultimodalPretrainer.retrieve` compares those of single modalities.
    Elsewhere each subset is a further pass in which nothing else is present, and its embedding is the fused one: what
    `transform` makes of samples with just these modalities.

    Parameters
    ----------
    variant : {"norm_softmax", "mms"}, default="norm_softmax"
        Cosines divided by `temperature`, or as they are, a sample's own less `margin`.
    temperature : float, default=0.05
        Of "norm_softmax".
    margin : float, default=0.001
        Of "mms".
    weights : dict of (names, names) to float, default=None
        Weights of pairs of subsets, in either order; 1 for those it does not name. A name alone is a subset of one.
        ``{("text", "video"): 10.0}`` weighs as [1]_ does.

    References
    ----------
    .. [1] Shvetsova et al., "Everything at once: multi-modal fusion transformer for video retrieval", CVPR, 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion import MultimodalPretrainer
    >>> from skfusion.objectives import Combinatorial
    >>> rng = np.random.default_rng(0)
    >>> latent = rng.normal(size=(80, 2))
    >>> X = {name: latent @ rng.normal(size=(2, 4)) for name in ("text", "video", "audio")}
    >>> objective = Combinatorial(weights={("text", ("video", "audio")): 2.0})
    >>> pretrainer = MultimodalPretrainer([objective], fusion="everything_at_once", max_epochs=1, random_state=0).fit(X)
    >>> pretrainer.retrieve(X, by="text", of="video", k=1).indices.shape
    (80, 1)
    """

    when = "any"

    def __init__(
        self,
        *,
        variant: str = "norm_softmax",
        temperature: float = 0.05,
        margin: float = 0.001,
        weights: Mapping[tuple[Collection[str], Collection[str]], float] | None = None,
    ) -> None:
        super().__init__()
        require_one_of("Combinatorial", _VARIANTS, variant=variant)
        require_above_0("Combinatorial", temperature=temperature)
        require_at_least_0("Combinatorial", margin=margin)
        self.variant, self.temperature, self.margin = variant, temperature, margin
        self.weights = _by_pair(weights or {})

    def prepare(self, setting: Setting) -> None:
        """Lay out the pairs of subsets."""
        names = several("combinatorial", setting.network.names)
        singles: list[tuple[str, ...]] = [(name,) for name in names]
        # Of two modalities the pair of both has nothing to be compared with.
        self.subsets = singles + [*combinations(names, 2)] * (len(names) > 2)
        pairs = [
            (a, b)
            for a, b in combinations(range(len(self.subsets)), 2)
            if len({*self.subsets[a], *self.subsets[b]}) == len(self.subsets[a]) + len(self.subsets[b]) <= _MOST
        ]
        keys = [_pair(self.subsets[a], self.subsets[b]) for a, b in pairs]
        unknown = [key for key in self.weights if key not in keys]
        if unknown:
            raise ValueError(
                f"weights of Combinatorial holds {sorted(map(sorted, unknown[0]))}; {_DUE}, of the modalities {names}."
            )
        weights = [self.weights.get(key, 1.0) for key in keys]
        if not any(weights):
            raise ValueError("weights of Combinatorial are all 0; due is one above 0.")
        member = torch.tensor([[name in subset for name in names] for subset in self.subsets])
        self.register_buffer("pairs", torch.tensor(pairs), persistent=False)
        self.register_buffer("shares", torch.tensor(weights), persistent=False)
        self.register_buffer("member", member, persistent=False)
        # A fusion that embeds subsets by itself has them as `subsets`, positions of modalities.
        given = set(getattr(setting.network.fusion, "subsets", ()))
        self.in_one_pass = {tuple(names.index(name) for name in subset) for subset in self.subsets} <= given
        if self.in_one_pass:
            self.heads, self.project = names, _project

    pairs: Tensor
    shares: Tensor
    member: Tensor

    def views(self, batch: Batch, generator: object = None) -> dict[str, Batch]:
        """Return the batch as it is, or one view a subset, in which samples that lack a member have nothing."""
        if self.in_one_pass:
            return {"clean": batch}
        complete = self._complete(batch.present).unsqueeze(-1)  # (S, B, 1)
        return {
            str(subset): Batch(batch.modalities, there & member)
            for subset, there, member in zip(self.subsets, complete, self.member)
        }

    def loss(self, outputs: dict[str, FusionOutput], batch: Batch, context: Context) -> dict[str, Part]:
        """Return the weighted mean over pairs of subsets."""
        if self.in_one_pass:
            embeddings = [outputs["clean"].subsets[subset] for subset in self.subsets]
        else:
            embeddings = [outputs[str(subset)].fused for subset in self.subsets]
        each, both = self.each(torch.stack(embeddings), self._complete(batch.present))
        return {"loss": mean_over_pairs(each, both, 2, self.shares)}

    def each(self, embeddings: Tensor, complete: Tensor) -> tuple[Tensor, Tensor]:
        """Losses (P, B) of all pairs, and who has both; of the subsets' `embeddings` (S, B, D) and who is `complete`.

        The latter is (S, B).
        """
        unit = F.normalize(embeddings, dim=-1)
        a, b = self.pairs.unbind(1)  # (P,)
        both = complete[a] & complete[b]  # (P, B)
        similarity = unit[a] @ unit[b].mT  # (P, B, B)
        if self.variant == "mms":
            return mms(similarity, both, self.margin), both
        return norm_softmax(similarity, both, self.temperature), both

    def _complete(self, present: Tensor) -> Tensor:
        """Who has all members of each subset, (B, M) -> (S, B)."""
        return (present | ~self.member.unsqueeze(1)).all(-1)


def norm_softmax(similarity: Tensor, known: Tensor, temperature: float = 0.05) -> Tensor:
    """Return the cross-entropies of each row's and of each column's own entry, added up, (…, B, B) -> (…, B).

    Similarities are divided by `temperature`; `known` (…, B) are the samples that count, beside a row's own.
    """
    logits, known = similarity / temperature, known.unsqueeze(-2)
    return nce(logits, known) + nce(logits.mT, known)


def mms(similarity: Tensor, known: Tensor, margin: float = 0.001) -> Tensor:
    """Return the same of similarities as they are, each own one less `margin`, (…, B, B) -> (…, B)."""
    own = torch.eye(similarity.shape[-1], dtype=similarity.dtype, device=similarity.device)
    return norm_softmax(similarity - margin * own, known, 1.0)


def _project(head: str, embedding: Tensor) -> Tensor:
    """Map the embedding of a head (B, D) to where heads are compared: it is there, but for its length."""
    return F.normalize(embedding, dim=-1)


def _pair(a: Collection[str], b: Collection[str]) -> Pair:
    return frozenset({frozenset(a), frozenset(b)})


def _by_pair(weights: Mapping[tuple[Collection[str], Collection[str]], float]) -> dict[Pair, float]:
    found: dict[Pair, float] = {}
    for pair, weight in weights.items():
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise ValueError(f"weights of Combinatorial holds {pair!r}; {_DUE}.")
        if not 0 <= weight < math.inf:
            raise ValueError(f"weights of Combinatorial gives {pair!r} {weight!r}; due is a number of at least 0.")
        a, b = ((part,) if isinstance(part, str) else part for part in pair)
        if _pair(a, b) in found:
            raise ValueError(f"weights of Combinatorial holds {pair!r} twice, in either order; leave one out.")
        found[_pair(a, b)] = float(weight)
    return found
