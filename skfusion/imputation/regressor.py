"""Filling by any regressor of scikit-learn."""

from typing import Any, Self

import numpy as np
from joblib import Parallel, delayed
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.utils import get_tags

from skfusion._base import seeded_clone
from skfusion._compat import HasMethods, integer
from skfusion.imputation.strategy import Settings, Strategy
from skfusion.imputation.tables import Sources, Targets
from skfusion.modalities import Modalities
from skfusion.preprocessing import Projection, takes_nan


class Regressor(Strategy):
    """Any scikit-learn regressor, from the standardised tables of all other modalities side by side.

    Parameters
    ----------
    estimator : regressor, default=None
        What is fitted, a clone for each target where it predicts one at a time. Where it has no ``random_state``, it
        gets that of the imputer. None is `HistGradientBoostingRegressor`, of 50 small trees. Missing sources are NaN to
        an estimator that takes NaN, and the mean to others.
    n_components : int or None, default=20
        Modalities of more columns are projected to so many principal components, those that are filled and, before an
        estimator that predicts one target at a time, those that it is filled from. None projects wide CSR alone.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LinearRegression
    >>> from skfusion import ModalityImputer
    >>> from skfusion.imputation import Regressor
    >>> X = {"a": np.array([[1.0], [3.0], [4.0]]), "b": np.array([[10.0], [30.0], [np.nan]])}
    >>> ModalityImputer(Regressor(LinearRegression())).fit_transform(X)["b"].ravel().round(6)
    array([10., 30., 40.])
    """

    _parameter_constraints = {"estimator": [HasMethods(["fit", "predict"]), None], "n_components": [integer(1), None]}

    def __init__(self, estimator: Any = None, *, n_components: int | None = 20) -> None:
        self.estimator = estimator
        self.n_components = n_components

    def fit(self, X: Modalities, names: list[str], settings: Settings) -> Self:
        """Fit a regressor for each modality on the samples that have it and another one."""
        estimator = self.estimator
        if estimator is None:
            estimator = HistGradientBoostingRegressor(max_iter=50, max_leaf_nodes=15, random_state=settings.seed)
        self.takes_nan_ = takes_nan(estimator)
        at_once = bool(get_tags(estimator).target_tags.multi_output)
        self.sources_ = _Sources(None if at_once else self.n_components).fit(X, settings.seed)
        self.targets_ = Targets(self.n_components).fit(X, names, settings.seed)
        self.given_: dict[str, list[str]] = {name: [] for name in names}
        tasks = []
        for name in names:
            others = [other for other in X.names if other != name]
            if not others:
                continue
            rows = np.flatnonzero(X.present[:, X.names.index(name)] & X.select(others).present.any(axis=1))
            if len(rows) < 2:
                continue
            # In a mosaic, not every other modality occurs together with this one.
            others = [other for other in others if X.present[rows, X.names.index(other)].any()]
            self.given_[name] = others
            inputs = self._inputs(X[rows].select(others))
            target = self.targets_.encode(X[rows], name)
            columns = [target] if at_once else list(target.T)
            tasks += [
                (name, inputs, column[:, 0] if at_once and column.shape[1] == 1 else column) for column in columns
            ]
        fitted = Parallel(n_jobs=settings.n_jobs)(
            delayed(seeded_clone(estimator, settings.seed).fit)(inputs, column) for _, inputs, column in tasks
        )
        self.regressors_: dict[str, list[Any]] = {name: [] for name in names}
        for (name, _, _), regressor in zip(tasks, fitted):
            self.regressors_[name].append(regressor)
        return self

    def _inputs(self, X: Modalities) -> Any:
        tables = self.sources_.encode(X)
        if self.takes_nan_:
            for name, present in zip(X.names, X.present.T):
                tables[name] = np.where(present[:, None], tables[name], np.nan)
        return np.hstack(list(tables.values()))

    def fill(self, X: Modalities, name: str) -> Any:
        """Return (n_samples, n_values)."""
        out = np.tile(self.targets_.means[name], (len(X), 1))
        if not self.given_[name]:
            return out
        given = X.select(self.given_[name])
        rows = np.flatnonzero(given.present.any(axis=1))
        if len(rows):
            inputs = self._inputs(given[rows])
            columns = [regressor.predict(inputs).reshape(len(rows), -1) for regressor in self.regressors_[name]]
            out[rows] = self.targets_.decode(name, np.hstack(columns))
        return out


class _Sources:
    """Standardised tables, the wide ones projected."""

    def __init__(self, n_components: int | None) -> None:
        self.n_components = n_components

    def fit(self, X: Modalities, seed: int) -> Self:
        self.sources = Sources().fit(X, seed)
        self.projections = {}
        for name, table in self.sources.encode(X).items():
            rows = table[X.present[:, X.names.index(name)]]
            if self.n_components is not None and self.n_components < min(rows.shape):
                self.projections[name] = Projection(self.n_components, random_state=seed).fit(rows)
        return self

    def encode(self, X: Modalities) -> dict[str, Any]:
        tables = self.sources.encode(X)
        return {n: self.projections[n].transform(t) if n in self.projections else t for n, t in tables.items()}
