"""What is special to the facade: it fits the part that its parameter names, and hands its own settings down."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier, RidgeCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.svm import SVC

from skfusion import (
    EarlyFusionTransformer,
    FusionClassifier,
    FusionRegressor,
    JointFusionClassifier,
    JointFusionRegressor,
    LateFusionRegressor,
    LateFusionStacker,
    Modalities,
)

QUICK = {"n_hidden": 8, "n_latent": 4, "max_epochs": 2}
TYPES = ("early", "joint", "late")


def classes(n_samples=80, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, size=n_samples)
    X = {"a": rng.normal(size=(n_samples, 3)) + y[:, None], "b": 10 * rng.normal(size=(n_samples, 2)) - 10 * y[:, None]}
    return X, np.array(["no", "yes"])[y]


def numbers(n_samples=80, seed=0):
    X, _ = classes(n_samples, seed)
    return X, X["a"][:, 0] + X["b"][:, 0] / 10


# The parts


PARTS = {
    "early": (
        make_pipeline(
            EarlyFusionTransformer(transformers="auto", fill_missing="factor"), LogisticRegression(max_iter=1000)
        ),
        make_pipeline(
            EarlyFusionTransformer(transformers="auto", fill_missing="factor"), RidgeCV(np.logspace(-2, 4, 7))
        ),
    ),
    "joint": (JointFusionClassifier(random_state=3, device="cpu"), JointFusionRegressor(random_state=3, device="cpu")),
    "late": (LateFusionStacker(random_state=3), LateFusionRegressor(random_state=3)),
}


@pytest.mark.parametrize("fusion", TYPES)
def test_the_facade_predicts_what_its_part_alone_predicts(fusion):
    (X, y), (new, _) = classes(), classes(20, seed=1)
    facade = FusionClassifier(fusion, random_state=3, device="cpu").fit(X, y)
    alone = clone(PARTS[fusion][0]).fit(Modalities(X), y)
    np.testing.assert_array_equal(facade.predict_proba(new), alone.predict_proba(Modalities(new)))
    np.testing.assert_array_equal(facade.predict(new), alone.predict(Modalities(new)))
    assert type(facade.estimator_) is type(alone)
    assert facade.score(X, y) > 0.8


@pytest.mark.parametrize("fusion", TYPES)
def test_the_facade_of_numbers_predicts_what_its_part_alone_predicts(fusion):
    (X, y), (new, _) = numbers(), numbers(20, seed=1)
    facade = FusionRegressor(fusion, random_state=3, device="cpu").fit(X, y)
    alone = clone(PARTS[fusion][1]).fit(Modalities(X), y)
    np.testing.assert_array_equal(facade.predict(new), alone.predict(Modalities(new)))
    assert facade.score(X, y) > 0.6


def test_the_default_is_joint_fusion_and_an_unknown_type_raises_those_that_exist():
    assert FusionClassifier().fusion == FusionRegressor().fusion == "joint"
    with pytest.raises(ValueError, match=r"'fusion' parameter .*must be a str among .*'early'.*Got 'middle'"):
        FusionClassifier("middle").fit(*classes())


@pytest.mark.parametrize("make", [FusionClassifier, FusionRegressor])
def test_the_default_early_part_predicts_from_what_the_modalities_present_tell_of_the_others(make):
    X, y = (numbers if make is FusionRegressor else classes)()
    X["twin"] = 5 * X["b"] + 1
    filled, mean = (make("early").set_params(early__fusion__fill_missing=fill).fit(X, y) for fill in ("factor", "mean"))
    default, new = make("early").fit(X, y), {name: X[name] for name in "ab"}
    np.testing.assert_array_equal(default.predict(new), filled.predict(new))
    np.testing.assert_array_equal(default.predict(X), mean.predict(X))
    raw = [model.predict(new) if make is FusionRegressor else model.predict_proba(new) for model in (filled, mean)]
    whole = filled.predict(X) if make is FusionRegressor else filled.predict_proba(X)
    # The twin says what b says: without it, nothing is lost.
    assert np.abs(raw[0] - whole).mean() < 0.1 * np.abs(raw[1] - whole).mean()


def test_texts_that_are_missing_stay_empty_beside_tables_that_are_filled():
    X, y = classes()
    X["note"] = [None if i % 3 == 0 else "good" if label == "yes" else "bad" for i, label in enumerate(y)]
    X["b"][::4] = np.nan
    model = FusionClassifier("early").fit(X, y)
    assert model.estimator_[0].filler_ is not None
    assert model.score(X, y) > 0.9
    assert model.predict({"note": ["good", "bad"]}).tolist() == ["yes", "no"]


def test_a_part_that_is_given_is_fitted_as_it_is_and_stays_unfitted_itself():
    X, y = classes()
    parts = {
        "early": Pipeline([("join", EarlyFusionTransformer("concat")), ("svm", SVC())]),
        "joint": JointFusionClassifier(fusion="gated", device="cpu", random_state=0, **QUICK),
        "late": LateFusionStacker(LogisticRegression(), "vote", cv=2),
    }
    for fusion, part in parts.items():
        facade = FusionClassifier(fusion, **parts).fit(X, y)
        np.testing.assert_array_equal(facade.predict(X), clone(part).fit(X, y).predict(X))
        assert facade.estimator_ is not part
        assert not [name for name in vars(part) if name.endswith("_")]


class Sees(ClassifierMixin, BaseEstimator):
    """Keeps what it was given."""

    def fit(self, X, y, sample_weight=None, groups=None):
        self.classes_, self.seen_ = np.unique(y), (X, sample_weight, groups)
        return self

    def predict(self, X):
        self.asked_ = X
        return np.repeat(self.classes_[:1], len(X))


def test_any_classifier_takes_one_plain_table():
    X, y = classes()
    facade = FusionClassifier("early", early=RandomForestClassifier(5, random_state=0)).fit(X["a"], y)
    alone = RandomForestClassifier(5, random_state=0).fit(X["a"], y)
    np.testing.assert_array_equal(facade.predict_proba(X["a"]), alone.predict_proba(X["a"]))
    assert facade.n_features_in_ == 3


def test_several_modalities_reach_a_part_as_modalities_that_were_checked_and_split():
    X, y = classes()
    columns = {"b": [3, 4], "a": [0, 1, 2]}
    part = FusionClassifier("early", early=Sees(), modalities=columns).fit(np.hstack([X["a"], X["b"]]), y).estimator_
    seen, weight, groups = part.seen_
    assert isinstance(seen, Modalities)
    assert seen.names == ["b", "a"]
    np.testing.assert_array_equal(seen["b"], X["b"])
    assert weight is None
    assert groups is None


def test_weights_and_groups_reach_a_part_that_knows_them():
    X, y = classes()
    weight, groups = np.arange(80.0), np.arange(80) % 7
    _, seen_weight, seen_groups = FusionClassifier("early", early=Sees()).fit(X, y, weight, groups).estimator_.seen_
    np.testing.assert_array_equal(seen_weight, weight[1:])
    np.testing.assert_array_equal(seen_groups, groups[1:])
    early = FusionClassifier("early").fit(X, y, sample_weight=weight)
    alone = clone(PARTS["early"][0]).fit(
        {name: values[1:] for name, values in X.items()}, y[1:], logisticregression__sample_weight=weight[1:]
    )
    np.testing.assert_allclose(early.predict_proba(X), alone.predict_proba(X))


def test_probabilities_exist_where_the_part_has_them():
    assert hasattr(FusionClassifier("early"), "predict_proba")
    assert hasattr(FusionClassifier("late"), "predict_proba")
    assert not hasattr(FusionClassifier("early", early=RidgeClassifier()), "predict_proba")
    assert not hasattr(FusionClassifier("late", late=LateFusionStacker(None, SVC())), "predict_proba")


def test_a_sample_with_nothing_present_is_predicted_from_the_prior_whatever_the_part_says():
    X, y = classes()
    nothing = {name: np.full((3, values.shape[1]), np.nan) for name, values in X.items()}
    usual = max(set(y), key=list(y).count)
    found = FusionClassifier("early", early=Sees()).fit(X, y).predict(nothing)
    assert found.tolist() == [usual] * 3
    X, target = numbers()
    np.testing.assert_allclose(FusionRegressor("late").fit(X, target).predict(nothing), target.mean())


# What is handed down


def test_settings_of_the_facade_fill_those_of_a_part_that_are_at_their_default():
    X, y = classes()
    facade = FusionClassifier("joint", device="cpu", random_state=7).set_params(joint__max_epochs=1).fit(X, y)
    assert (facade.estimator_.device, facade.estimator_.random_state) == ("cpu", 7)
    late = FusionClassifier("late", random_state=7, n_jobs=1, late=LateFusionStacker(LogisticRegression(), cv=2))
    assert (late.fit(X, y).estimator_.random_state, late.estimator_.n_jobs) == (7, 1)
    early = FusionClassifier("early", device="cpu", random_state=7).fit(X, y).estimator_
    assert (early[0].device, early[0].random_state) == ("cpu", 7)
    assert early[1].random_state is None


def test_settings_of_a_part_win_over_those_of_the_facade():
    X, y = classes()
    part = JointFusionClassifier(random_state=1, device="cpu", **QUICK)
    facade = FusionClassifier(joint=part, random_state=7, device="auto").fit(X, y)
    assert (facade.estimator_.random_state, facade.estimator_.device) == (1, "cpu")
    late = FusionClassifier("late", n_jobs=2, late=LateFusionStacker(LogisticRegression(), n_jobs=1, cv=2)).fit(X, y)
    assert late.estimator_.n_jobs == 1
    assert part.random_state == 1


def test_defaults_of_the_facade_are_not_handed_down():
    X, y = classes()
    part = JointFusionClassifier(random_state=1, device="cpu", **QUICK)
    assert FusionClassifier(joint=part).fit(X, y).estimator_.device == "cpu"


# Parameters of parts


@pytest.mark.parametrize("make", [FusionClassifier, FusionRegressor])
def test_parameters_of_default_parts_are_listed_and_setting_one_stores_the_part(make):
    facade = make()
    params = facade.get_params()
    assert params["joint"] is params["early"] is params["late"] is None
    for path in (
        "joint__lr",
        "joint__n_latent",
        "late__cv",
        "late__final_estimator",
        "early__fusion__method",
        "early__model",
    ):
        assert path in params
    assert not any("__" in path for path in facade.get_params(deep=False))
    facade.set_params(joint__lr=0.5, early__fusion__method="mean")
    assert facade.joint.lr == 0.5
    assert facade.early[0].method == "mean"
    assert facade.late is None
    assert clone(facade).joint.lr == 0.5
    assert make().joint is None


def test_setting_a_part_to_none_and_its_parameter_at_once_starts_from_the_default():
    facade = FusionClassifier(joint=JointFusionClassifier(n_latent=3))
    facade.set_params(joint=None, joint__lr=0.5)
    assert (facade.joint.lr, facade.joint.n_latent) == (0.5, 64)
    assert facade.set_params(joint=None).joint is None


def test_setting_a_parameter_of_a_given_part_keeps_the_rest():
    facade = FusionRegressor(late=LateFusionRegressor({"a": Ridge(alpha=3)}, cv=2))
    facade.set_params(late__cv=4, late__a__alpha=9)
    assert facade.late.cv == 4
    assert facade.late.estimators["a"].alpha == 9


@pytest.mark.parametrize("path", ["joint__nonsense", "early__nonsense__x", "nonsense"])
def test_an_unknown_parameter_raises(path):
    with pytest.raises(ValueError, match="Invalid parameter 'nonsense'"):
        FusionClassifier().set_params(**{path: 1})


# One class


def test_one_class_fits_no_part_and_is_predicted_always():
    X, _ = classes()
    facade = FusionClassifier("early", early=Sees()).fit(X, np.repeat("only", 80))
    assert facade.estimator_ is None
    assert facade.predict(X).tolist() == ["only"] * 80
    default = FusionClassifier().fit(X, np.repeat("only", 80))
    np.testing.assert_array_equal(default.predict_proba(X), np.ones((80, 1)))
