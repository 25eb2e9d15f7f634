"""How late fusion puts base predictions together: averages over those present, and final estimators a pattern."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from scipy import sparse
from scipy.optimize import nnls

from skfusion._base import seeded_clone
from skfusion._hill_climb import accuracy, hill_climb, negative_squared_error
from skfusion._targets import fit_with
from skfusion.modalities.patterns import Pattern, by_pattern

FEWEST = 20
"""Samples from which on a missing pattern has a final estimator of its own."""
AVERAGES = ("mean", "weighted", "hill_climb", "vote", "product")
_LEAST = 1e-3
"""Of a probability in a product: where trees say 0, they mean that they have not seen it, and are not to forbid it."""
_LEAST_IN_ODDS = 1e-2
"""Of a probability in log-odds, which are to tell 0 from .1, and not much more; chosen on folds of seed 10."""


def combine(method: str, predictions: Any, weights: Any) -> Any:
    """Combine predictions (n_bases, n_samples, n_outputs), NaN where a base has none, to (n_samples, n_outputs).

    "mean", "weighted" and "hill_climb" average, "vote" counts most probable classes, "product" multiplies, with at
    least .001 for each, and normalises. A sample without any prediction comes out as NaN.
    """
    there = ~np.isnan(predictions[:, :, :1])  # (bases, n, 1)
    if method == "vote":
        winners = np.nan_to_num(predictions, nan=-1).argmax(axis=2)[:, :, None] == np.arange(predictions.shape[2])
        predictions = winners.astype(np.float64)
    if method == "product":
        logs = np.where(there, np.log(np.maximum(predictions, _LEAST)), 0).sum(axis=0)
        out = np.exp(logs - logs.max(axis=1, keepdims=True))
        out /= out.sum(axis=1, keepdims=True)
    else:
        share = np.where(there, weights[:, None, None], 0.0)
        total = share.sum(axis=0)
        # Where all weight lies on bases that are missing, the others count alike.
        share = np.where(total > 0, share, there)
        with np.errstate(invalid="ignore"):
            out = np.where(there, predictions * share, 0).sum(axis=0) / share.sum(axis=0)
    return np.where(there.any(axis=0), out, np.nan)


def log_odds(probabilities: Any) -> Any:
    """Return logarithms of probabilities (n_samples, n_classes), of at least .01, less their mean over the classes."""
    logs = np.log(np.maximum(probabilities, _LEAST_IN_ODDS))
    return logs - logs.mean(axis=1, keepdims=True)


def fit_weights(
    method: str, predictions: Any, target: Any, sample_weight: Any = None, *, score: Any = None, seed: int = 0
) -> Any:
    """Weights of the bases that add up to 1: equal, by non-negative least squares, or by ensemble selection.

    `predictions` (n_bases, n_samples, n_outputs) are out-of-fold, `target` is (n_samples, n_outputs), one-hot for
    classes. Selection climbs `score`, which takes averages (n_candidates, n_samples, n_outputs); without one, accuracy
    or the squared error. Of classes, least squares are drawn towards equal weights as far as that is more accurate.
    """
    n_bases, classify = len(predictions), target.shape[1] > 1
    equal = np.full(n_bases, 1 / n_bases)
    mean = np.average(target, axis=0, weights=sample_weight)
    score = score or (accuracy if classify else negative_squared_error)(target, sample_weight)
    if method == "hill_climb":
        return hill_climb(predictions, score, mean, seed=seed)
    if method != "weighted":
        return equal
    # A base that has no prediction says what the target is on average.
    filled = np.where(np.isnan(predictions), mean, predictions)
    scale = 1.0 if sample_weight is None else np.sqrt(sample_weight)[:, None]
    weights, _ = nnls((filled * scale).reshape(n_bases, -1).T, (target * scale).ravel())
    if weights.sum() == 0:
        return equal
    weights /= weights.sum()
    if not classify:
        return weights
    mixed = equal + np.linspace(0, 1, 11)[:, None] * (weights - equal)
    averages = (np.where(np.isnan(a), mean, a) for a in (combine("weighted", predictions, w) for w in mixed))
    return mixed[np.argmax([score(average[None])[0] for average in averages])]


class PatternFinals:
    """Final estimators, one for each missing pattern, to which the modalities that are missing say nothing.

    Each learns from all samples that have any of the pattern's modalities, with zeros for all that is about others: the
    width stays, so that any estimator can follow. Patterns of training are fitted with it, others whenever they are
    asked for. Where samples or classes are too few, the final estimator of complete samples stays in charge.

    Parameters
    ----------
    whole : estimator
        The final estimator of complete samples, fitted.
    owners : ndarray of int, (n_features,)
        The modality that each feature is about; -1 for what is about all of them, and never zero.
    seed : int
        For estimators that draw and bring no seed, so that each fit of a pattern gives the same.
    classify : bool
        Whether all classes are to be among the samples of a pattern.
    """

    def __init__(self, whole: Any, owners: Any, seed: int, classify: bool) -> None:
        self.whole, self.owners, self.seed, self.classify = whole, owners, seed, classify

    def fit(self, features: Any, target: Any, weights: Any, groups: Any, present: Any, n_jobs: Any) -> "PatternFinals":
        """Keep the features (n_samples, n_features) of training, and fit the patterns in `present`."""
        self.features, self.target, self.present = features, target, present
        self.weights, self.groups = weights, groups
        patterns = [pattern for pattern, _ in by_pattern(present) if any(pattern) and not all(pattern)]
        self.fitted = dict(zip(patterns, Parallel(n_jobs=n_jobs)(delayed(self._fit)(p) for p in patterns)))
        return self

    def ask(self, features: Any, present: Any, method: str) -> Iterator[tuple[Any, Any, Any]]:
        """Yield, a pattern, its rows, the final estimator that knows it, and what `method` says of them."""
        for pattern, rows in by_pattern(present):
            if not any(pattern):
                continue
            own = features if len(rows) == len(present) else features[rows]
            final = self._of(pattern)
            if final is None:
                yield rows, self.whole, getattr(self.whole, method)(own)
            else:
                yield rows, final, getattr(final, method)(self._blind(own, pattern))

    def _of(self, pattern: Pattern) -> Any:
        """Return the final estimator of a pattern; None stands for that of complete samples."""
        if all(pattern):
            return None
        return self.fitted[pattern] if pattern in self.fitted else self._fit(pattern)

    def _fit(self, pattern: Pattern) -> Any:
        """Fit the final estimator of a pattern; None where too little is known of it."""
        rows = np.flatnonzero(self.present[:, np.array(pattern)].any(axis=1))
        target = self.target[rows]
        if len(rows) < FEWEST or (self.classify and len(np.unique(target)) < len(np.unique(self.target))):
            return None
        final = seeded_clone(self.whole, self.seed)
        weights, groups = (None if part is None else part[rows] for part in (self.weights, self.groups))
        own = self._blind(self.features[rows], pattern)
        return fit_with(final, own, target, sample_weight=weights, groups=groups)

    def _blind(self, features: Any, pattern: Pattern) -> Any:
        """Return features (n, n_features) with zeros for what is about modalities that the pattern lacks."""
        keep = np.array([*pattern, True])[self.owners]
        return features @ sparse.diags_array(keep * 1.0) if sparse.issparse(features) else np.where(keep, features, 0.0)
