"""skorch's training loop over whole-tensor batches, in epochs that never wait for the device."""

import inspect
import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EpochTimer, PassthroughScoring, PrintLog
from skorch.callbacks.scoring import ScoringBase
from skorch.utils import noop
from torch import Tensor, nn
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR, ReduceLROnPlateau

from skfusion.encoders.batch import Batch
from skfusion.fusion.network import FusionNetwork, layers_below
from skfusion.fusion.output import FusionOutput
from skfusion.objectives.context import Context, Part
from skfusion.training.batches import Samples, TensorData, spans
from skfusion.training.callbacks import ProgressBar, StopEarly

_BATCH_METHODS = ("on_batch_begin", "on_batch_end", "on_grad_computed")
_RATES = ("lr", "momentum", "betas")
"""What schedules change of an optimizer."""
_PREDICTION_BATCH = 1024
# Prediction batches are padded to a multiple of this: the kernels for few rows add up in another order, and what is
# predicted for a sample would depend on how many others came with it.
PREDICTION_STEP = 32


class FusionNet(NeuralNet):
    """A skorch net that trains a `FusionNetwork` on `TensorData`.

    Losses are added up on the device and read once an epoch. Batch-level history exists only where a callback has a
    batch-level method. ``fit`` and ``partial_fit`` take the pair (training data, validation data or None).

    Parameters
    ----------
    network : FusionNetwork
        What is trained, in place.
    objectives : dict of str to nn.Module
        Their losses are added up. Where one is called "supervised" it comes first, and the validation loss is its own
        and that of those that say `validates`; else it is that of all.
    weights : dict of str to float
        What the losses of objectives are multiplied by; 1 for those it does not name.
    seed : int
        Order of the batches.
    optimizer : "adamw", class or partial
        A torch optimizer; "adamw" is the fused one where the device has it.
    weight_decay : float
        Given to optimizers that know it.
    scheduler : None, "one_cycle", class or partial
        A torch learning rate scheduler.
    verbose : int
        1 shows a progress bar, 2 prints a line an epoch.
    precision : {"float32", "bf16"}
        What networks compute in; weights and losses stay float32.
    compile_network : bool
        Whether training goes through `torch.compile`.
    layer_decay : float
        Each layer below the heads trains with a learning rate so many times that of the layer above it.
    **kwargs
        skorch's `lr`, `max_epochs`, `batch_size`, `callbacks`, `device`.
    """

    lr: float

    def __init__(
        self,
        network: FusionNetwork,
        objectives: dict[str, nn.Module],
        *,
        weights: dict[str, float] | None = None,
        seed: int = 0,
        optimizer: Any = "adamw",
        weight_decay: float = 0.0,
        scheduler: Any = None,
        verbose: int = 0,
        precision: str = "float32",
        compile_network: bool = False,
        layer_decay: float = 1.0,
        **kwargs: Any,
    ) -> None:
        if not objectives:
            raise ValueError("objectives is empty; due is at least one.")
        super().__init__(network, nn.ModuleList(objectives.values()), optimizer=optimizer, verbose=verbose, **kwargs)
        scoring = [c for c in self.callbacks or () if isinstance(c, ScoringBase | PassthroughScoring)]
        if scoring:
            raise TypeError(
                f"callbacks holds {scoring[0]!r}, which needs skorch's own data sets. train_loss and valid_loss are "
                "recorded without it; for another score use cross_validate, or early_stopping=True for the loss."
            )
        self.objective_names = list(objectives)
        self.weights = dict(weights or {})
        self.seed = seed
        self.weight_decay = weight_decay
        self.scheduler = scheduler
        self.precision = precision
        self.compile_network = compile_network
        self.layer_decay = layer_decay
        self._compiled: Any = None
        self.initialize()
        # The trained ones are module_ and criterion_; holding them twice would double every pickle.
        self.module, self.criterion = FusionNetwork, nn.ModuleList

    @property
    def _default_callbacks(self) -> list[tuple[str, Callback]]:
        callbacks: list[tuple[str, Callback]] = [("epoch_timer", EpochTimer())]
        if self.verbose == 1:
            callbacks.append(("progress", ProgressBar(type(self).__name__)))
        if self.verbose > 1:
            callbacks.append(("print_log", PrintLog()))
        return callbacks

    def initialize_optimizer(self, triggered_directly: Any = None) -> "FusionNet":
        """Build the optimizer over all parameters that want a gradient."""
        parameters = [p for _, p in self.get_all_learnable_params() if p.requires_grad]
        build = self.optimizer
        options: dict[str, Any] = {}
        if build == "adamw":
            build = torch.optim.AdamW
            options["fused"] = torch.device(self.device).type in ("cpu", "cuda")
        if "weight_decay" in inspect.signature(build).parameters and not _sets(build, "weight_decay"):
            options["weight_decay"] = self.weight_decay
        if not _sets(build, "lr"):
            options["lr"] = self.lr
        # A network of fixed features alone has nothing to optimise but its head; torch refuses an empty list.
        self._factors = [1.0]
        if self.layer_decay == 1:
            self.optimizer_ = build(parameters, **options)
        else:
            self.optimizer_ = build(self._groups(parameters), **options)
            for group, factor in zip(self.optimizer_.param_groups, self._factors):
                group["lr"] *= factor
        self._base_rates = [
            {name: group[name] for name in _RATES if name in group} for group in self.optimizer_.param_groups
        ]
        return self

    def _groups(self, parameters: list[nn.Parameter]) -> list[dict[str, Any]]:
        """Group parameters by layer, what objectives learn with the heads; learn the factor of each group's rate."""
        levels = [[p for p in level if p.requires_grad] for level in layers_below(self.module_)]
        in_network = {id(p) for p in self.module_.parameters()}
        levels[0] += [p for p in parameters if id(p) not in in_network]
        depths = [depth for depth, level in enumerate(levels) if level]
        self._factors = [self.layer_decay**depth for depth in depths]
        return [{"params": levels[depth]} for depth in depths]

    def regroup(self, frozen: list[str], layer_decay: float) -> None:
        """Freeze other parts, or train layers at other rates, from here on; the optimizer starts anew."""
        if frozen == self.module_.frozen and layer_decay == self.layer_decay:
            return
        self.module_.freeze(frozen)
        self.layer_decay = layer_decay
        self.initialize_optimizer()

    def get_split_datasets(
        self, X: tuple[TensorData, TensorData | None], y: Any = None, **fit_params: Any
    ) -> tuple[TensorData, TensorData | None]:
        """Return the pair that was handed in."""
        return X

    def get_iterator(self, dataset: TensorData, training: bool = False) -> "Batches":
        """Iterate over slices of whole tensors."""
        return Batches(dataset, self.batch_size, shuffle=training, net=self)

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Set up the schedule over the epochs to come."""
        super().on_train_begin(net, X, y, **kwargs)
        train, _ = X
        steps = len(spans(len(train), self.batch_size, training=True))
        self.scheduler_: Any = None
        # What is compiled is neither copied nor pickled: it lives as long as training does. The method and not the
        # module, since skorch takes no further modules once it is initialized.
        self._compiled = torch.compile(self.module_.forward) if self.compile_network else None
        self._n_before = len(self.history)
        self._n_train = train.n_samples  # rows are counted in the whole, also where a part is held out
        # The schedule of an earlier fit has left the learning rate where it ended, which is next to 0.
        for group, rates in zip(self.optimizer_.param_groups, self._base_rates):
            group.update(rates)
        if self.scheduler == "one_cycle":
            self.scheduler_ = OneCycleLR(
                self.optimizer_,
                max_lr=[group["lr"] for group in self.optimizer_.param_groups],
                total_steps=max(steps * self.max_epochs, 2),
                pct_start=0.3,
                cycle_momentum=bool({"momentum", "betas"} & set(self.optimizer_.defaults)),
            )
        elif self.scheduler is not None:
            self.scheduler_ = self.scheduler(self.optimizer_)
        self._steps_by_batch = isinstance(self.scheduler_, (OneCycleLR, CyclicLR))
        self._watchers = [
            callback
            for _, callback in self.callbacks_
            if any(getattr(type(callback), m) is not getattr(Callback, m) for m in _BATCH_METHODS)
        ]

    def on_train_end(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Drop what is of use in training alone."""
        super().on_train_end(net, X, y, **kwargs)
        self.scheduler_, self._watchers, self._compiled = None, [], None
        for objective in self.criterion_:
            getattr(objective, "on_train_end", noop)()

    def run_single_epoch(
        self, iterator: "Batches | None", training: bool, prefix: str, step_fn: Any, **fit_params: Any
    ) -> None:
        """Run an epoch; the mean loss is read from the device once, at its end."""
        if iterator is None:
            return
        self._set_training(training)
        epoch = len(self.history) - 1
        totals: dict[str, Tensor] = {}
        counts: dict[str, Tensor] = {}
        for samples in iterator:
            if self._watchers:
                self.notify("on_batch_begin", batch=samples, training=training)
            losses = self._train_on(samples, epoch) if training else self._validate_on(samples, epoch)
            size = len(samples.index)
            for name, (value, n) in losses.items():
                totals[name] = value * n + totals.get(name, 0)
                counts[name] = n + counts.get(name, 0)
            if self._watchers:
                loss = losses["loss"].mean
                self.history.record_batch(f"{prefix}_loss", loss.item())
                self.history.record_batch(f"{prefix}_batch_size", size)
                self.notify("on_batch_end", batch=samples, training=training, loss=loss, y_pred=None)
        if not totals:
            return
        # 0 / 0, a modality that no sample has, is NaN.
        means = dict(zip(totals, (torch.stack(list(totals.values())) / torch.stack(list(counts.values()))).tolist()))
        mean = means.pop("loss")
        if training and not math.isfinite(mean):
            raise self.diverged(f"the loss is {mean} in epoch {epoch + 1}")
        for name, value in means.items():
            self.history.record(f"{prefix}_loss_{name}", value)
        best = min((row[f"{prefix}_loss"] for row in self.history[:-1] if f"{prefix}_loss" in row), default=math.inf)
        self.history.record(f"{prefix}_loss", mean)
        self.history.record(f"{prefix}_loss_best", mean < best)
        if training and self.scheduler_ is not None and not self._steps_by_batch:
            plateau = isinstance(self.scheduler_, ReduceLROnPlateau)
            self.scheduler_.step(mean) if plateau else self.scheduler_.step()

    def on_epoch_begin(self, net: Any, dataset_train: Any = None, dataset_valid: Any = None, **kwargs: Any) -> None:
        """Tell the network and the objectives how far the training has come."""
        super().on_epoch_begin(net, dataset_train, dataset_valid, **kwargs)
        done = len(self.history) - 1 - self._n_before  # this epoch has a row already
        progress = done / (self.max_epochs - 1) if self.max_epochs > 1 else 1.0
        self.module_.begin_epoch(progress)
        for objective in self.criterion_:
            getattr(objective, "begin_epoch", noop)(progress)

    def on_epoch_end(self, net: Any, dataset_train: Any = None, dataset_valid: Any = None, **kwargs: Any) -> None:
        """Let objectives look at the epoch that has ended."""
        super().on_epoch_end(net, dataset_train, dataset_valid, **kwargs)
        for objective in self.criterion_:
            getattr(objective, "on_epoch_end", noop)(self.history)

    def _train_on(self, samples: Samples, epoch: int) -> dict[str, Part]:
        losses: dict[str, Part] = {}

        def closure() -> Tensor:
            self.optimizer_.zero_grad(set_to_none=True)
            losses.update(self._losses(self._named_objectives, samples, epoch))
            loss = losses["loss"].mean
            # Of a batch that no objective concerns there is nothing to learn.
            if loss.requires_grad:
                loss.backward()  # type: ignore[no-untyped-call]
            for objective in self.criterion_:
                getattr(objective, "on_gradients", noop)(self.module_)
            if self._watchers:
                named = list(self.module_.named_parameters())
                self.notify("on_grad_computed", named_parameters=named, batch=samples, training=True)
            return loss.detach()

        # LBFGS and its like ask for the loss as often as they want.
        first: Tensor = self.optimizer_.step(closure)
        if self._steps_by_batch:
            self.scheduler_.step()
        parts = {name: Part(value.detach(), n) for name, (value, n) in losses.items()}
        return {**parts, "loss": Part(first, losses["loss"].n)}

    @torch.no_grad()
    def _validate_on(self, samples: Samples, epoch: int) -> dict[str, Part]:
        chosen = self._named_objectives
        if self._is_supervised:
            chosen = chosen[:1] + [pair for pair in chosen[1:] if getattr(pair[1], "validates", False)]
        return self._losses(chosen, samples, epoch)

    @property
    def _is_supervised(self) -> bool:
        return self.objective_names[:1] == ["supervised"]

    @property
    def _named_objectives(self) -> list[tuple[str, Any]]:
        return list(zip(self.objective_names, self.criterion_))

    def _losses(self, objectives: list[tuple[str, Any]], samples: Samples, epoch: int) -> dict[str, Part]:
        """Return ``"loss"``, the sum of the objectives', and by name what they and the fusion tell apart."""
        network = self.module_
        supervised = self.criterion_[0] if self._is_supervised else None
        context = Context(
            network,
            samples.target,
            samples.weight,
            samples.index,
            self._n_train,
            epoch,
            supervised=supervised,
            run=self._in_precision,
        )
        whole = network.drop(samples.batch)
        found: dict[str, Tensor | Part] = {}
        total: Tensor = torch.zeros((), device=whole.present.device)
        clean: FusionOutput | None = None
        for name, objective in objectives:
            outputs = {}
            for view, batch in objective.views(whole, None).items():
                if batch is whole:
                    clean = self._run(batch) if clean is None else clean
                    outputs[view] = clean
                else:
                    outputs[view] = self._run(batch)
            losses = dict(objective.loss(outputs, whole, context))
            loss = losses.pop("loss")
            total = total + self.weights.get(name, 1.0) * (loss.mean if isinstance(loss, Part) else loss)
            if objective is not supervised:
                losses.setdefault(f"of_{name}", loss)
            # Two objectives of one class tell the same parts apart.
            found.update({key if key not in found else f"{key} ({name})": value for key, value in losses.items()})
        # What a fusion adds is no part of how well it predicts.
        if clean is not None and self.module_.training:
            for name, extra in clean.losses.items():
                total = total + extra
                found[f"of_{name}"] = extra
        size = total.detach().new_full((), len(samples.index))
        parts = {name: value if isinstance(value, Part) else Part(value, size) for name, value in found.items()}
        return {**parts, "loss": Part(total, size)}

    def _run(self, batch: Batch) -> FusionOutput:
        is_compiled = self._compiled is not None and self.module_.training
        return self._in_precision(self._compiled if is_compiled else self.module_, batch)

    def _in_precision(self, network: Any, batch: Batch) -> FusionOutput:
        if self.precision == "float32":
            output: FusionOutput = network(batch)
            return output
        with torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16):
            output = network(batch)
        return output.map(lambda tensor: tensor.float() if tensor.is_floating_point() else tensor)

    def set_lr(self, lr: float) -> None:
        """Train on with another learning rate, unless the optimizer came with its own."""
        if lr != self.lr and not _sets(self.optimizer, "lr"):
            self.lr = lr
            for rates, factor in zip(self._base_rates, self._factors):
                rates["lr"] = lr * factor

    def diverged(self, what: str) -> ValueError:
        """Return the error that says so."""
        return ValueError(
            f"training diverged: {what}. Use a smaller lr (it is {self.lr}), or scale=True if the values are large."
        )

    def outputs(self, data: TensorData) -> Iterator[FusionOutput]:
        """Yield what the network makes of `data`, in order and without gradients."""
        self._set_training(False)
        with torch.inference_mode():
            for samples in data.iterate(_PREDICTION_BATCH):
                n = len(samples.index)
                yield self._run(samples.batch.padded(-n % PREDICTION_STEP)).first(n)


class Batches:
    """An iterable over the batches of one epoch after the other."""

    def __init__(self, data: TensorData, batch_size: int, *, shuffle: bool, net: FusionNet) -> None:
        self.data, self.batch_size, self.shuffle, self.net = data, batch_size, shuffle, net

    def __iter__(self) -> Iterator[Samples]:
        """Start an epoch; its order depends on the seed and the number of epochs before it alone."""
        if not self.shuffle:
            return self.data.iterate(self.batch_size)
        generator = torch.Generator().manual_seed(self.net.seed + len(self.net.history))
        return self.data.iterate(self.batch_size, shuffle=True, generator=generator)

    def __len__(self) -> int:
        return len(spans(len(self.data), self.batch_size, training=self.shuffle))


def early_stopping(patience: int) -> StopEarly:
    """Stop when the validation loss has not improved for `patience` epochs, and restore the best weights."""
    return StopEarly(monitor="valid_loss", patience=patience, threshold=0, load_best=True, sink=noop)


def _sets(build: Any, keyword: str) -> bool:
    return isinstance(build, partial) and keyword in build.keywords
