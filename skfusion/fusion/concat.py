"""Fusion by concatenation."""

import torch
from torch import Tensor, nn

from skfusion.fusion.blocks import PooledFusion


class Concat(PooledFusion):
    """Embeddings side by side, a missing one as zeros [1]_.

    References
    ----------
    .. [1] Huang et al., "Fusion of medical imaging and electronic health records using deep learning", npj Digital
       Medicine 3:136, 2020.
    """

    def adapted(self, widths: dict[str, int], n_latent: int) -> nn.ModuleList:
        """Nothing to adapt: any widths lie side by side."""
        return nn.ModuleList(nn.Identity() for _ in widths)

    def build(self, widths: dict[str, int], n_latent: int, n_heads: int) -> None:
        """No parameters; as wide as all modalities together."""
        self.width = sum(widths.values())

    def combine(self, stacked: list[Tensor], present: Tensor) -> Tensor:
        """M x (B, D_m) -> (B, sum of D_m)."""
        return torch.cat(stacked, dim=1)
