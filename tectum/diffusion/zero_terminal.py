"""Any schedule made to end in pure noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from tectum.diffusion.process import Schedule, alpha_sigma


class Ends(NamedTuple):
    """Of a schedule that `ZeroTerminal` moves."""

    first: float
    """α where it begins."""
    last: float
    """α where it ends."""
    gap: float
    """1 - α where it begins."""


@dataclass(frozen=True)
class ZeroTerminal:
    """Another schedule, with α shifted and scaled so that it ends at exactly 0 and begins where it did.

    Lin et al. 2023 (arXiv:2305.08891, alg. 1): a network that was never shown pure noise cannot paint a picture whose mean
    is far from grey. ε says nothing about the data there, so a network must predict v, flow or x₀.

    >>> from tectum.diffusion.schedules import LinearBeta
    >>> ZeroTerminal(LinearBeta()).lam(torch.tensor([1.0]))
    tensor([-inf])
    """

    base: Schedule

    @property
    def span(self) -> tuple[float, float]:
        """As that of the base."""
        return self.base.span

    def _ends(self) -> Ends:
        """α of the base where it begins and ends, and σ²/(1+α) = 1 - α where it begins."""
        # A continuous schedule begins at the data itself, though networks are trained from a little later on.
        alpha, sigma = alpha_sigma("vp", self.base.lam(torch.tensor([0.0, self.base.span[1]], dtype=torch.float64)))
        return Ends(alpha[0].item(), alpha[1].item(), (sigma[0] ** 2 / (1 + alpha[0])).item())

    def lam(self, time: Tensor) -> Tensor:
        """λ(t)."""
        ends = self._ends()
        alpha, sigma = alpha_sigma("vp", self.base.lam(time))
        signal = (alpha - ends.last).clamp(min=0) * (ends.first / (ends.first - ends.last))
        rest = (ends.first * sigma**2 / (1 + alpha) - ends.last * ends.gap) / (ends.first - ends.last)
        return signal.log() - (rest.log() + signal.log1p()) / 2

    def time(self, lam: Tensor) -> Tensor:
        """t(λ)."""
        ends = self._ends()
        signal, noise = alpha_sigma("vp", lam)
        alpha = signal * ((ends.first - ends.last) / ends.first) + ends.last
        rest = (noise**2 / (1 + signal) * (ends.first - ends.last) + ends.last * ends.gap) / ends.first
        return self.base.time(alpha.log() - (rest.log() + alpha.log1p()) / 2)
