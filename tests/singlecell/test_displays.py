import sys

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.integrate import solve_ivp

from skfusion.singlecell import (
    LatentTimeDisplay,
    PhasePortraitDisplay,
    VelocityDisplay,
    nearest_neighbors,
    project_velocity,
)
from skfusion.singlecell.plot.phase import _rates, trajectory
from skfusion.singlecell.plot.velocity import velocity_on_grid

mpl.use("agg")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def cells():
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (300, 2))
    return X, np.column_stack([-X[:, 1], X[:, 0]]), nearest_neighbors(X, 20)


@pytest.fixture
def adata(cells):
    X, velocity, near = cells
    layers = {"Ms": X + 2, "Mu": X + velocity + 2, "velocity": velocity}
    found = AnnData(X, layers=layers, obsm={"X_umap": X}, obsp={"connectivities": near})
    found.var_names = ["Actb", "Ins1"]
    found.obs["cluster"] = pd.Categorical(np.where(X[:, 0] > 0, "right", "left"), ["right", "left"])
    found.obs["latent_time"] = X[:, 1]
    return found


def inside(figure):
    figure.canvas.draw()
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    return -0.05 <= box.x0 < box.x1 <= width + 0.05 and -0.05 <= box.y0 < box.y1 <= height + 0.05


# velocity


@pytest.mark.parametrize("kind", ["stream", "grid", "cells"])
def test_velocity_is_drawn_where_cells_lie(cells, kind):
    X, velocity, near = cells
    display = VelocityDisplay.from_velocity(X, velocity, near, X, color=X[:, 0], name="x", kind=kind)
    np.testing.assert_array_equal(display.cells_[-1].get_offsets(), X)
    np.testing.assert_array_equal(display.cells_[-1].get_array(), X[:, 0])
    assert display.figure_.axes[1].get_ylabel() == "x"
    assert hasattr(display, "stream_") == (kind == "stream")
    if kind == "cells":
        arrows = project_velocity(X, velocity, near, X)
        np.testing.assert_allclose(display.arrows_.U, arrows[:, 0])
    assert inside(display.figure_)


def test_labels_have_a_colour_each_and_keep_their_order(adata):
    display = VelocityDisplay.from_anndata(adata, color="cluster")
    assert [dots.get_label() for dots in display.cells_] == ["right", "left"]
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == ["right", "left"]
    assert len({tuple(dots.get_facecolor()[0]) for dots in display.cells_}) == 2
    assert inside(display.figure_)
    unknown = adata.obs["cluster"].where(np.arange(300) > 50)
    display = VelocityDisplay(embedding=adata.X, arrows=adata.X, color=unknown).plot()
    assert len(display.cells_) == 3
    assert len(display.cells_[0].get_offsets()) == 51


def test_many_labels_still_have_a_colour_each(adata):
    display = VelocityDisplay(embedding=adata.X, arrows=adata.X, color=np.arange(300) % 40).plot(kind="cells")
    assert len({tuple(dots.get_facecolor()[0]) for dots in display.cells_}) == 40


def test_the_grid_averages_arrows_and_stays_with_the_cells(cells):
    X, velocity, _ = cells
    x, y, mean = velocity_on_grid(X, np.tile([1.0, -2.0], (300, 1)), n_grid=20, smoothing=1.0)
    known = np.isfinite(mean[..., 0])
    np.testing.assert_allclose(mean[known], np.tile([1.0, -2.0], (known.sum(), 1)))
    np.testing.assert_allclose(np.diff(x), np.diff(y)[0])
    x, y, whirl = velocity_on_grid(X, velocity, n_grid=20, smoothing=0.7)
    nodes = np.stack(np.meshgrid(x, y), axis=2)
    inner = np.isfinite(whirl[..., 0]) & (np.abs(nodes).max(axis=2) < 0.8)
    np.testing.assert_allclose(whirl[inner][:, 0], -nodes[inner][:, 1], atol=0.15)
    apart = np.vstack([X, X + 20])
    _, _, mean = velocity_on_grid(apart, np.ones_like(apart), n_grid=20, smoothing=1.0)
    assert np.isnan(mean).mean() > 0.8


def test_genes_without_velocity_are_left_out(adata):
    plain = VelocityDisplay.from_anndata(adata).arrows
    wide = AnnData(
        np.c_[adata.X, adata.X],
        layers={
            "Ms": np.c_[adata.layers["Ms"], np.ones((300, 2))],
            "velocity": np.c_[adata.layers["velocity"], np.full((300, 1), np.nan), np.arange(300.0)],
        },
        obsm=dict(adata.obsm),
        obsp=dict(adata.obsp),
        var={"velocity_genes": [True, True, True, False]},
    )
    np.testing.assert_allclose(VelocityDisplay.from_anndata(wide).arrows, plain)


# phase portraits


@pytest.mark.parametrize(("beta", "gamma"), [(0.5, 0.3), (0.3, 0.5), (0.4, 0.4), (0.4, 0.4 + 1e-9)])
def test_the_curve_solves_the_equations(beta, gamma):
    rates = {"alpha": 5.0, "beta": beta, "gamma": gamma, "t_switch": 4.0}
    u, s = trajectory(_rates(rates), n=50)

    def flow(t, state, alpha):
        return [alpha - beta * state[0], beta * state[0] - gamma * state[1]]

    tight = {"rtol": 1e-10, "atol": 1e-12}
    on = solve_ivp(flow, (0, 4), [0, 0], args=(5.0,), t_eval=np.linspace(0, 4, 50), **tight).y
    np.testing.assert_allclose(np.stack([u, s])[:, :50], on, atol=1e-7)
    times = 12 / min(beta, gamma) * np.linspace(0, 1, 50) ** 2
    off = solve_ivp(flow, (0, times[-1]), on[:, -1], args=(0.0,), t_eval=times, **tight).y
    np.testing.assert_allclose(np.stack([u, s])[:, 50:], off, atol=1e-7)
    assert (u[-1], s[-1]) == pytest.approx((0, 0), abs=1e-2)


def test_a_curve_goes_from_one_rate_to_the_next_within_its_time():
    rates = {"alpha": 5.0, "beta": 0.5, "gamma": 0.3, "t_switch": 6.0, "before": 1.0, "after": 2.0}
    u, s = trajectory(_rates(rates), n=50)
    assert (u[0], s[0]) == pytest.approx((1 / 0.5, 1 / 0.3))
    assert (u[-1], s[-1]) == pytest.approx((2 / 0.5, 2 / 0.3), rel=1e-3)
    assert u.max() == pytest.approx(10 - 8 * np.exp(-3))
    timed = {**rates, "start": 3.0, "duration": 20.0, "scaling": 0.5}
    part_u, part_s = trajectory(_rates(timed), n=500)
    time = np.linspace(0, 20, 1000)
    np.testing.assert_allclose(part_u[time < 3], 1)
    np.testing.assert_allclose(part_u[time <= 9].max(), u.max() / 2, rtol=1e-2)
    late = 4 + (u.max() - 4) * np.exp(-0.5 * (time[-1] - 9))
    assert part_u[-1] == pytest.approx(late / 2)
    assert part_s.max() == pytest.approx(trajectory(_rates(rates), n=2000)[1].max(), rel=1e-3)
    display = PhasePortraitDisplay.from_moments(part_s, part_u, kinetics=timed)
    np.testing.assert_allclose(np.diff(display.line_.get_ydata()) / np.diff(display.line_.get_xdata()), 0.3)


def test_a_phase_portrait_has_cells_kinetics_and_steady_state():
    rates = {"alpha": 5.0, "beta": 0.5, "gamma": 0.3, "t_switch": 9.0}
    u, s = trajectory(_rates(rates))
    display = PhasePortraitDisplay.from_moments(s, u, gene="Ins1", kinetics=rates, color=np.arange(400.0), name="time")
    np.testing.assert_array_equal(display.cells_[0].get_offsets(), np.column_stack([s, u]))
    np.testing.assert_allclose(display.curve_.get_data(), (s, u))
    np.testing.assert_allclose(np.diff(display.line_.get_ydata()) / np.diff(display.line_.get_xdata()), 0.6)
    assert display.ax_.get_title(loc="left") == "Ins1"
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("spliced", "unspliced")
    assert inside(display.figure_)
    plain = PhasePortraitDisplay.from_moments(s, u)
    assert plain.curve_ is plain.line_ is None
    line = PhasePortraitDisplay.from_moments(s, u, steady_state=(0.2, 1.0)).line_
    np.testing.assert_allclose(line.get_ydata(), [1, 0.2 * s.max() + 1])


def test_a_gene_of_an_anndata_comes_with_what_var_holds(adata):
    adata.var["velocity_gamma"] = [0.7, 0.8]
    for name, value in {"alpha": 5, "beta": 0.5, "gamma": 0.3, "t_": 9, "scaling": 2}.items():
        adata.var[f"fit_{name}"] = [value, np.nan]
    display = PhasePortraitDisplay.from_anndata(adata, "Actb", color="latent_time")
    np.testing.assert_allclose(display.cells_[0].get_offsets()[:, 0], adata.layers["Ms"][:, 0])
    # scVelo's rate of splicing is that of the unspliced counts that are seen
    assert display.kinetics == {"alpha": 5, "beta": 1, "gamma": 0.3, "t_switch": 9, "scaling": 2}
    assert display.steady_state is None  # that of the kinetics is drawn
    np.testing.assert_allclose(np.diff(display.line_.get_ydata()) / np.diff(display.line_.get_xdata()), 0.3 / 0.5)
    np.testing.assert_allclose(display.curve_.get_xydata()[0], 0)
    adata.var["fit_u0"], adata.var["fit_s0"] = [1.0, np.nan], [2.0, np.nan]
    display = PhasePortraitDisplay.from_anndata(adata, "Actb")
    np.testing.assert_allclose(display.curve_.get_xydata()[0], [2, 1])
    np.testing.assert_allclose(display.line_.get_ydata()[0], 1 - 2 * 0.6)
    other = PhasePortraitDisplay.from_anndata(adata, "Ins1", color="cluster")
    assert other.kinetics is None
    assert other.steady_state == (0.8, 0)
    own = {"before": 0.5, "alpha": 4, "after": 0.2, "beta": 0.5, "gamma": 0.4, "scaling": 0.9, "start": -1, "stop": 6}
    for name, value in own.items():
        adata.var[f"kinetics_{name}"] = [value, np.nan]
    adata.uns["velocity_params"] = {"duration": 20.0}
    del own["stop"]
    for same in (own["gamma"], np.nan):
        written = adata.copy()
        written.var["fit_gamma"] = same
        display = PhasePortraitDisplay.from_anndata(written, "Actb")
        assert display.kinetics == {**own, "t_switch": 7, "duration": 20}
    # A later fit of scVelo's has other rates, and its velocity other parameters.
    assert PhasePortraitDisplay.from_anndata(adata, "Actb").kinetics["gamma"] == adata.var.loc["Actb", "fit_gamma"]
    adata.var["fit_gamma"] = own["gamma"]
    adata.uns["velocity_params"] = {"mode": "dynamical"}
    assert "before" not in PhasePortraitDisplay.from_anndata(adata, "Actb").kinetics


# cells without a layer


@pytest.mark.parametrize("kind", ["stream", "grid", "cells"])
@pytest.mark.parametrize("layers", [["Ms", "Mu"], ["velocity"]])
def test_cells_without_a_layer_are_drawn_without_an_arrow(adata, kind, layers):
    lacking = np.arange(300) % 10 == 0
    alone = VelocityDisplay.from_anndata(adata[~lacking].copy(), kind=kind)
    for layer in layers:
        adata.layers[layer][lacking] = np.nan
    display = VelocityDisplay.from_anndata(adata, color="cluster", kind=kind)
    assert sum(len(dots.get_offsets()) for dots in display.cells_) == 300
    np.testing.assert_array_equal(np.isnan(display.arrows).all(axis=1), lacking)
    np.testing.assert_allclose(display.arrows[~lacking], alone.arrows)
    if kind == "cells":
        np.testing.assert_allclose(display.arrows_.U, alone.arrows_.U)
    assert inside(display.figure_)
    for gene in adata.var_names:
        portrait = PhasePortraitDisplay.from_anndata(adata, gene, color="cluster")
        assert np.isfinite([*portrait.ax_.get_xlim(), *portrait.ax_.get_ylim()]).all()
        assert inside(portrait.figure_)


def test_no_arrow_at_all_is_an_error(adata):
    with pytest.raises(ValueError, match="arrows is NaN for all cells"):
        VelocityDisplay(embedding=adata.X, arrows=np.full((300, 2), np.nan)).plot()
    adata.layers["velocity"][:, :] = np.nan
    with pytest.raises(ValueError, match="'velocity' has no gene whose velocity is known"):
        VelocityDisplay.from_anndata(adata)
    with pytest.raises(ValueError, match="velocity has NaN or infinity in 2 of 2 genes"):
        project_velocity(adata.X, adata.layers["velocity"], adata.obsp["connectivities"], adata.X)


# latent time


def test_labels_are_sorted_by_their_median_time(adata):
    adata.obs["latent_time"] = np.where(adata.obs["cluster"] == "left", 0.2, 0.7) + 0.01 * adata.X[:, 0]
    adata.obs.loc[adata.obs_names[:10], "latent_time"] = np.nan
    display = LatentTimeDisplay.from_anndata(adata, "cluster", basis="X_umap")
    assert display.order_ == ["left", "right"]
    expected = adata.obs.groupby("cluster", observed=True)["latent_time"].median()
    np.testing.assert_allclose(display.medians_, expected[display.order_])
    assert len(display.axes_) == 2
    assert [label.get_text() for label in display.axes_[1].get_yticklabels()] == ["left", "right"]
    assert inside(display.figure_)
    drawn = display.axes_[0].collections[-1]
    by_time = pd.Series(adata.obs["latent_time"].to_numpy()).dropna().sort_values()
    np.testing.assert_allclose(np.sort(drawn.get_array()), by_time)
    order = np.argsort(drawn.get_array())
    np.testing.assert_allclose(drawn.get_offsets()[order], adata.X[by_time.index])


def test_one_panel_where_one_is_asked_for(adata):
    assert len(LatentTimeDisplay.from_anndata(adata, "cluster").axes_) == 1
    figure, axes = plt.subplots(1, 2)
    display = LatentTimeDisplay.from_anndata(adata, "cluster", basis="X_umap", ax=axes)
    assert display.figure_ is figure
    with pytest.raises(ValueError, match=r"ax has 2 Axes; due are 1, one for each of \['embedding'\]"):
        LatentTimeDisplay.from_anndata(adata, basis="X_umap", ax=axes)


# bad input


def test_bad_input_says_what_is_due(adata, monkeypatch):
    with pytest.raises(ValueError, match=r"basis is 'X_tsne', which obsm lacks; it has \['X_umap'\]"):
        VelocityDisplay.from_anndata(adata, "X_tsne")
    with pytest.raises(ValueError, match="velocity_layer is 'v', which layers lacks; it has"):
        VelocityDisplay.from_anndata(adata, velocity_layer="v")
    with pytest.raises(ValueError, match="color is 'type', which obs lacks; it has"):
        VelocityDisplay.from_anndata(adata, color="type")
    with pytest.raises(ValueError, match="kind is 'lines'; due is one of"):
        VelocityDisplay.from_anndata(adata, kind="lines")
    with pytest.raises(ValueError, match="n_grid is 1 and smoothing"):
        VelocityDisplay.from_anndata(adata, n_grid=1)
    with pytest.raises(ValueError, match="embedding has 3 columns; due are the two"):
        VelocityDisplay(embedding=np.ones((9, 3)), arrows=np.ones((9, 3))).plot()
    with pytest.raises(ValueError, match="color has 3 values for 300 cells"):
        VelocityDisplay(embedding=adata.X, arrows=adata.X, color=[1, 2, 3]).plot()
    with pytest.raises(ValueError, match="gene is 'Gcg', which var_names lack; they start with"):
        PhasePortraitDisplay.from_anndata(adata, "Gcg")
    with pytest.raises(ValueError, match=r"kinetics has \['alpha'\]; due are"):
        PhasePortraitDisplay.from_moments([1.0], [1.0], kinetics={"alpha": 1})
    with pytest.raises(ValueError, match=r"kinetics has {'beta': -1.0}; due are positive"):
        PhasePortraitDisplay.from_moments([1.0], [1.0], kinetics={"alpha": 1, "beta": -1, "gamma": 1, "t_switch": 1})
    with pytest.raises(ValueError, match="spliced has 2 cells and unspliced 1"):
        PhasePortraitDisplay.from_moments([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match=r"spliced has shape \(300, 2\); due is one gene"):
        PhasePortraitDisplay.from_moments(adata.X, adata.X)
    with pytest.raises(ValueError, match="neither labels nor embedding is given"):
        LatentTimeDisplay.from_time([0.1, 0.2])
    with pytest.raises(ValueError, match="labels has 1 values for 2 cells"):
        LatentTimeDisplay.from_time([0.1, 0.2], ["a"])
    with pytest.raises(ValueError, match=r"time has shape \(2,\); due is one number a cell, some of them known"):
        LatentTimeDisplay.from_time([np.nan, np.nan], ["a", "b"])
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"pip install 'skfusion\[plot\]' brings it"):
        LatentTimeDisplay.from_time([0.1, 0.2], ["a", "b"])
