"""Everything at once: which subsets are compared, for whom, and with which weight."""

from itertools import combinations

import pytest
import torch
import torch.nn.functional as F
from _outputs import SIMILARITY, Scene, linear_views, recall

from skfusion import MultimodalPretrainer
from skfusion.objectives import Combinatorial
from skfusion.objectives.combinatorial import mms, norm_softmax
from skfusion.objectives.contrastive import info_nce

NAMES = ("a", "b", "c")
EVERYTHING = torch.ones(3, dtype=torch.bool)
LACKING = [(0, "a"), (3, "b"), (4, "b"), (6, "c")]


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(("function", "expected"), [(norm_softmax, 1.2993305003305977e-4), (mms, 1.3447177785646727)])
def test_golden_numbers(function, expected):
    assert function(SIMILARITY, EVERYTHING).mean().item() == pytest.approx(expected, abs=1e-12)


def indices(names, size):
    return [subset for k in range(1, size + 1) for subset in combinations(range(len(names)), k)]


def scene_of(names=NAMES, n_samples=8, missing=LACKING, size=2):
    """A scene, and an embedding of each subset that depends on its members alone."""
    scene = Scene(dict.fromkeys(names, 1), n_samples, missing=missing, subsets=tuple(indices(names, size)))
    embeddings = {}
    for subset in indices(names, size):
        members = tuple(names[m] for m in subset)
        seed = sum(1 << (ord(name) - ord("a")) for name in members)
        drawn = torch.randn(n_samples, 5, generator=torch.Generator().manual_seed(seed))
        complete = scene.present[:, list(subset)].all(1)
        embeddings[members] = (drawn * complete.unsqueeze(1)).requires_grad_()
    return scene, embeddings


def loss_of(scene, embeddings, **options):
    objective = scene.prepared(Combinatorial(**options))
    output = scene.output
    output.subsets = embeddings
    return scene.loss(objective, clean=output)


def by_hand(scene, embeddings, weights):
    """The weighted mean of info_nce over pairs (a, b) of subsets."""
    total = 0
    for (a, b), weight in weights.items():
        both = torch.stack([scene.present[:, scene.names.index(name)] for name in (*a, *b)]).all(0)
        total = total + weight * info_nce(embeddings[a][both], embeddings[b][both], 0.05, direction="sum")
    return total / sum(weights.values())


PAIRS = [
    (("a",), ("b",)),
    (("a",), ("c",)),
    (("b",), ("c",)),
    (("a",), ("b", "c")),
    (("b",), ("a", "c")),
    (("c",), ("a", "b")),
]


def test_it_is_the_mean_over_single_with_single_and_single_with_pair():
    scene, embeddings = scene_of()
    found = loss_of(scene, embeddings)
    torch.testing.assert_close(found.mean, by_hand(scene, embeddings, dict.fromkeys(PAIRS, 1.0)), rtol=1e-12, atol=0)
    assert found.n == 8


def test_as_everything_at_once_weighs():
    scene, embeddings = scene_of()
    published = {pair: 1.0 if pair == (("a",), ("b",)) else 0.1 for pair in PAIRS}
    expected = by_hand(scene, embeddings, published)
    for weights in ({("b", "a"): 10.0}, published):
        torch.testing.assert_close(loss_of(scene, embeddings, weights=weights).mean, expected, rtol=1e-12, atol=0)


def test_ten_times_the_weights_are_the_same():
    scene, embeddings = scene_of()
    weights = {pair: 0.5 + i for i, pair in enumerate(PAIRS)}
    ten = {pair: 10 * weight for pair, weight in weights.items()}
    found, expected = (loss_of(scene, embeddings, weights=w).mean for w in (ten, weights))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_a_weight_of_0_takes_a_pair_out():
    scene, embeddings = scene_of()
    weights = dict.fromkeys(PAIRS[3:], 0.0)
    expected = by_hand(scene, embeddings, dict.fromkeys(PAIRS[:3], 1.0))
    torch.testing.assert_close(loss_of(scene, embeddings, weights=weights).mean, expected, rtol=1e-12, atol=0)


def test_without_some_samples_of_a_modality_only_terms_with_it_change():
    def terms(missing):
        scene, embeddings = scene_of(missing=missing)
        alone = [loss_of(scene, embeddings, weights={p: float(p == pair) for p in PAIRS}).mean for pair in PAIRS]
        return torch.stack(alone)

    full, fewer = terms([]), terms([(1, "c"), (5, "c")])
    for pair, before, after in zip(PAIRS, full, fewer):
        assert (before == after) == ("c" not in pair[0] + pair[1]), pair


@pytest.mark.parametrize("names", [("c", "a", "b"), ("b", "c", "a")])
@pytest.mark.parametrize("variant", ["norm_softmax", "mms"])
def test_the_order_of_the_modalities_does_not_matter(names, variant):
    expected = loss_of(*scene_of(), variant=variant).mean
    scene, embeddings = scene_of(names)
    assert scene.names != list(NAMES)
    # Of a subset the name has another order, too.
    torch.testing.assert_close(loss_of(scene, embeddings, variant=variant).mean, expected, rtol=1e-12, atol=0)


def test_with_four_modalities_no_two_pairs_are_compared():
    scene, _ = scene_of(("a", "b", "c", "d"), missing=[])
    objective = scene.prepared(Combinatorial())
    assert len(objective.subsets) == 4 + 6
    assert len(objective.pairs) == 6 + 4 * 3


def test_two_modalities_are_one_pair_and_need_no_subset_of_both():
    scene, embeddings = scene_of(("a", "b"), missing=[], size=1)
    expected = info_nce(embeddings["a",], embeddings["b",], 0.05, direction="sum")
    torch.testing.assert_close(loss_of(scene, embeddings).mean, expected, rtol=1e-12, atol=0)


def test_only_complete_samples_get_a_gradient():
    scene, embeddings = scene_of()
    loss_of(scene, embeddings).mean.backward()
    assert (embeddings["a",].grad.abs().sum(1) > 0).tolist() == [row != 0 for row in range(8)]
    assert (embeddings["b", "c"].grad.abs().sum(1) > 0).tolist() == [row not in (0, 3, 4, 6) for row in range(8)]


def test_other_fusions_see_nothing_but_the_subset():
    scene, _ = scene_of()
    scene.network.fusion.subsets = ()
    objective = scene.prepared(Combinatorial())
    views = objective.views(scene.batch)
    assert len(views) == 6
    for subset in objective.subsets:
        present = views[str(subset)].present
        members = [scene.names.index(name) for name in subset]
        complete = scene.present[:, members].all(1)
        assert (present[:, members] == complete.unsqueeze(1)).all()
        assert present.sum() == len(members) * complete.sum()


def test_other_fusions_give_the_embedding_of_a_subset_as_the_fused_one():
    scene, embeddings = scene_of()
    scene.network.fusion.subsets = ()
    objective = scene.prepared(Combinatorial())
    outputs = {}
    for subset, embedding in embeddings.items():
        outputs[str(subset)] = scene.output
        outputs[str(subset)].fused = embedding
    expected = by_hand(scene, embeddings, dict.fromkeys(PAIRS, 1.0))
    torch.testing.assert_close(scene.loss(objective, **outputs).mean, expected, rtol=1e-12, atol=0)
    assert not hasattr(objective, "project")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "nce"}, "'norm_softmax', 'mms'"),
        ({"temperature": 0.0}, "temperature of Combinatorial is 0.0"),
        ({"margin": -1.0}, "margin of Combinatorial is -1.0"),
        ({"weights": {"ab": 1.0}}, "weights of Combinatorial holds 'ab'"),
        ({"weights": {("a", "b"): -1.0}}, "due is a number of at least 0"),
        ({"weights": {("a", "b"): 1.0, ("b", "a"): 2.0}}, "twice"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        Combinatorial(**options)


@pytest.mark.parametrize("pair", [("a", "x"), ("a", ("a", "b")), (("a", "b"), ("a", "c")), ("a", "a")])
def test_weights_of_what_is_no_pair(pair):
    scene, _ = scene_of()
    with pytest.raises(ValueError, match="share no modality"):
        scene.prepared(Combinatorial(weights={pair: 1.0}))


def test_linear_views_of_one_latent_find_each_other_after_one_pass():
    torch.set_default_dtype(torch.float32)
    options = {"n_hidden": 32, "n_latent": 16, "n_heads": 2, "dropout_rate": 0.0, "lr": 0.01, "batch_size": 100}
    pretrainer = MultimodalPretrainer(
        ["combinatorial"], fusion="everything_at_once", max_epochs=40, random_state=0, device="cpu", **options
    ).fit(linear_views())
    assert recall(pretrainer, linear_views(seed=1)) > 0.9


def test_a_fused_embedding_of_one_modality_finds_that_of_another():
    torch.set_default_dtype(torch.float32)
    options = {"n_hidden": 32, "n_latent": 16, "dropout_rate": 0.0, "lr": 0.01, "batch_size": 100}
    pretrainer = MultimodalPretrainer(
        ["combinatorial"], fusion="mean", max_epochs=40, random_state=0, device="cpu", **options
    ).fit(linear_views())
    held_out = linear_views(seed=1)
    a, b = (torch.from_numpy(pretrainer.transform({name: held_out[name]})) for name in "ab")
    found = (F.normalize(a, dim=1) @ F.normalize(b, dim=1).T).argmax(1)
    assert (found == torch.arange(200)).double().mean() > 0.9
