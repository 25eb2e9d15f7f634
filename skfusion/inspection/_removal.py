"""Taking modalities, or single values, away from the samples of a curve: how, at which rates, and what is reached."""

from collections.abc import Iterable
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from skfusion._warn import listed, warn
from skfusion.modalities import Modalities
from skfusion.modalities.ampute import (
    MECHANISMS,
    ampute,
    ampute_values,
    check_mechanism,
    has_no_single_values,
    reachable_rate,
)
from skfusion.modalities.kinds import KINDS, take

_RATES = (0.0, 0.3, 0.5, 0.7)
_BEHIND = 0.02
"""By how much a share may stay behind its rate before that is told."""
VALUE_MECHANISMS = {"values": "mcar", "values_mnar": "mnar"}
"""The mechanisms that take single values away inside modalities, where all others take modalities, in terms of
`ampute_values`."""


class Removal(NamedTuple):
    """How modalities, or single values, are taken away."""

    mechanism: str
    by: str | None
    affected: list[str] | None
    at: str

    def apply(self, X: Modalities, rate: float, seed: int | None, groups: Any) -> Modalities:
        """Take away from `X` at `rate`; `groups` are those of its rows."""
        share = rate if self.affected is None else dict.fromkeys(self.affected, rate)
        if self.mechanism in VALUE_MECHANISMS:
            return ampute_values(X, share, VALUE_MECHANISMS[self.mechanism], random_state=seed)
        blocks = groups if self.mechanism == "block" else None
        return ampute(X, share, self.mechanism, by=self.by, groups=blocks, random_state=seed)

    def concerned(self, X: Modalities) -> Modalities:
        """Return the modalities of `X` that may go."""
        by = (self.by or X.names[0]) if self.mechanism == "mar" else None
        return X.select([name for name in self.affected or X.names if name != by])

    def count(self, X: Modalities) -> int:
        """How much of what can go `X` still has."""
        if self.mechanism not in VALUE_MECHANISMS:
            return int(X.present.sum())
        return sum(
            int(np.asarray(pd.notna(take(X[name], X.present[:, column]))).sum())
            for column, name in enumerate(X.names)
            if not has_no_single_values(X[name])
        )


def check_removal(
    X: Modalities, rates: Any, mechanism: str, at: str, by: Any, affected: Any, groups: Any
) -> tuple[tuple[float, ...], Removal, "pd.Series[float]"]:
    """Return the rates in rising order, how they are taken, and what is reached; or say why they cannot be."""
    if at not in ("predict", "fit", "both"):
        raise ValueError(f"at is {at!r}; due is 'predict', 'fit' or 'both'.")
    check_mechanism(mechanism, (*MECHANISMS, *VALUE_MECHANISMS))
    if by is not None and mechanism in VALUE_MECHANISMS:
        raise ValueError(f"by is given, but mechanism is {mechanism!r}; it is for mechanism='mar' alone.")
    if len(X.names) < 2 and mechanism not in VALUE_MECHANISMS:
        raise ValueError(f"X has no modality but {X.names}, and one is always kept; due are at least two.")
    affected = _checked_affected(X, affected, mechanism)
    highest = _highest_rate(X, mechanism, affected)
    removal = Removal(mechanism, by, affected, at)
    if rates is None:
        reached = _reached(X, tuple(rate for rate in _RATES if rate <= highest), removal, groups)
        # Samples that lack much already cannot lose as much again: the most that they can lose comes last.
        rates = np.where(stays_behind(reached), np.floor(100 * reached) / 100, reached.index)
        rates = tuple(np.unique(rates).tolist())
        return rates, removal, _reached(X, rates, removal, groups)
    asked = [rates] if np.ndim(rates) == 0 else list(rates)
    if not asked or not all(isinstance(rate, Real) and not isinstance(rate, bool) for rate in asked):
        raise ValueError(
            f"rates is {asked if np.ndim(rates) else rates!r}; due are numbers from 0 up to, but not including, 1."
        )
    rates = tuple(sorted({float(rate) for rate in asked}))
    for rate in rates:
        if not 0 <= rate <= 1 or (rate == 1 and mechanism != "unseen"):
            raise ValueError(f"rates has {rate:g}; due are numbers from 0 up to, but not including, 1.")
    if rates[-1] > highest + 1e-9:
        one = "single values of each row" if mechanism in VALUE_MECHANISMS else "modalities of each sample"
        fewer = "" if mechanism in VALUE_MECHANISMS else f", or take fewer with affected={X.names[:1]}"
        raise ValueError(
            f"rates has {rates[-1]:g}, but one of the {one} is always kept, so that {highest:.3g} is the most that "
            f"all can lose; lower rates{fewer}."
        )
    reached = _reached(X, rates, removal, groups)
    behind = reached[stays_behind(reached)]
    if len(behind):
        kept = "a row keeps one value" if mechanism in VALUE_MECHANISMS else "a sample keeps one modality"
        warn(
            f"rates {listed(behind.index.tolist())} are not reached, only {listed(behind.round(2).tolist())}: much is "
            f"missing already, and {kept}. `reached` of the result has what goes; lower rates."
        )
    return rates, removal, reached


def _highest_rate(X: Modalities, mechanism: str, affected: list[str] | None) -> float:
    """Return the highest rate that there is where samples have everything."""
    if mechanism in VALUE_MECHANISMS:
        return min(map(reachable_rate, _widths(X, affected or X.names, mechanism)))
    if mechanism not in ("mcar", "mnar", "block"):
        return 1.0
    return min(1.0, (len(X.names) - 1) / len(affected or X.names))


def _reached(X: Modalities, rates: tuple[float, ...], removal: Removal, groups: Any) -> "pd.Series[float]":
    """Return, by rate, the shares that go missing of those that may; raise where that cannot be done at all."""
    shares = {rate: rate for rate in rates}
    for rate in reversed(rates):
        left = removal.apply(X, rate, 0, groups)
        if removal.mechanism == "unseen":
            break
        concerned = removal.concerned(X)
        shares[rate] = 1 - removal.count(left.select(concerned.names)) / max(removal.count(concerned), 1)
    return pd.Series(shares)


def stays_behind(reached: "pd.Series[float]") -> Any:
    """Which rates, the index of `reached`, are missed by more than is worth a word."""
    return reached.index.to_numpy() - reached.to_numpy() > _BEHIND


def _checked_affected(X: Modalities, affected: Any, mechanism: str) -> list[str] | None:
    if affected is None:
        return None
    if mechanism == "unseen":
        raise ValueError(
            "affected is given, but mechanism is 'unseen', where a sample keeps one of all its modalities; leave it "
            "out, or pass another mechanism."
        )
    names = [affected] if isinstance(affected, str) else affected
    if not isinstance(names, Iterable) or not (names := list(names)) or any(name not in X.names for name in names):
        raise ValueError(f"affected is {affected!r}; due are names of modalities that go missing, among {X.names}.")
    return names


def _widths(X: Modalities, affected: list[str], mechanism: str) -> list[int]:
    """How many single values a sample has in each of the `affected` modalities, each of which can lose some."""
    why = {name: has_no_single_values(X[name]) for name in X.names}
    widths = {name: int(np.prod(X[name].shape[1:])) for name in X.names if not why[name]}
    for name in affected:
        if widths.get(name, 0) < 2:
            said = why[name] or "whose rows hold one value, which is always kept"
            able = [other for other in widths if widths[other] > 1]
            hint = f"affected={able}" if able else "another mechanism, which takes whole modalities"
            raise ValueError(
                f"mechanism is {mechanism!r}, but modality {name!r} is {KINDS[X.kind(name)]}, {said}; pass {hint}."
            )
    return [widths[name] for name in affected]
