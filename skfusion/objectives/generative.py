"""Generative: a latent between the fused embedding and the counts, whose prior new samples are drawn from."""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from skfusion.decoders.expression import LIKELIHOODS
from skfusion.decoders.generative import GenerativeDecoder
from skfusion.encoders.batch import Batch, ModalityBatch
from skfusion.fusion.output import FusionOutput
from skfusion.objectives.checks import require_at_least_0, require_covariates, require_one_of, require_whole_numbers
from skfusion.objectives.context import Context, Part, Setting, mean_of
from skfusion.objectives.objective import Objective


class Generative(Objective):
    r"""Minus the evidence lower bound of all modalities' counts, from the fused embedding through a latent [1]_.

    The fused embedding tells the posterior of the latent, from which `GenerativeDecoder` decodes every modality:

    .. math:: -\sum_m \log p(x_m | z, c) + w \, KL(q(z | h, c) \,\|\, N(0, 1)), \quad z \sim q(z | h, c)

    over the modalities m that a sample has, with c the `covariates`, divided by the number of values of all modalities.
    The weight w rises by the same step each epoch up to `kl_weight`, so that the latent is put to use before its prior
    counts [2]_; in evaluation it is `kl_weight`, and z the posterior's mean. Counts are those that an encoder with
    ``takes_counts`` gets; other values are decoded as the encoders get them, under a normal distribution.

    Parameters
    ----------
    n_latent : int, default=5
        Width of the latent.
    kl_weight : float, default=1.0
        Weight of the divergence from the prior; 1 is the evidence lower bound.
    n_warmup : int, default=10
        After so many epochs the weight is `kl_weight`, with 0 at once; 10 are a third of those of `SplicingFusion`.
    likelihood : {"negative_binomial", "zero_inflated_negative_binomial", "poisson"}, default="negative_binomial"
        Distribution of counts.
    dispersion : {"gene", "gene-cell"}, default="gene"
        Whether θ is one a gene, or one a gene and cell.
    n_hidden : int, default=128
        Width of the hidden layers.
    n_layers : int, default=1
        Hidden layers of the decoders.
    covariates : array-like (n_samples, n_covariates), default=None
        What posterior and decoders know of each training sample beside its embedding, such as its batch, one-hot.

    References
    ----------
    .. [1] Kingma and Welling, "Auto-encoding variational Bayes", ICLR, 2014.
    .. [2] Sønderby et al., "Ladder variational autoencoders", NeurIPS, 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.sparse import csr_matrix
    >>> from skfusion import MultimodalPretrainer
    >>> rng = np.random.default_rng(0)
    >>> rates = np.exp(rng.normal(size=(60, 1)) * rng.normal(size=20))
    >>> X = {layer: csr_matrix(rng.poisson(rates)) for layer in ("spliced", "unspliced")}
    >>> pretrainer = MultimodalPretrainer(["generative"], "expression", max_epochs=2, random_state=0).fit(X)
    >>> "train_loss_generative_kl" in pretrainer.history_[0]
    True
    """

    when = "any"

    def __init__(
        self,
        *,
        n_latent: int = 5,
        kl_weight: float = 1.0,
        n_warmup: int = 10,
        likelihood: str = "negative_binomial",
        dispersion: str = "gene",
        n_hidden: int = 128,
        n_layers: int = 1,
        covariates: Any = None,
    ) -> None:
        super().__init__()
        require_one_of("Generative", LIKELIHOODS[:-1], likelihood=likelihood)
        require_one_of("Generative", ("gene", "gene-cell"), dispersion=dispersion)
        require_whole_numbers("Generative", n_latent=n_latent, n_hidden=n_hidden)
        require_whole_numbers("Generative", least=0, n_warmup=n_warmup, n_layers=n_layers)
        require_at_least_0("Generative", kl_weight=kl_weight)
        self.n_latent, self.kl_weight, self.n_warmup = n_latent, kl_weight, n_warmup
        self.likelihood, self.dispersion = likelihood, dispersion
        self.n_hidden, self.n_layers = n_hidden, n_layers
        given = None if covariates is None else torch.as_tensor(covariates, dtype=torch.float32)
        self.register_buffer("covariates", given, persistent=False)

    covariates: Tensor | None

    def prepare(self, setting: Setting) -> None:
        """Build the decoder."""
        statistics = {name: setting.counts.get(name) for name in setting.network.names}
        self.n_values = {name: int(torch.Size(setting.shapes[name]).numel()) for name in statistics}
        self.decoder = GenerativeDecoder(
            setting.widths["fusion"],
            self.n_values,
            n_latent=self.n_latent,
            n_conditions=0 if self.covariates is None else self.covariates.shape[1],
            n_hidden=self.n_hidden,
            n_layers=self.n_layers,
            likelihood={name: "normal" if s is None else self.likelihood for name, s in statistics.items()},
            dispersion=self.dispersion,
            statistics=statistics,
        )

    def decode(
        self, name: str, latent: Tensor, *, library: Tensor | None = None, batch: Tensor | None = None
    ) -> Distribution:
        """Decode a modality from the latent (B, n_latent); `library` (B,), `batch` (B, n_covariates)."""
        found: Distribution = self.decoder.decode_one(name, latent, library, batch)
        return found

    def views(self, batch: Batch, generator: object = None) -> dict[str, Batch]:
        """Return the batch as it is."""
        return {"clean": batch}

    def loss(self, outputs: dict[str, FusionOutput], batch: Batch, context: Context) -> dict[str, Part]:
        """Return the bound, ``generative_kl``, and of each modality ``generative_<modality>``, a mean over values."""
        require_covariates(self, self.decoder.n_conditions)
        given = None if self.covariates is None else self.covariates[context.index]
        library = {name: m.offset.exp() for name, m in batch.modalities.items() if m.offset is not None}  # (B,) each
        found = self.decoder(outputs["clean"].fused, library=library, condition=given)
        there = torch.stack([context.network.present_in(name, batch.present) for name in self.n_values])  # (M, B)
        each = torch.stack(
            [minus_log_prob(found.expression[name], batch.modalities[name], t) for name, t in zip(self.n_values, there)]
        )  # (M, B)
        bound = each.sum(0) + self.weight_at(context.epoch) * found.kl  # (B,)
        parts = {f"generative_{name}": mean_of(t, e / n) for (name, n), t, e in zip(self.n_values.items(), there, each)}
        some = there.any(0)  # (B,)
        parts["generative_kl"] = mean_of(some, found.kl)
        return {"loss": mean_of(some, bound / sum(self.n_values.values())), **parts}

    def weight_at(self, epoch: int) -> float:
        """Return the weight of the divergence in an epoch, counted from 0."""
        return self.kl_weight * (min(1.0, (epoch + 1) / (self.n_warmup + 1)) if self.training else 1.0)

    def on_train_end(self) -> None:
        """Forget what belongs to the training samples."""
        self.covariates = None


def minus_log_prob(found: Distribution, modality: ModalityBatch, there: Tensor) -> Tensor:
    """Minus the log-likelihood (B,) of the real values of each sample that is `there` (B,), a sum; 0 for others."""
    real = modality.mask & there.unsqueeze(1)  # (B, T)
    values = torch.where(there.view(-1, *[1] * (modality.values.ndim - 1)), modality.values, 0.0).flatten(1)
    each = -found.log_prob(values).unflatten(1, (real.shape[1], -1)).sum(2)  # (B, T)
    return torch.where(real, each, 0.0).sum(1)
