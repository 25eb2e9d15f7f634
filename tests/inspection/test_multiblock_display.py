import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from skfusion import MultiBlockPLS, MultiBlockPLSRegressor
from skfusion.inspection import MultiBlockDisplay

mpl.use("agg")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 40)
    X = {
        "labs": pd.DataFrame(rng.normal(size=(80, 6)), columns=[f"lab {i}" for i in range(6)]),
        "ecg": rng.normal(size=(80, 15)),
    }
    X["labs"]["lab 4"] += 2 * y
    X["ecg"][:, 2] -= 2 * y
    return MultiBlockPLS(n_features={"labs": [3, 2]}).fit(X, y)


@pytest.mark.parametrize("component", [0, 1])
@pytest.mark.parametrize("kind", ["weights", "loadings"])
def test_bars_are_the_largest_values_in_order(model, kind, component):
    display = MultiBlockDisplay.from_estimator(model, kind=kind, component=component, max_features=8)
    assert [ax.get_title() for ax in display.axes_] == ["labs", "ecg"]
    for ax, (name, bars) in zip(display.axes_, display.bars_.items()):
        column = getattr(model, f"{kind}_")[name][component]
        widths = np.array([bar.get_width() for bar in bars.values()])
        np.testing.assert_array_equal(widths, column[list(bars)])
        assert (np.diff(np.abs(widths)) <= 0).all()
        assert len(bars) == min(8, np.count_nonzero(column))
        assert (np.abs(column.drop(list(bars))) <= np.abs(widths).min()).all()
        assert [label.get_text() for label in ax.get_yticklabels()] == [str(label) for label in bars]
        assert ax.yaxis_inverted(), "the largest is on top"
    assert display.axes_[0].get_xlim() == display.axes_[1].get_xlim()
    assert display.figure_._supxlabel.get_text() == f"{kind[:-1]} in component {component}"


def test_signs_have_colours_of_their_own(model):
    bars = MultiBlockDisplay.from_estimator(model).bars_["ecg"]
    up, down = ({bar.get_facecolor() for bar in bars.values() if s * bar.get_width() > 0} for s in (1, -1))
    assert len(up) == len(down) == 1
    assert up != down


def test_it_draws_where_it_is_told(model):
    figure = plt.figure()
    display = MultiBlockDisplay.from_estimator(model, figure=figure, bar_kw={"color": "red"})
    assert display.figure_ is figure
    assert {bar.get_facecolor() for bar in display.bars_["ecg"].values()} == {mpl.colors.to_rgba("red", 0.8)}


def test_what_there_is_not_raises(model):
    with pytest.raises(ValueError, match="component is 2; due is one of 0 to 1"):
        MultiBlockDisplay.from_estimator(model, component=2)
    with pytest.raises(ValueError, match=r"component is 1\.0; due is one of 0 to 1"):
        MultiBlockDisplay.from_estimator(model, component=1.0)
    with pytest.raises(ValueError, match="component is 5; due is one of 0 to 1"):
        MultiBlockDisplay(tables=model.weights_, component=5).plot()
    with pytest.raises(ValueError, match="kind is 'votes'; due is 'weights' or 'loadings'"):
        MultiBlockDisplay.from_estimator(model, kind="votes")
    constant = MultiBlockPLS().fit({"a": np.ones((5, 2))}, np.zeros(5))
    with pytest.raises(ValueError, match="no components"):
        MultiBlockDisplay.from_estimator(constant)


@pytest.mark.parametrize("n", [0, -1, 2.5, True, "all"])
def test_the_number_of_features_is_a_whole_one(model, n):
    with pytest.raises(ValueError, match=f"max_features is {n!r}; due is a whole number of 1 or more"):
        MultiBlockDisplay.from_estimator(model, max_features=n)


def test_only_fitted_models_of_its_kind_are_drawn(model):
    for other in (LogisticRegression(), make_pipeline(MultiBlockPLS())):
        with pytest.raises(
            TypeError, match=r"estimator is .*; due is a fitted MultiBlockPLS or MultiBlockPLSRegressor"
        ):
            MultiBlockDisplay.from_estimator(other)
    for unfitted in (MultiBlockPLS(), MultiBlockPLSRegressor()):
        with pytest.raises(NotFittedError):
            MultiBlockDisplay.from_estimator(unfitted)
    frozen = MultiBlockDisplay.from_estimator(FrozenEstimator(model))
    assert list(frozen.bars_) == ["labs", "ecg"]


@pytest.mark.filterwarnings("error")
def test_a_modality_without_the_component_has_an_empty_panel():
    rng = np.random.default_rng(0)
    X = {"labs": rng.normal(size=(40, 4)), "ecg": rng.normal(size=(40, 1))}
    model = MultiBlockPLS(5).fit(X, rng.integers(0, 2, size=40))
    bars = [{k: len(v) for k, v in MultiBlockDisplay.from_estimator(model, component=c).bars_.items()} for c in (1, 4)]
    assert bars == [{"labs": 4, "ecg": 0}, {"labs": 0, "ecg": 0}]
