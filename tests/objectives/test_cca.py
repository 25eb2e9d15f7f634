"""Canonical correlation: equal to exact CCA, finite wherever it is computed, and a space in which partners meet."""

import pickle

import numpy as np
import pytest
import torch
from _outputs import Scene, linear_views, recall
from sklearn.cross_decomposition import CCA as ReferenceCCA

from skfusion import MultimodalPretrainer
from skfusion.objectives import CCA
from skfusion.objectives.cca import Moments, canonical_correlations, canonical_maps


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def views(n_samples=80, widths=(5, 4), seed=0):
    """Two or more views of three latents, the later ones the noisier."""
    generator = torch.Generator().manual_seed(seed)
    latent = torch.randn(n_samples, 3, generator=generator)
    noise = torch.tensor([0.2, 0.6, 1.5])
    return [
        (latent + noise * torch.randn(n_samples, 3, generator=generator)) @ torch.randn(3, width, generator=generator)
        + 0.5 * torch.randn(n_samples, width, generator=generator)
        for width in widths
    ]


def root(matrix):
    values, vectors = np.linalg.eigh(matrix)
    return (vectors / np.sqrt(values)) @ vectors.T


def by_hand(a, b):
    """Singular values of the whitened cross-covariance, with matrix roots, as the formula has it."""
    a, b = (x - x.mean(0) for x in (a, b))
    return np.linalg.svd(root(a.T @ a / len(a)) @ (a.T @ b / len(a)) @ root(b.T @ b / len(b)), compute_uv=False)


def test_it_is_exact_cca():
    a, b = views()
    found = canonical_correlations(a, b).numpy()
    np.testing.assert_allclose(found, by_hand(a.numpy(), b.numpy()), rtol=1e-9)
    assert found[0] > found[-1] + 0.3


def test_it_is_the_cca_of_scikit_learn():
    a, b = (x.numpy() for x in views())
    variates = ReferenceCCA(3, max_iter=5000, tol=1e-12).fit(a, b).transform(a, b)
    expected = [np.corrcoef(x, y)[0, 1] for x, y in zip(variates[0].T, variates[1].T)]
    np.testing.assert_allclose(
        canonical_correlations(torch.from_numpy(a), torch.from_numpy(b))[:3], expected, atol=1e-6
    )


def test_invertible_linear_maps_change_nothing():
    a, b = views()
    generator = torch.Generator().manual_seed(1)
    a2, b2 = (x @ torch.randn(x.shape[1], x.shape[1], generator=generator) + 3 for x in (a, b))
    torch.testing.assert_close(canonical_correlations(a2, b2), canonical_correlations(a, b), rtol=1e-8, atol=0)


def test_a_ridge_shrinks_and_knows_no_unit():
    a, b = views()
    shrunken = canonical_correlations(a, b, ridge=0.1)
    assert (shrunken < canonical_correlations(a, b)).all()
    torch.testing.assert_close(canonical_correlations(1000 * a, b / 1000, ridge=0.1), shrunken, rtol=1e-6, atol=0)


def test_only_samples_that_are_there_count():
    a, b = views()
    there = torch.arange(80) % 3 > 0
    expected = canonical_correlations(a[there], b[there])
    for junk in (100.0, float("nan")):
        a[~there] = junk
        torch.testing.assert_close(canonical_correlations(a, b, there), expected, rtol=1e-10, atol=0)


def degenerate():
    a, b = views(12)
    same = torch.ones(6, 5)
    orthogonal = torch.linalg.qr(a[:, :5] - a.mean(0)).Q
    return {
        "equal inputs": (a, a.clone()),
        "all samples equal": (same, same[:, :4]),
        "all zero": (0 * same, 0 * same),
        "one constant": (a, torch.ones(12, 4)),
        "fewer samples than directions": (a[:3], b[:3]),
        "two samples": (a[:2], b[:2]),
        "one sample": (a[:1], b[:1]),
        "equal eigenvalues": (orthogonal, orthogonal.flip(1)),
        "a column twice": (torch.cat([a, a], 1), b),
    }


@pytest.mark.parametrize("case", list(degenerate()))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_are_finite(case, dtype):
    a, b = (x.to(dtype).requires_grad_() for x in degenerate()[case])
    correlations = canonical_correlations(a, b, ridge=1e-3)
    correlations.sum().backward()
    for tensor in (correlations, a.grad, b.grad):
        assert tensor.isfinite().all()
    assert (correlations > -1e-9).all()
    assert (correlations < 1 + 1e-6).all()


def test_gradients_are_those_of_finite_differences():
    a, b = (x.requires_grad_() for x in views(9, (3, 2)))
    there = torch.arange(9) != 4
    assert torch.autograd.gradcheck(lambda a, b: canonical_correlations(a, b, there, 0.01).sum(), (a, b))


def test_the_loss_is_minus_the_sum_over_pairs():
    scene = Scene({"a": 1, "b": 1, "c": 1}, 20, missing=[(0, "a"), (3, "b"), (4, "b"), (6, "c")])
    for n_components in (None, 2):
        objective = scene.prepared(CCA(n_projection=None, n_components=n_components, ridge=0.0))
        expected = 0
        for a, b in (("a", "b"), ("a", "c"), ("b", "c")):
            both = scene.present[:, [scene.names.index(a), scene.names.index(b)]].all(1)
            pair = [scene.heads[name][both].detach().numpy() for name in (a, b)]
            expected -= by_hand(*pair)[:n_components].sum()
        found = scene.loss(objective)
        assert found.mean.item() == pytest.approx(expected, rel=1e-9)
        assert found.n == 20


def test_a_sample_without_a_partner_gets_no_gradient():
    scene = Scene({"a": 1, "b": 1}, 20, missing=[(0, "a"), (3, "b")])
    scene.loss(scene.prepared(CCA())).mean.backward()
    for name in "ab":
        assert (scene.heads[name].grad.abs().sum(1) > 0).tolist() == [row not in (0, 3) for row in range(20)]


@pytest.mark.parametrize("n_both", [0, 1])
def test_too_few_samples_have_loss_0_and_no_gradient(n_both):
    scene = Scene({"a": 1, "b": 1}, 4, missing=[(row, "ab"[row % 2]) for row in range(n_both, 4)])
    found = scene.loss(scene.prepared(CCA()))
    found.mean.backward()
    assert (found.mean.item(), found.n.item()) == (0, 0)
    assert (scene.heads["a"].grad == 0).all()


def moments(parts, there=None):
    there = torch.ones(len(parts), len(parts[0]), dtype=torch.bool) if there is None else there
    return Moments.of(parts, there)


def test_moments_of_batches_add_up_and_skip_what_is_missing():
    parts = views(60, (3, 2, 4))
    there = torch.rand(3, 60, generator=torch.Generator().manual_seed(0)) > 0.3
    halves = [moments([part[rows] for part in parts], there[:, rows]) for rows in (slice(0, 25), slice(25, 60))]
    whole = halves[0] + halves[1]
    both = there[0] & there[2]
    pair = np.cov(parts[0][both].T, parts[2][both].T, ddof=0)
    np.testing.assert_allclose(whole.covariances()[:3, 5:], pair[:3, 3:], rtol=1e-9)
    np.testing.assert_allclose(whole.covariances()[:3, :3], np.cov(parts[0][there[0]].T, ddof=0), rtol=1e-9)
    np.testing.assert_allclose(whole.means()[3:5], parts[1][there[1]].mean(0), rtol=1e-9)


def test_two_sets_are_mapped_to_their_canonical_variates():
    a, b = views()
    found = moments([a, b])
    to_a, to_b = canonical_maps(found, (5, 4), 3).split((5, 4))
    u, v = (a - a.mean(0)) @ to_a, (b - b.mean(0)) @ to_b
    across = np.corrcoef(u.T, v.T)
    correlations = canonical_correlations(a, b)[:3]
    np.testing.assert_allclose(across[:3, 3:], torch.diag(correlations), atol=1e-8)
    np.testing.assert_allclose(across[:3, :3], np.eye(3), atol=1e-8)
    # Each direction counts by its correlation.
    scale = (u * v).mean(0) / correlations.square()
    torch.testing.assert_close(scale, scale[:1].expand(3), rtol=1e-8, atol=0)


def test_three_sets_share_one_space():
    parts = views(300, (5, 4, 6))
    maps = canonical_maps(moments(parts), (5, 4, 6), 2).split((5, 4, 6))
    variates = [(part - part.mean(0)) @ m for part, m in zip(parts, maps)]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        # One direction for all pairs is hardly worse than the best for each.
        shared = np.corrcoef(variates[i][:, 0], variates[j][:, 0])[0, 1]
        assert shared > canonical_correlations(parts[i], parts[j])[0] - 0.05


@pytest.mark.parametrize("n_projection", [10, None])
def test_linear_views_of_one_latent_find_each_other(n_projection):
    torch.set_default_dtype(torch.float32)
    options = {"n_hidden": 32, "n_latent": 16, "dropout_rate": 0.0, "lr": 0.01, "batch_size": 100, "max_epochs": 20}
    pretrainer = MultimodalPretrainer(
        [CCA(n_projection=n_projection)], fusion="concat", random_state=0, device="cpu", **options
    ).fit(linear_views())
    assert recall(pretrainer, linear_views()) > 0.9
    assert recall(pretrainer, linear_views(seed=1)) > 0.9
    again = pickle.loads(pickle.dumps(pretrainer))
    assert recall(again, linear_views(seed=1)) == recall(pretrainer, linear_views(seed=1))


def test_validation_does_not_shape_the_canonical_space():
    scene = Scene({"a": 1, "b": 1}, 20)
    objective = scene.prepared(CCA(n_projection=None))
    scene.loss(objective)
    objective.eval()
    scene.rows(slice(0, 9)).loss(objective)
    objective.on_epoch_end()
    torch.testing.assert_close(objective.means, torch.cat([scene.heads[name].mean(0) for name in "ab"]))
    before = objective.maps.clone()
    objective.on_epoch_end()
    assert torch.equal(objective.maps, before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_projection": 0}, "n_projection of CCA is 0"),
        ({"n_components": 0}, "n_components of CCA is 0"),
        ({"ridge": -1.0}, "ridge of CCA is -1.0"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        CCA(**options)
