"""The facade: one estimator whose parameter is the type of fusion."""

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin, clone
from sklearn.pipeline import Pipeline
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skfusion._base import FusionEstimator, fits
from skfusion._compat import HasMethods, on_arrays, options
from skfusion._targets import class_prior, fit_with, training_set
from skfusion.modalities import Modalities, check_modalities
from skfusion.modalities.backed import is_backed
from skfusion.modalities.check import SINGLE

_TYPES = ("early", "joint", "late")
_HANDED_DOWN = {"device": "auto", "random_state": None, "n_jobs": None}


class _Fusion(FusionEstimator):
    """What the classifier and the regressor share."""

    _parameter_constraints = {
        "fusion": [options(*_TYPES)],
        "early": [HasMethods(["fit", "predict"]), None],
        "joint": [HasMethods(["fit", "predict"]), None],
        "late": [HasMethods(["fit", "predict"]), None],
        "random_state": ["random_state"],
    }

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get the parameters; with `deep`, also those of the parts, default ones included."""
        params = super().get_params(deep=deep)
        if deep:
            for name in _TYPES:
                if params[name] is None:
                    params.update({f"{name}__{k}": v for k, v in self._default(name).get_params(deep=True).items()})
        return params

    def set_params(self, **params: Any) -> Any:
        """Set parameters; one of a part that is at its default stores that default first."""
        for name in _TYPES:
            nested = any(key.startswith(f"{name}__") for key in params)
            if nested and params.get(name, getattr(self, name)) is None:
                params.pop(name, None)
                setattr(self, name, self._default(name))
        return super().set_params(**params)

    @property
    def _reads_in_chunks(self) -> bool:
        return self.fusion == "joint"

    @fits
    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Any:
        """Fit the part that `fusion` names.

        Parameters
        ----------
        X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
            The samples.
        y : array-like of shape (n_samples,)
            The target.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples; those of weight 0 are left out.
        groups : array-like of shape (n_samples,), default=None
            Donors, patients and the like, kept whole by parts that split.

        Returns
        -------
        self
            The fitted estimator.
        """
        X = check_modalities(self, X, y, reset=True)
        data = training_set(self, X, y, sample_weight, groups, numeric=not self._is_classifier, multi_output=False)
        self._learn_prior(data.y, data.sample_weight)
        part = getattr(self, self.fusion)
        part = self._default(self.fusion) if part is None else clone(part)
        for inner in _own_parts(part):
            for name, default in _HANDED_DOWN.items():
                value = getattr(self, name, default)
                if name in inner.get_params(deep=False) and getattr(inner, name) == default and value is not default:
                    inner.set_params(**{name: value})
        self.estimator_: Any = None
        if not self._is_constant:
            metadata = {"sample_weight": data.sample_weight, "groups": data.groups}
            self.estimator_ = fit_with(part, _inner(data.X), data.y, **metadata)
        return self

    def _fills_gaps(self, X: Modalities, name: str) -> bool:
        """Whether the part that is to be fitted fills single NaN of a modality."""
        asked = getattr(getattr(self, self.fusion), "_fills_gaps", None)
        return True if asked is None else bool(asked(X, name))

    def _checked(self, X: Any) -> tuple[Modalities, Any]:
        """Return the checked samples, and the positions of those with something present."""
        check_is_fitted(self)
        X = check_modalities(self, X, reset=False)
        return X, np.flatnonzero(X.present.any(axis=1))


class FusionClassifier(ClassifierMixin, _Fusion):
    """A classifier whose parameter is the type of fusion, for a grid over it.

    Parameters
    ----------
    fusion : {"joint", "early", "late"}, default="joint"
        Which part is fitted.
    early : classifier, default=None
        A classifier that takes `X`. None is a Pipeline ("fusion", "model") of `EarlyFusionTransformer` with
        ``transformers="auto"`` and ``fill_missing="factor"``, and logistic regression.
    joint : classifier, default=None
        None is `JointFusionClassifier()`.
    late : classifier, default=None
        None is `LateFusionStacker()`.
    modalities : dict or list, default=None
        How `X` is split, or which modalities to take; the parts see the result.
    device : str or torch.device, default="auto"
        Handed to parts whose own is "auto".
    n_jobs : int or None, default=None
        Handed to parts whose own is None.
    random_state : int, RandomState or None, default=None
        Handed to parts whose own is None.

    Attributes
    ----------
    estimator_ : classifier or None
        The fitted part; None where there was one class.
    classes_ : ndarray of shape (n_classes,)
        The class labels.
    modality_names_in_, n_features_by_modality_, n_features_in_
        What was seen in fit.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.model_selection import GridSearchCV
    >>> from skfusion import FusionClassifier, Modalities
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat([0, 1], 40)
    >>> X = Modalities({"a": rng.normal(size=(80, 3)) + y[:, None], "b": rng.normal(size=(80, 2))})
    >>> model = FusionClassifier(random_state=0).set_params(joint__max_epochs=5)
    >>> grid = GridSearchCV(model, {"fusion": ["early", "joint", "late"]}, cv=3).fit(X, y)
    >>> grid.best_params_["fusion"] in ("early", "joint", "late")
    True
    """

    _is_classifier = True

    def __init__(
        self,
        fusion: str = "joint",
        *,
        early: Any = None,
        joint: Any = None,
        late: Any = None,
        modalities: Any = None,
        device: Any = "auto",
        n_jobs: Any = None,
        random_state: Any = None,
    ) -> None:
        self.fusion = fusion
        self.early = early
        self.joint = joint
        self.late = late
        self.modalities = modalities
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state

    def _default(self, name: str) -> Any:
        from sklearn.linear_model import LogisticRegression

        from skfusion import EarlyFusionTransformer, JointFusionClassifier, LateFusionStacker

        if name == "joint":
            return JointFusionClassifier()
        if name == "late":
            return LateFusionStacker()
        fusion = EarlyFusionTransformer(transformers="auto", fill_missing="factor")
        return on_arrays(Pipeline([("fusion", fusion), ("model", LogisticRegression(max_iter=1000))]))

    def _learn_prior(self, y: Any, sample_weight: Any) -> None:
        self.classes_, codes = np.unique(y, return_inverse=True)
        self._prior = class_prior(codes, len(self.classes_), sample_weight)

    @property
    def _is_constant(self) -> bool:
        return len(self.classes_) == 1

    @available_if(lambda self: _has(self, "predict_proba"))
    def predict_proba(self, X: Any) -> Any:
        """Return class probabilities (n_samples, n_classes); the prior for a sample with nothing present."""
        X, there = self._checked(X)
        if self._is_constant:
            return np.ones((len(X), 1))
        out = np.tile(self._prior, (len(X), 1))
        if len(there):
            out[there] = self.estimator_.predict_proba(_inner(X, there))
        return out

    @available_if(lambda self: _has(self, "decision_function"))
    def decision_function(self, X: Any) -> Any:
        """Return the part's decision function, (n_samples,) or (n_samples, n_classes); 0 with nothing present."""
        X, there = self._checked(X)
        if self._is_constant or not len(there):
            return np.zeros(len(X))
        decided = np.asarray(self.estimator_.decision_function(_inner(X, there)))
        out = np.zeros((len(X), *decided.shape[1:]))
        out[there] = decided
        return out

    def predict(self, X: Any) -> Any:
        """Return the predicted class of each sample, (n_samples,)."""
        X, there = self._checked(X)
        out = np.repeat(self.classes_[[self._prior.argmax()]], len(X))
        if len(there) and not self._is_constant:
            out[there] = self.estimator_.predict(_inner(X, there))
        return out


class FusionRegressor(RegressorMixin, _Fusion):
    """A regressor whose parameter is the type of fusion, for a grid over it.

    Parameters
    ----------
    fusion : {"joint", "early", "late"}, default="joint"
        Which part is fitted.
    early : regressor, default=None
        A regressor that takes `X`. None is a Pipeline ("fusion", "model") of `EarlyFusionTransformer` with
        ``transformers="auto"`` and ``fill_missing="factor"``, and ridge regression.
    joint : regressor, default=None
        None is `JointFusionRegressor()`.
    late : regressor, default=None
        None is `LateFusionRegressor()`.
    modalities : dict or list, default=None
        How `X` is split, or which modalities to take; the parts see the result.
    device : str or torch.device, default="auto"
        Handed to parts whose own is "auto".
    n_jobs : int or None, default=None
        Handed to parts whose own is None.
    random_state : int, RandomState or None, default=None
        Handed to parts whose own is None.

    Attributes
    ----------
    estimator_ : regressor
        The fitted part.
    modality_names_in_, n_features_by_modality_, n_features_in_
        What was seen in fit.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion import FusionRegressor
    >>> rng = np.random.default_rng(0)
    >>> X = {"a": rng.normal(size=(100, 3)), "b": rng.normal(size=(100, 2))}
    >>> y = X["a"][:, 0] + X["b"][:, 0]
    >>> FusionRegressor("early").fit(X, y).score(X, y) > 0.9
    True
    """

    _is_classifier = False
    _is_constant = False

    def __init__(
        self,
        fusion: str = "joint",
        *,
        early: Any = None,
        joint: Any = None,
        late: Any = None,
        modalities: Any = None,
        device: Any = "auto",
        n_jobs: Any = None,
        random_state: Any = None,
    ) -> None:
        self.fusion = fusion
        self.early = early
        self.joint = joint
        self.late = late
        self.modalities = modalities
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state

    def _default(self, name: str) -> Any:
        from sklearn.linear_model import RidgeCV

        from skfusion import EarlyFusionTransformer, JointFusionRegressor, LateFusionRegressor

        if name == "joint":
            return JointFusionRegressor()
        if name == "late":
            return LateFusionRegressor()
        fusion = EarlyFusionTransformer(transformers="auto", fill_missing="factor")
        return on_arrays(Pipeline([("fusion", fusion), ("model", RidgeCV(np.logspace(-2, 4, 7)))]))

    def _learn_prior(self, y: Any, sample_weight: Any) -> None:
        self._prior = float(np.average(y, weights=sample_weight))

    def predict(self, X: Any) -> Any:
        """Return predictions (n_samples,); the training mean for a sample with nothing present."""
        X, there = self._checked(X)
        out = np.full(len(X), self._prior)
        if len(there):
            out[there] = self.estimator_.predict(_inner(X, there))
        return out


def _inner(X: Modalities, rows: Any = None) -> Any:
    """Return what the parts get: the array itself where `X` is one plain table, so that any classifier takes it."""
    if rows is not None and len(rows) < len(X):
        X = X[rows]
    alone = X.names == [SINGLE] and X.kind(SINGLE) in ("dense", "sparse") and not is_backed(X[SINGLE])
    return X[SINGLE] if alone else X


def _own_parts(part: Any) -> list[Any]:
    """Return the estimators of ours in a part: itself, or steps of a Pipeline."""
    inner = [step for _, step in part.steps] if isinstance(part, Pipeline) else [part]
    return [step for step in inner if isinstance(step, FusionEstimator)]


def _has(facade: _Fusion, method: str) -> bool:
    part = getattr(facade, facade.fusion)
    return hasattr(facade._default(facade.fusion) if part is None else part, method)
