"""The network: an encoder a modality, a fusion, and heads."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from skfusion.encoders.batch import Batch, Tokens
from skfusion.encoders.transformer import Mask
from skfusion.fusion.output import FusionOutput

PEAK = 0.5
"""Rate of modality dropout that the curriculum ends at."""


class FusionNetwork(nn.Module):
    """Encoders, then fusion; heads map embeddings to predictions.

    Parameters
    ----------
    encoders : dict of str to nn.Module
        One a modality; a `ModalityBatch` to `Tokens`.
    fusion : nn.Module
        Tokens and presence to a `FusionOutput`.
    head : nn.Module, default=None
        Fused embedding (B, n_latent) to predictions (B, n_out).
    heads : dict of str to nn.Module, default=None
        The same for other heads of the fusion, by name.
    trunk : nn.Module, default=None
        A transformer that each modality's tokens go through, one after the other, before they are fused.
    stand_in : nn.Module, default=None
        What stands in for a missing modality before the fusion (see `skfusion.fusion.missing`).
    modality_dropout : float, dict of str to float or "curriculum", default=0.0
        Probability with which a sample's modality is left out in training; at least one is kept. "curriculum" rises
        from 0 to .5 over the first half of the training.
    drop_token : float, default=0.0
        Share of a modality's tokens that is left out in training, where it has several.
    n_classes : list of int, default=None
        Classes of each output, whose logits lie side by side; None is regression.
    """

    def __init__(
        self,
        encoders: dict[str, nn.Module],
        fusion: nn.Module,
        head: nn.Module | None = None,
        *,
        heads: dict[str, nn.Module] | None = None,
        trunk: nn.Module | None = None,
        stand_in: nn.Module | None = None,
        modality_dropout: float | dict[str, float] | str = 0.0,
        drop_token: float = 0.0,
        n_classes: list[int] | None = None,
    ) -> None:
        super().__init__()
        self.names = list(encoders)
        # A list, since the keys of a ModuleDict may not hold dots or be called "keys" or "type".
        self.encoders = nn.ModuleList(encoders.values())
        self.trunk = trunk
        self.fusion = fusion
        self.head = head
        self.head_names = list(heads or {})
        self.heads = nn.ModuleList((heads or {}).values())
        self.stand_in = stand_in
        self.register_buffer("dropout_rates", torch.zeros(len(encoders)), persistent=False)
        self.modality_dropout = modality_dropout
        self.begin_epoch(1.0)
        self.drop_token = drop_token
        self.n_classes = n_classes

    dropout_rates: Tensor

    def begin_epoch(self, progress: float) -> None:
        """Set the rates of modality dropout, `progress` from 0 to 1 into the training."""
        spec = self.modality_dropout
        if isinstance(spec, str):
            spec = PEAK * min(1.0, 2 * progress)
        rates = [float(spec.get(name, 0.0) if isinstance(spec, dict) else spec) for name in self.names]
        self.dropout_rates.copy_(torch.tensor(rates))

    def drop(self, batch: Batch) -> Batch:
        """Leave modalities out in training: once a batch and before its views, so that all of them lack the same."""
        if not self.training or not self.modality_dropout:
            return batch
        return Batch(batch.modalities, drop_modalities(batch.present, self.dropout_rates))

    def forward(self, batch: Batch) -> FusionOutput:
        """Encode and fuse a batch."""
        present = batch.present
        tokens: dict[str, Tokens] = {}
        draws: dict[torch.Size, Tensor] = {}
        for name, encoder in zip(self.names, self.encoders):
            own: Tokens = encoder(batch.modalities[name])
            if self.training and self.drop_token > 0:
                # Modalities of one length lose the same positions, since a fusion may add them up.
                shape = own.mask.shape
                draw = draws.setdefault(shape, torch.rand(shape, device=own.mask.device))
                own = drop_tokens(own, self.drop_token, draw)
            if self.trunk is not None:
                own = Tokens(self.trunk(own.values, Mask.of(own.mask.unsqueeze(1))), own.mask)
            tokens[name] = own
        if self.stand_in is None:
            output: FusionOutput = self.fusion(tokens, present)
        else:
            filled, somebody, losses = self.stand_in(tokens, present)
            output = self.fusion(filled, somebody)
            output.losses.update(losses)
        output.present = present
        return output

    def predict(self, output: FusionOutput, head: str = "fusion") -> Tensor:
        """Predictions (B, n_out): from the fused embedding, or from that of another head."""
        if head == "fusion":
            prediction: Tensor = self._head()(output.fused)
        else:
            prediction = self.heads[self.head_names.index(head)](output.heads[head])
        return prediction

    def final(self, output: FusionOutput) -> Tensor:
        """Predictions (B, n_out) from all that the fusion gives: averaged, where it has a second embedding."""
        first = self.predict(output)
        if output.second is None:
            return first
        both = torch.stack([first, self._head()(output.second)])  # (2, B, n_out)
        if self.n_classes is None:
            return both.mean(0)
        # Logits whose softmax is the mean of both.
        logs = [part.log_softmax(-1).logsumexp(0) - math.log(2) for part in both.split(self.n_classes, dim=-1)]
        return torch.cat(logs, dim=-1)

    def present_in(self, head: str, present: Tensor) -> Tensor:
        """Which samples have what a head needs, (B, M) -> (B,)."""
        return present[:, self.names.index(head)] if head in self.names else present.any(1)

    def _head(self) -> nn.Module:
        if self.head is None:
            raise RuntimeError("this network has no head.")
        return self.head

    def encoder_parameters(self) -> Iterator[list[nn.Parameter]]:
        """Yield the parameters of each modality's encoder."""
        for encoder in self.encoders:
            yield [p for p in encoder.parameters() if p.requires_grad]


def head_widths(fusion: Any, widths: dict[str, int]) -> dict[str, int]:
    """Return how wide the embedding of each head of a fusion over tokens of `widths` is."""
    was_training = fusion.training
    tokens = {
        name: Tokens(torch.zeros(1, 1, width), torch.ones(1, 1, dtype=torch.bool)) for name, width in widths.items()
    }
    with torch.no_grad():
        output = fusion.eval()(tokens, torch.ones(1, len(widths), dtype=torch.bool))
    fusion.train(was_training)
    return {head: embedding.shape[-1] for head, embedding in output.heads.items()}


def drop_modalities(present: Tensor, rate: float | Tensor) -> Tensor:
    """Leave out each present modality with probability `rate`, one or (M,), (B, M) -> (B, M); one a sample is kept."""
    draw = torch.rand(present.shape, device=present.device)
    kept = present & (draw >= rate)
    # Where all were dropped, the one with the largest draw stays.
    favourite = torch.where(present, draw, -1.0).argmax(1, keepdim=True)
    rescue = torch.zeros_like(present).scatter(1, favourite, True) & present
    return torch.where(kept.any(1, keepdim=True), kept, rescue)


def drop_tokens(tokens: Tokens, rate: float, draw: Tensor | None = None) -> Tokens:
    """Keep the part of each sample's tokens with the largest `draw` (B, T), ceil((1 - rate) T) of them [1]_.

    Real ones go first. A `draw` of None is random.

    References
    ----------
    .. [1] Akbari et al., "VATT: transformers for multimodal self-supervised learning from raw video, audio and text",
       NeurIPS, 2021.
    """
    values, mask = tokens
    n_tokens = values.shape[1]
    n_kept = n_tokens - math.floor(rate * n_tokens + 1e-9)  # rounding must not keep one more
    if n_tokens == 1 or n_kept == n_tokens:
        return tokens
    draw = torch.rand(mask.shape, device=mask.device) if draw is None else draw
    kept = (draw + mask).topk(max(n_kept, 1), dim=1).indices.sort(1).values  # (B, n_kept)
    return Tokens(values.gather(1, kept.unsqueeze(-1).expand(-1, -1, values.shape[-1])), mask.gather(1, kept))
