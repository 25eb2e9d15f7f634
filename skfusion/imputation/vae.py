"""Filling by a multimodal variational autoencoder."""

from collections.abc import Iterator
from typing import Any

from skfusion._compat import integer, real
from skfusion.imputation.generative import Generative, Noise


class VAE(Generative):
    r"""A multimodal variational autoencoder: a product of experts over the modalities present [1]_.

    Each modality has an encoder, whose Gaussian is an expert; the posterior of the latent from any modalities is the
    product of theirs and the prior. Decoders are Gaussian, with a variance a value. Training maximises the evidence
    bound from everything that a sample has, and draws the posterior from a random part of it towards that from all, by
    :math:`KL(q(z | x) \,\|\, q(z | x_\text{part}))` [2]_, so that a part knows what it does not know.

    `transform` fills with the decoded mean of the posterior; `sample` draws the latent and the noise. Numeric
    modalities alone have a say.

    Parameters
    ----------
    n_components : int or None, default=50
        Wider modalities are projected to so many principal components; None projects wide CSR alone.
    n_latent : int, default=32
        Width of the latent.
    n_hidden, n_layers : int, default=(128, 1)
        Width and residual blocks of encoders and decoders.
    lr : float, default=2e-3
        Learning rate; it falls to zero along a cosine.
    max_steps, batch_size : int, default=(3000, 256)
        Training steps, and samples in each.

    References
    ----------
    .. [1] Wu and Goodman, "Multimodal generative models for scalable weakly-supervised learning", NeurIPS 2018.
    .. [2] Suzuki, Nakayama and Matsuo, "Joint multimodal learning with deep generative models", ICLR workshop 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion import ModalityImputer
    >>> from skfusion.imputation import VAE
    >>> a = np.linspace(-1, 1, 40)[:, None]
    >>> X = {"a": a, "b": np.r_[2 * a[:39], [[np.nan]]]}
    >>> imputer = ModalityImputer(VAE(max_steps=10), device="cpu", random_state=0)
    >>> imputer.fit_transform(X)["b"].shape
    (40, 1)
    """

    _parameter_constraints = {
        "n_components": [integer(1), None],
        "n_latent": [integer(1)],
        "n_hidden": [integer(1)],
        "n_layers": [integer(0)],
        "lr": [real(0, closed="neither")],
        "max_steps": [integer(1)],
        "batch_size": [integer(1)],
    }

    def __init__(
        self,
        n_components: int | None = 50,
        *,
        n_latent: int = 32,
        n_hidden: int = 128,
        n_layers: int = 1,
        lr: float = 2e-3,
        max_steps: int = 3000,
        batch_size: int = 256,
    ) -> None:
        self.n_components = n_components
        self.n_latent = n_latent
        self.n_hidden = n_hidden
        self.n_layers = n_layers
        self.lr = lr
        self.max_steps = max_steps
        self.batch_size = batch_size

    def _train(self, table: Any, present: Any, verbose: int) -> Any:
        from skfusion.imputation.experts import ProductOfExperts
        from skfusion.imputation.networks import random_targets, train

        network = ProductOfExperts(self.layout_.widths, self.n_latent, self.n_hidden, self.n_layers).to(table.device)

        def step(x: Any, present: Any) -> Iterator[Any]:
            yield network.loss(x, present, present & ~random_targets(present, everything=0.0))

        lengths = {"max_steps": self.max_steps, "batch_size": self.batch_size, "verbose": verbose}
        (average,) = train([network], step, table, present, lrs=[self.lr], betas=(0.9, 0.99), title="vae", **lengths)
        return average

    def _generate(self, table: Any, given: Any, noise: Noise) -> Any:
        return self.network_.draw(table, given, noise)

    def _means(self, X: Any, hidden: str | None) -> list[Any]:
        import torch

        with torch.no_grad():
            mean = self.network_.mean(*self._given(X, hidden)).clamp(*self.range_).cpu().double()
        return [part.numpy() for part in self.layout_.split(mean)]
