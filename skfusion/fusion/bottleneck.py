"""Attention bottlenecks: modalities exchange through a few fusion tokens only."""

import torch
from torch import Tensor, nn

from skfusion.encoders.batch import Tokens
from skfusion.encoders.transformer import Block, Mask
from skfusion.fusion.blocks import TokenFusion, require_whole
from skfusion.fusion.masks import owners


class Bottleneck(TokenFusion):
    r"""Modalities exchange only through fusion tokens, from a layer on [1]_.

    In a fusion layer each modality's block, with weights of its own, runs over its tokens and the fusion tokens,
    [z_m || z'_m] = Block_m([z_m || z_f]); the new fusion tokens are the mean of the z'_m of the modalities that are
    present. Layers before `fusion_from` see a modality's own tokens alone. The prediction comes from all tokens, that
    of a modality's head from its own.

    Parameters
    ----------
    widths, n_latent, dropout_rate, n_heads, n_fusion_layers
        As in every fusion of tokens.
    n_fusion_tokens : int, default=4
        Learned tokens that fuse.
    fusion_from : int, default=None
        The first layer that sees fusion tokens. None leaves the last two layers to fusion: it takes one for the fusion
        tokens to learn, and one more to pass it on.

    References
    ----------
    .. [1] Nagrani et al., "Attention bottlenecks for multimodal fusion", NeurIPS, 2021.
    """

    predicts_by_head = True

    def __init__(
        self,
        widths: dict[str, int],
        n_latent: int,
        *,
        n_fusion_tokens: int = 4,
        fusion_from: int | None = None,
        **options: object,
    ) -> None:
        require_whole("n_fusion_tokens", n_fusion_tokens, 0)
        super().__init__(widths, n_latent, **options)  # type: ignore[arg-type]
        self.fusion_from = max(self.n_layers - 2, 0) if fusion_from is None else fusion_from
        if not 0 <= self.fusion_from < max(self.n_layers, 1):
            raise ValueError(f"fusion_from is {fusion_from}; due is a layer from 0 to {self.n_layers - 1}.")
        self.fusion_tokens = nn.Parameter(0.02 * torch.randn(n_fusion_tokens, n_latent))
        self.layers = nn.ModuleList(
            nn.ModuleList(Block(n_latent, self.n_heads, self.dropout_rate) for _ in widths)
            for _ in range(self.n_layers)
        )
        self.norm = nn.LayerNorm(n_latent)

    def mix(self, tokens: dict[str, Tokens], present: Tensor) -> dict[str, Tokens]:
        """Run each modality's blocks; the fusion tokens come last."""
        n_fusion, batch = len(self.fusion_tokens), len(present)
        fusion = self.fusion_tokens.expand(batch, -1, -1)  # (B, F, D)
        always = torch.ones(batch, n_fusion, dtype=torch.bool, device=present.device)
        values = [t.values for t in tokens.values()]  # M x (B, T, D)
        masks = [t.mask for t in tokens.values()]
        alone = [Mask.of(mask.unsqueeze(1)) for mask in masks]
        with_fusion = [
            Mask.of(torch.cat([mask, always & present[:, m : m + 1]], 1).unsqueeze(1)) for m, mask in enumerate(masks)
        ]
        share = present / present.sum(1, keepdim=True).clamp(min=1)  # (B, M)
        device = present.device
        whose = [owners((0,) * m + (x.shape[1],), 0, device) for m, x in enumerate(values)]
        whose_with = [owners((0,) * m + (x.shape[1],), n_fusion, device) for m, x in enumerate(values)]
        for depth, layer in enumerate(self.layers):
            blocks = list(layer.children())
            if depth < self.fusion_from:
                values = [block(x, mask, (own, own)) for block, x, mask, own in zip(blocks, values, alone, whose)]
                continue
            mixed = torch.zeros_like(fusion)
            for m, (block, mask, own) in enumerate(zip(blocks, with_fusion, whose_with)):
                both = block(torch.cat([values[m], fusion], 1), mask, (own, own))  # (B, T + F, D)
                values[m], after = both.split([values[m].shape[1], n_fusion], dim=1)
                mixed = mixed + share[:, m, None, None] * after
            fusion = mixed
        out = {name: Tokens(self.norm(x), mask) for name, x, mask in zip(tokens, values, masks)}
        return {**out, "fusion": Tokens(self.norm(fusion), always)}
