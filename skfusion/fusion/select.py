"""Fusion that selects modalities."""

import torch
from torch import Tensor, nn

from skfusion.fusion.blocks import PooledFusion, Refine, stack

_PACE = 10.0


class Select(PooledFusion):
    r"""A sum of embeddings times gates, one a modality, under an L1 penalty that draws the gates to 0 [1]_.

    fused = GELU(W Σ_m g_m LN(e_m) + b) over the modalities that are present, and λ times the sum of the gates' absolute
    values is added to the loss. ``gates`` of the fitted fusion tell which modalities it lives on: those of modalities
    that help stay the largest.

    Parameters
    ----------
    widths, n_latent, dropout_rate, n_heads
        As in every fusion of embeddings.
    penalty : float, default=0.03
        λ.

    References
    ----------
    .. [1] Tibshirani, "Regression shrinkage and selection via the lasso", JRSS B 58, 1996.
    """

    def __init__(
        self,
        widths: dict[str, int],
        n_latent: int,
        *,
        penalty: float = 0.03,
        dropout_rate: float = 0.0,
        **options: object,
    ) -> None:
        super().__init__(widths, n_latent, **options)  # type: ignore[arg-type]
        self.penalty = penalty
        # Without the norm of each embedding a small gate would be made up for by a large embedding; with one of the
        # sum it would not matter how small all gates are.
        self.norm = nn.LayerNorm(n_latent, elementwise_affine=False)
        self.refine = Refine(n_latent, n_latent, dropout_rate, norm=False)
        # Optimizers such as Adam move every parameter by about the learning rate: in small units, gates move further.
        self.tenths = nn.Parameter(torch.full((len(widths),), 1 / _PACE))

    @property
    def gates(self) -> Tensor:
        """The gate of each modality, (M,); 1 before training."""
        return _PACE * self.tenths

    def combine(self, stacked: list[Tensor], present: Tensor) -> Tensor:
        """M x (B, D) -> (B, D)."""
        weights = self.gates * present  # (B, M)
        return torch.einsum("bm,bmd->bd", weights, self.norm(stack(stacked)))

    def losses(self) -> dict[str, Tensor]:
        """Penalty of the gates."""
        return {"gates": self.penalty * self.gates.abs().sum()}
