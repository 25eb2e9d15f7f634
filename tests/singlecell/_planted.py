"""Cells of a planted latent time: transcription switched on, with rates of each gene's own, counted with noise."""

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse


def planted(n_cells=400, n_genes=60, theta=5.0, seed=0):
    """AnnData with layers spliced and unspliced, obs time, and the true means as layers mean_spliced, mean_unspliced.

    ``du/dt = α - βu`` and ``ds/dt = βu - γs`` from 0 over t in [0, 1], or, for half of the genes, from the steady state
    down; counts are negative binomial about these, times a depth of the cell's own.
    """
    rng = np.random.default_rng(seed)
    t = np.sort(rng.uniform(size=n_cells))[rng.permutation(n_cells)]
    beta, gamma = rng.lognormal(1.0, 0.4, size=(2, n_genes)) * np.array([[1.5], [1.0]])
    alpha = rng.lognormal(2.5, 0.4, size=n_genes)
    down = np.arange(n_genes) % 2 == 1
    delay = rng.uniform(0, 0.6, size=n_genes)
    since = np.maximum(t[:, None] - delay, 0)
    u = alpha / beta * (1 - np.exp(-beta * since))
    s = alpha / gamma * (1 - np.exp(-gamma * since)) + alpha / (gamma - beta) * (
        np.exp(-gamma * since) - np.exp(-beta * since)
    )
    u = np.where(down, alpha / beta - u, u) + 0.1
    s = np.where(down, alpha / gamma - s, s) + 0.1
    depth = rng.lognormal(0, 0.2, size=(n_cells, 1))
    layers = {}
    for name, mean in (("spliced", s * depth), ("unspliced", u * depth)):
        counts = rng.poisson(rng.gamma(theta, mean / theta))
        layers[name], layers[f"mean_{name}"] = sparse.csr_matrix(counts.astype(np.int32)), mean
    obs = pd.DataFrame({"time": t}, index=[f"cell{i}" for i in range(n_cells)])
    var = pd.DataFrame(index=[f"gene{i}" for i in range(n_genes)])
    return AnnData(obs=obs, var=var, layers=layers)
