"""DPM-Solver++ singlestep: two or three evaluations a step, and no past.

Singlestep(process, 2, "bh2")                          DPM-Solver++(2S) (Lu et al. 2022, arXiv:2211.01095, alg. 1)
Singlestep(process, 3)                                 DPM-Solver++(3S): arXiv:2206.00927, alg. 2, in its form for x₀
Singlestep(process, 2, "bh2", of="epsilon")            DPM-Solver-2 (arXiv:2206.00927, alg. 1), also known as DPM2
Singlestep(process, 2, "bh2", eta=1, noise=…)          SDE-DPM-Solver++(2S), also known as DPM++ SDE
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from tectum.diffusion.denoiser import Denoise
from tectum.diffusion.noise import Noise
from tectum.diffusion.process import Point, Process
from tectum.diffusion.scalars import combine, finite, where
from tectum.diffusion.solvers.exponential import Of, Rule, advance, coefficients, noise_std
from tectum.diffusion.solvers.state import Seen, State, evaluate, surely


@dataclass(frozen=True, eq=False)
class Singlestep:
    """The evaluations are made half-way in λ (order 2), or at one and two thirds (order 3).

    Where the way has no half in λ, from pure noise or to the data, the step is of first order.

    >>> import torch
    >>> from tectum.diffusion.schedules import edm
    >>> step = Singlestep(edm(), 3)
    >>> step(State(torch.ones(1)), lambda x, at: torch.zeros_like(x), edm().at(2.0), edm().at(1.0)).x
    tensor([0.5000])

    Raises:
        ValueError: if the order is not 1, 2 or 3, or noise is asked for but not given, or of order 3.
    """

    process: Process
    """Where the points in between come from."""
    order: int = 2
    rule: Rule = "exact"
    """"bh2" is the published 2S; order 3 is always exact."""
    of: Of = "x0"
    eta: float = 0.0
    """0 for the probability-flow equation, 1 for the reverse of the process itself."""
    noise: Noise | None = None
    """Step i takes its numbers 2i and 2i+1, for both halves of the way; the second for one that has no half."""

    def __post_init__(self) -> None:
        if self.order not in (1, 2, 3):
            raise ValueError(f"there is no singlestep solver of order {self.order}: take 1, 2 or 3")
        if self.eta < 0 or (self.eta > 0) != (self.noise is not None):
            raise ValueError(f"eta = {self.eta} with noise = {self.noise}: give a source of noise and eta > 0, or neither")
        if self.noise is not None and (self.order == 3 or self.of == "epsilon"):
            raise ValueError("a singlestep solver with noise is of x₀ and of order 1 or 2: take one of those")

    def __call__(self, state: State, denoiser: Denoise, here: Point, there: Point) -> State:
        """The step."""
        seen = evaluate(state, denoiser, here)
        if self.order == 1 or surely(there.sigma == 0) or surely(here.alpha == 0):
            noise = self.noise(state.x, 2 * state.step + 1, here, there) if self.noise else None
            x = advance(state.x, here, there, [seen], eta=self.eta, of=self.of, noise=noise)
        elif self.order == 3:
            _, x = second_and_third(self.process, denoiser, seen, there, self.of)
        elif self.noise is not None:
            x = self._with_noise(state, denoiser, seen, there, self.noise)
        else:
            middle = _look(self.process, denoiser, there, 1 / 2, [seen], self.of)
            x = advance(state.x, here, there, [seen, middle], rule=self.rule, of=self.of)
        return State(x, state.step + 1, (seen,))

    def _with_noise(self, state: State, denoiser: Denoise, seen: Seen, there: Point, source: Noise) -> Tensor:
        """A step whose noise is that of its first half, carried on, and that of its second: their law is exact."""
        here, at = seen.at, _between(self.process, seen.at, there, 1 / 2)
        first, second = source(state.x, 2 * state.step, here, at), source(state.x, 2 * state.step + 1, at, there)
        x = advance(seen.x, here, at, [seen], eta=self.eta, noise=first)
        middle = Seen(at, denoiser(x, at), x)
        smooth = advance(seen.x, here, there, [seen, middle], eta=self.eta, rule=self.rule)
        carried, _ = coefficients(at, there, [at], self.eta)
        return combine((1.0, smooth), (carried * noise_std(here, at, self.eta), first), (noise_std(at, there, self.eta), second))


def second_and_third(process: Process, denoiser: Denoise, seen: Seen, there: Point, of: Of = "x0") -> tuple[Tensor, Tensor]:
    """x at `there` by a step of second and one of third order, which share their evaluations."""
    early = _look(process, denoiser, there, 1 / 3, [seen], of)
    late = _look(process, denoiser, there, 2 / 3, [seen, early], of)
    return advance(seen.x, seen.at, there, [seen, early], of=of), advance(seen.x, seen.at, there, [seen, late], of=of)


def _look(process: Process, denoiser: Denoise, there: Point, share: float, seen: list[Seen], of: Of) -> Seen:
    """An evaluation at a share of the way."""
    start = seen[0]
    at = _between(process, start.at, there, share)
    x = advance(start.x, start.at, at, seen, of=of)
    return Seen(at, denoiser(x, at), x)


def _between(process: Process, here: Point, there: Point, share: float) -> Point:
    way = there.lam - here.lam
    return process.at_lam(here.lam + where(finite(way), share * way, 0.0))
