"""What a fusion gives."""

from dataclasses import dataclass, field

from torch import Tensor

from skfusion.encoders.batch import Tokens


@dataclass
class FusionOutput:
    """The result of a fusion.

    Attributes
    ----------
    fused : Tensor
        (B, n_latent) the fused embedding, which the prediction is made from.
    heads : dict of str to Tensor
        An embedding (B, D) a modality's name, and ``"fusion"`` and ``"global"``.
    tokens : dict of str to Tokens
        What the fusion made of each modality's tokens.
    losses : dict of str to Tensor
        Losses of the fusion itself, scalars.
    """

    fused: Tensor
    heads: dict[str, Tensor]
    tokens: dict[str, Tokens] = field(default_factory=dict)
    losses: dict[str, Tensor] = field(default_factory=dict)

    def first(self, n: int) -> "FusionOutput":
        """Keep the first `n` samples."""
        return FusionOutput(
            self.fused[:n],
            {head: embedding[:n] for head, embedding in self.heads.items()},
            {name: Tokens(values[:n], mask[:n]) for name, (values, mask) in self.tokens.items()},
            self.losses,
        )
