import numpy as np
import pandas as pd
import pytest
from _tiny import Checked, says

from skfusion import Modalities
from skfusion.modalities.align import check_same_order, common_order, positions

nan = np.nan


def frame(ids, column="x", dtype=float):
    """One column that holds the position of each id in the alphabet, so that a wrong row is seen."""
    return pd.DataFrame({column: [ord(i) - ord("a") for i in ids]}, index=list(ids), dtype=dtype)


def test_the_same_ids_in_another_order_are_joined_by_id():
    X = Modalities({"a": frame("abc"), "b": frame("cab")})
    assert X.sample_ids.tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(X["a"], [[0], [1], [2]])
    np.testing.assert_array_equal(X["b"], [[0], [1], [2]])
    assert X.present.all()


def test_every_kind_with_ids_is_joined_by_id():
    texts = pd.Series(["C", "A", None], index=list("cab"))
    table = pd.DataFrame({"ward": pd.Categorical(["C", "A", "B"])}, index=list("cab"))
    sparse_frame = pd.DataFrame({"x": pd.arrays.SparseArray([2, 0, 1])}, index=list("cab"))
    X = Modalities({"labs": frame("abc"), "notes": texts, "history": table, "rna": sparse_frame})
    assert X["notes"].tolist() == ["A", None, "C"]
    assert X["history"]["ward"].tolist() == ["A", "B", "C"]
    assert X["rna"].toarray().ravel().tolist() == [0, 1, 2]
    assert X.kind("rna") == "sparse"
    assert X.present[:, 1].tolist() == [True, False, True]
    assert X.present[:, [0, 2, 3]].all()


def test_sample_ids_say_which_order():
    X = Modalities({"a": frame("abc"), "b": np.array([[2], [1], [0]])}, sample_ids=list("cba"))
    assert X.sample_ids.tolist() == ["c", "b", "a"]
    np.testing.assert_array_equal(X["a"], X["b"])


def test_unequal_ids_raise_unless_a_join_is_asked_for():
    for make in (Modalities, Modalities.from_frames):
        for other in ("bcd", "ab", "abcd"):
            with says(ValueError, "'a' and 'b' hold different ids", "join='outer'", "join='inner'", "to_numpy()"):
                make({"a": frame("abc"), "b": frame(other)})
    with says(ValueError, "'sample_ids' and 'a' hold different ids"):
        Modalities({"a": frame("abc")}, sample_ids=list("abd"))


def test_the_message_tells_how_many_ids_and_which_are_alone():
    with says(ValueError, "(3 and 2; only in one of them: ['c'])"):
        Modalities({"a": frame("abc"), "b": frame("ab")})
    with says(ValueError, "(2 and 3; only in one of them: ['c'])"):
        Modalities({"a": frame("ab"), "b": frame("abc")})


@pytest.mark.parametrize("dtype", [float, "float32", "int64", "uint8", bool, "Int64"])
def test_an_outer_join_keeps_every_sample_and_every_dtype(dtype):
    X = Modalities.from_frames({"a": frame("ab", dtype=dtype), "b": frame("cb", dtype=dtype)}, join="outer")
    assert X.sample_ids.tolist() == ["a", "b", "c"]
    assert X.present.tolist() == [[True, False], [True, True], [False, True]]
    due = np.dtype("int64" if dtype == "Int64" else dtype)
    assert X["a"].dtype == due
    assert X["a"][X.present[:, 0], 0].tolist() == np.array([0, 1], due).tolist()
    assert X["b"][X.present[:, 1], 0].tolist() == np.array([1, 2], due).tolist()
    if due.kind == "f":
        assert np.isnan(X["a"][2]).all()


def test_an_outer_join_joins_more_than_two_tables():
    frames = {"a": frame("ab"), "b": frame("ca"), "c": frame("dbc")}
    X = Modalities.from_frames(frames, join="outer")
    assert X.sample_ids.tolist() == ["a", "b", "c", "d"]
    for column, (name, table) in enumerate(frames.items()):
        there = X.sample_ids.isin(table.index)
        assert X.present[:, column].tolist() == there.tolist()
        assert X.sample_ids[there].tolist() == table["x"].sort_values().index.tolist()
        np.testing.assert_array_equal(X[name][there, 0], np.flatnonzero(there))


def test_an_inner_join_keeps_the_samples_that_have_all():
    X = Modalities.from_frames({"a": frame("dcba"), "b": frame("bxdc"), "c": frame("cb")}, join="inner")
    assert X.sample_ids.tolist() == ["c", "b"]
    assert X.present.all()
    for name in X.names:
        np.testing.assert_array_equal(X[name], [[2], [1]])


def test_a_left_join_keeps_the_samples_of_the_first_table():
    X = Modalities.from_frames({"a": frame("ca"), "b": frame("abd")}, join="left")
    assert X.sample_ids.tolist() == ["c", "a"]
    assert X.present.tolist() == [[True, False], [True, True]]
    np.testing.assert_array_equal(X["b"], [[nan], [0]])


def test_a_join_does_not_forget_which_rows_were_missing_before():
    a = frame("abc")
    a.loc["b"] = nan
    X = Modalities.from_frames({"a": a, "b": frame("cbz")}, join="outer")
    assert X.sample_ids.tolist() == ["a", "b", "c", "z"]
    assert X.present[:, 0].tolist() == [True, False, True, False]


def test_text_tables_and_sparse_frames_take_part_in_an_outer_join():
    X = Modalities.from_frames(
        {
            "notes": pd.Series(["A", "", None], index=list("abn")),
            "codes": pd.Series([["B"], []], index=list("bc")),
            "history": pd.DataFrame({"ward": pd.Categorical(["D"]), "age": [3]}, index=["d"]),
            "rna": pd.DataFrame({"x": pd.arrays.SparseArray([0, 5])}, index=list("ae")),
        },
        join="outer",
    )
    assert X.sample_ids.tolist() == list("abncde")
    present = dict(zip(X.names, X.present.T.tolist()))
    assert present["notes"] == [True, True, False, False, False, False]
    assert present["codes"] == [False, True, False, True, False, False]
    assert present["history"] == [False, False, False, False, True, False]
    assert present["rna"] == [True, False, False, False, False, True]
    assert X["codes"][1] == ["B"]
    assert X["history"]["ward"].iloc[4] == "D"
    assert X["rna"].toarray().ravel().tolist() == [0, 0, 0, 0, 0, 5]


def test_an_id_that_occurs_twice_raises_only_where_tables_must_be_joined():
    twice = frame("aab")
    for other, join in (("ba", "outer"), ("ba", "inner"), ("ba", "left"), ("ba", None), ("aba", None)):
        with says(ValueError, "must be joined by id", "'a' holds the same id twice, as ['a']", "duplicated()"):
            Modalities.from_frames({"a": twice, "b": frame(other)}, join=join)
    for join in (None, "outer", "inner", "left"):
        X = Modalities.from_frames({"a": twice, "b": frame("aab", "y")}, join=join)
        assert X.sample_ids.tolist() == ["a", "a", "b"]
    assert Modalities({"a": twice}).sample_ids.tolist() == ["a", "a", "b"]


def test_rows_that_a_bootstrap_repeats_are_allowed():
    rows = [2, 0, 0, 1]
    X = Modalities({"a": frame("abc"), "b": frame("abc", "y")})[rows]
    assert X.sample_ids.tolist() == ["c", "a", "a", "b"]
    again = Modalities({"a": frame("abc").iloc[rows], "b": frame("abc", "y").iloc[rows]})
    np.testing.assert_array_equal(again["a"], X["a"])
    fitted = Checked().fit(X, pd.Series([0, 1, 1, 0], index=list("caab")))
    assert fitted.X_.sample_ids.tolist() == ["c", "a", "a", "b"]


def test_arrays_without_ids_align_by_position_beside_one_order_of_ids():
    X = Modalities({"a": frame("cab"), "b": np.array([[2.0], [0.0], [1.0]]), "c": frame("cab")})
    np.testing.assert_array_equal(X["a"], X["b"])
    assert X.sample_ids.tolist() == ["c", "a", "b"]


def test_arrays_without_ids_raise_beside_two_orders_of_ids():
    with says(ValueError, "different orders", "['b'] carry none", "nobody knows which row is whose"):
        Modalities({"a": frame("abc"), "b": np.ones((3, 1)), "c": frame("cab")})


def test_from_frames_wants_tables_with_ids_and_a_join_that_exists():
    with says(TypeError, "['b'] have none", "pass DataFrames"):
        Modalities.from_frames({"a": frame("ab"), "b": np.ones((2, 1))})
    with says(ValueError, "join is 'right'", "'outer', 'inner', 'left' or None"):
        Modalities.from_frames({"a": frame("ab")}, join="right")
    with says(ValueError, "no id is common", "join='outer'"):
        Modalities.from_frames({"a": frame("ab"), "b": frame("cd")}, join="inner")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pd.Index([3, 1, 2]), pd.Index([1, 2, 3])),
        (pd.Index(["b", "a", "c"]), pd.Index(["a", "b", "c"], dtype="string")),
        (pd.to_datetime(["2021-01-02", "2021-01-01"]), pd.to_datetime(["2021-01-01", "2021-01-02"])),
        (
            pd.MultiIndex.from_tuples([("p", 1), ("q", 1), ("p", 2)]),
            pd.MultiIndex.from_tuples([("p", 1), ("p", 2), ("q", 1)]),
        ),
    ],
)
def test_ids_of_any_type_are_joined(first, second):
    a = pd.DataFrame({"x": range(len(first))}, index=first)
    X = Modalities({"a": a, "b": a.rename(columns={"x": "y"}).loc[first].set_axis(first).reindex(second)})
    np.testing.assert_array_equal(X["a"], X["b"])
    outer = Modalities.from_frames({"a": a, "b": a.iloc[1:]}, join="outer")
    assert outer.present[:, 1].tolist() == [False] + [True] * (len(first) - 1)


def test_integer_ids_are_not_the_strings_that_look_like_them():
    with says(ValueError, "hold different ids"):
        Modalities({"a": pd.DataFrame({"x": [0, 1]}), "b": pd.DataFrame({"x": [0, 1]}, index=["0", "1"])})


def test_a_target_with_the_ids_in_another_order_raises():
    X = Modalities({"a": frame("abc")})
    for y in (pd.Series([1, 0, 0], index=list("cab")), pd.DataFrame({"y": [1, 0, 0]}, index=list("cab"))):
        for data in (X, {"a": frame("abc")}, frame("abc")):
            with says(ValueError, "y has the same ids as X in another order", "never joined silently", ".to_numpy()"):
                Checked().fit(data, y)


def test_a_target_whose_repeated_ids_are_in_another_order_raises():
    X = Modalities({"a": frame("aab")})
    with says(ValueError, "y has the same ids"):
        Checked().fit(X, pd.Series([1, 0, 0], index=list("baa")))


def test_a_target_with_equal_or_other_ids_or_none_is_taken_by_position():
    X = Modalities({"a": frame("abc")})
    for y in (
        pd.Series([1, 0, 0], index=list("abc")),
        pd.Series([1, 0, 0]),
        pd.Series([1, 0, 0], index=list("xyz")),
        np.array([1, 0, 0]),
        [1, 0, 0],
        None,
    ):
        assert len(Checked().fit(X, y).X_) == 3
    Checked().fit({"a": np.ones((3, 1))}, pd.Series([1, 0, 0], index=[2, 1, 0]))


def test_common_order_is_none_where_nobody_has_ids():
    assert common_order({"a": None, "b": None}) is None
    check_same_order("y", None, pd.Series([1]))


def test_positions_are_minus_one_where_an_id_is_lacking():
    assert positions(pd.Index(list("ab")), pd.Index(list("bxa"))).tolist() == [1, -1, 0]
