"""ProtST's fusion: self-attention and cross-attention, averaged."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skfusion.encoders.batch import Tokens, all_true
from skfusion.encoders.transformer import MultiHeadAttention
from skfusion.fusion.blocks import TokenFusion
from skfusion.fusion.masks import partner_weights
from skfusion.fusion.partners import attend_to_partners


class ProtST(TokenFusion):
    r"""out_1 = (A_11 V_1 + A_12 V_2) / 2 and the same for 2, with A_ij = softmax(Q_i K_jᵀ): one layer [1]_.

    As published, the logits are not scaled, keys and values serve both attentions, and there is neither a projection
    back nor a residual; BatchNorm and ReLU follow, a norm a modality. With more than two modalities the average runs
    over all that are present, itself included.

    References
    ----------
    .. [1] Xu et al., "ProtST: multi-modality learning of protein sequences and biomedical texts", ICML, 2023.
    """

    def build(self) -> None:
        """Projections and a norm of each modality."""
        options = {"bias": False, "project_out": False, "scale": 1.0}
        self.attentions = nn.ModuleList(
            MultiHeadAttention(self.n_latent, self.n_heads, **options)  # type: ignore[arg-type]
            for _ in self.names
        )
        self.norms = nn.ModuleList(TokenBatchNorm(self.n_latent) for _ in self.names)

    def mix(self, tokens: dict[str, Tokens], present: Tensor) -> dict[str, Tokens]:
        """Attend to itself and the others."""
        attended = attend_to_partners(self.attentions, tokens, partner_weights(present, self_too=True))
        return {name: Tokens(norm(t).relu(), t.mask) for norm, (name, t) in zip(self.norms, attended.items())}


class TokenBatchNorm(nn.Module):
    """Batch normalisation whose statistics go over real tokens alone [1]_.

    References
    ----------
    .. [1] Ioffe and Szegedy, "Batch normalization: accelerating deep network training by reducing internal covariate
       shift", ICML, 2015.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, width: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))

    def forward(self, tokens: Tokens) -> Tensor:
        """Values (B, T, D), zero where not real, to (B, T, D)."""
        values, mask = tokens
        if not self.training:
            return self._normalise(values, self.mean, self.variance)
        if mask.numel() > 1 and all_true(mask):
            flat = values.flatten(0, 1)  # (B T, D)
            running = self.mean, self.variance
            normed = F.batch_norm(flat, *running, self.weight, self.bias, True, self.momentum, self.eps)
            return normed.view_as(values)
        n = mask.sum()
        mean = values.sum((0, 1)) / n.clamp(min=1)  # (D,)
        centred = torch.where(mask.unsqueeze(-1), values - mean, 0.0)
        variance = centred.square().sum((0, 1)) / n.clamp(min=1)
        # One token has no spread; chosen without asking the device for the number.
        enough = n > 1
        mean, variance = torch.where(enough, mean, self.mean), torch.where(enough, variance, self.variance)
        with torch.no_grad():
            unbiased = torch.where(enough, variance * n / (n - 1).clamp(min=1), self.variance)
            self.mean.lerp_(mean, self.momentum)
            self.variance.lerp_(unbiased, self.momentum)
        return self._normalise(values, mean, variance)

    def _normalise(self, values: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        return (values - mean) * (variance + self.eps).rsqrt() * self.weight + self.bias
