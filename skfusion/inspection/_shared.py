"""What the comparisons share: samples read once, folds, a fit that knows groups, and warnings that are said once."""

import warnings
from collections.abc import Iterator, Mapping
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np
from sklearn.base import is_classifier, is_regressor
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    StratifiedGroupKFold,
    StratifiedKFold,
    check_cv,
)
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils.multiclass import type_of_target

from skfusion._targets import check_groups, check_known
from skfusion.modalities import Modalities, check_modalities
from skfusion.modalities.check import Reader

Fit = TypeVar("Fit")


def read_data(X: Any, y: Any, groups: Any, modalities: Any, call: str) -> tuple[Modalities, Any, Any]:
    """Read and check samples, target and groups, once for all candidates; `call` shows the order of arguments."""
    kinds = {"X": _looks_like(X), "y": _looks_like(y)}
    # A vector may be a modality by itself, which is read below.
    if kinds["X"] == "one value a sample" and kinds["y"] in (None, "one value a sample"):
        kinds["X"] = None
    for name, value, due in (("X", X, "samples"), ("y", y, "one value a sample")):
        found = kinds[name]
        if found not in (None, due):
            shape = f" of shape {np.shape(value)}" if found == "one value a sample" else ""
            raise TypeError(
                f"{name} is {found} ({type(value).__name__}{shape}), where {due} would be due: arguments look "
                f"swapped. The call is {call}."
            )
    X = check_modalities(Reader(modalities), X, y, reset=True)
    check_known(y)
    y = check_array(y, ensure_2d=False, dtype=None, input_name="y")
    check_consistent_length(X, y)
    return X, y, check_groups(groups, X)


def _looks_like(value: Any) -> str | None:
    """Return what a value is beyond doubt."""
    parts = list(value.values()) if isinstance(value, Mapping) else [value]
    if any(hasattr(type(part), "fit") for part in parts):
        return "an estimator"
    if isinstance(value, (Mapping, Modalities)):
        return "samples"
    is_list = isinstance(value, (list, tuple)) and len(value) > 0 and np.ndim(value[0]) == 0
    return "one value a sample" if is_list or getattr(value, "ndim", None) == 1 else None


def seed_of(random_state: Any) -> Any:
    """Draw an integer from a RandomState, so that everything that gets it draws the same."""
    if isinstance(random_state, np.random.RandomState):
        return random_state.randint(np.iinfo(np.int32).max)
    return random_state


def check_options(scoring: Any, confidence: float, error_score: Any) -> None:
    """Check what compare functions have in common."""
    if scoring is not None and not isinstance(scoring, str) and not callable(scoring):
        raise ValueError(f"scoring is {scoring!r}; due is one metric, the name of a scorer or a callable.")
    if error_score != "raise" and not isinstance(error_score, Real):
        raise ValueError(f"error_score is {error_score!r}; due is 'raise' or a number, such as np.nan.")
    check_confidence(confidence)


def check_confidence(confidence: float) -> None:
    """Check the level of an interval."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; due is a number between 0 and 1, such as 0.95.")


def is_classification(y: Any, given: list[Any]) -> bool:
    """Whether the candidates classify: as the given ones do, since whole numbers may be classes or amounts."""
    if any(estimator is not None and is_regressor(estimator) for estimator in given):
        return False
    if any(estimator is not None and is_classifier(estimator) for estimator in given):
        return True
    return type_of_target(y, input_name="y") in ("binary", "multiclass")


def folds_of(cv: Any, y: Any, groups: Any, classify: bool, seed: Any) -> list[tuple[Any, Any]]:
    """Return the (train, test) rows of each fold."""
    if isinstance(cv, Integral) and (isinstance(cv, bool) or cv < 2):
        raise ValueError(f"cv is {cv!r}; due are at least 2 folds, a splitter, or an iterable of (train, test) rows.")
    if cv is None or isinstance(cv, Integral):
        whole = (StratifiedGroupKFold if classify else GroupKFold) if groups is not None else None
        splitter = (whole or (StratifiedKFold if classify else KFold))(5 if cv is None else cv, shuffle=True)
        splitter.random_state = seed
    else:
        splitter = check_cv(cv, y, classifier=classify)
    with warnings.catch_warnings():
        # Whether groups stay whole is looked at below, whatever the splitter knows of them.
        warnings.filterwarnings("ignore", message="The groups parameter is ignored", category=UserWarning)
        splits = list(splitter.split(np.zeros((len(y), 1)), y, groups))
    if not splits or any(np.ndim(rows) != 1 or not len(rows) for split in splits for rows in split):
        raise ValueError(
            f"cv is {cv!r}, which gives no folds, or one without rows; due are a number of folds, a splitter, or an "
            "iterable of (train, test), each an array of rows."
        )
    for fold, (train, test) in enumerate(splits if groups is not None else ()):
        torn = np.intersect1d(groups[train], groups[test]).tolist()
        if torn:
            raise ValueError(
                f"cv puts samples of the group {torn[0]!r} into both parts of fold {fold}. Use a splitter that "
                "keeps groups whole, such as GroupKFold, or an integer."
            )
    return splits


def model_alone(single: Any, classify: bool, seed: Any) -> Any:
    """Return what scores a modality alone: `single`, or the default."""
    from skfusion import FusionClassifier, FusionRegressor

    if single is not None:
        return single
    return (FusionClassifier if classify else FusionRegressor)("early", random_state=seed)


def with_progress(fits: Iterator[Fit], total: int, verbose: int, name: str) -> Iterator[Fit]:
    """Show a bar called `name` while `fits` come in, where `verbose` asks for it."""
    if not verbose:
        return fits
    from tqdm.auto import tqdm

    return iter(tqdm(fits, total=total, desc=name, unit="fit", leave=False))


def warn_of_empty_samples(X: Modalities) -> None:
    """Say once how many samples have nothing."""
    empty = int((~X.present.any(axis=1)).sum())
    if empty:
        warnings.warn(
            f"{empty} of {len(X)} samples have no modality present; they are left out of training, and predicted from "
            "the prior.",
            UserWarning,
            stacklevel=3,
        )


def warn_of_failures(kind: str, errors: Mapping[str, list[str | None]]) -> None:
    """Say once for each name in how many of its folds it failed; None is a fold that went well."""
    for name, of_folds in errors.items():
        failed = [error for error in of_folds if error is not None]
        if failed:
            warnings.warn(
                f"the {kind} {name!r} failed in {len(failed)} of {len(of_folds)} folds, which get error_score. The "
                f"first error was {failed[0]}",
                FitFailedWarning,
                stacklevel=3,
            )
