"""Late fusion: each modality has estimators of its own, and their out-of-fold predictions are stacked."""

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score, r2_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skfusion._combine import AVERAGES
from skfusion._compat import HasMethods, on_arrays, options
from skfusion._late import LateFusion
from skfusion._late_defaults import default_classifiers, default_regressors
from skfusion._recalibration import CALIBRATIONS
from skfusion._stacking import METHODS, Base
from skfusion._targets import class_prior


def _final_has_probabilities(stacker: Any) -> bool:
    final = stacker.final_estimator
    return final is None or isinstance(final, str) or hasattr(final, "predict_proba")


class LateFusionStacker(ClassifierMixin, LateFusion):
    """Stacking by modality: each has its own classifiers, whose out-of-fold predictions a final estimator combines.

    Base classifiers see the rows that have their modality. The final estimator learns from predictions for samples that
    the base had not seen [1]_; for a missing modality it gets the mean prediction and a column that says so. Samples
    that lack modalities have a final estimator of their own for each missing pattern, which learns from the modalities
    present alone, and from all training samples that have one of these [2]_. A pattern that training never met is
    fitted whenever it is predicted; one with few samples is left to the final estimator of complete ones.

    Parameters
    ----------
    estimators : estimator, list of (name, estimator), dict by modality of either, or None, default=None
        None is, a modality: logistic regression and a few extra-trees below 200 rows; logistic regression,
        extra-trees, histogram gradient boosting and, to 10,000 rows, an SVM above. They work on scaled, log-normalised,
        one-hot or hashed values by kind. Given estimators see the values and dtype that came; one that does not take
        NaN gets single NaN filled with the training mean. In a dict, ``"all"`` (where no modality is called so) is for
        estimators that take `X` with all modalities at once, and ``"drop"`` for a modality without its own.
    final_estimator : classifier, {"mean", "weighted", "hill_climb", "vote", "product"} or None, default=None
        None is logistic regression as in scikit-learn's stacking; over the default estimators, a regularised one on
        standardised margins and probabilities, from 200 samples their log-odds. The names average probabilities over
        the bases that are present: equally, by non-negative least squares on out-of-fold predictions (drawn towards
        equal weights as far as that is more accurate out of fold), by how often forward selection with replacement
        chooses each base [3]_, averaged over 20 bags of half of the bases, by most probable class, or as a normalised
        product.
    modalities : dict or list, default=None
        How `X` is split, or which modalities to take.
    levels : list, default=None
        Estimators, or lists of (name, estimator), between the bases and the final estimator, lowest level first. Those
        of a level learn from out-of-fold predictions of the one below, on the same folds.
    cv : int, splitter or iterable, default=5
        Folds; an integer is stratified by class, and by what is missing where there are no groups, keeps groups whole,
        and is lowered where no class has so many samples. Where a sample is tested repeatedly, its predictions are
        averaged; where never, the layers above do not learn from it.
    blend : float, default=None
        Hold out this part of the samples, of whole groups where there are any, instead of `cv`.
    refit : {"whole", "average"}, default="whole"
        Whether bases are fitted once more, on all samples, to predict, or predictions of the folds' models averaged.
    stack_method : {"auto", "predict_proba", "decision_function", "predict"}, default="auto"
        What of a base is stacked; "auto" takes the first of these that it has.
    calibration : {"sigmoid", "isotonic", "temperature"}, default=None
        Turn what bases predict into calibrated probabilities: those of a fold by the other folds' predictions, those of
        new samples by all. Margins become probabilities.
    passthrough : bool, default=False
        The layers above the bases see the values as well; the fitted stacker holds those of training.
    scoring : str or callable, default=None
        What ``"hill_climb"`` climbs, by any scorer; None is accuracy, and the squared error of the probabilities among
        the equally accurate, which is quicker.
    error_score : "raise" or number, default="raise"
        With a number, such as ``np.nan``, a base whose fit fails is left out with a warning that names it.
    memory : str or joblib.Memory, default=None
        Where fits of bases are kept by the content of data, estimator and fold, so that one more estimator costs its
        own fits alone. What lies there is unpickled: use a folder that only you can write to.
    n_jobs : int or None, default=None
        All (modality, estimator, fold) fits run in one flat `joblib.Parallel`, on any of its backends.
    scale : bool, default=True
        Whether the default estimators scale, and log-normalise counts.
    random_state : int, RandomState or None, default=None
        For the default estimators, the bags of ``"hill_climb"`` and `blend`.
    verbose : int, default=0
        joblib's verbosity.

    Attributes
    ----------
    estimators_ : dict of str to estimator
        ``modality__name`` to the classifier fitted on all samples that have the modality; with ``refit="average"`` to
        the list of those of the folds.
    final_estimator_ : estimator or str
        The final estimator of complete samples, fitted on all, or the name of the average.
    base_weights_ : ndarray of shape (n_bases,)
        Weights of the bases (of the last of `levels`), where the final estimator is an average.
    oof_predictions_ : dict of str to ndarray (n_samples, n_columns)
        Out-of-fold predictions of each base, ``level_1__name`` and so on of each in `levels`; NaN where its modality is
        missing, or where no fold tests.
    oof_scores_ : Series
        Out-of-fold accuracy of each.
    classes_ : ndarray of shape (n_classes,)
        The class labels.
    modality_names_in_, n_features_by_modality_, n_features_in_
        What was seen in fit.

    References
    ----------
    .. [1] Wolpert, "Stacked generalization", Neural Networks 5, 1992.
    .. [2] Saar-Tsechansky and Provost, "Handling missing values when applying classification models", Journal of
       Machine Learning Research 8, 2007.
    .. [3] Caruana, Niculescu-Mizil, Crew and Ksikes, "Ensemble selection from libraries of models", ICML 2004.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skfusion import LateFusionStacker
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat([0, 1], 50)
    >>> X = {"a": rng.normal(size=(100, 3)) + y[:, None], "b": rng.normal(size=(100, 2)) + y[:, None]}
    >>> model = LateFusionStacker(LogisticRegression()).fit(X, y)
    >>> sorted(model.estimators_)
    ['a__logisticregression', 'b__logisticregression']
    >>> model.predict_proba({"a": X["a"]}).shape  # without b
    (100, 2)
    """

    _is_classifier = True
    _score_name = "accuracy"
    _parameter_constraints = {
        **LateFusion._parameter_constraints,
        "final_estimator": [options(*AVERAGES), HasMethods("fit"), None],
        "stack_method": [options("auto", *METHODS)],
        "calibration": [options(*CALIBRATIONS), None],
    }

    def __init__(
        self,
        estimators: Any = None,
        final_estimator: Any = None,
        *,
        modalities: Any = None,
        levels: Any = None,
        cv: Any = 5,
        blend: Any = None,
        refit: str = "whole",
        stack_method: str = "auto",
        calibration: Any = None,
        passthrough: bool = False,
        scoring: Any = None,
        error_score: Any = "raise",
        memory: Any = None,
        n_jobs: Any = None,
        scale: bool = True,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.estimators = estimators
        self.final_estimator = final_estimator
        self.modalities = modalities
        self.levels = levels
        self.cv = cv
        self.blend = blend
        self.refit = refit
        self.stack_method = stack_method
        self.calibration = calibration
        self.passthrough = passthrough
        self.scoring = scoring
        self.error_score = error_score
        self.memory = memory
        self.n_jobs = n_jobs
        self.scale = scale
        self.random_state = random_state
        self.verbose = verbose

    @available_if(_final_has_probabilities)
    def predict_proba(self, X: Any) -> Any:
        """Return class probabilities.

        Parameters
        ----------
        X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
            The samples.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            A sample with nothing present gets the prior.
        """
        X, empty = self._predictable(X)
        if self._is_constant:
            return np.ones((len(X), 1))
        if self._averages:
            out = self._average(X)
        else:
            out = np.zeros((len(X), len(self.classes_)))
            for rows, final, found in self._ask(X, "predict_proba"):
                out[np.ix_(rows, final.classes_)] = found
        out[empty] = self._prior
        return out

    def predict(self, X: Any) -> Any:
        """Return the predicted class of each sample, (n_samples,)."""
        check_is_fitted(self)
        if self._is_constant or self._averages:
            return self.classes_[self.predict_proba(X).argmax(axis=1)]
        X, _ = self._predictable(X)
        codes = np.full(len(X), self._prior.argmax())
        for rows, _, found in self._ask(X, "predict"):
            codes[rows] = np.ravel(found)  # CatBoost gives a column
        return self.classes_[codes]

    def _learn_target(self, y: Any, sample_weight: Any) -> Any:
        self.classes_, codes = np.unique(y, return_inverse=True)
        self._prior = class_prior(codes, len(self.classes_), sample_weight)
        return codes

    @property
    def _n_classes(self) -> int:
        return len(self.classes_)

    @property
    def _calibration(self) -> str | None:
        return self.calibration

    @property
    def _is_constant(self) -> bool:
        return len(self.classes_) == 1

    def _default_final(self) -> Any:
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler

        if self.estimators is not None:
            return LogisticRegression()
        # Probabilities and margins come on different scales, and there are many of them.
        return on_arrays(make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)))

    def _default_estimators(self, target: Any, kind: str, seed: int) -> list[tuple[str, Any]]:
        return default_classifiers(target, calibrated=self._averages and not self.calibration, seed=seed, kind=kind)

    def _responses(self, average: Any) -> dict[str, Any]:
        return {"predict_proba": average, "predict": self.classes_[average.argmax(axis=1)]}

    def _score_base(self, base: Base, predictions: Any, target: Any) -> float:
        if base.method == "predict":
            found = predictions[:, 0].round().astype(int)
        elif predictions.shape[1] == 1:
            found = (predictions[:, 0] > 0).astype(int)
        else:
            found = predictions.argmax(axis=1)
        return float(accuracy_score(target, found))


class LateFusionRegressor(RegressorMixin, LateFusion):
    """Stacking by modality: each has its own regressors, whose out-of-fold predictions a final estimator combines.

    Everything but the target is as in `LateFusionStacker`.

    Parameters
    ----------
    estimators : estimator, list of (name, estimator), dict by modality of either, or None, default=None
        None is, a modality: ridge regression and a few extra-trees below 200 rows; ridge regression, extra-trees,
        histogram gradient boosting and, to 10,000 rows, an SVM above.
    final_estimator : regressor, {"mean", "weighted", "hill_climb"} or None, default=None
        None is ridge regression with its penalty by cross-validation.
    modalities, levels, cv, blend, refit, passthrough, error_score, memory, n_jobs, scale, random_state, verbose
        As in `LateFusionStacker`; folds are not stratified.
    stack_method : {"auto", "predict"}, default="auto"
        Regressors have predictions alone.
    scoring : str or callable, default=None
        What ``"hill_climb"`` climbs, by any scorer; None is the squared error.

    Attributes
    ----------
    estimators_ : dict of str to estimator
        ``modality__name`` to the regressor fitted on all samples that have the modality; with ``refit="average"`` to
        the list of those of the folds.
    final_estimator_ : estimator or str
        The final estimator of complete samples, fitted on all, or the name of the average.
    oof_predictions_ : dict of str to ndarray (n_samples, 1)
        Out-of-fold predictions of each base, ``level_1__name`` and so on of each in `levels`; NaN where its modality is
        missing, or where no fold tests.
    oof_scores_ : Series
        Out-of-fold R² of each.
    modality_names_in_, n_features_by_modality_, n_features_in_
        What was seen in fit.

    References
    ----------
    .. [1] Breiman, "Stacked regressions", Machine Learning 24, 1996.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion import LateFusionRegressor
    >>> rng = np.random.default_rng(0)
    >>> X = {"a": rng.normal(size=(100, 3)), "b": rng.normal(size=(100, 2))}
    >>> y = X["a"][:, 0] + X["b"][:, 0]
    >>> LateFusionRegressor(random_state=0).fit(X, y).score(X, y) > 0.8
    True
    """

    _is_classifier = False
    _is_constant = False
    _n_classes = 0
    _calibration = None
    _score_name = "r2"
    _parameter_constraints = {
        **LateFusion._parameter_constraints,
        "final_estimator": [options("mean", "weighted", "hill_climb"), HasMethods("fit"), None],
        "stack_method": [options("auto", "predict")],
    }

    def __init__(
        self,
        estimators: Any = None,
        final_estimator: Any = None,
        *,
        modalities: Any = None,
        levels: Any = None,
        cv: Any = 5,
        blend: Any = None,
        refit: str = "whole",
        stack_method: str = "auto",
        passthrough: bool = False,
        scoring: Any = None,
        error_score: Any = "raise",
        memory: Any = None,
        n_jobs: Any = None,
        scale: bool = True,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.estimators = estimators
        self.final_estimator = final_estimator
        self.modalities = modalities
        self.levels = levels
        self.cv = cv
        self.blend = blend
        self.refit = refit
        self.stack_method = stack_method
        self.passthrough = passthrough
        self.scoring = scoring
        self.error_score = error_score
        self.memory = memory
        self.n_jobs = n_jobs
        self.scale = scale
        self.random_state = random_state
        self.verbose = verbose

    def predict(self, X: Any) -> Any:
        """Return predictions (n_samples,); the training mean for a sample with nothing present."""
        X, empty = self._predictable(X)
        if self._averages:
            out = self._average(X)[:, 0]
        else:
            out = np.empty(len(X))
            for rows, _, found in self._ask(X, "predict"):
                out[rows] = np.ravel(found)
        out[empty] = self._prior
        return out

    def _learn_target(self, y: Any, sample_weight: Any) -> Any:
        target = y.astype(np.float64)
        self._prior = float(np.average(target, weights=sample_weight))
        return target

    def _default_final(self) -> Any:
        from sklearn.linear_model import RidgeCV

        return RidgeCV()

    def _default_estimators(self, target: Any, kind: str, seed: int) -> list[tuple[str, Any]]:
        return default_regressors(len(target), seed=seed)

    def _responses(self, average: Any) -> dict[str, Any]:
        return {"predict": average[:, 0]}

    def _score_base(self, base: Base, predictions: Any, target: Any) -> float:
        return float(r2_score(target, predictions[:, 0])) if len(target) > 1 else np.nan
