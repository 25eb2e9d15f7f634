"""Scoring what was predicted before: a scorer asks an estimator, and an estimator can be played by its predictions."""

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

_RESPONSES = ("predict", "predict_proba", "decision_function")


class Listener:
    """An estimator to a scorer; keeps what it predicts."""

    def __init__(self, estimator: Any) -> None:
        self._estimator = estimator
        self.responses: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._estimator, name)
        if name not in _RESPONSES:
            return found

        @functools.wraps(found)
        def keeping(*args: Any, **kwargs: Any) -> Any:
            self.responses[name] = found(*args, **kwargs)
            return self.responses[name]

        return keeping


class Replay:
    """An estimator to a scorer; "predicts" row numbers from what was predicted before."""

    def __init__(self, responses: Mapping[str, Any], classes: Any, tags: Any) -> None:
        self._responses = responses
        self._tags = tags
        if classes is not None:
            self.classes_ = classes

    def __sklearn_tags__(self) -> Any:
        return self._tags

    def __getattr__(self, name: str) -> Callable[[Any], Any]:
        if name.startswith("_") or name not in self._responses:
            raise AttributeError(name)

        def replayed(rows: Any) -> Any:
            return self._responses[name][rows]

        replayed.__name__ = name
        return replayed

    def score(self, scorer: Any, rows: Any, y: Any) -> float:
        """Return what `scorer` says of the samples `rows`, or NaN where it says nothing."""
        try:
            with warnings.catch_warnings():
                # A few samples of one class, say, have no ROC AUC.
                warnings.simplefilter("ignore")
                return float(scorer(self, rows, y))
        except Exception:
            return np.nan
