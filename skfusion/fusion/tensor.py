"""Tensor fusion: all products of all units, whole or of low rank."""

import torch
from torch import Tensor, nn

from skfusion.fusion.blocks import PooledFusion, require_whole, stack

_MOST_PRODUCTS = 1024


class TensorFusion(PooledFusion):
    r"""The outer product of [1, z_a] and [1, z_b]: every unit, and every product of units [1]_.

    z_m is a linear map of an embedding, as wide as all products together stay within 1,024. The tensor is raised by an
    axis a modality; one that is missing is [1, 0], so that what the others have among themselves stays.

    References
    ----------
    .. [1] Zadeh et al., "Tensor fusion network for multimodal sentiment analysis", EMNLP, 2017.
    """

    def build(self, widths: dict[str, int], n_latent: int, n_heads: int) -> None:
        """Set up a narrow map a modality."""
        narrow = int(_MOST_PRODUCTS ** (1 / len(widths)) + 1e-9) - 1
        if narrow < 1:
            raise ValueError(
                f"fusion 'tensor' multiplies all of {len(widths)} modalities, which is more than "
                f"{_MOST_PRODUCTS} products. Use 'low_rank'."
            )
        narrow = min(narrow, n_latent)
        self.width = (narrow + 1) ** len(widths)
        self.maps = nn.ModuleList(nn.Linear(n_latent, narrow) for _ in widths)

    def combine(self, stacked: list[Tensor], present: Tensor) -> Tensor:
        """M x (B, D) -> (B, product of all widths + 1)."""
        out = present.new_ones(len(present), 1, dtype=stacked[0].dtype)  # (B, 1)
        for m, (map_, embedding) in enumerate(zip(self.maps, stacked)):
            z = with_one(map_(embedding), present[:, m : m + 1])  # (B, 1 + narrow)
            out = (out.unsqueeze(2) * z.unsqueeze(1)).flatten(1)
        return out


class LowRank(PooledFusion):
    r"""Tensor fusion whose weights are a sum of R products: Σ_r w_r Π_m W_m^r [1, z_m] [1]_.

    The tensor is never formed, so that any number of modalities costs what they cost one by one. A missing modality is
    [1, 0]. Weights start near 1 for the constant and near 0 for the units, so that a product of many does not vanish.

    Parameters
    ----------
    widths, n_latent, dropout_rate, n_heads
        As in every fusion of embeddings.
    rank : int, default=8
        R, the number of products.

    References
    ----------
    .. [1] Liu et al., "Efficient low-rank multimodal fusion with modality-specific factors", ACL, 2018.
    """

    def __init__(self, widths: dict[str, int], n_latent: int, *, rank: int = 8, **options: object) -> None:
        require_whole("rank", rank)
        super().__init__(widths, n_latent, **options)  # type: ignore[arg-type]
        factors = 0.5 * n_latent**-0.5 * torch.randn(len(widths), rank, 1 + n_latent, n_latent)
        factors[:, :, 0] = 1 + 0.1 * torch.randn(len(widths), rank, n_latent)
        self.factors = nn.Parameter(factors)
        self.weights = nn.Parameter(rank**-0.5 * torch.randn(rank))

    def combine(self, stacked: list[Tensor], present: Tensor) -> Tensor:
        """M x (B, D) -> (B, n_latent)."""
        z = with_one(stack(stacked), present.unsqueeze(-1))  # (B, M, 1 + D)
        products = torch.einsum("bmi,mrid->brmd", z, self.factors).prod(2)  # (B, R, n_latent)
        return torch.einsum("brd,r->bd", products, self.weights)


def with_one(z: Tensor, there: Tensor) -> Tensor:
    """Put a 1 before z (…, D), and zeros in its place where it is not `there` (…, 1)."""
    return torch.cat([torch.ones_like(z[..., :1]), torch.where(there, z, 0.0)], dim=-1)
