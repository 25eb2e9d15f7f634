"""The arithmetic of conformal prediction by missing pattern: who calibrates whom, scores and thresholds."""

import math
from typing import Any, NamedTuple

import numpy as np


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


def nearest_patterns(pattern: Any, patterns: Any, counts: Any, enough: int, *, subset: bool) -> Any:
    """Return which of `patterns` (n_patterns, n_modalities) calibrate `pattern`: itself, the nearest till `enough`.

    With `subset`, samples are cut down to the pattern, and as far as what they lack; else, as all in which they differ.
    Of equally far ones those that have less go first, and what is equal in both goes together, so that no order of
    patterns matters.
    """
    lacking = (pattern & ~patterns).sum(axis=1)
    surplus = (~pattern & patterns).sum(axis=1)
    distance = (lacking if subset else lacking + surplus) * (len(pattern) + 1) + surplus
    radii, at = np.unique(distance, return_inverse=True)
    within = radii[np.cumsum(np.bincount(at, counts)) >= enough]
    return distance <= (within[0] if len(within) else np.inf)


def hold_out(present: Any, codes: Any, share: float, rng: Any) -> Any:
    """Draw a share of the samples, (n_samples,) bool: the same of each missing pattern and class.

    One sample of each class and one of each modality always stays.
    """
    n_samples = len(present)
    held_out = np.zeros(n_samples, dtype=bool)
    order = rng.permutation(n_samples)
    by_stratum = order[np.lexsort((codes[order], *present[order].T))]
    held_out[by_stratum] = np.diff(np.floor(share * np.arange(n_samples + 1) + rng.uniform())) > 0
    held_out[order[np.unique(codes[order], return_index=True)[1]]] = False
    held_out[order[present[order].argmax(axis=0)]] = False
    return held_out


def hold_out_groups(has: Any, labels: list[str], groups: Any, share: float, rng: Any) -> Any:
    """Draw the samples of a share of the groups, (n_samples,) bool.

    A group of everything in `has` (n_samples, n_labels) always stays, and fewer are drawn where that needs so many.
    """
    found, which = np.unique(groups, return_inverse=True)
    if len(found) < 2:
        raise ValueError("groups holds a single group; due are 2 or more, since calibration holds out whole ones.")
    of_group = np.stack([np.bincount(which, column) > 0 for column in has.T], axis=1)  # (n_groups, n_labels)
    n_with, held_out = of_group.sum(axis=0), np.zeros(len(found), dtype=bool)
    for group in rng.permutation(len(found)):
        if held_out.sum() < math.ceil(share * len(found)) and (n_with[of_group[group]] > 1).all():
            held_out[group] = True
            n_with -= of_group[group]
    if not held_out.any():
        only = labels[int(np.argmax(of_group[0] & (n_with == 1)))]
        raise ValueError(
            f"only group {found[:1].tolist()[0]!r} has {only}, each other group has something alone as well, and "
            "calibration holds out whole groups. Pass more groups, or a FrozenEstimator that was fitted on others."
        )
    return held_out[which]
