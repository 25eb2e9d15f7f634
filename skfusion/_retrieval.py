"""Which of some unit vectors are most similar to others."""

from typing import Any

import numpy as np

BLOCK = 1024
"""Questions that are compared with all answers at a time."""


def most_similar(questions: Any, answers: Any, k: int) -> tuple[Any, Any]:
    """Return the `k` answers (m, D) most similar to each question (n, D), the best one first, by their cosines.

    Parameters
    ----------
    questions, answers : ndarray (n, D) and (m, D)
        Vectors of length 1.
    k : int
        At most m.

    Returns
    -------
    ndarray of int (n, k), ndarray (n, k)
        Positions among the answers, and the cosines.
    """
    found = np.empty((len(questions), k), dtype=int)
    similar = np.empty((len(questions), k), dtype=np.float32)
    for start in range(0, len(questions), BLOCK):
        rows = slice(start, start + BLOCK)
        cosines = questions[rows] @ answers.T  # (block, m)
        best = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(cosines, best, 1), axis=1, kind="stable")
        found[rows] = np.take_along_axis(best, order, 1)
        similar[rows] = np.take_along_axis(cosines, found[rows], 1)
    return found, similar
