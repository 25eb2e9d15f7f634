"""Objectives: the outputs of a network to a loss.

An objective has ``views(batch, generator) -> dict of batches``, ``loss(outputs, batch, context) -> dict with "loss"``,
and ``when``: "any", "all" or "only" of its modalities present. A loss is a mean over the samples that it concerns, or a
`Part`, which says how many these are. One with ``prepare(setting)`` is told of the network and its data, a `Setting`,
before training, and builds what it learns. One that a fusion brings is built without arguments, and left out where the
estimator got one of its class.
"""

from skfusion._lazy import lazy_names

OBJECTIVES = {
    "contrastive": "skfusion.objectives.contrastive:Contrastive",
    "distillation": "skfusion.objectives.distillation:Distillation",
    "reconstruction": "skfusion.objectives.reconstruction:Reconstruction",
    "masked": "skfusion.objectives.masked:Masked",
    "cross_masked": "skfusion.objectives.masked:CrossMasked",
    "matching": "skfusion.objectives.matching:Matching",
    "next_token": "skfusion.objectives.next_token:NextToken",
    "combinatorial": "skfusion.objectives.combinatorial:Combinatorial",
    "mil_nce": "skfusion.objectives.mil_nce:MILNCE",
    "cca": "skfusion.objectives.cca:CCA",
    "alignment": "skfusion.objectives.alignment:Alignment",
    "conversion": "skfusion.objectives.conversion:Conversion",
    "pseudo_supervision": "skfusion.objectives.pseudo_supervision:PseudoSupervision",
    "ranking": "skfusion.objectives.ranking:Ranking",
    "expression": "skfusion.objectives.expression:Expression",
    "generative": "skfusion.objectives.generative:Generative",
    "table_transfer": "skfusion.objectives.table_transfer:TableTransfer",
}
"""Name of an objective to where its class is; adding one is one line here."""

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        **{where.partition(":")[2]: where for where in OBJECTIVES.values()},
        "Context": "skfusion.objectives.context:Context",
        "Part": "skfusion.objectives.context:Part",
        "Setting": "skfusion.objectives.context:Setting",
        "Supervised": "skfusion.objectives.supervised:Supervised",
        "Velocity": "skfusion.objectives.velocity:Velocity",
    },
)
