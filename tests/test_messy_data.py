"""Data as it comes: tiny, mosaic, rare, empty, and folds that were drawn beforehand."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from skfusion import (
    EarlyFusionTransformer,
    FusionClassifier,
    JointFusionClassifier,
    JointFusionRegressor,
    LateFusionStacker,
    Modalities,
    ModalityImputer,
)
from skfusion.imputation import Conversion


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(60, 3)), rng.normal(size=(60, 2))
    return {"a": a, "b": b}, (a[:, 0] > 0).astype(int)


def test_late_fusion_of_forty_texts_projects_to_as_many_components_as_a_fold_allows():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 20)
    texts = [f"{'good' if label else 'bad'} {rng.integers(900)} {rng.integers(900)}" for label in y]
    assert LateFusionStacker(random_state=0).fit({"t": texts}, y).oof_scores_["t__lr"] > 0.9


def test_a_text_modality_that_says_nothing_is_harmless(pair):
    X, y = pair
    model = JointFusionClassifier(random_state=0, max_epochs=30).fit({**X, "t": [""] * 60}, y)
    assert model.score({**X, "t": [""] * 60}, y) > 0.9


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("far", [-1e38, 1e40, -1e150])
def test_a_sentinel_is_far_and_no_nan(pair, far):
    X, y = pair
    X["c"] = np.random.default_rng(1).normal(size=(60, 5, 2))
    new = {name: values[:3].copy() for name, values in X.items()}
    for values in new.values():
        values[0, 0] = far
    net = {"max_epochs": 1, "random_state": 0, "device": "cpu"}
    classifier = JointFusionClassifier(**net).fit(X, y)
    np.testing.assert_allclose(classifier.predict_proba(new).sum(axis=1), 1, rtol=1e-6)
    assert np.isfinite(JointFusionRegressor(**net).fit(X, X["a"][:, 0]).predict(new)).all()
    imputer = ModalityImputer(Conversion(estimator=JointFusionRegressor(**net)), random_state=0).fit(X)
    assert np.isfinite(imputer.transform({"a": new["a"], "c": new["c"]})["b"]).all()
    # One that training had as well.
    assert np.isfinite(JointFusionClassifier(**net).fit(new, y[:3]).predict_proba(X)).all()


@pytest.mark.filterwarnings("ignore:1 of 60 samples have no modality:UserWarning")
def test_given_folds_speak_of_the_rows_that_came(pair):
    X, y = pair
    X = {name: np.where(np.arange(60)[:, None] == 0, np.nan, values) for name, values in X.items()}
    test = np.r_[20:28, 50:58]
    train = np.setdiff1d(np.arange(60), test)
    model = LateFusionStacker(LogisticRegression(), "mean", cv=[(train.tolist(), test.tolist())]).fit(X, y)
    predicted = ~np.isnan(model.oof_predictions_["a__logisticregression"][:, 0])
    assert np.array_equal(np.flatnonzero(predicted), test)
    base = LogisticRegression().fit(X["a"][train[1:]], y[train[1:]])
    assert np.allclose(model.oof_predictions_["a__logisticregression"][test], base.predict_proba(X["a"][test]))


def test_nested_parameters_reach_the_extractors_beside_modalities_of_the_same_name():
    fusion = EarlyFusionTransformer(modalities={"rna": [0, 1], "p": [2, 3]}, transformers={"rna": PCA(2), "p": PCA(1)})
    fusion.set_params(rna__n_components=1, p=StandardScaler())
    assert fusion.get_params()["rna__n_components"] == 1
    assert isinstance(fusion.transformers["p"], StandardScaler)
    assert fusion.modalities == {"rna": [0, 1], "p": [2, 3]}


def test_the_final_estimator_decides_by_its_own_threshold(pair):
    X, y = pair
    final = FixedThresholdClassifier(LogisticRegression(), threshold=0.999, response_method="predict_proba")
    model = LateFusionStacker(LogisticRegression(), final).fit(X, y)
    assert np.array_equal(model.predict(X), (model.predict_proba(X)[:, 1] >= 0.999).astype(int))
    assert (model.predict_proba(X)[:, 1] >= 0.5).any()


@pytest.mark.filterwarnings("ignore:single values are missing:UserWarning")
def test_a_scaler_that_lets_nan_through_does_not_leave_them_to_the_classifier(pair):
    X, y = pair
    X["a"][3, 1] = np.nan
    model = LateFusionStacker(make_pipeline(StandardScaler(), LogisticRegression())).fit(X, y)
    filled = {**X, "a": np.where(np.isnan(X["a"]), np.nanmean(X["a"], axis=0), X["a"])}
    assert np.allclose(model.predict_proba(X), model.predict_proba(filled))
    extractor = make_pipeline(StandardScaler(), PCA(2))
    assert np.isfinite(EarlyFusionTransformer(transformers={"a": extractor}).fit_transform(X)).all()


def test_a_mosaic_is_imputed_from_what_occurs_together():
    rng = np.random.default_rng(0)
    b = rng.normal(size=(200, 2))
    first, second = {"a": b[:100] * 2, "b": b[:100]}, {"b": b[100:], "c": b[100:] + 1}
    filled = ModalityImputer(random_state=0).fit_transform(Modalities.concat([first, second]))
    assert np.corrcoef(filled["c"][:100, 0], b[:100, 0])[0, 1] > 0.9
    assert np.corrcoef(filled["a"][100:, 1], b[100:, 1])[0, 1] > 0.9


def test_averages_of_default_classifiers_survive_a_rare_class():
    rng = np.random.default_rng(0)
    y = np.r_[np.repeat([0, 1], 108), [2] * 4]
    X = {"a": rng.normal(size=(220, 3)) + 3 * y[:, None]}
    model = LateFusionStacker(final_estimator="mean", random_state=0).fit(X, y)
    assert model.score(X, y) > 0.9
    assert "a__svm" not in model.estimators_


def test_an_average_stays_what_was_fitted_when_the_parameter_changes(pair):
    X, y = pair
    model = LateFusionStacker(LogisticRegression(), "mean").fit(X, y)
    before = model.predict_proba(X)
    assert np.array_equal(model.set_params(final_estimator="product").predict_proba(X), before)


def test_block_weights_of_small_integers_do_not_overflow():
    column = np.arange(200, dtype=np.uint8)[:, None]
    weights = EarlyFusionTransformer(weights="block").fit({"a": column, "b": np.ones((200, 2))}).weights_
    assert weights["a"] == pytest.approx(1 / np.linalg.norm(column.astype(float)))


def test_optimizers_that_ask_for_the_loss_again_work(pair):
    X, y = pair
    lbfgs = partial(torch.optim.LBFGS, max_iter=4)
    model = JointFusionClassifier(optimizer=lbfgs, scheduler=None, max_epochs=5, lr=0.5, random_state=0).fit(X, y)
    assert model.score(X, y) > 0.85


class Direction(torch.nn.Module):
    """Gives NaN for zeros, as foreign encoders may."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 8)

    def forward(self, x):
        return self.linear(x / x.norm(dim=1, keepdim=True))


def test_an_encoder_that_divides_by_zero_never_sees_missing_samples(pair):
    X, y = pair
    X["a"][:10] = np.nan
    model = JointFusionClassifier({"a": Direction()}, random_state=0, max_epochs=5).fit(X, y)
    assert np.isfinite(model.predict_proba(X)).all()
    assert np.isfinite(model.predict_proba({"b": X["b"]})).all()


def test_a_base_with_one_column_a_pair_of_classes_is_refused():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2, 3], 20)
    X = {"a": rng.normal(size=(80, 2)) + y[:, None]}
    with pytest.raises(ValueError, match="decision_function of the estimator 'svc' of modality 'a' gives 6 columns"):
        LateFusionStacker(SVC(decision_function_shape="ovo")).fit(X, y)


@pytest.mark.filterwarnings("ignore:single values are missing:UserWarning")
@pytest.mark.parametrize("fusion", ["early", "joint", "late"])
@pytest.mark.parametrize("at_fit", [True, False])
def test_tables_with_nullable_dtypes_are_learnt_from(pair, fusion, at_fit):
    X, y = pair
    labels = np.where(y, "high", "low").astype(object)
    table = {"s": labels, "c": pd.Categorical(labels), "i": y, "b": y == 1, "f": y / 2, "u": "same"}
    whole = pd.DataFrame({k: pd.Series(v, dtype=object if k != "c" else None) for k, v in table.items()})
    holed = whole.copy()
    for position in range(5):
        holed.iloc[position::6, position] = None
    whole, holed = whole.convert_dtypes(), holed.convert_dtypes()
    assert {str(t) for t in holed.dtypes} == {"string", "category", "Int64", "boolean", "Float64"}
    data = {"d": holed if at_fit else whole, "a": X["a"] * 0}
    late = LateFusionStacker(LogisticRegression(), cv=2)
    joint = JointFusionClassifier(max_epochs=40)
    model = FusionClassifier(fusion, late=late, joint=joint, random_state=0).fit(data, y)
    assert model.score({"d": holed, "a": X["a"] * 0}, y) > 0.95
    new = holed.assign(s=pd.array(["new"] * 60, "string"))
    assert model.score({"d": new}, y) > 0.9


def test_names_that_join_to_the_same_key_are_refused(pair):
    X, y = pair
    clash = {"a": [("x__lr", LogisticRegression())], "a__x": [("lr", LogisticRegression())]}
    with pytest.raises(ValueError, match=r"join to .*a__x__lr.* twice"):
        LateFusionStacker(clash).fit({"a": X["a"], "a__x": X["b"]}, y)


def test_the_facade_hands_on_a_decision_function(pair):
    X, y = pair
    early = make_pipeline(EarlyFusionTransformer(), LinearSVC())
    model = FusionClassifier("early", early=early).fit(X, y)
    assert np.array_equal(model.decision_function(X) > 0, model.predict(X) == 1)
    assert not hasattr(model, "predict_proba")


def test_warm_start_takes_up_a_new_learning_rate(pair):
    X, y = pair
    model = JointFusionClassifier(warm_start=True, scheduler=None, max_epochs=2, random_state=0).fit(X, y)
    before = [p.detach().clone() for p in model.network_.parameters()]
    model.set_params(lr=1e-12, weight_decay=0.0).fit(X, y)
    moved = max(float((p - q).abs().max().detach()) for p, q in zip(model.network_.parameters(), before))
    assert moved < 1e-6
