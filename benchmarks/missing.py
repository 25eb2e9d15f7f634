"""Handwritten digits with modalities missing at random, at fit and at predict: every imputer and every fusion.

Each of the six modalities is missing for a share of the samples (MCAR, one kept), the same share in training
and test, the same slots and folds for all: StratifiedKFold(5, shuffle=True) with seeds 0, 1 and 2. Modalities are
standardised first by what was observed in training, so that filling with zero is filling with the training mean.
Imputers are compared under logistic regression and under the default JointFusionClassifier; models that take missing
modalities as they are stand below. Differences are paired, with intervals of the corrected resampled t-test.

The whole takes hours. What was computed is kept in a file and not computed again:
``python benchmarks/missing.py --store missing.jsonl``.
"""

import argparse
import json
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from _timing import machine
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler

from skfusion import (
    FusionClassifier,
    JointFusionClassifier,
    LateFusionStacker,
    Modalities,
    ModalityImputer,
    ampute,
)
from skfusion.datasets import load_handwritten
from skfusion.inspection import corrected_resampled_interval

IMPUTERS = ("zero", "knn", "linear", "factor", "vae", "conversion", "regressor", "gan", "diffusion", "average")
JOINT = {
    "joint": {},
    "joint, modality dropout .3": {"modality_dropout": 0.3},
    "joint, modality dropout .5": {"modality_dropout": 0.5},
    "joint, modality dropout .5, dropout rate .5": {"modality_dropout": 0.5, "dropout_rate": 0.5},
    "joint, curriculum": {"modality_dropout": "curriculum"},
    "joint, learned tokens": {"fill_missing": "token"},
    "joint, priors": {"fill_missing": "prior"},
    "joint, ranking": {"objectives": ["ranking"]},
    "joint, shared_specific": {"fusion": "shared_specific"},
    "joint, mixture_of_experts": {"fusion": "mixture_of_experts"},
}
MODELS = ("early", *JOINT, "late", "late, product", "best single modality", "complete samples")
SLOW = (*IMPUTERS[4:], "late", "late, product")
LEAST_OF_A_CLASS = 5


def data(rate, seed, fold):
    """Return training and test parts of a fold, standardised by what is observed in training."""
    bunch = load_handwritten()
    y = np.asarray(bunch.target)
    X = ampute(bunch.data, rate, random_state=seed) if rate else Modalities(bunch.data)
    train, test = list(StratifiedKFold(5, shuffle=True, random_state=seed).split(np.zeros((len(y), 1)), y))[fold]
    tables = {}
    for name, present in zip(X.names, X.present.T):
        scaler = StandardScaler().fit(X[name][train[present[train]]])
        tables[name] = np.where(present[:, None], scaler.transform(X[name]), np.nan)
    X = Modalities(tables)
    return X[train], y[train], X[test], y[test]


def linear():
    return LogisticRegression(max_iter=300)


def impute(strategy, X, y, new, truth):
    imputer = ModalityImputer(strategy, random_state=0, device="cpu").fit(X)
    filled, guessed = imputer.transform(X), imputer.transform(new)
    flat, flat_new = (np.hstack([part[name] for name in part.names]) for part in (filled, guessed))
    joint = JointFusionClassifier(random_state=0, device="cpu").fit(filled, y)
    return {
        f"{strategy} | LR": linear().fit(flat, y).score(flat_new, truth),
        f"{strategy} | joint": joint.score(guessed, truth),
    }


def model(name, X, y, new, truth):
    if name in JOINT:
        return {name: JointFusionClassifier(**JOINT[name], random_state=0, device="cpu").fit(X, y).score(new, truth)}
    if name == "best single modality":
        alone = {}
        for modality in X.names:
            fitted = FusionClassifier("early").fit(
                X.select([modality])[X.present[:, X.names.index(modality)]], y[X.present[:, X.names.index(modality)]]
            )
            alone[f"{modality} alone"] = fitted.score(new.select([modality]), truth)
        return alone
    if name == "complete samples":
        whole = X.present.all(axis=1)
        if min(np.bincount(y[whole], minlength=10)) < LEAST_OF_A_CLASS:
            return {name: None}
        flat, flat_new = (np.hstack([np.nan_to_num(part[n]) for n in part.names]) for part in (X[whole], new))
        return {name: linear().fit(flat, y[whole]).score(flat_new, truth)}
    estimators = {
        "early": FusionClassifier("early"),
        "late": LateFusionStacker(random_state=0),
        "late, product": LateFusionStacker(final_estimator="product", random_state=0),
    }
    return {name: estimators[name].fit(X, y).score(new, truth)}


def evaluate(task):
    """Return the accuracies of one method in one fold, and its seconds."""
    import torch

    torch.set_num_threads(1)
    name, rate, seed, fold = task
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        scores = (impute if name in IMPUTERS else model)(name, *data(rate, seed, fold))
    return {"task": task, "scores": scores, "seconds": time.perf_counter() - start}


def tasks_of(arguments):
    """List the tasks, the rate in question and the fast methods first, then seed by seed."""
    wanted = product(arguments.methods, arguments.rates, arguments.seeds, range(5))
    tasks = [task for task in wanted if task[1] or task[0] not in IMPUTERS[1:]]
    return sorted(tasks, key=lambda task: (task[1] != 0.5, task[0] in SLOW, task[2]))


def report(found, rates):
    """Print the tables."""
    scores = {}
    for entry in found:
        _, rate, seed, fold = entry["task"]
        for name, score in entry["scores"].items():
            scores.setdefault((name, rate), {})[seed, fold] = score
    singles = sorted({name for name, _ in scores if name.endswith(" alone")})
    for rate in rates:
        known = [name for name in singles if (name, rate) in scores]
        if known:
            best = max(known, key=lambda name: np.mean(list(scores[name, rate].values())))
            scores["best single modality", rate] = scores[best, rate]
    titles = [f"{s} | {d}" for d in ("LR", "joint") for s in IMPUTERS] + list(MODELS)
    print("| method | " + " | ".join(f"missing {rate:g}" for rate in rates) + " | difference at .5 | folds at .5 |")
    print("| --- |" + " ---: |" * (len(rates) + 2))
    for title in titles:
        cells = []
        for rate in rates:
            values = list(scores.get((title, rate), {}).values())
            if not values:
                cells.append("as zero" if not rate and "|" in title else "")
            elif None in values:
                cells.append(f"a class has < {LEAST_OF_A_CLASS}")
            else:
                cells.append(f"{np.mean(values):.4f}" + ("" if len(values) >= 15 else f" ({len(values)} folds)"))
        own = scores.get((title, 0.5), {})
        base = f"zero | {title.rpartition(' | ')[2]}" if "|" in title else "joint"
        other = scores.get((base, 0.5), {})
        shared = [key for key in own if key in other and own[key] is not None]
        difference = ""
        if shared and title != base:
            d = [own[key] - other[key] for key in shared]
            low, high = corrected_resampled_interval(d, 1600, 400)
            difference = f"{100 * np.mean(d):+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"
        name = title.replace(" | LR", ", then logistic regression").replace(" | joint", ", then joint")
        print(f"| {name} | " + " | ".join(cells) + f" | {difference} | {len(own) or ''} |")
    print("\nDifferences in points: imputers to zero under the same classifier, models to the default joint fusion.")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.0, 0.3, 0.5, 0.7])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=[*IMPUTERS, *MODELS])
    parser.add_argument("--n-jobs", type=int, default=2)
    parser.add_argument("--store", type=Path, help="a file of results, read and appended to")
    parser.add_argument("--report", action="store_true", help="print what the store holds, compute nothing")
    arguments = parser.parse_args()
    store = arguments.store
    found = [json.loads(line) for line in store.read_text().splitlines()] if store and store.exists() else []
    done = {tuple(entry["task"]) for entry in found}
    tasks = [] if arguments.report else [task for task in tasks_of(arguments) if task not in done]
    with ProcessPoolExecutor(arguments.n_jobs, mp_context=get_context("spawn")) as pool:
        for number, future in enumerate(as_completed([pool.submit(evaluate, task) for task in tasks])):
            entry = future.result()
            found.append(entry)
            print(f"{number + 1} of {len(tasks)}: {entry['task']} {entry['seconds']:.0f} s", flush=True)
            if store:
                with store.open("a") as file:
                    file.write(json.dumps(entry) + "\n")
    print(f"\n{machine()}; 2,000 samples, six modalities, five folds a seed\n")
    report(found, arguments.rates)


if __name__ == "__main__":
    main()
