"""Noise that is a function of (seed, sample, step, element): a picture does not change with its batch, its order or its device.

A counter is enciphered, and what comes out is as good as random: Philox-4x32-10 (Salmon et al. 2011, "Parallel random
numbers: as easy as 1, 2, 3"). Every value is had at once, without a state that depends on what was drawn before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tectum.diffusion.process import Point
from tectum.diffusion.scalars import placed

_WORD = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_START, _STEP = 0, 1  # what a number is for: the last word of its counter. `brownian` takes those from 16 on.

Words = tuple[Tensor, Tensor, Tensor, Tensor]


class Noise(Protocol):
    """Where a solver has its noise from."""

    def __call__(self, x: Tensor, step: int | Tensor, here: Point, there: Point) -> Tensor:
        """Unit normal numbers shaped like x [n, …] for a step from one point to another, `step` steps after the start."""
        ...


@dataclass(frozen=True, eq=False)
class Independent:
    """Noise that is new at every step.

    >>> alone, batch = Independent(7, torch.tensor([5])), Independent(7, torch.tensor([3, 4, 5]))
    >>> torch.equal(alone.start((2, 8, 8)), batch.start((2, 8, 8))[2:])
    True
    """

    seed: int
    samples: Tensor
    """Numbers of the samples, int64 [n], 0 … 2³²-1: who they are, not where they stand in the batch."""

    def __call__(self, x: Tensor, step: int | Tensor, here: Point, there: Point) -> Tensor:
        """Of a step; the points do not matter."""
        return normal(self.seed, self.samples.to(home(x.device)), step, _STEP, x.shape[1:]).to(x)

    def start(self, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
        """To begin from, [n, *shape], on the device of `samples`."""
        numbers = normal(self.seed, self.samples.to(home(self.samples.device)), 0, _START, shape)
        return numbers.to(self.samples.device, dtype)


def normal(seed: int, samples: Tensor, step: int | Tensor, purpose: int | Tensor, shape: tuple[int, ...]) -> Tensor:
    """Unit normal numbers [n, *shape] in double precision, by the method of Box and Muller.

    In double precision devices differ in the last place at most; rounded to single precision they agree.

    Args:
        seed: any integer; 64 bits of it count.
        samples: int64 [n], 0 … 2³²-1.
        step: 0 … 2³²-1, for all samples or [n].
        purpose: 0 … 2³²-1, likewise.
        shape: of one sample.
    """
    count = math.prod(shape)
    block = torch.arange((count + 3) // 4, device=samples.device)
    words = philox((block[None], _column(step, samples), samples[:, None], _column(purpose, samples)), seed)
    pairs = []
    for first, second in (words[:2], words[2:]):
        radius = (-2 * ((first + 0.5) * 2.0**-32).log()).sqrt()
        angle = (second + 0.5) * (2 * math.pi * 2.0**-32)
        pairs += [radius * angle.cos(), radius * angle.sin()]
    return torch.stack(pairs, -1).flatten(1)[:, :count].reshape(len(samples), *shape)


def philox(counter: Words, seed: int) -> Words:
    """Four words of 32 bits for each counter of four words, as int64 tensors of one shape after broadcasting.

    >>> zero = torch.zeros(1, dtype=torch.int64)
    >>> [f"{word.item():08x}" for word in philox((zero, zero, zero, zero), 0)]
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    a, b, c, d = counter
    low, high = seed & _WORD, (seed >> 32) & _WORD
    for turn in range(10):
        key = ((low + turn * _WEYL[0]) & _WORD, (high + turn * _WEYL[1]) & _WORD)
        (high_a, low_a), (high_c, low_c) = _multiply(a, _MULTIPLIERS[0]), _multiply(c, _MULTIPLIERS[1])
        a, b, c, d = (high_c ^ b).bitwise_xor_(key[0]), low_c, (high_a ^ d).bitwise_xor_(key[1]), low_a
    return a, b, c, d


def _multiply(a: Tensor, b: int) -> tuple[Tensor, Tensor]:
    """Upper and lower word of a product. Integers of 64 bits wrap round, so the bits are right though the sign may not be."""
    product = a * b
    return (product >> 32).bitwise_and_(_WORD), product.bitwise_and_(_WORD)


def _column(value: int | Tensor, samples: Tensor) -> Tensor:
    return placed(value, samples).reshape(-1, 1)


def home(device: torch.device) -> torch.device:
    """Where the numbers for a device are made: there, unless it has no double precision (Metal)."""
    return torch.device("cpu") if device.type == "mps" else device
