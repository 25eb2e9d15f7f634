"""What is special to multi-block PLS: its criterion, sparse weights, and modalities that are missing."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from skfusion import MultiBlockPLS, MultiBlockPLSRegressor
from skfusion._multiblock import Discriminant, fit_directions, project


def blocks_and_target(n_samples=60, n_columns=1, seed=0):
    rng = np.random.default_rng(seed)
    target = rng.normal(size=(n_samples, n_columns))
    blocks = [rng.normal(size=(n_samples, width)) + target[:, :1] for width in (6, 4)]
    return [block - block.mean(axis=0) for block in blocks], target - target.mean(axis=0)


def fit(blocks, target, keep=None, design=0.0, n_components=1):
    keep = np.array(keep or [block.shape[1] for block in blocks])[:, None].repeat(n_components, axis=1)
    pairs = design * (1 - np.eye(len(blocks)))
    return fit_directions(blocks, target, keep=keep, design=pairs, n_components=n_components, max_iter=500, tol=1e-12)


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


def test_features_as_large_as_the_last_one_stay():
    blocks, target = blocks_and_target()
    strongest = blocks[0][:, np.argmax(np.abs(blocks[0].T @ target[:, 0]))]
    twice = np.column_stack([strongest, 0.1 * blocks[0][:, 1], strongest])
    ((found,), _), *_ = fit([twice, blocks[1]], target, keep=[1, 4])
    np.testing.assert_allclose(np.abs(found.weights), [np.sqrt(0.5), 0, np.sqrt(0.5)], atol=1e-12)


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


# What is too small to have a component


def narrow(seed=0):
    rng = np.random.default_rng(seed)
    return {"a": rng.normal(size=(60, 3)), "b": rng.normal(size=(60, 2))}, rng.integers(0, 2, size=60)


def test_components_beyond_the_rank_of_a_block_are_zero_and_do_not_vote():
    X, y = narrow()
    X["a"] = np.column_stack([X["a"], X["a"].sum(axis=1), np.eye(4)[np.arange(60) % 4]])  # of rank 3 + 3
    model, as_many = MultiBlockPLS(9).fit(X, y), MultiBlockPLS(6).fit(X, y)
    scores = model.project(X)
    for name, rank in (("a", 6), ("b", 2)):
        for table in (scores[name], model.weights_[name].to_numpy(), model.loadings_[name].to_numpy()):
            assert table[:, :rank].any(axis=0).all()
            assert not table[:, rank:].any()
        assert np.abs(scores[name][:, :rank]).max(axis=0).min() > 0.1
    pd.testing.assert_series_equal(model.votes_, as_many.votes_)
    np.testing.assert_allclose(model.predict_proba(X), as_many.predict_proba(X), atol=1e-12)
    b = [MultiBlockPLS(n).fit({"b": X["b"]}, y).votes_["b"] for n in (2, 5)]
    assert b[0] == pytest.approx(b[1])


@pytest.mark.parametrize("scale", [True, False])
def test_a_constant_block_has_no_vote(scale):
    X, y = narrow()
    # The mean of 60 times .1 is not .1 to the bit.
    model = MultiBlockPLS(scale=scale).fit({**X, "b": np.full((60, 2), 0.1)}, y)
    assert model.votes_["a"] > model.votes_["b"] == 0
    assert not model.weights_["b"].any(axis=None)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [1.0, 0.1])
def test_a_constant_target_is_predicted_and_agrees_with_nothing(value):
    X, _ = narrow()
    model = MultiBlockPLSRegressor().fit(X, np.full(60, value))
    assert model.votes_.tolist() == [0, 0]
    np.testing.assert_allclose(model.predict(X), value)
    varied = X["a"][:, 0]
    several = MultiBlockPLSRegressor().fit(X, np.column_stack([np.full(60, value), varied]))
    alone = MultiBlockPLSRegressor().fit(X, varied)
    pd.testing.assert_series_equal(several.votes_, alone.votes_)
    np.testing.assert_allclose(several.predict(X), np.column_stack([np.full(60, value), alone.predict(X)]))


# Features a component


def test_each_component_has_as_many_features_as_its_place_in_the_list_says():
    X, y = planted()
    model = MultiBlockPLS(n_features={"rna": [3, 5], "protein": (None, np.int64(2))}).fit(X, y)
    assert {name: (w != 0).sum().tolist() for name, w in model.weights_.items()} == {"rna": [3, 5], "protein": [20, 2]}
    same, each = MultiBlockPLS(n_features=[4, 4]).fit(X, y), MultiBlockPLS(n_features=4).fit(X, y)
    np.testing.assert_array_equal(same.predict_proba(X), each.predict_proba(X))


@pytest.mark.parametrize("wanted", [[3], {"rna": [3, 3, 3]}])
def test_a_list_of_features_has_one_number_a_component(wanted):
    with pytest.raises(
        ValueError, match=r"n_features of modality 'rna' is .*; due is one number, or 2, one a component"
    ):
        MultiBlockPLS(n_features=wanted).fit(*planted())
    with pytest.raises(ValueError, match="is 0; due is a whole number"):
        MultiBlockPLS(n_features=[0, 1]).fit(*planted())


# Design


def three_blocks(seed=0):
    X, y = planted(seed=seed)
    X["mirna"] = np.random.default_rng(seed + 5).normal(size=(150, 10)) + X["protein"][:, :10]
    return X, y


def test_a_number_as_design_is_that_number_for_each_pair():
    X, y = three_blocks()
    matrix = np.full((3, 3), 0.3) - 0.3 * np.eye(3)
    left, right = (MultiBlockPLS(design=design).fit(X, y) for design in (0.3, matrix.tolist()))
    np.testing.assert_array_equal(left.predict_proba(X), right.predict_proba(X))


def test_a_design_matrix_draws_together_the_pairs_that_it_names():
    X, y = three_blocks()
    frame = pd.DataFrame(0.0, index=["mirna", "rna", "protein"], columns=["protein", "mirna", "rna"])
    frame.loc["mirna", "protein"] = frame.loc["protein", "mirna"] = 1.0
    model, apart = MultiBlockPLS(1, design=frame).fit(X, y), MultiBlockPLS(1, design=0).fit(X, y)
    covariances = [abs(np.cov(*(m.transform(X)[:, [1, 2]]).T)[0, 1]) for m in (model, apart)]
    assert covariances[0] > 1.02 * covariances[1]
    ordered = MultiBlockPLS(1, design=frame.loc[list(X), list(X)].to_numpy()).fit(X, y)
    np.testing.assert_array_equal(ordered.transform(X), model.transform(X))
    np.testing.assert_array_equal(clone(model).fit(X, y).transform(X), model.transform(X))


def test_a_design_matrix_makes_a_fixed_point_of_the_criterion():
    blocks, target = blocks_and_target(n_columns=3)
    blocks.append(np.random.default_rng(3).normal(size=(60, 5)) + blocks[1][:, :1])
    pairs = np.array([[0, 0.9, 0], [0.9, 0, 0.4], [0, 0.4, 0]])
    keep = np.array([[block.shape[1]] for block in blocks])
    directions, *_ = fit_directions(blocks, target, keep=keep, design=pairs, n_components=1, max_iter=2000, tol=1e-13)
    weights = [found[0].weights for found in directions]
    scores = np.stack([block @ own for block, own in zip(blocks, weights)])
    direction = target.T @ scores.sum(axis=0)
    aim = target @ (direction / np.linalg.norm(direction))
    for q, block in enumerate(blocks):
        gradient = block.T @ (aim + sum(pairs[q, r] * scores[r] for r in range(3)))
        np.testing.assert_allclose(weights[q], gradient / np.linalg.norm(gradient), atol=1e-6)


@pytest.mark.parametrize(
    ("design", "message"),
    [
        (np.zeros((2, 2)), r"design has shape \(2, 2\); due is a number, or \(3, 3\)"),
        ([[0, 0.5, 0], [0.4, 0, 0], [0, 0, 0]], "due is a symmetric matrix"),
        (np.eye(3), r"design has the diagonal \[1.0, 1.0, 1.0\]; due are zeros"),
        (2 * (1 - np.eye(3)), "due are values from 0 to 1"),
        (2.0, r"'design' parameter .* in the range \[0.0, 1.0\]"),
        ([["x", 1], [2, 3]], r"design is \[\['x', 1\], \[2, 3\]\]; due is a number, or a matrix of numbers"),
        ([[0, 1], [1]], "design is .*; due is a number, or a matrix of numbers"),
        (np.full((3, 3), np.nan), "due are values from 0 to 1"),
        (pd.DataFrame(np.zeros((3, 3))), r"the rows of design are \[0, 1, 2\]; due are the modalities, \['rna'"),
        (pd.DataFrame(0.0, ["rna", "protein", "mirna"], list("abc")), "the columns of design are"),
    ],
)
def test_a_design_that_makes_no_sense_raises(design, message):
    with pytest.raises(ValueError, match=message):
        MultiBlockPLS(design=design).fit(*three_blocks())


# Scores and loadings


def test_transform_lays_the_projections_side_by_side():
    (X, y), (new, _) = planted(), planted(seed=1)
    new["protein"][3] = np.nan
    model = MultiBlockPLS().fit(X, y)
    found, parts = model.transform(new), model.project(new)
    np.testing.assert_array_equal(found, np.hstack([parts["rna"], parts["protein"]]))
    assert np.isnan(found[3]).tolist() == [False, False, True, True]
    assert np.isfinite(np.delete(found, 3, axis=0)).all()
    names = ["rna__component0", "rna__component1", "protein__component0", "protein__component1"]
    assert model.get_feature_names_out().tolist() == names
    frame = model.set_output(transform="pandas").transform(pd.DataFrame(new["rna"]).pipe(lambda rna: {"rna": rna}))
    assert frame.columns.tolist() == names
    np.testing.assert_array_equal(frame.iloc[:, :2], parts["rna"])
    table = MultiBlockPLS(1).fit(X["rna"], y)
    assert table.get_feature_names_out().tolist() == ["component0"]


def test_loadings_are_the_slopes_of_the_features_on_the_components():
    X, y = planted()
    scaled = X["rna"] / X["rna"].std(axis=0)
    model = MultiBlockPLS(n_features=3).fit(X, y)
    scores, centred = model.project(X)["rna"], scaled - scaled.mean(axis=0)
    # Components of a block are uncorrelated, so that each slope is one of its own.
    np.testing.assert_allclose(model.loadings_["rna"], centred.T @ scores / np.square(scores).sum(axis=0), atol=1e-8)
    assert (model.loadings_["rna"] != 0).all(axis=None)
    assert model.loadings_["rna"].index.equals(model.weights_["rna"].index)


def test_one_class_has_scores_of_zero():
    X, y = planted()
    model = MultiBlockPLS().fit(X, np.repeat("a", len(y)))
    np.testing.assert_array_equal(model.transform({"rna": X["rna"]})[:2], [[0, 0, np.nan, np.nan]] * 2)


def test_a_pipeline_goes_on_with_filled_scores():
    (X, y), (new, truth) = planted(), planted(seed=1)
    X["protein"][::4] = new["protein"][::3] = np.nan
    model = make_pipeline(MultiBlockPLS(), SimpleImputer(), LogisticRegression()).fit(X, y)
    assert model.score(new, truth) > 0.8
    assert model.score({"rna": new["rna"]}, truth) > 0.7
    filled = model[:-1].transform(new)[::3, 2:]
    np.testing.assert_allclose(filled, np.tile(np.nanmean(model[0].transform(X)[:, 2:], axis=0), (50, 1)))


# Several targets


def test_one_full_component_of_one_block_is_pls_regression_on_several_targets():
    from sklearn.cross_decomposition import PLSRegression

    X, _ = planted()
    y = X["rna"][:, :2] @ [[1.0, 0.5], [0.2, 10.0]] + [3.0, -5.0]
    ours = MultiBlockPLSRegressor(2).fit({"rna": X["rna"]}, y)
    assert ours.predict({"rna": X["rna"]}).shape == (150, 2)
    theirs = PLSRegression(2, tol=1e-12).fit(X["rna"], y)
    np.testing.assert_allclose(ours.predict({"rna": X["rna"]}), theirs.predict(X["rna"]), atol=1e-5)


def test_several_targets_are_predicted_by_what_is_present():
    (X, _), (new, _) = planted(), planted(seed=1)
    y, truth = (Z["rna"][:, :2] + Z["protein"][:, :2] for Z in (X, new))
    model = MultiBlockPLSRegressor(3).fit(X, y)
    assert model.score(new, truth) > 0.6
    assert model.score({"rna": new["rna"]}, truth) > 0.3
    nothing = {name: np.full((2, values.shape[1]), np.nan) for name, values in X.items()}
    np.testing.assert_allclose(model.predict(nothing), np.tile(y.mean(axis=0), (2, 1)))
    alone = MultiBlockPLSRegressor(3).fit(X, y[:, 0])
    assert alone.predict(new).shape == (150,)
