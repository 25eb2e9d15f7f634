"""What stands in for a missing modality before the fusion."""

import torch
from torch import Tensor, nn

from skfusion.encoders.batch import Tokens, masked_mean

STAND_INS = {
    "token": "skfusion.fusion.missing:MissingTokens",
    "prior": "skfusion.fusion.missing:Priors",
}
"""Name of a stand-in to where its class is; adding one is one line here."""


class StandIn(nn.Module):
    """Base: puts one token in the place of each missing modality of a sample that has another one."""

    def forward(
        self, tokens: dict[str, Tokens], present: Tensor
    ) -> tuple[dict[str, Tokens], Tensor, dict[str, Tensor]]:
        """Return the tokens (B, T, D), who has what or a stand-in for it (B, M), and losses."""
        somebody = present.any(1, keepdim=True)  # (B, 1)
        stand_ins, losses = self.stand_ins(tokens, present)
        filled = {}
        for m, (name, t) in enumerate(tokens.items()):
            gone = somebody & ~present[:, m : m + 1]  # (B, 1)
            first = torch.zeros_like(t.mask)
            first[:, 0] = True
            values = torch.where((gone & first).unsqueeze(-1), stand_ins[m].unsqueeze(1).to(t.values.dtype), t.values)
            filled[name] = Tokens(values, torch.where(gone, first, t.mask))
        return filled, somebody.expand_as(present), losses

    def stand_ins(self, tokens: dict[str, Tokens], present: Tensor) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Return M stand-ins (B, D_m), and losses."""
        raise NotImplementedError


class MissingTokens(StandIn):
    """A learned token for each missing modality, which depends on what is present [1]_.

    It is a vector of the modality plus one for each modality that is there: every pattern has a token of its own, a
    pattern that training lacked too, with as many parameters as there are pairs.

    Parameters
    ----------
    widths : dict of str to int
        Width of each modality's tokens.

    References
    ----------
    .. [1] Lee et al., "Multimodal prompting with missing modalities for visual recognition", CVPR, 2023.
    """

    def __init__(self, widths: dict[str, int]) -> None:
        super().__init__()
        n = len(widths)
        self.own = nn.ParameterList(nn.Parameter(0.02 * torch.randn(width)) for width in widths.values())
        self.given = nn.ParameterList(nn.Parameter(0.02 * torch.randn(n, width)) for width in widths.values())

    def stand_ins(self, tokens: dict[str, Tokens], present: Tensor) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Look nothing of the values up, only who has what."""
        there = present.to(self.own[0].dtype)
        return [own + there @ given for own, given in zip(self.own, self.given)], {}


class Priors(StandIn):
    r"""A mixture of centres of the missing modality's embeddings, weighted by what is present, as in SMIL [1]_.

    The centres are the means of a running k-means of the embeddings that training sees; the weights are a softmax of a
    linear map of the others' embeddings. A loss asks that the mixture comes close to the embedding where it is known.
    SMIL's noise on features and its meta-learning are left out.

    Parameters
    ----------
    widths : dict of str to int
        Width of each modality's tokens.
    n_centres : int, default=10
        Centres of each modality.
    decay : float, default=0.95
        What a centre keeps of itself at each step.
    penalty : float, default=0.1
        Weight of the loss.

    References
    ----------
    .. [1] Ma et al., "SMIL: multimodal learning with severely missing modality", AAAI, 2021.
    """

    def __init__(
        self, widths: dict[str, int], n_centres: int = 10, *, decay: float = 0.95, penalty: float = 0.1
    ) -> None:
        super().__init__()
        n, total = len(widths), sum(widths.values())
        self.decay, self.penalty = decay, penalty
        self.weigh = nn.ModuleList(nn.Linear(total + n, n_centres) for _ in widths)
        for m, width in enumerate(widths.values()):
            self.register_buffer(f"centres{m}", torch.zeros(n_centres, width))
            self.register_buffer(f"counts{m}", torch.zeros(n_centres))

    def stand_ins(self, tokens: dict[str, Tokens], present: Tensor) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Weigh the centres of each modality by the mean tokens of the others."""
        pooled = [masked_mean(Tokens(t.values, t.mask & present[:, m : m + 1])) for m, t in enumerate(tokens.values())]
        found, apart, known = [], [], []
        for m, (own, weigh) in enumerate(zip(pooled, self.weigh)):
            others = [torch.zeros_like(e) if k == m else e for k, e in enumerate(pooled)]
            column = torch.arange(present.shape[1], device=present.device) == m
            there = present & ~column  # (B, M)
            if self.training:
                self._move(m, own.detach().float(), present[:, m])
            weights = weigh(torch.cat([*others, there.to(own.dtype)], dim=1)).softmax(-1)  # (B, K)
            # A copy, since another view of the batch moves the centres before the gradient is taken.
            found.append(weights @ self.get_buffer(f"centres{m}").to(weights.dtype, copy=True))  # (B, D_m)
            apart.append((found[-1] - own.detach()).square().mean(1))  # (B,)
            known.append(present[:, m] & there.any(1))
        if not self.training:
            return found, {}
        know = torch.stack(known)  # (M, B)
        loss = (torch.stack(apart) * know).sum() / know.sum().clamp(min=1)
        return found, {"prior": self.penalty * loss}

    @torch.no_grad()
    def _move(self, m: int, values: Tensor, there: Tensor) -> None:
        """Move each centre towards the mean of those nearest to it; one that lost all starts anew at a sample."""
        centres, counts = self.get_buffer(f"centres{m}"), self.get_buffer(f"counts{m}")
        chosen = torch.multinomial(there.float() + 1e-12, len(centres), replacement=True)
        alone = (counts < 0.01).unsqueeze(1) & there.any()
        centres.copy_(torch.where(alone, values[chosen], centres))
        nearest = nn.functional.one_hot(torch.cdist(values, centres).argmin(1), len(centres)) * there.unsqueeze(1)
        n = nearest.sum(0).float()  # (K,)
        mean = nearest.T.float() @ values / n.clamp(min=1).unsqueeze(1)
        step = torch.where(n > 0, 1 - self.decay, 0.0).unsqueeze(1)
        centres.lerp_(mean, step)
        counts.mul_(self.decay).add_(n, alpha=1 - self.decay)
