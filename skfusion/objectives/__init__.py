"""Objectives: the outputs of a network to a loss.

An objective has ``views(batch, generator) -> dict of batches``, ``loss(outputs, batch, context) -> dict with "loss"``,
and ``when``: "any", "all" or "only" of its modalities present. One with ``prepare(n_classes, n_latent)`` is told the
classes of each output, None for regression, and how wide embeddings are. One that a fusion brings is built without
arguments, and left out where the estimator got one of its class.
"""

from skfusion._lazy import lazy_names

OBJECTIVES = {
    "pseudo_supervision": "skfusion.objectives.pseudo_supervision:PseudoSupervision",
    "ranking": "skfusion.objectives.ranking:Ranking",
}
"""Name of an objective to where its class is; adding one is one line here."""

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        **{where.partition(":")[2]: where for where in OBJECTIVES.values()},
        "Context": "skfusion.objectives.context:Context",
        "Supervised": "skfusion.objectives.supervised:Supervised",
    },
)
