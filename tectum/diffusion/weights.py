"""What the training loss weighs, and which noise it is shown, as functions of λ = log(α/σ) and in one place.

Every weight is that of ‖x₀ - D‖², whatever the network predicts: SNR = e^{2λ} times it is the error in ε, 1 + SNR times it
the error in v. `tectum.diffusion.denoiser.loss` turns it into the weight of the network's own kind of prediction. So a
weight means the same for all of them, and min-SNR is right for v without a special case.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tectum.diffusion.process import Point, Process

Weight = Callable[[Tensor], Tensor]
"""λ to the weight of ‖x₀ - D‖², same shape."""


def simple(lam: Tensor) -> Tensor:
    """SNR: the plain error in ε, L_simple (Ho et al. 2020, arXiv:2006.11239, eq. 14).

    >>> simple(torch.tensor([0.0]))
    tensor([1.])
    """
    return (2 * lam).exp()


def plain_x0(lam: Tensor) -> Tensor:
    """1: the plain error in x₀."""
    return torch.ones_like(lam)


def plain_v(lam: Tensor) -> Tensor:
    """1 + SNR: the plain error in v in the frame vp (Salimans & Ho 2022, arXiv:2202.00512, §4)."""
    return 1 + (2 * lam).exp()


def plain_flow(lam: Tensor) -> Tensor:
    """(1 + e^λ)²: the plain error in the velocity, in the frame flow."""
    return (1 + lam.exp()) ** 2


def truncated_snr(lam: Tensor) -> Tensor:
    """max(SNR, 1) (Salimans & Ho 2022, §4)."""
    return (2 * lam).exp().clamp(min=1)


@dataclass(frozen=True)
class MinSNR:
    """min(SNR, γ) (Hang et al. 2023, arXiv:2303.09556, §3.4): little noise is an easy task, and is not weighed without bound.

    >>> MinSNR(5.0)(torch.tensor([0.0, 9.0]))
    tensor([1., 5.])
    """

    gamma: float = 5.0

    def __call__(self, lam: Tensor) -> Tensor:
        """The weight."""
        return (2 * lam).exp().clamp(max=self.gamma)


@dataclass(frozen=True)
class P2:
    """SNR / (k + SNR)^γ (Choi et al. 2022, arXiv:2204.00227, eq. 8, there as a weight of the error in ε)."""

    gamma: float = 1.0
    k: float = 1.0

    def __call__(self, lam: Tensor) -> Tensor:
        """The weight."""
        return (2 * lam).exp() / (self.k + (2 * lam).exp()) ** self.gamma


@dataclass(frozen=True)
class UnitVariance:
    """SNR + 1/data_std²: the plain error of an edm prediction (Karras et al. 2022, arXiv:2206.00364, table 1)."""

    data_std: float = 0.5

    def __call__(self, lam: Tensor) -> Tensor:
        """The weight."""
        return (2 * lam).exp() + 1 / self.data_std**2


@dataclass(frozen=True)
class SigmoidWeight:
    """SNR sigmoid(b - log SNR), b = 2 (Kingma & Gao 2023, arXiv:2303.00848, §5, there as a weight of the error in ε)."""

    bias: float = 2.0

    def __call__(self, lam: Tensor) -> Tensor:
        """The weight."""
        return math.exp(self.bias) * (2 * lam - self.bias).sigmoid()


class Draw(Protocol):
    """Which points are shown in training: uniform numbers made into points, and the density they have over λ."""

    def __call__(self, uniform: Tensor) -> Point:
        """Points [n] from numbers [n] in 0 … 1; `stratified` spreads them evenly."""
        ...

    def density(self, lam: Tensor) -> Tensor:
        """p(λ)."""
        ...


@dataclass(frozen=True)
class UniformTimes:
    """Times uniform over the schedule's span."""

    process: Process

    def __call__(self, uniform: Tensor) -> Point:
        """Points."""
        low, high = self.process.schedule.span
        return self.process.at(low + (high - low) * uniform)

    def density(self, lam: Tensor) -> Tensor:
        """p(λ) = |dt/dλ| / (t_max - t_min)."""
        low, high = self.process.schedule.span
        with torch.enable_grad():
            given = lam.detach().clone().requires_grad_()
            (rate,) = torch.autograd.grad(self.process.schedule.time(given).sum(), given)
        return rate.abs() / (high - low)


@dataclass(frozen=True)
class UniformSteps:
    """The entries of a table, all alike often. They have no density over λ: a discrete bound is a sum of `elbo.step_kl`."""

    process: Process

    def __call__(self, uniform: Tensor) -> Point:
        """Points at whole times."""
        last = self.process.schedule.span[1]
        return self.process.at((uniform * (last + 1)).floor().clamp(max=last))


@dataclass(frozen=True)
class NormalLam:
    """λ ~ N(mean, std²). Two names of the same thing are `logit_normal` and `log_normal`."""

    process: Process
    mean: float
    std: float

    def __call__(self, uniform: Tensor) -> Point:
        """Points."""
        return self.process.at_lam(self.mean + self.std * torch.special.ndtri(uniform.double()))

    def density(self, lam: Tensor) -> Tensor:
        """p(λ)."""
        return (-(((lam - self.mean) / self.std) ** 2) / 2).exp() / (self.std * math.sqrt(2 * math.pi))


@dataclass(frozen=True)
class UniformLam:
    """λ uniform between two ends."""

    process: Process
    low: float
    high: float

    def __call__(self, uniform: Tensor) -> Point:
        """Points."""
        return self.process.at_lam(self.low + (self.high - self.low) * uniform)

    def density(self, lam: Tensor) -> Tensor:
        """p(λ)."""
        return torch.full_like(lam, 1 / (self.high - self.low))


def logit_normal(process: Process, mean: float = 0.0, std: float = 1.0) -> NormalLam:
    """The logit of the flow time σ/(α+σ) is normal (Esser et al. 2024, arXiv:2403.03206, eq. 19): that logit is -λ."""
    return NormalLam(process, -mean, std)


def log_normal(process: Process, mean: float = -1.2, std: float = 1.2) -> NormalLam:
    """The logarithm of the noise σ/α is normal (Karras et al. 2022, arXiv:2206.00364, table 1): that logarithm is -λ."""
    return NormalLam(process, -mean, std)


@dataclass(frozen=True)
class Integrated:
    """A weight over λ itself, whatever noise is drawn: ∫ w(λ) ‖x₀ - D‖² dλ = E_p[w/p ‖x₀ - D‖²] (Kingma & Gao 2023, eq. 5).

    `Integrated(simple, draw)` is the diffusion loss of the continuous evidence bound (Kingma et al. 2021, arXiv:2107.00630,
    eq. 18) between the two ends that the draw reaches, in nats for each element.
    """

    weight: Weight
    draw: Draw

    def __call__(self, lam: Tensor) -> Tensor:
        """The weight."""
        return self.weight(lam) / self.draw.density(lam)


def stratified(n: int, offset: Tensor) -> Tensor:
    """n uniform numbers, one in each n-th of 0 … 1, from a single one (Kingma et al. 2021, appendix I.1); never 0 or 1.

    >>> stratified(4, torch.tensor(0.5)).tolist()
    [0.125, 0.375, 0.625, 0.875]
    """
    steps = torch.arange(n, device=offset.device, dtype=torch.float64)
    return ((steps + offset.double()) / n).clamp(2.0**-32, 1 - 2.0**-32)
