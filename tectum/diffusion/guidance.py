"""Guidance: functions from denoisers to a denoiser, in x₀, where it is the same as in ε, v or score at one and the same x.

    Given(denoiser, cond)                        a model and what it is told
    ClassifierFree(denoiser, cond, negative, w)  two answers in one batched call, w times as far apart
    Apart(good, bad, w)                          the same of two models: autoguidance
    Within(inside, outside, low, high)           guidance at some noises only
    Clamped(denoiser, 1.0), Thresholded(…)       x₀ kept to its range

A model whose guidance is distilled takes its weight as a condition: Given(denoiser, {"class": …, "guidance": w}).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tectum.diffusion.denoiser import Conditions, Denoise, Denoiser, Estimate
from tectum.diffusion.predictions import Prediction
from tectum.diffusion.process import Point
from tectum.diffusion.scalars import Scalar, choose, spread

Combine = Callable[[Tensor, Tensor, Scalar], Tensor]
"""(with, without, w) to the guided x₀."""


def extrapolate(with_: Tensor, without: Tensor, weight: Scalar) -> Tensor:
    """without + w (with - without) (Ho & Salimans 2022, arXiv:2207.12598, eq. 6, whose w is this one less 1).

    >>> extrapolate(torch.tensor([[2.0]]), torch.tensor([[1.0]]), 3.0)
    tensor([[4.]])
    """
    return without + spread(weight, with_) * (with_ - without)


@dataclass(frozen=True)
class Projected:
    """Adaptive projected guidance (Sadat et al. 2024, arXiv:2410.02416, alg. 1, without its memory of earlier steps).

    The part of the difference that is parallel to x₀ makes colours glaring, and is left out; the rest is kept to a
    radius. So w may be large.

    >>> Projected()(torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, -1.0]]), 3.0)
    tensor([[2., 2.]])
    """

    parallel: float = 0.0
    """η: how much of the parallel part is kept; 1 is plain guidance."""
    radius: float | None = None
    """r: the norm of the difference of a sample is at most so large; a share of √elements, about 0.1, is usual."""

    def __call__(self, with_: Tensor, without: Tensor, weight: Scalar) -> Tensor:
        """The guided x₀."""
        direction, base = (with_ - without).flatten(1), with_.flatten(1)
        if self.radius is not None:
            direction = direction * (self.radius / direction.norm(dim=1, keepdim=True).clamp(min=1e-12)).clamp(max=1.0)
        along = (direction * base).sum(1, keepdim=True) / (base**2).sum(1, keepdim=True).clamp(min=1e-12) * base
        kept = (direction - along + self.parallel * along).view_as(with_)
        return with_ + (spread(weight, with_) - 1) * kept


@dataclass(frozen=True, eq=False)
class Given:
    """A denoiser with its conditions."""

    denoiser: Denoiser
    cond: Conditions

    def __call__(self, x: Tensor, at: Point) -> Tensor:
        """x₀."""
        return self.denoiser(x, at, self.cond)

    def estimate(self, x: Tensor, at: Point) -> Estimate:
        """x₀ and the learned variance."""
        return self.denoiser.estimate(x, at, self.cond)


@dataclass(frozen=True, eq=False)
class ClassifierFree:
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

    def __post_init__(self) -> None:
        shapes = [{name: value.shape for name, value in cond.items()} for cond in (self.cond, self.negative)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"conditions {shapes[0]} and {shapes[1]} cannot go into one batch: give both the same names and shapes"
            )

    def __call__(self, x: Tensor, at: Point) -> Tensor:
        """x₀."""
        return self.estimate(x, at).x0

    def estimate(self, x: Tensor, at: Point) -> Estimate:
        """x₀, and the learned variance of the answer to `cond`."""
        both = {name: torch.cat([value, self.negative[name]]) for name, value in self.cond.items()}
        x0, share = self.denoiser.estimate(torch.cat([x, x]), _twice(at), both)
        with_, without = x0.chunk(2)
        guided = self.combine(with_, without, self.weight)
        if self.rescale:
            guided = _rescaled(guided, with_, x, at, self.rescale, self.rescaled_as)
        return Estimate(guided, None if share is None else share.chunk(2)[0])


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
        within = (at.sigma >= self.low * at.alpha) & (at.sigma <= self.high * at.alpha)
        if isinstance(within, Tensor):
            return choose(within, self.inside(x, at), self.outside(x, at))
        return self.inside(x, at) if within else self.outside(x, at)


@dataclass(frozen=True, eq=False)
class Clamped:
    """x₀ cut off at ± a limit."""

    denoiser: Denoise
    limit: float = 1.0

    def __call__(self, x: Tensor, at: Point) -> Tensor:
        """x₀."""
        return self.denoiser(x, at).clamp(-self.limit, self.limit)


@dataclass(frozen=True, eq=False)
class Thresholded:
    """Dynamic thresholding (Saharia et al. 2022, arXiv:2205.11487, §2.3): x₀ cut off at a quantile of its sizes and scaled to 1.

    >>> from tectum.diffusion.schedules import edm
    >>> Thresholded(lambda x, at: x, quantile=1.0)(torch.tensor([[4.0, -2.0], [0.5, 0.1]]), edm().at(1.0))
    tensor([[ 1.0000, -0.5000],
            [ 0.5000,  0.1000]])
    """

    denoiser: Denoise
    quantile: float = 0.995
    ceiling: float = float("inf")
    """The quantile counts as no more than this."""

    def __call__(self, x: Tensor, at: Point) -> Tensor:
        """x₀."""
        x0 = self.denoiser(x, at)
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
