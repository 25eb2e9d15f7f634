"""Encoders that give one token a feature, a few features, or a time step, each by a linear map.

They are meant for fusions that look at the single tokens, as those with attention do: of the tokens of `Steps`, a
fusion that averages each modality's tokens first sees the mean step alone.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skfusion.encoders.batch import ModalityBatch, Tokens
from skfusion.encoders.dropout import SHARE_OF_INPUTS, Dropout

_LONGEST_WAVE = 10_000.0


class FeatureTokenizer(nn.Module):
    """One token a feature: a bias of the feature's own, and each of its columns times a vector of its own [1]_.

    A number has one column. A category has one column a level (one-hot), so that the sum over them is the level's
    embedding; an unknown level, all zeros, is the bias alone. `n_hidden` and `n_layers` are not used.

    Parameters
    ----------
    shape : tuple of int
        Shape of a sample, (D,).
    n_latent : int
        Width of the tokens.
    dropout_rate : float, default=0.5
        Inputs are dropped in training at .4 of that rate.
    groups : sequence of int, default=None
        The feature of each column, counted from 0. None is a feature a column. Where preprocessing turned categories
        into columns, a joint estimator fills it in.

    References
    ----------
    .. [1] Gorishniy et al., "Revisiting deep learning models for tabular data", NeurIPS, 2021.
    """

    kinds = ("dense",)
    group: Tensor | None

    def __init__(
        self,
        shape: tuple[int, ...],
        n_latent: int,
        *,
        dropout_rate: float = 0.5,
        groups: Sequence[int] | None = None,
        **options: object,
    ) -> None:
        super().__init__()
        (n_in,) = shape
        n_features = n_in if groups is None else _count_features(groups, n_in)
        self.n_out = n_latent
        self.dropout = Dropout(SHARE_OF_INPUTS * dropout_rate)
        bound = n_latent**-0.5
        self.weight = nn.Parameter(torch.empty(n_in, n_latent).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n_features, n_latent).uniform_(-bound, bound))
        self.register_buffer("group", None if groups is None else torch.tensor(list(groups)))

    def forward(self, batch: ModalityBatch) -> Tokens:
        """Values (B, D) -> tokens (B, number of features, n_latent)."""
        each = self.dropout(batch.values).unsqueeze(-1) * self.weight  # (B, D, n_latent)
        if self.group is None:
            tokens = each + self.bias  # (B, D, n_latent)
        else:
            tokens = self.bias.expand(len(each), -1, -1).index_add(1, self.group, each)  # (B, F, n_latent)
        return Tokens(tokens, batch.mask.expand(-1, tokens.shape[1]))


class Patches(nn.Module):
    """One token a few consecutive features, each by a linear map of its own.

    The maps differ since features, unlike pixels, cannot be exchanged; that also tells the tokens apart, without a
    position. The last token's lacking features are zeros. `n_hidden` and `n_layers` are not used.

    Parameters
    ----------
    shape : tuple of int
        Shape of a sample, (D,).
    n_latent : int
        Width of the tokens.
    dropout_rate : float, default=0.5
        Inputs are dropped in training at .4 of that rate.
    patch_size : int, default=None
        Features a token; None is ``ceil(D / 8)``, about eight tokens.
    """

    kinds = ("dense",)

    def __init__(
        self,
        shape: tuple[int, ...],
        n_latent: int,
        *,
        dropout_rate: float = 0.5,
        patch_size: int | None = None,
        **options: object,
    ) -> None:
        super().__init__()
        (n_in,) = shape
        self.patch_size = size_of_patch(patch_size, math.ceil(n_in / 8))
        n_patches = math.ceil(n_in / self.patch_size)
        self.n_out = n_latent
        self.padding = (0, -n_in % self.patch_size)
        self.dropout = Dropout(SHARE_OF_INPUTS * dropout_rate)
        bound = self.patch_size**-0.5
        self.weight = nn.Parameter(torch.empty(n_patches, self.patch_size, n_latent).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n_patches, n_latent).uniform_(-bound, bound))

    def forward(self, batch: ModalityBatch) -> Tokens:
        """Values (B, D) -> tokens (B, number of patches, n_latent)."""
        padded = F.pad(self.dropout(batch.values), self.padding)  # (B, T * patch_size)
        patches = padded.unflatten(1, (-1, self.patch_size))  # (B, T, patch_size)
        tokens = torch.einsum("btk,tkd->btd", patches, self.weight) + self.bias  # (B, T, n_latent)
        return Tokens(tokens, batch.mask.expand(-1, tokens.shape[1]))


class Steps(nn.Module):
    """One token a time step, by one linear map, plus a sinusoidal position [1]_.

    The position is not learned, so that sequences may be of any length. `n_hidden`, `n_layers` and `dropout_rate` are
    not used.

    Parameters
    ----------
    shape : tuple of int
        Shape of a sample, (T, C).
    n_latent : int
        Width of the tokens.

    References
    ----------
    .. [1] Vaswani et al., "Attention is all you need", NeurIPS, 2017.
    """

    kinds = ("sequence",)

    def __init__(self, shape: tuple[int, ...], n_latent: int, **options: object) -> None:
        super().__init__()
        self.n_out = n_latent
        self.linear = nn.Linear(shape[1], n_latent)

    def forward(self, batch: ModalityBatch) -> Tokens:
        """Values (B, T, C) -> tokens (B, T, n_latent)."""
        values = torch.where(batch.mask.unsqueeze(-1), batch.values, 0.0)  # (B, T, C)
        position = sinusoids(values.shape[1], self.n_out, values)  # (T, n_latent)
        return Tokens(self.linear(values) + position, batch.mask)


def sinusoids(length: int, width: int, like: Tensor) -> Tensor:
    """Positions (length, width): the sines of waves 2 pi to 20,000 pi long, then their cosines.

    In the dtype and on the device of `like`.
    """
    n_waves = math.ceil(width / 2)
    step = torch.arange(length, device=like.device, dtype=like.dtype).unsqueeze(1)  # (T, 1)
    wave = torch.arange(n_waves, device=like.device, dtype=like.dtype) / n_waves  # (n_waves,)
    angle = step * _LONGEST_WAVE**-wave  # (T, n_waves)
    return torch.cat([angle.sin(), angle.cos()], dim=1)[:, :width]  # (T, width)


def size_of_patch(asked: int | None, default: int) -> int:
    """Return the side of a patch: `asked`, or `default` where that is None."""
    if asked is None:
        return default
    if int(asked) != asked or asked < 1:
        raise ValueError(f"patch_size is {asked!r}; due is a whole number of at least 1, or None for {default}.")
    return int(asked)


def _count_features(groups: Sequence[int], n_columns: int) -> int:
    """Check that `groups` names a feature for each column, and return how many features there are."""
    found = set(groups)
    if len(groups) != n_columns or found != set(range(len(found))):
        raise ValueError(
            f"groups has {len(groups)} entries, {sorted(found)[:5]} among them; due is one entry for each of the "
            f"{n_columns} columns, the number of its feature, counted from 0 with none left out."
        )
    return len(found)
