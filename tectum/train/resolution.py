"""Pictures that grow during a run: small ones teach most of it at a fraction of the work, and the last steps see the full size.

Progressive resizing as in EfficientNetV2 (Tan & Le 2021, arXiv:2104.00298, §4) and, for CLIP, CLIPA (Li et al. 2023,
arXiv:2305.07017). The end at full size matters: objects look larger to a network that was trained on cut-outs than they are in
whole pictures of the same size (FixRes, Touvron et al. 2019, arXiv:1906.06423).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from tectum.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Growth:
    """Sides of the pictures, and the shares of the run at which each starts.

    Raises ConfigError if the two are not of one length, or the starts do not rise from 0 to below 1.

    >>> growth = Growth(sizes=(32, 64), starts=(0.0, 0.75))
    >>> [growth.side(step, 100) for step in (0, 74, 75, 99)]
    [32, 32, 64, 64]
    """

    sizes: tuple[int, ...]
    starts: tuple[float, ...]

    def __post_init__(self) -> None:
        rising = all(start < end for start, end in pairwise((*self.starts, 1.0)))
        if len(self.sizes) != len(self.starts) or not self.sizes or self.starts[0] != 0 or not rising:
            raise ConfigError(
                f"sizes {self.sizes} start at {self.starts}: give each size a share of the run, rising from 0 to below 1"
            )

    def side(self, step: int, steps: int) -> int:
        """The side of the pictures of a step (from 0) of a run of `steps`."""
        return next(
            side for side, start in zip(reversed(self.sizes), reversed(self.starts), strict=True) if step >= start * steps
        )

    def work(self, *, power: float = 2.0) -> float:
        """The work of the whole run as a share of the same steps at the last size, where a step takes side^power.

        A convolution has a power of 2; attention among all patches tends to 4.

        >>> Growth(sizes=(32, 64), starts=(0.0, 0.5)).work()
        0.625
        """
        parts = zip(self.sizes, pairwise((*self.starts, 1.0)), strict=True)
        return sum((end - start) * (side / self.sizes[-1]) ** power for side, (start, end) in parts)
