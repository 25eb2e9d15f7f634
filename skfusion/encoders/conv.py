"""Convolutional encoders: sequences to one token a step, images and volumes to one token a cell of a coarse grid."""

import torch
from torch import Tensor, nn

from skfusion.encoders.batch import ModalityBatch, Tokens
from skfusion.encoders.dropout import Dropout


class Conv1d(nn.Module):
    """Convolutions over time; padding stays silent.

    Parameters
    ----------
    shape : tuple of int
        Shape of a sample, (T, C).
    n_latent : int
        Width of the tokens.
    n_hidden : int, default=128
        Channels of the hidden layers.
    n_layers : int, default=1
        Number of hidden layers.
    dropout_rate : float, default=0.5
        Share of hidden units that are dropped in training.
    kernel_size : int, default=7
        Steps that a convolution sees.
    """

    kinds = ("sequence",)

    def __init__(
        self,
        shape: tuple[int, ...],
        n_latent: int,
        *,
        n_hidden: int = 128,
        n_layers: int = 1,
        dropout_rate: float = 0.5,
        kernel_size: int = 7,
        **options: object,
    ) -> None:
        super().__init__()
        _, width = shape
        self.n_out = n_latent
        self.convolutions = nn.ModuleList()
        self.norms = nn.ModuleList()
        for _ in range(n_layers + 1):
            self.convolutions.append(nn.Conv1d(width, n_hidden, kernel_size, padding="same"))
            self.norms.append(nn.LayerNorm(n_hidden))
            width = n_hidden
        self.activate = nn.GELU()
        self.dropout = Dropout(dropout_rate)
        self.out = nn.Linear(width, n_latent)

    def forward(self, batch: ModalityBatch) -> Tokens:
        """Values (B, T, C) -> tokens (B, T, n_latent)."""
        real = batch.mask.unsqueeze(-1)  # (B, T, 1)
        x = torch.where(real, batch.values, 0.0)
        for convolution, norm in zip(self.convolutions, self.norms):
            x = norm(convolution(x.transpose(1, 2)).transpose(1, 2))  # (B, T, n_hidden)
            x = self.dropout(self.activate(x)) * real
        return Tokens(self.out(x), batch.mask)


class _StridedConvolutions(nn.Module):
    """Strided convolutions, to one token a cell of the last feature map."""

    kinds: tuple[str, ...]
    convolution: type[nn.Module]

    def __init__(
        self,
        shape: tuple[int, ...],
        n_latent: int,
        *,
        n_hidden: int = 128,
        n_layers: int = 1,
        dropout_rate: float = 0.5,
        **options: object,
    ) -> None:
        super().__init__()
        channels = shape[0]
        self.n_out = n_latent
        layers: list[nn.Module] = []
        for depth in range(n_layers + 1):
            width = n_hidden if depth == n_layers else max(n_hidden // 2, 1)
            layers += [
                self.convolution(channels, width, kernel_size=3, stride=2, padding=1),
                nn.GroupNorm(1, width),
                nn.GELU(),
            ]
            channels = width
        self.layers = nn.Sequential(*layers, Dropout(dropout_rate))
        self.out = nn.Linear(channels, n_latent)

    def forward(self, batch: ModalityBatch) -> Tokens:
        """Values (B, C, …) -> tokens (B, cells, n_latent)."""
        cells: Tensor = self.layers(batch.values).flatten(2).transpose(1, 2)  # (B, cells, n_hidden)
        return Tokens(self.out(cells), batch.mask.expand(-1, cells.shape[1]))


class Conv2d(_StridedConvolutions):
    """Strided convolutions over an image, to one token a cell of the last feature map.

    Parameters
    ----------
    shape : tuple of int
        Shape of a sample, (C, H, W).
    n_latent : int
        Width of the tokens.
    n_hidden : int, default=128
        Channels of the last layer; the ones before have half.
    n_layers : int, default=1
        Number of hidden layers, each of which halves height and width.
    dropout_rate : float, default=0.5
        Share of the last hidden units that are dropped in training.
    """

    kinds = ("image",)
    convolution = nn.Conv2d


class Conv3d(_StridedConvolutions):
    """Strided convolutions over a volume, to one token a cell of the last feature map.

    Parameters
    ----------
    shape : tuple of int
        Shape of a sample, (C, D, H, W).
    n_latent, n_hidden, n_layers, dropout_rate
        As in `Conv2d`.
    """

    kinds = ("volume",)
    convolution = nn.Conv3d
