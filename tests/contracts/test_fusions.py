"""What every fusion and every encoder obeys, found by their registries."""

import copy
from itertools import product

import numpy as np
import pytest
import torch
from instances import NET
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import skfusion.encoders
import skfusion.fusion
from skfusion import JointFusionClassifier
from skfusion._build import resolve
from skfusion.encoders import DEFAULTS, ENCODERS
from skfusion.encoders.batch import Batch, ModalityBatch, Tokens
from skfusion.fusion import FUSIONS
from skfusion.fusion.network import FusionNetwork, drop_modalities

WIDTH = 8
SHAPES = {"dense": (6,), "sequence": (9, 6), "image": (3, 8, 8), "volume": (2, 6, 6, 6)}
MODALITIES = pytest.mark.parametrize("n_modalities", [1, 2, 3])
LENGTHS = pytest.mark.parametrize("length", [1, 4])
JUNK = pytest.mark.parametrize("junk", [1e3, float("nan"), float("inf")])


@pytest.fixture(params=FUSIONS)
def fusion_class(request):
    return resolve("fusion", request.param, FUSIONS)


@pytest.fixture(params=[f"{name} {kind}" for name in ENCODERS for kind in resolve("encoder", name, ENCODERS).kinds])
def encoder_and_kind(request):
    name, kind = request.param.split()
    return resolve("encoder", name, ENCODERS), kind


def build_fusion(fusion_class, n_modalities):
    torch.manual_seed(0)
    return fusion_class({f"m{i}": WIDTH for i in range(n_modalities)}, WIDTH, dropout_rate=0.5, n_heads=2).eval()


def build_encoder(encoder_class, kind, **options):
    torch.manual_seed(0)
    return encoder_class(SHAPES[kind], WIDTH, n_hidden=16, dropout_rate=0.5, **options).eval()


def all_patterns(n_modalities):
    """Every pattern of presence, none included, each for three samples."""
    return torch.tensor(list(product([False, True], repeat=n_modalities))).repeat(3, 1)


def draw_tokens(present, length, seed=0):
    """Tokens of which the last is padding in every other sample, where there are several."""
    generator = torch.Generator().manual_seed(seed)
    tokens = {}
    for m in range(present.shape[1]):
        values = torch.randn(len(present), length, WIDTH, generator=generator)
        mask = present[:, [m]].expand(-1, length).clone()
        if length > 1:
            mask[::2, -1] = False
        tokens[f"m{m}"] = Tokens(torch.where(mask.unsqueeze(-1), values, 0.0), mask)
    return tokens


def tensors(output):
    return {"fused": output.fused, **output.heads}


# Fusions


def test_every_fusion_is_importable_by_name_and_cites_its_paper(fusion_class):
    assert issubclass(fusion_class, nn.Module)
    assert getattr(skfusion.fusion, fusion_class.__name__) is fusion_class
    assert fusion_class.__name__ in dir(skfusion.fusion)
    assert "References" in fusion_class.__doc__


@MODALITIES
@LENGTHS
def test_a_fusion_is_finite_and_shaped_for_every_pattern_of_presence(fusion_class, n_modalities, length):
    present = all_patterns(n_modalities)
    output = build_fusion(fusion_class, n_modalities)(draw_tokens(present, length), present)
    assert output.fused.shape == (len(present), WIDTH)
    assert set(output.heads) == {"fusion", "global", *(f"m{i}" for i in range(n_modalities))}
    for name, values in tensors(output).items():
        assert values.ndim == 2, name
        assert len(values) == len(present), name
        assert values.isfinite().all(), name
    assert all(loss.ndim == 0 and loss.isfinite() for loss in output.losses.values())


@MODALITIES
@LENGTHS
@JUNK
def test_what_lies_in_missing_slots_and_padding_is_inert_to_the_bit(fusion_class, n_modalities, length, junk):
    present = all_patterns(n_modalities)
    fusion = build_fusion(fusion_class, n_modalities)
    tokens = draw_tokens(present, length)
    expected = tensors(fusion(tokens, present))
    noisy = {
        name: Tokens(torch.where(mask.unsqueeze(-1), values, junk), mask) for name, (values, mask) in tokens.items()
    }
    found = tensors(fusion(noisy, present))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@LENGTHS
@JUNK
def test_presence_alone_hides_a_modality_whose_tokens_look_real(fusion_class, length, junk):
    # Modality dropout takes a modality from `present` and leaves its tokens as they are.
    present = all_patterns(3)
    fusion = build_fusion(fusion_class, 3)
    tokens = draw_tokens(present, length)
    expected = tensors(fusion(tokens, present))
    looks_real = {
        name: Tokens(torch.where(present[:, [m], None], values, junk), torch.where(present[:, [m]], mask, True))
        for m, (name, (values, mask)) in enumerate(tokens.items())
    }
    found = tensors(fusion(looks_real, present))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("n_modalities", [2, 3])
@LENGTHS
def test_with_one_modality_present_the_output_still_carries_it(fusion_class, n_modalities, length):
    fusion = build_fusion(fusion_class, n_modalities)
    for m in range(n_modalities):
        present = torch.zeros(6, n_modalities, dtype=torch.bool)
        present[:, m] = True
        fused = fusion(draw_tokens(present, length), present).fused
        assert torch.pdist(fused).min() > 1e-4


@MODALITIES
def test_with_every_modality_present_each_one_counts(fusion_class, n_modalities):
    present = torch.ones(4, n_modalities, dtype=torch.bool)
    fusion, tokens = build_fusion(fusion_class, n_modalities), draw_tokens(present, 4)
    expected = fusion(tokens, present).fused
    other = draw_tokens(present, 4, seed=1)
    for name in tokens:
        assert not torch.allclose(fusion({**tokens, name: other[name]}, present).fused, expected, atol=1e-5)


@pytest.mark.parametrize("n_modalities", [2, 3])
@LENGTHS
def test_one_step_changes_every_parameter_of_a_fusion(fusion_class, n_modalities, length):
    fusion = build_fusion(fusion_class, n_modalities)
    present = all_patterns(n_modalities)

    def everything():
        output = fusion(draw_tokens(present, length), present)
        extra = [] if output.second is None else [output.second]
        return torch.cat([*output.heads.values(), *extra], dim=1) + sum(output.losses.values())

    assert_one_step_changes_everything(fusion, everything)


def assert_one_step_changes_everything(module, forward):
    before = copy.deepcopy(dict(module.named_parameters()))
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0) if before else None
    out = forward()
    if optimizer is None:
        assert not out.requires_grad
        return
    (out * torch.randn(out.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    optimizer.step()
    still = [name for name, parameter in module.named_parameters() if torch.equal(parameter, before[name])]
    assert not still


@LENGTHS
def test_gradients_are_finite_for_every_pattern_of_presence(fusion_class, length):
    present = all_patterns(3)
    fusion = build_fusion(fusion_class, 3)
    tokens = {
        name: Tokens(values.requires_grad_(), mask) for name, (values, mask) in draw_tokens(present, length).items()
    }
    fusion(tokens, present).fused.square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in fusion.parameters())
    for m, (values, mask) in enumerate(tokens.values()):
        assert values.grad.isfinite().all()
        assert not values.grad[~mask].any()
        assert not values.grad[~present[:, m]].any()


def test_a_sample_is_fused_by_itself(fusion_class):
    present = all_patterns(3)
    fusion, tokens = build_fusion(fusion_class, 3), draw_tokens(present, 4)
    rows = torch.tensor([5, 1, 6])
    some = {name: Tokens(values[rows], mask[rows]) for name, (values, mask) in tokens.items()}
    torch.testing.assert_close(
        fusion(some, present[rows]).fused, fusion(tokens, present).fused[rows], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("others", [False, True], ids=["alone", "others missing"])
def test_a_single_raw_number_is_carried_with_its_size(fusion_class, others):
    widths = {"number": 1, "b": WIDTH} if others else {"number": 1}
    torch.manual_seed(0)
    fusion = fusion_class(widths, 4 * WIDTH).eval()
    present = torch.tensor([[True, False]] * 5)[:, : len(widths)]
    values = torch.tensor([-2.0, -1.0, 0.5, 1.0, 2.0]).view(5, 1, 1)
    tokens = {"number": Tokens(values, present[:, :1]), "b": Tokens(torch.zeros(5, 1, WIDTH), ~present[:, :1])}
    fused = fusion({name: tokens[name] for name in widths}, present).fused
    assert torch.pdist(fused).min() > 1e-2


def test_modalities_may_have_widths_of_their_own(fusion_class):
    widths = {"a": WIDTH, "b": WIDTH + 3}
    present = torch.ones(2, 2, dtype=torch.bool)
    tokens = {name: Tokens(torch.randn(2, 1, width), present[:, :1]) for name, width in widths.items()}
    assert fusion_class(widths, WIDTH)(tokens, present).fused.shape == (2, WIDTH)


# Encoders


def draw_batch(kind, n_samples=6, seed=0):
    """Some samples of a kind, the last of which lacks it; sequences are padded at the end."""
    values = torch.randn(n_samples, *SHAPES[kind], generator=torch.Generator().manual_seed(seed))
    mask = torch.ones(n_samples, SHAPES[kind][0] if kind == "sequence" else 1, dtype=torch.bool)
    if kind == "sequence":
        mask[::2, -3:] = False
    mask[-1] = False
    real = mask.view(*mask.shape, *[1] * (values.ndim - 2))
    return ModalityBatch(torch.where(real, values, 0.0), mask)


def test_every_encoder_is_importable_by_name(encoder_and_kind):
    encoder_class, _ = encoder_and_kind
    assert issubclass(encoder_class, nn.Module)
    assert getattr(skfusion.encoders, encoder_class.__name__) is encoder_class
    assert encoder_class.__name__ in dir(skfusion.encoders)


def test_the_default_encoder_of_a_kind_takes_that_kind():
    for kind, name in DEFAULTS.items():
        assert kind in resolve("encoder", name, ENCODERS).kinds


@pytest.mark.parametrize("n_layers", [0, 1, 2])
def test_an_encoder_gives_finite_tokens_and_says_which_are_real(encoder_and_kind, n_layers):
    encoder = build_encoder(*encoder_and_kind, n_layers=n_layers)
    values, mask = encoder(draw_batch(encoder_and_kind[1]))
    assert values.shape == (6, mask.shape[1], encoder.n_out)
    assert mask.shape == values.shape[:2]
    assert mask.dtype == torch.bool
    assert values.isfinite().all()
    assert mask[:-1].any(dim=1).all()
    assert not mask[-1].any()


@JUNK
def test_what_lies_in_missing_samples_and_padding_does_not_reach_real_tokens(encoder_and_kind, junk):
    encoder, batch = build_encoder(*encoder_and_kind), draw_batch(encoder_and_kind[1])
    real = batch.mask.view(*batch.mask.shape, *[1] * (batch.values.ndim - 2))
    expected, kept = encoder(batch)
    found, _ = encoder(batch._replace(values=torch.where(real, batch.values, junk)))
    assert torch.equal(found[kept], expected[kept])


def test_an_encoder_tells_samples_apart(encoder_and_kind):
    values, mask = build_encoder(*encoder_and_kind)(draw_batch(encoder_and_kind[1]))
    pooled = torch.where(mask.unsqueeze(-1), values, 0.0).sum(1)[:-1]
    assert torch.pdist(pooled).min() > 1e-4


def test_one_step_changes_every_parameter_of_an_encoder(encoder_and_kind):
    encoder = build_encoder(*encoder_and_kind)
    assert_one_step_changes_everything(encoder, lambda: encoder(draw_batch(encoder_and_kind[1])).values)


def test_sequences_may_have_another_length_than_in_training(encoder_and_kind):
    encoder_class, kind = encoder_and_kind
    if kind != "sequence":
        pytest.skip("no time axis")
    encoder = build_encoder(encoder_class, kind)
    for length in (1, 4, 30):
        batch = ModalityBatch(torch.randn(2, length, SHAPES["sequence"][1]), torch.ones(2, length, dtype=torch.bool))
        assert encoder(batch).values.isfinite().all()


# Both, in the estimator


def separable(kind, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(60) % 2
    values = rng.normal(size=(60, *SHAPES[kind]))
    values.reshape(60, -1)[:, ::2] += 3.0 * y[:, None]
    return values, y


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_joint_classifier_learns_with_every_fusion(fusion):
    X, y = separable("dense")
    X = {"a": X, "b": X[:, :3], "c": X[:, 3:]}
    model = JointFusionClassifier(fusion=fusion, modality_dropout=0.3, **NET).fit(X, y)
    assert model.score(X, y) > 0.9
    for name, values in X.items():
        assert model.score({name: values}, y) > 0.8


@pytest.mark.parametrize("fusion", FUSIONS)
def test_what_one_modality_knows_is_found_in_the_fused_embedding_of_it_alone(fusion):
    rng = np.random.default_rng(0)
    y = np.arange(900) % 3
    X = {name: rng.normal(size=(900, 6)) + 2 * np.eye(3, 6, k=shift)[y] for name, shift in (("a", 0), ("b", 2))}
    train, test = slice(0, 300), slice(300, None)
    model = JointFusionClassifier(fusion=fusion, **{**NET, "max_epochs": 20, "n_latent": 16})
    model.fit({name: values[train] for name, values in X.items()}, y[train])
    for name, values in X.items():
        own = LogisticRegression().fit(values[train], y[train]).score(values[test], y[test])
        embedded = model.transform({name: values})
        assert np.ptp(embedded, axis=0).max() > 1e-3
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(embedded[train], y[train])
        assert probe.score(embedded[test], y[test]) > 0.9 * own


def test_a_joint_classifier_learns_with_every_encoder(encoder_and_kind):
    encoder_class, kind = encoder_and_kind
    name = next(name for name, where in ENCODERS.items() if where.endswith(":" + encoder_class.__name__))
    X, y = separable(kind)
    model = JointFusionClassifier(encoders={"a": name}, **NET).fit({"a": X}, y)
    assert model.score({"a": X}, y) > 0.9


# Modality dropout


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_modality_dropout_drops_at_its_rate(rate):
    n = 40_000
    torch.manual_seed(0)
    dropped = ~drop_modalities(torch.ones(n, 3, dtype=torch.bool), rate)
    # Where all three fall, one is kept.
    expected = rate - rate**3 / 3
    spread = 5 * (expected * (1 - expected) / n) ** 0.5
    assert ((dropped.float().mean(0) - expected).abs() < spread).all()


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_modality_dropout_keeps_one_and_invents_none(rate):
    present = all_patterns(3).repeat(200, 1)
    torch.manual_seed(0)
    kept = drop_modalities(present, rate)
    assert not (kept & ~present).any()
    assert torch.equal(kept.any(1), present.any(1))
    if rate == 0:
        assert torch.equal(kept, present)
    if rate == 1:
        assert torch.equal(kept.sum(1), present.any(1).long())
        chosen = kept[present.all(1)].float().mean(0)
        assert (chosen > 0.25).all()


def test_modality_dropout_does_nothing_in_evaluation():
    encoders = {"a": torch.nn.Identity(), "b": torch.nn.Identity()}
    network = FusionNetwork(encoders, torch.nn.Identity(), modality_dropout=0.9)
    batch = Batch({}, torch.ones(50, 2, dtype=torch.bool))
    torch.manual_seed(0)
    assert network.eval().drop(batch) is batch
    dropped = network.train().drop(batch)
    assert 50 <= dropped.present.sum() < 70
    assert FusionNetwork(encoders, torch.nn.Identity()).train().drop(batch) is batch
