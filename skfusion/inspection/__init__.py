"""Looking at what was fitted: functions return a Bunch or a table, and Displays draw it."""

from skfusion._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "AttentionMaskDisplay": "skfusion.inspection.plot.masks:AttentionMaskDisplay",
        "EmbeddingDisplay": "skfusion.inspection.plot.embedding:EmbeddingDisplay",
        "FusionComparisonDisplay": "skfusion.inspection.plot.comparison:FusionComparisonDisplay",
        "MissingModalityDisplay": "skfusion.inspection.plot.missing:MissingModalityDisplay",
        "MissingPatternDisplay": "skfusion.inspection.plot.patterns:MissingPatternDisplay",
        "ModalityImportanceDisplay": "skfusion.inspection.plot.importance:ModalityImportanceDisplay",
        "MultiBlockDisplay": "skfusion.inspection.plot.multiblock:MultiBlockDisplay",
        "compare_fusions": "skfusion.inspection.comparison:compare_fusions",
        "corrected_resampled_interval": "skfusion.inspection.comparison:corrected_resampled_interval",
        "is_worth_it": "skfusion.inspection.importance:is_worth_it",
        "missing_modality_curve": "skfusion.inspection.missing:missing_modality_curve",
        "modality_importance": "skfusion.inspection.importance:modality_importance",
    },
)
