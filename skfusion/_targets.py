"""Targets and weights: checked, encoded, and rows that cannot be learnt from left out."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn import config_context
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import has_fit_parameter

from skfusion._compat import check_sample_weight
from skfusion._warn import warn
from skfusion.modalities import Modalities, align
from skfusion.modalities.kinds import DATES

_SEARCHES = (GridSearchCV, RandomizedSearchCV)


class TrainingSet(NamedTuple):
    """What an estimator learns from: every row has a modality and a positive weight; `kept` are their positions."""

    X: Modalities
    y: Any
    sample_weight: Any
    groups: Any
    kept: Any


def training_set(
    estimator: Any,
    X: Modalities,
    y: Any,
    sample_weight: Any = None,
    groups: Any = None,
    *,
    numeric: bool,
    multi_output: bool = True,
) -> TrainingSet:
    """Check `y` (n_samples,) or (n_samples, n_outputs), weights and groups, and drop rows of no use.

    Rows of weight 0 go first, then those with no modality, with one warning.
    """
    if y is None:
        raise ValueError(f"{type(estimator).__name__} requires y to be passed, but the target y is None.")
    check_known(y, numeric=numeric)
    y = check_array(
        y,
        ensure_2d=False,
        dtype="numeric" if numeric else None,
        ensure_all_finite=True,
        input_name="y",
        estimator=estimator,
    )
    if not multi_output or (y.ndim == 2 and y.shape[1] == 1):
        y = column_or_1d(y, warn=True)
    if numeric and y.dtype.kind not in "fiu":
        y = y.astype(np.float64)
    if not numeric:
        check_classification_targets(y)
    check_consistent_length(X, y)
    align.check_same_order("sample_weight", X.sample_ids, sample_weight)
    groups = check_groups(groups, X)
    keep = np.ones(len(X), dtype=bool)
    if sample_weight is not None:
        sample_weight = check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        keep = sample_weight > 0
        if not keep.any():
            raise ValueError("sample_weight is 0 for every sample; due is at least one positive weight.")
    keep = drop_empty(X, keep)
    if not keep.all():
        X, y = X[keep], y[keep]
        sample_weight = None if sample_weight is None else sample_weight[keep]
        groups = None if groups is None else groups[keep]
    return TrainingSet(X, y, sample_weight, groups, np.flatnonzero(keep))


def check_known(y: Any, *, numeric: bool | None = None) -> None:
    """Raise where `y` is missing for a sample, holds dates, or mixes strings and others.

    Due are numbers or classes, or either, where `numeric` is None.
    """
    due = {True: "a number", False: "a class", None: "a number or class"}[numeric]
    if y is None:
        raise ValueError(f"y is None; due is {due} for each sample.")
    cells = y if hasattr(y, "__array__") else np.asarray(y, dtype=object)  # which leaves None and mixed types alone
    unknown = np.atleast_1d(pd.isna(cells))
    if unknown.any():
        n_unknown = int(unknown.reshape(len(unknown), -1).any(axis=1).sum())
        own = "" if numeric else ", or give them a class of their own, such as 'unknown'"
        raise ValueError(
            f"y is missing for {n_unknown} of {len(unknown)} samples; due is {due} for each. Leave these samples "
            f"out{own}."
        )
    cells = np.asarray(cells).ravel()
    found = pd.api.types.infer_dtype(cells, skipna=False)
    if found in DATES:
        make = {
            True: "numbers of it first, e.g. (dates - dates.min()) / np.timedelta64(1, 'D')",
            False: "classes of it first, e.g. pandas.cut(dates, 3, labels=False)",
        }
        hint = f"Make {', or '.join(make[one] for one in make if numeric in (one, None))} with dates = "
        hint = {
            "timedelta": "Make numbers of it first, e.g. pandas.to_timedelta(y) / np.timedelta64(1, 'D').",
            "period": f"{hint}pandas.PeriodIndex(y).to_timestamp().",
            "time": "Make numbers or classes of it first.",
        }.get(found.removesuffix("64"), f"{hint}pandas.to_datetime(y).")
        raise ValueError(f"y holds dates or times (dtype {cells.dtype}); due is {due} for each. {hint}")
    if found in ("mixed", "mixed-integer") and not numeric:
        types = set(map(type, cells))
        if len(types) > 1 and any(issubclass(each, str) for each in types):
            raise ValueError(
                f"y mixes {sorted(each.__name__ for each in types)}; due are classes of one type. Convert it, as by "
                "pandas.Series(y).astype(str)."
            )


def check_groups(groups: Any, X: Modalities) -> Any:
    """Return `groups`, one entry for each sample of `X`, as (n_samples,); None stays None."""
    if groups is None:
        return None
    align.check_same_order("groups", X.sample_ids, groups)
    if np.shape(groups) not in ((len(X),), (len(X), 1)):
        raise ValueError(f"groups has shape {np.shape(groups)}; due is ({len(X)},), one entry a sample.")
    return column_or_1d(groups)


def drop_empty(X: Modalities, keep: Any) -> Any:
    """Return `keep` (n_samples,) less the rows with no modality present; warn once with their number."""
    empty = keep & ~X.present.any(axis=1)
    if empty.any():
        if not (keep & ~empty).any():
            raise ValueError(f"no sample of X has any of the modalities {X.names}; there is nothing to learn from.")
        warn(f"{int(empty.sum())} of {len(X)} samples have no modality present; they are left out of training.")
    return keep & ~empty


def takes(estimator: Any, name: str) -> bool:
    """Whether `estimator`, the last step of a Pipeline, or what a search fits, is fitted with the metadata `name`.

    One that was told by ``set_fit_request`` does as it was told.
    """
    if isinstance(estimator, Pipeline):
        return takes(estimator.steps[-1][1], name)
    if isinstance(estimator, _SEARCHES):
        # Groups are for the splitter of a search; an integer as `cv` would only warn of them.
        return hasattr(estimator.cv, "split") if name == "groups" else takes(estimator.estimator, name)
    # TransformedTargetRegressor hands weights on to its regressor.
    last = getattr(estimator, "regressor", estimator)
    # What `set_fit_request` leaves; asking RidgeCV for its routing recurses where it holds a scorer of its own.
    told = getattr(getattr(getattr(last, "_metadata_request", None), "fit", None), "requests", {}).get(name)
    return told if isinstance(told, bool) else bool(has_fit_parameter(last, name))


def fit_with(estimator: Any, X: Any, y: Any, **metadata: Any) -> Any:
    """Fit with what of `metadata` is given and known to the estimator."""
    given = {name: value for name, value in metadata.items() if value is not None and takes(estimator, name)}
    # A part gets its metadata by name, whether or not the user routes those of the whole.
    with config_context(enable_metadata_routing=False):
        return estimator.fit(X, y, **{_keyword(estimator, name): value for name, value in given.items()})


def _keyword(estimator: Any, name: str) -> str:
    """Return what the metadata `name` is called in the `fit` of an estimator."""
    if isinstance(estimator, Pipeline):
        step, last = estimator.steps[-1]
        return f"{step}__{_keyword(last, name)}"
    if isinstance(estimator, _SEARCHES) and name != "groups":
        return _keyword(estimator.estimator, name)
    return name


def encode_classes(y: Any) -> tuple[Any, Any]:
    """Return the classes (a list of them for 2-D `y`) and `y` as indices into them."""
    if y.ndim == 1:
        return np.unique(y, return_inverse=True)
    classes, codes = zip(*(np.unique(y[:, k], return_inverse=True) for k in range(y.shape[1])))
    return list(classes), np.stack(codes, axis=1)


def class_prior(codes: Any, n_classes: int, sample_weight: Any = None) -> Any:
    """Weighted share of each class among `codes` (n_samples,)."""
    share = np.bincount(codes, weights=sample_weight, minlength=n_classes)
    return share / share.sum()
