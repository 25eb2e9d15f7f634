"""Generated cells: what the report tells apart, and that drawn cells pass it where simple ones fail."""

import numpy as np
import pandas as pd
import pytest
from _planted import planted
from scipy import sparse

from skfusion.singlecell import SplicingFusion, generation_report

CRITERIA = ["mean error", "zero error", "correlation of correlations", "two-sample AUC", "copies", "distance ratio"]


@pytest.fixture(scope="module")
def halves():
    adata = planted(600, 40, seed=1)
    return adata[:400], adata[400:]


def test_real_cells_pass(halves):
    train, test = (half.layers["spliced"] for half in halves)
    report = generation_report(train[:200], test, train[200:])
    assert list(report.index) == CRITERIA
    assert report["passed"].all()


def test_a_bootstrap_and_independent_genes_fail(halves):
    train, test = (half.layers["spliced"] for half in halves)
    rng = np.random.default_rng(0)
    bootstrap = generation_report(train, test, train[rng.integers(400, size=200)])["passed"]
    assert bootstrap[~bootstrap].index.tolist() == ["copies", "distance ratio"]
    means = np.asarray(train.mean(axis=0)).ravel()
    poisson = generation_report(train, test, rng.poisson(means, size=(200, 40)))["passed"]
    assert not poisson[["correlation of correlations", "two-sample AUC"]].any()


def test_drawn_cells_pass(halves):
    train, test = halves
    model = SplicingFusion(
        n_latent=16, n_hidden=32, n_heads=2, n_tokens=2, max_epochs=40, imputer=None, device="cpu", random_state=0
    ).fit(train)
    drawn = model.sample(200, random_state=0)
    assert drawn.shape == (200, 40)
    for layer in ("spliced", "unspliced"):
        report = generation_report(train.layers[layer], test.layers[layer], drawn.layers[layer])
        assert report["passed"].all(), report
    again = model.sample(200, random_state=0)
    assert (again.layers["spliced"] != drawn.layers["spliced"]).nnz == 0


def test_what_cannot_be_compared_is_refused():
    def parts(**changed):
        return {"train": np.ones((20, 3)), "test": np.ones((20, 3)), "generated": np.ones((20, 3)), **changed}

    with pytest.raises(ValueError, match="train 3, test 3, generated 4; due are the same genes"):
        generation_report(**parts(generated=np.ones((20, 4))))
    for name in parts():
        with pytest.raises(ValueError, match=f"{name} has 5 cells; due are 10 at least"):
            generation_report(**parts(**{name: np.ones((5, 3))}))
        with pytest.raises(ValueError, match=rf"{name} has the shape \(20,\); due is \(n_cells, n_genes\)"):
            generation_report(**parts(**{name: np.ones(20)}))
        with pytest.raises(ValueError, match=f"{name} contains NaN"):
            generation_report(**parts(**{name: np.full((20, 3), np.nan)}))
        with pytest.raises(ValueError, match=f"{name} has negative values"):
            generation_report(**parts(**{name: -np.ones((20, 3))}))
    with pytest.raises(ValueError, match="train holds no count"):
        generation_report(**parts(train=np.zeros((20, 3))))
    for n_genes in (0, 2.5, None):
        with pytest.raises(ValueError, match=f"n_genes is {n_genes}; due is a whole number of at least 1"):
            generation_report(**parts(), n_genes=n_genes)


def test_training_cells_are_dense_some_at_a_time(halves, monkeypatch):
    train, test = (half.layers["spliced"] for half in halves)
    drawn = sparse.vstack([train[:30], test[:30]]).tocsc()  # in no order that CSR has
    expected = generation_report(train, test, drawn, n_genes=20)
    assert expected.loc["copies", "value"] == 0.5
    shapes, toarray = [], sparse.csr_matrix.toarray
    monkeypatch.setattr("skfusion.singlecell.generation._CHUNK", 64)
    monkeypatch.setattr(sparse.csr_matrix, "toarray", lambda self: shapes.append(self.shape) or toarray(self))
    pd.testing.assert_frame_equal(generation_report(train, test, drawn, n_genes=20), expected)
    assert max(shapes) == (200, 20)  # those held out
    assert shapes.count((64, 20)) == 2 * (400 // 64)
