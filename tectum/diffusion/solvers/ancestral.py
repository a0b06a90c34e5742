"""First order: one evaluation, then a step of the posterior, with as much noise as one likes.

DDIM, Euler, DDPM, Euler-ancestral and LCM are one formula, N(on_x x + on_x0 D, std²) of `marginals.posterior`:

    Ancestral()                              DDIM with η = 0, Euler in any frame, flow Euler: no noise
    Ancestral(noise, eta)                    DDIM with η (Song et al. 2020, arXiv:2010.02502, eq. 12)
    Ancestral(noise, eta=1)                  DDPM with the smaller variance (Ho et al. 2020, §3.2), Euler-ancestral
    Ancestral(noise, eta=1, residual=unit)   DDPM with the larger variance; `solvers.residual` has the best one
    Ancestral(noise, eta=1, learned=True)    DDPM with a learned one in between (arXiv:2102.09672, eq. 15)
    Fresh(noise)                             all noise anew: LCM, consistency models (arXiv:2310.04378, alg. 3)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tectum.diffusion.denoiser import Denoise, Estimating
from tectum.diffusion.marginals import Kernel, posterior
from tectum.diffusion.noise import Noise
from tectum.diffusion.process import Point
from tectum.diffusion.scalars import Scalar, combine, placed, spread, sqrt, where
from tectum.diffusion.solvers.residual import unit
from tectum.diffusion.solvers.state import Seen, State, evaluate, evaluate_once, taken


@dataclass(frozen=True, eq=False)
class Ancestral:
    """A step of N(on_x x + on_x0 D, std²). The last, to the data, is D itself, without noise.

    Raises:
        ValueError: if noise is asked for but not given.
    """

    noise: Noise | None = None
    eta: float = 0.0
    """0: none; 1: that of the true posterior."""
    residual: Callable[[Point], Scalar] | None = None
    """Var(x₀ | x), which widens the step; 0 if left out."""
    learned: bool = False
    """Whether the denoiser says how wide the step is; it must have an `estimate` with a share."""

    def __post_init__(self) -> None:
        if self.noise is None and (self.eta or self.residual or self.learned):
            raise ValueError("a step with noise needs a source of it: give noise=Independent(seed, samples), or eta=0")
        if self.eta < 0:
            raise ValueError(f"eta = {self.eta} is negative: 0 adds no noise, 1 that of the posterior")

    def __call__(self, state: State, denoiser: Denoise, here: Point, there: Point) -> State:
        """The step."""
        kernel = posterior(here, there, self.eta)
        if self.noise is None:
            seen = evaluate_once(state, denoiser, here)
            return State(_mean(kernel, seen), state.step + 1, (seen,))
        if self.learned:
            seen, share = _with_share(state, denoiser, here)
            low, high = self._variance(kernel.std, 0.0, there), self._variance(kernel.std, kernel.on_x0**2 * unit(here), there)
            std: Scalar = _between(low, high, share)
        else:
            seen = evaluate_once(state, denoiser, here)
            wider = kernel.on_x0**2 * self.residual(here) if self.residual else 0.0
            std = sqrt(self._variance(kernel.std, wider, there))
        x = _mean(kernel, seen)
        x = x + spread(std, x) * self.noise(x, state.step, here, there)
        return State(x, state.step + 1, (seen,))

    @staticmethod
    def _variance(std: Scalar, wider: Scalar, there: Point) -> Scalar:
        return where(there.sigma == 0, 0.0, std**2 + wider)


@dataclass(frozen=True, eq=False)
class Fresh:
    """x = α D + σ z with new z: each step starts again from what the denoiser says."""

    noise: Noise

    def __call__(self, state: State, denoiser: Denoise, here: Point, there: Point) -> State:
        """The step."""
        seen = evaluate(state, denoiser, here)
        x = combine((there.alpha, seen.x0), (there.sigma, self.noise(state.x, state.step, here, there)))
        return State(x, state.step + 1, (seen,))


def _mean(kernel: Kernel, seen: Seen) -> Tensor:
    own, share = taken(kernel.on_x0, seen)
    return combine((kernel.on_x + own, seen.x), (share, seen.said))


def _with_share(state: State, denoiser: object, here: Point) -> tuple[Seen, Tensor]:
    estimate = denoiser.estimate(state.x, here) if isinstance(denoiser, Estimating) else None
    if estimate is None or estimate.share is None:
        raise ValueError("a learned variance needs a denoiser whose network has one: set Denoiser(learned_variance=True)")
    return Seen(here, estimate.x0, state.x), estimate.share


def _between(low: Scalar, high: Scalar, share: Tensor) -> Tensor:
    """The standard deviation at a share of the way between the logarithms of two variances; 0 if both are."""
    low, high = (placed(spread(value, share), share) for value in (low, high))
    safe_low, safe_high = low.clamp(min=1e-30), high.clamp(min=1e-30)
    return torch.where(high > 0, torch.lerp(safe_low.log(), safe_high.log(), share).div(2).exp(), 0.0)
