"""Continual pretraining: one modality after another, and what is kept of each."""

import copy
import pickle

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skfusion import Modalities, MultimodalPretrainer
from skfusion._rehearsal import Stored, counts, nearest_to_centres
from skfusion.encoders.batch import Batch, ModalityBatch
from skfusion.objectives.context import Context, Setting
from skfusion.objectives.rehearsal import Rehearsal, are_numbers, feature_error, groups_of, mixed
from skfusion.training.batches import TensorData

SMALL = {"n_latent": 8, "n_hidden": 16, "max_epochs": 3, "device": "cpu", "random_state": 0}


def draw(n_samples, width, seed):
    return np.random.default_rng(seed).normal(size=(n_samples, width))


A, B, C = draw(200, 6, 0), draw(220, 4, 1), draw(150, 5, 2)


@pytest.fixture(scope="module")
def after_two():
    return MultimodalPretrainer(**SMALL).partial_fit({"a": A}).partial_fit({"b": B})


# Stages


def test_the_first_stage_is_a_fit():
    X = {"a": A, "b": np.vstack([B[:150], np.full((50, 4), np.nan)])}
    fitted = MultimodalPretrainer(**SMALL).fit(X)
    staged = MultimodalPretrainer(**SMALL).partial_fit(X)
    for head in fitted.embedding_means_:
        np.testing.assert_array_equal(staged.embed(X, head), fitted.embed(X, head))
    assert not hasattr(fitted, "stored_")
    assert len(staged.stored_.present) == 2 * 5


def test_modalities_join_at_the_end(after_two):
    assert after_two.modality_names_in_.tolist() == ["a", "b"]
    assert after_two.n_features_by_modality_ == {"a": 6, "b": 4}
    assert after_two.n_features_in_ == 2
    staged = copy.deepcopy(after_two).partial_fit({"c": C, "b": B[:150]})
    assert staged.modality_names_in_.tolist() == ["a", "b", "c"]
    assert staged.n_features_in_ == 3
    assert staged.n_iter_ == 9
    assert list(staged.embedding_means_) == ["a", "b", "c", "fusion", "global"]
    for head, X in {"a": {"a": A}, "b": {"b": B}, "c": {"c": C}, "fusion": {"a": A[:9], "c": C[:9]}}.items():
        assert staged.embed(X, head).shape[1] == 8
    assert after_two.modality_names_in_.tolist() == ["a", "b"]


def test_preprocessing_and_the_mean_embedding_of_an_absent_modality_stay(after_two):
    first = MultimodalPretrainer(**SMALL).partial_fit({"a": A})
    known, mean = first.preprocessors_["a"], first.embedding_means_["a"]
    first.partial_fit({"b": 100 * B})
    assert first.preprocessors_["a"] is known
    np.testing.assert_array_equal(first.embedding_means_["a"], mean)
    first.partial_fit({"a": 100 * A})
    assert first.preprocessors_["a"] is known
    assert (first.embedding_means_["a"] != mean).any()


def test_a_stage_starts_from_the_encoders_and_the_fusion_of_the_last():
    still = {**SMALL, "lr": 1e-12, "weight_decay": 0.0}
    first = MultimodalPretrainer(**still).partial_fit({"a": A})
    staged = copy.deepcopy(first).partial_fit({"b": B})
    for head in ("a", "fusion", "global"):
        np.testing.assert_allclose(staged.embed({"a": A}, head), first.embed({"a": A}, head), atol=1e-6)
    new, old = (e.network_.encoders[i].state_dict() for e, i in ((staged, 1), (first, 0)))
    alike = [key for key in new if new[key].shape == old[key].shape and new[key].ndim > 1]
    assert all(not torch.equal(new[key], old[key]) for key in alike)


@pytest.mark.parametrize("options", [{"encoders": "shared"}, {"fill_missing": "token"}, {"fill_missing": "prior"}])
def test_what_modalities_share_is_carried(options):
    still = {**SMALL, "lr": 1e-12, "weight_decay": 0.0, "n_heads": 2, "max_epochs": 1, "fusion": "mean"}
    first = MultimodalPretrainer(**still, **options).partial_fit({"a": A, "b": A[:, :3]})
    staged = copy.deepcopy(first).partial_fit({"c": C})
    old, new = first.network_, staged.network_
    if "encoders" in options:
        for key, value in old.trunk.state_dict().items():
            torch.testing.assert_close(new.trunk.state_dict()[key], value)
        return
    if options["fill_missing"] == "token":
        torch.testing.assert_close(new.stand_in.given[0][:2], old.stand_in.given[0])
    else:
        mine, theirs = new.stand_in.weigh[1].weight, old.stand_in.weigh[1].weight
        torch.testing.assert_close(mine[:, [*range(16), 24, 25]], theirs)  # two embeddings, and who is there


def test_projections_of_known_heads_are_carried_and_decoders_are_not():
    pair = {"a": A[:150], "b": A[:150, :3] @ draw(3, 4, 3)}
    still = {**SMALL, "lr": 1e-12, "weight_decay": 0.0, "objectives": ["contrastive", "reconstruction"]}
    first = MultimodalPretrainer(**still).partial_fit(pair)
    staged = copy.deepcopy(first).partial_fit({"b": pair["b"], "c": C})
    old, new = first.objectives_["contrastive"], staged.objectives_["contrastive"]
    assert new.heads == ["a", "b", "c", "fusion"]
    for head in old.heads:
        mine, theirs = (o.projections[o.heads.index(head)].weight for o in (new, old))
        torch.testing.assert_close(mine, theirs)
    before, after = (e.objectives_["reconstruction"].of_own[0].layers[0].weight for e in (first, staged))
    assert not torch.allclose(before, after)
    found = staged.retrieve(pair, by="a", of="b", k=3)
    np.testing.assert_array_equal(found.indices, first.retrieve(pair, by="a", of="b", k=3).indices)


def test_a_failing_stage_leaves_the_state_from_before(after_two):
    staged = copy.deepcopy(after_two)
    expected = staged.transform({"a": A})
    kept = staged.stored_
    with pytest.raises(ValueError, match="modality 'c' is missing for every training sample"):
        staged.partial_fit({"a": A, "c": np.full((200, 2), np.nan)})
    with pytest.raises(ValueError, match="training diverged"):
        staged.set_params(lr=1e30, scheduler=None, optimizer=torch.optim.SGD).partial_fit({"a": A, "c": A})
    assert staged.modality_names_in_.tolist() == ["a", "b"]
    assert staged.n_features_in_ == 2
    assert staged.stored_ is kept
    np.testing.assert_array_equal(staged.transform({"a": A}), expected)
    assert all(p.requires_grad for p in staged.network_.parameters())


def test_fit_starts_anew(after_two):
    again = copy.deepcopy(after_two).fit({"b": B})
    fresh = MultimodalPretrainer(**SMALL).fit({"b": B})
    np.testing.assert_array_equal(again.transform({"b": B}), fresh.transform({"b": B}))
    assert again.modality_names_in_.tolist() == ["b"]
    assert not hasattr(again, "stored_")


def test_stages_are_the_same_with_the_same_seed_and_survive_pickling_and_cloning(after_two):
    other = clone(after_two).partial_fit({"a": A})
    other = pickle.loads(pickle.dumps(other)).partial_fit({"b": B})
    for head in ("a", "b", "fusion"):
        np.testing.assert_array_equal(
            other.embed({"a": A, "b": B[:200]}, head), after_two.embed({"a": A, "b": B[:200]}, head)
        )


def test_what_cannot_be_gone_on_with_is_said(after_two):
    with pytest.raises(ValueError, match=r"modality 'a' has samples of shape \(3,\); due is shape \(6,\)"):
        copy.deepcopy(after_two).partial_fit({"a": A[:, :3], "c": A})
    with pytest.raises(ValueError, match="n_latent is 16, but the stages before had 8"):
        copy.deepcopy(after_two).set_params(n_latent=16, fusion="mean").partial_fit({"c": C})
    with pytest.raises(ValueError, match="a modality is called 'fusion'"):
        copy.deepcopy(after_two).partial_fit({"fusion": C})
    with pytest.raises(ValueError, match=r"fusion is 'pretrained', which cannot grow by the modalities \['c'\]"):
        copy.deepcopy(after_two).set_params(fusion="pretrained").partial_fit({"c": C})


def test_another_fusion_cannot_go_on(after_two):
    with pytest.raises(ValueError, match="fusion is Mean, but the stages before had Zorro; set it back, or call fit"):
        copy.deepcopy(after_two).set_params(fusion="mean").partial_fit({"c": C})


def test_cca_does_not_retrieve_what_the_last_stage_lacked():
    pair = {"a": A[:200], "b": B[:200]}
    staged = MultimodalPretrainer(["cca"], **SMALL).partial_fit(pair)
    staged.partial_fit({"a": A[:150], "c": C})
    assert staged.retrieve({"a": A[:150], "c": C}, by="a", of="c", k=2).indices.shape == (150, 2)
    with pytest.raises(ValueError, match="of is 'b', but no sample of the last training had it"):
        staged.retrieve(pair, by="a", of="b")


def test_modalities_that_nobody_asks_for_do_not_join():
    staged = MultimodalPretrainer(modalities=["a"], **SMALL).partial_fit({"a": A, "b": B[:200]})
    staged.partial_fit({"a": A, "b": B[:200]})
    assert staged.modality_names_in_.tolist() == ["a"]


@pytest.mark.parametrize("fusion", ["concat", "gated", "mixture_of_experts", "tensor"])
def test_stages_run_with_other_fusions(fusion):
    staged = MultimodalPretrainer(fusion=fusion, **SMALL).partial_fit({"a": A}).partial_fit({"b": B})
    staged.partial_fit(Modalities({"a": A[:150], "c": C}))
    assert np.isfinite(staged.transform({"a": A[:5], "c": C[:5]})).all()


# What is kept


@pytest.mark.parametrize(("n", "share", "centres", "each"), [(1000, 0.05, 10, 5), (60, 0.05, 1, 3), (250, 0.2, 2, 25)])
def test_how_many_are_kept(n, share, centres, each):
    assert counts(n, share) == (centres, each)
    assert len(nearest_to_centres(draw(n, 3, 0), share, 0)) == centres * each


def test_each_that_is_kept_is_among_the_nearest_to_its_centre():
    corners = 20 * np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    features = np.repeat(corners, 100, axis=0) + draw(400, 2, 0)
    kept = nearest_to_centres(features, 0.05, 0)
    assert len(kept) == 20
    centres = KMeans(4, n_init=1, random_state=0).fit(features).cluster_centers_
    nearest = np.argsort(((features[:, None] - centres) ** 2).sum(-1), axis=0)[:5]  # (5, 4)
    assert sorted(nearest.ravel()) == kept.tolist()
    assert np.bincount(kept // 100).tolist() == [5, 5, 5, 5]


def test_features_that_coincide_are_kept_in_full_number():
    assert len(nearest_to_centres(np.ones((300, 2)), 0.1, 0)) == 30
    assert len(nearest_to_centres(np.ones((9, 2)), 0.05, 0)) == 0
    assert nearest_to_centres(draw(50, 2, 0), 1.0, 0).tolist() == list(range(50))


def test_what_is_kept_are_prepared_values_near_the_centres_of_the_embeddings():
    X = {"a": np.vstack([A, A + 0.5]), "b": np.where(np.arange(400)[:, None] % 2, np.nan, np.vstack([B, B])[:400])}
    staged = MultimodalPretrainer(rehearsal=0.1, **SMALL).partial_fit(X)
    several = np.arange(400) % 2 == 0
    features = np.where(several[:, None], staged.transform(X), staged.embed(X, "a"))
    means = staged.embedding_means_
    features = features - np.where(several[:, None], means["fusion"], means["a"])
    kept = nearest_to_centres(features, 0.1, staged.net_.seed)
    np.testing.assert_array_equal(staged.stored_.present, np.column_stack([np.ones(40), several[kept]]).astype(bool))
    np.testing.assert_allclose(
        staged.stored_.values["a"], staged.preprocessors_["a"]._transform(X["a"][kept]), rtol=1e-6
    )
    assert not staged.stored_.values["b"][~several[kept]].any()


def test_without_rehearsal_nothing_is_kept_and_nothing_added():
    plain = MultimodalPretrainer(rehearsal=0, **SMALL).partial_fit({"a": A}).partial_fit({"b": B})
    assert len(plain.stored_.present) == 0
    assert "train_loss_of_rehearsal" not in plain.history_[-1]


def test_rehearsal_is_told_in_the_history_and_leaves_no_teacher_behind(after_two):
    assert "train_loss_of_rehearsal" not in after_two.history_[0]
    assert after_two.history_[-1]["train_loss_of_rehearsal"] > 0
    assert list(after_two.objectives_) == ["reconstruction"]
    assert after_two.stored_.present.tolist() == [[True, False]] * 10 + [[False, True]] * 10


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_the_teacher_computes_in_the_precision_of_the_training(precision):
    options = {**SMALL, "dropout_rate": 0.0, "lr": 1e-9, "precision": precision, "rehearsal": 0.2}
    pretrainer = MultimodalPretrainer(["reconstruction"], **options).partial_fit({"a": A}).partial_fit({"a": A})
    # A network that hardly moves is its teacher, unless they round in another way.
    assert pretrainer.history_[-1]["train_loss_of_rehearsal"] < 1e-12


def test_the_weight_of_rehearsal_holds_features():
    moved = {}
    for weight in (0.0, 100.0):
        staged = MultimodalPretrainer(weights={"rehearsal": weight}, **SMALL).partial_fit({"a": A})
        expected = staged.embed({"a": A}, "a")
        moved[weight] = np.abs(staged.set_params(max_epochs=20).partial_fit({"b": B}).embed({"a": A}, "a") - expected)
    assert moved[100.0].mean() < 0.5 * moved[0.0].mean()


def test_kinds_of_values_are_kept_as_they_are():
    rng = np.random.default_rng(0)
    counts_ = sparse.csr_matrix(rng.poisson(0.5, size=(120, 30)).astype(np.float32))
    steps = rng.normal(size=(120, 7, 2))
    steps[::2, 5:] = np.nan
    staged = MultimodalPretrainer(["contrastive"], rehearsal=0.1, **SMALL)
    staged.partial_fit({"rna": counts_, "ecg": steps[:, :5]})
    staged.partial_fit({"ecg": steps, "labs": steps[:, 0]})
    values, present = staged.stored_
    assert sparse.issparse(values["rna"]) == staged.preprocessors_["rna"].sparse
    assert values["rna"].shape == (24, 30)
    assert values["ecg"].shape == (24, 7, 2)
    assert np.isnan(values["ecg"][:12, 5:]).all()
    assert present.sum(axis=0).tolist() == [12, 24, 12]
    staged.set_params(objectives=["reconstruction"]).partial_fit({"image": rng.normal(size=(40, 1, 6, 6))})
    assert staged.stored_.values["image"].shape == (28, 1, 6, 6)


def test_stored_samples_join():
    first = Stored({"a": np.ones((2, 3))}, np.ones((2, 1), dtype=bool))
    more = Stored({"a": np.zeros((1, 3)), "b": sparse.csr_matrix(np.ones((1, 2)))}, np.array([[False, True]]))
    values, present = first.joined(more)
    assert values["a"].tolist() == [[1, 1, 1], [1, 1, 1], [0, 0, 0]]
    assert values["b"].toarray().tolist() == [[0, 0], [0, 0], [1, 1]]
    assert present.tolist() == [[True, False], [True, False], [False, True]]


# The objective


def rehearsal(pretrainer):
    values, present = pretrainer.stored_
    data = TensorData(values, present, torch.device("cpu"))
    objective = Rehearsal(data, copy.deepcopy(pretrainer.network_))
    objective.prepare(Setting(pretrainer.network_, {}, {}, dict.fromkeys(pretrainer.modality_names_in_)))
    return objective


def loss(objective, network, batch):
    torch.manual_seed(0)
    (view,) = objective.views(batch, None).values()
    outputs = {"stored": network(view)}
    context = Context(network, None, None, torch.arange(len(batch)))
    return objective.loss(outputs, batch, context)["loss"]


def batch_of(n, names=("a", "b"), widths=(6, 4)):
    values = {
        name: ModalityBatch(torch.full((n, width), torch.nan), torch.zeros(n, 1, dtype=torch.bool))
        for name, width in zip(names, widths)
    }
    return Batch(values, torch.zeros(n, len(names), dtype=torch.bool))


def test_a_student_that_equals_its_teacher_has_no_loss(after_two):
    objective, network = rehearsal(after_two).eval(), copy.deepcopy(after_two.network_).eval()
    with torch.no_grad():
        found = loss(objective, network, batch_of(16))
        # Copies lie elsewhere in memory, where kernels may add up in another order.
        assert found.mean.item() < 1e-14
        assert found.n.item() == 16
        network.fusion.queries[0] += 0.1
    assert loss(objective, network, batch_of(16)).mean.item() > 0


def test_student_and_teacher_see_the_same_tokens():
    options = {**SMALL, "encoders": {"a": "tokens"}, "fusion": "mean", "dropout_rate": 0.0, "rehearsal": 0.2}
    pretrainer = MultimodalPretrainer(drop_token=0.5, **options).partial_fit({"a": A})
    objective, network = rehearsal(pretrainer).train(), copy.deepcopy(pretrainer.network_).train()
    batch = batch_of(16, ("a",), (6,))
    assert loss(objective, network, batch).mean.item() < 1e-12
    whole = objective.views(batch)["stored"]
    one, other = network(whole).heads["a"], network(whole).heads["a"]
    assert torch.equal(one, other)  # as drawn once
    free = Batch(whole.modalities, whole.present)
    assert not torch.equal(network(free).heads["a"], one)


def test_the_teacher_learns_nothing(after_two):
    objective, network = rehearsal(after_two), copy.deepcopy(after_two.network_)
    objective.train()
    assert not any(part.training for part in objective.teacher.modules())
    with torch.no_grad():
        network.fusion.queries += 0.1
    before = copy.deepcopy(objective.teacher.state_dict())
    loss(objective, network.train(), batch_of(8)).mean.backward()
    assert all(p.grad is None for p in objective.parameters())
    assert network.fusion.queries.grad.abs().sum() > 0
    assert all(torch.equal(value, before[key]) for key, value in objective.teacher.state_dict().items())


def test_mixtures_are_between_stored_samples_that_have_the_same():
    present = np.array([[1, 0]] * 3 + [[0, 1]] * 4 + [[1, 1]] * 2, dtype=bool)
    a = np.where(present[:, :1], 10 * np.arange(9.0)[:, None], 0)
    stored = TensorData({"a": a, "b": -np.ones((9, 2)) * present[:, 1:]}, present, torch.device("cpu"))
    objective = Rehearsal(stored, torch.nn.Identity())
    objective.prepare(Setting(None, {}, {}, {}))
    torch.manual_seed(0)
    view = objective.views(batch_of(500, ("a", "b", "c"), (1, 2, 3)))["stored"]
    found, pattern = view.modalities["a"].values[:, 0], view.present
    assert pattern.shape == (500, 3)
    assert not pattern[:, 2].any()
    assert not view.modalities["c"].values.any()
    alone, other, both = pattern[:, 0] & ~pattern[:, 1], ~pattern[:, 0], pattern[:, :2].all(1)
    assert found[alone].min() >= 0
    assert found[alone].max() <= 20
    assert not found[other].any()
    assert found[both].min() >= 70
    assert found[both].max() <= 80
    assert len(found[both].unique()) > 50
    assert abs(alone.float().mean() - 3 / 9) < 0.1


def test_what_is_mixed():
    one = ModalityBatch(torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[True]]))
    other = ModalityBatch(torch.tensor([[4.0, 8.0, 0.0]]), torch.tensor([[True]]))
    share = torch.tensor([0.75])
    assert mixed(one, other, share).values.tolist() == [[1.0, 2.0, 0.75]]
    assert mixed(one, other, share, torch.tensor([True, False, False])).values.tolist() == [[1.0, 0.0, 1.0]]
    assert mixed(one, other._replace(mask=torch.tensor([[False]])), share).values.tolist() == [[0.0, 0.0, 1.0]]
    steps = ModalityBatch(torch.ones(1, 3, 2), torch.tensor([[True, True, False]]))
    others = ModalityBatch(torch.full((1, 3, 2), 5.0), torch.tensor([[True, False, True]]))
    found = mixed(steps, others, share)
    assert found.values[0, :, 0].tolist() == [2.0, 1.0, 1.0]
    assert found.mask.tolist() == [[True, True, False]]


def test_categories_are_no_numbers():
    assert are_numbers(None) is None
    assert are_numbers([0, 1, 1, 1, 2]).tolist() == [True, False, False, False, True]


def test_groups_are_of_the_same_modalities():
    starts, sizes = groups_of(torch.tensor([[True, False], [False, True], [True, False], [True, True]]))
    assert sizes.tolist() == [2, 1, 2, 1]
    assert starts[0] == starts[2]
    assert sorted(set(starts.tolist())) == [0, 1, 3]


def test_the_error_of_features_golden():
    found = {"a": torch.tensor([[1.0, 2.0], [0.0, 0.0]]), "fusion": torch.tensor([[3.0, 0.0], [1.0, 1.0]])}
    due = {"a": torch.tensor([[0.0, 0.0], [9.0, 9.0]]), "fusion": torch.tensor([[3.0, 1.0], [1.0, 1.0]])}
    each = feature_error(found, due, torch.tensor([[True], [False]]), ["a"])
    assert each.tolist() == [(2.5 + 0.5) / 2, 0.0]  # nothing is present in the second


# Forgetting


def planted(n_samples=1200, n_latents=4):
    """Three modalities, each a linear map of latents whose signs are its class, one of 16."""
    rng = np.random.default_rng(0)
    for name in "abc":
        y = rng.integers(2**n_latents, size=n_samples)
        signs = 2.0 * ((y[:, None] >> np.arange(n_latents)) & 1) - 1
        latents = signs + 0.3 * rng.normal(size=signs.shape)
        values = latents @ rng.normal(size=(n_latents, 12))
        yield name, values + 0.3 * rng.normal(size=values.shape), y


def test_a_probe_of_the_first_of_three_modalities_lives_on_with_rehearsal_alone():
    (_, first, y), *others = planted()
    options = {"encoders": "shared", "fusion": "mean", "n_layers": 1, "n_heads": 2, "dropout_rate": 0.0}
    start = MultimodalPretrainer(["reconstruction"], lr=0.01, batch_size=100, **{**SMALL, **options})
    start.set_params(max_epochs=30).partial_fit({"a": first[:600]})
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    probe.fit(start.transform({"a": first[:600]}), y[:600])
    accuracy = {}
    for share in (None, 0.0, 0.05):
        staged = copy.deepcopy(start).set_params(rehearsal=share or 0.0, max_epochs=30)
        for name, values, _ in others if share is not None else ():
            staged.partial_fit({name: values[:600]})
        accuracy[share] = probe.score(staged.transform({"a": first[600:]}), y[600:])
    assert accuracy[None] > 0.9
    assert accuracy[None] - accuracy[0.05] < 0.05
    assert accuracy[None] - accuracy[0.0] > 0.15
