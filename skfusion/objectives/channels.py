"""Which channels of an image each column of a table sees: k-means, similarities of samples, optimal transport."""

import torch
import torch.nn.functional as F
from torch import Tensor

from skfusion.objectives.transport import exact_plan

_N_STARTS, _N_ITER = 3, 20
"""Of the k-means: starts, of which the best is taken, and at most so many iterations of each."""
_CHUNK = 64
"""Columns whose similarities (n, n) are held at once."""


def visible_channels(maps: Tensor, columns: Tensor, n_clusters: int = 40, *, seed: int = 0) -> Tensor:
    """Return which channels each column sees, (F, D) bool.

    Parameters
    ----------
    maps : Tensor
        (n, T, D), the values of D channels at T positions of n samples.
    columns : Tensor
        (n, F, D'), the embeddings of F columns.
    n_clusters : int, default=40
        Groups of channels; at most D, and fewer where channels are alike.
    seed : int, default=0
        Of the k-means.
    """
    groups = channel_groups(maps.permute(2, 0, 1).flatten(1), n_clusters, seed=seed)  # (D,)
    members = F.one_hot(groups).to(maps.dtype)  # (D, k)
    centres = torch.einsum("ntd,dk->knt", maps, members / members.sum(0))
    plan = exact_plan(transport_cost(columns.transpose(0, 1), centres).numpy())  # (F, k)
    return torch.from_numpy(plan > 0)[:, groups]


def transport_cost(columns: Tensor, centres: Tensor) -> Tensor:
    """Return by how much the similarities of samples differ, (F, n, D') and (k, n, T) -> (F, k)."""
    of_centres = similarities(centres).flatten(1)  # (k, n n)
    parts = [similarities(part).flatten(1) for part in columns.split(_CHUNK)]
    return torch.cat([torch.stack([(g - of_centres).square().sum(1) for g in part]) for part in parts])


def similarities(features: Tensor) -> Tensor:
    """Return the Gram matrices (…, n, n) of features (…, n, D) of norm 1; zeros where there are none but zeros."""
    unit = features / features.flatten(-2).norm(dim=-1).clamp(min=1e-12)[..., None, None]
    return unit @ unit.mT


def channel_groups(maps: Tensor, n_clusters: int, *, seed: int = 0) -> Tensor:
    """Return the group of each channel by k-means of the maps (D, n T), (D,); every group from 0 on has a member."""
    generator = torch.Generator().manual_seed(seed)
    runs = [_kmeans(maps, min(n_clusters, len(maps)), generator) for _ in range(_N_STARTS)]
    groups, _ = min(runs, key=lambda run: run[1])
    return groups.unique(return_inverse=True)[1]


def _kmeans(maps: Tensor, k: int, generator: torch.Generator) -> tuple[Tensor, float]:
    """Return groups (D,) of `maps` (D, N), and the sum of squared distances to their centres."""
    centres = maps[_spread(maps, k, generator)]  # (k, N)
    groups = torch.full((len(maps),), -1)
    for _ in range(_N_ITER):
        distances, nearest = torch.cdist(maps, centres).min(1)
        if torch.equal(nearest, groups):
            break
        groups = nearest
        members = F.one_hot(groups, len(centres)).to(maps.dtype)  # (D, k)
        n = members.sum(0).unsqueeze(1)  # (k, 1)
        centres = torch.where(n > 0, members.T @ maps / n.clamp(min=1), centres)
    return groups, float(distances.square().sum())


def _spread(maps: Tensor, k: int, generator: torch.Generator) -> list[int]:
    """Choose up to k rows to start from as k-means++ does: by the squared distance to those chosen before."""
    chosen = [int(torch.randint(len(maps), (), generator=generator))]
    distance = torch.full((len(maps),), torch.inf, dtype=maps.dtype)
    while len(chosen) < k:
        distance = torch.minimum(distance, (maps - maps[chosen[-1]]).square().sum(1))
        if not distance.any():
            break  # all others are like one of these
        chosen.append(int(torch.multinomial(distance, 1, generator=generator)))
    return chosen
