"""Hierarchical attention: a transformer a modality, before or after the one that all share."""

from torch import Tensor, nn

from skfusion.encoders.batch import Tokens
from skfusion.encoders.transformer import Mask
from skfusion.fusion.blocks import TokenFusion, cleaned, pack, unpack
from skfusion.fusion.masks import owners


class Hierarchical(TokenFusion):
    """Z = Tf3(C(Tf1(Z_a), Tf2(Z_b))): many to one [1]_.

    Each modality has a transformer of its own, and one over all tokens follows. Of `n_fusion_layers`, half (at least
    one) are a modality's own, and the others (at least one) are shared.

    References
    ----------
    .. [1] Xu, Zhu and Clifton, "Multimodal learning with transformers: a survey", IEEE TPAMI 45, 2023.
    """

    def build(self) -> None:
        """Set up transformers of the modalities, and one for all."""
        first, last = max(self.n_layers // 2, 1), max(self.n_layers - self.n_layers // 2, 1)
        self.own = nn.ModuleList(self.transformer(first) for _ in self.names)
        self.mixer = self.transformer(last)

    def mix(self, tokens: dict[str, Tokens], present: Tensor) -> dict[str, Tokens]:
        """First each by itself, then all."""
        mixed = each_alone(self.own, tokens)
        values, owner, real = pack(mixed)
        return unpack(self.mixer(values, Mask.of(real.unsqueeze(1)), (owner, owner)), mixed)


class HierarchicalSplit(TokenFusion):
    """[Z_a', Z_b'] = split(Tf1(C(Z_a, Z_b))), Z_a = Tf2(Z_a'), Z_b = Tf3(Z_b'): one to many [1]_.

    One transformer over all tokens, and each modality's tokens go on through one of their own. Layers are shared out
    as in `Hierarchical`.

    References
    ----------
    .. [1] Xu, Zhu and Clifton, "Multimodal learning with transformers: a survey", IEEE TPAMI 45, 2023.
    """

    def build(self) -> None:
        """One transformer for all, and those of the modalities."""
        first, last = max(self.n_layers - self.n_layers // 2, 1), max(self.n_layers // 2, 1)
        self.mixer = self.transformer(first)
        self.own = nn.ModuleList(self.transformer(last) for _ in self.names)

    def mix(self, tokens: dict[str, Tokens], present: Tensor) -> dict[str, Tokens]:
        """First all, then each by itself."""
        values, owner, real = pack(tokens)
        mixed = unpack(self.mixer(values, Mask.of(real.unsqueeze(1)), (owner, owner)), tokens)
        return each_alone(self.own, {name: cleaned(t) for name, t in mixed.items()})


def each_alone(transformers: nn.ModuleList, tokens: dict[str, Tokens]) -> dict[str, Tokens]:
    """Send each modality's tokens through its own transformer."""
    out = {}
    for m, (transformer, (name, (values, mask))) in enumerate(zip(transformers, tokens.items())):
        own = owners((0,) * m + (values.shape[1],), 0, values.device)  # (T,), all m
        out[name] = Tokens(transformer(values, Mask.of(mask.unsqueeze(1)), (own, own)), mask)
    return out
