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

    The samples come with single NaN filled. In training each has at least one modality, and each modality is there in
    some sample; later a sample may have nothing, and gets the training means. What lies in a missing slot is to have no
    say. Numeric modalities travel as flat tables (n_samples, n_values).

    One that fills all modalities at the cost of one has ``fill_all(X)``, which returns a dict of all numeric
    modalities: what `fill` gives for those that a sample lacks, and anything for the others.

    A strategy that is a distribution has as well ``draw(X, rng)``, which returns a dict of all numeric modalities, one
    joint draw a sample, (n_samples, n_values) each, and of others that it copies. One that knows its error has
    ``spread(X, name)``, the standard deviation of what it fills, (n_samples, n_values), and where it has that without
    the table, ``mean_spread(X, name)``, the mean of it over the samples that have the modality, (n_values,).

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion import ModalityImputer
    >>> from skfusion.imputation import Strategy
    >>> class Median(Strategy):
    ...     def fit(self, X, names, settings):
    ...         present = dict(zip(X.names, X.present.T))
    ...         self.medians_ = {name: np.median(X[name][present[name]], axis=0) for name in names}
    ...         return self
    ...
    ...     def fill(self, X, name):
    ...         return np.tile(self.medians_[name], (len(X), 1))
    >>> X = {"a": np.array([[1.0], [3.0], [11.0], [np.nan]]), "b": np.ones((4, 1))}
    >>> ModalityImputer(Median()).fit_transform(X)["a"].ravel()
    array([ 1.,  3., 11.,  3.])
    """

    copies = False
    """Whether it can fill what is not numeric."""

    def fit(self, X: Modalities, names: list[str], settings: Settings) -> Self:
        """Learn to fill the modalities `names` of `X`."""
        raise NotImplementedError

    def fill(self, X: Modalities, name: str) -> Any:
        """Return the modality `name` of all samples from their others: (n_samples, n_values), dense or CSR."""
        raise NotImplementedError
