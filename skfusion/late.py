"""Late fusion: each modality has estimators of its own, and their out-of-fold predictions are stacked."""

import numbers
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy import sparse
from sklearn.base import ClassifierMixin, RegressorMixin, clone
from sklearn.dummy import DummyClassifier
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import check_cv
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import check_random_state, get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from skfusion._base import FusionEstimator, fits
from skfusion._build import by_modality, require_present
from skfusion._combine import AVERAGES, combine, fit_weights
from skfusion._compat import HasMethods, options
from skfusion._targets import class_prior, training_set
from skfusion.early import EarlyFusionTransformer
from skfusion.modalities import Modalities, check_modalities
from skfusion.modalities.kinds import take
from skfusion.preprocessing import MeanFill, table_preprocessor, to_dense

_SMALL = 200
_SVM_UP_TO = 10_000
_METHODS = ("predict_proba", "decision_function", "predict")


class _LateFusion(FusionEstimator):
    """What the stacker of classifiers and that of regressors share."""

    _parameter_constraints = {
        "cv": ["cv_object"],
        "passthrough": ["boolean"],
        "n_jobs": [numbers.Integral, None],
        "scale": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    @fits
    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Any:
        """Fit each (modality, estimator) on each fold and on all samples, then the final estimator.

        Parameters
        ----------
        X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
            The samples.
        y : array-like of shape (n_samples,)
            The target.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights; those of weight 0 are left out. Estimators that know no weights are fitted without, with a warning.
        groups : array-like of shape (n_samples,), default=None
            Donors, patients and the like, for a `cv` that keeps them whole.

        Returns
        -------
        self
            The fitted stacker.

        Raises
        ------
        ValueError
            Where the input is not as due (it names the modality), or where an estimator gives no probabilities and the
            final estimator averages them.
        """
        original = check_modalities(self, X, y, reset=True)
        data = training_set(
            self, original, y, sample_weight, groups, numeric=not self._is_classifier, multi_output=False
        )
        X, target = data.X, self._learn_target(data.y, data.sample_weight)
        if self._is_constant:
            self.estimators_, self.oof_predictions_, self.oof_scores_ = {}, {}, pd.Series(dtype=float)
            return self
        self._averages = isinstance(self.final_estimator, str)
        bases = self._resolve(X)
        splits = self._splits(X, target, data.groups)
        weights = data.sample_weight
        self._check_weights_known(bases, weights)
        tasks = [(base, None) for base in bases] + [(base, split) for split in splits for base in bases]
        present = {name: X.present[:, column] for column, name in enumerate(X.names)}
        results = Parallel(n_jobs=self.n_jobs, verbose=int(self.verbose))(
            delayed(_fit_and_predict)(base, X[base.modality], target, weights, split, present[base.modality])
            for base, split in tasks
        )
        whole, by_fold = results[: len(bases)], results[len(bases) :]
        self._bases = [base for base, _ in whole]
        self.estimators_ = {base.key: base.estimator for base in self._bases}
        out_of_fold = [np.zeros((len(X), base.n_columns)) for base in bases]
        for task, (_, predictions) in enumerate(by_fold):
            split, base = divmod(task, len(bases))
            rows = splits[split][1]
            out_of_fold[base][rows[present[bases[base].modality][rows]]] += predictions
        repeats = np.bincount(np.concatenate([test for _, test in splits]), minlength=len(X))
        for base, predictions in zip(bases, out_of_fold):
            predictions /= np.maximum(repeats, 1)[:, None]
            predictions[(repeats == 0) | ~present[base.modality]] = np.nan
        self._fit_final(X, target, weights, out_of_fold, repeats > 0)
        self._publish(original, data, out_of_fold, target)
        return self

    # ---- estimators

    def _resolve(self, X: Modalities) -> list["_Base"]:
        """Return the unfitted (modality, estimator) pairs."""
        by_name = isinstance(self.estimators, Mapping)
        specs = by_modality("estimators", self.estimators, X.names, default=None)
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        bases = []
        for column, (name, spec) in enumerate(specs.items()):
            present = require_present(name, X.present[:, column])
            rows = X[name] if present.all() else take(X[name], np.flatnonzero(present))
            for key, estimator in self._named(name, spec, rows, seed):
                if spec is not None and not by_name and X.kind(name) not in ("dense", "sparse"):
                    # One estimator for all modalities sees a table; one that was given for this modality, the values.
                    estimator = make_pipeline(table_preprocessor(name, rows, scale=False, random_state=seed), estimator)
                methods = _METHODS if self.stack_method == "auto" else (self.stack_method,)
                methods = methods if self._is_classifier else ("predict",)
                method = next((m for m in methods if hasattr(estimator, m)), None)
                if method is None:
                    raise ValueError(
                        f"the estimator {key!r} of modality {name!r}, {estimator!r}, has none of {list(methods)}, which "
                        "stack_method asks for."
                    )
                if self._averages and self._is_classifier and method != "predict_proba":
                    raise ValueError(
                        f"final_estimator {self.final_estimator!r} averages probabilities, but {key!r} of modality "
                        f"{name!r}, {type(estimator).__name__}, gives none. Wrap it in CalibratedClassifierCV, or use a "
                        "learned final_estimator."
                    )
                bases.append(_Base(name, key, estimator, method, self._n_classes))
        return bases

    def _named(self, name: str, spec: Any, rows: Any, seed: int) -> list[tuple[str, Any]]:
        if spec is None:
            return self._defaults(name, rows, seed)
        if isinstance(spec, list):
            if not spec or not all(isinstance(pair, tuple) and len(pair) == 2 for pair in spec):
                raise ValueError(f"estimators of modality {name!r} is {spec!r}; due is a list of (name, estimator).")
            keys = [key for key, _ in spec]
            if len(set(keys)) < len(keys):
                raise ValueError(f"estimators of modality {name!r} has a name twice: {keys}.")
            return [(key, estimator) for key, estimator in spec]
        if not hasattr(spec, "fit"):
            raise TypeError(f"the estimator of modality {name!r} is {spec!r}; due is an estimator or a list of them.")
        return [(type(spec).__name__.lower(), spec)]

    def _splits(self, X: Modalities, target: Any, groups: Any) -> list[tuple[Any, Any]]:
        cv = self.cv
        if cv is None or isinstance(cv, numbers.Integral):
            # Rare classes and few samples take fewer folds rather than failing.
            most = int(np.bincount(target).max()) if self._is_classifier else len(X)
            cv = min(int(cv or 5), most)
            if cv < 2:
                raise ValueError(f"n_samples={len(X)} is too few for folds: a class needs 2 samples.")
        splitter = check_cv(cv, target, classifier=self._is_classifier)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
            return list(splitter.split(np.zeros((len(X), 1)), target, groups))

    def _check_weights_known(self, bases: list["_Base"], weights: Any) -> None:
        unknown = sorted({base.key for base in bases if not _takes_weights(base.estimator)})
        if weights is not None and unknown:
            warnings.warn(
                f"sample_weight is not known to {unknown}, which are fitted without.", UserWarning, stacklevel=4
            )

    # ---- the final estimator

    def _fit_final(self, X: Modalities, target: Any, weights: Any, out_of_fold: list[Any], covered: Any) -> None:
        if self._averages:
            self.final_estimator_ = self.final_estimator
            goal = np.eye(self._n_classes)[target] if self._is_classifier else target[:, None]
            row_weights = None if weights is None else weights[covered]
            stacked = np.stack(out_of_fold)[:, covered]
            self.base_weights_ = fit_weights(str(self.final_estimator), stacked, goal[covered], row_weights)
            return
        self._fills = [MeanFill().fit(p[covered]) for p in out_of_fold]
        self._indicated = np.flatnonzero(~X.present.all(axis=0))
        self._passed = EarlyFusionTransformer().fit(X) if self.passthrough else None
        features = self._features(X, out_of_fold)
        if not covered.all():
            features, target = features[covered], target[covered]
            weights = None if weights is None else weights[covered]
        final = self._default_final() if self.final_estimator is None else clone(self.final_estimator)
        self.final_estimator_ = _fit_weighted(final, features, target, weights)

    def _features(self, X: Modalities, predictions: list[Any]) -> Any:
        """Lay base predictions, who lacks what, and with passthrough the values side by side."""
        columns = []
        for base, fill, prediction in zip(self._bases, self._fills, predictions):
            filled = fill.transform(prediction)
            binary = base.method == "predict_proba" and filled.shape[1] == 2
            columns.append(filled[:, 1:] if binary else filled)
        if len(self._indicated):
            columns.append((~X.present[:, self._indicated]).astype(np.float64))
        if self._passed is None:
            return np.hstack(columns)
        table = self._passed.transform(X)
        if sparse.issparse(table):
            return sparse.hstack([*columns, table], format="csr")
        return np.hstack([*columns, table])

    def _base_predictions(self, X: Modalities) -> list[Any]:
        """Return each base's predictions (n_samples, n_columns), NaN where its modality is missing."""
        out = []
        for base in self._bases:
            present = X.present[:, X.names.index(base.modality)]
            where = np.flatnonzero(present)
            values = np.full((len(X), base.n_columns), np.nan)
            if len(where):
                rows = X[base.modality] if present.all() else take(X[base.modality], where)
                values[where] = base.predict(rows)
            out.append(values)
        return out

    def _publish(self, original: Modalities, data: Any, out_of_fold: list[Any], target: Any) -> None:
        """Keep out-of-fold predictions in the rows of the X that came, and their scores."""
        self.oof_predictions_, scores = {}, {}
        for base, predictions in zip(self._bases, out_of_fold):
            whole = np.full((len(original), predictions.shape[1]), np.nan)
            whole[data.kept] = predictions
            self.oof_predictions_[base.key] = whole
            there = ~np.isnan(predictions[:, 0])
            scores[base.key] = self._score_base(base, predictions[there], target[there]) if there.any() else np.nan
        self.oof_scores_ = pd.Series(scores, name=self._score_name)

    def _predictable(self, X: Any) -> tuple[Modalities, Any]:
        check_is_fitted(self)
        X = check_modalities(self, X, reset=False)
        return X, ~X.present.any(axis=1)


def _final_has_probabilities(stacker: Any) -> bool:
    final = stacker.final_estimator
    return final is None or isinstance(final, str) or hasattr(final, "predict_proba")


class LateFusionStacker(ClassifierMixin, _LateFusion):
    """Stacking by modality: each has its own classifiers, whose out-of-fold predictions a final estimator combines.

    Base classifiers see the rows that have their modality. The final estimator learns from predictions for samples that
    the base had not seen [1]_; for a missing modality it gets the mean prediction and a column that says so.

    Parameters
    ----------
    estimators : estimator, list of (name, estimator), dict by modality of either, or None, default=None
        None is, a modality: logistic regression and a small random forest below 200 rows; logistic regression, random
        forest, histogram gradient boosting and, to 10,000 rows, an SVM above. They work on scaled, log-normalised,
        one-hot or hashed values by kind. Given estimators see the values and dtype that came; one that does not take
        NaN gets single NaN filled with the training mean.
    final_estimator : classifier, {"mean", "weighted", "vote", "product"} or None, default=None
        None is logistic regression. The names average probabilities over the bases that are present: equally, by
        non-negative least squares on out-of-fold predictions, by most probable class, or as a normalised product.
    modalities : dict or list, default=None
        How `X` is split, or which modalities to take.
    cv : int, splitter or iterable, default=5
        Folds; an integer is stratified, and lowered where no class has so many samples.
    stack_method : {"auto", "predict_proba", "decision_function", "predict"}, default="auto"
        What of a base is stacked; "auto" takes the first of these that it has.
    passthrough : bool, default=False
        The final estimator sees the values as well.
    n_jobs : int or None, default=None
        All (modality, estimator, fold) fits run in one flat `joblib.Parallel`.
    scale : bool, default=True
        Whether the default estimators scale, and log-normalise counts.
    random_state : int, RandomState or None, default=None
        For the default estimators.
    verbose : int, default=0
        joblib's verbosity.

    Attributes
    ----------
    estimators_ : dict of str to estimator
        ``modality__name`` to the classifier fitted on all samples that have the modality.
    final_estimator_ : estimator or str
        The fitted final estimator, or the name of the average.
    base_weights_ : ndarray of shape (n_bases,)
        Weights of the bases, where the final estimator is an average.
    oof_predictions_ : dict of str to ndarray (n_samples, n_columns)
        Out-of-fold predictions of each base; NaN where its modality is missing.
    oof_scores_ : Series
        Out-of-fold accuracy of each base.
    classes_ : ndarray of shape (n_classes,)
        The class labels.
    modality_names_in_, n_features_by_modality_, n_features_in_
        What was seen in fit.

    References
    ----------
    .. [1] Wolpert, "Stacked generalization", Neural Networks 5, 1992.

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
        **_LateFusion._parameter_constraints,
        "final_estimator": [options(*AVERAGES), HasMethods("fit"), None],
        "stack_method": [options("auto", *_METHODS)],
    }

    def __init__(
        self,
        estimators: Any = None,
        final_estimator: Any = None,
        *,
        modalities: Any = None,
        cv: Any = 5,
        stack_method: str = "auto",
        passthrough: bool = False,
        n_jobs: Any = None,
        scale: bool = True,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.estimators = estimators
        self.final_estimator = final_estimator
        self.modalities = modalities
        self.cv = cv
        self.stack_method = stack_method
        self.passthrough = passthrough
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
        predictions = self._base_predictions(X)
        if self._averages:
            out = combine(str(self.final_estimator), np.stack(predictions), self.base_weights_)
        else:
            out = np.zeros((len(X), len(self.classes_)))
            found = self.final_estimator_.predict_proba(self._features(X, predictions))
            out[:, self.final_estimator_.classes_] = found
        out[empty] = self._prior
        return out

    def predict(self, X: Any) -> Any:
        """Return the predicted class of each sample, (n_samples,)."""
        check_is_fitted(self)
        if self._is_constant or self._averages or hasattr(self.final_estimator_, "predict_proba"):
            return self.classes_[self.predict_proba(X).argmax(axis=1)]
        X, empty = self._predictable(X)
        codes = self.final_estimator_.predict(self._features(X, self._base_predictions(X)))
        codes[empty] = self._prior.argmax()
        return self.classes_[codes]

    def _learn_target(self, y: Any, sample_weight: Any) -> Any:
        self.classes_, codes = np.unique(y, return_inverse=True)
        self._prior = class_prior(codes, len(self.classes_), sample_weight)
        return codes

    @property
    def _n_classes(self) -> int:
        return len(self.classes_)

    @property
    def _is_constant(self) -> bool:
        return len(self.classes_) == 1

    def _default_final(self) -> Any:
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(max_iter=1000)

    def _defaults(self, name: str, rows: Any, seed: int) -> list[tuple[str, Any]]:
        from sklearn.calibration import CalibratedClassifierCV
        from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
        from sklearn.linear_model import LogisticRegression
        from sklearn.svm import SVC

        sparse_input, dense_input = _default_inputs(name, rows, self.scale, seed)
        n_samples = rows.shape[0]
        linear = make_pipeline(sparse_input, LogisticRegression(max_iter=1000))
        forest = RandomForestClassifier(50 if n_samples < _SMALL else 100, max_features="sqrt", random_state=seed)
        named = [("lr", linear), ("rf", make_pipeline(dense_input, forest))]
        if n_samples >= _SMALL:
            boosting = HistGradientBoostingClassifier(**_boosting(n_samples), random_state=seed)
            named.append(("hgb", make_pipeline(dense_input, boosting)))
        if _SMALL <= n_samples <= _SVM_UP_TO:
            svm: Any = SVC()
            if self._averages:
                svm = CalibratedClassifierCV(svm, ensemble=False, cv=3)
            named.append(("svm", make_pipeline(dense_input, svm)))
        return named

    def _score_base(self, base: "_Base", predictions: Any, target: Any) -> float:
        if base.method == "predict":
            found = predictions[:, 0].round().astype(int)
        elif predictions.shape[1] == 1:
            found = (predictions[:, 0] > 0).astype(int)
        else:
            found = predictions.argmax(axis=1)
        return float(accuracy_score(target, found))


class LateFusionRegressor(RegressorMixin, _LateFusion):
    """Stacking by modality: each has its own regressors, whose out-of-fold predictions a final estimator combines.

    Everything but the target is as in `LateFusionStacker`.

    Parameters
    ----------
    estimators : estimator, list of (name, estimator), dict by modality of either, or None, default=None
        None is, a modality: ridge regression and a small random forest below 200 rows; ridge regression, random forest,
        histogram gradient boosting and, to 10,000 rows, an SVM above.
    final_estimator : regressor, {"mean", "weighted"} or None, default=None
        None is ridge regression with its penalty by cross-validation.
    modalities : dict or list, default=None
        How `X` is split, or which modalities to take.
    cv : int, splitter or iterable, default=5
        Folds.
    stack_method : {"auto", "predict"}, default="auto"
        Regressors have predictions alone.
    passthrough : bool, default=False
        The final estimator sees the values as well.
    n_jobs : int or None, default=None
        All (modality, estimator, fold) fits run in one flat `joblib.Parallel`.
    scale : bool, default=True
        Whether the default estimators scale, and log-normalise counts.
    random_state : int, RandomState or None, default=None
        For the default estimators.
    verbose : int, default=0
        joblib's verbosity.

    Attributes
    ----------
    estimators_ : dict of str to estimator
        ``modality__name`` to the regressor fitted on all samples that have the modality.
    final_estimator_ : estimator or str
        The fitted final estimator, or the name of the average.
    oof_predictions_ : dict of str to ndarray (n_samples, 1)
        Out-of-fold predictions of each base; NaN where its modality is missing.
    oof_scores_ : Series
        Out-of-fold R² of each base.
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
    _score_name = "r2"
    _parameter_constraints = {
        **_LateFusion._parameter_constraints,
        "final_estimator": [options("mean", "weighted"), HasMethods("fit"), None],
        "stack_method": [options("auto", "predict")],
    }

    def __init__(
        self,
        estimators: Any = None,
        final_estimator: Any = None,
        *,
        modalities: Any = None,
        cv: Any = 5,
        stack_method: str = "auto",
        passthrough: bool = False,
        n_jobs: Any = None,
        scale: bool = True,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.estimators = estimators
        self.final_estimator = final_estimator
        self.modalities = modalities
        self.cv = cv
        self.stack_method = stack_method
        self.passthrough = passthrough
        self.n_jobs = n_jobs
        self.scale = scale
        self.random_state = random_state
        self.verbose = verbose

    def predict(self, X: Any) -> Any:
        """Return predictions (n_samples,); the training mean for a sample with nothing present."""
        X, empty = self._predictable(X)
        predictions = self._base_predictions(X)
        if self._averages:
            out = combine(str(self.final_estimator), np.stack(predictions), self.base_weights_)[:, 0]
        else:
            out = self.final_estimator_.predict(self._features(X, predictions))
        out[empty] = self._prior
        return out

    def _learn_target(self, y: Any, sample_weight: Any) -> Any:
        target = y.astype(np.float64)
        self._prior = float(np.average(target, weights=sample_weight))
        return target

    def _default_final(self) -> Any:
        from sklearn.linear_model import RidgeCV

        return RidgeCV()

    def _defaults(self, name: str, rows: Any, seed: int) -> list[tuple[str, Any]]:
        from sklearn.compose import TransformedTargetRegressor
        from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
        from sklearn.linear_model import Ridge
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import SVR

        sparse_input, dense_input = _default_inputs(name, rows, self.scale, seed)
        n_samples = rows.shape[0]
        forest = RandomForestRegressor(50 if n_samples < _SMALL else 100, max_features=1 / 3, random_state=seed)
        named = [("ridge", make_pipeline(sparse_input, Ridge())), ("rf", make_pipeline(dense_input, forest))]
        if n_samples >= _SMALL:
            boosting = HistGradientBoostingRegressor(**_boosting(n_samples), random_state=seed)
            named.append(("hgb", make_pipeline(dense_input, boosting)))
        if _SMALL <= n_samples <= _SVM_UP_TO:
            svm = TransformedTargetRegressor(SVR(), transformer=StandardScaler())
            named.append(("svm", make_pipeline(dense_input, svm)))
        return named

    def _score_base(self, base: "_Base", predictions: Any, target: Any) -> float:
        return float(r2_score(target, predictions[:, 0])) if len(target) > 1 else np.nan


@dataclass(frozen=True)
class _Base:
    """One estimator of one modality, unfitted or fitted, and what of it is stacked."""

    modality: str
    name: str
    estimator: Any
    method: str
    n_classes: int
    fill: Any = None

    @property
    def key(self) -> str:
        return f"{self.modality}__{self.name}"

    @property
    def n_columns(self) -> int:
        single = self.method == "predict" or (self.method == "decision_function" and self.n_classes == 2)
        return 1 if single else self.n_classes

    def fit(self, rows: Any, y: Any, weights: Any) -> "_Base":
        """Return a fitted copy."""
        if self.n_classes and len(np.unique(y)) < 2:
            # The rows hold one class: all that can be learnt is to say so.
            return replace(self, estimator=DummyClassifier(strategy="prior").fit(rows, y))
        fill = None
        if not _takes_nan(self.estimator) and not isinstance(rows, pd.DataFrame) and len(rows.shape) == 2:
            fill = MeanFill().fit(rows)
            rows = fill.transform(rows)
        return replace(self, estimator=_fit_weighted(clone(self.estimator), rows, y, weights), fill=fill)

    def predict(self, rows: Any) -> Any:
        """Return predictions (n_rows, n_columns) in the order of all classes; a class that was never seen has 0."""
        rows = rows if self.fill is None else self.fill.transform(rows)
        if isinstance(self.estimator, DummyClassifier):
            sure = self.estimator.classes_[0]
            if self.n_columns == 1:
                return np.full((rows.shape[0], 1), sure if self.method == "predict" else 2.0 * sure - 1)
            return np.tile(np.eye(self.n_columns)[sure], (rows.shape[0], 1))
        raw = np.asarray(getattr(self.estimator, self.method)(rows), dtype=np.float64)
        if self.n_columns == 1:
            return raw.reshape(-1, 1)
        raw = np.stack([-raw, raw], axis=1) if raw.ndim == 1 else raw
        if raw.shape[1] == self.n_columns:
            return raw
        out = np.full((len(raw), self.n_columns), 0.0 if self.method == "predict_proba" else raw.min())
        out[:, self.estimator.classes_] = raw
        return out


def _fit_and_predict(
    base: _Base, values: Any, target: Any, weights: Any, split: Any, present: Any
) -> tuple[_Base | None, Any]:
    """Fit a base on a fold's training part and predict its test part; without a `split`, fit it on all rows."""
    if split is None and present.all():
        return base.fit(values, target, weights), None
    train = np.flatnonzero(present) if split is None else split[0][present[split[0]]]
    if not len(train):
        raise ValueError(
            f"modality {base.modality!r} is missing for every sample of a fold's training part; use fewer folds, or "
            "leave the modality out."
        )
    fitted = base.fit(take(values, train), target[train], None if weights is None else weights[train])
    if split is None:
        return fitted, None
    test = split[1][present[split[1]]]
    return None, fitted.predict(take(values, test)) if len(test) else np.zeros((0, base.n_columns))


def _fit_weighted(estimator: Any, X: Any, y: Any, weights: Any) -> Any:
    if weights is None or not _takes_weights(estimator):
        return estimator.fit(X, y)
    if isinstance(estimator, Pipeline):
        return estimator.fit(X, y, **{f"{estimator.steps[-1][0]}__sample_weight": weights})
    return estimator.fit(X, y, sample_weight=weights)


def _takes_weights(estimator: Any) -> bool:
    last = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
    # TransformedTargetRegressor hands weights on to its regressor.
    return has_fit_parameter(getattr(last, "regressor", last), "sample_weight")


def _takes_nan(estimator: Any) -> bool:
    while isinstance(estimator, Pipeline):
        estimator = estimator.steps[0][1]
    try:
        return bool(get_tags(estimator).input_tags.allow_nan)
    except (AttributeError, TypeError):
        return True


def _default_inputs(name: str, rows: Any, scale: bool, seed: int) -> tuple[Any, Any]:
    """Preprocessing for a linear model, which takes CSR, and for one that wants a narrow dense table."""
    linear = table_preprocessor(name, rows, scale=scale, random_state=seed)
    narrow = table_preprocessor(name, rows, scale=scale, project=True, random_state=seed)
    return linear, make_pipeline(narrow, FunctionTransformer(to_dense, accept_sparse=True))


def _boosting(n_samples: int) -> dict[str, Any]:
    """Few small trees where data is scarce: boosting is one voice among several, and by far the slowest."""
    if n_samples <= _SVM_UP_TO:
        return {"max_iter": 30, "max_leaf_nodes": 8, "learning_rate": 0.3, "max_bins": 64, "early_stopping": False}
    return {"max_iter": 100, "early_stopping": False}
