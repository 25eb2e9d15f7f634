"""Small real multimodal data sets, shipped with the package."""

from skfusion.datasets._loaders import (
    load_basic_motions,
    load_clothing_reviews,
    load_dentate_gyrus,
    load_handwritten,
    load_nutrimouse,
)

__all__ = [
    "load_basic_motions",
    "load_clothing_reviews",
    "load_dentate_gyrus",
    "load_handwritten",
    "load_nutrimouse",
]
