"""Early concatenation: one transformer over the tokens of all modalities."""

from torch import Tensor

from skfusion.encoders.batch import Tokens
from skfusion.encoders.transformer import Mask
from skfusion.fusion.blocks import TokenFusion, pack, unpack


class EarlyConcat(TokenFusion):
    """Z = Tf(C(Z_a, Z_b)): one transformer, in which every token sees all that are present [1]_ [2]_.

    References
    ----------
    .. [1] Xu, Zhu and Clifton, "Multimodal learning with transformers: a survey", IEEE TPAMI 45, 2023.
    .. [2] Li et al., "VisualBERT: a simple and performant baseline for vision and language", arXiv:1908.03557, 2019.
    """

    def build(self) -> None:
        """One transformer for all tokens."""
        self.mixer = self.transformer()

    def mix(self, tokens: dict[str, Tokens], present: Tensor) -> dict[str, Tokens]:
        """Mix all tokens."""
        values, owner, real = pack(tokens)
        return unpack(self.mixer(values, Mask.of(real.unsqueeze(1)), (owner, owner)), tokens)
