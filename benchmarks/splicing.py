"""What embeddings, imputed layers and generated cells of SplicingFusion are worth, beside linear references.

On an AnnData with the layers spliced and unspliced, and ``obs["clusters"]``. All is fitted on training folds. Defaults
were chosen on folds of other seeds (10).

embedding: accuracy of logistic regression on standardised embeddings of both layers (the fused one, and that of all
tokens, which was the better one on folds of seeds 10 to 12) and of each alone, and on as many principal components of
log-normalised counts (both: half of each layer). StratifiedKFold(5), mean over the seeds.

imputation: as `benchmarks/unspliced.py`, which has the definition: R² of 200 genes of unspliced, from spliced alone.

generation: `skfusion.singlecell.generation_report` of as many drawn cells as are held out, on the 200 genes and layers
of largest mean (both), and on the 200 genes of largest mean of each layer; mean over StratifiedKFold(5). "density" and
"vae" are the generators of SplicingFusion. Fewer counts make means and correlations of a fold of 148 cells uncertain,
which real cells show as well. Real cells are as many training cells that are left out of training: nothing can be
expected to be better than these.

planted: cells of a latent time, rates of each gene's own, and negative binomial noise.

    python benchmarks/splicing.py pancreas.h5ad --tables embedding imputation generation planted
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import read_h5ad
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from unspliced import ALPHA, N_COMPONENTS, N_GENES, by_type, log_normalized, r2

from skfusion.singlecell import SplicingFusion, generation_report

LAYERS = ("spliced", "unspliced")
GENERATORS = ("density", "vae")
TABLES = ("embedding", "imputation", "generation", "planted")


def show(rows, digits=3):
    """Print a Markdown table of dicts."""
    names = list(rows[0])
    print("| " + " | ".join(names) + " |")
    print("|" + " --- |" * len(names))
    for row in rows:
        cells = [f"{v:.{digits}f}" if isinstance(v, float) else str(v) for v in row.values()]
        print("| " + " | ".join(cells) + " |", flush=True)
    print()


def model(**params):
    return SplicingFusion(method=None, device="cpu", random_state=0, **params)


def probe(Z, y, train, test):
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    return classifier.fit(Z[train], y[train]).score(Z[test], y[test])


def components(logs, train, n_components):
    """Principal components of some layers side by side, learnt on training cells."""
    each = n_components // len(logs)
    return np.hstack([PCA(each, random_state=0).fit(part[train]).transform(part) for part in logs])


def embedding(adata, seeds):
    y = adata.obs["clusters"].astype(str).to_numpy()
    logs = {layer: log_normalized(adata.layers[layer]).toarray() for layer in LAYERS}
    parts = {
        "both, all tokens": ("global", LAYERS),
        "both, fused": ("fusion", LAYERS),
        "spliced": ("spliced", LAYERS[:1]),
        "unspliced": ("unspliced", LAYERS[1:]),
    }
    found, seconds = [], []
    for seed in seeds:
        for train, test in StratifiedKFold(5, shuffle=True, random_state=seed).split(y, y):
            start = time.process_time()
            fitted = model(imputer=None).fit(adata[train])
            seconds.append(time.process_time() - start)
            for name, (head, layers) in parts.items():
                Z = fitted.embed(adata, head)
                found.append({"layers": name, "seed": seed, "embedding": probe(Z, y, train, test)})
                for n in (Z.shape[1], 30 * len(layers)):
                    Z_ref = components([logs[layer] for layer in layers], train, n)
                    found[-1]["as many components" if n == Z.shape[1] else "30 a layer"] = probe(Z_ref, y, train, test)
    table = pd.DataFrame(found)
    table["difference"] = table["embedding"] - table["as many components"]
    table = table.groupby(["layers", "seed"], sort=False).mean()
    show([{"layers": name, "seed": str(seed), **row} for (name, seed), row in table.iterrows()])
    show([{"layers": name, **row} for name, row in table.groupby("layers", sort=False).mean().iterrows()])
    print(f"{np.mean(seconds):.0f} CPU seconds a fit\n")


def imputation(adata, n_folds, seed=0):
    types = adata.obs["clusters"].astype(str).to_numpy()
    logs = {layer: log_normalized(adata.layers[layer]) for layer in LAYERS}
    raw, scores = adata.layers["unspliced"], {}
    for train, test in list(KFold(5, shuffle=True, random_state=seed).split(types))[:n_folds]:
        variance = raw[train].power(2).mean(axis=0) - np.square(raw[train].mean(axis=0))
        genes = np.argsort(-np.asarray(variance).ravel(), kind="stable")[:N_GENES]
        truth = logs["unspliced"][test][:, genes].toarray()
        means, type_means = truth.mean(axis=0), by_type(truth, types[test], types[test])
        # The network is the same with and without an imputer.
        fitted, network = (model(**params).fit(adata[train]) for params in ({}, {"imputer": None}))
        where = pd.Index(fitted.genes_).get_indexer(adata.var_names[genes])
        filled = {}
        only = adata[test].copy()
        del only.layers["unspliced"]
        averaged, decoded = (m.predict_expression(only, "unspliced") for m in (fitted, network))
        # A gene that is not fitted is its training mean.
        for name, predicted in {
            "SplicingFusion": averaged,
            "its imputer alone": 2 * averaged - decoded,
            "its network alone": decoded,
        }.items():
            mean = np.asarray(logs["unspliced"][train][:, genes].mean(axis=0)).ravel()
            filled[name] = np.where(where >= 0, predicted[:, where], mean)
        pca = PCA(N_COMPONENTS, random_state=0).fit(logs["spliced"][train].toarray())
        Z, query = (pca.transform(logs["spliced"][rows].toarray()) for rows in (train, test))
        own, own_query = (logs["spliced"][rows][:, genes].toarray() for rows in (train, test))
        target = logs["unspliced"][train][:, genes].toarray()
        filled["ridge on 30 components and the gene's own value"] = np.array(
            [
                Ridge(ALPHA).fit(np.c_[Z, own[:, j]], target[:, j]).predict(np.c_[query, own_query[:, j]])
                for j in range(len(genes))
            ]
        ).T
        filled["mean of the cell type"] = by_type(target, types[train], types[test])
        for name, part in filled.items():
            scores.setdefault(name, []).append((r2(truth, part, means), r2(truth, part, type_means), (where < 0).sum()))
    rows = []
    for name, folds in scores.items():
        total, within, lacking = np.mean(folds, axis=0)
        rows.append({"unspliced from spliced": name, "R²": float(total), "within types": float(within)})
    show(rows, digits=4)
    print(f"mean over {min(n_folds, 5)} of 5 folds of seed {seed}; of 200 genes a fold {lacking:.1f} are not fitted\n")


def generation(adata, n_folds, seed=0):
    y = adata.obs["clusters"].astype(str).to_numpy()
    reports = {}
    folds = list(StratifiedKFold(5, shuffle=True, random_state=seed).split(y, y))[:n_folds]
    for fold, (train, test) in enumerate(folds):
        rng = np.random.default_rng(fold)
        fits = {name: model(imputer=None, generator=name).fit(adata[train]) for name in GENERATORS}
        drawn = {name: fitted.sample(len(test), random_state=fold).layers for name, fitted in fits.items()}
        drawn = {name: {**part, "both": sparse.hstack([part[x] for x in LAYERS])} for name, part in drawn.items()}
        genes = list(fits["density"].genes_)
        real = {layer: sparse.csr_matrix(adata[:, genes].layers[layer]) for layer in LAYERS}
        real["both"] = sparse.hstack([real[x] for x in LAYERS], format="csr")
        left_out = rng.permutation(train)
        for layer in ("both", *LAYERS):
            own = real[layer]
            means = np.asarray(own[train].mean(axis=0)).ravel()
            for name, known, cells in (
                *((name, own[train], part[layer]) for name, part in drawn.items()),
                ("real cells", own[left_out[len(test) :]], own[left_out[: len(test)]]),
                ("bootstrap", own[train], own[rng.choice(train, len(test))]),
                ("independent Poisson", own[train], rng.poisson(means, size=(len(test), len(means)))),
            ):
                report = generation_report(known, own[test], cells)
                reports.setdefault((layer, name), []).append(report["value"])
                due = report["due"]
    rows = [
        {"layer": layer, "cells": name, **pd.concat(found, axis=1).mean(axis=1).to_dict()}
        for (layer, name), found in reports.items()
    ]
    show([*rows, {"layer": "", "cells": "due", **due.to_dict()}])
    print(f"mean over {len(folds)} of 5 folds of seed {seed}\n")


def planted_time():
    import sys

    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "singlecell"))
    from _planted import planted

    rows = []
    for seed in range(3):
        adata = planted(seed=seed)
        fitted = model(n_latent=16, n_hidden=32, n_tokens=2, max_epochs=40, imputer=None).fit(adata[:300])
        only, t = adata.copy(), adata.obs["time"].to_numpy()
        del only.layers["unspliced"]
        Z = fitted.embed(only, "spliced")
        predicted = fitted.predict_expression(only[300:], "unspliced", output="counts")
        truth, known = adata.layers["mean_unspliced"][300:], adata[:300].layers["unspliced"].toarray()
        rows.append(
            {
                "seed": seed,
                "R² of time, spliced alone": r2_score(t[300:], Ridge().fit(Z[:300], t[:300]).predict(Z[300:])),
                "correlation of unspliced with its mean": float(
                    np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(predicted.T, truth.T)])
                ),
                "squared error": float(np.square(predicted - truth).mean()),
                "of gene means": float(np.square(known.mean(axis=0) - truth).mean()),
            }
        )
    show(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("anndata", help="an h5ad file with the layers spliced and unspliced, and obs['clusters']")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of the folds of the embedding")
    parser.add_argument("--folds", type=int, default=5, help="how many of the five folds of imputation and generation")
    parser.add_argument("--fold-seed", type=int, default=0, help="seed of these five folds")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    adata = read_h5ad(arguments.anndata)
    for table in arguments.tables:
        print(f"## {table}\n")
        if table == "embedding":
            embedding(adata, arguments.seeds)
        elif table == "imputation":
            imputation(adata, arguments.folds, arguments.fold_seed)
        elif table == "generation":
            generation(adata, arguments.folds, arguments.fold_seed)
        else:
            planted_time()


if __name__ == "__main__":
    main()
