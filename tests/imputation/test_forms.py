"""In which form ModalityImputer hands out what it filled, and what it says early of what it cannot fill."""

import inspect
import warnings

import numpy as np
import pandas as pd
import pytest
from _data import complete
from scipy import sparse
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import RandomForestRegressor
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.random_projection import GaussianRandomProjection

from skfusion import EarlyFusionTransformer, JointFusionClassifier, JointFusionRegressor, Modalities, ModalityImputer
from skfusion.imputation import Conversion, Factor, Regressor

TABLES = {name: values for name, values in complete(40).items() if name in "bc"}
COLUMNS = {"b": ["x", "y", "z"], "c": ["u", "v"]}
IDS = [f"p{i}" for i in range(40)]
FRAME = pd.DataFrame(np.hstack(list(TABLES.values())), columns=list("xyzuv"), index=IDS)
LEVELS = pd.concat({name: FRAME[columns] for name, columns in COLUMNS.items()}, axis=1)
Y = (FRAME["x"] > FRAME["x"].median()).to_numpy().astype(int)
FILLED = ModalityImputer("linear").fit(TABLES).transform({"b": TABLES["b"]})["c"]
"""What "linear" fills `c` with where `b` is all there is."""
FORMS = pytest.mark.parametrize(
    ("frame", "half", "columns"),
    [(FRAME, FRAME[COLUMNS["b"]], COLUMNS), (LEVELS, LEVELS[["b"]], None)],
    ids=["names", "levels"],
)


# A DataFrame that lacks columns


@FORMS
def test_columns_of_a_modality_that_is_absent_are_filled(frame, half, columns):
    found = ModalityImputer("linear", modalities=columns).fit(frame).transform(half)
    pd.testing.assert_index_equal(found.columns, frame.columns)
    assert found.index.tolist() == IDS
    np.testing.assert_array_equal(found.iloc[:, :3], TABLES["b"])
    np.testing.assert_allclose(found.iloc[:, 3:], FILLED)


@FORMS
def test_a_pipeline_predicts_without_a_modality(frame, half, columns):
    model = make_pipeline(ModalityImputer("linear", modalities=columns), LogisticRegression()).fit(frame, Y)
    due = model[-1].predict_proba(ModalityImputer("linear", modalities=columns).fit(frame).transform(half))
    np.testing.assert_allclose(model.predict_proba(half), due)
    assert model.score(half, Y) > 0.9


def test_columns_come_in_the_order_of_fit_and_others_pass():
    frame = FRAME[["u", "x", "v", "y", "z"]].assign(site="here", seen=range(40))
    imputer = ModalityImputer("linear", modalities=COLUMNS).fit(frame)
    later = frame[["seen", "z", "x", "y"]].assign(new=1.0)
    found = imputer.transform(later)
    assert found.columns.tolist() == ["u", "x", "v", "y", "z", "seen"]
    pd.testing.assert_frame_equal(found[["x", "y", "z", "seen"]], frame[["x", "y", "z", "seen"]])
    np.testing.assert_allclose(found[["u", "v"]], FILLED)
    pd.testing.assert_frame_equal(imputer.transform(frame), frame)


def test_texts_of_an_absent_modality_are_filled():
    frame = FRAME.assign(kind=pd.Categorical(np.where(Y, "high", "low")))
    imputer = ModalityImputer("knn", modalities={**COLUMNS, "kind": ["kind"]}).fit(frame)
    found = imputer.transform(FRAME)
    assert found.dtypes.tolist() == frame.dtypes.tolist()
    assert (found["kind"] == frame["kind"]).mean() > 0.9


def test_columns_that_share_a_name_are_filled_each():
    frame = FRAME.set_axis(["x", "x", "y", "y", "site"], axis=1)
    frame.iloc[::4, :2] = np.nan
    found = ModalityImputer("mean", modalities={"a": ["x"], "b": ["y"]}).fit_transform(frame)
    due = frame.fillna(dict(enumerate(frame.mean()))).to_numpy()
    due[::4, :2] = frame.iloc[:, :2].mean()
    pd.testing.assert_index_equal(found.columns, frame.columns)
    np.testing.assert_allclose(found, due)


# Names and ids


@FORMS
def test_names_are_those_of_what_transform_returns(frame, half, columns):
    imputer = ModalityImputer("linear", modalities=columns).fit(frame)
    names = ["x", "y", "z", "u", "v"] if columns else ["b__x", "b__y", "b__z", "c__u", "c__v"]
    assert imputer.get_feature_names_out().tolist() == names
    for asked in (imputer.set_params(output="array"), imputer.set_params(output="same").set_output(transform="pandas")):
        assert asked.get_feature_names_out().tolist() == ["b__x", "b__y", "b__z", "c__u", "c__v"]
    assert imputer.transform(half).columns.tolist() == ["b__x", "b__y", "b__z", "c__u", "c__v"]


def test_names_of_an_array_stand_where_its_columns_do():
    array = FRAME[["x", "u", "y", "v"]].to_numpy()
    imputer = ModalityImputer("mean", modalities={"c": [1, 3], "b": [0]}).fit(array)
    assert imputer.get_feature_names_out().tolist() == ["b__0", "c__0", "x2", "c__1"]
    np.testing.assert_array_equal(imputer.transform(array), array)


def test_the_only_modality_of_a_frame_keeps_its_names():
    imputer = ModalityImputer("mean", modalities=["labs"]).fit(FRAME)
    assert imputer.get_feature_names_out().tolist() == imputer.transform(FRAME).columns.tolist() == list("xyzuv")


@pytest.mark.parametrize(
    "X",
    [Modalities(TABLES, sample_ids=IDS), {name: FRAME[columns] for name, columns in COLUMNS.items()}],
    ids=["modalities", "frames"],
)
def test_set_output_keeps_the_ids(X):
    imputer = ModalityImputer("linear").set_output(transform="pandas")
    assert imputer.fit_transform(X).index.tolist() == IDS
    half = X.select(["b"]) if isinstance(X, Modalities) else {"b": X["b"]}
    found = imputer.transform(half)
    assert found.index.tolist() == IDS
    np.testing.assert_allclose(found.iloc[:, 3:], FILLED)


def test_a_draw_is_a_frame_where_one_is_asked_for():
    imputer = ModalityImputer("factor", modalities=COLUMNS, random_state=0).set_output(transform="pandas").fit(FRAME)
    (drawn,) = imputer.sample(FRAME[COLUMNS["b"]])
    assert drawn.index.tolist() == IDS
    assert drawn.columns.tolist() == imputer.get_feature_names_out().tolist()


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csr_array])
def test_csr_keeps_its_class(kind):
    imputer = ModalityImputer("linear", modalities={"b": [0, 1, 2], "c": [3, 4]})
    found = imputer.fit_transform(kind(FRAME.to_numpy()))
    assert type(found) is kind
    np.testing.assert_array_equal(found.toarray(), FRAME.to_numpy())


# What cannot be filled is told before training


class Untrained:
    """A regressor that is not to be fitted."""

    def get_params(self, deep=True):
        return {}

    def fit(self, X, y):
        raise AssertionError("trained before the check")

    def predict(self, X):
        """Say nothing."""


UNTRAINED = Conversion(estimator=Untrained())
NOTES = np.array([None, *["calm"] * 39], dtype=object)


@pytest.mark.parametrize("notes", [NOTES, pd.DataFrame({"kind": NOTES})], ids=["text", "table"])
def test_what_is_no_number_and_missing_in_training_raises_before_it(notes):
    kind = "text" if notes is NOTES else "table"
    with pytest.raises(ValueError, match=f"modality 'notes' is {kind} and missing for 1 samples; strategy .*'knn'"):
        ModalityImputer(UNTRAINED).fit({**TABLES, "notes": notes})


def test_an_array_of_text_raises_before_training():
    imputer = ModalityImputer(UNTRAINED, output="array")
    with pytest.raises(ValueError, match=r"output='array' needs numbers, but \['notes'\] hold none"):
        imputer.fit({**TABLES, "notes": ["calm"] * 40})


@pytest.mark.parametrize("notes", [["calm"] * 40, pd.DataFrame({"kind": ["calm"] * 40})], ids=["text", "table"])
def test_a_container_that_cannot_hold_text_is_named_as_it_was_asked_for(notes):
    imputer = ModalityImputer(UNTRAINED).set_output(transform="pandas")
    said = (
        r"^set_output\(transform='pandas'\) needs numbers, but \['notes'\] hold none; .* use set_output\(transform='de"
    )
    with pytest.raises(ValueError, match=said):
        imputer.fit({**TABLES, "notes": notes})


def test_a_text_that_an_encoder_makes_numbers_of_may_be_missing():
    notes = np.array([None, "calm day", *["calm night", "calm day"] * 19], dtype=object)
    imputer = ModalityImputer(
        "linear", encoders={"notes": make_pipeline(CountVectorizer(), TruncatedSVD(1))}, output="array"
    )
    assert np.isfinite(imputer.fit_transform({**TABLES, "notes": notes})).all()


def test_an_encoder_that_fails_names_its_modality():
    message = r"{}\['c'\] is PCA\(n_components=20\), which fails on modality 'c' .*\(40, 2\).*: n_components=20 must be"
    with pytest.raises(ValueError, match=message.format("encoders")):
        ModalityImputer("linear", encoders={"c": PCA(20)}).fit(TABLES)
    with pytest.raises(ValueError, match=message.format("transformers")):
        EarlyFusionTransformer(transformers={"c": PCA(20)}).fit(TABLES)
    with pytest.raises(ValueError, match=message.format("encoders")):
        JointFusionClassifier({"c": PCA(20)}).fit(TABLES, Y)


def test_a_strategy_that_does_not_exist_has_no_draws_and_says_why():
    imputer = ModalityImputer("typo")
    assert not hasattr(imputer, "sample")
    assert "sample" not in dict(inspect.getmembers(imputer))
    with pytest.raises(AttributeError, match="strategy is 'typo'; due is one of") as caught:
        _ = imputer.sample
    assert isinstance(caught.value.__cause__, ValueError)


def test_parameters_of_a_strategy_that_is_a_name_say_what_to_pass():
    with pytest.raises(ValueError, match=r"'strategy__n_components': strategy is the name 'factor'.*strategy=Factor\("):
        ModalityImputer("factor").set_params(strategy__n_components=2)
    imputer = ModalityImputer("linear").set_params(strategy=Factor(), strategy__n_components=2)
    assert imputer.strategy.n_components == 2


# Warnings and seeds


def test_no_warning_is_due_where_a_modality_has_one_column():
    networks = Conversion(estimator=JointFusionRegressor(max_epochs=1, device="cpu"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        imputer = ModalityImputer(networks, random_state=0).fit({"b": TABLES["b"], "c": TABLES["c"][:, :1]})
    assert imputer.transform({"b": TABLES["b"]})["c"].shape == (40, 1)


def test_a_column_without_any_value_is_filled_with_what_the_warning_says():
    b = TABLES["b"].copy()
    b[:, 1] = np.nan
    with pytest.warns(UserWarning, match="training mean, or 0 where training has no value of the column"):
        filled = ModalityImputer("mean").fit_transform({"b": b, "c": TABLES["c"]})
    assert not filled["b"][:, 1].any()


@pytest.mark.parametrize(
    "params",
    [
        {"strategy": Regressor(RandomForestRegressor(3))},
        {"strategy": Conversion(estimator=JointFusionRegressor(max_epochs=1, n_hidden=8, device="cpu"))},
        {"strategy": "linear", "encoders": JointFusionClassifier(max_epochs=1, n_hidden=8, device="cpu")},
        {"strategy": "linear", "encoders": {"b": GaussianRandomProjection(1)}},
    ],
    ids=["regressor", "conversion", "encoder", "encoders"],
)
def test_estimators_without_a_seed_get_that_of_the_imputer(params):
    found, again, other = (
        ModalityImputer(**params, random_state=seed).fit(TABLES, Y).transform({"b": TABLES["b"]}) for seed in (0, 0, 1)
    )
    for name in TABLES:
        np.testing.assert_array_equal(found[name], again[name])
    assert any((found[name] != other[name]).any() for name in TABLES)


@pytest.mark.parametrize("strategy", ["factor", "linear", "vae", "mean"])
def test_texts_alone_cannot_be_filled_by_what_fills_numbers(strategy):
    with pytest.raises(ValueError, match=r"no modality of numbers but \['t', 'u'\].*'knn'"):
        ModalityImputer(strategy).fit({"t": ["a b", "c d", "e f"], "u": ["x", "y", "z"]})
