"""A linear-Gaussian latent: what it says of missing modalities is a conditional Gaussian."""

import tracemalloc
from itertools import product

import numpy as np
import pytest
from _data import WIDTHS, complete, has, with_gaps
from scipy import linalg, sparse
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.metrics import r2_score

from skfusion import Modalities, ModalityImputer
from skfusion.imputation import Factor
from skfusion.imputation.factor import FactorModel, _start

NAMES = list(WIDTHS)
OWNER = np.repeat(np.arange(3), list(WIDTHS.values()))
PATTERNS = [pattern for pattern in product([True, False], repeat=3) if not all(pattern)]


@pytest.fixture(scope="module")
def fitted():
    return ModalityImputer(Factor(3)).fit(with_gaps(complete(200)))


def gaussian(fitted):
    """Mean and covariance W Wᵀ + Ψ of all columns, in the units of the data."""
    model, codes = fitted.strategy_.model_, fitted.strategy_.targets_.codes_
    W, scale = np.vstack(model.loadings), np.hstack([codes[name].scale for name in NAMES])
    mean = np.hstack([codes[name].mean for name in NAMES]) + scale * np.hstack(model.means)
    return mean, scale[:, None] * (W @ W.T + np.diag(np.hstack(model.noises))) * scale


def conditional(fitted, x, present):
    """Mean (n, h) and covariance (h, h) of the columns that `present` lacks, by the textbook."""
    mean, covariance = gaussian(fitted)
    o, h = np.flatnonzero(np.array(present)[OWNER]), np.flatnonzero(~np.array(present)[OWNER])
    gain = covariance[np.ix_(h, o)] @ np.linalg.inv(covariance[np.ix_(o, o)])
    return mean[h] + (x[:, o] - mean[o]) @ gain.T, covariance[np.ix_(h, h)] - gain @ covariance[np.ix_(o, h)]


def hidden(X, present):
    return Modalities(X, present=np.tile(present, (len(X["a"]), 1)))


def columns(filled, present):
    return np.hstack([filled[name] for name, there in zip(NAMES, present) if not there])


@pytest.mark.parametrize("present", PATTERNS)
def test_what_is_filled_is_the_conditional_mean(fitted, present):
    new = complete(10, seed=1)
    mean, covariance = conditional(fitted, np.hstack(list(new.values())), present)
    if not any(present):
        training = [fitted.strategy_.targets_.means[name] for name in NAMES]
        mean = np.tile(np.hstack(training), (10, 1))
    found = columns(fitted.transform(hidden(new, present)), present)
    np.testing.assert_allclose(found, mean, rtol=1e-6)
    spread = columns(fitted.uncertainty(hidden(new, present)), present)
    np.testing.assert_allclose(spread, np.tile(np.sqrt(np.diag(covariance)), (10, 1)), rtol=1e-6)


@pytest.mark.parametrize("present", [(True, False, False), (False, True, True), (False, False, False)])
def test_draws_have_the_conditional_mean_and_covariance_of_all_that_is_missing(fitted, present):
    new = {name: np.repeat(values, 20000, axis=0) for name, values in complete(1, seed=1).items()}
    mean, covariance = conditional(fitted, np.hstack([v[:1] for v in new.values()]), present)
    (drawn,) = fitted.sample(hidden(new, present))
    drawn = columns(drawn, present)
    deviation = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose((drawn.mean(axis=0) - mean[0]) / deviation, 0, atol=0.04)
    found = np.cov(drawn, rowvar=False) / np.outer(deviation, deviation)
    np.testing.assert_allclose(found, covariance / np.outer(deviation, deviation), atol=0.04)


def test_two_missing_modalities_are_correlated_in_a_draw_and_not_beyond_what_is_known(fitted):
    new = {name: np.repeat(values, 20000, axis=0) for name, values in complete(1, seed=1).items()}
    (drawn,) = fitted.sample(hidden(new, (False, True, False)))
    together = np.corrcoef(drawn["a"], drawn["c"], rowvar=False)[:4, 4:]
    shuffled = np.corrcoef(drawn["a"], drawn["c"][::-1], rowvar=False)[:4, 4:]
    assert np.abs(together).max() > 0.3
    assert np.abs(shuffled).max() < 0.05


def test_a_draw_holds_no_matrix_a_sample(fitted):
    new = {name: np.repeat(values, 40000, axis=0) for name, values in complete(1, seed=1).items()}
    strategy, X = fitted.strategy_, hidden(new, (True, False, False))
    wide = clone(strategy)
    vars(wide).update(vars(strategy))
    loadings = [np.hstack([W, np.zeros((len(W), 97))]) for W in strategy.model_.loadings]
    wide.model_ = FactorModel(strategy.model_.means, loadings, strategy.model_.noises)
    tracemalloc.start()
    drawn = wide.draw(X, np.random.default_rng(0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * 8 * 40000 * 100  # matrices would take 100 tables of the latent
    assert drawn["b"].shape == (40000, 3)


# The likelihood


def test_the_likelihood_is_that_of_a_gaussian_over_what_is_present(fitted):
    X = with_gaps(complete(30, seed=2), share=0.4)
    strategy, (mean, covariance) = fitted.strategy_, gaussian(fitted)
    tables, present = strategy._tables(Modalities(X))
    expected = 0.0
    for x, there in zip(np.hstack(list(X.values())), present[:, OWNER]):
        o = np.flatnonzero(there)
        expected += multivariate_normal(mean[o], covariance[np.ix_(o, o)]).logpdf(x[o])
    # The model's own unit is the standard deviation of training.
    scale = np.hstack([strategy.targets_.codes_[name].scale for name in NAMES])
    expected += (np.log(scale) * present[:, OWNER]).sum()
    assert strategy.model_.log_likelihood(tables, present) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_em_never_loses_likelihood(share):
    path = ModalityImputer(Factor(2, max_iter=60, tol=0)).fit(with_gaps(complete(150), share)).strategy_.log_likelihood_
    assert len(path) == 60
    assert np.diff(path).min() > -1e-10
    assert path[-1] - path[0] > 0.01


def test_em_ends_where_little_is_gained():
    strategy = ModalityImputer(Factor(2, tol=1e-3)).fit(complete(150)).strategy_
    gains = np.diff(strategy.log_likelihood_)
    assert gains[-1] < 1e-3
    assert (gains[:-1] >= 1e-3).all()


def test_a_planted_model_is_found_where_much_is_missing():
    rng = np.random.default_rng(0)
    W, noise = rng.normal(size=(9, 2)), rng.uniform(0.2, 1.0, size=9)
    x = rng.normal(size=(4000, 2)) @ W.T + np.sqrt(noise) * rng.normal(size=(4000, 9)) + 5
    X = with_gaps(dict(zip(NAMES, np.split(x, [4, 7], axis=1))), share=0.4)
    mean, covariance = gaussian(ModalityImputer(Factor(2, tol=1e-6)).fit(X))
    np.testing.assert_allclose(mean, 5, atol=0.15)
    due = W @ W.T + np.diag(noise)
    unit = np.sqrt(np.outer(np.diag(due), np.diag(due)))
    np.testing.assert_allclose(covariance / unit, due / unit, atol=0.06)


def test_a_wrong_width_would_not_pass_for_the_planted_one():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 3)) @ rng.normal(size=(3, 9)) + 0.5 * rng.normal(size=(500, 9))
    X = dict(zip(NAMES, np.split(x, [4, 7], axis=1)))
    path = {k: ModalityImputer(Factor(k)).fit(X).strategy_.log_likelihood_[-1] for k in (1, 2, 3)}
    assert path[1] + 0.05 < path[2] < path[3] - 0.05


def test_of_many_columns_the_start_is_found_without_all_components(monkeypatch):
    rng = np.random.default_rng(0)
    table = rng.normal(size=(80, 4)) @ rng.normal(size=(4, 90)) + 0.01 * rng.normal(size=(80, 90))
    _, s, V = np.linalg.svd(table, full_matrices=False)
    due = (V[:4].T * np.square(s[:4])) @ V[:4] / 80

    def whole(*args, **kwargs):
        raise AssertionError("all components were computed")

    svd = linalg.svd
    monkeypatch.setattr(
        "skfusion.imputation.factor.linalg.svd",
        lambda a, **options: (svd if min(a.shape) < 80 else whole)(a, **options),
    )
    start = _start([table[:, :50], table[:, 50:]], 4)
    loadings = np.vstack(start.loadings)
    np.testing.assert_allclose(loadings @ loadings.T, due, atol=1e-3 * np.abs(due).max())


@pytest.mark.parametrize("n_samples", [40, 60, 79, 81])
def test_fewer_samples_than_columns_are_no_harder(n_samples):
    def planted(n_samples, seed):
        maps, rng = np.random.default_rng(7), np.random.default_rng(seed)
        z = rng.normal(size=(n_samples, 2))
        return {name: z @ maps.normal(size=(2, 80)) + rng.normal(size=(n_samples, 80)) for name in "ab"}

    new = planted(200, 1)
    filled = ModalityImputer(Factor()).fit(planted(n_samples, 0)).transform({"a": new["a"]})
    assert r2_score(new["b"], filled["b"]) > 0.4


# Its width, and its uncertainty


@pytest.mark.parametrize(("n_components", "width"), [("auto", 6), (1, 1), (50, 8)])
def test_the_latent_is_narrower_than_the_data(n_components, width):
    model = ModalityImputer(Factor(n_components)).fit(complete(60)).strategy_.model_
    assert [W.shape for W in model.loadings] == [(p, width) for p in WIDTHS.values()]


def test_uncertainty_is_that_of_the_training_samples_on_average():
    X = with_gaps(complete(200))
    fitted = ModalityImputer(Factor(3)).fit(X)
    for m, name in enumerate(NAMES):
        rows = has(X, name)
        blind = {other: np.where(other == name, np.nan, values[rows]) for other, values in X.items()}
        np.testing.assert_allclose(fitted.uncertainty_[name], fitted.uncertainty(blind)[name].mean(axis=0), rtol=1e-9)
        # Less than nothing known, more than all others known.
        nothing = np.sqrt(np.diag(gaussian(fitted)[1]))[m == OWNER]
        assert (fitted.uncertainty_[name] < nothing).all()


def test_uncertainty_of_wide_counts_is_that_of_draws():
    rng = np.random.default_rng(0)
    share = rng.dirichlet(np.ones(3), size=120)
    counts = sparse.csr_matrix(rng.poisson(share @ rng.gamma(1, size=(3, 600))).astype(np.float64))
    X = Modalities({"rna": counts, "protein": share + 0.05 * rng.normal(size=(120, 3))})
    fitted = ModalityImputer(Factor(3), random_state=0).fit(X)
    new = {"protein": np.repeat(X["protein"][:1], 2000, axis=0)}
    drawn = fitted.sample(new)[0]["rna"].toarray()
    spread = fitted.uncertainty({"protein": new["protein"][:1]})["rna"][0]
    strong = spread > np.median(spread)
    np.testing.assert_allclose(drawn.std(axis=0)[strong], spread[strong], rtol=0.1)
