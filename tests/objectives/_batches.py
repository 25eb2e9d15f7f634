"""Small networks, what objectives are told of them, and batches."""

import torch

from skfusion._build import build_fusion, resolve
from skfusion.encoders import ENCODERS
from skfusion.encoders.batch import Batch, ModalityBatch
from skfusion.fusion import FusionNetwork
from skfusion.fusion.network import head_widths
from skfusion.objectives import Context, Setting

WIDTH = 8


def setting(shapes, encoders, fusion="zorro", groups=None, **options):
    """Build a network without dropout, in training; `encoders` are names by modality."""
    groups = groups or {}
    torch.manual_seed(0)
    built = {
        name: resolve("encoders", encoder, ENCODERS)(
            shapes[name], WIDTH, n_hidden=16, dropout_rate=0.0, groups=groups.get(name)
        )
        for name, encoder in encoders.items()
    }
    widths = {name: encoder.n_out for name, encoder in built.items()}
    mixer = build_fusion(fusion, widths, WIDTH, n_heads=2, n_fusion_layers=1)
    network = FusionNetwork(built, mixer, **options)
    return Setting(network, shapes, head_widths(mixer, widths), {name: groups.get(name) for name in shapes})


def batch(values, present=None, masks=None):
    """Make a batch of values by modality, (B, …) each; `masks` (B, T) say which steps are real."""
    first = next(iter(values.values()))
    present = torch.ones(len(first), len(values), dtype=torch.bool) if present is None else torch.tensor(present)
    modalities = {}
    for column, (name, part) in enumerate(values.items()):
        mask = torch.ones(len(first), part.shape[1] if part.ndim == 3 else 1, dtype=torch.bool)
        if masks and name in masks:
            mask = masks[name]
        modalities[name] = ModalityBatch(part, mask & present[:, column : column + 1])
    return Batch(modalities, present)


def prepared(objective, told):
    """Let an objective build what it learns."""
    torch.manual_seed(1)
    objective.prepare(told)
    return objective


def loss(objective, told, samples, seed=0):
    """Losses of a batch, the network run on each view."""
    torch.manual_seed(seed)
    views = objective.views(samples, None)
    outputs = {name: told.network(view) for name, view in views.items()}
    context = Context(told.network, None, None, torch.arange(len(samples)), len(samples))
    return objective.loss(outputs, samples, context)
