"""How the defaults were chosen: candidates over the shipped data (and an AnnData, if given), on folds of seed 10.

The folds are others than those of ``benchmarks/accuracy.py``. Prints the mean accuracy of each candidate on each data
set; a default is the candidate that is best on average, not on one data set.
"""

import argparse
import warnings

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skfusion import EarlyFusionTransformer, JointFusionClassifier, LateFusionStacker, Modalities
from skfusion.datasets import load_basic_motions, load_handwritten, load_nutrimouse
from skfusion.preprocessing import LogNormalizer, OneScale

JOINT = {
    "as it is": {},
    "dropout .2": {"dropout_rate": 0.2},
    "dropout .7": {"dropout_rate": 0.7},
    "no label smoothing": {"label_smoothing": 0.0},
    "lr .001": {"lr": 1e-3},
    "lr .01": {"lr": 1e-2},
    "no weight decay": {"weight_decay": 0.0},
    "constant lr": {"scheduler": None},
    "25 epochs": {"max_epochs": 25},
    "early stopping": {"early_stopping": True},
}
FINAL = {
    "as it is": None,
    "logistic regression, raw predictions": LogisticRegression(max_iter=1000),
    "standardised, C=1": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
    "standardised, C=.01": make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000)),
    "mean": "mean",
    "product": "product",
}


class FixedTotal(LogNormalizer):
    """Counts scaled to a fixed total instead of the median."""

    def __init__(self, total):
        self.total = total

    def fit(self, X, y=None):
        super().fit(X)
        self.target_sum_ = self.total
        return self


def score(model, X, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return cross_val_score(model, X, y, cv=StratifiedKFold(5, shuffle=True, random_state=10)).mean()


def table(title, candidates, data):
    print(f"\n{title:<40}" + "".join(f"{name:>16}" for name in data), flush=True)
    for label, build in candidates.items():
        scores = [score(build(), X, y) for X, y in data.values()]
        print(f"  {label:<38}" + "".join(f"{s:>16.4f}" for s in scores), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("anndata", nargs="?", help="an h5ad file with layers spliced and unspliced")
    parser.add_argument("--only", choices=["joint", "late", "counts"], default=None)
    parser.add_argument("--digits", type=int, default=600, help="rows of the handwritten digits")
    arguments = parser.parse_args()
    data = {}
    for name, load in {
        "handwritten": load_handwritten,
        "motions": load_basic_motions,
        "nutrimouse": load_nutrimouse,
    }.items():
        bunch = load()
        X, y = bunch.data, np.asarray(bunch.target)
        if name == "handwritten":
            rows = np.random.default_rng(10).permutation(len(X))[: arguments.digits]
            X, y = X[rows], y[rows]
        data[name] = X, y
    counts = {}
    if arguments.anndata:
        import anndata

        adata = anndata.read_h5ad(arguments.anndata)
        counts["counts"] = data["counts"] = (
            Modalities.from_anndata(adata),
            adata.obs["clusters"].astype(str).to_numpy(),
        )
    if arguments.only in (None, "joint"):
        joint = {
            label: lambda options=options: JointFusionClassifier(random_state=0, **options)
            for label, options in JOINT.items()
        }
        table("joint", joint, data)
    if arguments.only in (None, "late"):
        late = {
            label: lambda final=final: LateFusionStacker(final_estimator=final, random_state=0, n_jobs=2)
            for label, final in FINAL.items()
        }
        table("late", late, {name: value for name, value in data.items() if name != "motions"})
    if counts and arguments.only in (None, "counts"):

        def linear(normalizer):
            steps = make_pipeline(normalizer, PCA(50, svd_solver="arpack", random_state=0), OneScale())
            names = counts["counts"][0].names
            fusion = EarlyFusionTransformer(transformers=dict.fromkeys(names, steps))
            return make_pipeline(fusion, LogisticRegression(max_iter=2000))

        totals = {"median total": LogNormalizer(), "10,000": FixedTotal(1e4), "1,000": FixedTotal(1e3)}
        table("counts, logistic regression", {k: lambda v=v: linear(v) for k, v in totals.items()}, counts)


if __name__ == "__main__":
    main()
