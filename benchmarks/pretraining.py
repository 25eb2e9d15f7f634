"""What pretraining without labels is worth: retrieval, few labels, one modality alone, and its speed.

Tables, all on data that ships (the handwritten digits) or is made here:

- retrieval: planted modalities that share a latent, and handwritten fou against pix in held-out folds, beside linear
  CCA whose ridge and number of components are chosen inside the training folds.
- few: two labels a class, and every second sample has one random modality alone. Pretrained on all training rows,
  against training from scratch and logistic regression on 30 principal components of the same rows.
- single: a linear probe on the embedding of one modality, after pretraining with all, against the probe on that
  modality's values and on the same encoder untrained.
- speed: steps a second against a loop by hand over the same network, optimizer and loss.
- distillation, continual: those of the scripts of that name.

    python benchmarks/pretraining.py --tables retrieval few single speed --n-jobs 2
"""

import argparse
import sys
import time
import warnings
from importlib import import_module

import numpy as np
import torch
from _timing import machine
from joblib import Parallel, delayed
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skfusion import EarlyFusionTransformer, JointFusionClassifier, Modalities, MultimodalPretrainer
from skfusion.datasets import load_handwritten
from skfusion.inspection import corrected_resampled_interval
from skfusion.objectives import Contrastive

DEFAULT = "default (contrastive, zorro)"
ALONE = ("contrastive", "cca", "masked", "cross_masked", "matching", "reconstruction", "conversion", "alignment")
BESIDE = ("masked", "cross_masked", "matching", "reconstruction")
PRETRAINERS = {
    DEFAULT: {},
    "contrastive at temperature .2, zorro": {"objectives": [Contrastive(temperature=0.2, learn_temperature=False)]},
    "contrastive and cross_masked, zorro": {"objectives": ["contrastive", "cross_masked"]},
    # The rest with the fusion that takes least time.
    **{name: {"objectives": [name], "fusion": "mean"} for name in ALONE},
    "combinatorial, everything_at_once": {"objectives": ["combinatorial"], "fusion": "everything_at_once"},
    **{f"contrastive and {name}": {"objectives": ["contrastive", name], "fusion": "mean"} for name in BESIDE},
}


def pretrainer(title, **options):
    return MultimodalPretrainer(**{**PRETRAINERS[title], **options}, random_state=0, device="cpu")


def probe():
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


def one_thread(function):
    """Let a process of its own compute with one thread, and say nothing of batches too small to contrast."""

    def run(*arguments):
        torch.set_num_threads(1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(*arguments)

    return run


# retrieval


def planted(n, seed):
    """Two linear views of one latent of five dimensions."""
    rng = np.random.default_rng(seed)
    maps = [rng.normal(size=(5, width)) for width in (20, 12)]
    latent = rng.normal(size=(2 * n, 5))
    X = Modalities({name: latent @ m + 0.1 * rng.normal(size=(2 * n, m.shape[1])) for name, m in zip("ab", maps)})
    return X[:n], X[n:]


def recall_at_one(pretrained, X, by, of):
    found = pretrained.retrieve(X, by, of, k=1).indices[:, 0]
    return float(np.mean(found == np.arange(len(X))))


class LinearCCA:
    """Regularised canonical correlation, in closed form."""

    def __init__(self, ridge, n_components):
        self.ridge, self.n_components = ridge, n_components

    def fit(self, a, b):
        self.scalers = [StandardScaler().fit(x) for x in (a, b)]
        a, b = (s.transform(x) for s, x in zip(self.scalers, (a, b)))
        roots = []
        for x in (a, b):
            values, vectors = np.linalg.eigh(x.T @ x / len(x) + self.ridge * np.eye(x.shape[1]))
            roots.append(vectors @ np.diag(values**-0.5) @ vectors.T)
        left, singular, right = np.linalg.svd(roots[0] @ (a.T @ b / len(a)) @ roots[1])
        k = self.n_components
        # Directions weigh by how much they have in common, which retrieves better than all alike.
        self.maps = [roots[0] @ left[:, :k] * singular[:k], roots[1] @ right[:k].T * singular[:k]]
        return self

    def recall_at_one(self, a, b):
        unit = []
        for x, scaler, weights in zip((a, b), self.scalers, self.maps):
            z = scaler.transform(x) @ weights
            unit.append(z / np.linalg.norm(z, axis=1, keepdims=True))
        return float(np.mean((unit[0] @ unit[1].T).argmax(1) == np.arange(len(a))))


def tuned_cca(a, b):
    """Choose ridge and components by folds inside the training rows."""
    grid = [(ridge, k) for ridge in (0.01, 0.03, 0.1, 0.3, 1.0) for k in (5, 10, 20, 30, 40, 60)]
    folds = list(KFold(4, shuffle=True, random_state=0).split(a))
    scores = [
        np.mean([LinearCCA(*choice).fit(a[t], b[t]).recall_at_one(a[v], b[v]) for t, v in folds]) for choice in grid
    ]
    return LinearCCA(*grid[int(np.argmax(scores))]).fit(a, b)


@one_thread
def retrieval_fold(seed, fold, title):
    bunch = load_handwritten()
    X, y = Modalities(bunch.data), np.asarray(bunch.target)
    train, test = list(StratifiedKFold(5, shuffle=True, random_state=seed).split(y, y))[fold]
    if title == "linear CCA, tuned":
        return tuned_cca(X["fou"][train], X["pix"][train]).recall_at_one(X["fou"][test], X["pix"][test])
    if title.endswith(", just these two"):
        X = X.select(["fou", "pix"])
        title = title.removesuffix(", just these two")
    return recall_at_one(pretrainer(title).fit(X[train]), X[test], "fou", "pix")


def table_retrieval(arguments):
    print("\n### Planted, 200 samples in training and 200 held out\n\n| seed | R@1 held out |\n| --- | ---: |")
    for seed in arguments.seeds[:3]:
        train, test = planted(200, seed)
        print(f"| {seed} | {recall_at_one(pretrainer(DEFAULT).fit(train), test, 'a', 'b'):.3f} |")
    titles = [
        "linear CCA, tuned",
        DEFAULT,
        "contrastive",
        f"{DEFAULT}, just these two",
        "contrastive, just these two",
    ]
    tasks = [(seed, fold, title) for seed in arguments.seeds[:1] for fold in range(5) for title in titles]
    scores = Parallel(arguments.n_jobs)(delayed(retrieval_fold)(*task) for task in tasks)
    by_title = {title: [s for task, s in zip(tasks, scores) if task[2] == title] for title in titles}
    print("\n### Handwritten, fou finds pix among 400 held-out samples (chance .0025)\n")
    print("| method | R@1 | difference to CCA, points |\n| --- | ---: | ---: |")
    for title in titles:
        gain = 100 * (np.array(by_title[title]) - by_title[titles[0]])
        low, high = corrected_resampled_interval(gain, 1600, 400)
        shown = "" if title == titles[0] else f"{gain.mean():+.1f} [{low:+.1f}, {high:+.1f}]"
        print(f"| {title} | {np.mean(by_title[title]):.4f} | {shown} |", flush=True)


# few labels


def few_labels(seed):
    """Return training rows of which half lack all but one modality, the rows with a label, and test rows alike."""
    bunch = load_handwritten()
    y = np.asarray(bunch.target)
    rng = np.random.default_rng(seed)
    n_modalities = Modalities(bunch.data).shape[1]
    present = np.ones((len(y), n_modalities), dtype=bool)
    poor = np.arange(len(y)) % 2 == 1
    order = rng.permutation(len(y))
    present[order[poor]] = np.eye(n_modalities, dtype=bool)[rng.integers(n_modalities, size=poor.sum())]
    X = Modalities(bunch.data, present=present)
    train, test = next(StratifiedKFold(5, shuffle=True, random_state=seed).split(y, y))
    labelled = np.concatenate([rng.permutation(np.flatnonzero(y[train] == c))[:2] for c in np.unique(y)])
    return X[train], y[train], labelled, X[test], y[test]


SCRATCH, PCA_30 = ("from scratch, concat", "from scratch, zorro"), "PCA-30, then logistic regression"


@one_thread
def few_scores(seed, title):
    """Return the accuracies of one way to come by features, by what is made of them."""
    X, y, labelled, new, truth = few_labels(seed)
    some, known = X[labelled], y[labelled]
    if title == PCA_30:
        features = make_pipeline(EarlyFusionTransformer(), StandardScaler(), PCA(30, random_state=0)).fit(X)
        return {title: regressed(features, some, known, new, truth)}
    if title in SCRATCH:
        model = JointFusionClassifier(fusion=title.rpartition(" ")[2], random_state=0, device="cpu")
        return {title: model.fit(some, known).score(new, truth)}
    pretrained = pretrainer(title).fit(X)
    scores = {f"{title}: logistic regression": regressed(pretrained, some, known, new, truth)}
    if title == DEFAULT:
        source = {"pretrained": FrozenEstimator(pretrained), "fusion": "pretrained"}
        for use, options in {"head alone": {"freeze": True}, "fine-tuned": {"layer_decay": 0.7}}.items():
            model = JointFusionClassifier(**source, **options, random_state=0, device="cpu")
            scores[f"{title}: {use}"] = model.fit(some, known).score(new, truth)
    return scores


def regressed(features, some, known, new, truth):
    model = LogisticRegression(max_iter=1000).fit(features.transform(some), known)
    return model.score(features.transform(new), truth)


def table_few(arguments):
    few = arguments.seeds[: arguments.seeds_of_others]
    plain = [*SCRATCH, PCA_30]
    names = arguments.pretrainers or list(PRETRAINERS)
    tasks = [
        (seed, title) for title in (*plain, *names) for seed in (arguments.seeds if title in (*plain, DEFAULT) else few)
    ]
    by_title = {}
    for (seed, _), found in zip(tasks, Parallel(arguments.n_jobs)(delayed(few_scores)(*task) for task in tasks)):
        for title, score in found.items():
            by_title.setdefault(title, {})[seed] = score
    best = max(plain, key=lambda title: np.mean(list(by_title[title].values())))
    print("\n### Two labels a class, every second sample with one modality alone\n")
    print(f"| method | accuracy | seeds | difference to {best!r}, points |\n| --- | ---: | ---: | ---: |")
    for title, scores in by_title.items():
        gains = 100 * np.array([score - by_title[best][seed] for seed, score in scores.items()])
        shown = "" if title == best else interval(gains)
        print(f"| {title} | {np.mean(list(scores.values())):.4f} | {len(scores)} | {shown} |", flush=True)


def interval(gains):
    """Return the mean of paired differences and its 95 % interval."""
    if len(gains) < 2:
        return f"{gains.mean():+.1f}"
    half = stats.t.ppf(0.975, len(gains) - 1) * gains.std(ddof=1) / np.sqrt(len(gains))
    return f"{gains.mean():+.1f} [{gains.mean() - half:+.1f}, {gains.mean() + half:+.1f}]"


# one modality alone


@one_thread
def single_fold(seed, fold, title):
    """Return the accuracies of each modality: its values, the untrained embedding, the pretrained one."""
    bunch = load_handwritten()
    X, y = Modalities(bunch.data), np.asarray(bunch.target)
    train, test = list(StratifiedKFold(5, shuffle=True, random_state=seed).split(y, y))[fold]
    if title == "raw":
        return {name: probe().fit(X[name][train], y[train]).score(X[name][test], y[test]) for name in X.names}
    name, _, trained = title.rpartition(" ")
    options = {"max_epochs": 1, "lr": 1e-12} if trained == "untrained" else {}
    model = pretrainer(name, **options).fit(X[train])
    scores = {}
    for modality in X.names:
        embedded, held_out = (model.embed(X[rows].select([modality]), modality) for rows in (train, test))
        scores[modality] = probe().fit(embedded, y[train]).score(held_out, y[test])
    return scores


def table_single(arguments):
    names = arguments.pretrainers or [DEFAULT, "contrastive and cross_masked, zorro", "contrastive", "reconstruction"]
    titles = ["raw", *(f"{name} {state}" for name in names for state in ("untrained", "pretrained"))]
    tasks = [(seed, fold, title) for seed in arguments.seeds[:1] for fold in range(5) for title in titles]
    scores = Parallel(arguments.n_jobs)(delayed(single_fold)(*task) for task in tasks)
    modalities = list(scores[0])
    mean = {
        title: {m: np.mean([s[m] for task, s in zip(tasks, scores) if task[2] == title]) for m in modalities}
        for title in titles
    }
    print("\n### A linear probe on one modality, five folds\n")
    print("| features | " + " | ".join(modalities) + " | best of the three in |")
    print("| --- |" + " ---: |" * (len(modalities) + 1))
    for title in titles:
        wins = ""
        if title.endswith(" pretrained"):
            rivals = ("raw", title.replace(" pretrained", " untrained"))
            wins = sum(all(mean[title][m] > mean[rival][m] for rival in rivals) for m in modalities)
        cells = " | ".join(f"{mean[title][m]:.4f}" for m in modalities)
        print(f"| {title} | {cells} | {wins} |", flush=True)


# speed


def by_hand(X, epochs, batch_size):
    """Train the same network by the same loss in a plain loop."""
    from torch.nn import functional as F

    from skfusion.encoders.batch import Batch, ModalityBatch

    torch.manual_seed(0)
    model = MultimodalPretrainer([Contrastive(learn_temperature=False)], max_epochs=1, random_state=0, device="cpu")
    model.set_params(batch_size=batch_size).fit(X[:batch_size])
    network, objective = model.network_, model.net_.criterion_[0]
    tensors = [torch.from_numpy(StandardScaler().fit_transform(X[name]).astype(np.float32)) for name in X.names]
    optimizer = torch.optim.AdamW([*network.parameters(), *objective.parameters()], lr=1e-3, fused=True)
    steps = epochs * (len(X) // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps)
    mask = torch.ones(batch_size, 1, dtype=torch.bool)
    present = torch.ones(batch_size, len(X.names), dtype=torch.bool)
    label = torch.arange(batch_size)
    network.train()
    start = time.perf_counter()
    for _ in range(epochs):
        order = torch.randperm(len(X))
        for first in range(0, len(X) - batch_size + 1, batch_size):
            rows = order[first : first + batch_size]
            parts = {name: ModalityBatch(table[rows], mask) for name, table in zip(X.names, tensors)}
            heads = network(Batch(parts, present)).heads
            unit = [F.normalize(p(heads[h]), dim=-1) for h, p in zip(objective.heads, objective.projections)]
            losses = []
            for i in range(len(unit)):
                for j in range(i):
                    logits = unit[j] @ unit[i].T / 0.07
                    losses.append((F.cross_entropy(logits, label) + F.cross_entropy(logits.T, label)) / 2)
            loss = torch.stack(losses).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
    return steps / (time.perf_counter() - start)


def ours(X, epochs, batch_size):
    model = MultimodalPretrainer(
        [Contrastive(learn_temperature=False)],
        max_epochs=epochs,
        batch_size=batch_size,
        random_state=0,
        device="cpu",
    )
    start = time.perf_counter()
    model.fit(X)
    # All of fit counts: input checks, scaling, and the pass that learns the mean embeddings.
    return epochs * (len(X) // batch_size) / (time.perf_counter() - start)


def table_speed(arguments):
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    print("\n### Steps a second, one thread, MultimodalPretrainer over a loop by hand with the same network and loss\n")
    print("| modalities | batch | ours | by hand | ratio |\n| ---: | ---: | ---: | ---: | ---: |")
    for n_modalities, batch_size in ((2, 128), (2, 512), (6, 128)):
        X = Modalities({f"m{m}": rng.normal(size=(4096, 100)) for m in range(n_modalities)})
        values = {"ours": [], "by hand": []}
        ours(X[: 2 * batch_size], 1, batch_size)  # what is imported and built at first does not count
        for _ in range(arguments.rounds):
            values["ours"].append(ours(X, 15, batch_size))
            values["by hand"].append(by_hand(X, 15, batch_size))
        ratio = np.median(np.array(values["ours"]) / values["by hand"])
        cells = " | ".join(f"{np.median(v):.1f}" for v in values.values())
        print(f"| {n_modalities} | {batch_size} | {cells} | {ratio:.2f} |", flush=True)


def table_of(script):
    """Return what prints the table of another script of this folder, at its defaults."""

    def run(arguments):
        sys.argv = [script, "--n-jobs", str(arguments.n_jobs)]
        import_module(script).main()

    return run


TABLES = {"retrieval": table_retrieval, "few": table_few, "single": table_single, "speed": table_speed}
TABLES |= {script: table_of(script) for script in ("distillation", "continual")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--seeds-of-others", type=int, default=3, help="of what is no default, in the table few")
    parser.add_argument("--pretrainers", nargs="+", choices=list(PRETRAINERS), default=None)
    parser.add_argument("--rounds", type=int, default=5, help="of the speed table")
    parser.add_argument("--n-jobs", type=int, default=2)
    arguments = parser.parse_args()
    print(machine())
    for name in arguments.tables:
        TABLES[name](arguments)


if __name__ == "__main__":
    main()
