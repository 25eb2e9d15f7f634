"""Everything At Once: one shared block over every subset of the modalities."""

from itertools import groupby
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skfusion.encoders.batch import Tokens
from skfusion.encoders.transformer import Block, Mask, MultiHeadAttention, Owners
from skfusion.fusion.blocks import SHARE_IN_BLOCKS, Packed, Refine, only_present, pack, require_whole
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
        require_whole("max_subset", max_subset)
        self.subsets = tuple(subsets(len(widths), max_subset))
        self.by_size = [tuple(parts) for _, parts in groupby(self.subsets, len)]
        self.projections = nn.ModuleList(
            nn.Sequential(GatedUnit(width, n_latent), nn.LayerNorm(n_latent, eps=1e-6)) for width in widths.values()
        )
        self.block = Block(n_latent, n_heads, SHARE_IN_BLOCKS * dropout_rate, ratio=1, attention=StackedAttention)
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
        found = {tuple(names[m] for m in subset): e for subset, e in zip(self.subsets, own)}
        heads = dict(zip(names, own))
        return FusionOutput(fused, {**heads, "fusion": fused, "global": fused}, mixed, subsets=found)

    def embed(self, tokens: dict[str, Tokens]) -> tuple[Tensor, dict[str, Tokens]]:
        """Embed every subset, (S, B, D); and each modality's own mixed tokens."""
        lengths = tuple(t.values.shape[1] for t in tokens.values())
        packed = pack(tokens)
        stacks = [stacked(parts, packed, lengths) for parts in self.by_size]
        # index_select, whose gradient is a sum, and not the slower one of an index in brackets.
        flat = packed.values.flatten(0, 1).index_select(0, torch.cat([stack.tokens.flatten() for stack in stacks]))
        mixed = self.block(flat, stacks).split([stack.tokens.numel() for stack in stacks])  # (N, D), of all subsets
        by_size = [part.view(*stack.tokens.shape, -1) for part, stack in zip(mixed, stacks)]  # (S, B, Tmax, D) each
        means = torch.cat([stack.means(x) for stack, x in zip(stacks, by_size)])  # (S, B, M, D)
        out = torch.zeros_like(means[:, :, 0])  # (S, B, D)
        for m, project in enumerate(self.outs):
            inside = layout(self.subsets, lengths, out.device).rows[m]
            part = F.normalize(project(means[inside, :, m]), dim=-1)  # (S_m, B, D)
            out = out.index_add(0, inside, part.to(out.dtype))
        single = {
            name: Tokens(own[:, :length], t.mask) for (name, t), own, length in zip(tokens.items(), by_size[0], lengths)
        }
        return out / self.member.sum(1).view(-1, 1, 1), single


class Stack(NamedTuple):
    """Subsets of one size, padded to the longest of them.

    Attributes
    ----------
    tokens : Tensor of int
        (S, B, Tmax), which of the tokens of all samples, a sequence a subset and sample.
    seen : Tensor of bool
        (S, B, Tmax), which tokens are real; none where the sample lacks a member.
    owner : Tensor of int
        (S, Tmax), whose each token is.
    n_modalities : int
        M.
    """

    tokens: Tensor
    seen: Tensor
    owner: Tensor
    n_modalities: int

    def means(self, mixed: Tensor) -> Tensor:
        """Mean token of each member, (S, B, Tmax, D) -> (S, B, M, D)."""
        modalities = torch.arange(self.n_modalities, device=self.owner.device).unsqueeze(1)
        own = self.owner.unsqueeze(1) == modalities  # (S, M, Tmax)
        own = own.unsqueeze(1) & self.seen.unsqueeze(2)  # (S, B, M, Tmax)
        # A product, not torch.where: what is not real was zero before, so it is finite.
        return (own / own.sum(-1, keepdim=True).clamp(min=1)).to(mixed.dtype) @ mixed


def stacked(parts: tuple[tuple[int, ...], ...], packed: Packed, lengths: tuple[int, ...]) -> Stack:
    """Lay out the tokens of `parts`, subsets of modalities."""
    values, owner, real = packed  # (B, T, D), (T,), (B, T)
    positions, valid, _ = layout(parts, lengths, values.device)  # (S, Tmax)
    seen = (real[:, positions] & valid).transpose(0, 1)  # (S, B, Tmax)
    there = torch.stack([part.any(1) for part in real.split(lengths, dim=1)], 1)  # (B, M)
    # A subset that a sample lacks a member of is left out, and attends to nothing.
    lacks = torch.stack([~there[:, list(part)].all(1) for part in parts]).unsqueeze(-1)  # (S, B, 1)
    first = len(owner) * torch.arange(len(values), device=values.device).view(-1, 1)  # (B, 1), of each sample
    return Stack(positions.unsqueeze(1) + first, seen & ~lacks, owner[positions], len(lengths))


class StackedAttention(MultiHeadAttention):
    """Attention inside each sequence of several stacks, whose tokens all lie side by side.

    So the block runs once, and short sequences are not padded to the length of the longest.
    """

    def forward(
        self,
        x: Tensor,
        mask: "list[Stack] | Mask | None" = None,
        owners: Owners | None = None,
        context: Tensor | None = None,
    ) -> Tensor:
        """Tokens x (N, D) of the stacks that come as `mask`, one stack after the other, give (N, D)."""
        if not isinstance(mask, list):
            return super().forward(x, mask, owners, context)
        parts = x.split([stack.tokens.numel() for stack in mask])
        return torch.cat([self.within(stack, part) for stack, part in zip(mask, parts)])

    def within(self, stack: "Stack", x: Tensor) -> Tensor:
        """Tokens (S B Tmax, D) of one stack to (S B Tmax, D)."""
        n_samples, length = stack.tokens.shape[1:]
        mask = Mask.of(stack.seen.reshape(-1, 1, length))
        owner = stack.owner.repeat_interleave(n_samples, 0)  # (S B, Tmax)
        return super().forward(x.view(-1, length, x.shape[-1]), mask, (owner, owner)).flatten(0, 1)


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
