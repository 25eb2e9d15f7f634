"""Every fusion on the handwritten digits and on basic motions: accuracy, parameters, seconds an epoch, peak memory.

Defaults of `JointFusionClassifier` but for the fusion, StratifiedKFold(5, shuffle=True) with seeds 0, 1 and 2. Each
fusion runs in a process of its own, on one thread; memory is what its peak lies above that of the process with the
data loaded. Prints the table that stands in the guide on fusions.
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


def load(data):
    from skfusion.datasets import load_basic_motions, load_handwritten

    bunch = load_handwritten() if data == "handwritten" else load_basic_motions()
    return bunch.data, np.asarray(bunch.target)


def evaluate(task):
    """Cross-validate one fusion on one data set."""
    fusion, data, seeds, n_folds = task
    import torch
    from sklearn.model_selection import StratifiedKFold

    import skfusion.training.net  # noqa: F401, skorch is no part of a fusion's memory
    from skfusion import JointFusionClassifier

    torch.set_num_threads(1)
    X, y = load(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    scores, seconds = [], []
    for seed in seeds:
        splits = StratifiedKFold(5, shuffle=True, random_state=seed).split(np.zeros((len(y), 1)), y)
        for train, test in list(splits)[:n_folds]:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                model = JointFusionClassifier(fusion=fusion, random_state=0, device="cpu").fit(X[train], y[train])
            scores.append(model.score(X[test], y[test]))
            seconds.append(np.median(model.history_[:, "dur"]))
    return {
        "accuracy": np.mean(scores),
        "parameters": sum(p.numel() for p in model.network_.parameters()),
        "seconds": np.median(seconds),
        "memory": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fusions", nargs="+", default=list(FUSIONS))
    parser.add_argument("--data", nargs="+", default=list(DATA))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folds", type=int, default=5, help="how many of the five folds")
    parser.add_argument("--n-jobs", type=int, default=2)
    arguments = parser.parse_args()
    tasks = [(f, d, arguments.seeds, arguments.folds) for f in arguments.fusions for d in arguments.data]
    print(f"{machine()}; {arguments.folds} folds, seeds {arguments.seeds}, one thread each\n")
    columns = [f"{title}, {data}" for data in arguments.data for title in ("accuracy", "parameters", "s/epoch", "MiB")]
    print("| fusion | " + " | ".join(columns) + " |\n| --- |" + " ---: |" * len(columns))
    with ProcessPoolExecutor(arguments.n_jobs, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        found = pool.map(evaluate, tasks)
        for fusion in arguments.fusions:
            row = []
            for _ in arguments.data:
                r = next(found)
                row += [f"{r['accuracy']:.4f}", f"{r['parameters']:,}", f"{r['seconds']:.3f}", f"{r['memory']:.0f}"]
            print(f"| {fusion} | " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
