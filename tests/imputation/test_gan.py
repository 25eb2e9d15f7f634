"""A conditional adversarial network: what goes in, what comes out."""

import numpy as np
import pytest
import torch
from _data import complete, with_gaps

from skfusion import Modalities, ModalityImputer
from skfusion.imputation import GAN


@pytest.fixture(scope="module")
def fitted():
    return ModalityImputer(GAN(max_steps=5, n_hidden=16), device="cpu", random_state=0).fit(with_gaps(complete()))


def test_the_generator_sees_values_patterns_and_noise(fitted):
    strategy = fitted.strategy_
    seen = []
    hook = strategy.network_.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    X = Modalities(complete(7, seed=1), present=np.tile([True, False, True], (7, 1)))
    (drawn,) = fitted.sample(X)
    hook.remove()
    (inputs,) = seen
    table, hidden, given, noise = inputs.split([9, 3, 3, strategy.n_noise], dim=1)
    assert (table[:, :4] != 0).all()
    assert not table[:, 4:7].any()
    assert hidden.tolist() == [[0, 1, 0]] * 7
    assert given.tolist() == [[1, 0, 1]] * 7
    assert len(noise.unique(dim=0)) == 7
    np.testing.assert_array_equal(drawn["a"], X["a"])
    assert drawn["b"].shape == (7, 3)


def test_noise_reaches_what_is_drawn_and_so_do_the_values_given(fitted):
    table, given = torch.randn(20, 9), torch.tensor([[True, False, True]]).expand(20, -1)
    with torch.no_grad():
        still, moved = (
            fitted.strategy_._generate(table, given, lambda x, width, c=c: torch.full((len(x), width), c))
            for c in (0.0, 1.0)
        )
    assert not torch.equal(still, moved)
    assert len(still.unique(dim=0)) == 20


def test_a_penalty_of_zero_is_allowed_and_changes_what_is_learnt():
    X = complete()
    found = []
    for penalty in (0.0, 10.0):
        strategy = GAN(max_steps=5, n_hidden=16, penalty=penalty)
        found.append(ModalityImputer(strategy, device="cpu", random_state=0).fit(X).transform({"a": X["a"]})["b"])
    assert np.isfinite(found).all()
    assert not np.array_equal(*found)
