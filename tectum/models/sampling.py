"""What is asked of a model that makes pictures, and how: texts or classes, steps and guidance, a picture to begin from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from tectum.diffusion.denoiser import Denoise, Denoiser, Network
from tectum.diffusion.grids import Grid
from tectum.diffusion.noise import Noise
from tectum.diffusion.solvers.state import Step
from tectum.errors import ConfigError

Wanted = Sequence[str] | Sequence[int] | int
"""What pictures are to be of: texts, ids of classes, or a number of pictures of nothing in particular."""


class Route(Protocol):
    """A way from noise to data, as a scheduler plans it."""

    @property
    def grid(self) -> Grid:
        """The points on the way; numbers, no tensors."""
        ...

    @property
    def step(self) -> Step:
        """What goes from one to the next; it may go by `State.step`."""
        ...

    def denoiser(self, network: Network) -> Denoiser:
        """A network with what must be known to use it."""
        ...

    def limited(self, denoiser: Denoise) -> Denoise:
        """A denoiser whose x₀ is kept to its range, if there is one."""
        ...

    def begin(self, noise: Tensor) -> Tensor:
        """Where to start, from unit noise."""
        ...


Planner = Callable[[int, Noise], Route]
"""(steps, noise) to the way."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How pictures are made.

    steps: of the solver.
    guidance: w of classifier-free guidance, of networks that are told something; 1 is none.
    rescale: φ, how far the contrast that guidance adds is taken back (Lin et al. 2023, arXiv:2305.08891, eq. 16).
    negative: what pictures of texts are led away from; None is what the model was trained with for no text.
    seed: of all noise; with the number of a picture it makes that picture, whatever else is in the batch.
    solver: any of `tectum.diffusion.solvers`, on the scheduler's grid; None is the scheduler's own.
    skip: last blocks of the text encoders that are left out beyond those that always are ("clip skip").
    size: height and width in pixels, the size the model was trained for if left out.
    """

    steps: int = 30
    guidance: float = 5.0
    rescale: float = 0.0
    negative: str | None = None
    seed: int = 0
    solver: Step | None = None
    skip: int = 0
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"{self.steps} steps make no picture: take at least one, 20 to 50 are usual")
        if not 0 <= self.rescale <= 1:
            raise ConfigError(f"rescale is {self.rescale}: give a number from 0, which is none, to 1")


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Edit:
    """A picture to begin from.

    picture: [c, h, w] in -1 … 1, of the size that is made.
    strength: how much of the way to noise it is taken, above 0 to 1: 1 keeps nothing of it.
    hole: where something new is wanted, boolean [h, w]; everything else stays. None is everywhere.
    """

    picture: Tensor
    strength: float = 0.6
    hole: Tensor | None = None

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise ConfigError(f"strength is {self.strength}: give a number above 0 and up to 1, which keeps nothing")
        if self.picture.ndim != 3 or (self.hole is not None and self.hole.shape != self.picture.shape[1:]):
            raise ConfigError("a picture to edit is [c, h, w], and its mask [h, w]")
