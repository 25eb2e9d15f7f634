"""The narrow middle of an autoencoder."""

from torch import Tensor, nn

from skfusion.encoders.batch import Tokens, masked_mean
from skfusion.fusion.output import FusionOutput


class SingleModality(nn.Module):
    """One modality's embedding, and a hidden layer from which the head reconstructs [1]_.

    Nothing normalises the embedding: one of two units would keep but its sign.

    Parameters
    ----------
    n_latent : int
        Width of the embedding, which is the modality's head.
    n_hidden : int
        Width of the hidden layer after it, which is what is fused.

    References
    ----------
    .. [1] Hinton and Salakhutdinov, "Reducing the dimensionality of data with neural networks", Science 313, 2006.
    """

    def __init__(self, n_latent: int, n_hidden: int) -> None:
        super().__init__()
        self.decode = nn.Sequential(nn.Linear(n_latent, n_hidden), nn.GELU())

    def forward(self, tokens: dict[str, Tokens], present: Tensor) -> FusionOutput:
        """Tokens (B, T, n_latent) of one modality and `present` (B, 1) to a `FusionOutput`."""
        ((name, (values, mask)),) = tokens.items()
        embedding = masked_mean(Tokens(values, mask & present))  # (B, n_latent)
        fused = self.decode(embedding)  # (B, n_hidden)
        return FusionOutput(fused, {name: embedding, "fusion": fused, "global": fused}, tokens)
