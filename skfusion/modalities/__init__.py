"""Several kinds of measurement of the same samples: the container, and the one front door for input."""

from skfusion.modalities.check import check_modalities
from skfusion.modalities.container import Modalities

__all__ = ["Modalities", "check_modalities"]
