"""Sparse multi-block partial least squares: directions of blocks that agree with the target and with each other."""

from typing import Any, NamedTuple

import numpy as np


class Direction(NamedTuple):
    """One component of a block: weights and loadings (n_features,), by which it is taken out of the block."""

    weights: Any
    loadings: Any


def fit_directions(
    blocks: list[Any], target: Any, *, keep: Any, design: Any, n_components: int, max_iter: int, tol: float
) -> tuple[list[list[Direction]], Any, int]:
    """Return the directions of each block, how far its scores go with the target's, and the most rounds it took.

    The second value is (n_blocks, n_components).

    Each component maximises the covariances between the scores of blocks and those of the target, plus `design`
    (n_blocks, n_blocks) times those among blocks, over weights of norm 1 of which `keep` (n_blocks, n_components) are
    not 0. `blocks` (n_samples, n_features) and `target` (n_samples, n_columns) are centred; a row of zeros is a sample
    that lacks the block. Where a block has no more components, weights, loadings and agreement are 0.
    """
    blocks = [block.copy() for block in blocks]
    floors = [max(block.shape) * np.finfo(block.dtype).eps * np.linalg.norm(block) for block in blocks]
    found: list[list[Direction]] = [[] for _ in blocks]
    agreement, most = np.zeros((len(blocks), n_components)), 1
    for component in range(n_components):
        weights, scores, aim, n_rounds = _climb(blocks, target, keep[:, component], design, max_iter, tol)
        most = max(most, n_rounds)
        for q, (block, own, t) in enumerate(zip(blocks, weights, scores)):
            norm = t @ t
            loadings = block.T @ t / norm if norm > 0 else np.zeros(block.shape[1])
            block -= np.outer(t, loadings)
            if np.linalg.norm(block) <= floors[q]:
                block[:] = 0.0  # What is left is rounding.
            found[q].append(Direction(own, loadings))
            lengths = np.sqrt(norm) * np.linalg.norm(aim)
            agreement[q, component] = abs(t @ aim) / lengths if lengths > 0 else 0.0
    return found, agreement, most


def project(block: Any, directions: list[Direction]) -> Any:
    """Return the scores (n_samples, n_components) of a block."""
    block, columns = block.copy(), []
    for weights, loadings in directions:
        t = block @ weights
        block -= np.outer(t, loadings)
        columns.append(t)
    return np.stack(columns, axis=1)


def _climb(blocks: list[Any], target: Any, keep: Any, design: Any, max_iter: int, tol: float) -> Any:
    """Return weights and scores of each block, the scores of the target, and the rounds of one component."""
    weights = [
        _sparse(np.linalg.svd(block.T @ target, full_matrices=False)[0][:, 0], k) for block, k in zip(blocks, keep)
    ]
    scores = np.stack([block @ own for block, own in zip(blocks, weights)])  # (n_blocks, n_samples)
    aim = _aim(target, scores)
    n_rounds, change = 0, np.inf
    while n_rounds < max_iter and change >= tol:
        n_rounds += 1
        before = weights.copy()
        for q, block in enumerate(blocks):
            weights[q] = _sparse(block.T @ (aim + design[q] @ scores), keep[q])
            scores[q] = block @ weights[q]
        aim = _aim(target, scores)
        change = max(np.abs(new - old).max() for new, old in zip(weights, before))
    return weights, scores, aim, n_rounds


def _aim(target: Any, scores: Any) -> Any:
    direction = target.T @ scores.sum(axis=0)
    norm = np.linalg.norm(direction)
    return target @ (direction / norm if norm > 0 else direction)


def _sparse(direction: Any, keep: int) -> Any:
    """Shrink by the largest value that is not kept, to `keep` weights of norm 1, and those as large as the last."""
    sizes = np.abs(direction)
    if keep < len(sizes):
        dropped = sizes[sizes < np.partition(sizes, -keep)[-keep]]
        sizes = np.maximum(sizes - dropped.max(initial=0.0), 0.0)
    norm = np.linalg.norm(sizes)
    return np.sign(direction) * sizes / norm if norm > 0 else np.zeros(len(sizes))


class Discriminant:
    """Gaussian classes with one covariance, over the scores of a block."""

    def __init__(self, scores: Any, codes: Any, n_classes: int, sample_weight: Any = None) -> None:
        weights = np.ones(len(codes)) if sample_weight is None else sample_weight
        counts = np.bincount(codes, weights, minlength=n_classes)
        of_class = (codes == np.arange(n_classes)[:, None]) * weights  # (n_classes, n)
        means = of_class @ scores / np.where(counts > 0, counts, 1)[:, None]
        spread = scores - means[codes]
        covariance = (weights * spread.T) @ spread / max(counts.sum() - n_classes, 1)
        ridge = 1e-6 * max(np.trace(covariance), 1e-12)
        self.slopes = np.linalg.solve(covariance + ridge * np.eye(len(covariance)), means.T)
        with np.errstate(divide="ignore"):
            self.offsets = np.log(counts / counts.sum()) - (means * self.slopes.T).sum(axis=1) / 2

    def predict_proba(self, scores: Any) -> Any:
        """Return the probabilities (n_samples, n_classes)."""
        logits = scores @ self.slopes + self.offsets
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)
