"""What every strategy is."""

from dataclasses import dataclass
from typing import Any, Self

from skfusion._base import FusionEstimator
from skfusion.modalities import Modalities


@dataclass(frozen=True)
class Settings:
    """What the imputer hands to a strategy's `fit`."""

    seed: int
    device: Any = "auto"
    n_jobs: int | None = None
    verbose: int = 0


class Strategy(FusionEstimator):
    """Fills a missing modality from those that are present.

    The samples come with single NaN filled and with at least one modality present; every modality was present in some
    training sample. Numeric modalities travel as flat tables (n_samples, n_values).

    A strategy that is a distribution has as well ``draw(X, rng)``, which returns a dict of all numeric modalities, one
    joint draw a sample, (n_samples, n_values) each. One that knows its error has ``spread(X, name)``, the standard
    deviation of what it fills, (n_samples, n_values).
    """

    copies = False
    """Whether it can fill what is not numeric."""

    def fit(self, X: Modalities, names: list[str], settings: Settings) -> Self:
        """Learn to fill the modalities `names` of `X`."""
        raise NotImplementedError

    def fill(self, X: Modalities, name: str) -> Any:
        """Return the modality `name` of all samples from their others: (n_samples, n_values), dense or CSR."""
        raise NotImplementedError
