import numpy as np
import pytest
import torch
from torch.distributions import Normal

from skfusion import MultimodalPretrainer
from skfusion.decoders import MinimalVelocityDecoder, VelocityDecoder
from skfusion.decoders.kinetics import DURATION, splicing_velocity, unspliced_spliced
from skfusion.objectives import Velocity


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    made = VelocityDecoder(4, n_genes=3)
    with torch.no_grad():
        for rate in (made.alpha, made.beta, made.gamma, made.switch):
            rate.normal_()
        made.noise.zero_()
    return made.eval()


def test_states_are_the_kinetics_at_the_times_that_they_name(decoder):
    embedding = torch.randn(5, 4)
    states, switch = decoder.states(embedding), decoder.switch_time()
    (alpha, beta, gamma), none = decoder.rates(), torch.zeros(3)
    torch.testing.assert_close(states.probabilities.sum(-1), torch.ones(5, 3))
    on, off = states.time[..., 0], states.time[..., 2]
    assert (on <= switch).all()
    assert (off >= switch).all()
    assert (off <= DURATION).all()
    torch.testing.assert_close(states.spliced[..., 0], unspliced_spliced(on, alpha, beta, gamma)[1])
    at_switch = unspliced_spliced(switch, alpha, beta, gamma)
    torch.testing.assert_close(
        states.spliced[..., 2], unspliced_spliced(off - switch, none, beta, gamma, *at_switch)[1]
    )
    torch.testing.assert_close(states.unspliced[..., 1], (alpha / beta).expand(5, 3))
    assert not states.spliced[..., 3].any()


def test_velocity_is_expected_over_the_states_and_nothing_where_they_are_steady(decoder):
    embedding = torch.randn(5, 4)
    states, (_, beta, gamma) = decoder.states(embedding), decoder.rates()
    expected = sum(
        states.probabilities[..., k] * splicing_velocity(states.unspliced[..., k], states.spliced[..., k], beta, gamma)
        for k in (0, 2)
    )
    torch.testing.assert_close(decoder.velocity(embedding), expected)
    # The steady states contribute nothing because their velocity is nothing.
    torch.testing.assert_close(
        splicing_velocity(states.unspliced[..., 1], states.spliced[..., 1], beta, gamma), torch.zeros(5, 3)
    )


def test_the_density_is_that_of_the_mixture(decoder):
    embedding, moments = torch.randn(2, 4), torch.rand(2, 3, 2)
    states = decoder.states(embedding)
    noise = torch.nn.functional.softplus(decoder.noise)  # (2, G)
    expected = torch.zeros(2, 3, 2)
    for k in range(4):
        quiet = 0.1 if k == 3 else 1.0
        for layer, mean in enumerate((states.unspliced, states.spliced)):
            density = Normal(mean[..., k], quiet * noise[layer]).log_prob(moments[..., layer]).exp()
            expected[..., layer] += states.probabilities[..., k] * density
    torch.testing.assert_close(decoder(embedding).log_prob(moments), expected.log())


def test_evidence_has_the_dirichlet_prior(decoder):
    embedding, moments = torch.randn(2, 4), torch.rand(2, 3, 2)
    concentration = decoder.states(embedding).concentration
    posterior = torch.distributions.Dirichlet(concentration)
    apart = torch.distributions.kl_divergence(posterior, torch.distributions.Dirichlet(torch.full((2, 3, 4), 0.25)))
    expected = apart.sum(-1) - decoder(embedding).log_prob(moments).sum((1, 2))
    torch.testing.assert_close(decoder.negative_evidence(embedding, moments), expected)


def test_training_on_one_gene_recovers_its_phase_and_the_sign_of_velocity():
    torch.manual_seed(0)
    time = torch.linspace(0, 20, 200)[:, None]
    alpha, beta, gamma, switch = (torch.tensor([x]) for x in (1.0, 1.0, 0.6, 9.0))
    at_switch = unspliced_spliced(torch.minimum(time, switch), alpha, beta, gamma)
    u, s = unspliced_spliced((time - switch).clamp(min=0), 0 * alpha, beta, gamma, *at_switch)
    moments = torch.stack([u / u.max(), s / s.max()], -1)
    decoder = VelocityDecoder(2, 1, n_hidden=32)
    place = moments.flatten(1) + 0.01 * torch.randn(200, 2)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=0.02)
    for _ in range(300):
        optimizer.zero_grad()
        decoder.negative_evidence(place, moments).mean().backward()
        optimizer.step()
    true = splicing_velocity(u, s, beta, gamma)[:, 0]
    moving = true.abs() > 0.3 * true.abs().max()  # near the origin on and off look alike
    found = decoder.eval().velocity(place)[:, 0].detach()
    assert ((found > 0) == (true > 0))[moving].float().mean() > 0.95


def test_minimal_velocity_is_that_of_its_moments():
    decoder = MinimalVelocityDecoder(4, 3, beta=torch.full((3,), 0.5), gamma=torch.full((3,), 0.3))
    embedding = torch.randn(5, 4)
    u, s = decoder(embedding).mean.unbind(-1)
    torch.testing.assert_close(decoder.velocity(embedding), 0.5 * u - 0.3 * s)


def test_minimal_evidence_is_normal_and_large_rates_stay_what_they_are():
    decoder = MinimalVelocityDecoder(4, 3, beta=torch.tensor([1e-3, 1.0, 300.0]))
    torch.testing.assert_close(torch.nn.functional.softplus(decoder.beta), torch.tensor([1e-3, 1.0, 300.0]))
    embedding, moments = torch.randn(2, 4), torch.rand(2, 3, 2)
    found = decoder(embedding)
    expected = -Normal(found.mean, found.stddev).log_prob(moments).sum((1, 2))
    torch.testing.assert_close(decoder.negative_evidence(embedding, moments), expected)


def test_rates_that_are_not_due_are_refused():
    moments = np.random.default_rng(0).random((5, 3, 2))
    with pytest.raises(ValueError, match="decoder of Velocity is 'none'"):
        Velocity(moments, decoder="none")
    with pytest.raises(ValueError, match="gamma of Velocity is given, and the decoder 'mixture' learns its own"):
        Velocity(moments, gamma=np.ones(3))
    with pytest.raises(ValueError, match=r"gamma of Velocity has the shape \(2,\); due is a rate a gene, \(3,\)"):
        Velocity(moments, decoder="minimal", gamma=np.ones(2))
    for bad in (0, np.nan):
        with pytest.raises(ValueError, match=rf"gamma of Velocity holds {bad}.* \(2\); due are rates above 0"):
            Velocity(moments, decoder="minimal", gamma=[1, bad, bad])


def test_the_objective_leaves_out_samples_without_moments_and_lets_go_of_data():
    rng = np.random.default_rng(0)
    X = {"spliced": rng.random((60, 8)), "unspliced": rng.random((60, 8))}
    moments = np.stack([X["unspliced"], X["spliced"]], axis=-1)
    known = np.arange(20, 60)
    fitted = MultimodalPretrainer([Velocity(moments[known], known)], max_epochs=2, random_state=0).fit(X)
    assert fitted.objectives_["Velocity"].moments is None
    wrong = moments.copy()
    wrong[:20] = 7
    objective = Velocity(wrong)
    objective.samples[:20] = -1  # nobody
    again = MultimodalPretrainer([objective], max_epochs=2, random_state=0).fit(X)
    assert again.history_[-1]["train_loss"] == pytest.approx(fitted.history_[-1]["train_loss"])
    with pytest.raises(ValueError, match=r"shape \(60, 8\); due is \(n_known, n_genes, 2\)"):
        Velocity(moments[..., 0])
