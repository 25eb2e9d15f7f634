"""Which modality deserves the credit, which pairs need each other, and whether a modality is worth its cost."""

from collections.abc import Mapping
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.metrics import check_scoring
from sklearn.utils import Bunch, check_random_state

from skfusion._targets import fit_with
from skfusion.inspection._shared import (
    check_options,
    folds_of,
    is_classification,
    read_data,
    seed_of,
    warn_of_empty_samples,
)
from skfusion.inspection._values import (
    Subset,
    last_interaction,
    sampled_shapley_values,
    shapley_interaction,
    shapley_values,
)
from skfusion.inspection.comparison import corrected_resampled_interval
from skfusion.modalities import Modalities
from skfusion.modalities.kinds import take

METHODS = ("shapley", "ablation", "permutation", "retrain")
_EXACT_UP_TO = 8


def modality_importance(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    method: str = "permutation",
    cv: Any = 5,
    n_repeats: int = 10,
    groups: Any = None,
    scoring: Any = None,
    modalities: Any = None,
    confidence: float = 0.95,
    n_jobs: int | None = None,
    random_state: Any = None,
) -> Bunch:
    """Cross-validate what each modality adds to the score, and what each pair adds beyond its members.

    Parameters
    ----------
    estimator : estimator
        A classifier or regressor that takes `X`; it is cloned and fitted in each fold. A ``FrozenEstimator`` is not
        fitted again, and should come from other data.
    X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
        The samples.
    y : array-like of shape (n_samples,)
        The target.
    method : {"permutation", "ablation", "shapley", "retrain"}, default="permutation"
        - "permutation": how much worse the test samples are predicted when they swap the modality among each other.
        - "ablation": the same when all of them lack it.
        - "shapley": what it adds to a set of others, averaged over the orders in which modalities may come [1]_; the
          worth of a set is the score of test samples that have these alone. Exact up to 8 modalities, above that by
          `n_repeats` random orders and their reverses, with standard errors.
        - "retrain": how much worse an estimator does that is fitted without it.
    cv : int, splitter or iterable, default=5
        Folds. An integer is shuffled, seeded by `random_state`, stratified for classes, and keeps `groups` whole.
    n_repeats : int, default=10
        Permutations in each fold, or orders where Shapley values are sampled.
    groups : array-like of shape (n_samples,), default=None
        Donors, patients and the like, which no fold splits.
    scoring : str or callable, default=None
        One metric, where greater is better. None is the estimator's own score.
    modalities : dict or list, default=None
        How `X` is split, or which modalities to take.
    confidence : float, default=0.95
        Level of the intervals, which allow for the overlap of training sets (see `corrected_resampled_interval`).
    n_jobs : int or None, default=None
        Folds run in parallel.
    random_state : int, RandomState or None, default=None
        For folds, permutations and orders.

    Returns
    -------
    Bunch
        table : DataFrame
            One row a modality: `importance`, the mean over the folds, its interval from `ci_low` to `ci_high`, and
            `standard_error` of the sampling, 0 where nothing is sampled.
        interactions : DataFrame
            One row a pair: `interaction`, what the two are worth together beyond apart, its interval, and `kind`:
            "synergy" or "redundancy" where the interval leaves out 0, else "". Under exact "shapley" it is the Shapley
            interaction index [2]_, else that of the pair given all others.
        importances : DataFrame of shape (n_splits, n_modalities)
            The importance in each fold.
        score, empty_score : float
            Mean score with all modalities and, under "shapley", with none; importances sum up to the difference.
        method, scoring, confidence, n_splits
            As used.

    Raises
    ------
    ValueError
        Where `method` is unknown, or `X` is not as due (it names the modality).

    References
    ----------
    .. [1] Shapley, "A value for n-person games", Contributions to the Theory of Games 2, 1953.
    .. [2] Grabisch and Roubens, "An axiomatic approach to the concept of interaction among players in cooperative
       games", International Journal of Game Theory 28, 1999.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion import FusionClassifier
    >>> from skfusion.inspection import modality_importance
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat([0, 1], 60)
    >>> X = {"labs": rng.normal(size=(120, 3)) + 2 * y[:, None], "ecg": rng.normal(size=(120, 2))}
    >>> result = modality_importance(FusionClassifier("early"), X, y, method="shapley", random_state=0)
    >>> result.table["importance"].idxmax()
    'labs'
    >>> bool(abs(result.table["importance"].sum() - (result.score - result.empty_score)) < 1e-9)
    True
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; due is one of {list(METHODS)}.")
    if n_repeats < 2:
        raise ValueError(f"n_repeats is {n_repeats}; due is 2 or more, for a standard error.")
    check_options(scoring, confidence, "raise")
    X, y, groups = read_data(X, y, groups, modalities, "modality_importance(estimator, X, y)")
    if method == "retrain" and len(X.names) < 2:
        raise ValueError(f"retrain leaves out a modality, but X has {X.names} alone.")
    seed = seed_of(random_state)
    splits = folds_of(cv, y, groups, is_classification(y, [estimator]), seed)
    scorer = check_scoring(estimator, scoring)
    warn_of_empty_samples(X)
    seeds = check_random_state(seed).randint(np.iinfo(np.int32).max, size=len(splits))
    folds = Parallel(n_jobs=n_jobs)(
        delayed(_play)(estimator, X, y, split, groups, scorer, method, n_repeats, int(fold_seed))
        for split, fold_seed in zip(splits, seeds)
    )
    values, errors, together, score, empty = (np.array(parts) for parts in zip(*folds))
    n_train, n_test = (float(np.mean([len(split[part]) for split in splits])) for part in (0, 1))

    def interval(of_folds: Any) -> tuple[float, float]:
        return corrected_resampled_interval(of_folds, n_train, n_test, confidence)

    table = _summary("importance", values, X.names, interval)
    table["standard_error"] = np.sqrt(np.square(errors).sum(axis=0)) / len(splits)
    pairs = [f"{a} + {b}" for a, b in combinations(X.names, 2)]
    interactions = _summary("interaction", together, pairs, interval)
    interactions["kind"] = np.select(
        [interactions["ci_low"] > 0, interactions["ci_high"] < 0], ["synergy", "redundancy"], ""
    )
    return Bunch(
        table=table.rename_axis("modality"),
        interactions=interactions.rename_axis("pair"),
        importances=pd.DataFrame(values, pd.RangeIndex(len(splits), name="fold"), X.names),
        score=float(score.mean()),
        empty_score=float(empty.mean()),
        method=method,
        scoring=scoring,
        confidence=confidence,
        n_splits=len(splits),
    )


def is_worth_it(
    X: Any,
    y: Any,
    *,
    costs: Mapping[str, float] | None = None,
    estimator: Any = None,
    cv: Any = 5,
    groups: Any = None,
    scoring: Any = None,
    modalities: Any = None,
    confidence: float = 0.95,
    n_jobs: int | None = None,
    random_state: Any = None,
) -> pd.DataFrame:
    """Say of each modality what it adds to all others, with an interval, its cost, and a plain sentence.

    Parameters
    ----------
    X : dict, Modalities, DataFrame, array, CSR matrix, AnnData or MuData
        The samples; two modalities or more.
    y : array-like of shape (n_samples,)
        The target.
    costs : dict of str to float, default=None
        What a modality costs a sample, in any unit.
    estimator : estimator, default=None
        What is fitted with and without each modality; None is the default early fusion, a linear model.
    cv, groups, scoring, modalities, confidence, n_jobs, random_state
        As in `modality_importance`, whose method is "retrain".

    Returns
    -------
    DataFrame
        One row a modality: `gain` in score by having it, paired over folds, its interval from `ci_low` to `ci_high`,
        `cost`, `gain_per_cost`, and `sentence`.

    Raises
    ------
    ValueError
        Where `costs` names what is no modality, or holds a negative number.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion.inspection import is_worth_it
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat([0, 1], 60)
    >>> X = {"labs": rng.normal(size=(120, 3)) + 2 * y[:, None], "ecg": rng.normal(size=(120, 2))}
    >>> print(is_worth_it(X, y, costs={"ecg": 30}, random_state=0).loc["ecg", "sentence"])
    ecg costs 30 and adds nothing that shows: 0.008 [-0.026, 0.043] in accuracy.
    """
    X, y, groups = read_data(X, y, groups, modalities, "is_worth_it(X, y, estimator=...)")
    costs = costs or {}
    wrong = [name for name, cost in costs.items() if name not in X.names or not cost >= 0]
    if wrong:
        raise ValueError(
            f"costs has {wrong[0]!r}: {costs[wrong[0]]!r}; due is a cost of 0 or more for one of {X.names}."
        )
    if estimator is None:
        from skfusion import FusionClassifier, FusionRegressor

        estimator = (FusionClassifier if is_classification(y, []) else FusionRegressor)(
            "early", random_state=random_state
        )
    if scoring is None:
        scoring = "accuracy" if is_classification(y, [estimator]) else "r2"
    result = modality_importance(
        estimator,
        X,
        y,
        method="retrain",
        cv=cv,
        groups=groups,
        scoring=scoring,
        confidence=confidence,
        n_jobs=n_jobs,
        random_state=random_state,
    )
    table = result.table.rename(columns={"importance": "gain"}).drop(columns="standard_error")
    table["cost"] = [float(costs.get(name, np.nan)) for name in table.index]
    table["gain_per_cost"] = table["gain"] / table["cost"].where(table["cost"] > 0)
    metric = scoring if isinstance(scoring, str) else getattr(scoring, "__name__", "score")
    table["sentence"] = [_sentence(str(name), row, metric.replace("_", " ")) for name, row in table.iterrows()]
    return table


def _sentence(name: str, row: pd.Series, metric: str) -> str:
    costs = "" if np.isnan(row["cost"]) else f"costs {row['cost']:g} and "
    numbers = f"{row['gain']:.3f} [{row['ci_low']:.3f}, {row['ci_high']:.3f}] in {metric}"
    if row["ci_low"] > 0:
        return f"{name} {costs}is worth having: it adds {numbers} to the others."
    if row["ci_high"] < 0:
        return f"{name} {costs}does harm: the others do better without it, {numbers}."
    return f"{name} {costs}adds nothing that shows: {numbers}."


def _summary(what: str, of_folds: Any, names: list[str], interval: Any) -> pd.DataFrame:
    """Return mean and interval of each column of `of_folds` (n_splits, n_names)."""
    intervals = [interval(column) for column in of_folds.T]
    return pd.DataFrame(
        {
            what: of_folds.mean(axis=0),
            "ci_low": [low for low, _ in intervals],
            "ci_high": [high for _, high in intervals],
        },
        index=pd.Index(names, dtype=object),
    )


def _play(
    estimator: Any, X: Modalities, y: Any, split: Any, groups: Any, scorer: Any, method: str, n_repeats: int, seed: int
) -> tuple[Any, Any, Any, float, float]:
    """Return importances, their standard errors, interactions, and the scores of all and none, in one fold."""
    train, test = split
    # Rows with nothing present teach nothing; left in, each fit would warn of them.
    train = train[X.present[train].any(axis=1)]
    n_players, rng = len(X.names), np.random.default_rng(seed)

    def fitted(names: list[str]) -> Any:
        own = X.select(names)
        rows = train[own.present[train].any(axis=1)]
        return fit_with(clone(estimator), own[rows], y[rows], groups=None if groups is None else groups[rows])

    model, shown = fitted(X.names), X[test]
    orders = [rng.permutation(len(test)) for _ in range(n_repeats)]

    @cache
    def worth(chosen: Subset) -> float:
        if len(chosen) == n_players:
            return float(scorer(model, shown, y[test]))
        names = [name for k, name in enumerate(X.names) if k in chosen]
        if method == "retrain":
            return float(scorer(fitted(names), X.select(names)[test], y[test])) if names else np.nan
        if method == "permutation":
            mixed = (_swapped(shown, [name for name in X.names if name not in names], order) for order in orders)
            return float(np.mean([scorer(model, other, y[test]) for other in mixed]))
        return float(scorer(model, _only(shown, chosen), y[test]))

    whole: Subset = frozenset(range(n_players))
    pairs = list(combinations(range(n_players), 2))
    if method != "shapley":
        values = np.array([worth(whole) - worth(whole - {k}) for k in range(n_players)])
        together = [last_interaction(worth, n_players, pair) for pair in pairs]
        return values, np.zeros(n_players), np.array(together), worth(whole), np.nan
    if n_players <= _EXACT_UP_TO:
        values, errors = shapley_values(worth, n_players), np.zeros(n_players)
        together = [shapley_interaction(worth, n_players, pair) for pair in pairs]
    else:
        values, errors = sampled_shapley_values(worth, n_players, n_repeats, rng)
        together = [last_interaction(worth, n_players, pair) for pair in pairs]
    return values, errors, np.array(together), worth(whole), worth(frozenset())


def _only(X: Modalities, chosen: Subset) -> Modalities:
    """Return the samples with no modality present but the `chosen` ones."""
    return Modalities(X, present=X.present & np.isin(np.arange(len(X.names)), list(chosen)))


def _swapped(X: Modalities, names: list[str], order: Any) -> Modalities:
    """Return the samples with the modalities `names`, present or not, of those in `order`."""
    present = X.present.copy()
    swapped = [X.names.index(name) for name in names]
    present[:, swapped] = X.present[order][:, swapped]
    data = {name: take(X[name], order) if name in names else X[name] for name in X.names}
    return Modalities._of(data, X._columns, present, X.sample_ids)
