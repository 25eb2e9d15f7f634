"""The negative binomial: its formula, that it is a distribution, and that it is sampled from."""

import pytest
import torch
from torch.distributions import NegativeBinomial as ByProbability

from skfusion.decoders import DECODERS, NegativeBinomial

MU, THETA = torch.tensor(2.0, dtype=torch.float64), torch.tensor(1.5, dtype=torch.float64)


@pytest.mark.parametrize(("count", "golden"), [(3.0, -2.1670348151374412), (0.0, -1.2709467905808056)])
def test_golden_log_probabilities(count, golden):
    found = NegativeBinomial(MU, THETA).log_prob(torch.tensor(count, dtype=torch.float64))
    assert found.item() == pytest.approx(golden, abs=1e-6)


def test_it_is_torchs_own_by_another_parameter():
    mu = torch.tensor([0.1, 1.0, 30.0], dtype=torch.float64)
    theta = torch.tensor([[0.3], [2.0], [50.0]], dtype=torch.float64)
    counts = torch.tensor([0.0, 1.0, 17.0], dtype=torch.float64)
    other = ByProbability(theta, logits=(mu / theta).log())
    found = NegativeBinomial(mu, theta)
    torch.testing.assert_close(found.log_prob(counts), other.log_prob(counts), rtol=0, atol=1e-10)
    torch.testing.assert_close(found.variance, other.variance)
    assert found.batch_shape == (3, 3)


def test_probabilities_add_up_to_one_and_have_the_mean_and_the_variance():
    counts = torch.arange(400, dtype=torch.float64)
    p = NegativeBinomial(MU, THETA).log_prob(counts).exp()
    assert p.sum().item() == pytest.approx(1, abs=1e-12)
    mean = (p * counts).sum()
    assert mean.item() == pytest.approx(2, abs=1e-9)
    assert (p * (counts - mean).square()).sum().item() == pytest.approx(2 + 4 / 1.5, abs=1e-9)


def test_a_large_theta_is_a_poisson():
    counts = torch.arange(6.0, dtype=torch.float64)
    found = NegativeBinomial(MU, torch.tensor(1e6, dtype=torch.float64)).log_prob(counts)
    torch.testing.assert_close(found, torch.distributions.Poisson(MU).log_prob(counts), rtol=0, atol=1e-5)


def test_samples_have_the_mean_and_the_variance():
    torch.manual_seed(0)
    drawn = NegativeBinomial(torch.tensor([2.0, 10.0]), torch.tensor([1.5, 4.0])).sample((40_000,))
    assert drawn.shape == (40_000, 2)
    assert (drawn == drawn.floor()).all()
    torch.testing.assert_close(drawn.mean(0), torch.tensor([2.0, 10.0]), rtol=0.03, atol=0)
    torch.testing.assert_close(drawn.var(0), torch.tensor([2 + 4 / 1.5, 35.0]), rtol=0.05, atol=0)


def test_what_is_no_distribution_is_refused():
    with pytest.raises(ValueError, match="mu"):
        NegativeBinomial(torch.tensor(-1.0), torch.tensor(1.0))
    with pytest.raises(ValueError, match="support"):
        NegativeBinomial(torch.tensor(1.0), torch.tensor(1.0)).log_prob(torch.tensor(0.5))


def test_names_resolve():
    assert DECODERS["negative_binomial"].endswith(f":{NegativeBinomial.__name__}")
