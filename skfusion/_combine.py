"""How late fusion puts base predictions together: averages over those present, and the features of a learned one."""

from typing import Any

import numpy as np
from scipy.optimize import nnls

AVERAGES = ("mean", "weighted", "vote", "product")


def combine(method: str, predictions: Any, weights: Any) -> Any:
    """Combine predictions (n_bases, n_samples, n_outputs), NaN where a base has none, to (n_samples, n_outputs).

    "mean" and "weighted" average, "vote" counts most probable classes, "product" multiplies and normalises. A sample
    without any prediction comes out as NaN.
    """
    there = ~np.isnan(predictions[:, :, :1])  # (bases, n, 1)
    if method == "vote":
        winners = np.nan_to_num(predictions, nan=-1).argmax(axis=2)[:, :, None] == np.arange(predictions.shape[2])
        predictions = winners.astype(np.float64)
    if method == "product":
        logs = np.where(there, np.log(np.maximum(predictions, np.finfo(np.float64).tiny)), 0).sum(axis=0)
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


def fit_weights(method: str, predictions: Any, target: Any, sample_weight: Any = None) -> Any:
    """Weights of the bases that add up to 1: equal, or by non-negative least squares on out-of-fold predictions.

    `predictions` (n_bases, n_samples, n_outputs) and `target` (n_samples, n_outputs).
    """
    n_bases = len(predictions)
    equal = np.full(n_bases, 1 / n_bases)
    if method != "weighted":
        return equal
    # A base that has no prediction says what the target is on average.
    filled = np.where(np.isnan(predictions), target.mean(axis=0), predictions)
    scale = 1.0 if sample_weight is None else np.sqrt(sample_weight)[:, None]
    weights, _ = nnls((filled * scale).reshape(n_bases, -1).T, (target * scale).ravel())
    return weights / weights.sum() if weights.sum() > 0 else equal
