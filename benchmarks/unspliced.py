"""Unspliced counts from spliced ones, strategy by strategy, on an AnnData with both layers and ``obs["clusters"]``.

The figure depends on how counts are normalised (from .22 to .28 on the pancreas), so this is what it is. Each layer is
divided by its own cell total, times 1e4, log1p. Filled are the 200 genes whose raw unspliced counts vary most over the
training cells, in KFold(5, shuffle=True, random_state=0). R² of a gene is 1 - SSE / SST, about its mean over the test
fold; the mean over genes, then folds, is printed. Within cell types, SST is about the mean of the cell's type in the
test fold: what is left to predict once the type is known.

The imputer sees raw spliced counts of all genes with ``--spliced counts``, which it log-normalises itself, their logs
as above with ``--spliced log``. Its defaults were not chosen on these folds.

    python benchmarks/unspliced.py pancreas.h5ad
"""

import argparse
import time
import warnings

import numpy as np
import pandas as pd
from anndata import AnnData, read_h5ad
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold

from skfusion import Modalities, ModalityImputer

STRATEGIES = ("linear", "factor", "conversion", "knn", "regressor", "mean")
N_GENES, N_COMPONENTS, ALPHA = 200, 30, 10


def log_normalized(counts):
    """Return log1p of ten thousand times each cell's shares, CSR."""
    totals = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    shares = sparse.csr_matrix(sparse.diags_array(1e4 / np.where(totals > 0, totals, 1)) @ counts)
    return shares.log1p()


def r2(truth, filled, means):
    """Mean over genes of 1 - SSE / SST, about `means`."""
    return float(np.mean(1 - np.square(truth - filled).sum(axis=0) / np.square(truth - means).sum(axis=0)))


def by_type(values, types, wanted):
    """Mean of `values` in each type, for cells of the types `wanted`."""
    return pd.DataFrame(values).groupby(types).mean().loc[wanted].to_numpy()


def references(spliced, target, train, test, genes, types):
    """Yield names and what they fill: ridge on components, with the gene's own value, and the mean of the type."""
    pca = PCA(N_COMPONENTS, random_state=0).fit(spliced[train].toarray())
    Z, query = (pca.transform(spliced[rows].toarray()) for rows in (train, test))
    yield "reference: ridge on 30 components", Ridge(ALPHA).fit(Z, target[train]).predict(query)
    own, own_query = (spliced[rows][:, genes].toarray() for rows in (train, test))
    filled = [
        Ridge(ALPHA).fit(np.c_[Z, own[:, j]], target[train, j]).predict(np.c_[query, own_query[:, j]])
        for j in range(len(genes))
    ]
    yield "reference: and the gene's own value", np.array(filled).T
    yield "reference: mean of the cell type", by_type(target[train], types[train], types[test])


def evaluate(adata, spliced_as, strategies, seed):
    """Return R² and R² within types by name, a list over folds, and the seconds of each."""
    types = adata.obs["clusters"].astype(str).to_numpy()
    spliced, unspliced = (log_normalized(adata.layers[layer]) for layer in ("spliced", "unspliced"))
    raw = adata.layers["unspliced"]
    source = AnnData(adata.layers["spliced"] if spliced_as == "counts" else spliced, obs=adata.obs, var=adata.var)
    scores = {}
    for train, test in KFold(5, shuffle=True, random_state=seed).split(types):
        variance = raw[train].power(2).mean(axis=0) - np.square(raw[train].mean(axis=0))
        genes = np.argsort(-np.asarray(variance).ravel(), kind="stable")[:N_GENES]
        target = unspliced[:, genes].toarray()
        truth = target[test]
        means, type_means = truth.mean(axis=0), by_type(truth, types[test], types[test])

        def add(name, filled, seconds, truth=truth, means=means, type_means=type_means):
            scores.setdefault(name, []).append((r2(truth, filled, means), r2(truth, filled, type_means), seconds))

        frame = pd.DataFrame(target, index=adata.obs_names, columns=adata.var_names[genes])
        X = Modalities({"spliced": source, "unspliced": frame})
        for strategy in strategies:
            start = time.perf_counter()
            imputer = ModalityImputer(strategy, random_state=0).fit(X[train])
            filled = imputer.transform(X[test].select(["spliced"]))["unspliced"]
            add(strategy, filled, time.perf_counter() - start)
        for name, filled in references(spliced, target, train, test, genes, types):
            add(name, filled, 0.0)
    return scores


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("anndata", help="an h5ad file with the layers spliced and unspliced, and obs['clusters']")
    parser.add_argument("--strategies", nargs="+", default=STRATEGIES)
    parser.add_argument("--spliced", choices=["counts", "log"], default="counts")
    parser.add_argument("--seed", type=int, default=0, help="of the folds")
    arguments = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adata = read_h5ad(arguments.anndata)
    scores = evaluate(adata, arguments.spliced, arguments.strategies, arguments.seed)
    print(__doc__.split("\n\n")[1] + "\n")
    print(
        f"{adata.n_obs} cells, {adata.n_vars} genes, spliced as {arguments.spliced}, folds of seed {arguments.seed}\n"
    )
    print(f"| {'':<36} | R²      | within types | seconds a fold |")
    print(f"| {'-' * 36} | ------- | ------------ | -------------- |")
    for name, folds in scores.items():
        total, within, seconds = np.mean(folds, axis=0)
        print(f"| {name:<36} | {total:>7.4f} | {within:>12.4f} | {f'{seconds:.1f}' if seconds else '':>14} |")


if __name__ == "__main__":
    main()
