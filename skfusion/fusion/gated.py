"""Fusion by learned gates."""

import torch
from torch import Tensor, nn

from skfusion.fusion.blocks import PooledFusion, stack


class Gated(PooledFusion):
    r"""A sum weighted, unit by unit, by gates that see all modalities [1]_.

    With h_m = tanh(W_m e_m) and z = softmax over the present m of (U_m [e_1, ..., e_M]): the sum of z_m h_m. For two
    modalities the softmax over two is the sigmoid of the paper.

    References
    ----------
    .. [1] Arevalo et al., "Gated multimodal units for information fusion", ICLR workshop, 2017.
    """

    def build(self, widths: dict[str, int], n_latent: int, n_heads: int) -> None:
        """One map a modality, and one from all of them to the gates."""
        self.width = n_latent
        self.maps = nn.ModuleList(nn.Linear(n_latent, n_latent) for _ in widths)
        self.gates = nn.Linear(len(widths) * n_latent, n_latent * len(widths))

    def combine(self, stacked: list[Tensor], present: Tensor) -> Tensor:
        """M x (B, D) -> (B, n_latent)."""
        hidden = torch.tanh(stack([m(e) for m, e in zip(self.maps, stacked)]))  # (B, M, n_latent)
        logits = self.gates(torch.cat(stacked, dim=1)).view_as(hidden)  # (B, M, n_latent)
        # A sample with nothing present keeps finite gates; its embedding is replaced further up.
        logits = logits.masked_fill(~present.unsqueeze(-1), torch.finfo(logits.dtype).min)
        weights = logits.softmax(1) * present.unsqueeze(-1)  # (B, M, n_latent)
        return (weights * hidden).sum(1)
