"""Chance that a sample carries itself: the same for equal samples, whatever else is in the batch."""

from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from skfusion.modalities import Modalities
from skfusion.modalities.kinds import take


def flip_coins(X: Modalities, seed: int) -> Any:
    """Draw a number in [0, 1) a sample by what is present of it: equal samples get equal ones, in any batch."""
    start = np.random.default_rng(seed).integers(2**64, dtype=np.uint64)
    total = np.full(len(X), start, dtype=np.uint64)
    for name, present in zip(X.names, X.present.T):
        rng = np.random.default_rng([seed, *name.encode()])
        total[present] += _hash_rows(take(X[name], np.flatnonzero(present)), rng)
    return (pd.util.hash_array(total) >> np.uint64(11)) * 2.0**-53


def _hash_rows(values: Any, rng: Any) -> Any:
    """Hash each row of canonical values to 64 bits, with factors of its columns drawn from `rng`."""
    if isinstance(values, pd.DataFrame):
        return pd.util.hash_pandas_object(values, index=False).to_numpy()
    if values.dtype == object:
        texts = np.array([v if isinstance(v, str) else "\0".join(map(str, v)) for v in values], dtype=object)
        return pd.util.hash_array(texts, categorize=False)
    width = int(np.prod(values.shape[1:]))
    factors = rng.integers(2**63, size=width, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    if sparse.issparse(values):
        summed = np.cumsum(_hash_numbers(values.data) * factors[values.indices], dtype=np.uint64)
        summed = np.concatenate([np.zeros(1, dtype=np.uint64), summed])
        return summed[values.indptr[1:]] - summed[values.indptr[:-1]]
    return _hash_numbers(values).reshape(len(values), width) @ factors


def _hash_numbers(values: Any) -> Any:
    """Hash numbers one by one; equal ones of any dtype are equal, and zero, of either sign, is 0."""
    numbers = np.ascontiguousarray(values, dtype=np.float64).ravel()
    return pd.util.hash_array(np.where(np.isnan(numbers), np.nan, numbers) + 0.0)
