"""Filling from the nearest training samples; `test_impute.py` compares the nearest with a search by hand."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest
from _data import complete, with_gaps
from scipy import sparse

from skfusion import Modalities, ModalityImputer
from skfusion.imputation import Neighbors, neighbors
from skfusion.preprocessing import to_dense


def nearest(k):
    """Fitted data, one new sample, and the values of its k nearest by `a`."""
    X, new = complete(50), complete(1, seed=1)
    scale = X["a"].std(axis=0)
    order = np.argsort(np.square((X["a"] - new["a"]) / scale).sum(axis=1))[:k]
    return X, new, order


def row_of(values, row):
    """The position of a row among others, to the bit."""
    return int(np.flatnonzero((values == row).all(axis=1))[0])


@pytest.mark.parametrize("seed", range(3))
def test_a_random_pick_is_one_of_the_nearest(seed):
    X, new, order = nearest(4)
    fitted = ModalityImputer(Neighbors(4, pick="random"), random_state=seed).fit(X)
    others = {"a": new["a"] + 1e-9 * np.arange(60)[:, None]}
    filled = fitted.transform(others)["b"]
    found = [row_of(X["b"], row) for row in filled]
    assert set(found) == set(order)
    # It hangs on the sample alone: not on its place, nor on who else is there.
    np.testing.assert_array_equal(fitted.transform({"a": others["a"][::-1]})["b"][::-1], filled)
    for row in range(5):
        np.testing.assert_array_equal(fitted.transform({"a": others["a"][[row]]})["b"][0], filled[row])


def test_draws_fall_on_each_of_the_nearest_alike():
    X, new, order = nearest(4)
    fitted = ModalityImputer(Neighbors(4), random_state=0).fit(X)
    (drawn,) = fitted.sample({"a": np.repeat(new["a"], 2000, axis=0)})
    found = np.array([row_of(X["b"], row) for row in drawn["b"]])
    np.testing.assert_allclose([(found == row).mean() for row in order], 0.25, atol=0.04)


def test_what_one_sample_lacks_is_drawn_from_one_donor():
    X, new, _ = nearest(4)
    (drawn,) = ModalityImputer(Neighbors(4), random_state=0).fit(X).sample({"a": np.repeat(new["a"], 50, axis=0)})
    b, c = ([row_of(X[name], row) for row in drawn[name]] for name in "bc")
    assert b == c
    assert len(set(b)) > 1


def test_a_search_a_pattern_finds_whom_a_search_among_all_finds(monkeypatch):
    X, new = with_gaps(complete(300)), with_gaps(complete(100, seed=1), share=0.5)
    found = []
    for least, at_a_time in ((1, 10**6), (10**6, 10**6), (10**6, 700)):
        monkeypatch.setattr(neighbors, "_LEAST_IN_A_GROUP", least)
        monkeypatch.setattr(neighbors, "_DISTANCES", at_a_time)
        found.append(ModalityImputer(Neighbors(7)).fit(X).transform(new))
    for name in X:
        np.testing.assert_allclose(found[1][name], found[0][name], rtol=1e-12)
        np.testing.assert_array_equal(found[2][name], found[1][name])


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
def test_a_sample_with_nothing_is_drawn_as_a_training_sample(form):
    X = complete(10)
    fitted = ModalityImputer(Neighbors(4), random_state=0).fit(X | {"b": form(X["b"])})
    (drawn,) = fitted.sample({"a": np.full((2000, 4), np.nan)})
    a, b, c = ([row_of(X[name], row) for row in to_dense(drawn[name])] for name in "abc")
    assert a == b == c
    np.testing.assert_allclose(np.bincount(a) / 2000, 0.1, atol=0.03)
    np.testing.assert_allclose(fitted.uncertainty({"a": [[np.nan] * 4]})["c"], [X["c"].std(axis=0)])


def test_what_the_training_sample_lacks_is_that_of_a_neighbour():
    X = complete(30)
    X["b"][0] = np.nan
    fitted = ModalityImputer(Neighbors(3), random_state=0).fit(X)
    (drawn,) = fitted.sample({"a": np.full((2000, 4), np.nan)})
    (near,) = fitted.sample({"a": np.repeat(X["a"][:1], 200, axis=0), "c": np.repeat(X["c"][:1], 200, axis=0)})
    models = [row_of(X["a"], row) for row in drawn["a"]]
    found = {row_of(X["b"], row) for model, row in zip(models, drawn["b"]) if model == 0}
    assert found == {row_of(X["b"], row) for row in near["b"]}
    assert len(found) == 3
    assert all(row_of(X["b"], row) == model for model, row in zip(models, drawn["b"]) if model)


def test_what_cannot_be_compared_is_drawn_from_all():
    X = {"a": np.r_[np.arange(5.0), [np.nan] * 5][:, None], "b": np.r_[[np.nan] * 5, np.arange(5.0)][:, None]}
    (drawn,) = ModalityImputer(Neighbors(2), random_state=0).fit(X).sample({"a": np.zeros((2000, 1))})
    np.testing.assert_allclose(np.bincount(drawn["b"][:, 0].astype(int)) / 2000, 0.2, atol=0.04)
    (filled,) = ModalityImputer(Neighbors(2)).fit(X).transform({"a": [[0.0]]})["b"]
    assert filled == 2


@pytest.mark.parametrize("dtype", [np.int64, bool])
@pytest.mark.parametrize("pick", ["mean", "random"])
def test_a_sample_with_nothing_gets_the_mean_of_integers_and_booleans(dtype, pick):
    X = {"a": np.arange(6.0)[:, None], "b": np.array([[0, 1, 1, 0, 1, 1]], dtype=dtype).T}
    filled = ModalityImputer(Neighbors(2, pick=pick), random_state=0).fit(X).transform({"a": [[np.nan], [0.0]]})
    assert filled["b"][0, 0] == pytest.approx(4 / 6)


def test_csr_is_never_dense_as_a_whole_where_one_sample_has_nothing():
    counts = sparse.random_array((300, 20_000), density=0.01, format="csr", rng=np.random.default_rng(0))
    a = np.random.default_rng(1).normal(size=(300, 2))
    fitted = ModalityImputer("knn").fit({"a": a, "counts": counts})
    new = Modalities({"a": np.vstack([a, np.full((1, 2), np.nan)])})
    tracemalloc.start()
    filled = fitted.transform(new)["counts"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(filled[[300]].toarray()[0], counts.mean(axis=0))
    assert peak < 0.5 * 301 * 20_000 * 8


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
def test_the_uncertainty_is_the_spread_of_the_nearest(form):
    X, new, order = nearest(5)
    due, prior = X["b"][order].std(axis=0), X["b"].std(axis=0)
    fitted = ModalityImputer(Neighbors(5), random_state=0).fit(X | {"b": form(X["b"])})
    found = fitted.uncertainty({"a": np.vstack([new["a"], np.full((1, 4), np.nan)])})
    np.testing.assert_allclose(found["b"], [due, prior])
    np.testing.assert_allclose(found["a"], [np.zeros(4), X["a"].std(axis=0)])


def test_texts_and_categories_of_a_sample_with_nothing_are_the_most_frequent():
    X = {
        "a": np.arange(4.0)[:, None],
        "text": ["rare", "often", "other", "often"],
        "tokens": [["x"], ["y", "z"], ["y", "z"], ["w"]],
        "person": pd.DataFrame(
            {"kind": pd.Categorical(["s", "h", "h", "u"]), "size": [1.0, 2, 3, 6], "n": [1, 7, 7, 2]}
        ),
    }
    nothing = {"a": [[np.nan], [3.0]]}
    filled = ModalityImputer("knn").fit(X).transform(nothing)
    assert filled["text"].tolist() == ["often", "often"]
    assert filled["tokens"].tolist() == [["y", "z"], ["w"]]
    assert filled["person"]["kind"].tolist() == ["h", "u"]
    assert filled["person"]["size"].tolist() == [3.0, 6.0]
    assert filled["person"]["n"].tolist() == [7, 2]


def test_what_cannot_be_compared_gets_the_most_frequent():
    X = {"a": np.r_[np.zeros(3), [np.nan] * 3][:, None], "b": np.r_[[np.nan] * 3, np.zeros(3)][:, None]}
    texts = ["first", "common", "common", None, None, None]
    filled = ModalityImputer("knn").fit({**X, "text": texts}).transform({"b": [[0.0]]})
    assert filled["text"].tolist() == ["common"]


def test_more_missing_means_a_larger_error():
    errors = []
    for share in (0.0, 0.4, 0.8):
        X, new = with_gaps(complete(300), share), complete(300, seed=1)
        blind = with_gaps(new, share, seed=1)
        blind["c"] = np.full_like(blind["c"], np.nan)
        filled = ModalityImputer("knn").fit(X).transform(blind)
        errors.append(np.mean(np.square(filled["c"] - new["c"])))
    assert errors[0] < 0.9 * errors[1] < 0.8 * errors[2]


def test_the_distance_is_a_mean_over_the_values_that_both_have():
    X = {"a": np.array([[0.0], [1.0], [2.0]]), "wide": np.zeros((3, 50)), "c": np.array([[10.0], [20.0], [30.0]])}
    X["wide"][1:] = np.nan
    fitted = ModalityImputer(Neighbors(1)).fit(X)
    assert fitted.transform({"a": [[1.6]]})["c"].item() == 30
    # The first sample is off in one value of 51, the others in one of one.
    assert fitted.transform({"a": [[1.6]], "wide": np.zeros((1, 50))})["c"].item() == 10


@pytest.mark.parametrize("kind", ["text", "table"])
def test_texts_and_tables_are_drawn_from_the_same_training_sample(kind):
    words, levels = np.array(["good", "bad"] * 20, dtype=object), np.array([[10.0], [-10.0]] * 20)
    copied = words if kind == "text" else pd.DataFrame({"word": words})
    fitted = ModalityImputer(Neighbors(3), random_state=0).fit({"x": copied, "b": levels})
    nothing = {
        "x": [None] * 40 if kind == "text" else pd.DataFrame({"word": [None] * 40}),
        "b": np.full((40, 1), np.nan),
    }
    nothing = Modalities(nothing, present={name: np.zeros(40, dtype=bool) for name in nothing})
    (drawn,) = fitted.sample(nothing)
    found = drawn["x"] if kind == "text" else drawn["x"]["word"].to_numpy()
    assert set(found) == {"good", "bad"}
    np.testing.assert_array_equal(found == "good", drawn["b"][:, 0] == 10)
