"""Encoders of counts over genes: gene identity times a continuous value embedding, several genes to a token."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skfusion.encoders.batch import ModalityBatch, Tokens
from skfusion.encoders.counts import CountStatistics
from skfusion.encoders.dropout import SHARE_OF_INPUTS, Dropout

_MOST_TOKENS = 512
_N_HIDDEN = 2
"""Hidden units of the network from a value to its embedding."""


class GeneEmbedding(nn.Module):
    """A vector a gene, which the layers of one network share.

    Parameters
    ----------
    n_genes : int
        Number of genes.
    width : int
        Width of the vectors.
    start : array-like (n_genes, n_columns), default=None
        What the first columns start from, such as loadings of principal components; others start small.
    learn : bool, default=True
        Whether training changes them: there are as many weights as genes times `width`, and few cells are soon learnt
        by heart with these.
    """

    def __init__(self, n_genes: int, width: int, start: Any = None, *, learn: bool = True) -> None:
        super().__init__()
        weight = torch.randn(n_genes, width) / math.sqrt(n_genes)
        if start is not None:
            known = torch.as_tensor(start, dtype=torch.float32)[:, :width]
            weight = torch.cat([known, 0.1 * weight[:, known.shape[1] :]], dim=1)
        self.weight = nn.Parameter(weight, requires_grad=learn)


class Expression(nn.Module):
    r"""Counts over genes to tokens, each of a patch of genes [1]_.

    Values are ``log1p(count / total * library_size)``, centred. A gene's own part of a token is
    :math:`w \odot e_g\,(v_g + \mathrm{MLP}(v_g))`: its identity times an embedding of its value, w a vector of the
    modality. Added up over a patch, an identity that were just added to the value's embedding would be the same for all
    cells. Tokens are the sums over patches of consecutive genes, times their number, plus a learned position. The
    fusion adds what tells modalities apart, and the total of a cell stays in ``offset``, out of the tokens. Without an
    offset values are taken as they are. `n_hidden` and `n_layers` are not used.

    Parameters
    ----------
    shape : tuple of int
        Shape of a sample, (n_genes,).
    n_latent : int
        Width of the tokens.
    n_tokens : int, default=8
        Tokens, at most 512 and at most one a gene.
    gene_embedding : GeneEmbedding, default=None
        What layers over the same genes share; None is one of its own.
    dropout_rate : float, default=0.5
        Inputs are dropped in training at .4 of that rate.
    counts : CountStatistics, default=None
        What training says of the counts; a pretrainer fills it in.

    References
    ----------
    .. [1] Cui et al., "scGPT: toward building a foundation model for single-cell multi-omics using generative AI",
       Nature Methods 21, 2024 (gene identity beside value).
    """

    kinds = ("dense",)
    takes_counts = True

    def __init__(
        self,
        shape: tuple[int, ...],
        n_latent: int,
        *,
        n_tokens: int = 8,
        gene_embedding: GeneEmbedding | None = None,
        dropout_rate: float = 0.5,
        counts: CountStatistics | None = None,
        **options: object,
    ) -> None:
        super().__init__()
        (n_genes,) = shape
        if int(n_tokens) != n_tokens or not 1 <= n_tokens <= _MOST_TOKENS:
            raise ValueError(f"n_tokens is {n_tokens!r}; due is a whole number from 1 to {_MOST_TOKENS}.")
        self.n_out = n_latent
        self.patch_size = math.ceil(n_genes / min(int(n_tokens), n_genes))
        self.n_tokens = math.ceil(n_genes / self.patch_size)
        self.padding = self.n_tokens * self.patch_size - n_genes
        self.genes = GeneEmbedding(n_genes, n_latent) if gene_embedding is None else gene_embedding
        if self.genes.weight.shape != (n_genes, n_latent):
            raise ValueError(
                f"gene_embedding is of shape {tuple(self.genes.weight.shape)}; due is {(n_genes, n_latent)}, "
                "genes and n_latent."
            )
        self.dropout = Dropout(SHARE_OF_INPUTS * dropout_rate)
        self.curve = nn.Sequential(nn.Linear(1, _N_HIDDEN), nn.GELU(), nn.Linear(_N_HIDDEN, 1))
        self.direction = nn.Parameter(torch.ones(n_latent))
        self.position = nn.Parameter(0.02 * torch.randn(self.n_tokens, n_latent))
        self.library_size = 1.0 if counts is None else counts.library_size
        means = torch.zeros(n_genes) if counts is None else torch.as_tensor(counts.means, dtype=torch.float32)
        self.register_buffer("means", means)

    means: Tensor

    def forward(self, batch: ModalityBatch) -> Tokens:
        """Values (B, n_genes), with log totals (B,) where they are counts -> tokens (B, n_tokens, n_latent)."""
        values = batch.values if batch.offset is None else self.normalized(batch.values, batch.offset)
        values = self.dropout(values - self.means)  # (B, n_genes)
        values = values + self.curve(values.unsqueeze(-1)).squeeze(-1)
        values = F.pad(values, (0, self.padding)).unflatten(1, (self.n_tokens, self.patch_size))  # (B, n, k)
        identity = F.pad(self.genes.weight, (0, 0, 0, self.padding))  # (n k, D)
        identity = identity.unflatten(0, (self.n_tokens, self.patch_size))  # (n, k, D)
        # Genes are added up first: the product with each gene's identity would not fit into memory.
        summed = (values.transpose(0, 1) @ identity).transpose(0, 1)  # (B, n, D)
        # Times their number, so that the mean token is the sum over all genes.
        tokens = self.n_tokens * summed * self.direction + self.position  # (B, n, D)
        return Tokens(tokens, batch.mask.expand(-1, self.n_tokens))

    def normalized(self, counts: Tensor, offset: Tensor) -> Tensor:
        """Return log1p of counts (B, n_genes) of which each cell's log total is `offset` (B,)."""
        return torch.log1p(counts * (math.log(self.library_size) - offset).exp().unsqueeze(1))
