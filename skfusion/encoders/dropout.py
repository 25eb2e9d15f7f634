"""Dropout that draws random numbers sparingly."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHARE_OF_INPUTS = 0.4
"""Of `dropout_rate`: inputs are dropped less than hidden units."""
_LEVELS = 2**16


class Dropout(nn.Module):
    """Zero each unit with probability `rate` in training, and scale the others so that the mean stays [1]_.

    On a CPU torch draws a floating-point number a unit, which costs more than the layers of a small network. Here each
    drawn integer decides on four units, at a resolution of 1 / 65536 of the rate.

    Parameters
    ----------
    rate : float
        Probability of a unit to be zeroed, in [0, 1).

    References
    ----------
    .. [1] Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 15, 2014.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the same shape."""
        if not self.training or self.rate == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.rate, training=True)
        n = x.numel()
        drawn = torch.empty((n + 3) // 4, dtype=torch.int64).random_(-(2**63), None)  # all 64 bits
        levels = drawn.view(torch.int16)[:n].view(x.shape)  # uniform over -32768 .. 32767
        dropped = min(round(self.rate * _LEVELS), _LEVELS - 1)
        keep = (levels >= dropped - _LEVELS // 2).to(x.dtype)
        return x * keep.mul_(_LEVELS / (_LEVELS - dropped))

    def extra_repr(self) -> str:
        """Show the rate."""
        return f"rate={self.rate}"
