"""The network: an encoder a modality, a fusion, and heads."""

import copy
import math
from collections.abc import Iterator
from typing import Any, Self

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
        Fused embedding (B, n_latent) to predictions (B, n_out); a fusion that decides by itself needs none.
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
        self.frozen: list[str] = []
        self._held: set[str] = set()

    dropout_rates: Tensor

    def freeze(self, parts: list[str]) -> None:
        """Hold the weights of submodules, by path such as "encoders.0"; all others train as before."""
        for name, parameter in self.named_parameters():
            if name in self._held:
                parameter.requires_grad_(True)
        self.frozen, self._held = list(parts), set()
        for part in parts:
            for name, parameter in self.get_submodule(part).named_parameters(prefix=part):
                # A module that was handed in may hold some of its weights itself, whatever is frozen here.
                if parameter.requires_grad:
                    parameter.requires_grad_(False)
                    self._held.add(name)

    def train(self, mode: bool = True) -> Self:
        """Set the mode; what is frozen never drops units, and moves no running mean."""
        super().train(mode)
        for part in self.frozen:
            self.get_submodule(part).eval()
        return self

    def part(self, path: str) -> nn.Module:
        """Return a copy of a submodule on the CPU, where networks are built, which is no longer frozen."""
        part = copy.deepcopy(self.get_submodule(path)).cpu()
        for name, parameter in part.named_parameters(prefix=path):
            if name in self._held:
                parameter.requires_grad_(True)
        return part

    def encoder_path(self, name: str) -> str:
        """Return the path of a modality's encoder."""
        return f"encoders.{self.names.index(name)}"

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
        draws: dict[torch.Size, Tensor] = {} if batch.draws is None else batch.draws
        for name, encoder in zip(self.names, self.encoders):
            own: Tokens = encoder(batch.modalities[name])
            if (self.training or batch.draws is not None) and self.drop_token > 0:
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
        output.present, output.encoded = present, tokens
        return output

    def predict(self, output: FusionOutput, head: str = "fusion") -> Tensor:
        """Predictions (B, n_out): from the fused embedding, or from that of another head.

        Where the fusion has a ``decide``, they are what it makes of the logits of all modalities' heads, or of one's.
        """
        decide: Any = getattr(self.fusion, "decide", None)
        if decide is not None:
            names = self.names if head == "fusion" else [head]
            logits = [self.heads[self.head_names.index(name)](output.heads[name]) for name in names]
            there: Any = output.present
            present = torch.stack([self.present_in(name, there) for name in names], 1)  # (B, M)
            prediction: Tensor = decide(torch.stack(logits, 1), present)
        elif head == "fusion":
            prediction = self._head()(output.fused)
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

    @property
    def predicts(self) -> bool:
        """Whether there is a head to predict from."""
        return self.head is not None or bool(self.head_names)

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


def handed_over(source: FusionNetwork, fusion: nn.Module, names: list[str]) -> bool:
    """Give `fusion` the weights of that of `source`, where both are of one class over the same modalities.

    Raises
    ------
    ValueError
        Where these are of different sizes.
    """
    if type(source.fusion) is not type(fusion) or source.names != names:
        return False
    if _sizes(source.fusion) != _sizes(fusion):
        raise ValueError(
            f"the fusion of pretrained is {type(fusion).__name__} as well, but of another size, so that its weights do "
            "not fit; set n_latent, n_heads and n_fusion_layers as pretrained has them, or fusion='pretrained'."
        )
    fusion.load_state_dict(source.fusion.state_dict())
    return True


def _sizes(fusion: nn.Module) -> tuple[Any, ...]:
    """Return what must be equal for weights to mean the same; the number of heads shows in no shape."""
    heads = [part.n_heads for part in fusion.modules() if hasattr(part, "n_heads")]
    return {key: value.shape for key, value in fusion.state_dict().items()}, heads


def layers(module: nn.Module) -> list[list[nn.Parameter]]:
    """Return the parameters of a module by layer, the first one first.

    A layer is an element of its lists and sequences, however deep these lie, or the whole of a module that has none.
    Vectors alone, such as those of a norm, belong to the layer before them.
    """
    found: list[list[nn.Parameter]] = []
    for parameters in _units(module, False):
        only_vectors = all(p.ndim < 2 for p in parameters)
        starts_with_vectors = len(found) == 1 and all(p.ndim < 2 for p in found[0])
        if found and (only_vectors or starts_with_vectors):
            found[-1] += parameters
        else:
            found.append(parameters)
    return found


def _units(module: nn.Module, is_element: bool) -> Iterator[list[nn.Parameter]]:
    is_list = isinstance(module, _LISTS)
    if is_list or (not is_element and any(isinstance(part, _LISTS) for part in module.modules())):
        units = [list(module.parameters(recurse=False))]
        units += [unit for child in module.children() for unit in _units(child, is_list)]
    else:
        units = [list(module.parameters())]
    yield from (unit for unit in units if unit)


_LISTS = (nn.Sequential, nn.ModuleList)


def layers_below(network: FusionNetwork) -> list[list[nn.Parameter]]:
    """Return the parameters of a network by their distance from the prediction.

    First those of the heads, then the fusion's, then layer by layer the trunk's and those of the encoders, whose last
    layers are equally far.
    """
    heads = [p for head in (network.head, network.heads) if head is not None for p in head.parameters()]
    fusion = [p for part in (network.fusion, network.stand_in) if part is not None for p in part.parameters()]
    found = [heads, fusion, *([] if network.trunk is None else reversed(layers(network.trunk)))]
    top = len(found)
    for encoder in network.encoders:
        for depth, parameters in enumerate(reversed(layers(encoder)), start=top):
            if depth == len(found):
                found.append([])
            found[depth] += parameters
    # Weights that two layers share have one rate, the higher one.
    seen: set[int] = set()
    for level in found:
        level[:] = [p for key, p in {id(p): p for p in level}.items() if key not in seen]
        seen.update(map(id, level))
    return found


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
