"""Continuous schedules: λ(t) and its inverse in closed form, exact at both ends; and the processes they make."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from tectum.diffusion.process import Process, alpha_sigma


@dataclass(frozen=True)
class LinearBeta:
    """β(t) rises linearly (Ho et al. 2020 in continuous time: Song et al. 2021, arXiv:2011.13456, eq. 33).

    With B(t) = ∫₀ᵗ β: α² = e^(-B), so λ = -½ log(e^B - 1).

    >>> schedule = LinearBeta()
    >>> schedule.time(schedule.lam(torch.tensor([0.25], dtype=torch.float64)))
    tensor([0.2500], dtype=torch.float64)
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    span: tuple[float, float] = (1e-3, 1.0)

    def __post_init__(self) -> None:
        _rising("beta_min", self.beta_min, "beta_max", self.beta_max)

    def integral(self, time: Tensor) -> Tensor:
        """B(t)."""
        return self.beta_min * time + (self.beta_max - self.beta_min) / 2 * time**2

    def inverse_integral(self, value: Tensor) -> Tensor:
        """The t where B(t) is `value`."""
        return 2 * value / (self.beta_min + (self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * value).sqrt())

    def lam(self, time: Tensor) -> Tensor:
        """λ(t)."""
        return -self.integral(time).expm1().log() / 2

    def time(self, lam: Tensor) -> Tensor:
        """t(λ)."""
        return self.inverse_integral(softplus(-2 * lam))


@dataclass(frozen=True)
class ScaledLinearBeta:
    """√β(t) rises linearly: latent diffusion (Rombach et al. 2022, arXiv:2112.10752), β being 1000 times its table's.

    >>> schedule = ScaledLinearBeta()
    >>> schedule.time(schedule.lam(torch.tensor([0.25], dtype=torch.float64)))
    tensor([0.2500], dtype=torch.float64)
    """

    beta_min: float = 0.85
    beta_max: float = 12.0
    span: tuple[float, float] = (1e-3, 1.0)

    def __post_init__(self) -> None:
        _rising("beta_min", self.beta_min, "beta_max", self.beta_max)

    def lam(self, time: Tensor) -> Tensor:
        """λ(t)."""
        low, slope = math.sqrt(self.beta_min), math.sqrt(self.beta_max) - math.sqrt(self.beta_min)
        integral = time * (low**2 + low * slope * time + slope**2 / 3 * time**2)
        return -integral.expm1().log() / 2

    def time(self, lam: Tensor) -> Tensor:
        """t(λ)."""
        low, slope = math.sqrt(self.beta_min), math.sqrt(self.beta_max) - math.sqrt(self.beta_min)
        tripled = 3 * slope * softplus(-2 * lam)
        root = (tripled + low**3).pow(1 / 3)
        return tripled / (slope * (root**2 + root * low + low**2))  # (root - low) / slope, with no difference of near numbers


@dataclass(frozen=True)
class Cosine:
    """α(t) ∝ cos(½π (t+s)/(1+s)) (Nichol & Dhariwal 2021, arXiv:2102.09672, eq. 17), scaled to α(0) = 1. Ends in pure noise.

    >>> Cosine().lam(torch.tensor([0.0, 1.0]))
    tensor([inf, -inf])
    """

    offset: float = 0.008
    span: tuple[float, float] = (1e-3, 0.9999)

    def __post_init__(self) -> None:
        if self.offset < 0:
            raise ValueError(f"offset = {self.offset} is negative: the paper's is 0.008")

    def lam(self, time: Tensor) -> Tensor:
        """λ(t)."""
        unit, first = math.pi / 2 / (1 + self.offset), math.pi / 2 * self.offset / (1 + self.offset)
        # With angle a and its first value b: cos a = sin(½π - a), and cos² b - cos² a = sin(a + b) sin(a - b).
        noise = ((time * unit + 2 * first).sin() * (time * unit).sin()).log()
        return ((1 - time) * unit).sin().log() - noise / 2

    def time(self, lam: Tensor) -> Tensor:
        """t(λ)."""
        unit, first = math.pi / 2 / (1 + self.offset), math.pi / 2 * self.offset / (1 + self.offset)
        alpha, sigma = alpha_sigma("vp", lam)
        sine = (math.sin(first) ** 2 + (sigma * math.cos(first)) ** 2).sqrt()
        return (torch.atan2(sine, alpha * math.cos(first)) - first) / unit


@dataclass(frozen=True)
class Sigmoid:
    """ᾱ = α² falls as a sigmoid of t between `start` and `end` (Chen 2023, arXiv:2301.10972, alg. 1). Ends in pure noise.

    >>> Sigmoid().lam(torch.tensor([0.0, 0.5, 1.0])).tolist()
    [inf, 0.0, -inf]
    """

    start: float = -3.0
    end: float = 3.0
    temperature: float = 1.0
    span: tuple[float, float] = (1e-3, 0.9999)

    def __post_init__(self) -> None:
        if not (self.start < self.end and self.temperature > 0):
            raise ValueError(f"a sigmoid from {self.start} to {self.end} at temperature {self.temperature} does not rise")

    def lam(self, time: Tensor) -> Tensor:
        """λ(t)."""
        low, high = self.start / self.temperature, self.end / self.temperature
        # g(a) - g(b) = sinh(½(a-b)) / (2 cosh ½a cosh ½b) for the logistic function g.
        signal = ((high - low) * (1 - time) / 2).sinh().log() + math.log(math.cosh(low / 2))
        noise = ((high - low) * time / 2).sinh().log() + math.log(math.cosh(high / 2))
        return (signal - noise) / 2

    def time(self, lam: Tensor) -> Tensor:
        """t(λ)."""
        low, high = self.start / self.temperature, self.end / self.temperature
        first, last = (1 / (1 + math.exp(-x)) for x in (low, high))
        value = last * (-2 * lam).sigmoid() + first * (2 * lam).sigmoid()
        return ((value.log() - (-value).log1p()) - low) / (high - low)


@dataclass(frozen=True)
class Geometric:
    """σ/α grows geometrically from `sigma_min` to `sigma_max` (Song et al. 2021, arXiv:2011.13456, appendix C).

    >>> Geometric(0.01, 100.0).time(torch.tensor([0.0]))
    tensor([0.5000])
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0
    span: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        _rising("sigma_min", self.sigma_min, "sigma_max", self.sigma_max)

    def lam(self, time: Tensor) -> Tensor:
        """λ(t)."""
        return -math.log(self.sigma_min) - time * math.log(self.sigma_max / self.sigma_min)

    def time(self, lam: Tensor) -> Tensor:
        """t(λ)."""
        return (-lam - math.log(self.sigma_min)) / math.log(self.sigma_max / self.sigma_min)


@dataclass(frozen=True)
class NoiseLevel:
    """The time is the noise σ/α itself (Karras et al. 2022, arXiv:2206.00364, table 1, last column).

    >>> NoiseLevel().lam(torch.tensor([1.0]))
    tensor([-0.])
    """

    span: tuple[float, float] = (0.002, 80.0)

    def __post_init__(self) -> None:
        _rising("span[0]", self.span[0], "span[1]", self.span[1])

    def lam(self, time: Tensor) -> Tensor:
        """λ(t)."""
        return -time.log()

    def time(self, lam: Tensor) -> Tensor:
        """t(λ)."""
        return (-lam).exp()


@dataclass(frozen=True)
class Straight:
    """σ/(α+σ) = s t / (1 + (s-1) t): rectified flow (Liu et al. 2022, arXiv:2209.03003), s > 1 for large pictures.

    The shift s (Esser et al. 2024, arXiv:2403.03206, eq. 23) lowers every λ by log s. It is here and nowhere else, so that
    it is applied once: a uniform grid of times is a shifted grid of noise, and a network is told the noise,
    `Point.flow_time`.

    >>> Straight(shift=3.0).lam(torch.tensor([0.0, 0.25, 1.0]))
    tensor([inf, 0., -inf])
    """

    shift: float = 1.0
    span: tuple[float, float] = (1e-4, 1.0 - 1e-4)

    def __post_init__(self) -> None:
        if self.shift <= 0:
            raise ValueError(f"shift = {self.shift} must be above 0; 1 leaves the times as they are")

    def lam(self, time: Tensor) -> Tensor:
        """λ(t)."""
        return (-time).log1p() - time.log() - math.log(self.shift)

    def time(self, lam: Tensor) -> Tensor:
        """t(λ)."""
        return (-lam - math.log(self.shift)).sigmoid()


@dataclass(frozen=True)
class SubLinearBeta:
    """Of the sub-VP process: α = e^(-B/2) as in `LinearBeta`, but σ = 1 - e^(-B) (Song et al. 2021, arXiv:2011.13456, eq. 29).

    >>> schedule = SubLinearBeta(LinearBeta())
    >>> schedule.time(schedule.lam(torch.tensor([0.25], dtype=torch.float64)))
    tensor([0.2500], dtype=torch.float64)
    """

    linear: LinearBeta

    @property
    def span(self) -> tuple[float, float]:
        """As that of the betas."""
        return self.linear.span

    def lam(self, time: Tensor) -> Tensor:
        """λ(t)."""
        integral = self.linear.integral(time)
        return -integral / 2 - (-(-integral).expm1()).log()

    def time(self, lam: Tensor) -> Tensor:
        """t(λ)."""
        alpha, sigma = alpha_sigma("subvp", lam)
        return self.linear.inverse_integral(torch.where(sigma > 0.5, -2 * alpha.log(), -(-sigma).log1p()))


def vp(beta_min: float = 0.1, beta_max: float = 20.0) -> Process:
    """The variance-preserving process of linear β in continuous time."""
    return Process(LinearBeta(beta_min, beta_max), "vp")


def vp_scaled(beta_min: float = 0.85, beta_max: float = 12.0) -> Process:
    """The variance-preserving process of linear √β in continuous time."""
    return Process(ScaledLinearBeta(beta_min, beta_max), "vp")


def vp_cosine(offset: float = 0.008) -> Process:
    """The variance-preserving process of the cosine schedule."""
    return Process(Cosine(offset), "vp")


def vp_sigmoid(start: float = -3.0, end: float = 3.0, temperature: float = 1.0) -> Process:
    """The variance-preserving process of the sigmoid schedule."""
    return Process(Sigmoid(start, end, temperature), "vp")


def sub_vp(beta_min: float = 0.1, beta_max: float = 20.0) -> Process:
    """The sub-VP process."""
    return Process(SubLinearBeta(LinearBeta(beta_min, beta_max)), "subvp")


def ve(sigma_min: float = 0.01, sigma_max: float = 50.0) -> Process:
    """The variance-exploding process with geometric noise."""
    return Process(Geometric(sigma_min, sigma_max), "ve")


def edm(sigma_min: float = 0.002, sigma_max: float = 80.0) -> Process:
    """The variance-exploding process whose time is its noise."""
    return Process(NoiseLevel((sigma_min, sigma_max)), "ve")


def flow(shift: float = 1.0) -> Process:
    """Straight lines from data to noise: x_t = (1 - t) x₀ + t ε, with the times shifted towards noise if s > 1.

    >>> flow(shift=3.0).at(0.5).sigma
    0.75
    """
    return Process(Straight(shift), "flow")


def resolution_shift(size: int, trained: int) -> float:
    """The shift that keeps the signal of a picture of `size` pixels what it was at `trained` pixels: √(size/trained).

    More pixels average the noise away, so the same picture needs more of it (Esser et al. 2024, arXiv:2403.03206, eq. 23).

    >>> resolution_shift(1024 * 1024, 512 * 512)
    2.0
    """
    if size <= 0 or trained <= 0:
        raise ValueError(f"pictures of {size} and {trained} pixels have no ratio: give both sizes as numbers of pixels")
    return math.sqrt(size / trained)


def length_shift(tokens: int, *, short: tuple[int, float] = (256, 0.5), long: tuple[int, float] = (4096, 1.15)) -> float:
    """The shift e^μ with μ linear in the number of tokens through two given (tokens, μ), as Flux and others have it.

    >>> round(length_shift(4096), 4)
    3.1582
    """
    slope = (long[1] - short[1]) / (long[0] - short[0])
    return math.exp(short[1] + slope * (tokens - short[0]))


def _rising(low_name: str, low: float, high_name: str, high: float) -> None:
    if not 0 < low < high:
        raise ValueError(f"{low_name} = {low} and {high_name} = {high}: they must be above 0, and the first below the second")
