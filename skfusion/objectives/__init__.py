"""Objectives: the outputs of a network to a loss.

An objective has ``views(batch, generator) -> dict of batches``, ``loss(outputs, batch, context) -> dict with "loss"``,
and ``when``: "any", "all" or "only" of its modalities present.
"""

from skfusion._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "Context": "skfusion.objectives.context:Context",
        "Supervised": "skfusion.objectives.supervised:Supervised",
    },
)
