import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.metrics.pairwise import cosine_similarity

from skfusion.singlecell import (
    cross_boundary_correctness,
    first_moments,
    in_cluster_coherence,
    nearest_neighbors,
    project_velocity,
    steady_state_velocity,
    velocity_confidence,
    velocity_report,
)

EDGES = [("a", "b"), ("b", "c")]


@pytest.fixture
def line():
    """Cells on a line in gene space, the direction of which is the true velocity."""
    t = np.linspace(0, 1, 240)[:, None]
    direction = np.random.default_rng(0).normal(size=(1, 12))
    X = t * direction
    labels = np.repeat(["a", "b", "c"], 80)
    return X, np.repeat(direction, 240, axis=0), nearest_neighbors(X, 60), labels


@pytest.fixture
def curve():
    """Cells on a noisy curve: velocity differs between cells."""
    rng = np.random.default_rng(1)
    t = np.sort(rng.random(300))[:, None]
    phase = rng.uniform(0, 2 * np.pi, (1, 15))
    X = np.sin(5 * t + phase) + rng.normal(scale=0.05, size=(300, 15))
    return X, 5 * np.cos(5 * t + phase), nearest_neighbors(X, 40), np.repeat(["a", "b", "c"], 100)


# correctness


def test_true_velocity_on_a_line_is_right_and_reversed_is_wrong(line):
    X, velocity, near, labels = line
    result = cross_boundary_correctness(X, velocity, near, labels, EDGES)
    assert result.mean == pytest.approx(1, abs=0.01)
    assert cross_boundary_correctness(X, -velocity, near, labels, EDGES).mean == pytest.approx(-1, abs=0.01)
    assert result.edges["counted"].all()
    assert result.edges["n_cells"].tolist() == [30, 30]


def test_random_velocity_is_neither_right_nor_wrong(line):
    X, _, near, labels = line
    velocity = np.random.default_rng(0).normal(size=X.shape)
    assert abs(cross_boundary_correctness(X, velocity, near, labels, EDGES).mean) < 0.15


def test_correctness_is_the_mean_over_neighbours_then_cells_then_edges(curve):
    X, velocity, near, labels = curve
    result = cross_boundary_correctness(X, velocity, near, labels, EDGES, min_cells=1)
    by_hand = []
    for source, target in EDGES:
        of_cells = []
        for cell in np.flatnonzero(labels == source):
            reached = [j for j in near[cell].indices if labels[j] == target]
            if reached:
                of_cells.append(cosine_similarity(X[reached] - X[cell], velocity[[cell]]).mean())
        by_hand.append((np.mean(of_cells), len(of_cells)))
    np.testing.assert_allclose(result.edges["correctness"], [mean for mean, _ in by_hand])
    assert result.edges["n_cells"].tolist() == [n for _, n in by_hand]
    assert result.mean == pytest.approx(np.mean([mean for mean, _ in by_hand]))


def test_correctness_goes_by_direction_alone(curve):
    X, velocity, near, labels = curve
    plain = cross_boundary_correctness(X, velocity, near, labels, EDGES, min_cells=1)
    rng = np.random.default_rng(0)
    turned = np.linalg.qr(rng.normal(size=(15, 15)))[0]
    longer = velocity * rng.uniform(0.1, 9, (300, 1))
    other = cross_boundary_correctness(3 * X @ turned + 7, longer @ turned, near, labels, EDGES, min_cells=1)
    assert other.mean == pytest.approx(plain.mean)
    order = rng.permutation(300)
    dealt = cross_boundary_correctness(
        X[order], velocity[order], near[order][:, order], labels[order], EDGES, min_cells=1
    )
    assert dealt.mean == pytest.approx(plain.mean)


def test_an_edge_of_few_cells_is_shown_but_does_not_count(line):
    X, velocity, near, labels = line
    velocity = velocity.copy()
    velocity[labels == "b"] *= -1
    labels = labels.copy()
    labels[5:80] = "z"  # of a, only cells far from b are left
    result = cross_boundary_correctness(X, velocity, near, labels, [("z", "b"), ("b", "c"), ("a", "b")])
    assert result.edges["n_cells"].tolist() == [30, 30, 0]
    assert result.edges["counted"].tolist() == [True, True, False]
    assert np.isnan(result.edges["correctness"][2])
    assert result.mean == pytest.approx(0, abs=0.01)


def test_without_an_edge_that_counts_there_is_no_mean(line):
    X, velocity, near, labels = line
    with pytest.warns(UserWarning, match="no edge has min_cells=99 cells .* the most is 30"):
        result = cross_boundary_correctness(X, velocity, near, labels, EDGES, min_cells=99)
    assert np.isnan(result.mean)
    with pytest.warns(UserWarning, match="the most is 0"):
        cross_boundary_correctness(X, velocity, near, labels, [("a", "c")])


# smoothness


def test_a_constant_field_is_coherent_and_confident(line):
    _, velocity, near, labels = line
    assert in_cluster_coherence(velocity, near, labels).mean == pytest.approx(1)
    np.testing.assert_allclose(velocity_confidence(velocity, near), 1)


def test_coherence_looks_inside_clusters_alone(line):
    _, velocity, near, labels = line
    sign = np.where(labels == "b", -1, 1)[:, None]
    result = in_cluster_coherence(velocity * sign, near, labels)
    np.testing.assert_allclose(result.clusters, 1)
    assert result.clusters.index.tolist() == ["a", "b", "c"]
    assert velocity_confidence(velocity * sign, near).min() < 0.5


def test_confidence_is_a_correlation_over_velocity_genes(curve):
    _, velocity, near, _ = curve
    genes = np.arange(15) < 9
    found = velocity_confidence(velocity, near, velocity_genes=genes)
    correlation = np.corrcoef(velocity[:, genes])
    by_hand = [correlation[cell, near[cell].indices].mean() for cell in range(300)]
    np.testing.assert_allclose(found, np.maximum(by_hand, 0))
    np.testing.assert_allclose(
        velocity_confidence(velocity + np.arange(300)[:, None], near, velocity_genes=genes), found
    )


def test_noise_has_no_confidence():
    rng = np.random.default_rng(0)
    near = nearest_neighbors(rng.normal(size=(200, 2)), 10)
    confidence = velocity_confidence(rng.normal(size=(200, 100)), near)
    assert confidence.min() == 0
    assert confidence.mean() < 0.05


def test_cells_without_neighbours_or_label_are_left_out(line):
    X, velocity, near, labels = line
    alone = near.tolil()
    alone[3] = 0
    confidence = velocity_confidence(velocity, alone.tocsr())
    assert np.isnan(confidence[3])
    assert np.isfinite(np.delete(confidence, 3)).all()
    some = pd.Series(labels).where(np.arange(240) != 79)
    result = cross_boundary_correctness(X, velocity, near, some, EDGES)
    assert result.edges["n_cells"].tolist() == [29, 30]
    assert in_cluster_coherence(velocity, near, some).clusters.index.tolist() == ["a", "b", "c"]


# projection


def test_projected_arrows_follow_the_field():
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (600, 2))
    field = np.column_stack([-X[:, 1], X[:, 0]])  # a whirl
    high = rng.normal(size=(2, 30))
    near = nearest_neighbors(X, 30)
    arrows = project_velocity(X @ high, field @ high, near, X)
    inner = np.abs(X).max(axis=1) < 0.7  # neighbours on all sides
    cosine = (arrows * field).sum(axis=1) / np.linalg.norm(arrows, axis=1) / np.linalg.norm(field, axis=1)
    assert cosine[inner].mean() > 0.85
    np.testing.assert_allclose(project_velocity(X @ high, -field @ high, near, X), -arrows, atol=1e-12)
    assert (project_velocity(X, np.zeros_like(X), near, X) == 0).all()


# the report


def test_the_report_sets_controls_beside_the_velocity(curve):
    X, velocity, near, labels = curve
    report = velocity_report(X, velocity, near, labels, EDGES, min_cells=5, random_state=0)
    assert report.table.index.tolist() == ["velocity", "reversed", "permuted within genes"]
    assert list(report.table.columns) == ["n", "correctness", "q95", "projected", "coherence", "confidence"]
    rows = report.table.T
    assert rows["velocity"].correctness == pytest.approx(
        cross_boundary_correctness(X, velocity, near, labels, EDGES, min_cells=5).mean
    )
    assert rows["reversed"].correctness == pytest.approx(-rows["velocity"].correctness)
    assert rows["reversed"].coherence == pytest.approx(rows["velocity"].coherence)
    assert rows["velocity"].correctness > 0.5
    assert rows["velocity"].projected > 0.5
    assert abs(rows["permuted within genes"].correctness) < 0.2
    assert rows["permuted within genes"].coherence < 0.3 < rows["velocity"].coherence
    assert report.margin == pytest.approx(rows["velocity"].correctness - report.draws["permuted within genes"].mean())
    assert len(set(report.draws["permuted within genes"])) == 20
    np.testing.assert_allclose(report.edges["velocity"].mean(), rows["velocity"].correctness)
    again = velocity_report(X, velocity, near, labels, EDGES, min_cells=5, random_state=0)
    pd.testing.assert_frame_equal(again.table, report.table)


def test_a_constant_velocity_has_no_margin(line):
    X, velocity, near, labels = line
    report = velocity_report(X, velocity, near, labels, EDGES, n_permutations=3, random_state=0)
    assert report.margin == pytest.approx(0)


def test_shuffled_unspliced_counts_are_smoothed_and_refitted_with_genes_and_neighbours_kept(curve):
    X, velocity, near, labels = curve
    rng = np.random.default_rng(0)
    spliced = X - X.min() + 1
    unspliced = sparse.csr_matrix(spliced + velocity / 5 + 2)
    moments = first_moments(spliced, near)
    seen = []

    def refit(unspliced_moments):
        seen.append(unspliced_moments)
        return steady_state_velocity(moments, unspliced_moments).velocity

    genes = np.arange(15) < 12
    report = velocity_report(
        moments,
        refit(first_moments(unspliced, near)),
        near,
        labels,
        EDGES,
        velocity_genes=genes,
        unspliced=unspliced,
        refit=refit,
        n_permutations=4,
        min_cells=5,
        embedding=X[:, :2],
        random_state=rng.integers(9),
    )
    assert report.table.loc["shuffled unspliced", "n"] == 4
    assert len(seen) == 5
    # Rows were dealt out before the moments: the mean stays, and what differs between cells is gone.
    total = unspliced.toarray().mean(axis=0)
    assert all(np.abs(m.mean(axis=0) - total).max() < 0.3 for m in seen)
    assert all(m.std(axis=0).mean() < 0.5 * seen[0].std(axis=0).mean() for m in seen[1:])
    assert report.table.loc["velocity", "correctness"] > report.table.loc["shuffled unspliced", "q95"]
    alone = cross_boundary_correctness(
        moments[:, genes], steady_state_velocity(moments, seen[0]).velocity[:, genes], near, labels, EDGES, min_cells=5
    )
    assert report.table.loc["velocity", "correctness"] == pytest.approx(alone.mean)


# bad input


def test_bad_input_says_what_is_due(line):
    X, velocity, near, labels = line
    with pytest.raises(ValueError, match=r"edges name \['d', 'e'\], which labels lack. They have \['a', 'b', 'c'\]"):
        cross_boundary_correctness(X, velocity, near, labels, [("a", "d"), ("e", "b")])
    with pytest.raises(ValueError, match="edges has 'ab'; due are pairs"):
        cross_boundary_correctness(X, velocity, near, labels, ["ab"])
    with pytest.raises(ValueError, match="edges is empty"):
        cross_boundary_correctness(X, velocity, near, labels, [])
    with pytest.raises(ValueError, match=r"shapes differ: X \(240, 12\), velocity \(240, 11\)"):
        cross_boundary_correctness(X, velocity[:, 1:], near, labels, EDGES)
    with pytest.raises(ValueError, match=r"labels has shape \(9,\); due is \(240,\)"):
        in_cluster_coherence(velocity, near, labels[:9])
    with pytest.raises(ValueError, match=r"neighbors has shape \(239, 239\); due is \(240, 240\)"):
        velocity_confidence(velocity, near[1:, 1:])
    with pytest.raises(TypeError, match="neighbors is a ndarray; due is a CSR matrix"):
        velocity_confidence(velocity, near.toarray())
    with pytest.raises(ValueError, match="velocity has NaN or infinity in 2 of 12 genes; pass the velocity genes"):
        velocity_confidence(np.where(np.arange(12) < 2, np.nan, velocity), near)
    with pytest.raises(ValueError, match=r"velocity_genes has dtype int64 and shape \(12,\)"):
        velocity_confidence(velocity, near, velocity_genes=np.arange(12))
    with pytest.raises(ValueError, match="velocity_genes leaves no gene"):
        velocity_confidence(velocity, near, velocity_genes=np.zeros(12, dtype=bool))
    with pytest.raises(ValueError, match="unspliced is given without refit"):
        velocity_report(X, velocity, near, labels, EDGES, unspliced=X)
    with pytest.raises(ValueError, match=r"refit returns a velocity of shape \(240, 1\); due is \(240, 12\)"):
        velocity_report(X, velocity, near, labels, EDGES, unspliced=X, refit=lambda moments: moments[:, :1])
    with pytest.raises(ValueError, match="n_permutations is 0"):
        velocity_report(X, velocity, near, labels, EDGES, n_permutations=0)
    with pytest.raises(ValueError, match="embedding has 3 rows for 240 cells"):
        project_velocity(X, velocity, near, X[:3])
