"""Cross-attention: the tokens of one modality ask those of the others."""

from torch import Tensor, nn

from skfusion.encoders.batch import Tokens
from skfusion.encoders.transformer import Mask, MultiHeadAttention
from skfusion.fusion.blocks import TokenFusion, cleaned, pack, unpack
from skfusion.fusion.masks import partner_weights
from skfusion.fusion.partners import attend_to_partners


class CrossAttention(TokenFusion):
    r"""Z_a = MHSA(Q_b, K_a, V_a), Z_b = MHSA(Q_a, K_b, V_b): a single layer of attention across modalities [1]_ [2]_.

    Each modality has its own LayerNorm and projections. With more than two, a modality's tokens ask each of the others
    in turn, and the answers are averaged over those that are present; where there is none, they ask themselves. The
    result lies at the tokens that ask, and there is no residual: of a token itself only its questions remain.

    References
    ----------
    .. [1] Xu, Zhu and Clifton, "Multimodal learning with transformers: a survey", IEEE TPAMI 45, 2023.
    .. [2] Lu et al., "ViLBERT: pretraining task-agnostic visiolinguistic representations", NeurIPS, 2019.
    """

    def build(self) -> None:
        """Projections of each modality."""
        self.norms = nn.ModuleList(nn.LayerNorm(self.n_latent) for _ in self.names)
        self.attentions = nn.ModuleList(MultiHeadAttention(self.n_latent, self.n_heads) for _ in self.names)

    def mix(self, tokens: dict[str, Tokens], present: Tensor) -> dict[str, Tokens]:
        """Ask across modalities."""
        normed = {name: Tokens(norm(values), mask) for norm, (name, (values, mask)) in zip(self.norms, tokens.items())}
        return attend_to_partners(self.attentions, normed, partner_weights(present, self_too=False))


class CrossAttentionConcat(CrossAttention):
    """Z = Tf(C(Z_a, Z_b)) of `CrossAttention`'s Z_a and Z_b: a transformer gives back the context of a whole [1]_.

    References
    ----------
    .. [1] Xu, Zhu and Clifton, "Multimodal learning with transformers: a survey", IEEE TPAMI 45, 2023.
    """

    def build(self) -> None:
        """Projections of each modality, and a transformer for all."""
        super().build()
        self.mixer = self.transformer()

    def mix(self, tokens: dict[str, Tokens], present: Tensor) -> dict[str, Tokens]:
        """Ask across modalities, then mix all."""
        crossed = {name: cleaned(t) for name, t in super().mix(tokens, present).items()}
        values, owner, real = pack(crossed)
        return unpack(self.mixer(values, Mask.of(real.unsqueeze(1)), (owner, owner)), crossed)
