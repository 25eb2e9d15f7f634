"""What stands between the values that came and a model: scaling, counts, texts, and rows that are missing."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skfusion.preprocessing import (
    FARTHEST,
    ChannelScaler,
    FittedOnPresent,
    Flatten,
    LogNormalizer,
    MeanFill,
    OneScale,
    Projection,
    SummaryStatistics,
    TextHasher,
    column_groups,
    holds_counts,
    present_rows,
    side_by_side,
    table_preprocessor,
    to_dense,
    varies,
)

NAN = np.nan
CSR = pytest.mark.parametrize("csr", [sparse.csr_matrix, sparse.csr_array])


# Filling


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_nan_is_filled_with_the_training_mean_of_its_column(dtype):
    X = np.array([[1, NAN, NAN], [3, 5, NAN]], dtype=dtype)
    fill = MeanFill().fit(X)
    np.testing.assert_array_equal(fill.means_, [2, 5, 0])
    found = fill.transform(np.array([[NAN, 7, NAN], [9, NAN, 1]], dtype=dtype))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, [[2, 7, 0], [9, 5, 1]])


@pytest.mark.parametrize(
    "X", [np.eye(3), np.arange(6).reshape(3, 2), np.ones((2, 2), bool), sparse.eye_array(3).tocsr()]
)
def test_what_has_no_nan_passes_uncopied(X):
    fill = MeanFill().fit(X)
    assert fill.transform(X) is X
    np.testing.assert_allclose(fill.means_, to_dense(X).mean(axis=0))


@CSR
def test_in_csr_zero_is_a_value_and_stored_nan_is_filled(csr):
    X = csr(np.array([[4.0, 0.0], [NAN, 0.0], [0.0, 3.0]]))
    fill = MeanFill().fit(X)
    np.testing.assert_allclose(fill.means_, [2, 1])
    found = fill.transform(X)
    assert type(found) is csr
    np.testing.assert_allclose(found.toarray(), [[4, 0], [2, 0], [0, 3]])
    assert np.isnan(X.data).sum() == 1


# Counts


@CSR
@pytest.mark.parametrize("dtype", [np.int32, np.uint16, np.float32])
def test_counts_are_scaled_to_the_median_total_and_logged(csr, dtype):
    counts = np.array([[1, 3, 0], [2, 0, 0], [0, 0, 0], [10, 0, 10]])
    X = csr(counts.astype(dtype))
    before = X.copy()
    normalizer = LogNormalizer().fit(X)
    assert normalizer.target_sum_ == 4  # the median of 2, 4 and 20; a sample without a count has no say
    found = normalizer.transform(X)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.toarray(), np.log1p([[1, 3, 0], [4, 0, 0], [0, 0, 0], [2, 0, 2]]), rtol=1e-6)
    assert (before != X).nnz == 0


def test_a_count_that_is_stored_in_parts_is_one_count():
    stored = np.array([1, 2, 3], dtype=np.float32)
    parts = sparse.csr_matrix((stored, np.array([0, 0, 1]), np.array([0, 3])), shape=(1, 2))
    whole = sparse.csr_matrix(parts.toarray())
    normalizer = LogNormalizer().fit(whole)
    np.testing.assert_allclose(normalizer.transform(parts).toarray(), normalizer.transform(whole).toarray())
    assert parts.nnz == 3


def test_no_counts_at_all_stay_zero():
    X = sparse.csr_matrix((3, 4), dtype=np.int64)
    assert LogNormalizer().fit(X).transform(X).nnz == 0


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 1], [2, 0]]), True),
        (np.array([[0, 1], [1, 0]]), True),  # integers
        (np.array([[0.0, 1.0], [2.0, 0.0]]), True),
        (np.array([[0.0, 1.0], [1.0, 0.0]]), False),  # floats that are but 0 and 1
        (np.array([[0.5, 2.0], [0.0, 0.0]]), False),
        (np.array([[-1, 2], [0, 0]]), False),
        (np.array([[True, False]]), False),
        (np.zeros((2, 2)), False),
        (np.array([[NAN, 2.0]]), False),
    ],
)
def test_counts_are_recognised(values, expected):
    assert holds_counts(sparse.csr_matrix(values)) == expected


def test_one_scale_divides_all_columns_by_their_root_mean_square():
    X = np.array([[3.0, 0.0], [0.0, 4.0]])
    np.testing.assert_allclose(OneScale().fit(X).transform(X), X / 2.5)
    assert OneScale().fit(np.zeros((2, 2))).scale_ == 1
    assert OneScale().fit(X).transform(X.astype(np.float32)).dtype == np.float32


# Texts


def texts(*values):
    return np.array([*values, None], dtype=object)[:-1]


def test_texts_become_normalised_rows_by_words_and_pairs_of_words():
    X = texts("warm wool coat", "coat wool warm", "silk", "")
    found = TextHasher().fit(X).transform(X)
    assert found.shape == (4, 2**16)
    assert np.diff(found.indptr).tolist() == [5, 5, 1, 0]
    np.testing.assert_allclose(np.sqrt(found.multiply(found).sum(axis=1)).ravel(), [[1, 1, 1, 0]])
    similarity = (found @ found.T).toarray()
    assert 0.3 < similarity[0, 1] < 0.9  # the words, not their order
    assert similarity[0, 2] == 0


def test_single_digits_are_words_and_single_letters_are_none():
    hasher = TextHasher().fit(texts("grade 1 tumour", "grade 3 tumour", "a grade 12 tumour b", "grade 3a tumour"))
    found = hasher.transform(texts("grade 1 tumour", "grade 3 tumour", "grade tumour", "a grade b tumour", "0.5"))
    assert np.diff(found.indptr).tolist() == [5, 5, 3, 3, 3]
    similarity = (found @ found.T).toarray()
    assert similarity[0, 1] < 0.9
    np.testing.assert_allclose(similarity[2, 3], 1)


def test_rare_words_weigh_more_than_common_ones():
    X = texts("the coat", "the dress", "the scarf", "the hat")
    hasher = TextHasher().fit(X)
    similarity = hasher.transform(texts("the coat")) @ hasher.transform(texts("the dress", "coat")).T
    assert similarity[0, 0] < 0.3 < similarity[0, 1]


def test_tokens_are_taken_as_they_are():
    hasher = TextHasher().fit(texts(["a b", "c"], ["a b"], [7, 8]))
    found = hasher.transform(texts(["a b", "c"], ["a", "b", "c"], [7], []))
    assert np.diff(found.indptr).tolist() == [2, 3, 1, 0]
    assert (found[0] @ found[1].T)[0, 0] > 0
    assert (found[0] @ found[2].T)[0, 0] == 0


# Sequences, images


def test_a_sequence_becomes_five_statistics_a_channel():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4, 9, 2))
    X[1, 6:] = NAN
    X[2, 3, 0] = NAN
    found = SummaryStatistics().fit(X).transform(X)
    assert found.shape == (4, 10)
    time = np.linspace(-1, 1, 9)
    for sample in range(4):
        for channel in range(2):
            values = X[sample, :, channel]
            there = ~np.isnan(values)
            slope = np.polyfit(time[there], values[there], 1)[0]
            due = [np.nanmean(values), np.nanstd(values), np.nanmin(values), np.nanmax(values), slope]
            np.testing.assert_allclose(found[sample, channel::2], due)


def test_statistics_of_a_channel_without_values_are_nan_and_of_a_single_step_have_no_slope():
    X = np.full((2, 4, 1), NAN)
    X[0, 2] = 5
    np.testing.assert_array_equal(SummaryStatistics().fit(X).transform(X), [[5, 0, 5, 5, 0], [NAN] * 5])


def test_an_image_becomes_a_row():
    X = np.arange(24).reshape(2, 1, 3, 4)
    np.testing.assert_array_equal(Flatten().fit(X).transform(X), np.arange(24).reshape(2, 12))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_channels_are_standardised_and_padding_stays(dtype):
    X = np.random.default_rng(0).normal(5, 3, size=(20, 6, 2)) * [1, 100]
    X = X.astype(dtype)
    if dtype is not np.int64:
        X[::2, 4:] = NAN
        X[1, 0, 1] = NAN
    found = ChannelScaler(axis=2).fit(X).transform(X)
    assert found.dtype == np.float32
    flat = X.reshape(-1, 2).astype(float)
    expected = (X - np.nanmean(flat, axis=0)) / np.nanstd(flat, axis=0)
    expected[1, 0, 1] = 0 if dtype is not np.int64 else expected[1, 0, 1]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_channels_without_scaling_are_filled_alone_to_the_bit():
    X = np.random.default_rng(0).normal(1e6, 3, size=(5, 3, 2, 2))
    X[0, 1, 0, 0] = NAN
    found = ChannelScaler(axis=1, scale=False).fit(X).transform(X)
    gap = np.isnan(X)
    np.testing.assert_array_equal(found[~gap], X[~gap])
    np.testing.assert_allclose(found[gap], np.nanmean(X[:, 1]))
    whole = np.arange(24).reshape(2, 3, 4)
    assert ChannelScaler(axis=2, scale=False).fit(whole).transform(whole) is whole


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("axis", [1, 2])
def test_channels_end_where_all_values_are_equally_far_but_raw_ones_do_not(axis, dtype):
    X = np.random.default_rng(0).normal(size=(20, 6, 2)).astype(dtype)
    X = X.swapaxes(1, 2)[..., None] if axis == 1 else X
    new = X[:4].copy()
    by_channel = np.moveaxis(new, axis, -1)
    by_channel[0, 0] = -1e38
    by_channel[1, 0, ..., 0] = 1e40 if dtype is np.float64 else NAN
    before = new.copy()
    found = np.moveaxis(ChannelScaler(axis, n_raw=1).fit(X).transform(new), axis, -1)
    np.testing.assert_array_equal(new, before)
    np.testing.assert_array_equal(np.unique(found[0, 0]), np.float32([-1e38, -FARTHEST]))
    np.testing.assert_array_equal(np.unique(found[1, 0, ..., 0]), FARTHEST if dtype is np.float64 else 0)
    np.testing.assert_array_equal(
        found[2:], np.moveaxis(ChannelScaler(axis, n_raw=1).fit(X).transform(X), axis, -1)[2:4]
    )
    assert np.isfinite(ChannelScaler(axis).fit(new).transform(new)).all()


def test_a_constant_channel_is_zero():
    X = np.full((4, 3, 1), 7.0)
    assert not ChannelScaler(axis=2).fit(X).transform(X).any()


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("axis", [1, 2])
def test_raw_channels_are_left_alone_and_their_gaps_get_a_value_that_occurs(axis, scale):
    X = np.random.default_rng(0).normal(5, 3, size=(20, 6, 3)).astype(np.float32)
    X[:, :, 2] = np.arange(20)[:, None] % 2  # the mean, .5, is no id
    X[0, 0, 1:] = NAN
    X[1, 5] = NAN
    last, gaps = X[..., 1:], np.isnan(X[..., 1:])
    if axis == 1:
        X = X.swapaxes(1, 2)[..., None]
    found = ChannelScaler(axis=axis, scale=scale, n_raw=2).fit(X).transform(X)
    one_by_one = ChannelScaler(axis=axis, scale=scale).fit(X).transform(X)
    found, one_by_one = (v if axis == 2 else v[..., 0].swapaxes(1, 2) for v in (found, one_by_one))
    np.testing.assert_array_equal(found[..., 0], one_by_one[..., 0])
    np.testing.assert_array_equal(found[..., 1:][~gaps], last[~gaps])
    assert found[0, 0, 2] in (0, 1)
    assert found[0, 0, 1] in last[..., 0]
    assert np.isnan(found[1, 5]).all() == (axis == 2)


def test_raw_channels_may_be_integers_or_hold_nothing():
    X = np.arange(24).reshape(4, 3, 2)
    np.testing.assert_array_equal(ChannelScaler(axis=2, n_raw=1).fit(X).transform(X)[..., 1], X[..., 1])
    X = np.where(np.arange(2) == 1, NAN, X)
    assert not ChannelScaler(axis=2, n_raw=1).fit(X).transform(X)[..., 1].any()


# By kind


def fitted(X, **options):
    return table_preprocessor("m", X, random_state=0, **options).fit(X).transform(X)


@pytest.mark.parametrize("project", [False, True])
def test_a_table_is_standardised(project):
    X = np.random.default_rng(0).normal(5, 3, size=(30, 700))
    np.testing.assert_allclose(fitted(X, project=project), StandardScaler().fit_transform(X))
    np.testing.assert_array_equal(fitted(X, scale=False, project=project), X)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("form", "dtype"),
    [(np.asarray, np.float16), *((form, dtype) for form in (np.asarray, sparse.csr_matrix) for dtype in ("f4", "f8"))],
)
def test_standardised_values_end_where_all_are_equally_far(form, dtype):
    X = np.random.default_rng(0).normal(size=(30, 4)).astype(dtype) / 100
    new = X[:3].copy()
    top = float(np.finfo(dtype).max)
    largest = min(top, 1e200)
    new[0, :3] = [-largest, largest, 0]
    before = new.copy()
    for scale in (True, False):
        scaler = table_preprocessor("m", form(X), scale=scale).fit(form(X))
        found = to_dense(scaler.transform(form(new)))
        np.testing.assert_array_equal(new, before)
        end = min(FARTHEST, top) if scale else largest
        np.testing.assert_array_equal(found[0, :2], np.array([-end, end], dtype))
        np.testing.assert_array_equal(found[1:], to_dense(scaler.transform(form(X)))[1:3])


def test_floats_in_csr_are_scaled_without_centring():
    X = sparse.random(40, 30, 0.3, format="csr", random_state=0)
    found = fitted(X)
    np.testing.assert_allclose(found.toarray(), StandardScaler(with_mean=False).fit_transform(X).toarray())
    assert found.nnz == X.nnz
    np.testing.assert_array_equal(fitted(X, scale=False).toarray(), X.toarray())


def counts(n_samples, width):
    return sparse.csr_matrix(np.random.default_rng(0).poisson(0.4, size=(n_samples, width)))


def test_counts_are_logged_and_scaled_unless_told_not_to():
    X = counts(40, 30)
    expected = StandardScaler(with_mean=False).fit_transform(LogNormalizer().fit(X).transform(X))
    np.testing.assert_allclose(fitted(X).toarray(), expected.toarray(), rtol=1e-5)
    np.testing.assert_array_equal(fitted(X, scale=False).toarray(), X.toarray())


def test_wide_counts_are_projected_on_their_principal_components_at_one_scale():
    X = counts(80, 600)
    logs = LogNormalizer().fit(X).transform(X).toarray()
    expected = PCA(50, svd_solver="full").fit_transform(logs)
    found = fitted(X)
    assert found.shape == (80, 50)
    np.testing.assert_allclose(np.abs(found), np.abs(expected) / np.sqrt(np.mean(expected**2)), atol=0.02)
    assert found.std(axis=0)[0] > 1.1 * found.std(axis=0)[-1]


@pytest.mark.parametrize(
    ("X", "options", "width"),
    [
        (counts(80, 512), {}, 512),
        (counts(80, 513), {}, 50),
        (counts(80, 513), {"scale": False}, 513),
        (counts(80, 513), {"scale": False, "project": True}, 50),
        (counts(80, 513) * 0.5, {}, 513),
        (counts(80, 513) * 0.5, {"project": True}, 50),
        (counts(20, 513), {}, 19),
        (counts(80, 100), {"project": True}, 100),
    ],
)
def test_csr_is_projected_where_it_is_wide_and_a_dense_model_follows_or_it_holds_counts(X, options, width):
    assert fitted(X, **options).shape == (X.shape[0], width)


def test_single_nan_in_any_table_is_the_mean():
    X = np.array([[1.0, 2.0], [NAN, 4.0], [5.0, 6.0]])
    assert fitted(X)[1, 0] == 0
    assert fitted(X, scale=False)[1, 0] == 3
    assert fitted(sparse.csr_matrix(X), scale=False)[1, 0] == 3


@pytest.mark.parametrize("dtype", [object, "string", "category", pd.CategoricalDtype(pd.array(["a", "b"], "string"))])
@pytest.mark.parametrize("missing", [None, NAN, pd.NA])
def test_a_missing_category_is_one_of_its_own_whatever_stands_for_it(dtype, missing):
    town = ["a", "b", missing, "a"]
    X = pd.DataFrame({"town": pd.Series(town, dtype=dtype), "on": pd.array([True, False, None, True], "boolean")})
    preprocessor = table_preprocessor("m", X, scale=False).fit(X)
    assert preprocessor.get_feature_names_out().tolist() == ["on", "town_a", "town_b", "town_nan"]
    expected = [[1, 1, 0, 0], [0, 0, 1, 0], [2 / 3, 0, 0, 1], [1, 1, 0, 0]]
    np.testing.assert_allclose(to_dense(preprocessor.transform(X)), expected)
    for other in (None, NAN, pd.NA):
        new = pd.DataFrame({"town": pd.Series([other, "c"], dtype=object), "on": [True, False]})
        np.testing.assert_array_equal(to_dense(preprocessor.transform(new)), [[1, 0, 0, 1], [0, 0, 0, 0]])


def test_a_category_that_training_never_lacked_is_none_where_it_is_missing():
    X = pd.DataFrame({"town": pd.array(["a", "b"], "string"), "grade": pd.Categorical([2, 1])})
    preprocessor = table_preprocessor("m", X).fit(X)
    new = pd.DataFrame({"town": pd.array([None, "b"], "string"), "grade": pd.Categorical([1, None])})
    np.testing.assert_array_equal(to_dense(preprocessor.transform(new)), [[0, 0, 1, 0], [0, 1, 0, 0]])
    assert column_groups(preprocessor) == [0, 0, 1, 1]


def test_categories_are_one_hot_and_an_unknown_one_is_none_of_them():
    X = pd.DataFrame(
        {
            "age": [10.0, 30.0, NAN],
            "n": pd.array([1, None, 3], dtype="Int64"),
            "sex": pd.Categorical(["f", "m", "f"]),
            "town": ["a", "b", None],
        }
    )
    preprocessor = table_preprocessor("m", X, scale=False).fit(X)
    found = to_dense(preprocessor.transform(X))
    expected = [[10, 1, 1, 0, 1, 0, 0], [30, 2, 0, 1, 0, 1, 0], [20, 3, 1, 0, 0, 0, 1]]
    np.testing.assert_array_equal(found, expected)
    new = pd.DataFrame({"age": [0.0], "n": pd.array([0], "Int64"), "sex": ["x"], "town": ["c"]})
    assert not to_dense(preprocessor.transform(new)).any()
    names = ["age", "n", "sex_f", "sex_m", "town_a", "town_b", "town_nan"]
    assert preprocessor.get_feature_names_out().tolist() == names
    np.testing.assert_allclose(to_dense(fitted(X))[:, 0], [-1, 1, 0])


def test_texts_are_projected_where_a_dense_model_follows():
    X = texts(*(f"word{i % 7} other{i % 5}" for i in range(60)))
    assert fitted(X).shape == (60, 2**16)
    projected = fitted(X, project=True)
    assert isinstance(projected, np.ndarray)
    assert projected.shape == (60, 34)  # of 35 texts


FORMS = pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])


@FORMS
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rounding_is_no_variance(form, dtype):
    X = np.tile(np.linspace(0.1, 7, 600), (60, 1))
    assert not varies(form(X.astype(dtype)))
    assert not varies(form(0 * X.astype(dtype)))
    X[0] *= 1.001
    assert varies(form(X.astype(dtype)))


@FORMS
def test_components_without_variance_are_left_out_and_the_others_stay(form):
    rng = np.random.default_rng(0)
    X = 3 + rng.normal(size=(40, 4)) @ rng.normal(size=(4, 600))
    projection = Projection(20, random_state=0).fit(form(X))
    found = projection.transform(form(X))
    assert found.shape == (40, len(projection.get_feature_names_out())) == (40, 4)
    np.testing.assert_allclose(np.abs(found), np.abs(PCA(4).fit_transform(X)))
    np.testing.assert_allclose(projection.inverse_transform(found), X)
    full = rng.normal(size=(40, 600))
    solver = "auto" if form is np.asarray else "arpack"
    expected = PCA(20, svd_solver=solver, random_state=0).fit(form(full)).transform(form(full))
    np.testing.assert_array_equal(Projection(20, random_state=0).fit(form(full)).transform(form(full)), expected)


@FORMS
def test_a_constant_table_has_one_component_which_is_zero(form):
    X = np.full((5, 600), 0.1)
    projection = Projection().fit(form(X))
    new = projection.transform(form(X + np.arange(600)))
    np.testing.assert_array_equal(new, np.zeros((5, 1)))
    assert len(projection.get_feature_names_out()) == 1
    np.testing.assert_allclose(projection.inverse_transform(new), X)


FRAME = pd.DataFrame(
    {"c": pd.Categorical(list("abca")), "n": [1.0, 2, 3, 4], "s": ["u", "v", "u", None], "i": [1, 2, 3, 4]}
)


@pytest.mark.parametrize(
    ("columns", "groups"),
    [
        (["c", "n", "s", "i"], [0, 1, 2, 2, 2, 3, 3, 3]),
        (["n", "c"], [0, 1, 1, 1]),
        (["s", "c"], [0, 0, 0, 1, 1, 1]),
    ],
)
def test_the_columns_of_a_prepared_frame_know_their_feature(columns, groups):
    for options in ({"scale": True}, {"scale": False, "project": True}):
        frame = FRAME[columns]
        prepared = FittedOnPresent(table_preprocessor("m", frame, **options), frame)
        assert prepared.groups == groups
        assert prepared.shape == (len(groups),)


@pytest.mark.parametrize("values", [np.eye(4), sparse.csr_matrix(np.eye(4)), np.array(["a", "b c"], dtype=object)])
def test_no_other_columns_belong_together(values):
    transformer = table_preprocessor("m", values).fit(values)
    assert column_groups(transformer) is None


def test_sequences_images_and_volumes_become_scaled_tables():
    rng = np.random.default_rng(0)
    for shape, width in (((6, 2), 10), ((2, 3, 3), 18), ((1, 2, 2, 2), 8)):
        found = fitted(rng.normal(4, 2, size=(30, *shape)))
        assert found.shape == (30, width)
        np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-9)
        np.testing.assert_allclose(found.std(axis=0), 1)


# Side by side


@CSR
def test_tables_side_by_side_are_csr_where_all_are_or_few_values_are_stored(csr):
    dense, full, rare = np.ones((10, 2)), csr(np.ones((10, 8))), csr((10, 98))
    assert sparse.issparse(side_by_side([full, full]))
    assert sparse.issparse(side_by_side([dense, rare]))
    assert isinstance(side_by_side([dense, full]), np.ndarray)
    assert side_by_side([dense]) is dense
    for tables in ([full, full], [dense, rare], [dense, full], [rare, dense, full]):
        found = side_by_side(tables)
        assert not sparse.issparse(found) or found.format == "csr"
        np.testing.assert_array_equal(to_dense(found), np.hstack([to_dense(t) for t in tables]))


# Rows that are missing


def test_rows_to_learn_from_are_those_present_laid_out_row_by_row():
    X = np.asfortranarray(np.arange(12.0).reshape(4, 3))
    assert present_rows(X, np.ones(4, bool)).flags.c_contiguous
    np.testing.assert_array_equal(present_rows(X, np.array([True, False, True, False])), X[[0, 2]])
    plain = np.arange(12.0).reshape(4, 3)
    assert present_rows(plain, np.ones(4, bool)) is plain


@pytest.mark.parametrize("form", ["array", "csr", "frame"])
def test_a_transformer_sees_present_rows_alone_and_the_others_come_out_as_zeros(form):
    X = np.array([[1.0, 2.0], [np.inf, NAN], [3.0, 4.0], [5.0, 6.0]])
    present = np.array([True, False, True, True])
    seen = []

    def times_ten(rows):
        seen.append(np.asarray(rows))
        out = 10 * rows
        return {"csr": sparse.coo_matrix, "frame": pd.DataFrame}.get(form, np.asarray)(out)

    transformer = FittedOnPresent(FunctionTransformer(times_ten), X[present])
    found = transformer.apply(X, present)
    assert sparse.issparse(found) == (form == "csr")
    np.testing.assert_array_equal(to_dense(found), [[10, 20], [0, 0], [30, 40], [50, 60]])
    assert all(np.isfinite(rows).all() for rows in seen)
    assert transformer.shape == (2,)
    nobody = transformer.apply(X, np.zeros(4, bool))
    assert sparse.issparse(nobody) == (form == "csr")
    np.testing.assert_array_equal(to_dense(nobody), np.zeros((4, 2)))
    np.testing.assert_array_equal(to_dense(transformer.apply(X[:0], present[:0])), np.zeros((0, 2)))
