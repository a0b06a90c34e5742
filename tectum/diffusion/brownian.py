"""Noise that is the increments of one Brownian path, however the path is cut: N and 2N steps follow the same path.

The path W(u) lives on u = σ/(α+σ), in 0 … 1, so it is the same in every frame. It is the sum of tents of P. Lévy: u Z₀ plus,
for each level j and each of its 2^(j-1) intervals, a tent of height ½ 2^(-(j-1)/2) times a unit normal number. Of each level
only the tent over u counts, so a value takes one number for each level, each keyed by (seed, sample, level, interval,
element).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tectum.diffusion.noise import Independent, home, normal
from tectum.diffusion.process import Point
from tectum.diffusion.scalars import placed, spread

_LEVELS = 24
_PURPOSE = 16


@dataclass(frozen=True, eq=False)
class Brownian:
    """Noise of steps as increments of a path, scaled to unit variance.

    Times are rounded to multiples of 2⁻²⁴, where the values have exactly the law of a Brownian path. A step below that has
    no noise.

    >>> from tectum.diffusion.schedules import flow
    >>> x, noise, at = torch.zeros(1, 4), Brownian(3, torch.tensor([0])), flow().at
    >>> halves = noise(x, 0, at(1.0), at(0.75)) / 2 + noise(x, 1, at(0.75), at(0.5)) / 2  # each times √¼
    >>> torch.allclose(halves, noise(x, 0, at(1.0), at(0.5)) * 0.5**0.5, atol=1e-6)
    True
    """

    seed: int
    samples: Tensor
    """Numbers of the samples, int64 [n], 0 … 2³²-1."""

    def __call__(self, x: Tensor, step: int | Tensor, here: Point, there: Point) -> Tensor:
        """Of a step, from the points alone: going back and forth gives the same noise again."""
        clock = self.samples.to(home(x.device)).double()
        start, end = ((placed(point.flow_time, clock) * 2**_LEVELS).round().long() for point in (here, there))
        values = self._values(x, torch.stack([place.expand(len(x)) for place in (start, end)]))
        difference = values[0] - values[1]
        width = (start - end).abs().clamp(min=1).double() / 2**_LEVELS
        return difference.to(x) / spread(width.sqrt().to(x), x)

    def start(self, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
        """To begin from, as that of `Independent`."""
        return Independent(self.seed, self.samples).start(shape, dtype)

    def _values(self, x: Tensor, places: Tensor) -> Tensor:
        """W at places/2²⁴ [2, n]: [2, n, …] in double precision."""
        device = home(x.device)
        samples = self.samples.to(device)
        total = torch.zeros((2, *x.shape), dtype=torch.float64, device=device)
        # Many levels at once while samples are small, few while they are large: memory stays that of some millions of numbers.
        for chosen in torch.arange(_LEVELS + 1, device=device).split(max(1, 2**21 // max(1, x.numel()))):
            levels = chosen[:, None, None]
            bits = _LEVELS + 1 - levels  # of the place within its interval
            within = places & (1 << bits) - 1
            tent = torch.minimum(within, (1 << bits) - within).double() * 2.0 ** (-bits - (levels - 1) / 2)
            height = torch.where(levels == 0, places.double() / 2**_LEVELS, tent)
            interval = torch.where(levels == 0, 0, places >> bits)  # [levels, 2, n]
            purpose = (_PURPOSE + levels).expand_as(interval)
            who = samples.expand_as(interval)
            numbers = normal(self.seed, who.flatten(), interval.flatten(), purpose.flatten(), x.shape[1:])
            for tents in (numbers * spread(height.flatten(), numbers)).unflatten(0, interval.shape):
                total = total + tents  # one by one, so that rounding does not depend on how many there are at once
        return total
