"""PLMS: the weights of Adams and Bashforth on the last few noises, and a step of DDIM (Liu et al. 2022, arXiv:2202.09778, §3.4).

The weights are those of equal steps, and noise levels are not equally spaced: with any number of evaluations the order
is two.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from tectum.diffusion.denoiser import Denoise
from tectum.diffusion.process import Point
from tectum.diffusion.scalars import combine, divide, where
from tectum.diffusion.solvers.state import Seen, State, evaluate, surely

WEIGHTS = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


@dataclass(frozen=True)
class PLMS:
    """The first step is Heun's, with two evaluations; the next ones use two and three evaluations, and all others four.

    >>> import torch
    >>> from tectum.diffusion.schedules import edm
    >>> PLMS()(State(torch.ones(1)), lambda x, at: torch.zeros_like(x), edm().at(2.0), edm().at(1.0)).x
    tensor([0.5000])

    Raises:
        ValueError: if the order is not 1 … 4, or a step starts where there is no signal.
    """

    order: int = 4
    """Evaluations at most."""

    def __post_init__(self) -> None:
        if self.order not in (1, 2, 3, 4):
            raise ValueError(f"there is no PLMS with {self.order} evaluations: take 1, 2, 3 or 4")

    def __call__(self, state: State, denoiser: Denoise, here: Point, there: Point) -> State:
        """The step."""
        if surely(here.alpha == 0):
            raise ValueError("PLMS cannot start where there is no signal: leave that end of the grid out")
        past = (evaluate(state, denoiser, here), *state.past)[: self.order]
        noise = combine(*((weight, _noise(one)) for weight, one in zip(WEIGHTS[len(past) - 1], past, strict=True)))
        if self.order > 1 and not state.past and not surely(there.sigma == 0):
            trial = _ddim(state.x, noise, here, there)
            usable = there.sigma != 0
            after = Seen(there._replace(sigma=where(usable, there.sigma, 1.0)), denoiser(trial, there), trial)
            noise = combine((where(usable, 0.5, 1.0), noise), (where(usable, 0.5, 0.0), _noise(after)))
        return State(_ddim(state.x, noise, here, there), state.step + 1, past[: max(1, self.order - 1)])


def _noise(seen: Seen) -> Tensor:
    sigma = where(seen.at.sigma == 0, 1.0, seen.at.sigma)
    return combine((1 / sigma, seen.x), (-seen.at.alpha / sigma, seen.x0))


def _ddim(x: Tensor, noise: Tensor, here: Point, there: Point) -> Tensor:
    scale = divide(there.alpha, here.alpha)
    return combine((scale, x), (there.sigma - scale * here.sigma, noise))
