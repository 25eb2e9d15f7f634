"""Interleaved timing: every contender once a round, so that a drifting machine slows all alike."""

import platform
import time
from collections.abc import Callable

import numpy as np


def interleave(
    contenders: dict[str, Callable[[], object]], rounds: int = 7, clock: Callable[[], float] = time.perf_counter
) -> dict[str, np.ndarray]:
    """Return the seconds of each contender in each round, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, run in contenders.items():
            start = clock()
            run()
            if number:
                seconds[name].append(clock() - start)
    return {name: np.array(values) for name, values in seconds.items()}


def median_ratio(a: np.ndarray, b: np.ndarray) -> float:
    """Median over rounds of a's seconds over b's in the same round."""
    return float(np.median(a / b))


def machine() -> str:
    """Return a line on where this runs."""
    import os

    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
