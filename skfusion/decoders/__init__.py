"""Decoders: an embedding to a distribution over data, and the distributions that this takes beside torch's own."""

from skfusion._lazy import lazy_names

DECODERS = {
    "negative_binomial": "skfusion.decoders.negative_binomial:NegativeBinomial",
    "zero_inflated_negative_binomial": "skfusion.decoders.zero_inflated:ZeroInflatedNegativeBinomial",
    "expression": "skfusion.decoders.expression:ExpressionDecoder",
    "velocity": "skfusion.decoders.velocity:VelocityDecoder",
    "minimal_velocity": "skfusion.decoders.velocity:MinimalVelocityDecoder",
    "generative": "skfusion.decoders.generative:GenerativeDecoder",
}
"""Name of a decoder to where its class is; adding one is one line here."""

__getattr__, __dir__, __all__ = lazy_names(__name__, {where.partition(":")[2]: where for where in DECODERS.values()})
