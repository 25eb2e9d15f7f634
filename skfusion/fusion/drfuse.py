"""DrFuse: what modalities share is merged, what each has alone stays apart, and attention weighs them."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skfusion.encoders.batch import Tokens
from skfusion.fusion.attention import AttentionPooling
from skfusion.fusion.blocks import PooledFusion, stack
from skfusion.fusion.masks import FUSION
from skfusion.fusion.output import FusionOutput


def merge(shared: Tensor, present: Tensor) -> Tensor:
    r"""Merge shared parts to the logit of the mean of their sigmoids [1]_.

    The logit of a mean of sigmoids is :math:`\log \sum_m \sigma(h_m) - \log \sum_m \sigma(-h_m)`, in which no large
    number is rounded to a probability of 0 or 1.

    Parameters
    ----------
    shared : Tensor
        Shared part of each modality (B, M, D).
    present : Tensor of bool
        (B, M); what is not present has no say.

    Returns
    -------
    Tensor
        (B, D); the part itself where one is present, zero where none is.

    References
    ----------
    .. [1] Yao et al., "DrFuse: learning disentangled representation for clinical multi-modal fusion with missing
       modality and modal inconsistency", AAAI, 2024.

    Examples
    --------
    >>> import torch
    >>> from skfusion.fusion.drfuse import merge
    >>> shared = torch.tensor([[[0.3], [-1.2]], [[0.3], [-1.2]]])
    >>> merge(shared, torch.tensor([[True, True], [True, False]]))
    tensor([[-0.3932],
            [ 0.3000]])
    """
    anyone = present.any(1, keepdim=True)  # (B, 1)
    # Where all are left out, the gradient of logsumexp is NaN.
    left_out = (~present & anyone).unsqueeze(-1)  # (B, M, 1)
    yes, no = (F.logsigmoid(h).masked_fill(left_out, -torch.inf).logsumexp(1) for h in (shared, -shared))  # (B, D)
    return torch.where(anyone, yes - no, 0.0)


def jensen_shannon(first: Tensor, second: Tensor) -> Tensor:
    """Jensen-Shannon divergence, in nats, of coins whose logits are `first` and `second`, of one shape."""
    divergence = torch.zeros_like(first)
    for a, b in ((first, second), (-first, -second)):
        log_p, log_q = F.logsigmoid(a), F.logsigmoid(b)
        log_mean = torch.logaddexp(log_p, log_q) - math.log(2)
        divergence = divergence + (log_p.exp() * (log_p - log_mean) + log_q.exp() * (log_q - log_mean)) / 2
    return divergence


class DrFuse(PooledFusion):
    r"""DrFuse: attention over the distinct part d_m of each modality, and the shared parts h_m merged into one [1]_.

    Both parts are linear maps of a modality's embedding, each modality with its own. The shared parts that are present
    are merged, unit by unit, to the logit of the mean of their sigmoids; a missing modality has no part in that, and
    its distinct part is not attended to. Two losses join the supervised one: that the shared parts of a sample agree
    (the Jensen-Shannon divergence of their sigmoids, mean over units and over pairs that are present), and that a
    modality's two parts are orthogonal (their absolute cosine, mean over what is present).

    The paper has a query a disease, and a loss that ranks its weights by how well each part predicts. A fusion does not
    know the classes: here is a learned query a head, `n_heads` of them, each for its share of the units. In attention
    maps they are ``"global"``, and what was merged is ``"fusion"``.

    Parameters
    ----------
    widths, n_latent, dropout_rate, n_heads
        As in every fusion of embeddings.
    agreement : float, default=1.0
        Weight of the first loss; the default is skfusion's.
    orthogonality : float, default=0.1
        Weight of the second loss; the default is skfusion's.

    References
    ----------
    .. [1] Yao et al., "DrFuse: learning disentangled representation for clinical multi-modal fusion with missing
       modality and modal inconsistency", AAAI, 2024.
    """

    def __init__(
        self,
        widths: dict[str, int],
        n_latent: int,
        *,
        agreement: float = 1.0,
        orthogonality: float = 0.1,
        **options: object,
    ) -> None:
        super().__init__(widths, n_latent, **options)  # type: ignore[arg-type]
        self.agreement, self.orthogonality = agreement, orthogonality

    def build(self, widths: dict[str, int], n_latent: int, n_heads: int) -> None:
        """Set up maps to both parts, and attention over the distinct ones and what was merged."""
        self.width = n_latent
        self.parts = nn.ModuleList(nn.Linear(n_latent, 2 * n_latent) for _ in widths)
        self.pooling = AttentionPooling([*range(len(widths)), FUSION], n_latent, n_heads)

    def forward(self, tokens: dict[str, Tokens], present: Tensor) -> FusionOutput:
        """Tokens (B, T, D) a modality and `present` (B, M) to a `FusionOutput`."""
        pooled = self.pool(tokens, present)
        parts = stack([map_(e) for map_, e in zip(self.parts, pooled)])  # (B, M, 2 D)
        shared, distinct = parts.chunk(2, dim=-1)  # (B, M, D)
        merged = merge(shared, present).unsqueeze(1)  # (B, 1, D)
        real = torch.cat([present, present.any(1, keepdim=True)], dim=1)  # (B, M + 1)
        combined = self.pooling(torch.cat([distinct, merged], dim=1), real)  # (B, D)
        return self.output(combined, pooled, tokens, self.part_losses(shared, distinct, present))

    def part_losses(self, shared: Tensor, distinct: Tensor, present: Tensor) -> dict[str, Tensor]:
        """Agreement of shared parts (B, M, D), and orthogonality of these to the distinct ones."""
        first, second = torch.triu_indices(present.shape[1], present.shape[1], 1, device=present.device)
        pair = present[:, first] & present[:, second]  # (B, pairs)
        apart = jensen_shannon(shared[:, first], shared[:, second]).mean(-1)  # (B, pairs)
        aligned = F.cosine_similarity(shared, distinct, dim=-1).abs()  # (B, M)
        return {
            "agreement": self.agreement * (apart * pair).sum() / pair.sum().clamp(min=1),
            "orthogonality": self.orthogonality * (aligned * present).sum() / present.sum().clamp(min=1),
        }
