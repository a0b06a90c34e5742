"""DPM-Solver++ multistep and its stochastic form: one evaluation a step, and the polynomial through the last few.

    Multistep(1)                               DDIM
    Multistep(2, rule="bh2")                   DPM-Solver++(2M) (Lu et al. 2022, arXiv:2211.01095, alg. 2)
    Multistep(2)                               the same with the slope integrated exactly
    Multistep(3)                               of third order
    Multistep(3, rule="published")             DPM-Solver++(3M) as it is shipped everywhere, of second order
    Multistep(2, rule="bh2", eta=1, noise=…)   SDE-DPM-Solver++(2M)
    Multistep(2, of="epsilon")                 DPM-Solver(2M), and DEIS in log ρ (Zhang & Chen 2022, arXiv:2204.13902)

The published third-order step takes a divided difference for a second derivative, and so misses a factor of 2. With few steps
it may still be the better one: its error is another, not always a larger one.
"""

from __future__ import annotations

from dataclasses import dataclass

from tectum.diffusion.denoiser import Denoise
from tectum.diffusion.noise import Noise
from tectum.diffusion.process import Point
from tectum.diffusion.solvers.exponential import Of, Rule, advance
from tectum.diffusion.solvers.state import State, Step, evaluate_once


@dataclass(frozen=True, eq=False)
class Multistep:
    """The first steps are of lower order, for want of a past; the last, to the data, is of first order.

    Order 4 is for short steps: where they are long, it overshoots.

    >>> import torch
    >>> from tectum.diffusion.schedules import edm
    >>> Multistep(3)(State(torch.ones(1)), lambda x, at: torch.zeros_like(x), edm().at(2.0), edm().at(1.0)).x
    tensor([0.5000])

    Raises:
        ValueError: if the order is not 1 … 4, or noise is asked for but not given.
    """

    order: int = 2
    rule: Rule = "exact"
    of: Of = "x0"
    eta: float = 0.0
    """0 for the probability-flow equation, 1 for the reverse of the process itself."""
    noise: Noise | None = None
    warmup: Step | None = None
    """A one-step solver for the first `order` - 1 steps. Without it the first is Euler's: its one error of order h² is small, but
    becomes the largest of all when steps are short."""

    def __post_init__(self) -> None:
        if self.order not in (1, 2, 3, 4):
            raise ValueError(f"there is no multistep solver of order {self.order}: take 1, 2, 3 or 4")
        if self.eta < 0 or (self.eta > 0) != (self.noise is not None):
            raise ValueError(f"eta = {self.eta} with noise = {self.noise}: give a source of noise and eta > 0, or neither")

    def __call__(self, state: State, denoiser: Denoise, here: Point, there: Point) -> State:
        """The step."""
        if self.warmup and len(state.past) < self.order - 1:
            begun = self.warmup(state, denoiser, here, there)
            return begun._replace(past=(begun.past[0], *state.past))
        past = (evaluate_once(state, denoiser, here), *state.past)[: self.order]
        noise = self.noise(state.x, state.step, here, there) if self.noise else None
        x = advance(state.x, here, there, past, eta=self.eta, rule=self.rule, of=self.of, noise=noise)
        return State(x, state.step + 1, past)
