"""Handwritten digits, few labels: a student with one modality learns from a teacher with all six.

A seed draws 1,600 samples for training, the same number of each digit, and holds 400 out; a tenth of the 1,600 has a
label. The teacher is the default JointFusionClassifier, fitted on the labelled ones, with all six modalities; the
student is the same with one modality, which is all it sees in training and test. It learns from the labels alone, or
through FusionDistiller from the teacher as well: on the labelled samples, or on all. Since it then sees ten times as
many samples an epoch, the labels alone have a row with ten times the epochs too. The last row, the student on the
labels of all 1,600, says what there is to be gained. Differences are paired by seed, with
intervals of the corrected resampled t-test.

What was computed is kept in a file and not computed again: ``python benchmarks/distillation.py --store kd.jsonl``.
"""

import argparse
import json
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from _timing import machine
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split

from skfusion import FusionDistiller, JointFusionClassifier
from skfusion.datasets import load_handwritten
from skfusion.inspection import corrected_resampled_interval

N_TEST = 400
SHARE_LABELLED = 0.1
NO_LABEL = -1
BASE = "labels alone"
ARMS = {
    BASE: None,
    "labels alone, epochs x 10": {"max_epochs": 500},
    "response, labelled samples": {"only_labelled": True},
    "response": {},
    "response, folds": {"cv": 5},
    "intermediate": {"method": "intermediate"},
    "both": {"method": "both"},
    "labels of all samples": None,
}
"""What a student learns from; parameters of FusionDistiller, or of the student where it learns from labels alone."""


def data(seed):
    """Return training and test parts, and which of the training samples have a label."""
    bunch = load_handwritten()
    y = np.asarray(bunch.target)
    train, test = train_test_split(np.arange(len(y)), test_size=N_TEST, stratify=y, random_state=seed)
    some, _ = train_test_split(np.arange(len(train)), train_size=SHARE_LABELLED, stratify=y[train], random_state=seed)
    labelled = np.zeros(len(train), dtype=bool)
    labelled[some] = True
    return bunch.data[train], y[train], labelled, bunch.data[test], y[test]


def joint(seed, **params):
    return JointFusionClassifier(random_state=seed, device="cpu", **params)


def evaluate(task):
    """Return the accuracies of the teacher and of a student's arms in one seed, and the seconds."""
    import torch

    torch.set_num_threads(1)
    name, seed, arms = task
    start = time.perf_counter()
    X, y, labelled, new, truth = data(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        teacher = joint(seed).fit(X[labelled], y[labelled])
        scores = {"teacher": teacher.score(new, truth)}
        for arm in arms:
            params = dict(ARMS[arm] or {})
            if arm == "labels of all samples":
                fitted = joint(seed, modalities=[name]).fit(X, y)
            elif arm.startswith(BASE):
                fitted = joint(seed, modalities=[name], **params).fit(X[labelled], y[labelled])
            elif params.pop("only_labelled", False):
                student = FusionDistiller(FrozenEstimator(teacher), joint(seed), student_modalities=[name])
                fitted = student.fit(X[labelled], y[labelled])
            else:
                part = joint(seed) if "cv" in params else FrozenEstimator(teacher)
                student = FusionDistiller(part, joint(seed), student_modalities=[name], unlabeled=NO_LABEL, **params)
                fitted = student.fit(X, np.where(labelled, y, NO_LABEL))
            scores[arm] = fitted.score(new, truth)
    return {"task": [name, seed], "scores": scores, "seconds": time.perf_counter() - start}


def report(found, students):
    """Print the table: accuracies, and differences to the labels alone in points."""
    scores = {(name, seed): {} for entry in found for name, seed in [entry["task"]]}
    for entry in found:
        scores[tuple(entry["task"])].update(entry["scores"])
    print("| learns from | " + " | ".join(f"{name} | difference" for name in students) + " |")
    print("| --- |" + " ---: | ---: |" * len(students))
    for arm in ("teacher", *ARMS):
        cells = []
        for name in students:
            own = {seed: s for (student, seed), s in sorted(scores.items()) if student == name and arm in s}
            cells.append(f"{np.mean([s[arm] for s in own.values()]):.4f}" if own else "")
            d = [s[arm] - s[BASE] for s in own.values() if BASE in s]
            if arm in (BASE, "teacher") or len(d) < 2:
                cells.append("")
                continue
            low, high = corrected_resampled_interval(d, 2000 - N_TEST, N_TEST)
            cells.append(f"{100 * np.mean(d):+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]")
        print(f"| {arm} | " + " | ".join(cells) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--students", nargs="+", default=["mor", "zer", "fou"])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--n-jobs", type=int, default=2)
    parser.add_argument("--store", type=Path, help="a file of results, read and appended to")
    arguments = parser.parse_args()
    store = arguments.store
    found = [json.loads(line) for line in store.read_text().splitlines()] if store and store.exists() else []
    done = {(*entry["task"], arm) for entry in found for arm in entry["scores"]}
    tasks = [
        (name, seed, arms)
        for seed in arguments.seeds
        for name in arguments.students
        if (arms := [arm for arm in arguments.arms if (name, seed, arm) not in done])
    ]
    with ProcessPoolExecutor(arguments.n_jobs, mp_context=get_context("spawn")) as pool:
        for number, future in enumerate(as_completed([pool.submit(evaluate, task) for task in tasks])):
            entry = future.result()
            found.append(entry)
            print(f"{number + 1} of {len(tasks)}: {entry['task']} {entry['seconds']:.0f} s", flush=True)
            if store:
                with store.open("a") as file:
                    file.write(json.dumps(entry) + "\n")
    print(f"\n{machine()}; 2,000 samples, {len(arguments.seeds)} seeds\n")
    report(found, arguments.students)
    print("\nDifferences in points, to the labels alone.")


if __name__ == "__main__":
    main()
