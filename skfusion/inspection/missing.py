"""What happens when modalities go missing: scores over the rate, for every estimator on the same samples."""

import reprlib
import warnings
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy.integrate import trapezoid
from sklearn.base import clone
from sklearn.metrics import check_scoring
from sklearn.utils import Bunch, check_random_state, get_tags

from skfusion._replay import Listener, Replay
from skfusion._targets import fit_with
from skfusion.inspection._removal import Removal, check_removal
from skfusion.inspection._shared import (
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
from skfusion.inspection.comparison import corrected_resampled_interval
from skfusion.modalities import Modalities
from skfusion.modalities.patterns import by_pattern, name_pattern


def missing_modality_curve(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    rates: float | Sequence[float] | None = None,
    mechanism: str = "mcar",
    at: str = "predict",
    by: str | None = None,
    affected: Sequence[str] | None = None,
    single: Any = None,
    cv: Any = 5,
    groups: Any = None,
    scoring: Any = None,
    modalities: Any = None,
    confidence: float = 0.95,
    error_score: Any = "raise",
    n_jobs: int | None = None,
    random_state: Any = None,
    verbose: int = 0,
) -> Bunch:
    r"""Cross-validate while more and more modalities, or single values inside them, are missing.

    All estimators see the same folds and lack the same modalities, or values, of the same samples. What is missing at
    one rate is missing at every higher one as well.

    Parameters
    ----------
    estimator : estimator or dict of str to estimator
        A classifier or regressor that takes `X`, or several by name, of which the first is what the others are compared
        with.
    X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
        The samples. They are read once; the estimators get a `Modalities`. What is missing already stays missing.
    y : array-like of shape (n_samples,)
        The target: classes, or numbers. Whole numbers are classes, unless the estimators are regressors.
    rates : float or sequence of float, default=None
        Of the samples that have a modality, the shares that lose it; where single values go, the shares of the values
        of each column. None is 0, 0.3, 0.5 and 0.7, as far as they can be reached: a sample keeps at least one
        modality, so that of two at most half can go, and a row at least one of its values. Where much is missing
        already, the most that can go comes last.
    mechanism : {"mcar", "mar", "mnar", "block", "unseen", "values", "values_mnar"}, default="mcar"
        What decides who loses which modality (see `ampute`). `groups` are the blocks of ``"block"``. Under ``"values"``
        single values go instead, by chance, and under ``"values_mnar"`` the high ones first (see `ampute_values`).
        Every sample then keeps its modalities; texts and CSR have no values that could be missing, so that `affected`
        has to leave them out.
    at : {"predict", "fit", "both"}, default="predict"
        Where modalities go missing: in the test part of each fold, so that one fit serves all rates; in its training
        part; or in both.
    by : str, default=None
        The modality that decides under ``"mar"``; None is the first.
    affected : list of str, default=None
        The modalities that go missing, or whose values do; None is all.
    single : None, "auto" or estimator, default=None
        With an estimator, also score it on each modality alone, fitted on the training samples that have it; the test
        samples that lack it are predicted from the prior. The best of them by `area` joins the estimators. "auto" is
        the default early pipeline, a linear model on the scaled values.
    cv : int, splitter or iterable, default=5
        Folds. An integer is shuffled, seeded by `random_state`, stratified for classes, and keeps `groups` whole.
    groups : array-like of shape (n_samples,), default=None
        Donors, sites and the like. No fold splits one, and estimators whose `fit` knows `groups` get them.
    scoring : str or callable, default=None
        One metric, where greater is better. None is accuracy for classes and R² for numbers.
    modalities : dict or list, default=None
        How `X` is split, or which modalities to take.
    confidence : float, default=0.95
        Level of the intervals.
    error_score : "raise" or number, default="raise"
        The score of an estimator where it fails; with a number, such as ``np.nan``, there is one warning a failing
        estimator.
    n_jobs : int or None, default=None
        All fits run in one flat `joblib.Parallel`.
    random_state : int, RandomState or None, default=None
        For the folds, where `cv` is an integer, for what goes missing, and for the default of `single`.
    verbose : int, default=0
        1 shows a progress bar.

    Returns
    -------
    Bunch
        table : DataFrame
            One row an estimator and rate. `missing`, the share of what was there that did go missing where `at` says,
            test samples for "both": of all modalities of all samples, or of all their values; `mean` and `sd` of the
            fold scores; `difference` to the first estimator at the same rate, the mean over the folds, and its interval
            from `ci_low` to `ci_high` (see `corrected_resampled_interval`).
        scores : DataFrame
            One row an estimator, rate and fold, with its `score`.
        by_pattern : DataFrame
            One row an estimator, rate and missing pattern among the test samples. `pattern`, the modalities that are
            there; `n_samples`, test samples of that pattern in all folds; `score`, over the pooled predictions for
            them, NaN where the metric has none. Where single values go, the patterns are those of `X` at every rate.
        area : Series
            :math:`A_e`, the mean score of each estimator over the range of rates.
        relative_robustness, effective_robustness : Series
            :math:`R_e` and :math:`E_e` of each estimator, see Notes.
        best_single : str or None
            The modality that is best alone, where `single` asks for it. Its rows are called ``"<modality> alone"``.
        reached : Series
            By rate, the share that went missing in `X` of what may go. It stays behind the rate where samples lack
            modalities already, since one is kept; a warning says so.
        rates, mechanism, at, scoring, confidence, n_splits
            As used.

    Raises
    ------
    TypeError
        Where an estimator is none.
    ValueError
        Where a rate cannot be reached, a modality has no single values that could go, a fold splits a group, or `X` is
        not as due (it names the modality).

    Notes
    -----
    Let :math:`f_e(r)` be the mean score of estimator :math:`e` at rate :math:`r`, linear between the rates
    :math:`r_0 < \dots < r_K`, and :math:`b` the first estimator. After [1]_, relative robustness is the area under the
    curve, and effective robustness the area between the curve and that of the baseline, moved to the same start:

    .. math::

        R_e &= \int_{r_0}^{r_K} f_e(r) \, dr, \qquad A_e = R_e / (r_K - r_0) \\
        E_e &= \int_{r_0}^{r_K} \big( f_e(r) - \beta_e(r) \big) \, dr, \qquad
        \beta_e(r) = f_b(r) + f_e(r_0) - f_b(r_0)

    The first says how good an estimator is while modalities go missing, the second whether it loses less than the
    baseline, however good either is. In [1]_ the baseline is late fusion, noise takes the place of the rate, and values
    are then scaled to 0 to 1 over the methods compared; here they stay as they are. With a single rate, :math:`A_e` is
    the score there and the others are 0.

    The best single modality is chosen on the folds on which it is then shown, which favours it.

    References
    ----------
    .. [1] Liang et al., "MultiBench: Multiscale benchmarks for multimodal representation learning", NeurIPS Datasets
       and Benchmarks 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion import FusionClassifier
    >>> from skfusion.inspection import missing_modality_curve
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat([0, 1], 60)
    >>> X = {"labs": rng.normal(size=(120, 3)) + 2 * y[:, None], "ecg": rng.normal(size=(120, 2)) + y[:, None]}
    >>> result = missing_modality_curve({"early": FusionClassifier("early")}, X, y, single="auto", random_state=0)
    >>> result.table.pivot(index="rate", columns="estimator", values="mean").round(2)
    estimator  early  labs alone
    rate
    0.0         0.93        0.91
    0.3         0.88        0.79
    0.5         0.85        0.69
    """
    X, y, groups = read_data(X, y, groups, modalities, "missing_modality_curve(estimator, X, y)")
    random_state = seed_of(random_state)
    estimators = _named(estimator)
    check_options(scoring, confidence, error_score)
    _check_names(estimators, single, X.names)
    rates, removal, reached = check_removal(X, rates, mechanism, at, by, affected, groups)
    classify = is_classification(y, [*estimators.values(), None if isinstance(single, str) else single])
    splits = folds_of(cv, y, groups, classify, random_state)
    seeds = check_random_state(random_state).randint(np.iinfo(np.int32).max, size=(len(splits), 2))
    folds = [_Fold(*split, *map(int, pair)) for split, pair in zip(splits, seeds)]
    candidates = {name: _Candidate(each, None) for name, each in estimators.items()}
    if single is not None:
        alone = model_alone(None if isinstance(single, str) else single, classify, random_state)
        candidates |= {_alone(name): _Candidate(alone, name) for name in X.names}
    if scoring is None:
        scoring = "accuracy" if classify else "r2"
    scorer = check_scoring(next(iter(estimators.values())), scoring)
    warn_of_empty_samples(X)

    # One fit serves all rates where training samples keep what they have.
    of_a_fit = [rates] if at == "predict" else [(rate,) for rate in rates]
    tasks = [(name, fold, some) for name in candidates for fold in range(len(folds)) for some in of_a_fit]
    fits = Parallel(n_jobs=n_jobs, batch_size=1, return_as="generator")(
        delayed(_fit_and_score)(name, candidates[name], X, y, groups, folds[fold], removal, some, scorer, error_score)
        for name, fold, some in tasks
    )
    found = {
        (name, rate, fold): point
        for (name, fold, some), points in zip(tasks, with_progress(fits, len(tasks), verbose, "missing_modality_curve"))
        for rate, point in zip(some, points)
    }
    warn_of_failures("estimator", _errors(found, list(candidates), len(folds)))
    best_single = _best_single(found, X.names) if single is not None else None
    shown = [*estimators, *([] if best_single is None else [_alone(best_single)])]
    found = {key: point for key, point in found.items() if key[0] in shown}
    scores = pd.DataFrame([(*key, point.score) for key, point in found.items()], columns=[*_KEYS, "fold", "score"])
    means = _means(scores, shown)
    return Bunch(
        table=_table(found, scores, shown, splits, confidence),
        scores=scores,
        by_pattern=_by_pattern(found, y, folds, X.names, scorer),
        area=_area(means),
        relative_robustness=_integral(means),
        effective_robustness=_effective_robustness(means),
        best_single=best_single,
        rates=rates,
        reached=reached,
        mechanism=mechanism,
        at=at,
        scoring=scoring,
        confidence=confidence,
        n_splits=len(folds),
    )


_KEYS = ["estimator", "rate"]


class _Candidate(NamedTuple):
    """An unfitted estimator, and the one modality that it sees, or None for all."""

    estimator: Any
    alone: str | None


class _Fold(NamedTuple):
    """Rows of a fold, and the seeds of what goes missing there: the same for all estimators and rates."""

    train: Any
    test: Any
    seed_train: int
    seed_test: int


class _Point(NamedTuple):
    """What came of one estimator at one rate in one fold."""

    score: float
    missing: float
    """The share of what was there that went missing."""
    present: Any
    """Who of the test samples has what (n_test, M)."""
    responses: dict[str, Any]
    """What the scorer asked for, of all test samples."""
    fitted: dict[str, Any]
    """The classes and tags of the fitted estimator, which a scorer may ask for."""
    error: str | None = None


def _named(estimator: Any) -> dict[str, Any]:
    if isinstance(estimator, Mapping):
        if not estimator:
            raise ValueError("estimator is an empty dict; due is at least one estimator by name.")
        return dict(estimator)
    return {type(estimator).__name__: estimator}


def _check_names(estimators: Mapping[str, Any], single: Any, names: list[str]) -> None:
    given = {f"estimator[{name!r}]" if len(estimators) > 1 else "estimator": e for name, e in estimators.items()}
    if single is not None and single != "auto":
        given["single"] = single
    for where, each in given.items():
        if isinstance(each, type) or not (hasattr(each, "fit") and hasattr(each, "predict")):
            due = " ('auto' is the default one)" if where == "single" else ""
            raise TypeError(
                f"{where} is {reprlib.repr(each)}; due is a classifier or regressor that takes X, such as "
                f"FusionClassifier('late'){due}."
            )
    clash = [_alone(name) for name in names if single is not None and _alone(name) in estimators]
    if clash:
        raise ValueError(f"estimator has the name {clash[0]!r}, which `single` needs; rename it.")


def _fit_and_score(
    name: str,
    candidate: _Candidate,
    X: Modalities,
    y: Any,
    groups: Any,
    fold: _Fold,
    removal: Removal,
    rates: Sequence[float],
    scorer: Any,
    error_score: Any,
) -> list[_Point]:
    """Fit on the training part of a fold, and score on its test part at each of `rates`."""
    points = []
    tests = [_part(X, fold.test, rate, fold.seed_test, groups, removal, "fit") for rate in rates]
    train, of_train = _part(X, fold.train, rates[0], fold.seed_train, groups, removal, "predict")
    shares = [of_train if removal.at == "fit" else of_test for _, of_test in tests]
    error: Exception | None = None
    try:
        estimator = _fit(candidate, train, y[fold.train], None if groups is None else groups[fold.train])
    except Exception as failure:
        error = failure
    for rate, (test, _), missing in zip(rates, tests, shares):
        try:
            if error is not None:
                raise error
            points.append(_score(estimator, candidate, test, y[fold.test], missing, scorer))
        except Exception as failure:
            if not isinstance(error_score, Real):
                failure.add_note(f"raised by the estimator {name!r} at rate {rate:g}; error_score=np.nan would go on.")
                raise
            said = f"{type(failure).__name__}: {failure}"
            points.append(_Point(float(error_score), missing, test.present, {}, {}, said))
    return points


def _part(
    X: Modalities, rows: Any, rate: float, seed: int, groups: Any, removal: Removal, spared_at: str
) -> tuple[Modalities, float]:
    """Return rows of `X` less what goes missing, and the share that went; nothing goes where `spared_at` says so."""
    part = X[rows]
    if removal.at == spared_at:
        return part, 0.0
    left = removal.apply(part, rate, seed, None if groups is None else groups[rows])
    before = removal.count(part)
    return left, 1 - removal.count(left) / before if before else 0.0


def _seen(candidate: _Candidate, X: Modalities) -> Modalities:
    return X if candidate.alone is None else X.select([candidate.alone])


def _fit(candidate: _Candidate, X: Modalities, y: Any, groups: Any) -> Any:
    X = _seen(candidate, X)
    # Rows with nothing present teach nothing; left in, each fit would warn of them.
    rows = np.flatnonzero(X.present.any(axis=1))
    if not len(rows):
        raise ValueError(f"no training sample of this fold has any of the modalities {X.names}.")
    with warnings.catch_warnings():
        # Said once for the whole of X, when it was read.
        warnings.filterwarnings("ignore", message="single values are missing", category=UserWarning)
        estimator = clone(candidate.estimator)
        fit_with(estimator, X[rows], y[rows], groups=None if groups is None else groups[rows])
    return estimator


def _score(estimator: Any, candidate: _Candidate, test: Modalities, y: Any, missing: float, scorer: Any) -> _Point:
    listener = Listener(estimator)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="single values are missing", category=UserWarning)
        score = float(scorer(listener, _seen(candidate, test), y))
    fitted = {"classes": getattr(estimator, "classes_", None), "tags": get_tags(estimator)}
    return _Point(score, missing, test.present, listener.responses, fitted)


def _errors(found: Mapping[Any, _Point], names: list[str], n_folds: int) -> dict[str, list[str | None]]:
    """Return the first error in each fold of each estimator."""
    errors: dict[str, list[str | None]] = {name: [None] * n_folds for name in names}
    for (name, _, fold), point in found.items():
        errors[name][fold] = errors[name][fold] or point.error
    return errors


def _alone(modality: str) -> str:
    return f"{modality} alone"


def _best_single(found: Mapping[Any, _Point], names: list[str]) -> str | None:
    scores = pd.DataFrame([(*key, point.score) for key, point in found.items()], columns=[*_KEYS, "fold", "score"])
    areas = _area(_means(scores, [_alone(name) for name in names])).to_numpy()
    return None if np.isnan(areas).all() else names[int(np.nanargmax(areas))]


def _means(scores: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Return the mean over the folds (n_rates, n_estimators); NaN where a fold is."""
    by_fold: Any = scores.pivot(index="fold", columns=_KEYS, values="score")
    return by_fold.mean(skipna=False).unstack("estimator")[names]


def _integral(curves: pd.DataFrame) -> pd.Series:
    """Return the area under each column over its index."""
    return pd.Series(trapezoid(curves.to_numpy(), curves.index.to_numpy(), axis=0), curves.columns)


def _area(means: pd.DataFrame) -> pd.Series:
    width = means.index[-1] - means.index[0]
    return _integral(means) / width if width else means.iloc[0].rename(None)


def _effective_robustness(means: pd.DataFrame) -> pd.Series:
    lost = means - means.iloc[0]
    return _integral(lost.sub(lost.iloc[:, 0], axis=0))


def _table(
    found: Mapping[Any, _Point], scores: pd.DataFrame, names: list[str], splits: Any, confidence: float
) -> pd.DataFrame:
    n_train, n_test = (float(np.mean([len(split[part]) for split in splits])) for part in (0, 1))
    by_fold: Any = scores.pivot(index="fold", columns=_KEYS, values="score")
    rows = []
    for name in names:
        for rate in by_fold[name].columns:
            own = by_fold[name, rate]
            difference = own - by_fold[names[0], rate]
            low, high = corrected_resampled_interval(difference, n_train, n_test, confidence)
            rows.append(
                {
                    "estimator": name,
                    "rate": rate,
                    "missing": np.mean([found[name, rate, fold].missing for fold in by_fold.index]),
                    "mean": own.mean(skipna=False),
                    "sd": own.std(skipna=False),
                    "difference": difference.mean(skipna=False),
                    "ci_low": low,
                    "ci_high": high,
                }
            )
    return pd.DataFrame(rows)


def _by_pattern(found: Mapping[Any, _Point], y: Any, folds: list[_Fold], names: list[str], scorer: Any) -> pd.DataFrame:
    target = np.concatenate([y[fold.test] for fold in folds])
    rows = []
    for name, rate in dict.fromkeys(key[:2] for key in found):
        points = [found[name, rate, fold] for fold in range(len(folds))]
        replay = _pooled(points)
        for pattern, members in patterns_of(np.concatenate([point.present for point in points]), names).items():
            score = np.nan if replay is None else replay.score(scorer, members, target[members])
            rows.append((name, rate, pattern, len(members), score))
    return pd.DataFrame(rows, columns=[*_KEYS, "pattern", "n_samples", "score"])


def patterns_of(present: Any, names: list[str]) -> dict[str, Any]:
    """Return the rows of each missing pattern in `present` (n, M) by its name; most modalities first."""
    groups = sorted(by_pattern(present), key=lambda group: (sum(group[0]), group[0]), reverse=True)
    return {name_pattern(pattern, names): rows for pattern, rows in groups}


def _pooled(points: list[_Point]) -> Replay | None:
    """Put together what was predicted in all folds; None where one failed, or its classes mean other columns."""
    first = points[0]
    same = [
        point.error is None
        and point.responses.keys() == first.responses.keys()
        and np.array_equal(point.fitted["classes"], first.fitted["classes"])
        for point in points
    ]
    if not all(same) or not first.responses:
        return None
    responses = {name: np.concatenate([point.responses[name] for point in points]) for name in first.responses}
    return Replay(responses, **first.fitted)
