"""Fusion that selects modalities."""

import torch
from torch import Tensor, nn

from skfusion.fusion.blocks import PooledFusion, stack


class Select(PooledFusion):
    r"""A sum of embeddings times gates, one a modality, under an L1 penalty that closes the gates of the useless [1]_.

    fused = Σ_m g_m LN(e_m) over the modalities that are present, and λ Σ_m |g_m| is added to the loss. ``gates`` of
    the fitted fusion tell which modalities it lives on.

    Parameters
    ----------
    widths, n_latent, dropout_rate, n_heads
        As in every fusion of embeddings.
    penalty : float, default=0.01
        λ.

    References
    ----------
    .. [1] Tibshirani, "Regression shrinkage and selection via the lasso", JRSS B 58, 1996.
    """

    def __init__(self, widths: dict[str, int], n_latent: int, *, penalty: float = 0.01, **options: object) -> None:
        super().__init__(widths, n_latent, **options)  # type: ignore[arg-type]
        self.penalty = penalty
        # Without the norm a small gate would be made up for by a large embedding.
        self.norm = nn.LayerNorm(n_latent, elementwise_affine=False)
        self.gates = nn.Parameter(torch.ones(len(widths)))

    def combine(self, stacked: list[Tensor], present: Tensor) -> Tensor:
        """M x (B, D) -> (B, D)."""
        weights = self.gates * present  # (B, M)
        return torch.einsum("bm,bmd->bd", weights, self.norm(stack(stacked)))

    def losses(self) -> dict[str, Tensor]:
        """Penalty of the gates."""
        return {"gates": self.penalty * self.gates.abs().sum()}
