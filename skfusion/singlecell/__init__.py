"""What single-cell users need: spliced and unspliced counts from AnnData to embeddings, expression and new cells."""

from skfusion._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "generation_report": "skfusion.singlecell.generation:generation_report",
        "SplicingFusion": "skfusion.singlecell.splicing:SplicingFusion",
    },
)
