"""RNA and surface proteins of the same cells, as from CITE-seq: fused, and predicted for cells without protein.

Counts of genes and of proteins are planted here: four types of cells, a gradient inside each, and a tenth of the cells
lack their protein. Run it with ``python examples/rna_protein.py``.
"""

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from skfusion import JointFusionClassifier, Modalities, ModalityImputer, MultimodalPretrainer

N_CELLS, N_GENES, N_PROTEINS = 600, 300, 20


def draw_cells(rng):
    """AnnData with counts in X, log-scaled proteins in obsm, and the type of each cell in obs."""
    kind = rng.integers(4, size=N_CELLS)
    gradient = rng.normal(size=N_CELLS)
    genes = 0.15 * rng.normal(size=(4, N_GENES))[kind] + 0.3 * np.outer(gradient, rng.normal(size=N_GENES))
    depth = rng.lognormal(0, 0.3, size=(N_CELLS, 1))
    counts = rng.poisson(0.5 * depth * np.exp(genes))
    proteins = 0.5 * rng.normal(size=(4, N_PROTEINS))[kind] + np.outer(gradient, rng.normal(size=N_PROTEINS))
    proteins += rng.normal(size=proteins.shape)
    return AnnData(
        sparse.csr_matrix(counts),
        obs=pd.DataFrame({"type": [f"type {k}" for k in kind]}, index=[f"cell{i}" for i in range(N_CELLS)]),
        var=pd.DataFrame(index=[f"gene{i}" for i in range(N_GENES)]),
        obsm={"protein": proteins},
    )


def main():
    """Fit, fuse, predict without protein, and fill it in."""
    rng = np.random.default_rng(0)
    adata = draw_cells(rng)
    X = Modalities.from_anndata(adata, {"rna": "X", "protein": "obsm/protein"})
    has_protein = rng.random(N_CELLS) > 0.1
    X = Modalities(X, present={"protein": has_protein})
    y = adata.obs["type"].to_numpy()
    train, test = np.arange(400), np.arange(400, N_CELLS)
    print(X)

    encoders = {"rna": "expression"}
    classifier = JointFusionClassifier(encoders, "zorro", modality_dropout=0.3, max_epochs=15, random_state=0)
    classifier.fit(X[train], y[train])
    alone = X[test].select(["rna"])
    print(f"accuracy with both {classifier.score(X[test], y[test]):.3f}")
    print(f"accuracy without protein {classifier.score(alone, y[test]):.3f}")

    pretrainer = MultimodalPretrainer(["contrastive", "expression"], encoders, max_epochs=15, random_state=0)
    pretrainer.fit(X[train])
    adata.obsm["X_fusion"] = pretrainer.transform(X)
    print(f"X_fusion of {adata.obsm['X_fusion'].shape}, for sc.pp.neighbors(adata, use_rep='X_fusion')")

    imputer = ModalityImputer("linear", random_state=0).fit(X[train])
    filled, truth = imputer.transform(alone)["protein"], adata.obsm["protein"][test]
    r2 = 1 - np.square(truth - filled).sum() / np.square(truth - truth.mean(axis=0)).sum()
    print(f"protein filled in from RNA: R² {r2:.2f}")


if __name__ == "__main__":
    main()
