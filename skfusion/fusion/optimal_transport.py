"""Optimal transport: the tokens of a modality are moved to those of another before they are fused."""

import torch
import torch.nn.functional as F
from torch import Tensor

from skfusion.encoders.batch import Tokens, all_true
from skfusion.fusion.blocks import cleaned, require_whole
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
        if not epsilon > 0:
            raise ValueError(f"epsilon is {epsilon!r}; due is a number above 0, such as 0.05.")
        require_whole("n_iter", n_iter)
        super().__init__(widths, n_latent, **options)  # type: ignore[arg-type]
        self.epsilon, self.n_iter = epsilon, n_iter

    def mix(self, tokens: dict[str, Tokens], present: Tensor) -> dict[str, Tokens]:
        """Align to the first modality, then mix all."""
        return super().mix(self.align(tokens), present)

    def align(self, tokens: dict[str, Tokens]) -> dict[str, Tokens]:
        """Move the tokens of all others to those of the first modality that they match."""
        anchor, *others = tokens
        if not others:
            return tokens
        first = tokens[anchor]
        ready = {anchor: first}
        for name, plan in zip(others, self.plans(first, [tokens[name] for name in others])):
            own = tokens[name]
            # A row of the plan is 0 where this modality is missing: there is nothing to align.
            has_both = (first.mask.any(1) & own.mask.any(1)).unsqueeze(1)  # (B, 1)
            aligned = Tokens(plan[..., : own.mask.shape[1]] @ own.values, first.mask & has_both)  # (B, Ta, D)
            ready[name] = cleaned(where_there(first.mask.any(1), aligned, own))
        return ready

    @torch.no_grad()
    def plans(self, first: Tokens, others: list[Tokens]) -> tuple[Tensor, ...]:
        """Plans from each of the others to the first modality, (B, Ta, longest Tb), times the number of its tokens."""
        n, longest = len(others), max(t.mask.shape[1] for t in others)
        # All others at once, padded to the longest; in half precision the cost would lose what tells tokens apart.
        with torch.autocast(first.mask.device.type, enabled=False):
            theirs = torch.cat([lengthened(t, longest).values for t in others])  # (O B, Tb, D)
            real = torch.cat([lengthened(t, longest).mask for t in others])  # (O B, Tb)
            unit = F.normalize(precise(first.values), dim=-1).repeat(n, 1, 1)
            cost = 1 - unit @ F.normalize(precise(theirs), dim=-1).mT  # (O B, Ta, Tb)
            plans = sinkhorn(cost, first.mask.repeat(n, 1), real, self.epsilon, self.n_iter)
            return (plans * first.mask.sum(1).repeat(n).view(-1, 1, 1)).chunk(n)


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


def where_there(there: Tensor, a: Tokens, b: Tokens) -> Tokens:
    """Tokens `a` (B, Ta, D) of the samples that are `there` (B,), `b` (B, Tb, D) of the others."""
    if all_true(there):
        return a
    length = max(a.mask.shape[1], b.mask.shape[1])
    a, b = lengthened(a, length), lengthened(b, length)
    return Tokens(
        torch.where(there.view(-1, 1, 1), a.values, b.values), torch.where(there.unsqueeze(1), a.mask, b.mask)
    )


def lengthened(tokens: Tokens, length: int) -> Tokens:
    """Pad tokens (B, T, D) with zeros to `length`."""
    missing = length - tokens.mask.shape[1]
    if not missing:
        return tokens
    return Tokens(F.pad(tokens.values, (0, 0, 0, missing)), F.pad(tokens.mask, (0, missing)))
