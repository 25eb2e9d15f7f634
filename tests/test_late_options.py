"""Options of late fusion: levels, estimators over everything, hold-outs, averaged folds, caches, failures, metadata."""

import copy
import re
from types import SimpleNamespace

import joblib
import numpy as np
import pytest
import sklearn
from joblib import parallel_config
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    LeaveOneGroupOut,
    RepeatedKFold,
    StratifiedKFold,
    TimeSeriesSplit,
    cross_val_predict,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from skfusion import FusionClassifier, LateFusionRegressor, LateFusionStacker, Modalities


def classes(n_samples=120, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, n_classes, size=n_samples)
    X = {"a": rng.normal(size=(n_samples, 4)) + y[:, None], "b": rng.normal(size=(n_samples, 3)) - y[:, None]}
    return X, np.array(["low", "middle", "high"])[y]


def numbers(n_samples=120, seed=0):
    rng = np.random.default_rng(seed)
    X = {"a": rng.normal(size=(n_samples, 4)), "b": rng.normal(size=(n_samples, 3))}
    return X, 5 + 2 * X["a"][:, 0] - X["b"][:, 1] + 0.3 * rng.normal(size=n_samples)


def stacked(model):
    return np.hstack(list(model.oof_predictions_.values()))


class Recording(ClassifierMixin, BaseEstimator):
    """Keeps what its fits got; the first column numbers the samples."""

    fits: list = []

    def __init__(self, name="recording", fails_in=()):
        self.name = name
        self.fails_in = fails_in

    def fit(self, X, y, sample_weight=None, groups=None):
        n_before = sum(found.name == self.name for found in self.fits)
        rows = X["a"][:, 0] if isinstance(X, Modalities) else X[:, 0]
        self.fits.append(SimpleNamespace(name=self.name, rows=rows.astype(int), weights=sample_weight, groups=groups))
        if n_before in self.fails_in:
            raise RuntimeError("no luck")
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


@pytest.fixture
def fits():
    Recording.fits.clear()
    return Recording.fits


def numbered(n_samples=60, n_classes=3):
    X, y = classes(n_samples, n_classes)
    for values in X.values():
        values[:, 0] = np.arange(n_samples)
    return X, y


# Folds


def test_samples_that_a_time_series_never_tests_are_left_out_of_the_final_estimator():
    X, y = numbers()
    cv = TimeSeriesSplit(4)
    model = LateFusionRegressor(Ridge(), Ridge(), cv=cv).fit(X, y)
    tested = np.concatenate([test for _, test in cv.split(y)])
    features = stacked(model)
    np.testing.assert_array_equal(np.flatnonzero(~np.isnan(features[:, 0])), tested)
    for train, test in cv.split(y):
        np.testing.assert_allclose(features[test, 0], Ridge().fit(X["a"][train], y[train]).predict(X["a"][test]))
    np.testing.assert_allclose(model.final_estimator_.coef_, Ridge().fit(features[tested], y[tested]).coef_)
    assert len(model.estimators_["a__ridge"].predict(X["a"])) == 120


def test_repeated_folds_of_groups_are_averaged_and_keep_groups_whole(fits):
    X, y = numbered()
    groups = np.arange(60) % 6
    LateFusionStacker(Recording(), cv=LeaveOneGroupOut()).fit(X, y, groups=groups)
    in_folds = [found for found in fits if len(found.rows) < 60]
    assert len(in_folds) == 12
    for found in in_folds:
        assert len(set(groups[found.rows])) == 5


@pytest.mark.parametrize("cv", [GroupKFold(3), LeaveOneGroupOut()])
def test_a_splitter_of_groups_without_groups_raises_what_to_do(cv):
    with pytest.raises(
        ValueError, match=rf"cv is {re.escape(repr(cv))}, which splits by groups, but fit got none; pass"
    ):
        LateFusionStacker(LogisticRegression(), cv=cv).fit(*classes())


def test_a_modality_with_fewer_samples_of_a_class_than_folds_is_learnt_from_all_the_same():
    X, y = classes(90)
    gone = np.flatnonzero(y == "low")[2:]
    X["b"][gone] = np.nan
    for final in (None, "mean", "hill_climb"):
        model = LateFusionStacker(GaussianNB(var_smoothing=0.1), final, random_state=0).fit(X, y)
        there = ~np.isnan(model.oof_predictions_["b__gaussiannb"][:, 0])
        assert there.sum() == 90 - len(gone)
        np.testing.assert_allclose(model.oof_predictions_["b__gaussiannb"][there].sum(axis=1), 1)
        np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1)


# A hold-out instead of folds


def test_blend_learns_from_a_hold_out_that_no_base_has_seen(fits):
    X, y = numbered(90)
    model = LateFusionStacker(Recording(), blend=1 / 3, random_state=0).fit(X, y)
    sizes = [len(found.rows) for found in fits]
    assert sizes[::2] == [90, 90]
    assert sizes[1] == sizes[3] == pytest.approx(60, abs=1)
    held_out = np.setdiff1d(np.arange(90), fits[1].rows)
    np.testing.assert_array_equal(fits[1].rows, fits[3].rows)
    np.testing.assert_array_equal(np.flatnonzero(~np.isnan(stacked(model)[:, 0])), held_out)
    shares = [np.mean(y[held_out] == label) for label in model.classes_]
    np.testing.assert_allclose(shares, [np.mean(y == label) for label in model.classes_], atol=0.03)


def test_blend_holds_out_whole_groups(fits):
    X, y = numbered()
    groups = np.arange(60) % 10
    LateFusionStacker(Recording(), blend=0.3, random_state=0).fit(X, y, groups=groups)
    fold = fits[1].rows
    assert set(groups[fold]).isdisjoint(groups[np.setdiff1d(np.arange(60), fold)])
    assert 30 <= len(fold) < 60
    with pytest.raises(ValueError, match="groups holds a single group; due are 2 or more, since blend holds out"):
        LateFusionStacker(Recording(), blend=0.3).fit(X, y, groups=np.zeros(60))


@pytest.mark.parametrize("blend", [0.0, 1.0, -0.2])
def test_blend_is_a_part(blend):
    with pytest.raises(ValueError, match="'blend' parameter"):
        LateFusionStacker(LogisticRegression(), blend=blend).fit(*classes())


# Whole, or the average of the folds


@pytest.mark.parametrize("final", [None, "mean"])
def test_refit_average_predicts_by_the_models_of_the_folds(final):
    (X, y), (new, _) = classes(), classes(40, seed=1)
    model = LateFusionStacker(LogisticRegression(), final, refit="average").fit(X, y)
    codes = np.unique(y, return_inverse=True)[1]
    parts = []
    for name in "ab":
        of_folds = [
            LogisticRegression().fit(X[name][train], codes[train]).predict_proba(new[name])
            for train, _ in StratifiedKFold(5).split(X[name], codes)
        ]
        parts.append(np.mean(of_folds, axis=0))
        assert len(model.estimators_[f"{name}__logisticregression"]) == 5
    expected = (
        np.mean(parts, axis=0)
        if final
        else LogisticRegression().fit(stacked(model), codes).predict_proba(np.hstack(parts))
    )
    np.testing.assert_allclose(model.predict_proba(new), expected, atol=1e-12)


def test_refit_average_fits_nothing_on_everything(fits):
    LateFusionStacker(Recording(), cv=3, refit="average").fit(*numbered())
    assert sorted(len(found.rows) for found in fits) == [40] * 6


# Everything at once


def test_estimators_over_all_modalities_stand_beside_those_of_one():
    (X, y), (new, _) = classes(), classes(30, seed=1)
    together = FusionClassifier("early")
    model = LateFusionStacker({"a": LogisticRegression(), "b": GaussianNB(), "all": [("early", together)]}).fit(X, y)
    assert list(model.estimators_) == ["a__logisticregression", "b__gaussiannb", "all__early"]
    codes = np.unique(y, return_inverse=True)[1]
    expected = cross_val_predict(together, Modalities(X), codes, cv=StratifiedKFold(5), method="predict_proba")
    np.testing.assert_allclose(model.oof_predictions_["all__early"], expected, atol=1e-9)
    parts = [model.estimators_["a__logisticregression"].predict_proba(new["a"])]
    parts += [
        model.estimators_["b__gaussiannb"].predict_proba(new["b"]),
        model.estimators_["all__early"].predict_proba(new),
    ]
    final = LogisticRegression().fit(stacked(model), codes)
    np.testing.assert_allclose(model.predict_proba(new), final.predict_proba(np.hstack(parts)), atol=1e-9)


def test_what_sees_everything_says_something_of_who_has_anything():
    X, y = classes()
    X["a"][:40] = np.nan
    model = LateFusionStacker({"a": LogisticRegression(), "b": "drop", "all": FusionClassifier("early")}, "mean").fit(
        X, y
    )
    assert list(model.estimators_) == ["a__logisticregression", "all__fusionclassifier"]
    assert np.isnan(model.oof_predictions_["a__logisticregression"][:40]).all()
    assert not np.isnan(model.oof_predictions_["all__fusionclassifier"]).any()
    expected = model.estimators_["all__fusionclassifier"].predict_proba({"b": X["b"]})
    np.testing.assert_allclose(model.predict_proba({"b": X["b"]}), expected, atol=1e-12)


def test_a_modality_may_be_called_all_and_something_must_be_left():
    X, y = classes()
    model = LateFusionStacker({"all": GaussianNB()}, random_state=0).fit({"all": X["a"], "b": X["b"]}, y)
    assert list(model.estimators_) == ["all__gaussiannb", "b__lr", "b__et"]
    with pytest.raises(ValueError, match="estimators drops every modality; due is at least one with an estimator"):
        LateFusionStacker({"a": "drop", "b": "drop"}).fit(X, y)


# Levels


def test_a_level_learns_out_of_fold_from_the_predictions_below():
    (X, y), (new, _) = classes(), classes(30, seed=1)
    codes, cv = np.unique(y, return_inverse=True)[1], KFold(4, shuffle=True, random_state=0)
    levels = [[("lr", LogisticRegression()), ("bayes", GaussianNB())]]
    model = LateFusionStacker(LogisticRegression(), GaussianNB(), levels=levels, cv=cv).fit(X, y)
    below = np.hstack([model.oof_predictions_[f"{name}__logisticregression"] for name in "ab"])
    at_predict = np.hstack([LogisticRegression().fit(X[n], codes).predict_proba(new[n]) for n in "ab"])
    columns, new_columns = [], []
    for key, estimator in levels[0]:
        expected = cross_val_predict(estimator, below, codes, cv=cv, method="predict_proba")
        np.testing.assert_allclose(model.oof_predictions_[f"level_1__{key}"], expected, atol=1e-9)
        columns.append(expected)
        new_columns.append(clone(estimator).fit(below, codes).predict_proba(at_predict))
    final = GaussianNB().fit(np.hstack(columns), codes)
    np.testing.assert_allclose(model.predict_proba(new), final.predict_proba(np.hstack(new_columns)), atol=1e-6)
    assert model.oof_scores_.index.tolist()[-2:] == ["level_1__lr", "level_1__bayes"]


def test_levels_follow_one_another_to_an_average():
    X, y = numbers()
    model = LateFusionRegressor(Ridge(), "mean", levels=[Ridge(), [("one", Ridge()), ("two", Ridge(10.0))]]).fit(X, y)
    assert list(model.oof_predictions_) == [
        "a__ridge",
        "b__ridge",
        "level_1__ridge",
        "level_2__one",
        "level_2__two",
    ]
    first = Ridge().fit(stacked(model)[:, :2], y)
    seen = np.c_[[model.estimators_[f"{name}__ridge"].predict(X[name]) for name in "ab"]].T
    second = first.predict(seen)[:, None]
    out_of_fold = model.oof_predictions_["level_1__ridge"]
    expected = np.mean([Ridge(alpha).fit(out_of_fold, y).predict(second) for alpha in (1.0, 10.0)], axis=0)
    np.testing.assert_allclose(model.predict(X), expected, rtol=1e-8)
    assert model.score(X, y) > 0.9


def test_who_lacks_a_modality_passes_levels_as_if_it_had_never_been_there():
    (X, y), (new, _) = classes(), classes(30, seed=1)
    options = {"levels": [LogisticRegression()], "final_estimator": "mean"}
    whole = LateFusionStacker(LogisticRegression(), **options).fit(X, y)
    fewer = LateFusionStacker(LogisticRegression(), **options).fit({"a": X["a"]}, y)
    np.testing.assert_allclose(whole.predict_proba({"a": new["a"]}), fewer.predict_proba({"a": new["a"]}), atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"blend": 0.4},
        {"cv": TimeSeriesSplit(4)},
        {"cv": RepeatedKFold(n_splits=3, n_repeats=2)},
        {"blend": 0.4, "passthrough": True},
    ],
)
def test_levels_stand_on_any_folds(options):
    X, y = classes()
    model = LateFusionStacker(LogisticRegression(), levels=[LogisticRegression()], random_state=0, **options).fit(X, y)
    below, level = (~np.isnan(found[:, 0]) for found in list(model.oof_predictions_.values())[1:])
    assert level.any()
    assert not (level & ~below).any()
    assert model.score(X, y) > 0.7


def test_passthrough_shows_the_values_to_all_layers():
    X, y = classes()
    X["b"][::4] = np.nan
    options = {"levels": [LogisticRegression(), LogisticRegression()], "passthrough": True}
    model = LateFusionStacker(LogisticRegression(), **options).fit(X, y)
    assert model.final_estimator_.coef_.shape == (3, 3 + 7)
    assert model.score(X, y) > 0.7


def test_levels_that_make_no_sense_raise():
    with pytest.raises(TypeError, match="the estimator of level 1 is 'lr'; due is an estimator or a list of them"):
        LateFusionStacker(LogisticRegression(), levels=["lr"]).fit(*classes())
    with pytest.raises(ValueError, match="'svc' of level 1, SVC, gives none"):
        LateFusionStacker(LogisticRegression(), "mean", levels=[SVC()]).fit(*classes())


# The cache


class Counting(GaussianNB):
    """Leaves a file a fit."""

    def __init__(self, folder=None, var_smoothing=1e-9):
        super().__init__(var_smoothing=var_smoothing)
        self.folder = folder

    def fit(self, X, y, sample_weight=None):
        (self.folder / f"{len(list(self.folder.iterdir()))}").touch()
        return super().fit(X, y, sample_weight)


@pytest.mark.parametrize("as_path", [True, False])
def test_with_a_memory_one_more_estimator_costs_its_own_fits(tmp_path, as_path):
    folder = tmp_path / "fits"
    folder.mkdir()
    X, y = classes()
    memory = str(tmp_path / "cache") if as_path else joblib.Memory(tmp_path / "cache", verbose=0)
    estimators = [("one", Counting(folder))]

    def n_fits(X, y, estimators, **options):
        before = len(list(folder.iterdir()))
        model = LateFusionStacker(estimators, cv=3, memory=memory, **options).fit(X, y)
        return len(list(folder.iterdir())) - before, model

    count, first = n_fits(X, y, estimators)
    assert count == 2 * (3 + 1)
    count, again = n_fits(copy.deepcopy(X), y.copy(), estimators)
    assert count == 0
    np.testing.assert_array_equal(first.predict_proba(X), again.predict_proba(X))
    np.testing.assert_array_equal(first.oof_predictions_["a__one"], again.oof_predictions_["a__one"])
    more = [*estimators, ("two", Counting(folder, 0.1))]
    assert n_fits(X, y, more)[0] == 8
    assert n_fits(X, y, more, final_estimator="hill_climb")[0] == 0
    assert n_fits({**X, "b": X["b"] + 1}, y, more)[0] == 8, "those of the modality that changed"
    assert n_fits(X, y[::-1].copy(), estimators)[0] == 8


def test_what_fails_is_not_kept(tmp_path, fits):
    X, y = numbered()
    options = {"cv": 3, "memory": str(tmp_path), "error_score": np.nan}
    with pytest.warns(FitFailedWarning):
        LateFusionStacker([("x", Recording("x", (1,))), ("y", Recording("y"))], **options).fit(X, y)
    fits.clear()
    fits.extend(SimpleNamespace(name="x", rows=np.arange(60)) for _ in range(9))
    model = LateFusionStacker([("x", Recording("x", (1,))), ("y", Recording("y"))], **options).fit(X, y)
    assert "a__x" in model.estimators_
    assert len(fits) == 10


# Failures


def test_an_error_names_estimator_modality_and_fold(fits):
    with pytest.raises(RuntimeError, match="no luck") as caught:
        LateFusionStacker({"a": GaussianNB(), "b": [("weak", Recording(fails_in=(2,)))]}).fit(*numbered())
    assert caught.value.__notes__ == [
        "raised by the estimator 'weak' of modality 'b' in fold 1; error_score=np.nan would go on without it."
    ]


@pytest.mark.parametrize("refit", ["whole", "average"])
@pytest.mark.parametrize("error_score", [np.nan, 0.0])
def test_with_an_error_score_the_rest_goes_on_without_who_failed(fits, refit, error_score):
    X, y = numbered()
    estimators = {
        "a": [("good", GaussianNB()), ("bad", Recording(fails_in=(2,)))],
        "b": LogisticRegression(max_iter=1000),
    }
    n_fold = 1 if refit == "whole" else 2
    with pytest.warns(
        FitFailedWarning,
        match=rf"estimator 'bad' of modality 'a' failed in fold {n_fold}: RuntimeError: no luck. It is left out",
    ):
        model = LateFusionStacker(estimators, cv=4, refit=refit, error_score=error_score).fit(X, y)
    good = LateFusionStacker({**estimators, "a": estimators["a"][:1]}, cv=4, refit=refit).fit(X, y)
    assert list(model.estimators_) == list(model.oof_predictions_) == ["a__good", "b__logisticregression"]
    np.testing.assert_array_equal(model.predict_proba(X), good.predict_proba(X))
    np.testing.assert_equal(model.oof_scores_["a__bad"], error_score)


def test_one_default_estimator_that_fails_takes_no_other_with_it(monkeypatch):
    X, y = classes()

    def fail(self, *args, **kwargs):
        raise RuntimeError("no luck")

    monkeypatch.setattr("sklearn.ensemble.ExtraTreesClassifier.fit", fail)
    with pytest.warns(FitFailedWarning) as caught:
        model = LateFusionStacker(random_state=0, error_score=np.nan).fit(X, y)
    assert [str(w.message).split(" failed")[0] for w in caught] == [
        f"the estimator 'et' of modality {name!r}" for name in "ab"
    ]
    assert list(model.estimators_) == ["a__lr", "b__lr"]
    assert model.score(X, y) > 0.7


def test_where_every_fit_failed_nothing_is_left(fits):
    with pytest.raises(
        ValueError, match=r"all base fits failed, .*a__bad on all samples: RuntimeError: no luck; b__bad"
    ):
        LateFusionStacker(
            {"a": [("bad", Recording("one", (0,)))], "b": [("bad", Recording("two", (1,)))]}, error_score=np.nan
        ).fit(*numbered())


# Metadata


def test_groups_and_weights_go_to_those_that_ask(fits):
    X, y = numbered()
    weights, groups = np.arange(1.0, 61.0), np.arange(60) % 12
    estimators = {"a": Recording(), "b": "drop", "all": [("everything", Recording("everything"))]}
    LateFusionStacker(estimators, Recording("final"), cv=3).fit(X, y, sample_weight=weights, groups=groups)
    assert [found.name for found in fits] == ["recording"] * 4 + ["everything"] * 4 + ["final"]
    for found in fits[:8]:
        np.testing.assert_array_equal(found.weights, weights[found.rows])
        np.testing.assert_array_equal(found.groups, groups[found.rows])
    np.testing.assert_array_equal(fits[8].weights, weights)
    np.testing.assert_array_equal(fits[8].groups, groups)


def test_who_says_that_it_wants_none_gets_none(fits):
    X, y = numbered()
    with sklearn.config_context(enable_metadata_routing=True):
        quiet = Recording().set_fit_request(sample_weight=False, groups=False)
        pipeline = make_pipeline(StandardScaler(), quiet)
    groups = np.arange(60) % 12
    for estimator in (quiet, pipeline):
        with pytest.warns(UserWarning, match="sample_weight is not known to"):
            LateFusionStacker(estimator, cv=3).fit(X, y, sample_weight=np.ones(60), groups=groups)
    assert len(fits) == 16
    assert all(found.weights is None and found.groups is None for found in fits)


def test_a_search_as_base_splits_by_groups_and_hands_on_weights(fits):
    X, y = numbered()
    search = GridSearchCV(
        make_pipeline(Recording()), {"recording__name": ["one"]}, cv=GroupKFold(2), error_score="raise"
    )
    groups = np.arange(60) % 12
    model = LateFusionStacker({"a": search, "b": "drop"}, cv=2)
    model.fit(X, y, sample_weight=np.arange(1.0, 61.0), groups=groups)
    assert len(fits) == 3 * 3
    for found in fits:
        np.testing.assert_array_equal(found.weights, found.rows + 1)
    whole = fits[2]
    assert len(whole.rows) == 60
    assert set(groups[fits[0].rows]).isdisjoint(groups[fits[1].rows])


# Estimators of other packages


class Foreign:
    """An estimator in nothing but its methods, for classes without a gap."""

    def __init__(self, shift=0.0):
        self.shift = shift

    def fit(self, X, y):
        found = np.unique(y)
        assert found.tolist() == list(range(len(found))), "classes with a gap"
        self.means = np.stack([X[y == k].mean(axis=0) for k in found])
        return self

    def predict_proba(self, X):
        distances = np.square(X[:, None] - self.means).sum(axis=2)
        odds = np.exp(-distances + distances.min(axis=1, keepdims=True))
        return (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)

    def predict(self, X):
        return self.predict_proba(X).argmax(axis=1)[:, None]


@pytest.mark.parametrize("stack_method", ["predict_proba", "predict"])
def test_fit_and_predict_make_an_estimator(stack_method):
    X, y = classes()
    X["b"][y == "low"] = np.nan
    foreign = Foreign()
    model = LateFusionStacker([("foreign", foreign)], stack_method=stack_method, cv=3).fit(X, y)
    assert model.score(X, y) > 0.7
    assert not hasattr(foreign, "means")
    b = model.oof_predictions_["b__foreign"]
    if stack_method == "predict":
        codes = {label: code for code, label in enumerate(model.classes_)}
        assert codes["low"] not in b
        there = y != "low"
        assert np.mean(b[there, 0] == [codes[label] for label in y[there]]) > 0.7


# Backends


@pytest.mark.parametrize("backend", ["threading", "loky", "multiprocessing"])
def test_every_backend_of_joblib_gives_the_same_to_the_bit(backend):
    X, y = classes()
    estimators = {"a": LogisticRegression(), "b": GaussianNB(), "all": FusionClassifier("early")}
    alone = LateFusionStacker(estimators, cv=3).fit(X, y)
    with parallel_config(backend, n_jobs=2):
        together = LateFusionStacker(estimators, cv=3).fit(X, y)
    np.testing.assert_array_equal(alone.predict_proba(X), together.predict_proba(X))
