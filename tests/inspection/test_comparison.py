import warnings

import anndata
import numpy as np
import pandas as pd
import pytest
from _recording import Failing, Recording
from scipy import stats
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    RepeatedStratifiedKFold,
    StratifiedKFold,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline

from skfusion import (
    EarlyFusionTransformer,
    FusionClassifier,
    FusionRegressor,
    JointFusionClassifier,
    LateFusionStacker,
    Modalities,
)
from skfusion.inspection import compare_fusions, corrected_resampled_interval

N = 90


def data(n=N, seed=0):
    """Three modalities: two that say something of y, and noise; the first column of each numbers the rows."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    number = np.arange(n)[:, None]
    return {
        "good": np.hstack([number, rng.normal(size=(n, 2)) + 1.5 * y[:, None]]),
        "fair": np.hstack([number, rng.normal(size=(n, 2)) + 0.8 * y[:, None]]),
        "noise": np.hstack([number, rng.normal(size=(n, 2))]),
    }, y


def early(**params):
    return {"early": FusionClassifier("early", **params)}


def tiny():
    joint = JointFusionClassifier(max_epochs=3, n_hidden=8, n_latent=4)
    return {
        "early": FusionClassifier("early"),
        "joint": FusionClassifier("joint", joint=joint, random_state=0),
        "late": FusionClassifier("late", late=LateFusionStacker(LogisticRegression(), cv=2)),
    }


# the interval


def test_interval_is_the_formula():
    d = np.array([0.03, -0.01, 0.02, 0.05, 0.01])
    error = np.sqrt((1 / 5 + 20 / 80) * d.var(ddof=1))
    reach = stats.t.ppf(0.975, 4) * error
    assert corrected_resampled_interval(d, 80, 20) == pytest.approx((d.mean() - reach, d.mean() + reach), abs=1e-15)


def test_interval_without_overlap_is_students():
    d = np.random.default_rng(0).normal(size=12)
    due = stats.ttest_1samp(d, 0).confidence_interval(0.9)
    assert corrected_resampled_interval(d, 80, 0, confidence=0.9) == pytest.approx(tuple(due), abs=1e-12)


@pytest.mark.parametrize("differences", [[0.1], [], [0.1, np.nan, 0.2]])
def test_interval_needs_two_folds_and_numbers(differences):
    assert np.isnan(corrected_resampled_interval(differences, 8, 2)).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1.0]], 8, 2), r"differences has shape \(1, 1\)"),
        (([1.0, 2.0], 0, 2), "n_train is 0"),
        (([1.0, 2.0], 8, 2, 95), "confidence is 95"),
    ],
)
def test_interval_says_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        corrected_resampled_interval(*arguments)


# what comes out


def test_table_says_which_modality_is_of_use():
    X, y = data()
    result = compare_fusions(X, y, estimators=early(), random_state=0)
    table, scores = result.table, result.scores
    assert list(table.index) == list(scores.columns) == ["good", "fair", "noise", "early"]
    assert list(table.columns) == [
        *("kind", "mean", "sd", "fit_seconds", "predict_seconds", "difference", "ci_low", "ci_high")
    ]
    assert table["kind"].tolist() == ["single", "single", "single", "fusion"]
    assert result.best_single == "good"
    assert (result.n_splits, result.scoring, result.confidence) == (5, "accuracy", 0.95)
    assert table.loc["noise", "mean"] < 0.7 < table.loc["good", "mean"]
    assert table.loc["noise", "ci_high"] < 0, "noise is worse than the best single modality beyond doubt"
    np.testing.assert_allclose(table["mean"], scores.mean())
    np.testing.assert_allclose(table["sd"], scores.std(ddof=1))
    np.testing.assert_allclose(table["difference"], table["mean"] - table.loc["good", "mean"], atol=1e-12)
    assert table.loc["good", ["difference", "ci_low", "ci_high"]].tolist() == [0, 0, 0]
    low, high = corrected_resampled_interval(scores["early"] - scores["good"], 72, 18)
    assert table.loc["early", ["ci_low", "ci_high"]].tolist() == [low, high]
    assert (table[["fit_seconds", "predict_seconds"]] > 0).all().all()


def test_scores_are_those_of_cross_val_score():
    X, y = data()
    result = compare_fusions(X, y, estimators=early(), cv=4, scoring="roc_auc", random_state=7)
    folds = StratifiedKFold(4, shuffle=True, random_state=7)
    X = Modalities(X)
    for name, part in {"early": X, "fair": X.select(["fair"])}.items():
        due = cross_val_score(FusionClassifier("early"), part, y, cv=folds, scoring="roc_auc")
        np.testing.assert_array_equal(result.scores[name], due)


def test_defaults_are_early_joint_and_late():
    X, y = data(60)
    table = compare_fusions(X, y, cv=2, modalities=["good", "noise"], random_state=0).table
    assert list(table.index) == ["good", "noise", "early", "joint", "late"]
    assert table["mean"].between(0.4, 1).all()


def test_regression():
    X, _ = data()
    y = X["good"][:, 1] + X["fair"][:, 1]
    estimators = {"early": FusionRegressor("early")}
    result = compare_fusions(X, y, estimators=estimators, random_state=0)
    assert result.scoring == "r2"
    assert result.table.loc["early", "mean"] > 0.9 > result.table.loc["good", "mean"]
    # Amounts that are whole numbers: the regressor that was given says that they are no classes.
    whole = compare_fusions(X, np.round(10 * y).astype(int), estimators=estimators, scoring="neg_mean_absolute_error")
    assert whole.table.loc["early", "mean"] > whole.table.loc["good", "mean"]
    assert (whole.scores < 0).all().all()


def test_regression_by_default():
    X, _ = data(40)
    y = X["good"][:, 1] + X["fair"][:, 1]
    table = compare_fusions(X, y, cv=2, modalities=["good", "fair"], random_state=0).table
    assert table["mean"].idxmax() == "early"
    assert table.loc["late", "mean"] > 0.5


def test_every_form_of_X_gives_the_same():
    X, y = data()
    names = [f"{name}{i}" for name in X for i in range(3)]
    frame = pd.DataFrame(np.hstack(list(X.values())), columns=names)
    columns = {name: [f"{name}{i}" for i in range(3)] for name in X}
    adata = anndata.AnnData(obs=pd.DataFrame(index=[f"c{i}" for i in range(N)]), obsm=X)
    due = compare_fusions(X, y, estimators=early(), random_state=0).scores
    for other, modalities in (
        (Modalities(X), None),
        (frame, columns),
        (frame.to_numpy(), {name: slice(3 * i, 3 * i + 3) for i, name in enumerate(X)}),
        (adata, {name: f"obsm/{name}" for name in X}),
    ):
        found = compare_fusions(other, y, estimators=early(), modalities=modalities, random_state=0).scores
        pd.testing.assert_frame_equal(found, due)


def test_one_plain_table():
    X, y = data()
    result = compare_fusions(X["good"], y, estimators=early(), random_state=0)
    assert list(result.table.index) == ["X", "early"]
    assert result.table.loc["early", ["difference", "ci_low", "ci_high"]].tolist() == [0, 0, 0]


def test_same_seed_same_scores_in_one_process_and_in_two():
    X, y = data(60)
    first, second, third = (
        compare_fusions(X, y, estimators=tiny(), cv=2, random_state=seed, n_jobs=n_jobs)
        for seed, n_jobs in ((0, 1), (0, 2), (np.random.RandomState(0), None))
    )
    pd.testing.assert_frame_equal(first.scores, second.scores, check_exact=True)
    assert first.best_single == second.best_single
    assert not first.scores.equals(third.scores), "a RandomState draws other folds than an int"


# folds and groups


@pytest.fixture
def recorded():
    Recording.seen.clear()
    return Recording.seen


@pytest.mark.parametrize("cv", [3, KFold(4), RepeatedStratifiedKFold(n_splits=2, n_repeats=2, random_state=0)])
def test_all_candidates_see_the_same_folds(recorded, cv):
    X, y = data()
    estimators = {"one": Recording("one"), "two": Recording("two")}
    result = compare_fusions(X, y, estimators=estimators, single=Recording("single"), cv=cv, random_state=0)
    by_candidate = {}
    for entry in recorded:
        np.testing.assert_array_equal(entry["y"], y[entry["train"]])
        key = entry["name"], tuple(entry["modalities"])
        by_candidate.setdefault(key, []).append((tuple(entry["train"]), tuple(entry["test"])))
    names = tuple(X)
    assert set(by_candidate) == {*(("single", (name,)) for name in X), ("one", names), ("two", names)}
    folds = next(iter(by_candidate.values()))
    assert len(set(folds)) == len(folds) == result.n_splits
    assert all(others == folds for others in by_candidate.values())


def test_folds_of_an_integer_are_shuffled_seeded_and_stratified(recorded):
    X, y = data()
    y = np.sort(y)
    for _ in range(2):
        compare_fusions(X, y, estimators={}, single=Recording(), modalities=["good"], cv=5, random_state=3)
    due = [list(test) for _, test in StratifiedKFold(5, shuffle=True, random_state=3).split(y, y)]
    assert [list(entry["test"]) for entry in recorded] == due * 2


@pytest.mark.parametrize("cv", [3, GroupKFold(4)])
@pytest.mark.parametrize("target", ["classes", "numbers"])
def test_groups_stay_whole_and_reach_fit(recorded, cv, target):
    X, y = data()
    groups = np.array([f"donor{i}" for i in np.random.default_rng(0).integers(0, 9, N)])
    if target == "numbers":
        y = y + np.linspace(0, 1, N)
    compare_fusions(
        X, y, estimators={"all": Recording()}, single=Recording(), cv=cv, groups=groups, scoring=_zero, random_state=0
    )
    assert len(recorded) == 4 * (3 if cv == 3 else 4)
    for entry in recorded:
        np.testing.assert_array_equal(entry["groups"], groups[entry["train"]])
        assert not set(entry["groups"]) & set(groups[entry["test"]])


def _zero(estimator, X, y):
    return float(estimator.predict(X)[0] * 0)


def test_groups_reach_pipelines_and_searches(recorded):
    X, y = data()
    groups = np.arange(N) // 9
    searched = GridSearchCV(FusionClassifier("early"), {"early__model__C": [0.1, 1]}, cv=GroupKFold(2))
    estimators = {
        "pipeline": make_pipeline("passthrough", Recording()),
        "search": searched,
        "unaware": GridSearchCV(FusionClassifier("early"), {"early__model__C": [0.1, 1]}, cv=2),
        "model": make_pipeline(EarlyFusionTransformer(), LogisticRegression(max_iter=10_000)),
    }
    compare_fusions(X, y, estimators=estimators, cv=2, groups=groups, random_state=0)
    assert len(recorded) == 2
    for entry in recorded:
        np.testing.assert_array_equal(entry["groups"], groups[entry["train"]])


def test_groups_with_the_defaults():
    X, y = data(80)
    table = compare_fusions(X, y, cv=2, modalities=["good", "fair"], groups=np.arange(80) // 10, random_state=0).table
    assert (table["mean"] > 0.5).all()


def test_the_joint_part_holds_out_whole_groups(monkeypatch):
    held_out = []
    original = JointFusionClassifier._hold_out

    def spy(self, given, seed):
        train, valid = original(self, given, seed)
        held_out.append(set(given.groups[train]) & set(given.groups[valid]))
        return train, valid

    monkeypatch.setattr(JointFusionClassifier, "_hold_out", spy)
    X, y = data(140)
    joint = JointFusionClassifier(max_epochs=2, n_hidden=8, n_latent=4, early_stopping=True)
    groups = np.arange(140) // 7
    estimators = {"joint": FusionClassifier("joint", joint=joint, random_state=0)}
    compare_fusions(X, y, estimators=estimators, modalities=["good"], cv=2, groups=groups, random_state=0)
    assert held_out == [set(), set()]


# what is missing


def test_a_missing_modality_is_quiet_and_scored_on_all_samples(recorded):
    X, y = data()
    X["good"][::5] = np.nan
    result = compare_fusions(X, y, estimators=tiny(), cv=3, random_state=0)
    assert not result.scores.isna().any().any()
    # Alone, it is fitted on the rows that have it, and the others are predicted from their prior.
    train, test = next(StratifiedKFold(3, shuffle=True, random_state=0).split(y, y))
    one = Modalities(X).select(["good"])
    kept = train[one.present[train, 0]]
    due = FusionClassifier("early").fit(one[kept], y[kept]).score(one[test], y[test])
    assert result.scores.loc[0, "good"] == due

    compare_fusions(X, y, estimators={}, single=Recording(), modalities=["fair", "good"], cv=3, random_state=0)
    alone = [entry for entry in recorded if entry["modalities"] == ["good"]]
    assert all(not (entry["train"] % 5 == 0).any() for entry in alone)


def test_samples_with_nothing_get_one_warning():
    X, y = data()
    for values in X.values():
        values[4] = np.nan
    with pytest.warns(UserWarning, match="1 of 90 samples have no modality present") as caught:
        compare_fusions(X, y, estimators=early(), cv=3, random_state=0)
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_single_missing_values_get_one_warning():
    X, y = data()
    X["good"][:, 1][::7] = np.nan
    with pytest.warns(UserWarning, match="single values are missing") as caught:
        compare_fusions(X, y, estimators=early(), cv=3, random_state=0)
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_a_modality_that_a_fold_lacks_altogether():
    X, y = data()
    X["fair"][30:] = np.nan
    with pytest.raises(ValueError, match="no training sample of this fold has any of the modalities \\['fair'\\]"):
        compare_fusions(X, y, estimators={}, cv=KFold(3))


# failures and errors


def test_a_failing_candidate_raises_and_is_named():
    X, y = data()
    with pytest.raises(ValueError, match="the first sample is gone") as caught:
        compare_fusions(X, y, estimators={"odd": Failing("early")}, cv=3, random_state=0)
    assert "raised by the candidate 'odd' in fold" in caught.value.__notes__[0]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_failing_candidate_may_score_nan(n_jobs):
    X, y = data()
    with pytest.warns(FitFailedWarning, match="the candidate 'odd' failed in 1 of 3 folds.*the first sample") as caught:
        result = compare_fusions(
            X, y, estimators={"odd": Failing("early")}, cv=3, random_state=0, error_score=np.nan, n_jobs=n_jobs
        )
    assert len(caught) == 1
    assert result.scores["odd"].isna().sum() == 1
    assert result.table.loc["odd", ["mean", "sd", "difference", "ci_low", "ci_high"]].isna().all()
    assert result.best_single == "good"


def test_nothing_to_compare_with():
    X, y = data()
    with (
        warnings.catch_warnings(action="ignore", category=FitFailedWarning),
        pytest.raises(ValueError, match=r"every single modality scores nan.*\['good', 'fair', 'noise'\]"),
    ):
        compare_fusions(X, y, estimators={}, single=Failing("early"), cv=2, error_score=np.nan)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"estimators": ["early"]}, TypeError, r"estimators is \['early'\]; due is a dict"),
        ({"estimators": {"late": "late"}}, TypeError, r"estimators\['late'\] is 'late'; due is a classifier"),
        ({"estimators": {"late": FusionClassifier}}, TypeError, "due is a classifier or regressor that takes X"),
        ({"single": "early"}, TypeError, "single is 'early'; due is a classifier"),
        ({"estimators": {"good": FusionClassifier()}}, ValueError, "'good' names a modality and a fusion"),
        ({"modalities": ["good", "ecg"]}, ValueError, r"modalities asks for \['ecg'\], which X lacks"),
        ({"scoring": ["accuracy", "f1"]}, ValueError, r"scoring is \['accuracy', 'f1'\]; due is one metric"),
        ({"cv": KFold(2), "groups": np.zeros(N)}, ValueError, "the group 0.0 into both parts of fold 0"),
        ({"groups": np.zeros(3)}, ValueError, r"groups has shape \(3,\); due is \(90,\)"),
        ({"confidence": 95}, ValueError, "confidence is 95; due is a number between 0 and 1"),
        ({"error_score": "nan"}, ValueError, "error_score is 'nan'; due is 'raise' or a number"),
        ({"groups": pd.Series(0, [f"s{i}" for i in range(N)][::-1])}, ValueError, "groups has the same ids as X in an"),
    ],
)
def test_errors_say_what_is_due(options, error, message):
    X, y = data()
    X = Modalities(X, sample_ids=[f"s{i}" for i in range(N)])
    with pytest.raises(error, match=message):
        compare_fusions(X, y, **{"estimators": {}, "cv": 2, **options})


def test_a_modality_called_early_clashes_with_the_defaults():
    X, y = data()
    X["early"] = X.pop("good")
    with pytest.raises(ValueError, match="'early' names a modality and a fusion; rename"):
        compare_fusions(X, y)
    assert "other" in compare_fusions(X, y, estimators={"other": FusionClassifier("early")}, cv=2).table.index


def test_nothing_handed_in_is_changed():
    X, y = data()
    before = {name: values.copy() for name, values in X.items()}
    estimator, single = FusionClassifier("early"), FusionClassifier("early")
    compare_fusions(X, y, estimators={"early": estimator}, single=single, cv=2)
    assert not hasattr(estimator, "estimator_")
    assert not hasattr(single, "estimator_")
    assert all((X[name] == before[name]).all() for name in X)


def test_a_single_of_another_kind():
    X, _ = data()
    single = make_pipeline(EarlyFusionTransformer(), Ridge())
    table = compare_fusions(X, X["good"][:, 1], estimators={}, single=single, cv=2).table
    assert table["mean"].idxmax() == "good"
    assert table["kind"].eq("single").all()


def test_progress_bar(capsys):
    X, y = data()
    compare_fusions(X, y, estimators=early(), cv=2, verbose=1)
    assert "compare_fusions: " in capsys.readouterr().err
    compare_fusions(X, y, estimators=early(), cv=2)
    assert capsys.readouterr().err == ""
