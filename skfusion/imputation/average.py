"""Filling by the mean of what several strategies fill."""

from collections.abc import Sequence
from typing import Any, Self

from sklearn.base import clone

from skfusion._build import resolve
from skfusion.imputation.strategy import Settings, Strategy
from skfusion.modalities import Modalities
from skfusion.preprocessing import to_dense


class Average(Strategy):
    """The mean of what several strategies fill.

    Strategies that err differently, such as linear and non-linear ones, are better together than each alone [1]_. It
    fits them all, so that it costs what they cost. It fills numbers alone, whatever it is made of, and draws nothing.
    Of the default three, ``"conversion"`` alone learns from texts and tables of categories.

    Parameters
    ----------
    strategies : list of str or Strategy, default=("factor", "conversion", "vae")
        Names, or instances that bring their own parameters.

    Attributes
    ----------
    strategies_ : list of Strategy
        The fitted ones.

    References
    ----------
    .. [1] Breiman, "Stacked regressions", Machine Learning 24, 1996.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion import ModalityImputer
    >>> from skfusion.imputation import Average
    >>> X = {"a": np.array([[1.0], [2.0], [3.0]]), "b": np.array([[10.0], [20.0], [np.nan]])}
    >>> ModalityImputer(Average(["mean", "zero"])).fit_transform(X)["b"].ravel()
    array([10. , 20. ,  7.5])
    """

    _parameter_constraints = {"strategies": [Sequence]}

    def __init__(self, strategies: Sequence[str | Strategy] = ("factor", "conversion", "vae")) -> None:
        self.strategies = strategies

    def fit(self, X: Modalities, names: list[str], settings: Settings) -> Self:
        """Fit all."""
        from skfusion.imputation import STRATEGIES

        odd = [part for part in self.strategies if not isinstance(part, str | Strategy)]
        if odd or isinstance(self.strategies, str) or not self.strategies:
            raise ValueError(
                f"strategies is {self.strategies!r}; due is a list of one or more, each a name out of "
                f"{list(STRATEGIES)} or an instance from skfusion.imputation."
            )
        self.names_ = list(names)
        self.strategies_ = []
        for part in self.strategies:
            strategy = resolve("strategies", part, STRATEGIES)() if isinstance(part, str) else clone(part)
            strategy._validate_params()
            self.strategies_.append(strategy.fit(X, names, settings))
        return self

    def fill(self, X: Modalities, name: str) -> Any:
        """Return (n_samples, n_values)."""
        return _mean([strategy.fill(X, name) for strategy in self.strategies_])

    def fill_all(self, X: Modalities) -> dict[str, Any]:
        """Return (n_samples, n_values) for each modality."""
        filled = [
            strategy.fill_all(X)
            if hasattr(strategy, "fill_all")
            else {name: strategy.fill(X, name) for name in self.names_}
            for strategy in self.strategies_
        ]
        return {name: _mean([tables[name] for tables in filled]) for name in self.names_}


def _mean(tables: list[Any]) -> Any:
    kept = tables if len({type(table) for table in tables}) == 1 else [to_dense(table) for table in tables]
    return sum(kept[1:], start=kept[0]) / len(kept)
