"""Exact log-likelihood, and inversion: the probability-flow equation run from data to noise.

The density of a sample changes along its way by the divergence of the velocity (Chen et al. 2018, arXiv:1806.07366, eq.
8; Song et al. 2021, arXiv:2011.13456, eq. 39), so log p at the data is log p of the noise it leads to plus an integral.
Both are had by Heun's method in the flow form of `solvers.runge_kutta`: y = x/(α+σ), dy/dc = ε - x₀.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from tectum.diffusion.denoiser import Denoise
from tectum.diffusion.noise import home, philox
from tectum.diffusion.process import Point
from tectum.diffusion.scalars import Scalar, placed, spread
from tectum.diffusion.solvers.runge_kutta import Heun
from tectum.diffusion.solvers.state import last, sample

Trace = Callable[[Tensor, Tensor], Tensor]
"""(x₀ [n, …] as a function of x [n, …], x) to the trace of ∂x₀/∂x, [n]."""


def exact_trace(x0: Tensor, x: Tensor) -> Tensor:
    """One backward pass for each element of a sample: for small data, and to judge estimates by."""
    flat = x0.flatten(1)
    total = torch.zeros_like(flat[:, 0])
    for i in range(flat.shape[1]):
        (gradient,) = torch.autograd.grad(flat[:, i].sum(), x, retain_graph=True)
        total = total + gradient.flatten(1)[:, i]
    return total


@dataclass(frozen=True, eq=False)
class Hutchinson:
    """vᵀ (∂x₀/∂x) v for random signs v, unbiased (Grathwohl et al. 2018, arXiv:1810.01367, §3.1): one backward pass a probe.

    The same signs serve all along the way, so that what is integrated stays smooth. They are keyed by (seed, sample,
    probe, element).
    """

    seed: int
    samples: Tensor
    """Numbers of the samples, int64 [n]."""
    probes: int = 1

    def __call__(self, x0: Tensor, x: Tensor) -> Tensor:
        """The trace."""
        total = torch.zeros_like(x0.flatten(1)[:, 0])
        for probe in range(self.probes):
            signs = self._signs(probe, x)
            (gradient,) = torch.autograd.grad((x0 * signs).sum(), x, retain_graph=True)
            total = total + (gradient * signs).flatten(1).sum(1)
        return total / self.probes

    def _signs(self, probe: int, x: Tensor) -> Tensor:
        samples = self.samples.to(home(x.device))[:, None]
        element = torch.arange(x[0].numel(), device=samples.device)[None]
        zero = torch.zeros_like(element)
        word, *_ = philox((element, zero + probe, samples, zero + 2), self.seed)
        return ((word & 1) * 2 - 1).to(x).view_as(x)


class Likelihood(NamedTuple):
    """What `log_likelihood` finds."""

    log_prob: Tensor
    """In nats, [n]."""
    noise: Tensor
    """Where the sample leads to, [n, …] at the noisier end."""


def log_likelihood(
    denoiser: Denoise,
    x: Tensor,
    grid: Sequence[Point],
    *,
    trace: Trace = exact_trace,
    prior: Callable[[Tensor, Point], Tensor] | None = None,
) -> Likelihood:
    """log p(x) under the model, at the least noise of the grid; two evaluations a step.

    Args:
        denoiser: the model.
        x: samples [n, …] with the noise of that end, which for data is to be so little that it does not matter.
        grid: from noise to data as for sampling, but with noise at its end (`to_data=False`). It is walked backwards.
        trace: `exact_trace` or `Hutchinson`.
        prior: log p(x) of what the model starts from, at the noisier end; N(0, σ² + α²) if left out.

    Raises:
        ValueError: if the grid ends at the data, where a density need not be finite.

    >>> from tectum.diffusion.grids import exponential
    >>> from tectum.diffusion.mixture import Mixture
    >>> from tectum.diffusion.schedules import edm
    >>> data = Mixture(means=torch.zeros(1, 1), stds=torch.ones(1), weights=torch.ones(1))
    >>> x = torch.tensor([[0.5]])
    >>> found = log_likelihood(data, x, exponential(edm(0.01, 20.0), 40, to_data=False))
    >>> torch.allclose(found.log_prob, data.log_prob(x, edm().at(0.01)), atol=1e-3)
    True
    """
    points = _upwards(grid)
    d = x[0].numel()
    y = x / spread(_scale(points[0]), x)
    gained = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    for here, there in pairwise(points):
        width = spread(there.flow_time - here.flow_time, y)
        velocity, divergence = _flow(denoiser, y, here, trace)
        end_velocity, end_divergence = _flow(denoiser, y + width * velocity, there, trace)
        y = y + width / 2 * (velocity + end_velocity)
        gained = gained + (there.flow_time - here.flow_time) / 2 * (divergence + end_divergence)
    noise = y * spread(_scale(points[-1]), y)
    ends = (torch.as_tensor(_scale(point), dtype=torch.float64, device=x.device) for point in (points[-1], points[0]))
    stretch = [d * scale.log() for scale in ends]
    start = (prior or unit_prior)(noise, points[-1])
    return Likelihood(start + gained + (stretch[0] - stretch[1]).to(x), noise)


def unit_prior(x: Tensor, at: Point) -> Tensor:
    """log N(x; 0, σ² + α²), [n]: of noised data of mean 0 and variance 1, were they Gaussian."""
    variance = placed(at.sigma**2 + at.alpha**2, x)
    return -((x.flatten(1) ** 2 / variance.reshape(-1, 1)).sum(1) + x[0].numel() * (2 * math.pi * variance).log()) / 2


def invert(denoiser: Denoise, x: Tensor, grid: Sequence[Point]) -> Tensor:
    """The noise from which sampling gives x, [n, …] at the noisier end, by Heun's method; for editing and interpolation.

    Args and Raises as `log_likelihood`.
    """
    return last(sample(Heun("flow"), denoiser, x, _upwards(grid)))


def _upwards(grid: Sequence[Point]) -> list[Point]:
    points = list(reversed(grid))
    if len(points) < 2 or (not isinstance(points[0].sigma, Tensor) and points[0].sigma == 0):
        raise ValueError("going from data to noise begins where there is some noise: make the grid with to_data=False")
    return points


def _scale(at: Point) -> Scalar:
    return at.alpha + at.sigma


def _flow(denoiser: Denoise, y: Tensor, at: Point, trace: Trace) -> tuple[Tensor, Tensor]:
    """dy/dc = x/σ - x₀/c and its divergence in y."""
    with torch.enable_grad():
        x = (y * spread(_scale(at), y)).detach().requires_grad_()
        x0 = denoiser(x, at)
        diagonal = trace(x0, x)
    velocity = x.detach() / spread(at.sigma, y) - x0.detach() / spread(at.flow_time, y)
    # x moves with y by the factor α+σ, so (α+σ)/σ = 1/c for the identity, and (α+σ)/c for the trace of the denoiser.
    return velocity, (y[0].numel() - _scale(at) * diagonal.detach()) / at.flow_time
