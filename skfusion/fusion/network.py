"""The network: an encoder a modality, a fusion, and a head."""

import torch
from torch import Tensor, nn

from skfusion.encoders.batch import Batch
from skfusion.fusion.output import FusionOutput


class FusionNetwork(nn.Module):
    """Encoders, then fusion; `head` maps the fused embedding to predictions.

    Parameters
    ----------
    encoders : dict of str to nn.Module
        One a modality; a `ModalityBatch` to `Tokens`.
    fusion : nn.Module
        Tokens and presence to a `FusionOutput`.
    head : nn.Module, default=None
        Fused embedding (B, n_latent) to predictions (B, n_out).
    modality_dropout : float, default=0.0
        Probability with which a sample's modality is left out in training; at least one is kept.
    """

    def __init__(
        self,
        encoders: dict[str, nn.Module],
        fusion: nn.Module,
        head: nn.Module | None = None,
        *,
        modality_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.names = list(encoders)
        # A list, since the keys of a ModuleDict may not hold dots or be called "keys" or "type".
        self.encoders = nn.ModuleList(encoders.values())
        self.fusion = fusion
        self.head = head
        self.modality_dropout = modality_dropout

    def forward(self, batch: Batch) -> FusionOutput:
        """Encode and fuse a batch."""
        present = batch.present
        if self.training and self.modality_dropout > 0:
            present = drop_modalities(present, self.modality_dropout)
        tokens = {name: encoder(batch.modalities[name]) for name, encoder in zip(self.names, self.encoders)}
        output: FusionOutput = self.fusion(tokens, present)
        return output

    def predict(self, output: FusionOutput) -> Tensor:
        """Predictions (B, n_out) from the fused embedding."""
        if self.head is None:
            raise RuntimeError("this network has no head.")
        prediction: Tensor = self.head(output.fused)
        return prediction


def drop_modalities(present: Tensor, rate: float) -> Tensor:
    """Leave out each present modality with probability `rate`, (B, M) -> (B, M); one a sample is always kept."""
    draw = torch.rand(present.shape, device=present.device)
    kept = present & (draw >= rate)
    # Where all were dropped, the one with the largest draw stays.
    favourite = torch.where(present, draw, -1.0).argmax(1, keepdim=True)
    rescue = torch.zeros_like(present).scatter(1, favourite, True) & present
    return torch.where(kept.any(1, keepdim=True), kept, rescue)
