"""Games over modalities: Shapley values and interactions from the worth of every set, or of sampled orders."""

from collections.abc import Callable
from itertools import combinations
from math import factorial
from typing import Any

import numpy as np

Subset = frozenset[int]


def shapley_values(worth: Callable[[Subset], float], n_players: int) -> Any:
    """Exact Shapley values (n_players,); they add up to the worth of all less that of none."""
    values = np.zeros(n_players)
    for player in range(n_players):
        others = [other for other in range(n_players) if other != player]
        for size in range(n_players):
            weight = factorial(size) * factorial(n_players - size - 1) / factorial(n_players)
            for chosen in map(frozenset, combinations(others, size)):
                values[player] += weight * (worth(chosen | {player}) - worth(chosen))
    return values


def sampled_shapley_values(
    worth: Callable[[Subset], float], n_players: int, n_orders: int, rng: Any
) -> tuple[Any, Any]:
    """Shapley values from random orders and their reverses, and standard errors, both (n_players,).

    What players add in an order sums up to the worth of all less that of none, and so do their means.
    """
    added = np.zeros((n_orders, 2, n_players))
    for pair in added:
        order = rng.permutation(n_players)
        for row, players in zip(pair, (order, order[::-1])):
            chosen: Subset = frozenset()
            before = worth(chosen)
            for player in players:
                chosen = chosen | {int(player)}
                after = worth(chosen)
                row[player] = after - before
                before = after
    # An order and its reverse are not independent of each other.
    means = added.mean(axis=1)
    return means.mean(axis=0), means.std(axis=0, ddof=1) / np.sqrt(n_orders)


def shapley_interaction(worth: Callable[[Subset], float], n_players: int, pair: tuple[int, int]) -> float:
    """Shapley interaction index of a pair: what two add together beyond what each adds, averaged over the others."""
    first, second = pair
    others = [other for other in range(n_players) if other not in pair]
    total = 0.0
    for size in range(n_players - 1):
        weight = factorial(size) * factorial(n_players - size - 2) / factorial(n_players - 1)
        for chosen in map(frozenset, combinations(others, size)):
            both, none = worth(chosen | {first, second}), worth(chosen)
            total += weight * (both - worth(chosen | {first}) - worth(chosen | {second}) + none)
    return total


def last_interaction(worth: Callable[[Subset], float], n_players: int, pair: tuple[int, int]) -> float:
    """Return what a pair adds to all others together, beyond what each of the two adds last."""
    whole: Subset = frozenset(range(n_players))
    first, second = pair
    return worth(whole) - worth(whole - {first}) - worth(whole - {second}) + worth(whole - {first, second})
