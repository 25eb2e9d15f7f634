import warnings

import numpy as np
import pandas as pd
import pytest
from _tiny import Checked, says
from scipy import sparse

from skfusion import Modalities
from skfusion.modalities.kinds import KINDS

nan, inf = np.nan, np.inf


@pytest.fixture
def data():
    """Six samples with one modality of every kind; row 4 lacks the labs."""
    rng = np.random.default_rng(0)
    labs = rng.normal(size=(6, 3))
    labs[4] = nan
    return {
        "labs": labs,
        "rna": sparse.csr_matrix(rng.poisson(0.5, size=(6, 4)).astype(np.float32)),
        "history": pd.DataFrame({"ward": pd.Categorical(list("abcabc")), "age": np.arange(6)}),
        "ecg": rng.normal(size=(6, 5, 2)).astype(np.float32),
        "scan": rng.integers(0, 255, size=(6, 3, 4, 2), dtype=np.uint8),
        "ct": rng.normal(size=(6, 1, 2, 3, 4)),
        "notes": list("abcdef"),
        "codes": [["I10"], ["E11", "I10"], [], ["I10"], ["E11"], ["Z00"]],
    }


def rows(data, n):
    """The first `n` rows of a dict."""
    return {name: values.iloc[:n] if isinstance(values, pd.DataFrame) else values[:n] for name, values in data.items()}


# forms


def test_dict_and_modalities_agree(data):
    fitted = Checked().fit(data)
    for X in (fitted.X_, fitted.read(data), Checked().fit(Modalities(data)).X_, fitted.read(Modalities(data))):
        assert X.names == list(data)
        assert X.present.tolist() == [[i != 4] + [True] * 7 for i in range(6)]
        np.testing.assert_array_equal(X["labs"], data["labs"])
        assert X["rna"] is data["rna"]
        assert X["notes"].tolist() == data["notes"]


def test_fitted_attributes_tell_names_and_widths(data):
    estimator = Checked().fit(data)
    assert estimator.modality_names_in_.dtype == object
    assert estimator.modality_names_in_.tolist() == list(data)
    assert estimator.n_features_in_ == 8
    assert estimator.n_features_by_modality_ == {
        "labs": 3, "rna": 4, "history": 2, "ecg": 2, "scan": 3, "ct": 1, "notes": 1, "codes": 1,
    }  # fmt: skip


@pytest.mark.parametrize(("name", "width"), [("labs", 3), ("rna", 4), ("history", 2), ("ecg", 1), ("notes", 1)])
def test_n_features_in_is_the_width_of_a_single_table_else_the_number_of_modalities(data, name, width):
    assert Checked().fit({name: data[name]}).n_features_in_ == width


@pytest.mark.parametrize("form", [np.asarray, pd.DataFrame, sparse.csr_matrix, sparse.csr_array, np.ndarray.tolist])
def test_a_plain_table_is_one_modality_called_x(form):
    values = np.arange(12.0).reshape(4, 3)
    estimator = Checked().fit(form(values))
    assert estimator.modality_names_in_.tolist() == ["X"]
    assert estimator.n_features_in_ == 3
    for X in (estimator.X_, estimator.read(form(values))):
        got = X["X"].toarray() if X.kind("X") == "sparse" else X["X"]
        np.testing.assert_array_equal(got, values)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint8", "bool"])
def test_a_plain_array_keeps_its_dtype_and_is_not_copied(dtype):
    values = np.asfortranarray(np.ones((4, 3)).astype(dtype))
    values.flags.writeable = False
    estimator = Checked().fit(values)
    for X in (estimator.X_, estimator.read(values)):
        assert X["X"].dtype == dtype
        assert np.shares_memory(X["X"], values)


def test_csr_of_either_class_comes_back_as_it_came():
    for csr in (sparse.csr_matrix, sparse.csr_array):
        assert type(Checked().fit(csr(np.eye(3))).X_["X"]) is csr


def test_a_plain_table_may_be_named():
    values = np.ones((4, 3))
    estimator = Checked(modalities=["labs"]).fit(values)
    assert estimator.X_.names == ["labs"]
    assert estimator.n_features_in_ == 3
    assert estimator.read(values).names == estimator.read({"labs": values}).names == ["labs"]
    with says(ValueError, "modalities names ['labs', 'ecg']", "X is one table", "modalities={'name': columns, ...}"):
        Checked(modalities=["labs", "ecg"]).fit(values)


def test_an_estimator_of_one_modality_reads_a_plain_table_as_that():
    estimator = Checked().fit({"labs": np.ones((4, 3))})
    assert estimator.read(np.zeros((2, 3))).names == ["labs"]


def test_a_plain_frame_keeps_ids_names_and_categories():
    frame = pd.DataFrame({"age": [1, 2], "crp": [0.5, nan]}, index=["p", "q"])
    with pytest.warns(UserWarning, match="single values are missing"):
        estimator = Checked().fit(frame)
    assert estimator.X_.columns("X") == ["age", "crp"]
    assert estimator.X_.sample_ids.tolist() == ["p", "q"]
    assert estimator.feature_names_in_.tolist() == ["age", "crp"]


def test_a_plain_frame_with_categories_is_one_table():
    frame = pd.DataFrame({"age": [1, 2], "ward": pd.Categorical(["a", "b"])}, index=["p", "q"])
    estimator = Checked().fit(frame)
    assert estimator.X_.kind("X") == "table"
    assert estimator.n_features_in_ == 2
    assert estimator.read(frame.iloc[[1]])["X"]["ward"].tolist() == ["b"]


def test_a_fit_on_another_form_leaves_nothing_of_the_fit_before():
    estimator = Checked().fit(pd.DataFrame({"a": [1.0, 2.0]}))
    estimator.fit({"labs": np.ones((2, 3)), "ecg": np.ones((2, 2))})
    assert not hasattr(estimator, "feature_names_in_")
    assert estimator.n_features_in_ == 2
    assert estimator.read({"ecg": np.ones((1, 2))}).names == ["labs", "ecg"]


def test_a_single_row_is_read(data):
    estimator = Checked().fit(data)
    assert estimator.read(Modalities(data)[2]).shape == (1, 8)
    assert estimator.read(rows(data, 1)).shape == (1, 8)
    one = Checked().fit({"codes": [[1, 2], [3]]}).read({"codes": [[4, 5, 6]]})
    assert one["codes"][0] == [4, 5, 6]


def test_modalities_asks_for_some_and_gives_the_order(data):
    for X in (data, Modalities(data)):
        estimator = Checked(modalities=["ecg", "labs"]).fit(X)
        assert estimator.X_.names == ["ecg", "labs"]
        assert estimator.X_.present[:, 1].tolist() == [True] * 4 + [False, True]
        assert estimator.read(X).names == ["ecg", "labs"]
    # Where X comes in parts already, a dict says which, and what it says of columns concerns tables alone.
    assert Checked(modalities={"labs": [0, 1]}).fit(data).X_["labs"].shape == (6, 3)


def test_what_nobody_asks_for_may_be_anything(data):
    data["id"] = np.arange(6)
    assert Checked(modalities=["labs"]).fit(data).read(data).names == ["labs"]


# at predict


def test_a_modality_absent_at_predict_is_missing_for_all(data):
    estimator = Checked().fit(data)
    for name in data:
        X = estimator.read({name: rows(data, 4)[name]})
        assert X.names == list(data)
        assert X.present.tolist() == [[other == name for other in data]] * 4
        for other, values in estimator.X_._data.items():
            assert X.kind(other) == estimator.X_.kind(other) or other in ("notes", "codes")
            assert X[other].shape == (4, *values.shape[1:])
            if other != "history":
                assert X[other].dtype == values.dtype
        assert X.columns("history") == ["ward", "age"]


def test_an_absent_modality_costs_no_memory():
    estimator = Checked().fit({"a": np.ones((2, 1)), "b": np.ones((2, 1000), dtype=np.float32)})
    absent = estimator.read({"a": np.ones((1000, 1))})["b"]
    assert absent.shape == (1000, 1000)
    assert absent.strides == (0, 0)
    assert np.isnan(absent[0, 0])


def test_the_order_of_names_is_that_of_fit(data):
    X = Checked().fit(data).read(dict(reversed(data.items())))
    assert X.names == list(data)
    assert X.present[:, 0].tolist() == [True] * 4 + [False, True]


def test_presence_that_came_with_a_modalities_is_kept(data):
    estimator = Checked().fit(data)
    present = np.random.default_rng(1).random((6, 8)) < 0.5
    due = present & Modalities(data).present
    np.testing.assert_array_equal(estimator.read(Modalities(data, present=present)).present, due)
    np.testing.assert_array_equal(estimator.fit(Modalities(data, present=present)).X_.present, due)


def test_dense_and_csr_stand_for_each_other(data):
    estimator = Checked().fit(data)
    X = estimator.read({"labs": sparse.csr_array([[1.0, 0, 2]]), "rna": np.array([[0.0, 1, 0, 2]])})
    np.testing.assert_array_equal(X["labs"], [[1, 0, 2]])
    assert X.kind("rna") == "sparse"
    np.testing.assert_array_equal(X["rna"].toarray(), [[0, 1, 0, 2]])


def test_a_sequence_may_have_another_length(data):
    assert Checked().fit(data).read({"ecg": np.ones((2, 9, 2))})["ecg"].shape == (2, 9, 2)


def test_a_text_that_nobody_has_fits_texts_and_token_lists(data):
    X = Checked().fit(data).read({"notes": [None, None], "codes": [None, None], "labs": np.ones((2, 3))})
    assert X.present[0].tolist() == [True] + [False] * 7


def test_columns_in_another_order_raise():
    frame = pd.DataFrame({"crp": [1.0, 2.0], "na": [3.0, 4.0]})
    estimator = Checked().fit({"labs": frame})
    with says(ValueError, "'labs' has other columns than at fit", "'na' where 'crp' is due", "Reorder"):
        estimator.read({"labs": frame[["na", "crp"]]})
    with says(ValueError, "'labs' has other columns than at fit", "'ldh' where 'na' is due"):
        estimator.read({"labs": frame.rename(columns={"na": "ldh"})})
    np.testing.assert_array_equal(estimator.read({"labs": frame.to_numpy()})["labs"], frame)
    with says(ValueError, "order"):
        Checked().fit(frame).read(frame[["na", "crp"]])


def test_a_table_whose_categories_are_all_missing_is_still_a_table():
    frame = pd.DataFrame({"ward": ["a", "b", "a"], "age": [1.0, 2.0, 3.0]})
    estimator = Checked().fit({"history": frame})
    for ward in ([None], [nan], pd.Categorical([None], categories=["a"])):
        X = estimator.read({"history": pd.DataFrame({"ward": ward, "age": [5.0]})})
        assert X.kind("history") == "table"
        assert X.present.all()
        assert X["history"]["ward"].isna().all()
        assert not pd.api.types.is_numeric_dtype(X["history"]["ward"].dtype)


def test_a_table_takes_numbers_for_categories_but_no_text_for_numbers():
    frame = pd.DataFrame({"grade": pd.Categorical([1, 2]), "age": [1, 2], "old": [True, False]})
    estimator = Checked().fit({"history": frame})
    for other in (
        frame.astype({"grade": int}),
        frame.astype({"grade": int, "age": float, "old": "boolean"}),
        frame.assign(old=pd.Series([True, None], dtype=object)),
        frame.astype({"age": bool}),
    ):
        table = estimator.read({"history": other})["history"]
        assert table["grade"].tolist() == [1, 2]
        assert table["age"].tolist() == other["age"].tolist()
    with says(ValueError, "'history' holds text or categories", "'age'", "due are numbers (dtype int64)", "to_numeric"):
        estimator.read({"history": frame.assign(age=["1", "x"])})


def test_numeric_frames_may_come_as_objects_at_predict():
    frame = pd.DataFrame({"crp": [1.0, 2.0], "old": [True, False]})
    estimator = Checked().fit({"labs": frame})
    for other in (
        frame.astype(object),
        pd.DataFrame({"crp": [None, 1.0], "old": [None, True]}, dtype=object),
        pd.DataFrame({"crp": [None, None], "old": [None, None]}),
    ):
        X = estimator.read({"labs": other})
        assert X.kind("labs") == "dense"
        np.testing.assert_array_equal(X["labs"], other.astype(float))


# what is missing


def test_single_nan_inside_present_rows_are_counted_in_one_warning():
    data = {
        "labs": np.array([[1, nan, nan], [nan, nan, nan], [1, 2, 3]]),
        "rna": sparse.csr_matrix([[0, nan], [nan, nan], [1, 2]]),
        "history": pd.DataFrame({"ward": ["a", None, "b"], "age": [nan, nan, 1]}),
        "ecg": np.ones((3, 2, 1)),
    }
    with pytest.warns(UserWarning, match="single values are missing") as caught:
        estimator = Checked().fit(data)
    assert len(caught) == 1
    message = str(caught[0].message)
    assert "{'labs': 2, 'rna': 1, 'history': 1} by modality" in message
    assert "training mean" in message
    assert "Impute beforehand" in message
    np.testing.assert_array_equal(estimator.X_["labs"], data["labs"])
    estimator.read(data)


def test_nan_in_rows_marked_as_missing_is_not_counted():
    X = Modalities({"a": np.array([[1.0, nan], [1, 2]]), "b": np.ones((2, 1))}, present={"a": [False, True]})
    Checked().fit(X)


def test_an_all_nan_time_step_is_padding_and_not_counted():
    ecg = np.ones((3, 4, 2))
    ecg[0, 2:] = nan
    ecg[1] = nan
    assert Checked().fit({"ecg": ecg}).X_.present[:, 0].tolist() == [True, False, True]
    ecg[2, 0, 1] = nan
    with pytest.warns(UserWarning, match=r"\{'ecg': 1\}"):
        Checked().fit({"ecg": ecg})


def test_nan_pixels_are_counted():
    scan = np.ones((2, 2, 2, 2), dtype=np.float16)
    scan[0, 0] = nan
    with pytest.warns(UserWarning, match=r"\{'scan': 4\}"):
        Checked().fit({"scan": scan})


BAD = {
    "dense": np.array([[1, 2], [inf, 0], [3, 4.0]]),
    "float16": np.array([[1, 2], [-inf, 0], [3, 4]], dtype=np.float16),
    "both": np.array([[1, nan], [inf, -inf], [3, 4.0]]),
    "sparse": sparse.csr_matrix([[1, 2], [inf, 0], [3, 4.0]]),
    "table": pd.DataFrame({"ward": list("aba"), "crp": [1, inf, 2]}),
    "sequence": np.array([[[1.0]], [[-inf]], [[2.0]]]),
    "image": np.where(np.arange(3) == 1, inf, 1.0).reshape(3, 1, 1, 1),
    "volume": np.where(np.arange(3) == 1, inf, 1.0).reshape(3, 1, 1, 1, 1).astype(np.float32),
}


@pytest.mark.parametrize("values", BAD.values(), ids=BAD)
@pytest.mark.filterwarnings("ignore:single values are missing")
def test_inf_raises_in_a_present_slot_and_not_in_a_missing_one(values):
    clean = Modalities({"a": values, "b": np.ones((3, 1))})[[0, 2]]
    estimator = Checked().fit(clean)
    for act in (Checked().fit, estimator.read):
        with says(ValueError, "'a' holds inf", "due are finite numbers, or NaN", "present="):
            act({"a": values})
        X = Modalities({"a": values, "b": np.ones((3, 1))}, present={"a": [True, False, True]})
        got = act(X)
        present = got.X_.present if isinstance(got, Checked) else got.present
        assert present[:, 0].tolist() == [True, False, True]


def test_large_finite_numbers_are_no_inf():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Checked().fit({"a": np.full((3, 2), 1e308), "b": np.full((3, 2), 6e4, dtype=np.float16)})


def test_inf_in_a_plain_table_raises():
    for values in (np.array([[1.0], [inf]]), pd.DataFrame({"a": [1.0, inf]}), sparse.csr_matrix([[1.0], [inf]])):
        with says(ValueError, "'X' holds inf"):
            Checked().fit(values)


# errors


def test_a_name_unknown_at_fit_raises(data):
    estimator = Checked().fit(data)
    with says(ValueError, "unknown at fit: ['mri']", "fitted were ['labs'", "X.drop(names)", "fit again"):
        estimator.read(data | {"mri": np.ones((6, 2))})


def test_an_x_with_no_known_modality_raises(data):
    for asked in (None, ["labs", "ecg"]):
        estimator = Checked(modalities=asked).fit(data)
        for X in ({"mri": np.ones((6, 2))}, Modalities({"mri": np.ones((6, 2))})):
            with says(
                ValueError, "no known modality", "it has ['mri']", "fitted were ['labs'", "at least one of these"
            ):
                estimator.read(X)
        with says(ValueError, "no known modality", "it has []"):
            estimator.read({})


def test_a_modality_asked_for_and_lacking_in_training_raises(data):
    for X in (data, Modalities(data)):
        with says(ValueError, "modalities asks for ['mri'], which X lacks", "X has ['labs'", "must be there"):
            Checked(modalities=["labs", "mri"]).fit(X)
    with says(ValueError, "asks for ['mri']"):
        Checked(modalities=["mri"]).fit(data)


@pytest.mark.parametrize(
    ("name", "values", "due"),
    [
        ("labs", np.ones((6, 4)), "shape (3,)"),
        ("labs", sparse.csr_matrix((6, 4)), "shape (3,)"),
        ("rna", sparse.csr_matrix((6, 3)), "shape (4,)"),
        ("history", pd.DataFrame({"ward": ["a"]}), "shape (2,)"),
        ("ecg", np.ones((6, 5, 3)), "2 channels, at any length"),
        ("scan", np.ones((6, 3, 4, 3)), "shape (3, 4, 2)"),
        ("ct", np.ones((6, 2, 2, 3, 4)), "shape (1, 2, 3, 4)"),
    ],
)
def test_another_width_than_at_fit_raises(data, name, values, due):
    with says(ValueError, f"'{name}' has samples of shape {values.shape[1:]}", f"due is {due}, as at fit", "fit again"):
        Checked().fit(data).read({name: values})


@pytest.mark.parametrize("name", ["labs", "rna", "history", "ecg", "scan", "ct", "notes", "codes"])
def test_another_kind_than_at_fit_raises(data, name):
    estimator = Checked().fit(data)
    came = np.ones((6, 2, 2)) if name != "ecg" else np.ones((6, 2))
    kind = KINDS[estimator.X_.kind(name)]
    with says(ValueError, f"'{name}' is a {came.ndim}-D array", f"due is {kind}, as at fit", "Convert it"):
        estimator.read({name: came})


def test_text_for_numbers_at_predict_raises(data):
    estimator = Checked().fit(data)
    with says(ValueError, "'labs' is strings", "due is a 2-D array of numbers"):
        estimator.read({"labs": ["a", "b"]})
    with says(ValueError, "'notes' is token lists", "due is strings"):
        estimator.read({"notes": [["a"]]})
    frame = pd.DataFrame({"crp": [1.0, 2.0]})
    with says(ValueError, "'labs' holds text or categories", "in the column 'crp'", "due are numbers"):
        Checked().fit({"labs": frame}).read({"labs": frame.assign(crp=["high", "low"])})


@pytest.mark.parametrize("beside", [{}, {"ward": ["a", "b"]}])
def test_a_column_of_numbers_may_come_without_any_value(beside):
    frame = pd.DataFrame({"crp": [1.0, 2.0], **beside})
    estimator = Checked().fit({"labs": frame, "x": np.ones((2, 1))})
    for nothing in (pd.array([None, None], "string"), pd.Categorical([None, None], ["a"])):
        X = estimator.read({"labs": frame.assign(crp=nothing)})
        assert X.kind("labs") == estimator.X_.kind("labs")
        values = X["labs"]["crp"] if beside else X["labs"][:, 0]
        assert values.dtype == np.float64
        assert np.isnan(values).all()


def test_inf_is_told_by_its_column():
    for columns in ({"crp": [1.0, 2.0]}, {"crp": [1.0, 2.0], "ward": ["a", "b"]}):
        frame = pd.DataFrame(columns)
        for values in ([1.0, inf], pd.array([1.0, -inf], "Float64")):
            with says(ValueError, "'labs' holds inf in a row that is present, in the column 'urea'"):
                Checked().fit({"labs": frame.assign(urea=values)})


def test_missing_booleans_are_counted_beside_categories():
    frame = pd.DataFrame({"ward": ["a", "b"], "on": pd.array([True, None], "boolean")})
    with pytest.warns(UserWarning, match=r"single values are missing .*\{'d': 1\}"):
        Checked().fit({"d": frame})


def test_another_width_of_a_plain_table_raises_as_in_scikit_learn():
    estimator = Checked().fit(np.ones((4, 3)))
    with says(ValueError, "X has 2 features, but Checked is expecting 3 features"):
        estimator.read(np.ones((4, 2)))


def test_one_table_for_several_modalities_raises(data):
    for X in (np.ones((2, 3)), pd.DataFrame(np.ones((2, 3))), pd.DataFrame({"ward": ["a"]})):
        for estimator in (Checked().fit(data), Checked().fit({"ecg": data["ecg"]})):
            with says(ValueError, "X is one table, but fitted were the modalities", "pass a dict"):
                estimator.read(X)


def test_an_empty_x_raises(data):
    estimator = Checked().fit(data)
    empty = {"labs": np.ones((0, 3)), "ecg": np.ones((0, 5, 2))}
    for act in (Checked().fit, estimator.read):
        for X in (empty, Modalities(empty), Modalities(data)[:0]):
            with says(ValueError, "0 sample(s)", "minimum of 1 is required"):
                act(X)
    with says(ValueError, "0 sample(s)"):
        Checked().fit(np.ones((0, 3)))


def test_a_modality_without_a_feature_raises():
    for values in (np.ones((3, 0)), np.ones((3, 5, 0)), pd.DataFrame(index=range(3)), sparse.csr_matrix((3, 0))):
        with says(ValueError, "0 feature(s)", "minimum of 1 is required", "'a'"):
            Checked().fit({"a": values})


def test_modalities_that_is_no_list_of_names_raises(data):
    with says(TypeError, "modalities is 'labs'", "due is a list of names or a dict"):
        Checked(modalities="labs").fit(data)
    for empty in ([], {}):
        with says(ValueError, "modalities is empty", "at least one name"):
            Checked(modalities=empty).fit(data)
    with says(ValueError, "names holds a modality twice"):
        Checked(modalities=["labs", "labs"]).fit(data)


@pytest.mark.parametrize("X", [np.ones(3), np.ones((2, 2, 2)), [["a", "b"]], np.array([["a"]]), None, "text", 3])
def test_what_is_no_table_raises(X):
    with pytest.raises((ValueError, TypeError)):
        Checked().fit(X)


def test_dates_in_a_plain_frame_raise():
    frame = pd.DataFrame({"day": pd.to_datetime(["2020-01-01", "2020-01-02"]), "crp": [1.0, 2.0]})
    with says(ValueError, "'X' holds dtype datetime64[ns] in the column 'day'", "(dates - dates.min()).dt.days"):
        Checked().fit(frame)


def test_the_input_is_left_as_it_came(data):
    before = {name: values.copy() for name, values in data.items()}
    estimator = Checked().fit(data)
    estimator.read(data)
    assert list(data) == list(before)
    np.testing.assert_array_equal(data["labs"], before["labs"])
    pd.testing.assert_frame_equal(data["history"], before["history"])
    assert data["codes"] == before["codes"]
    asked = {"labs": ["crp"], "ecg": "rate"}
    Checked(modalities=asked).fit(pd.DataFrame({"crp": [1.0], "rate": [2.0]}))
    assert asked == {"labs": ["crp"], "ecg": "rate"}
