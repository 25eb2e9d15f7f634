"""Estimators that the tests of the inspection layer share; a module of its own, so that worker processes import it."""

import numpy as np
from sklearn.base import BaseEstimator

from skfusion import FusionClassifier


class Recording(BaseEstimator):
    """Keeps what it was fitted and asked on, by the row number in the first column of a modality."""

    seen: list = []

    def __init__(self, name="recording"):
        self.name = name

    def fit(self, X, y, groups=None):
        self.classes_ = np.unique(y)
        self.entry_ = {"name": self.name, "modalities": X.names, "train": rows_of(X), "y": y, "groups": groups}
        return self

    def predict(self, X):
        self.seen.append({**self.entry_, "test": rows_of(X)})
        return np.full(len(X), self.classes_[0])


class Failing(FusionClassifier):
    """Fails where the training samples lack the first one."""

    def fit(self, X, y, sample_weight=None, groups=None):
        if not (X[X.names[0]][:, 0] == 0).any():
            raise ValueError("the first sample is gone")
        return super().fit(X, y)


def rows_of(X):
    return np.nan_to_num(X[X.names[0]][:, 0], nan=-1).astype(int)
