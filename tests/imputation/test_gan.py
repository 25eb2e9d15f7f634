"""A conditional adversarial network: its scores, what goes in, what comes out, and distributions that it learns."""

import numpy as np
import pytest
import torch
from _data import complete, with_gaps

from skfusion import Modalities, ModalityImputer
from skfusion.imputation import GAN, networks
from skfusion.imputation.gan import energy_score, witness_gap


def test_scores_by_hand():
    true, one, other = torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 4.0]])
    assert energy_score(true, one, other) == (5 + 4 - 3) / 2
    assert witness_gap(true, one, other) == (5 + 4) / 2 - 3 - 0 + (5 + 4) / 2


@pytest.mark.parametrize("width", [1, 3])
def test_the_energy_score_is_least_for_draws_from_the_truth(width):
    true, one, other = torch.randn(3, 20000, width, generator=torch.Generator().manual_seed(0))
    least = energy_score(true, one, other)
    for scale, shift in ((0.6, 0.0), (1.5, 0.0), (0.0, 0.0), (1.0, 0.5)):
        assert energy_score(true, shift + scale * one, shift + scale * other) > least + 0.02


def test_the_witness_tells_nothing_of_rows_that_could_change_places():
    x, y, z = torch.randn(3, 10, 4, generator=torch.Generator().manual_seed(0))
    turned = witness_gap(x, y, z) + witness_gap(y, z, x) + witness_gap(z, x, y)
    torch.testing.assert_close(turned, torch.tensor(0.0), atol=1e-5, rtol=0)


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
    table, hidden, given, noise = inputs.split([9, 3, 3, 3 * strategy.n_noise], dim=1)
    assert (table[:, :4] != 0).all()
    assert not table[:, 4:7].any()
    assert hidden.tolist() == [[0, 1, 0]] * 7
    assert given.tolist() == [[1, 0, 1]] * 7
    by_modality = noise.unflatten(1, (3, -1))
    assert not by_modality[:, [0, 2]].any()  # noise stands in for what is missing alone
    assert len(by_modality[:, 1].unique(dim=0)) == 7
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


def test_the_generator_makes_values_and_the_critic_an_embedding(monkeypatch):
    built = []

    class Recorded(networks.ResidualMLP):
        def __init__(self, *sizes):
            built.append(sizes)
            super().__init__(*sizes)

    monkeypatch.setattr(networks, "ResidualMLP", Recorded)
    strategy = GAN(max_steps=1, n_hidden=12, n_layers=1, n_noise=5, n_latent=7)
    ModalityImputer(strategy, device="cpu", random_state=0).fit(complete())
    # Nine values and six flags of presence, with noise for three modalities or with values to judge.
    assert built == [(9 + 6 + 3 * 5, 9, 12, 1), (9 + 6 + 9, 7, 6, 1)]


def test_draws_differ_and_repeat_with_the_random_state():
    X, new = complete(), {"a": complete(5, seed=1)["a"]}

    def drawn(seed):
        strategy = GAN(max_steps=5, n_hidden=16)
        return [draw["b"] for draw in ModalityImputer(strategy, device="cpu", random_state=seed).fit(X).sample(new, 2)]

    first, again, other = drawn(0), drawn(0), drawn(1)
    np.testing.assert_array_equal(first, again)
    assert not np.isclose(first[0], first[1]).any()
    assert not np.isclose(first[0], other[0]).any()


# What the networks learn


def test_draws_have_the_conditional_mean_and_variance():
    rng = np.random.default_rng(0)
    a, noise = rng.normal(size=(2, 4000, 1))
    strategy = GAN(n_hidden=64, max_steps=1200)
    fitted = ModalityImputer(strategy, device="cpu", random_state=0).fit({"a": a, "b": 3 + 1.6 * a + 1.2 * noise})
    at = np.array([-1.0, 0.0, 1.0])
    (drawn,) = fitted.sample({"a": np.repeat(at, 5000)[:, None]})
    b = drawn["b"].reshape(3, 5000)
    np.testing.assert_allclose(b.mean(axis=1), 3 + 1.6 * at, rtol=0, atol=0.1 * 1.2)
    np.testing.assert_allclose(b.var(axis=1), 1.44, rtol=0.1)


def test_draws_have_both_modes_and_little_between():
    rng = np.random.default_rng(0)
    a, around = rng.normal(size=(2, 4000, 1))
    X = {"a": a, "b": 0.5 * a + 2 * rng.choice([-1, 1], size=(4000, 1)) + 0.3 * around}
    fitted = ModalityImputer(GAN(n_hidden=64, max_steps=800), device="cpu", random_state=0).fit(X)
    for at in (-1.0, 1.0):
        (drawn,) = fitted.sample({"a": np.full((3000, 1), at)})
        deviation = drawn["b"] - 0.5 * at
        assert (deviation < -1).mean() > 0.3
        assert (deviation > 1).mean() > 0.3
        assert (np.abs(deviation) < 1).mean() < 0.2
