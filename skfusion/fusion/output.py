"""What a fusion gives."""

from collections.abc import Callable
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
    second : Tensor, optional
        (B, n_latent) another embedding, whose prediction is averaged with that of `fused`.
    subsets : dict of tuple of str to Tensor
        An embedding (B, D) of some combinations of modalities; zero for samples that lack one of them.
    present : Tensor, optional
        (B, M) who had what when this was made; modality dropout leaves some out.
    encoded : dict of str to Tokens
        The tokens that the fusion got, as the encoders gave them.
    """

    fused: Tensor
    heads: dict[str, Tensor]
    tokens: dict[str, Tokens] = field(default_factory=dict)
    losses: dict[str, Tensor] = field(default_factory=dict)
    second: Tensor | None = None
    subsets: dict[tuple[str, ...], Tensor] = field(default_factory=dict)
    present: Tensor | None = None
    encoded: dict[str, Tokens] = field(default_factory=dict)

    def first(self, n: int) -> "FusionOutput":
        """Keep the first `n` samples."""
        return self.map(lambda tensor: tensor[:n])

    def map(self, change: Callable[[Tensor], Tensor]) -> "FusionOutput":
        """Apply `change` to all that there is of the samples."""
        return FusionOutput(
            change(self.fused),
            {head: change(embedding) for head, embedding in self.heads.items()},
            _changed(self.tokens, change),
            self.losses,
            None if self.second is None else change(self.second),
            {subset: change(embedding) for subset, embedding in self.subsets.items()},
            None if self.present is None else change(self.present),
            _changed(self.encoded, change),
        )


def _changed(tokens: dict[str, Tokens], change: Callable[[Tensor], Tensor]) -> dict[str, Tokens]:
    return {name: Tokens(change(values), change(mask)) for name, (values, mask) in tokens.items()}
