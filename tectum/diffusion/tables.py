"""Discrete schedules: a table β₀ … β_{T-1}, as DDPM and Stable Diffusion have it, and the times in between."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tectum.diffusion.process import Process
from tectum.diffusion.zero_terminal import ZeroTerminal


@dataclass(frozen=True)
class Table:
    """ᾱ_t = Π_{s ≤ t} (1 - β_s), and time is the index t in 0 … T-1.

    Between two entries σ/(α+σ) is linear in time, which is exact at the entries and holds at an end of pure noise too.

    >>> table = Table((0.5, 0.5))
    >>> table.lam(torch.tensor([0.0]))
    tensor([0.], dtype=torch.float64)
    """

    betas: tuple[float, ...]
    _noise: Tensor = field(init=False, repr=False, compare=False)
    """σ/(α+σ) of the entries, float64 [T]."""

    def __post_init__(self) -> None:
        if not self.betas or not all(0 < beta < 1 for beta in self.betas):
            raise ValueError("a table of betas needs at least one, all between 0 and 1; for β = 1 at the end use ZeroTerminal")
        log_power = (-torch.tensor(self.betas, dtype=torch.float64)).log1p().cumsum(0)
        noise = ((-log_power.expm1()).log() / 2 - log_power / 2).sigmoid()
        object.__setattr__(self, "_noise", noise)  # once; the class is frozen for all others

    @property
    def length(self) -> int:
        """T."""
        return len(self.betas)

    @property
    def span(self) -> tuple[float, float]:
        """0 and T-1."""
        return (0.0, float(len(self.betas) - 1))

    def lam(self, time: Tensor) -> Tensor:
        """λ(t), in between 0 and T-1 inclusive."""
        noise = self._noise.to(time.device)
        left = time.floor().clamp(0, len(noise) - 1).long()
        right = (left + 1).clamp(max=len(noise) - 1)
        # An index that is a single number would be fetched from its device; take leaves it there.
        value = torch.lerp(noise.take(left), noise.take(right), time.double() - left)
        return (-value).log1p() - value.log()

    def time(self, lam: Tensor) -> Tensor:
        """t(λ), kept within 0 … T-1."""
        noise = self._noise.to(lam.device)
        value = (-lam).sigmoid().clamp(noise[0], noise[-1])
        right = torch.searchsorted(noise, value.contiguous()).clamp(min(1, len(noise) - 1), len(noise) - 1)
        left = (right - 1).clamp(min=0)
        start, width = noise.take(left), noise.take(right) - noise.take(left)
        return left + torch.where(width > 0, (value - start) / width, 0.0)


def linear_betas(length: int = 1000, low: float = 1e-4, high: float = 0.02) -> tuple[float, ...]:
    """β from `low` to `high` in equal steps (Ho et al. 2020, arXiv:2006.11239, §4).

    >>> linear_betas(3, 0.1, 0.3)
    (0.1, 0.2, 0.3)
    """
    _check(length, low, high)
    return tuple(torch.linspace(low, high, length, dtype=torch.float64).tolist())


def scaled_linear_betas(length: int = 1000, low: float = 0.00085, high: float = 0.012) -> tuple[float, ...]:
    """√β in equal steps: Stable Diffusion.

    >>> [round(beta, 2) for beta in scaled_linear_betas(3, 0.01, 0.09)]
    [0.01, 0.04, 0.09]
    """
    _check(length, low, high)
    return tuple((torch.linspace(math.sqrt(low), math.sqrt(high), length, dtype=torch.float64) ** 2).tolist())


def cosine_betas(length: int = 1000, offset: float = 0.008, cap: float = 0.999) -> tuple[float, ...]:
    """β of the squared cosine, none above `cap` (Nichol & Dhariwal 2021, arXiv:2102.09672, §3.2)."""
    _check(length, 0.5, 0.5)
    angle = (torch.arange(length + 1, dtype=torch.float64) / length + offset) / (1 + offset) * math.pi / 2
    power = angle.cos() ** 2
    return tuple((1 - power[1:] / power[:-1]).clamp(max=cap).tolist())


def sigmoid_betas(length: int = 1000, low: float = 1e-4, high: float = 0.02) -> tuple[float, ...]:
    """β rising as a sigmoid over -6 … 6 from `low` to `high` (Xu et al. 2022, GeoDiff, arXiv:2203.02923).

    `Sigmoid` is another thing: there it is ᾱ that falls as a sigmoid.
    """
    _check(length, low, high)
    return tuple((torch.linspace(-6, 6, length, dtype=torch.float64).sigmoid() * (high - low) + low).tolist())


def table(betas: Sequence[float], *, zero_terminal: bool = False) -> Process:
    """The variance-preserving process of a table; made to end in pure noise if so asked.

    >>> process = table(scaled_linear_betas())
    >>> round(process.at(999).alpha, 6), table(scaled_linear_betas(), zero_terminal=True).at(999).alpha
    (0.068265, 0.0)
    """
    schedule = Table(tuple(betas))
    return Process(ZeroTerminal(schedule) if zero_terminal else schedule, "vp")


def _check(length: int, low: float, high: float) -> None:
    if length < 1 or not 0 < low <= high < 1:
        raise ValueError(f"{length} betas from {low} to {high}: give at least one, rising, between 0 and 1")
