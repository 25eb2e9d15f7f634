"""Filling with a constant."""

from typing import Any, Self

import numpy as np

from skfusion.imputation.strategy import Settings, Strategy
from skfusion.imputation.tables import flat
from skfusion.modalities import Modalities
from skfusion.preprocessing import MeanFill, present_rows


class Mean(Strategy):
    """The training mean of each value.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion import ModalityImputer
    >>> X = {"a": np.array([[1.0], [3.0], [np.nan]]), "b": np.ones((3, 1))}
    >>> ModalityImputer("mean").fit_transform(X)["a"].ravel()
    array([1., 3., 2.])
    """

    def fit(self, X: Modalities, names: list[str], settings: Settings) -> Self:
        """Learn the means."""
        self.values_ = {
            name: MeanFill().fit(flat(present_rows(X[name], X.present[:, X.names.index(name)]))).means_
            for name in names
        }
        return self

    def fill(self, X: Modalities, name: str) -> Any:
        """Return (n_samples, n_values)."""
        return np.broadcast_to(self.values_[name], (len(X), len(self.values_[name])))


class Zero(Mean):
    """Zero, which is the mean of what was standardised.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion import ModalityImputer
    >>> X = {"a": np.array([[1.0], [3.0], [np.nan]]), "b": np.ones((3, 1))}
    >>> ModalityImputer("zero").fit_transform(X)["a"].ravel()
    array([1., 3., 0.])
    """

    def fit(self, X: Modalities, names: list[str], settings: Settings) -> Self:
        """Learn the widths."""
        super().fit(X, names, settings)
        self.values_ = {name: np.zeros_like(values) for name, values in self.values_.items()}
        return self
