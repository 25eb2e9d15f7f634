"""Accuracy of the defaults: early, joint and late, StratifiedKFold(5, shuffle=True), seeds 0, 1 and 2.

Handwritten digits ship with the package. A path to an AnnData with the layers spliced and unspliced and
``obs["clusters"]`` adds that data set: ``python benchmarks/accuracy.py pancreas.h5ad``. Defaults are fixed beforehand:
those that were chosen by a benchmark were chosen by ``benchmarks/defaults.py``, on other folds.
"""

import argparse
import time
import warnings

import numpy as np
from sklearn.model_selection import StratifiedKFold, cross_val_score

from skfusion import FusionClassifier, Modalities
from skfusion.datasets import load_handwritten


def evaluate(title, X, y, n_jobs, seeds):
    print(f"\n{title}: {len(X)} samples, {X.shape[1]} modalities, {len(np.unique(y))} classes")
    print(f"  {'':<8}{'mean':>8}{'sd over folds':>16}   by seed")
    for fusion in ("early", "joint", "late"):
        start = time.perf_counter()
        scores = []
        for seed in seeds:
            model = FusionClassifier(fusion, random_state=0, n_jobs=n_jobs)
            folds = StratifiedKFold(5, shuffle=True, random_state=seed)
            scores.append(cross_val_score(model, X, y, cv=folds))
        scores = np.array(scores)
        by_seed = " ".join(f"{s:.4f}" for s in scores.mean(axis=1))
        print(
            f"  {fusion:<8}{scores.mean():>8.4f}{scores.std():>16.4f}   {by_seed}   "
            f"{(time.perf_counter() - start) / scores.size:.1f} s a fold",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("anndata", nargs="?", help="an h5ad file with layers spliced and unspliced")
    parser.add_argument("--n-jobs", type=int, default=2)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--skip-handwritten", action="store_true")
    arguments = parser.parse_args()
    if not arguments.skip_handwritten:
        bunch = load_handwritten()
        evaluate("handwritten", bunch.data, bunch.target, arguments.n_jobs, arguments.seeds)
    if arguments.anndata:
        import anndata

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            adata = anndata.read_h5ad(arguments.anndata)
        y = adata.obs["clusters"].astype(str).to_numpy()
        evaluate(
            arguments.anndata.rpartition("/")[2], Modalities.from_anndata(adata), y, arguments.n_jobs, arguments.seeds
        )


if __name__ == "__main__":
    main()
