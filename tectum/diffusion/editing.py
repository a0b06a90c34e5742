"""What else a sampler is good for: changing a picture, filling a hole in it, going back to its noise, going between two.

All of it is a start, a grid or a step for `solvers.state.sample`; nothing here knows what is being made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tectum.diffusion.denoiser import Denoise
from tectum.diffusion.grids import Grid
from tectum.diffusion.marginals import forward, transition
from tectum.diffusion.noise import Noise
from tectum.diffusion.process import Point
from tectum.diffusion.scalars import combine, placed
from tectum.diffusion.solvers.state import State, Step


def noised(data: Tensor, noise: Tensor, grid: Grid) -> State:
    """Data [n, …] as they look at the first point of a grid: where a change to them begins (Meng et al. 2022, arXiv:2108.01073).

    `grids.tail(grid, strength)` is the grid that keeps all but a share of them.

    >>> from tectum.diffusion.grids import tail, uniform
    >>> from tectum.diffusion.schedules import flow
    >>> noised(torch.ones(1), torch.zeros(1), tail(uniform(flow(), 4, start=1.0, end=0.25), 0.5)).x
    tensor([0.5000])
    """
    return State(forward(data, noise, grid[0]))


@dataclass(frozen=True, eq=False)
class Keeping:
    """A step after which everything outside a mask is the data that were there, with as much noise as is due.

    The noise outside is one and the same all the way, so a solver with a memory sees one path; at the end the data are exactly
    as they were. What fills the hole is made to fit by going over each step several times, with new noise put back in between
    (Lugmayr et al. 2022, arXiv:2201.09865, eq. 8 and alg. 1): going over it once, the hole is filled without much of a look at
    what is around, and on two far Gaussians one in four fillings belongs to the other one.

    >>> from tectum.diffusion.schedules import flow
    >>> from tectum.diffusion.solvers.ancestral import Ancestral
    >>> hole = torch.tensor([[True, False]])
    >>> step = Keeping(Ancestral(), data=torch.full((1, 2), 7.0), noise=torch.zeros(1, 2), hole=hole)
    >>> step(State(torch.ones(1, 2)), lambda x, at: torch.zeros_like(x), flow().at(1.0), flow().at(0.5)).x
    tensor([[0.5000, 3.5000]])
    """

    step: Step
    data: Tensor
    """[n, …]."""
    noise: Tensor
    """Unit normal, [n, …]."""
    hole: Tensor
    """True, or 1, where something new is wanted; broadcasts to the data. Between 0 and 1 the two are mixed."""
    turns: int = 1
    """How often each step is gone over."""
    renewal: Noise | None = None
    """The new noise; needed if there is more than one turn."""

    def __post_init__(self) -> None:
        if self.turns < 1 or (self.turns > 1 and self.renewal is None):
            raise ValueError(f"{self.turns} turns: take one, or more and the noise for them")

    def __call__(self, state: State, denoiser: Denoise, here: Point, there: Point) -> State:
        """The step."""
        for turn in range(self.turns):
            new = self.step(state, denoiser, here, there)
            new = new._replace(x=torch.lerp(forward(self.data, self.noise, there), new.x, self.hole.to(new.x)))
            if turn + 1 < self.turns and self.renewal is not None:
                kernel = transition(there, here)
                fresh = self.renewal(new.x, state.step * self.turns + turn, there, here)
                # What the solver has seen belongs to a path that ends here.
                state = state._replace(x=combine((kernel.on_x, new.x), (kernel.std, fresh)), past=())
        return new


def backwards(grid: Grid) -> Grid:
    """The grid from data to noise: along it a deterministic solver finds the noise that becomes them (DDIM inversion,
    Song et al. 2021, arXiv:2010.02502, §4.3).

    The data themselves are left out, where the noise that is asked for cannot be told.

    >>> from tectum.diffusion.grids import uniform
    >>> from tectum.diffusion.schedules import flow
    >>> [round(point.sigma, 2) for point in backwards(uniform(flow(), 4, start=1.0, end=0.25))]
    [0.25, 0.5, 0.75, 1.0]
    """
    kept = [point for point in reversed(grid) if point.sigma > 0]
    if len(kept) < 2:
        raise ValueError(f"a grid of {len(kept)} noisy points has no way back: take more steps")
    return tuple(kept)


def slerp(a: Tensor, b: Tensor, share: float | Tensor) -> Tensor:
    """Between two noises [n, …] along the great circle, so that what lies between is as much noise as they are (Shoemake 1985).

    Args:
        a: at share 0.
        b: at share 1.
        share: a number, or one for each sample [n].

    >>> slerp(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), 0.5)
    tensor([[0.7071, 0.7071]])
    """
    share = placed(share, a).reshape(-1, *[1] * (a.ndim - 1))
    first, second = a.flatten(1), b.flatten(1)
    cosine = (first * second).sum(1) / (first.norm(dim=1) * second.norm(dim=1)).clamp(min=1e-12)
    angle = cosine.clamp(-1, 1).acos().reshape(-1, *[1] * (a.ndim - 1))
    near = angle < 1e-4  # and so is a line; where they are opposite, every way round is as good as another
    sine = torch.where(near, 1.0, angle.sin().clamp(min=1e-6))
    left = torch.where(near, 1 - share, ((1 - share) * angle).sin() / sine)
    right = torch.where(near, share, (share * angle).sin() / sine)
    return left * a + right * b


class Beside(nn.Module):
    """A network that is shown another grid beside its own: what it is to enlarge, colour or fill (Saharia et al. 2021,
    arXiv:2104.07636; cascades: Ho et al. 2021, arXiv:2106.15282).

    The condition `name` [n, c', …], of any sizes, is brought to the sizes of x and joins its channels; the network sees no more
    of it, and has c + c' channels coming in.

    >>> network = Beside(lambda x, time, cond: x[:, :3], "small", "bilinear")
    >>> network(torch.zeros(1, 3, 8, 8), torch.zeros(1), {"small": torch.zeros(1, 3, 4, 4)}).shape
    torch.Size([1, 3, 8, 8])
    """

    def __init__(
        self, network: Callable[[Tensor, Tensor, Mapping[str, Tensor]], Tensor], name: str, mode: str = "nearest"
    ) -> None:
        super().__init__()
        self.network, self.name, self.mode = network, name, mode

    def forward(self, x: Tensor, time: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        """x [n, c, …], times [n] and conditions, `name` among them, to what the network says.

        Raises:
            ValueError: if there is no such condition.
        """
        if self.name not in cond:
            raise ValueError(f"this network is shown {self.name!r} beside what it works on: give it as a condition")
        shown = cond[self.name]
        if shown.shape[2:] != x.shape[2:]:
            shown = nn.functional.interpolate(shown, x.shape[2:], mode=self.mode)
        rest = {name: value for name, value in cond.items() if name != self.name}
        return self.network(torch.cat((x, shown.to(x)), dim=1), time, rest)
