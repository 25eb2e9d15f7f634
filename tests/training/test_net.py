"""Training on whole tensors: batches, the epochs of the net, and a dropout that draws sparingly."""

from itertools import chain

import numpy as np
import pytest
import torch
from scipy import sparse
from skorch.callbacks import Callback
from torch import nn

from skfusion.encoders.dense import MLP
from skfusion.encoders.dropout import Dropout
from skfusion.fusion import Concat, FusionNetwork
from skfusion.modalities.gather import dense
from skfusion.objectives import Supervised
from skfusion.training.batches import TensorData, spans
from skfusion.training.device import resolve_device, seeded
from skfusion.training.net import FusionNet

CPU = torch.device("cpu")


def values(n_samples=10, seed=0):
    rng = np.random.default_rng(seed)
    sequence = rng.normal(size=(n_samples, 4, 2))
    sequence[::2, 2:] = np.nan
    return {
        "dense": rng.normal(size=(n_samples, 3)),
        "csr": sparse.random(n_samples, 6, 0.4, format="csr", random_state=seed),
        "sequence": sequence,
    }


def tensor_data(n_samples=10, device=CPU):
    present = np.ones((n_samples, 3), dtype=bool)
    present[1, 0] = present[2, 2] = False
    target = np.arange(n_samples)
    return TensorData(values(n_samples), present, device, target, np.arange(n_samples) / 2.0)


def indices(data, *args, **kwargs):
    return [samples.index.tolist() for samples in data.iterate(*args, **kwargs)]


# Batches


def test_batches_in_order_hold_the_values_the_masks_the_targets_and_the_weights():
    data, raw = tensor_data(), values()
    batches = list(data.iterate(4))
    assert [len(b.batch) for b in batches] == [4, 4, 2]
    for start, samples in zip((0, 4, 8), batches):
        rows = np.arange(start, min(start + 4, 10))
        modalities = samples.batch.modalities
        assert list(modalities) == ["dense", "csr", "sequence"]
        np.testing.assert_allclose(modalities["dense"].values, raw["dense"][rows], rtol=1e-6)
        np.testing.assert_allclose(modalities["csr"].values, raw["csr"][rows].toarray(), rtol=1e-6)
        np.testing.assert_allclose(modalities["sequence"].values, np.nan_to_num(raw["sequence"][rows]), rtol=1e-6)
        assert {m.values.dtype for m in modalities.values()} == {torch.float32}
        assert samples.index.tolist() == samples.target.tolist() == rows.tolist()
        np.testing.assert_allclose(samples.weight, rows / 2)
    first = batches[0].batch
    assert first.present.tolist() == [[True] * 3, [False, True, True], [True, True, False], [True] * 3]
    assert first.modalities["dense"].mask.tolist() == [[True], [False], [True], [True]]
    assert first.modalities["sequence"].mask.tolist() == [
        [True, True, False, False],
        [True] * 4,
        [False] * 4,
        [True] * 4,
    ]


def test_a_slice_of_dense_values_is_a_view_not_a_copy():
    data = tensor_data()
    (samples,) = data.iterate(10)
    assert samples.batch.modalities["dense"].values.data_ptr() == data.values["dense"].data_ptr()


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint8", "bool", "float16", ">i4"])
def test_csr_is_made_dense_a_batch_at_a_time(monkeypatch, dtype):
    shapes = []

    def record(csr, rows, out):
        shapes.append(out.shape)
        dense(csr, rows, out)

    monkeypatch.setattr("skfusion.training.batches.dense", record)
    csr = sparse.csr_matrix(sparse.random(10, 6, 0.4, random_state=0, data_rvs=lambda n: np.arange(n) % 4))
    csr.data = csr.data.astype(dtype)
    data = TensorData({"csr": csr}, np.ones((10, 1), bool), CPU)
    assert sparse.issparse(data.values["csr"])
    if dtype in ("float32", "int32"):
        assert np.shares_memory(data.values["csr"].data, csr.data)
    assert shapes == []
    batches = [*data.iterate(4)]
    batches += data.subset([7, 1, 3]).iterate(2, shuffle=True, generator=torch.Generator().manual_seed(0))
    assert shapes == [(4, 6), (4, 6), (2, 6), (3, 6)]
    for samples in batches:
        expected = csr.astype(np.float32).toarray()[samples.index.numpy()]
        np.testing.assert_array_equal(samples.batch.modalities["csr"].values, expected, strict=True)


def test_what_csr_holds_twice_adds_up_and_indices_may_be_of_two_dtypes():
    csr = sparse.csr_matrix((np.array([1.0, 2.0, 4.0]), [2, 2, 0], [0, 2, 2, 3]), shape=(3, 4))
    csr.indptr = csr.indptr.astype(np.int64)
    csr.indices = csr.indices.astype(np.int32)
    data = TensorData({"csr": csr}, np.ones((3, 1), bool), CPU).subset([2, 0])
    (samples,) = data.iterate(2)
    assert samples.batch.modalities["csr"].values.tolist() == [[4, 0, 0, 0], [0, 0, 3, 0]]


def test_a_subset_holds_its_rows_and_copies_no_data():
    data = tensor_data()
    part = data.subset([7, 1, 3])
    assert len(part) == 3
    assert len(data) == 10
    assert part.values["dense"] is data.values["dense"]
    assert indices(part, 2) == [[7, 1], [3]]
    assert indices(part.subset([2, 0]), 5) == [[3, 7]]
    (samples,) = part.iterate(3)
    np.testing.assert_allclose(samples.batch.modalities["csr"].values, values()["csr"][[7, 1, 3]].toarray(), rtol=1e-6)
    np.testing.assert_allclose(samples.weight, [3.5, 0.5, 1.5])


def test_the_order_is_that_of_the_seed_and_every_sample_comes_once():
    data = tensor_data()
    orders = [
        list(chain(*indices(data, 4, shuffle=True, generator=torch.Generator().manual_seed(seed))))
        for seed in (0, 0, 1)
    ]
    assert orders[0] == orders[1] != orders[2]
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert orders[0] != list(range(10))


@pytest.mark.parametrize(
    ("n", "size", "training", "expected"),
    [
        (10, 4, False, [4, 4, 2]),
        (10, 4, True, [4, 4, 2]),
        (9, 4, False, [4, 4, 1]),
        (9, 4, True, [4, 5]),
        (1, 4, True, [1]),
        (3, 1, True, [1, 1, 1]),
        (5, 8, True, [5]),
        (0, 4, True, []),
    ],
)
def test_no_sample_is_trained_on_by_itself_where_there_are_others(n, size, training, expected):
    found = spans(n, size, training=training)
    assert [stop - start for start, stop in found] == expected
    assert [i for start, stop in found for i in range(start, stop)] == list(range(n))


def test_read_only_values_are_not_shared_with_torch():
    X = np.ones((4, 2), dtype=np.float32)
    X.flags.writeable = False
    data = TensorData({"a": X}, np.ones((4, 1), bool), CPU)
    data.values["a"][:] = 7
    assert (X == 1).all()


# Epochs


class Items(Callback):
    """Counts how often a number is read from a tensor, an epoch."""

    def on_train_begin(self, net, **kwargs):
        self.counts_ = []

    def on_epoch_begin(self, net, **kwargs):
        self.counts_.append(0)


class ItemsOfBatches(Items):
    def on_batch_end(self, net, **kwargs):
        pass


def build(callbacks=(), objectives=None, seed=0, lr=0.01, **options):
    torch.manual_seed(0)
    encoders = {"a": MLP((3,), 4, n_hidden=8, dropout_rate=0.5), "b": MLP((2,), 4, n_hidden=8, dropout_rate=0.5)}
    network = FusionNetwork(encoders, Concat({"a": 4, "b": 4}, 4), nn.Linear(4, 2), modality_dropout=0.3)
    return FusionNet(
        network,
        {"supervised": Supervised(n_classes=[2])} if objectives is None else objectives,
        seed=seed,
        lr=lr,
        max_epochs=3,
        batch_size=16,
        callbacks=list(callbacks),
        device="cpu",
        **options,
    )


def training_data(n_samples=100):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, size=n_samples)
    X = {"a": rng.normal(size=(n_samples, 3)) + y[:, None], "b": rng.normal(size=(n_samples, 2))}
    present = np.ones((n_samples, 2), bool)
    present[::5, 1] = False
    return TensorData(X, present, CPU, y, np.ones(n_samples))


def watched_reads(monkeypatch, counter):
    def counted(name):
        original = getattr(torch.Tensor, name)

        def read(self, *args, **kwargs):
            counter.counts_[-1] += 1
            return original(self, *args, **kwargs)

        return read

    for name in ("item", "tolist", "__float__", "__bool__", "__int__", "cpu", "numpy"):
        monkeypatch.setattr(torch.Tensor, name, counted(name))
    # On a CPU alone, where it is free, masks are asked whether they are full.
    monkeypatch.setattr("skfusion.encoders.batch.all_true", lambda mask: False)


@pytest.mark.parametrize("scheduler", [None, "one_cycle"])
def test_losses_are_read_from_the_device_once_an_epoch_whatever_the_number_of_batches(monkeypatch, scheduler):
    found = {}
    for n_samples in (32, 320):
        counter = Items()
        data = training_data(n_samples)
        net = build([counter], scheduler=scheduler)
        with monkeypatch.context() as patch, seeded(0, CPU):
            watched_reads(patch, counter)
            net.partial_fit((data, data.subset(np.arange(20))))
        found[n_samples] = counter.counts_
    assert found[32] == found[320] == [2, 2, 2]  # the training and the validation loss


def test_losses_of_batches_are_read_only_where_a_callback_watches_batches(monkeypatch):
    counter, data = ItemsOfBatches(), training_data(64)
    net = build([counter])
    with monkeypatch.context() as patch, seeded(0, CPU):
        watched_reads(patch, counter)
        net.partial_fit((data, None))
    assert counter.counts_ == [5, 5, 5]
    assert len(net.history[-1, "batches"]) == 4


def test_the_loss_of_an_epoch_is_the_mean_over_the_samples():
    data = training_data(40)
    net = build(optimizer=torch.optim.SGD, lr=1e-12)
    net.partial_fit((data, data))
    with torch.no_grad():
        (samples,) = data.iterate(40)
        net.module_.eval()
        logits = net.module_.predict(net.module_(samples.batch))
        expected = nn.functional.cross_entropy(logits, samples.target)
    # Batches of 16, 16 and 8 do not count alike.
    assert net.history[-1, "valid_loss"] == pytest.approx(float(expected), rel=1e-5)


def test_the_same_seed_gives_the_same_weights_and_another_gives_others():
    def trained(seed):
        net = build(seed=seed)
        with seeded(seed, CPU):
            net.partial_fit((training_data(), None))
        return torch.cat([p.detach().flatten() for p in net.module_.parameters()])

    assert torch.equal(trained(0), trained(0))
    assert not torch.allclose(trained(0), trained(1))


def test_each_epoch_has_an_order_of_its_own():
    orders = []

    class Watch(Callback):
        def on_batch_begin(self, net, batch=None, training=None, **kwargs):
            orders.append(batch.index.tolist())

    build([Watch()]).partial_fit((training_data(32), None))
    epochs = [list(chain(*orders[i : i + 2])) for i in (0, 2, 4)]
    assert all(sorted(epoch) == list(range(32)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_a_gradient_does_not_outlive_its_batch():
    seen = []

    class Watch(Callback):
        def on_batch_begin(self, net, batch=None, training=None, **kwargs):
            self.start = len(seen)

        def on_grad_computed(self, net, named_parameters=None, **kwargs):
            seen.append({name: p.grad.clone() for name, p in named_parameters})

    data = training_data(48)
    net = build([Watch()], optimizer=torch.optim.SGD, lr=0.0)
    net.module_.modality_dropout = 0.0
    for module in net.module_.modules():
        if isinstance(module, Dropout):
            module.rate = 0.0
    net.partial_fit((data, None))
    # Without a step, the gradients of the batches of each epoch add up to the same.
    sums = [sum(g["head.weight"] for g in seen[i : i + 3]) for i in (0, 3, 6)]
    torch.testing.assert_close(sums[0], sums[1])
    torch.testing.assert_close(sums[0], sums[2])


def test_outputs_come_in_order_without_gradients_and_padding():
    data = training_data(1500)
    net = build()
    outputs = list(net.outputs(data))
    assert [len(output.fused) for output in outputs] == [1024, 476]
    assert all(len(output.heads["a"]) == len(output.fused) for output in outputs)
    assert not outputs[0].fused.requires_grad
    assert not net.module_.training
    alone = next(iter(net.outputs(data.subset([1499])))).fused
    torch.testing.assert_close(alone[0], outputs[1].fused[-1])


def test_an_objective_is_due():
    with pytest.raises(ValueError, match="objectives is empty; due is at least one"):
        build(objectives={})


def test_a_network_without_a_head_says_so():
    network = FusionNetwork({"a": MLP((3,), 4)}, Concat({"a": 4}, 4))
    with pytest.raises(RuntimeError, match="has no head"):
        network.predict(None)


# Devices and seeds


@pytest.mark.parametrize("device", ["nonsense", 3.5, None, ("cpu",)])
def test_what_is_no_device_raises_what_is_due(device):
    with pytest.raises(ValueError, match="due is 'auto' or a torch device such as 'cpu' or 'cuda:0'"):
        resolve_device(device)


def test_a_torch_device_passes():
    assert resolve_device(CPU) == resolve_device("cpu") == CPU
    assert resolve_device("auto").type in ("cpu", "cuda", "mps")


def test_the_generator_is_seeded_inside_and_restored_after():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    drawn = []
    for seed in (1, 1, 2):
        with seeded(seed, CPU):
            drawn.append(torch.rand(3))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert torch.equal(torch.get_rng_state(), before)


# Dropout


@pytest.mark.parametrize("rate", [0.001, 0.1, 0.5, 0.9])
def test_dropout_zeroes_units_at_its_rate_and_keeps_the_mean(rate):
    torch.manual_seed(0)
    n = 400_000
    out = Dropout(rate)(torch.ones(n // 8, 8))
    kept = out != 0
    spread = 5 * (rate * (1 - rate) / n) ** 0.5
    assert float(kept.float().mean()) == pytest.approx(1 - rate, abs=spread)
    assert float(out.mean()) == pytest.approx(1, abs=spread / (1 - rate))
    assert len(torch.unique(out[kept])) == 1
    assert float(out.max()) == pytest.approx(1 / (1 - rate), rel=1e-3)


def test_dropout_treats_units_samples_and_neighbours_alike():
    torch.manual_seed(0)
    dropped = (Dropout(0.3)(torch.ones(20_000, 12)) == 0).double()
    assert (dropped.mean(0) - 0.3).abs().max() < 5 * (0.21 / 20_000) ** 0.5
    correlation = torch.corrcoef(dropped.T) - torch.eye(12)
    assert correlation.abs().max() < 5 / 20_000**0.5
    again = (Dropout(0.3)(torch.ones(20_000, 12)) == 0).double()
    assert abs(float(torch.corrcoef(torch.stack([dropped.flatten(), again.flatten()]))[0, 1])) < 0.011


@pytest.mark.parametrize("shape", [(1,), (3, 5), (7, 2, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dropout_takes_any_shape_and_dtype(shape, dtype):
    torch.manual_seed(0)
    out = Dropout(0.5)(torch.ones(shape, dtype=dtype))
    assert out.shape == shape
    assert out.dtype == dtype
    assert set(out.flatten().tolist()) <= {0.0, 2.0}


def test_the_gradient_of_dropout_passes_where_the_unit_passed():
    torch.manual_seed(0)
    x = torch.randn(50, 4, requires_grad=True)
    out = Dropout(0.25)(x)
    out.sum().backward()
    torch.testing.assert_close(x.grad, out.detach() / x.detach())
    assert 0 < int((x.grad == 0).sum()) < 200


def test_dropout_in_evaluation_or_at_rate_zero_is_the_identity():
    x = torch.randn(5, 3)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x


def test_dropout_draws_by_the_seed():
    def drawn(seed):
        torch.manual_seed(seed)
        return Dropout(0.5)(torch.ones(100))

    assert torch.equal(drawn(0), drawn(0))
    assert not torch.equal(drawn(0), drawn(1))
    assert repr(Dropout(0.5)) == "Dropout(rate=0.5)"
