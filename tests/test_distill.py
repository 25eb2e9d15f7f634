"""FusionDistiller: a student that sees fewer modalities learns from a teacher that sees all."""

import copy

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from skfusion import (
    EarlyFusionTransformer,
    FusionDistiller,
    JointFusionClassifier,
    JointFusionRegressor,
    Modalities,
    MultimodalPretrainer,
)

SMALL = {"n_hidden": 16, "n_latent": 8, "dropout_rate": 0.1, "lr": 0.01, "max_epochs": 3, "device": "cpu"}


def student(**params):
    return JointFusionClassifier(**{**SMALL, "random_state": 0, **params})


def linear():
    return make_pipeline(EarlyFusionTransformer(), LogisticRegression())


def distiller(teacher=None, learner=None, **params):
    params = {"student_modalities": ["cheap"], **params}
    return FusionDistiller(
        linear() if teacher is None else teacher, student() if learner is None else learner, **params
    )


def privileged(n_samples, seed):
    """A dear modality that tells the class, and a cheap one that tells it in many noisy columns."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, size=n_samples)
    centres = np.random.default_rng(99).normal(size=(3, 30))
    cheap = 0.45 * centres[y] + rng.normal(size=(n_samples, 30))
    dear = 4 * np.eye(3)[y] + rng.normal(size=(n_samples, 3))
    return {"cheap": cheap, "dear": dear}, np.array(["x", "y", "z"])[y]


def few_labels(n_samples=400, n_labels=30, seed=0):
    X, y = privileged(n_samples, seed)
    return X, np.where(np.arange(n_samples) < n_labels, y, "?"), y


class Counting(LogisticRegression):
    """Counts what it is fitted on."""

    seen: list = []

    def fit(self, X, y, sample_weight=None):
        Counting.seen.append(len(y))
        return super().fit(X, y, sample_weight)


def test_a_student_of_a_teacher_beats_one_of_few_labels_alone():
    X, few, _ = few_labels()
    new, truth = privileged(600, seed=1)
    learner = student(max_epochs=15)
    known = few != "?"
    alone = clone(learner).fit({"cheap": X["cheap"][known]}, few[known]).score({"cheap": new["cheap"]}, truth)
    taught = distiller(learner=learner, unlabeled="?").fit(X, few).score({"cheap": new["cheap"]}, truth)
    assert taught > alone + 0.1


@pytest.mark.parametrize("method", ["intermediate", "both"])
def test_embeddings_of_the_teacher_are_learnt(method):
    X, few, _ = few_labels(120)
    model = distiller(unlabeled="?", method=method, learner=student(max_epochs=20)).fit(X, few)
    losses = model.history_[:, "train_loss_of_embedding"]
    assert losses[-1] < 0.8 * losses[0]
    assert ("train_loss_of_response" in model.history_[0]) == (method == "both")


def test_the_loss_is_shared_between_labels_and_teacher():
    X, few, _ = few_labels(100)
    row = distiller(unlabeled="?", alpha=0.3, learner=student(max_epochs=1)).fit(X, few).history_[0]
    assert row["train_loss_of_distillation"] == pytest.approx(0.3 * row["train_loss_of_response"], rel=1e-5)
    teacher_alone = distiller(unlabeled="?", alpha=1.0, learner=student(max_epochs=1)).fit(X, few).history_[0]
    assert teacher_alone["train_loss"] == pytest.approx(teacher_alone["train_loss_of_response"], rel=1e-5)


def test_without_a_say_of_the_teacher_it_is_the_student_alone():
    X, y = privileged(90, 0)
    found = distiller(alpha=0.0).fit(X, y)
    alone = student().fit({"cheap": X["cheap"]}, y)
    np.testing.assert_array_equal(found.predict_proba(X), alone.predict_proba({"cheap": X["cheap"]}))


def test_the_student_needs_its_modalities_alone_and_never_looks_at_others():
    X, y = privileged(90, 0)
    by_parameter, by_student = (
        distiller(**options).fit(X, y)
        for options in ({}, {"learner": student(modalities=["cheap"]), "student_modalities": None})
    )
    expected = by_parameter.predict_proba({"cheap": X["cheap"]})
    np.testing.assert_array_equal(by_parameter.predict_proba({**X, "dear": X["dear"] + 9}), expected)
    np.testing.assert_array_equal(by_student.predict_proba(X), expected)
    assert by_parameter.student_.modality_names_in_.tolist() == ["cheap"]
    assert by_parameter.transform(X).shape == (90, 8)
    gone = by_parameter.predict_proba({"dear": X["dear"]})
    np.testing.assert_allclose(gone, np.tile([np.mean(y == c) for c in "xyz"], (90, 1)))


def test_the_prior_and_the_classes_are_those_of_the_labels():
    X, few, y = few_labels(90, 20)
    model = distiller(unlabeled="?").fit(X, few)
    assert model.classes_.tolist() == model.student_.classes_.tolist() == ["x", "y", "z"]
    np.testing.assert_allclose(model.predict_proba({"dear": X["dear"][:1]})[0], [np.mean(y[:20] == c) for c in "xyz"])


def test_samples_without_a_label_teach_the_student_and_not_the_teacher():
    X, few, _ = few_labels(100, 20)
    Counting.seen.clear()
    model = distiller(make_pipeline(EarlyFusionTransformer(), Counting()), unlabeled="?").fit(X, few)
    assert Counting.seen == [20]
    other = {**X, "cheap": np.where(np.arange(100)[:, None] < 20, X["cheap"], X["cheap"] + 1)}
    changed = distiller(unlabeled="?").fit(other, few)
    assert not np.allclose(changed.predict_proba(X), model.predict_proba(X))


def test_folds_answer_by_teachers_that_have_not_seen_the_sample():
    X, few, _ = few_labels(100, 30)
    Counting.seen.clear()
    teacher = make_pipeline(EarlyFusionTransformer(), Counting())
    found = distiller(teacher, unlabeled="?", cv=3).fit(X, few)
    assert Counting.seen == [30, 20, 20, 20]
    plain = distiller(teacher, unlabeled="?").fit(X, few)
    assert not np.allclose(found.predict_proba(X), plain.predict_proba(X))


def test_a_frozen_teacher_was_fitted():
    X, y = privileged(30, 0)
    for method in ("response", "intermediate"):
        with pytest.raises(NotFittedError):
            distiller(FrozenEstimator(linear()), method=method).fit(X, y)


def test_a_student_goes_on_from_labels_alone():
    X, y = privileged(90, 0)
    model = distiller(alpha=1.0, learner=student(max_epochs=1)).fit(X, y).student_
    model.set_params(warm_start=True, max_epochs=20).fit({"cheap": X["cheap"]}, y)
    losses = model.history_[:, "train_loss"]
    assert losses[-1] < 0.8 * losses[1]


def test_a_frozen_teacher_keeps_its_fit_and_no_teacher_is_changed():
    X, y = privileged(90, 0)
    Counting.seen.clear()
    fitted = make_pipeline(EarlyFusionTransformer(), Counting()).fit(X, y)
    before = copy.deepcopy(fitted[-1].coef_)
    model = distiller(FrozenEstimator(fitted), cv=3, method="both").fit(X, y)
    assert Counting.seen == [90]
    np.testing.assert_array_equal(fitted[-1].coef_, before)
    assert model.teacher_.estimator is fitted
    plain = linear()
    distiller(plain).fit(X, y)
    assert not hasattr(plain[-1], "coef_")


def test_a_teacher_with_more_classes_in_another_order_is_aligned():
    class Reversed(LogisticRegression):
        """Names its classes from the last to the first."""

        @property
        def classes_(self):
            return self._classes[::-1]

        @classes_.setter
        def classes_(self, classes):
            self._classes = classes

        def predict_proba(self, X):
            logits = X @ self.coef_.T + self.intercept_
            proba = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            return proba[:, ::-1]

    X, y = privileged(150, 0)
    few = y != "z"
    some = {name: values[few] for name, values in X.items()}
    teachers = [make_pipeline(EarlyFusionTransformer(), cls(C=1)).fit(X, y) for cls in (LogisticRegression, Reversed)]
    left, right = (distiller(FrozenEstimator(t)).fit(some, y[few]).predict_proba(some) for t in teachers)
    assert left.shape[1] == 2
    np.testing.assert_allclose(left, right, atol=1e-4)
    fewer = make_pipeline(EarlyFusionTransformer(), LogisticRegression()).fit(some, y[few])
    with pytest.raises(ValueError, match=r"y holds the classes \['z'\], which the teacher does not know"):
        distiller(FrozenEstimator(fewer)).fit(X, y)


def test_a_pretrainer_teaches_its_embedding():
    X, few, _ = few_labels(60)
    teacher = MultimodalPretrainer(
        ["reconstruction"], max_epochs=1, n_latent=8, n_heads=2, device="cpu", random_state=0
    )
    model = distiller(FrozenEstimator(teacher.fit(X)), method="intermediate", unlabeled="?").fit(X, few)
    assert np.isfinite(model.history_[-1]["train_loss_of_embedding"])


def test_samples_without_the_students_modality_teach_the_teacher_alone():
    X, y = privileged(90, 0)
    X["cheap"][::3] = np.nan
    Counting.seen.clear()
    model = distiller(make_pipeline(EarlyFusionTransformer(), Counting())).fit(X, y)
    assert Counting.seen == [90]
    assert np.isfinite(model.predict_proba(X)).all()


def test_early_stopping_watches_the_whole_loss():
    X, few, _ = few_labels(200, 30)
    learner = student(early_stopping=True, max_epochs=3)
    row = distiller(learner=learner, unlabeled="?", alpha=1.0).fit(X, few).history_[-1]
    assert row["valid_loss"] == pytest.approx(row["valid_loss_of_response"], rel=1e-5)


def test_a_grid_over_the_temperature_runs_in_two_processes():
    X, y = privileged(60, 0)
    grid = GridSearchCV(
        distiller(), {"temperature": [1.0, 4.0], "student__lr": [0.01]}, cv=2, n_jobs=2, error_score="raise"
    )
    assert grid.fit(Modalities(X), y).best_estimator_.predict(X).shape == (60,)


def test_a_frozen_teacher_that_knows_less_than_the_student_shall_see_raises():
    X, y = privileged(30, 0)
    teacher = FrozenEstimator(student().fit({"dear": X["dear"]}, y))
    with pytest.raises(ValueError, match=r"\['cheap'\], which the teacher never saw"):
        distiller(teacher).fit(X, y)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"teacher": LinearSVC()}, ValueError, "the teacher LinearSVC.* has no predict_proba"),
        ({"teacher": LogisticRegression(), "method": "both"}, ValueError, "LogisticRegression.* has no transform"),
        (
            {"learner": LogisticRegression()},
            TypeError,
            "student is LogisticRegression.*; due is a JointFusionClassifier",
        ),
        ({"learner": JointFusionRegressor()}, TypeError, "due is a JointFusionClassifier"),
        ({"student_modalities": ["blood"]}, ValueError, r"student shall see the modalities \['blood'\]; due are some"),
        (
            {"teacher": JointFusionClassifier(modalities=["dear"], **SMALL)},
            ValueError,
            r"asks for the modalities \['cheap'\], which the teacher never saw; it knows \['dear'\]",
        ),
        ({"unlabeled": "?"}, ValueError, "y is '\\?', that is unlabeled, for every sample"),
        ({"alpha": 2.0}, ValueError, "alpha"),
        ({"unlabeled": np.nan}, ValueError, "unlabeled is nan, which y may not hold; mark samples"),
    ],
)
def test_what_cannot_be_taught_raises(options, error, message):
    X, y = privileged(30, 0)
    y = np.full(30, "?") if options.get("unlabeled") == "?" else y
    with pytest.raises(error, match=message):
        distiller(**options).fit(X, y)
