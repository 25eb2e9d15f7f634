"""Canonical correlation: what two modalities say of a sample varies together, direction by direction."""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skfusion.encoders.batch import Batch
from skfusion.fusion.output import FusionOutput
from skfusion.objectives.checks import require_at_least_0, require_whole_numbers
from skfusion.objectives.context import Context, Part, Setting
from skfusion.objectives.objective import Objective
from skfusion.objectives.pairs import several

_TINY = 1e-12
"""Added to all variances: embeddings that are all equal have none."""


class CCA(Objective):
    r"""Minus the canonical correlations of each two modalities' embeddings, added up [1]_.

    That is the trace norm of :math:`S_{aa}^{-1/2} S_{ab} S_{bb}^{-1/2}`, with covariances S over the samples of a batch
    that have both. Embeddings go through a linear map a head first: as many directions as samples could be correlated
    by chance alone, so batches should be many times as large as `n_projection`.

    Parameters
    ----------
    n_projection : int, default=10
        Width of what is correlated; None correlates the embeddings themselves.
    n_components : int, default=None
        So many of the largest correlations count; None is all.
    ridge : float, default=1e-3
        Added to each variance, as a part of the mean variance.

    References
    ----------
    .. [1] Andrew et al., "Deep canonical correlation analysis", ICML, 2013.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion import MultimodalPretrainer
    >>> from skfusion.objectives import CCA
    >>> rng = np.random.default_rng(0)
    >>> latent = rng.normal(size=(100, 2))
    >>> X = {"a": latent @ rng.normal(size=(2, 5)), "b": latent @ rng.normal(size=(2, 4))}
    >>> pretrainer = MultimodalPretrainer([CCA(n_projection=2)], max_epochs=2, random_state=0).fit(X)
    >>> pretrainer.retrieve(X, by="a", of="b", k=1).indices.shape
    (100, 1)
    """

    when = "any"

    def __init__(self, *, n_projection: int | None = 10, n_components: int | None = None, ridge: float = 1e-3) -> None:
        super().__init__()
        require_whole_numbers("CCA", or_none=True, n_projection=n_projection, n_components=n_components)
        require_at_least_0("CCA", ridge=ridge)
        self.n_projection, self.n_components, self.ridge = n_projection, n_components, ridge

    def prepare(self, setting: Setting) -> None:
        """Build a projection a head, and room for what takes it to the canonical space."""
        self.heads = several("cca", setting.network.names)
        self.projections = nn.ModuleList(
            nn.Linear(setting.widths[head], self.n_projection, bias=False) if self.n_projection else nn.Identity()
            for head in self.heads
        )
        self.widths = [self.n_projection or setting.widths[head] for head in self.heads]
        width = min(self.n_components or self.widths[0], *self.widths)
        self.register_buffer("means", torch.zeros(sum(self.widths)))
        self.register_buffer("maps", torch.eye(sum(self.widths), width))
        self._moments: Moments | None = None

    means: Tensor
    maps: Tensor

    def views(self, batch: Batch, generator: object = None) -> dict[str, Batch]:
        """Return the batch as it is."""
        return {"clean": batch}

    def project(self, head: str, embedding: Tensor) -> Tensor:
        """Map the embedding of a head (B, D) to the canonical space, of length 1."""
        h = self.heads.index(head)
        mean, to_canonical = (part.split(self.widths)[h] for part in (self.means, self.maps))
        return F.normalize((self.projections[h](embedding) - mean) @ to_canonical, dim=-1)

    def loss(self, outputs: dict[str, FusionOutput], batch: Batch, context: Context) -> dict[str, Part]:
        """Return minus the sum of correlations, and count the batch in for the canonical space."""
        output = outputs["clean"]
        there = torch.stack([context.network.present_in(head, batch.present) for head in self.heads])  # (H, B)
        found = [f(output.heads[head]) for f, head in zip(self.projections, self.heads)]  # (B, D) each
        if self.training:
            new = Moments.of(found, there)
            self._moments = new if self._moments is None else self._moments + new
        total, concerned = found[0].new_zeros(()), torch.zeros_like(there[0])
        for a, b in combinations(range(len(self.heads)), 2):
            both = there[a] & there[b]  # (B,)
            correlations = canonical_correlations(found[a], found[b], both, self.ridge)[: self.n_components]
            counts = both.sum() > 1
            total = total - torch.where(counts, correlations.sum(), 0.0)
            concerned = concerned | (both & counts)
        return {"loss": Part(total, concerned.sum())}

    @torch.no_grad()
    def on_epoch_end(self, history: object = None) -> None:
        """Learn the canonical space from the embeddings of the epoch."""
        if self._moments is not None:
            self.means.copy_(self._moments.means())
            self.maps.copy_(canonical_maps(self._moments, self.widths, self.maps.shape[1], self.ridge))
        self._moments = None


class Moments(NamedTuple):
    """Sums from which means and covariances follow, each pair of columns over the samples that have both.

    Attributes
    ----------
    n, first, second : Tensor
        (W, W): for columns i and j how many samples have both, and of these the sums of i and of i times j.
    """

    n: Tensor
    first: Tensor
    second: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, parts: list[Tensor], there: Tensor) -> "Moments":
        """Sum over a batch of parts (B, D), side by side, of which samples have what is `there` (H, B)."""
        known = torch.cat([own.unsqueeze(1).expand_as(part) for own, part in zip(there, parts)], 1)  # (B, W)
        values = torch.where(known, precise(torch.cat(parts, 1)), 0.0)
        counted = known.to(values.dtype)
        return cls(counted.T @ counted, values.T @ counted, values.T @ values)

    def __add__(self, other: "Moments") -> "Moments":  # type: ignore[override]
        return Moments(self.n + other.n, self.first + other.first, self.second + other.second)

    def means(self) -> Tensor:
        """Mean of each column over the samples that have it, (W,)."""
        return self.first.diagonal() / self.n.diagonal().clamp(min=1)

    def covariances(self) -> Tensor:
        """(W, W), symmetric; 0 where no sample has both columns."""
        n = self.n.clamp(min=1)
        return self.second / n - (self.first / n) * (self.first.T / n)


def canonical_correlations(a: Tensor, b: Tensor, there: Tensor | None = None, ridge: float = 0.0) -> Tensor:
    """Return the canonical correlations of `a` (B, Da) and `b` (B, Db), the largest first, (min(Da, Db),).

    They are those over the samples that are `there` (B,), None for all. `ridge`, times the mean variance, is added to
    each variance.

    With the Cholesky factors :math:`S_{aa} = L_a L_a^T`, :math:`L_a^{-1} S_{ab} L_b^{-T}` has the singular values of
    :math:`S_{aa}^{-1/2} S_{ab} S_{bb}^{-1/2}`. Neither the gradient of a factor nor that of singular values alone
    divides by gaps of a spectrum, as that of a matrix root by eigenvectors does: equal eigenvalues leave it finite.
    """
    if there is None:
        there = torch.ones(len(a), dtype=torch.bool, device=a.device)
    known = there.unsqueeze(1)  # (B, 1)
    n = known.sum().clamp(min=1)
    a, b = (torch.where(known, precise(x), 0.0) for x in (a, b))
    a, b = (torch.where(known, x - x.sum(0) / n, 0.0) for x in (a, b))
    factor_a, factor_b = (_factor(x.T @ x / n, ridge) for x in (a, b))
    half = torch.linalg.solve_triangular(factor_a, a.T @ b / n, upper=False)  # (Da, Db)
    whitened = torch.linalg.solve_triangular(factor_b, half.T, upper=False)  # (Db, Da)
    found: Tensor = torch.linalg.svdvals(whitened)
    return found


def canonical_maps(moments: Moments, widths: Sequence[int], n_components: int, ridge: float = 0.0) -> Tensor:
    r"""Return maps (W, n_components) of several sets of columns of these `widths` to one canonical space.

    Of whitened sets the directions that correlate the most with each other are the first eigenvectors of the matrix of
    all their correlations; of two sets these are the canonical ones, with eigenvalue :math:`1 + \rho`. Each is weighted
    by :math:`\sqrt{\rho}`, so that a product of two embeddings counts a direction by its correlation, as the posterior
    means of the probabilistic model do.
    """
    covariance = moments.covariances()
    inverses = [
        torch.linalg.solve_triangular(_factor(own, ridge), _identity(own), upper=False)
        for own in _blocks(covariance, widths)
    ]
    whitener = torch.block_diag(*inverses)  # (W, W)
    correlation = whitener @ covariance @ whitener.T
    for block in _blocks(correlation, widths):
        block.zero_()
    excess, directions = torch.linalg.eigh(correlation)  # of the smallest first
    excess, directions = excess.flip(0)[:n_components], directions.flip(1)[:, :n_components]
    return whitener.T @ directions * (excess / (len(widths) - 1)).clamp(min=0).sqrt()


def precise(values: Tensor) -> Tensor:
    """Return float64 where the device knows it: a covariance that is near to singular needs it."""
    return values.float() if values.device.type == "mps" else values.double()


def _factor(covariance: Tensor, ridge: float) -> Tensor:
    """Return the Cholesky factor of a covariance (D, D), a ridge added."""
    added = ridge * covariance.diagonal().mean() + _TINY
    # cholesky would wait for the device to ask whether it failed.
    factor: Tensor = torch.linalg.cholesky_ex(covariance + added * _identity(covariance)).L
    return factor


def _identity(like: Tensor) -> Tensor:
    return torch.eye(len(like), dtype=like.dtype, device=like.device)


def _blocks(matrix: Tensor, widths: Sequence[int]) -> list[Tensor]:
    """Return the squares of these `widths` on the diagonal, as views."""
    return [own.split(list(widths), 1)[i] for i, own in enumerate(matrix.split(list(widths), 0))]
