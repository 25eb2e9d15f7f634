"""Filling by conditional diffusion."""

from collections.abc import Iterator
from typing import Any

from skfusion._compat import integer, real
from skfusion.imputation.generative import Generative, Noise


class Diffusion(Generative):
    r"""Conditional denoising diffusion [1]_, [2]_: noise becomes the missing modalities, given those present.

    A network predicts the noise :math:`\varepsilon` in :math:`\sqrt{\bar\alpha_t} x + \sqrt{1 - \bar\alpha_t}
    \varepsilon` from the noisy values, the modalities present, and :math:`t`; in training, modalities are hidden at
    random from samples that have them. :math:`\beta_t` rises linearly from .001 to .2 over 100 steps (over other
    numbers, in proportion), which leaves nothing of the data at the last, and the variance of a step is
    :math:`\beta_t`, with no noise in the last. Numeric modalities alone have a say.

    Parameters
    ----------
    n_components : int or None, default=50
        Wider modalities are projected to so many principal components; None projects wide CSR alone.
    n_diffusion_steps : int, default=100
        Steps from noise to data.
    n_hidden, n_layers : int, default=(128, 3)
        Width and residual blocks of the network.
    lr : float, default=2e-3
        Learning rate; it falls to zero along a cosine.
    max_steps, batch_size : int, default=(3000, 256)
        Training steps, and samples in each.
    n_draws : int, default=8
        What `transform` fills is the mean of so many draws.

    References
    ----------
    .. [1] Ho, Jain and Abbeel, "Denoising diffusion probabilistic models", NeurIPS 2020.
    .. [2] Tashiro et al., "CSDI: conditional score-based diffusion models for probabilistic time series imputation",
           NeurIPS 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from skfusion import ModalityImputer
    >>> from skfusion.imputation import Diffusion
    >>> a = np.linspace(-1, 1, 40)[:, None]
    >>> X = {"a": a, "b": np.r_[2 * a[:39], [[np.nan]]]}
    >>> imputer = ModalityImputer(Diffusion(max_steps=10), device="cpu", random_state=0).fit(X)
    >>> [drawn["b"].shape for drawn in imputer.sample(X, 2)]
    [(40, 1), (40, 1)]
    """

    _parameter_constraints = {
        "n_components": [integer(1), None],
        "n_diffusion_steps": [integer(2)],
        "n_hidden": [integer(1)],
        "n_layers": [integer(0)],
        "lr": [real(0, closed="neither")],
        "max_steps": [integer(1)],
        "batch_size": [integer(1)],
        "n_draws": [integer(1)],
    }

    def __init__(
        self,
        n_components: int | None = 50,
        *,
        n_diffusion_steps: int = 100,
        n_hidden: int = 128,
        n_layers: int = 3,
        lr: float = 2e-3,
        max_steps: int = 3000,
        batch_size: int = 256,
        n_draws: int = 8,
    ) -> None:
        self.n_components = n_components
        self.n_diffusion_steps = n_diffusion_steps
        self.n_hidden = n_hidden
        self.n_layers = n_layers
        self.lr = lr
        self.max_steps = max_steps
        self.batch_size = batch_size
        self.n_draws = n_draws

    def _train(self, table: Any, present: Any, verbose: int) -> Any:
        import torch

        from skfusion.imputation.networks import ResidualMLP, random_targets, time_features, train

        width, n_modalities, features = table.shape[1], present.shape[1], 32
        self.betas_ = noise_schedule(self.n_diffusion_steps).to(table.device)
        kept = torch.cumprod(1 - self.betas_, 0)  # (T,)
        network = ResidualMLP(2 * width + 2 * n_modalities + features, width, self.n_hidden, self.n_layers)
        network.to(table.device)

        def step(x: Any, present: Any) -> Iterator[Any]:
            hidden = random_targets(present)  # (B, M)
            given, wanted = present & ~hidden, self.layout_.repeat(hidden)
            t = torch.randint(len(kept), (len(x),), device=x.device)
            noise, made = torch.randn_like(x), self.layout_.repeat(~given)
            clean = x * self.layout_.repeat(given)
            # What a sample lacks is made as well, later on; here it says nothing, and is noise throughout.
            x = torch.where(self.layout_.repeat(present), x, torch.randn_like(x))
            noisy = (kept[t].sqrt()[:, None] * x + (1 - kept[t]).sqrt()[:, None] * noise) * made
            time = time_features(t / len(kept), features)
            found = network(torch.cat([noisy, clean, (~given).float(), given.float(), time], dim=1))
            yield ((found - noise).square() * wanted).sum() / wanted.sum()

        lengths = {"max_steps": self.max_steps, "batch_size": self.batch_size, "verbose": verbose}
        (average,) = train(
            [network], step, table, present, lrs=[self.lr], betas=(0.9, 0.99), title="diffusion", **lengths
        )
        return average

    def _generate(self, table: Any, given: Any, noise: Noise) -> Any:
        import torch

        from skfusion.imputation.networks import time_features

        kept = torch.cumprod(1 - self.betas_, 0)  # (T,)
        before = torch.cat([kept.new_ones(1), kept[:-1]])
        hidden = ~given
        wanted, width = self.layout_.repeat(hidden), table.shape[1]
        x = noise(table, width) * wanted
        for t in range(len(kept) - 1, -1, -1):
            time = time_features(torch.full((len(x),), t / len(kept), device=x.device))
            found = self.network_(torch.cat([x, table, hidden.float(), given.float(), time], dim=1))
            data = ((x - (1 - kept[t]).sqrt() * found) / kept[t].sqrt()).clamp(*self.range_)
            mean = before[t].sqrt() * self.betas_[t] * data + (1 - self.betas_[t]).sqrt() * (1 - before[t]) * x
            x = mean / (1 - kept[t])
            if t:
                x = x + self.betas_[t].sqrt() * noise(x, width)
            x = x * wanted
        return x


def noise_schedule(n_steps: int) -> Any:
    """Return the variances β (n_steps,), rising linearly so that next to nothing is kept of the data at the end."""
    import torch

    return torch.linspace(0.1 / n_steps, min(20.0 / n_steps, 0.999), n_steps)
