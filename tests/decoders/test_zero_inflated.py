"""The zero-inflated negative binomial: its formula, its moments, and its limits."""

import pytest
import torch

from skfusion.decoders import NegativeBinomial, ZeroInflatedNegativeBinomial

MU, THETA, PI = (torch.tensor(x, dtype=torch.float64) for x in (2.0, 1.5, 0.4))


@pytest.mark.parametrize(("count", "golden"), [(0.0, -0.3406860201480666), (3.0, -3.080050067537394)])
def test_golden_log_probabilities(count, golden):
    found = ZeroInflatedNegativeBinomial(MU, THETA, PI).log_prob(torch.tensor(count, dtype=torch.float64))
    assert found.item() == pytest.approx(golden, abs=1e-6)


@pytest.mark.parametrize("pi_logit", [-1e3, -torch.inf])
def test_without_inflation_it_is_the_negative_binomial(pi_logit):
    counts = torch.arange(30.0, dtype=torch.float64)
    logit = torch.tensor(pi_logit, dtype=torch.float64)
    found = ZeroInflatedNegativeBinomial(MU, THETA, logit).log_prob(counts)
    torch.testing.assert_close(found, NegativeBinomial(MU, THETA).log_prob(counts), rtol=0, atol=1e-6)


def test_probabilities_add_up_to_one_and_have_the_mean_and_the_variance():
    counts = torch.arange(400, dtype=torch.float64)
    inflated = ZeroInflatedNegativeBinomial(MU, THETA, PI)
    p = inflated.log_prob(counts).exp()
    assert p.sum().item() == pytest.approx(1, abs=1e-12)
    mean = (p * counts).sum()
    assert mean.item() == pytest.approx(inflated.mean.item(), abs=1e-9)
    assert (p * (counts - mean).square()).sum().item() == pytest.approx(inflated.variance.item(), abs=1e-9)


def test_samples_have_the_mean_and_the_share_of_zeros():
    torch.manual_seed(0)
    inflated = ZeroInflatedNegativeBinomial(torch.tensor([2.0, 9.0]), torch.tensor(1.5), torch.tensor([0.4, -1.0]))
    drawn = inflated.sample((40_000,))
    torch.testing.assert_close(drawn.mean(0), inflated.mean, rtol=0.03, atol=0)
    zeros = inflated.log_prob(torch.zeros(2)).exp()
    torch.testing.assert_close((drawn == 0).float().mean(0), zeros, rtol=0, atol=0.01)


def test_gradients_are_finite_where_inflation_is_certain_or_impossible():
    logit = torch.tensor([-80.0, 0.0, 80.0], requires_grad=True)
    mu = torch.full((3,), 1e-6, requires_grad=True)
    inflated = ZeroInflatedNegativeBinomial(mu, torch.tensor(1.0), logit, validate_args=False)
    (inflated.log_prob(torch.zeros(3)) + inflated.log_prob(torch.ones(3))).sum().backward()
    assert logit.grad.isfinite().all()
    assert mu.grad.isfinite().all()


def test_it_expands_to_a_batch():
    found = ZeroInflatedNegativeBinomial(MU, THETA, PI).expand((4, 3))
    assert found.batch_shape == (4, 3)
    assert found.log_prob(torch.zeros(4, 3)).shape == (4, 3)
