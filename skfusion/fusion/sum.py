"""Fusion by summation."""

from torch import Tensor

from skfusion.fusion.blocks import PooledFusion, stack


class Sum(PooledFusion):
    """The sum of the embeddings that are present [1]_.

    References
    ----------
    .. [1] Huang et al., "Fusion of medical imaging and electronic health records using deep learning", npj Digital
       Medicine 3:136, 2020.
    """

    def combine(self, stacked: list[Tensor], present: Tensor) -> Tensor:
        """M x (B, D) -> (B, D)."""
        return stack(stacked).sum(1)
