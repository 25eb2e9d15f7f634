"""LateFusionStacker against StackingClassifier over one ColumnTransformer a modality, the same fits and folds.

20,000 rows, three modalities, three sets of estimators: linear alone, with boosting, and with a forest besides, which
then takes most of the time. Prints seconds (median of interleaved rounds), the ratio, and the largest difference
between the two predictions of probabilities, for three modalities and for one.
"""

import argparse

import numpy as np
from _timing import interleave, machine, median_ratio
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier, StackingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from skfusion import LateFusionStacker

N, WIDTHS, N_CLASSES = 20_000, {"a": 20, "b": 15, "c": 10}, 2


def make_data():
    rng = np.random.default_rng(0)
    y = rng.integers(N_CLASSES, size=N)
    X = {name: rng.normal(size=(N, d)) + 0.2 * rng.normal(size=(N_CLASSES, d))[y] for name, d in WIDTHS.items()}
    return X, y


LINEAR = [("lr", LogisticRegression())]
BOOSTED = [*LINEAR, ("hgb", HistGradientBoostingClassifier(max_iter=50, early_stopping=False, random_state=0))]
FOREST = [*BOOSTED, ("rf", RandomForestClassifier(30, random_state=0))]


def stacking(names, estimators, n_jobs):
    """Return scikit-learn's own: each base picks the columns of its modality."""
    bases, start = [], 0
    for name in names:
        columns = slice(start, start + WIDTHS[name])
        start += WIDTHS[name]
        bases += [
            (f"{name}_{key}", make_pipeline(ColumnTransformer([("pick", "passthrough", columns)]), estimator))
            for key, estimator in estimators
        ]
    return StackingClassifier(bases, cv=5, n_jobs=n_jobs)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    X, y = make_data()
    print(f"late fusion: {N} x {tuple(WIDTHS.values())}, 5 folds, {machine()}\n")
    print(f"{'':<30}{'StackingClassifier':>20}{'LateFusionStacker':>20}{'ratio':>8}{'largest difference':>21}")
    sets = {"LR": LINEAR, "LR + HGB": BOOSTED, "LR + HGB + RF": FOREST}
    # Not timed: the worker processes start.
    LateFusionStacker(LINEAR, n_jobs=2).fit(X, y)
    for n_names, n_jobs, title in (
        (3, 2, "LR"),
        (3, 2, "LR + HGB"),
        (3, 2, "LR + HGB + RF"),
        (3, 1, "LR"),
        (3, 1, "LR + HGB"),
        (3, 1, "LR + HGB + RF"),
        (1, 2, "LR + HGB + RF"),
    ):
        names, estimators = list(WIDTHS)[:n_names], sets[title]
        part = {name: X[name] for name in names}
        table = np.hstack(list(part.values()))
        theirs, ours = stacking(names, estimators, n_jobs), LateFusionStacker(estimators, n_jobs=n_jobs)
        seconds = interleave(
            {"theirs": lambda t=theirs, x=table: t.fit(x, y), "ours": lambda o=ours, x=part: o.fit(x, y)},
            arguments.rounds,
        )
        difference = np.abs(theirs.predict_proba(table) - ours.predict_proba(part)).max()
        medians = {name: np.median(values) for name, values in seconds.items()}
        label = f"{n_names} x {title}, n_jobs={n_jobs}"
        print(
            f"{label:<30}{medians['theirs']:>18.2f} s{medians['ours']:>18.2f} s"
            f"{median_ratio(seconds['ours'], seconds['theirs']):>8.2f}{difference:>21.1e}"
        )


if __name__ == "__main__":
    main()
