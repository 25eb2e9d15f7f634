"""A picture of the features that multi-block PLS has chosen."""

from typing import Any

import numpy as np
import pandas as pd
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

from skfusion._compat import optional
from skfusion.inspection.plot._shared import check_whole, is_whole
from skfusion.multiblock import MultiBlockPLS, MultiBlockPLSRegressor

_UP, _DOWN = "#0072B2", "#D55E00"


class MultiBlockDisplay:
    """The features that say most in a component of `MultiBlockPLS`, a panel a modality.

    Bars are weights or loadings, largest on top, blue above 0 and orange below; features of weight 0 are left out. All
    panels have one scale.

    Make one with `from_estimator`.

    Parameters
    ----------
    tables : dict of str to DataFrame (n_features, n_components)
        Weights or loadings of each modality, the features as index.
    component : int, default=0
        The component that is drawn, from 0.
    kind : {"weights", "loadings"}, default="weights"
        What they are.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes of shape (n_modalities,)
        What is drawn on.
    figure_ : matplotlib Figure
        The figure of it.
    bars_ : dict of str to dict
        The bar of each feature that is shown, by modality.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from skfusion import MultiBlockPLS
    >>> from skfusion.inspection import MultiBlockDisplay
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat([0, 1], 60)
    >>> X = {"labs": rng.normal(size=(120, 5)), "ecg": rng.normal(size=(120, 4))}
    >>> X["labs"][60:, 3] += 3
    >>> X["ecg"][60:, 1] += 3
    >>> model = MultiBlockPLS(n_features={"labs": 2, "ecg": 1}).fit(X, y)
    >>> display = MultiBlockDisplay.from_estimator(model)
    >>> {name: next(iter(bars)) for name, bars in display.bars_.items()}
    {'labs': '3', 'ecg': '1'}
    >>> plt.close(display.figure_)
    """

    def __init__(self, *, tables: dict[str, pd.DataFrame], component: int = 0, kind: str = "weights") -> None:
        self.tables = tables
        self.component = component
        self.kind = kind

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, component: int = 0, kind: str = "weights", figure: Any = None, **options: Any
    ) -> "MultiBlockDisplay":
        """Draw a component of a fitted model.

        Parameters
        ----------
        estimator : MultiBlockPLS or MultiBlockPLSRegressor
            The fitted model.
        component : int, default=0
            Which component, from 0.
        kind : {"weights", "loadings"}, default="weights"
            What the scores are made of, or how features go with the scores.
        figure : matplotlib Figure or SubFigure, default=None
            Where to draw; None makes one.
        **options
            Given to `plot`.

        Returns
        -------
        MultiBlockDisplay
            With `axes_` and `figure_`.

        Raises
        ------
        TypeError
            Where `estimator` is no such model.
        NotFittedError
            Where it is not fitted.
        ValueError
            Where `kind` is none of the two, or the model has no such component.
        """
        optional("matplotlib.pyplot")
        if isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        if not isinstance(estimator, MultiBlockPLS | MultiBlockPLSRegressor):
            raise TypeError(
                f"estimator is {estimator!r}; due is a fitted MultiBlockPLS or MultiBlockPLSRegressor (of a Pipeline, "
                "pass the step that is one)."
            )
        check_is_fitted(estimator)
        if kind not in ("weights", "loadings"):
            raise ValueError(f"kind is {kind!r}; due is 'weights' or 'loadings'.")
        tables = getattr(estimator, f"{kind}_")
        if not tables:
            raise ValueError("the model has no components, since it was fitted on one class; fit it on two or more.")
        return cls(tables=tables, component=component, kind=kind).plot(figure, **options)

    def plot(
        self, figure: Any = None, *, max_features: int = 10, bar_kw: dict[str, Any] | None = None
    ) -> "MultiBlockDisplay":
        """Draw.

        Parameters
        ----------
        figure : matplotlib Figure or SubFigure, default=None
            Where to draw; None makes one.
        max_features : int, default=10
            Features of a modality that are shown, the largest.
        bar_kw : dict, default=None
            Given to matplotlib's ``barh``.

        Returns
        -------
        MultiBlockDisplay
            Itself.

        Raises
        ------
        ValueError
            Where there is no such component, or `max_features` is no whole number of 1 or more.
        """
        plt = optional("matplotlib.pyplot")
        n_components = min(table.shape[1] for table in self.tables.values())
        if not is_whole(self.component) or self.component not in range(n_components):
            raise ValueError(f"component is {self.component!r}; due is one of 0 to {n_components - 1}.")
        check_whole("max_features", max_features)
        columns = {name: _largest(table[self.component], max_features) for name, table in self.tables.items()}
        n_rows = max(map(len, columns.values()))
        if figure is None:
            figure = plt.figure(figsize=(3.2 * len(columns), 1.2 + 0.26 * n_rows), layout="constrained")
        self.figure_ = figure
        self.axes_ = figure.subplots(1, len(columns), squeeze=False, sharex=True)[0]
        self.bars_: dict[str, dict[Any, Any]] = {}
        for ax, (name, column) in zip(self.axes_, columns.items()):
            colours = [_UP if value > 0 else _DOWN for value in column]
            bars = ax.barh(np.arange(len(column)), column, 0.7, **{"color": colours, "alpha": 0.8, **(bar_kw or {})})
            self.bars_[name] = dict(zip(column.index, bars))
            ax.set_yticks(np.arange(len(column)), [str(label) for label in column.index])
            ax.set_ylim(n_rows - 0.4, -0.6)
            ax.axvline(0, color="0.35", linewidth=1)
            ax.set_title(name, fontsize="medium")
            ax.tick_params(axis="y", length=0)
            ax.spines[["left", "top", "right"]].set_visible(False)
            ax.grid(axis="x", color="0.92")
            ax.set_axisbelow(True)
        figure.supxlabel(f"{self.kind.rstrip('s')} in component {self.component}", fontsize="medium")
        return self


def _largest(column: pd.Series, n: int) -> pd.Series:
    """Return the `n` values of a column that are largest, whatever their sign, less zeros."""
    order = np.argsort(-column.abs().to_numpy(), kind="stable")[:n]
    chosen = column.iloc[order]
    return chosen[chosen != 0]
