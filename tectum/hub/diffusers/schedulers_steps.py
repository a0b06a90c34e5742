"""Solvers of diffusers that go by λ, of which each step has its own order; and steps that exist only to be theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tectum.diffusion.denoiser import Denoise
from tectum.diffusion.marginals import posterior
from tectum.diffusion.noise import Noise
from tectum.diffusion.predictions import Prediction
from tectum.diffusion.process import Point
from tectum.diffusion.scalars import combine
from tectum.diffusion.solvers.exponential import Of, Rule, advance
from tectum.diffusion.solvers.multistep import Multistep
from tectum.diffusion.solvers.plms import WEIGHTS
from tectum.diffusion.solvers.state import Seen, State, Step, evaluate
from tectum.diffusion.solvers.unipc import UniPC
from tectum.hub.diffusers.schedulers_levels import Ask


def solver(ask: Ask, n: int) -> Step:
    """The solver of a scheduler that goes by λ, for n steps."""
    o, order = ask.o, ask.o["solver_order"]
    if order not in (1, 2, 3):
        raise ask.wrong(f"solver_order = {order} is not known here, take 1, 2 or 3")
    if ask.name == "UniPCMultistepScheduler":
        return _unipc(ask, n)
    if ask.name == "DEISMultistepScheduler":
        short = o["lower_order_final"] and n < 15
        orders = [min(order, i + 1, n - i if short else order) for i in range(n)]
        return ByStep(tuple(Multistep(k, of="epsilon") for k in orders))
    algorithm, last_zero = o["algorithm_type"], o["final_sigmas_type"] == "zero"
    algorithm = "dpmsolver++" if algorithm == "deis" else algorithm
    if algorithm not in ("dpmsolver++", "dpmsolver", "sde-dpmsolver++", "sde-dpmsolver"):
        raise ask.wrong(f"algorithm_type = {algorithm!r} is not known here")
    of: Of = "x0" if algorithm.endswith("++") else "epsilon"
    if of == "epsilon" and last_zero:
        raise ask.wrong(f"{algorithm} cannot end at the data, set final_sigmas_type to 'sigma_min'")
    noise, eta = (ask.source(), 1.0) if algorithm.startswith("sde") else (None, 0.0)
    rule: Rule = "exact" if o["solver_type"] == "heun" else "bh2"
    if ask.name == "DPMSolverSinglestepScheduler":
        return _blocks(ask, n, of, rule, eta, noise)
    if order < 3 and last_zero:  # it begins and ends with lower orders by itself, and may be compiled
        return Multistep(order, rule, of, eta, noise)
    short = o["lower_order_final"] and n < 15
    steps: list[Step] = []
    for i in range(n):
        k = min(order, i + 1, 2 if short and i == n - 2 else 3)
        if i == n - 1 and (o["euler_at_final"] or short or last_zero):
            k = 1
        if k == 3 and "curvature" not in ask.made:
            if eta and (of == "epsilon" or ask.name.startswith("EDM")):
                raise ask.wrong("diffusers fails at third order with noise: leave compat=True out")
            steps.append(TheirThird(noise) if noise else Multistep(3, "published", of))
        else:
            steps.append(Multistep(k, "exact" if k == 3 else rule, of, eta, noise))
    return ByStep(tuple(steps))


def _unipc(ask: Ask, n: int) -> Step:
    o, steps = ask.o, []
    rule: Rule = "bh1" if o["solver_type"] == "bh1" else "bh2"
    of: Of = "x0" if o["predict_x0"] else "epsilon"
    if o["solver_order"] < 3 and o["final_sigmas_type"] == "zero" and not o["disable_corrector"]:
        return UniPC(o["solver_order"], rule, of)
    for i in range(n):
        order = min(o["solver_order"], i + 1, n - i if o["lower_order_final"] else 3)
        plain = i - 1 in o["disable_corrector"]
        steps.append(Multistep(order, rule, of) if plain else UniPC(order, rule, of))
    return ByStep(tuple(steps))


def _blocks(ask: Ask, n: int, of: Of, rule: Rule, eta: float, noise: Noise | None) -> Step:
    order, last_zero = ask.o["solver_order"], ask.o["final_sigmas_type"] == "zero"
    orders = [i % order + 1 for i in range(n)]
    if last_zero or (ask.o["lower_order_final"] and n % order == 0):
        orders[-1] = 1
    all_three = "block" in ask.made
    return ByStep(tuple(Block(k, rule, of, eta, noise, all_three or rule == "exact", "curvature" in ask.made) for k in orders))


@dataclass(frozen=True)
class ByStep:
    """A solver for each step: orders are lowered at the end."""

    steps: tuple[Step, ...]

    def __call__(self, state: State, denoiser: Denoise, here: Point, there: Point) -> State:
        """The step whose number is `state.step`."""
        return self.steps[int(state.step)](state, denoiser, here, there)


@dataclass(frozen=True)
class Block:
    """Evaluations of several steps make one single step (Lu et al. 2022, arXiv:2206.00927, §3.2), at the points of the grid.

    Each of a block's steps goes from the block's beginning, with all evaluations since.
    """

    order: int
    """Place in the block: 1 begins one."""
    rule: Rule
    of: Of
    eta: float
    noise: Noise | None
    all_three: bool
    """Whether the third uses the second evaluation."""
    right_sign: bool
    """Whether the curvature of a step with noise has its sign."""

    def __call__(self, state: State, denoiser: Denoise, here: Point, there: Point) -> State:
        """The step."""
        past = (evaluate(state, denoiser, here), *state.past)[: self.order]
        start, *inner = reversed(past)
        nodes = [start, inner[-1]] if len(inner) == 2 and not self.all_three else [start, *inner]
        rule: Rule = self.rule if self.order == 2 else "exact"
        noise = self.noise(state.x, state.step, here, there) if self.noise else None
        x = advance(start.x, start.at, there, nodes, rule=rule, of=self.of, eta=self.eta, noise=noise)
        if self.noise and len(nodes) == 3 and not self.right_sign:
            x = torch.add(x, _second_difference(nodes, there), alpha=-2 * float(there.alpha))
        return State(x, state.step + 1, past)


@dataclass(frozen=True)
class Aimed:
    """A step that ends elsewhere than where the next begins."""

    step: Step
    ends: tuple[Point, ...]

    def __call__(self, state: State, denoiser: Denoise, here: Point, there: Point) -> State:
        """The step to its own end."""
        return self.step(state, denoiser, here, self.ends[int(state.step)])


@dataclass(frozen=True, eq=False)
class LooseClip:
    """DDIM in which x₀ is clipped, but the noise is that of the unclipped x₀: their sum is not x any more."""

    limited: Callable[[Denoise], Denoise]
    noise: Noise | None
    eta: float

    def __call__(self, state: State, denoiser: Denoise, here: Point, there: Point) -> State:
        """The step."""
        seen = evaluate(state, denoiser, here)
        clipped = self.limited(lambda x, at: seen.x0)(state.x, here)
        kernel = posterior(here, there, self.eta)
        x = combine((kernel.on_x, state.x), (there.alpha, clipped), (-kernel.on_x * here.alpha, seen.x0))
        if self.noise is not None and self.eta:
            x = combine((1.0, x), (kernel.std, self.noise(x, state.step, here, there)))
        return State(x, state.step + 1, (seen,))


@dataclass(frozen=True, eq=False)
class NoisyEnd:
    """DDPM with the larger variance, which adds noise to the result too unless the last time is 0."""

    step: Step
    noise: Noise

    def __call__(self, state: State, denoiser: Denoise, here: Point, there: Point) -> State:
        """The step."""
        after = self.step(state, denoiser, here, there)
        if there.sigma != 0 or here.time <= 0:
            return after
        return after._replace(x=combine((1.0, after.x), (here.sigma, self.noise(after.x, state.step, here, there))))


@dataclass(frozen=True, eq=False)
class TheirPLMS:
    """PLMS whose first step is repeated from another point, and which averages whatever the network predicts."""

    kind: Prediction
    ends: tuple[Point, ...]
    begin: Point
    """What the second half of the first step takes its start for."""
    second: Point | None
    """Where that half ends; None if there is one time only."""

    def __call__(self, state: State, denoiser: Denoise, here: Point, there: Point) -> State:
        """The step."""
        seen = evaluate(state, denoiser, here)
        past = (seen, *state.past)[:4]
        said = [self._said(one) for one in past]
        end = self.ends[int(state.step)]
        mean = combine(*zip(WEIGHTS[len(said) - 1], said, strict=True))
        x = self._moved(state.x, mean, here, end)
        if int(state.step) == 0 and self.second is not None:
            again = self._said(Seen(self.second, denoiser(x, self.second), x))
            x = self._moved(state.x, (said[0] + again) / 2, self.begin, self.second)
        return State(x, state.step + 1, past)

    def _said(self, one: Seen) -> Tensor:
        return _said(self.kind, one)

    def _moved(self, x: Tensor, said: Tensor, here: Point, there: Point) -> Tensor:
        return _moved(self.kind, x, said, here, there)


@dataclass(frozen=True, eq=False)
class PseudoRungeKutta:
    """Four evaluations a step, for the first three of PNDM (Liu et al. 2022, arXiv:2202.09778, eq. 13)."""

    kind: Prediction
    early: Point
    """Where the first stage ends; `middle` if nothing is wrong."""
    middle: Point
    late: Point
    """Where the third stage ends; `end` if nothing is wrong."""
    end: Point

    def __call__(self, state: State, denoiser: Denoise, here: Point, there: Point) -> State:
        """The step."""
        seen, x = evaluate(state, denoiser, here), state.x
        said = [_said(self.kind, seen)]
        for place, at in ((self.early, self.middle), (self.middle, self.middle), (self.late, self.end)):
            trial = _moved(self.kind, x, said[-1], here, place)
            said.append(_said(self.kind, Seen(at, denoiser(trial, at), trial)))
        mean = combine(*zip((1 / 6, 1 / 3, 1 / 3, 1 / 6), said, strict=True))
        return State(_moved(self.kind, x, mean, here, self.end), state.step + 1, (seen, *state.past))


def _said(kind: Prediction, one: Seen) -> Tensor:
    return Prediction("x0").convert(one.x0, one.x, one.at, kind)


def _moved(kind: Prediction, x: Tensor, said: Tensor, here: Point, there: Point) -> Tensor:
    """A step of DDIM with what was said, taken for said at x."""
    noise = kind.to_epsilon(said, x, here)
    scale = there.alpha / here.alpha
    return combine((scale, x), (there.sigma - scale * here.sigma, noise))


@dataclass(frozen=True, eq=False)
class TheirThird:
    """SDE-DPM-Solver++(3M), whose curvature has ½ with the wrong sign: it is of first order."""

    noise: Noise

    def __call__(self, state: State, denoiser: Denoise, here: Point, there: Point) -> State:
        """The step."""
        after = Multistep(3, "published", eta=1.0, noise=self.noise)(state, denoiser, here, there)
        if len(after.past) < 3:  # begun in the middle
            return after
        x = torch.add(after.x, _second_difference(after.past, there), alpha=-float(there.alpha))
        return after._replace(x=x)


def _second_difference(seen: tuple[Seen, ...] | list[Seen], there: Point) -> Tensor:
    """h² times the second divided difference of x₀, where h is the step's length in λ."""
    (first, a), (second, b), (third, c) = ((one.x0, float(one.at.lam)) for one in seen)
    h = float(there.lam) - a
    slopes = combine((h / (a - b), first), (-h / (a - b), second)), combine((h / (b - c), second), (-h / (b - c), third))
    return (slopes[0] - slopes[1]) * (h / (a - c))


@dataclass(frozen=True, eq=False)
class Boundary:
    """A consistency function from what a denoiser says (Luo et al. 2023, arXiv:2310.04378, §4.1): at time 0 it is x itself."""

    denoiser: Denoise
    scale: float
    data_std: float = 0.5

    def __call__(self, x: Tensor, at: Point) -> Tensor:
        """x₀."""
        time = self.scale * at.time
        power = time**2 + self.data_std**2
        return combine((time / power**0.5, self.denoiser(x, at)), (self.data_std**2 / power, x))
