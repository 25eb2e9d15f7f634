"""Masked modelling: what was hidden of a modality must be told from the rest of it, or from the others."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from skfusion.encoders.batch import Batch, Tokens
from skfusion.fusion.output import FusionOutput
from skfusion.objectives.checks import WHEN, chosen, require_one_of, require_whole_numbers
from skfusion.objectives.context import Context, Part, Setting, concerned, mean_of, source_of_draws
from skfusion.objectives.masked_modality import MaskedModality, Task
from skfusion.objectives.objective import Objective
from skfusion.objectives.positions import hide
from skfusion.objectives.probe import probe

_LIKELIHOODS = ("squared", "categorical", "nb")


class _Masking(Objective):
    """What both kinds of masked modelling share; they differ in views, in what they predict from, and for whom."""

    label: str
    parts: Any

    def __init__(
        self,
        *,
        rate: float = 0.15,
        replacement: bool = True,
        when: str = "any",
        modalities: Sequence[str] | None = None,
        likelihood: Mapping[str, str] | None = None,
        n_hidden: int = 128,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        if not 0 < rate <= 1:
            raise ValueError(f"rate of {owner} is {rate!r}; due is a number above 0 and at most 1, such as 0.15.")
        require_one_of(owner, WHEN, when=when)
        require_whole_numbers(owner, n_hidden=n_hidden)
        require_likelihoods(owner, likelihood, _LIKELIHOODS)
        self.rate, self.replacement, self.when = rate, replacement, when
        self.modalities = None if modalities is None else list(modalities)
        self.likelihood = dict(likelihood or {})
        self.n_hidden = n_hidden
        self._tasks: dict[str, Task] = {}

    def prepare(self, setting: Setting) -> None:
        """Find each modality's positions, and build what predicts them."""
        network = setting.network
        self.names = chosen(type(self).__name__, self.modalities, network.names)
        chosen(f"likelihood of {type(self).__name__}", list(self.likelihood), network.names)
        self.columns = [network.names.index(name) for name in self.names]
        self.is_pure = bool(getattr(network.fusion, "is_pure", False))
        output = probe(setting)
        self.parts = nn.ModuleList(self._part(setting, name, output) for name in self.names)

    def _part(self, setting: Setting, name: str, output: FusionOutput) -> MaskedModality:
        tokens, beside = self.seen(dict.fromkeys(self.views_of([name]), output), name)
        return MaskedModality(
            name,
            setting.shapes[name],
            (output.encoded[name].values.shape[1], tokens.values.shape[1]),
            tokens.values.shape[-1] + beside.shape[-1],
            encoder=setting.network.encoders[setting.network.names.index(name)],
            groups=setting.groups.get(name),
            likelihood=self.likelihood.get(name, "squared"),
            n_hidden=self.n_hidden,
        )

    def views_of(self, names: list[str]) -> dict[str, str | None]:
        """Name the views, and of each the modality that it is kept to, or None for all."""
        raise TypeError(f"{type(self).__name__} defines no views_of(names).")

    def seen(self, outputs: dict[str, FusionOutput], name: str) -> tuple[Tokens, Tensor]:
        """Return what a modality is predicted from: its tokens, and an embedding (B, D)."""
        raise TypeError(f"{type(self).__name__} defines no seen(outputs, name).")

    def concerned(self, name: str, present: Tensor) -> Tensor:
        """Which samples of `present` (B, M) are asked for a modality, (B,)."""
        raise TypeError(f"{type(self).__name__} defines no concerned(name, present).")

    def views(self, batch: Batch, generator: torch.Generator | None = None) -> dict[str, Batch]:
        """Return the batch with positions of each modality hidden; `loss` is asked for them next."""
        generator = source_of_draws(self.training, batch.present, generator)
        modalities = dict(batch.modalities)
        for name, column, part in zip(self.names, self.columns, self.parts):
            modality = batch.modalities[name]
            at = part.positions_of(tuple(modality.values.shape[1:]))
            task = part.task(modality, batch.present[:, column], at, self.rate, self.replacement, generator)
            modalities[name] = modality._replace(values=hide(modality.values, task.drawn, at.owner))
            self._tasks[name] = task
        column_of = dict(zip(self.names, self.columns))
        views = {}
        for view, alone in self.views_of(self.names).items():
            present = batch.present
            if alone is not None:
                own = torch.arange(present.shape[1], device=present.device) == column_of[alone]
                present = present & own
            views[view] = Batch(modalities, present)
        return views

    def loss(self, outputs: dict[str, FusionOutput], batch: Batch, context: Context) -> dict[str, Part]:
        """Return the sum over modalities, each the mean over its samples, and each by itself."""
        parts, anyone = {}, torch.zeros_like(batch.present[:, 0])
        for name, part in zip(self.names, self.parts):
            task = self._tasks.pop(name)
            each = part.each(part.decode(*self.seen(outputs, name)), task)  # (B,)
            asked = self.concerned(name, batch.present) & (task.drawn > 0).any(1)  # (B,)
            parts[f"of_{self.label}_{name}"] = mean_of(asked, each)
            anyone = anyone | asked
        loss = torch.stack([part.mean for part in parts.values()]).sum()
        return {"loss": Part(loss, anyone.sum()), **parts}


class Masked(_Masking):
    r"""Predict positions of a modality that were hidden from what is left of the same modality [1]_ [2]_.

    Of the L positions of a sample :math:`n = \max(1, \lfloor \text{rate} \cdot L \rfloor)` are drawn, and set to 0 in
    what the network gets: the mean of standardised numbers, no symbol at all. The loss of a sample is the mean over
    draws. Those of modalities are added up, each the mean over its samples, so that the whole grows with their number
    (see `weights` of `MultimodalPretrainer`). A position is a feature of a table (all columns of a category, or the
    features of one token of the encoder "patches"), a step of a sequence (never padding), or a patch of an image.
    Numbers are predicted by squared error, symbols by cross-entropy; category columns of a DataFrame are symbols.

    Where the encoder and the fusion have a token for each position, that token predicts it, side by side with the
    modality's embedding; else one decoder predicts all from the embedding. The others are not seen: where the fusion
    lets them reach a modality's tokens, each modality goes through it alone.

    Parameters
    ----------
    rate : float, default=0.15
        Share of positions that are drawn.
    replacement : bool, default=True
        Whether a position may be drawn twice, and then counts twice.
    when : {"any", "all", "only"}, default="any"
        Which samples are asked for a modality that they have: all, those that have all of `modalities`, or those that
        have no other modality, as in FLAVA.
    modalities : list of str, default=None
        Which modalities are masked; None is all.
    likelihood : dict of str to {"squared", "categorical", "nb"}, default=None
        By modality: "categorical" for a sequence of symbols, one-hot, whose class is the largest channel; "nb", a
        negative binomial with a dispersion of each feature's own, for a table of counts (with ``scale=False``), whose
        mean is relative to the mean of the counts that are seen. "squared" for all others.
    n_hidden : int, default=128
        Width of the decoders' hidden layer.

    References
    ----------
    .. [1] Devlin et al., "BERT: pre-training of deep bidirectional transformers for language understanding", NAACL,
       2019.
    .. [2] Xu et al., "ProtST: multi-modality learning of protein sequences and biomedical texts", ICML, 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion import MultimodalPretrainer
    >>> from skfusion.objectives import Masked
    >>> rng = np.random.default_rng(0)
    >>> X = {"a": rng.normal(size=(60, 4)), "b": rng.normal(size=(60, 6, 2))}
    >>> pretrainer = MultimodalPretrainer([Masked(rate=0.3)], max_epochs=1, random_state=0).fit(X)
    >>> sorted(name for name in pretrainer.history_[0] if name.startswith("train_loss_of"))
    ['train_loss_of_masked', 'train_loss_of_masked_a', 'train_loss_of_masked_b']
    """

    label = "masked"

    def views_of(self, names: list[str]) -> dict[str, str | None]:
        """Name one view where modalities do not mix, else one a modality."""
        return {"masked": None} if self.is_pure else {f"only_{name}": name for name in names}

    def seen(self, outputs: dict[str, FusionOutput], name: str) -> tuple[Tokens, Tensor]:
        """Return the modality's tokens and its embedding."""
        output = outputs["masked" if self.is_pure else f"only_{name}"]
        return tokens_of(output, name), output.heads[name]

    def concerned(self, name: str, present: Tensor) -> Tensor:
        """Those that have the modality, and what `when` asks."""
        column = self.columns[self.names.index(name)]
        if self.when == "only":
            return concerned("only", present, [column])
        return present[:, column] & concerned(self.when, present, self.columns)


class CrossMasked(_Masking):
    r"""Predict positions of a modality that were hidden from all modalities, through the fusion [1]_ [2]_.

    As `Masked`, but from the modality's fused tokens side by side with the fused embedding, and for samples that have
    two modalities or more. All modalities are masked in one view. It wants a fusion that mixes tokens, such as
    "early_concat"; under "zorro" and those that pool, a token hears of the others through the fused embedding alone.

    Parameters
    ----------
    rate, replacement, modalities, likelihood, n_hidden
        As in `Masked`.
    when : {"any", "all", "only"}, default="any"
        Which samples with two modalities or more are asked for those that they have: all, those that have all of
        `modalities`, as in FLAVA, or those that have no others.

    References
    ----------
    .. [1] Xu et al., "ProtST: multi-modality learning of protein sequences and biomedical texts", ICML, 2023.
    .. [2] Singh et al., "FLAVA: a foundational language and vision alignment model", CVPR, 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion import MultimodalPretrainer
    >>> rng = np.random.default_rng(0)
    >>> X = {"a": rng.normal(size=(60, 4)), "b": rng.normal(size=(60, 6, 2))}
    >>> pretrainer = MultimodalPretrainer(["cross_masked"], fusion="early_concat", max_epochs=1, random_state=0).fit(X)
    >>> sorted(name for name in pretrainer.history_[0] if name.startswith("train_loss_of"))
    ['train_loss_of_cross_masked', 'train_loss_of_cross_masked_a', 'train_loss_of_cross_masked_b']
    """

    label = "cross_masked"

    def views_of(self, names: list[str]) -> dict[str, str | None]:
        """Name one view, with all modalities."""
        return {"cross_masked": None}

    def seen(self, outputs: dict[str, FusionOutput], name: str) -> tuple[Tokens, Tensor]:
        """Return the modality's fused tokens and the fused embedding."""
        output = outputs["cross_masked"]
        return tokens_of(output, name), output.fused

    def concerned(self, name: str, present: Tensor) -> Tensor:
        """Those that have the modality and another, and what `when` asks."""
        own = present[:, self.columns[self.names.index(name)]]
        return own & (present.sum(1) > 1) & concerned(self.when, present, self.columns)


def tokens_of(output: FusionOutput, name: str) -> Tokens:
    """Tokens of a modality: its own, those that a fusion adds up all modalities' to, or those that the fusion got."""
    return output.tokens.get(name, output.tokens.get("fusion", output.encoded[name]))


def require_likelihoods(owner: str, likelihood: Mapping[str, str] | None, allowed: tuple[str, ...]) -> None:
    """Raise unless `likelihood` is None or a dict of modalities to one of those `allowed`."""
    if likelihood is not None and not isinstance(likelihood, Mapping):
        raise ValueError(f"likelihood of {owner} is {likelihood!r}; due is a dict of modalities to {list(allowed)}.")
    for name, value in (likelihood or {}).items():
        if value not in allowed:
            raise ValueError(f"likelihood of {owner} is {value!r} for {name!r}; due is one of {list(allowed)}.")
