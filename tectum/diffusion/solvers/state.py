"""What a solver keeps between steps, and the loop that takes them.

A solver is a function `(state, denoiser, here, there) -> state`. It keeps nothing in itself, so one solver serves any
number of runs at once. A run is continued from any state, and cut short or branched at will.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from tectum.diffusion.denoiser import Affine, Denoise
from tectum.diffusion.predictions import Mix
from tectum.diffusion.process import Point
from tectum.diffusion.scalars import Scalar, combine


class Seen(NamedTuple):
    """One evaluation of the denoiser."""

    at: Point
    said: Tensor
    """x₀, or a network's own prediction, [n, …]."""
    x: Tensor
    """The sample there, [n, …]."""
    mix: Mix | None = None
    """(c, d) with x₀ = c x + d said; None if x₀ was said."""

    @property
    def x0(self) -> Tensor:
        """What the denoiser takes for the data, [n, …]: a preview of the sample."""
        return self.said if self.mix is None else combine((self.mix.second, self.said), (self.mix.first, self.x))


class State(NamedTuple):
    """A batch of samples on their way."""

    x: Tensor
    """[n, …]; in single precision or better, whatever the network computes in."""
    step: int | Tensor = 0
    """Steps taken so far: what noise is keyed by. A tensor in a compiled loop."""
    past: tuple[Seen, ...] = ()
    """Evaluations, the newest first, as many as the solver has a use for and at least one."""
    memory: Tensor | None = None
    """Of a denoiser that remembers, [n, …]; `Remembering` carries it."""


Step = Callable[[State, Denoise, Point, Point], State]
"""From one point of a grid to the next."""


def sample(step: Step, denoiser: Denoise, x: Tensor | State, grid: Sequence[Point]) -> Iterator[State]:
    """The trajectory: a state for each point of the grid, the first being the start.

    >>> from tectum.diffusion.grids import karras
    >>> from tectum.diffusion.mixture import Mixture
    >>> from tectum.diffusion.schedules import edm
    >>> from tectum.diffusion.solvers.ancestral import Ancestral
    >>> data = Mixture(means=torch.tensor([[-1.0], [1.0]]), stds=torch.zeros(2), weights=torch.full((2,), 0.5))
    >>> *_, last = sample(Ancestral(), data, torch.tensor([[-40.0], [40.0]]), karras(edm(), 20))
    >>> last.x
    tensor([[-1.],
            [ 1.]])
    """
    state = x if isinstance(x, State) else State(x)
    yield state
    for here, there in pairwise(grid):
        state = step(state, denoiser, here, there)
        yield state


def evaluate(state: State, denoiser: Denoise, here: Point) -> Seen:
    """The denoiser where the state stands."""
    return Seen(here, denoiser(state.x, here), state.x)


def evaluate_once(state: State, denoiser: Denoise, here: Point) -> Seen:
    """The same for steps that are sums: x₀ is not made of a network's prediction, unless somebody looks at it."""
    said, mix = denoiser.said(state.x, here) if isinstance(denoiser, Affine) else (denoiser(state.x, here), None)
    return Seen(here, said, state.x, mix)


def taken(weight: Scalar, seen: Seen) -> tuple[Scalar, Scalar]:
    """weight · x₀ as multiples of `seen.x` and of `seen.said`."""
    return (0.0, weight) if seen.mix is None else (weight * seen.mix.first, weight * seen.mix.second)


def surely(condition: bool | Tensor) -> bool:
    """Whether a condition on points is known to hold, without waiting for a device: of tensors, nothing is known."""
    return isinstance(condition, bool) and condition


def last(states: Iterator[State]) -> Tensor:
    """The samples at the end of a trajectory.

    Raises:
        ValueError: if it has no states.
    """
    end = deque(states, maxlen=1)
    if not end:
        raise ValueError("this trajectory has been read to its end already: make it anew")
    return end[0].x


def zero_step(device: torch.device | str) -> Tensor:
    """The step to start a compiled loop with."""
    return torch.zeros((), dtype=torch.int64, device=device)
