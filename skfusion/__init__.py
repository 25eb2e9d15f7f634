"""Fuse several kinds of measurement of the same samples behind scikit-learn's interface."""

from skfusion._lazy import lazy_names

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "EarlyFusionTransformer": "skfusion.early:EarlyFusionTransformer",
        "FusionClassifier": "skfusion.select:FusionClassifier",
        "FusionDistiller": "skfusion.distill:FusionDistiller",
        "FusionRegressor": "skfusion.select:FusionRegressor",
        "JointFusionClassifier": "skfusion.joint:JointFusionClassifier",
        "JointFusionRegressor": "skfusion.joint:JointFusionRegressor",
        "LateFusionRegressor": "skfusion.late:LateFusionRegressor",
        "LateFusionStacker": "skfusion.late:LateFusionStacker",
        "Modalities": "skfusion.modalities:Modalities",
        "ModalityImputer": "skfusion.impute:ModalityImputer",
        "MultiBlockPLS": "skfusion.multiblock:MultiBlockPLS",
        "MultiBlockPLSRegressor": "skfusion.multiblock:MultiBlockPLSRegressor",
        "MultimodalPretrainer": "skfusion.pretrain:MultimodalPretrainer",
        "ampute": "skfusion.modalities.ampute:ampute",
        "ampute_values": "skfusion.modalities.ampute:ampute_values",
        "PatternConformalClassifier": "skfusion.conformal:PatternConformalClassifier",
        "PatternConformalRegressor": "skfusion.conformal:PatternConformalRegressor",
        "ModalityScheduler": "skfusion.schedule:ModalityScheduler",
    },
)
