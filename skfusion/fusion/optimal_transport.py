"""Optimal transport: the tokens of a modality are moved to those of another before they are fused."""

import torch
import torch.nn.functional as F
from torch import Tensor

from skfusion.encoders.batch import Tokens, all_true
from skfusion.fusion.blocks import cleaned
from skfusion.fusion.early_concat import EarlyConcat

_MOST_COST = 2.0
"""1 - cos is at most that."""
_MOST_EXPONENT = 60.0
"""exp(-60) is well within float32."""


class OptimalTransport(EarlyConcat):
    r"""Tokens of b are aligned to those of a by the plan P, as T_a P tokens_b; then early concatenation [1]_.

    P is the Sinkhorn plan of the cost 1 - cos(tokens_a, tokens_b) between uniform distributions over the tokens that
    are present; no gradient runs through it. With more than two modalities each is aligned to the first one. A sample
    without the first keeps the others' tokens as they are.

    Parameters
    ----------
    widths, n_latent, dropout_rate, n_heads, n_fusion_layers
        As in every fusion of tokens.
    epsilon : float, default=0.05
        Entropic regularisation.
    n_iter : int, default=50
        Sinkhorn iterations.

    References
    ----------
    .. [1] Cuturi, "Sinkhorn distances: lightspeed computation of optimal transport", NeurIPS, 2013.
    """

    def __init__(
        self,
        widths: dict[str, int],
        n_latent: int,
        *,
        epsilon: float = 0.05,
        n_iter: int = 50,
        **options: object,
    ) -> None:
        super().__init__(widths, n_latent, **options)  # type: ignore[arg-type]
        self.epsilon, self.n_iter = epsilon, n_iter

    def mix(self, tokens: dict[str, Tokens], present: Tensor) -> dict[str, Tokens]:
        """Align to the first modality, then mix all."""
        anchor, *others = tokens
        if not others:
            return super().mix(tokens, present)
        first = tokens[anchor]
        there = first.mask.any(1, keepdim=True)  # (B, 1)
        ready = {anchor: first}
        longest = max(tokens[name].mask.shape[1] for name in others)
        # All others at once, padded to the longest; in half precision the cost would lose what tells tokens apart.
        with torch.no_grad(), torch.autocast(first.mask.device.type, enabled=False):
            theirs = torch.cat([lengthened(tokens[name].values, longest) for name in others])  # (O B, Tb, D)
            real = torch.cat([F.pad(tokens[name].mask, (0, longest - tokens[name].mask.shape[1])) for name in others])
            n = len(others)
            unit = F.normalize(precise(first.values), dim=-1).repeat(n, 1, 1)
            cost = 1 - unit @ F.normalize(precise(theirs), dim=-1).mT  # (O B, Ta, Tb)
            plans = sinkhorn(cost, first.mask.repeat(n, 1), real, self.epsilon, self.n_iter)
            plans = plans * first.mask.sum(1).repeat(n).view(-1, 1, 1)
        everyone_there = all_true(there)
        for name, plan in zip(others, plans.chunk(n)):
            own = tokens[name]
            scaled = plan[..., : own.mask.shape[1]]
            # A row of the plan is 0 where this modality is missing: there is nothing to align.
            has_both = there & own.mask.any(1, keepdim=True)
            aligned = Tokens(scaled @ own.values, first.mask & has_both)  # (B, Ta, D)
            if not everyone_there:
                length = max(aligned.mask.shape[1], own.mask.shape[1])
                aligned = Tokens(
                    torch.where(
                        there.unsqueeze(-1), lengthened(aligned.values, length), lengthened(own.values, length)
                    ),
                    torch.where(
                        there,
                        F.pad(aligned.mask, (0, length - aligned.mask.shape[1])),
                        F.pad(own.mask, (0, length - own.mask.shape[1])),
                    ),
                )
            ready[name] = cleaned(aligned)
        return super().mix(ready, present)


def sinkhorn(cost: Tensor, rows: Tensor, columns: Tensor, epsilon: float, n_iter: int) -> Tensor:
    """Plan of entropic optimal transport between uniform distributions over real rows and real columns.

    Parameters
    ----------
    cost : Tensor
        (B, Ta, Tb), from 0 to 2.
    rows, columns : Tensor of bool
        (B, Ta) and (B, Tb), which of them are real.
    epsilon : float
        Entropic regularisation.
    n_iter : int
        Iterations, each of which fits the columns and then the rows.

    Returns
    -------
    Tensor
        (B, Ta, Tb); zero where a row or column is not real, or where a sample has none.
    """
    real = rows.unsqueeze(2) & columns.unsqueeze(1)
    if 1 in cost.shape[1:]:
        # One row or one column leaves no choice.
        return (real / real.sum((1, 2), keepdim=True).clamp(min=1)).to(cost.dtype)
    a = rows / rows.sum(1, keepdim=True).clamp(min=1).to(cost.dtype)  # (B, Ta)
    b = columns / columns.sum(1, keepdim=True).clamp(min=1).to(cost.dtype)  # (B, Tb)
    return (_scaling if _MOST_COST / epsilon < _MOST_EXPONENT else _log_scaling)(cost, real, a, b, epsilon, n_iter)


def _scaling(cost: Tensor, real: Tensor, a: Tensor, b: Tensor, epsilon: float, n_iter: int) -> Tensor:
    """Scale a matrix as it was published: two products with a vector a step."""
    kernel = torch.where(real, (-cost / epsilon).exp(), 0.0)  # (B, Ta, Tb)
    tiny = torch.finfo(cost.dtype).tiny
    u = torch.ones_like(a).unsqueeze(2)  # (B, Ta, 1)
    v = torch.ones_like(b).unsqueeze(2)
    for _ in range(n_iter):
        v = b.unsqueeze(2) / (kernel.mT @ u).clamp(min=tiny)
        u = a.unsqueeze(2) / (kernel @ v).clamp(min=tiny)
    return u * kernel * v.mT


def _log_scaling(cost: Tensor, real: Tensor, a: Tensor, b: Tensor, epsilon: float, n_iter: int) -> Tensor:
    """Do the same in logarithms, for an epsilon so small that the kernel would be 0."""
    lowest = torch.finfo(cost.dtype).min / 4
    logits = torch.where(real, -cost / epsilon, lowest)
    f, g = torch.zeros_like(a), torch.zeros_like(b)
    for _ in range(n_iter):
        g = torch.where(b > 0, b.log() - (logits + f.unsqueeze(2)).logsumexp(1), 0.0)
        f = torch.where(a > 0, a.log() - (logits + g.unsqueeze(1)).logsumexp(2), 0.0)
    return torch.where(real, (logits + f.unsqueeze(2) + g.unsqueeze(1)).exp(), 0.0)


def precise(values: Tensor) -> Tensor:
    """Return half precision as float32, all else as it is."""
    return values.float() if values.element_size() < 4 else values


def lengthened(values: Tensor, length: int) -> Tensor:
    """Pad tokens (B, T, D) with zeros to `length`."""
    missing = length - values.shape[1]
    return F.pad(values, (0, 0, 0, missing)) if missing else values
