"""Random choices that are a pure function of a key."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """A stream of choices that depends on the key alone, on any machine.

    Only `random.Random(str).random()` is used, whose sequence Python promises to keep across versions.

    >>> Dice(7, 3, "scene").below(6) == Dice(7, 3, "scene").below(6)
    True
    """

    def __init__(self, *key: object) -> None:
        self.random = random.Random("/".join(map(str, key))).random

    def below(self, n: int) -> int:
        """A whole number in 0 … n − 1."""
        return int(self.random() * n)

    def chance(self, p: float) -> bool:
        """True with probability p."""
        return self.random() < p

    def uniform(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + self.random() * (high - low)

    def pick(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[self.below(len(options))]

    def shuffled(self, options: Sequence[T]) -> list[T]:
        """The options in a random order (Fisher and Yates)."""
        order = list(options)
        for last in range(len(order) - 1, 0, -1):
            other = self.below(last + 1)
            order[last], order[other] = order[other], order[last]
        return order
