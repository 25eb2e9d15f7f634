import numpy as np
import pytest
from scipy import sparse

from skfusion.singlecell import (
    first_moments,
    nearest_neighbors,
    normalize_layer,
    second_moments,
    select_genes,
    splicing_moments,
    steady_state_velocity,
)


def flow(t, alpha, beta, gamma, u0, s0):
    """Solve the kinetics for unequal rates."""
    b, g = np.exp(-beta * t), np.exp(-gamma * t)
    return (
        u0 * b + alpha / beta * (1 - b),
        s0 * g + alpha / gamma * (1 - g) + (alpha - beta * u0) / (gamma - beta) * (g - b),
    )


def trajectory(n_cells=400, n_genes=30, seed=0):
    """Noise-free moments of genes that rise to their steady state and fall back to nothing, and their rates."""
    rng = np.random.default_rng(seed)
    alpha, beta, gamma = (np.exp(rng.normal(np.log(m), 0.4, n_genes)) for m in (5, 0.5, 0.3))
    t, half = np.linspace(0, 120, n_cells)[:, None], 60
    on, off = np.minimum(t, half), np.maximum(t - half, 0)

    u, s = flow(off, 0, beta, gamma, *flow(on, alpha, beta, gamma, 0, 0))
    return s, u, beta, gamma


def test_the_steady_state_ratio_comes_from_the_extremes():
    s, u, beta, gamma = trajectory()
    result = steady_state_velocity(s, u)
    np.testing.assert_allclose(result.gamma, gamma / beta, rtol=1e-3)
    np.testing.assert_allclose(result.velocity, u - result.gamma * s)
    truth = beta * u - gamma * s
    moving = np.abs(truth) > 0.05 * np.abs(truth).max(axis=0)
    assert (np.sign(result.velocity) == np.sign(truth))[moving].all()
    assert result.velocity_genes.all()


def test_cells_on_their_way_do_not_tilt_the_line():
    s, u, beta, gamma = (part[:200] if part.ndim == 2 else part for part in trajectory())
    np.testing.assert_allclose(steady_state_velocity(s, u).gamma, gamma / beta, rtol=1e-3)
    everywhere = (s * u).sum(axis=0) / (s * s).sum(axis=0)  # induction lies above the line
    assert (everywhere > 1.01 * gamma / beta).all()


def test_simulated_kinetics_are_met_as_published():
    """2,000 cells of 300 genes that are switched on and off: .82, .91 and .95 are what this model reaches."""
    rng = np.random.default_rng(0)
    alpha, beta, gamma = (np.exp(rng.normal(np.log(m), 0.4, 300)) for m in (5, 0.5, 0.3))
    switch, t = rng.uniform(2, 18, 300), rng.uniform(0, 20, 2000)[:, None]
    on, off = np.minimum(t, switch), np.maximum(t - switch, 0)
    u, s = flow(off, 0, beta, gamma, *flow(on, alpha, beta, gamma, 0, 0))
    truth = beta * u - gamma * s
    u, s = (values + rng.normal(size=values.shape) * 0.1 * values.std(axis=0) for values in (u, s))

    def cosine(velocity):
        return np.mean([v @ w / np.linalg.norm(v) / np.linalg.norm(w) for v, w in zip(velocity, truth)])

    velocity = steady_state_velocity(s, u).velocity
    assert cosine(velocity) == pytest.approx(0.82, abs=0.01)
    assert np.mean(np.sign(velocity) == np.sign(truth)) == pytest.approx(0.91, abs=0.01)
    by_gene = [np.corrcoef(velocity[:, gene], truth[:, gene])[0, 1] for gene in range(300)]
    assert np.mean(by_gene) == pytest.approx(0.95, abs=0.01)
    assert 0 < cosine(steady_state_velocity(s, rng.permutation(u)).velocity) < 0.15


def test_scaling_a_gene_scales_its_velocity_and_leaves_others_alone():
    s, u, *_ = trajectory()
    plain = steady_state_velocity(s, u)
    factor = np.linspace(0.1, 10, s.shape[1])
    scaled = steady_state_velocity(s, u * factor)
    np.testing.assert_allclose(scaled.gamma, plain.gamma * factor)
    np.testing.assert_allclose(scaled.velocity, plain.velocity * factor, atol=1e-9)
    np.testing.assert_allclose(scaled.r2, plain.r2)


def test_an_offset_is_found_where_there_is_one_and_is_never_negative():
    s = np.linspace(0, 10, 200)[:, None] * [1.0, 1.0]
    u = np.column_stack([0.4 * s[:, 0] + 2, 0.4 * s[:, 1] - 1])
    u[:, 1] = np.maximum(u[:, 1], 0)
    result = steady_state_velocity(s, u, offset=True)
    np.testing.assert_allclose([result.gamma[0], result.offset[0]], [0.4, 2])
    assert result.offset[1] == 0
    np.testing.assert_allclose(result.velocity[:, 0], 0, atol=1e-12)
    assert steady_state_velocity(s, u).offset.tolist() == [0, 0]


def test_second_moments_of_poisson_counts_in_the_steady_state_agree_with_the_first():
    rng = np.random.default_rng(0)
    u, s = rng.poisson(2.0, (3000, 4)).astype(float), rng.poisson(5.0, (3000, 4)).astype(float)
    everyone = sparse.csr_matrix(np.ones((3000, 3000), dtype=np.int8))
    squares, products = second_moments(s, u, everyone)
    # Independent Poisson counts are the stationary law: u + 2 us = γ' (2 ss − s) holds with γ' = 2 / 5.
    np.testing.assert_allclose((u.mean(0) + 2 * products[0]) / (2 * squares[0] - s.mean(0)), 0.4, rtol=0.03)
    ms, mu = first_moments(s, everyone), first_moments(u, everyone)
    result = steady_state_velocity(ms, mu, second_moments=(squares, products))
    np.testing.assert_allclose(result.gamma, 0.4, rtol=0.03)


def test_the_stochastic_model_weighs_both_equations_by_their_residuals():
    rng = np.random.default_rng(0)
    s, u, ss, us = (rng.gamma(2.0, size=(60, 1)) for _ in range(4))
    first = steady_state_velocity(s, u)
    size = s / s.max() + u / u.max()
    extreme = (size >= np.percentile(size, 95)) | (s >= np.percentile(s, 95))
    x, y = 2 * ss - s, 2 * us + u
    spread, spread2 = (u - first.gamma * s).std(), (y - (x * y).sum() / (x * x).sum() * x).std()
    stacked_x = np.r_[(s / spread)[extreme], (x / spread2)[:, 0]]
    stacked_y = np.r_[(u / spread)[extreme], (y / spread2)[:, 0]]
    result = steady_state_velocity(s, u, second_moments=(ss, us))
    np.testing.assert_allclose(result.gamma, np.linalg.lstsq(stacked_x[:, None], stacked_y)[0])
    np.testing.assert_allclose(result.velocity, u - result.gamma * s)
    assert result.r2 == first.r2


def test_the_stochastic_model_is_the_deterministic_one_where_the_first_equation_is_exact():
    s = np.linspace(1, 10, 100)[:, None]
    rng = np.random.default_rng(0)
    noise = rng.normal(size=s.shape) + 3 * s**2, rng.normal(size=s.shape) + s**2
    result = steady_state_velocity(s, 0.7 * s, second_moments=noise)
    np.testing.assert_allclose(result.gamma, 0.7)


def test_genes_that_follow_no_line_or_have_no_counts_are_no_velocity_genes():
    s, u, *_ = trajectory(n_genes=3)
    s, u = s.copy(), u.copy()
    u[:, 0] = u[::-1, 0].max() - u[:, 0]
    s[:, 1] = 0
    result = steady_state_velocity(s, u)
    assert result.velocity_genes.tolist() == [False, False, True]
    assert result.gamma[1] == 0
    assert np.isfinite(result.velocity).all()
    assert np.isfinite(result.r2).all()


@pytest.mark.parametrize("as_sparse", [False, True])
def test_layers_go_to_the_median_of_their_own_totals(as_sparse):
    counts = np.array([[1, 3], [2, 0], [0, 0], [5, 5]], dtype=np.int32)
    given = sparse.csr_matrix(counts) if as_sparse else counts
    scaled = normalize_layer(given)
    assert sparse.issparse(scaled) == as_sparse
    dense = scaled.toarray() if as_sparse else scaled
    np.testing.assert_allclose(dense.sum(axis=1), [4, 4, 0, 4])
    np.testing.assert_allclose(dense[0], [1, 3])
    assert counts.tolist() == [[1, 3], [2, 0], [0, 0], [5, 5]]


def test_moments_average_over_a_cell_and_its_neighbours():
    rng = np.random.default_rng(0)
    values, where = rng.poisson(1.0, (60, 7)), rng.normal(size=(60, 3))
    near = nearest_neighbors(where, 5)
    assert near.getnnz(axis=1).tolist() == [5] * 60
    assert near.diagonal().sum() == 0
    moments = first_moments(values, near)
    np.testing.assert_allclose(moments[9], values[[9, *near[9].indices]].mean(axis=0))
    np.testing.assert_allclose(first_moments(sparse.csr_matrix(values), near), moments)
    # Weights and a diagonal that came along have no influence.
    np.testing.assert_allclose(first_moments(values, 0.3 * near + sparse.eye(60)), moments)


def test_genes_are_chosen_by_shared_counts_and_dispersion():
    rng = np.random.default_rng(0)
    spliced, unspliced = rng.poisson(2.0, (300, 400)), rng.poisson(1.0, (300, 400))
    spliced[:, 5] = np.where(np.arange(300) % 5 == 0, 10, 0)  # the mean of the others, and far more variance
    unspliced[:, 7] = np.where(spliced[:, 7] > 0, 0, 9)  # never in a cell that has it spliced
    genes = select_genes(spliced, unspliced, min_shared_counts=20, n_top_genes=None)
    assert genes.tolist() == [gene for gene in range(400) if gene != 7]
    assert 5 in select_genes(spliced, unspliced, n_top_genes=1)
    same = select_genes(sparse.csr_matrix(spliced), sparse.csr_matrix(unspliced), n_top_genes=10)
    assert same.tolist() == select_genes(spliced, unspliced, n_top_genes=10).tolist()


def test_moments_of_counts_are_the_steps_by_hand():
    rng = np.random.default_rng(1)
    spliced, unspliced = rng.poisson(2.0, (80, 30)), rng.poisson(1.0, (80, 30))
    found = splicing_moments(sparse.csr_matrix(spliced), unspliced, n_top_genes=12, n_neighbors=6)
    assert found.genes.tolist() == select_genes(spliced, unspliced, n_top_genes=12).tolist()
    by_hand = first_moments(normalize_layer(unspliced)[:, found.genes], found.connectivities)
    np.testing.assert_allclose(found.unspliced_moments, by_hand)
    again = splicing_moments(spliced, unspliced, n_top_genes=12, connectivities=found.connectivities)
    np.testing.assert_allclose(again.spliced_moments, found.spliced_moments)
    assert again.embedding is None


def test_bad_input_says_what_is_due():
    counts = np.ones((10, 4))
    with pytest.raises(ValueError, match=r"shapes differ: spliced \(10, 4\), unspliced \(10, 3\)"):
        splicing_moments(counts, counts[:, :3])
    with pytest.raises(ValueError, match="spliced has negative values; due are counts"):
        select_genes(-counts, counts)
    with pytest.raises(ValueError, match=r"no gene has min_shared_counts=99 .* the most is 20"):
        select_genes(counts, counts, min_shared_counts=99)
    with pytest.raises(ValueError, match="n_top_genes is 0"):
        select_genes(counts, counts, n_top_genes=0)
    with pytest.raises(ValueError, match="n_neighbors is 10 for 10 cells"):
        nearest_neighbors(counts, 10)
    with pytest.raises(ValueError, match=r"connectivities has shape \(9, 9\); due is \(10, 10\)"):
        first_moments(counts, sparse.eye(9))
    with pytest.raises(ValueError, match="percentiles"):
        steady_state_velocity(counts, counts, upper=101)
    with pytest.raises(ValueError, match="shapes differ: spliced_moments"):
        steady_state_velocity(counts, counts[:5])
