"""Distillation: what a teacher answered, looked up by sample."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from skfusion import JointFusionClassifier, JointFusionRegressor
from skfusion.objectives import Distillation
from skfusion.objectives.distillation import softened_divergence, standardised

SMALL = {"n_hidden": 8, "n_latent": 4, "max_epochs": 1, "device": "cpu", "random_state": 0}
STILL = {"optimizer": torch.optim.SGD, "scheduler": None, "lr": 1e-12, "weight_decay": 0.0, "dropout_rate": 0.0}
RNG = np.random.default_rng(0)
X = {"a": RNG.normal(size=(40, 3)), "b": RNG.normal(size=(40, 2))}
Y = np.arange(40) % 3
PROBABILITIES = RNG.dirichlet(np.ones(3), size=40)


def test_golden_numbers():
    teacher = torch.tensor([[2.0, 0, -1]], dtype=torch.float64)
    student = torch.tensor([[1.0, 0.5, 0]], dtype=torch.float64)
    divergence = softened_divergence(student, teacher, 2.0)
    supervised = F.cross_entropy(student, torch.tensor([0]))
    assert divergence.item() == pytest.approx(0.36522797566013243, abs=1e-6)
    assert supervised.item() == pytest.approx(0.6802696706417346, abs=1e-6)
    assert (0.5 * supervised + 0.5 * divergence).item() == pytest.approx(0.5227488231509335, abs=1e-6)


def test_it_is_the_divergence_of_each_sample_and_0_for_a_student_that_has_learnt_all():
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 7, 5, generator=generator, dtype=torch.float64)
    each = softened_divergence(student, teacher, 3.0)
    whole = 9 * F.kl_div((student / 3).log_softmax(-1), (teacher / 3).softmax(-1), reduction="batchmean")
    assert each.shape == (7,)
    assert each.mean().item() == pytest.approx(whole.item(), rel=1e-12)
    assert softened_divergence(teacher + 4, teacher, 3.0).abs().max() < 1e-12


def test_the_gradient_tends_to_the_difference_of_centred_logits():
    generator = torch.Generator().manual_seed(0)
    student, teacher = 3 * torch.randn(2, 6, 4, generator=generator, dtype=torch.float64)
    largest, alpha = max(student.abs().max(), teacher.abs().max()).item(), 0.5
    student.requires_grad_()

    def gradient(temperature):
        (found,) = torch.autograd.grad(alpha * softened_divergence(student, teacher, temperature).sum(), student)
        return found

    near, far = gradient(10 * largest), gradient(20 * largest)
    assert (far - near).norm() < 0.05 * near.norm()
    centred = [z - z.mean(1, keepdim=True) for z in (student, teacher)]
    limit = alpha * (centred[0] - centred[1]).detach() / 4
    torch.testing.assert_close(gradient(1e5 * largest), limit, rtol=1e-3, atol=1e-4)


def test_the_loss_is_that_of_the_formula_whatever_the_order_of_the_samples():
    model = JointFusionClassifier(
        objectives=[Distillation(PROBABILITIES, temperature=3.0, alpha=0.3)], **SMALL, **STILL, batch_size=7
    ).fit(X, Y)
    logits = torch.tensor(model._raw_predictions(_checked(model, X)))
    expected = softened_divergence(logits, torch.tensor(PROBABILITIES).log(), 3.0).mean().item()
    row = model.history_[0]
    assert row["train_loss_of_response"] == pytest.approx(expected, rel=1e-5)
    smoothed = F.cross_entropy(logits, torch.tensor(Y), label_smoothing=0.1).item()
    assert row["train_loss"] == pytest.approx(smoothed + 0.3 * expected, rel=1e-5)


def _checked(model, X):
    from skfusion.modalities import check_modalities

    return check_modalities(model, X, reset=False)


def test_a_sample_without_an_answer_has_no_say_and_others_count_by_their_weight():
    answers = PROBABILITIES.copy()
    answers[::2] = np.nan
    weight = np.linspace(0.5, 1.5, 40)
    objective = Distillation(answers, sample_weight=weight)
    model = JointFusionClassifier(objectives=[objective], **SMALL, **STILL, batch_size=40).fit(X, Y)
    logits = torch.tensor(model._raw_predictions(_checked(model, X)))[1::2]
    each = softened_divergence(logits, torch.tensor(PROBABILITIES[1::2]).log(), 2.0)
    expected = (each * torch.tensor(weight[1::2])).mean().item()
    assert model.history_[0]["train_loss_of_response"] == pytest.approx(expected, rel=1e-5)
    nobody = Distillation(np.full((40, 3), np.nan), embeddings=np.full((40, 2), np.nan))
    model = JointFusionClassifier(objectives=[nobody], **SMALL).fit(X, Y)
    alone = JointFusionClassifier(**SMALL).fit(X, Y)
    assert model.history_[0]["train_loss"] == pytest.approx(alone.history_[0]["train_loss"], rel=0.2)
    assert np.isfinite(model.predict_proba(X)).all()


def test_numbers_are_distilled_by_squared_error_in_the_unit_of_the_network():
    y = X["a"][:, 0]
    target = (y - y.mean()) / y.std()
    model = JointFusionRegressor(
        objectives=[Distillation(target[:, None] + 1, alpha=0.5)], **SMALL, **STILL, batch_size=40
    ).fit(X, y)
    said = model._raw_predictions(_checked(model, X))[:, 0]
    assert model.history_[0]["train_loss_of_response"] == pytest.approx(np.mean((said - target - 1) ** 2), rel=1e-5)


def test_an_embedding_that_is_a_linear_map_of_the_students_is_learnt():
    source = JointFusionClassifier(**SMALL).fit(X, Y)
    hints = source.transform(X) @ np.random.default_rng(1).normal(size=(4, 6)) * 100 + 7
    options = {**SMALL, "max_epochs": 200, "lr": 0.02, "dropout_rate": 0.0}
    model = JointFusionClassifier(objectives=[Distillation(embeddings=hints)], **options).fit(X, Y)
    losses = model.history_[:, "train_loss_of_embedding"]
    assert losses[0] > 0.8
    assert losses[-1] < 0.15


def test_standardised_columns_have_mean_0_and_variance_1_over_the_rows_that_are_there():
    values = torch.randn(30, 3, generator=torch.Generator().manual_seed(0)) * 5 + 2
    values[:, 2] = 4.0
    values[5] = torch.nan
    there = torch.arange(30) != 5
    found = standardised(values, there)[there]
    torch.testing.assert_close(found.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.square().mean(0), torch.tensor([1.0, 1.0, 0.0]), atol=1e-4, rtol=0)
    assert not standardised(values, torch.zeros(30, dtype=torch.bool))[there].isnan().any()


def test_the_answers_are_forgotten_after_training_which_may_go_on():
    model = JointFusionClassifier(objectives=[Distillation(PROBABILITIES, embeddings=X["a"])], **SMALL).fit(X, Y)
    objective = model.net_.criterion_[1]
    assert objective.predictions is objective.embeddings is None
    assert math.isfinite(model.partial_fit(X, Y).history_[-1]["train_loss"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"predictions": None}, "Distillation has nothing to learn from"),
        ({"temperature": 0}, "temperature of Distillation is 0; due is a number above 0"),
        ({"alpha": 1.5}, "alpha of Distillation is 1.5; due is a number from 0 to 1"),
        ({"beta": -1}, "beta of Distillation is -1; due is a number of at least 0"),
    ],
)
def test_options_that_make_no_sense_raise(options, message):
    with pytest.raises(ValueError, match=message):
        Distillation(**{"predictions": PROBABILITIES, **options})


def test_answers_for_other_samples_raise():
    with pytest.raises(ValueError, match=r"answers for \[39\] samples, but 40 are learnt from"):
        JointFusionClassifier(objectives=[Distillation(PROBABILITIES[1:])], **SMALL).fit(X, Y)
