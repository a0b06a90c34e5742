"""What a network may predict, and how one prediction is turned into another: exact, and linear in x, x₀ and ε.

    x0       the data
    epsilon  the noise (Ho et al. 2020, arXiv:2006.11239)
    v        α ε - σ x₀ (Salimans & Ho 2022, arXiv:2202.00512, appendix D)
    flow     ε - x₀, the velocity of a straight line (Liu et al. 2022, arXiv:2209.03003)
    score    ∇ log p(x) = -ε/σ (Song et al. 2021, arXiv:2011.13456)
    edm      what is left of x₀ after its best linear estimate, at unit variance (Karras et al. 2022, arXiv:2206.00364, eq. 7)

v, flow and edm say both what x₀ is and what ε is at any noise. ε and score say nothing about x₀ where there is only noise,
and x₀ nothing about ε where there is none: asked for it there, they raise ValueError, or give infinity if the point is made
of tensors, which may lie on a device that nobody should wait for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor

from tectum.diffusion.process import Point
from tectum.diffusion.scalars import Scalar, combine, divide, spread, sqrt

Kind = Literal["x0", "epsilon", "v", "flow", "score", "edm"]
KINDS = ("x0", "epsilon", "v", "flow", "score", "edm")


class Mix(NamedTuple):
    """Two coefficients."""

    first: Scalar
    second: Scalar


@dataclass(frozen=True)
class Prediction:
    """A kind of prediction, and its converters.

    >>> import torch
    >>> from tectum.diffusion.schedules import flow
    >>> x0, noise, at = torch.tensor([[3.0]]), torch.tensor([[1.0]]), flow().at(0.25)
    >>> value = Prediction("flow").target(x0, noise, at)
    >>> x = 0.75 * x0 + 0.25 * noise
    >>> Prediction("flow").to_x0(value, x, at), Prediction("flow").convert(value, x, at, Prediction("epsilon"))
    (tensor([[3.]]), tensor([[1.]]))
    """

    kind: Kind
    data_std: float = 0.5
    """Standard deviation of the data; for edm only."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"there is no prediction {self.kind!r}: take one of {', '.join(KINDS)}")
        if self.data_std <= 0:
            raise ValueError(f"data_std = {self.data_std} must be above 0")

    def target(self, x0: Tensor, noise: Tensor, at: Point) -> Tensor:
        """What the network should say for x = α x₀ + σ ε, [n, …]."""
        mix = self._target(at)
        return combine((mix.first, x0), (mix.second, noise))

    def to_x0(self, value: Tensor, x: Tensor, at: Point) -> Tensor:
        """x₀ from a prediction at x."""
        mix = self.x0_mix(at)
        return combine((mix.second, value), (mix.first, x))

    def to_epsilon(self, value: Tensor, x: Tensor, at: Point) -> Tensor:
        """ε from a prediction at x."""
        mix = self._epsilon_mix(at)
        return combine((mix.second, value), (mix.first, x))

    def convert(self, value: Tensor, x: Tensor, at: Point, to: Prediction) -> Tensor:
        """Another kind of prediction at the same x."""
        if to == self:
            return value
        if to.kind == "x0":
            return self.to_x0(value, x, at)
        noise = self.to_epsilon(value, x, at)
        if to.kind in ("epsilon", "score"):
            return noise * spread(to._target(at).second, x)
        return to.target(self.to_x0(value, x, at), noise, at)

    def x0_mix(self, at: Point) -> Mix:
        """(c, d) with x₀ = c x + d value."""
        alpha, sigma = at.alpha, at.sigma
        match self.kind:
            case "x0":
                return Mix(0.0, 1.0)
            case "epsilon":
                gain = self._over(1.0, alpha)
                return Mix(gain, -sigma * gain)
            case "v":
                power = alpha**2 + sigma**2
                return Mix(alpha / power, -sigma / power)
            case "flow":
                return Mix(1 / (alpha + sigma), -sigma / (alpha + sigma))
            case "score":
                return Mix(self._over(1.0, alpha), self._over(sigma**2, alpha))
            case "edm":
                power = self._power(at)
                return Mix(alpha * self.data_std**2 / power, sigma * self.data_std / sqrt(power))

    def _epsilon_mix(self, at: Point) -> Mix:
        """(c, d) with ε = c x + d value."""
        alpha, sigma = at.alpha, at.sigma
        match self.kind:
            case "x0":
                return Mix(self._over(1.0, sigma), self._over(-alpha, sigma))
            case "epsilon":
                return Mix(0.0, 1.0)
            case "v":
                power = alpha**2 + sigma**2
                return Mix(sigma / power, alpha / power)
            case "flow":
                return Mix(1 / (alpha + sigma), alpha / (alpha + sigma))
            case "score":
                return Mix(0.0, -sigma)
            case "edm":
                power = self._power(at)
                return Mix(sigma / power, -alpha * self.data_std / sqrt(power))

    def _target(self, at: Point) -> Mix:
        """(a, b) with value = a x₀ + b ε."""
        alpha, sigma = at.alpha, at.sigma
        match self.kind:
            case "x0":
                return Mix(1.0, 0.0)
            case "epsilon":
                return Mix(0.0, 1.0)
            case "v":
                return Mix(-sigma, alpha)
            case "flow":
                return Mix(-1.0, 1.0)
            case "score":
                return Mix(0.0, self._over(-1.0, sigma))
            case "edm":
                scale = self.data_std * sqrt(self._power(at))
                return Mix(sigma / scale, -alpha * self.data_std**2 / scale)

    def _power(self, at: Point) -> Scalar:
        """The variance of x."""
        return at.sigma**2 + at.alpha**2 * self.data_std**2

    def _over(self, a: Scalar, b: Scalar) -> Scalar:
        if not isinstance(b, Tensor) and b == 0:
            raise ValueError(
                f"a prediction of kind {self.kind!r} does not hold all of x₀ and ε where there is only noise or only data: "
                "leave that end of the grid out, or use a network that predicts 'v', 'flow' or 'edm'"
            )
        return divide(a, b)
