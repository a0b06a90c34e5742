"""Distillation: what one evaluation of a student must say for it to do the work of several, as the loss of one step.

    Matching(teacher, draw)         the same answers; of a guided teacher, in half the evaluations (arXiv:2210.03142, stage one)
    Progressive(teacher, grid)      one step where the teacher takes two (arXiv:2202.00512)
    Consistency(process, draw)      from anywhere to the data at once: consistency tuning, from data alone (arXiv:2406.14548)
    Consistency(…, teacher=…)       the same along the teacher's own path: consistency distillation (arXiv:2303.01469)

All are functions (student, x₀, ε, uniform, cond) → loss [n] and keep nothing. Each says what x₀ the student should answer at a
noisy x, and hands that to `tectum.diffusion.denoiser.loss`: so any prediction, weight and frame fits.

A teacher takes conditions: it is a `Denoiser`, or any function like it. `guided` makes one of classifier-free guidance whose
weight is the condition "guidance", so each of the three learns that too: of `Progressive` it is stage two of Meng et al., of
`Consistency` the latent consistency model (arXiv:2310.04378).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from tectum.diffusion.denoiser import Conditions, Denoiser, loss
from tectum.diffusion.grids import Grid
from tectum.diffusion.guidance import ClassifierFree
from tectum.diffusion.marginals import forward, posterior
from tectum.diffusion.process import Point, Process
from tectum.diffusion.scalars import choose, spread
from tectum.diffusion.solvers.ancestral import Ancestral
from tectum.diffusion.solvers.state import State, Step
from tectum.diffusion.weights import Draw, Weight

Teacher = Callable[[Tensor, Point, Conditions], Tensor]
"""(x [n, …], points [n], conditions) to x₀ [n, …]."""
Nearer = Callable[[Tensor], Tensor]
"""Noise σ/α [n] to less noise [n], 0 for none."""


class Distillation(Protocol):
    """The loss of one step of training a student."""

    def __call__(self, student: Denoiser, x0: Tensor, noise: Tensor, uniform: Tensor, cond: Conditions | None = None) -> Tensor:
        """The loss [n] at data [n, …], unit noise of that shape, and uniform numbers [n] in 0 … 1 that choose the points."""
        ...


def guided(denoiser: Denoiser, negative: Conditions, name: str = "guidance") -> Teacher:
    """A teacher whose guidance weight is a condition [n]; `negative` has one row for each other condition, for all samples.

    >>> from tectum.diffusion.predictions import Prediction
    >>> from tectum.diffusion.schedules import flow
    >>> denoiser = Denoiser(lambda x, time, cond: cond["bias"].expand_as(x), Prediction("x0"))
    >>> teacher = guided(denoiser, {"bias": torch.zeros(1, 1)})
    >>> told = {"bias": torch.ones(2, 1), "guidance": torch.tensor([1.0, 3.0])}
    >>> teacher(torch.zeros(2, 1), flow().at(0.5), told).tolist()
    [[1.0], [3.0]]
    """

    def teacher(x: Tensor, at: Point, cond: Conditions) -> Tensor:
        own = {key: value for key, value in cond.items() if key != name}
        without = {key: negative[key].expand_as(value) for key, value in own.items()}
        return ClassifierFree(denoiser, own, without, cond[name])(x, at)

    return teacher


@dataclass(frozen=True, eq=False)
class Matching:
    """The student says what the teacher says, at any noise."""

    teacher: Teacher
    draw: Draw
    weight: Weight

    def __call__(self, student: Denoiser, x0: Tensor, noise: Tensor, uniform: Tensor, cond: Conditions | None = None) -> Tensor:
        """The loss [n]."""
        at = self.draw(uniform)
        x = forward(x0, noise, at)
        with torch.no_grad():
            target = self.teacher(x, at, cond or {})
        return _error(student, x, target, at, self.weight, cond)


@dataclass(frozen=True, eq=False)
class Progressive:
    """One step of the student on `grid[::2]` ends where two steps of the teacher on `grid` do (Salimans & Ho 2022, alg. 2).

    Two steps of DDIM, x ← r x + a D with r = σ'/σ and a = α' - r α, are one with D = (r₂ a₁ D₁ + a₂ D₂)/(r₂ a₁ + a₂). That mean
    of the teacher's two answers is the target: exact in every frame, from pure noise and to the data, where it is D₂.

    Raises:
        ValueError: if the grid has no even number of steps, or σ/α does not fall at each.
    """

    teacher: Teacher
    grid: Grid
    weight: Weight

    def __post_init__(self) -> None:
        falls = all(here.sigma * there.alpha > there.sigma * here.alpha for here, there in pairwise(self.grid))
        if len(self.grid) < 3 or len(self.grid) % 2 == 0 or not falls:
            raise ValueError(f"a teacher needs an even number of steps of falling noise, not {len(self.grid) - 1} steps")

    def __call__(self, student: Denoiser, x0: Tensor, noise: Tensor, uniform: Tensor, cond: Conditions | None = None) -> Tensor:
        """The loss [n]."""
        steps = len(self.grid) // 2
        first = 2 * (uniform * steps).long().clamp(max=steps - 1)
        columns = [torch.tensor(values, dtype=torch.float64, device=x0.device) for values in zip(*self.grid, strict=True)]
        here, middle, there = (Point(*(column[first + i] for column in columns)) for i in range(3))
        x = forward(x0, noise, here)
        with torch.no_grad():
            one, two = posterior(here, middle, 0.0), posterior(middle, there, 0.0)
            early = self.teacher(x, here, cond or {})
            x_middle = early * spread(one.on_x0, x) + x * spread(one.on_x, x)
            late = self.teacher(x_middle, middle, cond or {})
            kept = two.on_x * one.on_x0
            target = torch.lerp(early, late, spread(two.on_x0 / (kept + two.on_x0), x))
        return _error(student, x, target, here, self.weight, cond)


@dataclass(frozen=True, eq=False)
class Consistency:
    """The student says at x what it says itself a little nearer to the data; at the data that is x.

    The boundary condition f(x) = x at σ = 0 (Song et al. 2023, eq. 5) is in the student's prediction: x₀ = c x + d value has
    c = 1/α and d = 0 there for every kind but "x0". With nothing but data as the nearer point this is the ordinary loss of
    denoising, so a diffusion model is tuned into a consistency model by letting the two points come together. Sample by
    `solvers.ancestral.Fresh`, or in one step.

    Raises:
        ValueError: if the student predicts "x0": then nothing holds it at the boundary.
    """

    process: Process
    draw: Draw
    weight: Weight
    nearer: Nearer
    """Usually `Nearing(stage)`, with a stage that rises in training."""
    teacher: Teacher | None = None
    """Whose path leads to the nearer point; without one both points lie on a line from the data to the noise."""
    step: Step = field(default_factory=Ancestral)
    """Of the teacher's path; `solvers.runge_kutta` has one of second order."""

    def __call__(self, student: Denoiser, x0: Tensor, noise: Tensor, uniform: Tensor, cond: Conditions | None = None) -> Tensor:
        """The loss [n]."""
        here = self.draw(uniform)
        lam = torch.as_tensor(here.lam, dtype=torch.float64)
        there = self.process.at_lam(-self.nearer((-lam).exp()).log())
        x = forward(x0, noise, here)
        with torch.no_grad():
            teacher = self.teacher
            if teacher is None:
                x_there = forward(x0, noise, there)
            else:
                x_there = self.step(State(x), lambda x, at: teacher(x, at, cond or {}), here, there).x
            target = boundary(student, x_there, there, cond)
        return _error(student, x, target, here, self.weight, cond)


def boundary(student: Denoiser, x: Tensor, at: Point, cond: Conditions | None = None) -> Tensor:
    """The student's x₀ [n, …], and at the data x itself, whatever the network says there: it may be told an infinite time.

    Raises:
        ValueError: if the student's own prediction would not give that.
    """
    if student.prediction.kind == "x0":
        raise ValueError("a student that predicts 'x0' does not keep x at the data: let it predict 'edm', 'v' or 'flow'")
    return choose(at.sigma == 0, x / spread(at.alpha, x), student(x, at, cond))


@dataclass(frozen=True)
class Nearing:
    """r = t max(0, 1 - n(t)/qᵃ) with n(t) = 1 + k sigmoid(-b t), in noise t = σ/α (Geng et al. 2024, eq. 18, and their k, b, q).

    At stage a = 0 it is the data. Each stage brings r and t closer by the factor q.

    >>> Nearing(0)(torch.tensor([1.0, 80.0])).tolist(), Nearing(1)(torch.tensor([80.0])).tolist()
    ([0.0, 0.0], [40.0])
    """

    stage: float
    q: float = 2.0
    k: float = 8.0
    b: float = 1.0

    def __call__(self, noise: Tensor) -> Tensor:
        """The nearer noise."""
        gap = (1 + self.k * (-self.b * noise).sigmoid()) / self.q**self.stage
        return noise * (1 - gap).clamp(min=0)


def pseudo_huber(loss: Tensor, c: float) -> Tensor:
    """√(loss + c²) - c: of a squared loss [n] its root, smooth at 0, for which the worst samples count less (arXiv:2310.14189).

    >>> pseudo_huber(torch.tensor([0.0, 16.0]), 3.0)
    tensor([0., 2.])
    """
    return (loss + c**2).sqrt() - c


def _error(student: Denoiser, x: Tensor, target: Tensor, at: Point, weight: Weight, cond: Conditions | None) -> Tensor:
    """w(λ) ‖target - D(x)‖² / elements, [n]: x is that target with another noise."""
    noise = (x - target * spread(at.alpha, x)) / spread(at.sigma, x)
    return loss(student, target, noise, at, weight, cond)
