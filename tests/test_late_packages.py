"""Estimators of other packages as bases of late fusion: boosting, and TabPFN, whose weights must be downloaded."""

import pickle
import re

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, StratifiedKFold

from skfusion import FusionClassifier, LateFusionRegressor, LateFusionStacker

NAMES = {"xgboost": "XGB", "lightgbm": "LGBM", "catboost": "CatBoost"}
OPTIONS = {
    "xgboost": {"n_estimators": 5, "n_jobs": 1},
    "lightgbm": {"n_estimators": 5, "min_child_samples": 5, "verbosity": -1, "n_jobs": 1},
    "catboost": {"iterations": 5, "verbose": False, "allow_writing_files": False, "thread_count": 1},
}
FOLDS = StratifiedKFold(3, shuffle=True, random_state=0)


@pytest.fixture(params=list(NAMES))
def package(request):
    return request.param


def boosting(package, kind="Classifier", **options):
    module = pytest.importorskip(package)
    return getattr(module, NAMES[package] + kind)(**OPTIONS[package], **options)


@pytest.fixture
def classifier(package):
    return boosting(package)


@pytest.fixture
def regressor(package):
    return boosting(package, "Regressor")


def classes(n_samples=90, seed=0):
    """Three classes in order, so that each of three folds in a row lacks one in training."""
    rng = np.random.default_rng(seed)
    code = np.arange(n_samples) * 3 // n_samples
    X = {"a": rng.normal(size=(n_samples, 4)), "b": rng.normal(size=(n_samples, 3))}
    for values in X.values():
        values[:, :3] += 2.5 * np.eye(3)[code]
    return X, np.array(["high", "low", "middle"])[code]


def numbers(seed=0):
    X, _ = classes(120, seed)
    return X, 5 + 2 * X["a"][:, 0] - X["b"][:, 1]


def with_gaps(X):
    """Every third sample lacks `b`, and every seventh one value of `a`."""
    X = {name: values.copy() for name, values in X.items()}
    X["b"][::3] = np.nan
    X["a"][::7, 1] = np.nan
    return X


def same_when_pickled(model, X):
    method = "predict_proba" if hasattr(model, "predict_proba") else "predict"
    found = getattr(pickle.loads(pickle.dumps(model)), method)(X)
    np.testing.assert_array_equal(found, getattr(model, method)(X))


def test_boosting_takes_missing_modalities_gaps_and_weights(classifier):
    X, y = classes()
    weights = np.random.default_rng(1).uniform(0.5, 2, size=len(y))
    # It takes NaN itself, so that there is no warning of values that are filled.
    model = LateFusionStacker(classifier, cv=FOLDS).fit(with_gaps(X), y, sample_weight=weights)
    assert model.score(X, y) > 0.8
    assert model.score({"a": X["a"]}, y) > 0.6
    same_when_pickled(model, X)
    again = clone(model).fit(with_gaps(X), y, sample_weight=weights)
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    even = clone(model).fit(with_gaps(X), y)
    assert not np.array_equal(even.predict_proba(X), model.predict_proba(X))


@pytest.mark.parametrize("stack_method", ["predict_proba", "predict"])
def test_a_fold_may_lack_a_class(classifier, stack_method):
    X, y = classes()
    model = LateFusionStacker([("boosting", classifier)], stack_method=stack_method, cv=KFold(3)).fit(X, y)
    found = model.oof_predictions_["a__boosting"]
    if stack_method == "predict":
        assert all(k not in found[30 * k : 30 * (k + 1)] for k in range(3))
    else:
        for k in range(3):
            np.testing.assert_array_equal(found[30 * k : 30 * (k + 1), k], 0)
            np.testing.assert_allclose(found[30 * k : 30 * (k + 1)].sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"refit": "average"},
        {"final_estimator": "hill_climb", "calibration": "sigmoid", "random_state": 0},
        {"final_estimator": "vote"},
        {"levels": [LogisticRegression()], "passthrough": True},
    ],
    ids=lambda options: next(iter(options)),
)
def test_boosting_goes_with_the_options_of_late_fusion(classifier, options):
    X, y = classes()
    model = LateFusionStacker(classifier, cv=FOLDS, **options).fit(X, y)
    assert model.score(X, y) > 0.8
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1, rtol=1e-6)


def test_boosting_may_be_final_estimator_and_stand_in_a_level(classifier):
    X, y = classes()
    X["b"][::3] = np.nan
    model = LateFusionStacker(LogisticRegression(), classifier, levels=[classifier], cv=FOLDS).fit(X, y)
    assert model.predict(X).shape == y.shape
    assert model.score(X, y) > 0.8


def test_two_workers_and_a_memory_give_the_same(classifier, tmp_path):
    X, y = classes()
    alone = LateFusionStacker({"a": classifier, "b": classifier, "all": FusionClassifier("early")}, cv=FOLDS)
    expected = alone.fit(X, y).predict_proba(X)
    for options in ({"n_jobs": 2}, {"memory": str(tmp_path)}, {"memory": str(tmp_path)}):
        found = clone(alone).set_params(**options).fit(X, y).predict_proba(X)
        np.testing.assert_array_equal(found, expected)


def test_boosting_reads_frames_whose_columns_have_any_name(classifier):
    X, y = classes()
    frames = {name: pd.DataFrame(v, columns=[f"{name} [{i}] <" for i in range(v.shape[1])]) for name, v in X.items()}
    frames["b"]["group"] = pd.Categorical(np.where(y == "low", "u", "v"))
    model = LateFusionStacker(classifier, cv=FOLDS).fit(frames, y)
    assert model.score(frames, y) > 0.8


def test_boosting_of_numbers(regressor):
    X, y = numbers()
    X = with_gaps(X)
    weights = np.random.default_rng(1).uniform(0.5, 2, size=len(y))
    for options in ({}, {"refit": "average"}, {"final_estimator": "hill_climb", "n_jobs": 2, "random_state": 0}):
        model = LateFusionRegressor(regressor, cv=KFold(3, shuffle=True, random_state=0), **options).fit(
            X, y, sample_weight=weights
        )
        assert model.score(X, y) > 0.4
        same_when_pickled(model, X)


# TabPFN


class GatedError(Exception):
    """As of a download that wants a licence: what it is made of is not what it says."""

    def __init__(self, repository, *, token):
        super().__init__(f"cannot download from {repository!r} with {token!r}; accept the licence first")


class TabPFNLike(ClassifierMixin, BaseEstimator):
    """What late fusion meets in TabPFNClassifier: no weights, NaN, float32, a limit, weights that may be missing."""

    def __init__(self, max_samples=1000, has_weights=True):
        self.max_samples = max_samples
        self.has_weights = has_weights

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def fit(self, X, y):
        if not self.has_weights:
            raise GatedError("some/weights", token=None)
        if len(X) > self.max_samples:
            raise ValueError(f"number of samples {len(X)} is greater than the limit of {self.max_samples}")
        self.classes_, codes = np.unique(y, return_inverse=True)
        self.means_ = np.stack([np.nanmean(X[codes == k], axis=0) for k in range(len(self.classes_))])
        return self

    def predict_proba(self, X):
        odds = np.exp(-np.nanmean(np.square(X[:, None] - self.means_), axis=2))
        return (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


@pytest.mark.parametrize("options", [{}, {"refit": "average"}, {"cv": KFold(3)}, {"n_jobs": 2}], ids=str)
def test_what_is_like_tabpfn_is_a_base(options):
    X, y = classes()
    model = LateFusionStacker(TabPFNLike(), "mean", **{"cv": FOLDS, **options}).fit(with_gaps(X), y)
    assert model.score(X, y) > 0.8
    with pytest.warns(UserWarning, match="sample_weight is not known to"):
        clone(model).fit(X, y, sample_weight=np.ones(len(y)))


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize(
    ("base", "error", "says"),
    [
        (TabPFNLike(has_weights=False), RuntimeError, "GatedError: cannot download .* accept the licence first"),
        (TabPFNLike(max_samples=59), ValueError, r"samples \d+ is greater than the limit of 59"),
    ],
    ids=["download", "limit"],
)
def test_what_fails_in_it_is_named(base, error, says, n_jobs):
    X, y = classes()
    estimators = {"a": [("tabpfn", base), ("dummy", DummyClassifier())], "b": LogisticRegression()}
    with pytest.raises(error, match=says) as raised:
        LateFusionStacker(estimators, cv=FOLDS, n_jobs=n_jobs).fit(X, y)
    # Two workers may fail at the same time.
    where = "on all samples" if n_jobs is None else r"(on all samples|in fold \d)"
    assert re.search(f"estimator 'tabpfn' of modality 'a' {where}", raised.value.__notes__[0])
    with pytest.warns(FitFailedWarning, match=f"'tabpfn' of modality 'a' failed on all samples: .*{says}"):
        model = LateFusionStacker(estimators, cv=FOLDS, n_jobs=n_jobs, error_score=np.nan).fit(X, y)
    assert sorted(model.estimators_) == ["a__dummy", "b__logisticregression"]


def test_tabpfn_that_cannot_download_its_weights_is_named(monkeypatch):
    tabpfn = pytest.importorskip("tabpfn")
    from tabpfn.errors import TabPFNLicenseError

    def refuse(self):
        raise TabPFNLicenseError

    monkeypatch.setattr(tabpfn.TabPFNClassifier, "_initialize_model_variables", refuse)
    X, y = classes()
    model = LateFusionStacker({"a": tabpfn.TabPFNClassifier(device="cpu"), "b": LogisticRegression()}, cv=FOLDS)
    with pytest.raises(TabPFNLicenseError) as raised:
        model.fit(with_gaps(X), y)
    assert "'tabpfnclassifier' of modality 'a' on all samples" in raised.value.__notes__[0]
    with pytest.warns(FitFailedWarning, match="'tabpfnclassifier' of modality 'a' failed on all samples"):
        assert clone(model).set_params(error_score=np.nan).fit(X, y).score(X, y) > 0.8
