"""The process x_t = α(t) x₀ + σ(t) ε, ε ~ N(0, 1): one frozen object for training, sampling, likelihood and distillation.

A process is two independent choices. Its *schedule* says how noisy a time is: λ(t) = log(α/σ), half the logarithm of the
signal-to-noise ratio (Kingma et al. 2021, arXiv:2107.00630, §3.1). Its *frame* says how the sum is scaled. The marginals of
any two processes agree up to that scale wherever their λ agree, so solvers speak of λ only, and give the same trajectory in
every frame:

    vp     α² + σ² = 1    variance preserving: DDPM, Stable Diffusion
    ve     α = 1          variance exploding: score matching with Langevin dynamics, EDM (σ is the noise there)
    flow   α + σ = 1      straight lines from data to noise: rectified flow, Stable Diffusion 3
    subvp  α² + σ = 1     of Song et al. 2021 (arXiv:2011.13456, §3.4)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from tectum.diffusion import scalars
from tectum.diffusion.scalars import Scalar

Frame = Literal["vp", "ve", "flow", "subvp"]


class Point(NamedTuple):
    """A place on the way from data to noise. Each number is that of all samples, or a tensor [n] with one for each."""

    time: Scalar
    """In the units of the schedule: the index of a table, a number in 0 … 1, or the noise itself (EDM)."""
    alpha: Scalar
    """Of the data in x = α x₀ + σ ε."""
    sigma: Scalar
    """Of the noise."""

    @property
    def lam(self) -> Scalar:
        """λ = log(α/σ): -∞ where there is noise only, ∞ at the data."""
        alpha, sigma = self.alpha, self.sigma
        if not isinstance(alpha, Tensor) and not isinstance(sigma, Tensor) and alpha > 0 and sigma > 0:
            return math.log(alpha) - math.log(sigma)  # asked for several times a step
        return scalars.log(alpha) - scalars.log(sigma)

    @property
    def flow_time(self) -> Scalar:
        """σ/(α+σ) in 0 … 1: the one time that every frame has and that is finite at both ends."""
        return self.sigma / (self.alpha + self.sigma)


class Schedule(Protocol):
    """How noisy a time is: λ(t), falling, and its inverse."""

    @property
    def span(self) -> tuple[float, float]:
        """The times of least and of most noise that a network is trained on."""
        ...

    def lam(self, time: Tensor) -> Tensor:
        """λ at the times, any shape, float64."""
        ...

    def time(self, lam: Tensor) -> Tensor:
        """The times at which λ is so."""
        ...


def alpha_sigma(frame: Frame, lam: Tensor) -> tuple[Tensor, Tensor]:
    """α and σ from λ, exact to rounding at both ends.

    >>> alpha, sigma = alpha_sigma("vp", torch.tensor([-torch.inf, 0.0, torch.inf]))
    >>> alpha.tolist(), round(sigma[1].item() ** 2, 6)
    ([0.0, 0.7071067690849304, 1.0], 0.5)
    """
    match frame:
        case "vp":
            return (2 * lam).sigmoid().sqrt(), (-2 * lam).sigmoid().sqrt()
        case "ve":
            return torch.ones_like(lam), (-lam).exp()
        case "flow":
            return lam.sigmoid(), (-lam).sigmoid()
        case "subvp":  # α² + σ = 1 and α = σ e^λ; both roots are written without a difference of near numbers
            noise = (-lam).exp()
            return 2 / (noise + (noise**2 + 4).sqrt()), 2 / (1 + (1 + 4 * (2 * lam).exp()).sqrt())


@dataclass(frozen=True)
class Process:
    """A schedule in a frame. `tectum.diffusion.schedules` makes the known ones.

    >>> from tectum.diffusion.schedules import flow
    >>> flow().at(0.5)
    Point(time=0.5, alpha=0.5, sigma=0.5)
    """

    schedule: Schedule
    frame: Frame = "vp"

    def __post_init__(self) -> None:
        if self.frame not in ("vp", "ve", "flow", "subvp"):
            raise ValueError(f"there is no frame {self.frame!r}: take 'vp', 've', 'flow' or 'subvp'")

    def lam(self, time: Scalar) -> Tensor:
        """λ = log(α/σ) at a time, float64."""
        return self.schedule.lam(_double(time))

    def alpha(self, time: Scalar) -> Tensor:
        """α at a time, float64."""
        return alpha_sigma(self.frame, self.lam(time))[0]

    def sigma(self, time: Scalar) -> Tensor:
        """σ at a time, float64."""
        return alpha_sigma(self.frame, self.lam(time))[1]

    def at(self, time: Scalar) -> Point:
        """The point at a time; of numbers for a number, of tensors for a tensor."""
        double = _double(time)
        return _point(double, *alpha_sigma(self.frame, self.schedule.lam(double)), isinstance(time, Tensor))

    def at_lam(self, lam: Scalar) -> Point:
        """The point where λ is so. Its time is kept within what the schedule knows; its α and σ are exact.

        >>> from tectum.diffusion.schedules import edm
        >>> edm().at_lam(0.0)
        Point(time=1.0, alpha=1.0, sigma=1.0)
        """
        double = _double(lam)
        return _point(self.schedule.time(double), *alpha_sigma(self.frame, double), isinstance(lam, Tensor))

    def data(self) -> Point:
        """The end of the way: no noise. Its time is the schedule's least."""
        return Point(self.schedule.span[0], 1.0, 0.0)


def _double(value: Scalar) -> Tensor:
    # Metal has no double precision: numbers for it are made on the processor, and cast where they meet a sample.
    if isinstance(value, Tensor):
        return value.to("cpu", torch.float64) if value.device.type == "mps" else value.double()
    return torch.tensor(value, dtype=torch.float64)


def _point(time: Tensor, alpha: Tensor, sigma: Tensor, tensors: bool) -> Point:
    return Point(time, alpha, sigma) if tensors else Point(time.item(), alpha.item(), sigma.item())
