"""ModalityScheduler against every fixed order of modalities, at equal mean cost, on planted data.

A fixed order gives all samples the first of its modalities; its accuracy between two costs is interpolated. The best of
all orders, chosen on the test samples themselves, is what the scheduler is compared with, at several trade-offs. All
predict with the same classifier, quadratic discriminant analysis fitted a set of modalities at a time. Prints mean
accuracies over the seeds, the lookahead of 2 and the greedy one side by side.
"""

import argparse
from itertools import combinations, permutations

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis

from skfusion import Modalities, ModalityScheduler

TRADE_OFFS = (0.01, 0.03, 0.1)


def additive(n_samples, rng):
    """Four modalities, each with evidence of its own, for unequal prices."""
    y = rng.integers(2, size=n_samples)
    strength = {"a": 1.0, "b": 0.7, "c": 0.5, "d": 0.0}
    X = {name: rng.normal(size=(n_samples, 2)) + s * (y[:, None] - 0.5) * 2 for name, s in strength.items()}
    return X, y, {"a": 3.0, "b": 1.0, "c": 1.0, "d": 1.0}


def gated(n_samples, rng):
    """A cheap modality says nothing of the class, but which of two dear ones knows it."""
    y, gate = rng.integers(2, size=n_samples), rng.integers(2, size=n_samples)
    sign = 2.0 * y[:, None] - 1
    X = {
        "gate": (2.0 * gate[:, None] - 1) + 0.3 * rng.normal(size=(n_samples, 1)),
        "left": 1.5 * sign * (gate == 0)[:, None] + rng.normal(size=(n_samples, 1)),
        "right": 1.5 * sign * (gate == 1)[:, None] + rng.normal(size=(n_samples, 1)),
    }
    return X, y, {"gate": 0.2, "left": 1.0, "right": 1.0}


def synergy(n_samples, rng):
    """The class is the product of the signs of two modalities; a third knows a little."""
    left, right = rng.choice([-1, 1], size=(2, n_samples))
    y = (left * right > 0).astype(int)
    X = {
        "left": 2.0 * left[:, None] + rng.normal(size=(n_samples, 1)),
        "right": 2.0 * right[:, None] + rng.normal(size=(n_samples, 1)),
        "weak": 0.4 * (2.0 * y[:, None] - 1) + rng.normal(size=(n_samples, 1)),
    }
    return X, y, {"left": 1.0, "right": 1.0, "weak": 1.0}


DATA = {"additive": additive, "gated": gated, "synergy": synergy}


class BySet(ClassifierMixin, BaseEstimator):
    """One classifier for each set of modalities, over their columns: the best that any of them can do alone."""

    def __init__(self, estimator=None):
        self.estimator = estimator

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        estimator = QuadraticDiscriminantAnalysis(reg_param=0.01) if self.estimator is None else self.estimator
        sets = [names for k in range(1, len(X.names) + 1) for names in combinations(sorted(X.names), k)]
        self.estimators_ = {names: clone(estimator).fit(columns_of(X, names), y) for names in sets}
        return self

    def predict_proba(self, X):
        names = tuple(sorted(X.names))
        return self.estimators_[names].predict_proba(columns_of(X, names))

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def columns_of(X, names):
    return np.hstack([X[name] for name in names])


def fixed_orders(classifier, X, y, costs, prior_accuracy):
    """Return costs and accuracies along every order of modalities."""
    accuracy = {frozenset(): prior_accuracy}
    for k in range(1, len(costs) + 1):
        for names in combinations(costs, k):
            accuracy[frozenset(names)] = np.mean(classifier.predict(X.select(names)) == y)
    curves = []
    for order in permutations(costs):
        starts = [order[:k] for k in range(len(order) + 1)]
        curves.append(
            ([sum(costs[n] for n in start) for start in starts], [accuracy[frozenset(start)] for start in starts])
        )
    return curves


def compare(make, seed, trade_offs=TRADE_OFFS, lookaheads=(2, 1), n_train=1000, n_test=2000):
    """Return rows of trade-off, lookahead, mean cost, accuracy, and that of the best fixed order at this cost."""
    rng = np.random.default_rng(seed)
    X, y, costs = make(n_train + n_test, rng)
    X, train, test = Modalities(X), np.arange(n_train), np.arange(n_train, n_train + n_test)
    curves = None
    rows = []
    for trade_off in trade_offs:
        for lookahead in lookaheads:
            scheduler = ModalityScheduler(
                BySet(), costs, lookahead=lookahead, trade_off=trade_off, random_state=seed
            ).fit(X[train], y[train])
            if curves is None:
                majority = scheduler.classes_[np.bincount(y[train]).argmax()]
                curves = fixed_orders(scheduler.estimator_, X[test], y[test], costs, np.mean(y[test] == majority))
            found = scheduler.schedule(X[test])
            cost = found.cost.mean()
            accuracy = np.mean(scheduler.classes_[found.probabilities.argmax(axis=1)] == y[test])
            rows.append((trade_off, lookahead, cost, accuracy, max(np.interp(cost, *curve) for curve in curves)))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{'data':<10}{'trade-off':>10}{'lookahead':>11}{'cost':>7}{'accuracy':>10}{'fixed order':>13}{'points':>8}")
    for name, make in DATA.items():
        rows = np.mean([compare(make, seed) for seed in range(arguments.seeds)], axis=0)
        for trade_off, lookahead, cost, accuracy, fixed in rows:
            print(
                f"{name:<10}{trade_off:>10.3f}{lookahead:>11.0f}{cost:>7.2f}{accuracy:>10.3f}{fixed:>13.3f}"
                f"{100 * (accuracy - fixed):>+8.1f}"
            )


if __name__ == "__main__":
    main()
