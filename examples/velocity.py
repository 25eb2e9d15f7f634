"""Spliced and unspliced counts to velocity, latent time and pictures.

``python examples/velocity.py`` plants cells that mature along one time; ``python examples/velocity.py cells.h5ad
clusters`` takes an AnnData with the layers spliced and unspliced, and a column of its obs. Pictures, and the AnnData
with everything that scanpy and scVelo look for, go to the folder ``demo``.
"""

import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scipy import sparse
from sklearn.decomposition import PCA

from skfusion.decoders.kinetics import Transcription
from skfusion.singlecell import LatentTimeDisplay, PhasePortraitDisplay, SplicingFusion, VelocityDisplay

N_CELLS, N_GENES = 500, 150
FOLDER = Path("demo")


def plant(rng):
    """Cells along one time, in which each gene goes on and off at times of its own."""
    time = np.sort(rng.uniform(0, 20, N_CELLS))
    rates = [np.exp(rng.normal(np.log(m), 0.4, N_GENES)) for m in (0.2, 4, 0.2, 0.5, 0.3)]
    start, stop = rng.uniform(-2, 8, N_GENES), rng.uniform(8, 18, N_GENES)
    genes = Transcription._make(map(torch.from_numpy, (*rates, start, stop)))
    unspliced, spliced = (layer.numpy() for layer in genes.at(torch.from_numpy(time)[:, None]))
    stage = pd.cut(time, [-1, 7, 14, 20], labels=["early", "middle", "late"])
    return AnnData(
        obs=pd.DataFrame({"stage": stage}, index=[f"cell{i}" for i in range(N_CELLS)]),
        var=pd.DataFrame(index=[f"gene{i}" for i in range(N_GENES)]),
        layers={
            "spliced": sparse.csr_matrix(rng.poisson(spliced)),
            "unspliced": sparse.csr_matrix(rng.poisson(unspliced)),
        },
    )


def main():
    """Fit, annotate, draw."""
    given = len(sys.argv) > 2
    adata = anndata.read_h5ad(sys.argv[1]) if given else plant(np.random.default_rng(0))
    label = sys.argv[2] if given else "stage"
    FOLDER.mkdir(exist_ok=True)

    model = SplicingFusion(max_epochs=20, random_state=0).fit(adata)
    model.annotate(adata)
    adata.obsm["X_pca"] = PCA(2).fit_transform(np.log1p(np.nan_to_num(adata.layers["Ms"])))
    print(adata)
    by_label = adata.obs.groupby(label, observed=True)["latent_time"].median().sort_values()
    print("median latent time", by_label.round(2).to_dict())

    # Without the unspliced layer: moments come from neighbours among the training cells.
    alone = adata[:5].copy()
    del alone.layers["unspliced"]
    print("latent time from spliced counts alone", model.latent_time(alone).round(2))

    best = adata.var["velocity_r2"].idxmax()
    displays = {
        "velocity": VelocityDisplay.from_anndata(adata, "X_pca", color=label),
        "latent_time": LatentTimeDisplay.from_anndata(adata, label, basis="X_pca"),
        "phase_portrait": PhasePortraitDisplay.from_anndata(adata, best, color="latent_time"),
    }
    for name, display in displays.items():
        display.figure_.savefig(FOLDER / f"{name}.png", dpi=120, bbox_inches="tight")
    adata.write_h5ad(FOLDER / "cells.h5ad")
    print(f"pictures and cells.h5ad are in {FOLDER}/")


if __name__ == "__main__":
    main()
