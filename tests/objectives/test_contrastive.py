"""Contrast: golden numbers, who has a say, the memory, and that a pure head cannot win by copying."""

import math

import pytest
import torch
import torch.nn.functional as F
from _outputs import SIMILARITY, Scene, linear_views, recall, with_cosines

from skfusion import MultimodalPretrainer
from skfusion.objectives import Contrastive
from skfusion.objectives.contrastive import info_nce

NET = {"n_hidden": 32, "n_latent": 16, "n_heads": 2, "n_fusion_layers": 1, "dropout_rate": 0.0, "lr": 0.01}
NET |= {"batch_size": 100, "max_epochs": 50, "random_state": 0, "device": "cpu"}
CHANCE = 1 / 200
LACKING = [(0, "a"), (3, "b"), (4, "b"), (6, "c")]


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    ("direction", "transposed", "expected"),
    [
        ("one", False, 0.0011717512217543913),
        ("one", True, 0.0003098570170383397),
        ("mean", False, 0.0007408041193963655),
        ("sum", False, 0.001481608238792731),
    ],
)
def test_golden_numbers(direction, transposed, expected):
    a, b = with_cosines(SIMILARITY.T if transposed else SIMILARITY)
    assert info_nce(a, b, 0.07, direction=direction).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("direction", "symmetric"), [("mean", True), ("sum", True), ("one", False)])
def test_swapping_two_modalities(double, direction, symmetric):
    a, b = torch.randn(2, 8, 5, generator=torch.Generator().manual_seed(0))
    same = torch.isclose(info_nce(a, b, direction=direction), info_nce(b, a, direction=direction), rtol=1e-12)
    assert same == symmetric


def project(scene, objective, head, rows):
    return F.normalize(objective.projections[objective.heads.index(head)](scene.heads[head][rows]), dim=-1)


@pytest.mark.parametrize("direction", ["mean", "sum", "one"])
@pytest.mark.parametrize("with_fusion", [True, False])
def test_each_pair_is_info_nce_among_the_samples_that_have_both(double, direction, with_fusion):
    scene = Scene({"a": 1, "b": 1, "c": 1}, 8, missing=LACKING)
    objective = scene.prepared(Contrastive(temperature=0.3, direction=direction, with_fusion=with_fusion))
    pairs = [("a", "b"), ("a", "c"), ("b", "c")] + [(name, "fusion") for name in "abc"] * with_fusion
    expected = []
    for a, b in pairs:
        both = scene.network.present_in(a, scene.present) & scene.network.present_in(b, scene.present)
        embeddings = [project(scene, objective, head, both) for head in (a, b)]
        expected.append(info_nce(*embeddings, 0.3, direction=direction))
    found = scene.loss(objective)
    torch.testing.assert_close(found.mean, torch.stack(expected).mean(), rtol=1e-12, atol=0)
    assert found.n == 8


def test_a_sample_that_lacks_a_modality_gets_no_gradient_through_it(double):
    scene = Scene({"a": 1, "b": 1}, 8, missing=[(0, "a"), (3, "b")])
    objective = scene.prepared(Contrastive(with_fusion=False))
    scene.loss(objective).mean.backward()
    # Row 3 has a, but no partner to find.
    for name in "ab":
        gradient = scene.heads[name].grad.abs().sum(1)
        assert (gradient[[0, 3]] == 0).all()
        assert (gradient[[1, 2, 4, 5, 6, 7]] > 0).all()


def test_one_sample_with_both_has_nothing_to_be_told_from(double):
    scene = Scene({"a": 1, "b": 1}, 3, missing=[(0, "a"), (1, "b")])
    found = scene.loss(scene.prepared(Contrastive(with_fusion=False)))
    assert (found.mean.item(), found.n.item()) == (0, 0)


def test_the_scale_stays_at_or_below_100(double):
    scene = Scene({"a": 1, "b": 1}, 8)
    sharper = scene.prepared(Contrastive(temperature=1e-4))
    assert sharper.log_scale > math.log(100)
    found = scene.loss(sharper).mean
    torch.testing.assert_close(found, scene.loss(scene.prepared(Contrastive(temperature=0.01))).mean, rtol=1e-7, atol=0)
    assert sharper.log_scale.item() == pytest.approx(math.log(100))
    # One that is fixed is what it was set to.
    fixed = scene.prepared(Contrastive(temperature=1e-4, learn_temperature=False))
    assert scene.loss(fixed).mean > 2 * found


def test_a_scale_that_has_reached_its_bound_can_come_down(double):
    scene = Scene({"a": 1, "b": 1}, 8)  # embeddings that say nothing: the flatter, the better
    objective = scene.prepared(Contrastive(temperature=1e-3))
    optimizer = torch.optim.SGD([objective.log_scale], lr=0.01)
    scene.loss(objective).mean.backward()
    optimizer.step()
    assert objective.log_scale < math.log(100)


@pytest.mark.parametrize("learned", [True, False])
def test_the_temperature_is_learned_or_kept(learned):
    scene = Scene({"a": 1, "b": 1}, 8)
    objective = scene.prepared(Contrastive(temperature=0.2, learn_temperature=learned))
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.1)
    scene.loss(objective).mean.backward()
    optimizer.step()
    assert (objective.log_scale.item() != pytest.approx(math.log(5), abs=1e-6)) == learned


def test_the_memory_adds_negatives_from_the_second_batch_on(double):
    lengths = {"a": 1, "b": 1}
    first = Scene(lengths, 5, missing=[(1, "b")])
    second = Scene(lengths, 6, missing=[(0, "a")], seed=1, first=5)
    plain, remembering = (first.prepared(Contrastive(temperature=0.5, with_fusion=False, n_memory=n)) for n in (0, 4))
    remembering.eval()
    assert first.loss(remembering).mean == first.loss(plain).mean
    assert not remembering.remembered.any(), "only training remembers"
    remembering.train()
    assert first.loss(remembering).mean == first.loss(plain).mean
    # The last four samples of the first batch are now negatives, but for b of its second one.
    both = second.present.all(1)
    kept = [project(first, plain, name, slice(0, 4)) for name in "ab"]
    kept[1] = kept[1][[0, 2, 3]]
    expected = 0
    for query, key in ((0, 1), (1, 0)):
        asking, answering = (project(second, plain, "ab"[i], both) for i in (query, key))
        logits = asking @ torch.cat([answering, kept[key]]).T / 0.5
        expected += F.cross_entropy(logits, torch.arange(len(asking))) / 2
    found = second.loss(remembering).mean
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    assert found > second.loss(plain).mean


def test_what_a_sample_was_before_is_no_negative_of_it(double):
    scene, other = Scene({"a": 1, "b": 1}, 5), Scene({"a": 1, "b": 1}, 4, seed=1, first=5)
    plain, remembering = (scene.prepared(Contrastive(with_fusion=False, n_memory=n)) for n in (0, 9))
    scene.loss(remembering)
    # All five that are remembered: each is told from the other four of then, and of now.
    embeddings = [project(scene, plain, name, slice(None)) for name in "ab"]
    expected = 0
    for i, j in ((0, 1), (1, 0)):
        logits = embeddings[i] @ embeddings[j].T / 0.07
        before = logits.masked_fill(torch.eye(5, dtype=torch.bool), -torch.inf)
        expected += F.cross_entropy(torch.cat([logits, before], 1), torch.arange(5)) / 2
    remembering.eval()
    torch.testing.assert_close(scene.loss(remembering).mean, expected, rtol=1e-12, atol=0)
    remembering.train()
    other.loss(remembering)
    assert remembering.owners.tolist() == [5, 6, 7, 8, 0, 1, 2, 3, 4]
    remembering.on_train_end()
    assert scene.loss(remembering).mean == scene.loss(plain).mean, "another training has other samples"


def test_the_memory_keeps_the_latest(double):
    scenes = [Scene({"a": 1, "b": 1}, 3, seed=seed, first=3 * seed) for seed in range(3)]
    objective = scenes[0].prepared(Contrastive(with_fusion=False, n_memory=5))
    for scene in scenes:
        scene.loss(objective)
    latest = torch.cat([project(scene, objective, "a", slice(None)) for scene in (scenes[2], scenes[1])])[:5]
    torch.testing.assert_close(objective.memory[0], latest)
    assert objective.remembered.all()
    scenes[2].loss(objective)  # the same samples again: what they were before goes
    assert objective.remembered.tolist() == [[True, True, True, False, False]] * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0}, "temperature of Contrastive is 0"),
        ({"direction": "both"}, "'mean', 'sum', 'one'"),
        ({"n_projection": 0}, "n_projection of Contrastive is 0"),
        ({"n_memory": -1}, "n_memory of Contrastive is -1"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        Contrastive(**options)


def test_one_modality_without_the_fusion_has_no_partner():
    with pytest.raises(ValueError, match="pairs of modalities, and there is only 'a'"):
        Scene({"a": 1}).prepared(Contrastive(with_fusion=False))


def fitted(fusion, shared=True, **options):
    pretrainer = MultimodalPretrainer([Contrastive(**options)], fusion=fusion, **NET)
    return pretrainer.fit(linear_views(shared=shared))


def test_linear_views_of_one_latent_find_each_other():
    pretrainer = fitted("concat")
    assert recall(pretrainer, linear_views()) > 0.9
    assert recall(pretrainer, linear_views(seed=1)) > 0.9


def test_only_heads_that_see_the_other_modality_win_where_there_is_nothing_to_find():
    standard_error = math.sqrt(CHANCE * (1 - CHANCE) / 200)
    pure, copying = (fitted(fusion, shared=False, with_fusion=False) for fusion in ("zorro", "irene"))
    held_out = linear_views(seed=1, shared=False)
    assert abs(recall(pure, held_out) - CHANCE) <= 3 * standard_error
    assert recall(copying, held_out) > 0.9


def test_pure_heads_find_what_is_shared():
    assert recall(fitted("zorro", with_fusion=False), linear_views(seed=1)) > 0.9


@pytest.mark.parametrize("shape", [(4, 6), (5, 8)])
def test_embeddings_of_other_widths_or_numbers_raise(shape):
    with pytest.raises(ValueError, match=f"a is .4, 8. and b .{shape[0]}, {shape[1]}.; due are partners"):
        info_nce(torch.ones(4, 8), torch.ones(shape))
