"""A fusion that was made for more modalities than there are."""

import torch
from torch import Tensor, nn

from skfusion.encoders.batch import Tokens
from skfusion.fusion.output import FusionOutput

_KEPT = (
    *("is_pure", "predicts_by_head", "global_apart", "fills_missing", "classifies_only", "objectives"),
    *("decide", "criterion", "uncertainty"),
)


class Within(nn.Module):
    """A fusion that takes some of its modalities, in any order; the others are missing for every sample.

    Parameters
    ----------
    fusion : nn.Module
        What fuses.
    widths : dict of str to int
        Width of the tokens of each modality that it was made for, in its order.
    """

    def __init__(self, fusion: nn.Module, widths: dict[str, int]) -> None:
        super().__init__()
        self.fusion = fusion
        self.widths = dict(widths)
        for name in _KEPT:
            if hasattr(fusion, name):
                setattr(self, name, getattr(fusion, name))

    def forward(self, tokens: dict[str, Tokens], present: Tensor) -> FusionOutput:
        """Tokens (B, T, D) a modality and `present` (B, M) to a `FusionOutput`."""
        first = next(iter(tokens.values())).values
        nobody = present.new_zeros(len(present), 1)  # (B, 1)
        columns = dict(zip(tokens, present.split(1, dim=1)))
        whole = {
            name: tokens.get(name, Tokens(first.new_zeros(len(present), 1, width), nobody))
            for name, width in self.widths.items()
        }
        output: FusionOutput = self.fusion(whole, torch.cat([columns.get(name, nobody) for name in whole], 1))
        known = [*tokens, *(head for head in output.heads if head not in self.widths)]
        return FusionOutput(
            output.fused,
            {head: output.heads[head] for head in known if head in output.heads},
            {name: output.tokens[name] for name in tokens if name in output.tokens},
            output.losses,
            output.second,
            {names: values for names, values in output.subsets.items() if set(names) <= set(tokens)},
        )
