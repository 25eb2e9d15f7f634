"""What every objective of a pretrainer obeys, found by their registry."""

import inspect
import pickle
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from skfusion import Modalities, MultimodalPretrainer
from skfusion._build import resolve
from skfusion.objectives import OBJECTIVES
from skfusion.objectives.context import Context, Part

CLASSES = {name: resolve("objectives", name, OBJECTIVES) for name in OBJECTIVES}
NAMES = [name for name, cls in CLASSES.items() if not getattr(cls, "needs_target", False)]

OPTIONS = {}
"""What an objective is built with here, where that is not the default."""

NET = {"encoders": {"ecg": "steps", "eeg": "steps"}, "fusion": "zorro", "n_hidden": 16, "n_latent": 8, "n_heads": 2}
NET |= {"n_fusion_layers": 1, "batch_size": 16, "max_epochs": 2, "lr": 0.01, "random_state": 0, "device": "cpu"}

MISSING = {"labs": [0, 5, 11, 30], "genes": [1, 5, 12, 31], "ecg": [2, 6, 12, 30], "eeg": [3, 7, 11, 31, 33]}
"""Which samples lack what; some lack two."""

pytestmark = pytest.mark.filterwarnings("ignore:batches of .* samples hold about:UserWarning")


def draw(junk=0.0, n_samples=40):
    """Tables and sequences of unequal length; a missing slot holds `junk`, None is noise."""
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(n_samples, 3))
    X = {"labs": latent @ rng.normal(size=(3, 5)), "genes": latent @ rng.normal(size=(3, 4))}
    X["ecg"] = latent[:, None, :2] * rng.normal(size=(1, 7, 1)) + rng.normal(size=(n_samples, 7, 2))
    X["eeg"] = latent[:, None, :] * rng.normal(size=(1, 5, 1)) + rng.normal(size=(n_samples, 5, 3))
    X["ecg"][::3, 5:] = np.nan  # padding
    present = np.ones((n_samples, len(X)), dtype=bool)
    for m, (name, rows) in enumerate(MISSING.items()):
        present[rows, m] = False
        X[name][rows] = 100 * rng.normal(size=X[name][rows].shape) if junk is None else junk
    return Modalities(X, present=present)


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


def build(name, **params):
    return MultimodalPretrainer([CLASSES[name](**OPTIONS.get(name, {}))], **{**NET, **params})


def fitted(name, X=None, **params):
    return build(name, **params).fit(draw() if X is None else X)


def weights(pretrainer):
    net = pretrainer.net_
    return {**net.module_.state_dict(), **{f"objective {k}": v for k, v in net.criterion_.state_dict().items()}}


def batch_of(pretrainer, X):
    return next(pretrainer._tensors(X).iterate(16)).batch


def loss_and_gradients(pretrainer, batch, seed=0):
    """The loss of an objective of one batch, what comes with it, and the gradients of all that learns."""
    net = pretrainer.net_
    (objective,), network = net.criterion_, net.module_
    net._set_training(True)
    for part in (network, objective):
        part.zero_grad()
    torch.manual_seed(seed)
    context = Context(network, None, None, torch.arange(len(batch)), 40)
    outputs = {view: net._run(part) for view, part in objective.views(batch, None).items()}
    found = objective.loss(outputs, batch, context)
    loss = found["loss"] if isinstance(found["loss"], Part) else Part(found["loss"], torch.tensor(len(batch)))
    if loss.mean.requires_grad:
        loss.mean.backward()
    parameters = [*network.named_parameters(), *((f"objective {k}", p) for k, p in objective.named_parameters())]
    return loss, found, {key: p.grad.clone() for key, p in parameters if p.grad is not None}


@pytest.mark.parametrize("fusion", ["zorro", "everything_at_once", "mean"])
def test_it_fits_tables_and_sequences_of_which_some_are_missing(name, fusion):
    pretrainer = fitted(name, fusion=fusion)
    losses = [row[f"train_loss_of_{name}"] for row in pretrainer.history_]
    assert np.isfinite(losses).all()
    assert losses[0] != 0
    assert losses[0] != losses[1]
    assert np.isfinite(pretrainer.transform(draw())).all()


def test_it_trains_something(name):
    pretrainer = fitted(name)
    _, _, gradients = loss_and_gradients(pretrainer, batch_of(pretrainer, draw()))
    assert any((gradient != 0).any() for gradient in gradients.values())
    assert all(gradient.isfinite().all() for gradient in gradients.values())


@pytest.mark.parametrize("junk", [None, np.inf, np.nan], ids=["noise", "inf", "nan"])
def test_what_lies_in_missing_slots_is_inert(name, junk):
    expected, found = fitted(name), fitted(name, draw(junk))
    assert [row["train_loss"] for row in found.history_] == [row["train_loss"] for row in expected.history_]
    for (key, value), other in zip(weights(found).items(), weights(expected).values()):
        assert torch.equal(value, other), key


def test_what_modality_dropout_leaves_in_a_slot_is_inert(name):
    """A modality that is dropped in training leaves its values behind."""
    pretrainer = fitted(name)
    batch = batch_of(pretrainer, draw())
    other = {}
    for m, (modality, part) in enumerate(batch.modalities.items()):
        there = batch.present[:, m].view(-1, *[1] * (part.values.ndim - 1))
        other[modality] = part._replace(values=torch.where(there, part.values, 3.0))
    expected, _, gradients = loss_and_gradients(pretrainer, batch)
    found, _, others = loss_and_gradients(pretrainer, replace(batch, modalities=other))
    assert torch.equal(found.mean, expected.mean)
    assert gradients.keys() == others.keys()
    for key, gradient in gradients.items():
        assert torch.equal(gradient, others[key]), key


def test_where_it_concerns_nobody_its_loss_is_0(name):
    pretrainer = fitted(name)
    batch = batch_of(pretrainer, draw())
    nobody = replace(batch, present=torch.zeros_like(batch.present))
    loss, found, gradients = loss_and_gradients(pretrainer, nobody)
    assert (loss.mean.item(), loss.n.item()) == (0, 0)
    assert all(torch.isfinite(part.mean if isinstance(part, Part) else part) for part in found.values())
    assert all((gradient == 0).all() for gradient in gradients.values())


def test_it_pickles(name):
    pretrainer = fitted(name)
    again = pickle.loads(pickle.dumps(pretrainer))
    assert np.array_equal(again.transform(draw()), pretrainer.transform(draw()))
    batch = batch_of(pretrainer, draw())
    expected, found = (loss_and_gradients(p, batch)[0].mean for p in (pretrainer, again))
    assert torch.equal(found, expected)


def test_a_copy_that_is_built_by_name_learns_the_same(name):
    if name in OPTIONS:
        pytest.skip("built with options here")
    by_name = clone(build(name)).set_params(objectives=[name]).fit(draw())
    for (key, value), other in zip(weights(by_name).items(), weights(fitted(name)).values()):
        assert torch.equal(value, other), key


def test_it_learns_in_half_precision(name):
    pretrainer = fitted(name, precision="bf16")
    losses = [row["train_loss"] for row in pretrainer.history_]
    np.testing.assert_allclose(losses, [row["train_loss"] for row in fitted(name).history_], rtol=0.1)
    batch = batch_of(pretrainer, draw())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, _, gradients = loss_and_gradients(pretrainer, batch)
    assert loss.mean.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients.values())


class OneDevice(TorchDispatchMode):
    """Raises where tensors go from one device to another; on "meta", which has no values, asking for one raises too."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor) and leaf.ndim]
        found = func(*args, **(kwargs or {}))
        assert len({tensor.device for tensor in [*tensors, found] if isinstance(tensor, torch.Tensor)}) < 2, func
        return found


def test_it_never_waits_for_the_device(name):
    pretrainer = fitted(name, max_epochs=1)
    batch, network, (objective,) = batch_of(pretrainer, draw()), pretrainer.network_, pretrainer.net_.criterion_
    for part in (network, objective):
        part.train().to("meta")
    modalities = {
        modality: part._replace(values=part.values.to("meta"), mask=part.mask.to("meta"))
        for modality, part in batch.modalities.items()
    }
    batch = replace(batch, modalities=modalities, present=batch.present.to("meta"))
    context = Context(network, None, None, torch.arange(len(batch), device="meta"), 40)
    with OneDevice():
        views = objective.views(batch, None)
    outputs = {view: network(part) for view, part in views.items()}
    with OneDevice():
        objective.loss(outputs, batch, context)["loss"].mean.backward()


def test_in_evaluation_it_asks_the_same_of_a_batch_each_time(name):
    pretrainer = fitted(name)
    net, batch = pretrainer.net_, batch_of(pretrainer, draw())
    net._set_training(False)
    (objective,) = net.criterion_
    before, losses = torch.get_rng_state(), []
    for _ in range(2):
        outputs = {view: net.module_(part) for view, part in objective.views(batch, None).items()}
        context = Context(net.module_, None, None, torch.arange(len(batch)), 40)
        losses.append(objective.loss(outputs, batch, context)["loss"].mean)
    assert torch.equal(*losses)
    assert torch.equal(torch.get_rng_state(), before)


def test_it_goes_on_with_other_objectives(name):
    other = "reconstruction" if name != "reconstruction" else "contrastive"
    history = build(name).set_params(objectives=[name, other]).fit(draw()).history_
    assert {f"train_loss_of_{name}", f"train_loss_of_{other}"} <= set(history[-1])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_it_is_documented(name):
    cls = CLASSES[name]
    document = inspect.getdoc(cls)
    for section in ("Parameters\n-----", "Examples\n-----", ">>> "):
        assert section in document, section
    assert document.split("\n", 1)[0].endswith("."), "one line says what it does"
    # "As `Masked`" stands for what is described there.
    known = document + "".join(inspect.getdoc(other) for other in CLASSES.values() if f"`{other.__name__}`" in document)
    for parameter in inspect.signature(cls).parameters.values():
        assert re.search(rf"^[\w, ]*\b{parameter.name}\b[\w, ]*( : |$)", known, re.MULTILINE), parameter.name


def test_it_says_when_it_counts(name):
    assert build(name).objectives[0].when in ("any", "all", "only")
