"""Conditional diffusion: the sampler with a denoiser that is exact, and distributions that a network learns."""

import numpy as np
import pytest
import torch

from skfusion import ModalityImputer
from skfusion.imputation import Diffusion
from skfusion.imputation.diffusion import noise_schedule
from skfusion.imputation.generative import own_noise
from skfusion.imputation.networks import Layout, random_targets, time_features


def test_the_schedule_leaves_nothing_of_the_data():
    torch.testing.assert_close(noise_schedule(100), torch.linspace(1e-3, 0.2, 100))
    for n_steps in (2, 10, 50, 100, 1000):
        betas = noise_schedule(n_steps)
        assert len(betas) == n_steps
        assert 0 < betas.min() <= betas.max() < 1
        assert torch.cumprod(1 - betas, 0)[-1] < 1e-3


class ExactDenoiser:
    """The expected noise where the missing column, given that the other is `a`, is N(slope * a, variance)."""

    def __init__(self, betas, slope, variance):
        self.kept, self.slope, self.variance = torch.cumprod(1 - betas, 0), slope, variance
        self.clock = time_features(torch.arange(len(betas)) / len(betas))

    def __call__(self, inputs):
        noisy, clean = inputs[:, :2], inputs[:, 2:4]
        assert inputs[0, 4:8].tolist() == [0, 1, 1, 0]  # hidden, given
        t = int((self.clock - inputs[0, 8:]).square().sum(dim=1).argmin())
        kept = self.kept[t]
        mean = self.slope * clean[:, :1]
        return (1 - kept).sqrt() * (noisy - kept.sqrt() * mean) / (kept * self.variance + 1 - kept)


@pytest.mark.parametrize(("n_steps", "slope", "variance"), [(100, 1.5, 0.25), (100, -0.5, 1.0), (200, 0.5, 0.1)])
def test_an_exact_denoiser_gives_the_conditional_mean_and_variance(n_steps, slope, variance):
    strategy = Diffusion(n_diffusion_steps=n_steps)
    strategy.betas_ = noise_schedule(n_steps)
    strategy.layout_ = Layout([1, 1], torch.device("cpu"))
    strategy.range_ = (torch.full((2,), -50.0), torch.full((2,), 50.0))
    strategy.network_ = ExactDenoiser(strategy.betas_, slope, variance)
    given = torch.tensor([[True, False]]).expand(20000, -1)
    for a in (-1.0, 2.0):
        torch.manual_seed(0)
        drawn = strategy._generate(torch.tensor([[a, 0.0]]).expand(20000, -1), given, own_noise)
        assert not drawn[:, 0].any()  # what is given is not drawn
        assert float(drawn[:, 1].mean()) == pytest.approx(slope * a, abs=0.03 * variance**0.5 + 0.01)
        assert float(drawn[:, 1].var()) == pytest.approx(variance, rel=0.05)


def test_hidden_modalities_are_some_of_those_present():
    torch.manual_seed(0)
    present = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0]], dtype=torch.bool).repeat(2000, 1)
    hidden = random_targets(present, everything=0.0)
    assert not (hidden & ~present).any()
    n_hidden = hidden.sum(dim=1).reshape(-1, 3)
    assert (n_hidden[:, 2] == 0).all()
    assert (n_hidden[:, 1] == 1).all()
    assert sorted(n_hidden[:, 0].unique().tolist()) == [1, 2]
    # Each of three is hidden as often as the others.
    np.testing.assert_allclose(hidden[::3].float().mean(dim=0), 0.5, atol=0.05)


def test_of_a_share_of_the_samples_everything_is_hidden():
    torch.manual_seed(0)
    present = torch.tensor([[1, 1, 1], [1, 0, 1]], dtype=torch.bool).repeat(2000, 1)
    for options, share in (({}, 0.05), ({"everything": 0.5}, 0.5)):
        hidden = random_targets(present, **options)
        assert not (hidden & ~present).any()
        everything = (hidden == present).all(dim=1).float()
        assert float(everything.mean()) == pytest.approx(share, abs=0.02)


# What a network learns


def planted(n_samples, seed):
    """`b` is linear in `a` with noise of standard deviation 1.2; `c` lies around -1 or 1, whatever the others are."""
    rng = np.random.default_rng(seed)
    a, noise, around = rng.normal(size=(3, n_samples, 1))
    return {"a": a, "b": 3 + 1.6 * a + 1.2 * noise, "c": rng.choice([-1.0, 1.0], size=(n_samples, 1)) + 0.15 * around}


@pytest.fixture(scope="module")
def learnt():
    strategy = Diffusion(n_hidden=64, n_layers=2, max_steps=1500, batch_size=512)
    return ModalityImputer(strategy, device="cpu", random_state=0).fit(planted(4000, 0))


@pytest.mark.parametrize("a", [-1.0, 0.5, 1.5])
def test_draws_have_the_conditional_mean_and_variance(learnt, a):
    (drawn,) = learnt.sample({"a": np.full((3000, 1), a)})
    assert drawn["b"].mean() == pytest.approx(3 + 1.6 * a, abs=0.1 * 1.2)
    assert drawn["b"].var() == pytest.approx(1.44, rel=0.1)
    # A regression repeats itself.
    regression = ModalityImputer("linear").fit(planted(100, 0)).transform({"a": np.full((3000, 1), a)})
    assert regression["b"].var() < 1e-20


def test_draws_have_both_modes_and_little_between(learnt):
    (drawn,) = learnt.sample({"a": np.full((3000, 1), 0.5)})
    assert (drawn["c"] > 0.5).mean() > 0.2
    assert (drawn["c"] < -0.5).mean() > 0.2
    assert (np.abs(drawn["c"]) < 0.5).mean() < 0.2
    # No Gaussian does that.
    (gaussian,) = ModalityImputer("factor", random_state=0).fit(planted(1000, 0)).sample({"a": np.full((3000, 1), 0.5)})
    assert (np.abs(gaussian["c"]) < 0.5).mean() > 0.3


def test_draws_given_nothing_are_those_of_the_whole_distribution(learnt):
    (drawn,) = learnt.sample({"a": np.full((4000, 1), np.nan)})
    assert drawn["a"].var() == pytest.approx(1, rel=0.15)
    assert drawn["b"].mean() == pytest.approx(3, abs=0.2)
    assert drawn["b"].var() == pytest.approx(1.6**2 + 1.44, rel=0.15)
    assert np.corrcoef(drawn["a"][:, 0], drawn["b"][:, 0])[0, 1] == pytest.approx(0.8, abs=0.05)


def test_uncertainty_is_that_of_the_noise(learnt):
    found = learnt.uncertainty({"a": [[-1.0], [1.0]]}, n_samples=100)
    np.testing.assert_allclose(found["b"], 1.2, rtol=0.25)
    np.testing.assert_array_equal(found["a"], 0)
