"""Whether draws follow the conditional distribution where it is known: three modalities that are Gaussian together.

Each has two columns; 2,000 complete samples are drawn with a random correlation matrix. For each pattern of what is
given, 500 draws at each of 12 points are compared with the mean and the variance by formula, and 6,000 draws where
nothing is given. Printed are the variance of the draws over that of the truth, on average over points, columns and
seeds and at the worst of them, and how far their mean is off, in standard deviations of the truth. "truth" are draws
from the distribution itself: what chance alone does.

    python benchmarks/draws.py --strategies truth gan diffusion --seeds 0 1
"""

import argparse

import numpy as np

from skfusion import Modalities, ModalityImputer

NAMES = "abc"
N_SAMPLES, N_POINTS, N_DRAWS = 2000, 12, 500
PATTERNS = ("ab", "bc", "a", "")


def correlations(rng):
    """Return a random correlation matrix (6, 6)."""
    root = rng.normal(size=(6, 6))
    covariance = root @ root.T / 6 + 0.3 * np.eye(6)
    scale = np.sqrt(np.diag(covariance))
    return covariance / np.outer(scale, scale)


def split(table):
    return dict(zip(NAMES, np.split(table, len(NAMES), axis=1)))


def compare(imputer, covariance, given, points):
    """Return ratios of variances, and errors of means, (n_points, n_columns)."""
    known = np.array([name in given for name in np.repeat(list(NAMES), 2)])
    n_points, n_draws = (N_POINTS, N_DRAWS) if given else (1, N_POINTS * N_DRAWS)
    points = points[:n_points]
    cross, own = covariance[np.ix_(~known, known)], covariance[np.ix_(~known, ~known)]
    weights = cross @ np.linalg.inv(covariance[np.ix_(known, known)])
    mean, variance = points[:, known] @ weights.T, np.diag(own - weights @ cross.T)
    if imputer is None:
        exact = np.random.default_rng(0).multivariate_normal(
            np.zeros(len(variance)), own - weights @ cross.T, (n_points, n_draws)
        )
        draws = mean[:, None] + exact
    else:
        table = np.where(known, np.repeat(points, n_draws, axis=0), np.nan)
        (drawn,) = imputer.sample(Modalities(split(table)))
        draws = np.hstack([drawn[name] for name in NAMES])[:, ~known].reshape(n_points, n_draws, -1)
    return draws.var(axis=1) / variance, np.abs(draws.mean(axis=1) - mean) / np.sqrt(variance)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategies", nargs="+", default=["truth", "factor", "knn", "vae", "gan", "diffusion"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    arguments = parser.parse_args()
    print("| strategy | given | variance | at the worst | mean off by | at the worst |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for strategy in arguments.strategies:
        found = {given: [] for given in PATTERNS}
        for seed in arguments.seeds:
            rng = np.random.default_rng(seed)
            covariance = correlations(rng)
            samples, points = (rng.multivariate_normal(np.zeros(6), covariance, size=n) for n in (N_SAMPLES, N_POINTS))
            imputer = None
            if strategy != "truth":
                imputer = ModalityImputer(strategy, random_state=seed, device="cpu").fit(split(samples))
            for given in PATTERNS:
                found[given].append(compare(imputer, covariance, given, points))
        for given, pairs in found.items():
            ratios, errors = (np.concatenate([pair[k].ravel() for pair in pairs]) for k in (0, 1))
            print(
                f"| {strategy} | {', '.join(given) or 'nothing'} | {ratios.mean():.2f} | {ratios.min():.2f} to "
                f"{ratios.max():.2f} | {errors.mean():.2f} | {errors.max():.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
