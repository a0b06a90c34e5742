"""Heun's method on the probability-flow equation in its two straightest forms, and the churn of EDM.

With the scale k = α + wσ and the clock c = σ/k, y = x/k moves by dy/dc = ε - w x₀ = x/σ - x₀/c. With w = 0 that is the
form in which the velocity is the noise (Karras et al. 2022, arXiv:2206.00364, alg. 1). With w = 1 it is the one in which
it is that of a straight line from data to noise, which holds at both ends. Either may be used in every frame. Euler's
method is `Ancestral()` in both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tectum.diffusion.denoiser import Denoise
from tectum.diffusion.noise import Noise
from tectum.diffusion.process import Point, Process
from tectum.diffusion.scalars import combine, divide, log, sqrt, where
from tectum.diffusion.solvers.state import State, Step, evaluate_once, surely, taken

Form = Literal["noise", "flow"]


@dataclass(frozen=True)
class Heun:
    """Second order: two evaluations a step, and the mean of both velocities. A step to the data is Euler's, with one.

    >>> import torch
    >>> from tectum.diffusion.schedules import flow
    >>> line = lambda x, at: torch.ones_like(x)  # one point of data: all ways are straight
    >>> Heun("flow")(State(torch.zeros(1)), line, flow().at(1.0), flow().at(0.5)).x
    tensor([0.5000])
    """

    form: Form = "noise"
    """"noise" is EDM's, and cannot start where there is no signal (α = 0); "flow" is flow matching's, and can."""

    def __post_init__(self) -> None:
        if self.form not in ("noise", "flow"):
            raise ValueError(f"there is no form {self.form!r}: take 'noise' or 'flow'")

    def __call__(self, state: State, denoiser: Denoise, here: Point, there: Point) -> State:
        """The step.

        Raises:
            ValueError: if it starts from pure noise in the form "noise".
        """
        if self.form == "noise" and surely(here.alpha == 0):
            raise ValueError("Heun in the form 'noise' cannot start where there is no signal: take Heun('flow')")
        seen = evaluate_once(state, denoiser, here)
        ratio = where(here.sigma == 0, 1.0, divide(there.sigma, here.sigma))
        own, share = taken(there.alpha - ratio * here.alpha, seen)
        euler = combine((ratio + own, state.x), (share, seen.said))
        if surely(there.sigma == 0):
            return State(euler, state.step + 1, (seen,))
        w = 1.0 if self.form == "flow" else 0.0
        k, k_there = here.alpha + w * here.sigma, there.alpha + w * there.sigma
        moving = there.sigma != 0
        half = where(moving, (there.sigma - k_there * divide(here.sigma, k)) / 2, 0.0)  # of k_there (c_there - c)
        at_end, at_start = (where(moving, divide(half, sigma), 0.0) for sigma in (there.sigma, here.sigma))
        after = evaluate_once(State(euler), denoiser, there)
        on_euler, on_after = taken(-at_end * k_there, after)
        own, share = taken(at_start * k, seen)
        x = combine((1 + at_end + on_euler, euler), (on_after, after.said), (own - at_start, state.x), (share, seen.said))
        return State(x, state.step + 1, (seen,))


@dataclass(frozen=True, eq=False)
class Churn:
    """Before each step of a one-step solver, some noise is added, and the step starts from there (Karras et al. 2022, alg. 2).

    >>> import torch
    >>> from tectum.diffusion.noise import Independent
    >>> from tectum.diffusion.schedules import edm
    >>> churn = Churn(Heun(), edm(), Independent(1, torch.arange(2)), gamma=0.1)
    >>> churn(State(torch.zeros(2, 3)), lambda x, at: x, edm().at(2.0), edm().at(1.0)).x.shape
    torch.Size([2, 3])
    """

    step: Step
    """The solver; one that looks at past evaluations would take them for made on the same path."""
    process: Process
    noise: Noise
    gamma: float
    """σ grows by the factor 1 + γ: min(S_churn / steps, √2 - 1) of the paper."""
    low: float = 0.0
    """S_tmin, in σ/α."""
    high: float = float("inf")
    """S_tmax."""
    inflate: float = 1.0
    """S_noise, of the noise that is added."""

    def __call__(self, state: State, denoiser: Denoise, here: Point, there: Point) -> State:
        """The step."""
        noise = divide(here.sigma, here.alpha)
        within = (noise >= self.low) & (noise <= self.high)
        growth = where(within, 1 + self.gamma, 1 + 0 * here.sigma)
        lifted = self.process.at_lam(here.lam - log(growth))
        added = lifted.sigma * sqrt(1 - growth**-2) * self.inflate
        x = combine((lifted.alpha / here.alpha, state.x), (added, self.noise(state.x, state.step, here, lifted)))
        return self.step(state._replace(x=x), denoiser, lifted, there)
