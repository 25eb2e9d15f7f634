"""Trusted fusion: every modality has an opinion with an uncertainty of its own, and opinions are combined."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skfusion.fusion.blocks import PooledFusion, stack

LARGE = 25.0
"""Logarithm from which on digamma is the logarithm; differences of larger lgamma are lost to rounding."""


class Evidential(PooledFusion):
    r"""Decisions, each with its uncertainty, combined by the reduced rule of Dempster and Shafer [1]_.

    The head of modality m predicts evidence e = softplus(logits) for each of K classes, the Dirichlet with
    α = e + 1 and S = Σ α, that is beliefs b = e / S and the uncertainty u = K / S, which add up to 1. Two opinions
    become b_k ∝ b1_k b2_k + b1_k u2 + b2_k u1 and u ∝ u1 u2. For any number of them, in any order, this is

    .. math:: 1 + e_k / K = \prod_m (1 + e_{mk} / K)

    A missing modality has the vacuous opinion, no evidence, and so no say. The prediction is the mean α / S of the
    combined Dirichlet; the loss is `EvidentialLoss`, of each opinion and of the combined one. `fused`, which nothing is
    predicted from, is the mean of the embeddings that are present. There are no interactions between modalities: an
    exclusive or of two of them is not learned.

    Parameters
    ----------
    widths, n_latent, dropout_rate, n_heads
        As in every fusion of embeddings; nothing is dropped here.
    annealing : float, default=0.5
        Share of the training over which the loss's regulariser rises from 0 to its full weight.

    References
    ----------
    .. [1] Han et al., "Trusted multi-view classification", ICLR, 2021.
    """

    predicts_by_head = True
    classifies_only = True
    """Whether decisions are about the classes of one output, which nothing but a classifier has."""
    fills_missing = True
    """The vacuous opinion stands in for a missing modality."""

    def __init__(self, widths: dict[str, int], n_latent: int, *, annealing: float = 0.5, **options: object) -> None:
        if not 0 <= annealing <= 1:
            raise ValueError(f"annealing is {annealing}; due is a share of the training, from 0 to 1.")
        super().__init__(widths, n_latent, **options)  # type: ignore[arg-type]
        self.annealing = annealing
        self.refine = nn.Identity()  # no loss would train it

    def combine(self, stacked: list[Tensor], present: Tensor) -> Tensor:
        """M x (B, D) -> (B, D)."""
        return stack(stacked).sum(1) / present.sum(1, keepdim=True).clamp(min=1)

    def decide(self, logits: Tensor, present: Tensor) -> Tensor:
        """Logits of the modalities' heads (B, M, K) and `present` (B, M) to log α (B, K)."""
        return combined(torch.where(present.unsqueeze(-1), F.softplus(logits), 0.0))

    def criterion(self, label_smoothing: float) -> nn.Module:
        """Return the loss of what is decided, one value a sample."""
        return EvidentialLoss(self.annealing, label_smoothing)

    def uncertainty(self, decided: Tensor) -> Tensor:
        """Uncertainty K / S of what is decided, log α (B, K) -> (B,)."""
        return torch.exp(math.log(decided.shape[-1]) - decided.logsumexp(-1))


class EvidentialLoss(nn.Module):
    """Expected cross-entropy under a Dirichlet, and a penalty on evidence for wrong classes.

    Σ_k y_k (ψ(S) - ψ(α_k)) + λ KL(Dir(α̃) || Dir(1)), where α̃ = y + (1 - y) α leaves out the true class. λ rises from 0
    to 1 over the first part of the training; in evaluation it is 1, so that the losses of epochs compare.

    Parameters
    ----------
    annealing : float, default=0.5
        Share of the training over which λ rises.
    label_smoothing : float, default=0.0
        Share of y in the cross-entropy that is spread over all classes.
    """

    def __init__(self, annealing: float = 0.5, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.annealing, self.label_smoothing = annealing, label_smoothing
        self.strength = 1.0

    def begin_epoch(self, progress: float) -> None:
        """Set λ, `progress` from 0 to 1 into the training."""
        self.strength = min(1.0, progress / self.annealing) if self.annealing else 1.0

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Log α (B, K) and classes (B,) to losses (B,)."""
        log_alpha = prediction if prediction.device.type == "mps" else prediction.double()
        truth = F.one_hot(target, log_alpha.shape[-1])  # (B, K)
        wanted = (1 - self.label_smoothing) * truth + self.label_smoothing / log_alpha.shape[-1]
        expected = digamma_of(log_alpha.logsumexp(-1)) - (wanted * digamma_of(log_alpha)).sum(-1)
        wrong = log_alpha.masked_fill(truth.bool(), 0.0)  # log α̃
        strength = self.strength if self.training else 1.0
        return (expected + strength * divergence_from_uniform(wrong)).to(prediction.dtype)


def combined(evidence: Tensor) -> Tensor:
    """Evidence of M opinions (..., M, K), zero where there is none, to the log α of the combined one (..., K).

    With α = K Π(1 + e / K) - (K - 1), a sum of logarithms stays finite however many opinions agree.
    """
    n_classes = evidence.shape[-1]
    product = torch.log1p(evidence / n_classes).sum(-2)  # (..., K) log(1 + e / K)
    return product + torch.log1p((1 - n_classes) * torch.expm1(-product))


def digamma_of(log: Tensor) -> Tensor:
    """ψ(exp(log)), finite where exp is not."""
    small = log.clamp(max=LARGE)
    return torch.digamma(small.exp()) + (log - small)


def divergence_from_uniform(log_alpha: Tensor) -> Tensor:
    """KL(Dir(α) || Dir(1)) of log α (..., K) -> (...); constant where α is beyond `LARGE`."""
    alpha = log_alpha.clamp(max=LARGE).exp()
    total = alpha.sum(-1)
    sides = (alpha - 1) * (torch.digamma(alpha) - torch.digamma(total).unsqueeze(-1))  # (..., K)
    n_classes = alpha.shape[-1]
    return total.lgamma() - alpha.lgamma().sum(-1) - math.lgamma(n_classes) + sides.sum(-1)
