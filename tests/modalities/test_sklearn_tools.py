"""A Modalities and an AnnData are X in scikit-learn's tools, as an array is."""

import anndata
import numpy as np
import pandas as pd
import pytest
from _tiny import TinyClassifier, says
from scipy import sparse
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    GroupKFold,
    RandomizedSearchCV,
    TimeSeriesSplit,
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    permutation_test_score,
    train_test_split,
    validation_curve,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from threadpoolctl import threadpool_limits

from skfusion import Modalities

N = 60
CELLS = [f"cell{i}" for i in range(N)]
WHERE = {"rna": "X", "protein": "obsm/protein"}


def draw():
    """Two modalities of which each tells half of y, and three classes; every sixth sample lacks its protein."""
    rng = np.random.default_rng(0)
    y = np.arange(N) % 3
    rna = rng.poisson(1 + 4.0 * (y == 1)[:, None], size=(N, 3)).astype(np.float64)
    protein = rng.normal(4.0 * (y == 2)[:, None], size=(N, 2))
    protein[::6] = np.nan
    return sparse.csr_matrix(rna), protein, y


@pytest.fixture(autouse=True)
def one_thread():
    """Sixty samples are too few to share: threads that wait for each other cost more than the fits."""
    with threadpool_limits(1):
        yield


@pytest.fixture
def y():
    return draw()[2]


@pytest.fixture(params=["modalities", "modalities with ids", "anndata"])
def X(request):
    rna, protein, _ = draw()
    if request.param == "anndata":
        obs, var = pd.DataFrame(index=CELLS), pd.DataFrame(index=list("xyz"))
        return anndata.AnnData(X=rna, obs=obs, var=var, obsm={"protein": protein})
    ids = CELLS if "ids" in request.param else None
    return Modalities({"rna": rna, "protein": protein}, sample_ids=ids)


@pytest.fixture
def classifier(X):
    return TinyClassifier(modalities=WHERE if isinstance(X, anndata.AnnData) else None)


def by_hand(y):
    """The same data as one array, and what LogisticRegression predicts out of fold from it."""
    rna, protein, _ = draw()
    there = ~np.isnan(protein).all(axis=1)
    table = np.hstack([rna.toarray(), np.where(there[:, None], protein, 0), np.ones((N, 1)), there[:, None]])
    return table, cross_val_predict(LogisticRegression(), table, y, cv=3, method="predict_proba")


def test_train_test_split(X, y):
    train, test, _, y_test = train_test_split(X, y, random_state=0, stratify=y)
    rows_train, rows_test = train_test_split(np.arange(N), random_state=0, stratify=y)
    assert type(train) is type(X)
    assert (train.shape[0], test.shape[0]) == (45, 15)
    np.testing.assert_array_equal(y_test, y[rows_test])
    read = Modalities.from_anndata if isinstance(X, anndata.AnnData) else lambda X, where: X
    whole = read(X, WHERE)
    for part, rows in ((train, rows_train), (test, rows_test)):
        np.testing.assert_array_equal(read(part, WHERE)["protein"], whole["protein"][rows])
        np.testing.assert_array_equal(read(part, WHERE)["rna"].toarray(), whole["rna"].toarray()[rows])
        np.testing.assert_array_equal(read(part, WHERE).present, whole.present[rows])


def test_cross_val_predict_gives_what_an_array_gives(X, y, classifier):
    _, due = by_hand(y)
    np.testing.assert_allclose(cross_val_predict(classifier, X, y, cv=3, method="predict_proba"), due)


def test_cross_val_score(X, y, classifier):
    table, _ = by_hand(y)
    due = cross_val_score(LogisticRegression(), table, y, cv=3)
    assert due.mean() > 0.7
    np.testing.assert_array_equal(cross_val_score(classifier, X, y, cv=3), due)


def test_cross_validate_with_several_metrics_and_estimators(X, y, classifier):
    scores = cross_validate(
        classifier, X, y, cv=3, scoring=["accuracy", "roc_auc_ovr"], return_train_score=True, return_estimator=True
    )
    assert scores["test_accuracy"].min() > 0.6
    assert scores["train_roc_auc_ovr"].shape == (3,)
    assert [e.modality_names_in_.tolist() for e in scores["estimator"]] == [["rna", "protein"]] * 3


def test_splitters_that_use_order_or_groups(X, y, classifier):
    table, _ = by_hand(y)
    for cv, groups in ((TimeSeriesSplit(3), None), (GroupKFold(3), np.arange(N) // 6)):
        due = cross_val_score(LogisticRegression(), table, y, cv=cv, groups=groups)
        np.testing.assert_array_equal(cross_val_score(classifier, X, y, cv=cv, groups=groups), due)


def test_grid_search_in_worker_processes(X, y, classifier):
    search = GridSearchCV(classifier, {"C": [1e-6, 1.0]}, cv=3, n_jobs=2).fit(X, y)
    table, _ = by_hand(y)
    due = GridSearchCV(LogisticRegression(), {"C": [1e-6, 1.0]}, cv=3).fit(table, y)
    assert search.best_params_ == due.best_params_ == {"C": 1.0}
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], due.cv_results_["mean_test_score"])
    np.testing.assert_array_equal(search.predict(X), due.predict(table))
    assert search.n_features_in_ == 2


def test_grid_search_over_the_modalities(X, y):
    alone = {"rna": "X"} if isinstance(X, anndata.AnnData) else ["rna"]
    both = WHERE if isinstance(X, anndata.AnnData) else ["rna", "protein"]
    search = GridSearchCV(TinyClassifier(), {"modalities": [alone, both]}, cv=3).fit(X, y)
    assert search.best_params_ == {"modalities": both}


def test_randomized_search(X, y, classifier):
    search = RandomizedSearchCV(classifier, {"C": [0.1, 1.0]}, n_iter=1, cv=3, random_state=0).fit(X, y)
    assert search.score(X, y) > 0.7


def test_pipeline_alone_and_in_a_grid_search(X, y, classifier):
    pipeline = make_pipeline("passthrough", classifier)
    assert pipeline.fit(X, y).score(X, y) > 0.7
    search = GridSearchCV(pipeline, {"tinyclassifier__C": [1e-6, 1.0]}, cv=3).fit(X, y)
    assert search.best_params_ == {"tinyclassifier__C": 1.0}


@pytest.mark.parametrize("ensemble", [True, False])
def test_calibrated_classifier(X, y, classifier, ensemble):
    calibrated = CalibratedClassifierCV(classifier, cv=3, ensemble=ensemble).fit(X, y)
    assert calibrated.predict_proba(X).shape == (N, 3)
    assert calibrated.score(X, y) > 0.7


def test_thresholds(X, y, classifier):
    target = (y == 2).astype(int)
    tuned = TunedThresholdClassifierCV(classifier, cv=3).fit(X, target)
    assert tuned.score(X, target) > 0.8
    fixed = FixedThresholdClassifier(classifier, threshold=0.9).fit(X, target)
    assert fixed.predict(X).sum() < target.sum()


def test_one_vs_rest(X, y, classifier):
    several = OneVsRestClassifier(classifier).fit(X, y)
    assert several.score(X, y) > 0.7
    assert several.predict_proba(X).shape == (N, 3)


def test_learning_and_validation_curve(X, y, classifier):
    sizes, train, test = learning_curve(classifier, X, y, cv=3, train_sizes=[0.5, 1.0], shuffle=True, random_state=0)
    assert sizes.tolist() == [20, 40]
    assert test.shape == train.shape == (2, 3)
    train, test = validation_curve(classifier, X, y, cv=3, param_name="C", param_range=[1e-6, 1.0])
    assert (test[1] > test[0]).all()


def test_permutation_test_score(X, y, classifier):
    score, permuted, pvalue = permutation_test_score(classifier, X, y, cv=3, n_permutations=9, random_state=0)
    assert score > permuted.max()
    assert pvalue == 0.1


def test_stacking_and_voting(X, y, classifier):
    members = [("strong", classifier), ("weak", clone(classifier).set_params(C=0.1))]
    stacked = StackingClassifier(members, cv=3).fit(X, y)
    assert stacked.score(X, y) > 0.7
    assert VotingClassifier(members, voting="soft").fit(X, y).score(X, y) > 0.7


def test_a_series_as_target_keeps_its_order(X, y, classifier):
    target = pd.Series(y, index=CELLS)
    _, due = by_hand(y)
    np.testing.assert_allclose(cross_val_predict(classifier, X, target, cv=3, method="predict_proba"), due)


def test_tools_that_make_an_array_of_x_say_what_to_do(y):
    rna, protein, _ = draw()
    X = Modalities({"rna": rna, "protein": protein})
    for tool in (
        BaggingClassifier(TinyClassifier(), n_estimators=2),
        StackingClassifier([("tiny", TinyClassifier())], cv=3, passthrough=True),
        make_pipeline(LogisticRegression()),
    ):
        with says(TypeError, "a Modalities is no array", "EarlyFusionTransformer()", "BaggingClassifier"):
            tool.fit(X, y)


def test_a_plain_dict_goes_into_fit_and_predict_as_it_is(y):
    rna, protein, _ = draw()
    data = {"rna": rna, "protein": protein}
    due = TinyClassifier().fit(Modalities(data), y).predict_proba(Modalities(data))
    np.testing.assert_array_equal(TinyClassifier().fit(data, y).predict_proba(data), due)


def test_a_frame_with_two_levels_and_a_table_with_columns_give_the_same(y):
    rna, protein, _ = draw()
    wide = pd.concat({"rna": pd.DataFrame(rna.toarray()), "protein": pd.DataFrame(protein)}, axis=1)
    due = cross_val_score(TinyClassifier(), Modalities({"rna": rna, "protein": protein}), y, cv=3)
    np.testing.assert_array_equal(cross_val_score(TinyClassifier(), wide, y, cv=3), due)
    columns = TinyClassifier(modalities={"rna": slice(3), "protein": [3, 4]})
    np.testing.assert_array_equal(cross_val_score(columns, wide.to_numpy(), y, cv=3), due)
    wide.columns = list("abcde")
    named = TinyClassifier(modalities={"rna": slice("a", "c"), "protein": ["d", "e"]})
    np.testing.assert_array_equal(cross_val_score(named, wide, y, cv=3), due)
