"""Ensemble selection: which predictions to average, and how often each, by climbing a score."""

from collections.abc import Callable
from typing import Any

import numpy as np

_FEWEST_IN_A_BAG = 4


def hill_climb(
    predictions: Any,
    score: Callable[[Any], Any],
    fallback: Any,
    *,
    n_steps: int = 50,
    n_bags: int = 20,
    share: float = 0.5,
    seed: int = 0,
) -> Any:
    """Weights of the bases by forward selection with replacement [1]_, which add up to 1.

    Each step adds the base, chosen before or not, with which the average scores best, and the best average on the way
    counts. Averages over bags, each of a random part of the bases, overfit less than one selection.

    Parameters
    ----------
    predictions : ndarray (n_bases, n_samples, n_outputs)
        Out-of-fold predictions; NaN where a base has none.
    score : callable
        Averages (n_candidates, n_samples, n_outputs) to scores (n_candidates,), the greater the better.
    fallback : ndarray (n_outputs,)
        What is predicted where none of the bases chosen so far has a prediction.
    n_steps : int, default=50
        How many bases an average holds at most, each as often as it was chosen.
    n_bags : int, default=20
        How many selections are averaged.
    share : float, default=0.5
        Part of the bases in a bag; never fewer than 4, nor more than there are.
    seed : int, default=0
        Of the bags.

    Returns
    -------
    ndarray (n_bases,)
        The weights.

    References
    ----------
    .. [1] Caruana, Niculescu-Mizil, Crew and Ksikes, "Ensemble selection from libraries of models", ICML 2004.
    """
    n_bases = len(predictions)
    size = min(n_bases, max(int(np.ceil(share * n_bases)), _FEWEST_IN_A_BAG))
    rng = np.random.default_rng(seed)
    # Bags of everything would all be the same.
    bags = [np.sort(rng.permutation(n_bases)[:size]) for _ in range(n_bags if size < n_bases else 1)]
    weights = np.zeros(n_bases)
    for bag in bags:
        weights[bag] += _climb(predictions[bag], score, fallback, n_steps)
    return weights / len(bags)


def _climb(predictions: Any, score: Callable[[Any], Any], fallback: Any, n_steps: int) -> Any:
    """Weights of one selection over all of `predictions`."""
    there = ~np.isnan(predictions[:, :, :1])  # (bases, n, 1)
    values = np.where(there, predictions, 0.0)
    total, count = np.zeros(values.shape[1:]), np.zeros(there.shape[1:])
    chosen, best = np.zeros(len(values)), (-np.inf, np.zeros(len(values)))
    for _ in range(n_steps):
        counts = count + there  # (bases, n, 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            averages = np.where(counts > 0, (total + values) / counts, fallback)
        scores = np.asarray(score(averages))
        winner = int(scores.argmax())
        total, count = total + values[winner], count + there[winner]
        chosen[winner] += 1
        if scores[winner] > best[0]:
            best = scores[winner], chosen / chosen.sum()
    return best[1]


def negative_squared_error(target: Any, sample_weight: Any = None) -> Callable[[Any], Any]:
    """Score averages against `target` (n_samples, n_outputs); of probabilities, it is the Brier score."""

    def score(averages: Any) -> Any:
        of_samples = np.square(averages - target).sum(axis=2)  # (candidates, n)
        return -np.average(of_samples, axis=1, weights=sample_weight)

    return score


def accuracy(target: Any, sample_weight: Any = None) -> Callable[[Any], Any]:
    """Score averages by accuracy against a one-hot `target`, less a thousandth of the squared error, which splits ties.

    The squared error alone favours few bases that are sure over many that are right: an average is less sure.
    """
    codes, squared = target.argmax(axis=1), negative_squared_error(target, sample_weight)

    def score(averages: Any) -> Any:
        right = averages.argmax(axis=2) == codes  # (candidates, n)
        return np.average(right, axis=1, weights=sample_weight) + 1e-3 * squared(averages)

    return score
