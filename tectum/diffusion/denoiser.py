"""A network made into a denoiser, D(x, t | cond) → x₀, with its preconditioning; and the loss it is trained by.

Whatever a network predicts, it is told the noise in its own units and its answer is turned into x₀ here. Nothing else in the
package knows what a network predicts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from tectum.diffusion.marginals import forward
from tectum.diffusion.predictions import Mix, Prediction
from tectum.diffusion.process import Point
from tectum.diffusion.scalars import Scalar, spread, sqrt
from tectum.diffusion.weights import Weight

Conditions = Mapping[str, Tensor]
"""What a sample is to be like, tensors [n, …] by name: tokens, a class, a mask, the weight of a distilled guidance."""
Network = Callable[[Tensor, Tensor, Conditions], Tensor]
"""(x [n, c, …], time [n], conditions) to a prediction [n, c, …], or [n, 2c, …] with a learned variance."""
Denoise = Callable[[Tensor, Point], Tensor]
"""(x, point) to x₀: all that a solver knows of a model."""


class Estimate(NamedTuple):
    """x₀ and, of a network that says it, how the variance of a step lies between its bounds."""

    x0: Tensor
    share: Tensor | None
    """[n, …] in 0 … 1: 0 the posterior's variance, 1 that of unit data (Nichol & Dhariwal 2021, arXiv:2102.09672, eq. 15)."""


class Affine(ABC):
    """A denoiser whose x₀ is a mix of x and what a network said: a step of first order goes from both to the next x at once."""

    @abstractmethod
    def said(self, x: Tensor, at: Point) -> tuple[Tensor, Mix | None]:
        """(value, (c, d)) with x₀ = c x + d value, or x₀ itself and None."""


@runtime_checkable
class Estimating(Protocol):
    """A denoiser that may know more than x₀."""

    def estimate(self, x: Tensor, at: Point) -> Estimate:
        """x₀ and the learned variance."""
        ...


def estimate(denoiser: Denoise, x: Tensor, at: Point) -> Estimate:
    """x₀, and the learned variance if the denoiser has one."""
    return denoiser.estimate(x, at) if isinstance(denoiser, Estimating) else Estimate(denoiser(x, at), None)


@dataclass(frozen=True, eq=False)
class Denoiser(Affine):
    """A network with what must be known to use it.

    `Denoiser(net, Prediction("edm", 0.5), time_input="log_noise", scale_input=True)` is that of Karras et al. 2022
    (arXiv:2206.00364, table 1), in every frame: c_skip, c_out, c_in and c_noise follow from the prediction and the point.

    >>> from tectum.diffusion.schedules import flow
    >>> denoiser = Denoiser(lambda x, time, cond: torch.zeros_like(x), Prediction("flow"))
    >>> denoiser(torch.ones(2, 3), flow().at(0.5)).shape
    torch.Size([2, 3])
    """

    network: Network
    prediction: Prediction
    time_input: Literal["time", "flow", "log_noise"] = "time"
    """What the network is told: the time of the schedule (the index of a table), σ/(α+σ), or ¼ log(σ/α)."""
    time_scale: float = 1.0
    """It is told that times this: 1000 for most flow models."""
    scale_input: bool = False
    """Whether x is scaled to unit variance (for data of `prediction.data_std`) before it enters."""
    learned_variance: bool = False
    """Whether the second half of the network's channels is a learned variance."""

    def __call__(self, x: Tensor, at: Point, cond: Conditions | None = None) -> Tensor:
        """x₀ [n, c, …] at a noisy x [n, c, …]."""
        return self.estimate(x, at, cond).x0

    def said(self, x: Tensor, at: Point, cond: Conditions | None = None) -> tuple[Tensor, Mix | None]:
        """The network's own prediction, and what makes x₀ of it."""
        return self.predict(x, at, cond)[0], self.prediction.x0_mix(at)

    def estimate(self, x: Tensor, at: Point, cond: Conditions | None = None) -> Estimate:
        """x₀ and the learned variance."""
        value, share = self.predict(x, at, cond)
        return Estimate(self.prediction.to_x0(value, x, at), share)

    def predict(self, x: Tensor, at: Point, cond: Conditions | None = None) -> tuple[Tensor, Tensor | None]:
        """The network's own prediction, and the share of `Estimate`."""
        scaled = x * spread(1 / sqrt(at.sigma**2 + (at.alpha * self.prediction.data_std) ** 2), x) if self.scale_input else x
        value = self.network(scaled, self._time(x, at), cond or {})
        if not self.learned_variance:
            return value, None
        value, raw = value.chunk(2, dim=1)
        return value, (raw + 1) / 2

    def _time(self, x: Tensor, at: Point) -> Tensor:
        match self.time_input:
            case "time":
                value: Scalar = at.time
            case "flow":
                value = at.flow_time
            case "log_noise":
                value = -at.lam / 4
        value = value * self.time_scale
        return value.to(x).expand(len(x)) if isinstance(value, Tensor) else x.new_full((len(x),), value)


def loss(denoiser: Denoiser, x0: Tensor, noise: Tensor, at: Point, weight: Weight, cond: Conditions | None = None) -> Tensor:
    """w(λ) ‖x₀ - D(α x₀ + σ ε)‖² / elements, [n], computed as an error of what the network predicts, so that no end is lost.

    Args:
        denoiser: what is trained. A learned variance has no part in this loss.
        x0: data [n, …].
        noise: unit normal, of the same shape.
        at: the points, tensors [n]: a `weights.Draw` makes them.
        weight: one of `tectum.diffusion.weights`.
        cond: conditions of the samples.

    >>> from tectum.diffusion.schedules import flow
    >>> from tectum.diffusion.weights import plain_flow
    >>> denoiser = Denoiser(lambda x, time, cond: torch.zeros_like(x), Prediction("flow"))
    >>> loss(denoiser, torch.zeros(2, 3), torch.ones(2, 3), flow().at(torch.tensor([0.1, 0.5])), plain_flow)
    tensor([1., 1.])
    """
    value, _ = denoiser.predict(forward(x0, noise, at), at, cond)
    error = (value - denoiser.prediction.target(x0, noise, at)) ** 2
    lam = torch.as_tensor(at.lam, dtype=torch.float64)
    factor = weight(lam) * denoiser.prediction.x0_mix(at).second ** 2
    return error.flatten(1).mean(1) * factor.to(error)
