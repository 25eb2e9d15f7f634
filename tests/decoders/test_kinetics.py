import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from skfusion.decoders.kinetics import Transcription, splicing_velocity, unspliced_spliced

GOLDEN = 1e-6


def double(*values):
    return [torch.tensor(value, dtype=torch.float64) for value in values]


def integrate(time, alpha, beta, gamma, u0, s0):
    def slope(_, state):
        return [alpha - beta * state[0], beta * state[0] - gamma * state[1]]

    return solve_ivp(slope, (0, time), [u0, s0], rtol=1e-10, atol=1e-12).y[:, -1]


def test_golden_numbers_of_induction_and_repression():
    time, alpha, beta, gamma = double(3.0, 5.0, 0.5, 0.3)
    u, s = unspliced_spliced(time, alpha, beta, gamma)
    assert u.item() == pytest.approx(7.768698398515702, abs=GOLDEN)
    assert s.item() == pytest.approx(5.304518181185779, abs=GOLDEN)
    assert splicing_velocity(u, s, beta, gamma).item() == pytest.approx(2.292993744902117, abs=GOLDEN)
    after, none = double(2.0, 0.0)
    u, s = unspliced_spliced(after, none, beta, gamma, u, s)
    assert u.item() == pytest.approx(2.8579444254754356, abs=GOLDEN)
    assert s.item() == pytest.approx(6.4252004340446005, abs=GOLDEN)
    assert splicing_velocity(u, s, beta, gamma).item() == pytest.approx(-0.4985879174756622, abs=GOLDEN)


@pytest.mark.parametrize("gamma", [0.3, 0.5, 0.5 + 1e-12, 0.5 - 1e-7, 0.5 + 1e-4, 0.5004, 2.0, 40.0])
@pytest.mark.parametrize("start", [(0.0, 0.0), (7.0, 2.0)])
def test_kinetics_agree_with_an_integrator_at_and_around_equal_rates(gamma, start):
    u, s = unspliced_spliced(*double(2.5, 4.0, 0.5, gamma, *start))
    np.testing.assert_allclose([u.item(), s.item()], integrate(2.5, 4.0, 0.5, gamma, *start), rtol=1e-7)


@pytest.mark.parametrize("gamma", [0.5, 0.5 + 1e-9, 0.501, 0.7])
def test_gradients_are_right_at_and_around_equal_rates(gamma):
    inputs = [value.requires_grad_(True) for value in double(2.5, 4.0, 0.5, gamma, 3.0, 1.0)]
    got = torch.autograd.grad(unspliced_spliced(*inputs)[1], inputs)
    step = 1e-5
    for position, gradient in enumerate(got):
        sides = []
        for sign in (1, -1):
            moved = [value.detach() + (sign * step if i == position else 0) for i, value in enumerate(inputs)]
            sides.append(unspliced_spliced(*moved)[1].item())
        assert gradient.item() == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=1e-6)


def test_nothing_overflows_in_single_precision():
    time, alpha = torch.tensor([0.0, 1e3]), torch.tensor(5.0)
    for beta, gamma in ((50.0, 0.01), (0.01, 50.0), (50.0, 50.0)):
        inputs = [torch.tensor(rate, requires_grad=True) for rate in (beta, gamma)]
        u, s = unspliced_spliced(time, alpha, *inputs)
        gradients = torch.autograd.grad(u.sum() + s.sum(), inputs)
        assert torch.isfinite(torch.stack([u, s])).all()
        assert torch.isfinite(torch.stack(gradients)).all()
    assert u[1].item() == pytest.approx(0.1)  # the steady state, alpha / beta


def test_a_gene_that_switches_is_its_pieces():
    before, alpha, after, beta, gamma, start, stop = double(0.4, 5.0, 0.1, 0.5, 0.3, 2.0, 5.0)
    gene = Transcription(before, alpha, after, beta, gamma, start, stop)
    early = gene.at(torch.tensor(1.5, dtype=torch.float64))
    assert early[0].item() == pytest.approx(0.4 / 0.5)
    assert early[1].item() == pytest.approx(0.4 / 0.3)
    at_stop = integrate(3.0, 5.0, 0.5, 0.3, 0.8, 0.4 / 0.3)
    late = integrate(2.0, 0.1, 0.5, 0.3, *at_stop)
    np.testing.assert_allclose([part.item() for part in gene.at(torch.tensor(7.0, dtype=torch.float64))], late)


def test_time_broadcasts_with_genes():
    genes = torch.rand(5, dtype=torch.float64) + 0.1
    u, s = unspliced_spliced(torch.linspace(0, 3, 4, dtype=torch.float64)[:, None], genes, genes, genes)
    assert u.shape == s.shape == (4, 5)
