"""What the strategies with a generative network share: the table they work on, and how draws become values."""

from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any, Self

import numpy as np

from skfusion.imputation.strategy import Settings, Strategy
from skfusion.imputation.tables import Targets
from skfusion.modalities import Modalities

Noise = Callable[[Any, int], Any]
"""Standard normal noise (n, width) for a tensor of n samples."""

_ON_DEVICE = ("layout_", "range_", "network_", "betas_")
"""Fitted attributes that hold tensors."""


def own_noise(x: Any, width: int) -> Any:
    """Return other noise for each sample."""
    return x.new_empty(len(x), width).normal_()


def shared_noise(x: Any, width: int, sign: int) -> Any:
    """Return the same noise for all samples, times `sign`."""
    return sign * x.new_empty(1, width).normal_().expand(len(x), -1)


class Generative(Strategy):
    """Base of strategies that draw missing modalities from a network's conditional distribution.

    A subclass trains `network_` in `_train` and draws tables in `_generate`. What is filled is the mean of `n_draws`
    draws, unless `_means` knows better.
    """

    n_components: int | None
    network_: Any
    n_draws = 1

    def fit(self, X: Modalities, names: list[str], settings: Settings) -> Self:
        """Train the network on the samples that have two modalities or more."""
        from skfusion.imputation.networks import Layout, to_tensors
        from skfusion.training.device import resolve_device, seeded

        self.targets_ = Targets(self.n_components).fit(X, names, settings.seed)
        self.seed_, self.device_ = settings.seed, resolve_device(settings.device)
        tables, present = self._tables(X)
        several = present.sum(axis=1) > 1
        enough = several.sum() > 1
        # What was never seen together with anything else tells nothing of it, nor that of this.
        self.known_ = present[several].any(axis=0) & enough
        self.tables_ = {n: table[there] for n, table, there, k in zip(names, tables, present.T, self.known_) if not k}
        self.network_ = None
        if not enough:
            return self
        with seeded(self.seed_, self.device_):
            self.layout_ = Layout([table.shape[1] for table in tables], self.device_)
            rows = np.flatnonzero(several)
            table, there = to_tensors([table[rows] for table in tables], present[rows], self.device_)
            low, high = table.amin(dim=0), table.amax(dim=0)
            # What a network has not learnt well it may send anywhere; data do not go there.
            self.range_ = (low - (high - low) / 2, high + (high - low) / 2)
            self.network_ = self._train(table, there, settings.verbose)
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Return the state with all tensors on the CPU, so that it can be read where there is no other device."""
        state: dict[str, Any] = super().__getstate__()
        return self._moved(state, "cpu") if "device_" in state else state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Go back to the device of the fit, or stay on the CPU where there is no such."""
        super().__setstate__(state)
        if "device_" in state:
            from skfusion.training.device import resolve_device

            try:
                device = resolve_device(self.device_)
            except ValueError:
                device = self.device_ = resolve_device("cpu")
            if device.type != "cpu":
                self.__dict__.update(self._moved(self.__dict__, device))

    def _moved(self, state: dict[str, Any], device: Any) -> dict[str, Any]:
        from skfusion.imputation.networks import moved

        return {name: moved(value, device) if name in _ON_DEVICE else value for name, value in state.items()}

    def _train(self, table: Any, present: Any, verbose: int) -> Any:
        raise NotImplementedError

    def _generate(self, table: Any, given: Any, noise: Noise) -> Any:
        """Return a draw (n, D) of every column, given the modalities `given` (n, M); others are zero in `table`."""
        raise NotImplementedError

    def _tables(self, X: Modalities) -> tuple[list[Any], Any]:
        return [self.targets_.encode(X, name) for name in self.targets_.codes_], self._present(X)

    def _present(self, X: Modalities) -> Any:
        """Who has which of the modalities that it fills (n_samples, M)."""
        return X.present[:, [X.names.index(name) for name in self.targets_.codes_]]

    def _useful(self, X: Modalities, hidden: str | None) -> Any:
        """Which modalities but `hidden` there is to go by (n_samples, M)."""
        return self._present(X) & self.known_ & (np.array(list(self.targets_.codes_)) != hidden)

    def _given(self, X: Modalities, hidden: str | None) -> Any:
        """Return all but `hidden` as tensors (n, D) and (n, M)."""
        from skfusion.imputation.networks import to_tensors

        present = self._useful(X, hidden)
        # What is hidden, or was never seen beside others, is not to be multiplied by anything.
        tables = [t if there else np.zeros_like(t) for t, there in zip(self._tables(X)[0], present.any(axis=0))]
        return to_tensors(tables, present, self.device_)

    def _draw_tables(self, X: Modalities, hidden: str | None, seed: int, noise: Noise) -> list[Any]:
        """Return a draw given everything but `hidden`, as tables by modality."""
        import torch

        from skfusion.training.device import seeded

        with seeded(seed, self.device_), torch.no_grad():
            table, given = self._given(X, hidden)
            drawn = self._generate(table, given, noise).clamp(*self.range_).cpu().double()
        return [part.numpy() for part in self.layout_.split(drawn)]

    def fill(self, X: Modalities, name: str) -> Any:
        """Return the conditional mean (n_samples, n_values): by formula where there is one, else of some draws."""
        out = np.tile(self.targets_.means[name], (len(X), 1))
        rows = np.flatnonzero(self._useful(X, name).any(axis=1))
        if name not in self.tables_ and len(rows):
            out[rows] = self.targets_.decode(name, self._means(X[rows], name)[list(self.targets_.codes_).index(name)])
        return out

    def fill_all(self, X: Modalities) -> dict[str, Any]:
        """Return what `fill` does for each modality that a sample lacks, in one go; elsewhere anything."""
        out = {name: np.tile(mean, (len(X), 1)) for name, mean in self.targets_.means.items()}
        rows = np.flatnonzero(self._useful(X, None).any(axis=1))
        if len(rows):
            for name, table in zip(out, self._means(X[rows], None)):
                if name not in self.tables_:
                    out[name][rows] = self.targets_.decode(name, table)
        return out

    def _means(self, X: Modalities, hidden: str | None) -> list[Any]:
        """Return the conditional means given everything but `hidden`, as tables by modality."""
        # Noise and its negative, the same for all samples: what is filled depends on a sample alone, and what is odd
        # in the noise cancels out.
        pairs = (
            self._draw_tables(X, hidden, self.seed_ + pair, partial(shared_noise, sign=sign))
            for pair in range((self.n_draws + 1) // 2)
            for sign in (1, -1)
        )
        return [np.mean(of_one, axis=0) for of_one in zip(*islice(pairs, self.n_draws))]

    def draw(self, X: Modalities, rng: np.random.Generator) -> dict[str, Any]:
        """Return a joint draw of all numeric modalities, given those present.

        Those with nothing present are drawn as well: of some training samples everything was hidden, or the latent has
        a prior. A modality that was never seen together with another is that of a training sample.
        """
        tables = dict.fromkeys(self.targets_.codes_)
        if self.network_ is not None:
            seed = int(rng.integers(np.iinfo(np.int32).max))
            tables = dict(zip(tables, self._draw_tables(X, None, seed, own_noise)))
        for name, table in self.tables_.items():
            tables[name] = table[rng.integers(len(table), size=len(X))]
        return {name: self.targets_.decode(name, table) for name, table in tables.items()}
