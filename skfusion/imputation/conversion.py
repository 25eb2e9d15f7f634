"""Filling by networks that convert what is present into what is missing."""

from typing import Any, Self

import numpy as np

from skfusion._base import seeded_clone
from skfusion._compat import HasMethods, options
from skfusion.imputation.strategy import Settings, Strategy
from skfusion.imputation.tables import Targets
from skfusion.modalities import Modalities


class Conversion(Strategy):
    """Networks that convert what is present into what is missing, trained on the squared error [1]_.

    Parameters
    ----------
    source : {"all", "pairs"}, default="all"
        "all": one network a modality, from all others that are present. "pairs": one for each ordered pair, whose
        conversions are averaged over the modalities present.
    estimator : regressor, default=None
        What is trained; it takes a `Modalities` and predicts a table. Where it has no ``random_state``, it gets that of
        the imputer. None is a `JointFusionRegressor`, with modality dropout where the source is "all".

    References
    ----------
    .. [1] Ma, "Multi-modality deep learning", 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LinearRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from skfusion import EarlyFusionTransformer, ModalityImputer
    >>> from skfusion.imputation import Conversion
    >>> X = {"a": np.array([[1.0], [3.0], [4.0]]), "b": np.array([[10.0], [30.0], [np.nan]])}
    >>> regression = make_pipeline(EarlyFusionTransformer(), LinearRegression())
    >>> ModalityImputer(Conversion(estimator=regression)).fit_transform(X)["b"].ravel().round(6)
    array([10., 30., 40.])
    """

    _parameter_constraints = {"source": [options("all", "pairs")], "estimator": [HasMethods(["fit", "predict"]), None]}

    def __init__(self, source: str = "all", *, estimator: Any = None) -> None:
        self.source = source
        self.estimator = estimator

    def fit(self, X: Modalities, names: list[str], settings: Settings) -> Self:
        """Train on the samples that have the modality and another one."""
        estimator = self._default(settings) if self.estimator is None else self.estimator
        self.targets_ = Targets().fit(X, names, settings.seed)
        self.converters_: dict[str, list[tuple[list[str], Any]]] = {}
        for name in names:
            others = [other for other in X.names if other != name]
            sources = [others] if self.source == "all" else [[other] for other in others]
            own = X.present[:, X.names.index(name)]
            self.converters_[name] = []
            for source in filter(None, sources):
                rows = np.flatnonzero(own & X.select(source).present.any(axis=1))
                if len(rows) < 2:
                    continue
                # In a mosaic, not every other modality occurs together with this one.
                source = [other for other in source if X.present[rows, X.names.index(other)].any()]
                target = self.targets_.encode(X[rows], name)
                target = target[:, 0] if target.shape[1] == 1 else target
                converter = seeded_clone(estimator, settings.seed).fit(X.select(source)[rows], target)
                self.converters_[name].append((source, converter))
        return self

    def _default(self, settings: Settings) -> Any:
        from skfusion.joint import JointFusionRegressor

        return JointFusionRegressor(
            modality_dropout=0.2 if self.source == "all" else 0.0,
            dropout_rate=0.1,
            device=settings.device,
            random_state=settings.seed,
            verbose=settings.verbose,
        )

    def fill(self, X: Modalities, name: str) -> Any:
        """Return (n_samples, n_values)."""
        means = self.targets_.means[name]
        total, count = np.zeros((len(X), len(means))), np.zeros(len(X))
        for source, converter in self.converters_[name]:
            inputs = X.select(source)
            rows = np.flatnonzero(inputs.present.any(axis=1))
            if len(rows):
                converted = converter.predict(inputs[rows]).reshape(len(rows), -1)
                total[rows] += self.targets_.decode(name, converted)
                count[rows] += 1
        return np.where(count[:, None] > 0, total / np.maximum(count, 1)[:, None], means)
