"""Whether generated cells are like real ones that the generator has not seen, and no copies of those that it has."""

from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import NearestNeighbors

DUE = {
    "mean error": ("<", 0.1),
    "zero error": ("<", 0.05),
    "correlation of correlations": (">=", 0.8),
    "two-sample AUC": ("<", 0.75),
    "copies": ("<=", 0.0),
    "distance ratio": (">=", 0.8),
}
"""What generated cells have to reach."""


def generation_report(train: Any, test: Any, generated: Any, *, n_genes: int = 200, random_state: Any = 0) -> Any:
    """Compare generated counts with held-out real ones.

    All but copies is measured on the genes of largest mean in training, after the counts, but for means and zeros, were
    scaled to the median total of training cells and log1p was taken. As many generated cells are compared as are held
    out, the first ones.

    Parameters
    ----------
    train, test, generated : array or CSR matrix (n_cells, n_genes)
        Counts of the cells that the generator has seen, of real ones that it has not, and of those that it has drawn.
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
    train, test, generated = (sparse.csr_matrix(part) for part in (train, test, generated))
    widths = {part.shape[1] for part in (train, test, generated)}
    if len(widths) > 1:
        raise ValueError(f"train, test and generated have {sorted(widths)} genes; due are the same in all.")
    n = min(generated.shape[0], test.shape[0])
    if n < 10:
        raise ValueError(f"there are {test.shape[0]} held-out and {generated.shape[0]} generated cells; due are 10.")
    copies = _share_of_copies(train, generated)
    totals = np.asarray(train.sum(axis=1)).ravel()
    target = float(np.median(totals[totals > 0]))
    genes = np.argsort(-np.asarray(train.mean(axis=0)).ravel(), kind="stable")[:n_genes]
    real, drawn = (part[:, genes].toarray() for part in (test, generated[:n]))
    logs = [_logs(part, target)[:, genes].toarray() for part in (train, test, generated[:n])]
    found = {
        "mean error": float(np.median(np.abs(drawn.mean(axis=0) / np.maximum(real.mean(axis=0), 1e-12) - 1))),
        "zero error": float(np.abs((drawn == 0).mean(axis=0) - (real == 0).mean(axis=0)).mean()),
        "correlation of correlations": _correlation_of_correlations(logs[1], logs[2]),
        "two-sample AUC": _auc(logs[1], logs[2], random_state),
        "copies": copies,
        "distance ratio": float(_to_nearest(logs[0], logs[2]) / _to_nearest(logs[0], logs[1])),
    }
    compare = {"<": np.less, "<=": np.less_equal, ">=": np.greater_equal}
    rows = {
        name: (value, f"{DUE[name][0]} {DUE[name][1]:g}", bool(compare[DUE[name][0]](value, DUE[name][1])))
        for name, value in found.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=["value", "due", "passed"])


def _logs(counts: Any, target: float) -> Any:
    totals = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    return sparse.csr_matrix(sparse.diags_array(target / np.maximum(totals, 1)) @ counts).log1p()


def _share_of_copies(train: Any, generated: Any) -> float:
    """Share of generated cells that equal a training cell."""

    def key(counts: Any, i: int) -> bytes:
        row = counts[[i]].toarray().astype(np.float64)
        return bytes(row.tobytes())

    known = {key(train, i) for i in range(train.shape[0])}
    return float(np.mean([key(generated, i) in known for i in range(generated.shape[0])]))


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
    """Median distance of cells to the nearest training cell."""
    distances, _ = NearestNeighbors(n_neighbors=1).fit(train).kneighbors(cells)
    return float(max(np.median(distances), 1e-12))
