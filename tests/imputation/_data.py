"""Small data around which strategies differ."""

import numpy as np
from sklearn.preprocessing import StandardScaler

WIDTHS = {"a": 4, "b": 3, "c": 2}


def complete(n_samples=60, seed=0):
    """Three tables that share a latent of width two; what each is made of does not depend on the seed."""
    maps = np.random.default_rng(7)
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(n_samples, 2))
    return {
        name: 3 + 2 * (latent @ maps.normal(size=(2, width)) + 0.5 * rng.normal(size=(n_samples, width)))
        for name, width in WIDTHS.items()
    }


def with_gaps(X, share=0.3, seed=0):
    """Take each table from a share of the samples; one is always left."""
    rng = np.random.default_rng(seed)
    n_samples = len(X["a"])
    present = rng.random((n_samples, len(X))) > share
    present[np.arange(n_samples), rng.integers(0, len(X), size=n_samples)] = True
    return {name: np.where(there[:, None], values, np.nan) for (name, values), there in zip(X.items(), present.T)}


def has(X, name):
    """Which samples have a table."""
    return ~np.isnan(X[name]).all(axis=1)


def standardised(X, new):
    """Scalers of the tables of `X`, both data sets standardised by them, zero where missing."""
    scalers = {name: StandardScaler().fit(values) for name, values in X.items()}
    scaled = ({n: np.nan_to_num(scalers[n].transform(v)) for n, v in data.items()} for data in (X, new))
    return scalers, *scaled
