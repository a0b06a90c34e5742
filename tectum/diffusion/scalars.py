"""Coefficients: one number for a whole batch, or one for each sample.

A step of a solver is a few multiples of tensors, and most of its time goes where the coefficients are made. So a coefficient
is a Python number where it can be one, which costs nothing, and a tensor where it must be one: of shape [n] if the samples
of a batch stand at different times, or [] if a compiled step is to serve every step of every grid. The functions here take
both, and follow IEEE 754 at the ends (log 0 = -∞, 1/0 = ∞, 0/0 = NaN) where Python would raise.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

Scalar = float | Tensor


def log(value: Scalar) -> Scalar:
    """The natural logarithm; -∞ at 0.

    >>> log(0.0), log(torch.tensor(1.0))
    (-inf, tensor(0.))
    """
    if isinstance(value, Tensor):
        return value.log()
    return math.log(value) if value > 0 else -math.inf


def exp(value: Scalar) -> Scalar:
    """The exponential; ∞ where it overflows.

    >>> exp(1e4), exp(-math.inf)
    (inf, 0.0)
    """
    if isinstance(value, Tensor):
        return value.exp()
    return math.exp(value) if value < 709.0 else math.inf


def sqrt(value: Scalar) -> Scalar:
    """The square root of a number that is at least 0, but for rounding.

    >>> sqrt(-1e-17), sqrt(4.0)
    (0.0, 2.0)
    """
    return value.clamp(min=0).sqrt() if isinstance(value, Tensor) else math.sqrt(max(value, 0.0))


def divide(a: Scalar, b: Scalar) -> Scalar:
    """The quotient; infinite or not a number if b is 0.

    >>> divide(1.0, 0.0), divide(0.0, 0.0), divide(3.0, 2.0)
    (inf, nan, 1.5)
    """
    if isinstance(a, Tensor) or isinstance(b, Tensor) or b != 0:
        return a / b
    return math.copysign(math.inf, a) if a else math.nan


def finite(value: Scalar) -> bool | Tensor:
    """Whether it is neither infinite nor NaN."""
    return value.isfinite() if isinstance(value, Tensor) else math.isfinite(value)


def where(condition: bool | Tensor, a: Scalar, b: Scalar) -> Scalar:
    """`a` where the condition holds, else `b`.

    >>> where(True, 1.0, 2.0), where(torch.tensor([True, False]), torch.tensor([1.0, 1.0]), 2.0)
    (1.0, tensor([1., 2.]))
    """
    if isinstance(condition, Tensor):
        return torch.where(condition, a, b)
    return a if condition else b


def choose(condition: bool | Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The samples of `a` where the condition, one or [n], holds, else those of `b`; [n, …].

    >>> choose(torch.tensor([True, False]), torch.zeros(2, 1), torch.ones(2, 1))
    tensor([[0.],
            [1.]])
    """
    if isinstance(condition, Tensor):
        shape = [-1, *[1] * (a.ndim - 1)] if condition.ndim else []
        return torch.where(condition.to(a.device).reshape(shape), a, b)
    return a if condition else b


def spread(value: Scalar, x: Tensor) -> Scalar:
    """The coefficient in a form that multiplies x [n, …]: a tensor [n] becomes [n, 1, …] of the type of x, one [n, …] stays.

    >>> spread(torch.tensor([1.0, 2.0], dtype=torch.float64), torch.zeros(2, 3, 4)).shape
    torch.Size([2, 1, 1])
    """
    if not isinstance(value, Tensor) or value.ndim == 0:
        return value
    if value.ndim == x.ndim:
        return value.to(x)
    return value.to(x).reshape(-1, *[1] * (x.ndim - 1))


def placed(value: Scalar, like: Tensor) -> Tensor:
    """The coefficient as a tensor of the type and on the device of another.

    A number is written there: one that was made a tensor first would have to be copied to a card, and the copy waits for it.

    >>> placed(0.5, torch.zeros(2))
    tensor(0.5000)
    """
    return value.to(like) if isinstance(value, Tensor) else like.new_full((), value)


def combine(*terms: tuple[Scalar, Tensor]) -> Tensor:
    """Σ wᵢ xᵢ, a new tensor, in as few passes over memory as there are terms. One whose weight is the number 0 is not read.

    >>> combine((2.0, torch.ones(2)), (-0.5, torch.ones(2)), (0.0, torch.full((2,), math.nan)))
    tensor([1.5000, 1.5000])
    """
    (first, x), *rest = terms
    begun = isinstance(first, Tensor) or first != 1 or not rest
    total = x * spread(first, x) if begun else x
    for weight, x in rest:
        if isinstance(weight, Tensor):
            total, begun = total + x * spread(weight, x), True
        elif weight != 0:
            # What was made here may be changed in place, which is cheaper.
            own = begun and x.dtype is total.dtype and x.shape == total.shape
            total = total.add_(x, alpha=weight) if own else torch.add(total, x, alpha=weight)
            begun = True
    return total if begun else total.clone()
