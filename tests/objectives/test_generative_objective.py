"""The evidence lower bound as an objective: its formula, what is missing, the weight of the prior, the condition."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from _outputs import Scene
from scipy.sparse import csr_matrix

from skfusion import MultimodalPretrainer
from skfusion.objectives import Expression, Generative


def test_it_is_the_bound_of_the_decoder_over_all_values():
    scene = Scene({"a": 1, "b": 1})
    objective = scene.prepared(Generative(n_latent=3, kl_weight=0.5)).eval()
    bound = objective.decoder.elbo(scene.heads["fusion"], scene.values, kl_weight=0.5)  # (6,), of 2 x 4 values
    torch.testing.assert_close(scene.loss(objective).mean, -bound.mean() / 8)


def test_a_missing_modality_adds_nothing_and_a_padded_step_neither():
    scene = Scene({"a": 1, "b": 3}, missing=[(0, "b"), (1, "a"), (1, "b")])
    scene.masks["b"][2, 1:] = False
    objective = scene.prepared(Generative(n_latent=3)).eval()
    found = objective.decoder(scene.heads["fusion"])
    a = found.expression["a"].log_prob(scene.values["a"]).sum(1)  # (6,)
    b = found.expression["b"].log_prob(scene.values["b"].flatten(1))  # (6, 12)
    b[2, 4:] = 0
    b = torch.where(scene.present[:, 1], b.sum(1), 0.0)
    part = scene.loss(objective)
    expected = (found.kl - torch.where(scene.present[:, 0], a, 0.0) - b) / 16
    assert part.n.item() == 5
    torch.testing.assert_close(part.mean, expected[[0, 2, 3, 4, 5]].mean())


def test_the_weight_of_the_prior_rises_in_training():
    objective = Generative(kl_weight=2.0, n_warmup=3)
    assert [objective.weight_at(epoch) for epoch in range(6)] == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    assert Generative(n_warmup=0).weight_at(0) == 1
    assert objective.eval().weight_at(0) == 2.0
    scene = Scene({"a": 1})
    objective = scene.prepared(objective).train()
    losses, kl = [], 0.0
    for epoch in (0, 3):
        torch.manual_seed(0)
        outputs = {"clean": scene.output}
        found = objective.loss(outputs, scene.batch, replace(scene.context, epoch=epoch))
        losses.append(found["loss"].mean)
        kl = found["generative_kl"].mean
    torch.testing.assert_close(losses[1] - losses[0], 1.5 * kl / 4)


def test_counts_are_decoded_under_their_likelihood_and_the_condition_is_forgotten():
    rng = np.random.default_rng(0)
    kind = np.arange(80) % 2
    rates = np.exp(1 + rng.normal(size=(80, 1)) * rng.normal(size=12))
    rates[:, 0] *= 1 + 9 * kind
    X = {"rna": csr_matrix(rng.poisson(rates)), "labs": rng.normal(size=(80, 3))}
    objective = Generative(likelihood="poisson", covariates=np.eye(2)[kind])
    options = {"n_hidden": 16, "n_latent": 8, "n_heads": 2, "lr": 0.02, "max_epochs": 30, "random_state": 0}
    fitted = MultimodalPretrainer(
        [objective], encoders={"rna": "expression", "labs": "mlp"}, device="cpu", **options
    ).fit(X)
    trained = fitted.objectives_["generative"].eval()
    assert [d.likelihood for d in trained.decoder.decoders] == ["poisson", "normal"]
    assert trained.covariates is None
    means = [
        trained.decode("rna", torch.zeros(1, 5), library=torch.tensor([60.0]), batch=torch.eye(2)[[k]]).mean[0, 0]
        for k in (0, 1)
    ]
    assert means[1] > 3 * means[0]


@pytest.mark.parametrize("kind", [Expression, Generative])
def test_covariates_that_were_let_go_of_are_named(kind):
    rng = np.random.default_rng(0)
    X = {name: rng.normal(size=(20, 3)) for name in ("labs", "vitals")}
    objective = kind(covariates=np.eye(2)[np.arange(20) % 2])
    options = {"n_hidden": 8, "n_latent": 8, "n_heads": 2, "max_epochs": 1, "random_state": 0}
    fitted = MultimodalPretrainer([objective], warm_start=True, device="cpu", **options).fit(X)
    with pytest.raises(ValueError, match=f"{kind.__name__} has let go of its covariates.*give a new one"):
        fitted.fit(X)
    assert np.isfinite(fitted.set_params(warm_start=False).fit(X).history_[-1]["train_loss"])


@pytest.mark.parametrize("bad", [{"kl_weight": -1.0}, {"n_warmup": -1}, {"n_latent": 0}, {"likelihood": "normal"}])
def test_bad_options_are_named(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} of Generative"):
        Generative(**bad)
