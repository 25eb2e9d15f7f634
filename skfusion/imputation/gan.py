"""Filling by a conditional generative adversarial network."""

from collections.abc import Iterator
from typing import Any

from skfusion._compat import integer, real
from skfusion.imputation.generative import Generative, Noise, own_noise


def energy_score(true: Any, one: Any, other: Any) -> Any:
    """Mean energy score of two draws (n, k) for each true row; least, on average, for draws from the truth."""
    return ((true - one).norm(dim=1) + (true - other).norm(dim=1) - (one - other).norm(dim=1)).mean() / 2


def witness_gap(true: Any, one: Any, other: Any) -> Any:
    """How much more f(x) = |x - draw| - |x| is at true rows (n, k) than at draws; zero, on average, if they agree."""
    apart = (true - one).norm(dim=1) / 2 + (true - other).norm(dim=1) / 2 - (one - other).norm(dim=1)
    return (apart - true.norm(dim=1) + (one.norm(dim=1) + other.norm(dim=1)) / 2).mean()


class GAN(Generative):
    r"""A conditional generative adversarial network [1]_ that plays for the energy distance: a Cramér GAN [2]_.

    The generator makes the missing modalities from those present, and noise in place of each that is missing, twice for
    each sample: :math:`\hat x` and :math:`\hat x'`. The critic embeds values, beside the modalities present, as
    :math:`h`. In training, modalities are hidden at random. With :math:`f(x) = \|h(x) - h(\hat x')\| - \|h(x)\|`, the
    critic raises :math:`f(x) - f(\hat x)` for the true :math:`x`, less :math:`\gamma / 2` times the squared slope of
    :math:`h` at true and generated values [3]_.

    The generator lowers the energy score [4]_ of :math:`z(x) = (x, h(x))`, which is :math:`\|z(x) - z(\hat x)\| -
    \frac12 \|z(\hat x) - z(\hat x')\|`. Whatever the critic, its expectation is least at the true conditional
    distribution, and a batch of any size estimates it without bias: variances come out right and modes are kept.
    Numeric modalities alone have a say.

    Parameters
    ----------
    n_components : int or None, default=50
        Wider modalities are projected to so many principal components; None projects wide CSR alone.
    n_noise : int, default=8
        Width of the noise in place of each missing modality.
    n_latent : int, default=16
        Width of the critic's embedding.
    n_hidden, n_layers : int, default=(128, 2)
        Width and residual blocks of the generator; the critic is half as wide.
    lr : float, default=2e-3
        Learning rate; it falls to zero along a cosine.
    penalty : float, default=0.1
        :math:`\gamma`.
    max_steps, batch_size : int, default=(1500, 256)
        Training steps, and samples in each.
    n_draws : int, default=8
        What `transform` fills is the mean of so many draws.

    References
    ----------
    .. [1] Mirza and Osindero, "Conditional generative adversarial nets", 2014.
    .. [2] Bellemare et al., "The Cramer distance as a solution to biased Wasserstein gradients", 2017.
    .. [3] Mescheder, Geiger and Nowozin, "Which training methods for GANs do actually converge?", ICML 2018.
    .. [4] Gneiting and Raftery, "Strictly proper scoring rules, prediction, and estimation", JASA 2007.

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
        "n_latent": [integer(1)],
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
        n_noise: int = 8,
        n_latent: int = 16,
        n_hidden: int = 128,
        n_layers: int = 2,
        lr: float = 2e-3,
        penalty: float = 0.1,
        max_steps: int = 1500,
        batch_size: int = 256,
        n_draws: int = 8,
    ) -> None:
        self.n_components = n_components
        self.n_noise = n_noise
        self.n_latent = n_latent
        self.n_hidden = n_hidden
        self.n_layers = n_layers
        self.lr = lr
        self.penalty = penalty
        self.max_steps = max_steps
        self.batch_size = batch_size
        self.n_draws = n_draws

    def _train(self, table: Any, present: Any, verbose: int) -> Any:
        import torch

        from skfusion.imputation.networks import ResidualMLP, random_targets, train

        width, n_condition = table.shape[1], table.shape[1] + 2 * present.shape[1]
        n_noise, n_critic = present.shape[1] * self.n_noise, (self.n_hidden + 1) // 2
        generator = ResidualMLP(n_condition + n_noise, width, self.n_hidden, self.n_layers).to(table.device)
        critic = ResidualMLP(n_condition + width, self.n_latent, n_critic, self.n_layers).to(table.device)

        def embed(values: Any, condition: Any) -> Any:
            return critic(torch.cat([values, condition], dim=1))

        def step(x: Any, present: Any) -> Iterator[Any]:
            hidden = random_targets(present)  # (B, M)
            given, wanted = present & ~hidden, self.layout_.repeat(hidden)
            clean = x * self.layout_.repeat(given)
            condition = torch.cat([clean, (~given).float(), given.float()], dim=1)
            thrice, twice = condition.repeat(3, 1), condition.repeat(2, 1)
            made = self._make(generator, twice, own_noise) * wanted.repeat(2, 1)  # (2 B, D)
            values = torch.cat([x * wanted, made])  # (3 B, D): the truth, one draw, another
            fixed = values.detach().requires_grad_()
            embedding = embed(fixed, thrice)  # (3 B, n_latent)
            along = torch.randn_like(embedding)
            (slope,) = torch.autograd.grad((embedding * along).sum(), fixed, create_graph=True)  # (3 B, D)
            yield self.penalty / 2 * slope.square().sum(dim=1).mean() - witness_gap(*embedding.chunk(3))
            # The values themselves stay beside their embedding, so that no difference escapes the score.
            yield energy_score(*torch.cat([values, embed(values, thrice)], dim=1).chunk(3))

        lengths = {"max_steps": self.max_steps, "batch_size": self.batch_size, "verbose": verbose}
        _, average = train(
            [critic, generator], step, table, present, lrs=[self.lr] * 2, betas=(0.5, 0.9), title="gan", **lengths
        )
        return average

    def _make(self, generator: Any, condition: Any, noise: Noise) -> Any:
        import torch

        m, k = len(self.layout_.widths), self.n_noise
        hidden = condition[:, -2 * m : -m].repeat_interleave(k, dim=1)  # (B, M n_noise)
        return generator(torch.cat([condition, noise(condition, m * k) * hidden], dim=1))

    def _generate(self, table: Any, given: Any, noise: Noise) -> Any:
        import torch

        return self._make(self.network_, torch.cat([table, (~given).float(), given.float()], dim=1), noise)
