"""Encoders of vectors: one token a sample."""

from torch import Tensor, nn

from skfusion.encoders.batch import ModalityBatch, Tokens
from skfusion.encoders.dropout import SHARE_OF_INPUTS, Dropout


class Identity(nn.Module):
    """The values themselves as one token; no parameters, no gradient (type II fusion).

    Parameters
    ----------
    shape : tuple of int
        Shape of a sample, (D,).
    n_latent : int
        Not used: the token is as wide as the values.
    """

    kinds = ("dense",)

    def __init__(self, shape: tuple[int, ...], n_latent: int, **options: object) -> None:
        super().__init__()
        (self.n_out,) = shape

    def forward(self, batch: ModalityBatch) -> Tokens:
        """Values (B, D) -> tokens (B, 1, D)."""
        return Tokens(batch.values.unsqueeze(1), batch.mask)


class Linear(nn.Module):
    """One linear map to a token.

    Parameters
    ----------
    shape : tuple of int
        Shape of a sample, (D,).
    n_latent : int
        Width of the token.
    """

    kinds = ("dense",)

    def __init__(self, shape: tuple[int, ...], n_latent: int, **options: object) -> None:
        super().__init__()
        (n_in,) = shape
        self.n_out = n_latent
        self.linear = nn.Linear(n_in, n_latent)

    def forward(self, batch: ModalityBatch) -> Tokens:
        """Values (B, D) -> tokens (B, 1, n_latent)."""
        return Tokens(self.linear(batch.values).unsqueeze(1), batch.mask)


class MLP(nn.Module):
    """A small regularised multilayer perceptron to one token.

    Each layer is input dropout, a linear map, LayerNorm and GELU; the last map goes to `n_latent`.

    Parameters
    ----------
    shape : tuple of int
        Shape of a sample, (D,).
    n_latent : int
        Width of the token.
    n_hidden : int, default=128
        Width of the hidden layers.
    n_layers : int, default=1
        Number of hidden layers.
    dropout_rate : float, default=0.5
        Share of hidden units that are dropped in training; inputs are dropped at .4 of that rate.
    """

    kinds = ("dense",)

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
        (width,) = shape
        self.n_out = n_latent
        layers: list[nn.Module] = [Dropout(SHARE_OF_INPUTS * dropout_rate)]
        for _ in range(n_layers):
            layers += [nn.Linear(width, n_hidden), nn.LayerNorm(n_hidden), nn.GELU(), Dropout(dropout_rate)]
            width = n_hidden
        self.layers = nn.Sequential(*layers, nn.Linear(width, n_latent))

    def forward(self, batch: ModalityBatch) -> Tokens:
        """Values (B, D) -> tokens (B, 1, n_latent)."""
        encoded: Tensor = self.layers(batch.values)  # (B, n_latent)
        return Tokens(encoded.unsqueeze(1), batch.mask)
