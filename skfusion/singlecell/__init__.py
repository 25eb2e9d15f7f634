"""What only single-cell users need."""

from skfusion._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "read_backed": "skfusion.singlecell.backed:read_backed",
    },
)
