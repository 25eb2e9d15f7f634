"""What every public estimator obeys as a part of something larger, and with parts inside."""

import copy

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from instances import (
    COLUMNS,
    DATA,
    NEW,
    N,
    as_array,
    assert_same,
    needs,
    outputs,
    scores_by_modality,
    seeded,
    wide_frame,
)
from sklearn.base import BaseEstimator, TransformerMixin, clone, is_classifier
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, cross_val_predict, cross_val_score, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import has_fit_parameter

from skfusion import (
    EarlyFusionTransformer,
    JointFusionClassifier,
    JointFusionRegressor,
    Modalities,
    MultimodalPretrainer,
)

SEEN = []
"""What recorders saw, a set of sample numbers a fit."""


def numbered(X):
    """Let the first column of `a` number the samples."""
    a = X["a"].copy()
    a[:, 0] = np.arange(len(a))
    return Modalities({**X, "a": a})


class Recorder(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        SEEN.append(set(np.asarray(X)[:, 0].astype(int)))
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return X


class RecordingClassifier(LogisticRegression):
    def fit(self, X, y, sample_weight=None):
        SEEN.append(set(np.asarray(X)[:, 0].astype(int)))
        return super().fit(X, y, sample_weight)


class RecordingRegressor(Ridge):
    def fit(self, X, y, sample_weight=None):
        SEEN.append(set(np.asarray(X)[:, 0].astype(int)))
        return super().fit(X, y, sample_weight)


class RecordingPretrainer(JointFusionClassifier):
    def fit(self, X, y, sample_weight=None, groups=None):
        SEEN.append(set(X["a"][:, 0].astype(int)))
        return super().fit(X, np.arange(len(X)) % 2)


def predictor(estimator):
    """Return something with predict: the estimator, or a Pipeline that ends with a classifier."""
    return estimator if hasattr(estimator, "predict") else make_pipeline(estimator, DummyClassifier())


@pytest.mark.parametrize("parameter", ["transformers", "encoders", "estimators", "pretrained"])
def test_a_part_that_is_fitted_sees_no_test_row(estimator, y, parameter):
    needs(parameter in estimator.get_params(deep=False), parameter)
    part = {
        "transformers": {"a": Recorder()},
        "encoders": {"a": Recorder()},
        "estimators": {"a": RecordingClassifier(max_iter=1000) if is_classifier(estimator) else RecordingRegressor()},
        "pretrained": RecordingPretrainer(n_hidden=16, n_latent=8, max_epochs=1, device="cpu", random_state=0),
    }[parameter]
    estimator.set_params(**{parameter: part})
    SEEN.clear()
    X = numbered(DATA)
    folds = cross_validate(predictor(estimator), X, y, cv=KFold(3), return_indices=True, error_score="raise")["indices"]
    fits_a_fold, rest = divmod(len(SEEN), 3)
    assert fits_a_fold >= 1
    assert rest == 0
    for fold, train in enumerate(folds["train"]):
        seen = SEEN[fold * fits_a_fold : (fold + 1) * fits_a_fold]
        assert set().union(*seen) == set(train)


def frozen_network():
    """Return a network that was fitted on other data, and a copy of its weights."""
    inner = JointFusionClassifier(n_hidden=16, n_latent=8, max_epochs=2, device="cpu", random_state=0)
    inner.fit({"a": DATA["a"] + 5.0}, np.arange(N) % 2)
    return inner, copy.deepcopy(inner.network_.state_dict())


def assert_equal_weights(left, right):
    assert list(left) == list(right)
    assert all(torch.equal(left[key], right[key]) for key in left)


def test_integer_folds_keep_groups_whole(estimator, y):
    needs({"cv", "estimators"} <= set(estimator.get_params(deep=False)), "folds")
    part = RecordingClassifier(max_iter=1000) if is_classifier(estimator) else RecordingRegressor()
    groups = np.random.default_rng(0).permutation(np.arange(N) % 9)
    SEEN.clear()
    estimator.set_params(estimators={"a": part}, cv=3).fit(numbered(DATA), y, groups=groups)
    in_folds = [seen for seen in SEEN if len(seen) < N]
    assert len(in_folds) == 3
    for seen in in_folds:
        assert seen == {row for row in range(N) if groups[row] in groups[list(seen)]}


def test_what_was_said_of_the_samples_is_not_said_again_by_a_part(estimator, y):
    parameter = next((p for p in ("transformers", "encoders") if p in estimator.get_params(deep=False)), None)
    needs(parameter, "extractors")
    # A pretrainer has no labels to hand on.
    made = MultimodalPretrainer if isinstance(estimator, MultimodalPretrainer) else JointFusionRegressor
    part = made(n_hidden=16, n_latent=8, max_epochs=1, device="cpu", random_state=0)
    X = {name: values.copy() for name, values in DATA.items()}
    X["a"][3, 1] = np.nan
    with pytest.warns(UserWarning, match="single values are missing") as caught:
        estimator.set_params(**{parameter: {"a": part}}).fit(X, np.arange(N) % 2)
    assert len(caught) == 1


@pytest.mark.parametrize("parameter", ["transformers", "encoders"])
def test_a_frozen_network_as_extractor_keeps_its_weights(estimator, y, parameter):
    needs(parameter in estimator.get_params(deep=False), parameter)
    inner, weights = frozen_network()
    fitted = clone(estimator).set_params(**{parameter: {"a": FrozenEstimator(inner)}}).fit(DATA, y)
    assert np.isfinite(as_array(fitted.transform(NEW))).all()
    assert_equal_weights(inner.network_.state_dict(), weights)


@pytest.mark.parametrize("parameter", ["transformers", "encoders"])
def test_a_frozen_extractor_is_not_fitted_again(estimator, y, parameter):
    needs(parameter in estimator.get_params(deep=False), parameter)
    shifted = StandardScaler().fit(DATA["a"] + 5.0)
    frozen, fresh = (
        as_array(clone(estimator).set_params(**{parameter: {"a": part}}).fit(DATA, y).transform(NEW))
        for part in (FrozenEstimator(shifted), shifted)
    )
    assert not np.allclose(frozen, fresh, atol=0.1)


def test_frozen_pretrained_encoders_are_the_start_and_keep_their_weights(estimator, y):
    needs("pretrained" in estimator.get_params(deep=False), "pretrained")
    inner, weights = frozen_network()
    still = {"optimizer": torch.optim.SGD, "lr": 1e-12, "scheduler": None, "weight_decay": 0.0}
    fitted = clone(estimator).set_params(pretrained=FrozenEstimator(inner), **still).fit(DATA, y)
    assert_equal_weights(fitted.network_.encoders[0].state_dict(), inner.network_.encoders[0].state_dict())
    clone(estimator).set_params(pretrained=FrozenEstimator(inner)).fit(DATA, y)
    assert_equal_weights(inner.network_.state_dict(), weights)


# Model selection


@pytest.mark.filterwarnings("ignore:too few calibration samples have just:UserWarning")
def test_it_works_in_cross_validate_on_a_modalities(estimator, y):
    scores = cross_validate(predictor(estimator), Modalities(DATA), y, cv=3, error_score="raise")
    assert np.isfinite(scores["test_score"]).all()


def test_cross_validation_predicts_what_a_fit_on_the_fold_predicts(estimator, y):
    X, cv = Modalities(DATA), KFold(2)
    needs(hasattr(estimator, "predict"), "predict")
    found = cross_val_predict(estimator, X, y, cv=cv)
    train, test = next(cv.split(y))
    np.testing.assert_array_equal(found[test], clone(estimator).fit(X[train], y[train]).predict(X[test]))


@pytest.mark.filterwarnings("ignore:single values are missing")  # scores of what is missing
def test_it_works_at_the_end_and_the_start_of_a_pipeline(estimator, y):
    if hasattr(estimator, "transform"):
        model = Ridge() if y.dtype.kind == "f" else LogisticRegression()
        start = Pipeline([("fusion", estimator), ("array", EarlyFusionTransformer()), ("model", model)])
        assert len(clone(start).fit(DATA, y).predict(NEW)) == 12
    if hasattr(estimator, "predict"):
        end = make_pipeline(
            StandardScaler(), clone(estimator).set_params(modalities={"a": [0, 1, 2, 3], "b": [4, 5, 6]})
        )
        array = np.hstack(list(DATA.values()))
        assert len(end.fit(array, y).predict(array)) == N


def test_a_grid_over_the_type_of_fusion_runs_in_two_processes(estimator, y):
    types = ["early", "joint", "late"]
    needs(set(types) <= set(estimator.get_params(deep=False)), "types of fusion")
    needs(estimator.fusion == "joint", "another class: the grid sets `fusion`")
    estimator = seeded(estimator.set_params(joint__max_epochs=3), 0)
    X, cv = Modalities(DATA), KFold(2)
    grid = GridSearchCV(estimator, {"fusion": types}, cv=cv, n_jobs=2, error_score="raise").fit(X, y)
    for fusion, score in zip(types, grid.cv_results_["mean_test_score"]):
        alone = clone(estimator).set_params(fusion=fusion)
        assert score == pytest.approx(cross_val_score(alone, X, y, cv=cv).mean(), rel=1e-6)
    assert_same(outputs(grid.best_estimator_, NEW), outputs(clone(grid.best_estimator_).fit(X, y), NEW))


@pytest.mark.filterwarnings("ignore:too few calibration samples have just:UserWarning")
def test_weights_and_groups_are_routed(estimator, y):
    needs(has_fit_parameter(estimator, "sample_weight") and has_fit_parameter(estimator, "groups"), "fit metadata")
    rng = np.random.default_rng(0)
    weight, groups = rng.uniform(0, 1, size=N), np.repeat(np.arange(12), 5)
    weight[::7] = 0
    X, cv = Modalities(DATA), GroupKFold(3)
    with sklearn.config_context(enable_metadata_routing=True):
        routed = clone(estimator).set_fit_request(sample_weight=True, groups=True)
        routed.set_score_request(sample_weight=True)
        found = cross_validate(
            routed,
            X,
            y,
            cv=cv,
            params={"sample_weight": weight, "groups": groups},
            return_estimator=True,
            error_score="raise",
        )["estimator"]
    for fitted, (train, _) in zip(found, cv.split(y, groups=groups)):
        alone = clone(estimator).fit(X[train], y[train], sample_weight=weight[train], groups=groups[train])
        assert_same(outputs(fitted, NEW), outputs(alone, NEW))
        method = "predict_proba" if is_classifier(fitted) else "predict"
        unweighted = clone(estimator).fit(X[train], y[train], groups=groups[train])
        assert not np.allclose(getattr(unweighted, method)(NEW), getattr(fitted, method)(NEW))


# Weights


def test_rows_of_weight_zero_do_not_matter_at_all(estimator, y):
    needs(has_fit_parameter(estimator, "sample_weight"), "sample_weight")
    weight = np.random.default_rng(0).uniform(0.5, 2, size=N)
    weight[::5] = 0
    kept = np.flatnonzero(weight)
    X = {name: values.copy() for name, values in DATA.items()}
    X["a"][::5] *= 1000
    X["b"][::5] = np.nan
    fitted = clone(estimator).fit(X, y, sample_weight=weight)
    without = clone(estimator).fit(Modalities(X)[kept], y[kept], sample_weight=weight[kept])
    assert_same(outputs(fitted, NEW), outputs(without, NEW))


def test_weights_of_one_are_no_weights(estimator, y):
    needs(has_fit_parameter(estimator, "sample_weight"), "sample_weight")
    fitted = clone(estimator).fit(DATA, y, sample_weight=np.ones(N))
    assert_same(outputs(fitted, NEW), outputs(clone(estimator).fit(DATA, y), NEW), rtol=1e-5)


def test_weight_for_no_sample_raises(estimator, y):
    needs(has_fit_parameter(estimator, "sample_weight"), "sample_weight")
    with pytest.raises(ValueError, match=r"sample_weight is 0 for every sample|at least one non-zero"):
        estimator.fit(DATA, y, sample_weight=np.zeros(N))
    with pytest.raises(ValueError, match="Negative values in data passed to `sample_weight`"):
        estimator.fit(DATA, y, sample_weight=np.full(N, -1.0))


@pytest.mark.parametrize("weighted", [False, True])
def test_one_class_left_is_predicted_always(estimator, y, weighted):
    needs(is_classifier(estimator), "classes")
    if weighted:
        estimator.fit(DATA, y, sample_weight=(y == "low").astype(float))
    else:
        estimator.fit(DATA, np.full(N, "low"))
    assert estimator.classes_.tolist() == ["low"]
    nothing = {name: np.full((1, values.shape[1]), np.nan) for name, values in DATA.items()}
    for X in (NEW, nothing):
        assert set(estimator.predict(X)) == {"low"}
        np.testing.assert_array_equal(estimator.predict_proba(X), np.ones((len(X["a"]), 1)))


# Names


def test_set_output_gives_frames_with_the_names_of_the_columns(estimator, y):
    needs(hasattr(estimator, "set_output"), "set_output")
    plain = as_array(clone(estimator).fit(DATA, y).transform(NEW))
    estimator.set_output(transform="pandas").fit(DATA, y)
    frame = estimator.transform(NEW)
    assert frame.columns.tolist() == list(estimator.get_feature_names_out())
    assert frame.columns.is_unique
    np.testing.assert_array_equal(frame.to_numpy(), plain)
    ids = [f"s{i}" for i in range(N)]
    named = wide_frame(DATA).set_index(np.array(ids))
    frame = estimator.set_params(modalities=COLUMNS).fit_transform(named, y)
    assert frame.index.tolist() == ids
    assert len(frame.columns) == frame.shape[1] == len(estimator.get_feature_names_out())


def test_the_setting_of_outputs_changes_the_container_of_transform_alone(estimator, y, fitted):
    plain = outputs(fitted, NEW)
    with sklearn.config_context(transform_output="pandas"):
        other = clone(estimator).fit(DATA, y)
        found = outputs(other, NEW)
        if hasattr(other, "transform"):
            frame = other.transform(NEW)
            assert isinstance(frame, pd.DataFrame)
            assert frame.columns.tolist() == list(other.get_feature_names_out())
    assert_same(found, plain)


def test_set_output_keeps_the_ids_of_samples(fitted):
    needs(hasattr(fitted, "set_output"), "set_output")
    ids = [f"s{i}" for i in range(12)]
    fitted.set_output(transform="pandas")
    assert fitted.transform(Modalities(NEW, sample_ids=ids)).index.tolist() == ids
    frames = wide_frame(NEW).set_index(np.array(ids))
    assert fitted.transform({name: frames[columns] for name, columns in COLUMNS.items()}).index.tolist() == ids
    assert fitted.transform(NEW).index.tolist() == list(range(12))


def test_names_of_columns_hold_the_names_that_came(estimator, y):
    embeds = hasattr(estimator, "embed") or scores_by_modality(estimator)
    needs(hasattr(estimator, "get_feature_names_out") and not embeds, "names of columns")
    if "output" in estimator.get_params():
        estimator.set_params(output="array")  # else a frame comes back under its own names
    estimator.set_params(modalities=COLUMNS).fit(wide_frame(DATA), y)
    assert estimator.get_feature_names_out()[:7].tolist() == [f"{m}__{c}" for m in COLUMNS for c in COLUMNS[m]]


# Parameters


@pytest.mark.parametrize(
    ("holder", "value", "path", "new"),
    [
        ("transformers", {"rna": PCA(2)}, "rna__n_components", 3),
        ("encoders", {"rna": PCA(2)}, "rna__n_components", 3),
        ("estimators", {"rna": LogisticRegression()}, "rna__C", 9.0),
        ("estimators", {"rna": [("lr", LogisticRegression())], "protein": Ridge()}, "rna__lr__C", 9.0),
        ("estimators", [("lr", make_pipeline(StandardScaler(), Ridge()))], "lr__ridge__alpha", 9.0),
        ("joint", None, "joint__lr", 0.5),
        ("late", None, "late__cv", 2),
        ("early", None, "early__model", None),
    ],
)
def test_parameters_of_parts_are_listed_and_set(estimator, holder, value, path, new):
    needs(holder in estimator.get_params(deep=False), holder)
    estimator.set_params(**{holder: value})
    before = copy.deepcopy(value)
    assert path in estimator.get_params()
    assert path not in estimator.get_params(deep=False)
    copied = clone(estimator).set_params(**{path: new})
    assert copied.get_params()[path] == new
    assert repr(value) == repr(before)
    assert clone(copied).get_params()[path] == new
    with pytest.raises(ValueError, match="nvalid parameter"):
        estimator.set_params(**{path.rpartition("__")[0] + "__nonsense": 1})


def test_setting_an_unknown_parameter_raises(estimator):
    with pytest.raises(ValueError, match="Invalid parameter 'nonsense'"):
        estimator.set_params(nonsense=1)
    with pytest.raises(ValueError, match="Invalid parameter 'nonsense'"):
        estimator.set_params(nonsense__inner=1)
