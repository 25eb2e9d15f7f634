import copy
import pickle
import subprocess
import sys
from datetime import date
from decimal import Decimal
from fractions import Fraction

import joblib
import numpy as np
import pandas as pd
import pytest
from _tiny import says
from scipy import sparse

from skfusion import Modalities

nan = np.nan


@pytest.fixture
def labs():
    return np.array([[1.0, 2.0], [3.0, nan], [nan, nan], [0.0, 0.0]])


@pytest.fixture
def mixed(labs):
    """Four samples with one modality of every kind."""
    rng = np.random.default_rng(0)
    return {
        "labs": labs,
        "rna": sparse.csr_matrix(np.array([[0, 1, 0], [0, 0, 0], [2, 0, 3], [0, 0, 4]], dtype=np.float32)),
        "history": pd.DataFrame(
            {"ward": pd.Categorical(["a", "b", None, "a"]), "age": [50, 61, 72, 83]}, index=list("wxyz")
        ),
        "ecg": rng.normal(size=(4, 5, 2)),
        "scan": rng.integers(0, 255, size=(4, 3, 2, 2), dtype=np.uint8),
        "ct": rng.normal(size=(4, 1, 2, 3, 2)).astype(np.float32),
        "notes": ["stable", None, "", "nan"],
        "codes": [["I10", "E11"], [], None, ["I10"]],
    }


# what goes in


def test_every_kind_is_recognised(mixed):
    X = Modalities(mixed)
    assert {name: X.kind(name) for name in X.names} == {
        "labs": "dense",
        "rna": "sparse",
        "history": "table",
        "ecg": "sequence",
        "scan": "image",
        "ct": "volume",
        "notes": "text",
        "codes": "tokens",
    }
    assert X.names == list(mixed)
    assert X.shape == (4, 8)
    assert len(X) == 4


def test_who_has_what_is_read_from_the_values(mixed):
    present = pd.DataFrame(Modalities(mixed).present, columns=list(mixed))
    assert present.pop("labs").tolist() == [True, True, False, True]
    assert present.pop("notes").tolist() == [True, False, True, True]
    assert present.pop("codes").tolist() == [True, True, False, True]
    assert present.to_numpy().all()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble", "uint8", "int16", "int64", "bool"])
def test_arrays_come_back_as_they_came(dtype):
    values = np.arange(12).reshape(4, 3).astype(dtype)
    assert Modalities({"a": values})["a"] is values


@pytest.mark.parametrize("csr", [sparse.csr_matrix, sparse.csr_array])
@pytest.mark.parametrize("dtype", ["float32", "int32", "bool"])
def test_csr_keeps_its_class_and_dtype(csr, dtype):
    values = csr(np.eye(4).astype(dtype))
    X = Modalities({"a": values})
    assert X["a"] is values
    for part in (X[1:], X[[0, 2]], X[[True, False, True, False]], Modalities.concat([X, {"b": np.ones((2, 1))}])):
        assert type(part["a"]) is csr
        assert part["a"].dtype == dtype


@pytest.mark.parametrize(
    ("given", "due"), [(sparse.csc_matrix, sparse.csr_matrix), (sparse.coo_array, sparse.csr_array)]
)
def test_other_sparse_formats_become_csr(given, due):
    X = Modalities({"a": given(np.eye(3))})
    assert type(X["a"]) is due
    np.testing.assert_array_equal(X["a"].toarray(), np.eye(3))


def test_fortran_order_and_read_only_memory_are_left_alone():
    values = np.asfortranarray(np.arange(12.0).reshape(4, 3))
    values.flags.writeable = False
    X = Modalities({"a": values})
    assert X["a"].flags.f_contiguous
    np.testing.assert_array_equal(X[[3, 0]]["a"], values[[3, 0]])


def test_a_numeric_frame_is_its_array_without_a_copy():
    values = np.arange(12.0).reshape(4, 3)
    frame = pd.DataFrame(values, columns=list("abc"), index=list("wxyz"))
    X = Modalities({"labs": frame})
    assert np.shares_memory(X["labs"], frame.to_numpy())
    assert X.columns("labs") == ["a", "b", "c"]
    assert X.sample_ids.tolist() == list("wxyz")
    assert Modalities({"labs": values}).columns("labs") == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("columns", "dtype", "due"),
    [
        ({"a": pd.array([1, None, 3], dtype="Int64")}, "float64", [[1], [nan], [3]]),
        ({"a": pd.array([1, 2, 3], dtype="Int64")}, "int64", [[1], [2], [3]]),
        ({"a": pd.array([1.5, None, 3], dtype="Float32")}, "float32", [[1.5], [nan], [3]]),
        ({"a": pd.array([True, None, False], dtype="boolean")}, "float64", [[1], [nan], [0]]),
        ({"a": [True, False, True], "b": [0.5, nan, 2]}, "float64", [[1, 0.5], [0, nan], [1, 2]]),
        ({"a": np.array([1, 2, 3], "int8"), "b": np.array([1, 2, 3], "float32")}, "float32", [[1, 1], [2, 2], [3, 3]]),
        ({"a": np.array([1, None, 3], dtype=object)}, "float64", [[1], [nan], [3]]),
        ({"a": np.array([1, pd.NA, 3], dtype=object)}, "float64", [[1], [nan], [3]]),
        ({"a": np.array([True, None, False], dtype=object)}, "float64", [[1], [nan], [0]]),
        ({"a": np.array([None] * 3, dtype=object)}, "float64", [[nan], [nan], [nan]]),
        ({"a": [Decimal("1.5"), None, Decimal("NaN")]}, "float64", [[1.5], [nan], [nan]]),
        ({"a": np.array([True, 2, Fraction(1, 2)], dtype=object)}, "float64", [[1], [2], [0.5]]),
        ({"a": pd.arrays.SparseArray([nan, 1.0, nan]), "b": [1, 2, 3]}, "float64", [[nan, 1], [1, 2], [nan, 3]]),
        ({"a": pd.arrays.SparseArray([nan, 1.0, nan])}, "float64", [[nan], [1], [nan]]),
    ],
)
def test_frames_of_numbers_become_arrays_of_numbers(columns, dtype, due):
    frame = pd.DataFrame(columns)
    before = frame.copy()
    X = Modalities({"a": frame})
    assert X.kind("a") == "dense"
    assert X["a"].dtype == dtype
    np.testing.assert_array_equal(X["a"], np.array(due, dtype=dtype))
    np.testing.assert_array_equal(X.present[:, 0], ~np.isnan(np.array(due, dtype=float)).all(axis=1))
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize("beside", [{}, {"ward": list("aba")}])
@pytest.mark.parametrize(
    ("cells", "pieces"),
    [
        ([1, "x", None], ["int (1), str ('x')", "to_numeric", "astype('string')"]),
        ([nan, "x", 1.5], ["str ('x'), float (1.5)", "to_numeric", "astype('string')"]),
        ([True, "x", "y"], ["bool (True), str ('x')"]),
        ([np.inf, "x", "y"], ["float (inf), str ('x')"]),
        (pd.Categorical([1, "x", None]), ["int (1), str ('x')"]),
        ([[1], [2, 3], None], ["list ([1])", "one number or string a cell", "tolist()"]),
        ([(1, 2), (3, 4), None], ["tuple ((1, 2))", "one number or string a cell"]),
        (pd.Categorical([(1, 2), (3, 4), (1, 2)]), ["tuple ((1, 2))", "one number or string a cell"]),
        ([{"u": 1}, {}, None], ["dict ({'u': 1})"]),
        ([np.ones(2), None, "x"], ["ndarray (array([1., 1.])), str ('x')", "one number or string a cell"]),
        ([date(2020, 1, 1), None, date(2021, 1, 1)], ["date (datetime.date(2020, 1, 1))", "to_datetime", ".dt.days"]),
    ],
)
def test_cells_that_are_neither_numbers_nor_strings_raise(cells, pieces, beside):
    frame = pd.DataFrame({"k": cells, **beside})
    with says(ValueError, "modality 'd' holds cells of type", "in the column 'k'", *pieces):
        Modalities({"d": frame})


def test_declared_categories_may_be_anything_of_one_type():
    days = [date(2020, 1, 1), date(2020, 1, 2)]
    for column in (pd.cut([1, 2, 3], 2), pd.Categorical(days), pd.Categorical(["a", np.str_("b")])):
        assert Modalities({"d": pd.DataFrame({"k": column})}).kind("d") == "table"


def test_a_series_of_decimals_is_one_feature():
    X = Modalities({"a": pd.Series([Decimal("1.5"), None], index=["p", "q"])})
    np.testing.assert_array_equal(X["a"], [[1.5], [nan]])
    assert X.sample_ids.tolist() == ["p", "q"]


def test_booleans_of_a_joined_table_are_numbers():
    frame = pd.DataFrame({"ward": ["a", "b"], "on": [True, False]}, index=["p", "q"])
    X = Modalities.from_frames({"d": frame, "x": pd.DataFrame({"v": [1.0]}, index=["r"])}, join="outer")
    np.testing.assert_array_equal(X["d"]["on"], [1, 0, nan])
    assert X["d"]["on"].dtype == np.float64


def test_sparse_frames_become_csr():
    X = Modalities({"a": pd.DataFrame.sparse.from_spmatrix(sparse.csr_matrix(np.eye(3)), columns=list("xyz"))})
    assert X.kind("a") == "sparse"
    assert X.columns("a") == ["x", "y", "z"]
    np.testing.assert_array_equal(X["a"].toarray(), np.eye(3))


def test_a_category_of_integers_stays_a_category():
    X = Modalities({"a": pd.DataFrame({"grade": pd.Categorical([3, 1, 3], categories=[1, 2, 3])})})
    assert X.kind("a") == "table"
    assert X["a"]["grade"].cat.categories.tolist() == [1, 2, 3]


@pytest.mark.parametrize("dtype", [object, "string", "category"])
def test_a_row_of_a_table_is_missing_where_no_column_holds_anything(dtype):
    frame = pd.DataFrame({"ward": pd.Series(["a", None, "", None], dtype=dtype), "age": [1, 2, nan, nan]})
    X = Modalities({"a": frame})
    assert X.kind("a") == "table"
    assert X.present[:, 0].tolist() == [True, True, True, False]


def test_columns_of_one_name_stay_apart():
    X = Modalities({"a": pd.DataFrame(np.arange(6.0).reshape(2, 3), columns=["x", "x", "y"])})
    assert X.columns("a") == ["x", "x", "y"]
    np.testing.assert_array_equal(X["a"], np.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize(
    "values",
    [
        ["stable", None, "", "nan"],
        ("stable", nan, "", "nan"),
        np.array(["stable", None, "", "nan"], dtype=object),
        pd.Series(["stable", nan, "", "nan"]),
        pd.Series(["stable", None, "", "nan"], dtype="string"),
        pd.array(["stable", pd.NA, "", "nan"], dtype="string"),
    ],
)
def test_none_and_nan_are_missing_texts_while_empty_and_nan_strings_are_texts(values):
    X = Modalities({"notes": values})
    assert X.kind("notes") == "text"
    assert X.present[:, 0].tolist() == [True, False, True, True]
    assert X["notes"].tolist() == ["stable", None, "", "nan"]


def test_a_list_that_starts_with_nan_does_not_turn_it_into_a_text():
    X = Modalities({"notes": [nan, pd.NA, "worse"]})
    assert X["notes"].tolist() == [None, None, "worse"]
    assert X.present[:, 0].tolist() == [False, False, True]


@pytest.mark.parametrize(
    "values",
    [
        [["a", "b"], ["c", "d"]],
        [["a"], ["b", "c"]],
        [[], ["b"]],
        [[1, 2], [3]],
        [("a", "b"), None],
        [np.array([1, 2]), np.array([3])],
        pd.Series([["a", "b"], ["c", "d"]]),
    ],
)
def test_token_lists_stay_lists(values):
    X = Modalities({"codes": values})
    assert X.kind("codes") == "tokens"
    assert X["codes"].shape == (2,)
    assert len(X["codes"][0]) == len(next(iter(values)))


@pytest.mark.parametrize("row", [[1.0, 2.0], np.ones((3, 2)), np.ones((3, 2, 2), dtype=np.uint8)])
def test_a_row_that_is_none_is_missing_and_changes_no_kind(row):
    X = Modalities({"a": [row, None, row]})
    whole = Modalities({"a": [row, row, row]})
    assert X.kind("a") == whole.kind("a")
    assert X["a"].dtype == whole["a"].dtype
    assert X["a"].shape == whole["a"].shape
    assert X.present[:, 0].tolist() == [True, False, True]
    np.testing.assert_array_equal(X["a"][2], row)


def test_text_of_which_nobody_has_any_is_missing_for_all():
    X = Modalities({"notes": [None, None], "labs": np.ones((2, 1))})
    assert X.present.tolist() == [[False, True], [False, True]]


def test_object_arrays_of_numbers_become_floats():
    X = Modalities({"a": np.array([[1, None], [None, None], [True, 2.5]], dtype=object)})
    np.testing.assert_array_equal(X["a"], [[1, nan], [nan, nan], [1, 2.5]])
    assert X.present[:, 0].tolist() == [True, False, True]


def test_a_mask_of_numpy_is_not_forgotten():
    values = np.ma.masked_array([[1, 2], [3, 4], [5, 6]], mask=[[0, 1], [1, 1], [0, 0]])
    X = Modalities({"a": values})
    np.testing.assert_array_equal(X["a"], [[1, nan], [nan, nan], [5, 6]])
    assert X.present[:, 0].tolist() == [True, False, True]


def test_a_modalities_goes_in_again_with_all_that_it_knows(labs):
    X = Modalities(
        {"labs": pd.DataFrame(labs, columns=["x", "y"], index=list("wxyz")), "rna": sparse.csr_matrix(np.eye(4))},
        present={"rna": [True, False, True, True]},
    )
    again = Modalities(X, present={"labs": [False, True, True, True]})
    assert again.present.tolist() == [[False, True], [True, False], [False, True], [True, True]]
    assert again.columns("labs") == ["x", "y"]
    assert again.sample_ids.tolist() == list("wxyz")
    assert X.present[0].all(), "the one that went in is left alone"


def test_a_modalities_brought_to_another_order_of_ids_keeps_presence_with_its_rows():
    X = Modalities({"a": np.array([[1], [2]])}, present=[[True], [False]], sample_ids=["p", "q"])
    turned = Modalities(X, sample_ids=["q", "p"])
    assert turned["a"].tolist() == [[2], [1]]
    assert turned.present.tolist() == [[False], [True]]
    assert turned["a"].dtype == np.int64


def test_nothing_that_comes_in_is_changed(mixed):
    before = copy.deepcopy(mixed)
    X = Modalities(mixed, present=np.zeros((4, 8), bool))
    X[[1, 2]], X.select(["labs"]), Modalities.concat([X, X])
    np.testing.assert_array_equal(mixed["labs"], before["labs"])
    pd.testing.assert_frame_equal(mixed["history"], before["history"])
    assert mixed["notes"] == before["notes"]


# what is missing


def test_zero_is_a_value():
    X = Modalities({"a": np.zeros((2, 3)), "b": sparse.csr_matrix((2, 3)), "c": np.zeros((2, 1, 1, 1), np.uint8)})
    assert X.present.all()


@pytest.mark.parametrize("shape", [(3, 2), (3, 2, 2), (3, 2, 2, 2), (3, 1, 2, 2, 2)])
def test_only_a_row_that_is_nan_throughout_is_missing(shape):
    values = np.ones(shape, dtype=np.float32)
    values[1] = nan
    values[2] = nan
    values[2].flat[-1] = 1
    assert Modalities({"a": values}).present[:, 0].tolist() == [True, False, True]


@pytest.mark.parametrize("csr", [sparse.csr_matrix, sparse.csr_array])
def test_a_row_of_csr_is_missing_where_nan_is_stored_in_every_column(csr):
    values = csr(np.array([[nan, nan], [nan, 0], [0, 0], [nan, 1], [1, nan]]))
    assert values.nnz == 7
    assert Modalities({"a": values}).present[:, 0].tolist() == [False, True, True, True, True]


@pytest.mark.parametrize(
    "present",
    [
        [[True, False], [True, True], [True, True], [False, True]],
        np.array([[1, 0], [1, 1], [1, 1], [0, 1]]),
        {"labs": [True, True, True, False], "rna": np.array([False, True, True, True])},
        pd.DataFrame({"rna": [False, True, True, True], "labs": [True, True, True, False]}),
    ],
)
def test_a_sample_lacks_what_values_or_present_say_it_lacks(labs, present):
    X = Modalities({"labs": labs, "rna": sparse.csr_matrix((4, 2))}, present=present)
    assert X.present.tolist() == [[True, False], [True, True], [False, True], [False, True]]


def test_present_by_name_leaves_the_others_as_they_are(labs):
    X = Modalities({"labs": labs, "b": np.ones((4, 1))}, present={"b": [False] * 4})
    assert X.present.tolist() == [[True, False], [True, False], [False, False], [True, False]]


def test_present_of_another_shape_raises(labs):
    with says(ValueError, "present has shape (4,)", "(n_samples, n_modalities) = (4, 1)", "['labs']"):
        Modalities({"labs": labs}, present=[True] * 4)
    with says(ValueError, "present has shape (2, 4)", "(4, 2)"):
        Modalities({"labs": labs, "b": labs}, present=np.ones((2, 4), bool))
    with says(ValueError, "shapes [(3,), (4,)]", "due is (4,)"):
        Modalities({"labs": labs, "b": labs}, present={"labs": [True] * 3})
    with says(ValueError, "present names ['ecg']", "there are ['labs']"):
        Modalities({"labs": labs}, present={"ecg": [True] * 4})


@pytest.mark.parametrize("value", [nan, 2, "yes", None])
def test_present_that_is_not_boolean_raises(labs, value):
    with says(ValueError, "present is of dtype", "other values than 0 and 1", "due is bool"):
        Modalities({"labs": labs}, present=np.full((4, 1), value))


def test_present_with_the_ids_in_another_order_raises(labs):
    frame = pd.DataFrame(labs, index=list("wxyz"))
    present = pd.DataFrame({"labs": [True, True, True, False]}, index=list("zyxw"))
    with says(ValueError, "present has the same ids", "another order", ".loc"):
        Modalities({"labs": frame}, present=present)
    with says(ValueError, "present['labs']", "another order"):
        Modalities({"labs": frame}, present={"labs": present["labs"]})
    X = Modalities({"labs": frame}, present=present.loc[frame.index])
    assert X.present[:, 0].tolist() == [False, True, False, True]


def test_present_is_read_only_also_after_pickling(labs):
    X = Modalities({"labs": labs}, present=np.ones((4, 1), bool))
    for one in (X, X[1:], X[[0]], X.select(["labs"]), pickle.loads(pickle.dumps(X)), copy.deepcopy(X)):
        with pytest.raises(ValueError, match="read-only"):
            one.present[0, 0] = False


def test_the_present_that_came_stays_writeable(labs):
    present = np.ones((4, 1), bool)
    Modalities({"labs": labs}, present=present)
    present[0, 0] = False


# rows


@pytest.mark.parametrize(
    ("rows", "due"),
    [
        (slice(1, 3), [1, 2]),
        (slice(None, None, -2), [3, 1]),
        ([2, 0], [2, 0]),
        ([0, 0, 3], [0, 0, 3]),
        ([-1, -4], [3, 0]),
        ((3, 1), None),
        (range(2), [0, 1]),
        (np.array([1, 3], dtype=np.uint8), [1, 3]),
        (2, [2]),
        (-1, [3]),
        (np.int64(1), [1]),
        ([True, False, False, True], [0, 3]),
        (np.array([False] * 4), []),
        ([], []),
        (pd.Series([False, True, False, True]), [1, 3]),
        (pd.Series([False, True, False, True], dtype="boolean"), [1, 3]),
        (pd.Index([2, 1]), [2, 1]),
        (([1, 2], Ellipsis), [1, 2]),
        ((np.array([True, False, False, False]), slice(None)), [0]),
        ((slice(2), ...), [0, 1]),
    ],
)
def test_rows_are_taken_from_every_kind_alike(mixed, rows, due):
    X = Modalities(mixed, sample_ids=list("wxyz"), present={"rna": [True, False, True, False]})
    if due is None:
        with says(TypeError, "sliced by rows alone", "X.select(names)"):
            X[rows]
        return
    part = X[rows]
    assert isinstance(part, Modalities)
    assert part.shape == (len(due), 8)
    assert part.sample_ids.tolist() == [list("wxyz")[i] for i in due]
    np.testing.assert_array_equal(part.present, X.present[due])
    for name in X.names:
        values = X[name]
        expected = values.iloc[due] if X.kind(name) == "table" else values[due]
        if X.kind(name) == "sparse":
            np.testing.assert_array_equal(part[name].toarray(), expected.toarray())
        elif X.kind(name) == "table":
            pd.testing.assert_frame_equal(part[name], expected)
        else:
            np.testing.assert_array_equal(part[name], expected)
            assert part[name].dtype == values.dtype


def test_slices_of_arrays_are_views(mixed):
    X = Modalities(mixed)
    for name in ("labs", "ecg", "scan", "ct", "notes", "codes"):
        assert np.shares_memory(X[1:3][name], X[name]), name
        assert np.shares_memory(X[1:][1:][name], X[name]), name
    assert np.shares_memory(X[1:3].present, X.present)


def test_selecting_modalities_copies_nothing(mixed):
    X = Modalities(mixed, present={"labs": [False, True, True, True]})
    part = X.select(["notes", "labs"])
    assert part.names == ["notes", "labs"]
    assert part["labs"] is X["labs"]
    assert part.present.tolist() == [[True, False], [False, True], [True, False], [True, True]]
    assert X.drop(["notes"]).names == [name for name in X.names if name != "notes"]
    assert X.drop("notes").names == X.drop(["notes"]).names
    assert X.select("labs").names == ["labs"]


def test_selecting_what_is_not_there_raises(mixed):
    X = Modalities(mixed).select(["labs", "rna"])
    for method in (X.select, X.drop):
        with says(ValueError, "no modality ['ecg']", "there are ['labs', 'rna']"):
            method(["labs", "ecg"])
        with says(ValueError, "twice", "['labs', 'labs']"):
            method(["labs", "labs"])
    with says(ValueError, "no modality is left", "['labs', 'rna']"):
        X.drop(["labs", "rna"])
    with says(ValueError, "no modality is left"):
        X.select([])
    with says(KeyError, "no modality 'ecg'", "there are ['labs', 'rna']"):
        X["ecg"]


def test_in_asks_for_a_name(mixed):
    X = Modalities(mixed)
    assert "labs" in X
    assert "ward" not in X
    assert 0 not in X


@pytest.mark.parametrize("rows", [7, [0, 7], -5])
def test_rows_that_are_not_there_raise(mixed, rows):
    with pytest.raises(IndexError, match=r"out of (bounds|range)"):
        Modalities(mixed)[rows]


def test_what_is_no_row_index_raises(mixed):
    X = Modalities(mixed)
    for names in (["labs", "rna"], np.array(["labs", "rna"]), pd.Index(["labs", "rna"])):
        with says(TypeError, "X.select(['labs', 'rna'])"):
            X[names]
    with says(TypeError, "X.select(names)"):
        X["labs", "rna"]
    for rows in (1.0, None, [0.5], pd.Series([True, None, False, True], dtype="boolean")):
        with says(TypeError, "due are integers, a boolean mask or a slice"):
            X[rows]
    for mask in ([True], np.zeros(0, bool), np.ones(5, bool), np.ones((4, 1), bool)):
        with says(IndexError, "row mask has shape", "due is (4,)"):
            X[mask]
    with says(IndexError, "rows have shape (1, 2)", "one dimension"):
        X[np.array([[0, 1]])]


def test_a_mask_with_the_ids_in_another_order_raises(labs):
    X = Modalities({"labs": pd.DataFrame(labs, index=list("wxyz"))})
    mask = pd.Series([True, False, False, False], index=list("zyxw"))
    with says(ValueError, "the row mask has the same ids", "another order", "X.sample_ids"):
        X[mask]
    assert X[mask.loc[X.sample_ids]].sample_ids.tolist() == ["z"]
    assert X[mask.to_numpy()].sample_ids.tolist() == ["w"]


# what a Modalities is not


def test_iterating_raises_and_says_what_to_use(mixed):
    X = Modalities(mixed)
    with says(TypeError, "X.names", "X[i:j]"):
        iter(X)
    with says(TypeError, "X.names"):
        list(X)
    with pytest.raises(TypeError):
        reversed(X)


def test_comparing_raises_and_says_what_to_use(mixed):
    X = Modalities(mixed)
    for compare in (lambda: X == X, lambda: X != X, lambda: X == 0):
        with says(TypeError, "modality by modality", "X['name']"):
            compare()
    with pytest.raises(TypeError, match="unhashable"):
        hash(X)


@pytest.mark.parametrize(
    "make", [np.asarray, np.array, lambda X: np.asarray(X, dtype=float), lambda X: np.stack([X, X])]
)
def test_making_an_array_raises_and_says_what_to_do(mixed, make):
    with says(TypeError, "X['name']", "EarlyFusionTransformer()", "BaggingClassifier"):
        make(Modalities(mixed))


def test_repr_tells_kinds_shapes_and_shares(mixed):
    text = repr(Modalities(mixed))
    assert text.startswith("Modalities of 4 samples")
    assert "labs: dense (2,) float64, present in 75%" in text
    assert "rna: sparse (3,) float32, present in 100%" in text
    assert "notes: text ()" in text
    assert "of 0 samples" in repr(Modalities(mixed)[:0])


# pickling


def test_pickling_keeps_everything(mixed):
    X = Modalities(mixed, sample_ids=list("wxyz"), present={"rna": [True, False, True, False]})[[3, 1, 0]]
    again = pickle.loads(pickle.dumps(X))
    assert again.names == X.names
    assert again.shape == X.shape
    assert again.sample_ids.equals(X.sample_ids)
    np.testing.assert_array_equal(again.present, X.present)
    np.testing.assert_array_equal(again["labs"], X["labs"])
    np.testing.assert_array_equal(again["rna"].toarray(), X["rna"].toarray())
    pd.testing.assert_frame_equal(again["history"], X["history"])
    assert again["notes"].tolist() == X["notes"].tolist()
    assert again.columns("history") == ["ward", "age"]


def test_a_pickled_slice_holds_its_rows_alone():
    X = Modalities({"a": np.zeros((10_000, 10))})
    assert len(pickle.dumps(X[:10])) < 5_000


def test_joblib_hashes_and_maps_a_modalities(tmp_path, mixed):
    X = Modalities(mixed)
    assert joblib.hash(X) == joblib.hash(Modalities(mixed))
    joblib.dump(X, tmp_path / "X")
    again = joblib.load(tmp_path / "X", mmap_mode="r")
    np.testing.assert_array_equal(again[[2, 1]].present, X[[2, 1]].present)


# what must not go in


def test_modalities_of_unequal_lengths_raise(labs):
    with says(ValueError, "unequal lengths", "'labs': 4", "'ecg': 3", "align by position", "join='outer'"):
        Modalities({"labs": labs, "ecg": np.ones((3, 2))})
    with says(ValueError, "unequal lengths", "'sample_ids': 3", "'labs': 4"):
        Modalities({"labs": labs}, sample_ids=[1, 2, 3])


@pytest.mark.parametrize("values", [np.ones(4), [1.0, 2.0], np.array(5.0), np.ones((1,) * 6)])
def test_too_few_or_too_many_dimensions_raise(values):
    with says(ValueError, "'a'", "dimension(s)", "due are 2 to 5", "reshape(-1, 1)"):
        Modalities({"a": values})


@pytest.mark.parametrize(
    "values",
    [
        np.array([["1", "x"]]),
        np.array([["1", "x"]], dtype=object),
        np.array([[b"1"]]),
        np.array([[1, {"a": 1}]], dtype=object),
        np.array([[["x"]]]),
    ],
)
def test_text_where_numbers_are_due_raises(values):
    with says(
        ValueError, "'labs'", "text or objects", "numbers are due", "category columns", "1-D sequence of strings"
    ):
        Modalities({"labs": values})


@pytest.mark.parametrize(
    "values",
    [
        np.array([["2020-01-01"]], dtype="datetime64[ns]"),
        np.array([[3]], dtype="timedelta64[D]"),
        pd.DataFrame({"day": pd.to_datetime(["2020-01-01"])}),
        pd.DataFrame({"day": pd.to_datetime(["2020-01-01"], utc=True), "ward": ["a"]}),
        pd.DataFrame({"day": pd.to_timedelta([1], unit="D"), "x": [1.0]}),
        pd.DataFrame({"day": pd.period_range("2020-01", periods=1, freq="M")}),
        pd.DataFrame({"day": [pd.Timestamp("2020-01-01")]}, dtype=object),
        pd.Series(pd.to_datetime(["2020-01-01"]), name="day"),
    ],
)
def test_dates_raise_and_say_how_to_make_numbers(values):
    with says(ValueError, "'visits'", "first, e.g. (dates - dates.min())"):
        Modalities({"visits": values})


def test_complex_numbers_raise():
    for values in (np.ones((2, 1)) * 1j, sparse.csr_matrix([[1j]]), pd.DataFrame({"a": [1j]})):
        with says(ValueError, "Complex data not supported", "'a'"):
            Modalities({"a": values})


@pytest.mark.parametrize("values", [{"x": 1}, "abc", b"abc", 3, None, {1, 2}])
def test_what_is_no_modality_raises(values):
    with says(TypeError, "'a' is of type", "an array, a CSR matrix, a DataFrame"):
        Modalities({"a": values})


@pytest.mark.parametrize(
    "values",
    [
        [{"x": 1}],
        np.array([1, "a"], dtype=object),
        pd.Series([1, "a"], dtype=object),
        [b"a", b"b"],
        [[1.5, 2.5], [1.0]],
        [[[1, 2], [3, 4]], [[1, 2]]],
        np.array([np.ones((2, 2)), np.ones((3, 2)), None], dtype=object),
    ],
)
def test_one_dimension_holds_texts_and_tokens_alone(values):
    with says(ValueError, "'a' is one-dimensional", "holds strings, or token lists", "pad sequences", "reshape(-1, 1)"):
        Modalities({"a": values})


def test_samples_of_unequal_shapes_raise_and_say_to_pad():
    with says(ValueError, "'ecg'", "unequal shapes [(2, 3), (4, 3)]", "Pad sequences with NaN"):
        Modalities({"ecg": [np.ones((4, 3)), np.ones((2, 3))]})


def test_texts_and_token_lists_do_not_mix():
    with says(ValueError, "'a'", "strings and token lists", "one of the two"):
        Modalities({"a": ["stable", ["I10"]]})


def test_names_are_strings_and_at_least_one():
    for name in (0, "", None, ("a", "b")):
        with says(TypeError, "is named", "non-empty string"):
            Modalities({name: np.ones((2, 1))})
    with says(ValueError, "no modality", "at least one name"):
        Modalities({})


@pytest.mark.parametrize("data", [np.ones((2, 2)), pd.DataFrame({"a": [1]}), [("a", np.ones((2, 1)))]])
def test_what_is_no_dict_raises_and_says_what_to_use(data):
    with says(TypeError, type(data).__name__, "from_anndata", "Modalities({'X': array})"):
        Modalities(data)


# data sets one below the other


def test_concat_stacks_data_sets_that_share_only_some_modalities(labs):
    first = Modalities({"labs": labs, "notes": list("abcd")}, present={"notes": [True, False, True, True]})
    second = Modalities({"ecg": np.ones((2, 3, 1), dtype=np.float32), "labs": np.zeros((2, 2))})
    X = Modalities.concat([first, second])
    assert X.names == ["labs", "notes", "ecg"]
    assert X.shape == (6, 3)
    assert X.present[:, 0].tolist() == [True, True, False, True, True, True]
    assert X.present[:, 1].tolist() == [True, False, True, True, False, False]
    assert X.present[:, 2].tolist() == [False, False, False, False, True, True]
    np.testing.assert_array_equal(X["labs"], np.vstack([labs, np.zeros((2, 2))]))
    assert X["notes"].tolist() == [*"abcd", None, None]
    assert X["ecg"].dtype == np.float32
    assert X.sample_ids is None


@pytest.mark.parametrize("dtype", ["uint8", "int64", "bool", "float16", "float32"])
def test_concat_keeps_dtypes_and_marks_what_integers_cannot_say(dtype):
    values = np.ones((2, 3, 2, 2), dtype=dtype)
    X = Modalities.concat([{"scan": values}, {"labs": np.ones((1, 1))}])
    assert X["scan"].dtype == dtype
    assert X.present[:, 0].tolist() == [True, True, False]


def test_concat_of_sparse_modalities_keeps_presence():
    first = Modalities({"a": sparse.csr_matrix(np.eye(2))}, present=[[True], [False]])
    X = Modalities.concat([first, {"b": np.ones((1, 1))}, {"a": sparse.csr_matrix((1, 2))}])
    assert X.present[:, 0].tolist() == [True, False, False, True]
    np.testing.assert_array_equal(X["a"].toarray(), [[1, 0], [0, 1], [0, 0], [0, 0]])


def test_concat_of_tables_keeps_columns_and_ids():
    frame = pd.DataFrame({"ward": pd.Categorical(["a", "b"]), "age": [1, 2]}, index=["p", "q"])
    other = pd.DataFrame({"crp": [1.0]}, index=["r"])
    X = Modalities.concat([Modalities({"history": frame}), {"labs": other}])
    assert X.sample_ids.tolist() == ["p", "q", "r"]
    assert X.columns("history") == ["ward", "age"]
    assert X.present.tolist() == [[True, False], [True, False], [False, True]]
    assert X["history"]["ward"].tolist()[:2] == ["a", "b"]
    mixed = Modalities.concat([Modalities({"a": np.ones((2, 1))}, sample_ids=["p", "q"]), {"a": other}])
    assert mixed.columns("a") == ["crp"]
    assert mixed.sample_ids.tolist() == ["p", "q", "r"]


def test_concat_loses_no_ids():
    first, second = {"a": np.ones((2, 1))}, {"a": pd.DataFrame({"crp": [1.0]}, index=["r"])}
    with says(ValueError, "at positions [0] carry no ids", "sample_ids=ids"):
        Modalities.concat([first, second])
    counted = {"a": pd.DataFrame({"crp": [1.0]})}
    assert Modalities.concat([{"a": pd.DataFrame({"crp": [2.0, 3.0]})}, {"a": np.ones((2, 1))}]).sample_ids is None
    assert Modalities.concat([counted, second]).sample_ids.tolist() == [0, "r"]


def test_concat_takes_a_list_and_says_so():
    a = np.ones((2, 1))
    for single in ({"a": a}, Modalities({"a": a}), pd.DataFrame(a)):
        with says(TypeError, f"datasets is a single {type(single).__name__}", "list of data sets"):
            Modalities.concat(single)
    assert len(Modalities.concat({"a": a} for _ in range(2))) == 4


@pytest.mark.parametrize("beside", [{}, {"ward": ["a", "b"]}])
def test_concat_refuses_numbers_below_categories(beside):
    numbers, texts = pd.DataFrame({"k": [1, 2], **beside}), pd.DataFrame({"k": ["u", "v"], **beside})
    for pair in ([numbers, texts], [texts, numbers], [numbers, texts.astype("category")]):
        pieces = ("in the column 'k' in the data set at position 1", "in the data set at position 0", "int64")
        with says(ValueError, "'d' holds dtype", *pieces, "to_numeric", "astype('string')"):
            Modalities.concat([{"d": frame} for frame in pair])


@pytest.mark.parametrize("beside", [{}, {"ward": ["a", "b"]}])
@pytest.mark.parametrize("texts", [["1", "2"], pd.Categorical(["1", "2"]), pd.array(["1", "2"], dtype="string")])
def test_concat_refuses_categories_of_another_type(beside, texts):
    grades = {"d": pd.DataFrame({"k": pd.Categorical([1, 2]), **beside})}
    other = {"b": np.ones((1, 1))}
    pieces = ("in the column 'k'", "in the data set at position 0 and in the data set at position 3")
    with says(ValueError, "'d' holds cells of type int (1), str ('1')", *pieces, "numbers alone or strings alone"):
        Modalities.concat([grades, other, grades, {"d": pd.DataFrame({"k": texts, **beside})}])


@pytest.mark.parametrize(
    ("second", "united"),
    [
        ([2.0, 1.0], [1, 2]),
        ([2.5, 1.0], [1, 2, 2.5]),
        (pd.array([3, 1], dtype="Int64"), [1, 2, 3]),
        ([None, None], [1, 2]),
    ],
)
def test_concat_unites_categories_of_integers_and_floats(second, united):
    first, second = pd.Categorical([1, 2]), pd.Categorical(second)
    for pair in ((first, second), (second, first)):
        k = Modalities.concat([{"d": pd.DataFrame({"k": one, "s": ["u", "v"]})} for one in pair])["d"]["k"]
        assert sorted(k.cat.categories) == united
        np.testing.assert_array_equal(k.astype(float), np.concatenate(pair).astype(float))


@pytest.mark.parametrize("beside", [{}, {"ward": ["a", "b"]}])
def test_concat_takes_a_column_without_values_for_either_sort(beside):
    nothing, texts = pd.DataFrame({"k": [None, None], **beside}), pd.DataFrame({"k": ["u", "v"], **beside})
    X = Modalities.concat([{"d": nothing}, {"d": texts}])
    assert X.kind("d") == "table"
    assert X["d"]["k"].isna().tolist() == [True, True, False, False]
    frames = [texts.assign(n=1), texts.assign(n=pd.array([None, None], "string")), texts.assign(n=[True, False])]
    assert Modalities.concat([{"d": frame} for frame in frames])["d"]["n"].dtype == np.float64


def test_concat_keeps_categories_of_integers_and_booleans_of_a_set_that_lacks_the_table():
    first = {"d": pd.DataFrame({"grade": pd.Categorical([1, 2]), "on": [True, False]})}
    second = {"d": pd.DataFrame({"grade": pd.Categorical([3, 2]), "on": [True, True]})}
    other = {"b": pd.DataFrame({"x": [1.0]})}
    X = Modalities.concat([first, second, other])
    assert X["d"]["grade"].cat.categories.tolist() == [1, 2, 3]
    assert X["d"]["grade"].tolist()[:4] == [1, 2, 3, 2]
    np.testing.assert_array_equal(X["d"]["on"], [1, 0, 1, 1, nan])
    assert X["d"]["on"].dtype == np.float64


def test_concat_names_the_columns_that_differ():
    frame = pd.DataFrame(np.ones((2, 3)), columns=list("xyz"))
    said = "'a' has the columns ['w'] in the data set at position 1 alone, and ['z'] in that at position 0 alone"
    with says(ValueError, said):
        Modalities.concat([{"a": frame}, {"a": frame.set_axis(list("xyw"), axis=1)}])
    unnamed = {"a": frame.to_numpy()}  # fits any names
    with says(
        ValueError, "'a' has the columns [] in the data set at position 2 alone, and ['z'] in that at position 1"
    ):
        Modalities.concat([unnamed, {"a": frame}, {"a": frame[["x", "y"]]}])


def test_concat_of_slices_gives_the_whole(mixed):
    X = Modalities(mixed, sample_ids=list("wxyz"), present={"rna": [True, False, True, False]})
    again = Modalities.concat([X[:1], X[1:3], X[3:]])
    np.testing.assert_array_equal(again.present, X.present)
    assert again.sample_ids.tolist() == list("wxyz")
    for name in ("labs", "ecg", "scan", "ct", "notes", "codes"):
        np.testing.assert_array_equal(again[name], X[name])
        assert again[name].dtype == X[name].dtype
    assert X[2:3].kind("codes") != X.kind("codes"), "a slice without any token list cannot know its kind"


def test_concat_of_unequal_kinds_or_widths_raises():
    of_two, other = {"a": np.ones((2, 2))}, {"b": np.ones((1, 1))}
    pieces = ("'a'", "(2, 2) in the data set at position 2", "(2, 3) in the data set at position 1")
    with says(ValueError, *pieces, "equal kinds and widths"):
        Modalities.concat([other, {"a": np.ones((2, 3))}, of_two])
    with says(ValueError, "'a'", "sparse", "dense"):
        Modalities.concat([{"a": np.ones((2, 3))}, {"a": sparse.csr_matrix((2, 3))}])
    with says(ValueError, "'a'", "text", "tokens"):
        Modalities.concat([{"a": ["x"]}, {"a": [["x"]]}])
    with says(
        ValueError, "'a' has its columns in another order in the data set at position 1 than in that at position 0"
    ):
        Modalities.concat([{"a": pd.DataFrame({"x": [1], "y": [2]})}, {"a": pd.DataFrame({"y": [2], "x": [1]})}])
    with says(ValueError, "datasets is empty"):
        Modalities.concat([])


def test_modalities_needs_no_torch_and_no_anndata():
    code = (
        "import sys, numpy as np; from skfusion import Modalities; Modalities({'a': np.ones((2, 1))})[0];"
        "sys.exit(bool({'torch', 'skorch', 'anndata', 'mudata'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
