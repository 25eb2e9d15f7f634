"""Pretraining on CUDA: every objective, stages, hand-over and distillation."""

import matplotlib.pyplot
import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator

from skfusion import FusionDistiller, JointFusionClassifier, Modalities, MultimodalPretrainer
from skfusion._build import resolve
from skfusion.inspection import EmbeddingDisplay
from skfusion.objectives import OBJECTIVES

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device"),
    pytest.mark.filterwarnings("ignore:batches of .* samples hold about:UserWarning"),
]

PRETRAINING = [
    name for name, where in OBJECTIVES.items() if not getattr(resolve("o", name, OBJECTIVES), "needs_target", False)
]
SMALL = {"n_hidden": 16, "n_latent": 8, "n_heads": 2, "n_fusion_layers": 1, "max_epochs": 2, "random_state": 0}
NET = {**SMALL, "device": "cuda"}


def data(n_samples=120):
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(n_samples, 3))
    X = {"labs": latent @ rng.normal(size=(3, 6)), "ecg": latent[:, None] * rng.normal(size=(1, 5, 1))}
    X["genes"] = latent @ rng.normal(size=(3, 4))
    X["genes"][::4] = np.nan
    return Modalities(X), (latent[:, 0] > 0).astype(int)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("objective", PRETRAINING)
def test_every_objective_trains(objective, precision):
    X, _ = data()
    pretrainer = MultimodalPretrainer([objective], encoders={"ecg": "steps"}, precision=precision, **NET).fit(X)
    assert np.isfinite([row["train_loss"] for row in pretrainer.history_]).all()
    assert np.isfinite(pretrainer.transform(X.select(["labs"]))).all()


def test_embeddings_are_those_of_the_cpu():
    X, _ = data()
    options = {**SMALL, "dropout_rate": 0.0, "max_epochs": 1, "lr": 1e-5}
    found, due = (MultimodalPretrainer(device=device, **options).fit(X).transform(X) for device in ("cuda", "cpu"))
    np.testing.assert_allclose(found, due, atol=1e-3)


def test_a_new_modality_joins_and_the_old_ones_are_rehearsed():
    X, _ = data()
    pretrainer = MultimodalPretrainer(["reconstruction"], rehearsal=0.2, **NET).partial_fit(X.select(["labs"]))
    pretrainer.partial_fit(X.select(["genes", "ecg"]))
    assert pretrainer.embed(X, "genes").shape == (120, 8)
    assert pretrainer.history_[-1]["train_loss_of_rehearsal"] >= 0
    assert {p.device.type for p in pretrainer.network_.parameters()} == {"cuda"}


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_the_teacher_computes_in_the_precision_of_the_training(precision):
    X, _ = data()
    options = {**NET, "dropout_rate": 0.0, "lr": 1e-9, "precision": precision, "rehearsal": 0.2}
    pretrainer = MultimodalPretrainer(["reconstruction"], **options).partial_fit(X).partial_fit(X)
    assert pretrainer.history_[-1]["train_loss_of_rehearsal"] < 1e-6


@pytest.mark.parametrize("freeze", [False, True, "encoders"])
def test_a_joint_network_goes_on_from_it(freeze):
    X, y = data()
    pretrainer = MultimodalPretrainer(**NET).fit(X)
    model = JointFusionClassifier(
        fusion="pretrained", pretrained=FrozenEstimator(pretrainer), freeze=freeze, layer_decay=0.5, **NET
    )
    assert np.isfinite(model.fit(X, y).predict_proba(X)).all()


def test_a_student_learns_from_a_teacher():
    X, y = data()
    student = JointFusionClassifier(**NET)
    distiller = FusionDistiller(JointFusionClassifier(**NET), student, student_modalities=["labs"], method="both")
    assert np.isfinite(distiller.fit(X, y).predict_proba(X.select(["labs"]))).all()


def test_its_embeddings_are_drawn():
    X, y = data()
    display = EmbeddingDisplay.from_estimator(MultimodalPretrainer(**NET).fit(X), X, y)
    assert {head: int(np.isnan(xy[:, 0]).sum()) for head, xy in display.coordinates.items()} == {
        "labs": 0,
        "ecg": 0,
        "genes": 30,
        "fusion": 0,
    }
    matplotlib.pyplot.close(display.figure_)


def test_partners_are_found():
    X, _ = data()
    pretrainer = MultimodalPretrainer(
        fusion="mean", max_epochs=40, dropout_rate=0.0, random_state=0, device="cuda"
    ).fit(X)
    found = pretrainer.retrieve(X, "labs", "ecg", k=1).indices[:, 0]
    assert np.mean(found == np.arange(120)) > 0.2
