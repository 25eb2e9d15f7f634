"""The mean of several strategies."""

import numpy as np
import pytest
from _data import complete, with_gaps

from skfusion import ModalityImputer
from skfusion.imputation import Average, Factor, Linear, Neighbors

TRAIN, NEW = with_gaps(complete()), with_gaps(complete(20, seed=1), share=0.5)


def test_an_average_fills_the_mean_of_what_each_would():
    average = ModalityImputer(Average([Linear(), Factor(2), "zero"]), random_state=0).fit(TRAIN)
    parts = [ModalityImputer(part, random_state=0).fit(TRAIN) for part in (Linear(), Factor(2), "zero")]
    filled, each = average.transform(NEW), [part.transform(NEW) for part in parts]
    for name in NEW:
        np.testing.assert_allclose(filled[name], np.mean([one[name] for one in each], axis=0), rtol=1e-12)
    assert not hasattr(average, "sample")
    assert average.score(NEW) == pytest.approx(np.mean(list(average.score_modalities(NEW).values())))


def test_an_average_of_a_linear_and_a_non_linear_model_errs_less_than_either():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(400, 2))
    X = {"a": z + 0.1 * rng.normal(size=z.shape), "b": z @ rng.normal(size=(2, 3)) + np.sin(3 * z[:, :1])}
    train, new = ({name: values[rows] for name, values in X.items()} for rows in (slice(60), slice(60, None)))
    parts = [Linear(), Neighbors(n_neighbors=3)]
    scores = [ModalityImputer(part).fit(train).score(new) for part in (*parts, Average(parts))]
    assert scores[2] > max(scores[:2])


@pytest.mark.parametrize("strategies", [[], "factor", [3], ["factors"]])
def test_an_average_says_what_it_can_be_of(strategies):
    with pytest.raises(ValueError, match=r"strategies is .*due is"):
        ModalityImputer(Average(strategies)).fit(TRAIN)
