"""Optimal transport: the tokens of a modality are moved to those of another before they are fused."""

import torch
import torch.nn.functional as F
from torch import Tensor

from skfusion.encoders.batch import Tokens
from skfusion.fusion.blocks import cleaned
from skfusion.fusion.early_concat import EarlyConcat


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
        first = tokens[anchor]
        there = first.mask.any(1, keepdim=True)  # (B, 1)
        ready = {anchor: first}
        for name in others:
            own = tokens[name]
            with torch.no_grad():
                cost = 1 - F.normalize(first.values, dim=-1) @ F.normalize(own.values, dim=-1).mT  # (B, Ta, Tb)
                plan = sinkhorn(cost, first.mask, own.mask, self.epsilon, self.n_iter)
            scaled = plan * first.mask.sum(1).view(-1, 1, 1)
            # A row of the plan is 0 where this modality is missing: there is nothing to align.
            has_both = there & own.mask.any(1, keepdim=True)
            aligned = Tokens(scaled @ own.values, first.mask & has_both)  # (B, Ta, D)
            ready[name] = cleaned(join(aligned, Tokens(own.values, own.mask & ~there)))
        return super().mix(ready, present)


def sinkhorn(cost: Tensor, rows: Tensor, columns: Tensor, epsilon: float, n_iter: int) -> Tensor:
    """Plan of entropic optimal transport between uniform distributions over real rows and real columns.

    Parameters
    ----------
    cost : Tensor
        (B, Ta, Tb).
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
    logits = -cost / epsilon
    lowest = torch.finfo(logits.dtype).min / 4
    a = torch.where(rows, -rows.sum(1, keepdim=True).clamp(min=1).log(), lowest)  # (B, Ta)
    b = torch.where(columns, -columns.sum(1, keepdim=True).clamp(min=1).log(), lowest)  # (B, Tb)
    logits = torch.where(real, logits, lowest)
    f, g = torch.zeros_like(a), torch.zeros_like(b)
    for _ in range(n_iter):
        g = torch.where(columns, b - (logits + f.unsqueeze(2)).logsumexp(1), 0.0)
        f = torch.where(rows, a - (logits + g.unsqueeze(1)).logsumexp(2), 0.0)
    plan = (logits + f.unsqueeze(2) + g.unsqueeze(1)).exp()
    return torch.where(real, plan, 0.0)


def join(a: Tokens, b: Tokens) -> Tokens:
    """Lay two sequences of one modality one after the other."""
    return Tokens(torch.cat([a.values, b.values], 1), torch.cat([a.mask, b.mask], 1))
