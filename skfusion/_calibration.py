"""The arithmetic of conformal prediction by missing pattern: who calibrates whom, scores, thresholds, fair coins."""

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.model_selection import GroupShuffleSplit

from skfusion.modalities import Modalities
from skfusion.modalities.kinds import take


class Threshold(NamedTuple):
    """The largest score that a prediction set takes in; scores equal to it only with a coin of at most `coin`."""

    score: float
    coin: float


def least_samples(confidence: float) -> int:
    """Return the fewest calibration samples that give a finite threshold."""
    return math.ceil(round(confidence / (1 - confidence), 9))


def find_threshold(scores: Any, coins: Any, confidence: float) -> Threshold:
    """Return the ``ceil((n + 1) * confidence)``-th smallest of n scores, ties ordered by coins; infinite past n."""
    rank = math.ceil(round((len(scores) + 1) * confidence, 9))
    if rank > len(scores):
        return Threshold(np.inf, 1.0)
    at = np.lexsort((coins, scores))[rank - 1]
    return Threshold(float(scores[at]), float(coins[at]))


def class_scores(proba: Any, coins: Any, method: str) -> Any:
    """How badly each class fits, (n_samples, n_classes), by probabilities of that shape and coins (n_samples,).

    For "lac" what is left to probability 1; for "aps" the mass of the classes before it and a random part of its own.
    """
    if method == "lac":
        return 1 - proba
    order = np.argsort(-proba, axis=1, kind="stable")
    own = np.take_along_axis(proba, order, axis=1)
    scores = np.empty_like(own)
    np.put_along_axis(scores, order, np.cumsum(own, axis=1) - own + coins[:, None] * own, axis=1)
    return scores


def nearest_patterns(pattern: Any, patterns: Any, counts: Any, enough: int, *, masked: bool) -> Any:
    """Return which of `patterns` (n_patterns, n_modalities) calibrate `pattern`: itself, the nearest till `enough`.

    Samples that can be masked down are as far as what they lack; others, as all in which they differ. Of equally far
    ones those that have less go first, and what is equal in both goes together, so that no order of patterns matters.
    """
    lacking = (pattern & ~patterns).sum(axis=1)
    surplus = (~pattern & patterns).sum(axis=1)
    distance = (lacking if masked else lacking + surplus) * (len(pattern) + 1) + surplus
    within = [radius for radius in np.unique(distance) if counts[distance <= radius].sum() >= enough]
    return distance <= (within[0] if within else np.inf)


def hold_out(present: Any, codes: Any, groups: Any, share: float, rng: Any) -> Any:
    """Draw a share of the samples, (n_samples,) bool: the same of each missing pattern and class, or whole groups.

    Without groups, one sample of each class and one of each modality always stays.
    """
    n_samples = len(present)
    held_out = np.zeros(n_samples, dtype=bool)
    if groups is not None:
        if len(np.unique(groups)) < 2:
            raise ValueError("groups holds a single group; due are 2 or more, since calibration holds out whole ones.")
        splitter = GroupShuffleSplit(1, test_size=share, random_state=rng)
        held_out[next(splitter.split(present, groups=groups))[1]] = True
        return held_out
    order = rng.permutation(n_samples)
    by_stratum = order[np.lexsort((codes[order], *present[order].T))]
    held_out[by_stratum] = np.diff(np.floor(share * np.arange(n_samples + 1) + rng.uniform())) > 0
    held_out[order[np.unique(codes[order], return_index=True)[1]]] = False
    held_out[order[present[order].argmax(axis=0)]] = False
    return held_out


def flip_coins(X: Modalities, seed: int) -> Any:
    """Draw a number in [0, 1) a sample by what is present of it: equal samples get equal ones, in any batch."""
    start = np.random.default_rng(seed).integers(2**64, dtype=np.uint64)
    total = np.full(len(X), start, dtype=np.uint64)
    for name, present in zip(X.names, X.present.T):
        rng = np.random.default_rng([seed, *name.encode()])
        total[present] += _hash_rows(take(X[name], np.flatnonzero(present)), rng)
    return (pd.util.hash_array(total) >> np.uint64(11)) * 2.0**-53


def _hash_rows(values: Any, rng: Any) -> Any:
    """Hash each row of canonical values to 64 bits, with factors of its columns drawn from `rng`."""
    if isinstance(values, pd.DataFrame):
        return pd.util.hash_pandas_object(values, index=False).to_numpy()
    if values.dtype == object:
        texts = np.array([v if isinstance(v, str) else "\0".join(map(str, v)) for v in values], dtype=object)
        return pd.util.hash_array(texts, categorize=False)
    width = int(np.prod(values.shape[1:]))
    factors = rng.integers(2**63, size=width, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    if sparse.issparse(values):
        summed = np.cumsum(_hash_numbers(values.data) * factors[values.indices], dtype=np.uint64)
        summed = np.concatenate([np.zeros(1, dtype=np.uint64), summed])
        return summed[values.indptr[1:]] - summed[values.indptr[:-1]]
    return _hash_numbers(values).reshape(len(values), width) @ factors


def _hash_numbers(values: Any) -> Any:
    """Hash numbers one by one; equal ones of any dtype are equal, and zero, of either sign, is 0."""
    numbers = np.ascontiguousarray(values, dtype=np.float64).ravel()
    return pd.util.hash_array(np.where(np.isnan(numbers), np.nan, numbers) + 0.0)
