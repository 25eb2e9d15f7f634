"""A modality that only training has: breast cancer subtypes, with protein in training and none where it is predicted.

Takes an npz with ``mrna_train``, ``mirna_train``, ``protein_train``, ``y_train``, and ``mrna_test``, ``mirna_test``,
``y_test``. In stratified 5-fold cross-validation over the training samples, protein is taken from each test fold; the
same model, trained without protein at all, is what each is compared with. Due is that protein in training costs no more
than a point of accuracy, and in early and joint fusion that predictions differ, so that it is not just left out. Late
fusion predicts by a final estimator of the modalities present, so there they are the same. Imputers fill protein
before the classifier of early fusion, which by itself fills what its extractors give. The test samples, which really
have no protein, are predicted once, by the same defaults.

    python benchmarks/breast_tcga.py breast_tcga.npz --repeats 10 --n-jobs 2
"""

import argparse
import time

import numpy as np
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.model_selection import RepeatedStratifiedKFold
from sklearn.pipeline import make_pipeline

from skfusion import FusionClassifier, Modalities, ModalityImputer

ALWAYS, ABSENT = ["mrna", "mirna"], "protein"
MODELS = {
    **{name: FusionClassifier(name, random_state=0) for name in ("early", "joint", "late")},
    **{
        f"{strategy} imputer": make_pipeline(ModalityImputer(strategy, random_state=0), FusionClassifier("early"))
        for strategy in ("linear", "factor", "knn")
    },
}


def predictions(model, X, y, new):
    """Return the predictions for `new` with the absent modality in training, without it, and the seconds of both."""
    start = time.perf_counter()
    found = [clone(model).fit(X.select(names), y).predict(new) for names in ([*ALWAYS, ABSENT], ALWAYS)]
    return *found, time.perf_counter() - start


def report(title, folds, truths):
    """Print the accuracies over all predictions, and the standard error of their difference over folds."""
    gains = [np.mean(a == y) - np.mean(b == y) for (a, b, _), y in zip(folds, truths)]
    error = f" ± {100 * np.std(gains, ddof=1) / np.sqrt(len(gains)):.1f}" if len(gains) > 1 else ""
    a, b, y = (np.concatenate(parts) for parts in ([f[0] for f in folds], [f[1] for f in folds], truths))
    accuracies = np.mean(a == y), np.mean(b == y)
    points = f"{100 * (accuracies[0] - accuracies[1]):+.1f}{error}"
    print(
        f"| {title:<16} | {accuracies[0]:>7.4f} | {accuracies[1]:>7.4f} | {points:>11} | "
        f"{f'{np.sum(a != b)} of {len(y)}':>11} | {np.mean([f[2] for f in folds]):>9.1f} |",
        flush=True,
    )


def head(title):
    print(f"\n{title}\n\n| {'':<16} | with    | without | points      | differ      | s, a pair |")
    print(f"| {'-' * 16} | ------- | ------- | ----------- | ----------- | --------- |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("npz", help="the data")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--repeats", type=int, default=10, help="of the cross-validation; 0 leaves it out")
    parser.add_argument("--n-jobs", type=int, default=1, help="processes, over folds")
    arguments = parser.parse_args()
    with np.load(arguments.npz, allow_pickle=False) as data:
        X, y = Modalities({name: data[f"{name}_train"] for name in [*ALWAYS, ABSENT]}), data["y_train"]
        test, y_test = Modalities({name: data[f"{name}_test"] for name in ALWAYS}), data["y_test"]
    if arguments.repeats:
        head(f"{len(X)} samples, {arguments.repeats} x 5 folds, {ABSENT} taken from the test folds")
        folds = list(RepeatedStratifiedKFold(n_splits=5, n_repeats=arguments.repeats, random_state=0).split(y, y))
        for name in arguments.models:
            found = Parallel(arguments.n_jobs)(
                delayed(predictions)(MODELS[name], X[train], y[train], X[held_out].select(ALWAYS))
                for train, held_out in folds
            )
            report(name, found, [y[held_out] for _, held_out in folds])
    head(f"{len(test)} test samples, which have no {ABSENT}")
    for name in arguments.models:
        report(name, [predictions(MODELS[name], X, y, test)], [y_test])


if __name__ == "__main__":
    main()
