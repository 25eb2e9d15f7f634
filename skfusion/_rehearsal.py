"""What continual pretraining keeps of each stage: a few samples that lie near the centres of all of them."""

import warnings
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

_SHARE_OF_CENTRES = 0.01


class Stored(NamedTuple):
    """Samples that are kept.

    Attributes
    ----------
    values : dict of str to ndarray or CSR matrix
        Prepared values (n_stored, …) of each modality; zeros where it is missing.
    present : ndarray of bool (n_stored, n_modalities)
        Who has what.
    """

    values: dict[str, Any]
    present: Any

    def joined(self, more: "Stored") -> "Stored":
        """Put `more` behind; its modalities begin with those that are here."""
        gone = len(self.present)
        values = {
            name: stacked(self.values[name] if name in self.values else _nothing_like(part, gone), part)
            for name, part in more.values.items()
        }
        new = more.present.shape[1] - self.present.shape[1]
        return Stored(values, np.concatenate([np.pad(self.present, ((0, 0), (0, new))), more.present]))


def stacked(above: Any, below: Any) -> Any:
    """Put samples over samples; sequences of fewer steps are padded with NaN."""
    if sparse.issparse(above):
        return sparse.vstack([above, below], format="csr")
    if above.ndim == 3 and above.shape[1] != below.shape[1]:
        length = max(above.shape[1], below.shape[1])
        above, below = (
            np.pad(part, ((0, 0), (0, length - part.shape[1]), (0, 0)), constant_values=np.nan)
            for part in (above, below)
        )
    return np.concatenate([above, below])


def _nothing_like(part: Any, n_samples: int) -> Any:
    shape = (n_samples, *part.shape[1:])
    return sparse.csr_matrix(shape, dtype=part.dtype) if sparse.issparse(part) else np.zeros(shape, dtype=part.dtype)


def counts(n_samples: int, rehearsal: float) -> tuple[int, int]:
    """Return the number of centres, and of samples that each of them keeps, as in MedCoSS [1]_.

    References
    ----------
    .. [1] Ye et al., "Continual self-supervised learning: towards universal multi-modal medical data representation
       learning", CVPR, 2024.
    """
    n_centres = max(1, int(_SHARE_OF_CENTRES * n_samples))
    return n_centres, int(rehearsal * n_samples // n_centres)


def nearest_to_centres(features: Any, rehearsal: float, random_state: int) -> Any:
    """Return the rows of `features` (n_samples, D) to keep: those nearest to each centre of k-means.

    One that is near to two centres is kept for the first of them, and the second takes the next one.
    """
    n_centres, n_each = counts(len(features), rehearsal)
    if not n_each:
        return np.empty(0, dtype=int)
    with warnings.catch_warnings():
        # Features that coincide leave fewer clusters than asked for.
        warnings.simplefilter("ignore", ConvergenceWarning)
        centres = KMeans(n_centres, n_init=1, random_state=random_state).fit(features).cluster_centers_
    free = np.ones(len(features), dtype=bool)
    for centre in centres:
        distances = np.where(free, np.square(features - centre).sum(axis=1), np.inf)
        free[np.argsort(distances, kind="stable")[:n_each]] = False
    return np.flatnonzero(~free)


def carry_projections(old: Any, new: Any) -> None:
    """Give an objective that compares heads the projections of those that one of its class knew."""
    if type(old) is not type(new) or not hasattr(new, "projections") or not hasattr(new, "heads"):
        return
    for head, projection in zip(new.heads, new.projections):
        if head in old.heads:
            projection.load_state_dict(old.projections[old.heads.index(head)].state_dict())
