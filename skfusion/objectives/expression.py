"""Expression: embeddings must tell the counts of each layer, one from the other too."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from skfusion.decoders.expression import LIKELIHOODS, ExpressionDecoder
from skfusion.encoders.batch import Batch, ModalityBatch
from skfusion.fusion.output import FusionOutput
from skfusion.objectives.checks import require_covariates, require_one_of, require_whole_numbers
from skfusion.objectives.context import Context, Part, Setting, mean_of
from skfusion.objectives.objective import Objective


class Expression(Objective):
    """Negative log-likelihood of each modality's counts, decoded from the fused and each modality's embedding [1]_.

    Each modality has a decoder, and each head a linear map to what decoders share, so that under a fusion whose heads
    are pure one layer of counts is predicted from the other alone. In training a sample is decoded from one of its
    heads, drawn anew each time; in evaluation from all. Counts are those that an encoder with ``takes_counts`` gets, as
    `Expression` of `skfusion.encoders`; other values are decoded as the encoders get them, under a normal distribution.
    It is the mean over the values of a modality, and over the modalities that a sample has.

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
    >>> "train_loss_expression_spliced" in pretrainer.history_[0]
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
        """Build a map for each head and a decoder for each modality."""
        names, widths = setting.network.names, setting.widths
        self.heads, self.names = ["fusion", *names], list(names)
        width = widths["fusion"]
        self.maps = nn.ModuleList(nn.Linear(widths[head], width) for head in self.heads)
        self.n_covariates = 0 if self.covariates is None else self.covariates.shape[1]
        decoders = []
        for name in names:
            statistics = setting.counts.get(name)
            decoders.append(
                ExpressionDecoder(
                    width,
                    _n_values(setting.shapes[name]),
                    likelihood="normal" if statistics is None else self.likelihood,
                    dispersion=self.dispersion,
                    n_hidden=self.n_hidden,
                    n_layers=self.n_layers,
                    n_covariates=self.n_covariates,
                    statistics=statistics,
                )
            )
        self.decoders = nn.ModuleList(decoders)

    def decode(
        self, name: str, head: str, embedding: Tensor, *, library: Tensor | None = None, batch: Tensor | None = None
    ) -> Distribution:
        """Decode a modality from the embedding (B, D) of a head; `library` (B,), `batch` (B, n_covariates)."""
        decoder = self.decoders[self.names.index(name)]
        found: Distribution = decoder(self.maps[self.heads.index(head)](embedding), library=library, batch=batch)
        return found

    def views(self, batch: Batch, generator: object = None) -> dict[str, Batch]:
        """Return the batch as it is."""
        return {"clean": batch}

    def loss(self, outputs: dict[str, FusionOutput], batch: Batch, context: Context) -> dict[str, Part]:
        """Return the mean over modalities, and that of each as ``expression_<modality>``."""
        output, network = outputs["clean"], context.network
        require_covariates(self, self.n_covariates)
        given = None if self.covariates is None else self.covariates[context.index]
        has = torch.stack([network.present_in(head, batch.present) for head in self.heads])  # (H, B)
        mapped = torch.stack([m(output.heads[head]) for head, m in zip(self.heads, self.maps)])  # (H, B, D)
        if self.training:
            draw = torch.where(has, torch.rand(has.shape, device=has.device), -1.0)
            chosen = draw.argmax(0)[None, :, None].expand(1, -1, mapped.shape[-1])  # (1, B, D)
            mapped, has = mapped.gather(0, chosen), has.any(0, keepdim=True)
        there = torch.stack([network.present_in(name, batch.present) for name in self.names])  # (M, B)
        each = torch.stack(
            [
                torch.stack([self.of(d, z, batch.modalities[name], t & h, given) for z, h in zip(mapped, has)]).sum(0)
                for name, d, t in zip(self.names, self.decoders, there)
            ]
        )  # (M, B)
        each = each / has.sum(0).clamp(min=1)
        parts = {f"expression_{name}": mean_of(t, e) for name, e, t in zip(self.names, each, there)}
        each = torch.where(there, each, 0.0).sum(0) / there.sum(0).clamp(min=1)  # (B,)
        return {"loss": mean_of(there.any(0), each), **parts}

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
