"""Transfer from a table to an image: its columns teach the channels that resemble them."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skfusion.encoders.batch import Batch, ModalityBatch, Tokens, masked_mean
from skfusion.fusion.output import FusionOutput
from skfusion.objectives.channels import visible_channels
from skfusion.objectives.checks import require_at_least_0, require_whole_numbers
from skfusion.objectives.context import Context, Part, Setting, mean_of
from skfusion.objectives.decode import is_symbol, symbol_columns, symbol_error
from skfusion.objectives.objective import Objective
from skfusion.objectives.probe import count_tokens


class TableTransfer(Objective):
    r"""A table teaches the network of an image, which predicts by itself afterwards [1]_.

    Each column of the table is predicted from those channels of the image that resemble it: x_r from a linear map of
    :math:`m_r \odot f`, where f is the mean of the image's tokens and m_r is 1 for the channels that column r sees.
    Added to the supervised loss are .6 times that of the table alone, a linear map of its mean token, and .03 times
    the mean squared error over numeric columns, standardised, and .03 times the mean cross-entropy over categories.

    What a column sees: k-means groups the channels by their maps over samples and tokens. Each column's tokens and
    each centre's maps, X over their norm, have similarities of samples :math:`G = X X^\top`; the plan of exact optimal
    transport between columns and centres, both uniform, at the cost :math:`\sum (G_r - G_c)^2` says who belongs
    together. A column sees the channels of the centres to which the plan moves some of its mass; before the first plan
    it sees all of them.

    The plan is made after the first epoch and anew after every `every` epochs, from training samples that have both
    modalities: the first `n_samples` of the epoch, whose order is random. The paper takes a validation set, which an
    objective does not see. The network runs over them once more for it, in evaluation.

    Use it with ``fusion=functools.partial(Primary, modality=image)`` from `skfusion.fusion`, so that the prediction is
    that of the image alone, and with an encoder of one token a column for the table, such as "tokens".

    Parameters
    ----------
    image : str, default=None
        The modality that is taught; its tokens' units are the channels. None is the only one of images or volumes.
    table : str, default=None
        The modality that teaches. None is the only table.
    n_clusters : int, default=40
        Groups of channels; at most as many as there are channels.
    every : int, default=5
        Epochs between plans.
    table_weight : float, default=0.6
        Weight of the table's own loss.
    transfer_weight : float, default=0.03
        Weight of the columns' losses.
    n_samples : int, default=256
        Samples that a plan is made from, at most.

    References
    ----------
    .. [1] Jiang et al., "Tabular insights, visual impacts: transferring expertise from tables to images", ICML, 2024.

    Examples
    --------
    >>> from functools import partial
    >>> import numpy as np
    >>> import pandas as pd
    >>> from skfusion import JointFusionClassifier
    >>> from skfusion.fusion import Primary
    >>> from skfusion.objectives import TableTransfer
    >>> rng = np.random.default_rng(0)
    >>> images, y = rng.normal(size=(60, 1, 8, 8)), np.arange(60) % 2
    >>> table = pd.DataFrame({"weight": rng.normal(size=60), "colour": rng.choice(["red", "blue"], size=60)})
    >>> model = JointFusionClassifier(
    ...     encoders={"image": "patch2d", "table": "tokens"},
    ...     fusion=partial(Primary, modality="image"),
    ...     objectives=[TableTransfer(n_clusters=8)],
    ...     max_epochs=2,
    ...     random_state=0,
    ... ).fit({"image": images, "table": table}, y)
    >>> model.predict({"image": images}).shape
    (60,)
    """

    when = "any"
    needs_target = True
    image: Any
    table: Any
    visible: Tensor
    feature: Tensor
    is_number: Tensor
    levels: Tensor

    def __init__(
        self,
        image: str | None = None,
        table: str | None = None,
        *,
        n_clusters: int = 40,
        every: int = 5,
        table_weight: float = 0.6,
        transfer_weight: float = 0.03,
        n_samples: int = 256,
    ) -> None:
        super().__init__()
        require_whole_numbers("TableTransfer", n_clusters=n_clusters, every=every)
        require_whole_numbers("TableTransfer", least=2, n_samples=n_samples)
        require_at_least_0("TableTransfer", table_weight=table_weight, transfer_weight=transfer_weight)
        if image is not None and image == table:
            raise ValueError(f"image and table of TableTransfer are both {image!r}; due are two modalities.")
        self.image, self.table = image, table
        self.n_clusters, self.every, self.n_samples = n_clusters, every, n_samples
        self.table_weight, self.transfer_weight = table_weight, transfer_weight
        self._gathered: _Gathered | None = None

    # building

    def prepare(self, setting: Setting) -> None:
        """Find the modalities, and build the table's head and the columns' linear maps."""
        network, shapes = setting.network, setting.shapes
        self.table = _chosen("table", self.table, [name for name in shapes if len(shapes[name]) == 1], list(shapes))
        self.image = _chosen("image", self.image, [name for name in shapes if len(shapes[name]) > 2], list(shapes))
        if len(shapes[self.table]) != 1:
            raise ValueError(
                f"table of TableTransfer is {self.table!r}, whose samples have the shape {shapes[self.table]}; due is "
                "a modality of columns."
            )
        if self.image == self.table:
            raise ValueError(f"image and table of TableTransfer are both {self.image!r}; due are two modalities.")
        (n_in,) = shapes[self.table]
        groups = setting.groups.get(self.table) or list(range(n_in))
        encoders = dict(zip(network.names, network.encoders))
        n_tokens, n_features = count_tokens(setting, self.table), max(groups) + 1
        if n_tokens != n_features:
            raise ValueError(
                f"the encoder of {self.table!r} gives {n_tokens} tokens for {n_features} columns; TableTransfer needs "
                f'one a column: encoders={{{self.table!r}: "tokens"}}.'
            )
        n_channels, width = encoders[self.image].n_out, encoders[self.table].n_out
        with torch.no_grad():
            n_out = sum(network.n_classes or network.head(torch.zeros(1, setting.widths["fusion"])).shape[1:])
        self.head = nn.Linear(width, n_out)
        self.columns = nn.Linear(n_channels, n_in)  # a map a column
        self.register_buffer("visible", torch.ones(n_features, n_channels, dtype=torch.bool))
        self._sort_columns(groups)

    def _sort_columns(self, groups: list[int]) -> None:
        """Tell numbers from categories, whose levels have a column each."""
        members = [[column for column, group in enumerate(groups) if group == g] for g in range(max(groups) + 1)]
        categories = [columns for columns in members if len(columns) > 1]
        longest = max(map(len, categories), default=1)
        padded = [[*columns, *[len(groups)] * (longest - len(columns))] for columns in categories]
        is_number = torch.tensor([len(members[group]) == 1 for group in groups])
        levels = torch.tensor(padded, dtype=torch.int64).view(-1, longest)
        for name, value in (
            ("feature", torch.tensor(groups)),  # (n_in,)
            ("is_number", is_number),  # (n_in,)
            ("levels", levels),  # (C, L)
        ):
            self.register_buffer(name, value, persistent=False)

    # training

    def views(self, batch: Batch, generator: object = None) -> dict[str, Batch]:
        """Return the batch as it is."""
        return {"clean": batch}

    def loss(self, outputs: dict[str, FusionOutput], batch: Batch, context: Context) -> dict[str, Part]:
        """Return the table's own loss and that of predicting its columns."""
        names, encoded = context.network.names, outputs["clean"].encoded
        has_image, has_table = (batch.present[:, names.index(name)] for name in (self.image, self.table))  # (B,)
        both = has_image & has_table
        seen, own = (
            masked_mean(Tokens(encoded[name].values, encoded[name].mask & there.unsqueeze(1)))
            for name, there in ((self.image, has_image), (self.table, has_table))
        )  # (B, D), (B, D')
        values = torch.where(has_table.unsqueeze(1), batch.modalities[self.table].values, 0.0)  # (B, n_in)
        weight = torch.ones_like(seen[:, 0]) if context.weight is None else context.weight
        taught = mean_of(has_table, context.supervised.each(self.head(own), context.target) * weight)
        moved = mean_of(both, self.transfer(seen, values) * weight)
        if self.training and context.epoch % self.every == 0:
            self._gather(batch, both, context.network)
        # The supervised loss is the mean over the fused prediction and those of the heads.
        share = 1 / (1 + len(context.network.head_names))
        total = share * (self.table_weight * taught.mean + self.transfer_weight * moved.mean)
        return {"loss": Part(total, taught.n), "of_table": taught, "of_columns": moved}

    def transfer(self, channels: Tensor, values: Tensor) -> Tensor:
        """Loss (B,) of predicting the columns (B, n_in) from the channels (B, D) that each sees."""
        seeing = self.columns.weight * self.visible[self.feature]  # (n_in, D)
        predicted = F.linear(channels, seeing, self.columns.bias)  # (B, n_in)
        numbers = torch.where(self.is_number, (predicted - values).square(), 0.0).sum(1)  # (B,)
        loss: Tensor = numbers / self.is_number.sum().clamp(min=1)
        return loss + category_loss(predicted, values, self.levels) if len(self.levels) else loss

    def _gather(self, batch: Batch, both: Tensor, network: nn.Module) -> None:
        """Keep the samples that have `both` (B,), until there are `n_samples`; without waiting for the device."""
        if self._gathered is None:
            self._gathered = _Gathered(batch, self.n_samples, network)
        self._gathered.add(batch, both)

    @torch.no_grad()
    def on_epoch_end(self, history: object = None) -> None:
        """Make a plan, where this epoch gathered samples for it."""
        gathered, self._gathered = self._gathered, None
        if gathered is None:
            return
        encoded = gathered.encoded()
        if len(encoded[self.image].mask) < 2:
            return  # nothing is similar or not
        (image, real), (columns, _) = (encoded[name] for name in (self.image, self.table))
        maps = torch.where(real.unsqueeze(-1), image, 0.0)  # (n, T, D)
        # Small, and on the CPU the same seed gives the same groups whatever the device.
        self.visible.copy_(visible_channels(maps.double().cpu(), columns.double().cpu(), self.n_clusters))

    def on_train_end(self) -> None:
        """Drop samples that were gathered for a plan."""
        self._gathered = None


class _Gathered:
    """Samples of an epoch for a plan, in a buffer on the device, and the network that they went through."""

    def __init__(self, like: Batch, n_samples: int, network: nn.Module) -> None:
        self.network, self.n_samples = network, n_samples

        def room(tensor: Tensor) -> Tensor:
            return tensor.new_zeros(n_samples + 1, *tensor.shape[1:])  # the last row takes what is not kept

        self.batch = _mapped(room, like)
        self.n = torch.zeros((), dtype=torch.int64, device=like.present.device)

    def add(self, batch: Batch, chosen: Tensor) -> None:
        """Append the samples that are `chosen` (B,) while there is room."""
        places = (self.n + chosen.cumsum(0) - 1).clamp(max=self.n_samples)
        places = torch.where(chosen, places, self.n_samples)
        _mapped(lambda kept, new: kept.index_copy_(0, places, new), self.batch, batch)
        self.n = self.n + chosen.sum()

    def encoded(self) -> dict[str, Tokens]:
        """Tokens of what was kept, as the network gives them in evaluation."""
        n = min(int(self.n), self.n_samples)
        was_training = self.network.training
        self.network.eval()
        output: FusionOutput = self.network(_mapped(lambda kept: kept[:n], self.batch))
        self.network.train(was_training)
        return output.encoded


def _mapped(change: Callable[..., Any], *batches: Batch) -> Batch:
    """Apply `change` to the tensors of batches that are built alike."""
    modalities = {
        name: ModalityBatch._make(
            None if parts[0] is None else change(*parts) for parts in zip(*(b.modalities[name] for b in batches))
        )
        for name in batches[0].modalities
    }
    return Batch(modalities, change(*(batch.present for batch in batches)))


def category_loss(predicted: Tensor, values: Tensor, levels: Tensor) -> Tensor:
    """Return the mean cross-entropy over the categories of each sample, (B,).

    Parameters
    ----------
    predicted, values : Tensor
        (B, n_in) logits and one-hot values. A category of zeros, an unknown level, is left out.
    levels : Tensor
        (C, L) the columns of each category; n_in where it has fewer.
    """
    codes = symbol_columns(values, levels)  # (B, C, L)
    known = is_symbol(codes)  # (B, C)
    each = symbol_error(symbol_columns(predicted, levels), codes)  # (B, C)
    return torch.where(known, each, 0.0).sum(1) / known.sum(1).clamp(min=1)


def _chosen(what: str, name: str | None, candidates: list[str], known: list[str]) -> str:
    """Return the modality that is named, or the only candidate."""
    if name is None and len(candidates) != 1:
        raise ValueError(
            f"{what} of TableTransfer is None, but X has {candidates} to choose from; name one of {known}."
        )
    if name is not None and name not in known:
        raise ValueError(f"{what} of TableTransfer is {name!r}, which X lacks; X has {known}.")
    return candidates[0] if name is None else name
