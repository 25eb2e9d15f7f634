"""What the tests of objectives share: outputs of a fusion that are drawn, and a network that stands in for one."""

from types import SimpleNamespace

import torch
from torch import nn

from skfusion.encoders.batch import Batch, ModalityBatch, Tokens
from skfusion.fusion.output import FusionOutput
from skfusion.objectives.context import Context, Setting

SIMILARITY = torch.tensor([[0.9, 0.1, -0.2], [0.2, 0.8, 0.0], [-0.1, 0.3, 0.7]], dtype=torch.float64)
"""That of the golden numbers."""


class Encoder(nn.Module):
    """As many tokens as a sample has steps, `n_out` wide."""

    def __init__(self, n_out):
        super().__init__()
        self.n_out = n_out

    def forward(self, batch):
        values = batch.values if batch.values.ndim == 3 else batch.values.unsqueeze(1)
        return Tokens(values[..., :1].expand(*values.shape[:2], self.n_out), batch.mask)


class Network(nn.Module):
    """Knows its modalities and no more."""

    def __init__(self, names, width, subsets=()):
        super().__init__()
        self.names = list(names)
        self.encoders = nn.ModuleList(Encoder(width) for _ in names)
        self.fusion = SimpleNamespace(subsets=subsets)

    def present_in(self, head, present):
        return present[:, self.names.index(head)] if head in self.names else present.any(1)


class Scene:
    """Modalities of some samples, by name how many tokens each has, with all that a loss is made of.

    Heads and tokens are leaves that gather gradients. Samples are counted from `first` on.
    """

    def __init__(self, lengths, n_samples=6, width=4, missing=(), subsets=(), seed=0, first=0):
        self.names = list(lengths)
        self.first = first
        self.network = Network(lengths, width, subsets)
        self.shapes = {name: (length, width) if length > 1 else (width,) for name, length in lengths.items()}
        widths = dict.fromkeys([*lengths, "fusion", "global"], width)
        self.setting = Setting(self.network, self.shapes, widths, dict.fromkeys(lengths))
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.get_default_dtype()).requires_grad_()

        self.present = torch.ones(n_samples, len(lengths), dtype=torch.bool)
        for row, name in missing:
            self.present[row, self.names.index(name)] = False
        self.heads = {head: draw(n_samples, width) for head in [*lengths, "fusion"]}
        self.tokens = {name: draw(n_samples, length, width) for name, length in lengths.items()}
        self.masks = {name: torch.ones(n_samples, length, dtype=torch.bool) for name, length in lengths.items()}
        self.values = {name: draw(n_samples, *shape).detach() for name, shape in self.shapes.items()}

    def rows(self, rows):
        """The same scene with some of its samples."""
        part = object.__new__(Scene)
        part.__dict__.update(self.__dict__)
        part.present = self.present[rows]
        for what in ("heads", "tokens", "masks", "values"):
            setattr(part, what, {name: tensor[rows] for name, tensor in getattr(self, what).items()})
        return part

    @property
    def batch(self):
        modalities = {
            name: ModalityBatch(self.values[name], self.masks[name] & self.present[:, m : m + 1])
            for m, name in enumerate(self.names)
        }
        return Batch(modalities, self.present)

    @property
    def output(self):
        encoded = {
            name: Tokens(self.tokens[name], self.masks[name] & self.present[:, m : m + 1])
            for m, name in enumerate(self.names)
        }
        heads = {**self.heads, "global": self.heads["fusion"]}
        return FusionOutput(self.heads["fusion"], heads, present=self.present, encoded=encoded)

    @property
    def context(self):
        index = torch.arange(self.first, self.first + len(self.present))
        return Context(self.network, None, None, index, len(self.present))

    def prepared(self, objective, seed=0):
        """Prepare an objective with weights that depend on `seed` alone."""
        torch.manual_seed(seed)
        objective.prepare(self.setting)
        return objective.to(torch.get_default_dtype())

    def loss(self, objective, **outputs):
        """The `Part` of an objective; `outputs` by view, else all views are what `output` is."""
        batch = self.batch
        found = outputs or dict.fromkeys(objective.views(batch, None), self.output)
        return objective.loss(found, batch, self.context)["loss"]

    def leaves(self):
        return {**{f"head {n}": t for n, t in self.heads.items()}, **{f"tokens {n}": t for n, t in self.tokens.items()}}


def with_cosines(similarity):
    """Rows a and b of length 1 whose cosines are `similarity` (B, B)."""
    n = len(similarity)
    a = torch.cat([torch.eye(n), torch.zeros(n, n)], 1).to(similarity)
    rest = (1 - similarity.square().sum(0)).sqrt().diag()
    return a, torch.cat([similarity.T, rest], 1)


def linear_views(n_samples=200, n_latent=5, widths=(20, 12), seed=0, shared=True):
    """Two linear views a and b of one latent each sample, or of one of their own."""
    import numpy as np

    maps = [np.random.default_rng(99 + i).normal(size=(n_latent, width)) for i, width in enumerate(widths)]
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(n_samples, n_latent))
    other = latent if shared else rng.normal(size=(n_samples, n_latent))
    return {"a": latent @ maps[0], "b": other @ maps[1]}


def recall(pretrainer, X):
    """Share of samples whose own b is the first that is found by a."""
    found = pretrainer.retrieve(X, by="a", of="b", k=1).indices[:, 0]
    return float((found == range(len(found))).mean())
