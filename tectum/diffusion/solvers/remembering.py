"""A step whose denoiser remembers: the memory is part of the state, so runs stay pure and can be continued or branched."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from tectum.diffusion.denoiser import Denoise
from tectum.diffusion.guidance import recall
from tectum.diffusion.process import Point
from tectum.diffusion.solvers.state import State, Step


@dataclass(frozen=True)
class Remembering:
    """Any solver, for guidance with a momentum (`guidance.Projected`).

    Every evaluation of a step counts, in the order in which they are made.

    >>> import torch
    >>> from tectum.diffusion.grids import at_times
    >>> from tectum.diffusion.guidance import Apart, Projected
    >>> from tectum.diffusion.schedules import edm
    >>> from tectum.diffusion.solvers.ancestral import Ancestral
    >>> from tectum.diffusion.solvers.state import sample
    >>> guided = Apart(lambda x, at: x * 0 + 1, lambda x, at: x * 0, 3.0, Projected(parallel=1.0, momentum=-0.5))
    >>> states = sample(Remembering(Ancestral()), guided, torch.zeros(1, 1), at_times(edm(), (4.0, 2.0, 1.0)))
    >>> [state.memory.item() for state in states if state.memory is not None]  # 1, 1 - ½, 1 - ¼
    [1.0, 0.5, 0.75]
    """

    step: Step

    def __call__(self, state: State, denoiser: Denoise, here: Point, there: Point) -> State:
        """The step."""
        memory = state.memory

        def remembered(x: Tensor, at: Point) -> Tensor:
            nonlocal memory
            x0, memory = recall(denoiser, x, at, memory)
            return x0

        after = self.step(state, remembered, here, there)
        return after._replace(memory=memory)
