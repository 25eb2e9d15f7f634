"""Causal modelling: a distribution over sequences, that each step sees those before it alone, and sampling."""

from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from _batches import batch, loss, prepared, setting
from scipy.stats import chisquare

from skfusion import MultimodalPretrainer
from skfusion.objectives import NextToken
from skfusion.objectives.next_token import CausalDecoder, sample_profile


def small(likelihood="categorical", n_symbols=3, length=3):
    told = setting({"x": (4,), "s": (length, n_symbols)}, {"x": "mlp", "s": "steps"})
    return prepared(NextToken(likelihood={"s": likelihood}, n_latent=16, n_heads=2), told), told


def test_the_probabilities_of_all_sequences_add_up_to_one():
    objective, _ = small()
    every = F.one_hot(torch.tensor(list(product(range(3), repeat=3))), 3).float()  # (27, 3, 3)
    for condition in (torch.zeros(1, 8), torch.randn(1, 8)):
        p = objective.log_prob(every, condition.expand(27, -1)).exp()
        assert p.sum().item() == pytest.approx(1, abs=1e-5)
        assert p.std() > 0


def test_a_step_sees_those_before_it_alone():
    torch.manual_seed(0)
    decoder = CausalDecoder(3, 4, 8, n_layers=2, n_heads=2).double()
    values = torch.randn(1, 5, 3, dtype=torch.float64)
    condition = torch.randn(1, 4, dtype=torch.float64)
    mask = torch.ones(1, 5, dtype=torch.bool)
    slopes = torch.autograd.functional.jacobian(lambda v: decoder(v, condition, mask), values)[
        0, :, :, 0
    ]  # (T, C, T, C)
    touched = (slopes != 0).any(3).any(1)
    assert torch.equal(touched, torch.ones(5, 5, dtype=torch.bool).tril(-1))


def test_a_step_of_symbols_sees_those_before_it_alone():
    objective, _ = small(length=6, n_symbols=4)
    decoder = objective.decoders[0]
    torch.manual_seed(0)
    first = F.one_hot(torch.randint(4, (1, 6)), 4).float()
    mask, condition = torch.ones(1, 6, dtype=torch.bool), torch.zeros(1, 8)
    before = decoder(first, condition, mask)
    for t in range(6):
        other = first.clone()
        other[0, t] = first[0, t].roll(1)
        changed = (decoder(other, condition, mask) != before).any(-1)[0]
        assert not changed[: t + 1].any()
        assert changed[t + 1 :].all()


def test_the_condition_never_holds_the_sequence_itself():
    objective, told = small()
    told.network.eval()
    s = F.one_hot(torch.randint(3, (6, 3)), 3).float()
    present = [[True, True]] * 4 + [[False, True]] * 2
    x = torch.randn(6, 4)
    for view in objective.views(batch({"x": x, "s": s}, present)).values():
        assert view.present.tolist() == [[True, False]] * 4 + [[False, False]] * 2
    # Alone, a sequence has the condition 0.
    fused = told.network(objective.views(batch({"x": x, "s": s}, present))["without_s"]).fused
    condition = torch.cat([fused[:4], torch.zeros(2, 8)])
    expected = -(objective.log_prob(s, condition) / 3).mean()
    torch.testing.assert_close(loss(objective, told, batch({"x": x, "s": s}, present))["loss"].mean, expected)


def test_padding_is_neither_predicted_nor_seen():
    objective, _ = small(length=5)
    torch.manual_seed(0)
    s = F.one_hot(torch.randint(3, (4, 5)), 3).float()
    condition = torch.randn(4, 8)
    mask = torch.tensor([[True, True, True, False, False]]).expand(4, -1)
    padded = objective.log_prob(torch.where(mask.unsqueeze(-1), s, torch.nan), condition, mask=mask)
    torch.testing.assert_close(padded, objective.log_prob(s[:, :3], condition))


def test_symbols_may_be_scaled():
    objective, _ = small()
    s = F.one_hot(torch.randint(3, (50, 3)), 3).float()
    condition = torch.zeros(50, 8)
    scaled = (s - s.mean((0, 1))) / s.std((0, 1))
    assert torch.equal(objective.log_prob(s, condition), objective.log_prob(scaled, condition))


def test_numbers_are_normal_around_their_prediction():
    objective, told = small("squared")
    s, condition = torch.randn(5, 3, 3), torch.randn(5, 8)
    mask = torch.ones(5, 3, dtype=torch.bool)
    predicted = objective.decoders[0](s, condition, mask)
    expected = torch.distributions.Normal(predicted, 1.0).log_prob(s).sum((1, 2))
    torch.testing.assert_close(objective.log_prob(s, condition), expected)
    only = batch({"x": torch.zeros(5, 4), "s": s}, [[False, True]] * 5)
    predicted = objective.decoders[0](s, torch.zeros(5, 8), mask)
    torch.testing.assert_close(loss(objective, told, only)["loss"].mean, (predicted - s).square().mean())
    near = objective.sample(condition, 3, temperature=1e-6)
    torch.testing.assert_close(objective.decoders[0](near, condition, mask), near, rtol=0, atol=1e-4)


def test_sequences_are_drawn_as_often_as_they_are_likely():
    objective, _ = small(length=2)
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.mul_(1.5)
    generator = torch.Generator().manual_seed(0)
    drawn = objective.sample(torch.zeros(20_000, 8), 2, generator=generator).argmax(-1)
    counts = np.bincount((drawn[:, 0] * 3 + drawn[:, 1]).numpy(), minlength=9)
    every = F.one_hot(torch.tensor(list(product(range(3), repeat=2))), 3).float()
    p = objective.log_prob(every, torch.zeros(9, 8)).exp().detach().double().numpy()
    assert p.max() > 2 * p.min()
    assert chisquare(counts, 20_000 * p / p.sum()).pvalue > 1e-3


def test_a_profile_is_drawn_from_as_its_softmax_says():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 20, generator=generator)
    for temperature in (1.0, 2.0):
        drawn = sample_profile(logits, 10_000, temperature, generator)
        assert drawn.shape == (10_000, 4)
        p = (logits.double() / temperature).softmax(-1).numpy()
        for position in range(4):
            counts = np.bincount(drawn[:, position].numpy(), minlength=20)
            assert chisquare(counts, 10_000 * p[position]).pvalue > 1e-3
    with pytest.raises(ValueError, match="temperature is 0"):
        sample_profile(logits, 1, 0.0)


def test_a_rule_that_the_other_modality_sets_is_learned():
    """Symbol t is (c + t) mod 4, where c is what the other modality says."""
    rng = np.random.default_rng(0)
    c = rng.integers(4, size=300)
    X = {"x": np.eye(4)[c], "s": np.eye(4)[(c[:, None] + np.arange(5)) % 4]}
    pretrainer = MultimodalPretrainer(
        [NextToken(likelihood={"s": "categorical"}, n_latent=32, n_layers=1)],
        n_hidden=16, n_latent=16, dropout_rate=0.0, lr=0.01, max_epochs=30, device="cpu", random_state=0,
    ).fit(X)  # fmt: skip
    condition = torch.from_numpy(pretrainer.transform({"x": np.eye(4)}))
    drawn = pretrainer.objectives_["next_token"].sample(condition, 5, 0.1, torch.Generator().manual_seed(0))
    assert drawn.argmax(-1).tolist() == ((np.arange(4)[:, None] + np.arange(5)) % 4).tolist()
    true = torch.from_numpy((np.arange(4)[:, None] + np.arange(5)) % 4)
    likely = pretrainer.objectives_["next_token"].log_prob(F.one_hot(true).float(), condition)
    # Of a wrong condition the rule says another sequence.
    wrong = pretrainer.objectives_["next_token"].log_prob(F.one_hot(true).float(), condition.roll(1, 0))
    assert likely.min() > -0.1
    assert wrong.max() < -2


def test_what_is_no_sequence_is_refused():
    told = setting({"x": (4,), "s": (5, 3), "t": (5, 3)}, {"x": "mlp", "s": "steps", "t": "steps"})
    with pytest.raises(ValueError, match="samples of 'x' have shape"):
        NextToken(modalities=["x"]).prepare(told)
    with pytest.raises(ValueError, match=r"none of \['x'\] is one"):
        NextToken().prepare(setting({"x": (4,)}, {"x": "mlp"}))
    with pytest.raises(ValueError, match="'nb' for 's'"):
        NextToken(likelihood={"s": "nb"})
    with pytest.raises(ValueError, match="n_heads=4 does not divide n_latent=6"):
        NextToken(n_latent=6)
    objective = prepared(NextToken(), told)
    with pytest.raises(ValueError, match=r"give modality, one of \['s', 't'\]"):
        objective.sample(torch.zeros(1, 8), 2)
    with pytest.raises(ValueError, match="temperature is 0"):
        objective.sample(torch.zeros(1, 8), 2, 0.0, modality="s")
