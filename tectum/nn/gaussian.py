"""A diagonal Gaussian, what an autoencoder makes of a picture."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class DiagonalGaussian:
    """N(mean, exp(log_variance)), independent in every number; both are [n, …] of one shape.

    >>> standard = DiagonalGaussian(torch.zeros(1, 2), torch.zeros(1, 2))
    >>> DiagonalGaussian(torch.ones(1, 2), torch.zeros(1, 2)).kl(standard)
    tensor([1.])
    """

    mean: Tensor
    log_variance: Tensor

    @classmethod
    def of(cls, moments: Tensor) -> "DiagonalGaussian":
        """From moments [n, 2c, …], the means first. The variance is kept within e⁻³⁰ and e²⁰, as everyone does."""
        mean, log_variance = moments.chunk(2, dim=1)
        return cls(mean, log_variance.clamp(-30.0, 20.0))

    @property
    def std(self) -> Tensor:
        """The standard deviation [n, …]."""
        return torch.exp(self.log_variance / 2)

    def sample(self, noise: Tensor) -> Tensor:
        """mean + std · noise, for a unit normal noise [n, …]: the same noise gives the same sample, on any device.

        Raises:
            ValueError: if the noise is of another shape, which would silently be repeated.
        """
        if noise.shape != self.mean.shape:
            raise ValueError(f"noise of {list(noise.shape)} makes no sample of {list(self.mean.shape)}: give one number each")
        return self.mean + self.std * noise

    def kl(self, other: "DiagonalGaussian | None" = None) -> Tensor:
        """KL(self ‖ other) in nats [n], summed over a sample's numbers; `other` is N(0, 1) if left out.

        ½ Σ (σ² + (μ - μ')²) / σ'² - 1 - log σ² + log σ'² (Kingma & Welling 2014, arXiv:1312.6114, appendix B).
        """
        if other is None:
            terms = self.mean**2 + self.log_variance.exp() - 1 - self.log_variance
        else:
            difference = self.log_variance - other.log_variance
            terms = (self.mean - other.mean) ** 2 * torch.exp(-other.log_variance) + difference.exp() - 1 - difference
        return terms.flatten(1).sum(1) / 2

    def log_density(self, x: Tensor) -> Tensor:
        """log p(x) in nats [n] of x [n, …]."""
        terms = math.log(2 * math.pi) + self.log_variance + (x - self.mean) ** 2 * torch.exp(-self.log_variance)
        return -terms.flatten(1).sum(1) / 2
