"""The main contracts of the estimators that train networks, on CUDA."""

import copy
import pickle

import numpy as np
import pytest
import torch
from instances import DATA, INSTANCES, NEW, N, as_array, assert_same, instance, make_target, outputs
from sklearn.base import clone

from skfusion import Modalities

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device"),
]


def on_cuda(estimator):
    """Return an unfitted copy with every device in it set to CUDA; None where it has none."""
    devices = [name for name in estimator.get_params(deep=True) if name.split("__")[-1] == "device"]
    return clone(estimator).set_params(**dict.fromkeys(devices, "cuda")) if devices else None


@pytest.fixture(params=[key for key in INSTANCES if on_cuda(INSTANCES[key]) is not None])
def on_cpu(request):
    return instance(request.param)


@pytest.fixture
def y(on_cpu):
    return make_target(on_cpu, N)


@pytest.fixture
def fitted(on_cpu, y):
    return on_cuda(on_cpu).fit(DATA, y)


def close(left, right, tolerance):
    assert list(left) == list(right)
    for method in left:
        if left[method].dtype.kind == "f":
            np.testing.assert_allclose(left[method], right[method], rtol=tolerance, atol=tolerance, err_msg=method)


def test_a_network_lies_on_the_device(fitted):
    networks = [part.network_ for part in (fitted, getattr(fitted, "estimator_", None)) if hasattr(part, "network_")]
    if not networks:
        pytest.skip("no network of its own")
    assert {parameter.device.type for network in networks for parameter in network.parameters()} == {"cuda"}


def test_everything_said_is_a_finite_array_in_main_memory(fitted):
    for method, values in outputs(fitted, NEW).items():
        assert isinstance(values, np.ndarray), method
        assert values.dtype.kind != "f" or np.isfinite(values).all(), method


def test_the_same_seed_gives_nearly_the_same_twice(on_cpu, y, fitted):
    close(outputs(on_cuda(on_cpu).fit(DATA, y), NEW), outputs(fitted, NEW), 1e-2)


def test_what_is_learnt_is_as_good_as_on_cpu(on_cpu, y, fitted):
    if not hasattr(fitted, "predict"):
        pytest.skip("without predict")
    assert fitted.score(DATA, y) == pytest.approx(on_cpu.fit(DATA, y).score(DATA, y), abs=0.15)


def test_what_lies_in_a_missing_slot_has_no_influence(fitted):
    gone = [0, 3]
    present = np.ones((12, 2), dtype=bool)
    present[gone, 1] = False
    expected = None
    for junk in (0.0, 1e3, np.inf, np.nan):
        b = np.nan_to_num(NEW["b"])
        b[gone] = junk
        found = outputs(fitted, Modalities({"a": NEW["a"], "b": b}, present=present))
        expected = found if expected is None else expected
        assert_same(found, expected)


def test_a_modality_absent_at_predict_is_missing_for_every_sample(fitted):
    assert_same(outputs(fitted, {"a": NEW["a"]}), outputs(fitted, {**NEW, "b": np.full((12, 3), np.nan)}))


def test_a_pickle_predicts_the_same(fitted):
    assert_same(outputs(pickle.loads(pickle.dumps(fitted)), NEW), outputs(fitted, NEW))


def test_a_fit_that_fails_leaves_the_fitted_state_as_it_was(fitted, y):
    expected = outputs(fitted, NEW)
    bad = copy.deepcopy(DATA)
    bad["a"][0, 0] = np.inf
    with pytest.raises(ValueError, match="modality 'a' holds inf"):
        fitted.fit(bad, y)
    assert_same(outputs(fitted, NEW), expected)


def test_fit_and_predict_leave_the_generators_of_the_device_alone(on_cpu, y):
    before = torch.cuda.get_rng_state()
    outputs(on_cuda(on_cpu).fit(DATA, y), NEW)
    assert torch.equal(torch.cuda.get_rng_state(), before)


def test_embeddings_are_float32(fitted):
    if not hasattr(fitted, "embed"):
        pytest.skip("without embeddings")
    assert as_array(fitted.transform(NEW)).dtype == np.float32
