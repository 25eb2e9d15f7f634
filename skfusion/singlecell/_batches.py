"""Batches of cells as what decoders are told."""

from typing import Any, Self

import numpy as np
import pandas as pd


class Batches:
    """Batches, one-hot, from a column of ``obs``."""

    def __init__(self, key: str) -> None:
        self.key = key

    def fit(self, X: Any) -> Self:
        """Learn the names of the batches of `X`, which must have them."""
        obs = getattr(X, "obs", None)
        if obs is None or self.key not in obs:
            has = "no obs" if obs is None else f"obs {list(obs)}"
            raise ValueError(f"batch_key is {self.key!r}, which X lacks; it has {has}.")
        names, counts = np.unique(self.of(X), return_counts=True)
        self.names: list[str] = names.tolist()
        self.shares = counts / counts.sum()
        return self

    def of(self, X: Any) -> Any:
        """Return the name of each cell's batch."""
        return X.obs[self.key].astype(str).to_numpy()

    def one_hot(self, X: Any, n_cells: int, rows: Any = None) -> Any:
        """Return (n_cells, n_batches) float32; a batch that is unknown has an equal part in all.

        `rows` (n_cells,) says where in `X` a cell is, -1 for nowhere; None is all in their order.
        """
        shape = (n_cells, len(self.names))
        if self.key not in getattr(X, "obs", ()):
            return np.full(shape, 1 / shape[1], dtype=np.float32)
        codes = pd.Index(self.names).get_indexer(self.of(X))
        if rows is not None:
            codes = np.append(codes, -1)[rows]
        return np.where(codes[:, None] >= 0, np.eye(shape[1], dtype=np.float32)[codes], np.float32(1 / shape[1]))

    def draw(self, n: int, rng: np.random.RandomState) -> Any:
        """Draw the names of `n` batches, each as often as it was."""
        return rng.choice(self.names, size=n, p=self.shares)

    def known(self, batch: str, n: int) -> Any:
        """Return `batch` for `n` cells; one that was not fitted raises."""
        if str(batch) not in self.names:
            raise ValueError(f"batch is {batch!r}; due is one of {self.names}.")
        return np.full(n, str(batch))
