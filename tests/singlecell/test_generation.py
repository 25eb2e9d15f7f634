"""Generated cells: what the report tells apart, and that drawn cells pass it where simple ones fail."""

import numpy as np
import pytest
from _planted import planted

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
    with pytest.raises(ValueError, match=r"\[3, 4\] genes"):
        generation_report(np.ones((20, 3)), np.ones((20, 3)), np.ones((20, 4)))
    with pytest.raises(ValueError, match="due are 10"):
        generation_report(np.ones((20, 3)), np.ones((20, 3)), np.ones((5, 3)))
