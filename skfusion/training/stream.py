"""Training data that stays in a file: read in chunks that a buffer shuffles, the next ones while these are used."""

from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from skfusion.training.batches import Data, Samples, TensorData, spans

CHUNK = 2048
"""Samples that lie, and are read, side by side."""
N_CHUNKS = 4
"""Chunks that are shuffled together."""

Item = TypeVar("Item")
Read = TypeVar("Read")


class StreamData(Data):
    """Prepared modalities of which some lie in a file.

    In training, chunks of neighbouring samples come in random order, and the samples of `n_chunks` of them are shuffled
    together: memory grows with these, and not with the number of samples. Where all samples fit, their order is that of
    `TensorData`. The next such block is read by a thread while the batches of this one are used.

    Parameters
    ----------
    values : dict of str to ndarray, CSR matrix, or what has `read`
        A modality's prepared values (n_samples, …), zeros where it is missing. ``read(rows)`` returns those of some
        samples; `places` (n_samples,) is where in its file each sample lies.
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
    chunk, n_chunks : int
        Samples a chunk, and chunks that are shuffled together.
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
        chunk: int = CHUNK,
        n_chunks: int = N_CHUNKS,
    ) -> None:
        self.device = device
        self.values = values
        self.n_samples = len(present)
        self._present = np.asarray(present)
        self.present = torch.from_numpy(np.array(present)).to(device)
        self.target = None if target is None else torch.from_numpy(np.array(target)).to(device)
        self.weight = None if weight is None else torch.from_numpy(np.array(weight, dtype=np.float32)).to(device)
        self.counts = frozenset(counts)
        self.chunk, self.n_chunks = chunk, n_chunks
        self.places = torch.as_tensor(next(v.places for v in values.values() if hasattr(v, "read")))

    def iterate(
        self, batch_size: int, shuffle: bool = False, generator: torch.Generator | None = None
    ) -> Iterator[Samples]:
        """Yield the samples in batches; in one fixed order, or shuffled by `generator`."""
        rows = torch.arange(self.n_samples) if self.rows is None else self.rows
        batches = max(round(self.chunk * self.n_chunks / batch_size), 1)  # a block
        if shuffle:
            rows = self._shuffled(rows, batches * batch_size, generator)
        bounds = spans(len(rows), batch_size, training=shuffle)
        blocks = [bounds[i : i + batches] for i in range(0, len(bounds), batches)]
        for data, order, some, block in read_ahead(lambda b: self._read(rows[b[0][0] : b[-1][1]], b), blocks):
            on_device, index = order.to(self.device), some.to(self.device)
            first = block[0][0]
            for start, stop in block:
                part = slice(start - first, stop - first)
                samples = data.take(on_device[part], order[part])
                yield samples._replace(
                    target=None if self.target is None else self.target[index[part]],
                    weight=None if self.weight is None else self.weight[index[part]],
                    index=index[part],
                )
            del data, samples  # before the block after the next one is read

    def _shuffled(self, rows: Tensor, block: int, generator: torch.Generator | None) -> Tensor:
        """Return `rows` in the order of an epoch."""
        n = len(rows)
        if n <= block:
            return rows[torch.randperm(n, generator=generator)]
        # Chunks start elsewhere in each epoch, so that not always the same samples come together.
        offset = int(torch.randint(self.chunk, (), generator=generator))
        by_place = rows[torch.argsort(self.places[rows], stable=True)]
        chunks = [part for part in by_place.tensor_split(tuple(range(offset, n, self.chunk))) if len(part)]
        rows = torch.cat([chunks[i] for i in torch.randperm(len(chunks), generator=generator)])
        return torch.cat([part[torch.randperm(len(part), generator=generator)] for part in rows.split(block)])

    def _read(self, rows: Tensor, block: Any) -> tuple[TensorData, Tensor, Tensor, Any]:
        """Return the samples `rows`, in the order of the file, where each of `rows` stands there, and what came."""
        by_place = torch.argsort(self.places[rows], stable=True)
        there = rows[by_place].numpy()
        values = {name: v.read(there) if hasattr(v, "read") else v[there] for name, v in self.values.items()}
        data = TensorData(values, self._present[there], self.device, counts=self.counts)
        return data, torch.argsort(by_place), rows, block


def read_ahead(read: Callable[[Item], Read], items: Iterable[Item]) -> Iterator[Read]:
    """Yield what `read` makes of one item after the other; a thread reads the next one meanwhile.

    The thread ends with the iteration, also where that is given up or `read` raises.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="skfusion-read") as pool:
        ahead: Future[Read] | None = None
        for item in items:
            following = pool.submit(read, item)
            if ahead is not None:
                yield ahead.result()
            ahead = following
        if ahead is not None:
            yield ahead.result()
