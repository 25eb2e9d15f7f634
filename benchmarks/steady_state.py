"""The steady-state model of RNA velocity on an AnnData with both layers and ``obs["clusters"]``, beside its controls.

Genes, neighbours and moments are chosen once, and every control uses them. Correctness is that of the known transitions
of the pancreas, in the gene space of the moments; "projected" is the same on two principal components, a figure of the
picture. An edge counts from 20 cells with a neighbour across it.

    python benchmarks/steady_state.py pancreas.h5ad
"""

import argparse

import numpy as np
import pandas as pd
from anndata import read_h5ad

from skfusion.singlecell import second_moments, splicing_moments, steady_state_velocity, velocity_report

EDGES = [
    ("Ductal", "Ngn3 low EP"),
    ("Ngn3 low EP", "Ngn3 high EP"),
    ("Ngn3 high EP", "Pre-endocrine"),
    *(("Pre-endocrine", last) for last in ("Alpha", "Beta", "Delta", "Epsilon")),
]


def evaluate(adata, stochastic, options, seed):
    """Return the report of one model, and how many genes it rests on."""
    m = splicing_moments(adata.layers["spliced"], adata.layers["unspliced"], **options)

    def fit(unspliced_moments, unspliced=m.unspliced):
        squares = second_moments(m.spliced, unspliced, m.connectivities) if stochastic else None
        return steady_state_velocity(m.spliced_moments, unspliced_moments, second_moments=squares)

    fitted = fit(m.unspliced_moments)
    # Products with shuffled rows are not known to `refit`, which gets moments: the stochastic model goes without.
    control = {} if stochastic else {"unspliced": m.unspliced, "refit": lambda moments: fit(moments).velocity}
    report = velocity_report(
        m.spliced_moments,
        fitted.velocity,
        m.connectivities,
        adata.obs["clusters"],
        EDGES,
        velocity_genes=fitted.velocity_genes,
        random_state=seed,
        **control,
    )
    return report, int(fitted.velocity_genes.sum()), len(m.genes)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="an h5ad file")
    parser.add_argument("--min-shared-counts", type=float, default=20)
    parser.add_argument("--n-top-genes", type=int, default=700)
    parser.add_argument("--n-components", type=int, default=15)
    parser.add_argument("--n-neighbors", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    options = vars(parser.parse_args())
    file, seed = options.pop("file"), options.pop("seed")
    adata = read_h5ad(file)
    print(f"{adata.n_obs} cells x {adata.n_vars} genes,", ", ".join(f"{k}={v}" for k, v in options.items()))
    pd.options.display.width = 140
    pd.options.display.max_columns = 20
    for stochastic in (False, True):
        report, kept, chosen = evaluate(adata, stochastic, options, seed)
        name = "stochastic" if stochastic else "deterministic"
        print(f"\n{name} steady state, {kept} velocity genes of {chosen}, margin {report.margin:.3f}")
        print(report.table.round(3).to_string())
        print(report.edges.round(3).to_string(index=False))
        for control, draws in report.draws.items():
            if len(draws) > 1:
                print(f"{control}: {np.min(draws):.3f} to {np.max(draws):.3f}")


if __name__ == "__main__":
    main()
