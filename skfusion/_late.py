"""What the stacker of classifiers and that of regressors share."""

import numbers
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from inspect import signature
from typing import Any, NamedTuple

import joblib
import numpy as np
import pandas as pd
from joblib import delayed
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.metrics import check_scoring
from sklearn.utils import check_random_state, get_tags
from sklearn.utils.validation import check_is_fitted, check_memory

from skfusion._base import FusionEstimator, fits
from skfusion._build import by_modality, training_rows
from skfusion._combine import PatternFinals, combine, fit_weights
from skfusion._compat import HasMethods, on_arrays, options, real
from skfusion._folds import held_out_fold, training_folds
from skfusion._late_defaults import SMALL, default_inputs
from skfusion._layers import Inputs, Level, fit_level, mean_out_of_fold, splits_among
from skfusion._parallel import run_fits
from skfusion._recalibration import Recalibration, recalibrate
from skfusion._replay import Replay
from skfusion._stacking import ALL, METHODS, Base, Branch, Lessons, Outcome, fit_branch, try_branch
from skfusion._targets import TrainingSet, fit_with, takes, training_set
from skfusion._warn import warn
from skfusion.early import EarlyFusionTransformer
from skfusion.modalities import Modalities, check_modalities
from skfusion.modalities.kinds import take
from skfusion.preprocessing import present_rows, table_preprocessor, takes_nan


class Below(NamedTuple):
    """What a layer above the bases stands on."""

    inputs: Inputs
    predictions: dict[str, Any]  # out of fold (n_samples, n_columns), by estimator
    covered: Any  # who has any of them, (n_samples,)
    present: Any  # (n_samples, n_modalities), or one column where all are one


class LateFusion(FusionEstimator):
    """Base of `LateFusionStacker` and `LateFusionRegressor`."""

    _parameter_constraints = {
        "levels": [list, None],
        "cv": ["cv_object"],
        "blend": [real(0, 1, "neither"), None],
        "refit": [options("whole", "average")],
        "passthrough": ["boolean"],
        "scoring": [str, callable, None],
        "error_score": [options("raise"), numbers.Real],
        "memory": [str, HasMethods("cache"), None],
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
            Donors, patients and the like, which folds keep whole, unless `cv` is a splitter that does not. Estimators
            whose ``fit`` knows groups get theirs.

        Returns
        -------
        self
            The fitted stacker.

        Raises
        ------
        ValueError
            Where the input is not as due (it names the modality), where an estimator gives no probabilities and the
            final estimator averages them, or where every base estimator failed.
        RuntimeError
            In place of an error of a base estimator that processes cannot hand to one another; it says the same.
        """
        original = check_modalities(self, X, y, reset=True)
        data = training_set(
            self, original, y, sample_weight, groups, numeric=not self._is_classifier, multi_output=False
        )
        target = self._learn_target(data.y, data.sample_weight)
        self._branches: list[list[Branch]] = []
        self._bases: list[Base] = []
        self._levels: list[Level] = []
        self._recalibrations: dict[str, Recalibration] = {}
        self.estimators_: dict[str, Any] = {}
        self._scores: dict[str, float] = {}
        if self._is_constant:
            self._publish(original, data, {}, target)
            return self
        self._averages = isinstance(self.final_estimator, str)
        branches = self._resolve(data.X, target)
        bases = [base for branch in branches for base in branch.bases]
        self._check_weights_known(bases, data.sample_weight)
        splits = self._split(data, target, len(original), y, groups)
        outcomes = self._fit_bases(branches, data, target, splits)
        predictions = self._gather(bases, outcomes, data.X, splits)
        covered = np.isin(np.arange(len(target)), np.concatenate([test for _, test in splits]))
        predictions = self._recalibrate(predictions, data, target, splits)
        published = predictions.copy()
        below = Below(self._inputs(data.X), predictions, covered, data.X.present)
        for number, spec in enumerate(self.levels or (), start=1):
            below = self._fit_level(number, spec, data, target, splits, below)
            published |= below.predictions
        self._fit_final(data, target, below)
        self._publish(original, data, published, target)
        return self

    # estimators

    def _fills_gaps(self, X: Modalities, name: str) -> bool:
        """Whether somebody gets single NaN of a modality filled."""
        given = self.estimators
        by_name = isinstance(given, Mapping)
        own = [given.get(name)] if by_name else [given]
        if by_name and ALL not in X.names:
            own.append(given.get(ALL, "drop"))
        is_prepared = not by_name and X.kind(name) not in ("dense", "sparse")
        return self.passthrough or is_prepared or not all(_takes_gaps(one) for spec in own for one in _leaves(spec))

    def _resolve(self, X: Modalities, target: Any) -> list[Branch]:
        """Return what is to be fitted: the estimators of each modality, behind their preprocessing."""
        given, together = self.estimators, None
        # A modality may be called "all".
        if isinstance(given, Mapping) and ALL in given and ALL not in X.names:
            given, together = {name: spec for name, spec in given.items() if name != ALL}, given[ALL]
        seed = self._seed()
        branches = []
        for name, spec in by_modality("estimators", given, X.names, default=None).items():
            if isinstance(spec, str) and spec == "drop":
                continue
            rows, present = training_rows(X, name)
            if spec is None:
                estimators = self._default_estimators(target[present], X.kind(name), seed)
                behind = default_inputs(name, rows, estimators, self.scale, seed)
            else:
                # One estimator for all modalities sees a table; one that was given for this modality, the values.
                table = not isinstance(given, Mapping) and X.kind(name) not in ("dense", "sparse")
                prepare = table_preprocessor(name, rows, scale=False, random_state=seed) if table else None
                behind = [(prepare, [pair]) for pair in named(f"modality {name!r}", spec)]
            for prepare, pairs in behind:
                branches.append(Branch(name, prepare, tuple(self._base(name, key, e) for key, e in pairs)))
        if together is not None:
            branches += [
                Branch(ALL, None, (self._base(ALL, key, e),)) for key, e in named(f"modality {ALL!r}", together)
            ]
        if not branches:
            raise ValueError("estimators drops every modality; due is at least one with an estimator.")
        keys = [base.key for branch in branches for base in branch.bases]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise ValueError(f"the names of modalities and estimators join to {twice} twice; rename one of them.")
        return branches

    def _base(self, name: str, key: str, estimator: Any, where: str | None = None) -> Base:
        where = where or f"modality {name!r}"
        methods = METHODS if self.stack_method == "auto" else (self.stack_method,)
        methods = methods if self._is_classifier else ("predict",)
        method = next((m for m in methods if hasattr(estimator, m)), None)
        if method is None:
            raise ValueError(
                f"the estimator {key!r} of {where}, {estimator!r}, has none of {list(methods)}, which "
                "stack_method asks for."
            )
        if self._calibration is not None and method == "predict":
            raise ValueError(
                f"calibration is {self._calibration!r}, but {key!r} of {where}, {type(estimator).__name__}, "
                "has neither probabilities nor margins to calibrate."
            )
        if self._averages and self._is_classifier and method != "predict_proba" and self._calibration is None:
            raise ValueError(
                f"final_estimator {self.final_estimator!r} averages probabilities, but {key!r} of {where}, "
                f"{type(estimator).__name__}, gives none. Wrap it in CalibratedClassifierCV, set calibration, or use "
                "a learned final_estimator."
            )
        return Base(name, key, estimator, method, self._n_classes)

    def _check_weights_known(self, bases: list[Base], weights: Any) -> None:
        unknown = sorted({base.key for base in bases if not takes(base.estimator, "sample_weight")})
        if weights is not None and unknown:
            warn(f"sample_weight is not known to {unknown}, which are fitted without.")

    # folds

    def _split(self, data: TrainingSet, target: Any, n_samples: int, y: Any, groups: Any) -> list[tuple[Any, Any]]:
        if self.blend is None:
            return training_folds(self.cv, data, target, n_samples, y, groups, classify=self._is_classifier)
        if self._calibration is not None:
            raise ValueError("calibration goes by fold, and blend holds out one part; use cv instead of blend.")
        return held_out_fold(self.blend, data, target, self._seed(), classify=self._is_classifier)

    def _fit_bases(self, branches: list[Branch], data: TrainingSet, target: Any, splits: list[Any]) -> Any:
        """Run all fits; return [(fold, outcome), ...], where the fold of a fit on all samples is None."""
        fit: Any = fit_branch
        memory = check_memory(self.memory)
        if memory.location is not None:
            fit = memory.cache(fit_branch, ignore=["lessons"], verbose=0)
        lessons = {
            name: Lessons(_values(data.X, name), target, data.sample_weight, data.groups, _present(data.X, name))
            for name in dict.fromkeys(branch.modality for branch in branches)
        }
        keys = {name: "" if memory.location is None else joblib.hash(vars(own)) for name, own in lessons.items()}
        averaged, strict = self.refit == "average", isinstance(self.error_score, str)
        folds = [*([] if averaged else [None]), *range(len(splits))]
        # The fits of one estimator after another: between two of boosting, the idle threads of a linear model's BLAS
        # would take turns with those of OpenMP. The last of a list first: lists begin with what is simple, and quick
        # fits at the end leave no worker idle for long; joblib makes batches of quick ones, whatever follows.
        tasks = [(branch, fold) for branch in _last_first(branches) for fold in folds]
        calls = [
            delayed(try_branch)(
                fit,
                branch,
                "on all samples" if fold is None else f"in fold {fold}",
                strict,
                None if fold is None else splits[fold],
                averaged or fold is None,
                keys[branch.modality],
                lessons[branch.modality],
            )
            for branch, fold in tasks
        ]
        found = run_fits(calls, list(lessons.values()), n_jobs=self.n_jobs, verbose=int(self.verbose))
        return [(fold, outcome) for (_, fold), outcome in zip(tasks, found)]

    def _gather(
        self, bases: list[Base], outcomes: list[tuple[int | None, Outcome]], X: Modalities, splits: list[Any]
    ) -> dict[str, Any]:
        """Keep what was fitted, less who failed; return predictions out of fold (n_samples, n_columns) by estimator."""
        errors: dict[str, str] = {}
        for key, text in (item for _, outcome in outcomes for item in outcome.errors.items()):
            errors.setdefault(key, text)
        self._bases = [base for base in bases if base.key not in errors]
        self._report(bases, errors)
        by_fold: dict[int | None, list[Branch]] = {}
        for fold, outcome in outcomes:
            left = (branch.less(errors) for branch in outcome.branches)
            by_fold.setdefault(fold, []).extend(branch for branch in left if branch is not None)
        self._branches = [branches for branches in by_fold.values() if branches]
        averaged = self.refit == "average"
        if averaged:
            # Whichever fold's model predicts, a single NaN is the mean of all of training.
            rows = {
                name: present_rows(_values(X, name), _present(X, name))
                for name in dict.fromkeys(base.modality for base in self._bases)
            }
            self._branches = [[one.filled_by(rows[one.modality]) for one in fold] for fold in self._branches]
        each = [{key: e for branch in branches for key, e in branch.named().items()} for branches in self._branches]
        self.estimators_ = {b.key: [one[b.key] for one in each] if averaged else each[0][b.key] for b in self._bases}
        predictions = {}
        for base in self._bases:
            there = _present(X, base.modality)
            parts = [
                (splits[fold][1][there[splits[fold][1]]], outcome.predictions[base.key])
                for fold, outcome in outcomes
                if fold is not None and base.key in outcome.predictions
            ]
            predictions[base.key] = mean_out_of_fold(parts, len(X), base.n_columns)
        return predictions

    def _report(self, bases: list[Base], errors: dict[str, str]) -> None:
        if len(errors) == len(bases):
            listed = "; ".join(f"{key} {text}" for key, text in errors.items())
            raise ValueError(f"all base fits failed, so that nothing is left to stack: {listed}")
        for base in bases:
            if base.key in errors:
                self._scores[base.key] = float(self.error_score)
                warn(
                    f"the estimator {base.name!r} of modality {base.modality!r} failed {errors[base.key]}. It is left "
                    "out, and its oof_scores_ is error_score.",
                    FitFailedWarning,
                )

    def _recalibrate(self, predictions: dict[str, Any], data: TrainingSet, target: Any, splits: list[Any]) -> Any:
        if self._calibration is None:
            return predictions
        folds = np.full(len(target), -1)
        for number, (_, test) in reversed(list(enumerate(splits))):
            folds[test] = number
        out = {}
        for base in self._bases:
            out[base.key], self._recalibrations[base.key] = recalibrate(
                predictions[base.key],
                target,
                folds,
                self._calibration,
                base.method == "decision_function",
                self._n_classes,
                data.sample_weight,
            )
        self._bases = [replace(base, method="predict_proba") for base in self._bases]
        return out

    # levels, and the final estimator

    def _inputs(self, X: Modalities) -> Inputs:
        passed = on_arrays(EarlyFusionTransformer()).fit(X) if self.passthrough else None
        indicated = np.flatnonzero(~X.present.all(axis=0))
        # The default final estimator is linear, and evidence adds up in log-odds, which few samples leave noisy.
        as_odds = self.estimators is None and self.final_estimator is None and not self.levels and len(X) >= SMALL
        return Inputs(self._bases, X.names, indicated, passed, as_odds)

    def _fit_level(
        self, number: int, spec: Any, data: TrainingSet, target: Any, splits: list[Any], below: Below
    ) -> Below:
        """Fit a level, and return what the next layer stands on."""
        where = f"level {number}"
        bases = [self._base(f"level_{number}", key, estimator, where) for key, estimator in named(where, spec)]
        lessons = self._lessons(data, target, below)
        n_covered, groups = len(lessons[1]), lessons[3]
        inside = splits_among(splits, below.covered, target, classify=self._is_classifier)
        if not inside:
            # A hold-out is in nobody's training part: it is split once more.
            among = data._replace(X=data.X[below.covered], groups=groups)
            inside = training_folds(5, among, lessons[1], n_covered, None, None, classify=self._is_classifier)
        level, found = fit_level(bases, below.inputs, lessons, inside, seed=self._seed(), n_jobs=self.n_jobs)
        self._levels.append(level)
        predictions = {}
        for base, inner in zip(bases, found):
            predictions[base.key] = np.full((len(target), base.n_columns), np.nan)
            predictions[base.key][below.covered] = inner
        covered = below.covered.copy()
        covered[below.covered] = np.isin(np.arange(n_covered), np.concatenate([test for _, test in inside]))
        inputs = Inputs(bases, [], np.zeros(0, dtype=np.intp), below.inputs.passed, as_odds=False)
        return Below(inputs, predictions, covered, _any(data.X))

    def _lessons(self, data: TrainingSet, target: Any, below: Below) -> tuple[Any, ...]:
        """Return features, target, weights, groups and presence of the rows that are covered."""
        covered, everyone = below.covered, below.covered.all()
        own = [found[covered] for found in below.predictions.values()]
        features = below.inputs.fit(own).transform(data.X if everyone else data.X[covered], own)
        rest = (target, data.sample_weight, data.groups, below.present)
        return features, *(part if part is None or everyone else part[covered] for part in rest)

    def _fit_final(self, data: TrainingSet, target: Any, below: Below) -> None:
        if self._averages:
            self.final_estimator_ = self.final_estimator
            covered = below.covered
            goal = (np.eye(self._n_classes)[target] if self._is_classifier else target[:, None])[covered]
            weights = None if data.sample_weight is None else data.sample_weight[covered]
            stacked = np.stack(list(below.predictions.values()))[:, covered]
            score = None
            if self.scoring is not None:
                score = partial(self._score_averages, data.y[covered], weights, check_scoring(self, self.scoring))
            self.base_weights_ = fit_weights(
                str(self.final_estimator), stacked, goal, weights, score=score, seed=self._seed()
            )
            return
        features, target, weights, groups, present = self._lessons(data, target, below)
        self._final_inputs = below.inputs
        final = self._default_final() if self.final_estimator is None else clone(self.final_estimator)
        self.final_estimator_ = fit_with(final, features, target, sample_weight=weights, groups=groups)
        self._finals = PatternFinals(self.final_estimator_, below.inputs.owners, self._seed(), self._is_classifier)
        self._finals.fit(features, target, weights, groups, present, self.n_jobs)

    def _score_averages(self, y: Any, weights: Any, scorer: Any, averages: Any) -> list[float]:
        """Ask a scorer about averages (n_candidates, n_samples, n_outputs), played as if they were predictions."""
        takes_weights = "sample_weight" in signature(scorer).parameters
        known = {"sample_weight": weights} if weights is not None and takes_weights else {}
        rows, classes, tags = np.arange(len(y)), getattr(self, "classes_", None), get_tags(self)
        players = (Replay(self._responses(average), classes, tags) for average in averages)
        return [float(scorer(player, rows, y, **known)) for player in players]

    # prediction

    def _ask(self, X: Modalities, method: str) -> Iterator[tuple[Any, Any, Any]]:
        """Yield, a missing pattern, its rows, the final estimator that knows it, and what that says of them."""
        predictions, present = self._layered(X)
        return self._finals.ask(self._final_inputs.transform(X, predictions), present, method)

    def _average(self, X: Modalities) -> Any:
        """Return the average (n_samples, n_outputs) of what the last layer says."""
        return combine(str(self.final_estimator_), np.stack(self._layered(X)[0]), self.base_weights_)

    def _layered(self, X: Modalities) -> tuple[list[Any], Any]:
        """Return the predictions of the layer below the final estimator, and what is present to it."""
        predictions, present = self._base_predictions(X), X.present
        for level in self._levels:
            predictions, present = level.predict(X, present, predictions), _any(X)
        return predictions, present

    def _base_predictions(self, X: Modalities) -> list[Any]:
        """Return each base's predictions (n_samples, n_columns), NaN where its modality is missing."""
        total: dict[str, Any] = {}
        for branch in (branch for branches in self._branches for branch in branches):
            where = np.flatnonzero(_present(X, branch.modality))
            values = _values(X, branch.modality)
            parts = branch.predict(values if len(where) == len(X) else take(values, where)) if len(where) else {}
            for key, part in parts.items():
                total[key] = total[key] + part if key in total else part
        out = []
        for base in self._bases:
            found = np.full((len(X), base.n_columns), np.nan)
            if base.key in total:
                part = total[base.key] / len(self._branches)
                recalibration = self._recalibrations.get(base.key)
                found[_present(X, base.modality)] = part if recalibration is None else recalibration.transform(part)
            out.append(found)
        return out

    def _publish(self, original: Modalities, data: TrainingSet, predictions: dict[str, Any], target: Any) -> None:
        """Keep out-of-fold predictions in the rows of the X that came, and their scores."""
        self.oof_predictions_: dict[str, Any] = {}
        bases = {base.key: base for base in [*self._bases, *(b for level in self._levels for b in level.bases)]}
        for key, found in predictions.items():
            whole = np.full((len(original), found.shape[1]), np.nan)
            whole[data.kept] = found
            self.oof_predictions_[key] = whole
            there = ~np.isnan(found[:, 0])
            self._scores[key] = self._score_base(bases[key], found[there], target[there]) if there.any() else np.nan
        self.oof_scores_ = pd.Series(self._scores, name=self._score_name, dtype=float)

    def _predictable(self, X: Any) -> tuple[Modalities, Any]:
        check_is_fitted(self)
        X = check_modalities(self, X, reset=False)
        return X, ~X.present.any(axis=1)

    def _seed(self) -> int:
        return int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))


def named(where: str, spec: Any) -> list[tuple[str, Any]]:
    """Return the estimators that were given for `where` as (name, estimator) pairs."""
    if isinstance(spec, list):
        if not spec or not all(isinstance(pair, tuple) and len(pair) == 2 for pair in spec):
            raise ValueError(f"estimators of {where} is {spec!r}; due is a list of (name, estimator).")
        keys = [key for key, _ in spec]
        if len(set(keys)) < len(keys):
            raise ValueError(f"estimators of {where} has a name twice: {keys}.")
        return list(spec)
    if not hasattr(spec, "fit"):
        raise TypeError(f"the estimator of {where} is {spec!r}; due is an estimator or a list of them.")
    return [(type(spec).__name__.lower(), spec)]


def _last_first(branches: list[Branch]) -> list[Branch]:
    """Order branches by their place among those of their modality, from the last to the first."""
    places: dict[str, int] = {}
    placed = []
    for branch in branches:
        places[branch.modality] = places.get(branch.modality, -1) + 1
        placed.append((places[branch.modality], branch))
    return [branch for _, branch in sorted(placed, key=lambda pair: pair[0], reverse=True)]


def _leaves(spec: Any) -> Iterator[Any]:
    """Yield the estimators of one, a list or a name; None stands for the default ones."""
    if isinstance(spec, list):
        yield from (pair[-1] for pair in spec if isinstance(pair, tuple))
    elif not isinstance(spec, str):
        yield spec


def _takes_gaps(estimator: Any) -> bool:
    """Whether an estimator works with NaN itself; ours take them to fill them."""
    return estimator is not None and not isinstance(estimator, FusionEstimator) and takes_nan(estimator)


def _values(X: Modalities, name: str) -> Any:
    """Return the values of a modality, or all of them."""
    return X[name] if name in X.names else X


def _present(X: Modalities, name: str) -> Any:
    """Return who has a modality (n_samples,), or any of them."""
    return X.present[:, X.names.index(name)] if name in X.names else X.present.any(axis=1)


def _any(X: Modalities) -> Any:
    """Return who has anything, (n_samples, 1): what is present to a layer above the first."""
    return X.present.any(axis=1, keepdims=True)
