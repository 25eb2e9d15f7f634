"""IRENE: modalities attend to each other from the first layer on, then all tokens go through one transformer."""

from torch import Tensor, nn

from skfusion.encoders.batch import Tokens
from skfusion.encoders.dropout import Dropout
from skfusion.encoders.transformer import FeedForward, Mask, MultiHeadAttention
from skfusion.fusion.blocks import TokenFusion, cleaned, pack, unpack
from skfusion.fusion.masks import partner_weights
from skfusion.fusion.partners import attend_to_partners


class Irene(TokenFusion):
    r"""Bidirectional multimodal attention blocks, then self-attention blocks over all tokens [1]_.

    In a bidirectional block a token's answer is W_o of the average of softmax(Q_i K_iᵀ / √d) V_i and
    softmax(Q_i K_tᵀ / √d) V_t. Q, K, V, norms and feed-forward layers are a modality's own, W_o is shared. With more
    than two modalities the average runs over all that are present, itself included. Of `n_fusion_layers`, half (at
    least one) are bidirectional, and the others (at least one) are ordinary blocks. The prediction comes from the mean
    of all tokens, that of a modality's head from the mean of its own.

    References
    ----------
    .. [1] Zhou et al., "A transformer-based representation-learning model with unified processing of multimodal input
       for clinical diagnostics", Nature Biomedical Engineering 7, 2023.
    """

    predicts_by_head = True

    def build(self) -> None:
        """Bidirectional blocks, and a transformer for all."""
        first = max(self.n_layers // 2, 1)
        self.bidirectional = nn.ModuleList(
            BidirectionalBlock(len(self.names), self.n_latent, self.n_heads, self.dropout_rate) for _ in range(first)
        )
        self.mixer = self.transformer(max(self.n_layers - first, 1))

    def mix(self, tokens: dict[str, Tokens], present: Tensor) -> dict[str, Tokens]:
        """Bidirectional blocks, then self-attention over all."""
        weights = partner_weights(present, self_too=True)
        for block in self.bidirectional:
            tokens = block(tokens, weights)
        values, owner, real = pack(tokens)
        return unpack(self.mixer(values, Mask.of(real.unsqueeze(1)), (owner, owner)), tokens)


class BidirectionalBlock(nn.Module):
    """Each modality attends to itself and to the others; norms, projections and feed-forward layers are its own."""

    def __init__(self, n_modalities: int, width: int, n_heads: int, dropout_rate: float) -> None:
        super().__init__()
        each = range(n_modalities)
        self.attention_norms = nn.ModuleList(nn.LayerNorm(width) for _ in each)
        self.attentions = nn.ModuleList(MultiHeadAttention(width, n_heads, project_out=False) for _ in each)
        self.out = nn.Linear(width, width)
        self.feed_forward_norms = nn.ModuleList(nn.LayerNorm(width) for _ in each)
        self.feed_forwards = nn.ModuleList(FeedForward(width, dropout_rate) for _ in each)
        self.dropout = Dropout(dropout_rate)

    def forward(self, tokens: dict[str, Tokens], weights: Tensor) -> dict[str, Tokens]:
        """Tokens (B, T, D) of each modality and partner weights (B, M, M) to tokens of the same shape."""
        normed = {
            name: Tokens(norm(values), mask)
            for norm, (name, (values, mask)) in zip(self.attention_norms, tokens.items())
        }
        attended = attend_to_partners(self.attentions, normed, weights, self.out)
        out = {}
        for norm, feed_forward, (name, (values, mask)) in zip(
            self.feed_forward_norms, self.feed_forwards, tokens.items()
        ):
            x = values + self.dropout(attended[name].values)  # (B, T, D)
            out[name] = cleaned(Tokens(x + self.dropout(feed_forward(norm(x))), mask))
        return out
