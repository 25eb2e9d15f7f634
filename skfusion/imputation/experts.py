"""The network of the multimodal variational autoencoder."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from skfusion.imputation.networks import ResidualMLP


class ProductOfExperts(nn.Module):
    """Encoders whose Gaussians multiply, and decoders with a variance a value.

    Parameters
    ----------
    widths : list of int
        Columns of each modality.
    n_latent, n_hidden, n_layers : int
        Sizes.
    """

    def __init__(self, widths: list[int], n_latent: int, n_hidden: int, n_layers: int) -> None:
        super().__init__()
        self.widths = widths
        self.encoders = nn.ModuleList(ResidualMLP(width, 2 * n_latent, n_hidden, n_layers) for width in widths)
        self.decoders = nn.ModuleList(ResidualMLP(n_latent, width, n_hidden, n_layers) for width in widths)
        self.log_noise = nn.Parameter(torch.zeros(sum(widths)))  # log standard deviation of each value

    def posterior(self, table: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance (B, n_latent) of the latent, from the modalities `given` (B, M)."""
        experts = [encoder(part) for encoder, part in zip(self.encoders, table.split(self.widths, dim=1))]
        location, log_precision = torch.stack(experts, dim=1).chunk(2, dim=2)  # (B, M, n_latent)
        precision = log_precision.clamp(-12, 12).exp() * given[:, :, None]
        total = 1 + precision.sum(dim=1)  # the prior is an expert
        return (precision * location).sum(dim=1) / total, 1 / total

    def decode(self, z: Tensor) -> Tensor:
        """Return the mean (B, D) of every value."""
        return torch.cat([decoder(z) for decoder in self.decoders], dim=1)

    def mean(self, table: Tensor, given: Tensor) -> Tensor:
        """Decode the mean of the posterior."""
        return self.decode(self.posterior(table, given)[0])

    def draw(self, table: Tensor, given: Tensor, noise: Callable[[Tensor, int], Tensor]) -> Tensor:
        """Draw the latent, then the values."""
        mean, variance = self.posterior(table, given)
        x = self.decode(mean + variance.sqrt() * noise(mean, mean.shape[1]))
        return x + self.log_noise.exp() * noise(x, x.shape[1])

    def loss(self, table: Tensor, present: Tensor, given: Tensor) -> Tensor:
        """Return the negative evidence bound from all that is present, and the divergence of a part's posterior."""
        mean, variance = self.posterior(table, present)
        there = torch.cat([column.expand(-1, width) for column, width in zip(present.split(1, 1), self.widths)], dim=1)
        z = mean + variance.sqrt() * torch.randn_like(mean)
        left = (table - self.decode(z)) * torch.exp(-self.log_noise)  # (B, D)
        reconstruction = ((0.5 * left.square() + self.log_noise) * there).sum(dim=1)
        prior = gaussian_divergence(mean, variance, torch.zeros_like(mean), torch.ones_like(variance))
        part = gaussian_divergence(mean.detach(), variance.detach(), *self.posterior(table, given))
        return (reconstruction + prior + part).mean() / len(self.log_noise)


def gaussian_divergence(mean: Tensor, variance: Tensor, other_mean: Tensor, other_variance: Tensor) -> Tensor:
    """Return KL(N(mean, variance) ‖ N(other_mean, other_variance)) of diagonal Gaussians (B, K), (B,)."""
    ratio = variance / other_variance
    return 0.5 * (ratio + (mean - other_mean).square() / other_variance - 1 - ratio.log()).sum(dim=1)
