"""Taking away what is there: modalities, or single values, by a mechanism that is known."""

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from scipy.stats import rankdata

from skfusion.modalities import align, kinds
from skfusion.modalities.check import Reader, _read
from skfusion.modalities.container import Modalities
from skfusion.modalities.kinds import Values
from skfusion.modalities.presence import BoolArray, check_finite

MECHANISMS = ("mcar", "mar", "mnar", "block", "unseen")
VALUE_MECHANISMS = ("mcar", "mnar")
FloatArray = NDArray[np.float64]

_N_BLOCKS = 20
"""Blocks that the samples are cut into where nobody says which belong together."""
_TINY = 1e-12
"""The smallest random number, so that it has a logarithm."""


def ampute(
    X: Any,
    rate: "float | Mapping[str, float]",
    mechanism: str = "mcar",
    *,
    by: str | None = None,
    groups: Any = None,
    strength: float = 2.0,
    modalities: Any = None,
    random_state: Any = None,
) -> Modalities:
    """Take modalities away from samples, to see what a model makes of samples that lack some.

    Every sample keeps at least one of the modalities that it has. No data is copied or overwritten: only `present`
    differs.

    Parameters
    ----------
    X : dict, Modalities, DataFrame with two-level columns, AnnData or MuData
        The samples. With `modalities` as in an estimator, a table or an AnnData is split the same way.
    rate : float or dict of str to float
        Of the samples that have a modality, the share that loses it, from 0 up to, but not including, 1. One for all
        modalities, or one a modality; those that a dict does not name stay. It is met to the sample, as far as samples
        have another modality to keep: of two modalities at most half can go, and what was missing before may leave all
        of them about equally short. Under ``"block"`` it is met to half of the largest block, near the highest rate
        there is to a whole one. Under ``"unseen"`` it is the share of the samples with several modalities that keep one
        alone, and may be 1.
    mechanism : {"mcar", "mar", "mnar", "block", "unseen"}, default="mcar"
        What decides who loses which modality, in the terms of [1]_.

        - ``"mcar"``, completely at random: chance alone.
        - ``"mar"``, at random: the values of the modality `by`, which is never taken away itself.
        - ``"mnar"``, not at random: the values of the very modality that goes missing.
        - ``"block"``: chance, but all samples of a block lose the same modalities, as where a site lacks a device. Who
          would be left with nothing, since another modality of the block was missing before, keeps one.
        - ``"unseen"``: a sample keeps one of its modalities, by chance, or all of them, so that at rate 1 no two
          modalities are ever seen together.
    by : str, default=None
        The modality that decides under ``"mar"``; None is the first. Samples that lack it lose others by chance.
    groups : int or array-like of shape (n_samples,), default=None
        The blocks of ``"block"``: to which each sample belongs, or how many neighbouring rows make one. None cuts the
        rows into 20.
    strength : float, default=2.0
        Under ``"mar"`` and ``"mnar"``, by how much the log-odds of losing a modality rise with one standard deviation
        of what decides: the mean over a modality's columns, each standardised (for texts and token lists, their
        length). Where it is negative, low values go missing.
    modalities : dict or list, default=None
        How `X` is split, or which modalities to take.
    random_state : int, RandomState or None, default=None
        With the same int, what is missing at one rate for all is missing at every higher one as well.

    Returns
    -------
    Modalities
        The same data; what was missing before still is.

    Raises
    ------
    ValueError
        Where a rate is 1 or cannot be reached, a name is none of the modalities, or `strength` is no number.

    See Also
    --------
    ampute_values : Take away single values inside a modality.
    skfusion.inspection.missing_modality_curve : How a model's score falls with the rate.

    References
    ----------
    .. [1] Rubin, "Inference and missing data", Biometrika 63, 1976.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion import ampute
    >>> rng = np.random.default_rng(0)
    >>> X = {"labs": rng.normal(size=(200, 3)), "ecg": rng.normal(size=(200, 50, 2))}
    >>> ampute(X, 0.3, random_state=0)
    Modalities of 200 samples
      labs: dense (3,) float64, present in 70%
      ecg: sequence (50, 2) float64, present in 70%
    >>> ampute(X, {"ecg": 0.8}, "mar", by="labs", random_state=0).present.mean(axis=0)
    array([1. , 0.2])
    """
    from sklearn.utils import check_random_state

    X = as_modalities(X, modalities)
    check_mechanism(mechanism, MECHANISMS)
    _check_strength(strength)
    for name, value, only in (("by", by, "mar"), ("groups", groups, "block")):
        if value is not None and mechanism != only:
            raise ValueError(f"{name} is given, but mechanism is {mechanism!r}; it is for mechanism={only!r} alone.")
    rng = check_random_state(random_state)
    if mechanism == "unseen":
        return _with_present(X, _keep_one(rng, X.present, _share(rate)))
    by = _decider(X.names, by) if mechanism == "mar" else None
    rates = _rates(rate, X.names, spared=by)
    if len(X.names) < 2 and rates.any():
        raise ValueError(
            f"X has no modality but {X.names}, and one is always kept; ampute_values takes single values of it instead."
        )
    _check_reachable(rates, "modalities", ", or take from some alone with a dict")
    noise = rng.uniform(_TINY, 1, size=X.shape)  # (n, M)
    blocks = _blocks(groups, X) if mechanism == "block" else None  # block b goes by the draws of row b
    if mechanism in ("mar", "mnar"):
        decides = X.names if by is None else [by]
        standing = np.stack([_standing(X, name) for name in decides], axis=1)  # (n, M) or (n, 1)
        noise = _by_standing(noise, standing, strength)
    return _with_present(X, _take_away(noise, X.present, rates, blocks))


def ampute_values(
    X: Any,
    rate: "float | Mapping[str, float]",
    mechanism: str = "mcar",
    *,
    strength: float = 2.0,
    modalities: Any = None,
    random_state: Any = None,
) -> Modalities:
    """Take single values away inside modalities, by chance or by what they are; they become NaN in a copy.

    A row keeps at least one of its values, since a row of NaN would be a missing modality (see `ampute`). A time step
    of a sequence that loses all its channels is padding.

    Parameters
    ----------
    X : dict, Modalities, DataFrame with two-level columns, AnnData or MuData
        The samples, as for `ampute`.
    rate : float or dict of str to float
        The share of the known values of each column that goes, from 0 up to, but not including, 1. One for all
        modalities, or one a modality; those that a dict does not name stay as they are. It is met to the value, as far
        as rows have another one to keep.
    mechanism : {"mcar", "mnar"}, default="mcar"
        What decides which values go: chance alone, or the very values that go missing.
    strength : float, default=2.0
        Under ``"mnar"``, by how much the log-odds of losing a value rise with one standard deviation of its column.
        Where it is negative, low values go missing. Categories count by their order.
    modalities : dict or list, default=None
        How `X` is split, or which modalities to take.
    random_state : int, RandomState or None, default=None
        With the same int, what is missing at one rate is missing at every higher one as well.

    Returns
    -------
    Modalities
        Integers became floats; modalities that lose nothing are shared with `X`.

    Raises
    ------
    ValueError
        Where a modality that shall lose values is CSR, whose absent values are zeros, or text; where a rate is 1 or
        cannot be reached; where `strength` is no number.

    See Also
    --------
    ampute : Take away whole modalities.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion import ampute_values
    >>> labs = np.arange(12).reshape(4, 3)
    >>> ampute_values({"labs": labs}, 0.25, random_state=0)["labs"]
    array([[ 0.,  1.,  2.],
           [ 3., nan,  5.],
           [ 6.,  7.,  8.],
           [nan, 10., nan]])
    """
    from sklearn.utils import check_random_state

    X = as_modalities(X, modalities)
    check_mechanism(mechanism, VALUE_MECHANISMS)
    _check_strength(strength)
    rng = check_random_state(random_state)
    data = dict(X._data)
    for column, (name, share) in enumerate(zip(X.names, _rates(rate, X.names))):
        if share:
            slope = strength if mechanism == "mnar" else 0.0
            data[name] = _hole(name, X[name], X.present[:, column], share, slope, rng)
    return Modalities._of(data, X._columns, X.present, X.sample_ids)


def as_modalities(X: Any, modalities: Any = None) -> Modalities:
    """Read what holds several modalities without an estimator's help."""
    several = isinstance(X, Modalities | Mapping) and not sparse.issparse(X)
    several = several or kinds.is_instance_of(X, "anndata", "AnnData") or kinds.is_instance_of(X, "mudata", "MuData")
    two_levels = isinstance(X, pd.DataFrame) and isinstance(X.columns, pd.MultiIndex)
    if not (several or two_levels or isinstance(modalities, Mapping)):
        raise TypeError(
            f"X is of type {type(X).__name__}, which does not say what its modalities are; pass a dict of name to "
            "array, a Modalities, or modalities={'name': columns, ...}."
        )
    found = _read(Reader(modalities), X, modalities, reset=True)
    return found if modalities is None else found.select(list(modalities))


def check_mechanism(mechanism: Any, known: tuple[str, ...]) -> None:
    """Check that `mechanism` is one of the `known`."""
    if mechanism not in known:
        raise ValueError(f"mechanism is {mechanism!r}; due is one of {list(known)}.")


def _check_strength(strength: Any) -> None:
    if isinstance(strength, bool) or not isinstance(strength, Real) or not np.isfinite(float(strength)):
        raise ValueError(
            f"strength is {strength!r}; due is a finite number, by which the log-odds of going missing rise with one "
            "standard deviation, such as 2.0."
        )


def _with_present(X: Modalities, present: BoolArray) -> Modalities:
    return Modalities._of(dict(X._data), X._columns, present, X.sample_ids)


def _rates(rate: Any, names: list[str], spared: str | None = None) -> FloatArray:
    """Rate of each modality (M,)."""
    if isinstance(rate, Mapping):
        unknown = [name for name in rate if name not in names]
        if unknown:
            raise ValueError(f"rate names {unknown}, which are no modalities; there are {names}.")
        if spared is not None and rate.get(spared):
            raise ValueError(
                f"rate takes {spared!r} away, which decides under mechanism='mar' and must stay; name another one "
                "with `by`, or leave it out."
            )
        rates = [rate.get(name, 0) for name in names]
    else:
        rates = [0 if name == spared else rate for name in names]
    for name, value in zip(names, rates):
        if not _is_share(value):
            raise ValueError(f"rate is {value!r} for {name!r}; due is a number from 0 up to, but not including, 1.")
        if value == 1:
            raise ValueError(
                f"rate is 1 for {name!r}, which leaves nobody with it; use X.drop([{name!r}]) to leave out a modality, "
                "or a rate below 1."
            )
    return np.array(rates, dtype=np.float64)


def _share(rate: Any) -> float:
    if not _is_share(rate):
        raise ValueError(
            f"rate is {rate!r}; due under mechanism='unseen' is one number from 0 to 1, the share of samples that keep "
            "one modality alone."
        )
    return float(rate)


def _is_share(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and 0 <= float(value) <= 1


def _check_reachable(rates: FloatArray, what: str, otherwise: str = "") -> None:
    """Check `rates` (M,), which add up to what a sample loses on average."""
    most = len(rates) - 1
    if rates.sum() > most + 1e-9:
        raise ValueError(
            f"rate takes {rates.sum():.3g} of {len(rates)} {what} away from a sample on average, but one is always "
            f"kept: rates may add up to {most} at most. Lower them (one for all can be "
            f"{reachable_rate(len(rates)):.3g} at most){otherwise}."
        )


def reachable_rate(n_modalities: int) -> float:
    """Return the highest rate that `n_modalities` can all have, since each sample keeps one."""
    return (n_modalities - 1) / n_modalities


def _decider(names: list[str], by: str | None) -> str:
    if by is not None and by not in names:
        raise ValueError(f"by is {by!r}, which is no modality; there are {names}.")
    if len(names) < 2:
        raise ValueError(f"X has no modality but {names}; under mechanism='mar' it decides, and none is left to go.")
    return names[0] if by is None else by


def _blocks(groups: Any, X: Modalities) -> "NDArray[np.intp]":
    """To which block each sample belongs, counted from 0 (n,)."""
    n_samples = len(X)
    if groups is None:
        groups = max(1, -(-n_samples // _N_BLOCKS))
    if np.ndim(groups) == 0:
        if isinstance(groups, bool) or not isinstance(groups, Integral) or groups < 1:
            raise ValueError(
                f"groups is {groups!r}; due is how many rows make a block, a whole number from 1, or one entry a "
                f"sample, shape ({n_samples},)."
            )
        return np.arange(n_samples) // int(groups)
    align.check_same_order("groups", X.sample_ids, groups)
    groups = np.asarray(groups)
    if groups.shape != (n_samples,):
        raise ValueError(f"groups has shape {groups.shape}; due is ({n_samples},), one entry a sample.")
    return np.asarray(pd.factorize(groups, use_na_sentinel=False)[0], dtype=np.intp)


def _by_standing(noise: FloatArray, standing: FloatArray, strength: float) -> FloatArray:
    """Uniform levels (n, M), of which the lowest go: by chance, and first where `standing` (n, M or 1) is high."""
    level = np.log(noise) - np.log1p(-noise) - strength * standing
    return np.asarray(rankdata(level, axis=0) / (len(level) + 1))


def _take_away(level: FloatArray, present: BoolArray, rates: FloatArray, blocks: Any = None) -> BoolArray:
    """Take what is low in `level` (n_blocks, M) from `present` (n, M), block by block, until each rate (M,) is met.

    `level` is uniform in a column; `blocks` (n,) are rows of it, and None makes each sample a block. A column stops at
    the block after which it is nearest to its rate, so that a higher rate takes more blocks, and the same ones first.
    """
    blocks = np.arange(len(present)) if blocks is None else blocks
    some = rates > 0
    if not some.any():
        return present.copy()
    # Exactly 1 where there is one rate for all, so that a sample keeps the same at every rate.
    lasting = (1 - rates) / (1 - rates[some]).max()
    staying = np.where(some, np.log(level) / lasting, np.inf)  # (n_blocks, M)
    kept = _kept(staying, blocks, present, lasting)
    left = present.copy()
    for column in np.flatnonzero(some):
        may_go = present[:, column] & (kept != column)
        order = np.argsort(level[:, column], kind="stable")
        gone = np.cumsum(np.bincount(blocks[may_go], minlength=len(level))[order])  # after each block
        due = round(float(rates[column]) * int(present[:, column].sum()))
        goes = np.zeros(len(level), dtype=bool)
        goes[order[: np.abs(np.r_[0, gone] - due).argmin()]] = True
        left[may_go & goes[blocks], column] = False
    return left


def _kept(staying: FloatArray, blocks: Any, present: BoolArray, lasting: FloatArray) -> "NDArray[np.intp]":
    """Which modality a sample keeps in any case (n,): that of its block, or another where it lacks that one."""
    last = np.where(present, staying[blocks], -np.inf)  # (n, M), highest for what would go last
    kept = last.argmax(axis=1)
    rows = np.flatnonzero(np.isfinite(last.max(axis=1)))  # those that have nothing but what may go
    if len(rows):
        found, inside = np.unique(blocks[rows], return_inverse=True)
        options = np.where(np.isfinite(staying[found]), staying[found], -np.inf)
        for column in range(len(lasting)):
            options[np.bincount(inside, present[rows, column]) == 0, column] = -np.inf
        of_block = _balanced(options, np.bincount(inside), lasting * present.sum(axis=0))[inside]
        kept[rows] = np.where(present[rows, of_block], of_block, kept[rows])
    return kept


def _balanced(options: FloatArray, size: "NDArray[np.intp]", shares: FloatArray) -> "NDArray[np.intp]":
    """Choose a column for each row (n,): the highest of `options` (n, M), as far as columns have room for its `size`.

    The highest would go last anyway, so that at low rates nothing is felt of the choice. Columns get parts of all
    sizes (n,) in proportion to `shares` (M,), to half of the largest size: rates that add up to M - 1, the most there
    is, could not be met otherwise.
    """
    chosen, rows, options = options.argmax(axis=1), np.arange(len(options)), options.copy()
    shares = np.where(np.isfinite(options).any(axis=0), shares, 0)
    room = np.ceil(size.sum() * shares / max(shares.sum(), _TINY) - 1e-9)
    while True:
        choice, weight = options.argmax(axis=1), size[rows]
        chosen[rows] = choice
        full = np.bincount(choice, weight, len(shares)) > room
        if not full.any():
            return chosen
        # Who has nearly as good another choice makes room; who has none stays.
        best = np.sort(options, axis=1)
        reluctance = best[:, -1] - best[:, -2] if len(shares) > 1 else np.full(len(rows), np.inf)
        stays = np.isinf(reluctance)
        order = np.lexsort((-reluctance, choice))
        for column, wanting in zip(*_runs(choice[order], order)):
            if full[column]:
                stays[wanting] |= np.cumsum(weight[wanting]) - weight[wanting] / 2 <= room[column]
                shares[column] = 0
                # What a column got too much or too little of is up to the others.
                room += (room[column] - weight[wanting][stays[wanting]].sum()) * shares / max(shares.sum(), _TINY)
        options[:, full] = -np.inf
        stays |= np.isneginf(options).all(axis=1)
        rows, options = rows[~stays], options[~stays]


def _runs(values: Any, rows: Any) -> tuple[Any, list[Any]]:
    """Return the distinct of sorted `values`, and `rows` cut up by them."""
    found, starts = np.unique(values, return_index=True)
    return found, np.split(rows, starts[1:])


def _keep_one(rng: Any, present: BoolArray, share: float) -> BoolArray:
    """Leave a `share` of the samples that have several modalities with one of them."""
    kept = np.where(present, rng.uniform(size=present.shape), -1).argmax(axis=1)
    turn = rng.permutation(len(present))
    several = turn[present[turn].sum(axis=1) > 1]
    alone = several[: round(share * len(several))]
    left = present.copy()
    left[alone] = np.arange(present.shape[1]) == kept[alone, None]
    return left


def _standing(X: Modalities, name: str) -> FloatArray:
    """Where each sample stands in a modality, standardised over those that have it; 0 where it is missing (n,)."""
    present = X.present[:, X.names.index(name)]
    check_finite(name, X[name], present)
    standing = np.zeros(len(X))
    if present.any():
        mean = _column_mean(kinds.take(X[name], np.flatnonzero(present)))
        standing[present] = (mean - mean.mean()) / (mean.std() or 1)
    return standing


def _column_mean(values: Values) -> FloatArray:
    """Mean over the standardised columns of each row, up to a constant; the length of a text."""
    if sparse.issparse(values):
        known = values.astype(np.float64)
        known.data = np.nan_to_num(known.data)
        mean = np.asarray(known.mean(axis=0)).ravel()
        stored = np.bincount(known.indices, minlength=len(mean))
        square = np.bincount(known.indices, np.square(known.data - mean[known.indices]), len(mean))
        sd = np.sqrt((square + (known.shape[0] - stored) * mean**2) / known.shape[0])
        # Centring would only add the same number to every row, and a zero for every absent value.
        return np.asarray(known @ _inverse(sd, mean)) / values.shape[1]
    if has_no_single_values(values):
        return np.array([len(text) for text in values], dtype=np.float64)
    standing, known = _standardised(values)
    return np.asarray(standing.sum(axis=1) / np.maximum(known.sum(axis=1), 1))


def _standardised(values: Values) -> tuple[FloatArray, BoolArray]:
    """Return the columns of an array or table (n, d), each standardised, 0 where not known, and what is known."""
    if isinstance(values, pd.DataFrame):
        values = np.stack([_numbers(column) for _, column in values.items()], axis=1)
    flat = np.asarray(values, dtype=np.float64).reshape(len(values), -1)  # (n, d)
    known = ~np.isnan(flat)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, flat, 0).sum(axis=0) / count
    off = np.where(known, flat - mean, 0)
    return off * _inverse(np.sqrt((off**2).sum(axis=0) / count), mean), known


def _inverse(sd: FloatArray, mean: FloatArray) -> FloatArray:
    # Rounding leaves a constant column with a spread just above 0.
    return np.divide(1.0, sd, out=np.zeros_like(sd), where=sd > 1e-12 * np.abs(mean))


def _numbers(column: "pd.Series[Any]") -> FloatArray:
    """Return numbers as they are, categories by their position among the sorted ones."""
    if pd.api.types.is_numeric_dtype(column.dtype):
        return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))
    codes = pd.factorize(column.astype(object), sort=True)[0]
    return np.where(codes < 0, np.nan, codes)


def has_no_single_values(values: Values) -> str:
    """Return why no single value of `values` can be missing, or nothing where it can."""
    if kinds.kind_of(values) == "sparse":
        return "whose absent values are zeros, not missing"
    return "which have no single values" if kinds.kind_of(values) in ("text", "tokens") else ""


def _hole(name: str, values: Values, present: BoolArray, share: float, strength: float, rng: Any) -> Values:
    """Return a copy of `values` with a `share` of each column set to NaN, high ones first where `strength` is."""
    why = has_no_single_values(values)
    if why:
        raise ValueError(
            f"modality {name!r} is {kinds.KINDS[kinds.kind_of(values)]}, {why}; leave it out with a dict of rates"
            + (", or pass .toarray()." if sparse.issparse(values) else ".")
        )
    known = np.asarray(pd.notna(values)).reshape(len(values), -1) & present[:, None]  # (n, d)
    if known.shape[1] < 2:
        raise ValueError(
            f"modality {name!r} holds one value a sample, which is always kept; leave it out with a dict of rates, or "
            "take the modality with ampute."
        )
    rates = np.full(known.shape[1], share)
    _check_reachable(rates, f"columns of modality {name!r}")
    noise = rng.uniform(_TINY, 1, size=known.shape)
    if strength:
        check_finite(name, values, present)
        rows = np.flatnonzero(present)
        standing = np.zeros(known.shape)
        standing[rows] = _standardised(kinds.take(values, rows))[0]
        noise = _by_standing(noise, standing, strength)
    lost = known & ~_take_away(noise, known, rates)
    if isinstance(values, pd.DataFrame):
        return kinds.canonical(name, values.mask(lost)).values
    holed = values.astype(values.dtype if values.dtype.kind == "f" else np.float64)
    holed[lost.reshape(values.shape)] = np.nan
    return holed
