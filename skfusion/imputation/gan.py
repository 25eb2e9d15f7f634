"""Filling by a conditional generative adversarial network."""

from collections.abc import Iterator
from typing import Any

from skfusion._compat import integer, real
from skfusion.imputation.generative import Generative, Noise, own_noise


class GAN(Generative):
    r"""A conditional generative adversarial network [1]_, with the relativistic loss and its gradient penalties [2]_.

    The generator makes the missing modalities from those present and noise; the discriminator compares them with true
    ones beside the same modalities present. In training, modalities are hidden at random from samples that have them.
    The loss of the discriminator is :math:`\text{softplus}(D(\hat x) - D(x))`, that of the generator the reverse, with
    :math:`\gamma / 2` times the squared gradient of :math:`D` at true and generated values: a regularised game that
    converges, and keeps modes that the plain one drops.

    Parameters
    ----------
    n_components : int or None, default=50
        Wider modalities are projected to so many principal components; None projects wide CSR alone.
    n_noise : int, default=16
        Width of the noise.
    n_hidden, n_layers : int, default=(128, 2)
        Width and residual blocks of both networks.
    lr : float, default=1e-3
        Learning rate; it falls to zero along a cosine.
    penalty : float, default=0.1
        :math:`\gamma`.
    max_steps, batch_size : int, default=(3000, 256)
        Training steps, and samples in each.
    n_draws : int, default=8
        What `transform` fills is the mean of so many draws.

    References
    ----------
    .. [1] Mirza and Osindero, "Conditional generative adversarial nets", 2014.
    .. [2] Huang et al., "The GAN is dead; long live the GAN! A modern GAN baseline", NeurIPS 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion import ModalityImputer
    >>> from skfusion.imputation import GAN
    >>> a = np.linspace(-1, 1, 40)[:, None]
    >>> X = {"a": a, "b": np.r_[2 * a[:39], [[np.nan]]]}
    >>> imputer = ModalityImputer(GAN(max_steps=10), device="cpu", random_state=0)
    >>> imputer.fit_transform(X)["b"].shape
    (40, 1)
    """

    _parameter_constraints = {
        "n_components": [integer(1), None],
        "n_noise": [integer(1)],
        "n_hidden": [integer(1)],
        "n_layers": [integer(0)],
        "lr": [real(0, closed="neither")],
        "penalty": [real(0)],
        "max_steps": [integer(1)],
        "batch_size": [integer(1)],
        "n_draws": [integer(1)],
    }

    def __init__(
        self,
        n_components: int | None = 50,
        *,
        n_noise: int = 16,
        n_hidden: int = 128,
        n_layers: int = 2,
        lr: float = 1e-3,
        penalty: float = 0.1,
        max_steps: int = 3000,
        batch_size: int = 256,
        n_draws: int = 8,
    ) -> None:
        self.n_components = n_components
        self.n_noise = n_noise
        self.n_hidden = n_hidden
        self.n_layers = n_layers
        self.lr = lr
        self.penalty = penalty
        self.max_steps = max_steps
        self.batch_size = batch_size
        self.n_draws = n_draws

    def _train(self, table: Any, present: Any, verbose: int) -> Any:
        import torch
        from torch.nn.functional import softplus

        from skfusion.imputation.networks import ResidualMLP, random_targets, train

        width, n_condition = table.shape[1], table.shape[1] + 2 * present.shape[1]
        sizes = (self.n_hidden, self.n_layers)
        generator = ResidualMLP(n_condition + self.n_noise, width, *sizes).to(table.device)
        critic = ResidualMLP(n_condition + width, 1, *sizes).to(table.device)

        def judge(values: Any, condition: Any) -> Any:
            return critic(torch.cat([values, condition], dim=1))[:, 0]

        def judge_with_penalty(values: Any, condition: Any) -> tuple[Any, Any]:
            values = values.detach().requires_grad_()
            score = judge(values, condition)
            (gradient,) = torch.autograd.grad(score.sum(), values, create_graph=True)
            return score, gradient.square().sum(dim=1).mean()

        def step(x: Any, present: Any) -> Iterator[Any]:
            hidden = random_targets(present)
            given, wanted = present & ~hidden, self.layout_.spread(hidden)
            clean = x * self.layout_.spread(given)
            condition = torch.cat([clean, hidden.float(), given.float()], dim=1)
            real = x * wanted
            made = self._make(generator, condition, own_noise) * wanted
            true, penalty = judge_with_penalty(real, condition)
            false, other = judge_with_penalty(made, condition)
            yield softplus(false - true).mean() + self.penalty / 2 * (penalty + other)
            yield softplus(judge(real, condition).detach() - judge(made, condition)).mean()

        lengths = {"max_steps": self.max_steps, "batch_size": self.batch_size, "verbose": verbose}
        _, average = train(
            [critic, generator], step, table, present, lrs=[self.lr] * 2, betas=(0.0, 0.9), title="gan", **lengths
        )
        return average

    def _make(self, generator: Any, condition: Any, noise: Noise) -> Any:
        import torch

        return generator(torch.cat([condition, noise(condition, self.n_noise)], dim=1))

    def _generate(self, table: Any, given: Any, noise: Noise) -> Any:
        import torch

        return self._make(self.network_, torch.cat([table, (~given).float(), given.float()], dim=1), noise)
