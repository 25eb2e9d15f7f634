"""What was learnt without labels goes on: into joint fusion, early fusion and imputation; frozen or fine-tuned."""

import copy

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from skorch.callbacks import Callback
from torch import nn

from skfusion import (
    EarlyFusionTransformer,
    JointFusionClassifier,
    JointFusionRegressor,
    Modalities,
    ModalityImputer,
    MultimodalPretrainer,
)
from skfusion.encoders import MLP, Conv1d
from skfusion.encoders.transformer import Transformer
from skfusion.fusion.network import layers, layers_below

SMALL = {"n_hidden": 16, "n_latent": 8, "dropout_rate": 0.2, "n_heads": 2, "n_fusion_layers": 1, "device": "cpu"}
SMALL |= {"lr": 0.01, "max_epochs": 2, "random_state": 0}
STILL = {"optimizer": torch.optim.SGD, "scheduler": None, "lr": 1e-12, "weight_decay": 0.0}
pytestmark = pytest.mark.filterwarnings("ignore:batches of .* samples hold about:UserWarning")


def draw(n_samples=60, seed=0):
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(n_samples, 3))
    maps = np.random.default_rng(9)
    X = {name: latent @ maps.normal(size=(3, width)) for name, width in {"rna": 6, "protein": 4, "labs": 3}.items()}
    return X, (latent[:, 0] > 0).astype(int)


def part(X, *names):
    return {name: X[name] for name in names}


def pretrainer(**params):
    return MultimodalPretrainer(**{**SMALL, **params})


def joint(**params):
    return JointFusionClassifier(**{**SMALL, **params})


X, Y = draw()
PAIR = part(X, "rna", "protein")


@pytest.fixture(scope="module")
def source():
    """A pretrainer that was fitted on other samples."""
    return pretrainer().fit(part(draw(seed=1)[0], "rna", "protein"))


def state(module):
    return copy.deepcopy(module.state_dict())


def same(left, right):
    return list(left) == list(right) and all(torch.equal(left[key], right[key]) for key in left)


# Joint fusion


class Recording(MultimodalPretrainer):
    """Notes the samples that it is fitted on."""

    seen: list = []

    def fit(self, X, y=None):
        Recording.seen.append(X["rna"][:, 0].tolist())
        return super().fit(X, y)


def test_a_pretrainer_is_fitted_on_the_training_data_and_its_weights_are_the_start():
    Recording.seen.clear()
    given = Recording(**{**SMALL, "max_epochs": 1})
    model = joint(pretrained=given, fusion="zorro", **STILL).fit(PAIR, Y)
    assert Recording.seen == [PAIR["rna"][:, 0].tolist()]
    assert not hasattr(given, "net_")
    fitted = pretrainer(max_epochs=1).fit(PAIR)
    for ours, theirs in zip(
        (*model.network_.encoders, model.network_.fusion), (*fitted.network_.encoders, fitted.network_.fusion)
    ):
        for (name, tensor), other in zip(state(ours).items(), state(theirs).values()):
            torch.testing.assert_close(tensor, other, rtol=1e-6, atol=1e-9, msg=name)


def test_a_frozen_pretrainer_is_the_start_and_stays_as_it_was(source):
    before = state(source.network_)
    model = joint(pretrained=FrozenEstimator(source), fusion="zorro", **STILL).fit(PAIR, Y)
    assert model.preprocessors_["rna"] is source.preprocessors_["rna"]
    assert same(state(model.network_.fusion), state(source.network_.fusion))
    trained = joint(pretrained=FrozenEstimator(source), fusion="zorro").fit(PAIR, Y)
    assert not same(state(trained.network_.fusion), state(source.network_.fusion))
    assert same(state(source.network_), before)


def test_the_fusion_of_pretrained_is_taken_whatever_it_is(source):
    kept = {"pretrained": FrozenEstimator(source), "freeze": True}
    by_name, by_class = (joint(fusion=fusion, **kept).fit(PAIR, Y) for fusion in ("pretrained", "zorro"))
    for model in (by_name, by_class):
        assert same(state(model.network_.fusion), state(source.network_.fusion))
    for head in ("fusion", "global", "rna"):
        # The weights are the same to the bit; sums of float32 may go in another order.
        np.testing.assert_allclose(by_name.embed(PAIR, head), source.embed(PAIR, head), rtol=1e-5, atol=1e-6)


def test_the_default_fusion_is_new_after_a_pretrainer(source):
    model = joint(pretrained=FrozenEstimator(source), **STILL).fit(PAIR, Y)
    assert type(model.network_.fusion).__name__ == "Concat"
    assert same(state(model.network_.encoders), state(source.network_.encoders))


@pytest.mark.parametrize("names", [["protein"], ["protein", "rna"]])
def test_pretrained_knows_modalities_that_are_not_there_or_in_another_order(source, names):
    model = joint(pretrained=FrozenEstimator(source), fusion="pretrained", freeze=True)
    some = part(X, *names)
    model.fit(some, Y)
    assert list(model.embedding_means_) == [*names, "fusion", "global"]
    for head in model.embedding_means_:
        np.testing.assert_allclose(model.embed(some, head), source.embed(some, head), atol=1e-6)
    maps = model.attention_maps(some)
    assert maps.names == [*names, "fusion", "global"]
    expected = source.attention_maps(some).mean.loc[maps.names, maps.names]
    np.testing.assert_allclose(maps.mean, expected, atol=1e-6)


def test_a_modality_that_pretrained_does_not_know_has_an_encoder_of_its_own(source):
    model = joint(pretrained=FrozenEstimator(source), freeze="encoders").fit(X, Y)
    kept = [same(state(own), state(theirs)) for own, theirs in zip(model.network_.encoders, source.network_.encoders)]
    assert kept == [True, True]
    assert model.network_.frozen == ["encoders.0", "encoders.1"]
    with pytest.raises(ValueError, match=r"pretrained knows \['rna', 'protein'\] alone, and X has \['labs'\] as well"):
        joint(pretrained=FrozenEstimator(source), fusion="pretrained").fit(X, Y)


def test_widths_that_do_not_fit_raise_what_to_set(source):
    frozen = FrozenEstimator(source)
    with pytest.raises(ValueError, match="embeddings are 8 wide, but n_latent is 12; set n_latent=8"):
        joint(pretrained=frozen, fusion="pretrained", n_latent=12).fit(PAIR, Y)
    for other in ({"n_latent": 12}, {"n_heads": 4}, {"n_fusion_layers": 2}):
        with pytest.raises(ValueError, match="fusion of pretrained is Zorro as well, but of another size"):
            joint(pretrained=frozen, fusion="zorro", **other).fit(PAIR, Y)
    joint(pretrained=frozen, n_latent=12, max_epochs=1).fit(PAIR, Y)  # a map adapts the encoders
    with pytest.raises(ValueError, match=r"modality 'rna' is .* of 4 features, but pretrained was fitted on .* of 6"):
        joint(pretrained=frozen).fit({"rna": X["protein"]}, Y)


def test_what_is_no_network_is_not_handed_over():
    with pytest.raises(TypeError, match=r"pretrained is FrozenEstimator.*, which has no network_"):
        joint(pretrained=FrozenEstimator(LogisticRegression().fit(X["rna"], Y))).fit(PAIR, Y)
    for given in (LogisticRegression(), EarlyFusionTransformer(), "zorro"):
        for model in (joint(pretrained=given), pretrainer(pretrained=given)):
            with pytest.raises(TypeError, match=r"pretrained is .*, which has no network_; due is a joint estimator"):
                model.fit(PAIR, Y)
    with pytest.raises(ValueError, match="fusion is 'pretrained', but pretrained is None"):
        joint(fusion="pretrained").fit(PAIR, Y)


def test_what_needs_labels_goes_on_without_them_if_frozen():
    with pytest.raises(
        ValueError, match="pretrained is a JointFusionClassifier, which learns from labels, and there are none here"
    ):
        pretrainer(pretrained=joint()).fit(PAIR)
    fitted = joint().fit(PAIR, Y)
    found = pretrainer(pretrained=FrozenEstimator(fitted), **STILL).fit(PAIR)
    assert same(state(found.network_.encoders), state(fitted.network_.encoders))


def test_a_source_that_knows_none_of_the_modalities_is_refused(source):
    with pytest.raises(
        ValueError, match=r"pretrained knows the modalities \['rna', 'protein'\], and X has none of them"
    ):
        joint(pretrained=FrozenEstimator(source)).fit({"blood": X["labs"]}, Y)


def test_seed_and_device_are_handed_to_what_is_fitted_here():
    given = pretrainer(random_state=None, device="auto")
    one, other = (joint(pretrained=given, fusion="pretrained").fit(PAIR, Y) for _ in range(2))
    np.testing.assert_array_equal(one.transform(PAIR), other.transform(PAIR))
    assert given.random_state is None
    assert given.device == "auto"


# Freezing


class Modes(Callback):
    """Notes which parts drop units in training, and which want a gradient."""

    def on_grad_computed(self, net, named_parameters=None, training=None, **kwargs):
        network = net.module_
        self.training_ = [network.encoders[0].training, network.encoders[1].training, network.fusion.training]
        self.with_gradient_ = {name.split(".")[0] for name, p in named_parameters if p.grad is not None}


@pytest.mark.parametrize(
    ("freeze", "training", "learning"),
    [
        (True, [False, False, False], {"head", "heads"}),
        ("encoders", [False, False, True], {"fusion", "head", "heads"}),
        (["protein"], [True, False, True], {"encoders", "fusion", "head", "heads"}),
        (False, [True, True, True], {"encoders", "fusion", "head", "heads"}),
    ],
)
def test_what_is_frozen_keeps_its_weights_runs_without_dropout_and_gets_no_gradient(source, freeze, training, learning):
    frozen = {"pretrained": FrozenEstimator(source), "fusion": "pretrained", "freeze": freeze}
    model = joint(callbacks=[Modes()], weight_decay=0.5, **frozen).fit(PAIR, Y)
    modes = next(c for _, c in model.net_.callbacks_ if isinstance(c, Modes))
    assert modes.training_ == training
    assert modes.with_gradient_ == learning
    ours, theirs = ([*m.network_.encoders, m.network_.fusion] for m in (model, source))
    assert [not same(state(a), state(b)) for a, b in zip(ours, theirs)] == training
    assert all(p.requires_grad for p in source.network_.parameters())


def test_a_linear_probe_of_what_knows_the_answer_finds_it():
    other, _ = draw(200, seed=1)
    knows = JointFusionRegressor(**{**SMALL, "max_epochs": 20}).fit(part(other, "rna", "protein"), other["rna"][:, 0])
    answer = (X["rna"][:, 0] > 0).astype(int)
    options = {"pretrained": FrozenEstimator(knows), "fusion": "pretrained", "max_epochs": 30, "lr": 0.03}
    assert joint(freeze=True, **options).fit(PAIR, answer).score(PAIR, answer) > 0.9


@pytest.mark.parametrize("freeze", [True, "encoders"])
@pytest.mark.parametrize(
    "options",
    [
        {"balance": "ogm"},
        {"modality_dropout": 0.5, "drop_token": 0.3},
        {"fill_missing": "token"},
        {"precision": "bf16"},
    ],
    ids=["ogm", "dropout", "token", "bf16"],
)
def test_freezing_goes_with_what_else_there_is(source, freeze, options):
    model = joint(pretrained=FrozenEstimator(source), fusion="pretrained", freeze=freeze, **options).fit(PAIR, Y)
    assert same(state(model.network_.encoders), state(source.network_.encoders))
    model.partial_fit(PAIR, Y)
    assert same(state(model.network_.encoders), state(source.network_.encoders))


def test_a_warm_start_thaws(source):
    frozen = {"pretrained": FrozenEstimator(source), "fusion": "pretrained"}
    model = joint(freeze=True, warm_start=True, **frozen).fit(PAIR, Y)
    model.fit(PAIR, Y)
    assert same(state(model.network_.fusion), state(source.network_.fusion))
    head = state(model.network_.head)
    model.set_params(freeze="encoders", layer_decay=0.5).fit(PAIR, Y)
    assert same(state(model.network_.encoders), state(source.network_.encoders))
    assert not same(state(model.network_.fusion), state(source.network_.fusion))
    assert not same(state(model.network_.head), head)
    model.set_params(freeze=False).fit(PAIR, Y)
    assert not same(state(model.network_.encoders), state(source.network_.encoders))


def test_a_frozen_model_hands_over_what_trains_again(source):
    frozen = joint(pretrained=FrozenEstimator(source), fusion="pretrained", freeze=True).fit(PAIR, Y)
    model = joint(pretrained=FrozenEstimator(frozen), fusion="pretrained").fit(PAIR, Y)
    assert all(p.requires_grad for p in model.network_.parameters())
    assert not same(state(model.network_.encoders), state(source.network_.encoders))
    assert same(state(frozen.network_.encoders), state(source.network_.encoders))


def test_weights_that_a_module_holds_itself_stay_held():
    own = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 8))
    own[0].requires_grad_(False)
    first = joint(encoders={"rna": own}).fit(PAIR, Y)
    frozen = {"pretrained": FrozenEstimator(first), "warm_start": True}
    model = joint(freeze=["rna"], **frozen).fit(PAIR, Y).set_params(freeze=False).fit(PAIR, Y)
    assert torch.equal(model.network_.encoders[0].module[0].weight, own[0].weight)
    assert not torch.equal(model.network_.encoders[0].module[1].weight, first.network_.encoders[0].module[1].weight)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"freeze": True, "pretrained": None}, "freeze is True, but pretrained is None"),
        ({"freeze": ["rna"], "pretrained": None}, r"freeze is \['rna'\], but pretrained is None"),
        ({"freeze": True}, "does not bring the encoder of 'labs', the fusion, whose weights would stay"),
        ({"freeze": ["labs"]}, "does not bring the encoder of 'labs', whose"),
        ({"freeze": ["blood"]}, r"freeze names \['blood'\]; due are modalities among \['rna', 'protein', 'labs'\]"),
        ({"freeze": "fusion"}, "The 'freeze' parameter"),
        ({"layer_decay": 0.0}, "The 'layer_decay' parameter"),
    ],
)
@pytest.mark.parametrize("cls", [JointFusionClassifier, JointFusionRegressor])
def test_what_cannot_be_frozen_raises(source, cls, options, message):
    with pytest.raises(ValueError, match=message):
        cls(**{**SMALL, "pretrained": FrozenEstimator(source), **options}).fit(X, Y)


# Layers


def widths(found):
    return [sum(p.numel() for p in layer) for layer in found]


def test_layers_are_the_elements_of_lists():
    assert widths(layers(MLP((3,), 4, n_hidden=5, n_layers=2))) == [20 + 10, 30 + 10, 24]
    assert len(layers(Conv1d((7, 2), 4, n_hidden=5, n_layers=1))) == 3
    transformer = Transformer(8, 2, 3)
    found = layers(transformer)
    assert len(found) == 3
    assert {id(p) for p in found[0]} == {id(p) for p in transformer.blocks[0].parameters()}
    assert {id(p) for p in transformer.norm.parameters()} < {id(p) for p in found[-1]}
    assert len(layers(nn.Linear(2, 3))) == 1
    assert layers(nn.Identity()) == []


def test_every_parameter_is_in_one_layer():
    model = joint(encoders="shared", fusion="zorro", n_layers=2, fill_missing="token", max_epochs=1).fit(PAIR, Y)
    found = layers_below(model.network_)
    assert len(found) == 2 + 2 + 1  # heads, fusion, two blocks, tokenizers
    assert sorted(id(p) for layer in found for p in layer) == sorted(id(p) for p in model.network_.parameters())


def rates(model):
    return [group["lr"] for group in model.net_.optimizer_.param_groups]


def test_each_layer_below_the_heads_is_slower():
    plain = {"scheduler": None, "lr": 0.1, "n_layers": 2}
    model = joint(layer_decay=0.5, **plain).fit(PAIR, Y)
    assert rates(model) == pytest.approx([0.1, 0.05, 0.025, 0.0125, 0.00625])
    groups = model.net_.optimizer_.param_groups
    assert {id(p) for p in groups[0]["params"]} == {id(p) for p in model.network_.head.parameters()}
    first = [encoder.layers[1].weight for encoder in model.network_.encoders]
    assert {id(p) for p in first} < {id(p) for p in groups[-1]["params"]}
    model.set_params(warm_start=True, lr=0.2).fit(PAIR, Y)
    assert rates(model) == pytest.approx([0.2, 0.1, 0.05, 0.025, 0.0125])
    assert rates(joint(**plain).fit(PAIR, Y)) == [0.1]


class Peaks(Callback):
    def on_batch_end(self, net, training=None, **kwargs):
        now = [group["lr"] for group in net.optimizer_.param_groups]
        self.peaks_ = [max(pair) for pair in zip(now, getattr(self, "peaks_", now))]


def test_the_one_cycle_peaks_at_the_rate_of_each_layer():
    model = joint(layer_decay=0.5, max_epochs=20, batch_size=10, callbacks=[Peaks()]).fit(PAIR, Y)
    peaks = next(c for _, c in model.net_.callbacks_ if isinstance(c, Peaks)).peaks_
    assert peaks == pytest.approx([0.01, 0.005, 0.0025, 0.00125], rel=1e-3)


def test_a_step_of_plain_descent_is_as_long_as_the_rate_of_its_layer():
    plain = {"optimizer": torch.optim.SGD, "scheduler": None, "weight_decay": 0.0, "max_epochs": 1, "batch_size": 60}
    start, slow, fast = (
        state(joint(**plain, layer_decay=decay, lr=lr, dropout_rate=0.0).fit(PAIR, Y).network_)
        for lr, decay in ((1e-20, 1.0), (0.1, 0.5), (0.1, 1.0))
    )
    for key, factor in {
        "head.weight": 1,
        "fusion.refine.layers.1.weight": 0.5,
        "encoders.0.layers.1.weight": 0.125,
    }.items():
        torch.testing.assert_close(slow[key] - start[key], factor * (fast[key] - start[key]), rtol=1e-3, atol=1e-6)


# Early fusion and imputation


def test_early_fusion_takes_the_modalitys_own_embedding(source):
    found = EarlyFusionTransformer(transformers={"rna": FrozenEstimator(source)}).fit_transform(X)
    np.testing.assert_allclose(found[:, :8], source.embed({"rna": X["rna"]}, "rna"), rtol=1e-6)
    np.testing.assert_array_equal(found[:, 8:], np.hstack([X["protein"], X["labs"]]))


def test_early_fusion_fits_a_pretrainer_that_is_not_frozen():
    Recording.seen.clear()
    given = Recording(["reconstruction"], **SMALL)
    EarlyFusionTransformer(transformers={"rna": given}).fit(X)
    assert Recording.seen == [X["rna"][:, 0].tolist()]
    assert not hasattr(given, "net_")


def test_an_imputer_fills_embeddings_and_leaves_what_the_pretrainer_does_not_know(source):
    some = {**X, "protein": np.where(np.arange(60)[:, None] < 20, np.nan, X["protein"])}
    fitted = ModalityImputer("linear", encoders=FrozenEstimator(source)).fit(some)
    filled = fitted.transform(some)
    np.testing.assert_allclose(filled["rna"], source.embed(part(X, "rna"), "rna"), rtol=1e-6)
    np.testing.assert_allclose(filled["protein"][20:], source.embed(part(X, "protein"), "protein")[20:], rtol=1e-6)
    np.testing.assert_array_equal(filled["labs"], X["labs"])
    assert filled.present.all()


def test_an_imputer_embeds_each_modality_by_itself():
    mixing = joint(fusion="early_concat").fit(PAIR, Y)
    bottleneck = joint(fusion="bottleneck", n_fusion_layers=2, max_epochs=1).fit(PAIR, Y)
    assert not np.allclose(bottleneck.embed(PAIR, "rna"), bottleneck.embed(part(PAIR, "rna"), "rna"))
    for fitted in (mixing, bottleneck):
        filled = ModalityImputer("mean", encoders=FrozenEstimator(fitted)).fit(PAIR).transform(PAIR)
        np.testing.assert_allclose(filled["rna"], fitted.embed(part(PAIR, "rna"), "rna"), rtol=1e-6)


# Model selection


def candidates(source):
    linear = LogisticRegression()
    imputer = ModalityImputer("linear", encoders=FrozenEstimator(source), output="array", device="cpu")
    early = EarlyFusionTransformer(transformers={"rna": FrozenEstimator(source)})
    return {
        "joint": (
            joint(pretrained=FrozenEstimator(source)),
            {"fusion": ["pretrained"], "freeze": [True, "encoders", False], "layer_decay": [0.5]},
        ),
        "fitted on the fold": (joint(pretrained=pretrainer()), {"pretrained__n_latent": [8], "fusion": ["zorro"]}),
        "early": (Pipeline([("fusion", early), ("model", linear)]), {"model__C": [0.1, 1.0]}),
        "imputer": (Pipeline([("imputer", imputer), ("model", linear)]), {"model__C": [0.1, 1.0]}),
    }


@pytest.mark.parametrize("key", ["joint", "fitted on the fold", "early", "imputer"])
def test_it_is_searched_in_two_processes(source, key):
    model, grid = candidates(source)[key]
    search = GridSearchCV(model, grid, cv=2, n_jobs=2, error_score="raise").fit(Modalities(PAIR), Y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    alone = clone(search.best_estimator_).fit(Modalities(PAIR), Y)
    np.testing.assert_array_equal(search.predict(Modalities(PAIR)), alone.predict(Modalities(PAIR)))
