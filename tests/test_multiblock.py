"""What is special to multi-block PLS: its criterion, sparse weights, and modalities that are missing."""

import numpy as np
import pytest

from skfusion import MultiBlockPLS, MultiBlockPLSRegressor
from skfusion._multiblock import Discriminant, fit_directions, project


def blocks_and_target(n_samples=60, n_columns=1, seed=0):
    rng = np.random.default_rng(seed)
    target = rng.normal(size=(n_samples, n_columns))
    blocks = [rng.normal(size=(n_samples, width)) + target[:, :1] for width in (6, 4)]
    return [block - block.mean(axis=0) for block in blocks], target - target.mean(axis=0)


def fit(blocks, target, keep=None, design=0.0, n_components=1):
    keep = keep or [block.shape[1] for block in blocks]
    return fit_directions(blocks, target, keep=keep, design=design, n_components=n_components, max_iter=500, tol=1e-12)


def test_without_a_design_each_block_covaries_most_with_one_target():
    blocks, target = blocks_and_target()
    directions, agreement, _ = fit(blocks, target)
    for block, (found,), agrees in zip(blocks, directions, agreement[:, 0]):
        expected = block.T @ target[:, 0]
        np.testing.assert_allclose(found.weights, expected / np.linalg.norm(expected), atol=1e-9)
        assert agrees == pytest.approx(abs(np.corrcoef(block @ found.weights, target[:, 0])[0, 1]))


def test_a_design_makes_a_fixed_point_of_the_criterion():
    blocks, target = blocks_and_target(n_columns=3)
    directions, *_ = fit(blocks, target, design=0.7)
    weights = [found[0].weights for found in directions]
    scores = [block @ own for block, own in zip(blocks, weights)]
    direction = target.T @ (scores[0] + scores[1])
    aim = target @ (direction / np.linalg.norm(direction))
    for q, block in enumerate(blocks):
        gradient = block.T @ (aim + 0.7 * scores[1 - q])
        np.testing.assert_allclose(weights[q], gradient / np.linalg.norm(gradient), atol=1e-6)
    together, apart = (fit(blocks, target, design=design)[0] for design in (50.0, 0.0))
    correlations = [
        np.corrcoef(blocks[0] @ found[0][0].weights, blocks[1] @ found[1][0].weights)[0, 1]
        for found in (together, apart)
    ]
    assert correlations[0] > correlations[1]


def test_components_of_a_block_are_uncorrelated_and_project_as_fitted():
    blocks, target = blocks_and_target(n_columns=3)
    directions, *_ = fit(blocks, target, keep=[3, 2], n_components=2)
    for block, found, keep in zip(blocks, directions, (3, 2)):
        scores = project(block, found)
        assert scores[:, 0] @ scores[:, 1] == pytest.approx(0, abs=1e-9)
        for one in found:
            assert np.count_nonzero(one.weights) == keep
            assert np.linalg.norm(one.weights) == pytest.approx(1)


def test_golden_discriminant_of_two_points_a_class():
    scores = np.array([[-2.0], [0.0], [1.0], [3.0]])
    found = Discriminant(scores, np.array([0, 0, 1, 1]), 2)
    # Means -1 and 2, variance (1 + 1 + 1 + 1) / 2 = 2: log odds of class 1 are (3 x - 1.5) / 2.
    odds = 1 / (1 + np.exp(-(3 * scores[:, 0] - 1.5) / 2))
    np.testing.assert_allclose(found.predict_proba(scores)[:, 1], odds, atol=1e-5)


def planted(n_samples=150, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, size=n_samples)
    X = {"rna": rng.normal(size=(n_samples, 40)), "protein": rng.normal(size=(n_samples, 20))}
    for name in X:
        X[name][:, :3] += 2.5 * np.eye(3)[y]
    return X, np.array(["a", "b", "c"])[y]


def test_planted_features_are_chosen_and_classes_are_told():
    (X, y), (new, truth) = planted(), planted(seed=1)
    model = MultiBlockPLS(n_features={"rna": 3}).fit(X, y)
    chosen = set(np.flatnonzero(model.weights_["rna"].any(axis=1)))
    assert {0, 1, 2} <= chosen
    assert len(chosen) <= 5
    assert (model.weights_["protein"] != 0).all(axis=None)
    assert model.score(new, truth) > 0.9
    assert model.votes_.between(0, 1).all()


def test_a_block_that_is_missing_is_skipped():
    (X, y), (new, _) = planted(), planted(seed=1)
    model = MultiBlockPLS().fit(X, y)
    parts = {name: model.predict_proba({name: new[name]}) for name in X}
    share = model.votes_ / model.votes_.sum()
    expected = share["rna"] * parts["rna"] + share["protein"] * parts["protein"]
    np.testing.assert_allclose(model.predict_proba(new), expected, atol=1e-12)
    scores = model.project({"rna": new["rna"]})
    assert np.isnan(scores["protein"]).all()
    X["rna"][::3] = np.nan
    assert MultiBlockPLS().fit(X, y).score(new, planted(seed=1)[1]) > 0.9


def test_noise_has_less_of_a_vote():
    X, y = planted()
    X["protein"] = np.random.default_rng(9).normal(size=(150, 20))
    model = MultiBlockPLS(n_features=3).fit(X, y)
    assert model.votes_["protein"] < 0.6 * model.votes_["rna"]


def test_one_full_component_of_one_block_is_pls_regression():
    from sklearn.cross_decomposition import PLSRegression

    X, _ = planted()
    y = X["rna"][:, 0] + X["rna"][:, 1]
    ours = MultiBlockPLSRegressor(3).fit({"rna": X["rna"]}, y).predict({"rna": X["rna"]})
    np.testing.assert_allclose(ours, PLSRegression(3).fit(X["rna"], y).predict(X["rna"]).ravel(), atol=1e-6)


@pytest.mark.parametrize("wanted", [0, 1.5, True])
def test_the_number_of_features_is_a_whole_one(wanted):
    with pytest.raises(ValueError, match=r"n_features of modality 'rna' is .*; due is a whole number of 1 or more"):
        MultiBlockPLS(n_features={"rna": wanted}).fit(*planted())
