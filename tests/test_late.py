"""What is special to late fusion: stacking by modality, on predictions for samples that a base had not seen."""

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.optimize import nnls
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    StackingRegressor,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.metrics import accuracy_score, r2_score, roc_auc_score
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    RepeatedStratifiedKFold,
    ShuffleSplit,
    StratifiedKFold,
    cross_val_predict,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR

from skfusion import FusionClassifier, LateFusionRegressor, LateFusionStacker, Modalities
from skfusion._late_defaults import default_classifiers, default_regressors

SINGLE_NAN = pytest.mark.filterwarnings("ignore:single values are missing")


def classes(n_samples=150, n_classes=3, seed=0, widths=(4, 3), distance=1.0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, n_classes, size=n_samples)
    centres = np.random.default_rng(9).normal(size=(len(widths), n_classes, max(widths)))
    X = {
        name: rng.normal(size=(n_samples, width)) + distance * centres[m][y, :width]
        for m, (name, width) in enumerate(zip("abcd", widths))
    }
    return X, np.array(["low", "middle", "high"])[y]


def numbers(n_samples=120, seed=0):
    rng = np.random.default_rng(seed)
    X = {"a": rng.normal(size=(n_samples, 4)), "b": rng.normal(size=(n_samples, 3))}
    return X, 5 + 2 * X["a"][:, 0] - X["b"][:, 1] + 0.3 * rng.normal(size=n_samples)


def without(X, missing):
    """Leave out modalities of some samples, a dict of name to rows."""
    X = {name: values.copy() for name, values in X.items()}
    for name, rows in missing.items():
        X[name][rows] = np.nan
    return X


# One modality is scikit-learn's stacking


BASES = [("lr", LogisticRegression()), ("forest", RandomForestClassifier(10, random_state=0)), ("bayes", GaussianNB())]


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize(
    ("bases", "options"),
    [
        (BASES, {}),
        (BASES, {"passthrough": True}),
        (BASES, {"stack_method": "predict"}),
        (BASES, {"cv": KFold(4, shuffle=True, random_state=1)}),
        ([("svm", SVC()), ("lr", LogisticRegression())], {}),
        ([("svm", SVC()), ("ridge", RidgeClassifier())], {"stack_method": "decision_function"}),
        (BASES, {"final_estimator": make_pipeline(StandardScaler(), KNeighborsClassifier())}),
    ],
)
def test_one_modality_gives_what_stacking_classifier_gives(n_classes, bases, options):
    X, y = classes(n_classes=n_classes, widths=(4,))
    new, _ = classes(50, n_classes, seed=1, widths=(4,))
    ours = LateFusionStacker(bases, **options).fit(X, y)
    theirs = StackingClassifier(bases, **options).fit(X["a"], y)
    assert ours.classes_.tolist() == theirs.classes_.tolist()
    np.testing.assert_array_equal(ours.predict(new), theirs.predict(new["a"]))
    np.testing.assert_allclose(ours.predict_proba(new), theirs.predict_proba(new["a"]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("passthrough", [False, True])
@pytest.mark.parametrize("method", ["predict_proba", "decision_function", "predict"])
@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(),
        RandomForestClassifier(5, random_state=0),
        GaussianNB(),
        SVC(),
        HistGradientBoostingClassifier(max_iter=3),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_every_estimator_and_stack_method_is_that_of_stacking_classifier(estimator, method, passthrough):
    if not hasattr(estimator, method):
        pytest.skip("the estimator has no such method")
    X, y = classes(widths=(4,))
    options = {"stack_method": method, "passthrough": passthrough, "cv": 3}
    ours = LateFusionStacker([("base", estimator)], **options).fit(X, y)
    theirs = StackingClassifier([("base", estimator)], **options).fit(X["a"], y)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X["a"]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("passthrough", [False, True])
@pytest.mark.parametrize(
    "estimator",
    [
        Ridge(),
        RandomForestRegressor(5, random_state=0),
        KNeighborsRegressor(),
        SVR(),
        HistGradientBoostingRegressor(max_iter=3),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_every_estimator_is_that_of_stacking_regressor(estimator, passthrough):
    X, y = numbers()
    options = {"passthrough": passthrough, "cv": 3}
    ours = LateFusionRegressor([("base", estimator)], **options).fit({"a": X["a"]}, y)
    theirs = StackingRegressor([("base", estimator)], **options).fit(X["a"], y)
    np.testing.assert_allclose(ours.predict({"a": X["a"]}), theirs.predict(X["a"]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"passthrough": True}, {"final_estimator": KNeighborsRegressor()}])
def test_one_modality_gives_what_stacking_regressor_gives(options):
    X, y = numbers()
    bases = [("ridge", Ridge()), ("forest", RandomForestRegressor(10, random_state=0))]
    ours = LateFusionRegressor(bases, **options).fit({"a": X["a"]}, y)
    theirs = StackingRegressor(bases, **options).fit(X["a"], y)
    new, _ = numbers(seed=1)
    np.testing.assert_allclose(ours.predict({"a": new["a"]}), theirs.predict(new["a"]), rtol=0, atol=1e-10)


def test_several_modalities_are_stacked_side_by_side_on_the_same_folds():
    X, y = classes()
    new, _ = classes(50, seed=1)
    model = LateFusionStacker(LogisticRegression()).fit(X, y)
    codes = np.unique(y, return_inverse=True)[1]
    columns, at_predict = [], []
    for name in "ab":
        proba = cross_val_predict(LogisticRegression(), X[name], codes, cv=StratifiedKFold(5), method="predict_proba")
        columns.append(proba)
        at_predict.append(LogisticRegression().fit(X[name], codes).predict_proba(new[name]))
        np.testing.assert_allclose(model.oof_predictions_[f"{name}__logisticregression"], proba, atol=1e-12)
    final = LogisticRegression().fit(np.hstack(columns), codes)
    np.testing.assert_allclose(model.predict_proba(new), final.predict_proba(np.hstack(at_predict)), atol=1e-12)


@pytest.mark.parametrize("as_csr", [False, True])
def test_passthrough_appends_the_values_of_all_modalities(as_csr):
    X, y = classes()
    X["b"] = sparse.csr_matrix(X["b"] * (X["b"] > 0.5)) if as_csr else X["b"]
    X["a"] = sparse.csr_matrix(X["a"] * (X["a"] > 0.5)) if as_csr else X["a"]
    final = LogisticRegression(max_iter=1000)
    model = LateFusionStacker(LogisticRegression(), final, passthrough=True).fit(X, y)
    values = [X[name].toarray() if as_csr else X[name] for name in "ab"]
    features = np.hstack([*model.oof_predictions_.values(), *values])
    codes = np.unique(y, return_inverse=True)[1]
    np.testing.assert_allclose(model.final_estimator_.coef_, final.fit(features, codes).coef_, atol=1e-3)
    assert model.score(X, y) > 0.6


# Nothing leaks


def test_labels_of_chance_stay_chance_out_of_fold():
    rng = np.random.default_rng(0)
    X = {"a": rng.normal(size=(600, 3)), "b": rng.normal(size=(600, 3))}
    y = rng.integers(0, 2, size=600)
    model = LateFusionStacker(KNeighborsClassifier(1)).fit(X, y)
    for key, estimator in model.estimators_.items():
        assert roc_auc_score(y, model.oof_predictions_[key][:, 1]) == pytest.approx(0.5, abs=0.07)
        assert roc_auc_score(y, estimator.predict_proba(X[key[0]])[:, 1]) == 1.0
    assert np.abs(model.final_estimator_.coef_).max() < 0.5
    leaky = LogisticRegression().fit(np.c_[y, y], y)
    assert np.abs(leaky.coef_).min() > 2


class Recording(ClassifierMixin, BaseEstimator):
    """Keeps the number, in the first column, of the rows that it was fitted on and asked for."""

    fits: list = []
    asked: list = []

    def __init__(self, name="recording"):
        self.name = name

    def fit(self, X, y, sample_weight=None):
        self.classes_ = np.unique(y)
        self.rows_ = set(X[:, 0].astype(int))
        self.fits.append((self.name, self.rows_, None if sample_weight is None else sample_weight.copy()))
        return self

    def predict_proba(self, X):
        rows = set(X[:, 0].astype(int))
        self.asked.append((self.name, self.rows_, rows))
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


@pytest.fixture
def records():
    Recording.fits.clear()
    Recording.asked.clear()
    return Recording


def numbered(n_samples=60):
    X, y = classes(n_samples)
    for values in X.values():
        values[:, 0] = np.arange(n_samples)
    return X, y


@pytest.mark.parametrize("cv", [2, 3, 5])
def test_each_estimator_is_fitted_once_a_modality_and_fold_and_once_on_everything(records, cv):
    X, y = numbered()
    estimators = [("first", Recording("first")), ("second", Recording("second"))]
    LateFusionStacker(estimators, cv=cv).fit(X, y)
    for name in ("first", "second"):
        sizes = [len(rows) for fitted, rows, _ in records.fits if fitted == name]
        assert len(sizes) == 2 * (cv + 1)
        assert sizes.count(60) == 2


def test_the_last_of_a_list_is_fitted_first(records):
    X, y = numbered()
    quick, slow = Recording("quick"), Recording("slow")
    LateFusionStacker({"a": [("quick", quick), ("slow", slow)], "b": [("slow", slow)]}, cv=2).fit(X, y)
    assert [name for name, *_ in records.fits] == ["slow"] * 3 + ["quick"] * 3 + ["slow"] * 3
    assert [len(rows) for _, rows, _ in records.fits[:3]] == [60, 30, 30], "the fit on all samples first"


def test_no_base_predicts_out_of_fold_what_it_was_fitted_on(records):
    X, y = numbered()
    LateFusionStacker(Recording()).fit(X, y)
    assert len(records.asked) == 10
    assert all(not fitted_on & asked for _, fitted_on, asked in records.asked)
    assert set().union(*(asked for _, _, asked in records.asked)) == set(range(60))


def test_weights_reach_the_bases_row_by_row(records):
    X, y = numbered()
    weight = np.arange(60, dtype=float)
    LateFusionStacker(Recording(), cv=3).fit(X, y, sample_weight=weight)
    assert len(records.fits) == 8
    for _, rows, weights in records.fits:
        assert sorted(rows) == sorted(weights.astype(int))
        assert 0 not in rows


def test_an_estimator_that_knows_no_weights_is_named():
    X, y = classes()
    estimators = {"a": KNeighborsClassifier(), "b": LogisticRegression()}
    with pytest.warns(UserWarning, match=r"sample_weight is not known to \['a__kneighborsclassifier'\], which are fit"):
        LateFusionStacker(estimators).fit(X, y, sample_weight=np.ones(150))


def test_rows_of_weight_zero_have_no_predictions_out_of_fold():
    X, y = classes()
    weight = np.ones(150)
    weight[::10] = 0
    model = LateFusionStacker(LogisticRegression()).fit(X, y, sample_weight=weight)
    for predictions in model.oof_predictions_.values():
        np.testing.assert_array_equal(np.isnan(predictions[:, 0]), weight == 0)


# Averages


def three_modalities(seed=0):
    return classes(120, widths=(4, 3, 2), seed=seed)


def base_predictions(model, X):
    return np.stack([estimator.predict_proba(X[key[0]]) for key, estimator in model.estimators_.items()])


AVERAGES = {
    "mean": lambda p: p.mean(axis=0),
    "vote": lambda p: np.eye(3)[p.argmax(axis=2)].mean(axis=0),
    "product": lambda p: np.maximum(p, 1e-3).prod(axis=0) / np.maximum(p, 1e-3).prod(axis=0).sum(axis=1, keepdims=True),
}


@pytest.mark.parametrize("method", AVERAGES)
def test_an_average_is_what_it_is_by_hand(method):
    (X, y), (new, _) = three_modalities(), three_modalities(1)
    model = LateFusionStacker(LogisticRegression(), method).fit(X, y)
    expected = AVERAGES[method](base_predictions(model, new))
    np.testing.assert_allclose(model.predict_proba(new), expected, atol=1e-12)
    np.testing.assert_array_equal(model.predict(new), model.classes_[expected.argmax(axis=1)])
    assert model.final_estimator_ == method
    np.testing.assert_allclose(model.base_weights_, 1 / 3)


@pytest.mark.parametrize("method", AVERAGES)
def test_an_average_goes_over_the_modalities_present(method):
    (X, y), (new, _) = three_modalities(), three_modalities(1)
    model = LateFusionStacker(LogisticRegression(), method).fit(X, y)
    predictions = base_predictions(model, new)
    found = model.predict_proba(without(new, {"b": slice(None), "c": [0]}))
    np.testing.assert_allclose(
        found[0], predictions[0, 0] if method != "vote" else np.eye(3)[predictions[0, 0].argmax()]
    )
    np.testing.assert_allclose(found[1:], AVERAGES[method](predictions[[0, 2]])[1:], atol=1e-12)


def test_weights_are_those_of_non_negative_least_squares_out_of_fold():
    (X, y), (new, _) = three_modalities(), three_modalities(1)
    X["c"] = np.random.default_rng(5).normal(size=X["c"].shape)
    model = LateFusionStacker(LogisticRegression(), "weighted").fit(X, y)
    out_of_fold = np.stack(list(model.oof_predictions_.values()))
    goal = (y[:, None] == model.classes_).astype(float)
    weights, _ = nnls(out_of_fold.reshape(3, -1).T, goal.ravel())
    np.testing.assert_allclose(model.base_weights_, weights / weights.sum())
    assert model.base_weights_[2] < 0.1
    expected = np.tensordot(model.base_weights_, base_predictions(model, new), 1)
    np.testing.assert_allclose(model.predict_proba(new), expected, atol=1e-12)


def test_where_all_weight_is_missing_the_others_count_alike():
    X, y = classes(200, 2, widths=(4, 3, 2))
    for name in "bc":
        X[name] = np.random.default_rng(5).normal(size=X[name].shape)
    X["a"][:, 0] = 5 * (y == "low")
    model = LateFusionStacker(LogisticRegression(), "weighted").fit(X, y)
    np.testing.assert_allclose(model.base_weights_, [1, 0, 0], atol=1e-6)
    model.base_weights_ = np.array([1.0, 0.0, 0.0])
    found = model.predict_proba({"b": X["b"], "c": X["c"]})
    np.testing.assert_allclose(found, base_predictions(model, X)[1:].mean(axis=0), atol=1e-12)


@pytest.mark.parametrize("method", ["mean", "weighted"])
def test_numbers_are_averaged_as_well(method):
    (X, y), (new, _) = numbers(), numbers(seed=1)
    model = LateFusionRegressor(Ridge(), method).fit(X, y)
    parts = np.stack([model.estimators_[f"{name}__ridge"].predict(new[name]) for name in "ab"])
    out_of_fold = np.hstack(list(model.oof_predictions_.values()))
    weights = nnls(out_of_fold, y)[0] if method == "weighted" else np.ones(2)
    np.testing.assert_allclose(model.predict(new), np.average(parts, axis=0, weights=weights), rtol=1e-10)


@pytest.mark.parametrize("method", ["mean", "hill_climb", "vote", "product"])
def test_an_average_rejects_what_gives_no_probabilities(method):
    X, y = classes()
    with pytest.raises(
        ValueError,
        match=rf"final_estimator '{method}' averages probabilities, but 'svc' of modality 'b', SVC, gives none. Wrap "
        "it in CalibratedClassifierCV, set calibration, or use a learned final_estimator",
    ):
        LateFusionStacker({"a": LogisticRegression(), "b": SVC()}, method).fit(X, y)


def test_a_vote_is_no_average_of_numbers():
    with pytest.raises(ValueError, match=r"'final_estimator' parameter .*must be a str among .*'mean'.*Got 'vote'"):
        LateFusionRegressor(Ridge(), "vote").fit(*numbers())


# Missing modalities


def test_a_base_is_fitted_on_the_rows_that_have_its_modality(records):
    X, y = numbered()
    X = without(X, {"b": np.arange(0, 60, 3)})
    model = LateFusionStacker({"a": Recording("a"), "b": Recording("b")}, cv=3).fit(X, y)
    present = set(np.flatnonzero(np.arange(60) % 3))
    for name, rows, _ in records.fits:
        assert rows <= present if name == "b" else len(rows) in (40, 60)
    assert sum(rows == present for _, rows, _ in records.fits) == 1
    predictions = model.oof_predictions_
    assert not np.isnan(predictions["a__recording"]).any()
    np.testing.assert_array_equal(np.isnan(predictions["b__recording"]).all(axis=1), np.arange(60) % 3 == 0)
    assert model.oof_scores_["b__recording"] == pytest.approx(np.mean(y[sorted(present)] == "high"))


def test_a_learned_final_estimator_gets_the_mean_prediction_and_an_indicator():
    (X, y), (new, _) = classes(), classes(40, seed=1)
    gone = np.arange(0, 150, 4)
    model = LateFusionStacker(LogisticRegression()).fit(without(X, {"b": gone}), y)
    a, b = model.oof_predictions_.values()
    mean = np.nanmean(b, axis=0)
    features = np.c_[a, np.where(np.isnan(b), mean, b), np.isin(np.arange(150), gone)]
    codes = np.unique(y, return_inverse=True)[1]
    final = LogisticRegression().fit(features, codes)
    at_predict = base_predictions(model, new)
    expected = final.predict_proba(np.c_[at_predict[0], at_predict[1], np.zeros(40)])
    np.testing.assert_allclose(model.predict_proba(new), expected, atol=1e-6)


@pytest.mark.parametrize("passthrough", [False, True])
@pytest.mark.parametrize("gone", ["c", "ab"])
def test_who_lacks_a_modality_is_predicted_as_by_a_stacker_that_never_had_it(gone, passthrough):
    (X, y), (new, _) = three_modalities(), three_modalities(1)
    kept = [name for name in X if name not in gone]
    X, new = Modalities(X), Modalities(new)
    whole, fewer = (
        LateFusionStacker(
            LogisticRegression(), make_pipeline(StandardScaler(), LogisticRegression()), passthrough=passthrough
        ).fit(X.select(names), y)
        for names in (X.names, kept)
    )
    np.testing.assert_allclose(whole.predict_proba(new.select(kept)), fewer.predict_proba(new.select(kept)), atol=1e-9)
    assert np.abs(whole.predict_proba(new) - fewer.predict_proba(new.select(kept))).max() > 0.1
    target = np.unique(y, return_inverse=True)[1] + X["c"][:, 0]
    whole, fewer = (
        LateFusionRegressor(Ridge(), passthrough=passthrough).fit(X.select(names), target) for names in (X.names, kept)
    )
    np.testing.assert_allclose(whole.predict(new.select(kept)), fewer.predict(new.select(kept)), rtol=1e-8)


@pytest.mark.parametrize("as_csr", [False, True])
def test_a_pattern_learns_from_all_who_have_any_of_its_modalities(as_csr):
    (X, y), (new, _) = three_modalities(), three_modalities(1)
    missing = {"a": np.arange(0, 120, 4), "b": np.arange(0, 120, 3), "c": np.arange(1, 120, 4)}
    model = LateFusionRegressor(Ridge(), Ridge(tol=1e-10), passthrough=as_csr)
    X, target = without(X, missing), np.unique(y, return_inverse=True)[1] + 0.1 * X["c"][:, 0]
    present = {name: ~np.isin(np.arange(120), rows) for name, rows in missing.items()}
    if as_csr:
        X = {name: sparse.csr_matrix(np.nan_to_num(values)) for name, values in X.items()}
    model.fit(Modalities(X, present=present), target)
    of_pattern = present["a"] | present["b"]
    assert not of_pattern.all()
    columns = [np.where(np.isnan(p), np.nanmean(p), p) for p in list(model.oof_predictions_.values())[:2]]
    features = [np.hstack(columns), *(~present[name][:, None] for name in "ab")]
    at_predict = [model.estimators_[f"{name}__ridge"].predict(new[name])[:, None] for name in "ab"]
    at_predict += [np.zeros((120, 2))]
    if as_csr:
        features += [
            np.where(present[n][:, None], X[n].toarray(), X[n].toarray()[present[n]].mean(axis=0)) for n in "ab"
        ]
        at_predict += [new["a"], new["b"]]
    final = Ridge(tol=1e-10).fit(np.hstack(features)[of_pattern], target[of_pattern])
    found = model.predict({name: sparse.csr_matrix(new[name]) if as_csr else new[name] for name in "ab"})
    np.testing.assert_allclose(found, final.predict(np.hstack(at_predict)), rtol=1e-4 if as_csr else 1e-8)


class CountedRidge(Ridge):
    """Counts its fits."""

    fits: list = []

    def fit(self, X, y):
        self.fits.append(X.shape)
        return super().fit(X, y)


def test_patterns_of_training_are_fitted_once_and_others_whenever_they_come_up():
    X, y = numbers()
    X["c"] = X["a"] + 1
    CountedRidge.fits.clear()
    model = LateFusionRegressor(Ridge(), CountedRidge()).fit(
        without(X, {"b": np.arange(30), "a": np.arange(30, 50)}), y
    )
    assert [rows for rows, _ in CountedRidge.fits] == [120, 120, 120]  # complete, without a, without b
    model.predict({"a": X["a"], "c": X["c"]})
    assert len(CountedRidge.fits) == 3
    before = pickle.dumps(model)
    once, again = (model.predict({"a": X["a"]}) for _ in range(2))
    assert [rows for rows, _ in CountedRidge.fits[3:]] == [100, 100]
    np.testing.assert_array_equal(once, again)
    assert pickle.dumps(model) == before


def test_a_final_estimator_that_draws_gives_the_same_whenever_a_pattern_comes_up():
    (X, y), (new, _) = classes(60), classes(20, seed=1)
    model = LateFusionStacker(LogisticRegression(), make_pipeline(StandardScaler(), RandomForestClassifier(5))).fit(
        X, y
    )
    once, again = (model.predict_proba({"a": new["a"]}) for _ in range(2))
    np.testing.assert_array_equal(once, again)


@pytest.mark.parametrize("why", ["few samples", "no sample of a class"])
def test_a_pattern_of_which_too_little_is_known_is_left_to_the_final_estimator_of_complete_samples(why):
    X, y = classes(90)
    gone = np.arange(90) % 6 > 0 if why == "few samples" else y == "low"
    model = LateFusionStacker(LogisticRegression(), cv=2).fit(without(X, {"b": gone}), y)
    b = model.oof_predictions_["b__logisticregression"]
    n_b = model.estimators_["b__logisticregression"].predict_proba(X["b"])
    from_b = np.zeros((90, 3))
    from_b[:, [i for i, label in enumerate(model.classes_) if label in y[~gone]]] = n_b
    mean_a = np.mean(model.oof_predictions_["a__logisticregression"], axis=0)
    expected = model.final_estimator_.predict_proba(np.c_[np.tile(mean_a, (90, 1)), from_b, np.zeros(90)])
    assert np.isnan(b[gone]).all()
    np.testing.assert_allclose(model.predict_proba({"b": X["b"]}), expected, atol=1e-9)


def test_a_modality_that_a_whole_fold_lacks_raises_what_to_do():
    X, y = classes(60)
    X = without(X, {"b": np.arange(30)})
    with pytest.raises(ValueError, match="modality 'b' is missing for every sample of a fold's training part; use few"):
        LateFusionStacker(LogisticRegression(), cv=KFold(2)).fit(X, y)


def test_the_order_of_modalities_only_permutes_columns():
    X, y = three_modalities()
    left = LateFusionStacker(LogisticRegression(tol=1e-8)).fit(X, y)
    right = LateFusionStacker(LogisticRegression(tol=1e-8)).fit({name: X[name] for name in "cab"}, y)
    np.testing.assert_allclose(left.predict_proba(X), right.predict_proba(X), atol=1e-4)
    for key in left.oof_predictions_:
        np.testing.assert_array_equal(left.oof_predictions_[key], right.oof_predictions_[key])


# Folds


def test_repeated_folds_are_averaged():
    X, y = classes()
    cv = RepeatedStratifiedKFold(n_splits=3, n_repeats=2, random_state=0)
    model = LateFusionStacker(LogisticRegression(), cv=cv).fit(X, y)
    codes = np.unique(y, return_inverse=True)[1]
    expected = np.zeros((150, 3))
    for train, test in cv.split(X["a"], codes):
        expected[test] += LogisticRegression().fit(X["a"][train], codes[train]).predict_proba(X["a"][test]) / 2
    np.testing.assert_allclose(model.oof_predictions_["a__logisticregression"], expected, atol=1e-12)


def test_rows_that_no_fold_tests_teach_the_final_estimator_nothing():
    X, y = classes()
    cv = ShuffleSplit(1, test_size=0.4, random_state=0)
    model = LateFusionStacker(LogisticRegression(), cv=cv).fit(X, y)
    _, test = next(cv.split(X["a"]))
    out_of_fold = np.hstack(list(model.oof_predictions_.values()))
    np.testing.assert_array_equal(np.flatnonzero(~np.isnan(out_of_fold[:, 0])), np.sort(test))
    codes = np.unique(y, return_inverse=True)[1]
    rows = np.sort(test)
    final = LogisticRegression().fit(out_of_fold[rows], codes[rows])
    np.testing.assert_allclose(model.final_estimator_.coef_, final.coef_, atol=1e-8)


@pytest.mark.parametrize("cv", [4, GroupKFold(4)])
def test_folds_keep_groups_whole(records, cv):
    X, y = numbered()
    groups = np.random.default_rng(0).permutation(np.arange(60) % 12)
    LateFusionStacker(Recording(), cv=cv).fit(X, y, groups=groups)
    for _, fitted_on, asked in records.asked:
        assert not set(groups[list(fitted_on)]) & set(groups[list(asked)])


def test_fewer_groups_than_folds_give_fewer_folds(records):
    X, y = numbered()
    LateFusionStacker(Recording()).fit(X, y, groups=np.arange(60) % 3)
    assert len(records.fits) == 2 * (3 + 1)


@pytest.mark.parametrize("final", [None, "mean", "weighted"])
def test_classes_rarer_than_the_folds_are_learnt_without_a_warning(final):
    X, y = classes(60)
    y[:] = np.where(np.arange(60) % 2, "low", "middle")
    y[0], y[1:3] = "one", "two"
    X["a"][y == "one"] += 50
    model = LateFusionStacker(LogisticRegression(max_iter=1000), final).fit(X, y)
    assert model.classes_.tolist() == ["low", "middle", "one", "two"]
    probabilities = model.predict_proba(X)
    assert probabilities.shape == (60, 4)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    # Nobody who had not seen the only sample of the class could have said so.
    assert model.oof_predictions_["a__logisticregression"][0, 2] == 0


def test_fewer_samples_of_every_class_than_folds_give_fewer_folds(records):
    X, _ = numbered(9)
    LateFusionStacker(Recording()).fit(X, np.arange(9) % 3)
    assert len(records.fits) == 2 * (3 + 1)
    with pytest.raises(ValueError, match=r"n_samples=9 is too few for folds: a class needs 2 samples\.$"):
        LateFusionStacker(Recording()).fit(X, np.arange(9))


def test_rows_of_one_class_teach_a_base_to_say_so():
    X, y = classes(60, 2)
    X = without(X, {"b": np.flatnonzero(y == y[0])})
    other = next(label for label in np.unique(y) if label != y[0])
    for method in ("predict_proba", "predict"):
        model = LateFusionStacker(LogisticRegression(), cv=3, stack_method=method).fit(X, y)
        there = ~np.isnan(model.oof_predictions_["b__logisticregression"][:, 0])
        expected = (
            [other == label for label in model.classes_]
            if method == "predict_proba"
            else [1.0 * (other == model.classes_[1])]
        )
        np.testing.assert_array_equal(model.oof_predictions_["b__logisticregression"][there], [expected] * there.sum())
        assert model.oof_scores_["b__logisticregression"] == 1


# What a base gets


@pytest.mark.parametrize("strategy", ["prior", "uniform"])
def test_a_dummy_that_was_handed_in_says_what_it_says(strategy):
    X, y = classes()
    model = LateFusionStacker({"a": DummyClassifier(strategy=strategy), "b": LogisticRegression()}, "mean").fit(X, y)
    dummy = DummyClassifier(strategy=strategy).fit(X["a"], y).predict_proba(X["a"])
    other = model.estimators_["b__logisticregression"].predict_proba(X["b"])
    np.testing.assert_allclose(model.predict_proba(X), (dummy + other) / 2, atol=1e-12)


class Sees(Recording):
    """Keeps what it was given."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.fits.append(X)
        return self

    def predict_proba(self, X):
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))


class TakesGaps(Sees):
    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


@SINGLE_NAN
def test_nan_reaches_estimators_that_take_it_and_is_filled_for_others(records):
    X, y = classes(40, 2)
    X["a"][3, 1] = np.nan
    LateFusionStacker({"a": [("gaps", TakesGaps()), ("none", Sees())], "b": Sees()}, cv=2).fit(X, y)
    filled, gaps = sorted((v for v in records.fits if v.shape == (40, 4)), key=lambda v: np.isnan(v).sum())
    assert [np.isnan(values).sum() for values in (filled, gaps)] == [0, 1]
    assert filled[3, 1] == pytest.approx(np.nanmean(X["a"][:, 1]))
    in_folds = [values for values in records.fits if values.shape == (20, 4)]
    assert sum(np.isnan(values).sum() for values in in_folds) == 1


def test_there_is_no_warning_of_gaps_that_nobody_fills():
    X, y = classes(n_classes=2)
    for values in X.values():
        values[::9, 0] = np.nan
    boosting, linear = HistGradientBoostingClassifier(max_iter=3), LogisticRegression()
    LateFusionStacker(boosting).fit(X, y)
    LateFusionStacker({"a": [("boosting", boosting)], "b": "drop"}).fit(X, y)
    for estimators, named in (
        ([("boosting", boosting), ("lr", linear)], "{'a': 17, 'b': 17}"),
        ({"a": boosting, "b": linear}, "{'b': 17}"),
        ({"a": boosting}, "{'b': 17}"),
        ({"a": boosting, "b": boosting, "all": FusionClassifier("early")}, "{'a': 17, 'b': 17}"),
    ):
        with pytest.warns(UserWarning, match=f"single values are missing .*{named}"):
            LateFusionStacker(estimators, cv=2).fit(X, y)
    with pytest.warns(UserWarning, match="single values are missing"):
        LateFusionStacker(boosting, passthrough=True).fit(X, y)
    FusionClassifier("late", late=LateFusionStacker(boosting)).fit(X, y)
    LateFusionStacker({"all": linear, "b": boosting}, cv=2).fit({"all": np.nan_to_num(X["a"]), "b": X["b"]}, y)
    table = pd.DataFrame({"number": X["a"][:, 0], "kind": pd.Categorical(np.where(y == y[0], "x", "y"))})
    with pytest.warns(UserWarning, match="single values are missing .*{'a': 17}"):
        LateFusionStacker(boosting, cv=2).fit({"a": table, "b": np.nan_to_num(X["b"])}, y)


@SINGLE_NAN
def test_what_fills_nan_is_learnt_in_the_fold(records):
    X, y = classes(40, 2)
    X["a"][3, 1] = np.nan
    LateFusionStacker({"a": Sees(), "b": Sees()}, cv=KFold(2)).fit(X, y)
    (first,) = [v for v in records.fits if v.shape == (20, 4) and v[3, 0] == X["a"][3, 0]]
    assert first[3, 1] == pytest.approx(np.nanmean(X["a"][:20, 1]))


@SINGLE_NAN
def test_boosting_and_a_linear_model_share_a_modality_with_gaps():
    X, y = classes()
    X["a"][::5, 0] = np.nan
    estimators = [("boosting", HistGradientBoostingClassifier(max_iter=5)), ("lr", LogisticRegression())]
    assert LateFusionStacker(estimators).fit(X, y).score(X, y) > 0.6


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_given_estimators_see_the_values_and_dtype_that_came(records, dtype):
    X, y = classes(30, 2)
    X["a"] = (10 * X["a"]).astype(dtype)
    counts = sparse.csr_matrix(np.random.default_rng(0).poisson(1, size=(30, 5)).astype(np.int32))
    LateFusionStacker({"a": Sees(), "b": Sees(), "rna": GaussianNBOnCSR()}, cv=2).fit({**X, "rna": counts}, y)
    (whole,) = [values for values in records.fits if values.shape == (30, 4)]
    assert whole.dtype == dtype
    np.testing.assert_array_equal(whole, X["a"])
    (csr,) = [values for values in records.fits if values.shape == (30, 5)]
    assert csr.format == "csr"
    assert csr.dtype == np.int32


class GaussianNBOnCSR(Sees):
    def predict_proba(self, X):
        assert sparse.issparse(X)
        return np.full((X.shape[0], len(self.classes_)), 1 / len(self.classes_))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


TEXTS = ["soft and warm coat", "torn and cheap coat"]


def with_text(n_samples=60):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, size=n_samples)
    frame = pd.DataFrame({"x": rng.normal(size=n_samples), "c": pd.Categorical(rng.choice(list("uv"), size=n_samples))})
    return {"text": [TEXTS[label] for label in y], "a": rng.normal(size=(n_samples, 2)), "person": frame}, y


def test_a_pipeline_of_one_s_own_reads_the_texts():
    X, y = with_text()
    reader = Pipeline([("tfidf", TfidfVectorizer()), ("lr", LogisticRegression())])
    model = LateFusionStacker({"text": reader, "a": LogisticRegression(), "person": LogisticRegressionOnFrames()}).fit(
        X, y
    )
    assert model.score(X, y) == 1
    assert model.oof_scores_["text__pipeline"] == 1
    assert set(model.estimators_["text__pipeline"][0].vocabulary_) == {"soft", "and", "warm", "coat", "torn", "cheap"}
    assert not hasattr(reader[0], "vocabulary_")


class LogisticRegressionOnFrames(LogisticRegression):
    def fit(self, X, y):
        assert isinstance(X, pd.DataFrame)
        return super().fit(X[["x"]], y)

    def predict_proba(self, X):
        return super().predict_proba(X[["x"]])


def test_one_estimator_for_all_modalities_sees_tables():
    X, y = with_text()
    model = LateFusionStacker(LogisticRegression()).fit(X, y)
    assert model.oof_scores_["text__logisticregression"] == 1
    assert model.score(X, y) == 1
    X["sequence"] = np.random.default_rng(0).normal(size=(60, 7, 2))
    model = LateFusionStacker(LogisticRegression(max_iter=1000)).fit(X, y)
    assert model.estimators_["sequence__logisticregression"][-1].n_features_in_ == 10


# Errors of estimators


@pytest.mark.parametrize(
    ("estimators", "options", "error", "message"),
    [
        ({"c": LogisticRegression()}, {}, ValueError, r"estimators names the modalities \['c'\], which X lacks"),
        ("lr", {}, TypeError, "the estimator of modality 'a' is 'lr'; due is an estimator or a list of them"),
        ([], {}, ValueError, r"estimators of modality 'a' is \[\]; due is a list of \(name, estimator\)"),
        (
            [LogisticRegression()],
            {},
            ValueError,
            r"estimators of modality 'a' is .*due is a list of \(name, estimator\)",
        ),
        ([("x", GaussianNB()), ("x", GaussianNB())], {}, ValueError, r"modality 'a' has a name twice: \['x', 'x'\]"),
        (
            {"b": [("svm", SVC())], "a": GaussianNB()},
            {"stack_method": "predict_proba"},
            ValueError,
            r"estimator 'svm' of modality 'b', SVC\(\), has none of \['predict_proba'\], which stack_method asks for",
        ),
        (GaussianNB(), {"stack_method": "decision_function"}, ValueError, r"has none of \['decision_function'\]"),
        (GaussianNB(), {"stack_method": "transform"}, ValueError, r"'stack_method' parameter .*Got 'transform'"),
        (GaussianNB(), {"cv": 1}, ValueError, r"'cv' parameter .*must be an int in the range \[2, inf\)"),
    ],
)
def test_estimators_that_make_no_sense_raise(estimators, options, error, message):
    with pytest.raises(error, match=message):
        LateFusionStacker(estimators, **options).fit(*classes(40))


def test_probabilities_exist_where_the_final_estimator_has_them():
    X, y = classes()
    assert not hasattr(LateFusionStacker(LogisticRegression(), SVC()), "predict_proba")
    assert hasattr(LateFusionStacker(LogisticRegression(), "vote"), "predict_proba")
    model = LateFusionStacker(LogisticRegression(), RidgeClassifier()).fit(X, y)
    assert model.score(X, y) > 0.7
    nothing = {name: np.full((2, values.shape[1]), np.nan) for name, values in X.items()}
    assert model.predict(nothing).tolist() == [pd.Series(y).value_counts().index[0]] * 2


# Scores


def test_scores_out_of_fold_are_those_of_the_predictions():
    X, y = classes(n_classes=2)
    codes = (y == np.unique(y)[1]).astype(int)
    estimators = [("lr", LogisticRegression()), ("svm", SVC())]
    model = LateFusionStacker(estimators).fit(X, y)
    assert model.oof_scores_.name == "accuracy"
    assert model.oof_scores_.index.tolist() == ["a__lr", "a__svm", "b__lr", "b__svm"]
    proba, margin = model.oof_predictions_["a__lr"], model.oof_predictions_["a__svm"]
    assert proba.shape == (150, 2)
    assert margin.shape == (150, 1)
    assert model.oof_scores_["a__lr"] == accuracy_score(codes, proba.argmax(axis=1))
    assert model.oof_scores_["a__svm"] == accuracy_score(codes, margin[:, 0] > 0)
    voted = LateFusionStacker(LogisticRegression(), stack_method="predict").fit(X, y)
    assert voted.oof_scores_["a__logisticregression"] == model.oof_scores_["a__lr"]
    X, target = numbers()
    model = LateFusionRegressor(Ridge()).fit(X, target)
    assert model.oof_scores_.name == "r2"
    assert model.oof_scores_["a__ridge"] == pytest.approx(r2_score(target, model.oof_predictions_["a__ridge"][:, 0]))
    assert model.score(X, target) > 0.9


# Processes


@pytest.mark.parametrize("final", [None, "weighted"])
def test_two_processes_give_the_same_to_the_bit(final):
    X, y = classes()
    X = Modalities(without(X, {"b": np.arange(0, 150, 7)}))
    estimators = [("lr", LogisticRegression()), ("forest", RandomForestClassifier(5, random_state=0))]
    one, two = (LateFusionStacker(estimators, final, n_jobs=n_jobs).fit(X, y) for n_jobs in (1, 2))
    np.testing.assert_array_equal(one.predict_proba(X), two.predict_proba(X))
    for key in one.oof_predictions_:
        np.testing.assert_array_equal(one.oof_predictions_[key], two.oof_predictions_[key])


# Defaults


def test_the_default_estimators_grow_with_the_samples():
    small = LateFusionStacker(random_state=0).fit(*classes(150, 2))
    assert list(small.estimators_) == ["a__lr", "a__et", "b__lr", "b__et"]
    assert small.estimators_["a__et"][-1].n_estimators == 50
    X, y = classes(300, 2)
    X = without(X, {"b": np.arange(150)})
    large = LateFusionStacker(random_state=0, cv=2).fit(X, y)
    assert list(large.estimators_) == ["a__lr", "a__et", "a__hgb", "a__svm", "b__lr", "b__et"]
    assert large.oof_predictions_["a__svm"].shape == (300, 1)
    assert large.score(X, y) > 0.65
    for default in (default_classifiers, default_regressors):
        classify = default is default_classifiers
        names = {}
        for n in (199, 200, 10_000, 10_001):
            named = default(np.arange(n) % 2, calibrated=False, seed=0) if classify else default(n, seed=0)
            names[n] = [name for name, _ in named][1:]
        assert names == {199: ["et"], 200: ["et", "hgb", "svm"], 10_000: ["et", "hgb", "svm"], 10_001: ["et", "hgb"]}


def test_the_default_boosting_has_fewer_rounds_where_each_has_a_tree_a_class():
    trees = []
    for n_classes in (2, 3, 10):
        boosting = dict(default_classifiers(np.arange(300) % n_classes, calibrated=False, seed=0))["hgb"]
        trees.append(boosting.max_iter)
    assert trees == [30, 10, 10]


@pytest.mark.parametrize("n_samples", [150, 300])
def test_the_default_final_estimator_adds_up_log_odds_unless_samples_are_few(n_samples):
    X, y = classes(n_samples, 2, widths=(3,))
    model = LateFusionStacker(random_state=0, cv=2).fit(X, y)
    columns = []
    for name, found in model.oof_predictions_.items():
        if name == "a__svm":
            columns.append(found)
        else:
            odds = np.diff(np.log(np.maximum(found, 1e-2)), axis=1) / 2
            columns.append(found[:, 1:] if n_samples < 200 else odds)
    expected = clone(model.final_estimator_).fit(np.hstack(columns), np.searchsorted(model.classes_, y))
    np.testing.assert_allclose(model.final_estimator_[-1].coef_, expected[-1].coef_, rtol=1e-9)


def test_the_default_svm_is_calibrated_under_an_average():
    X, y = classes(220, 2)
    model = LateFusionStacker(final_estimator="mean", cv=2, random_state=0).fit(X, y)
    assert hasattr(model.estimators_["a__svm"], "predict_proba")
    assert model.oof_predictions_["a__svm"].shape == (220, 2)


def test_what_is_given_for_some_modalities_leaves_the_default_to_the_others():
    model = LateFusionStacker({"a": GaussianNB()}, random_state=0).fit(*classes(100))
    assert list(model.estimators_) == ["a__gaussiannb", "b__lr", "b__et"]


@pytest.mark.parametrize("n_samples", [120, 220])
def test_the_default_regressors_learn(n_samples):
    X, y = numbers(n_samples)
    model = LateFusionRegressor(cv=2, random_state=0).fit(X, 1000 * y)
    names = ["ridge", "et"] if n_samples < 200 else ["ridge", "et", "hgb", "svm"]
    assert list(model.estimators_) == [f"{modality}__{name}" for modality in "ab" for name in names]
    new, truth = numbers(seed=1)
    assert model.score(new, 1000 * truth) > 0.85
    assert model.oof_scores_.filter(like="a__").min() > 0.5


@pytest.mark.parametrize("scale", [True, False])
def test_the_default_preprocessing_scales_unless_told_not_to(scale):
    X, y = classes(100, 2)
    model = LateFusionStacker(random_state=0, scale=scale).fit({**X, "a": 1000 * X["a"]}, y)
    seen = model.estimators_["a__et"][:-1].transform(1000 * X["a"])
    np.testing.assert_allclose(seen, StandardScaler().fit_transform(X["a"]) if scale else 1000 * X["a"], rtol=1e-9)


def test_a_given_estimator_is_never_fitted_itself():
    estimator = LogisticRegression()
    model = LateFusionStacker([("lr", estimator)], LogisticRegression()).fit(*classes(60))
    assert not hasattr(estimator, "coef_")
    assert model.estimators_["a__lr"] is not estimator
    assert clone(model).estimators[0][1] is not estimator
