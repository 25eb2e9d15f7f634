"""What a network makes of samples of zeros: how many tokens there are, and how wide."""

from typing import Any

import torch

from skfusion.encoders.batch import Batch, ModalityBatch, Tokens
from skfusion.fusion.output import FusionOutput
from skfusion.objectives.context import Setting


@torch.no_grad()
def probe(setting: Setting) -> FusionOutput:
    """Return what the network makes of two samples."""
    network: Any = setting.network
    modalities = {name: _blank(setting, name, network) for name in network.names}
    present = torch.ones(2, len(modalities), dtype=torch.bool, device=_device_of(network))
    was_training = network.training
    output: FusionOutput = network.eval()(Batch(modalities, present))
    network.train(was_training)
    return output


@torch.no_grad()
def count_tokens(setting: Setting, name: str) -> int:
    """Return how many tokens the encoder of a modality makes of a sample."""
    encoder: Any = setting.network.encoders[setting.network.names.index(name)]
    was_training = encoder.training
    tokens: Tokens = encoder.eval()(_blank(setting, name, encoder))
    encoder.train(was_training)
    return tokens.values.shape[1]


def _blank(setting: Setting, name: str, module: Any) -> ModalityBatch:
    """Return zeros where a module's weights are."""
    shape, device = setting.shapes[name], _device_of(module)
    mask = torch.ones(2, shape[0] if len(shape) == 2 else 1, dtype=torch.bool, device=device)
    return ModalityBatch(torch.zeros(2, *shape, device=device), mask)


def _device_of(module: Any) -> torch.device:
    return next(module.parameters(), torch.zeros(())).device
