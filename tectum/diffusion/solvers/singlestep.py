"""DPM-Solver++ singlestep: two or three evaluations a step, and no past.

Lu et al. 2022, arXiv:2211.01095, alg. 1, for order 2; arXiv:2206.00927, alg. 2, in its form for x₀, for order 3.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from tectum.diffusion.denoiser import Denoise
from tectum.diffusion.process import Point, Process
from tectum.diffusion.scalars import finite, where
from tectum.diffusion.solvers.exponential import Rule, advance
from tectum.diffusion.solvers.state import Seen, State, evaluate, surely


@dataclass(frozen=True)
class Singlestep:
    """The evaluations are made half-way in λ (order 2), or at one and two thirds (order 3).

    Where the way has no half in λ, from pure noise or to the data, the step is of first order.

    >>> import torch
    >>> from tectum.diffusion.schedules import edm
    >>> step = Singlestep(edm(), 3)
    >>> step(State(torch.ones(1)), lambda x, at: torch.zeros_like(x), edm().at(2.0), edm().at(1.0)).x
    tensor([0.5000])

    Raises:
        ValueError: if the order is not 1, 2 or 3.
    """

    process: Process
    """Where the points in between come from."""
    order: int = 2
    rule: Rule = "exact"
    """"bh2" is the published 2S; order 3 is always exact."""

    def __post_init__(self) -> None:
        if self.order not in (1, 2, 3):
            raise ValueError(f"there is no singlestep solver of order {self.order}: take 1, 2 or 3")

    def __call__(self, state: State, denoiser: Denoise, here: Point, there: Point) -> State:
        """The step."""
        seen = evaluate(state, denoiser, here)
        if self.order == 1 or surely(there.sigma == 0) or surely(here.alpha == 0):
            x = advance(state.x, here, there, [seen])
        elif self.order == 2:
            x = advance(state.x, here, there, [seen, _look(self.process, denoiser, there, 1 / 2, [seen])], rule=self.rule)
        else:
            _, x = second_and_third(self.process, denoiser, seen, there)
        return State(x, state.step + 1, (seen,))


def second_and_third(process: Process, denoiser: Denoise, seen: Seen, there: Point) -> tuple[Tensor, Tensor]:
    """x at `there` by a step of second and one of third order, which share their evaluations."""
    early = _look(process, denoiser, there, 1 / 3, [seen])
    late = _look(process, denoiser, there, 2 / 3, [seen, early])
    return advance(seen.x, seen.at, there, [seen, early]), advance(seen.x, seen.at, there, [seen, late])


def _look(process: Process, denoiser: Denoise, there: Point, share: float, seen: list[Seen]) -> Seen:
    """An evaluation at a share of the way."""
    start = seen[0]
    way = there.lam - start.at.lam
    at = process.at_lam(start.at.lam + where(finite(way), share * way, 0.0))
    x = advance(start.x, start.at, at, seen)
    return Seen(at, denoiser(x, at), x)
