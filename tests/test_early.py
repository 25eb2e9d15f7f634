"""What is special to early fusion: how tables are put together, and extractors that no later loss reaches."""

import copy
import hashlib

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skfusion import EarlyFusionTransformer, JointFusionRegressor, Modalities, ModalityImputer
from skfusion.extractors import Autoencoder, FrozenModule
from skfusion.imputation import Factor, Linear

SINGLE_NAN = pytest.mark.filterwarnings("ignore:single values are missing")


def tables(n_samples=30, widths=(3, 3), seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(1, 1, size=(n_samples, width)) for name, width in zip("abcd", widths)}


def csr(n_samples, width, density, seed=0):
    return sparse.random(n_samples, width, density, format="csr", random_state=seed, dtype=np.float64)


def without_densifying(monkeypatch):
    """Let every way from a sparse matrix to an array fail."""

    def fail(*args, **kwargs):
        raise AssertionError("a sparse matrix was made dense")

    for form in ("csr", "csc", "coo", "dia", "lil"):
        for flavour in ("matrix", "array"):
            cls = getattr(sparse, f"{form}_{flavour}")
            for method in ("toarray", "todense"):
                monkeypatch.setattr(cls, method, fail)


# Type I: values as they are


def test_a_linear_model_on_the_concatenation_has_the_coefficients_of_one_on_hstack():
    X = tables(80, (4, 3, 2))
    y = (X["a"][:, 0] + X["b"][:, 0] + np.random.default_rng(1).normal(size=80) > 2).astype(int)
    fused = make_pipeline(EarlyFusionTransformer(), LogisticRegression(tol=1e-10, max_iter=1000)).fit(X, y)
    alone = LogisticRegression(tol=1e-10, max_iter=1000).fit(np.hstack(list(X.values())), y)
    np.testing.assert_allclose(fused[-1].coef_, alone.coef_, atol=1e-8)
    np.testing.assert_allclose(fused[-1].intercept_, alone.intercept_, atol=1e-8)
    assert np.abs(alone.coef_).max() > 0.1


A = np.array([[1.0, -2.0], [3.0, 4.0], [5.0, -6.0], [np.nan, np.nan]])
B = np.array([[10.0, 20.0], [np.nan, np.nan], [-30.0, -40.0], [np.nan, np.nan]])
C = np.array([[0.5, 0.25], [2.0, -1.0], [np.nan, np.nan], [np.nan, np.nan]])
MEAN_A, MEAN_B, MEAN_C = [3.0, -4 / 3], [-10.0, -10.0], [1.25, -0.375]


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("concat", [[1, -2, 10, 20, 0.5, 0.25], [3, 4, *MEAN_B, 2, -1], [5, -6, -30, -40, *MEAN_C]]),
        # Two of three modalities count one and a half times in a sum.
        ("sum", [[11.5, 18.25], [5 * 1.5, 3 * 1.5], [-25 * 1.5, -46 * 1.5]]),
        ("mean", [[11.5 / 3, 18.25 / 3], [2.5, 1.5], [-12.5, -23]]),
        ("max", [[10, 20], [3, 4], [5, -6]]),
        ("product", [[5, -10], [6, -4], [-150, 240]]),
    ],
)
@pytest.mark.parametrize("container", [np.asarray, sparse.csr_matrix, sparse.csr_array])
def test_each_method_by_hand_with_missing_modalities(method, expected, container):
    data = {"a": A, "b": B, "c": C}
    present = np.stack([~np.isnan(values[:, 0]) for values in data.values()], axis=1)[:3]
    X = Modalities({name: container(np.nan_to_num(values[:3])) for name, values in data.items()}, present=present)
    found = EarlyFusionTransformer(method).fit_transform(X)
    assert sparse.issparse(found) == (container is not np.asarray)
    np.testing.assert_allclose(found.toarray() if sparse.issparse(found) else found, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("concat", [*MEAN_A, *MEAN_B]),
        ("sum", np.add(MEAN_A, MEAN_B)),
        ("mean", np.add(MEAN_A, MEAN_B) / 2),
        ("max", np.maximum(MEAN_A, MEAN_B)),
        ("product", np.multiply(MEAN_A, MEAN_B)),
        (lambda X: X["a"] - X["b"], np.subtract(MEAN_A, MEAN_B)),
    ],
    ids=["concat", "sum", "mean", "max", "product", "callable"],
)
def test_a_sample_with_nothing_present_is_the_fusion_of_the_training_means(method, expected):
    fitted = EarlyFusionTransformer(method).fit({"a": A[:3], "b": B[:3]})
    np.testing.assert_allclose(fitted.transform({"a": A, "b": B})[3], expected, atol=1e-12)


def test_a_callable_gets_filled_arrays_by_name_and_gives_the_table():
    seen = []

    def difference(X):
        seen.append({name: values.copy() for name, values in X.items()})
        return X["b"] - X["a"]

    X = {"a": A[:3], "b": sparse.csr_matrix(np.nan_to_num(B[:3]))}
    found = EarlyFusionTransformer(difference).fit_transform(X)
    assert list(seen[-1]) == ["a", "b"]
    assert all(isinstance(values, np.ndarray) for values in seen[-1].values())
    np.testing.assert_array_equal(found, np.nan_to_num(B[:3]) - A[:3])
    EarlyFusionTransformer(difference).fit_transform({"a": A[:3], "b": B[:3]})
    np.testing.assert_array_equal(seen[-1]["b"][1], MEAN_B)


def test_a_missing_modality_is_filled_with_the_mean_of_training_not_of_the_samples_at_hand():
    fitted = EarlyFusionTransformer().fit({"a": A[:3], "b": B[:3]})
    found = fitted.transform({"a": np.full((2, 2), 100.0), "b": np.array([[1e3, 1e3], [np.nan, np.nan]])})
    np.testing.assert_allclose(found, [[100, 100, 1e3, 1e3], [100, 100, *MEAN_B]])


# Missing modalities filled from those present


def related(n_samples=60, seed=0):
    """Three modalities of one latent value; in training some samples lack the second or the third."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n_samples, 1))
    X = {
        name: z @ np.ones((1, width)) + 0.1 * rng.normal(size=(n_samples, width))
        for name, width in zip("abc", (2, 3, 4))
    }
    X["b"][::4], X["c"][1::4] = np.nan, np.nan
    return X


@pytest.mark.parametrize("strategy", ["factor", "linear", "knn", Factor(1), Linear(alpha=0)])
def test_a_strategy_fills_what_the_imputer_would_fill(strategy):
    X, new = related(), related(20, seed=1)
    imputer = ModalityImputer(strategy, random_state=0, output="array").fit(X)
    fusion = EarlyFusionTransformer(fill_missing=strategy, random_state=0).fit(X)
    for samples in (X, new, {"b": new["b"]}):
        np.testing.assert_allclose(fusion.transform(samples), imputer.transform(samples), atol=1e-12)
    assert not hasattr(strategy, "targets_")


def test_a_modality_that_training_never_lacked_is_filled_from_the_others():
    a = np.arange(20.0)[:, None]
    fusion = EarlyFusionTransformer(fill_missing=Linear(alpha=0)).fit({"a": a, "b": np.c_[10 * a, 1 - a]})
    np.testing.assert_allclose(fusion.transform({"a": [[3.0], [30.0]]}), [[3, 30, -2], [30, 300, -29]])


def test_what_is_filled_is_what_the_extractors_give_and_is_weighted_as_if_it_had_been_there():
    X = related()
    extractors = {"b": make_pipeline(StandardScaler(), PCA(1))}
    plain = EarlyFusionTransformer(transformers=extractors, fill_missing="factor").fit(X)
    twice = EarlyFusionTransformer(transformers=extractors, fill_missing="factor", weights={"b": 2}).fit(X)
    found, weighted = plain.transform(X), twice.transform(X)
    assert found.shape == (60, 2 + 1 + 4)
    assert abs(np.corrcoef(found[::4, 2], X["a"][::4].mean(axis=1))[0, 1]) > 0.98
    np.testing.assert_allclose(weighted, found * [1, 1, 2, 1, 1, 1, 1])


def test_complete_samples_are_the_same_to_the_bit_however_others_are_filled():
    X, whole = related(), tables(10, (2, 3, 4))
    mean, factor = (EarlyFusionTransformer(fill_missing=fill).fit(X).transform(whole) for fill in ("mean", "factor"))
    np.testing.assert_array_equal(mean, factor)


@pytest.mark.parametrize(
    ("options", "names"),
    [({}, "a"), ({"method": "mean", "transformers": PCA(1)}, "abc"), ({"fill_missing": "mean"}, "abc")],
)
def test_no_strategy_is_fitted_where_it_has_nothing_to_do(options, names):
    X = {name: values for name, values in related().items() if name in names}
    options = {"fill_missing": "factor", **options}
    fusion = EarlyFusionTransformer(**options).fit(X)
    assert fusion.filler_ is None
    by_mean = EarlyFusionTransformer(**{**options, "fill_missing": "mean"}).fit(X)
    np.testing.assert_array_equal(fusion.transform(X), by_mean.transform(X))


def test_wide_csr_is_neither_filled_nor_filled_from():
    X = {**related(), "wide": csr(60, 600, 0.05)}
    present = {"wide": np.arange(60) % 5 > 0}
    with_wide = (
        EarlyFusionTransformer(fill_missing="factor")
        .fit(Modalities(X, present=present))
        .transform(Modalities(X, present=present))
    )
    alone = EarlyFusionTransformer(fill_missing="factor").fit(related()).transform(related())
    np.testing.assert_array_equal(with_wide[:, :9].toarray(), alone)
    assert with_wide[:, 9:][::5].nnz == 0


def test_narrow_csr_is_filled_like_any_table():
    X = related()
    X["b"] = np.nan_to_num(X["b"])
    present = {"b": np.arange(60) % 4 > 0}
    dense, sparse_ = (
        EarlyFusionTransformer(fill_missing="factor").fit_transform(Modalities({**X, "b": b}, present=present))
        for b in (X["b"], sparse.csr_matrix(X["b"]))
    )
    np.testing.assert_allclose(sparse_, dense, atol=1e-8)


@pytest.mark.parametrize("fill", ["median", None])
def test_an_unknown_strategy_raises_those_that_exist(fill):
    match = "fill_missing is 'median'; due is one of .*'factor'" if fill else "'fill_missing' parameter .*must be"
    with pytest.raises(ValueError, match=match):
        EarlyFusionTransformer(fill_missing=fill).fit(related())


@pytest.mark.parametrize("method", ["sum", "mean", "max", "product"])
def test_unequal_widths_raise_with_the_widths_and_what_to_do(method):
    with pytest.raises(ValueError, match=rf"'{method}' needs equal widths.*'a': 3, 'b': 5.*method='concat'"):
        EarlyFusionTransformer(method).fit(tables(widths=(3, 5)))


def test_an_unknown_method_lists_those_that_exist():
    with pytest.raises(ValueError, match=r"'method' parameter .* must be a str among .*concat.*callable.*Got 'stack'"):
        EarlyFusionTransformer("stack").fit(tables())


# Weights


@pytest.mark.parametrize("weights", [{"a": 2.0, "b": 0.5}, [2.0, 0.5], (2.0, 0.5), np.array([2.0, 0.5])])
@pytest.mark.parametrize(
    ("method", "combine"),
    [
        ("concat", lambda a, b: np.hstack([2 * a, b / 2])),
        ("sum", lambda a, b: 2 * a + b / 2),
        ("mean", lambda a, b: (2 * a + b / 2) / 2.5),
        ("max", lambda a, b: np.maximum(2 * a, b / 2)),
        ("product", lambda a, b: a * b),
    ],
)
def test_weights_are_factors_of_the_modalities(weights, method, combine):
    X = tables()
    fitted = EarlyFusionTransformer(method, weights=weights).fit(X)
    assert fitted.weights_ == {"a": 2.0, "b": 0.5}
    np.testing.assert_allclose(fitted.transform(X), combine(X["a"], X["b"]), rtol=1e-12)


def test_a_modality_that_a_dict_of_weights_leaves_out_counts_once():
    assert EarlyFusionTransformer(weights={"b": 3.0}).fit(tables()).weights_ == {"a": 1.0, "b": 3.0}


def test_weights_are_renormalised_over_the_modalities_present():
    X = {"a": A[:2], "b": B[:2]}
    weights = {"a": 1.0, "b": 3.0}
    mean = EarlyFusionTransformer("mean", weights=weights).fit_transform(X)
    np.testing.assert_allclose(mean, [[(1 + 30) / 4, (-2 + 60) / 4], [3, 4]])
    total = EarlyFusionTransformer("sum", weights=weights).fit_transform(X)
    np.testing.assert_allclose(total, 4 * mean)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0], r"weights is \[1.0\]; due are 2 numbers, one for each of \['a', 'b'\]"),
        ({"c": 1.0}, r"weights names the modalities \['c'\], which X lacks; X has \['a', 'b'\]"),
        ([1.0, -1.0], r"weights \[1.0, -1.0\] add up to 0"),
    ],
)
def test_weights_that_make_no_sense_raise(weights, message):
    with pytest.raises(ValueError, match=message):
        EarlyFusionTransformer("mean", weights=weights).fit(tables())


@pytest.mark.parametrize("shape", [(60, 5), (60, 1), (600, 530), (20, 700)])
@pytest.mark.parametrize("container", [np.asarray, sparse.csr_matrix])
def test_block_weights_bring_the_first_singular_value_of_every_modality_to_1(shape, container):
    rng = np.random.default_rng(0)
    wide = rng.normal(3, 2, size=shape) * (rng.random(shape) < 0.5)
    X = {"a": container(wide), "b": rng.normal(size=(shape[0], 4)) * 50}
    found = EarlyFusionTransformer(weights="block").fit_transform(X)
    found = found.toarray() if sparse.issparse(found) else found
    for block in (found[:, : shape[1]], found[:, shape[1] :]):
        assert np.linalg.norm(block, 2) == pytest.approx(1, rel=1e-6)


def test_block_weights_go_by_the_rows_that_have_the_modality():
    X = tables(40)
    X["b"][::2] = np.nan
    fitted = EarlyFusionTransformer(weights="block").fit(X)
    assert fitted.weights_["b"] == pytest.approx(1 / np.linalg.norm(X["b"][1::2], 2))


def test_block_weights_keep_240_columns_from_drowning_6():
    rng = np.random.default_rng(0)
    latent, nuisance = rng.normal(size=(2, 300))
    wide = nuisance[:, None] + 3 * rng.normal(size=(300, 240))
    narrow = latent[:, None] + 0.3 * rng.normal(size=(300, 6))
    found = {}
    for weights in (None, "block"):
        axes = make_pipeline(EarlyFusionTransformer(weights=weights), PCA(2)).fit_transform({"a": wide, "b": narrow})
        found[weights] = LinearRegression().fit(axes, latent).score(axes, latent)
    assert found[None] < 0.1
    assert found["block"] > 0.9


# CSR


@pytest.mark.parametrize("method", ["concat", "sum", "mean", "max", "product"])
@pytest.mark.parametrize("weights", [None, "block"])
def test_csr_in_all_modalities_gives_csr_and_is_never_made_dense(monkeypatch, method, weights):
    present = np.random.default_rng(0).random((40, 2)) < 0.8
    present[:, 0] |= ~present.any(axis=1)
    data = {"a": csr(40, 600, 0.4), "b": csr(40, 600, 0.01, seed=1)}
    X = Modalities(data, present=present)
    dense = Modalities({name: values.toarray() for name, values in data.items()}, present=present)
    options = {"method": method, "weights": weights, "add_indicator": True}
    expected = EarlyFusionTransformer(**options).fit(dense).transform(dense)
    with monkeypatch.context() as patch:
        without_densifying(patch)
        found = EarlyFusionTransformer(**options).fit(X).transform(X)
    assert sparse.issparse(found)
    assert found.format == "csr"
    rows = present.all(axis=1) if method == "concat" else slice(None)  # the mean of a wide CSR is not filled in
    np.testing.assert_allclose(found.toarray()[rows], expected[rows], atol=1e-9)


def test_rows_of_wide_csr_that_are_missing_stay_empty():
    present = np.array([[True, True], [True, False], [True, True]])
    X = Modalities({"a": csr(3, 600, 0.4), "b": csr(3, 513, 0.4, seed=1)}, present=present)
    found = EarlyFusionTransformer().fit_transform(X)
    assert found[1, 600:].nnz == 0
    assert found[2, 600:].nnz > 0


def test_csr_beside_arrays_is_csr_where_few_values_are_stored_and_an_array_elsewhere():
    narrow = tables(40, (3,))["a"]
    for density, is_csr in ((0.05, True), (0.9, False)):
        X = {"a": narrow, "b": csr(40, 50, density)}
        found = EarlyFusionTransformer().fit_transform(X)
        assert sparse.issparse(found) == is_csr
        found = found.toarray() if is_csr else found
        np.testing.assert_array_equal(found, np.hstack([narrow, X["b"].toarray()]))


@pytest.mark.parametrize("density", [0.05, 0.9])
def test_new_samples_come_in_the_form_of_training_however_many_values_they_store(density):
    narrow = tables(40, (3,))["a"]
    fitted = EarlyFusionTransformer().fit({"a": narrow, "b": csr(40, 50, density)})
    for other in (0.05, 0.9):
        new = {"a": narrow, "b": csr(40, 50, other, seed=2)}
        found = fitted.transform(new)
        assert sparse.issparse(found) == (density < 0.3)
        found = found.toarray() if sparse.issparse(found) else found
        np.testing.assert_array_equal(found, np.hstack([narrow, new["b"].toarray()]))


# Indicators and names


@pytest.mark.parametrize("method", ["concat", "mean"])
def test_indicators_are_1_where_a_modality_is_missing(method):
    X = {"a": A[:3], "b": B[:3]}
    plain = EarlyFusionTransformer(method).fit_transform(X)
    found = EarlyFusionTransformer(method, add_indicator=True).fit(X)
    np.testing.assert_array_equal(found.transform(X), np.c_[plain, [[0, 0], [0, 1], [0, 0]]])
    assert found.get_feature_names_out()[-2:].tolist() == ["missing_a", "missing_b"]


def test_names_of_columns_come_from_the_extractors():
    frame = pd.DataFrame({"age": [1.0, 2.0, 4.0], "sex": pd.Categorical(["f", "m", "f"])})
    X = {"labs": pd.DataFrame(A[:3], columns=["crp", "ldh"]), "person": frame, "ecg": np.zeros((3, 4, 1))}
    found = EarlyFusionTransformer(transformers={"labs": PCA(1), "ecg": torch.nn.Flatten()}).fit(X)
    assert found.get_feature_names_out().tolist() == [
        "labs__pca0",
        "person__age",
        "person__sex_f",
        "person__sex_m",
        *(f"ecg__frozenmodule{i}" for i in range(4)),
    ]


@pytest.mark.parametrize(
    ("method", "expected"), [("mean", ["mean0", "mean1"]), (lambda X: X["a"] - X["b"], ["fused0", "fused1"])]
)
def test_columns_that_are_no_modality_s_own_are_numbered(method, expected):
    fitted = EarlyFusionTransformer(method).fit({"a": A[:3], "b": B[:3]})
    assert fitted.get_feature_names_out().tolist() == expected


# Type II: extractors


def test_a_transformer_is_fitted_on_the_rows_that_have_the_modality():
    X = tables(40, (5, 3))
    X["a"][::4] = np.nan
    there = ~np.isnan(X["a"][:, 0])
    fitted = EarlyFusionTransformer(transformers={"a": PCA(2)}).fit(X)
    pca = PCA(2).fit(X["a"][there])
    expected = np.tile(pca.transform(X["a"][there]).mean(axis=0), (40, 1))
    expected[there] = pca.transform(X["a"][there])
    np.testing.assert_allclose(fitted.transform(X), np.hstack([expected, X["b"]]), atol=1e-12)


def test_a_supervised_transformer_gets_the_target_of_its_rows():
    rng = np.random.default_rng(0)
    y = np.array(["low", "high"])[rng.integers(0, 2, size=60)]
    X = {"a": rng.normal(size=(60, 6)), "b": rng.normal(size=(60, 2))}
    X["a"][:, 4] += 3 * (y == "high")
    X["a"][::3] = np.nan
    there = ~np.isnan(X["a"][:, 0])
    fitted = EarlyFusionTransformer(transformers={"a": LinearDiscriminantAnalysis()}).fit(X, y)
    expected = LinearDiscriminantAnalysis().fit(X["a"][there], y[there]).transform(X["a"][there])
    np.testing.assert_allclose(fitted.transform(X)[there, :1], expected, atol=1e-12)


def test_one_transformer_for_all_is_fitted_for_each_modality():
    X = tables(40, (5, 3))
    found = EarlyFusionTransformer("sum", StandardScaler()).fit_transform({"a": X["a"][:, :3], "b": X["b"]})
    expected = StandardScaler().fit_transform(X["a"][:, :3]) + StandardScaler().fit_transform(X["b"])
    np.testing.assert_allclose(found, expected, atol=1e-12)


class Strict(TransformerMixin, BaseEstimator):
    """Takes no NaN, like most transformers."""

    def fit(self, X, y=None):
        self.width_ = self._checked(X).shape[1]
        return self

    def transform(self, X):
        return self._checked(X).reshape(len(X), -1)

    def _checked(self, X):
        assert not np.isnan(X).any()
        return X


@SINGLE_NAN
@pytest.mark.parametrize("extractor", [PCA(2), Strict(), torch.nn.Linear(4, 2), "autoencoder"])
def test_single_nan_before_an_extractor_is_the_training_mean(extractor):
    X = tables(40, (4, 2))
    X["a"][[3, 9], 1] = np.nan
    filled = {**X, "a": np.where(np.isnan(X["a"]), np.nanmean(X["a"], axis=0), X["a"])}
    fitted = EarlyFusionTransformer(transformers={"a": extractor}, random_state=0, device="cpu").fit(X)
    np.testing.assert_allclose(fitted.transform(X), fitted.transform(filled), atol=1e-6)
    assert np.isfinite(fitted.transform(X)).all()


@SINGLE_NAN
def test_single_nan_in_images_is_the_mean_of_the_channel_and_integers_pass_as_they_are():
    image = np.random.default_rng(0).normal(size=(10, 2, 3, 3))
    image[1, 0, 1, 2] = np.nan
    found = EarlyFusionTransformer(transformers=Strict()).fit_transform({"image": image})
    expected = image.copy()
    expected[1, 0, 1, 2] = np.nanmean(image[:, 0])
    np.testing.assert_allclose(found, expected.reshape(10, -1))
    whole = np.arange(40).reshape(5, 4, 2)
    assert EarlyFusionTransformer(transformers=Strict()).fit_transform({"sequence": whole}).dtype == whole.dtype


def test_a_transformer_that_takes_nan_gets_it():
    class Gaps(FunctionTransformer):
        def __sklearn_tags__(self):
            tags = super().__sklearn_tags__()
            tags.input_tags.allow_nan = True
            return tags

    X = tables(20, (4, 2))
    X["a"][5, 1] = np.nan
    with pytest.warns(UserWarning, match="single values are missing"):
        found = EarlyFusionTransformer(transformers={"a": Gaps(np.isnan)}).fit_transform(X)
    assert found[:, :4].sum() == 1


def sha256(module):
    return hashlib.sha256(b"".join(t.detach().numpy().tobytes() for t in module.state_dict().values())).hexdigest()


def a_module(width=4):
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(width, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 3)
    )


def test_no_loss_reaches_a_torch_module():
    rng = np.random.default_rng(0)
    X, y = tables(80, (4, 2)), rng.integers(0, 2, size=80)
    module = a_module().train()
    before = sha256(module)
    model = make_pipeline(EarlyFusionTransformer(transformers={"a": module}), LogisticRegression()).fit(X, y)
    model.predict(X)
    extractor = model[0].transformers_["a"].transformer.extractor
    assert isinstance(extractor, FrozenModule)
    for m in (module, extractor.module_):
        assert sha256(m) == before
        assert all(p.grad is None for p in m.parameters())
    assert module.training
    assert all(p.requires_grad for p in module.parameters())
    assert not any(p.requires_grad for p in extractor.module_.parameters())


def test_a_frozen_module_leaves_the_one_that_was_handed_in_alone():
    module = a_module().train()
    extractor = FrozenModule(module, device="cpu").fit(tables(5, (4,))["a"])
    assert extractor.module_ is not module
    assert module.training
    assert all(p.requires_grad for p in module.parameters())


def test_a_torch_module_is_evaluated_in_batches():
    X = tables(2100, (4, 2))
    module = a_module()
    found = EarlyFusionTransformer(transformers={"a": module}, device="cpu").fit_transform(X)
    with torch.no_grad():
        expected = module.eval()(torch.tensor(X["a"], dtype=torch.float32)).numpy()
    np.testing.assert_allclose(found[:, :3], expected, atol=1e-5)
    np.testing.assert_array_equal(found[:, 3:], X["b"])


def test_a_torch_module_sees_zeros_where_a_sequence_is_padded():
    X = np.random.default_rng(0).normal(size=(6, 5, 2))
    X[::2, 3:] = np.nan
    found = EarlyFusionTransformer(transformers=torch.nn.Flatten()).fit_transform({"sequence": X})
    np.testing.assert_allclose(found, np.nan_to_num(X).reshape(6, -1), rtol=1e-6)


def test_a_frozen_network_of_ours_is_an_extractor_that_is_not_trained_again():
    X = tables(60, (4, 2))
    inner = JointFusionRegressor(n_latent=8, max_epochs=2, device="cpu", random_state=0).fit({"a": X["a"]}, X["b"])
    before = sha256(inner.network_)
    found = EarlyFusionTransformer(transformers={"a": FrozenEstimator(inner)}).fit_transform(X)
    np.testing.assert_array_equal(found[:, :8], inner.transform({"a": X["a"]}))
    assert sha256(inner.network_) == before


def curve(n_samples, seed):
    """Twelve columns that bend with one latent value."""
    rng = np.random.default_rng(seed)
    latent = rng.uniform(-2, 2, size=n_samples)
    phase, speed = np.random.default_rng(7).uniform(0, 3, size=(2, 12))
    return latent, np.sin(speed * latent[:, None] + phase) + 0.05 * rng.normal(size=(n_samples, 12))


def test_an_autoencoder_finds_the_latent_value_behind_the_columns():
    (latent, X), (new_latent, new) = curve(400, 0), curve(200, 1)
    fusion = EarlyFusionTransformer(transformers={"a": "autoencoder"}, random_state=0, device="cpu")
    fitted = fusion.fit({"a": X, "b": latent[:, None] * 0})
    embedding, new_embedding = (fitted.transform({"a": values})[:, :32] for values in (X, new))
    assert LinearRegression().fit(embedding, latent).score(new_embedding, new_latent) > 0.97


def test_an_autoencoder_learns_to_reconstruct_through_its_bottleneck():
    (_, X), (_, new) = curve(400, 0), curve(200, 1)

    def score(max_epochs):
        fitted = Autoencoder(n_latent=2, max_epochs=max_epochs, random_state=0, device="cpu").fit(X)
        assert fitted.transform(new).shape == (200, 2)
        table = fitted.preprocessor_.transform(new)
        return fitted.network_.score(table, table)

    table = StandardScaler().fit(X).transform(new)
    pca = PCA(2).fit(StandardScaler().fit_transform(X))
    linear = 1 - np.mean((pca.inverse_transform(pca.transform(table)) - table) ** 2) / table.var()
    assert score(1) < 0.5
    assert score(50) > linear + 0.2


def test_an_autoencoder_takes_a_single_column():
    X = np.random.default_rng(0).normal(size=(60, 1))
    embedding = Autoencoder(n_latent=3, random_state=0, device="cpu").fit_transform(X)
    assert LinearRegression().fit(embedding, X).score(embedding, X) > 0.9


def test_an_autoencoder_learns_nothing_from_the_target():
    X = tables(40, (5, 3))
    y = np.arange(40) % 2
    fusion = EarlyFusionTransformer(transformers={"a": "autoencoder"}, random_state=0, device="cpu")
    with_target, without = (copy.deepcopy(fusion).fit(X, target).transform(X) for target in (y, None))
    np.testing.assert_array_equal(with_target, without)


# Other kinds


def test_auto_standardises_numbers_and_normalises_counts():
    rng = np.random.default_rng(0)
    counts = sparse.csr_matrix(rng.poisson(2, size=(50, 20)))
    X = {"a": rng.normal(5, 3, size=(50, 2)), "b": counts}
    found = EarlyFusionTransformer(transformers="auto").fit_transform(X)
    found = found.toarray() if sparse.issparse(found) else found
    totals = counts.sum(axis=1)
    logs = np.log1p(counts.toarray() / np.asarray(totals) * np.median(np.asarray(totals)))
    np.testing.assert_allclose(found[:, :2], StandardScaler().fit_transform(X["a"]))
    np.testing.assert_allclose(found[:, 2:], logs / logs.std(axis=0), rtol=1e-5)


def test_auto_projects_wide_counts():
    counts = sparse.csr_matrix(np.random.default_rng(0).poisson(0.2, size=(70, 600)))
    found = EarlyFusionTransformer(transformers="auto", random_state=0).fit_transform({"rna": counts})
    assert found.shape == (70, 50)
    assert np.sqrt(np.mean(np.square(found))) == pytest.approx(1, rel=1e-4)
    assert EarlyFusionTransformer().fit_transform({"rna": counts}).shape == (70, 600)


def test_every_kind_becomes_a_table():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=6), "colour": pd.Categorical(list("rgbrgb"))})
    X = {
        "table": frame,
        "sequence": np.arange(60.0).reshape(6, 5, 2),
        "image": rng.normal(size=(6, 1, 2, 2)),
        "volume": rng.normal(size=(6, 1, 2, 2, 2)),
    }
    found = EarlyFusionTransformer().fit(X)
    assert found.widths_ == {"table": 4, "sequence": 10, "image": 4, "volume": 8}
    values = found.transform(X)
    one_hot = (frame["colour"].to_numpy()[:, None] == np.array(["b", "g", "r"])).astype(float)
    np.testing.assert_array_equal(values[:, :4], np.c_[frame["x"], one_hot])
    np.testing.assert_allclose(values[:, 4:6], X["sequence"].mean(axis=1))
    np.testing.assert_array_equal(values[:, 14:18], X["image"].reshape(6, 4))
    np.testing.assert_array_equal(values[:, 18:], X["volume"].reshape(6, 8))
    unknown = EarlyFusionTransformer().fit(X).transform({"table": pd.DataFrame({"x": [1.0], "colour": ["purple"]})})
    np.testing.assert_array_equal(unknown[:, :4], [[1, 0, 0, 0]])


@pytest.mark.parametrize("as_tokens", [False, True])
def test_texts_become_hashed_csr_in_which_they_can_be_told_apart(as_tokens):
    texts = ["a warm wool coat", "a warm wool scarf", "thin silk dress", None]
    X = {"text": [t and t.split() for t in texts] if as_tokens else texts, "a": np.arange(4.0)[:, None]}
    found = EarlyFusionTransformer(modalities=["text"]).fit(Modalities(X)[:3]).transform(X)
    assert found.format == "csr"
    similarity = (found @ found.T).toarray()
    assert similarity[0, 1] > similarity[0, 2] + 0.3
    assert found[3].nnz == 0


def test_a_vectorizer_of_one_s_own_takes_the_strings():
    texts = ["warm wool coat", "silk dress", "wool scarf"]
    found = EarlyFusionTransformer(transformers={"text": TfidfVectorizer()}).fit({"text": texts})
    np.testing.assert_array_equal(
        found.transform({"text": texts}).toarray(), TfidfVectorizer().fit_transform(texts).toarray()
    )
    assert found.get_feature_names_out().tolist()[:2] == ["text__coat", "text__dress"]


# Errors


@pytest.mark.parametrize(
    ("transformers", "error", "message"),
    [
        ({"c": PCA()}, ValueError, r"transformers names the modalities \['c'\], which X lacks; X has \['a', 'b'\]"),
        ({"a": "pca"}, ValueError, r"transformers\['a'\] is 'pca'; due is None, 'auto', 'autoencoder', a transformer"),
        (3, ValueError, r"transformers\['a'\] is 3; due is None"),
        ({"a": PCA}, ValueError, r"transformers\['a'\] is <class .*PCA'>; due is None"),
        (
            FunctionTransformer(lambda X: X.reshape(len(X), 3, 1)),
            ValueError,
            r"extractor of modality 'a' gave shape \(30, 3, 1\); due is \(n_samples, n_features\)",
        ),
    ],
)
def test_extractors_that_make_no_sense_raise(transformers, error, message):
    with pytest.raises(error, match=message):
        EarlyFusionTransformer(transformers=transformers).fit(tables())
