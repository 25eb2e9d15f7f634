"""Zorro: masked attention keeps each modality pure beside tokens that fuse."""

import torch
from torch import Tensor, nn

from skfusion.encoders.batch import Tokens, all_true
from skfusion.encoders.transformer import Mask, MultiHeadAttention
from skfusion.fusion.blocks import TokenFusion, pack, require_whole, unpack
from skfusion.fusion.masks import FUSION, GLOBAL, readout_mask, zorro_mask
from skfusion.fusion.output import FusionOutput


class Zorro(TokenFusion):
    """Modality tokens see their own kind, fusion tokens see everything [1]_.

    One transformer runs over the tokens of all modalities and some learned fusion tokens under `zorro_mask`, the same
    in each layer, so that nothing of another modality ever reaches a modality's tokens. Each head is a learned query
    with one layer of cross-attention: a modality's sees its own tokens, "fusion" the fusion tokens, "global" all of
    them. The fused embedding is "fusion".

    Parameters
    ----------
    widths, n_latent, dropout_rate, n_heads, n_fusion_layers
        As in every fusion of tokens.
    n_fusion_tokens : int, default=4
        Learned tokens that fuse.

    References
    ----------
    .. [1] Recasens et al., "Zorro: the masked multimodal transformer", arXiv:2301.09595, 2023.
    """

    is_pure = True
    predicts_by_head = True
    global_apart = True

    def __init__(self, widths: dict[str, int], n_latent: int, *, n_fusion_tokens: int = 4, **options: object) -> None:
        require_whole("n_fusion_tokens", n_fusion_tokens)
        super().__init__(widths, n_latent, **options)  # type: ignore[arg-type]
        self.fusion_tokens = nn.Parameter(0.02 * torch.randn(n_fusion_tokens, n_latent))
        self.mixer = self.transformer()
        self.queries = nn.Parameter(0.02 * torch.randn(len(widths) + 2, n_latent))
        self.readout = MultiHeadAttention(n_latent, self.n_heads)
        owner = torch.tensor([*range(len(widths)), FUSION, GLOBAL])
        self.register_buffer("query_owner", owner, persistent=False)

    query_owner: Tensor

    def forward(self, tokens: dict[str, Tokens], present: Tensor) -> FusionOutput:
        """Tokens (B, T, D) a modality and `present` (B, M) to a `FusionOutput`."""
        adapted = self.adapt(tokens, present)
        values, owner, real = pack(adapted, self.fusion_tokens)  # (B, T, D), (T,), (B, T)
        seen = real[:1].unsqueeze(1) if all_true(real) else real.unsqueeze(1)  # (B or 1, 1, T)
        values = self.mixer(values, Mask.of(zorro_mask(owner, owner) & seen), (owner, owner))  # (B, T, D)
        queries = self.queries.expand(len(values), -1, -1)  # (B, M + 2, D)
        mask = Mask.of(readout_mask(self.query_owner, owner) & seen)
        embeddings = self.refine(
            queries + self.readout(queries, mask, (self.query_owner, owner), values)
        )  # (B, M + 2, D)
        heads = dict(zip([*adapted, "fusion", "global"], embeddings.unbind(1)))
        return FusionOutput(heads["fusion"], heads, unpack(values, adapted))
