"""Who may attend to whom in a fusion, found out by running it."""

from collections import Counter
from collections.abc import Mapping
from numbers import Integral
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from skfusion._build import build_fusion
from skfusion.encoders.batch import Tokens
from skfusion.encoders.transformer import Attended, recorded_attention
from skfusion.fusion import FUSIONS
from skfusion.fusion.masks import FUSION
from skfusion.training.device import seeded

Token = tuple[int, int]
"""The owner of a token, and which of the owner's tokens it is."""

Pairs = set[tuple[Token, Token]]
"""Who may attend to whom."""

_HEADS = ("fusion", "global")


def attention_masks(
    fusion: Any, modalities: Mapping[str, int], *, n_latent: int = 8, n_fusion_layers: int = 2
) -> dict[str, pd.DataFrame]:
    """Find out which tokens may attend to which.

    A fusion with random weights runs over random tokens, and every attention inside it is recorded: a pair is allowed
    where its weight is above 0. Attentions that run side by side, such as those of each modality's own blocks, make one
    layer.

    Parameters
    ----------
    fusion : str, class, functools.partial or nn.Module
        As in a joint estimator.
    modalities : dict of str to int
        The number of tokens of each modality.
    n_latent : int, default=8
        Width of the tokens.
    n_fusion_layers : int, default=2
        As in a joint estimator.

    Returns
    -------
    dict of str to DataFrame
        One bool table a distinct mask, a row a token that asks and a column a token that is asked, each called by its
        modality, ``"fusion"`` or ``"global"``. A mask is called by its layers; ``"read-out"`` has learned queries that
        are no tokens themselves; where a fusion runs over several sets of modalities, each is called by its members,
        ``"a+b"``.

    Raises
    ------
    ValueError
        Where the fusion records no attention, or `modalities` is not as due.
    """
    _check(modalities)
    labels = [*modalities, "global", "fusion"]  # owners -2 and -1 come last
    layers, apart = _sorted(_recorded(fusion, modalities, n_latent, n_fusion_layers), labels)
    if not layers and not apart:
        raise ValueError(f"fusion={fusion!r} records no attention between tokens; due is one of {_with_attention()}.")
    same: dict[frozenset[tuple[Token, Token]], list[int]] = {}
    for layer, pairs in layers.items():
        same.setdefault(frozenset(pairs), []).append(layer)
    titled = {_title(found): set(pairs) for pairs, found in same.items()}
    return {title: _table(pairs, labels) for title, pairs in {**titled, **apart}.items()}


def _check(modalities: Any) -> None:
    if not isinstance(modalities, Mapping) or not modalities:
        raise ValueError(
            f"modalities is {modalities!r}; due is a dict of name to number of tokens, such as {{'a': 3}}."
        )
    for name, n_tokens in modalities.items():
        if not isinstance(n_tokens, Integral) or n_tokens < 1:
            raise ValueError(f"modality {name!r} has {n_tokens!r} tokens; due is a whole number of at least 1.")
        if name in _HEADS:
            raise ValueError(f"a modality is called {name!r}, which is the name of a head; rename it.")


def _recorded(fusion: Any, modalities: Mapping[str, int], n_latent: int, n_fusion_layers: int) -> list[Attended]:
    """Run a fusion over random tokens of one sample."""
    with seeded(0, torch.device("cpu")), torch.no_grad():
        widths = dict.fromkeys(modalities, n_latent)
        # All heads see the same tokens, so one will do.
        module = build_fusion(fusion, widths, n_latent, dropout_rate=0.0, n_heads=1, n_fusion_layers=n_fusion_layers)
        tokens = {
            name: Tokens(torch.randn(1, n_tokens, n_latent), torch.ones(1, n_tokens, dtype=torch.bool))
            for name, n_tokens in modalities.items()
        }
        with recorded_attention(module.eval()) as records:
            module(tokens, torch.ones(1, len(modalities), dtype=torch.bool))
    return records


def _sorted(records: list[Attended], labels: list[str]) -> tuple[dict[int, Pairs], dict[str, Pairs]]:
    """Pairs of each layer, and of what is no layer, by title."""
    layers: dict[int, Pairs] = {}
    apart: dict[str, Pairs] = {}
    passed: dict[int, int] = {}  # how many layers each owner's tokens have been through
    for (queries, keys), weights in records:
        allowed = weights > 0  # (S, Tq, Tk)
        # Owners sample by sample, where there is one sample: sets of modalities lie side by side.
        if queries.ndim == 2:
            for q, k, seen in zip(queries.expand(len(allowed), -1), keys.expand(len(allowed), -1), allowed):
                pairs = _pairs(q, k, seen)
                apart.setdefault("+".join(labels[owner] for owner in _owners(pairs)), set()).update(pairs)
            continue
        pairs = _pairs(queries.view(-1), keys.view(-1), allowed[0])
        if not torch.equal(queries, keys):
            apart.setdefault("read-out", set()).update(pairs)
            continue
        owners = _owners(pairs)
        # All modalities share the fusion tokens, which therefore do not tell one layer from the next.
        layer = 1 + max(passed.get(owner, 0) for owner in [o for o in owners if o != FUSION] or owners)
        passed.update(dict.fromkeys(owners, layer))
        layers.setdefault(layer, set()).update(pairs)
    return layers, apart


def _pairs(queries: Tensor, keys: Tensor, allowed: Tensor) -> Pairs:
    """Owners (Tq,) and (Tk,) and who may attend to whom (Tq, Tk) to pairs of tokens; padding is in none."""
    rows, columns = _numbered(queries), _numbered(keys)
    return {(rows[i], columns[j]) for i, j in allowed.nonzero().tolist()}


def _numbered(owners: Tensor) -> list[Token]:
    count: Counter[int] = Counter()
    tokens = []
    for owner in owners.tolist():
        tokens.append((owner, count[owner]))
        count[owner] += 1
    return tokens


def _owners(pairs: Pairs) -> list[int]:
    """Owners of the tokens that ask: modalities, fusion, global."""
    return sorted({owner for (owner, _), _ in pairs}, key=_place)


def _place(owner: int) -> tuple[bool, int]:
    return owner < 0, abs(owner)


def _table(pairs: Pairs, labels: list[str]) -> pd.DataFrame:
    rows, columns = (
        sorted({pair[side] for pair in pairs}, key=lambda token: (_place(token[0]), token[1])) for side in (0, 1)
    )
    return pd.DataFrame(
        [[(row, column) in pairs for column in columns] for row in rows],
        index=pd.Index([labels[owner] for owner, _ in rows], name="from"),
        columns=pd.Index([labels[owner] for owner, _ in columns], name="to"),
    )


def _title(depths: list[int]) -> str:
    *first, last = map(str, sorted(depths))
    return f"layers {', '.join(first)} and {last}" if first else f"layer {last}"


def _with_attention() -> list[str]:
    return [name for name in FUSIONS if _recorded(name, {"a": 1, "b": 1}, 2, 2)]
