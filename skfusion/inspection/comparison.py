"""Does fusion help, and which kind: every single modality and every fusion on the same folds."""

import time
import warnings
from collections.abc import Mapping
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import ArrayLike
from scipy import stats
from sklearn.base import clone
from sklearn.metrics import check_scoring
from sklearn.utils import Bunch

from skfusion._targets import fit_with
from skfusion.inspection._shared import (
    check_confidence,
    check_options,
    folds_of,
    is_classification,
    model_alone,
    read_data,
    seed_of,
    warn_of_empty_samples,
    warn_of_failures,
    with_progress,
)
from skfusion.modalities import Modalities


def compare_fusions(
    X: Any,
    y: Any,
    cv: Any = 5,
    *,
    estimators: Mapping[str, Any] | None = None,
    single: Any = None,
    modalities: Any = None,
    groups: Any = None,
    scoring: Any = None,
    confidence: float = 0.95,
    error_score: Any = "raise",
    n_jobs: int | None = None,
    random_state: Any = None,
    verbose: int = 0,
) -> Bunch:
    """Cross-validate every single modality and every fusion on the very same folds.

    Each candidate is compared with the best single modality by the mean of the paired differences of their fold
    scores, with an interval that allows for the overlap of the training sets
    (see `corrected_resampled_interval`).

    Parameters
    ----------
    X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
        The samples. They are read once; the candidates get a `Modalities`.
    y : array-like of shape (n_samples,)
        The target: classes, or numbers. Whole numbers are classes, unless the estimators given are regressors.
    cv : int, splitter or iterable, default=5
        Folds. An integer is shuffled, seeded by `random_state`, stratified for classes, and keeps `groups` whole.
    estimators : dict of str to estimator, default=None
        The fusions: name to a classifier or regressor that takes `X`. None is "early", "joint" and "late", each the
        default of `FusionClassifier` or `FusionRegressor`.
    single : estimator, default=None
        What scores a modality alone; it is cloned for each and gets ``X.select([name])``. None is the default early
        pipeline, a linear model on the scaled values.
    modalities : dict or list, default=None
        How `X` is split, or which modalities to take.
    groups : array-like of shape (n_samples,), default=None
        Donors, patients and the like. No fold splits one, and candidates whose `fit` knows `groups` get those of their
        training samples, so that a validation split inside keeps them whole, too.
    scoring : str or callable, default=None
        One metric, where greater is better. None is accuracy for classes and R² for numbers.
    confidence : float, default=0.95
        Level of the intervals.
    error_score : "raise" or number, default="raise"
        The score of a fold in which a candidate fails; with a number, such as ``np.nan``, there is one warning a
        failing candidate.
    n_jobs : int or None, default=None
        All (candidate, fold) fits run in one flat `joblib.Parallel`.
    random_state : int, RandomState or None, default=None
        For the folds, where `cv` is an integer, and for the default estimators.
    verbose : int, default=0
        1 shows a progress bar.

    Returns
    -------
    Bunch
        table : DataFrame
            One row a candidate. `kind`, "single" or "fusion"; `mean` and `sd` of the fold scores; `fit_seconds` and
            `predict_seconds`, means over the folds, taken while `n_jobs` fits share the machine; `difference` to the
            best single modality, the mean over the folds, and its interval from `ci_low` to `ci_high`.
        scores : DataFrame of shape (n_splits, n_candidates)
            The score of each fold.
        best_single : str
            The modality with the best mean.
        n_splits : int
            How many folds there were.
        scoring : str or callable
            The metric.
        confidence : float
            As given.

    Raises
    ------
    TypeError
        Where a candidate is no estimator.
    ValueError
        Where a fusion has the name of a modality, a fold splits a group, or `X` is not as due (it names the modality).

    Notes
    -----
    The best single modality is chosen on the same folds on which it is then compared, which favours it: what fusion
    adds is, if anything, understated. The intervals are not widened for the number of candidates.

    A sample that lacks a modality has no part in the training of that modality alone, and is predicted from the prior
    there, as everywhere in skfusion; so all candidates are scored on all samples.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion import FusionClassifier
    >>> from skfusion.inspection import compare_fusions
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat([0, 1], 60)
    >>> X = {"labs": rng.normal(size=(120, 3)) + 2 * y[:, None], "ecg": rng.normal(size=(120, 2)) + y[:, None]}
    >>> result = compare_fusions(X, y, estimators={"early": FusionClassifier("early")}, random_state=0)
    >>> result.best_single
    'labs'
    >>> result.table[["kind", "mean", "difference"]].round(2)
                 kind  mean  difference
    candidate
    labs       single  0.91        0.00
    ecg        single  0.75       -0.16
    early      fusion  0.93        0.03
    """
    X, y, groups = read_data(X, y, groups, modalities, "compare_fusions(X, y, estimators={...})")
    random_state = seed_of(random_state)
    _check_estimators(estimators, single, X.names)
    check_options(scoring, confidence, error_score)
    classify = is_classification(y, [*(estimators or {}).values(), single])
    splits = folds_of(cv, y, groups, classify, random_state)
    if estimators is None:
        estimators = _default_fusions(classify, random_state)
    candidates = {
        **{
            name: _Candidate("single", model_alone(single, classify, random_state), X.select([name]))
            for name in X.names
        },
        **{name: _Candidate("fusion", estimator, X) for name, estimator in estimators.items()},
    }
    if scoring is None:
        scoring = "accuracy" if classify else "r2"
    scorer = check_scoring(candidates[X.names[0]].estimator, scoring)
    warn_of_empty_samples(X)

    # The fusions take longest: with them in front, no worker is left with a long fit at the end.
    tasks = [(name, fold) for name in reversed(candidates) for fold in range(len(splits))]
    fits = Parallel(n_jobs=n_jobs, batch_size=1, return_as="generator")(
        delayed(_fit_and_score)(name, candidates[name], y, splits[fold], fold, groups, scorer, error_score)
        for name, fold in tasks
    )
    found = dict(zip(tasks, with_progress(fits, len(tasks), verbose, "compare_fusions")))
    warn_of_failures(
        "candidate",
        {name: [found[name, fold].error for fold in range(len(splits))] for name in candidates},
    )
    kinds = pd.Series({name: candidate.kind for name, candidate in candidates.items()})
    table, scores, best_single = _summarise(found, kinds, splits, confidence)
    return Bunch(
        table=table,
        scores=scores,
        best_single=best_single,
        n_splits=len(splits),
        scoring=scoring,
        confidence=confidence,
    )


def corrected_resampled_interval(
    differences: ArrayLike, n_train: float, n_test: float, confidence: float = 0.95
) -> tuple[float, float]:
    r"""Interval of the mean of paired differences from cross-validation, by the corrected resampled t-test [1]_.

    The folds share training samples, so that the variance of their mean is more than :math:`s^2 / k`. It is estimated
    as :math:`(1/k + n_\text{test} / n_\text{train}) s^2`, and the interval is
    :math:`\bar d \pm t_{k-1} \sqrt{(1/k + n_\text{test} / n_\text{train}) s^2}`. With ``n_test=0`` it is Student's.

    Parameters
    ----------
    differences : array-like of shape (n_splits,)
        The difference of two scores in each fold.
    n_train, n_test : float
        Samples in the training and the test part of a fold, their mean where folds differ.
    confidence : float, default=0.95
        Level of the interval.

    Returns
    -------
    low, high : float
        Both NaN with fewer than two folds, or where a difference is NaN.

    References
    ----------
    .. [1] Nadeau and Bengio, "Inference for the generalization error", Machine Learning 52, 2003.

    Examples
    --------
    >>> from skfusion.inspection import corrected_resampled_interval
    >>> low, high = corrected_resampled_interval([0.02, 0.01, 0.03, 0.02, 0.02], n_train=80, n_test=20)
    >>> round(low, 4), round(high, 4)
    (0.0068, 0.0332)
    """
    d = np.asarray(differences, dtype=np.float64)  # (k,)
    if d.ndim != 1:
        raise ValueError(f"differences has shape {d.shape}; due is (n_splits,), one a fold.")
    if not n_train > 0 or not n_test >= 0:
        raise ValueError(f"n_train is {n_train} and n_test {n_test}; due are a positive number and one from 0 on.")
    check_confidence(confidence)
    if len(d) < 2 or np.isnan(d).any():
        return np.nan, np.nan
    error = np.sqrt((1 / len(d) + n_test / n_train) * d.var(ddof=1))
    reach = stats.t.ppf((1 + confidence) / 2, len(d) - 1) * error
    return float(d.mean() - reach), float(d.mean() + reach)


class _Candidate(NamedTuple):
    """A row of the table: an unfitted estimator and what it sees."""

    kind: str
    estimator: Any
    X: Modalities


class _Fit(NamedTuple):
    """What came of one candidate in one fold."""

    score: float
    fit_seconds: float
    predict_seconds: float
    error: str | None = None


def _check_estimators(estimators: Any, single: Any, names: list[str]) -> None:
    if estimators is not None and not isinstance(estimators, Mapping):
        raise TypeError(f"estimators is {estimators!r}; due is a dict of name to estimator, or None for the defaults.")
    named = {f"estimators[{name!r}]": estimator for name, estimator in (estimators or {}).items()}
    for where, estimator in {**named, **({} if single is None else {"single": single})}.items():
        if isinstance(estimator, type) or not (hasattr(estimator, "fit") and hasattr(estimator, "predict")):
            raise TypeError(
                f"{where} is {estimator!r}; due is a classifier or regressor that takes X, such as "
                "FusionClassifier('late')."
            )
    clash = [name for name in names if name in (("early", "joint", "late") if estimators is None else estimators)]
    if clash:
        raise ValueError(
            f"{clash[0]!r} names a modality and a fusion; rename the modality, or pass estimators with another name."
        )


def _default_fusions(classify: bool, seed: Any) -> dict[str, Any]:
    from skfusion import FusionClassifier, FusionRegressor

    Fusion = FusionClassifier if classify else FusionRegressor
    return {name: Fusion(name, random_state=seed) for name in ("early", "joint", "late")}


def _fit_and_score(
    name: str, candidate: _Candidate, y: Any, split: Any, fold: int, groups: Any, scorer: Any, error_score: Any
) -> _Fit:
    """Fit a candidate on the training part of a fold, and score it on the test part."""
    X, (train, test) = candidate.X, split
    # Rows with nothing present teach nothing; left in, each fit would warn of them.
    train = train[X.present[train].any(axis=1)]
    start = fitted = time.perf_counter()
    try:
        if not len(train):
            raise ValueError(f"no training sample of this fold has any of the modalities {X.names}.")
        estimator = clone(candidate.estimator)
        with warnings.catch_warnings():
            # Said once for the whole of X, when it was read.
            warnings.filterwarnings("ignore", message="single values are missing", category=UserWarning)
            start = time.perf_counter()
            fit_with(estimator, X[train], y[train], groups=None if groups is None else groups[train])
            fitted = time.perf_counter()
            score = float(scorer(estimator, X[test], y[test]))
    except Exception as error:
        if not isinstance(error_score, Real):
            error.add_note(f"raised by the candidate {name!r} in fold {fold}; error_score=np.nan would go on.")
            raise
        return _Fit(float(error_score), np.nan, np.nan, f"{type(error).__name__}: {error}")
    return _Fit(score, fitted - start, time.perf_counter() - fitted)


def _summarise(
    found: dict[tuple[str, int], _Fit], kinds: pd.Series, splits: Any, confidence: float
) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """Return the table, the scores (n_splits, n_candidates), and the best single modality."""
    folds = pd.RangeIndex(len(splits), name="fold")
    scores, fit_seconds, predict_seconds = (
        pd.DataFrame({name: [getattr(found[name, fold], field) for fold in folds] for name in kinds.index}, folds)
        for field in ("score", "fit_seconds", "predict_seconds")
    )
    means = scores.mean(skipna=False)
    alone = means[kinds == "single"]
    if alone.isna().all():
        raise ValueError(f"every single modality scores nan, so there is nothing to compare with: {list(alone.index)}.")
    best_single = str(alone.idxmax())
    differences = scores.sub(scores[best_single], axis=0)
    n_train, n_test = (float(np.mean([len(split[part]) for split in splits])) for part in (0, 1))
    intervals = [corrected_resampled_interval(differences[name], n_train, n_test, confidence) for name in kinds.index]
    table = pd.DataFrame(
        {
            "kind": kinds,
            "mean": means,
            "sd": scores.std(skipna=False),
            "fit_seconds": fit_seconds.mean(),
            "predict_seconds": predict_seconds.mean(),
            "difference": differences.mean(skipna=False),
            "ci_low": [low for low, _ in intervals],
            "ci_high": [high for _, high in intervals],
        }
    )
    return table.rename_axis("candidate"), scores.rename_axis(columns="candidate"), best_single
