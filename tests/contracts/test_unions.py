"""Data sets that share only some modalities, stacked: every public estimator fits on the union, whatever its order."""

import numpy as np
import pytest
from instances import DATA, NEW, N, is_classifier, outputs, scores_by_modality
from sklearn.base import clone

from skfusion import Modalities

NAMED = {"own": slice(0, 2), "shared": slice(2, 4)}
"""Table "a" of the contracts' data, as two modalities; the second data set has "b" instead of the first."""


def union(n_second):
    first, second = np.arange(N - n_second), np.arange(N - n_second, N)
    a = {name: DATA["a"][:, columns] for name, columns in NAMED.items()}
    return Modalities.concat(
        [
            {name: values[first] for name, values in a.items()},
            {"shared": a["shared"][second], "b": np.nan_to_num(DATA["b"][second])},
        ]
    )


@pytest.mark.filterwarnings("ignore:no sample of fit had just the modalities:UserWarning")
@pytest.mark.filterwarnings("ignore:too few calibration samples have just the modalities:UserWarning")
def test_a_modality_of_the_last_rows_alone_is_learnt(estimator, y):
    fitted = clone(estimator).fit(union(12), y)
    for known in ({"b": np.nan_to_num(NEW["b"])}, {"own": NEW["a"][:, :2]}):
        for method, values in outputs(fitted, known).items():
            assert len(values) == 12
            unknown = method == "transform" and scores_by_modality(fitted)
            assert values.dtype.kind != "f" or unknown or np.isfinite(values).all(), method
    if is_classifier(fitted) and hasattr(fitted, "classes_"):
        np.testing.assert_array_equal(fitted.classes_, np.unique(y))
