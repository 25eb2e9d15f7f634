"""Probabilities of base estimators, calibrated on predictions for samples that they had not seen."""

from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

CALIBRATIONS = ("sigmoid", "isotonic", "temperature")
_LEAST = 1e-6
_LOG_TEMPERATURES = (-4.0, 4.0)


class Recalibration:
    """Maps a base's predictions to probabilities of all classes.

    Parameters
    ----------
    method : {"sigmoid", "isotonic", "temperature"}
        Logistic or isotonic regression of each class against the others, normalised, or softmax over one temperature.
    is_margin : bool
        Whether the predictions are margins, of which binary ones have one column, and no probabilities.
    """

    def __init__(self, method: str, is_margin: bool) -> None:
        self.method, self.is_margin = method, is_margin

    def fit(self, predictions: Any, codes: Any, n_classes: int, sample_weight: Any = None) -> "Recalibration":
        """Learn from predictions (n_samples, n_columns) and the classes `codes` (n_samples,)."""
        scores = self._scores(predictions)  # (n, n_classes)
        if self.method == "temperature":
            # The temperature that makes the truth most likely; in logarithms, since it is a scale.
            def loss(log_temperature: float) -> float:
                logs = log_softmax(scores / np.exp(log_temperature), axis=1)
                return -float(np.average(logs[np.arange(len(codes)), codes], weights=sample_weight))

            self.temperature_ = np.exp(minimize_scalar(loss, bounds=_LOG_TEMPERATURES, method="bounded").x)
            return self
        # For two classes, the second says it all.
        columns = [1] if n_classes == 2 else range(n_classes)
        self.maps_ = {k: self._fit_one(scores[:, k], codes == k, sample_weight) for k in columns}
        return self

    def transform(self, predictions: Any) -> Any:
        """Return probabilities (n_samples, n_classes); NaN where the predictions are."""
        out = np.full((len(predictions), 2 if predictions.shape[1] == 1 else predictions.shape[1]), np.nan)
        there = ~np.isnan(predictions[:, 0])
        if not there.any():
            return out
        scores = self._scores(predictions[there])
        if self.method == "temperature":
            out[there] = softmax(scores / self.temperature_, axis=1)
            return out
        found = np.stack([self._apply_one(found, scores[:, k]) for k, found in self.maps_.items()], axis=1)
        if list(self.maps_) == [1]:
            out[there] = np.hstack([1 - found, found])
            return out
        total = found.sum(axis=1, keepdims=True)
        out[there] = np.divide(found, total, out=np.full_like(found, 1 / found.shape[1]), where=total > 0)
        return out

    def _scores(self, predictions: Any) -> Any:
        """Return what is mapped, a column a class: margins, or log-odds (logarithms under "temperature")."""
        if self.is_margin:
            # Softmax over (-m/2, m/2) is the logistic function of m.
            return np.hstack([-predictions / 2, predictions / 2]) if predictions.shape[1] == 1 else predictions
        probabilities = np.clip(predictions, _LEAST, 1 - _LEAST)
        logs = np.log(probabilities)
        return logs if self.method == "temperature" else logs - np.log1p(-probabilities)

    def _fit_one(self, scores: Any, is_class: Any, sample_weight: Any) -> Any:
        if is_class.all() or not is_class.any():
            return float(is_class[0])  # nothing can be learnt but to say so
        if self.method == "isotonic":
            return IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(scores, is_class, sample_weight)
        return LogisticRegression(C=1e6).fit(scores[:, None], is_class, sample_weight)

    def _apply_one(self, found: Any, scores: Any) -> Any:
        if isinstance(found, float):
            return np.full(len(scores), found)
        if isinstance(found, IsotonicRegression):
            return found.predict(scores)
        return found.predict_proba(scores[:, None])[:, 1]


def recalibrate(
    predictions: Any, codes: Any, folds: Any, method: str, is_margin: bool, n_classes: int, sample_weight: Any
) -> tuple[Any, Recalibration]:
    """Calibrate out-of-fold predictions (n_samples, n_columns), each fold by the others, so that no label leaks.

    `folds` (n_samples,) numbers the test part of each sample; samples without prediction have none. The second value
    is what calibrates predictions for new samples.
    """

    def learn(rows: Any) -> Recalibration:
        weights = None if sample_weight is None else sample_weight[rows]
        return Recalibration(method, is_margin).fit(predictions[rows], codes[rows], n_classes, weights)

    there = np.flatnonzero(~np.isnan(predictions[:, 0]))
    whole = learn(there)
    out = np.full((len(predictions), n_classes), np.nan)
    for fold in np.unique(folds[there]):
        others = there[folds[there] != fold]
        own = there[folds[there] == fold]
        # A modality that one fold alone has leaves nothing to learn from but itself.
        out[own] = (learn(others) if len(others) else whole).transform(predictions[own])
    return out, whole
