"""Ridge regression in closed form, a regression for each pattern of what is present."""

import copy
from itertools import product

import numpy as np
import pandas as pd
import pytest
from _data import complete, has, standardised, with_gaps
from scipy import sparse
from sklearn.linear_model import LinearRegression
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skfusion import Modalities, ModalityImputer
from skfusion.imputation import Linear
from skfusion.imputation.linear import ALPHAS, Ridge, principal_axes
from skfusion.imputation.strategy import Settings
from skfusion.preprocessing import LogNormalizer, OneScale, Projection


def by_hand(X, new, name, alpha):
    """Fill `name` in `new` by scikit-learn, from the training samples that have what the sample has."""
    scalers, train, query = standardised(X, new)
    out, others = new[name].copy(), [other for other in X if other != name]
    for pattern in product([True, False], repeat=len(others)):
        gone = ~has(new, name) & np.all([has(new, o) == there for o, there in zip(others, pattern)], axis=0)
        sources = [other for other, there in zip(others, pattern) if there]
        if not gone.any() or not sources:
            continue
        rows = np.all([has(X, other) for other in [name, *sources]], axis=0)
        model = SklearnRidge(alpha) if alpha else LinearRegression()
        model.fit(np.hstack([train[s][rows] for s in sources]), train[name][rows])
        filled = model.predict(np.hstack([query[s][gone] for s in sources]))
        out[gone] = scalers[name].inverse_transform(filled)
    return out


@pytest.mark.parametrize("alpha", [0, 3.0, 200.0])
def test_each_pattern_has_the_regression_of_scikit_learn(alpha):
    X, new = with_gaps(complete(120)), with_gaps(complete(40, seed=1), share=0.5)
    filled = ModalityImputer(Linear(alpha, min_samples=1)).fit(X).transform(new)
    assert len(np.unique([has(new, name) for name in new], axis=1).T) == 7
    for name in X:
        np.testing.assert_allclose(filled[name], by_hand(X, new, name, alpha), rtol=1e-8)


@pytest.mark.parametrize(("n", "p", "rank"), [(30, 5, 5), (10, 40, 9), (30, 8, 3), (10, 40, 3), (20, 4, 0)])
def test_principal_axes_carry_all_of_the_table(n, p, rank):
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(n, p)) if rank in (p, n - 1) else rng.normal(size=(n, rank)) @ rng.normal(size=(rank, p))
    Z = Z - Z.mean(axis=0)
    axes, scores, squares = principal_axes(Z)
    assert axes.shape == (p, rank)
    np.testing.assert_allclose(axes.T @ axes, np.eye(rank), atol=1e-9)
    np.testing.assert_allclose(scores, Z @ axes, atol=1e-9)
    np.testing.assert_allclose(scores.T @ scores, np.diag(squares), atol=1e-9)
    np.testing.assert_allclose(scores @ axes.T, Z, atol=1e-9)


@pytest.mark.parametrize(("n", "p"), [(30, 5), (10, 40)])
def test_one_decomposition_serves_all_penalties(n, p):
    rng = np.random.default_rng(0)
    Z, Y, new = rng.normal(1, 2, size=(n, p)), rng.normal(3, 1, size=(n, 3)), rng.normal(size=(4, p))
    shortest, *found = Ridge().fit(Z, Y, []).path(new, [], [0, 0.1, 25.0])
    for alpha, predicted in zip([0.1, 25.0], found):
        np.testing.assert_allclose(predicted, SklearnRidge(alpha).fit(Z, Y).predict(new), rtol=1e-8)
    coefficients = np.linalg.pinv(Z - Z.mean(axis=0)) @ (Y - Y.mean(axis=0))
    np.testing.assert_allclose(shortest, (new - Z.mean(axis=0)) @ coefficients + Y.mean(axis=0), rtol=1e-8)


# The penalty


def penalty_by_hand(X, name, enough=1000):
    """The penalty of least squared error over five folds, each standardised by its own training samples."""
    rows = np.flatnonzero(has(X, name) & np.any([has(X, other) for other in X if other != name], axis=0))
    if len(rows) > enough:
        rows = np.sort(np.random.default_rng(0).choice(rows, enough, replace=False))
    errors = np.zeros(len(ALPHAS))
    for train, test in KFold(5, shuffle=True, random_state=0).split(rows):
        fold, held_out = ({key: values[rows[part]] for key, values in X.items()} for part in (train, test))
        blind = {**held_out, name: np.full_like(held_out[name], np.nan)}
        scale = np.nanstd(fold[name], axis=0)
        for i, alpha in enumerate(ALPHAS):
            errors[i] += np.square((by_hand(fold, blind, name, alpha) - held_out[name]) / scale).sum()
    return ALPHAS[np.argmin(errors)]


@pytest.mark.parametrize("state", [0, 1, None])
def test_the_penalty_is_the_best_in_cross_validation_whatever_the_random_state(state):
    X = with_gaps(complete(50))
    found = ModalityImputer(Linear(min_samples=1), random_state=state).fit(X).strategy_.alphas_
    assert found["b"] == penalty_by_hand(X, "b")
    assert ALPHAS[0] < found["b"] < ALPHAS[-1]


def test_of_many_samples_some_choose_the_penalty(monkeypatch):
    X = with_gaps(complete(80))
    monkeypatch.setattr("skfusion.imputation.linear._ENOUGH", 25)
    found = ModalityImputer(Linear(min_samples=1), random_state=0).fit(X).strategy_.alphas_
    assert found["b"] == penalty_by_hand(X, "b", enough=25)


def test_components_of_wide_counts_are_learnt_anew_in_each_fold():
    rng = np.random.default_rng(0)
    counts = sparse.csr_matrix(rng.poisson(rng.gamma(1, size=(90, 3)) @ rng.gamma(1, size=(3, 600))).astype(float))
    protein = np.log1p(counts[:, :2].toarray()) + rng.normal(size=(90, 2))
    X = Modalities({"rna": counts, "protein": protein})
    fitted = Linear().fit(X, ["protein"], Settings(seed=3))
    errors = np.zeros(len(ALPHAS))
    for train, test in KFold(5, shuffle=True, random_state=0).split(protein):
        source = make_pipeline(LogNormalizer(), Projection(random_state=3), OneScale()).fit(counts[train])
        target = StandardScaler().fit(protein[train])
        Z, Y = source.transform(counts[train]), target.transform(protein[train])
        for i, alpha in enumerate(ALPHAS):
            predicted = SklearnRidge(alpha).fit(Z, Y).predict(source.transform(counts[test]))
            errors[i] += np.square(predicted - target.transform(protein[test])).sum()
    assert fitted.alphas_ == {"protein": ALPHAS[np.argmin(errors)]}


def test_a_penalty_is_chosen_for_each_modality():
    X = complete(300)
    X["noise"] = np.random.default_rng(5).normal(size=(300, 3))
    chosen = ModalityImputer("linear", random_state=0).fit(X).strategy_.alphas_
    assert chosen["noise"] > 100 * chosen["a"]
    assert ModalityImputer(Linear(7)).fit(X).strategy_.alphas_ == dict.fromkeys(X, 7)


def test_a_modality_that_the_rest_of_a_fold_lacks_is_no_hindrance():
    X = complete(40)
    X["c"][1:] = np.nan
    filled = ModalityImputer("linear").fit_transform(X)
    assert all(np.isfinite(filled[name]).all() for name in filled.names)


# Enough samples


def test_a_source_that_leaves_too_few_samples_is_left_out():
    X, new = complete(100), complete(10, seed=1)
    X["a"][20:] = np.nan
    new = {"a": new["a"], "c": new["c"]}
    few = ModalityImputer(Linear(0, min_samples=20)).fit(X).transform(new)["b"]
    both = LinearRegression().fit(np.hstack([X["a"], X["c"]])[:20], X["b"][:20])
    np.testing.assert_allclose(few, both.predict(np.hstack([new["a"], new["c"]])))
    many = ModalityImputer(Linear(0, min_samples=21)).fit(X).transform(new)["b"]
    np.testing.assert_allclose(many, LinearRegression().fit(X["c"], X["b"]).predict(new["c"]))
    alone = ModalityImputer(Linear(0, min_samples=21)).fit(X).transform({"a": new["a"]})["b"]
    np.testing.assert_allclose(alone, LinearRegression().fit(X["a"][:20], X["b"][:20]).predict(new["a"]))


def test_a_single_gap_does_not_cost_the_source_that_has_it():
    rng = np.random.default_rng(0)
    b, noise = rng.normal(size=(100, 3)), rng.normal(size=(100, 2))
    X = {"a": noise, "b": b, "c": b @ rng.normal(size=(3, 2)) + 0.1 * rng.normal(size=(100, 2))}
    train, new = ({key: values[rows] for key, values in X.items()} for rows in (slice(80), slice(80, None)))
    train["b"][3] = np.nan
    filled = ModalityImputer("linear").fit(train).transform({"a": new["a"], "b": new["b"]})
    assert r2_score(new["c"], filled["c"]) > 0.95


def test_gaps_in_every_source_cost_none():
    rng = np.random.default_rng(0)
    X = {key: rng.normal(size=(110, 2)) for key in "abd"}
    X["c"] = X["a"] + X["b"] + X["d"]
    train, new = ({key: values[rows] for key, values in X.items()} for rows in (slice(90), slice(90, None)))
    for i, key in enumerate("abd"):
        train[key][5 * i : 5 * i + 5] = np.nan
    filled = ModalityImputer("linear").fit(train).transform({key: new[key] for key in "abd"})
    assert r2_score(new["c"], filled["c"]) > 0.99


@pytest.mark.parametrize(("n_samples", "kept"), [(39, ["a", "c"]), (40, ["c"])])
def test_a_source_goes_where_that_doubles_the_samples(n_samples, kept):
    X = complete(n_samples)
    X["a"][20:] = np.nan
    strategy = Linear(0).fit(Modalities(X), ["b"], Settings(seed=0))
    assert list(strategy._support("b", ["a", "c"])) == kept
    # Centred by the rows that it was fitted on.
    rows = slice(20 if "a" in kept else n_samples)
    centre = np.hstack([strategy.tables_[source][rows].mean(axis=0) for source in kept])
    np.testing.assert_array_equal(strategy._fitted("b", tuple(kept)).centre, centre)


def test_two_sources_that_are_missing_together_go_together():
    X = {"d": complete(200)["a"], **complete(200)}
    X["a"][10:], X["c"][10:] = np.nan, np.nan
    strategy = Linear(0).fit(Modalities(X), ["b"], Settings(seed=0))
    assert strategy._support("b", ["d", "a", "c"]) == ("d",)


def test_a_regression_is_kept_for_the_next_samples_and_out_of_a_pickle(monkeypatch):
    calls, fit = [], Ridge.fit
    monkeypatch.setattr(Ridge, "fit", lambda self, *tables: calls.append(0) or fit(self, *tables))
    X, new = with_gaps(complete()), with_gaps(complete(20, seed=1), share=0.5)
    fitted = ModalityImputer(Linear(1.0)).fit(X)
    first, n_calls = fitted.transform(new), len(calls)
    again = fitted.transform(new)
    assert len(calls) == n_calls > 1
    copied = copy.deepcopy(fitted)
    assert not copied.strategy_._recent.kept
    for name in new:
        np.testing.assert_array_equal(again[name], first[name])
        np.testing.assert_array_equal(copied.transform(new)[name], first[name])


def test_only_so_much_is_kept(monkeypatch):
    fitted = ModalityImputer(Linear(1.0)).fit(with_gaps(complete()))
    for most, least in ((400, 1), (10, 0)):
        monkeypatch.setattr("skfusion.imputation.linear._KEPT_BYTES", most)
        fitted.transform(with_gaps(complete(20, seed=1), share=0.5))
        assert least <= sum(regression.nbytes for regression in fitted.strategy_._recent.kept.values()) <= most


@pytest.mark.parametrize(("n_samples", "width", "n_factors"), [(50, 6, 1), (8, 60, 2)])
def test_the_regression_without_its_samples_is_that_of_the_path(n_samples, width, n_factors):
    rng = np.random.default_rng(0)
    Z, Y, *own = rng.normal(size=(4, n_samples, width))
    ridge = Ridge().fit(Z, Y, own)
    new, *new_own = rng.normal(size=(3, 9, width))
    found = ridge.at(3.0)
    np.testing.assert_allclose(found.predict(new, new_own), next(ridge.path(new, new_own, [3.0])), rtol=1e-9)
    # Of many columns and few samples, the weights of all columns for all columns would be large.
    assert len(found.factors) == n_factors
    assert sum(factor.size for factor in found.factors) <= width * width


# Namesakes


@pytest.mark.parametrize("alpha", [0.5, 30])
@pytest.mark.parametrize("n_own", [1, 2])
def test_own_columns_are_shrunk_as_in_a_ridge_regression_that_has_them(n_own, alpha):
    rng = np.random.default_rng(0)
    Z, new = rng.normal(size=(50, 6)), rng.normal(size=(9, 6))
    own = rng.normal(2, 3, size=(n_own, 50, 4)) + 4 * Z[:, :4]
    new_own = rng.normal(2, 3, size=(n_own, 9, 4))
    Y = Z @ rng.normal(size=(6, 4)) + own.sum(axis=0) + rng.normal(size=(50, 4))
    found = next(Ridge().fit(Z, Y, list(own)).path(new, list(new_own), [alpha]))
    for j in range(4):
        scale = own[:, :, j].std(axis=1)
        model = SklearnRidge(alpha).fit(np.column_stack([Z, own[:, :, j].T / scale]), Y[:, j])
        due = model.predict(np.column_stack([new, new_own[:, :, j].T / scale]))
        np.testing.assert_allclose(found[:, j], due, atol=1e-10)


@pytest.mark.parametrize("n_own", [0, 1, 2])
def test_own_columns_enter_as_in_a_regression_that_has_them(n_own):
    rng = np.random.default_rng(0)
    Z, new = rng.normal(size=(50, 6)), rng.normal(size=(9, 6))
    own, new_own = rng.normal(2, 3, size=(n_own, 50, 4)), rng.normal(2, 3, size=(n_own, 9, 4))
    Y = Z @ rng.normal(size=(6, 4)) + own.sum(axis=0) + rng.normal(size=(50, 4))
    found = next(Ridge().fit(Z, Y, list(own)).path(new, list(new_own), [0]))
    for j in range(4):
        model = LinearRegression().fit(np.column_stack([Z, *own[:, :, j]]), Y[:, j])
        np.testing.assert_allclose(found[:, j], model.predict(np.column_stack([new, *new_own[:, :, j]])), atol=1e-10)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_an_own_column_that_is_among_the_shared_ones_changes_nothing(dtype):
    rng = np.random.default_rng(0)
    a, new = rng.normal(5, 2, size=(200, 4)).astype(dtype), rng.normal(5, 2, size=(9, 4)).astype(dtype)
    b = a @ rng.normal(size=(4, 3)) + rng.normal(size=(200, 3))
    named = {"a": pd.DataFrame(a, columns=list("wxyz")), "b": pd.DataFrame(b, columns=list("xyq"))}
    fitted = ModalityImputer(Linear(0)).fit(named)
    assert list(fitted.strategy_.own_["b"]) == ["a"]
    filled = fitted.transform({"a": pd.DataFrame(new, columns=list("wxyz"))})["b"]
    np.testing.assert_allclose(filled, LinearRegression().fit(a, b).predict(new), rtol=1e-4)


def test_namesakes_count_where_samples_are_fewer_than_columns():
    genes = [f"g{i}" for i in range(60)]

    def draw(n_samples, seed):
        rng = np.random.default_rng(seed)
        a = rng.normal(size=(n_samples, 60))
        tables = {"a": a, "b": 2 * a + 0.5 * rng.normal(size=a.shape)}
        return {name: pd.DataFrame(table, columns=genes) for name, table in tables.items()}

    new, scores = draw(200, 1), {}
    for n_samples in (40, 59, 61, 62):
        fitted = ModalityImputer("linear").fit(draw(n_samples, 0))
        assert list(fitted.strategy_.own_["b"]) == ["a"]
        scores[n_samples] = r2_score(new["b"], fitted.transform({"a": new["a"]})["b"])
    assert scores[40] > 0.6, "0.4 without the namesakes"
    assert scores[59] > scores[62] - 0.02


def layers(n_samples, names):
    """Wide counts of genes, and protein-like values of some of the genes, which go by their own gene alone."""
    rng = np.random.default_rng(0)
    depth = rng.lognormal(0, 0.5, size=(n_samples, 1))
    counts = rng.poisson(depth * rng.gamma(1, 2, size=(n_samples, 600)))
    values = LogNormalizer().fit_transform(sparse.csr_matrix(counts))[:, 30:50].toarray()
    values = values + 0.3 * rng.normal(size=values.shape)
    genes = [f"g{i}" for i in range(600)]
    rna = pd.DataFrame.sparse.from_spmatrix(sparse.csr_matrix(counts.astype(np.float32)), columns=genes)
    return {"rna": rna, "protein": pd.DataFrame(values, columns=names)}


def test_in_wide_counts_the_namesake_tells_what_components_do_not():
    genes = [f"g{i}" for i in range(30, 50)]
    scores, fills = {}, {}
    for called, names in {"genes": genes, "numbers": range(20), "others": [f"p{i}" for i in range(20)]}.items():
        X = Modalities(layers(200, names))
        fitted = ModalityImputer("linear", random_state=0).fit(X[:150])
        filled = fitted.transform(X[150:].select(["rna"]))["protein"]
        scores[called], fills[called] = r2_score(X["protein"][150:], filled), filled
        assert bool(fitted.strategy_.own_["protein"]) == (called == "genes")
    assert scores["genes"] > 0.8
    assert scores["others"] < 0.4
    np.testing.assert_array_equal(fills["others"], fills["numbers"])


def test_the_namesake_is_the_log_normalised_count_beside_the_components():
    X = Modalities(layers(150, [f"g{i}" for i in range(48, 68)]))
    fitted = ModalityImputer(Linear(0), random_state=0).fit(X[:100])
    filled = fitted.transform(X[100:].select(["rna"]))["protein"]
    components = fitted.strategy_.sources_.encode(X)["rna"]
    logs = LogNormalizer().fit(X["rna"][:100]).transform(X["rna"]).toarray()
    for j in (0, 19):
        table = np.column_stack([components, logs[:, 48 + j]])
        model = LinearRegression().fit(table[:100], X["protein"][:100, j])
        np.testing.assert_allclose(filled[:, j], model.predict(table[100:]), rtol=1e-5)
