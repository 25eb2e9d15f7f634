"""`EmbeddingDisplay`: where samples lie, which are left out, and what colours say."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator

from skfusion import EarlyFusionTransformer, Modalities, MultimodalPretrainer
from skfusion.inspection import EmbeddingDisplay
from skfusion.inspection.plot._shared import COLOURS

mpl.use("agg")
N = 40


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def samples():
    rng = np.random.default_rng(0)
    X = {"a": rng.normal(size=(N, 5)), "b": rng.normal(size=(N, 4))}
    X["a"][0], X["b"][1] = np.nan, np.nan
    return X


@pytest.fixture(scope="module")
def pretrainer():
    options = {"max_epochs": 1, "n_latent": 8, "fusion": "mean", "device": "cpu", "random_state": 0}
    return MultimodalPretrainer(["reconstruction"], **options).fit(samples())


def test_each_head_is_projected_on_its_own_components(pretrainer):
    X = samples()
    display = EmbeddingDisplay.from_estimator(pretrainer, X)
    assert list(display.coordinates) == ["a", "b", "fusion"]
    embedding = pretrainer.embed(X, "a")[1:]
    pca = PCA(2).fit(embedding.astype(float))
    np.testing.assert_allclose(display.coordinates["a"][1:], pca.transform(embedding), atol=1e-6)
    np.testing.assert_allclose(display.points_["a"][0].get_offsets(), display.coordinates["a"])
    assert display.axes_[0].get_xlabel() == f"PC 1 ({pca.explained_variance_ratio_[0]:.0%})"
    assert display.legend_ is None
    assert display.colorbar_ is None


def test_samples_without_what_a_head_needs_are_left_out(pretrainer):
    display = EmbeddingDisplay.from_estimator(pretrainer, samples())
    assert {head: np.flatnonzero(np.isnan(xy[:, 0])).tolist() for head, xy in display.coordinates.items()} == {
        "a": [0],
        "b": [1],
        "fusion": [],
    }
    assert [axes.get_title("right") for axes in display.axes_] == ["without 1", "without 1", ""]


def test_a_modality_that_nobody_has_is_no_panel_unless_asked_for(pretrainer):
    assert list(EmbeddingDisplay.from_estimator(pretrainer, {"b": samples()["b"]}).coordinates) == ["b", "fusion"]
    with pytest.raises(ValueError, match="no sample has what the head 'a' needs"):
        EmbeddingDisplay.from_estimator(pretrainer, {"b": samples()["b"]}, heads=["a"])


def test_a_frozen_estimator_is_the_same(pretrainer):
    found, due = (EmbeddingDisplay.from_estimator(p, samples()) for p in (FrozenEstimator(pretrainer), pretrainer))
    np.testing.assert_array_equal(found.coordinates["a"], due.coordinates["a"])


def test_what_has_no_embed_is_drawn_as_it_transforms():
    X = Modalities(samples())
    display = EmbeddingDisplay.from_estimator(EarlyFusionTransformer().fit(X), X)
    assert [axes.get_title() for axes in display.axes_] == ["transform"]
    with pytest.raises(ValueError, match=r"heads is \['a'\], but EarlyFusionTransformer has no embed"):
        EmbeddingDisplay.from_estimator(EarlyFusionTransformer().fit(X), X, heads=["a"])


def colours(points):
    return [tuple(np.round(group.get_facecolor()[0], 4)) for group in points]


@pytest.mark.parametrize("labels", [["x", "y"], [False, True], [3, 7], [3.0, 7.0], pd.Categorical(["x", "y"])])
def test_classes_have_colours_and_a_legend(labels):
    table = np.random.default_rng(0).normal(size=(2, 3))
    display = EmbeddingDisplay.from_embeddings({"a": table, "b": table}, labels)
    due = [str(label).removesuffix(".0") for label in labels]
    assert [text.get_text() for text in display.legend_.get_texts()] == due
    for points in display.points_.values():
        assert colours(points) == [tuple(np.round(to_rgba(colour), 4)) for colour in COLOURS[:2]]


@pytest.mark.parametrize("labels", [["x", None, "y", "x"], [1, np.nan, 0, 1]])
def test_those_without_a_label_are_grey_and_below(labels):
    display = EmbeddingDisplay.from_embeddings({"a": np.eye(4)}, labels)
    first, *others = display.points_["a"]
    np.testing.assert_allclose(first.get_offsets(), display.coordinates["a"][[1]])
    assert len(set(first.get_facecolor()[0][:3])) == 1
    assert [len(group.get_offsets()) for group in others] in ([2, 1], [1, 2])


@pytest.mark.parametrize("labels", [np.linspace(0, 1, 30), np.arange(30)])
def test_amounts_have_a_bar_of_colours(labels):
    display = EmbeddingDisplay.from_embeddings({"a": np.random.default_rng(0).normal(size=(30, 3))}, labels)
    np.testing.assert_allclose(display.points_["a"][0].get_array(), labels)
    assert display.colorbar_ is not None
    assert display.legend_ is None


def test_many_classes_differ_in_colour():
    labels = [f"class {k}" for k in range(20)]
    display = EmbeddingDisplay.from_embeddings({"a": np.random.default_rng(0).normal(size=(20, 3))}, labels)
    assert len(set(colours(display.points_["a"]))) == 20


class Doubled(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return 2 * X


def test_any_transformer_reduces_and_two_columns_are_drawn_as_they_are():
    table = np.random.default_rng(0).normal(size=(6, 3))
    display = EmbeddingDisplay.from_embeddings(
        {"three": table, "two": table[:, :2], "one": table[:, :1]}, reducer=Doubled()
    )
    np.testing.assert_array_equal(display.coordinates["three"], 2 * table[:, :2])
    np.testing.assert_array_equal(display.coordinates["two"], table[:, :2])
    np.testing.assert_array_equal(display.coordinates["one"], np.c_[table[:, 0], np.zeros(6)])


def test_one_sample_and_equal_samples_are_drawn():
    display = EmbeddingDisplay.from_embeddings({"one": np.ones((1, 3))})
    assert display.coordinates["one"].tolist() == [[1, 1]]
    assert EmbeddingDisplay.from_embeddings({"equal": np.ones((4, 3))}).axes_[0].get_xlabel() == ""


def test_axes_can_be_given(pretrainer):
    figure, axes = plt.subplots(1, 2)
    display = EmbeddingDisplay.from_estimator(pretrainer, samples(), heads=["b", "fusion"], ax=axes, point_kw={"s": 3})
    assert display.figure_ is figure
    assert display.points_["b"][0].get_sizes().tolist() == [3]
    with pytest.raises(ValueError, match=r"ax has 2 Axes; due are 1, one for each of \['a'\]"):
        EmbeddingDisplay.from_estimator(pretrainer, samples(), heads=["a"], ax=axes)


def test_what_does_not_fit_raises(pretrainer):
    with pytest.raises(ValueError, match="head is 'c'; due is one of"):
        EmbeddingDisplay.from_estimator(pretrainer, samples(), heads=["c"])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        EmbeddingDisplay.from_estimator(pretrainer, samples(), np.zeros(3))
    with pytest.raises(ValueError, match="there is nothing to draw"):
        EmbeddingDisplay.from_embeddings({})
    frame = {name: pd.DataFrame(values, index=[f"s{k}" for k in range(N)]) for name, values in samples().items()}
    turned = pd.Series(np.arange(N), index=[f"s{k}" for k in range(N)][::-1])
    with pytest.raises(ValueError, match="labels"):
        EmbeddingDisplay.from_estimator(pretrainer, frame, turned)
