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
    "tensor": "skfusion.fusion.tensor:TensorFusion",
    "low_rank": "skfusion.fusion.tensor:LowRank",
    "select": "skfusion.fusion.select:Select",
    "shared_specific": "skfusion.fusion.shared_specific:SharedSpecific",
    "drfuse": "skfusion.fusion.drfuse:DrFuse",
    "mixture_of_experts": "skfusion.fusion.mixture_of_experts:MixtureOfExperts",
    "evidential": "skfusion.fusion.evidential:Evidential",
    "early_sum": "skfusion.fusion.early_sum:EarlySum",
    "early_concat": "skfusion.fusion.early_concat:EarlyConcat",
    "hierarchical": "skfusion.fusion.hierarchical:Hierarchical",
    "hierarchical_split": "skfusion.fusion.hierarchical:HierarchicalSplit",
    "cross_attention": "skfusion.fusion.cross_attention:CrossAttention",
    "cross_attention_concat": "skfusion.fusion.cross_attention:CrossAttentionConcat",
    "protst": "skfusion.fusion.protst:ProtST",
    "irene": "skfusion.fusion.irene:Irene",
    "bottleneck": "skfusion.fusion.bottleneck:Bottleneck",
    "zorro": "skfusion.fusion.zorro:Zorro",
    "everything_at_once": "skfusion.fusion.everything_at_once:EverythingAtOnce",
    "unseen": "skfusion.fusion.unseen:Unseen",
    "optimal_transport": "skfusion.fusion.optimal_transport:OptimalTransport",
}
"""Name of a fusion to where its class is; adding one is one line here."""

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        **{where.partition(":")[2]: where for where in FUSIONS.values()},
        "FusionNetwork": "skfusion.fusion.network:FusionNetwork",
        "FusionOutput": "skfusion.fusion.output:FusionOutput",
        "Primary": "skfusion.fusion.primary:Primary",
    },
)
