"""Early summation: tokens are added up, then a transformer."""

from collections.abc import Mapping
from functools import reduce

import torch
from torch import Tensor, nn

from skfusion.encoders.batch import Tokens
from skfusion.encoders.transformer import Mask
from skfusion.fusion.blocks import TokenFusion
from skfusion.fusion.masks import FUSION


class EarlySum(TokenFusion):
    r"""Z = Tf(α Z_a + β Z_b): a weighted sum of tokens, position by position, then a transformer [1]_.

    More than two modalities have a weight each. A modality of a single token is added at every position; others have
    to have the same number of tokens. What is missing is left out of the sum.

    Parameters
    ----------
    widths, n_latent, dropout_rate, n_heads, n_fusion_layers
        As in every fusion of tokens.
    weights : dict of str to float, default=None
        The weight of each modality, kept as it is. None learns them, from 1 on.

    References
    ----------
    .. [1] Xu, Zhu and Clifton, "Multimodal learning with transformers: a survey", IEEE TPAMI 45, 2023.
    """

    def __init__(
        self, widths: dict[str, int], n_latent: int, *, weights: Mapping[str, float] | None = None, **options: object
    ) -> None:
        super().__init__(widths, n_latent, **options)  # type: ignore[arg-type]
        self.weights: Tensor
        if weights is None:
            self.weights = nn.Parameter(torch.ones(len(widths)))
            return
        if set(weights) != set(widths):
            raise ValueError(f"weights of early_sum names {sorted(weights)}; due are the modalities {sorted(widths)}.")
        self.register_buffer("weights", torch.tensor([float(weights[name]) for name in widths]))

    def build(self) -> None:
        """One transformer for the sum."""
        self.mixer = self.transformer()

    def mix(self, tokens: dict[str, Tokens], present: Tensor) -> dict[str, Tokens]:
        """Sum, then mix positions."""
        lengths = {name: t.values.shape[1] for name, t in tokens.items()}
        if len(set(lengths.values()) - {1}) > 1:
            raise ValueError(
                f"early_sum adds tokens position by position, but the modalities have {lengths} of them. Use "
                "early_concat, or encoders that give equally many."
            )
        total = reduce(torch.add, [weight * t.values for weight, t in zip(self.weights, tokens.values())])  # (B, T, D)
        real = reduce(torch.logical_or, [t.mask for t in tokens.values()])  # (B, T)
        # A single token stands by itself only where no longer modality is, or padding would become real.
        along = torch.stack([mask for _, mask in tokens.values() if mask.shape[1] == real.shape[1]]).any(0)  # (B, T)
        real = torch.where(along.any(1, keepdim=True), along, real)
        owner = torch.full((total.shape[1],), FUSION, device=total.device)
        return {"fusion": Tokens(self.mixer(total, Mask.of(real.unsqueeze(1)), (owner, owner)), real)}
