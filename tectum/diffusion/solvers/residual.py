"""Var(x₀ | x), what a denoiser cannot know: how much wider a step must be than the posterior of a known x₀.

The best variance of a step is the posterior's plus on_x0² times this (Bao et al. 2022, Analytic-DPM, arXiv:2201.06503, eq. 8).
Between neighbours of a long table it hardly matters. Across strides it does: without it samples are too much alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tectum.diffusion.denoiser import Denoise
from tectum.diffusion.marginals import forward
from tectum.diffusion.process import Point
from tectum.diffusion.scalars import Scalar


@dataclass(frozen=True)
class Residual:
    """That of data that are one Gaussian of a known standard deviation: c²σ² / (σ² + c²α²).

    With c = 1 in the frame vp it makes the variance of a step β, the larger choice of DDPM. With the true c, steps of any
    length are exact for Gaussian data.

    >>> from tectum.diffusion.schedules import edm
    >>> Residual(1.0)(edm().at(1.0))
    0.5
    """

    data_std: float = 1.0

    def __call__(self, here: Point) -> Scalar:
        """Var(x₀ | x)."""
        return (self.data_std * here.sigma) ** 2 / (here.sigma**2 + (self.data_std * here.alpha) ** 2)


unit = Residual(1.0)


@dataclass(frozen=True)
class Measured:
    """Linear in σ/(α+σ) between measured values, and constant beyond them. `measure` makes it."""

    flow_times: tuple[float, ...]
    """Rising."""
    values: tuple[float, ...]

    def __call__(self, here: Point) -> Scalar:
        """Var(x₀ | x)."""
        at = torch.as_tensor(here.flow_time, dtype=torch.float64)
        places, values = (torch.tensor(row, dtype=torch.float64, device=at.device) for row in (self.flow_times, self.values))
        at = at.clamp(places[0], places[-1])
        right = torch.searchsorted(places, at.contiguous()).clamp(1, len(places) - 1)
        left = places.take(right - 1)
        found = torch.lerp(values.take(right - 1), values.take(right), (at - left) / (places.take(right) - left))
        return found if isinstance(here.flow_time, Tensor) else found.item()


def measure(denoiser: Denoise, x0: Tensor, noise: Tensor, grid: Sequence[Point]) -> Measured:
    """Var(x₀ | x), the mean over samples and elements, as the error of the denoiser on data.

    Args:
        denoiser: the model; for one that is not the best there is, its own error is in it, as it should be.
        x0: data [n, …], which it was not trained on.
        noise: unit normal, of the same shape.
        grid: of plain numbers, from noise to data, two points at least with noise; those of the sampler, or some in between.

    >>> from tectum.diffusion.grids import at_times
    >>> from tectum.diffusion.mixture import Mixture
    >>> from tectum.diffusion.schedules import edm
    >>> data = Mixture(means=torch.zeros(1, 1), stds=torch.ones(1), weights=torch.ones(1))
    >>> found = measure(data, torch.randn(10_000, 1), torch.randn(10_000, 1), at_times(edm(), (2.0, 1.0)))
    >>> abs(found(edm().at(1.0)) - 0.5) < 0.05
    True
    """
    noisy = [point for point in reversed(grid) if point.sigma > 0]
    if len(noisy) < 2:
        raise ValueError("a residual is measured between points: give a grid with two of them at least that have noise")
    with torch.no_grad():
        errors = [(x0 - denoiser(forward(x0, noise, at), at)).square().mean().item() for at in noisy]
    return Measured(tuple(float(at.flow_time) for at in noisy), tuple(errors))
