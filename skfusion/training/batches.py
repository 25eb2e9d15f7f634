"""Training data as whole tensors, and batches as slices of them."""

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from skfusion.encoders.batch import Batch, ModalityBatch
from skfusion.modalities.gather import dense, plain


class Samples(NamedTuple):
    """Some samples of the training data: inputs, targets, weights, and which rows they are."""

    batch: Batch
    target: Tensor | None
    weight: Tensor | None
    index: Tensor  # type: ignore[assignment]


def spans(n_samples: int, batch_size: int, *, training: bool = False) -> list[tuple[int, int]]:
    """Return where batches start and stop; in training, a last sample goes with those before, not by itself.

    Its gradient alone would count as much as that of a whole batch, and batch normalisation refuses it.
    """
    starts = list(range(0, n_samples, batch_size))
    if training and n_samples > 1 and n_samples % batch_size == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], n_samples]))


class Data:
    """Samples that are iterated over in batches, or some of them.

    Attributes
    ----------
    n_samples : int
        Of all, also where these are some.
    present : Tensor of bool (n_samples, n_modalities)
        Who has what.
    rows : Tensor of int64 or None
        Which samples these are; None for all.
    """

    n_samples: int
    device: torch.device
    present: Tensor
    rows: Tensor | None = None

    def __len__(self) -> int:
        return self.n_samples if self.rows is None else len(self.rows)

    def subset(self, rows: Any) -> Self:
        """Return some rows, without a copy of the data."""
        part: Self = object.__new__(type(self))
        part.__dict__.update(self.__dict__)
        chosen = torch.as_tensor(np.asarray(rows), dtype=torch.int64)
        part.rows = chosen if self.rows is None else self.rows[chosen]
        return part

    def iterate(
        self, batch_size: int, shuffle: bool = False, generator: torch.Generator | None = None
    ) -> Iterator[Samples]:
        """Yield the samples in batches; in one fixed order, or shuffled by `generator`."""
        raise NotImplementedError


class TensorData(Data):
    """Prepared modalities on a device.

    Dense values lie there once, as float32. CSR stays as it is in main memory, and becomes dense float32 a batch at a
    time.

    Parameters
    ----------
    values : dict of str to ndarray or CSR matrix
        A modality's prepared values (n_samples, …), zeros where it is missing. An all-NaN step of a sequence
        (n_samples, time, channels) is padding.
    present : ndarray of bool (n_samples, n_modalities)
        Who has what.
    device : torch.device
        Where batches are.
    target : ndarray, default=None
        (n_samples,) or (n_samples, n_outputs); integers are classes.
    weight : ndarray (n_samples,), default=None
        Sample weights.
    counts : collection of str, default=()
        Modalities whose values are counts, of which batches hold the log totals as ``offset``.
    """

    def __init__(
        self,
        values: dict[str, Any],
        present: Any,
        device: torch.device,
        target: Any = None,
        weight: Any = None,
        *,
        counts: Collection[str] = (),
    ) -> None:
        self.device = device
        self.n_samples = len(present)
        self.counts = frozenset(counts)
        self.present = torch.from_numpy(np.array(present)).to(device)
        self.values: dict[str, Any] = {}
        self.masks: dict[str, Tensor] = {}
        for name, array in values.items():
            if sparse.issparse(array):
                self.values[name] = plain(array)
                continue
            array = np.ascontiguousarray(array, dtype=np.float32)
            if array.ndim == 3:
                padding = np.isnan(array).all(axis=2)
                self.masks[name] = torch.from_numpy(~padding).to(device)
                array = np.where(padding[:, :, None], np.float32(0), array)
            # A read-only array is copied: torch warns of, and could write to, shared memory.
            tensor = torch.from_numpy(array if array.flags.writeable else array.copy())
            self.values[name] = tensor.to(device)
        self.target = None if target is None else torch.from_numpy(np.array(target)).to(device)
        self.weight = None if weight is None else torch.from_numpy(np.array(weight, dtype=np.float32)).to(device)

    def iterate(
        self, batch_size: int, shuffle: bool = False, generator: torch.Generator | None = None
    ) -> Iterator[Samples]:
        """Yield the samples in batches."""
        n = len(self)
        if not shuffle and self.rows is None:
            for start, stop in spans(n, batch_size):
                yield self.take(slice(start, stop))
            return
        rows = torch.arange(self.n_samples) if self.rows is None else self.rows
        if shuffle:
            rows = rows[torch.randperm(n, generator=generator)]
        on_device = rows.to(self.device)
        for start, stop in spans(n, batch_size, training=shuffle):
            yield self.take(on_device[start:stop], rows[start:stop])

    def take(self, rows: Any, rows_on_cpu: Tensor | None = None) -> Samples:
        """Return the samples at `rows`, a slice or positions on the device, which `rows_on_cpu` has as well."""
        present = self.present[rows]  # (B, M)
        modalities = {}
        for column, (name, values) in enumerate(self.values.items()):
            there = present[:, column : column + 1]  # (B, 1)
            if isinstance(values, Tensor):
                part = values[rows]
            else:
                # numpy's zeros take fresh pages as they are; torch's would write to them.
                out = np.zeros((len(there), values.shape[1]), dtype=np.float32)  # (B, D)
                dense(values, rows if rows_on_cpu is None else rows_on_cpu.numpy(), out)
                part = torch.from_numpy(out).to(self.device)
            mask = self.masks[name][rows] & there if name in self.masks else there
            # A cell without a count has no logarithm of its total.
            offset = part.sum(1).clamp(min=1).log() if name in self.counts else None  # (B,)
            modalities[name] = ModalityBatch(part, mask, offset=offset)
        index = torch.arange(rows.start, rows.stop, device=self.device) if isinstance(rows, slice) else rows
        return Samples(
            Batch(modalities, present),
            None if self.target is None else self.target[rows],
            None if self.weight is None else self.weight[rows],
            index,
        )
