"""The decoder of expression: library sizes, what it recovers, and moments of what it gives."""

import numpy as np
import pytest
import torch
from torch.distributions import Poisson

from skfusion.decoders import ExpressionDecoder, NegativeBinomial, ZeroInflatedNegativeBinomial
from skfusion.decoders.expression import LIKELIHOODS
from skfusion.decoders.moments import expected_log1p
from skfusion.preprocessing import Counts


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("dispersion", ["gene", "gene-cell"])
def test_every_likelihood_has_log_probabilities_and_gradients(likelihood, dispersion):
    torch.manual_seed(0)
    decoder = ExpressionDecoder(4, 6, likelihood=likelihood, dispersion=dispersion, n_covariates=2, n_hidden=8)
    batch = torch.eye(2)[[0, 1, 0]]
    found = decoder(torch.randn(3, 4), library=torch.tensor([5.0, 50.0, 500.0]), batch=batch)
    assert found.sample().shape == (3, 6)
    found.log_prob(torch.poisson(torch.full((3, 6), 2.0))).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in decoder.parameters())


def test_the_mean_of_a_cell_adds_up_to_its_library():
    library = torch.tensor([10.0, 1000.0])
    found = ExpressionDecoder(3, 40)(torch.randn(2, 3), library=library)
    torch.testing.assert_close(found.mean.sum(1), library, rtol=1e-4, atol=0)


def test_it_recovers_means_and_the_order_of_dispersions():
    """Two kinds of cells; each gene's θ is one of .5, 2, 20."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    n_genes = 30
    theta = torch.tensor([0.5, 2.0, 20.0]).repeat(n_genes // 3)
    shares = torch.tensor(rng.dirichlet(np.full(n_genes, 5.0), size=2), dtype=torch.float32)
    kind = torch.arange(1500) % 2
    library = torch.tensor(rng.lognormal(5.5, 0.3, size=1500), dtype=torch.float32)
    mu = library.unsqueeze(1) * shares[kind]
    counts = NegativeBinomial(mu, theta).sample()
    decoder = ExpressionDecoder(2, n_genes, n_layers=0, statistics=Counts().fit(counts.numpy()).statistics_)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=0.02)
    embedding = torch.eye(2)[kind]
    for _ in range(150):
        optimizer.zero_grad()
        (-decoder(embedding, library=library).log_prob(counts).mean()).backward()
        optimizer.step()
    found = decoder(embedding[:2], library=torch.ones(2))
    error = (found.mean / shares[kind[:2]] - 1).abs()
    assert error.mean() < 0.1
    fitted = found.theta[0].detach().reshape(-1, 3)
    assert (fitted[:, 0] < fitted[:, 1]).all()
    assert (fitted[:, 1] < fitted[:, 2]).all()


def test_counts_without_a_library_are_refused():
    with pytest.raises(ValueError, match="library is None"):
        ExpressionDecoder(3, 4)(torch.randn(2, 3))
    with pytest.raises(ValueError, match="likelihood is 'gamma'"):
        ExpressionDecoder(3, 4, likelihood="gamma")


@pytest.mark.parametrize("scale", [0.1, 1.0, 40.0])
@pytest.mark.parametrize(
    "counts",
    [
        Poisson(torch.tensor([0.01, 3.0, 50.0, 400.0])),
        NegativeBinomial(torch.tensor([0.01, 3.0, 50.0, 400.0]), torch.tensor(2.0)),
        ZeroInflatedNegativeBinomial(torch.tensor([0.01, 3.0, 50.0, 400.0]), torch.tensor(2.0), torch.tensor(0.3)),
    ],
    ids=["poisson", "nb", "zinb"],
)
def test_the_expected_logarithm_is_that_of_samples(counts, scale):
    torch.manual_seed(0)
    drawn = torch.log1p(scale * counts.sample((20_000,))).mean(0)
    found = expected_log1p(counts, scale)
    torch.testing.assert_close(found, drawn, rtol=0.05, atol=0.01)
    assert (found < torch.log1p(scale * counts.mean)).all()
