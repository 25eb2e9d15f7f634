"""The variational latent: its divergence, its bound, and that cells drawn from its prior have the moments of data."""

import numpy as np
import pytest
import torch
from torch.distributions import Normal
from torch.distributions.kl import kl_divergence

from skfusion.decoders import GenerativeDecoder
from skfusion.decoders.generative import kl_standard_normal
from skfusion.preprocessing import Counts


def test_the_divergence_is_torchs():
    torch.manual_seed(0)
    mean, log_scale = torch.randn(2, 7, 5, dtype=torch.float64)
    found = kl_standard_normal(mean, log_scale)
    prior = Normal(torch.zeros(5, dtype=torch.float64), 1.0)
    expected = kl_divergence(Normal(mean, log_scale.exp()), prior).sum(-1)
    torch.testing.assert_close(found, expected)
    assert kl_standard_normal(torch.zeros(1, 3), torch.zeros(1, 3)).item() == 0


def test_the_bound_is_below_the_likelihood():
    """Of one gene whose count a Poisson of known rate has: the latent has nothing to add."""
    torch.manual_seed(0)
    decoder = GenerativeDecoder(2, {"a": 1}, n_latent=2, likelihood="poisson", n_layers=0).eval()
    values, library = {"a": torch.tensor([[4.0], [7.0]])}, {"a": torch.full((2,), 5.0)}
    bound = decoder.elbo(torch.randn(2, 2), values, library=library)
    truth = torch.distributions.Poisson(5.0).log_prob(values["a"]).squeeze(1)
    assert (bound <= truth).all()
    free = decoder.elbo(torch.randn(2, 2), values, library=library, kl_weight=0.0)
    torch.testing.assert_close(free, truth, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def trained():
    """Two types of cells with other genes on, and a decoder that is told of the type."""
    rng = np.random.default_rng(0)
    kind = np.arange(400) % 2
    latent = rng.normal(size=(400, 2))
    loadings, offsets = 0.5 * rng.normal(size=(2, 12)), rng.normal(size=(2, 12))
    counts = rng.poisson(np.exp(1 + latent @ loadings + offsets[kind]))
    tensors = torch.tensor(counts, dtype=torch.float32)
    condition, library = torch.eye(2)[kind], {"a": tensors.sum(1)}
    embedding = torch.log1p(tensors)
    torch.manual_seed(0)
    decoder = GenerativeDecoder(
        12, {"a": 12}, n_latent=2, n_conditions=2, n_hidden=32, statistics={"a": Counts().fit(counts).statistics_}
    )
    optimizer = torch.optim.Adam(decoder.parameters(), lr=0.01)
    for _ in range(250):
        optimizer.zero_grad()
        (-decoder.elbo(embedding, {"a": tensors}, library=library, condition=condition).mean()).backward()
        optimizer.step()
    return decoder.eval(), counts, kind, library["a"]


def test_drawn_cells_have_the_moments_of_their_type(trained):
    decoder, counts, kind, library = trained
    torch.manual_seed(1)
    drawn = decoder.sample(400, library={"a": library}, condition=torch.eye(2)[kind])["a"].numpy()
    for k in (0, 1):
        real, made = counts[kind == k], drawn[kind == k]
        common = real.mean(axis=0) > 1
        assert np.median(np.abs(made.mean(axis=0) / real.mean(axis=0) - 1)[common]) < 0.1
        assert np.abs((made == 0).mean(axis=0) - (real == 0).mean(axis=0)).mean() < 0.05
    upper = np.triu_indices(12, k=1)
    both = [np.corrcoef(np.log1p(part[kind == 0]).T)[upper] for part in (counts, drawn)]
    assert np.corrcoef(*both)[0, 1] > 0.8


def test_the_latent_is_drawn_by_the_generator(trained):
    decoder, *_ = trained
    seen = []
    for _ in range(2):
        torch.manual_seed(0)
        generator = torch.Generator().manual_seed(3)
        library, condition = {"a": torch.full((4,), 50.0)}, torch.eye(2)[[0, 1, 0, 1]]
        seen.append(decoder.sample(4, library=library, condition=condition, generator=generator)["a"])
    assert torch.equal(*seen)


def test_a_condition_that_is_not_due_is_refused(trained):
    with pytest.raises(ValueError, match="condition is 0 wide; due is 2"):
        trained[0].sample(2)
    with pytest.raises(ValueError, match="condition is 3 wide; due is 0"):
        GenerativeDecoder(2, {"a": 3}).sample(2, condition=torch.ones(2, 3))
