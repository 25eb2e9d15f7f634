"""MIL-NCE: some token of one modality belongs to the embedding of another, nobody says which."""

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skfusion.encoders.batch import Batch, Tokens
from skfusion.fusion.output import FusionOutput
from skfusion.objectives.checks import require_above_0, require_whole_numbers
from skfusion.objectives.context import Context, Part, Setting
from skfusion.objectives.objective import Objective
from skfusion.objectives.pairs import checked_pairs, mean_over_pairs, several
from skfusion.objectives.probe import count_tokens


class MILNCE(Objective):
    r"""Contrast of a modality's embedding with the bag of another's tokens [1]_, [2]_.

    With the cosines :math:`s` of what linear maps make of the embedding and of the tokens, and the sample's own tokens
    P and those of all others in the batch N,

    .. math:: -\log \frac{\sum_P \exp(s / \tau)}{\sum_P \exp(s / \tau) + \sum_N \exp(s / \tau)}.

    It is the mean over samples that have both and over pairs, and leaves a pair out where fewer than two samples have
    both. Tokens are those that encoders give, before the fusion. Contrast holds a similarity for each sample and each
    token of the batch.

    Parameters
    ----------
    pairs : "auto" or list of (str, str), default="auto"
        Whose embedding, and whose tokens. "auto" is each modality of one token with each of several; where there are
        no such, all with all others.
    temperature : float, default=0.07
        What cosines are divided by.
    n_projection : int, default=None
        Width of what is compared; None is that of the fused embedding.

    References
    ----------
    .. [1] Akbari et al., "VATT: transformers for multimodal self-supervised learning from raw video, audio and text",
       NeurIPS, 2021.
    .. [2] Miech et al., "End-to-end learning of visual representations from uncurated instructional videos", CVPR,
       2020.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion import MultimodalPretrainer
    >>> rng = np.random.default_rng(0)
    >>> X = {"labs": rng.normal(size=(60, 4)), "ecg": rng.normal(size=(60, 12, 3))}
    >>> pretrainer = MultimodalPretrainer(["mil_nce"], encoders={"ecg": "steps"}, max_epochs=1, random_state=0).fit(X)
    >>> pretrainer.objectives_["mil_nce"].pairs
    [('labs', 'ecg')]
    """

    when = "any"

    def __init__(
        self,
        *,
        pairs: str | Sequence[tuple[str, str]] = "auto",
        temperature: float = 0.07,
        n_projection: int | None = None,
    ) -> None:
        super().__init__()
        if isinstance(pairs, str) and pairs != "auto":
            raise ValueError(f"pairs of MILNCE is {pairs!r}; due is 'auto' or a list of pairs of modalities.")
        require_above_0("MILNCE", temperature=temperature)
        require_whole_numbers("MILNCE", or_none=True, n_projection=n_projection)
        self.given, self.temperature, self.n_projection = pairs, temperature, n_projection

    def arguments(self) -> dict[str, Any]:
        """Return the arguments; the pairs as they were given."""
        return {**super().arguments(), "pairs": self.given}

    def prepare(self, setting: Setting) -> None:
        """Choose the pairs, and build a projection for each embedding and for the tokens of each modality."""
        network = setting.network
        names = several("mil_nce", network.names)
        if isinstance(self.given, str):
            bags = {name for name in names if count_tokens(setting, name) > 1}
            mixed = 0 < len(bags) < len(names)
            self.pairs = [(a, b) for a, b in permutations(names, 2) if not mixed or (a not in bags and b in bags)]
        else:
            self.pairs = checked_pairs("MILNCE", self.given, names)
        width = self.n_projection or setting.widths["fusion"]
        own = {name: encoder.n_out for name, encoder in zip(names, network.encoders)}
        self.of_embedding = nn.ModuleList(nn.Linear(setting.widths[a], width, bias=False) for a, _ in self.pairs)
        self.of_tokens = nn.ModuleList(nn.Linear(own[b], width, bias=False) for _, b in self.pairs)

    def views(self, batch: Batch, generator: object = None) -> dict[str, Batch]:
        """Return the batch as it is."""
        return {"clean": batch}

    def loss(self, outputs: dict[str, FusionOutput], batch: Batch, context: Context) -> dict[str, Part]:
        """Return the mean over pairs."""
        output, present_in = outputs["clean"], context.network.present_in
        losses, boths = [], []
        for (a, b), of_embedding, of_tokens in zip(self.pairs, self.of_embedding, self.of_tokens):
            both = present_in(a, batch.present) & present_in(b, batch.present)  # (B,)
            values, mask = output.encoded[b]
            query, keys = of_embedding(output.heads[a]), of_tokens(values)  # (B, D), (B, T, D)
            losses.append(bag_loss(query, Tokens(keys, mask & both.unsqueeze(1)), self.temperature))
            # A sample whose steps are all padding has no bag.
            boths.append(both & mask.any(1))
        return {"loss": mean_over_pairs(torch.stack(losses), torch.stack(boths), 2)}


def bag_loss(query: Tensor, bags: Tokens, temperature: float) -> Tensor:
    """Return `mil_nce` of the cosines of `query` (B, D) and the real tokens of all `bags` (B, T, D), (B,)."""
    values, mask = bags
    # What is not real is left out by the mask; 0 keeps what it holds, inf too, out of the gradient.
    keys = F.normalize(torch.where(mask.unsqueeze(-1), values, 0.0), dim=-1)  # (B, T, D)
    similarity = F.normalize(query, dim=-1) @ keys.flatten(0, 1).T  # (B, B T)
    return mil_nce(similarity.unflatten(1, mask.shape), mask, temperature)


def mil_nce(similarity: Tensor, mask: Tensor, temperature: float = 0.07) -> Tensor:
    """Return minus the log of the share that each row's own bag has of all bags, (B, B, T) -> (B,).

    Tokens count as the exponential of their `similarity` over `temperature`, where `mask` (B, T) says that they are
    real. A row whose own bag has none has loss 0.
    """
    logits = (similarity / temperature).masked_fill(~mask, -torch.inf)  # (B, B, T)
    has_own = mask.any(1)  # (B,)
    # -inf less -inf, of rows without a token of their own, would be NaN.
    own = torch.where(has_own.unsqueeze(1), logits.diagonal(dim1=0, dim2=1).mT, 0.0)  # (B, T)
    return torch.where(has_own, logits.flatten(1).logsumexp(1) - own.logsumexp(1), 0.0)
