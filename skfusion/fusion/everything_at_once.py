"""Everything At Once: one shared block over every subset of the modalities."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skfusion.encoders.batch import Tokens
from skfusion.encoders.transformer import Block, Mask
from skfusion.fusion.blocks import SHARE_IN_BLOCKS, Refine, only_present, pack
from skfusion.fusion.masks import layout, subsets
from skfusion.fusion.output import FusionOutput


class EverythingAtOnce(nn.Module):
    r"""One block, shared by all, over each subset of the modalities [1]_.

    Tokens go through a gated projection a modality; nothing says whose or where they are. The block runs over the
    tokens of every subset of up to `max_subset` modalities, N + N (N - 1) / 2 of them for two, in one batched pass. Of
    each member the mean of its tokens is projected and normalised, and the embedding of a subset is the mean of its
    members'. The heads of modalities are those of single subsets, and the fused embedding comes from the largest
    subsets that a sample has, averaged. In place of the paper's learned token for an empty modality, subsets with one
    are left out.

    Parameters
    ----------
    widths : dict of str to int
        Width of each modality's tokens.
    n_latent : int
        Width of all tokens from there on, and of the embeddings.
    dropout_rate : float, default=0.0
        Share of fused units that are dropped in training.
    n_heads : int, default=4
        Attention heads.
    max_subset : int, default=2
        The most modalities in a subset.

    References
    ----------
    .. [1] Shvetsova et al., "Everything at once: multi-modal fusion transformer for video retrieval", CVPR, 2022.
    """

    def __init__(
        self,
        widths: dict[str, int],
        n_latent: int,
        *,
        dropout_rate: float = 0.0,
        n_heads: int = 4,
        max_subset: int = 2,
        **options: object,
    ) -> None:
        super().__init__()
        self.subsets = tuple(subsets(len(widths), max_subset))
        self.projections = nn.ModuleList(
            nn.Sequential(GatedUnit(width, n_latent), nn.LayerNorm(n_latent, eps=1e-6)) for width in widths.values()
        )
        self.block = Block(n_latent, n_heads, SHARE_IN_BLOCKS * dropout_rate, ratio=1)
        self.outs = nn.ModuleList(GatedUnit(n_latent, n_latent) for _ in widths)
        self.refine = Refine(n_latent, n_latent, dropout_rate)
        member = torch.zeros(len(self.subsets), len(widths), dtype=torch.bool)
        for s, subset in enumerate(self.subsets):
            member[s, list(subset)] = True
        self.register_buffer("member", member, persistent=False)

    member: Tensor

    def forward(self, tokens: dict[str, Tokens], present: Tensor) -> FusionOutput:
        """Tokens (B, T, D) a modality and `present` (B, M) to a `FusionOutput`."""
        projected = {
            name: Tokens(projection(values), mask)
            for projection, (name, (values, mask)) in zip(self.projections, only_present(tokens, present).items())
        }
        embeddings, mixed = self.embed(projected)  # (S, B, D)
        complete = (present.unsqueeze(1) | ~self.member).all(-1)  # (B, S)
        size = self.member.sum(1) * complete  # (B, S)
        largest = complete & (size == size.amax(1, keepdim=True))
        share = (largest / largest.sum(1, keepdim=True).clamp(min=1)).to(embeddings.dtype)  # (B, S)
        fused = self.refine(torch.einsum("bs,sbd->bd", share, embeddings))  # (B, D)
        names = list(tokens)
        own = embeddings * complete.T.unsqueeze(-1)  # (S, B, D)
        found = {"+".join(names[m] for m in subset): e for subset, e in zip(self.subsets, own)}
        heads = {name: found[name] for name in names}
        return FusionOutput(fused, {**heads, "fusion": fused, "global": fused}, mixed, subsets=found)

    def embed(self, tokens: dict[str, Tokens]) -> tuple[Tensor, dict[str, Tokens]]:
        """Embed every subset, (S, B, D), in one call of the block; and each modality's own mixed tokens."""
        lengths = tuple(t.values.shape[1] for t in tokens.values())
        values, owner, real = pack(tokens)  # (B, T, D), (T,), (B, T)
        positions, valid, rows = layout(self.subsets, lengths, values.device)
        batch, (n_subsets, most) = len(values), positions.shape
        stacked = values[:, positions].transpose(0, 1)  # (S, B, Tmax, D)
        seen = (real[:, positions] & valid).transpose(0, 1)  # (S, B, Tmax)
        mask = Mask.of(seen.reshape(n_subsets * batch, 1, most))
        whose = owner[positions]  # (S, Tmax)
        each = whose.repeat_interleave(batch, 0)  # (S B, Tmax)
        mixed = self.block(stacked.reshape(n_subsets * batch, most, -1), mask, (each, each)).view_as(stacked)
        out = torch.zeros(n_subsets, batch, values.shape[-1], device=values.device)
        for m, (project, inside) in enumerate(zip(self.outs, rows)):
            own = seen[inside] & (whose[inside] == m).unsqueeze(1)  # (S_m, B, Tmax)
            mean = torch.where(own.unsqueeze(-1), mixed[inside], 0.0).sum(2) / own.sum(2, keepdim=True).clamp(min=1)
            part = F.normalize(project(mean), dim=-1)  # (S_m, B, D)
            out = out.index_add(0, inside, part.to(out.dtype))
        embeddings = out / self.member.sum(1).view(-1, 1, 1)
        single = {
            name: Tokens(mixed[m, :, :length], t.mask)
            for m, ((name, t), length) in enumerate(zip(tokens.items(), lengths))
        }
        return embeddings, single


class GatedUnit(nn.Module):
    """y σ(W y + b) with y = V x + c: a linear map whose units gate themselves."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n_in, n_out)
        self.gate = nn.Linear(n_out, n_out)

    def forward(self, x: Tensor) -> Tensor:
        """(…, n_in) -> (…, n_out)."""
        y = self.linear(x)
        out: Tensor = y * self.gate(y).sigmoid()
        return out
