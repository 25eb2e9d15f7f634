"""What is special to imputation: what a missing modality is filled with, and the form that it comes back in."""

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skfusion import EarlyFusionTransformer, JointFusionRegressor, Modalities, ModalityImputer
from skfusion.imputation import Conversion, Neighbors
from skfusion.imputation.forms import fill_singles
from skfusion.preprocessing import MeanFill, to_dense

SINGLE_NAN = pytest.mark.filterwarnings("ignore:single values are missing")


def tables(n_samples=60, seed=0, share=0.3, widths=(4, 3, 2)):
    """Three tables around one latent value; each is missing for a share of the samples, never all."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(n_samples, 1))
    X = {name: rng.normal(3, 2, size=(n_samples, w)) + 2 * latent for name, w in zip("abc", widths)}
    present = rng.random((n_samples, 3)) > share
    present[np.arange(n_samples), rng.integers(0, 3, size=n_samples)] = True
    for column, values in enumerate(X.values()):
        values[~present[:, column]] = np.nan
    return X


def assert_only_gaps_were_filled(filled, X):
    for name, values in X.items():
        gone = np.isnan(values).all(axis=1)
        assert np.isfinite(filled[name]).all()
        np.testing.assert_array_equal(filled[name][~gone], values[~gone])


# Strategies by hand


@pytest.mark.parametrize("strategy", ["mean", "zero"])
def test_a_constant_is_that_of_training(strategy):
    X, new = tables(), tables(20, seed=1)
    filled = ModalityImputer(strategy).fit(X).transform(new)
    assert_only_gaps_were_filled(filled, new)
    assert filled.present.all()
    for name, values in new.items():
        due = np.nanmean(X[name], axis=0) if strategy == "mean" else np.zeros(values.shape[1])
        gone = np.isnan(values).all(axis=1)
        assert gone.any()
        np.testing.assert_allclose(filled[name][gone], np.tile(due, (gone.sum(), 1)), rtol=1e-12)


def test_zero_after_centring_is_the_mean_before_it():
    X, new = tables(), tables(20, seed=1)
    centres = {name: np.nanmean(values, axis=0) for name, values in X.items()}
    centred = [{name: values - centres[name] for name, values in data.items()} for data in (X, new)]
    zero = ModalityImputer("zero").fit(centred[0]).transform(centred[1])
    mean = ModalityImputer("mean").fit(X).transform(new)
    for name in X:
        np.testing.assert_allclose(zero[name] + centres[name], mean[name], rtol=1e-9, atol=1e-12)


def test_zeros_of_a_missing_modality_leave_the_other_coefficients_alone():
    """Where a modality is missing for all but the rows of a group, its coefficients come from these alone."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(200, 3)), rng.normal(size=(200, 2))
    b[100:] = np.nan
    target = a @ [1.0, -2.0, 0.5] + np.nan_to_num(b) @ [3.0, -1.0]
    flat = ModalityImputer("zero", output="array").fit_transform({"a": a, "b": b})
    np.testing.assert_allclose(LinearRegression().fit(flat, target).coef_, [1, -2, 0.5, 3, -1], atol=1e-9)


def nearest_by_hand(X, new, name, k):
    """Fill `name` in `new` sample by sample."""
    scalers = {key: StandardScaler().fit(values) for key, values in X.items()}
    train, query = ({key: scalers[key].transform(v) for key, v in data.items()} for data in (X, new))
    out = new[name].copy()
    for row in np.flatnonzero(np.isnan(out).all(axis=1)):
        distances = []
        for donor in np.flatnonzero(~np.isnan(X[name][:, 0])):
            shared = [key for key in X if key != name and not np.isnan(query[key][row] + train[key][donor]).any()]
            if shared:
                gaps = np.concatenate([query[key][row] - train[key][donor] for key in shared])
                distances.append((np.mean(gaps**2), donor))
        chosen = [donor for _, donor in sorted(distances)[:k]]
        out[row] = X[name][chosen].mean(axis=0) if chosen else np.nanmean(X[name], axis=0)
    return out


@pytest.mark.parametrize("k", [1, 3, 100])
def test_neighbours_are_those_nearest_by_what_both_have(k):
    X, new = tables(share=0.5), tables(40, seed=1, share=0.5)
    filled = ModalityImputer(Neighbors(k)).fit(X).transform(new)
    assert_only_gaps_were_filled(filled, new)
    for name in X:
        np.testing.assert_allclose(filled[name], nearest_by_hand(X, new, name, k), rtol=1e-5)


def test_neighbours_that_cannot_be_compared_are_none():
    nan = np.nan
    X = {
        "a": np.array([[0.0], [1.0], [nan], [nan]]),
        "b": np.array([[nan], [nan], [5.0], [6.0]]),
        "c": np.array([[10.0], [20.0], [1000.0], [2000.0]]),
    }
    fitted = ModalityImputer(Neighbors(4)).fit(X)
    filled = fitted.transform({"a": [[0.1], [nan]], "b": [[nan], [5.1]]})
    np.testing.assert_allclose(filled["c"], [[15.0], [1500.0]])


def test_the_nearest_of_duplicates_is_the_duplicate_to_the_bit():
    X = {name: np.nan_to_num(values, nan=1.5) for name, values in tables(share=0.0).items()}
    rows = [4, 17, 17, 59]
    new = {"a": X["a"][rows], "c": X["c"][rows]}
    filled = ModalityImputer(Neighbors(1)).fit(X).transform(new)
    np.testing.assert_array_equal(filled["b"], X["b"][rows])


def test_nothing_is_copied_from_the_samples_that_are_filled():
    X = tables(share=0.0)
    new = tables(30, seed=1, share=0.0)
    new["b"] += 1e6
    twin = {name: np.r_[values, values] for name, values in new.items()}
    twin["b"][30:] = np.nan
    filled = ModalityImputer(Neighbors(1)).fit(X).transform(twin)
    assert filled["b"][30:].max() < 100
    np.testing.assert_array_equal(filled["b"][:30], new["b"])
    alone = ModalityImputer(Neighbors(1)).fit(X).transform({"a": new["a"], "c": new["c"]})
    np.testing.assert_array_equal(filled["b"][30:], alone["b"])


@pytest.mark.parametrize("strategy", ["knn", "mean", "zero", "conversion"])
def test_a_sample_with_nothing_present_gets_the_training_means(strategy):
    X = tables(share=0.0)
    if strategy == "conversion":
        strategy = Conversion(estimator=JointFusionRegressor(n_hidden=8, n_latent=4, max_epochs=1, device="cpu"))
    fitted = ModalityImputer(strategy).fit(X)
    filled = fitted.transform({name: np.full((2, values.shape[1]), np.nan) for name, values in X.items()})
    for name, values in X.items():
        due = np.zeros(values.shape[1]) if strategy == "zero" else values.mean(axis=0)
        np.testing.assert_allclose(filled[name], [due, due])


# Conversion


def linear_pair(n_samples, seed):
    rng = np.random.default_rng(seed)
    maps = np.random.default_rng(3).normal(size=(5, 4))
    a = rng.normal(size=(n_samples, 5))
    return {"a": a, "b": 100 + 30 * (a @ maps + 0.3 * rng.normal(size=(n_samples, 4)))}


@pytest.mark.parametrize("source", ["all", "pairs"])
def test_networks_come_close_to_least_squares_on_a_linear_pair(source):
    X, new = linear_pair(400, 0), linear_pair(300, 1)
    fitted = ModalityImputer(Conversion(source), device="cpu", random_state=0).fit(X)
    filled = fitted.transform({"a": new["a"]})
    least_squares = LinearRegression().fit(X["a"], X["b"]).predict(new["a"])
    assert r2_score(new["b"], filled["b"]) >= 0.95 * r2_score(new["b"], least_squares)
    np.testing.assert_array_equal(filled["a"], new["a"])
    back = fitted.transform({"b": new["b"]})["a"]
    least_squares = LinearRegression().fit(X["b"], X["a"]).predict(new["b"])
    assert r2_score(new["a"], back) >= 0.95 * r2_score(new["a"], least_squares)


OLS = make_pipeline(EarlyFusionTransformer(), LinearRegression())


def test_each_pair_has_a_converter_of_its_own_whose_conversions_are_averaged():
    X, new = tables(80), tables(30, seed=1)
    filled = ModalityImputer(Conversion("pairs", estimator=OLS)).fit(X).transform(new)
    assert_only_gaps_were_filled(filled, new)
    for name in X:
        parts = []
        for other in X:
            both = ~np.isnan(X[name][:, 0] + X[other][:, 0])
            if other != name:
                model = LinearRegression().fit(X[other][both], X[name][both])
                parts.append(
                    np.where(
                        np.isnan(new[other]).any(axis=1, keepdims=True),
                        np.nan,
                        model.predict(np.nan_to_num(new[other])),
                    )
                )
        gone = np.isnan(new[name][:, 0])
        np.testing.assert_allclose(filled[name][gone], np.nanmean(np.array(parts)[:, gone], axis=0), rtol=1e-8)


def test_one_converter_a_modality_sees_all_the_others_at_once():
    X = tables(80, share=0.0)
    X["c"] = X["a"][:, :2] - X["b"][:, :2]
    fitted = ModalityImputer(Conversion("all", estimator=OLS)).fit(X)
    new = tables(30, seed=1, share=0.0)
    filled = fitted.transform({"a": new["a"], "b": new["b"]})
    np.testing.assert_allclose(filled["c"], new["a"][:, :2] - new["b"][:, :2], atol=1e-8)
    alone = ModalityImputer(Conversion("pairs", estimator=OLS)).fit(X).transform({"a": new["a"], "b": new["b"]})
    assert np.abs(alone["c"] - filled["c"]).max() > 0.5


def test_conversion_to_wide_csr_goes_through_components_and_stays_csr():
    rng = np.random.default_rng(0)
    topics = rng.gamma(1, size=(3, 600))
    share = rng.dirichlet(np.ones(3), size=150)
    counts = sparse.csr_matrix(rng.poisson(share @ topics).astype(np.float32))
    X = Modalities({"rna": counts, "protein": share + 0.01 * rng.normal(size=(150, 3))})
    fitted = ModalityImputer(Conversion(estimator=OLS), random_state=0).fit(X[:100])
    filled = fitted.transform(X[100:].select(["protein"]))
    assert filled["rna"].format == "csr"
    due = share[100:] @ topics
    assert np.corrcoef(filled["rna"].toarray().ravel(), due.ravel())[0, 1] > 0.8
    part = Modalities({"rna": counts, "protein": X["protein"]}, present={"rna": np.arange(150) >= 10})
    kept = fitted.transform(part)["rna"]
    np.testing.assert_array_equal(kept[10:].toarray(), counts[10:].toarray())
    assert kept[:10].nnz > 0


def test_a_modality_that_nobody_has_together_with_another_gets_its_mean():
    X = {
        "a": np.r_[np.arange(10.0), np.full(10, np.nan)][:, None],
        "b": np.r_[np.full(10, np.nan), np.arange(10.0)][:, None],
    }
    filled = ModalityImputer(Conversion(estimator=OLS)).fit(X).transform({"a": [[3.0]]})
    np.testing.assert_allclose(filled["b"], [[4.5]])


# Scores


def test_a_score_is_r2_of_each_modality_filled_from_the_others():
    X, new = tables(80, share=0.0), tables(40, seed=1)
    fitted = ModalityImputer(Conversion(estimator=OLS)).fit(X)
    scores = fitted.score_modalities(new)
    for name, values in new.items():
        known = ~np.isnan(values[:, 0])
        blind = {other: np.where(other == name, np.nan, v)[known] for other, v in new.items()}
        assert scores[name] == pytest.approx(r2_score(values[known], fitted.transform(blind)[name]))
    assert fitted.score(new) == pytest.approx(np.mean(list(scores.values())))
    assert ModalityImputer("mean").fit(X).score(X) == pytest.approx(0, abs=1e-9)
    assert scores["a"] > 0.2


def test_a_score_of_what_is_not_known_is_nan():
    X = tables(share=0.0)
    fitted = ModalityImputer("mean").fit(X)
    scores = fitted.score_modalities({"a": X["a"]})
    assert np.isnan(scores["b"])
    assert scores["a"] == pytest.approx(0)
    assert fitted.score({"a": X["a"]}) == pytest.approx(0)
    assert np.isnan(fitted.score({"a": X["a"][:1]}))


@SINGLE_NAN
def test_single_nan_and_padding_have_no_say_in_a_score():
    X, new = tables(80, share=0.0), tables(40, seed=1, share=0.0)
    rng = np.random.default_rng(0)
    X["ecg"], new["ecg"] = (rng.normal(size=(n, 6, 2)) + values["a"][:, :1, None] for n, values in ((80, X), (40, new)))
    fitted = ModalityImputer("linear").fit(X)
    lengths = rng.integers(1, 7, size=40)
    new["ecg"][np.arange(6) >= lengths[:, None]] = np.nan
    new["a"][rng.random((40, 4)) < 0.3] = np.nan
    new["a"][1:, 3] = np.nan  # a column of which a single value is known
    new["a"][0] = 1.0
    scores = fitted.score_modalities(new)
    for name in ("a", "ecg"):
        filled = fitted.transform({n: values for n, values in new.items() if n != name})[name].reshape(40, -1)
        truth, due = new[name].reshape(40, -1), []
        for column in range(truth.shape[1]):
            known = ~np.isnan(truth[:, column])
            if known.sum() > 1:
                due.append(r2_score(truth[known, column], filled[known, column]))
        assert len(due) == {"a": 3, "ecg": 12}[name]
        assert scores[name] == pytest.approx(np.mean(due))


@pytest.mark.parametrize("strategy", ["mean", "knn"])
def test_a_score_of_wide_csr_is_taken_some_columns_at_a_time(strategy, monkeypatch):
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.05, size=(30, 2500)).astype(float)
    X = {"rna": sparse.csr_matrix(counts), "b": rng.normal(size=(30, 2))}
    fitted = ModalityImputer(strategy).fit(X)
    filled = fitted.transform({"b": X["b"]})["rna"].toarray()
    widths = []
    monkeypatch.setattr(
        "skfusion.imputation.tables.to_dense", lambda table: (widths.append(table.shape[1]), to_dense(table))[1]
    )
    score = fitted.score_modalities(X)["rna"]
    monkeypatch.undo()
    assert max(width for width in widths if width > 100) <= 1024
    varies = np.ptp(counts, axis=0) > 0
    assert 100 < varies.sum() < 2400
    assert score == pytest.approx(r2_score(counts[:, varies], filled[:, varies]))


def test_constant_columns_have_no_say_in_a_score():
    X = {"a": np.random.default_rng(0).normal(size=(40, 3)), "b": np.random.default_rng(1).normal(size=(40, 2))}
    padded = {"a": np.hstack([X["a"], np.full((40, 50), 0.1), np.zeros((40, 50))]), "b": X["b"]}
    for strategy in ("mean", "linear"):
        scores, due = (ModalityImputer(strategy).fit(data).score_modalities(data) for data in (padded, X))
        assert scores == pytest.approx(due)
    assert ModalityImputer("mean").fit(padded).score(padded) == pytest.approx(0)
    nothing = ModalityImputer("mean").fit({"a": np.ones((5, 2)), "b": np.ones((5, 1))})
    assert np.isnan(nothing.score({"a": np.ones((5, 2)), "b": np.ones((5, 1))}))


# Forms


COLUMNS = {"a": ["a0", "a1"], "b": ["b0"]}
ARRAY = np.array([[1.0, 2.0, 10.0], [3.0, 4.0, np.nan], [np.nan, np.nan, 30.0], [5.0, 6.0, 20.0]])
FILLED = np.where(np.isnan(ARRAY), [3.0, 4.0, 20.0], ARRAY)
FRAME = pd.DataFrame(ARRAY, columns=["a0", "a1", "b0"], index=list("wxyz"))
AS_DICT = {"a": ARRAY[:, :2], "b": ARRAY[:, 2:]}


def test_an_array_comes_back_as_an_array():
    found = ModalityImputer("mean", modalities={"b": [2], "a": [0, 1]}).fit_transform(ARRAY)
    assert type(found) is np.ndarray
    np.testing.assert_allclose(found, FILLED)
    assert np.isnan(ARRAY).sum() == 3


def test_a_csr_matrix_comes_back_as_csr():
    X = sparse.csr_matrix(np.array([[1.0, 0.0, 10.0], [3.0, 4.0, np.nan], [5.0, 0.0, 20.0]]))
    found = ModalityImputer("mean", modalities={"a": [0, 1], "b": [2]}).fit_transform(X)
    assert found.format == "csr"
    np.testing.assert_allclose(found.toarray(), [[1, 0, 10], [3, 4, 15], [5, 0, 20]])


def test_a_frame_comes_back_as_a_frame_with_its_index_and_columns():
    frame = FRAME[["b0", "a0", "a1"]].assign(other="kept")
    found = ModalityImputer("mean", modalities=COLUMNS).fit_transform(frame)
    assert found.columns.tolist() == ["b0", "a0", "a1", "other"]
    assert found.index.tolist() == list("wxyz")
    np.testing.assert_allclose(found[["a0", "a1", "b0"]], FILLED)
    assert found["other"].tolist() == ["kept"] * 4


def test_a_frame_of_two_levels_comes_back_as_one():
    frame = pd.concat({"a": FRAME[["a0", "a1"]], "b": FRAME[["b0"]]}, axis=1)
    found = ModalityImputer("mean").fit_transform(frame)
    pd.testing.assert_index_equal(found.columns, frame.columns)
    np.testing.assert_allclose(found.to_numpy(), FILLED)


@pytest.mark.parametrize("form", [dict, Modalities])
def test_a_dict_comes_back_as_modalities_with_everything_present(form):
    found = ModalityImputer("mean").fit_transform(form(AS_DICT))
    assert isinstance(found, Modalities)
    assert found.present.all()
    np.testing.assert_allclose(np.hstack([found["a"], found["b"]]), FILLED)


def test_anndata_comes_back_as_modalities_with_its_names():
    adata = anndata.AnnData(ARRAY[:, :2], obs=pd.DataFrame(index=list("wxyz")), obsm={"b": ARRAY[:, 2:]})
    found = ModalityImputer("mean", modalities={"a": "X", "b": "obsm/b"}).fit_transform(adata)
    assert isinstance(found, Modalities)
    assert found.sample_ids.tolist() == list("wxyz")
    np.testing.assert_allclose(np.hstack([found["a"], found["b"]]), FILLED)


@pytest.mark.parametrize(
    ("X", "modalities"),
    [(AS_DICT, None), (ARRAY, {"a": [0, 1], "b": [2]}), (FRAME, COLUMNS)],
    ids=["dict", "array", "frame"],
)
def test_the_form_can_be_asked_for(X, modalities):
    array = ModalityImputer("mean", output="array", modalities=modalities).fit_transform(X)
    np.testing.assert_allclose(array, FILLED)
    found = ModalityImputer("mean", output="modalities", modalities=modalities).fit_transform(X)
    assert isinstance(found, Modalities)
    np.testing.assert_allclose(found["b"], FILLED[:, 2:])


def test_set_output_gives_a_frame_of_all_columns():
    imputer = ModalityImputer("mean", modalities=COLUMNS).set_output(transform="pandas")
    found = imputer.fit_transform(FRAME)
    assert found.columns.tolist() == ["a__a0", "a__a1", "b__b0"]
    assert found.index.tolist() == list("wxyz")
    np.testing.assert_allclose(found, FILLED)


def test_columns_without_names_are_numbered():
    X = {"a": ARRAY[:, :2], "ecg": np.zeros((4, 2, 2))}
    imputer = ModalityImputer("mean", output="array").fit(X)
    names = imputer.get_feature_names_out().tolist()
    assert names == ["a__0", "a__1", "ecg__0", "ecg__1", "ecg__2", "ecg__3"]
    assert imputer.transform(X).shape == (4, 6)


@pytest.mark.parametrize("strategy", ["mean", "zero", "knn"])
def test_any_estimator_can_follow_an_array(strategy):
    X = tables(80)
    y = (np.nan_to_num(X["a"]).mean(axis=1) > 2.5).astype(int)
    model = make_pipeline(ModalityImputer(strategy, output="array"), StandardScaler(), LogisticRegression()).fit(X, y)
    assert model.score(X, y) > 0.8
    assert model[-1].n_features_in_ == 9


# Other kinds


def test_sequences_and_images_are_filled_in_their_shape():
    rng = np.random.default_rng(0)
    X = {"a": rng.normal(size=(12, 2)), "ecg": rng.normal(size=(12, 5, 2)), "scan": rng.normal(size=(12, 1, 3, 3))}
    X["ecg"][0, 3:] = np.nan
    X["ecg"][1], X["scan"][2] = np.nan, np.nan
    for strategy in ("mean", "zero", "knn"):
        filled = ModalityImputer(strategy).fit_transform(X)
        assert np.isfinite(filled["ecg"][1]).all()
        assert np.isfinite(filled["scan"]).all()
        np.testing.assert_array_equal(filled["ecg"][0], X["ecg"][0])  # padding stays padding
        np.testing.assert_array_equal(filled["scan"][3:], X["scan"][3:])
    np.testing.assert_allclose(ModalityImputer("mean").fit_transform(X)["scan"][2], np.nanmean(X["scan"], axis=0))


def test_numbers_keep_their_dtype_where_it_can_hold_what_fills_them():
    X = {
        "float32": np.array([[1.0], [2.0], [np.nan]], dtype=np.float32),
        "int": np.array([[1], [2], [4]]),
        "float": np.array([[1.0], [np.nan], [5.0]]),
    }
    present = np.array([[True, False, True], [True, True, False], [False, True, True]])
    filled = ModalityImputer("mean").fit_transform(Modalities(X, present=present))
    assert {name: str(filled[name].dtype) for name in X} == {"float32": "float32", "int": "float64", "float": "float64"}
    np.testing.assert_allclose(filled["int"], [[3], [2], [4]])


@pytest.mark.parametrize("strategy", ["mean", "linear"])
def test_an_array_of_float32_comes_back_in_it(strategy):
    for dtype, due in ((np.float32, np.float32), (np.float64, np.float64)):
        imputer = ModalityImputer(strategy, modalities={"a": [0, 1], "b": [2]})
        assert imputer.fit_transform(ARRAY.astype(dtype)).dtype == due
    assert imputer.fit_transform(np.arange(12).reshape(4, 3)).dtype == np.float64
    rows = sparse.csr_matrix(np.array([[1.0, 2.0, np.nan], [3.0, 4.0, 5.0]], dtype=np.float32))
    assert imputer.set_params(strategy="mean").fit_transform(rows).dtype == np.float32


@SINGLE_NAN
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("strategy", ["mean", "linear", "knn", "factor"])
def test_infinities_of_both_signs_in_a_missing_slot_say_nothing(form, strategy):
    X = {name: np.nan_to_num(values, nan=1.5) for name, values in tables(share=0.0).items()}
    X["b"][5, 0] = np.nan
    present = np.ones((60, 3), dtype=bool)
    present[[3, 8], 1] = False
    filled = []
    for junk in ([0.0, 0.0, 0.0], [np.inf, -np.inf, np.inf], [np.nan, -np.inf, np.nan]):
        X["b"][[3, 8]] = junk
        marked = Modalities(X | {"b": form(X["b"])}, present=present)
        table = ModalityImputer(strategy).fit_transform(marked)["b"]
        filled.append(table.toarray() if sparse.issparse(table) else table)
    assert np.isfinite(filled[0]).all()
    np.testing.assert_array_equal(filled[1], filled[0])
    np.testing.assert_array_equal(filled[2], filled[0])


@SINGLE_NAN
def test_without_single_nan_nothing_is_copied():
    values = np.random.default_rng(0).normal(size=(20, 2))
    values[3] = np.nan
    present = ~np.isnan(values[:, 0])
    fill = MeanFill().fit(values[present])
    assert fill_singles(fill, values, present) is values
    values[5, 0] = np.nan
    filled = fill_singles(fill, values, present)
    assert np.isnan(values[5, 0])
    assert filled[5, 0] == fill.means_[0]
    assert np.isnan(filled[3]).all()


@SINGLE_NAN
def test_single_nan_is_the_training_mean_of_its_column():
    X = {"a": np.array([[1.0, 2.0], [3.0, np.nan], [5.0, 8.0]]), "b": np.ones((3, 1))}
    for strategy in ("knn", "zero", "mean"):
        filled = ModalityImputer(strategy).fit_transform(X)
        np.testing.assert_allclose(filled["a"], [[1, 2], [3, 5], [5, 8]])


def with_texts():
    values = np.array([[0.0], [0.1], [5.0], [5.1]])
    texts = ["calm", "quiet", "loud", "noisy"]
    frame = pd.DataFrame({"kind": pd.Categorical(["soft", "soft", "hard", "hard"]), "size": [1.5, 2.5, 3.5, 4.5]})
    return {"a": values, "text": texts, "tokens": [[t] for t in texts], "person": frame}


def test_texts_tokens_and_categories_are_copied_from_the_nearest():
    fitted = ModalityImputer("knn").fit(with_texts())
    filled = fitted.transform({"a": [[5.09], [0.01]]})
    assert filled["text"].tolist() == ["noisy", "calm"]
    assert filled["tokens"].tolist() == [["noisy"], ["calm"]]
    assert filled["person"]["kind"].tolist() == ["hard", "soft"]
    assert filled["person"]["size"].tolist() == [4.5, 1.5]
    assert fitted.transform({"text": ["noisy"]})["a"].shape == (1, 1)


def test_a_table_with_categories_keeps_its_dtypes():
    X = with_texts()
    X["person"] = pd.DataFrame({"kind": pd.Categorical(["soft", "soft", "hard", None]), "size": [1.5, 2.5, 3.5, None]})
    filled = ModalityImputer("knn").fit_transform(X)["person"]
    assert filled["kind"].tolist() == ["soft", "soft", "hard", "hard"]
    assert filled["size"].tolist() == [1.5, 2.5, 3.5, 3.5]
    assert filled.dtypes.map(str).tolist() == ["category", "float64"]


def test_a_category_that_the_samples_at_hand_do_not_know_is_filled_in():
    fitted = ModalityImputer("knn").fit(with_texts())
    frame = pd.DataFrame({"kind": pd.Categorical(["soft", None]), "size": [9.0, np.nan]})
    filled = fitted.transform({"a": [[0.0], [5.1]], "person": frame})["person"]
    assert filled["kind"].tolist() == ["soft", "hard"]
    assert filled["size"].tolist() == [9.0, 4.5]


def test_a_frame_with_categories_comes_back_with_its_dtypes():
    frame = pd.DataFrame(
        {"x": [0.0, 0.1, 5.0, 5.1], "size": [1.0, 2.0, 3.0, np.nan], "kind": pd.Categorical(["s", "s", "h", None])}
    )
    imputer = ModalityImputer("knn", modalities={"a": ["x"], "person": ["size", "kind"]})
    found = imputer.fit_transform(frame)
    assert found["kind"].tolist() == ["s", "s", "h", "h"]
    assert found["size"].tolist() == [1.0, 2.0, 3.0, 3.0]
    assert found.dtypes.map(str).tolist() == ["float64", "float64", "category"]


# Errors


@pytest.mark.parametrize("strategy", ["mean", "zero", "linear", "factor"])
def test_strategies_for_numbers_raise_what_copies_text(strategy):
    X = with_texts()
    del X["tokens"], X["person"]
    fitted = ModalityImputer(strategy).fit({**X, "b": X["a"] + 1})
    assert fitted.transform({**X, "b": X["a"]})["text"].tolist() == ["calm", "quiet", "loud", "noisy"]
    with pytest.raises(
        ValueError,
        match=rf"modality 'text' is text and missing for 2 samples; strategy '{strategy}' fills numbers alone. "
        "Use strategy='knn'",
    ):
        fitted.transform({"a": [[0.0], [1.0]]})


def test_an_array_of_text_raises_its_name():
    fitted = ModalityImputer("knn").fit(with_texts()).set_params(output="array")
    with pytest.raises(ValueError, match=r"output='array' needs numbers, but \['text', 'tokens', 'person'\] hold none"):
        fitted.transform(with_texts())


class LooksLikeOne:
    """Has the methods of a strategy, and is none."""

    def fit(self, X, names, settings):
        return self

    def fill(self, X, name):
        return np.zeros((len(X), 1))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"strategy": "median"}, r"strategy is 'median'; due is one of \['average', .*'conversion', .*'zero'\]"),
        (
            {"strategy": StandardScaler()},
            "'strategy' parameter .*an instance of 'skfusion.imputation.strategy.Strategy'",
        ),
        ({"strategy": Conversion("some")}, "'source' parameter .*Got 'some'"),
        ({"strategy": Neighbors(0)}, r"'n_neighbors' parameter .*range \[1, inf\)"),
        ({"strategy": Conversion(estimator=StandardScaler())}, "'estimator' parameter .*implementing 'fit' and 'pred"),
        ({"strategy": LooksLikeOne()}, "'strategy' parameter .*an instance of 'skfusion.imputation.strategy.Strategy'"),
        ({"output": "frame"}, "'output' parameter .*Got 'frame'"),
    ],
)
def test_parameters_that_make_no_sense_raise(params, message):
    with pytest.raises(ValueError, match=message):
        ModalityImputer(**params).fit(tables())


def test_a_warning_names_the_line_that_called_scikit_learn():
    pipeline = make_pipeline(ModalityImputer("mean"), "passthrough")
    X = {"a": np.r_[np.ones((3, 2)), np.full((1, 2), np.nan)]}
    with pytest.warns(UserWarning, match="1 of 4 samples have no modality present") as caught:
        pipeline.fit_transform(Modalities(X))
    assert [warning.filename for warning in caught] == [__file__]
