"""Guidance: functions from denoisers to a denoiser, in x₀, where it is the same as in ε, v or score at one and the same x.

    Given(denoiser, cond)                        a model and what it is told
    ClassifierFree(denoiser, cond, negative, w)  two answers in one batched call, w times as far apart
    Apart(good, bad, w)                          the same of two models: autoguidance
    …, combine=Projected(momentum=-0.5)          adaptive projected guidance, in a loop of solvers.remembering.Remembering(step)
    Within(inside, outside, low, high)           guidance at some noises only
    Clamped(denoiser, 1.0), Thresholded(…)       x₀ kept to its range

A model whose guidance is distilled takes its weight as a condition: Given(denoiser, {"class": …, "guidance": w}).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from tectum.diffusion.denoiser import Affine, Conditions, Denoise, Denoiser, Estimate, estimate
from tectum.diffusion.predictions import Mix, Prediction
from tectum.diffusion.process import Point
from tectum.diffusion.scalars import Scalar, choose, spread

Combine = Callable[[Tensor, Tensor, Scalar], Tensor]
"""(with, without, w) to the guided x₀."""


def extrapolate(with_: Tensor, without: Tensor, weight: Scalar) -> Tensor:
    """without + w (with - without) (Ho & Salimans 2022, arXiv:2207.12598, eq. 6, whose w is this one less 1).

    >>> extrapolate(torch.tensor([[2.0]]), torch.tensor([[1.0]]), 3.0)
    tensor([[4.]])
    """
    if isinstance(weight, Tensor):
        return without + spread(weight, with_) * (with_ - without)
    return torch.lerp(without, with_, weight)


@dataclass(frozen=True)
class Projected:
    """Adaptive projected guidance (Sadat et al. 2024, arXiv:2410.02416, alg. 1).

    The part of the difference that is parallel to x₀ makes colours glaring, and is left out; the rest is kept to a
    radius. So w may be large. With a negative momentum what earlier steps have added is taken back in part.

    >>> Projected()(torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, -1.0]]), 3.0)
    tensor([[2., 2.]])
    """

    parallel: float = 0.0
    """η: how much of the parallel part is kept; 1 is plain guidance."""
    radius: float | None = None
    """r: the norm of the difference of a sample is at most so large; a share of √elements, about 0.1, is usual."""
    momentum: float = 0.0
    """β: of the differences of earlier evaluations, this times their sum is added; -0.5 is usual."""

    def __call__(self, with_: Tensor, without: Tensor, weight: Scalar) -> Tensor:
        """The guided x₀.

        Raises:
            ValueError: if it has a momentum: then it is asked by `recall`, in a loop that keeps the memory.
        """
        if self.momentum:
            raise ValueError("a momentum needs a memory: take Remembering(step) for the step, from solvers.remembering")
        return self._guided(with_, with_ - without, weight)

    def recall(self, with_: Tensor, without: Tensor, weight: Scalar, memory: Tensor | None) -> tuple[Tensor, Tensor]:
        """The guided x₀, and the new memory: Δ + β times the old."""
        difference = with_ - without
        if memory is not None:
            difference = torch.add(difference, memory, alpha=self.momentum)
        return self._guided(with_, difference, weight), difference

    def _guided(self, with_: Tensor, difference: Tensor, weight: Scalar) -> Tensor:
        direction, base = difference.flatten(1), with_.flatten(1)
        if self.radius is not None:
            direction = direction * (self.radius / direction.norm(dim=1, keepdim=True).clamp(min=1e-12)).clamp(max=1.0)
        along = (direction * base).sum(1, keepdim=True) / (base**2).sum(1, keepdim=True).clamp(min=1e-12) * base
        kept = (direction - along + self.parallel * along).view_as(with_)
        return with_ + (spread(weight, with_) - 1) * kept


@runtime_checkable
class Recalling(Protocol):
    """A denoiser that may remember earlier evaluations. The memory is not in it, but in `State.memory`."""

    def recall(self, x: Tensor, at: Point, memory: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """x₀, and the new memory."""
        ...


def recall(denoiser: Denoise, x: Tensor, at: Point, memory: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """x₀ and the memory after it, of any denoiser: one that remembers nothing leaves the memory as it is."""
    return denoiser.recall(x, at, memory) if isinstance(denoiser, Recalling) else (denoiser(x, at), memory)


def _combined(
    combine: Combine, with_: Tensor, without: Tensor, weight: Scalar, memory: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    if isinstance(combine, Projected) and combine.momentum:
        return combine.recall(with_, without, weight, memory)
    return combine(with_, without, weight), memory


@dataclass(frozen=True, eq=False)
class Given(Affine):
    """A denoiser with its conditions."""

    denoiser: Denoiser
    cond: Conditions

    def __call__(self, x: Tensor, at: Point) -> Tensor:
        """x₀."""
        return self.denoiser(x, at, self.cond)

    def said(self, x: Tensor, at: Point) -> tuple[Tensor, Mix | None]:
        """The network's own prediction, and what makes x₀ of it."""
        return self.denoiser.said(x, at, self.cond)

    def estimate(self, x: Tensor, at: Point) -> Estimate:
        """x₀ and the learned variance."""
        return self.denoiser.estimate(x, at, self.cond)


@dataclass(frozen=True, eq=False)
class ClassifierFree(Affine):
    """Away from what the model says under other conditions: none, or those of a negative prompt. One call for both.

    >>> from tectum.diffusion.schedules import flow
    >>> denoiser = Denoiser(lambda x, time, cond: cond["bias"].expand_as(x), Prediction("x0"))
    >>> guided = ClassifierFree(denoiser, {"bias": torch.ones(2, 1)}, {"bias": torch.zeros(2, 1)}, weight=5.0)
    >>> guided(torch.zeros(2, 1), flow().at(0.5))
    tensor([[5.],
            [5.]])

    Raises:
        ValueError: if the two conditions differ in names or shapes. Texts are padded to one length first.
    """

    denoiser: Denoiser
    cond: Conditions
    negative: Conditions
    weight: Scalar
    """w; 1 is no guidance. A tensor [n] for each sample its own."""
    combine: Combine = extrapolate
    rescale: float = 0.0
    """φ of Lin et al. 2023 (arXiv:2305.08891, eq. 16): how far a sample's standard deviation is brought back to that before
    guidance. Of x₀ here; `rescaled_as` says of what else."""
    rescaled_as: Prediction | None = None
    """The prediction whose standard deviation counts: most implementations take that of the network."""
    _joined: Conditions = field(init=False, repr=False)

    def __post_init__(self) -> None:
        shapes = [{name: value.shape for name, value in cond.items()} for cond in (self.cond, self.negative)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"conditions {shapes[0]} and {shapes[1]} cannot go into one batch: give both the same names and shapes"
            )
        # The same tensors at every step: a packed network reads a text once.
        joined = {name: torch.cat([value, self.negative[name]]) for name, value in self.cond.items()}
        object.__setattr__(self, "_joined", joined)

    def __call__(self, x: Tensor, at: Point) -> Tensor:
        """x₀."""
        return self.estimate(x, at).x0

    def said(self, x: Tensor, at: Point) -> tuple[Tensor, Mix | None]:
        """Predictions at one x may be taken apart like x₀ itself, if nothing else is done to them."""
        if self.combine is not extrapolate or self.rescale:
            return self(x, at), None
        value, _ = self.denoiser.predict(torch.cat([x, x]), _twice(at), self._joined)
        with_, without = value.chunk(2)
        return extrapolate(with_, without, self.weight), self.denoiser.prediction.x0_mix(at)

    def estimate(self, x: Tensor, at: Point) -> Estimate:
        """x₀, and the learned variance of the answer to `cond`."""
        with_, without, share = self._both(x, at)
        return Estimate(self._rescaled(self.combine(with_, without, self.weight), with_, x, at), share)

    def recall(self, x: Tensor, at: Point, memory: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """x₀, and the new memory."""
        with_, without, _ = self._both(x, at)
        guided, memory = _combined(self.combine, with_, without, self.weight, memory)
        return self._rescaled(guided, with_, x, at), memory

    def _both(self, x: Tensor, at: Point) -> tuple[Tensor, Tensor, Tensor | None]:
        x0, share = self.denoiser.estimate(torch.cat([x, x]), _twice(at), self._joined)
        with_, without = x0.chunk(2)
        return with_, without, None if share is None else share.chunk(2)[0]

    def _rescaled(self, guided: Tensor, with_: Tensor, x: Tensor, at: Point) -> Tensor:
        return _rescaled(guided, with_, x, at, self.rescale, self.rescaled_as) if self.rescale else guided


@dataclass(frozen=True, eq=False)
class Apart:
    """Away from what a worse model says: autoguidance (Karras et al. 2024, arXiv:2406.02507, eq. 4)."""

    good: Denoise
    bad: Denoise
    """A smaller or less trained one of the same kind."""
    weight: Scalar
    combine: Combine = extrapolate

    def __call__(self, x: Tensor, at: Point) -> Tensor:
        """x₀."""
        return self.combine(self.good(x, at), self.bad(x, at), self.weight)

    def recall(self, x: Tensor, at: Point, memory: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """x₀, and the new memory."""
        return _combined(self.combine, self.good(x, at), self.bad(x, at), self.weight, memory)


@dataclass(frozen=True, eq=False)
class Within:
    """One denoiser at some noises, another at all others (Kynkäänniemi et al. 2024, arXiv:2404.07724).

    Only one of them is asked where the point is of plain numbers; both, where it is of tensors.

    >>> from tectum.diffusion.schedules import edm
    >>> guided = Within(lambda x, at: x + 1, lambda x, at: x, low=0.2, high=5.0)
    >>> guided(torch.zeros(1), edm().at(1.0)), guided(torch.zeros(1), edm().at(9.0))
    (tensor([1.]), tensor([0.]))
    """

    inside: Denoise
    outside: Denoise
    low: float
    """The least noise σ/α of the inside."""
    high: float

    def __call__(self, x: Tensor, at: Point) -> Tensor:
        """x₀."""
        within = self._within(at)
        if isinstance(within, Tensor):
            return choose(within, self.inside(x, at), self.outside(x, at))
        return self.inside(x, at) if within else self.outside(x, at)

    def recall(self, x: Tensor, at: Point, memory: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """x₀, and the new memory: that of a sample is left as it is where the sample is outside."""
        within = self._within(at)
        if not isinstance(within, Tensor):
            return recall(self.inside, x, at, memory) if within else (self.outside(x, at), memory)
        x0, new = recall(self.inside, x, at, memory)
        if new is not None:
            new = choose(within, new, torch.zeros_like(new) if memory is None else memory)
        return choose(within, x0, self.outside(x, at)), new

    def _within(self, at: Point) -> bool | Tensor:
        return (at.sigma >= self.low * at.alpha) & (at.sigma <= self.high * at.alpha)


@dataclass(frozen=True, eq=False)
class _Limited(ABC):
    """A denoiser whose x₀ is kept to its range."""

    denoiser: Denoise

    def __call__(self, x: Tensor, at: Point) -> Tensor:
        """x₀."""
        return self._limited(self.denoiser(x, at))

    def estimate(self, x: Tensor, at: Point) -> Estimate:
        """x₀, and the learned variance of the denoiser."""
        said = estimate(self.denoiser, x, at)
        return Estimate(self._limited(said.x0), said.share)

    def recall(self, x: Tensor, at: Point, memory: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """x₀, and the new memory."""
        x0, memory = recall(self.denoiser, x, at, memory)
        return self._limited(x0), memory

    @abstractmethod
    def _limited(self, x0: Tensor) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class Clamped(_Limited):
    """x₀ cut off at ± a limit."""

    limit: float = 1.0

    def _limited(self, x0: Tensor) -> Tensor:
        return x0.clamp(-self.limit, self.limit)


@dataclass(frozen=True, eq=False)
class Thresholded(_Limited):
    """Dynamic thresholding (Saharia et al. 2022, arXiv:2205.11487, §2.3): x₀ cut off at a quantile of its sizes and scaled to 1.

    >>> from tectum.diffusion.schedules import edm
    >>> Thresholded(lambda x, at: x, quantile=1.0)(torch.tensor([[4.0, -2.0], [0.5, 0.1]]), edm().at(1.0))
    tensor([[ 1.0000, -0.5000],
            [ 0.5000,  0.1000]])
    """

    quantile: float = 0.995
    ceiling: float = float("inf")
    """The quantile counts as no more than this."""

    def _limited(self, x0: Tensor) -> Tensor:
        limit = x0.flatten(1).abs().quantile(self.quantile, dim=1).clamp(1.0, self.ceiling)
        limit = limit.reshape(-1, *[1] * (x0.ndim - 1))
        return x0.clamp(-limit, limit) / limit


def _twice(at: Point) -> Point:
    values = (torch.cat([value, value]) if isinstance(value, Tensor) and value.ndim else value for value in at)
    return Point(*values)


def _rescaled(guided: Tensor, with_: Tensor, x: Tensor, at: Point, share: float, kind: Prediction | None) -> Tensor:
    plain = Prediction("x0")
    kind = kind or plain
    value, wanted = plain.convert(guided, x, at, kind), plain.convert(with_, x, at, kind)
    dims = tuple(range(1, x.ndim))
    factor = wanted.std(dims, keepdim=True) / value.std(dims, keepdim=True).clamp(min=1e-12)
    return kind.convert(value * (share * factor + 1 - share), x, at, plain)
