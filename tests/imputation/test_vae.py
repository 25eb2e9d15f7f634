"""A multimodal variational autoencoder: its product of experts, its bound, and what it fills."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from torch.distributions import Independent, Normal, kl_divergence

from skfusion import ModalityImputer
from skfusion.imputation import VAE
from skfusion.imputation.experts import ProductOfExperts, gaussian_divergence

WIDTHS = [3, 2, 1]


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = ProductOfExperts(WIDTHS, n_latent=4, n_hidden=8, n_layers=1)
    with torch.no_grad():
        network.log_noise.normal_(std=0.3)
    return network


def table(n=5, seed=1):
    return torch.randn(n, sum(WIDTHS), generator=torch.Generator().manual_seed(seed))


def posterior_by_hand(network, x, given):
    """Multiply the Gaussians of one sample, one by one, with the prior: precisions add up."""
    mean, precision = torch.zeros(4), torch.ones(4)
    for encoder, part, there in zip(network.encoders, x.split(WIDTHS), given):
        if there:
            location, log_precision = encoder(part[None])[0].chunk(2)
            added = precision + log_precision.exp()
            mean = (precision * mean + log_precision.exp() * location) / added
            precision = added
    return mean, 1 / precision


def test_the_posterior_is_the_product_of_the_experts_and_the_prior(network):
    x = table()
    given = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 1], [0, 0, 0]], dtype=torch.bool)
    mean, variance = network.posterior(x, given)
    for row in range(5):
        due_mean, due_variance = posterior_by_hand(network, x[row], given[row])
        torch.testing.assert_close(mean[row], due_mean)
        torch.testing.assert_close(variance[row], due_variance)
    torch.testing.assert_close(mean[4], torch.zeros(4))
    torch.testing.assert_close(variance[4], torch.ones(4))
    # Each expert makes it narrower.
    assert (network.posterior(x, given[:1].expand(5, -1))[1] < network.posterior(x, given[1:2].expand(5, -1))[1]).all()


def test_divergence_is_that_of_torch():
    generator = torch.Generator().manual_seed(0)
    mean, other_mean = torch.randn(2, 6, 4, generator=generator)
    variance, other_variance = torch.rand(2, 6, 4, generator=generator) + 0.1
    due = kl_divergence(
        Independent(Normal(mean, variance.sqrt()), 1), Independent(Normal(other_mean, other_variance.sqrt()), 1)
    )
    torch.testing.assert_close(gaussian_divergence(mean, variance, other_mean, other_variance), due)


def test_the_loss_is_the_negative_bound_and_the_divergence_of_a_part(network):
    x = table()
    present = torch.tensor([[1, 1, 1], [1, 0, 1], [1, 1, 0], [1, 1, 1], [0, 1, 1]], dtype=torch.bool)
    given = present & torch.tensor([1, 1, 0], dtype=torch.bool)
    there = torch.repeat_interleave(present, torch.tensor(WIDTHS), dim=1)
    torch.manual_seed(3)
    found = network.loss(x, present, given)
    torch.manual_seed(3)
    mean, variance = network.posterior(x, present)
    z = mean + variance.sqrt() * torch.randn_like(mean)
    log_density = Normal(network.decode(z), network.log_noise.exp()).log_prob(x) + 0.5 * np.log(2 * np.pi)
    whole = Independent(Normal(mean, variance.sqrt()), 1)
    part_mean, part_variance = network.posterior(x, given)
    due = kl_divergence(whole, Independent(Normal(torch.zeros(4), torch.ones(4)), 1)) - (log_density * there).sum(dim=1)
    due = due + kl_divergence(whole, Independent(Normal(part_mean, part_variance.sqrt()), 1))
    torch.testing.assert_close(found, due.mean() / 6)


def test_the_loss_stays_finite_far_out(network):
    x = 1e3 * table()
    present = torch.ones(5, 3, dtype=torch.bool)
    given = present & torch.tensor([1, 0, 0], dtype=torch.bool)
    loss = network.loss(x, present, given)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_a_draw_is_the_decoded_latent_and_noise(network):
    x, given = table(4000)[:1].expand(4000, -1), torch.tensor([[True, False, False]]).expand(4000, -1)
    torch.manual_seed(0)
    with torch.no_grad():
        still = network.draw(x, given, lambda like, width: torch.zeros(len(like), width))
        moving = network.draw(x, given, lambda like, width: torch.randn(len(like), width))
        torch.testing.assert_close(still, network.mean(x, given))
        assert (moving.std(dim=0) > 0.95 * network.log_noise.exp()).all()


def linear_pair(n_samples, seed):
    rng = np.random.default_rng(seed)
    maps = np.random.default_rng(3).normal(size=(5, 4))
    a = rng.normal(size=(n_samples, 5))
    return {"a": a, "b": 100 + 30 * (a @ maps + 0.3 * rng.normal(size=(n_samples, 4)))}


def test_it_comes_close_to_least_squares_on_a_linear_pair():
    X, new = linear_pair(400, 0), linear_pair(300, 1)
    strategy = VAE(n_latent=8, n_hidden=32, max_steps=1000, lr=5e-3)
    fitted = ModalityImputer(strategy, device="cpu", random_state=0).fit(X)
    filled = fitted.transform({"a": new["a"]})
    least_squares = LinearRegression().fit(X["a"], X["b"]).predict(new["a"])
    assert r2_score(new["b"], filled["b"]) >= 0.95 * r2_score(new["b"], least_squares)
    # It knows that something is left open, and about how much.
    spread = fitted.uncertainty({"a": new["a"][:50]}, n_samples=20)["b"].mean(axis=0)
    assert (spread > 0.5 * 9).all()
    assert (spread < 3 * 9).all()
