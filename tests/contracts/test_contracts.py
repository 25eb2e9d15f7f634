"""What every public estimator obeys, found by discovery; a contract is left out only where the capability is."""

import copy
import pickle

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from instances import (
    COLUMNS,
    DATA,
    NEW,
    PUBLIC,
    SCORES_BY_MODALITY,
    N,
    as_array,
    assert_same,
    holds_network,
    needs,
    outputs,
    scores_by_modality,
    seeded,
    wide_frame,
)
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin, clone, is_classifier
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import MaxAbsScaler
from sklearn.utils.validation import has_fit_parameter

from skfusion import Modalities

SINGLE_NAN = pytest.warns(UserWarning, match="single values are missing")
EMPTY_SAMPLE = pytest.warns(UserWarning, match="no modality present")


def needs_parameter(estimator, *names):
    """Return the first of the parameters `names` that the estimator has."""
    found = [name for name in names if name in estimator.get_params(deep=False)]
    needs(found, " or ".join(names))
    return found[0]


def fit(estimator, X, y, **fit_params):
    return clone(estimator).fit(X, y, **fit_params)


# Forms of X


FORMS = {
    "Modalities": (None, Modalities),
    "frames": (None, lambda X: {name: pd.DataFrame(values) for name, values in X.items()}),
    "array": ({"a": slice(0, 4), "b": [4, 5, 6]}, lambda X: np.hstack(list(X.values()))),
    "frame": (COLUMNS, wide_frame),
    "two-level frame": (None, lambda X: pd.concat({name: pd.DataFrame(values) for name, values in X.items()}, axis=1)),
    "AnnData": (
        {"a": "X", "b": "obsm/b"},
        lambda X: anndata.AnnData(
            X["a"], pd.DataFrame(index=[f"s{i}" for i in range(len(X["a"]))]), obsm={"b": X["b"]}
        ),
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_same_data_gives_the_same(estimator, y, fitted, form):
    modalities, convert = FORMS[form]
    other = clone(estimator).set_params(modalities=modalities).fit(convert(DATA), y)
    assert_same(outputs(other, convert(NEW)), outputs(fitted, NEW))
    np.testing.assert_array_equal(other.modality_names_in_, ["a", "b"])


@pytest.mark.parametrize("form", ["Modalities", "frames", "two-level frame"])
def test_what_was_fitted_on_a_dict_takes_other_forms(fitted, form):
    assert_same(outputs(fitted, FORMS[form][1](NEW)), outputs(fitted, NEW))


def test_float32_gives_nearly_the_same_as_float64(estimator, y, fitted):
    narrow = {name: values.astype(np.float32) for name, values in DATA.items()}
    found = outputs(fit(estimator, narrow, y), {name: values.astype(np.float32) for name, values in NEW.items()})
    for method, values in outputs(fitted, NEW).items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(found[method], values, rtol=0.02, atol=0.02)


def test_a_fitted_estimator_takes_csr_where_it_was_fitted_on_arrays(fitted):
    X = {"a": sparse.csr_matrix(NEW["a"]), "b": NEW["b"]}
    assert_same(outputs(fitted, X), outputs(fitted, NEW))


def test_a_fitted_estimator_takes_arrays_where_it_was_fitted_on_csr(estimator, y):
    fitted = fit(estimator, {"a": sparse.csr_matrix(DATA["a"]), "b": DATA["b"]}, y)
    assert_same(outputs(fitted, NEW), outputs(fitted, {"a": sparse.csr_array(NEW["a"]), "b": NEW["b"]}))


def test_everything_said_is_finite(fitted):
    for method, values in outputs(fitted, NEW).items():
        unknown = np.zeros(values.shape, dtype=bool)
        if method == "transform" and scores_by_modality(fitted):
            # Scores by modality, of who has it.
            unknown = np.repeat(~Modalities(NEW).present, values.shape[1] // 2, axis=1)
            assert np.isnan(values[unknown]).all()
        assert values.dtype.kind != "f" or np.isfinite(values[~unknown]).all(), method
        assert len(values) == 12


def test_n_features_and_names_are_those_of_the_modalities(fitted):
    assert fitted.n_features_in_ == 2
    assert fitted.modality_names_in_.tolist() == ["a", "b"]
    assert fitted.n_features_by_modality_ == {"a": 4, "b": 3}
    assert not hasattr(fitted, "feature_names_in_")


# The order of modalities


def test_the_order_of_modalities_at_predict_does_not_matter(fitted):
    assert_same(outputs(fitted, {"b": NEW["b"], "a": NEW["a"]}), outputs(fitted, NEW))


def test_the_order_of_modalities_at_fit_does_not_matter(estimator, y, fitted):
    needs(not holds_network(fitted), "order-free start (a network draws its weights in the order of modalities)")
    other = fit(estimator, {"b": DATA["b"], "a": DATA["a"]}, y)
    if hasattr(fitted, "set_output"):
        fitted.set_output(transform="pandas")
        other.set_output(transform="pandas")
        expected = fitted.transform(NEW)
        np.testing.assert_allclose(other.transform(NEW)[expected.columns], expected, rtol=1e-6)
        return
    assert_same(outputs(other, NEW), outputs(fitted, NEW), rtol=1e-5)


# Missing modalities


def kinds_of_b(n_samples, seed):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(0.5, size=(n_samples, 6)).astype(np.float32)
    return {
        "dense": rng.normal(size=(n_samples, 3)),
        "float32": rng.normal(size=(n_samples, 3)).astype(np.float32),
        "csr": sparse.csr_matrix(counts),
        "sequence": np.where(rng.random((n_samples, 8, 1)) < 0.2, np.nan, rng.normal(size=(n_samples, 8, 2))),
        "image": rng.normal(size=(n_samples, 1, 6, 6)),
    }


def overwritten(X, gone, what):
    """Return `X` with `b` marked as missing in the rows `gone`, where `what` lies instead of values."""
    rng = np.random.default_rng(5)
    values = X["b"]
    dense = np.array(values.toarray() if sparse.issparse(values) else values)
    noise = 1e3 * rng.normal(size=dense[gone].shape)
    infinite = np.where(np.abs(noise) > 1e3, np.sign(noise) * np.inf, noise)
    dense[gone] = {"zero": 0, "nan": np.nan, "noise and inf": infinite}[what]
    present = np.ones((len(dense), 2), dtype=bool)
    present[gone, 1] = False
    return Modalities({"a": X["a"], "b": type(values)(dense) if sparse.issparse(values) else dense}, present=present)


@pytest.mark.parametrize("kind", kinds_of_b(1, 0))
def test_what_lies_in_a_missing_slot_has_no_influence(estimator, y, kind):
    train = {"a": DATA["a"], "b": kinds_of_b(N, 0)[kind]}
    new = {"a": NEW["a"], "b": kinds_of_b(12, 1)[kind]}
    gone_in_training, gone = np.arange(5, 20), [0, 3, 11]
    expected = None
    for what in ("zero", "noise and inf", "nan"):
        fitted = fit(estimator, overwritten(train, gone_in_training, what), y)
        found = outputs(fitted, overwritten(new, gone, "zero"))
        expected = found if expected is None else expected
        assert_same(found, expected)
        assert_same(outputs(fitted, overwritten(new, gone, what)), expected)


def test_zero_is_a_value_and_not_missing(fitted):
    zero = outputs(fitted, {"a": NEW["a"], "b": np.zeros((12, 3))})
    missing = outputs(fitted, {"a": NEW["a"], "b": np.full((12, 3), np.nan)})
    assert any(not np.array_equal(zero[method], missing[method]) for method in zero)


def test_a_modality_absent_at_predict_is_missing_for_every_sample(fitted):
    for name, width in {"a": 4, "b": 3}.items():
        known = {other: values for other, values in NEW.items() if other != name}
        nan = {**NEW, name: np.full((12, width), np.nan)}
        # Where the other one lacks as well, nothing is present.
        assert_same(outputs(fitted, known), outputs(fitted, nan))


def test_none_for_a_sample_is_a_missing_row(fitted):
    rows = [None if np.isnan(row).all() else row for row in NEW["b"]]
    assert_same(outputs(fitted, {"a": NEW["a"], "b": rows}), outputs(fitted, NEW))


def with_empty_sample(X, row):
    return {name: np.where(np.arange(len(v))[:, None] == row, np.nan, v) for name, v in X.items()}


def test_a_sample_with_nothing_present_is_left_out_of_training_with_one_warning(estimator, y):
    with EMPTY_SAMPLE as caught:
        fitted = fit(estimator, with_empty_sample(DATA, 7), y)
    assert [warning.filename for warning in caught] == [__file__]
    assert "1 of 60" in str(caught[0].message)
    rows = np.delete(np.arange(N), 7)
    assert_same(outputs(fitted, NEW), outputs(fit(estimator, Modalities(DATA)[rows], y[rows]), NEW))


def test_training_without_any_modality_raises(estimator, y):
    with pytest.raises(ValueError, match="no sample of X has any of the modalities"):
        fit(estimator, {name: np.full_like(values, np.nan) for name, values in DATA.items()}, y)


def test_a_modality_missing_for_all_training_samples_raises_its_name(estimator, y):
    with pytest.raises(ValueError, match="modality 'b' is missing for every training sample"):
        fit(estimator, {"a": DATA["a"], "b": np.full((N, 3), np.nan)}, y)


def test_a_sample_with_nothing_present_is_predicted_from_the_prior(fitted, y):
    needs(hasattr(fitted, "predict"), "predict")
    X = with_empty_sample(NEW, 4)
    if is_classifier(fitted):
        prior = np.array([np.mean(y == c) for c in fitted.classes_])
        np.testing.assert_allclose(fitted.predict_proba(X)[4], prior, rtol=1e-12)
        assert fitted.predict(X)[4] == fitted.classes_[prior.argmax()]
    else:
        np.testing.assert_allclose(fitted.predict(X)[4], y.mean(), rtol=1e-12)
    found, due = (np.delete(fitted.predict(data), 4) for data in (X, NEW))
    if is_classifier(fitted):
        np.testing.assert_array_equal(found, due)
    else:
        # A batch of another size may be summed up in another order.
        np.testing.assert_allclose(found, due, rtol=1e-6)


def test_the_prior_is_weighted(estimator, y):
    needs(hasattr(estimator, "predict") and has_fit_parameter(estimator, "sample_weight"), "weighted predictions")
    weight = np.random.default_rng(3).uniform(0.5, 2, size=N)
    fitted = fit(estimator, DATA, y, sample_weight=weight)
    nothing = {name: np.full((2, v.shape[1]), np.nan) for name, v in NEW.items()}
    if is_classifier(fitted):
        prior = [np.average(y == c, weights=weight) for c in fitted.classes_]
        np.testing.assert_allclose(fitted.predict_proba(nothing), np.tile(prior, (2, 1)), rtol=1e-12)
    else:
        np.testing.assert_allclose(fitted.predict(nothing), np.average(y, weights=weight), rtol=1e-12)


def test_a_sample_with_nothing_present_is_embedded_as_the_training_mean(fitted):
    needs(hasattr(fitted, "transform"), "transform")
    needs(not scores_by_modality(fitted), "an embedding of what is missing")
    nothing = {name: np.full((2, v.shape[1]), np.nan) for name, v in NEW.items()}
    found = as_array(fitted.transform(nothing))
    if hasattr(fitted, "embed"):
        expected = fitted.transform(DATA).mean(axis=0)
    else:
        complete = Modalities(DATA).present.all(axis=1)
        width = 7  # what comes after the columns of a and b are indicators, and 1 here
        expected = np.r_[as_array(fitted.transform(DATA))[:, :4].mean(axis=0), np.nan, np.nan, np.nan]
        expected[4:] = as_array(fitted.transform(DATA))[complete, 4:width].mean(axis=0)
        np.testing.assert_array_equal(found[:, width:], 1)
        found = found[:, :width]
    np.testing.assert_allclose(found, np.tile(expected, (2, 1)), rtol=1e-5, atol=1e-6)


def test_only_the_classes_named_may_give_scores_by_modality():
    other = type("Other", (BaseEstimator,), {"project": lambda self, X: X})()
    assert set(PUBLIC) >= SCORES_BY_MODALITY
    assert not scores_by_modality(other), "a method called project is no reason"


def learnt_from(fitted, values):
    """Return the rows of training that are not held out for calibration."""
    return np.delete(values, getattr(fitted, "calibration_indices_", []), axis=0)


def test_single_nan_inside_a_present_row_is_the_training_mean(estimator, y, fitted):
    rows = [1, 5]
    X, filled = copy.deepcopy(NEW), copy.deepcopy(NEW)
    X["a"][rows, 2] = np.nan
    filled["a"][rows, 2] = learnt_from(fitted, DATA["a"])[:, 2].mean()
    assert_same(outputs(fitted, X), outputs(fitted, filled), rtol=1e-6)


def test_single_nan_inside_present_rows_warns_once_in_training(estimator, y):
    X = copy.deepcopy(DATA)
    X["a"][[3, 4], 1] = np.nan
    with SINGLE_NAN as caught:
        fitted = fit(estimator, X, y)
    assert [warning.filename for warning in caught] == [__file__]
    assert "{'a': 2}" in str(caught[0].message)
    filled = copy.deepcopy(NEW)
    filled["a"][0, 1] = np.nanmean(learnt_from(fitted, X["a"])[:, 1])
    X = copy.deepcopy(NEW)
    X["a"][0, 1] = np.nan
    assert_same(outputs(fitted, X), outputs(fitted, filled), rtol=1e-6)


# Errors


@pytest.mark.parametrize("sign", [1, -1])
def test_inf_in_a_present_slot_raises_the_modality(estimator, y, fitted, sign):
    for X, run in ((DATA, lambda X: fit(estimator, X, y)), (NEW, lambda X: outputs(fitted, X))):
        bad = copy.deepcopy(X)
        bad["a"][2, 1] = sign * np.inf
        with pytest.raises(ValueError, match="modality 'a' holds inf in a row that is present"):
            run(bad)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X: {**X, "c": X["a"]}, r"modalities unknown at fit: \['c'\]; fitted were \['a', 'b'\]"),
        (lambda X: {"c": X["a"]}, r"no known modality: it has \['c'\], and fitted were \['a', 'b'\]"),
        (lambda X: {"a": X["a"][:, :2]}, r"modality 'a' has samples of shape \(2,\); due is shape \(4,\)"),
        (lambda X: {"a": X["a"], "b": X["b"][:5]}, r"unequal lengths: \{'a': 12, 'b': 5\}"),
        (lambda X: {"a": X["a"].astype(str)}, "modality 'a' holds text or objects"),
        (lambda X: {"a": X["a"][:, :, None]}, r"modality 'a' is a 3-D array .*; due is a 2-D array"),
        (lambda X: X["a"], r"fitted were the modalities \['a', 'b'\]"),
    ],
    ids=["unknown", "no known", "other width", "unequal lengths", "text", "other kind", "one table"],
)
def test_what_does_not_match_the_fit_raises_what_came_and_what_was_due(fitted, change, message):
    for method in ("predict", "transform"):
        if hasattr(fitted, method):
            with pytest.raises(ValueError, match=message):
                getattr(fitted, method)(change(NEW))


def test_a_modality_that_is_asked_for_must_be_there_in_training(estimator, y):
    with pytest.raises(ValueError, match=r"modalities asks for \['c'\], which X lacks; X has \['a'"):
        estimator.set_params(modalities=["a", "c"]).fit(DATA, y)


def test_modalities_chooses_and_orders(estimator, y):
    X = {**DATA, "c": np.full((N, 2), np.inf)}
    fitted = estimator.set_params(modalities=["b", "a"]).fit(X, y)
    assert fitted.modality_names_in_.tolist() == ["b", "a"]
    assert_same(outputs(fitted, {**NEW, "c": None}), outputs(fitted, NEW))


def test_unfitted_raises(estimator):
    for method in ("predict", "transform"):
        if hasattr(estimator, method):
            with pytest.raises(NotFittedError):
                getattr(estimator, method)(NEW)


def test_a_series_with_the_ids_in_another_order_raises(estimator, y):
    needs(hasattr(estimator, "predict"), "a target")
    ids = [f"s{i}" for i in range(N)]
    X = {name: pd.DataFrame(values, index=ids) for name, values in DATA.items()}
    with pytest.raises(ValueError, match="y has the same ids as X in another order"):
        estimator.fit(X, pd.Series(y, index=ids)[::-1])


# A fit that fails


class Failing(ClassifierMixin, RegressorMixin, TransformerMixin, BaseEstimator):
    def __init__(self, error=RuntimeError):
        self.error = error

    def fit(self, X, y=None, sample_weight=None):
        raise self.error("the inner fit fails")

    def transform(self, X):
        return X

    def predict(self, X):
        return np.zeros(len(X))

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)


def fail_inside(estimator, failing):
    """Let a part of the estimator fail, after another part was fitted where there are several."""
    name = needs_parameter(estimator, "transformers", "encoders", "estimators", "estimator", "fusion")
    if name == "fusion":
        return estimator.set_params(**{estimator.fusion: failing})
    if name == "estimator":
        conversion = {"strategy": "conversion"} if "strategy" in estimator.get_params(deep=False) else {}
        return estimator.set_params(**conversion, estimator=failing)
    return estimator.set_params(**{name: {"b": failing}})


@pytest.mark.parametrize("reason", ["X", "y", "length", "parameter", "modalities", "inside", "interrupt"])
def test_a_fit_that_fails_leaves_the_fitted_state_as_it_was(fitted, y, reason):
    expected, before = outputs(fitted, NEW), vars(fitted).copy()
    X = copy.deepcopy(DATA)
    if reason == "X":
        X["b"][np.flatnonzero(~np.isnan(X["b"][:, 0]))[0], 0] = np.inf
    elif reason == "y":
        needs(hasattr(fitted, "predict"), "a target")
        y = y.astype(object)
        y[0] = np.nan
    elif reason == "length":
        needs(hasattr(fitted, "predict"), "a target")
        y = y[:-1]
    elif reason == "parameter":
        fitted.set_params(**{needs_parameter(fitted, "method", "fusion", "cv", "strategy"): "no such thing"})
    elif reason == "modalities":
        fitted.set_params(modalities=["a", "nowhere"])
    else:
        X["a"] = X["a"][:, :2]
        fail_inside(fitted, Failing(RuntimeError if reason == "inside" else KeyboardInterrupt))
    with pytest.raises((ValueError, TypeError, RuntimeError, KeyboardInterrupt)):
        fitted.fit(X, y)
    fitted.set_params(**{name: before[name] for name in fitted.get_params(deep=False)})
    assert {k: id(v) for k, v in vars(fitted).items()} == {k: id(v) for k, v in before.items()}
    assert_same(outputs(fitted, NEW), expected)


class FailingSchedule:
    """A learning rate schedule that fails after the first epoch."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    def step(self):
        raise RuntimeError("the schedule fails")


def test_a_warm_start_that_fails_midway_leaves_the_network_as_it_was(fitted, y):
    needs("warm_start" in fitted.get_params(deep=False), "warm_start")
    expected, net = outputs(fitted, NEW), fitted.net_
    fitted.set_params(warm_start=True, scheduler=FailingSchedule)
    with pytest.raises(RuntimeError, match="the schedule fails"):
        fitted.fit(DATA, y)
    assert fitted.net_ is net
    assert_same(outputs(fitted, NEW), expected)


def test_going_on_with_other_outputs_raises(fitted, y):
    needs(hasattr(fitted, "partial_fit") and hasattr(fitted, "predict"), "partial_fit on a target")
    with pytest.raises(ValueError, match="y has 2 outputs; due are 1, as before"):
        fitted.partial_fit(DATA, np.stack([y, y], axis=1))


def test_a_warm_start_goes_on_from_the_weights(fitted, y):
    needs("warm_start" in fitted.get_params(deep=False), "warm_start")
    n_epochs = fitted.n_iter_
    fitted.set_params(warm_start=True, max_epochs=2).fit(DATA, y)
    assert fitted.n_iter_ == n_epochs + 2
    fitted.partial_fit(DATA, y)
    # One epoch, or a whole stage where there is no target.
    assert fitted.n_iter_ == n_epochs + 2 + (1 if hasattr(fitted, "predict") else 2)
    fitted.set_params(warm_start=False).fit(DATA, y)
    assert fitted.n_iter_ == 2


# Determinism


def test_the_same_seed_gives_the_same_to_the_bit(estimator, y):
    left, right = (seeded(estimator, 3).fit(DATA, y) for _ in range(2))
    assert_same(outputs(left, NEW), outputs(right, NEW))


def test_other_seeds_give_other_networks(estimator, y, fitted):
    needs(holds_network(fitted), "a network")
    left, right = (outputs(seeded(estimator, seed).fit(DATA, y), NEW) for seed in (3, 4))
    method = "transform" if "transform" in left else "predict_proba" if "predict_proba" in left else "predict"
    assert not np.allclose(left[method], right[method], rtol=1e-3)


def test_fitting_again_forgets_the_first_fit(estimator, y):
    fitted = fit(estimator, DATA, y)
    estimator.fit({"a": DATA["a"][:, :2], "c": DATA["b"]}, y).fit(DATA, y)
    assert_same(outputs(estimator, NEW), outputs(fitted, NEW))
    assert set(vars(estimator)) == set(vars(fitted))


def test_fit_and_predict_leave_the_global_generators_alone(estimator, y):
    before = random_state_of_numpy(), torch.get_rng_state()
    outputs(seeded(estimator, 0).fit(DATA, y), NEW)
    assert random_state_of_numpy() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


def random_state_of_numpy():
    return pickle.dumps(np.random.mtrand._rand.get_state())


def test_predictions_do_not_depend_on_what_else_is_predicted(fitted):
    whole = outputs(fitted, NEW)
    for row in range(3):
        alone = outputs(fitted, {name: values[[row]] for name, values in NEW.items()})
        assert_same(alone, {method: values[[row]] for method, values in whole.items()}, rtol=1e-6)


def test_a_pickle_predicts_the_same(fitted):
    assert_same(outputs(pickle.loads(pickle.dumps(fitted)), NEW), outputs(fitted, NEW))


def test_a_clone_is_unfitted_and_has_the_same_parameters(fitted):
    copied = clone(fitted)
    assert not [name for name in vars(copied) if name.endswith("_")]
    assert repr(copied) == repr(fitted)


# Nothing is changed that was handed in


class Extractor(torch.nn.Module):
    """A module with parameters, a buffer that training moves, and a mode."""

    def __init__(self, width=4):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(width, 8), torch.nn.BatchNorm1d(8))

    def forward(self, x):
        return self.layers(x)


def snapshot(value):
    """Everything inside a value, in a form that can be compared."""
    if isinstance(value, torch.nn.Module):
        state = {name: tensor.detach().clone().numpy() for name, tensor in value.state_dict().items()}
        return type(value), value.training, [p.requires_grad for p in value.parameters()], snapshot(state)
    if isinstance(value, dict):
        return {key: snapshot(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [snapshot(inner) for inner in value]
    if sparse.issparse(value):
        return snapshot([value.data, value.indices, value.indptr])
    if isinstance(value, np.ndarray):
        return value.dtype, value.shape, value.tobytes() if value.dtype != object else value.tolist()
    if isinstance(value, torch.Tensor):
        return snapshot(value.detach().numpy())
    if isinstance(value, pd.DataFrame):
        return snapshot([value.to_numpy(), list(value.columns), list(value.index)])
    if isinstance(value, (BaseEstimator, Modalities)):
        return type(value), {name: snapshot(inner) for name, inner in vars(value).items() if name != "sample_ids"}
    return value


def with_rich_parameters(estimator):
    """Hand in modules, estimators and frozen ones wherever the estimator takes them."""
    params = estimator.get_params(deep=False)
    pairs = [("lr", Ridge() if hasattr(estimator, "score") and not is_classifier(estimator) else LogisticRegression())]
    rich = {
        "transformers": {"a": Extractor(), "b": MaxAbsScaler()},
        "encoders": {"a": Extractor(), "b": PCA(2)},
        "estimators": {"a": pairs, "b": pairs},
        "callbacks": [],
    }
    estimator.set_params(**{name: value for name, value in rich.items() if name in params})
    return estimator


def test_fit_changes_no_argument_and_no_parameter(estimator, y):
    estimator = with_rich_parameters(estimator)
    X = {"a": DATA["a"].copy(), "b": sparse.csr_matrix(np.nan_to_num(DATA["b"]))}
    new = copy.deepcopy(NEW)
    weights = {"sample_weight": np.ones(N)} if has_fit_parameter(estimator, "sample_weight") else {}
    handed_in = {"X": X, "y": y, "new": new, **weights}
    before, parameters = snapshot(handed_in), snapshot(estimator.get_params(deep=False))
    identities = {name: id(value) for name, value in estimator.get_params(deep=False).items()}
    estimator.fit(X, y, **weights)
    outputs(estimator, new)
    assert snapshot(handed_in) == before
    assert snapshot(estimator.get_params(deep=False)) == parameters
    assert {name: id(value) for name, value in estimator.get_params(deep=False).items()} == identities


def test_modalities_and_frames_are_not_changed(estimator, y):
    X = Modalities(copy.deepcopy(DATA))
    frame = wide_frame(copy.deepcopy(DATA))
    before = snapshot([X, frame])
    fit(estimator, X, y)
    outputs(estimator.set_params(modalities=COLUMNS).fit(frame, y), frame)
    assert snapshot([X, frame]) == before


def test_read_only_arrays_are_taken(estimator, y, fitted):
    def locked(values):
        values = values.copy()
        for part in (values.data, values.indices, values.indptr) if sparse.issparse(values) else (values,):
            part.flags.writeable = False
        return values

    X = {name: locked(values) for name, values in DATA.items()}
    weights = {"sample_weight": locked(np.ones(N))} if has_fit_parameter(estimator, "sample_weight") else {}
    found = outputs(fit(estimator, X, locked(y), **weights), {name: locked(values) for name, values in NEW.items()})
    assert_same(found, outputs(fitted, NEW), rtol=1e-6)
    csr = {"a": locked(sparse.csr_matrix(DATA["a"])), "b": DATA["b"]}
    outputs(fit(estimator, csr, y), {"a": locked(sparse.csr_matrix(NEW["a"]))})
