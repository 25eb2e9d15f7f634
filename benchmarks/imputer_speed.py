"""Time and memory of ModalityImputer on two tables of 200 columns, the second missing in half of the rows.

"knn": `transform` beside scikit-learn's brute-force NearestNeighbors from the same queries to the same donors, on the
same standardised float32 tables, interleaved; the ratio is due at 1.2 or less. The peak of resident memory is that of a
process of its own, which makes the data, fits and transforms; due is less than 2 GiB, the data included.
"conversion": `fit` and `transform`, due within a minute on two cores.

    OMP_NUM_THREADS=2 python benchmarks/imputer_speed.py
"""

import argparse
import multiprocessing
import os
import resource
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from _timing import interleave, machine, median_ratio
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from skfusion import ModalityImputer

WIDTH, N_NEIGHBORS = 200, 5


def make_data(n_samples):
    """Return two float32 tables that share a latent of width 10; every other row lacks the second."""
    rng = np.random.default_rng(0)
    latent = rng.standard_normal((n_samples, 10), dtype=np.float32)
    X = {}
    for name in ("first", "second"):
        X[name] = latent @ rng.standard_normal((10, WIDTH), dtype=np.float32)
        X[name] += rng.standard_normal((n_samples, WIDTH), dtype=np.float32)
    X["second"][::2] = np.nan
    return X


def peak_of(strategy, n_samples):
    """Return the peak of this process in GiB, before the imputer and with it."""
    X = make_data(n_samples)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ModalityImputer(strategy, random_state=0).fit(X).transform(X)
    return before / 2**20, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def in_a_process(run, *arguments):
    """Return ``run(*arguments)`` from a fresh process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(run, *arguments).result()


def time_knn(n_samples, rounds):
    """Return the seconds of `transform` and of the search alone, by round."""
    X = make_data(n_samples)
    imputer = ModalityImputer("knn").fit(X)
    scaled = StandardScaler().fit_transform(X["first"])

    def search():
        return NearestNeighbors(n_neighbors=N_NEIGHBORS, algorithm="brute").fit(scaled[1::2]).kneighbors(scaled[::2])

    filled, nearest = imputer.transform(X)["second"], search()[1]
    by_hand = X["second"][1::2][nearest].mean(axis=1)
    agree = np.isclose(filled[::2], by_hand, atol=1e-4).all(axis=1).mean()
    print(f"knn: {agree:.2%} of the rows are filled as from scikit-learn's neighbours")
    return interleave({"imputer": lambda: imputer.transform(X), "search": search}, rounds)


def time_conversion(n_samples):
    """Return the seconds of `fit` and of `transform`."""
    X = make_data(n_samples)
    start = time.perf_counter()
    imputer = ModalityImputer("conversion", random_state=0, device="cpu").fit(X)
    fitted = time.perf_counter()
    imputer.transform(X)
    return fitted - start, time.perf_counter() - fitted


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--only", choices=["knn", "conversion"], default=None)
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"{arguments.rows} x ({WIDTH} + {WIDTH}), {machine()}, load {load:.1f} at the start\n", flush=True)
    rows = []
    if arguments.only != "conversion":
        before, peak = in_a_process(peak_of, "knn", arguments.rows)
        rows.append(("knn, peak memory, GiB", f"{peak:.2f} ({before:.2f} before)", "< 2"))
        seconds = time_knn(arguments.rows, arguments.rounds)
        rows.append(("knn, transform, s", f"{np.median(seconds['imputer']):.2f}", ""))
        rows.append(("NearestNeighbors, brute, s", f"{np.median(seconds['search']):.2f}", ""))
        rows.append(("ratio", f"{median_ratio(seconds['imputer'], seconds['search']):.2f}", "<= 1.2"))
    if arguments.only != "knn":
        import torch

        torch.set_num_threads(arguments.threads)
        fit, transform = time_conversion(arguments.rows)
        rows.append(("conversion, fit + transform, s", f"{fit:.1f} + {transform:.1f}", "< 60"))
    print(f"\n| {'':<30} | {'':<20} | due    |\n| {'-' * 30} | {'-' * 20} | ------ |")
    for label, value, due in rows:
        print(f"| {label:<30} | {value:<20} | {due:<6} |")


if __name__ == "__main__":
    main()
