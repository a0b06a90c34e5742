"""UniPC: a multistep prediction, corrected once the denoiser has been asked where it led (Zhao et al. 2023, arXiv:2302.04867).

It costs one evaluation a step, and is one order better than the prediction alone: 2, 3 and 4 for orders 1, 2 and 3. The
last point is not corrected, which would cost one evaluation more.
"""

from __future__ import annotations

from dataclasses import dataclass

from tectum.diffusion.denoiser import Denoise
from tectum.diffusion.process import Point
from tectum.diffusion.scalars import combine, divide
from tectum.diffusion.solvers.exponential import Of, Rule, advance
from tectum.diffusion.solvers.state import Seen, State


@dataclass(frozen=True)
class UniPC:
    """The step from `here` first corrects the one that led there.

    >>> import torch
    >>> from tectum.diffusion.schedules import edm
    >>> UniPC(3)(State(torch.ones(1)), lambda x, at: torch.zeros_like(x), edm().at(2.0), edm().at(1.0)).x
    tensor([0.5000])

    Raises:
        ValueError: if the order is not 1, 2 or 3.
    """

    order: int = 2
    rule: Rule = "bh2"
    """The B(h) of the paper: it matters where the polynomial is a line, in predictions of order 2 and corrections of order 1."""
    of: Of = "x0"

    def __post_init__(self) -> None:
        if self.order not in (1, 2, 3):
            raise ValueError(f"there is no UniPC of order {self.order}: take 1, 2 or 3")

    def __call__(self, state: State, denoiser: Denoise, here: Point, there: Point) -> State:
        """The step."""
        x0, x = denoiser(state.x, here), state.x
        if state.past:
            before, *older = state.past
            corrected = advance(before.x, before.at, here, [before, Seen(here, x0, x), *older], rule=self.rule, of=self.of)
            if self.of == "epsilon":  # what was said is ε, and holds for the corrected sample too
                x0 = combine((1.0, x0), (divide(1.0, here.alpha), corrected), (-divide(1.0, here.alpha), x))
            x = corrected
        past = (Seen(here, x0, x), *state.past)[: self.order]
        return State(advance(x, here, there, past, rule=self.rule, of=self.of), state.step + 1, past)
