"""What training says of counts; no torch, so that preprocessing may learn it."""

from typing import Any, NamedTuple


class CountStatistics(NamedTuple):
    """What the training cells say of a modality's counts.

    Attributes
    ----------
    library_size : float
        Median total of a cell.
    means : ndarray (n_genes,)
        Mean of ``log1p(count / total * library_size)``.
    shares : ndarray (n_genes,)
        Mean of a gene's share of the total.
    thetas : ndarray (n_genes,)
        Inverse dispersion of a gene by moments, of normalised counts.
    """

    library_size: float
    means: Any
    shares: Any
    thetas: Any
