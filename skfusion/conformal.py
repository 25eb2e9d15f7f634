"""Prediction sets that know what was missing: split-conformal wrappers, calibrated by missing pattern."""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.base import ClassifierMixin, RegressorMixin, clone, is_classifier, is_regressor
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skfusion._base import FusionEstimator, fits
from skfusion._calibration import (
    Threshold,
    class_scores,
    find_threshold,
    hold_out,
    hold_out_groups,
    least_samples,
    nearest_patterns,
)
from skfusion._coins import flip_coins
from skfusion._compat import HasMethods, integer, options, real
from skfusion._targets import class_prior, fit_with, training_set
from skfusion._warn import listed, warn
from skfusion._wrapped import check_wrapped, has_tags, unfrozen
from skfusion.modalities import Modalities, check_modalities
from skfusion.modalities.patterns import find_patterns, name_pattern
from skfusion.select import FusionClassifier, FusionRegressor, _inner

_BATCH = 1 << 14
"""Samples that are cut down to patterns at a time, at least those of one pattern."""


class _Pool(NamedTuple):
    """What calibrates a missing pattern: own samples and those of `others`, of which `unlike` tell more or less."""

    others: Any
    unlike: Any
    n_own: int
    n_samples: int
    threshold: Threshold


class _Calibration(NamedTuple):
    """The samples that calibrate: their scores and coins, and which of `patterns` each has; `X` for subsets."""

    X: Any
    target: Any
    patterns: Any
    which: Any
    scores: Any
    coins: Any


class _PatternConformal(FusionEstimator):
    """What the classifier and the regressor share."""

    _parameter_constraints = {
        "confidence": [real(0, 1, closed="neither")],
        "calibration_size": [real(0, 1, closed="neither")],
        "min_samples": [integer(1)],
        "pooling": [options("subset", "nearest")],
        "random_state": ["random_state"],
    }

    @fits
    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Any:
        """Fit the estimator on a part of the samples, and calibrate each missing pattern on the others.

        Parameters
        ----------
        X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
            The samples; where the estimator is frozen, all of them calibrate.
        y : array-like of shape (n_samples,)
            The target.
        sample_weight : array-like of shape (n_samples,), default=None
            For the estimator, if it knows weights, and the prior; those of weight 0 are left out. Calibration counts
            each sample once.
        groups : array-like of shape (n_samples,), default=None
            Donors, patients and the like: either part gets whole ones, and those that alone have a class or modality
            train. The estimator gets them, if it knows groups.

        Returns
        -------
        self
            The fitted estimator.

        Raises
        ------
        ValueError
            Where the input is not as due (it names the modality), where no group can be held out since each alone has
            a class or modality, where the estimator is of the other kind, gives no probabilities, or is frozen and does
            not know a class of `y`.
        NotFittedError
            Where a frozen estimator was never fitted.

        Warns
        -----
        UserWarning
            Where a missing pattern has too few calibration samples and borrows from samples that tell more or less.
        """
        self._check_estimator()
        X = check_modalities(self, X, y, reset=True)
        data = training_set(self, X, y, sample_weight, groups, numeric=not self._is_classifier, multi_output=False)
        rng = check_random_state(self.random_state)
        self._seed = rng.randint(np.iinfo(np.int32).max)
        target = self._learn_target(data.y, data.sample_weight)
        if isinstance(self.estimator, FrozenEstimator):
            held_out = np.ones(len(data.X), dtype=bool)
            self.estimator_: Any = self.estimator
        else:
            held_out = self._hold_out(data, target, rng)
            self.estimator_ = None if self._is_constant else self._fit_inner(data, ~held_out)
        self.calibration_indices_ = data.kept[held_out]
        self._calibrate(data.X[held_out], target[held_out], find_patterns(data.X.present)[0])
        return self

    def _check_estimator(self) -> None:
        check_wrapped(self.estimator)
        is_other = is_regressor if self._is_classifier else is_classifier
        if has_tags(self.estimator) and is_other(self.estimator):
            due, other = ("classifier", "regressor") if self._is_classifier else ("regressor", "classifier")
            raise ValueError(
                f"estimator {type(unfrozen(self.estimator)).__name__} is a {other}; due is a {due}. Wrap it in "
                f"PatternConformal{other.capitalize()}."
            )

    def _fit_inner(self, data: Any, rows: Any) -> Any:
        part = self._default() if self.estimator is None else clone(self.estimator)
        metadata = {"sample_weight": data.sample_weight, "groups": data.groups}
        chosen = {name: None if values is None else values[rows] for name, values in metadata.items()}
        return fit_with(part, _inner(data.X[rows]), data.y[rows], **chosen)

    # calibration

    def _hold_out(self, data: Any, target: Any, rng: Any) -> Any:
        """Draw who calibrates, (n_samples,) bool; whatever order modalities are in."""
        present = data.X.present[:, np.argsort(data.X.names)]
        codes = target if self._is_classifier else np.zeros(len(target), dtype=int)
        if data.groups is None:
            return hold_out(present, codes, self.calibration_size, rng)
        labels = [f"the modality {name!r}" for name in sorted(data.X.names)]
        if self._is_classifier:
            labels += [f"the class {label!r}" for label in self.classes_.tolist()]
        has = np.hstack([present, codes[:, None] == np.arange(len(labels) - len(data.X.names))])
        return hold_out_groups(has, labels, data.groups, self.calibration_size, rng)

    def _calibrate(self, X: Modalities, target: Any, seen: Any) -> None:
        """Find the threshold of each pattern in `seen` (n_patterns, n_modalities), and of nothing present."""
        patterns, which = find_patterns(X.present)
        self._calibration = _Calibration(X, target, patterns, which, *self._scores(X, target))
        nothing = np.zeros((1, X.shape[1]), dtype=bool)
        wanted = np.concatenate([seen, nothing])
        self._pools = {pattern.tobytes(): pool for pattern, pool in zip(wanted, self._make_pools(wanted))}
        if self.pooling != "subset":
            self._calibration = self._calibration._replace(X=None)
        pools = [self._pools[pattern.tobytes()] for pattern in seen]
        self.patterns_ = pd.DataFrame(
            {
                "n_calibration": [pool.n_own for pool in pools],
                "pooled_with": [tuple(map(self._spell, pool.others)) for pool in pools],
                "n_pooled": [pool.n_samples for pool in pools],
                "threshold": [pool.threshold.score for pool in pools],
            },
            index=pd.Index(map(self._spell, seen), name="pattern"),
        )
        self._warn_unlike("too few calibration samples have", dict(zip(self.patterns_.index, pools)))

    def _warn_unlike(self, why: str, pools: dict[str, _Pool]) -> None:
        """Tell of the patterns among `pools` that samples which tell more or less calibrate, and rule out something."""
        found = {name: pool for name, pool in pools.items() if len(pool.unlike) and np.isfinite(pool.threshold.score)}
        if found and not self._is_constant:
            borrowed = sorted({self._spell(other) for pool in found.values() for other in pool.unlike})
            least = least_samples(self.confidence)
            advice = ["Fit with more such samples"]
            advice += ["use pooling='subset'"] if self.pooling == "nearest" else []
            # Own samples that would do, if for larger sets than a promise needs.
            advice += [f"lower min_samples to {least}"] if any(p.n_own >= least for p in found.values()) else []
            warn(
                f"{why} just the modalities of {listed(list(found))}; these are calibrated on {listed(borrowed)}, "
                f"which tell more or less than they do, so that coverage may be another. {', or '.join(advice)}."
            )

    def _make_pools(self, wanted: Any) -> list[_Pool]:
        """Calibrate patterns (n_wanted, n_modalities), each on own samples, and where they are too few on others'."""
        _, _, patterns, which, scores, coins = self._calibration
        enough = max(self.min_samples, least_samples(self.confidence))
        counts = np.bincount(which, minlength=len(patterns))
        pools: list[_Pool] = []
        members: list[Any] = []
        cut: list[int] = []  # those that others come to the aid of, without what the pattern lacks
        for pattern in wanted:
            # Whoever has nothing is predicted from the prior, which needs no more of the others than their target.
            subset = self.pooling == "subset" or not pattern.any()
            chosen = nearest_patterns(pattern, patterns, counts, enough, subset=subset)
            own = (patterns == pattern).all(axis=1)
            others = patterns[chosen & ~own]
            unlike = others[(pattern & ~others).any(axis=1)] if subset else others
            rows = np.flatnonzero(chosen[which])
            if subset and len(others):
                cut.append(len(pools))
            members.append(rows)
            threshold = find_threshold(scores[rows], coins[rows], self.confidence)
            pools.append(_Pool(others, unlike, int(counts[own].sum()), len(rows), threshold))
        for i, points in zip(cut, self._cut_down([members[i] for i in cut], wanted[cut])):
            pools[i] = pools[i]._replace(threshold=find_threshold(*points, self.confidence))
        return pools

    def _cut_down(self, rows: list[Any], patterns: Any) -> Iterator[tuple[Any, Any]]:
        """Yield scores and coins of the calibration samples in `rows`, as if they had no more than their pattern."""
        X, target = self._calibration.X, self._calibration.target
        # One call of the estimator for many patterns.
        batch = np.cumsum([0, *map(len, rows)])[:-1] // _BATCH
        for start, end in itertools.pairwise([*np.unique(batch, return_index=True)[1], len(rows)]):
            index, sizes = np.concatenate(rows[start:end]), [len(part) for part in rows[start:end]]
            part = X[index]
            present = part.present & np.repeat(patterns[start:end], sizes, axis=0)
            part = Modalities._of(part._data, part._columns, present, None)
            ends = np.cumsum(sizes)[:-1]
            yield from zip(*(np.split(found, ends) for found in self._scores(part, target[index])))

    def _thresholds(self, X: Modalities) -> tuple[Any, Any]:
        """Return the threshold of each sample's pattern: scores and coins, (n_samples,) each."""
        patterns, which = find_patterns(X.present)
        new = [pattern for pattern in patterns if pattern.tobytes() not in self._pools]
        made = {pattern.tobytes(): pool for pattern, pool in zip(new, self._make_pools(np.array(new)))}
        known = self._pools | made
        pools = [known[pattern.tobytes()] for pattern in patterns]
        if any(np.isinf(pool.threshold.score) for pool in pools):
            warn(
                f"{len(self.calibration_indices_)} calibration samples are too few for confidence={self.confidence}, "
                f"which needs {least_samples(self.confidence)}; nothing is ruled out. Fit on more samples, or lower "
                "confidence."
            )
        self._warn_unlike("no sample of fit had", {self._spell(pattern): made[pattern.tobytes()] for pattern in new})
        found = np.array([pool.threshold for pool in pools])[which]
        return found[:, 0], found[:, 1]

    def _spell(self, pattern: Any) -> str:
        return name_pattern(pattern, self.modality_names_in_)

    def _checked(self, X: Any) -> tuple[Modalities, Any]:
        """Return the checked samples, and the positions of those with something present."""
        check_is_fitted(self)
        X = check_modalities(self, X, reset=False)
        return X, np.flatnonzero(X.present.any(axis=1))


class PatternConformalClassifier(ClassifierMixin, _PatternConformal):
    """Sets of classes that hold the true one as often as promised, whatever is missing.

    A part of the samples is held out from the estimator's fit; the scores of their true classes say how large sets must
    be [1]_. That is found for each missing pattern by itself: a threshold common to all promises too much to those who
    lack what tells most, and too little to the others.

    With n calibration samples of a pattern, its sets hold the true class with a probability between `confidence` and
    ``confidence + 1 / (n + 1)``, on average over calibration samples. This needs samples that are exchangeable within
    the pattern, and nothing of the estimator. A pattern with fewer than `min_samples` is pooled with the nearest ones.

    Parameters
    ----------
    estimator : classifier with predict_proba, default=None
        Any that takes what is missing in `X`. None is a `FusionClassifier`. A `sklearn.frozen.FrozenEstimator` keeps
        its fit, and all samples calibrate; they must be others than those that it was fitted on.
    confidence : float, default=0.9
        The probability that a set holds the true class.
    method : {"lac", "aps"}, default="lac"
        "lac" takes every class above a probability, the same for all samples of a pattern, which gives the smallest
        sets [2]_. "aps" takes the most probable classes up to a mass, which gives larger sets to difficult samples and
        evens coverage out between easy and difficult ones [3]_.
    modalities : dict or list, default=None
        How `X` is split, or which modalities to take.
    calibration_size : float, default=0.25
        The share of the samples that calibrates, the same of each missing pattern and class.
    min_samples : int, default=50
        The fewest calibration samples that a pattern is calibrated on. From 50 on, coverage is on average less than 2
        points above `confidence`.
    pooling : {"subset", "nearest"}, default="subset"
        What comes to the aid of a pattern with fewer. Under "subset" samples that have more, cut down to the
        pattern; the sets are valid as above where missing does not depend on values or target [4]_. Only then others,
        those that lack least first. The fitted estimator keeps the calibration samples, so as to calibrate patterns
        that come up at predict. Under "nearest" the samples of the patterns that differ in the fewest modalities, as
        they are, of equally near ones those with fewer modalities first.
    random_state : int, RandomState or None, default=None
        Draws the calibration samples and the coins that break ties; handed to the default estimator.

    Attributes
    ----------
    estimator_ : classifier or None
        The fitted estimator; None where there was one class.
    patterns_ : DataFrame
        A row for each missing pattern of fit, by the modalities present (``"labs + ecg"``): its n_calibration samples;
        which patterns it is pooled_with; the n_pooled samples that calibrate it, its own included; its threshold,
        infinite where these are too few for `confidence`.
    calibration_indices_ : ndarray of int
        The rows that calibrate.
    classes_ : ndarray of shape (n_classes,)
        The class labels.
    modality_names_in_, n_features_by_modality_, n_features_in_
        What was seen in fit.

    Notes
    -----
    Scores that tie, as those of trees do, would make sets too large. A coin decides between them, drawn by
    `random_state` and the values of the sample, so that a sample has the same set in any batch.

    References
    ----------
    .. [1] Vovk, Gammerman and Shafer, "Algorithmic learning in a random world", 2005.
    .. [2] Sadinle, Lei and Wasserman, "Least ambiguous set-valued classifiers with bounded error levels", Journal of
       the American Statistical Association 114, 2019.
    .. [3] Romano, Sesia and Candès, "Classification with valid and adaptive coverage", NeurIPS 2020.
    .. [4] Zaffran, Dieuleveut, Josse and Romano, "Conformal prediction with missing values", ICML 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion import FusionClassifier, PatternConformalClassifier
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(3, size=900)
    >>> X = {"labs": rng.normal(size=(900, 4)) + y[:, None], "notes": rng.normal(size=(900, 2)) + 0.3 * y[:, None]}
    >>> X["labs"][::2] = np.nan
    >>> model = PatternConformalClassifier(FusionClassifier("early"), random_state=0).fit(X, y)
    >>> model.patterns_["n_calibration"].to_dict()
    {'notes': 113, 'labs + notes': 112}
    >>> sets = model.predict_set(X)
    >>> sets.shape
    (900, 3)
    >>> bool(sets[1::2].sum() < sets[::2].sum())  # who has labs gets smaller sets
    True
    """

    _is_classifier = True
    _parameter_constraints = {
        **_PatternConformal._parameter_constraints,
        "estimator": [HasMethods(["fit", "predict"]), None],
        "method": [options("lac", "aps")],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        confidence: float = 0.9,
        method: str = "lac",
        modalities: Any = None,
        calibration_size: float = 0.25,
        min_samples: int = 50,
        pooling: str = "subset",
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.confidence = confidence
        self.method = method
        self.modalities = modalities
        self.calibration_size = calibration_size
        self.min_samples = min_samples
        self.pooling = pooling
        self.random_state = random_state

    def predict_set(self, X: Any) -> Any:
        """Return which classes are in the prediction set of each sample.

        Parameters
        ----------
        X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
            The samples.

        Returns
        -------
        ndarray of bool (n_samples, n_classes)
            Columns as in ``classes_``. A set may be empty: the estimator is right more often than `confidence` asks,
            and this sample is odd. A sample with nothing present gets the set of the prior.

        Warns
        -----
        UserWarning
            Where there are too few calibration samples for `confidence`, so that sets hold every class; and where a
            missing pattern that no sample of fit had is calibrated on samples that tell more or less.
        """
        X, _ = self._checked(X)
        if self._is_constant:
            return np.ones((len(X), 1), dtype=bool)
        most, luck = (column[:, None] for column in self._thresholds(X))
        scores, coins = self._score_classes(X)
        return (scores < most) | ((scores == most) & (coins[:, None] <= luck))

    @available_if(lambda self: self.estimator is None or hasattr(self.estimator, "predict_proba"))
    def predict_proba(self, X: Any) -> Any:
        """Return the estimator's class probabilities (n_samples, n_classes); the prior with nothing present."""
        return self._proba(self._checked(X)[0])

    def predict(self, X: Any) -> Any:
        """Return the estimator's class of each sample, (n_samples,); the most frequent with nothing present."""
        X, there = self._checked(X)
        out = np.repeat(self.classes_[[self._prior.argmax()]], len(X))
        if len(there) and not self._is_constant:
            out[there] = self.estimator_.predict(_inner(X, there))
        return out

    def _default(self) -> Any:
        return FusionClassifier(random_state=self._seed)

    def _learn_target(self, y: Any, sample_weight: Any) -> Any:
        if not (self.estimator is None or hasattr(self.estimator, "predict_proba")):
            raise ValueError(
                f"estimator {type(unfrozen(self.estimator)).__name__} gives no probabilities, which sets are made "
                "from. Wrap it in CalibratedClassifierCV."
            )
        # A frozen estimator may know classes that no calibration sample has.
        self.classes_ = np.unique(self.estimator.classes_ if isinstance(self.estimator, FrozenEstimator) else y)
        known = self.classes_.tolist()
        unknown = [label for label in np.unique(y).tolist() if label not in set(known)]
        if unknown:
            raise ValueError(
                f"y has the classes {unknown}, which the frozen estimator does not know; it knows {known}. Calibrate "
                "on samples of these, with labels as it was fitted on."
            )
        codes = np.searchsorted(self.classes_, y)
        self._prior = class_prior(codes, len(self.classes_), sample_weight)
        return codes

    @property
    def _is_constant(self) -> bool:
        return len(self.classes_) == 1

    def _proba(self, X: Modalities) -> Any:
        if self._is_constant:
            return np.ones((len(X), 1))
        there = np.flatnonzero(X.present.any(axis=1))
        out = np.tile(self._prior, (len(X), 1))
        if len(there):
            out[there] = 0
            columns = np.searchsorted(self.classes_, self.estimator_.classes_)
            out[np.ix_(there, columns)] = self.estimator_.predict_proba(_inner(X, there))
        return out

    def _score_classes(self, X: Modalities) -> tuple[Any, Any]:
        coins = flip_coins(X, self._seed)
        return class_scores(self._proba(X), coins, self.method), coins

    def _scores(self, X: Modalities, target: Any) -> tuple[Any, Any]:
        scores, coins = self._score_classes(X)
        return scores[np.arange(len(target)), target], coins


class PatternConformalRegressor(RegressorMixin, _PatternConformal):
    """Intervals that hold the true value as often as promised, whatever is missing.

    An interval is the prediction plus and minus a width, which is found on calibration samples for each missing pattern
    by itself. Everything but the target is as in `PatternConformalClassifier`.

    Parameters
    ----------
    estimator : regressor, default=None
        Any that takes what is missing in `X`. None is a `FusionRegressor`. A `sklearn.frozen.FrozenEstimator` keeps its
        fit, and all samples calibrate; they must be others than those that it was fitted on.
    confidence : float, default=0.9
        The probability that an interval holds the true value.
    modalities : dict or list, default=None
        How `X` is split, or which modalities to take.
    calibration_size : float, default=0.25
        The share of the samples that calibrates, the same of each missing pattern.
    min_samples : int, default=50
        The fewest calibration samples that a pattern is calibrated on.
    pooling : {"subset", "nearest"}, default="subset"
        What comes to the aid of a pattern with fewer: samples that have more, cut down to the pattern, and only then
        others; or the samples of the nearest patterns as they are.
    random_state : int, RandomState or None, default=None
        Draws the calibration samples; handed to the default estimator.

    Attributes
    ----------
    estimator_ : regressor
        The fitted estimator.
    patterns_ : DataFrame
        A row for each missing pattern of fit, by the modalities present (``"labs + ecg"``): its n_calibration samples;
        which patterns it is pooled_with; the n_pooled samples that calibrate it, its own included; its threshold, which
        is half the width of its intervals, infinite where these are too few for `confidence`.
    calibration_indices_ : ndarray of int
        The rows that calibrate.
    modality_names_in_, n_features_by_modality_, n_features_in_
        What was seen in fit.

    References
    ----------
    .. [1] Lei, G'Sell, Rinaldo, Tibshirani and Wasserman, "Distribution-free predictive inference for regression",
       Journal of the American Statistical Association 113, 2018.
    .. [2] Zaffran, Dieuleveut, Josse and Romano, "Conformal prediction with missing values", ICML 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion import FusionRegressor, PatternConformalRegressor
    >>> rng = np.random.default_rng(0)
    >>> X = {"labs": rng.normal(size=(800, 1)), "notes": rng.normal(size=(800, 1))}
    >>> y = 3 * X["labs"][:, 0] + X["notes"][:, 0]
    >>> X["labs"][::2] = np.nan
    >>> model = PatternConformalRegressor(FusionRegressor("early"), random_state=0).fit(X, y)
    >>> low, high = model.predict_interval(X).T
    >>> bool((high - low)[0] > (high - low)[1])  # the first sample has no labs
    True
    """

    _is_classifier = False
    _is_constant = False
    _parameter_constraints = {
        **_PatternConformal._parameter_constraints,
        "estimator": [HasMethods(["fit", "predict"]), None],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        confidence: float = 0.9,
        modalities: Any = None,
        calibration_size: float = 0.25,
        min_samples: int = 50,
        pooling: str = "subset",
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.confidence = confidence
        self.modalities = modalities
        self.calibration_size = calibration_size
        self.min_samples = min_samples
        self.pooling = pooling
        self.random_state = random_state

    def predict_interval(self, X: Any) -> Any:
        """Return the prediction interval of each sample.

        Parameters
        ----------
        X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
            The samples.

        Returns
        -------
        ndarray of shape (n_samples, 2)
            The lower and the upper end. A sample with nothing present gets an interval around the training mean.

        Warns
        -----
        UserWarning
            Where there are too few calibration samples for `confidence`, so that intervals are infinite; and where a
            missing pattern that no sample of fit had is calibrated on samples that tell more or less.
        """
        X, _ = self._checked(X)
        width, _ = self._thresholds(X)
        middle = self._predict(X)
        return np.stack([middle - width, middle + width], axis=1)

    def predict(self, X: Any) -> Any:
        """Return the estimator's predictions (n_samples,); the training mean for a sample with nothing present."""
        return self._predict(self._checked(X)[0])

    def _default(self) -> Any:
        return FusionRegressor(random_state=self._seed)

    def _learn_target(self, y: Any, sample_weight: Any) -> Any:
        self._prior = float(np.average(y, weights=sample_weight))
        return y

    def _predict(self, X: Modalities) -> Any:
        there = np.flatnonzero(X.present.any(axis=1))
        out = np.full(len(X), self._prior)
        if len(there):
            out[there] = self.estimator_.predict(_inner(X, there))
        return out

    def _scores(self, X: Modalities, target: Any) -> tuple[Any, Any]:
        return np.abs(target - self._predict(X)), np.zeros(len(target))
