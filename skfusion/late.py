"""Late fusion: each modality has estimators of its own, and their out-of-fold predictions are stacked."""

import numbers
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy import sparse
from sklearn.base import ClassifierMixin, RegressorMixin, clone
from sklearn.metrics import accuracy_score, r2_score
from sklearn.pipeline import make_pipeline
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skfusion._base import FusionEstimator, fits
from skfusion._build import by_modality, training_rows
from skfusion._combine import AVERAGES, PatternFinals, combine, fit_weights
from skfusion._compat import HasMethods, options
from skfusion._folds import training_folds
from skfusion._stacking import (
    METHODS,
    Base,
    Branch,
    default_classifiers,
    default_inputs,
    default_regressors,
    fit_branch,
)
from skfusion._targets import class_prior, fit_with, takes, training_set
from skfusion._warn import warn
from skfusion.early import EarlyFusionTransformer
from skfusion.modalities import Modalities, check_modalities
from skfusion.modalities.kinds import take
from skfusion.preprocessing import MeanFill, table_preprocessor


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
            Donors, patients and the like, which folds keep whole, unless `cv` is a splitter that does not.

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
            self._branches, self.estimators_ = [], {}
            self._publish(original, data, [], target)
            return self
        self._averages = isinstance(self.final_estimator, str)
        branches = self._resolve(X, target)
        bases = [base for branch in branches for base in branch.bases]
        splits = training_folds(self.cv, data, target, len(original), y, groups, classify=self._is_classifier)
        weights = data.sample_weight
        self._check_weights_known(bases, weights)
        present = {name: X.present[:, column] for column, name in enumerate(X.names)}
        # The fits of one estimator after another: between two of boosting, the idle threads of a linear model's BLAS
        # would take turns with those of OpenMP.
        tasks: list[tuple[Branch, Any]] = [(branch, split) for branch in branches for split in [None, *splits]]
        results = Parallel(n_jobs=self.n_jobs, verbose=int(self.verbose))(
            delayed(fit_branch)(branch, X[branch.modality], target, weights, split, present[branch.modality])
            for branch, split in tasks
        )
        self._branches = results[:: len(splits) + 1]
        self.estimators_ = {key: estimator for branch in self._branches for key, estimator in branch.named()}
        out_of_fold = [np.zeros((len(X), base.n_columns)) for base in bases]
        where = {id(base): out for base, out in zip(bases, out_of_fold)}
        for (branch, split), parts in zip(tasks, results):
            if split is None:
                continue
            rows = split[1][present[branch.modality][split[1]]]
            for base, part in zip(branch.bases, parts):
                where[id(base)][rows] += part
        repeats = np.bincount(np.concatenate([test for _, test in splits]), minlength=len(X))
        for base, predictions in zip(bases, out_of_fold):
            predictions /= np.maximum(repeats, 1)[:, None]
            predictions[(repeats == 0) | ~present[base.modality]] = np.nan
        self._fit_final(X, target, weights, out_of_fold, repeats > 0)
        self._publish(original, data, out_of_fold, target)
        return self

    # estimators

    def _resolve(self, X: Modalities, target: Any) -> list[Branch]:
        """Return what is to be fitted: the estimators of each modality, behind their preprocessing."""
        specs = by_modality("estimators", self.estimators, X.names, default=None)
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        branches = []
        for name, spec in specs.items():
            rows, present = training_rows(X, name)
            if spec is None:
                estimators = self._default_estimators(target[present], seed)
                behind = default_inputs(name, rows, estimators, self.scale, seed)
            else:
                # One estimator for all modalities sees a table; one that was given for this modality, the values.
                table = not isinstance(self.estimators, Mapping) and X.kind(name) not in ("dense", "sparse")
                prepare = table_preprocessor(name, rows, scale=False, random_state=seed) if table else None
                behind = [(prepare, [pair]) for pair in _named(name, spec)]
            for prepare, pairs in behind:
                bases = tuple(self._base(name, key, estimator) for key, estimator in pairs)
                branches.append(Branch(name, prepare, bases))
        keys = [base.key for branch in branches for base in branch.bases]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise ValueError(f"the names of modalities and estimators join to {twice} twice; rename one of them.")
        return branches

    def _base(self, name: str, key: str, estimator: Any) -> Base:
        methods = METHODS if self.stack_method == "auto" else (self.stack_method,)
        methods = methods if self._is_classifier else ("predict",)
        method = next((m for m in methods if hasattr(estimator, m)), None)
        if method is None:
            raise ValueError(
                f"the estimator {key!r} of modality {name!r}, {estimator!r}, has none of {list(methods)}, which "
                "stack_method asks for."
            )
        if self._averages and self._is_classifier and method != "predict_proba":
            raise ValueError(
                f"final_estimator {self.final_estimator!r} averages probabilities, but {key!r} of modality {name!r}, "
                f"{type(estimator).__name__}, gives none. Wrap it in CalibratedClassifierCV, or use a learned "
                "final_estimator."
            )
        return Base(name, key, estimator, method, self._n_classes)

    def _check_weights_known(self, bases: list[Base], weights: Any) -> None:
        unknown = sorted({base.key for base in bases if not takes(base.estimator, "sample_weight")})
        if weights is not None and unknown:
            warn(f"sample_weight is not known to {unknown}, which are fitted without.")

    # the final estimator

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
        features, present = self._features(X, out_of_fold), X.present
        if not covered.all():
            features, target, present = features[covered], target[covered], present[covered]
            weights = None if weights is None else weights[covered]
        final = self._default_final() if self.final_estimator is None else clone(self.final_estimator)
        self.final_estimator_ = fit_with(final, features, target, sample_weight=weights)
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        self._finals = PatternFinals(self.final_estimator_, self._owners(X), seed, self._is_classifier)
        self._finals.fit(features, target, weights, present, self.n_jobs)

    def _features(self, X: Modalities, predictions: list[Any]) -> Any:
        """Lay base predictions, who lacks what, and with passthrough the values side by side."""
        columns = []
        for base, fill, prediction in zip(self._bases, self._fills, predictions):
            filled = fill.transform(prediction)
            columns.append(filled[:, 1:] if base.is_binary else filled)
        if len(self._indicated):
            columns.append((~X.present[:, self._indicated]).astype(np.float64))
        if self._passed is None:
            return np.hstack(columns)
        table = self._passed.transform(X)
        if sparse.issparse(table):
            return sparse.hstack([*columns, table], format="csr")
        return np.hstack([*columns, table])

    def _owners(self, X: Modalities) -> Any:
        """Return the position of the modality that each column of `_features` is about."""
        of_bases = [(base.modality, base.n_columns - base.is_binary) for base in self._bases]
        of_values = [] if self._passed is None else list(self._passed.widths_.items())
        about = [[X.names.index(name)] * width for name, width in of_bases]
        values = [[X.names.index(name)] * width for name, width in of_values]
        return np.concatenate([*about, self._indicated, *values]).astype(np.intp)

    def _ask_final(self, X: Modalities, predictions: list[Any], method: str) -> Iterator[tuple[Any, Any, Any]]:
        """Yield, a missing pattern, its rows, the final estimator that knows it, and what that says of them."""
        return self._finals.ask(self._features(X, predictions), X.present, method)

    @property
    def _bases(self) -> list[Base]:
        return [base for branch in self._branches for base in branch.bases]

    def _base_predictions(self, X: Modalities) -> list[Any]:
        """Return each base's predictions (n_samples, n_columns), NaN where its modality is missing."""
        out = []
        for branch in self._branches:
            present = X.present[:, X.names.index(branch.modality)]
            where = np.flatnonzero(present)
            rows = X[branch.modality] if present.all() else take(X[branch.modality], where)
            parts = branch.predict(rows) if len(where) else [np.nan] * len(branch.bases)
            for base, part in zip(branch.bases, parts):
                values = np.full((len(X), base.n_columns), np.nan)
                values[where] = part
                out.append(values)
        return out

    def _publish(self, original: Modalities, data: Any, out_of_fold: list[Any], target: Any) -> None:
        """Keep out-of-fold predictions in the rows of the X that came, and their scores."""
        self.oof_predictions_: dict[str, Any] = {}
        scores = {}
        for base, predictions in zip(self._bases, out_of_fold):
            whole = np.full((len(original), predictions.shape[1]), np.nan)
            whole[data.kept] = predictions
            self.oof_predictions_[base.key] = whole
            there = ~np.isnan(predictions[:, 0])
            scores[base.key] = self._score_base(base, predictions[there], target[there]) if there.any() else np.nan
        self.oof_scores_ = pd.Series(scores, name=self._score_name, dtype=float)

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
    the base had not seen [1]_; for a missing modality it gets the mean prediction and a column that says so. Samples
    that lack modalities have a final estimator of their own for each missing pattern, which learns from the modalities
    present alone, and from all training samples that have one of these [2]_. A pattern that training never met is
    fitted whenever it is predicted; one with few samples is left to the final estimator of complete ones.

    Parameters
    ----------
    estimators : estimator, list of (name, estimator), dict by modality of either, or None, default=None
        None is, a modality: logistic regression and a small random forest below 200 rows; logistic regression, random
        forest, histogram gradient boosting and, to 10,000 rows, an SVM above. They work on scaled, log-normalised,
        one-hot or hashed values by kind. Given estimators see the values and dtype that came; one that does not take
        NaN gets single NaN filled with the training mean.
    final_estimator : classifier, {"mean", "weighted", "vote", "product"} or None, default=None
        None is logistic regression as in scikit-learn's stacking; over the default estimators, a regularised one on
        standardised predictions. The names average probabilities over the bases that are present: equally, by
        non-negative least squares on out-of-fold predictions, by most probable class, or as a normalised product.
    modalities : dict or list, default=None
        How `X` is split, or which modalities to take.
    cv : int, splitter or iterable, default=5
        Folds; an integer is stratified, keeps groups whole, and is lowered where no class has so many samples.
    stack_method : {"auto", "predict_proba", "decision_function", "predict"}, default="auto"
        What of a base is stacked; "auto" takes the first of these that it has.
    passthrough : bool, default=False
        The final estimator sees the values as well; the fitted stacker holds those of training.
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
        The final estimator of complete samples, fitted on all, or the name of the average.
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
    .. [2] Saar-Tsechansky and Provost, "Handling missing values when applying classification models", Journal of
       Machine Learning Research 8, 2007.

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
        "stack_method": [options("auto", *METHODS)],
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
            out = combine(str(self.final_estimator_), np.stack(predictions), self.base_weights_)
        else:
            out = np.zeros((len(X), len(self.classes_)))
            for rows, final, found in self._ask_final(X, predictions, "predict_proba"):
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
        for rows, _, found in self._ask_final(X, self._base_predictions(X), "predict"):
            codes[rows] = found
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
        from sklearn.preprocessing import StandardScaler

        if self.estimators is not None:
            return LogisticRegression()
        # Probabilities and margins come on different scales, and there are many of them.
        return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))

    def _default_estimators(self, target: Any, seed: int) -> list[tuple[str, Any]]:
        return default_classifiers(target, calibrated=self._averages, seed=seed)

    def _score_base(self, base: Base, predictions: Any, target: Any) -> float:
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
        The final estimator sees the values as well; the fitted stacker holds those of training.
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
        The final estimator of complete samples, fitted on all, or the name of the average.
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
            out = combine(str(self.final_estimator_), np.stack(predictions), self.base_weights_)[:, 0]
        else:
            out = np.empty(len(X))
            for rows, _, found in self._ask_final(X, predictions, "predict"):
                out[rows] = found
        out[empty] = self._prior
        return out

    def _learn_target(self, y: Any, sample_weight: Any) -> Any:
        target = y.astype(np.float64)
        self._prior = float(np.average(target, weights=sample_weight))
        return target

    def _default_final(self) -> Any:
        from sklearn.linear_model import RidgeCV

        return RidgeCV()

    def _default_estimators(self, target: Any, seed: int) -> list[tuple[str, Any]]:
        return default_regressors(len(target), seed=seed)

    def _score_base(self, base: Base, predictions: Any, target: Any) -> float:
        return float(r2_score(target, predictions[:, 0])) if len(target) > 1 else np.nan


def _named(name: str, spec: Any) -> list[tuple[str, Any]]:
    """Return the given estimators of a modality as (name, estimator) pairs."""
    if isinstance(spec, list):
        if not spec or not all(isinstance(pair, tuple) and len(pair) == 2 for pair in spec):
            raise ValueError(f"estimators of modality {name!r} is {spec!r}; due is a list of (name, estimator).")
        keys = [key for key, _ in spec]
        if len(set(keys)) < len(keys):
            raise ValueError(f"estimators of modality {name!r} has a name twice: {keys}.")
        return list(spec)
    if not hasattr(spec, "fit"):
        raise TypeError(f"the estimator of modality {name!r} is {spec!r}; due is an estimator or a list of them.")
    return [(type(spec).__name__.lower(), spec)]
