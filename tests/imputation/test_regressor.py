"""Filling by any regressor of scikit-learn."""

import numpy as np
import pytest
from _data import complete, has, standardised, with_gaps
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import BayesianRidge, LinearRegression, Ridge
from sklearn.tree import DecisionTreeRegressor

from skfusion import Modalities, ModalityImputer
from skfusion.imputation import Regressor

BOOSTING = HistGradientBoostingRegressor(max_iter=4, min_samples_leaf=5)


def by_hand(X, new, name, fit_predict, gap):
    """Fill `name` in `new` from the standardised columns of the others, `gap` where one is missing."""
    scalers, train, query = standardised(X, new)
    others = [other for other in X if other != name]

    def inputs(tables, data):
        return np.hstack([np.where(has(data, o)[:, None], tables[o], gap) for o in others])

    rows = has(X, name) & np.any([has(X, other) for other in others], axis=0)
    gone = ~has(new, name)
    filled = fit_predict(inputs(train, X)[rows], train[name][rows], inputs(query, new)[gone])
    out = new[name].copy()
    out[gone] = scalers[name].inverse_transform(filled)
    return out


def at_once(estimator):
    return lambda inputs, target, new: estimator.fit(inputs, target).predict(new)


def one_by_one(estimator):
    return lambda inputs, target, new: np.column_stack([estimator.fit(inputs, c).predict(new) for c in target.T])


@pytest.mark.parametrize(
    ("estimator", "by", "gap"),
    [
        (Ridge(2.0), at_once, 0.0),
        (DecisionTreeRegressor(max_depth=3, random_state=0), at_once, np.nan),
        (BayesianRidge(), one_by_one, 0.0),
        (BOOSTING, one_by_one, np.nan),
    ],
    ids=["ridge", "tree", "bayesian", "boosting"],
)
def test_what_is_filled_is_what_the_estimator_predicts(estimator, by, gap):
    X, new = with_gaps(complete(80)), with_gaps(complete(30, seed=1))
    fitted = ModalityImputer(Regressor(estimator)).fit(X)
    filled = fitted.transform(new)
    for name, values in X.items():
        np.testing.assert_allclose(filled[name], by_hand(X, new, name, by(estimator), gap), rtol=1e-6)
        assert len(fitted.strategy_.regressors_[name]) == (1 if by is at_once else values.shape[1])


def test_the_estimator_that_was_given_stays_unfitted():
    estimator = Ridge()
    ModalityImputer(Regressor(estimator)).fit(complete())
    assert not hasattr(estimator, "coef_")


def test_the_default_learns_a_bend():
    rng = np.random.default_rng(0)
    a = rng.uniform(-2, 2, size=(400, 1))
    X = {"a": a, "b": a**2 + 0.1 * rng.normal(size=(400, 1))}
    scores = {s: ModalityImputer(s).fit(X).score_modalities(X)["b"] for s in ("regressor", "linear")}
    assert scores["regressor"] > 0.9
    assert scores["linear"] < 0.1


def test_the_default_learns_from_a_mosaic():
    rng = np.random.default_rng(0)
    X = {name: rng.normal(size=(400, 1)) for name in "abc"}
    X["b"] = np.tanh(X["a"]) + np.tanh(X["c"])
    X["a"][200:], X["c"][:200] = np.nan, np.nan
    fitted = ModalityImputer("regressor").fit(X)
    assert fitted.strategy_.given_ == {"a": ["b"], "b": ["a", "c"], "c": ["b"]}
    filled = fitted.transform({"c": [[5.0], [-5.0]]})
    assert filled["a"].ravel().tolist() == [np.nanmean(X["a"])] * 2
    assert filled["b"][0] > filled["b"][1] + 1


def test_wide_modalities_are_projected_on_both_sides():
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(100, 3))
    X = {name: latent @ rng.normal(size=(3, 40)) + 0.01 * rng.normal(size=(100, 40)) for name in "ab"}
    strategy = ModalityImputer(Regressor(BayesianRidge(), n_components=3)).fit(X).strategy_
    assert [len(found) for found in strategy.regressors_.values()] == [3, 3]
    assert strategy.regressors_["b"][0].n_features_in_ == 3
    filled = strategy.fill(Modalities(X), "b")
    standard = (X["b"] - X["b"].mean(axis=0)) / X["b"].std(axis=0)
    components = PCA(3).fit(standard)
    rebuilt = components.inverse_transform(components.transform(standard)) * X["b"].std(axis=0) + X["b"].mean(axis=0)
    np.testing.assert_allclose(filled, rebuilt, atol=0.1)
    whole = ModalityImputer(Regressor(LinearRegression(), n_components=None)).fit(X).strategy_
    assert whole.regressors_["b"][0].coef_.shape == (40, 40)
