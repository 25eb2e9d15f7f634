"""Coverage and size of prediction sets by missing pattern: a threshold for each pattern against one for all.

Prints for each pattern, over seeds, the mean share of sets that hold the truth, the mean number of classes in them (for
regression the mean width of intervals), and how many of its samples calibrate. Data: planted, with patterns of unequal
difficulty and one of them rare; and the handwritten digits, with patterns drawn at random. The classifier is fitted
once for the digits, and each seed draws anew who calibrates and who is tested.
"""

import argparse
import warnings

import numpy as np
import pandas as pd
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.frozen import FrozenEstimator
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline

from skfusion import (
    EarlyFusionTransformer,
    FusionRegressor,
    Modalities,
    PatternConformalClassifier,
    PatternConformalRegressor,
)
from skfusion.datasets import load_handwritten
from skfusion.modalities.patterns import name_pattern

MARGINAL = {"min_samples": 10**9, "pooling": "nearest"}
"""Every pattern is pooled with all others: split conformal prediction as it comes."""
CALIBRATIONS = {"by pattern": {}, "nearest pooled": {"pooling": "nearest"}, "one for all": MARGINAL}


def with_patterns(data, patterns, shares, rng):
    """Let each sample have the modalities of a pattern, drawn by its share."""
    n_samples = len(next(iter(data.values())))
    drawn = rng.choice(len(patterns), size=n_samples, p=shares)
    return Modalities(data, present={name: np.array([name in p for p in patterns])[drawn] for name in data})


def planted(n_samples, rng, classify):
    """`labs` know most, `notes` little; a pattern of 38, 30, 30 and 2 %."""
    y = rng.integers(4, size=n_samples) if classify else rng.normal(size=n_samples)
    truth = np.eye(4)[y] if classify else y[:, None]
    noise = {"labs": 0.5, "ecg": 1.0, "notes": 2.0}
    data = {name: truth + sd * rng.normal(size=truth.shape) for name, sd in noise.items()}
    patterns = [("labs", "ecg", "notes"), ("labs", "ecg"), ("ecg", "notes"), ("notes",)]
    return with_patterns(data, patterns, [0.38, 0.30, 0.30, 0.02], rng), y


def planted_runs(n_seeds, classify):
    model = PatternConformalClassifier if classify else PatternConformalRegressor
    inner = make_pipeline(EarlyFusionTransformer(add_indicator=True), GaussianNB())
    inner = inner if classify else FusionRegressor("early")
    for seed in range(n_seeds):
        rng = np.random.default_rng(seed)
        X, y = planted(2000, rng, classify)
        learnt = FrozenEstimator(inner.fit(X, y))
        yield model(learnt, random_state=seed), planted(1500, rng, classify), planted(3000, rng, classify)


def digit_runs(n_seeds):
    X, y = load_handwritten(return_X_y=True)
    data = {name: X[name] for name in X.names}
    patterns = [tuple(X.names), ("fou", "zer", "mor"), ("zer", "mor"), ("mor",)]
    order = np.random.default_rng(0).permutation(len(y))
    learnt, rest = order[:600], order[600:]
    X = with_patterns(data, patterns, [0.31, 0.33, 0.33, 0.03], np.random.default_rng(0))
    inner = make_pipeline(EarlyFusionTransformer(add_indicator=True), LinearDiscriminantAnalysis("lsqr", 0.3))
    frozen = FrozenEstimator(inner.fit(X[learnt], y[learnt]))
    for seed in range(n_seeds):
        rng = np.random.default_rng(seed)
        X = with_patterns(data, patterns, [0.31, 0.33, 0.33, 0.03], rng)
        rows = rng.permutation(rest)
        calibrate, test = rows[:900], rows[900:]
        yield PatternConformalClassifier(frozen, random_state=seed), (X[calibrate], y[calibrate]), (X[test], y[test])


def judge(model, X, y):
    """Return a frame, a row a sample: its pattern, whether its set holds the truth, and how large that is."""
    if isinstance(model, PatternConformalRegressor):
        low, high = model.predict_interval(X).T
        held, size = (low <= y) & (y <= high), high - low
    else:
        sets = model.predict_set(X)
        held, size = sets[np.arange(len(y)), np.searchsorted(model.classes_, y)], sets.sum(axis=1)
    names = [name_pattern(row, X.names) for row in X.present]
    return pd.DataFrame({"pattern": names, "coverage": held, "size": size})


def table(title, runs):
    found = []
    for model, (X, y), (X_test, y_test) in runs:
        for name, params in CALIBRATIONS.items():
            model.set_params(min_samples=50, pooling="subset").set_params(**params).fit(X, y)
            means = judge(model, X_test, y_test).groupby("pattern").mean()
            means["n"] = model.patterns_["n_calibration"]
            found.append(means.assign(calibrated=name).reset_index())
    mean = pd.concat(found).groupby(["pattern", "calibrated"]).mean().unstack()
    n = mean["n"]["by pattern"]
    print(f"\n{title:<34}{'n':>6}" + "".join(f"{name:>18}" for name in CALIBRATIONS), flush=True)
    for pattern in n.sort_values(ascending=False).index:
        cells = [f"{mean['coverage'][name][pattern]:.3f} {mean['size'][name][pattern]:5.2f}" for name in CALIBRATIONS]
        print(f"  {pattern:<32}{n[pattern]:>6.0f}" + "".join(f"{cell:>18}" for cell in cells), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=50)
    n_seeds = parser.parse_args().seeds
    # What it compares are pools of unlike samples.
    warnings.filterwarnings("ignore", message="too few calibration samples have just", category=UserWarning)
    print("coverage (nominal .9) and mean size, by pattern; n is the number of its calibration samples")
    table("planted classes", planted_runs(n_seeds, classify=True))
    table("planted numbers", planted_runs(n_seeds, classify=False))
    table("handwritten", digit_runs(n_seeds))


if __name__ == "__main__":
    main()
