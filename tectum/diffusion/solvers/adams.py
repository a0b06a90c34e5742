"""Adams and Bashforth's method on the noise, with the unequal steps that grids have: known as LMS.

With ρ = σ/α the probability-flow equation is d(x/α)/dρ = ε (Karras et al. 2022, arXiv:2206.00364, eq. 1 and 3). The polynomial
in ρ through the last ε is integrated exactly, so the order is the number of evaluations, up to four.
"""

from __future__ import annotations

from dataclasses import dataclass

from tectum.diffusion.denoiser import Denoise
from tectum.diffusion.process import Point
from tectum.diffusion.scalars import Scalar, combine, divide, where
from tectum.diffusion.solvers.exponential import newton, through
from tectum.diffusion.solvers.state import State, Step, evaluate, surely


@dataclass(frozen=True)
class Adams:
    """The first steps are of lower order, for want of a past. `PLMS` has the weights of equal steps, and stays of order 2.

    >>> import torch
    >>> from tectum.diffusion.schedules import edm
    >>> Adams()(State(torch.ones(1)), lambda x, at: torch.zeros_like(x), edm().at(2.0), edm().at(1.0)).x
    tensor([0.5000])

    Raises:
        ValueError: if the order is not 1 … 4, or a step starts where there is no signal.
    """

    order: int = 4
    warmup: Step | None = None
    """A one-step solver for the first `order` - 1 steps, without which they decide how large the error is."""

    def __post_init__(self) -> None:
        if self.order not in (1, 2, 3, 4):
            raise ValueError(f"there is no method of Adams with {self.order} evaluations here: take 1, 2, 3 or 4")

    def __call__(self, state: State, denoiser: Denoise, here: Point, there: Point) -> State:
        """The step."""
        if surely(here.alpha == 0):
            raise ValueError("Adams' method cannot start where there is no signal: leave that end of the grid out")
        if self.warmup and len(state.past) < self.order - 1:
            begun = self.warmup(state, denoiser, here, there)
            return begun._replace(past=(begun.past[0], *state.past))
        past = (evaluate(state, denoiser, here), *state.past)[: self.order]
        start = divide(here.sigma, here.alpha)
        h = divide(there.sigma, there.alpha) - start
        moving = h != 0
        h = where(moving, h, 1.0)
        places = [where(moving, divide(one.at.sigma, one.at.alpha) - start, -float(i)) for i, one in enumerate(past[1:], start=1)]
        moments: list[Scalar] = [h ** (k + 1) / (k + 1) for k in range(len(past))]
        weights = through(moments[0], newton(moments, places, h), places)
        terms = [(divide(there.alpha, here.alpha), state.x)]
        for weight, one in zip(weights, past, strict=True):
            share = where(moving, there.alpha * weight, 0.0) / where(one.at.sigma == 0, 1.0, one.at.sigma)
            terms += [(share, one.x), (-share * one.at.alpha, one.x0)]
        return State(combine(*terms), state.step + 1, past[: max(1, self.order - 1)])
