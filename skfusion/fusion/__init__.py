"""Fusions: tokens and presence to a `FusionOutput`.

A fusion is an ``nn.Module`` built as ``Fusion(widths, n_latent, dropout_rate=, n_heads=)``, where ``widths`` maps each
modality to the width of its tokens.
"""

from skfusion._lazy import lazy_names

FUSIONS = {
    "concat": "skfusion.fusion.concat:Concat",
    "sum": "skfusion.fusion.sum:Sum",
    "mean": "skfusion.fusion.mean:Mean",
    "product": "skfusion.fusion.product:Product",
    "gated": "skfusion.fusion.gated:Gated",
    "attention": "skfusion.fusion.attention:Attention",
}
"""Name of a fusion to where its class is; adding one is one line here."""

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        **{where.partition(":")[2]: where for where in FUSIONS.values()},
        "FusionNetwork": "skfusion.fusion.network:FusionNetwork",
        "FusionOutput": "skfusion.fusion.output:FusionOutput",
    },
)
