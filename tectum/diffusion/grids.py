"""Grids: the points a sampler visits, from noise to data, as a plain tuple.

N steps are N + 1 points, and N evaluations of a first-order solver: the denoiser is never asked at the last.

A point carries its own time, α and σ, so nothing is ever looked up in a table by equality, and times that come twice are no
problem. Spacings of a table are made with integers: computed in floating point, as others have it, "trailing" gives N + 1
steps for 62 of the N up to 1000 (61, 103, 121, …), the last of them before the table begins.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from tectum.diffusion.process import Point, Process
from tectum.diffusion.tables import Table
from tectum.diffusion.zero_terminal import ZeroTerminal

Grid = tuple[Point, ...]


def at_times(process: Process, times: Iterable[float], *, to_data: bool = True) -> Grid:
    """The points at given times, and the data at the end if so asked.

    >>> from tectum.diffusion.schedules import flow
    >>> [point.sigma for point in at_times(flow(), (1.0, 0.5))]
    [1.0, 0.5, 0.0]
    """
    return _points(process.at(torch.tensor(list(times), dtype=torch.float64)), process, to_data)


def at_lams(process: Process, lams: Iterable[float], *, to_data: bool = True) -> Grid:
    """The points at given λ, and the data at the end if so asked."""
    return _points(process.at_lam(torch.tensor(list(lams), dtype=torch.float64)), process, to_data)


def uniform(process: Process, steps: int, *, start: float | None = None, end: float | None = None, to_data: bool = True) -> Grid:
    """Equal steps in time from `start`, the schedule's noisiest time, to `end`, its least noisy.

    With `to_data` the last step goes on from there to the data; a grid of `steps` has that many steps either way. Flow
    models take start = 1 and end = 1/steps: then all steps are alike, the last included.

    >>> from tectum.diffusion.schedules import flow
    >>> [point.time for point in uniform(flow(), 4, start=1.0, end=0.25)]
    [1.0, 0.75, 0.5, 0.25, 0.0001]
    """
    low, high = process.schedule.span
    times = _linspace(high if start is None else start, low if end is None else end, _nodes(steps, to_data))
    return at_times(process, times.tolist(), to_data=to_data)


def trailing(process: Process, steps: int) -> Grid:
    """Every (T/N)-th entry of a table, counted from its last, the first point (Lin et al. 2023, arXiv:2305.08891, table 2).

    >>> from tectum.diffusion.tables import linear_betas, table
    >>> [point.time for point in trailing(table(linear_betas(1000)), 4)]
    [999.0, 749.0, 499.0, 249.0, 0.0]
    """
    length = _length(process, steps)
    return at_times(process, (_round_half_even(length * left, steps) - 1 for left in range(steps, 0, -1)))


def leading(process: Process, steps: int, *, offset: int = 0) -> Grid:
    """Every ⌊T/N⌋-th entry of a table, counted from its first, plus an offset: DDIM's, and Stable Diffusion's with offset = 1.

    It never begins at the last entry, so sampling starts from noisier pictures than the first point promises.

    >>> from tectum.diffusion.tables import linear_betas, table
    >>> [point.time for point in leading(table(linear_betas(1000)), 4, offset=1)]
    [751.0, 501.0, 251.0, 1.0, 0.0]
    """
    length = _length(process, steps)
    if not 0 <= offset <= length - 1 - (steps - 1) * (length // steps):
        raise ValueError(
            f"offset = {offset} leaves the table of {length} times at {steps} steps: take a smaller one, 0 always fits"
        )
    return at_times(process, (left * (length // steps) + offset for left in range(steps - 1, -1, -1)))


def linspace(process: Process, steps: int) -> Grid:
    """Entries of a table from its last to its first, evenly and rounded.

    >>> from tectum.diffusion.tables import linear_betas, table
    >>> [point.time for point in linspace(table(linear_betas(1000)), 4)]
    [999.0, 666.0, 333.0, 0.0, 0.0]
    """
    length = _length(process, steps)
    if steps == 1:
        return at_times(process, (length - 1,))
    return at_times(process, (_round_half_even((length - 1) * left, steps - 1) for left in range(steps - 1, -1, -1)))


def karras(
    process: Process,
    steps: int,
    *,
    noise_min: float | None = None,
    noise_max: float | None = None,
    rho: float = 7.0,
    to_data: bool = True,
) -> Grid:
    """(σ/α)^(1/ρ) falls evenly from `noise_max` to `noise_min` (Karras et al. 2022, arXiv:2206.00364, eq. 5).

    Left out, they are those of the schedule's span.

    >>> from tectum.diffusion.schedules import edm
    >>> [round(point.sigma, 3) for point in karras(edm(), 4)]
    [80.0, 9.723, 0.47, 0.002, 0.0]
    """
    low, high = _noises(process, noise_min, noise_max)
    if rho <= 0:
        raise ValueError(f"rho = {rho} must be above 0; 7 is usual")
    noises = _linspace(high ** (1 / rho), low ** (1 / rho), _nodes(steps, to_data)) ** rho
    return at_lams(process, (-noises.log()).tolist(), to_data=to_data)


def exponential(
    process: Process, steps: int, *, noise_min: float | None = None, noise_max: float | None = None, to_data: bool = True
) -> Grid:
    """λ rises evenly: each step lowers σ/α by the same factor (Lu et al. 2022, arXiv:2206.00927, §4).

    >>> from tectum.diffusion.schedules import edm
    >>> [round(point.sigma, 3) for point in exponential(edm(0.01, 100.0), 5)]
    [100.0, 10.0, 1.0, 0.1, 0.01, 0.0]
    """
    low, high = _noises(process, noise_min, noise_max)
    ends = torch.tensor([high, low], dtype=torch.float64).log()
    return at_lams(process, (-_linspace(ends[0].item(), ends[1].item(), _nodes(steps, to_data))).tolist(), to_data=to_data)


def tail(grid: Grid, strength: float) -> Grid:
    """The last part of a grid, `strength` of its steps (at least one): from there a noised picture becomes another like it.

    >>> from tectum.diffusion.schedules import edm
    >>> [round(point.sigma, 3) for point in tail(exponential(edm(0.01, 100.0), 5), 0.6)]
    [1.0, 0.1, 0.01, 0.0]
    """
    if not 0 < strength <= 1:
        raise ValueError(f"strength = {strength} is outside 0 … 1: 1 keeps nothing of the picture")
    return grid[len(grid) - 1 - max(1, round(strength * (len(grid) - 1))) :]


def budgets(grids: Sequence[Grid]) -> Grid:
    """One grid for a batch whose samples each have a grid of their own: points of tensors [n].

    A sample that has arrived waits: a step from a point to itself changes nothing. The batch takes as many steps as its
    longest grid.

    >>> from tectum.diffusion.schedules import edm
    >>> [point.sigma.tolist() for point in budgets([at_times(edm(), (4.0,)), at_times(edm(), (4.0, 1.0))])]
    [[4.0, 4.0], [0.0, 1.0], [0.0, 0.0]]
    """
    if not grids or not all(grids):
        raise ValueError("budgets need a grid for each sample, none of them empty")
    longest = max(map(len, grids))
    padded = [(*grid, *[grid[-1]] * (longest - len(grid))) for grid in grids]
    return tuple(
        Point(*(torch.tensor(values, dtype=torch.float64) for values in zip(*row, strict=True)))
        for row in zip(*padded, strict=True)
    )


def on_device(grid: Grid, device: torch.device | str = "cpu") -> Grid:
    """The same points as tensors: what a compiled step takes, so that one compilation serves every step of every grid."""
    return tuple(Point(*(torch.as_tensor(value, dtype=torch.float64, device=device) for value in point)) for point in grid)


def _points(points: Point, process: Process, to_data: bool) -> Grid:
    rows = zip(*(torch.as_tensor(values).tolist() for values in points), strict=True)
    grid = tuple(Point(*row) for row in rows)
    if not grid:
        raise ValueError("a grid needs at least one step")
    return (*grid, process.data()) if to_data else grid


def _nodes(steps: int, to_data: bool) -> int:
    if steps < 1:
        raise ValueError(f"a grid of {steps} steps goes nowhere: take at least one")
    return steps if to_data else steps + 1


def _linspace(start: float, end: float, nodes: int) -> Tensor:
    return torch.linspace(start, end, nodes, dtype=torch.float64)


def _round_half_even(a: int, b: int) -> int:
    """a/b to the nearest integer, halves to the even one, without ever leaving the integers."""
    whole, rest = divmod(a, b)
    return whole + (2 * rest > b or (2 * rest == b and whole % 2 == 1))


def _length(process: Process, steps: int) -> int:
    schedule = process.schedule.base if isinstance(process.schedule, ZeroTerminal) else process.schedule
    if not isinstance(schedule, Table):
        raise ValueError(f"{type(schedule).__name__} is no table of times: take a uniform, Karras or exponential grid")
    if not 1 <= steps <= schedule.length:
        raise ValueError(f"{steps} steps do not fit a table of {schedule.length} times: take between 1 and {schedule.length}")
    return schedule.length


def _noises(process: Process, low: float | None, high: float | None) -> tuple[float, float]:
    """σ/α at the ends."""
    ends = (-process.lam(torch.tensor(process.schedule.span, dtype=torch.float64))).exp().tolist()
    low, high = ends[0] if low is None else low, ends[1] if high is None else high
    if not 0 < low < high or high == float("inf"):
        raise ValueError(
            f"noise from {high} down to {low}: both must be finite, above 0 and falling; a schedule that ends in "
            "pure noise needs noise_max"
        )
    return low, high
