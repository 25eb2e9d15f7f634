"""Shared and specific features: what a missing modality shares with the others stands in for it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skfusion.encoders.batch import Tokens
from skfusion.fusion.blocks import PooledFusion, stack
from skfusion.fusion.output import FusionOutput


class SharedSpecific(PooledFusion):
    r"""ShaSpec: f_m = r_m + proj([r_m, s_m]), and the mean of the r that are present for a missing one [1]_.

    r is what modalities share, by one map for all; s is specific, by a map of each. Two losses join the supervised
    one: that the r of a sample agree (mean absolute difference over pairs), and that s tells the modality.

    Parameters
    ----------
    widths, n_latent, dropout_rate, n_heads
        As in every fusion of embeddings.
    agreement : float, default=0.1
        Weight of the first loss.
    identity : float, default=0.02
        Weight of the second loss.

    References
    ----------
    .. [1] Wang et al., "Multi-modal learning with missing modality via shared-specific feature modelling", CVPR, 2023.
    """

    fills_missing = True
    """What stands in for a missing modality is its own affair."""

    def __init__(
        self,
        widths: dict[str, int],
        n_latent: int,
        *,
        agreement: float = 0.1,
        identity: float = 0.02,
        **options: object,
    ) -> None:
        super().__init__(widths, n_latent, **options)  # type: ignore[arg-type]
        self.agreement, self.identity = agreement, identity
        self.shared = nn.Linear(n_latent, n_latent)
        self.specific = nn.ModuleList(nn.Linear(n_latent, n_latent) for _ in widths)
        self.project = nn.Linear(2 * n_latent, n_latent)
        self.which = nn.Linear(n_latent, len(widths))

    def build(self, widths: dict[str, int], n_latent: int, n_heads: int) -> None:
        """Features of all modalities lie side by side."""
        self.width = n_latent * len(widths)

    def forward(self, tokens: dict[str, Tokens], present: Tensor) -> FusionOutput:
        """Tokens (B, T, D) a modality and `present` (B, M) to a `FusionOutput`."""
        pooled = self.pool(tokens, present)
        there = present.unsqueeze(-1)  # (B, M, 1)
        shared = self.shared(stack(pooled)) * there  # (B, M, D)
        specific = stack([map_(e) for map_, e in zip(self.specific, pooled)])  # (B, M, D)
        own = shared + self.project(torch.cat([shared, specific], dim=-1))  # (B, M, D)
        mean = shared.sum(1, keepdim=True) / there.sum(1, keepdim=True).clamp(min=1)  # (B, 1, D)
        combined = torch.where(there, own, mean).flatten(1)  # (B, M D)
        return self.output(combined, pooled, tokens, self.feature_losses(shared, specific, present))

    def feature_losses(self, shared: Tensor, specific: Tensor, present: Tensor) -> dict[str, Tensor]:
        """Agreement of what is shared, and identity of what is specific."""
        n_modalities = present.shape[1]
        pair = present.unsqueeze(1) & present.unsqueeze(2)  # (B, M, M)
        pair = pair & ~torch.eye(n_modalities, dtype=torch.bool, device=present.device)
        apart = (shared.unsqueeze(1) - shared.unsqueeze(2)).abs().mean(-1)  # (B, M, M)
        told = F.cross_entropy(
            self.which(specific).flatten(0, 1),
            torch.arange(n_modalities, device=present.device).expand(len(present), -1).flatten(),
            reduction="none",
        ).view_as(present)
        return {
            "agreement": self.agreement * (apart * pair).sum() / pair.sum().clamp(min=1),
            "identity": self.identity * (told * present).sum() / present.sum().clamp(min=1),
        }
