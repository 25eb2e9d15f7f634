"""What a policy decides on, what was decided, and the table of all decisions."""

from dataclasses import dataclass
from textwrap import shorten
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from skfusion._scheduling import entropies
from skfusion._warn import listed, warn
from skfusion.modalities import Modalities
from skfusion.modalities.kinds import take
from skfusion.modalities.patterns import by_pattern, name_pattern

NOTHING_LEFT = "nothing left to ask for"
OVER_BUDGET = "over budget"
CONFIDENT = "confident"
NOT_WORTH = "no gain worth its cost"
WORTH = "worth its cost"
CHOSEN = "chosen by the policy"
STOPPED = "stopped by the policy"
_REFUSED = "refused: "
_TIE = 1e-9
"""Values that differ by less, relative to the largest, are equal: sums of the same gains in another order."""


@dataclass(frozen=True)
class SchedulerState:
    """What a policy decides on: one sample, at one step.

    Parameters
    ----------
    sample : object
        The id of the sample; its position, where `X` has no ids.
    step : int
        Decisions before this one.
    present : dict of str to values
        What is present: the modality's values, one row in the form of `X`.
    available : dict of str to float
        What can be asked for within the budget, and its cost.
    budget : float
        What is left of it; inf without one.
    probabilities : dict of class to float
        What the classifier says from what is present.
    gains : dict of str to float
        What each modality in `available` is expected to add, in nats.
    """

    sample: Any
    step: int
    present: dict[str, Any]
    available: dict[str, float]
    budget: float
    probabilities: dict[Any, float]
    gains: dict[str, float]


class Situation(NamedTuple):
    """What is known of samples before a decision."""

    X: Modalities
    acquired: Any
    affordable: Any
    left: Any
    probabilities: Any
    gains: Any

    def state(self, row: int, sample: int, step: int, costs: dict[str, float], classes: Any) -> SchedulerState:
        """Return what a policy may see of one row, which is the `sample` of all."""
        X, names = self.X, self.X.names
        within = [names[m] for m in np.flatnonzero(self.affordable[row])]
        return SchedulerState(
            sample=sample if X.sample_ids is None else X.sample_ids[row],
            step=step,
            present={names[m]: take(X[names[m]], slice(row, row + 1)) for m in np.flatnonzero(self.acquired[row])},
            available={name: costs[name] for name in within},
            budget=float(self.left[row]),
            probabilities=dict(zip(classes.tolist(), self.probabilities[row].tolist())),
            gains={name: float(self.gains[row, names.index(name)]) for name in within},
        )


class Step(NamedTuple):
    """What was decided on some samples: columns of modalities, -1 to stop."""

    rows: Any
    """Positions of the samples, (n,)."""
    present: Any
    """What they had before, (n, n_modalities)."""
    actions: Any
    reasons: Any
    gains: Any
    probabilities: Any


def read_answer(answer: Any, state: SchedulerState, names: list[str]) -> tuple[int, str]:
    """Return the column of what a policy asks for, -1 to stop, and why."""
    if answer is None:
        return -1, STOPPED
    if not isinstance(answer, str) or answer not in state.available:
        return -1, f"{_REFUSED}{answer!r} is not available"
    return names.index(answer), CHOSEN


def warn_of_refused(steps: list[Step], names: list[str]) -> None:
    """Tell how many answers of a policy were refused, and of the first."""
    refused = [(step, row) for step in steps for row, reason in enumerate(step.reasons) if reason.startswith(_REFUSED)]
    if refused:
        step, row = refused[0]
        available = [name for name, gain in zip(names, step.gains[row]) if not np.isnan(gain)]
        warn(
            f"policy gave {len(refused)} answer{'s' if len(refused) > 1 else ''} that were refused, which stops these "
            f"samples; the first: {shorten(step.reasons[row].removeprefix(_REFUSED), 200)}; {listed(available)} "
            "are. Return a key of state.available as it is spelt there, or None."
        )


def best_of(value: Any, immediate: Any, costs: Any) -> Any:
    """Return the column (n,) of the largest `value` (n, n_modalities).

    Of equal ones, that of the largest `immediate` value of this shape; then that of the lowest of `costs`
    (n_modalities,); then the first.
    """
    tied = np.ones(value.shape, dtype=bool)
    for key in (value, immediate):
        key = np.where(tied, key, -np.inf)
        top = key.max(axis=1, keepdims=True)
        tied &= key >= top - _TIE * np.abs(top)
    return np.where(tied, -costs, -np.inf).argmax(axis=1)


def trace_of(
    steps: list[Step], names: list[str], order: list[str], costs: Any, classes: Any, last: Any
) -> pd.DataFrame:
    """Put the decisions of all steps into one table, sample by sample.

    Columns in `steps` and `costs` (n_modalities,) are those of `names`, and the table has them in another `order`;
    `last` (n_samples, n_classes) are the probabilities in the end.
    """
    label = np.array([*names, None], dtype=object)
    columns = [names.index(name) for name in order]
    tables = []
    for number, step in enumerate(steps):
        after = last.copy()
        if number + 1 < len(steps):
            after[steps[number + 1].rows] = steps[number + 1].probabilities
        present = np.empty(len(step.rows), dtype=object)
        for pattern, rows in by_pattern(step.present[:, columns]):
            present[rows] = name_pattern(pattern, order)
        tables.append(
            pd.DataFrame(
                {
                    "sample": step.rows,
                    "step": number,
                    "present": present,
                    "action": label[step.actions],
                    "reason": step.reasons,
                    "cost": np.append(costs, 0.0)[step.actions],
                    "entropy": entropies(step.probabilities),
                    "entropy_after": entropies(after[step.rows]),
                    **{f"gain__{name}": step.gains[:, column] for name, column in zip(order, columns)},
                    **{f"probability__{c}": p for c, p in zip(classes, step.probabilities.T)},
                }
            )
        )
    return pd.concat(tables).sort_values(["sample", "step"], ignore_index=True)
