"""Causal modelling: each step of a sequence from those before it, and from what the other modalities say."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from skfusion.encoders.batch import Batch
from skfusion.encoders.tokens import sinusoids
from skfusion.encoders.transformer import Mask, Transformer, require_divisor
from skfusion.fusion.output import FusionOutput
from skfusion.objectives.checks import chosen, require_whole_numbers
from skfusion.objectives.context import Context, Part, Setting, concerned, mean_of
from skfusion.objectives.decode import is_symbol, symbol_error
from skfusion.objectives.masked import require_likelihoods
from skfusion.objectives.masked_modality import require_kind
from skfusion.objectives.objective import Objective

_LIKELIHOODS = ("squared", "categorical")


class NextToken(Objective):
    r"""Predict each step of a sequence from those before it, given what the other modalities say of the sample [1]_.

    That is :math:`-\log p(x_t \mid x_{<t}, h)`, the mean over the real steps of a sample. The condition h is the fused
    embedding of a view without that modality, so that it never holds the sequence itself, and 0 where a sample has no
    other modality. The decoder is a small transformer of its own, in which a step sees those before it alone. Symbols
    are predicted by cross-entropy, numbers by squared error. The losses of several sequences are added up.

    Parameters
    ----------
    modalities : list of str, default=None
        Which sequences are predicted; None is all.
    likelihood : dict of str to {"squared", "categorical"}, default=None
        "categorical" for a sequence of symbols, one-hot, whose class is the largest channel; "squared" for all others.
    n_latent : int, default=64
        Width of the decoder.
    n_layers : int, default=2
        Blocks of the decoder.
    n_heads : int, default=4
        Attention heads; a divisor of `n_latent`.

    References
    ----------
    .. [1] Xu et al., "ProtST: multi-modality learning of protein sequences and biomedical texts", ICML, 2023.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from skfusion import MultimodalPretrainer
    >>> from skfusion.objectives import NextToken
    >>> rng = np.random.default_rng(0)
    >>> X = {"function": rng.normal(size=(60, 4)), "protein": np.eye(5)[rng.integers(5, size=(60, 8))]}
    >>> objectives = [NextToken(likelihood={"protein": "categorical"})]
    >>> pretrainer = MultimodalPretrainer(objectives, max_epochs=1, device="cpu", random_state=0).fit(X)
    >>> condition = torch.from_numpy(pretrainer.transform({"function": X["function"][:3]}))
    >>> pretrainer.objectives_["next_token"].sample(condition, length=8).shape  # proteins for three functions
    torch.Size([3, 8, 5])
    """

    when = "any"

    def __init__(
        self,
        *,
        modalities: Sequence[str] | None = None,
        likelihood: Mapping[str, str] | None = None,
        n_latent: int = 64,
        n_layers: int = 2,
        n_heads: int = 4,
    ) -> None:
        super().__init__()
        require_likelihoods("NextToken", likelihood, _LIKELIHOODS)
        require_whole_numbers("NextToken", n_latent=n_latent, n_layers=n_layers, n_heads=n_heads)
        require_divisor(n_heads, n_latent)
        self.modalities = None if modalities is None else list(modalities)
        self.likelihood = dict(likelihood or {})
        self.n_latent, self.n_layers, self.n_heads = n_latent, n_layers, n_heads

    decoders: Any

    def prepare(self, setting: Setting) -> None:
        """Build a decoder for each sequence."""
        names, shapes = setting.network.names, setting.shapes
        self.names = [
            name
            for name in chosen("NextToken", self.modalities, names)
            if self.modalities is not None or len(shapes[name]) == 2
        ]
        other = [name for name in self.names if len(shapes[name]) != 2]
        if other or not self.names:
            which = f"samples of {other[0]!r} have shape {shapes[other[0]]}" if other else f"none of {names} is one"
            raise ValueError(f"NextToken is for sequences (steps, channels), but {which}.")
        for name in chosen("likelihood of NextToken", list(self.likelihood), names):
            require_kind(name, shapes[name], None, self.likelihood[name])
        self.columns = [names.index(name) for name in self.names]
        self.decoders = nn.ModuleList(
            CausalDecoder(
                shapes[name][1],
                setting.widths["fusion"],
                self.n_latent,
                n_layers=self.n_layers,
                n_heads=self.n_heads,
                is_categorical=self.likelihood.get(name) == "categorical",
            )
            for name in self.names
        )

    def views(self, batch: Batch, generator: object = None) -> dict[str, Batch]:
        """Return the batch without each of the sequences."""
        return {
            f"without_{name}": Batch(batch.modalities, others(batch.present, column))
            for name, column in zip(self.names, self.columns)
        }

    def loss(self, outputs: dict[str, FusionOutput], batch: Batch, context: Context) -> dict[str, Part]:
        """Return the sum over sequences, each the mean over its samples, and each by itself."""
        parts = {}
        for name, column, decoder in zip(self.names, self.columns, self.decoders):
            fused = outputs[f"without_{name}"].fused  # (B, D)
            has_other = others(batch.present, column).any(1, keepdim=True)
            condition = torch.where(has_other, fused, 0.0)
            values, mask = batch.modalities[name][:2]
            there = batch.present[:, column]
            mask = decoder.known(values, mask & there.unsqueeze(1))  # (B, T)
            each = decoder.errors(values, condition, mask).sum(1) / mask.sum(1).clamp(min=1)  # (B,)
            parts[f"of_next_token_{name}"] = mean_of(mask.any(1), each)
        loss = torch.stack([part.mean for part in parts.values()]).sum()
        return {"loss": Part(loss, concerned("any", batch.present, self.columns).sum()), **parts}

    def log_prob(
        self, sequence: Tensor, condition: Tensor, *, mask: Tensor | None = None, modality: str | None = None
    ) -> Tensor:
        """Return the log-probability of sequences.

        Parameters
        ----------
        sequence : Tensor
            (B, T, C) prepared values. Numbers are taken as normal with variance 1 around their prediction.
        condition : Tensor
            (B, D) fused embeddings without that modality, or zeros.
        mask : Tensor of bool, default=None
            (B, T) which steps are real; None is all.
        modality : str, default=None
            Which sequence; needed where there are several.

        Returns
        -------
        Tensor
            (B,).
        """
        decoder = self._decoder(modality)
        mask = sequence.new_ones(sequence.shape[:2], dtype=torch.bool) if mask is None else mask
        errors = decoder.errors(sequence, condition, decoder.known(sequence, mask))  # (B, T)
        if decoder.is_categorical:
            return -errors.sum(1)
        n_numbers = mask.sum(1) * sequence.shape[-1]
        return -0.5 * (errors.sum(1) * sequence.shape[-1] + n_numbers * math.log(2 * math.pi))

    def sample(
        self,
        condition: Tensor,
        length: int,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        *,
        modality: str | None = None,
    ) -> Tensor:
        """Draw sequences step by step.

        Parameters
        ----------
        condition : Tensor
            (B, D) fused embeddings without that modality, or zeros.
        length : int
            Number of steps.
        temperature : float, default=1.0
            What logits are divided by, or the standard deviation of numbers: the lower, the likelier the result.
        generator : torch.Generator, default=None
            For random numbers; None is torch's own.
        modality : str, default=None
            Which sequence; needed where there are several.

        Returns
        -------
        Tensor
            (B, length, C) symbols, one-hot, or numbers as prepared.
        """
        require_temperature(temperature)
        sequences: Tensor = self._decoder(modality).sample(condition, length, temperature, generator)
        return sequences

    def _decoder(self, modality: str | None) -> "CausalDecoder":
        if modality is None and len(self.names) > 1:
            raise ValueError(f"there are several sequences; give modality, one of {self.names}.")
        if modality is not None and modality not in self.names:
            raise ValueError(f"modality is {modality!r}; due is one of {self.names}.")
        decoder: CausalDecoder = self.decoders[0 if modality is None else self.names.index(modality)]
        return decoder


class CausalDecoder(nn.Module):
    """A transformer that predicts each step from a start token, the steps before, and a condition added to all.

    Parameters
    ----------
    n_channels : int
        Channels of a step; of symbols, how many there are.
    n_condition : int
        Width of the condition.
    width : int, default=64
        Width of the tokens.
    n_layers, n_heads : int
        Blocks, and heads of a block.
    is_categorical : bool, default=False
        Whether steps are symbols, one-hot.
    """

    def __init__(
        self,
        n_channels: int,
        n_condition: int,
        width: int = 64,
        *,
        n_layers: int = 2,
        n_heads: int = 4,
        is_categorical: bool = False,
    ) -> None:
        super().__init__()
        self.is_categorical = is_categorical
        self.start = nn.Parameter(0.02 * torch.randn(width))
        self.step = nn.Linear(n_channels, width)
        self.condition = nn.Linear(n_condition, width, bias=False)
        self.transformer = Transformer(width, n_heads, n_layers)
        self.out = nn.Linear(width, n_channels)

    def forward(self, values: Tensor, condition: Tensor, mask: Tensor) -> Tensor:
        """Values (B, T, C), condition (B, D) and real steps (B, T) to logits or numbers (B, T, C).

        What it gives for step t has seen the steps before t alone.
        """
        batch, length = mask.shape
        start = self.start.expand(batch, 1, -1)
        before = torch.cat([start, self.step(self.symbols(values)[:, :-1])], 1)  # (B, T, width)
        seen = torch.cat([mask.new_ones(batch, 1), mask[:, :-1]], 1)  # (B, T)
        position = sinusoids(length, before.shape[-1], before)  # (T, width)
        x = before + position + self.condition(condition).unsqueeze(1)  # (B, T, width)
        allowed = torch.ones(length, length, dtype=torch.bool, device=mask.device).tril() & seen.unsqueeze(1)
        out: Tensor = self.out(self.transformer(x, Mask.of(allowed)))
        return out

    def symbols(self, values: Tensor) -> Tensor:
        """Values (B, T, C) as one-hot codes, whatever their scale, where steps are symbols."""
        if not self.is_categorical:
            return values
        codes = nn.functional.one_hot(values.argmax(-1), values.shape[-1]) * is_symbol(values).unsqueeze(-1)
        return codes.to(values.dtype)

    def known(self, values: Tensor, mask: Tensor) -> Tensor:
        """Which of the real steps (B, T) there is something to predict of: not of an unknown symbol."""
        return mask & is_symbol(values) if self.is_categorical else mask

    def errors(self, values: Tensor, condition: Tensor, mask: Tensor) -> Tensor:
        """Loss of each step, (B, T); 0 where it is not in `mask`."""
        values = torch.where(mask.unsqueeze(-1), values, 0.0)  # a mask alone does not stop NaN
        predicted = self(values, condition, mask)  # (B, T, C)
        errors = symbol_error(predicted, values) if self.is_categorical else (predicted - values).square().mean(-1)
        return torch.where(mask, errors, 0.0)

    @torch.no_grad()
    def sample(self, condition: Tensor, length: int, temperature: float, generator: torch.Generator | None) -> Tensor:
        """Draw sequences (B, length, C), given a condition (B, D)."""
        n_channels = self.out.out_features
        values = condition.new_zeros(len(condition), 0, n_channels)
        for t in range(length):
            # A step of zeros, which nothing sees, makes room for what is to be predicted.
            room = torch.cat([values, condition.new_zeros(len(condition), 1, n_channels)], 1)  # (B, t + 1, C)
            mask = torch.ones(len(condition), t + 1, dtype=torch.bool, device=condition.device)
            predicted = self(room, condition, mask)[:, t]  # (B, C)
            if self.is_categorical:
                drawn = torch.multinomial((predicted / temperature).softmax(-1), 1, generator=generator)[:, 0]
                step = nn.functional.one_hot(drawn, n_channels).to(values.dtype)
            else:
                noise = torch.randn(predicted.shape, device=predicted.device, generator=generator)
                step = predicted + temperature * noise
            values = torch.cat([values, step.unsqueeze(1)], 1)
        return values


def others(present: Tensor, column: int) -> Tensor:
    """Who has what (B, M), but for one modality."""
    return present & (torch.arange(present.shape[1], device=present.device) != column)


def sample_profile(
    logits: Tensor, n: int, temperature: float = 1.0, generator: torch.Generator | None = None
) -> Tensor:
    """Draw sequences from a position-specific profile: each position by itself [1]_.

    Parameters
    ----------
    logits : Tensor
        (L, K) of the symbols at each position, such as an encoder's.
    n : int
        How many sequences.
    temperature : float, default=1.0
        What logits are divided by.
    generator : torch.Generator, default=None
        For random numbers; None is torch's own.

    Returns
    -------
    Tensor of int
        (n, L) symbols.

    References
    ----------
    .. [1] Xu et al., "ProtST: multi-modality learning of protein sequences and biomedical texts", ICML, 2023.

    Examples
    --------
    >>> import torch
    >>> from skfusion.objectives.next_token import sample_profile
    >>> sample_profile(torch.tensor([[9.0, -9.0], [-9.0, 9.0]]), n=2, temperature=0.1).tolist()
    [[0, 1], [0, 1]]
    """
    require_temperature(temperature)
    return torch.multinomial((logits / temperature).softmax(-1), n, replacement=True, generator=generator).T


def require_temperature(temperature: float) -> None:
    """Raise unless it is above 0."""
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature is {temperature!r}; due is a number above 0, such as 1.0.")
