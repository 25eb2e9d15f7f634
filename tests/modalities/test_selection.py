import numpy as np
import pandas as pd
import pytest
from _tiny import Checked, says
from scipy import sparse
from sklearn.compose import make_column_selector

nan = np.nan


@pytest.fixture
def table():
    values = np.arange(20.0).reshape(4, 5)
    return pd.DataFrame(values, columns=["crp", "na", "k", "rate", "qt"], index=list("wxyz"))


BY_NAME = {
    "names": ["crp", "na", "k"],
    "tuple of names": ("crp", "na", "k"),
    "array of names": np.array(["crp", "na", "k"]),
    "index of names": pd.Index(["crp", "na", "k"]),
    "slice of names": slice("crp", "k"),
    "open slice of names": slice(None, "k"),
    "callable for names": lambda X: X.columns[:3],
    "selector": make_column_selector(pattern="^(?:crp|na|k)$"),
}
BY_POSITION = {
    "positions": [0, 1, 2],
    "array of positions": np.array([0, 1, 2], dtype=np.uint8),
    "negative positions": [-5, -4, -3],
    "range": range(3),
    "slice": slice(3),
    "negative slice": slice(0, -2),
    "mask": [True, True, True, False, False],
    "array mask": np.array([1, 1, 1, 0, 0], dtype=bool),
    "callable": lambda X: [0, 1, 2],
}
FIRST_THREE = BY_NAME | BY_POSITION


@pytest.mark.parametrize("columns", FIRST_THREE.values(), ids=FIRST_THREE)
def test_columns_of_a_frame_are_chosen_as_in_column_transformer(table, columns):
    estimator = Checked(modalities={"labs": columns, "ecg": ["rate", "qt"]}).fit(table)
    X = estimator.X_
    assert X.names == ["labs", "ecg"]
    np.testing.assert_array_equal(X["labs"], table.iloc[:, :3])
    np.testing.assert_array_equal(X["ecg"], table.iloc[:, 3:])
    assert X.columns("labs") == ["crp", "na", "k"]
    assert X.sample_ids.tolist() == list("wxyz")
    assert estimator.n_features_in_ == 2
    assert estimator.n_features_by_modality_ == {"labs": 3, "ecg": 2}
    np.testing.assert_array_equal(estimator.read(table.iloc[[2]])["labs"], table.iloc[[2], :3])


@pytest.mark.parametrize("columns", BY_POSITION.values(), ids=BY_POSITION)
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.csr_array, lambda X: X.to_numpy().tolist()])
def test_columns_of_an_array_are_chosen_by_position(table, columns, form):
    X = Checked(modalities={"labs": columns, "ecg": slice(3, None)}).fit(form(table)).X_
    labs, ecg = (X[name].toarray() if X.kind(name) == "sparse" else X[name] for name in X.names)
    np.testing.assert_array_equal(labs, table.iloc[:, :3])
    np.testing.assert_array_equal(ecg, table.iloc[:, 3:])


def test_one_name_or_position_is_one_column(table):
    X = Checked(modalities={"crp": "crp", "qt": -1, "na": np.int64(1)}).fit(table).X_
    assert X.columns("crp") + X.columns("qt") + X.columns("na") == ["crp", "qt", "na"]
    np.testing.assert_array_equal(X["qt"], table[["qt"]])


def test_columns_may_be_shared_left_out_and_reordered(table):
    X = Checked(modalities={"a": ["k", "crp"], "b": [2, 3]}).fit(table).X_
    np.testing.assert_array_equal(X["a"], table[["k", "crp"]])
    np.testing.assert_array_equal(X["b"], table[["k", "rate"]])


def test_neighbouring_columns_are_views(table):
    values = table.to_numpy()
    for columns in (slice(1, 3), [1, 2], [False, True, True, False, False]):
        X = Checked(modalities={"a": columns}).fit(values).X_
        assert np.shares_memory(X["a"], values)
        assert np.shares_memory(Checked(modalities={"a": columns}).fit(table).X_["a"], values)


def test_columns_keep_their_dtypes():
    frame = pd.DataFrame({"a": np.array([1, 2], "int8"), "b": np.array([1, 2], "float32"), "c": ["u", "v"]})
    X = Checked(modalities={"x": ["a"], "y": ["b"], "z": ["c"]}).fit(frame).X_
    assert (X["x"].dtype, X["y"].dtype, X.kind("z")) == (np.int8, np.float32, "table")


def test_a_row_is_missing_in_the_modality_whose_columns_are_all_nan(table):
    table.loc["x", ["rate", "qt"]] = nan
    X = Checked(modalities={"labs": slice(3), "ecg": slice(3, 5)}).fit(table).X_
    assert X.present.tolist() == [[True, True], [True, False], [True, True], [True, True]]


# at predict


def test_a_frame_is_read_by_the_names_of_the_training_data(table):
    shuffled = table[["qt", "crp", "k", "rate", "na"]].assign(unknown=1.0)
    for columns in (["crp", "na", "k"], slice(3), slice("crp", "k"), [0, 1, 2], [True] * 3 + [False] * 2):
        estimator = Checked(modalities={"labs": columns, "ecg": ["rate", "qt"]}).fit(table)
        X = estimator.read(shuffled)
        np.testing.assert_array_equal(X["labs"], table[["crp", "na", "k"]])
        np.testing.assert_array_equal(X["ecg"], table[["rate", "qt"]])


def test_a_callable_is_asked_at_fit_alone(table):
    asked = []

    def without_nan(X):
        asked.append(len(X))
        return np.flatnonzero(~np.isnan(np.asarray(X)).any(axis=0))

    for form in (np.asarray, pd.DataFrame):
        asked.clear()
        train = table.copy()
        train.loc["w", "na"] = nan
        estimator = Checked(modalities={"whole": without_nan}).fit(form(train))
        test = table.copy()
        test.loc["y", "crp"] = nan
        np.testing.assert_array_equal(estimator.read(form(test))["whole"], test[["crp", "k", "rate", "qt"]])
        assert asked == [4]


def test_a_modality_without_any_of_its_columns_is_missing_for_all(table):
    estimator = Checked(modalities={"labs": ["crp", "na", "k"], "ecg": slice("rate", "qt")}).fit(table)
    X = estimator.read(table[["k", "na", "crp"]])
    assert X.names == ["labs", "ecg"]
    assert X.present.tolist() == [[True, False]] * 4
    with says(ValueError, "no known modality", "it has ['other']", "fitted were ['labs', 'ecg']"):
        estimator.read(table[[]].assign(other=1.0))


def test_a_modality_that_lacks_some_of_its_columns_raises(table):
    estimator = Checked(modalities={"labs": ["crp", "na", "k"], "ecg": ["rate"]}).fit(table)
    with says(ValueError, "'labs' asks for columns that X lacks: ['k'] (1 of 3)", "X has ['crp', 'na'"):
        estimator.read(table[["crp", "na", "rate"]])


def test_frame_and_array_stand_for_each_other_where_widths_are_equal(table):
    by_name = Checked(modalities={"labs": ["crp", "na"], "ecg": ["qt"]}).fit(table)
    np.testing.assert_array_equal(by_name.read(table.to_numpy())["ecg"], table[["qt"]])
    by_position = Checked(modalities={"labs": [0, 1], "ecg": [4]}).fit(table.to_numpy())
    np.testing.assert_array_equal(by_position.read(table)["ecg"], table[["qt"]])
    for estimator in (by_name, by_position):
        with says(ValueError, "X has 4 columns; due are 5, as at fit", "['labs', 'ecg'] are taken by position"):
            estimator.read(table.to_numpy()[:, :4])


def test_columns_of_one_name_are_taken_by_position(table):
    twice = table.set_axis(["a", "a", "b", "b", "c"], axis=1)
    estimator = Checked(modalities={"x": [0, 2], "y": "b"}).fit(twice)
    np.testing.assert_array_equal(estimator.X_["x"], table.iloc[:, [0, 2]])
    np.testing.assert_array_equal(estimator.X_["y"], table.iloc[:, [2, 3]])
    np.testing.assert_array_equal(estimator.read(twice)["x"], table.iloc[:, [0, 2]])
    with says(ValueError, "X has 4 columns; due are 5"):
        estimator.read(twice.iloc[:, :4])


def test_another_fit_settles_the_columns_anew(table):
    estimator = Checked(modalities={"labs": lambda X: [0, 1]}).fit(table)
    estimator.set_params(modalities={"labs": lambda X: [3]}).fit(table)
    np.testing.assert_array_equal(estimator.read(table)["labs"], table[["rate"]])
    assert not hasattr(estimator.fit({"labs": np.ones((2, 2))}), "_selection_")


# errors


def test_columns_that_are_not_there_raise_at_fit(table):
    for columns in (["crp", "ldh"], "ldh", slice("crp", "ldh"), slice("ldh", None)):
        with says(ValueError, "'labs' asks for columns that X lacks: ['ldh']", "X has ['crp', 'na'", "5 in all"):
            Checked(modalities={"labs": columns}).fit(table)
    for columns, odd in (([0, 5], 5), ([-6, 0], -6), (7, 7)):
        for X in (table, table.to_numpy()):
            with says(ValueError, f"'labs' asks for column {odd}, but X has 5 columns"):
                Checked(modalities={"labs": columns}).fit(X)


@pytest.mark.parametrize("columns", [[], np.zeros(0, int), [False] * 5, slice(5, 9), lambda X: []])
def test_a_modality_without_a_column_raises(table, columns):
    for X in (table, table.to_numpy()):
        with says(ValueError, "'labs' selects no column", "of the 5 that X has"):
            Checked(modalities={"labs": columns}).fit(X)


def test_names_without_a_frame_raise(table):
    for columns in ("crp", ["crp", "na"], slice("crp", "na"), slice(None, "na")):
        with says(
            ValueError, "'labs' asks for columns by name", "an array without names", "positions, a slice or a mask"
        ):
            Checked(modalities={"labs": columns}).fit(table.to_numpy())


def test_a_mask_of_another_length_raises(table):
    with says(ValueError, "'labs' has a column mask of shape (2,)", "due is (5,)"):
        Checked(modalities={"labs": [True, False]}).fit(table)


@pytest.mark.parametrize("columns", [1.5, [0.0, 1.0], None, {"a": 1}])
def test_what_selects_no_columns_raises(table, columns):
    with says(ValueError, "'labs'", "due are names, positions, a slice or a mask"):
        Checked(modalities={"labs": columns}).fit(table.to_numpy())


# two-level columns


@pytest.fixture
def two_levels(table):
    table.columns = pd.MultiIndex.from_tuples(
        [("labs", "crp"), ("ecg", "rate"), ("labs", "na"), ("labs", "k"), ("ecg", "qt")]
    )
    return table


def test_two_level_columns_name_the_modalities(two_levels):
    estimator = Checked().fit(two_levels)
    X = estimator.X_
    assert X.names == ["labs", "ecg"]
    assert X.columns("labs") == ["crp", "na", "k"]
    np.testing.assert_array_equal(X["labs"], two_levels["labs"])
    np.testing.assert_array_equal(X["ecg"], two_levels["ecg"])
    assert X.sample_ids.tolist() == list("wxyz")
    assert estimator.n_features_in_ == 2


def test_two_level_columns_may_be_chosen_and_ordered_by_name(two_levels):
    X = Checked(modalities=["ecg", "labs"]).fit(two_levels).X_
    assert X.names == ["ecg", "labs"]
    assert Checked(modalities=["ecg"]).fit(two_levels).X_.names == ["ecg"]
    X = Checked(modalities={"crp": [("labs", "crp")], "ecg": "ecg"}).fit(two_levels).X_
    np.testing.assert_array_equal(X["crp"], two_levels[[("labs", "crp")]])
    np.testing.assert_array_equal(X["ecg"], two_levels["ecg"])


def test_two_level_columns_may_lack_a_modality_at_predict(two_levels):
    estimator = Checked().fit(two_levels)
    assert estimator.read(two_levels[["ecg"]]).present.tolist() == [[False, True]] * 4
    with says(ValueError, "unknown at fit: ['mri']"):
        estimator.read(pd.concat({"labs": two_levels["labs"], "mri": two_levels["ecg"]}, axis=1))
    with says(ValueError, "'labs'", "shape (2,)", "due is shape (3,)"):
        estimator.read(two_levels.drop(columns=[("labs", "na")]))
