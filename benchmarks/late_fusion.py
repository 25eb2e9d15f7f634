"""Late fusion: what it costs against scikit-learn's stacking, and how well it does by default and with each average.

Tables, of which ``--tables`` names those to print:

- speed: seconds of LateFusionStacker and of StackingClassifier over one ColumnTransformer a modality, on the same fits
  and folds, 20,000 rows (median of interleaved rounds), and the largest difference between the two predictions.
- memory: peak of the proportional memory of each of the two, with its workers, in a process of its own.
- defaults: the default estimators against the same built by hand from scikit-learn, logistic regression, SVM and random
  forest a modality with logistic regression on top; StratifiedKFold(5), seeds 0 to 2, paired.
- averages: "mean", "weighted" and "hill_climb" over logistic regression and a random forest a modality, ten splits.
- reviews: ROC AUC of the default on 6,000 clothing reviews, two texts and a table, 5 folds.
- pls: MultiBlockPLS on breast cancer subtypes, 10 x 5 folds, and on the test samples, which have no protein. Where
  mixOmics reports .929 there (5 errors of 70).

Breast cancer and pancreas are left out unless their files are named:

    python benchmarks/late_fusion.py --breast breast_tcga.npz --pancreas pancreas.h5ad --tables defaults pls
"""

import argparse
import multiprocessing
import tempfile
import threading
import time
import warnings
from pathlib import Path

import numpy as np
from _timing import interleave, machine, median_ratio
from joblib.externals.loky import get_reusable_executor
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier, StackingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import RepeatedStratifiedKFold, StratifiedKFold, StratifiedShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MaxAbsScaler, OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from skfusion import LateFusionStacker, Modalities, MultiBlockPLS
from skfusion.datasets import load_clothing_reviews, load_handwritten
from skfusion.inspection import corrected_resampled_interval
from skfusion.preprocessing import TextHasher

N, WIDTHS, N_CLASSES = 20_000, {"a": 20, "b": 15, "c": 10}, 2
LINEAR = [("lr", LogisticRegression())]
BOOSTED = [*LINEAR, ("hgb", HistGradientBoostingClassifier(max_iter=50, early_stopping=False, random_state=0))]
FOREST = [*BOOSTED, ("rf", RandomForestClassifier(30, random_state=0))]
SETS = {"LR": LINEAR, "LR + HGB": BOOSTED, "LR + HGB + RF": FOREST}
KEEP = {"mrna": 8, "mirna": 14, "protein": 10}


def make_data():
    rng = np.random.default_rng(0)
    y = rng.integers(N_CLASSES, size=N)
    X = {name: rng.normal(size=(N, d)) + 0.2 * rng.normal(size=(N_CLASSES, d))[y] for name, d in WIDTHS.items()}
    return X, y


def stacking(widths, estimators, n_jobs, final=None, prepare=()):
    """Return scikit-learn's own: each base picks the columns of its modality."""
    bases, start = [], 0
    for name, width in widths.items():
        pick = ColumnTransformer([("pick", "passthrough", slice(start, start + width))])
        start += width
        bases += [(f"{name}_{key}", make_pipeline(pick, *map(clone, prepare), e)) for key, e in estimators]
    return StackingClassifier(bases, final, cv=5, n_jobs=n_jobs)


def speed(arguments):
    X, y = make_data()
    print(f"{N} x {tuple(WIDTHS.values())}, 5 folds, {machine()}\n")
    print(f"{'':<30}{'StackingClassifier':>20}{'LateFusionStacker':>20}{'ratio':>8}{'largest difference':>21}")
    # Not timed: the worker processes start.
    LateFusionStacker(LINEAR, n_jobs=2).fit(X, y)
    for n_names, n_jobs, title in [
        *((3, n_jobs, title) for n_jobs in (2, 1) for title in SETS),
        (1, 2, "LR + HGB + RF"),
    ]:
        part = {name: X[name] for name in list(WIDTHS)[:n_names]}
        table = np.hstack(list(part.values()))
        theirs = stacking({name: WIDTHS[name] for name in part}, SETS[title], n_jobs)
        ours = LateFusionStacker(SETS[title], n_jobs=n_jobs)
        seconds = interleave(
            {"theirs": lambda t=theirs, x=table: t.fit(x, y), "ours": lambda o=ours, x=part: o.fit(x, y)},
            arguments.rounds,
        )
        difference = np.abs(theirs.predict_proba(table) - ours.predict_proba(part)).max()
        medians = {name: np.median(values) for name, values in seconds.items()}
        print(
            f"{f'{n_names} x {title}, n_jobs={n_jobs}':<30}{medians['theirs']:>18.2f} s{medians['ours']:>18.2f} s"
            f"{median_ratio(seconds['ours'], seconds['theirs']):>8.2f}{difference:>21.1e}",
            flush=True,
        )


def fit_large(whose):
    """Fit the one or the other in this process, for `peak_memory` to look at."""
    X, y = make_data()
    if whose == "theirs":
        stacking(WIDTHS, FOREST, 2).fit(np.hstack(list(X.values())), y)
    else:
        LateFusionStacker(FOREST, n_jobs=2).fit(X, y)
    # Else the process would wait for its workers, which wait for work.
    get_reusable_executor().shutdown()


def proportional(root):
    """Return the proportional memory, in MiB, of a process and of all that it started (Linux)."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
            parents[int(path.parent.name)] = int(fields[1])
        except OSError:
            continue
    family, total = [root], 0
    for pid in family:
        family += [child for child, parent in parents.items() if parent == pid]
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        except OSError:
            continue
    return total / 1024


def peak_memory(whose):
    process = multiprocessing.get_context("spawn").Process(target=fit_large, args=(whose,))
    process.start()
    peak, done = [0.0], threading.Event()

    def watch():
        while not done.wait(0.05):
            peak[0] = max(peak[0], proportional(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    process.join()
    done.set()
    watcher.join()
    return peak[0]


def memory(arguments):
    found = {whose: np.median([peak_memory(whose) for _ in range(3)]) for whose in ("theirs", "ours")}
    print(
        f"peak, 3 x LR + HGB + RF, n_jobs=2: StackingClassifier {found['theirs']:.0f} MiB, LateFusionStacker", end=" "
    )
    print(f"{found['ours']:.0f} MiB, ratio {found['ours'] / found['theirs']:.2f}")


def log_normalise(counts):
    totals = np.asarray(counts.sum(axis=1)).ravel()
    return (sparse.diags_array(1e4 / np.maximum(totals, 1)) @ counts.astype(float)).log1p().tocsr()


def by_hand(X):
    """Return logistic regression, SVM and forest a modality, on 50 components where it is CSR, stacked."""
    counts = [FunctionTransformer(log_normalise, accept_sparse=True), TruncatedSVD(50, random_state=0)]
    prepare = counts if X.kind(X.names[0]) == "sparse" else []
    estimators = [
        ("lr", LogisticRegression(max_iter=1000)),
        ("svm", SVC()),
        ("rf", RandomForestClassifier(random_state=0)),
    ]
    widths = {name: X[name].shape[1] for name in X.names}
    return stacking(widths, estimators, None, LogisticRegression(max_iter=1000), [*prepare, StandardScaler()])


def side_by_side(X):
    parts = [X[name] for name in X.names]
    return sparse.hstack(parts, format="csr") if sparse.issparse(parts[0]) else np.hstack(parts)


def data_sets(arguments):
    bunch = load_handwritten()
    yield "handwritten", bunch.data, bunch.target
    if arguments.breast:
        with np.load(arguments.breast, allow_pickle=False) as data:
            X = Modalities({name: data[f"{name}_train"] for name in KEEP})
            yield "breast_tcga", X, data["y_train"]
    if arguments.pancreas:
        import anndata

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            adata = anndata.read_h5ad(arguments.pancreas)
        yield "pancreas", Modalities.from_anndata(adata), adata.obs["clusters"].astype(str).to_numpy()


def timed_score(model, X, y, train, test):
    start = time.perf_counter()
    return model.fit(X[train], y[train]).score(X[test], y[test]), time.perf_counter() - start


def defaults(arguments):
    for name, X, y in data_sets(arguments):
        table, found = side_by_side(X), []
        for seed in (0, 1, 2):
            for train, test in StratifiedKFold(5, shuffle=True, random_state=seed).split(y, y):
                ours = timed_score(LateFusionStacker(random_state=0), X, y, train, test)
                found.append((*ours, *timed_score(by_hand(X), table, y, train, test)))
        ours, seconds, theirs, their_seconds = np.array(found).T
        low, high = corrected_resampled_interval(ours - theirs, 0.8 * len(y), 0.2 * len(y))
        print(
            f"{name:<12} default {ours.mean():.4f}, by hand {theirs.mean():.4f}, difference "
            f"{np.mean(ours - theirs):+.4f} [{low:+.4f}, {high:+.4f}]; {seconds.mean():.1f} s and "
            f"{their_seconds.mean():.1f} s a fold",
            flush=True,
        )


def averages(arguments):
    names = ("mean", "weighted", "hill_climb")
    forest = RandomForestClassifier(50, random_state=0)
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    texts = make_pipeline(TextHasher(), LogisticRegression(C=3.0))
    tabular = make_pipeline(
        ColumnTransformer([("numbers", MaxAbsScaler(), [0, 1])], remainder=OneHotEncoder(handle_unknown="ignore")),
        forest,
    )
    reviews = load_clothing_reviews()
    cases = [
        (name, X, y, [("lr", linear), ("rf", forest)]) for name, X, y in data_sets(arguments) if name != "pancreas"
    ]
    rows = np.random.default_rng(0).permutation(len(reviews.target))[:6000]
    parts = {"title": texts, "review": texts, "tabular": tabular}
    cases.append(("reviews", reviews.data[rows], reviews.target[rows], parts))
    for name, X, y, estimators in cases:
        scores = []
        with tempfile.TemporaryDirectory() as folder:
            for train, test in StratifiedShuffleSplit(10, test_size=0.2, random_state=0).split(y, y):
                # The fits are kept: three averages cost one.
                models = [LateFusionStacker(estimators, f, memory=folder, random_state=0) for f in names]
                scores.append([model.fit(X[train], y[train]).score(X[test], y[test]) for model in models])
        means, least = np.mean(scores, axis=0), np.min(np.array(scores) - np.array(scores)[:, :1], axis=0)
        print(
            f"{name:<12}" + ", ".join(f"{n} {m:.4f} (least {w:+.4f})" for n, m, w in zip(names, means, least)),
            flush=True,
        )


def reviews(arguments):
    X, y = load_clothing_reviews(return_X_y=True)
    rows = np.random.default_rng(0).permutation(len(y))[:6000]
    X, y, scores = X[rows], y[rows], []
    for train, test in StratifiedKFold(5, shuffle=True, random_state=0).split(y, y):
        model = LateFusionStacker(random_state=0).fit(X[train], y[train])
        scores.append(roc_auc_score(y[test], model.predict_proba(X[test])[:, 1]))
    print(f"6000 clothing reviews, default: ROC AUC {np.mean(scores):.4f} ({', '.join(f'{s:.3f}' for s in scores)})")


def pls(arguments):
    if not arguments.breast:
        print("needs --breast")
        return
    with np.load(arguments.breast, allow_pickle=False) as data:
        X, y = Modalities({name: data[f"{name}_train"] for name in KEEP}), data["y_train"]
        test, truth = {name: data[f"{name}_test"] for name in ("mrna", "mirna")}, data["y_test"]
    folds = list(RepeatedStratifiedKFold(n_splits=5, n_repeats=10, random_state=0).split(y, y))
    print("MultiBlockPLS, accuracy in 10 x 5 folds, and on 70 test samples without protein")
    for title, options in (
        ("all features", {}),
        ("n_features=50", {"n_features": 50}),
        (f"n_features={KEEP}", {"n_features": KEEP}),
    ):
        model = MultiBlockPLS(**options)
        scores = [clone(model).fit(X[train], y[train]).score(X[part], y[part]) for train, part in folds]
        print(f"  {title:<55} {np.mean(scores):.4f}  {model.fit(X, y).score(test, truth):.4f}", flush=True)


TABLES = {
    "speed": speed,
    "memory": memory,
    "defaults": defaults,
    "averages": averages,
    "reviews": reviews,
    "pls": pls,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--rounds", type=int, default=5, help="of the speed table")
    parser.add_argument("--breast", help="npz with mrna, mirna, protein and y, each _train and _test")
    parser.add_argument("--pancreas", help="h5ad with layers spliced and unspliced")
    arguments = parser.parse_args()
    for name in arguments.tables:
        print(f"\n{name}", flush=True)
        TABLES[name](arguments)


if __name__ == "__main__":
    main()
