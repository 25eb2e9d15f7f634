"""A modality that is the same in all training samples says nothing, whatever new samples bring."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from skfusion import (
    EarlyFusionTransformer,
    FusionClassifier,
    JointFusionClassifier,
    JointFusionRegressor,
    LateFusionStacker,
    ModalityImputer,
    ModalityScheduler,
    MultimodalPretrainer,
)
from skfusion.imputation import GAN, VAE, Conversion, Diffusion
from skfusion.preprocessing import Standardizer, to_dense

N = 40
Y = np.arange(N) % 2
A = np.random.default_rng(0).normal(size=(N, 3)) + Y[:, None]
NET = {"max_epochs": 1, "random_state": 1, "device": "cpu"}

# What training has, and what two new samples have.
CONSTANT = {
    "text": (["no complaints today at all"] * N, ["mild pain in the leg"] * 2),
    "csr": (sparse.csr_matrix(np.full((N, 600), 0.1)), sparse.csr_matrix(np.full((2, 600), 0.3))),
    "counts": (sparse.csr_matrix(np.full((N, 600), 3)), sparse.csr_matrix(np.arange(1200).reshape(2, 600))),
    "stored zeros": (sparse.csr_matrix(np.ones((N, 600))) * 0, sparse.csr_matrix(np.ones((2, 600)))),
    "nothing stored": (sparse.csr_matrix((N, 600)), sparse.csr_matrix(np.ones((2, 600)))),
    "dense": (np.full((N, 600), 0.1), np.full((2, 600), 0.3)),
}
pytestmark = pytest.mark.filterwarnings("error")


def every_form(*others):
    return pytest.mark.parametrize("form", [name for name in CONSTANT if name not in others])


def with_constant(form):
    train, new = CONSTANT[form]
    return {"a": A, "c": train}, {"a": A[:2], "c": new}


ESTIMATORS = {
    "joint": lambda X, new: JointFusionClassifier(**NET).fit(X, Y).predict_proba(new),
    "regressor": lambda X, new: JointFusionRegressor(**NET).fit(X, A[:, 0]).predict(new),
    "pretrainer": lambda X, new: MultimodalPretrainer(**NET).fit(X).embed(new),
    "early": lambda X, new: FusionClassifier("early").fit(X, Y).predict_proba(new),
    "scheduler": lambda X, new: (
        ModalityScheduler(LateFusionStacker(LogisticRegression(), "mean"), random_state=0).fit(X, Y).predict_proba(new)
    ),
}


@every_form()
@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_constant_modality_neither_raises_nor_decides(name, form):
    X, new = with_constant(form)
    found = ESTIMATORS[name](X, new)
    assert np.isfinite(found).all()
    if (name, form) == ("early", "text"):
        return  # words that all texts share are missed in others
    as_ever = ESTIMATORS[name](X, {"a": new["a"], "c": CONSTANT[form][0][:2]})
    np.testing.assert_allclose(found, as_ever, atol=1e-6)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
def test_what_is_standardised_comes_back_and_a_constant_as_it_was(form):
    table = np.column_stack([A, np.full(N, 0.1), np.zeros(N)])
    scaler = Standardizer(with_mean=form is np.asarray).fit(form(table))
    other = table + 1
    found = to_dense(scaler.transform(form(other)))
    assert not found[:, 3:].any()
    back = to_dense(scaler.inverse_transform(scaler.transform(form(other))))
    np.testing.assert_allclose(back[:, :3], other[:, :3])
    if form is np.asarray:
        np.testing.assert_allclose(back[:, 3:], table[:, 3:])


def test_default_bases_of_late_fusion_take_a_constant_text():
    X, new = with_constant("text")
    found = LateFusionStacker(random_state=0).fit(X, Y).predict_proba(new)
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_a_wide_block_of_zeros_keeps_its_weight():
    X, new = with_constant("stored zeros")
    found = to_dense(EarlyFusionTransformer(weights="block").fit(X).transform(new))
    np.testing.assert_array_equal(found[:, 3:], np.ones((2, 600)))


STRATEGIES = {
    "knn": "knn",
    "linear": "linear",
    "factor": "factor",
    "regressor": "regressor",
    "conversion": Conversion(estimator=JointFusionRegressor(**NET)),
    "vae": VAE(max_steps=5),
    "gan": GAN(max_steps=5),
    "diffusion": Diffusion(max_steps=5, n_diffusion_steps=5),
}


@every_form("text")
@pytest.mark.parametrize("name", STRATEGIES)
def test_a_constant_modality_is_filled_with_the_constant(name, form):
    X, new = with_constant(form)
    imputer = ModalityImputer(STRATEGIES[name], random_state=0, device="cpu").fit(X)
    filled = to_dense(imputer.transform({"a": A[:2]})["c"])
    np.testing.assert_allclose(filled, to_dense(X["c"])[:2], atol=1e-6)
    filled = imputer.transform({"c": new["c"]})["a"]
    assert np.isfinite(filled).all()
    assert np.abs(filled).max() < 1e3


@pytest.mark.parametrize("name", ["knn", "linear", "regressor", "conversion"])
def test_of_a_constant_text_nothing_is_filled_but_what_all_have(name):
    X, new = with_constant("text")
    filled = ModalityImputer(STRATEGIES[name], random_state=0, device="cpu").fit(X).transform({"c": new["c"]})["a"]
    assert np.isfinite(filled).all()
    assert np.abs(filled).max() < 1e2
