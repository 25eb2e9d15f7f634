"""The estimator that a wrapper was given: an instance, and fitted where it is frozen."""

from typing import Any

from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted


def unfrozen(estimator: Any) -> Any:
    """Return what a FrozenEstimator holds, anything else as it is."""
    return estimator.estimator if isinstance(estimator, FrozenEstimator) else estimator


def has_tags(estimator: Any) -> bool:
    """Whether scikit-learn can tell what kind of estimator this is; one that inherits nothing may have none."""
    return hasattr(unfrozen(estimator), "__sklearn_tags__")


def check_wrapped(estimator: Any) -> None:
    """Raise where the parameter `estimator` is a class, or a FrozenEstimator of one that was never fitted."""
    inner = unfrozen(estimator)
    if isinstance(inner, type):
        raise TypeError(f"estimator is the class {inner.__name__}; due is an instance, such as {inner.__name__}().")
    if inner is estimator or not has_tags(inner):
        return
    try:
        check_is_fitted(inner)
    except NotFittedError as error:
        raise NotFittedError(
            f"estimator is a FrozenEstimator of a {type(inner).__name__} that is not fitted. Fit that first, on other "
            "samples than these; or pass it as it is, and it is fitted here."
        ) from error
