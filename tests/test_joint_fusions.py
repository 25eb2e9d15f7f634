"""Joint estimators over every fusion: tokens that are dropped, a shared encoder, attention maps, and searches."""

import pickle
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skfusion import JointFusionClassifier, JointFusionRegressor, Modalities
from skfusion._build import resolve
from skfusion.datasets import load_basic_motions, load_handwritten
from skfusion.encoders import Identity, Patches
from skfusion.encoders.batch import Tokens
from skfusion.encoders.transformer import attention_weights
from skfusion.fusion import (
    FUSIONS,
    Attention,
    Bottleneck,
    Concat,
    EarlyConcat,
    EverythingAtOnce,
    LowRank,
    MixtureOfExperts,
    OptimalTransport,
    Zorro,
)
from skfusion.fusion.network import drop_tokens
from skfusion.training import attention as looking

SMALL = {"n_hidden": 8, "n_latent": 8, "dropout_rate": 0.1, "max_epochs": 2, "device": "cpu", "random_state": 0}
EVERY = pytest.mark.parametrize("fusion", FUSIONS)
SILENT = {
    "concat",
    "sum",
    "mean",
    "product",
    "gated",
    "tensor",
    "low_rank",
    "select",
    "shared_specific",
    "mixture_of_experts",
    "evidential",
    "unseen",
}
"""Fusions without attention between modalities."""


def classifier(**params):
    return JointFusionClassifier(**{**SMALL, **params})


def tables(n_samples=40, n_modalities=2, seed=0, width=6):
    """Tables that all know the class; every fifth sample lacks the second, another fifth has nothing but that."""
    rng = np.random.default_rng(seed)
    y = np.arange(n_samples) % 2
    X = {name: rng.normal(size=(n_samples, width)) + (2 * y - 1)[:, None] * 0.7 for name in "abcdef"[:n_modalities]}
    X["b"][::5] = np.nan
    for name in X:
        if name != "b":
            X[name][1::5] = np.nan
    return X, y


def n_parameters(*modules):
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


# Tokens that are dropped


def draw_tokens(n_samples=50, length=8, n_real=None):
    values = torch.randn(n_samples, length, 3, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(n_samples, length, dtype=torch.bool)
    if n_real is not None:
        mask[:, :] = False
        places = torch.rand(n_samples, length, generator=torch.Generator().manual_seed(1)).argsort(1)[:, :n_real]
        mask.scatter_(1, places, True)
    return Tokens(values, mask)


@pytest.mark.parametrize("length", [1, 2, 7, 10, 50])
@pytest.mark.parametrize("percent", [1, 30, 42, 50, 70, 99])
def test_so_many_tokens_are_kept(length, percent):
    torch.manual_seed(0)
    expected = -((percent - 100) * length // 100)  # the ceiling, in whole numbers
    values, mask = drop_tokens(draw_tokens(length=length), percent / 100)
    assert values.shape == (50, expected, 3)
    assert mask.shape == (50, expected)


def test_kept_tokens_are_whole_ones_in_their_order_with_their_masks():
    torch.manual_seed(0)
    tokens = draw_tokens(n_real=6)
    values, mask = drop_tokens(tokens, 0.25)
    chosen = set()
    for i in range(50):
        same = (values[i].unsqueeze(1) == tokens.values[i]).all(-1)  # (kept, T)
        assert same.sum(1).tolist() == [1] * 6
        places = same.long().argmax(1)
        assert places.tolist() == sorted(places.tolist())
        assert torch.equal(mask[i], tokens.mask[i, places])
        chosen.add(tuple(places.tolist()))
    assert len(chosen) > 10


def test_every_token_is_dropped_as_often_as_the_others():
    torch.manual_seed(0)
    index = torch.arange(10.0).view(1, 10, 1).expand(20_000, -1, -1)
    kept, _ = drop_tokens(Tokens(index, torch.ones(20_000, 10, dtype=torch.bool)), 0.4)
    share = torch.bincount(kept.flatten().long(), minlength=10) / 20_000
    assert (share - 0.6).abs().max() < 5 * (0.24 / 20_000) ** 0.5


@pytest.mark.parametrize(("n_real", "n_kept"), [(6, 4), (4, 4), (3, 3), (0, 0)])
def test_real_tokens_are_kept_before_padding(n_real, n_kept):
    torch.manual_seed(0)
    _, mask = drop_tokens(draw_tokens(n_real=n_real), 0.5)
    assert mask.shape == (50, 4)
    assert (mask.sum(1) == n_kept).all()


def test_a_single_token_is_left_alone():
    tokens = draw_tokens(length=1)
    assert drop_tokens(tokens, 0.99) is tokens


def test_modalities_of_one_length_lose_the_same_positions():
    # A fusion may add them up position by position.
    X, y = tables(60, width=16, n_modalities=3)
    model = classifier(encoders={"a": "patches", "b": "patches"}, drop_token=0.5).fit(X, y)
    network = model.network_.train()
    for encoder in network.encoders[:2]:
        with torch.no_grad():
            encoder.weight.zero_()
            encoder.bias.copy_(torch.arange(8.0).unsqueeze(1).expand(8, 8))  # a token is its position
    seen = []
    network.fusion.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    full = {name: np.nan_to_num(values) for name, values in X.items()}
    (samples,) = model._tensors(Modalities(full)).iterate(60)
    network(samples.batch)
    a, b = (seen[0][name].values[:, :, 0] for name in "ab")
    assert a.shape == (60, 4)
    assert torch.equal(a, b)
    assert len(torch.unique(a, dim=0)) > 10


class Recording(Concat):
    """Keeps how many tokens came, in training and in evaluation."""

    seen = set()

    def forward(self, tokens, present):
        self.seen.update((self.training, name, t.values.shape[1]) for name, t in tokens.items())
        return super().forward(tokens, present)


@pytest.mark.parametrize(("rate", "kept"), [(0.0, 8), (0.3, 6), (0.5, 4)])
def test_an_estimator_drops_tokens_in_training_alone(rate, kept):
    rng = np.random.default_rng(0)
    X, y = {"a": rng.normal(size=(40, 16)), "b": rng.normal(size=(40, 5))}, np.arange(40) % 2
    Recording.seen.clear()
    model = classifier(fusion=Recording, encoders={"a": "patches"}, drop_token=rate).fit(X, y)
    assert {(name, n) for training, name, n in Recording.seen if training} == {("a", kept), ("b", 1)}
    Recording.seen.clear()
    expected = model.predict_proba(X)
    assert Recording.seen == {(False, "a", 8), (False, "b", 1)}
    np.testing.assert_array_equal(model.predict_proba(X), expected)


@pytest.mark.parametrize("fusion", ["early_concat", "zorro", "early_sum", "optimal_transport"])
def test_tokens_are_dropped_under_fusions_of_tokens(fusion):
    X, y = tables(60, width=16)
    X["c"] = np.random.default_rng(0).normal(size=(60, 8, 3))
    X["c"][::3, 4:] = np.nan
    encoders = {"a": "patches", "b": "patches", "c": "steps"}
    model = classifier(fusion=fusion, encoders=encoders, drop_token=0.5, max_epochs=15, lr=0.01).fit(X, y)
    plain = classifier(fusion=fusion, encoders=encoders, max_epochs=15, lr=0.01).fit(X, y)
    assert model.score(X, y) > 0.8
    assert np.abs(model.predict_proba(X) - plain.predict_proba(X)).max() > 1e-3


# One encoder for all


def four_kinds(n_samples=30):
    rng = np.random.default_rng(0)
    y = np.arange(n_samples) % 2
    side = 2 * y - 1
    return {
        "table": rng.normal(size=(n_samples, 9)) + side[:, None],
        "steps": rng.normal(size=(n_samples, 6, 2)) + side[:, None, None],
        "image": rng.normal(size=(n_samples, 1, 8, 8)) + side[:, None, None, None],
        "scan": rng.normal(size=(n_samples, 1, 4, 4, 4)) + side[:, None, None, None, None],
    }, y


def test_a_further_modality_costs_a_shared_encoder_its_tokenizer_alone():
    networks = {}
    for n_modalities in (2, 3, 6):
        X, y = tables(n_modalities=n_modalities)
        networks[n_modalities] = classifier(encoders="shared", fusion="mean", n_layers=2).fit(X, y).network_
    trunks = {n_parameters(network.trunk) for network in networks.values()}
    assert len(trunks) == 1
    (trunk,) = trunks
    tokenizer = n_parameters(networks[2].encoders[0])
    assert trunk > 5 * tokenizer
    for n_modalities, network in networks.items():
        assert n_parameters(network) == n_parameters(networks[2]) + (n_modalities - 2) * tokenizer


def test_with_a_fusion_of_its_own_embeddings_the_trunk_still_is_one():
    networks = []
    for n_modalities in (2, 3):
        X, y = tables(n_modalities=n_modalities)
        networks.append(classifier(encoders="shared", fusion="zorro").fit(X, y).network_)
    two, three = networks
    # A modality's embedding, query and head in zorro, and its tokenizer.
    grown = n_parameters(three) - n_parameters(two)
    assert grown == n_parameters(three.encoders[2]) + 2 * 8 + n_parameters(three.heads[2])


def test_the_same_trunk_serves_all_modalities_of_whatever_kind():
    X, y = four_kinds()
    model = classifier(encoders="shared", max_epochs=20, lr=0.01).fit(X, y)
    calls = []
    handle = model.network_.trunk.register_forward_hook(lambda module, args, out: calls.append((module, out.shape[1])))
    expected = {name: model.embed(X, name) for name in X}
    handle.remove()
    assert [module for module, _ in calls] == [model.network_.trunk] * 16
    assert len({length for _, length in calls}) > 2
    assert model.score(X, y) > 0.9
    with torch.no_grad():
        model.network_.trunk.blocks[0].feed_forward.layers[0].weight.mul_(3.0)
    for name, embedding in expected.items():
        assert np.abs(model.embed(X, name) - embedding).max() > 1e-3


def test_every_modality_teaches_the_shared_trunk():
    X, y = four_kinds()
    network = classifier(encoders="shared").fit(X, y).network_.train()
    model = classifier(encoders="shared").fit(X, y)
    (samples,) = model._tensors(Modalities(X)).iterate(100)
    for name in X:
        network.zero_grad()
        network(samples.batch).heads[name].square().sum().backward()
        assert network.trunk.blocks[0].attention.qkv.weight.grad.abs().max() > 0


@pytest.mark.parametrize("make", [JointFusionClassifier, JointFusionRegressor])
def test_a_shared_encoder_is_pickled_and_cloned(make):
    X, y = four_kinds()
    model = make(encoders="shared", **SMALL).fit(X, y)
    expected = model.predict(X)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(X), expected)
    np.testing.assert_array_equal(clone(model).fit(X, y).predict(X), expected)


def test_missing_modalities_do_not_reach_a_shared_encoder():
    X, y = four_kinds()
    model = classifier(encoders="shared", fusion="early_concat").fit(X, y)
    present = np.ones((30, 4), dtype=bool)
    present[::3, 1], present[1::3, 0], present[2::3, 3] = False, False, False
    found = []
    for junk in (0.0, 1e3, np.nan):
        noisy = {name: values.copy() for name, values in X.items()}
        for column, values in enumerate(noisy.values()):
            values[~present[:, column]] = junk
        found.append(model.predict_proba(Modalities(noisy, present=present)))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    assert np.isfinite(found[0]).all()


def test_steps_that_pad_a_sequence_do_not_reach_a_shared_encoder():
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    steps = rng.normal(size=(40, 6, 2)) + y[:, None, None]
    steps[::2, 4:] = np.nan
    longer = np.concatenate([steps, np.full((40, 5, 2), np.nan)], axis=1)
    model = classifier(encoders="shared", n_layers=2).fit({"steps": steps}, y)
    np.testing.assert_allclose(model.predict_proba({"steps": longer}), model.predict_proba({"steps": steps}), atol=1e-6)


def test_other_encoders_share_nothing():
    X, y = tables()
    assert classifier().fit(X, y).network_.trunk is None
    assert classifier(encoders={"a": "patches"}).fit(X, y).network_.trunk is None


# Attention maps


def three_tables():
    """Six samples: the first two have everything, then b, then b and c, then a, then all three are missing."""
    X = {name: values[:6] for name, values in tables(n_modalities=3, seed=1)[0].items()}
    rng = np.random.default_rng(5)
    X = {name: rng.normal(size=values.shape) for name, values in X.items()}
    for row, missing in ((2, "b"), (3, "bc"), (4, "a"), (5, "abc")):
        for name in missing:
            X[name][row] = np.nan
    there = np.array([[not np.isnan(X[name][row, 0]) for name in "abc"] for row in range(6)])
    return X, there


def fitted(fusion, **params):
    X, y = tables(n_modalities=3)
    return classifier(**{"fusion": fusion, "encoders": "patches", **params}).fit(X, y)


@pytest.mark.parametrize("fusion", [name for name in FUSIONS if name not in SILENT])
def test_maps_say_who_attended_to_whom_and_rows_add_up_to_1(fusion):
    model, (X, there) = fitted(fusion), three_tables()
    expected = model.predict_proba(X)
    found = model.attention_maps(X)
    names, maps = found.names, found.maps
    extra = {"attention": ["global"], "early_sum": ["fusion"], "bottleneck": ["fusion"]}
    extra |= {name: ["fusion", "global"] for name in ("drfuse", "zorro")}
    assert names == ["a", "b", "c", *extra.get(fusion, [])]
    assert maps.shape == (6, len(names), len(names))
    assert maps.dtype == np.float32
    asked = ~np.isnan(maps).any(axis=2)
    assert (np.isnan(maps).all(axis=2) == ~asked).all()
    np.testing.assert_allclose(maps[asked].sum(axis=1), 1, rtol=1e-5)
    assert (maps[asked] >= 0).all()
    # Nobody attends to what is missing, and what is missing attends to nobody.
    for row, m in zip(*np.nonzero(~there)):
        assert np.isnan(maps[row, m]).all()
        assert not np.nansum(maps[row, :, m])
    if fusion not in ("attention", "early_sum", "drfuse"):
        assert asked[:, :3].tolist() == there.tolist()
    # The mean runs over the samples that have the row's modality.
    assert list(found.mean.index) == list(found.mean.columns) == names
    for m, name in enumerate(names):
        rows = maps[asked[:, m], m]
        expected_row = rows.mean(axis=0) if len(rows) else np.full(len(names), np.nan)
        np.testing.assert_allclose(found.mean.loc[name], expected_row, rtol=1e-5)
    # Looking changes nothing.
    np.testing.assert_array_equal(model.predict_proba(X), expected)
    again = model.attention_maps(X)
    np.testing.assert_array_equal(again.maps, maps)
    assert all(getattr(part, "attended", None) is None for part in model.network_.modules())
    # A sample's map is its own.
    np.testing.assert_allclose(
        model.attention_maps({name: values[[2]] for name, values in X.items()}).maps[0][:3, :3],
        maps[2][:3, :3],
        atol=1e-5,
    )


@pytest.mark.parametrize("fusion", sorted(SILENT))
def test_a_fusion_without_attention_names_those_that_have_it(fusion):
    with pytest.raises(ValueError, match=rf"fusion='{fusion}' has no attention to show.*'cross_attention', 'zorro'"):
        fitted(fusion).attention_maps(three_tables()[0])


def test_zorro_s_map_shows_no_attention_between_modalities():
    (X, there), model = three_tables(), fitted("zorro")
    maps = model.attention_maps(X).maps
    for row, m in zip(*np.nonzero(there)):
        np.testing.assert_allclose(maps[row, m], np.eye(5)[m], atol=1e-6)
    fusion, overall = maps[:2, 3], maps[:2, 4]
    assert (fusion[:, :4] > 0).all()
    assert (overall[:, :4] > 0).all()
    assert not np.nansum(maps[:, :, 4])


def test_cross_attention_asks_the_others_and_itself_only_where_it_is_alone():
    X, there = three_tables()
    maps = fitted("cross_attention").attention_maps(X).maps
    for row in range(5):
        alone = there[row].sum() == 1
        for m in np.flatnonzero(there[row]):
            assert maps[row, m, m] == pytest.approx(float(alone), abs=1e-6)
            partners = np.flatnonzero(there[row] & (np.arange(3) != m))
            np.testing.assert_allclose(maps[row, m, partners], 1 / max(len(partners), 1), rtol=1e-5)


def test_a_bottleneck_passes_everything_through_its_fusion_tokens():
    X, _ = three_tables()
    maps = fitted("bottleneck").attention_maps(X).maps
    own = maps[0][:3, :3]
    assert not (own * (1 - np.eye(3))).any()
    assert (maps[0][:3, 3] > 0).all()
    assert (maps[0][3, :3] > 0).all()


def test_everything_at_once_counts_every_subset_alike():
    X, _ = three_tables()
    model = fitted("everything_at_once", encoders="auto")
    maps = model.attention_maps(X).maps
    off = ~np.eye(3, dtype=bool)
    # A modality is in {a}, {a, b} and {a, c}, and attends to another in one of three.
    assert (maps[:2][:, off] > 0).all()
    assert (maps[:2][:, off] < 1 / 3).all()
    with torch.no_grad():
        model.network_.fusion.block.attention.qkv.weight.zero_()
        model.network_.fusion.block.attention.qkv.bias.zero_()
    maps = model.attention_maps(X).maps
    np.testing.assert_allclose(maps[0], np.where(off, 1 / 6, 2 / 3), rtol=1e-5)
    np.testing.assert_allclose(maps[3, 0], [1, 0, 0])


def test_a_map_is_the_attention_of_one_layer_and_the_mean_over_several():
    X, _ = three_tables()
    X = {name: values[:2] for name, values in X.items()}
    model = fitted("early_concat", encoders="auto", n_fusion_layers=3, n_heads=2)
    blocks, inputs = model.network_.fusion.mixer.blocks, []
    handles = [
        block.attention.register_forward_pre_hook(lambda module, args: inputs.append((module, args[0].clone())))
        for block in blocks
    ]
    model.predict(X)
    for handle in handles:
        handle.remove()
    by_layer = []
    for attention, x in inputs:
        with torch.inference_mode():
            query, key, _ = attention.project(x[:2])
            by_layer.append(attention_weights(query, key, None).mean(1).numpy())
    assert len(by_layer) == 3
    assert np.ptp(by_layer, axis=0).max() > 1e-3
    np.testing.assert_allclose(model.attention_maps(X).maps, np.mean(by_layer, axis=0), atol=1e-6)


@pytest.mark.parametrize("fusion", ["zorro", "everything_at_once"])
def test_maps_of_many_samples_come_in_order(fusion):
    rng = np.random.default_rng(0)
    X = {name: rng.normal(size=(1040, 6)) for name in "abc"}
    X["b"][::3] = np.nan
    model = fitted(fusion)
    maps = model.attention_maps(X).maps
    assert len(maps) == 1040
    last = model.attention_maps({name: values[1020:] for name, values in X.items()}).maps
    np.testing.assert_allclose(maps[1020:], last, atol=1e-5)


def test_maps_are_made_a_few_samples_at_a_time(monkeypatch):
    # Weights of all layers are kept until a chunk is through, and grow with the square of the tokens.
    sizes, by_modality = [], looking.by_modality
    monkeypatch.setattr(
        looking, "by_modality", lambda record, n: sizes.append(len(record.weights)) or by_modality(record, n)
    )
    rng = np.random.default_rng(0)
    model = fitted("early_concat")
    maps = model.attention_maps({name: rng.normal(size=(1040, 6)) for name in "abc"}).maps
    assert len(maps) == 1040
    assert max(sizes) == 64


def test_maps_of_an_unfitted_estimator_raise():
    with pytest.raises(NotFittedError):
        classifier(fusion="zorro").attention_maps(three_tables()[0])


# What networks compute in, and compiled training


@EVERY
def test_bf16_computes_nearly_what_float32_does(fusion):
    X, y = tables(60, n_modalities=3)
    model = classifier(fusion=fusion, encoders="patches", max_epochs=12, lr=0.01, unimodal_heads=True).fit(X, y)
    heads = ["fusion", *model.network_.head_names]
    expected = {head: model.predict_proba(X, head) for head in heads}
    embedding = model.transform(X)
    assert np.ptp(expected["fusion"][:, 0]) > 0.1
    model.net_.precision = "bf16"
    fuses_by_layers = n_parameters(model.network_.fusion) > 0
    for head in heads:
        apart = np.abs(model.predict_proba(X, head) - expected[head]).max()
        assert apart < 2e-2, head
        assert apart > 0 or head != "fusion" or not fuses_by_layers
    assert model.transform(X).dtype == np.float32
    apart = np.abs(model.transform(X) - embedding).max()
    assert apart < 0.2
    assert apart > 0 or not fuses_by_layers


@EVERY
def test_bf16_trains(fusion):
    X, y = tables(60)
    model = classifier(fusion=fusion, encoders="patches", precision="bf16", max_epochs=8, lr=0.01).fit(X, y)
    assert {parameter.dtype for parameter in model.network_.parameters()} == {torch.float32}
    losses = model.history_[:, "train_loss"]
    assert np.isfinite(losses).all()
    # A fusion's own criterion may grow stricter as training goes on.
    assert losses[-1] < losses[0] or hasattr(model.network_.fusion, "criterion")
    assert model.score(X, y) > 0.65
    stored = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(stored.predict_proba(X), model.predict_proba(X))


def test_maps_in_bf16_are_maps_too():
    X, there = three_tables()
    maps = fitted("early_concat", precision="bf16").attention_maps(X).maps
    assert maps.dtype == np.float32
    np.testing.assert_allclose(maps[:, :, :][there].sum(axis=-1), 1, atol=2e-2)


@pytest.mark.parametrize("params", [{"precision": "float16"}, {"precision": None}, {"compile": "yes"}])
def test_unknown_precision_raises(params):
    ((name, value),) = params.items()
    with pytest.raises(ValueError, match=f"The '{name}' parameter of JointFusionClassifier must be .* Got {value!r}"):
        classifier(**params).fit(*tables())


def test_training_goes_through_what_torch_compiles_and_prediction_does_not(monkeypatch):
    # The compiler itself takes half a minute; what it is given and when it is called is seen without it.
    calls = []

    def fake(target, **options):
        def compiled(*args):
            calls.append(len(args[0]))
            return target(*args)

        return compiled

    monkeypatch.setattr(torch, "compile", fake)
    X, y = tables()
    model = classifier(compile=True, early_stopping=True, warm_start=True, batch_size=20).fit(X, y)
    assert calls == [20, 20] * 2
    expected = model.predict_proba(X)
    assert len(calls) == 4
    np.testing.assert_array_equal(classifier(batch_size=20).fit(X, y).predict_proba(X), expected)
    stored = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(stored.predict_proba(X), expected)
    stored.fit(X, y)
    assert len(calls) == 8
    assert clone(model).compile


# Fusions as classes, and what does not fit


def test_a_fusion_may_come_as_a_class_or_a_partial():
    X, y = tables()
    by_name = classifier(fusion="zorro").fit(X, y)
    by_class = clone(classifier(fusion=Zorro)).fit(X, y)
    np.testing.assert_array_equal(by_class.predict_proba(X), by_name.predict_proba(X))
    model = clone(classifier(fusion=partial(Zorro, n_fusion_tokens=2))).fit(X, y)
    assert len(model.network_.fusion.fusion_tokens) == 2
    assert len(by_class.network_.fusion.fusion_tokens) == 4
    stored = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(stored.predict_proba(X), model.predict_proba(X))
    assert model.network_.head_names == ["a", "b", "global"]


def test_a_partial_sets_what_the_estimator_would():
    X, y = tables()
    model = classifier(fusion=partial(EarlyConcat, n_fusion_layers=1), n_fusion_layers=3).fit(X, y)
    assert len(model.network_.fusion.mixer.blocks) == 1


def test_fusions_are_searched_by_name_by_class_and_as_partials():
    X, y = tables(60)
    fusions = ["concat", EarlyConcat, partial(Zorro, n_fusion_tokens=2)]
    grid = {"fusion": fusions, "unimodal_heads": [False, True]}
    search = GridSearchCV(classifier(), grid, cv=2, error_score="raise").fit(Modalities(X), y)
    assert len(search.cv_results_["params"]) == 6
    assert search.best_estimator_.fusion in fusions
    assert search.predict(Modalities(X)).shape == (60,)


@pytest.mark.parametrize(
    ("fusion", "message"),
    [
        (partial(LowRank, rank=0), "rank is 0; due is a whole number of at least 1"),
        (partial(LowRank, rank=2.5), "rank is 2.5; due is a whole number"),
        (partial(MixtureOfExperts, n_experts=0), "n_experts is 0; due is a whole number of at least 1"),
        (partial(MixtureOfExperts, n_active=-1), "n_active is -1; due is a whole number of at least 1"),
        (partial(Zorro, n_fusion_tokens=0), "n_fusion_tokens is 0; due is a whole number of at least 1"),
        (partial(Zorro, n_fusion_tokens=True), "n_fusion_tokens is True; due is a whole number"),
        (partial(Bottleneck, n_fusion_tokens=-1), "n_fusion_tokens is -1; due is a whole number of at least 0"),
        (partial(OptimalTransport, epsilon=0.0), "epsilon is 0.0; due is a number above 0"),
        (partial(OptimalTransport, epsilon=float("nan")), "epsilon is nan; due is a number above 0"),
        (partial(OptimalTransport, n_iter=0), "n_iter is 0; due is a whole number of at least 1"),
        (partial(EverythingAtOnce, max_subset=0), "max_subset is 0; due is a whole number of at least 1"),
        (partial(Attention, n_heads=0), "n_heads=0 does not divide n_latent=8; due is a divisor"),
        (partial(EarlyConcat, n_heads=0), "n_heads=0 does not divide n_latent=8; due is a divisor"),
    ],
)
def test_an_option_out_of_bounds_says_what_is_due(fusion, message):
    with pytest.raises(ValueError, match=message):
        classifier(fusion=fusion).fit(*tables())


@pytest.mark.parametrize("encoder", [partial(Patches, patch_sise=2), partial(Identity, patch_sise=2)])
def test_a_mistyped_option_of_an_encoder_raises(encoder):
    with pytest.raises(TypeError, match=rf"{encoder.func.__name__} has no parameter 'patch_sise'; due is one of \["):
        classifier(encoders={"a": encoder}).fit(*tables())
    # What every encoder is handed it takes, whether it uses it or not.
    assert classifier(encoders={"a": partial(encoder.func, n_hidden=4)}).fit(*tables()).n_iter_ == 2


def test_an_option_without_a_star_before_it_can_be_set():
    class Doubled(Concat):
        def __init__(self, widths, n_latent, factor=1.0, **options):
            super().__init__(widths, n_latent, **options)
            self.factor = factor

    model = classifier(fusion=partial(Doubled, factor=2.0)).fit(*tables())
    assert model.network_.fusion.factor == 2.0
    with pytest.raises(
        TypeError, match=r"Doubled has no parameter 'widhts'; due is one of \['dropout_rate', 'factor', "
    ):
        classifier(fusion=partial(Doubled, widhts=2)).fit(*tables())


@EVERY
def test_heads_that_do_not_divide_the_width_raise_both_numbers(fusion):
    X, y = tables()
    model = classifier(fusion=fusion, n_heads=3)
    if fusion in SILENT - {"unseen"}:
        assert model.fit(X, y).n_iter_ == 2
        return
    with pytest.raises(ValueError, match="n_heads=3 does not divide n_latent=8; due is a divisor"):
        model.fit(X, y)


def test_early_sum_of_unequally_many_tokens_names_the_counts():
    X, y = tables(width=16)
    X["b"] = X["b"][:, :3]
    with pytest.raises(ValueError, match=r"the modalities have \{'a': 8, 'b': 3\} of them. Use early_concat, or"):
        classifier(fusion="early_sum", encoders="patches").fit(X, y)
    assert classifier(fusion="early_sum", encoders={"a": "patches"}).fit(X, y).n_iter_ == 2


@pytest.mark.parametrize("as_lists", [False, True])
def test_ragged_sequences_are_to_be_padded_with_nan(as_lists):
    X, y = tables()
    rng = np.random.default_rng(0)
    ragged = [rng.normal(size=(3 + i % 4, 2)) for i in range(40)]
    X["s"] = [values.tolist() for values in ragged] if as_lists else ragged
    with pytest.raises(ValueError, match=r"modality 's' .*[Pp]ad sequences.* with NaN to one array \(samples, time, c"):
        classifier().fit(X, y)
    padded = np.full((40, 6, 2), np.nan)
    for row, values in zip(padded, ragged):
        row[: len(values)] = values
    assert classifier().fit({**X, "s": padded}, y).n_iter_ == 2


# Searches over all fusions


def all_fusions(X, y, **params):
    search = GridSearchCV(classifier(**params), {"fusion": list(FUSIONS)}, cv=2, error_score="raise", refit=False)
    scores = search.fit(X, y).cv_results_["mean_test_score"]
    assert len(scores) == len(FUSIONS)
    assert np.isfinite(scores).all()
    return dict(zip(FUSIONS, scores))


def test_every_fusion_is_searched_over_on_sequences():
    X, y = load_basic_motions(return_X_y=True)
    thinned = {by: Modalities({name: X[name][:, ::by] for name in X.names}) for by in (4, 20)}
    assert max(all_fusions(thinned[4], y, lr=0.01).values()) > 0.3
    all_fusions(thinned[20], y, encoders="steps")


@pytest.mark.parametrize("names", [["fac", "zer", "mor"], ["fou", "fac", "kar", "pix", "zer", "mor"]])
def test_every_fusion_is_searched_over_on_tables(names):
    X, y = load_handwritten(return_X_y=True)
    rows = np.arange(0, 2000, 20)
    all_fusions(X[rows].select(names), y[rows])


def test_every_fusion_is_searched_over_on_tables_and_sequences_together():
    rng = np.random.default_rng(0)
    X, y = tables(30)
    X["s"] = rng.normal(size=(30, 6, 2)) + y[:, None, None]
    X["s"][::2, 4:] = np.nan
    X["s"][3] = np.nan
    all_fusions(Modalities(X), y, max_epochs=1, encoders={"s": "steps"}, modality_dropout=0.2, unimodal_heads=True)


@EVERY
def test_what_one_of_three_sequences_knows_is_found_in_the_fused_embedding_of_it_alone(fusion):
    rng = np.random.default_rng(0)
    y = np.arange(600) % 3
    X = {name: rng.normal(size=(600, 4, 3)) + 1.2 * np.eye(3)[(y + k) % 3][:, None] for k, name in enumerate("abc")}
    train, test = slice(0, 300), slice(300, None)
    model = classifier(fusion=fusion, encoders="steps", n_latent=16, lr=0.02, max_epochs=8, batch_size=64)
    model.fit({name: values[train] for name, values in X.items()}, y[train])
    for name, values in X.items():
        steps = values.mean(axis=1)
        own = LogisticRegression().fit(steps[train], y[train]).score(steps[test], y[test])
        embedded = model.transform({name: values})
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(embedded[train], y[train])
        assert probe.score(embedded[test], y[test]) > 0.9 * own


@EVERY
def test_every_fusion_is_a_regressor_too_unless_it_says_that_it_classifies_only(fusion):
    X, y = tables(60, n_modalities=3)
    model = JointFusionRegressor(**{**SMALL, "fusion": fusion, "max_epochs": 15, "lr": 0.02})
    if getattr(resolve("fusion", fusion, FUSIONS), "classifies_only", False):
        with pytest.raises(ValueError, match=f"fusion is '{fusion}'.*JointFusionRegressor learns no classes"):
            model.fit(X, 5.0 + y)
        return
    assert model.fit(X, 5.0 + y).score(X, 5.0 + y) > 0.2


def test_every_fusion_is_pickled_and_goes_on():
    X, y = tables()
    for fusion in FUSIONS:
        model = classifier(fusion=fusion, max_epochs=1).fit(X, y)
        stored = pickle.loads(pickle.dumps(model))
        np.testing.assert_array_equal(stored.predict_proba(X), model.predict_proba(X), err_msg=fusion)
        np.testing.assert_array_equal(
            stored.partial_fit(X, y).predict_proba(X), model.partial_fit(X, y).predict_proba(X), err_msg=fusion
        )


def test_every_pair_of_fusion_and_kind_of_tokens_trains():
    rng = np.random.default_rng(0)
    X, y = tables(20)
    X["s"] = rng.normal(size=(20, 5, 2))
    X["s"][::2, 3:] = np.nan
    for fusion, encoders in product(FUSIONS, ("shared", "auto")):
        if fusion == "early_sum" and encoders == "shared":
            continue  # as many tokens are due of each
        model = classifier(fusion=fusion, encoders=encoders, max_epochs=1).fit(X, y)
        assert np.isfinite(model.predict_proba(X)).all(), (fusion, encoders)
