"""Steps as long as an error allows, for each sample its own.

A step of third order has one of second order inside it, whose difference says how large the error is (Bogacki & Shampine
1989, in the exponential form of DPM-Solver-23, Lu et al. 2022, arXiv:2206.00927, appendix C). Every attempt costs three
evaluations of the batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from tectum.diffusion.denoiser import Denoise
from tectum.diffusion.process import Point, Process
from tectum.diffusion.scalars import choose
from tectum.diffusion.solvers.singlestep import second_and_third
from tectum.diffusion.solvers.state import Seen


class Adapted(NamedTuple):
    """Where an adaptive run has come to."""

    x: Tensor
    """[n, …] at `lam`."""
    lam: Tensor
    """[n]; that of the end, where it was reached."""
    steps: Tensor
    """Steps taken, int64 [n]."""
    attempts: Tensor
    """Steps tried, int64 [n]: three evaluations each."""


@dataclass(frozen=True)
class Adaptive:
    """Integrates the probability-flow equation to a given error.

    >>> from tectum.diffusion.mixture import Mixture
    >>> from tectum.diffusion.schedules import edm
    >>> data = Mixture(means=torch.zeros(1, 1), stds=torch.ones(1), weights=torch.ones(1))
    >>> start, end = edm().at(10.0), edm().at(0.01)
    >>> done = Adaptive(edm(), rtol=1e-4)(data, torch.tensor([[10.0]]), start, end)
    >>> exact = 10.0 * ((1 + 0.01**2) / (1 + 10.0**2)) ** 0.5
    >>> abs(done.x.item() - exact) < 1e-3, done.attempts.item() < 60
    (True, True)
    """

    process: Process
    rtol: float = 1e-3
    """Error allowed in a step, relative to the sample."""
    atol: float = 1e-4
    """And beside that, absolute, in the scale that x has."""
    attempts: int = 100
    """At most; whoever has not come to the end by then is where `Adapted.lam` says."""
    first: float = 0.1
    """Length of the first step in λ."""
    ask_every: int = 4
    """After so many attempts the device is asked whether all have arrived; 0: never, then all attempts are made."""

    def __post_init__(self) -> None:
        if self.rtol < 0 or self.atol < 0 or self.rtol + self.atol == 0 or self.attempts < 1 or self.first <= 0:
            raise ValueError("an adaptive run needs an error above 0, an attempt at least, and a first step above 0")

    def __call__(self, denoiser: Denoise, x: Tensor, start: Point, end: Point) -> Adapted:
        """x [n, …] taken from one point to a less noisy one.

        Raises:
            ValueError: if one of them is at λ = ±∞: the data are one more evaluation at the end away.
        """
        lams = [torch.as_tensor(point.lam, dtype=torch.float64) for point in (start, end)]
        if not all(isinstance(value, Tensor) or math.isfinite(value) for value in (start.lam, end.lam)):
            raise ValueError("an adaptive run goes between two finite λ: begin and end where there is both signal and noise")
        n = len(x)
        first, goal = (lam.expand(n) for lam in lams)
        done = Adapted(x, first, torch.zeros_like(first, dtype=torch.int64), torch.zeros_like(first, dtype=torch.int64))
        step = torch.full_like(first, self.first)
        for attempt in range(1, self.attempts + 1):
            done, step = self.attempt(denoiser, done, step, goal)
            if self.ask_every and attempt % self.ask_every == 0 and bool((done.lam >= goal).all()):
                break
        return done

    def attempt(self, denoiser: Denoise, run: Adapted, step: Tensor, goal: Tensor) -> tuple[Adapted, Tensor]:
        """One attempt of all samples, and the lengths of their next."""
        here = self.process.at_lam(run.lam)
        target = torch.minimum(run.lam + step, goal)
        target = torch.where(goal - target < 1e-3 * step, goal, target)  # no crumb is left for the end
        there = self.process.at_lam(target)
        second, third = second_and_third(self.process, denoiser, Seen(here, denoiser(run.x, here), run.x), there)
        scale = self.atol + self.rtol * torch.maximum(run.x.abs(), third.abs())
        error = (((third - second) / scale) ** 2).flatten(1).mean(1).sqrt().double()
        moving = run.lam < goal
        taken = moving & (error <= 1)
        x = choose(taken, third, run.x)
        factor = (0.9 * error.clamp(min=1e-12) ** (-1 / 3)).clamp(0.2, 5.0)
        lam = torch.where(taken, target, run.lam)
        return Adapted(x, lam, run.steps + taken, run.attempts + moving), torch.where(moving, step * factor, step)
