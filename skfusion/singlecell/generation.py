"""Whether generated cells are like real ones that the generator has not seen, and no copies of those that it has."""

from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import pairwise_distances_argmin_min, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from skfusion.preprocessing import median_total
from skfusion.singlecell._libraries import totals
from skfusion.singlecell.neighbors import check_layer

DUE = {
    "mean error": ("<", 0.1),
    "zero error": ("<", 0.05),
    "correlation of correlations": (">=", 0.8),
    "two-sample AUC": ("<", 0.75),
    "copies": ("<=", 0.0),
    "distance ratio": (">=", 0.8),
}
"""What generated cells have to reach."""
_FEWEST = 10
"""Cells of each kind that can be compared."""
_CHUNK = 4096
"""Training cells that are dense at once, in the genes that are looked at."""


def generation_report(train: Any, test: Any, generated: Any, *, n_genes: int = 200, random_state: Any = 0) -> Any:
    """Compare generated counts with held-out real ones.

    All but copies is measured on the genes of largest mean in training, after the counts, but for means and zeros, were
    scaled to the median total of training cells and log1p was taken. As many generated cells are compared as are held
    out, the first ones.

    Parameters
    ----------
    train, test, generated : array or CSR matrix (n_cells, n_genes)
        Counts of the cells that the generator has seen, of real ones that it has not, and of those that it has drawn;
        10 of each, at least.
    n_genes : int, default=200
        How many genes are looked at.
    random_state : int, RandomState or None, default=0
        Folds and forest of the two-sample test.

    Returns
    -------
    DataFrame
        One row a criterion, with the columns ``value``, ``due`` and ``passed``.

        mean error
            Median over genes of the relative difference of their means.
        zero error
            Mean over genes of the absolute difference of the shares of cells without a count.
        correlation of correlations
            Pearson's, between the gene-gene correlations of generated and of held-out cells.
        two-sample AUC
            Of a random forest that tells both apart, out of fold; .5 is chance.
        copies
            Share of generated cells that equal a training cell in all genes.
        distance ratio
            Median distance to the nearest training cell over that of held-out cells.

    Raises
    ------
    ValueError
        Where the arguments have unequal genes, one has too few cells, NaN or negative values, training cells have no
        count, or `n_genes` is below 1.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion.singlecell import generation_report
    >>> rng = np.random.default_rng(0)
    >>> draw = lambda n: rng.poisson(np.exp(1 + rng.normal(size=(n, 1)) * np.linspace(-0.5, 0.5, 20)))
    >>> train, test = draw(400), draw(200)
    >>> bool(generation_report(train, test, draw(200))["passed"].all())
    True
    >>> bool(generation_report(train, test, train[:200]).loc["copies", "passed"])
    False
    """
    if not isinstance(n_genes, Integral) or n_genes < 1:
        raise ValueError(f"n_genes is {n_genes!r}; due is a whole number of at least 1.")
    train, test, generated = _check(train=train, test=test, generated=generated)
    n = min(generated.shape[0], test.shape[0])
    copies = _share_of_copies(train, generated)
    target = median_total(totals(train))
    genes = np.argsort(-np.asarray(train.mean(axis=0)).ravel(), kind="stable")[:n_genes]
    real, drawn = (part[:, genes].toarray() for part in (test, generated[:n]))
    seen, *others = (_logs(part, genes, target) for part in (train, test, generated[:n]))
    unseen, new = (part.toarray() for part in others)
    found = {
        "mean error": float(np.median(np.abs(drawn.mean(axis=0) / np.maximum(real.mean(axis=0), 1e-12) - 1))),
        "zero error": float(np.abs((drawn == 0).mean(axis=0) - (real == 0).mean(axis=0)).mean()),
        "correlation of correlations": _correlation_of_correlations(unseen, new),
        "two-sample AUC": _auc(unseen, new, random_state),
        "copies": copies,
        "distance ratio": _to_nearest(seen, new) / _to_nearest(seen, unseen),
    }
    compare = {"<": np.less, "<=": np.less_equal, ">=": np.greater_equal}
    rows = {
        name: (value, f"{DUE[name][0]} {DUE[name][1]:g}", bool(compare[DUE[name][0]](value, DUE[name][1])))
        for name, value in found.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=["value", "due", "passed"])


def _check(**parts: Any) -> list[Any]:
    """Return counts as CSR; what cannot be compared raises by its name."""
    shapes = {name: np.shape(part) for name, part in parts.items()}
    for name, shape in shapes.items():
        if len(shape) != 2:
            raise ValueError(f"{name} has the shape {shape}; due is (n_cells, n_genes).")
        if shape[0] < _FEWEST:
            raise ValueError(f"{name} has {shape[0]} cells; due are {_FEWEST} at least.")
    if len({shape[1] for shape in shapes.values()}) > 1:
        widths = ", ".join(f"{name} {shape[1]}" for name, shape in shapes.items())
        raise ValueError(f"numbers of genes differ: {widths}; due are the same genes in all.")
    found = [_canonical(sparse.csr_matrix(check_layer(part, name))) for name, part in parts.items()]
    if found[0].max() <= 0:
        raise ValueError("train holds no count, so that there is nothing to compare with.")
    return found


def _canonical(counts: Any) -> Any:
    """Return CSR with sorted columns, each once; what came is left as it is."""
    if not counts.has_canonical_format:
        counts = counts.copy()
        counts.sum_duplicates()
    return counts


def _logs(counts: Any, genes: Any, target: float) -> Any:
    """Return log1p of scaled counts of some genes, CSR."""
    scale = sparse.diags_array(target / np.maximum(totals(counts), 1))
    return sparse.csr_matrix(scale @ counts[:, genes]).log1p()


def _share_of_copies(train: Any, generated: Any) -> float:
    """Share of generated cells that equal a training cell."""
    # Equal cells have an equal sum, to the bit, under any weights; others have not under two sets of random ones.
    weights = np.random.default_rng(0).normal(size=(2, train.shape[1]))
    sums, known = (part @ (weights[0] + 1j * weights[1]) for part in (generated, train))
    return float(np.isin(sums, known).mean())


def _correlation_of_correlations(real: Any, drawn: Any) -> float:
    """Compare gene-gene correlations over genes that vary in both."""
    vary = (real.std(axis=0) > 0) & (drawn.std(axis=0) > 0)
    if vary.sum() < 3:
        return 0.0
    upper = np.triu_indices(int(vary.sum()), k=1)
    first, second = (np.corrcoef(part[:, vary].T)[upper] for part in (real, drawn))
    return float(np.corrcoef(first, second)[0, 1])


def _auc(real: Any, drawn: Any, random_state: Any) -> float:
    X, y = np.vstack([real, drawn]), np.repeat([0, 1], [len(real), len(drawn)])
    forest = RandomForestClassifier(200, random_state=random_state)
    folds = StratifiedKFold(5, shuffle=True, random_state=random_state)
    return float(roc_auc_score(y, cross_val_predict(forest, X, y, cv=folds, method="predict_proba")[:, 1]))


def _to_nearest(train: Any, cells: Any) -> float:
    """Median distance of cells to the nearest training cell, of which some are dense at once."""
    nearest = np.full(len(cells), np.inf)
    for start in range(0, train.shape[0], _CHUNK):
        some = train[start : start + _CHUNK].toarray()
        nearest = np.minimum(nearest, pairwise_distances_argmin_min(cells, some)[1])
    return float(max(np.median(nearest), 1e-12))
