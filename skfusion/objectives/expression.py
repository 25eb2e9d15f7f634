"""Expression: embeddings must tell the counts of each layer, one from the other too."""

from typing import Any

import torch
from torch import Tensor, nn

from skfusion.decoders.expression import LIKELIHOODS, ExpressionDecoder
from skfusion.encoders.batch import Batch, ModalityBatch
from skfusion.fusion.output import FusionOutput
from skfusion.objectives.checks import require_one_of, require_whole_numbers
from skfusion.objectives.context import Context, Part, Setting, mean_of
from skfusion.objectives.pairs import mean_over_pairs


class Expression(nn.Module):
    r"""Negative log-likelihood of each modality's counts, decoded from the fused and from each modality's embedding [1]_.

    Each head has a decoder a modality, so that under a fusion whose heads are pure one layer of counts is predicted
    from the other alone. Counts are those that an encoder with ``takes_counts`` gets, as `Expression` of
    `skfusion.encoders`; other values are decoded as the encoders get them, under a normal distribution. It is the mean
    over the values of a sample, and over the pairs of head and modality of which it has both.

    Parameters
    ----------
    likelihood : {"negative_binomial", "zero_inflated_negative_binomial", "poisson"}, default="negative_binomial"
        Distribution of counts.
    dispersion : {"gene", "gene-cell"}, default="gene"
        Whether θ is one a gene, or one a gene and cell.
    n_hidden : int, default=128
        Width of the decoders' hidden layers.
    n_layers : int, default=1
        Number of these.
    covariates : array-like (n_samples, n_covariates), default=None
        What the decoders know of each training sample beside its embedding, such as its batch, one-hot.

    References
    ----------
    .. [1] Lopez et al., "Deep generative modeling for single-cell transcriptomics", Nature Methods 15, 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.sparse import csr_matrix
    >>> from skfusion import MultimodalPretrainer
    >>> rng = np.random.default_rng(0)
    >>> rates = np.exp(rng.normal(size=(60, 1)) * rng.normal(size=20))
    >>> X = {layer: csr_matrix(rng.poisson(rates)) for layer in ("spliced", "unspliced")}
    >>> pretrainer = MultimodalPretrainer(["expression"], "expression", max_epochs=2, random_state=0).fit(X)
    >>> "train_loss_spliced_from_unspliced" in pretrainer.history_[0]
    True
    """

    when = "any"

    def __init__(
        self,
        *,
        likelihood: str = "negative_binomial",
        dispersion: str = "gene",
        n_hidden: int = 128,
        n_layers: int = 1,
        covariates: Any = None,
    ) -> None:
        super().__init__()
        require_one_of("Expression", LIKELIHOODS[:-1], likelihood=likelihood)
        require_one_of("Expression", ("gene", "gene-cell"), dispersion=dispersion)
        require_whole_numbers("Expression", n_hidden=n_hidden)
        require_whole_numbers("Expression", least=0, n_layers=n_layers)
        self.likelihood, self.dispersion = likelihood, dispersion
        self.n_hidden, self.n_layers = n_hidden, n_layers
        given = None if covariates is None else torch.as_tensor(covariates, dtype=torch.float32)
        self.register_buffer("covariates", given, persistent=False)

    covariates: Tensor | None

    def prepare(self, setting: Setting) -> None:
        """Build a decoder for each head and modality."""
        names, widths = setting.network.names, setting.widths
        self.pairs = [(head, name) for head in ("fusion", *names) for name in names]
        decoders = []
        for head, name in self.pairs:
            statistics = setting.counts.get(name)
            decoders.append(
                ExpressionDecoder(
                    widths[head],
                    _n_values(setting.shapes[name]),
                    likelihood="normal" if statistics is None else self.likelihood,
                    dispersion=self.dispersion,
                    n_hidden=self.n_hidden,
                    n_layers=self.n_layers,
                    n_covariates=0 if self.covariates is None else self.covariates.shape[1],
                    shares=None if statistics is None else torch.as_tensor(statistics.shares, dtype=torch.float32),
                )
            )
        self.decoders = nn.ModuleList(decoders)

    def decoder(self, head: str, name: str) -> ExpressionDecoder:
        """Return what decodes a modality from a head."""
        decoder: ExpressionDecoder = self.decoders[self.pairs.index((head, name))]  # type: ignore[assignment]
        return decoder

    def views(self, batch: Batch, generator: object = None) -> dict[str, Batch]:
        """Return the batch as it is."""
        return {"clean": batch}

    def loss(self, outputs: dict[str, FusionOutput], batch: Batch, context: Context) -> dict[str, Part]:
        """Return the mean over pairs of head and modality, and each of them as ``<modality>_from_<head>``."""
        output, network = outputs["clean"], context.network
        given = None if self.covariates is None else self.covariates[context.index]
        each, both = [], []
        for (head, name), decoder in zip(self.pairs, self.decoders):
            there = network.present_in(name, batch.present)  # (B,)
            each.append(self.of(decoder, output.heads[head], batch.modalities[name], there, given))
            both.append(there & network.present_in(head, batch.present))
        parts = {f"{name}_from_{head}": mean_of(b, e) for (head, name), e, b in zip(self.pairs, each, both)}
        return {"loss": mean_over_pairs(torch.stack(each), torch.stack(both)), **parts}

    def of(
        self, decoder: nn.Module, embedding: Tensor, modality: ModalityBatch, there: Tensor, given: Tensor | None
    ) -> Tensor:
        """Mean negative log-likelihood over the values of each sample that is `there` (B,); 0 for others."""
        values = modality.values
        values = torch.where(there.view(-1, *[1] * (values.ndim - 1)), values, 0.0).flatten(1)  # (B, n_values)
        library = None if modality.offset is None else modality.offset.exp()  # (B,)
        found: Tensor = -decoder(embedding, library=library, batch=given).log_prob(values)  # (B, n_values)
        if modality.mask.shape[1] == 1:
            return torch.where(there, found.mean(1), 0.0)
        real = modality.mask & there.unsqueeze(1)  # (B, T)
        found = found.unflatten(1, (real.shape[1], -1)).mean(2)  # (B, T)
        return torch.where(real, found, 0.0).sum(1) / real.sum(1).clamp(min=1)

    def on_train_end(self) -> None:
        """Forget what belongs to the training samples."""
        self.covariates = None


def _n_values(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())
