"""From attention weights of tokens to who attended to whom."""

from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skfusion.encoders.transformer import Attended, recorded_attention
from skfusion.fusion.masks import FUSION, GLOBAL
from skfusion.fusion.within import Within
from skfusion.training.net import PREDICTION_STEP

_CHUNK = 2 * PREDICTION_STEP


def attention_maps(net: Any, data: Any) -> tuple[list[str], Any]:
    """Return names, and maps (n_samples, n_names, n_names) or None where the fusion has no attention."""
    names, fusion = net.module_.names, net.module_.fusion
    # Owners of tokens are counted among all that the fusion was made for.
    inside = list(fusion.widths) if isinstance(fusion, Within) else names
    chunks = []
    with recorded_attention(fusion) as records:
        # One chunk after the other, since weights of all layers are kept: they grow with the square of the tokens.
        for output in chain.from_iterable(net.outputs(data.subset(rows)) for rows in _spans(len(data))):
            n = len(output.fused)
            layers = [by_modality(record, len(inside)) for record in records]
            if not layers:
                return names, None
            # Subsets of modalities lie one after the other along the padded samples.
            padded = n + -n % PREDICTION_STEP
            each = torch.cat([layer.unflatten(0, (-1, padded)) for layer in layers])  # (layers or subsets, B, S, S)
            chunks.append(torch.nanmean(each, 0)[:n].float().cpu().numpy())
            records.clear()
    maps = np.concatenate(chunks)
    asked = {"fusion": FUSION, "global": GLOBAL}
    asked = {name: k for name, k in asked.items() if not np.isnan(maps[:, k]).all() or np.nansum(maps[:, :, k])}
    used = [*(inside.index(name) for name in names), *asked.values()]
    return [*names, *asked], maps[:, used][:, :, used]


def _spans(n_samples: int) -> list[Any]:
    return np.split(np.arange(n_samples), range(_CHUNK, n_samples, _CHUNK))


def by_modality(record: Attended, n_modalities: int) -> Tensor:
    """Weights (B, Tq, Tk) to shares by owner (B, M + 2, M + 2), the last two global and fusion; NaN without a query."""
    (queries, keys), weights = record
    n_owners = n_modalities + 2
    from_owner, to_owner = (_one_hot(owner, n_owners).to(weights) for owner in (queries, keys))  # (B or 1, T, S)
    to = weights @ to_owner  # (B, Tq, S)
    summed = from_owner.mT @ to  # (B, S, S)
    return summed / summed.sum(-1, keepdim=True)  # 0 / 0 is NaN: no such query


def _one_hot(owner: Tensor, n_owners: int) -> Tensor:
    """Owners (T,) or (B, T) to (1 or B, T, S); `GLOBAL` and `FUSION`, -2 and -1, come last."""
    encoded = torch.nn.functional.one_hot(owner % n_owners, n_owners)
    return encoded if encoded.ndim == 3 else encoded.unsqueeze(0)
