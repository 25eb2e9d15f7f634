"""Encoders of images and volumes that give one token a patch.

They are meant for fusions that look at the single tokens, as those with attention do: one that averages each modality's
tokens first sees the mean patch alone.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from skfusion.encoders.batch import ModalityBatch, Tokens
from skfusion.encoders.tokens import size_of_patch


class _GridOfPatches(nn.Module):
    """Cut a grid of any number of axes into patches, and map each by the same linear map."""

    def __init__(
        self, shape: tuple[int, ...], n_latent: int, *, patch_size: int | None = None, **options: object
    ) -> None:
        super().__init__()
        n_channels, *sides = shape
        self.patch_size = size_of_patch(patch_size, math.ceil(min(sides) / 4))
        self.grid = tuple(math.ceil(side / self.patch_size) for side in sides)
        # F.pad wants the last axis first, and for each what comes before and behind.
        self.padding = [n for side in reversed(sides) for n in (0, -side % self.patch_size)]
        self.n_out = n_latent
        self.linear = nn.Linear(n_channels * self.patch_size ** len(sides), n_latent)
        self.position = nn.Parameter(0.02 * torch.randn(math.prod(self.grid), n_latent))

    def forward(self, batch: ModalityBatch) -> Tokens:
        """Values (B, C, …) -> tokens (B, number of patches, n_latent)."""
        n_axes = len(self.grid)
        x = F.pad(batch.values, self.padding)  # (B, C, n p, m p, …)
        for axis, n_patches in enumerate(self.grid):
            x = x.unflatten(2 + 2 * axis, (n_patches, self.patch_size))  # (B, C, n, p, m, p, …)
        which, inside = range(2, 2 + 2 * n_axes, 2), range(3, 3 + 2 * n_axes, 2)
        x = x.permute(0, *which, 1, *inside)  # (B, n, m, …, C, p, p, …)
        patches = x.flatten(1 + n_axes).flatten(1, n_axes)  # (B, n m …, C p p …)
        tokens = self.linear(patches) + self.position  # (B, n m …, n_latent)
        return Tokens(tokens, batch.mask.expand(-1, tokens.shape[1]))


class Patch2d(_GridOfPatches):
    """One token a square patch of an image: one linear map for all, plus a learned position [1]_.

    Patches do not overlap; sides that they do not divide are padded with zeros. `n_hidden`, `n_layers` and
    `dropout_rate` are not used.

    Parameters
    ----------
    shape : tuple of int
        Shape of a sample, (C, H, W).
    n_latent : int
        Width of the tokens.
    patch_size : int, default=None
        Side of a patch; None is a quarter of the shorter side, rounded up.

    References
    ----------
    .. [1] Dosovitskiy et al., "An image is worth 16x16 words: transformers for image recognition at scale", ICLR, 2021.
    """

    kinds = ("image",)


class Patch3d(_GridOfPatches):
    """One token a cube of a volume: one linear map for all, plus a learned position [1]_.

    Cubes do not overlap; sides that they do not divide are padded with zeros. `n_hidden`, `n_layers` and
    `dropout_rate` are not used.

    Parameters
    ----------
    shape : tuple of int
        Shape of a sample, (C, D, H, W).
    n_latent : int
        Width of the tokens.
    patch_size : int, default=None
        Side of a cube; None is a quarter of the shortest side, rounded up.

    References
    ----------
    .. [1] Arnab et al., "ViViT: a video vision transformer", ICCV, 2021 (tubelet embedding).
    """

    kinds = ("volume",)
