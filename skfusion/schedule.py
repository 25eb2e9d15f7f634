"""Which modality next: what each would add to what is present, against what it costs."""

import numbers
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from sklearn.base import ClassifierMixin, clone
from sklearn.utils import Bunch, check_random_state
from sklearn.utils.validation import check_is_fitted

from skfusion._base import FusionEstimator, fits
from skfusion._build import by_modality, require_present
from skfusion._compat import HasMethods, integer, options, real
from skfusion._folds import training_folds
from skfusion._policies import (
    CONFIDENT,
    NOT_WORTH,
    NOTHING_LEFT,
    OVER_BUDGET,
    WORTH,
    Situation,
    Step,
    best_of,
    read_answer,
    trace_of,
    warn_of_refused,
)
from skfusion._scheduling import Columns, GainForecaster, Tables, held_out
from skfusion._targets import class_prior, fit_with, training_set
from skfusion._wrapped import check_wrapped
from skfusion.modalities import Modalities, align, check_modalities
from skfusion.modalities.check import SINGLE
from skfusion.modalities.kinds import take
from skfusion.modalities.patterns import by_pattern


class ModalityScheduler(ClassifierMixin, FusionEstimator):
    """A classifier that asks for one modality after the other, as long as the next is worth its cost.

    Measuring everything for everybody is dear. From what is present, values included, the scheduler forecasts how much
    each further modality would lower the log loss, takes the one with the largest gain beyond its price, predicts anew,
    and stops where none is worth it: greedy value of information [1]_, with `lookahead` 2 one step ahead.

    `predict`, `predict_proba` and `score` speak of what was acquired in this way from nothing: they use only a part of
    `X`. `schedule` says which part, at what cost, and why.

    Parameters
    ----------
    estimator : classifier, default=None
        What predicts from any subset of the modalities; it needs `predict_proba`, and is given the modalities that are
        acquired alone. None is `LateFusionStacker()`. One that shall keep its fit comes as a `FrozenEstimator`.
    costs : dict or Series of str to float, float, or None, default=None
        What each modality costs; 1 for those that are not named. None is 1 for all. What costs 0 is taken at once.
    lookahead : {1, 2}, default=2
        1 counts what a modality adds by itself. 2 also counts what the best next one adds once this one is known, as
        far as it is worth its cost: two modalities that say something only together, or a cheap one that tells where a
        dear one pays, are found by 2 alone.
    trade_off : float, default=0.01
        The price of one unit of cost in nats of log loss: a modality is asked for where its expected gain exceeds
        ``trade_off * cost``. Larger values ask for less; where nothing is worth its price, nothing is asked for.
    threshold : float, default=None
        Stop as soon as the most probable class has this probability. None never stops for that.
    budget : float, default=None
        What may be spent on a sample. None is no limit.
    policy : "value" or callable, default="value"
        A callable, ``policy(state) -> name or None``, decides instead: a rule, a person or a language model. It gets a
        `SchedulerState`, sample by sample, with `sample`, `step`, `present`, `available`, `budget`, `probabilities` and
        `gains`, and stops with None. What it may not have is refused with a warning, which stops as well.
    modalities : dict or list, default=None
        How `X` is split, or which modalities to take.
    cv : int, splitter or iterable, default=5
        Folds whose test parts tell what modalities add; an integer is stratified by class, and by what is missing
        where there are no groups, keeps groups whole, and is lowered where no class has so many samples.
    n_jobs : int or None, default=None
        Fits of folds, and of forecasts, run in parallel.
    random_state : int, RandomState or None, default=None
        For the forests that forecast gains.
    verbose : int, default=0
        joblib's verbosity.

    Attributes
    ----------
    estimator_ : classifier or None
        Fitted on all samples; None where there was one class.
    costs_ : dict of str to float
        What each modality costs.
    classes_ : ndarray of shape (n_classes,)
        The class labels.
    modality_names_in_, n_features_by_modality_, n_features_in_
        What was seen in fit.

    See Also
    --------
    skfusion.LateFusionStacker : A classifier that takes any subset of the modalities.

    Notes
    -----
    Gains are differences of the log loss of the true class, in samples that the classifier of a fold had not seen; they
    do not rely on the classifier's own confidence, and may be negative. Forests regress them on the values present and
    the probabilities, a set of modalities at a time. Up to six modalities all sets are learnt, above that all
    up to pairs and the best eight of each larger size; elsewhere the largest set inside the one at hand stands in.
    These are 32 forests for four modalities, 80 for five and 192 for six, which is what `fit` takes its time for;
    `n_jobs` shares them out.

    Where two modalities gain the same in either order, the one that gains most by itself beyond its price comes first,
    of equal ones the cheaper, and then the first by name.

    Three modalities that say something only together are beyond a lookahead of 2.

    References
    ----------
    .. [1] Heckerman, Horvitz and Middleton, "An approximate nonmyopic computation for value of information", IEEE
       Transactions on Pattern Analysis and Machine Intelligence 15, 1993.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skfusion import LateFusionStacker, ModalityScheduler
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat([0, 1], 100)
    >>> X = {"labs": rng.normal(size=(200, 3)) + y[:, None], "noise": rng.normal(size=(200, 2))}
    >>> scheduler = ModalityScheduler(LateFusionStacker(LogisticRegression()), random_state=0).fit(X, y)
    >>> scheduler.next({"labs": X["labs"][:2]})
    array([None, None], dtype=object)
    >>> found = scheduler.schedule(X)
    >>> found.present.mean(axis=0).round(1)
    array([1., 0.])
    >>> found.trace.loc[found.trace["sample"] == 0, ["step", "present", "action", "reason"]]
       step  present action                  reason
    0     0  nothing   labs          worth its cost
    1     1     labs   None  no gain worth its cost
    """

    _parameter_constraints = {
        "estimator": [HasMethods(["fit", "predict_proba"]), None],
        "costs": [Mapping, HasMethods(["keys", "items"]), real(0), None],
        "lookahead": [integer(1)],
        "trade_off": [real(0)],
        "threshold": [real(0, 1, closed="right"), None],
        "budget": [real(0), None],
        "policy": [options("value"), callable],
        "cv": ["cv_object"],
        "n_jobs": [numbers.Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        estimator: Any = None,
        costs: Any = None,
        *,
        lookahead: int = 2,
        trade_off: float = 0.01,
        threshold: Any = None,
        budget: Any = None,
        policy: Any = "value",
        modalities: Any = None,
        cv: Any = 5,
        n_jobs: Any = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.costs = costs
        self.lookahead = lookahead
        self.trade_off = trade_off
        self.threshold = threshold
        self.budget = budget
        self.policy = policy
        self.modalities = modalities
        self.cv = cv
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    @fits
    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> "ModalityScheduler":
        """Fit the classifier, and learn what each modality adds to which.

        Parameters
        ----------
        X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
            The samples. What some lack is learnt from those that have it.
        y : array-like of shape (n_samples,)
            The classes.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights; those of weight 0 are left out.
        groups : array-like of shape (n_samples,), default=None
            Donors, patients and the like, which folds keep whole, unless `cv` is a splitter that does not.

        Returns
        -------
        self
            The fitted scheduler.

        Raises
        ------
        ValueError
            Where the input is not as due (it names the modality), a cost is below 0 or of no modality, or no training
            sample has a modality.
        """
        check_wrapped(self.estimator)
        if self.lookahead > 2:
            raise ValueError(f"lookahead is {self.lookahead}; due is 1 or 2.")
        original = check_modalities(self, X, y, reset=True)
        self.costs_ = _check_costs(self.costs, original.names)
        data = training_set(self, original, y, sample_weight, groups, numeric=False, multi_output=False)
        # In one order, whichever the modalities came in: forests would draw other columns.
        X = data.X.select(sorted(data.X.names))
        self.classes_, codes = np.unique(data.y, return_inverse=True)
        self._prior = class_prior(codes, len(self.classes_), data.sample_weight)
        self.estimator_: Any = None
        self._tables: Any = None
        self._forecaster: Any = None
        if len(self.classes_) == 1:
            return self
        for column, name in enumerate(X.names):
            require_present(name, X.present[:, column])
        splits = training_folds(self.cv, data, codes, len(original), y, groups, classify=True)
        everything = np.arange(len(X))
        self.estimator_, *fitted = Parallel(n_jobs=self.n_jobs, verbose=self.verbose)(
            delayed(self._fit_part)(X, data, rows) for rows in [everything, *(train for train, _ in splits)]
        )

        def predict(columns: Columns) -> Any:
            out = np.full((len(X), len(self.classes_)), np.nan)
            whole = X.present[:, sorted(columns)].all(axis=1)
            for part, (_, test) in zip(fitted, splits):
                rows = test[whole[test]]
                if len(rows):
                    out[rows] = self._ask(part, X, columns, rows)
            return out

        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        probabilities, losses = held_out(predict, len(X.names), codes, self._prior)
        self._tables = Tables(X, seed)
        jobs = {"n_jobs": self.n_jobs, "verbose": self.verbose}
        self._forecaster = GainForecaster(self.trade_off * self._costs, int(self.lookahead), jobs, seed)
        tables = self._tables.apply(X, frozenset(range(len(X.names))))
        self._forecaster.fit(tables, probabilities, losses, data.sample_weight)
        return self

    def _fit_part(self, X: Modalities, data: Any, rows: Any) -> Any:
        """Fit a copy of the classifier on `rows`."""
        from skfusion import LateFusionStacker

        estimator = LateFusionStacker() if self.estimator is None else clone(self.estimator)
        metadata = {name: getattr(data, name) for name in ("sample_weight", "groups")}
        metadata = {name: None if values is None else values[rows] for name, values in metadata.items()}
        names = frozenset(range(len(X.names)))
        fitted = fit_with(estimator, _only(X, names, rows), data.y[rows], **metadata)
        unknown = np.setdiff1d(fitted.classes_, self.classes_)
        if len(unknown):
            raise ValueError(
                f"the estimator knows the classes {unknown.tolist()}, which y lacks; y has {self.classes_.tolist()}. A "
                "FrozenEstimator must have been fitted on the same classes."
            )
        return fitted

    def _ask(self, estimator: Any, X: Modalities, columns: Columns, rows: Any) -> Any:
        """Probabilities (n_rows, n_classes) from the modalities `columns` alone; a class that was never seen has 0."""
        if not columns:
            return np.tile(self._prior, (len(rows), 1))
        out = np.zeros((len(rows), len(self.classes_)))
        found = estimator.predict_proba(_only(X, columns, rows))
        out[:, np.searchsorted(self.classes_, estimator.classes_)] = found
        return out

    @property
    def _costs(self) -> Any:
        return np.array([self.costs_[name] for name in sorted(self.costs_)])

    def gains(self, X: Any) -> pd.DataFrame:
        """Return what each modality that `X` lacks is expected to add to what it has.

        Parameters
        ----------
        X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
            What is present.

        Returns
        -------
        DataFrame of shape (n_samples, n_modalities)
            The expected reduction of the log loss, in nats; with a lookahead of 2 and what the best next modality adds
            after it beyond its price. NaN for what is present. Neither `budget` nor `policy` plays a part.
        """
        X = self._checked(X)
        *_, gains = self._forecast(X, X.present, ~X.present, np.full(len(X), np.inf))
        gains[X.present] = np.nan
        return pd.DataFrame(gains, columns=X.names, index=X.sample_ids)[list(self.modality_names_in_)]

    def next(self, X: Any, *, available: Any = None) -> Any:
        """Return which modality to ask for next.

        Parameters
        ----------
        X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
            What is present. It has been paid for, as far as there is a `budget`.
        available : list of str or array-like of bool (n_samples, n_modalities), default=None
            What can be had; columns in the order of fit, unless a DataFrame or dict names them. None is everything.

        Returns
        -------
        ndarray of str or None (n_samples,)
            The modality, or None to stop.
        """
        X = self._checked(X)
        can = X.present | self._allowed(available, X)
        names = np.array([*X.names, None], dtype=object)
        found = self._decide(X, X.present, can, 0, np.arange(len(X)))
        warn_of_refused([found], X.names)
        return names[found.actions]

    def schedule(self, X: Any, *, available: Any = None, start: Any = None) -> Bunch:
        """Acquire modalities of `X` one by one, and say why.

        A modality is looked at only after it was asked for, and asked for only where `X` has it.

        Parameters
        ----------
        X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
            What can be had: a modality that is missing for a sample is never asked for.
        available : list of str or array-like of bool (n_samples, n_modalities), default=None
            What of that may be asked for; columns in the order of fit, unless a DataFrame or dict names them. None is
            all of it.
        start : list of str, default=None
            Modalities that are there from the start, where a sample has them; they are paid for. None is those that
            cost 0.

        Returns
        -------
        Bunch
            present : ndarray of bool (n_samples, n_modalities)
                What was acquired, columns in the order of fit.
            cost : ndarray of shape (n_samples,)
                What that costs.
            probabilities : ndarray of shape (n_samples, n_classes)
                What it predicts.
            trace : DataFrame
                One row a decision: the `sample` (its position), the `step`, what was `present` (``"labs + ecg"``, or
                ``"nothing"``), the `action` (None to stop) and its `reason`, its `cost`, the `entropy` of the
                prediction before and `entropy_after`; the expected gain of each modality that could be asked for,
                ``gain__<name>``, and the probability of each class before, ``probability__<class>``.
        """
        X = self._checked(X)
        can = X.present & (True if available is None else self._allowed(available, X))
        started = self._costs == 0 if start is None else self._listed("start", start, X)
        return self._run(X, can, X.present & started)

    def predict_proba(self, X: Any) -> Any:
        """Return class probabilities (n_samples, n_classes) from what the schedule acquires of `X`.

        Parameters
        ----------
        X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
            What can be had.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            The prior, where nothing was worth its cost or nothing could be had.
        """
        return self.schedule(X).probabilities

    def predict(self, X: Any) -> Any:
        """Return the predicted class (n_samples,) from what the schedule acquires of `X`."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(axis=1)]

    def _checked(self, X: Any) -> Modalities:
        check_is_fitted(self)
        X = check_modalities(self, X, reset=False)
        return X.select(sorted(X.names))

    def _listed(self, parameter: str, names: Any, X: Modalities) -> Any:
        """Which modalities (n_modalities,) a list names."""
        is_list = isinstance(names, Iterable) and not isinstance(names, str) and not hasattr(names, "keys")
        if not is_list or any(name not in X.names for name in names):
            raise ValueError(f"{parameter} is {names!r}; due is a list of names out of {sorted(X.names)}.")
        return np.isin(X.names, list(names))

    def _allowed(self, available: Any, X: Modalities) -> Any:
        """Bring `available` to bool (n_samples, n_modalities) in the order of `X`."""
        if available is None:
            return np.ones_like(X.present)
        if isinstance(available, Mapping | pd.DataFrame):
            align.check_same_order("available", X.sample_ids, available)
            columns = {str(name): np.asarray(available[name]) for name in available}
            if sorted(columns) != sorted(X.names) or any(len(column) != len(X) for column in columns.values()):
                raise ValueError(
                    f"available has the columns {list(columns)} of {sorted({len(c) for c in columns.values()})} rows; "
                    f"due is one of bool, {len(X)} long, for each of the modalities {list(self.modality_names_in_)}, "
                    "or a list of names."
                )
            available = np.column_stack([columns[name] for name in self.modality_names_in_])
        elif isinstance(available, str) or all(isinstance(name, str) for name in available):
            return np.broadcast_to(self._listed("available", available, X), X.present.shape)
        given = np.asarray(available)
        if given.shape != X.present.shape or given.dtype != bool:
            raise ValueError(
                f"available has shape {given.shape} and dtype {given.dtype}; due is a list of names, or bool of shape "
                f"(n_samples, n_modalities) = {X.present.shape}, columns in the order {list(self.modality_names_in_)}."
            )
        return given[:, np.argsort(self.modality_names_in_)]

    def _run(self, X: Modalities, can: Any, acquired: Any) -> Bunch:
        """Decide until all samples have stopped."""
        order = list(self.modality_names_in_)
        acquired = acquired.copy()
        active = np.arange(len(X))
        probabilities = np.tile(self._prior, (len(X), 1))
        steps: list[Step] = []
        while len(active):
            found = self._decide(X[active], acquired[active], can[active], len(steps), active)
            probabilities[active] = found.probabilities
            steps.append(found)
            going = found.actions >= 0
            acquired[active[going], found.actions[going]] = True
            active = active[going]
        warn_of_refused(steps, X.names)
        return Bunch(
            present=acquired[:, [X.names.index(name) for name in order]],
            cost=acquired @ self._costs,
            probabilities=probabilities,
            trace=trace_of(steps, X.names, order, self._costs, self.classes_, probabilities),
        )

    def _decide(self, X: Modalities, acquired: Any, can: Any, step: int, positions: Any) -> Step:
        """Decide on one step of the samples at `positions`; modalities outside `acquired` (n, M) are not looked at."""
        left = np.full(len(X), np.inf if self.budget is None else self.budget) - acquired @ self._costs
        askable = can & ~acquired
        affordable = askable & (self._costs <= left[:, None] + 1e-9)
        probabilities, alone, gains = self._forecast(X, acquired, affordable, left)
        reasons = np.full(len(X), NOT_WORTH, dtype=object)
        prices = self.trade_off * self._costs
        value = np.where(affordable, gains - prices, -np.inf)
        actions = np.where(value.max(axis=1) > 0, best_of(value, alone - prices, self._costs), -1)
        reasons[actions >= 0] = WORTH
        halted = {NOTHING_LEFT: ~askable.any(axis=1), OVER_BUDGET: askable.any(axis=1) & ~affordable.any(axis=1)}
        if self.threshold is not None:
            halted[CONFIDENT] = affordable.any(axis=1) & (probabilities.max(axis=1) >= self.threshold)
        if callable(self.policy):
            situation = Situation(X, acquired, affordable, left, probabilities, gains)
            for row in np.flatnonzero(~np.any(list(halted.values()), axis=0)).tolist():
                state = situation.state(row, int(positions[row]), step, self.costs_, self.classes_)
                actions[row], reasons[row] = read_answer(self.policy(state), state, X.names)
        for reason, rows in halted.items():
            actions[rows], reasons[rows] = -1, reason
        return Step(positions, acquired, actions, reasons, np.where(affordable, gains, np.nan), probabilities)

    def _forecast(self, X: Modalities, acquired: Any, affordable: Any, left: Any) -> tuple[Any, Any, Any]:
        """Probabilities (n, n_classes) from what is acquired, and expected gains (n, M): by itself, and going on."""
        probabilities = np.tile(self._prior, (len(X), 1))
        alone, gains = np.zeros(acquired.shape), np.zeros(acquired.shape)
        for pattern, rows in by_pattern(acquired) if self.estimator_ is not None else ():
            columns = frozenset(np.flatnonzero(pattern).tolist())
            # A smaller set stands in where nothing was learnt for this one: its forecasts go by what it predicts.
            sets = {columns, *self._forecaster.stand_ins(columns).values()}
            said = {part: self._ask(self.estimator_, X, part, rows) for part in sets}
            probabilities[rows] = said[columns]
            alone[rows], going_on = self._forecaster.predict(columns, self._tables.apply(X[rows], columns), said)
            # Both must be had, and be within what is left.
            pairs = affordable[rows][:, :, None] & affordable[rows][:, None, :]
            pairs &= self._costs[:, None] + self._costs <= left[rows][:, None, None] + 1e-9
            gains[rows] = alone[rows] + np.where(pairs, going_on, 0).max(axis=2).clip(min=0)
        return probabilities, alone, gains


def _check_costs(costs: Any, names: list[str]) -> dict[str, float]:
    costs = 1.0 if costs is None else costs
    # A Series is no Mapping.
    given = by_modality("costs", dict(costs.items()) if hasattr(costs, "items") else costs, names, default=1.0)
    for name, cost in given.items():
        if not isinstance(cost, numbers.Real) or not 0 <= float(cost) < np.inf:
            raise ValueError(f"costs has {cost!r} for the modality {name!r}; due is a finite number from 0 on.")
    return {name: float(cost) for name, cost in given.items()}


def _only(X: Modalities, columns: Columns, rows: Any) -> Any:
    """Return rows of the modalities `columns`: the array itself where `X` is one plain table."""
    if X.names == [SINGLE] and X.kind(SINGLE) in ("dense", "sparse"):
        return take(X[SINGLE], rows)
    return X.select([X.names[m] for m in sorted(columns)])[rows]
