"""A mixture of round Gaussians: data whose denoiser, score and likelihood are known exactly, at any noise.

It is what solvers are tested on, and a model for pictures of how diffusion works that needs no training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tectum.diffusion.process import Point
from tectum.diffusion.scalars import placed, spread


@dataclass(frozen=True, eq=False)
class Mixture:
    """Σ_k w_k N(mean_k, std_k²). Called at a noisy x it gives E[x₀ | x], the best denoiser there is.

    >>> from tectum.diffusion.schedules import edm
    >>> single = Mixture(means=torch.zeros(1, 2), stds=torch.ones(1), weights=torch.ones(1))
    >>> single(torch.tensor([[2.0, 4.0]]), edm().at(1.0))  # half of it is noise
    tensor([[1., 2.]])
    """

    means: Tensor
    """[k, d]."""
    stds: Tensor
    """[k]."""
    weights: Tensor
    """[k], summing to one."""

    def __call__(self, x: Tensor, at: Point) -> Tensor:
        """E[x₀ | x], [n, d]."""
        alpha, variance, offset = self._parts(x, at)
        share = self._log_terms(offset, variance).softmax(1)  # [n, k]
        shrunk = share * alpha * self.stds.to(x) ** 2 / variance
        return share @ self.means.to(x) + (shrunk[..., None] * offset).sum(1)

    def log_prob(self, x: Tensor, at: Point) -> Tensor:
        """log p(x) of the noisy data, [n]."""
        _, variance, offset = self._parts(x, at)
        return self._log_terms(offset, variance).logsumexp(1)

    def residual(self, x: Tensor, at: Point) -> Tensor:
        """Var(x₀ | x), the mean over the elements, [n]: what no denoiser can know."""
        alpha, variance, offset = self._parts(x, at)
        share = self._log_terms(offset, variance).softmax(1)
        own = self.stds.to(x) ** 2 * (1 - alpha**2 * self.stds.to(x) ** 2 / variance)  # [n or 1, k]
        guesses = self.means.to(x) + (alpha * self.stds.to(x) ** 2 / variance)[..., None] * offset
        between = (guesses - self(x, at)[:, None]) ** 2
        return (share * (own + between.mean(2))).sum(1)

    def sample(self, noise: Tensor, uniform: Tensor) -> Tensor:
        """Data [n, d] from unit normal noise [n, d] and uniform numbers [n] in 0 … 1 that choose the component."""
        which = torch.searchsorted(self.weights.to(noise).cumsum(0), uniform.to(noise)).clamp(max=len(self.weights) - 1)
        return self.means.to(noise)[which] + self.stds.to(noise)[which, None] * noise

    def _parts(self, x: Tensor, at: Point) -> tuple[Tensor, Tensor, Tensor]:
        """α [] or [n, 1], the variance of x in each component [n or 1, k], and x less its mean [n, k, d]."""
        alpha, sigma = (placed(spread(value, x), x) for value in (at.alpha, at.sigma))
        variance = (alpha * self.stds.to(x)) ** 2 + sigma**2
        return alpha, variance.reshape(-1, len(self.stds)), x[:, None] - alpha[..., None] * self.means.to(x)

    def _log_terms(self, offset: Tensor, variance: Tensor) -> Tensor:
        d = offset.shape[2]
        quadratic = (offset**2).sum(2) / variance
        return self.weights.to(offset).log() - (quadratic + d * (2 * math.pi * variance).log()) / 2
