"""Fusion by multiplication."""

import torch
from torch import Tensor

from skfusion.fusion.blocks import PooledFusion, stack


class Product(PooledFusion):
    """The elementwise product of the embeddings, 1 for one that is missing [1]_.

    References
    ----------
    .. [1] Huang et al., "Fusion of medical imaging and electronic health records using deep learning", npj Digital
       Medicine 3:136, 2020.
    """

    def combine(self, stacked: list[Tensor], present: Tensor) -> Tensor:
        """M x (B, D) -> (B, D)."""
        return torch.where(present.unsqueeze(-1), stack(stacked), 1.0).prod(1)
