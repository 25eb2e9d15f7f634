"""What the tests of the modalities share; a module of its own, so that worker processes can import it."""

import re
from contextlib import contextmanager

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression

from skfusion.modalities import check_modalities


class Checked(BaseEstimator):
    """Keeps what the front door makes of X."""

    def __init__(self, modalities=None):
        self.modalities = modalities

    def fit(self, X, y=None):
        self.X_ = check_modalities(self, X, y, reset=True)
        return self

    def read(self, X):
        return check_modalities(self, X, reset=False)


class TinyClassifier(ClassifierMixin, BaseEstimator):
    """Logistic regression on all modalities side by side."""

    def __init__(self, modalities=None, C=1.0):
        self.modalities = modalities
        self.C = C

    def fit(self, X, y):
        X = check_modalities(self, X, y, reset=True)
        self.classes_ = np.unique(y)
        self.model_ = LogisticRegression(C=self.C).fit(self._side_by_side(X), y)
        return self

    def decision_function(self, X):
        return self.model_.decision_function(self._side_by_side(check_modalities(self, X, reset=False)))

    def predict_proba(self, X):
        return self.model_.predict_proba(self._side_by_side(check_modalities(self, X, reset=False)))

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    @staticmethod
    def _side_by_side(X):
        blocks = [X[name].toarray() if X.kind(name) == "sparse" else X[name] for name in X.names]
        blocks = [np.where(X.present[:, [i]], block, 0.0) for i, block in enumerate(blocks)]
        return np.hstack([*blocks, X.present])


@contextmanager
def says(error, *pieces):
    """Expect `error`, with every one of `pieces` in its message."""
    with pytest.raises(error) as caught:
        yield
    message = re.sub(r"\s+", " ", str(caught.value))
    lacking = [piece for piece in pieces if piece not in message]
    assert not lacking, f"the message lacks {lacking}: {message}"
