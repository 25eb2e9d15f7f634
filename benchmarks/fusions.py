"""Every fusion on the handwritten digits and on basic motions: accuracy, parameters, seconds an epoch, peak memory.

Defaults of `JointFusionClassifier` but for the fusion, StratifiedKFold(5, shuffle=True) with seeds 0, 1 and 2, each
fusion in a process of its own, on one thread. Costs come from a short training on the first fold, one fusion after the
other and nothing beside: the median epoch, and what the peak of memory lies above that of the process with the data
loaded. Prints the tables that stand in the guide on fusions.
"""

import argparse
import resource
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
from _timing import machine

from skfusion.fusion import FUSIONS

DATA = ("handwritten", "motions")
EPOCHS_OF_COST = 8


def load(data):
    from skfusion.datasets import load_basic_motions, load_handwritten

    bunch = load_handwritten() if data == "handwritten" else load_basic_motions()
    return bunch.data, np.asarray(bunch.target)


def folds(y, seed):
    from sklearn.model_selection import StratifiedKFold

    return StratifiedKFold(5, shuffle=True, random_state=seed).split(np.zeros((len(y), 1)), y)


def fit(X, y, **options):
    import torch

    from skfusion import JointFusionClassifier

    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return JointFusionClassifier(random_state=0, device="cpu", **options).fit(X, y)


def accuracy(task):
    """Cross-validate one fusion on one data set; return its accuracy and parameters."""
    fusion, data, seeds, n_folds = task
    X, y = load(data)
    scores = []
    for seed in seeds:
        for train, test in list(folds(y, seed))[:n_folds]:
            model = fit(X[train], y[train], fusion=fusion)
            scores.append(model.score(X[test], y[test]))
    return f"{np.mean(scores):.4f}", f"{sum(p.numel() for p in model.network_.parameters()):,}"


def cost(task):
    """Train one fusion for a few epochs on one fold; return seconds an epoch and memory."""
    import skfusion.training.net  # noqa: F401, skorch is no part of a fusion's memory

    fusion, data, _, _ = task
    X, y = load(data)
    train, _ = next(iter(folds(y, 0)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model = fit(X[train], y[train], fusion=fusion, max_epochs=EPOCHS_OF_COST)
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return f"{np.median(model.history_[:, 'dur']):.3f}", f"{memory:.0f}"


def table(titles, run, arguments, n_jobs):
    """Run all tasks and print a row a fusion."""
    tasks = [(f, d, arguments.seeds, arguments.folds) for f in arguments.fusions for d in arguments.data]
    columns = [f"{title}, {data}" for data in arguments.data for title in titles]
    print("| fusion | " + " | ".join(columns) + " |\n| --- |" + " ---: |" * len(columns))
    with ProcessPoolExecutor(n_jobs, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        found = pool.map(run, tasks)
        for fusion in arguments.fusions:
            cells = [cell for _ in arguments.data for cell in next(found)]
            print(f"| {fusion} | " + " | ".join(cells) + " |", flush=True)
    print()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fusions", nargs="+", default=list(FUSIONS))
    parser.add_argument("--data", nargs="+", default=list(DATA))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folds", type=int, default=5, help="how many of the five folds")
    parser.add_argument("--tables", nargs="+", default=["accuracy", "cost"])
    parser.add_argument("--n-jobs", type=int, default=2, help="of the accuracies")
    arguments = parser.parse_args()
    print(f"{machine()}; {arguments.folds} folds, seeds {arguments.seeds}, one thread each\n")
    if "accuracy" in arguments.tables:
        table(("accuracy", "parameters"), accuracy, arguments, arguments.n_jobs)
    if "cost" in arguments.tables:
        table(("s/epoch", "MiB"), cost, arguments, 1)


if __name__ == "__main__":
    main()
