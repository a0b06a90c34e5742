"""A grid made for one model: of all grids of N steps through some candidate points, the one that loses least.

In the spirit of "Align your steps" (Sabour et al. 2024, arXiv:2404.14507), by other means. The denoiser is asked along a fine
path once. From that, every step between two candidates can be tried without asking it again, so its error is known; and how much
an error at a point has grown by the end is known from a second path beside the first. The best grid is then found by dynamic
programming, as in Watson et al. 2021 (arXiv:2106.03802), over pairs of steps: a second-order step depends on the one before.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from tectum.diffusion.denoiser import Denoise
from tectum.diffusion.grids import Grid
from tectum.diffusion.process import Point
from tectum.diffusion.scalars import combine
from tectum.diffusion.solvers.exponential import coefficients
from tectum.diffusion.solvers.multistep import Multistep
from tectum.diffusion.solvers.state import sample


def optimised(
    denoiser: Denoise,
    x: Tensor,
    candidates: Grid,
    steps: int,
    *,
    order: Literal[1, 2] = 2,
    nudge: float = 1e-3,
) -> Grid:
    """The candidates to step through with `Multistep(order)`: the first, the last and the best steps - 1 in between.

    It asks the denoiser 2 · (candidates - 1) times, and keeps as many batches in memory. A few dozen samples are enough.

    Args:
        denoiser: the model, guided as it will be used.
        x: samples at the first candidate, [n, …].
        candidates: a fine grid, some 30 to 60 points; each step of the result jumps over some of them.
        steps: of the result.
        order: of the solver that it is for.
        nudge: how far beside the first path the second begins, relative to x.

    Raises:
        ValueError: if there are not more candidates than steps.

    >>> from tectum.diffusion.grids import exponential
    >>> from tectum.diffusion.mixture import Mixture
    >>> from tectum.diffusion.schedules import edm
    >>> data = Mixture(means=torch.tensor([[-1.0], [1.0]]), stds=torch.full((2,), 0.1), weights=torch.full((2,), 0.5))
    >>> grid = optimised(data, torch.linspace(-80, 80, 32)[:, None], exponential(edm(), 30), 6)
    >>> len(grid), round(grid[0].sigma, 6), grid[-1].sigma
    (7, 80.0, 0.0)
    """
    if not 1 <= steps < len(candidates):
        raise ValueError(
            f"{steps} steps through {len(candidates)} candidates: make the fine grid finer, at least {steps + 1} points"
        )
    with torch.no_grad():
        path, answers = _path(denoiser, x, candidates)
        beside, _ = _path(denoiser, x * (1 + nudge), candidates)
        gaps = _size(torch.stack(path).flatten(1) - torch.stack(beside).flatten(1))
        growth = gaps[-1] / gaps.clamp(min=1e-30)
        cost = _costs(path, answers, candidates, order) * growth
    chosen = _cheapest(cost, steps)
    return tuple(candidates[i] for i in chosen)


def _path(denoiser: Denoise, x: Tensor, grid: Grid) -> tuple[list[Tensor], list[Tensor]]:
    """Samples at all points, and the denoiser's answers at all but the last."""
    states = list(sample(Multistep(3), denoiser, x, grid))
    return [state.x for state in states], [state.past[0].x0 for state in states[1:]]


def _costs(path: list[Tensor], answers: list[Tensor], grid: Grid, order: int) -> Tensor:
    """[before, here, there]: the error of a step that starts from the true sample; infinite for what is no step.

    The first step has nothing before it, and stands in the row of its own start.
    """
    m = len(grid)
    cost = torch.full((m, m, m), torch.inf, dtype=torch.float64)
    samples, said = torch.stack(path).flatten(1), torch.stack(answers).flatten(1)
    for here in range(m - 1):
        # All ends of a step at once: points of tensors [m - 1 - here].
        there = Point(*(torch.tensor(values, dtype=torch.float64) for values in zip(*grid[here + 1 :], strict=True)))
        for before in [here] if order == 1 or here == 0 else range(here):
            nodes = [here] if before == here else [here, before]
            kept, weights = coefficients(grid[here], there, [grid[i] for i in nodes])
            terms = [(weight, said[i, None]) for weight, i in zip(weights, nodes, strict=True)]
            error = combine((kept, samples[here, None]), *terms) - samples[here + 1 :]
            cost[before, here, here + 1 :] = _size(error)
    return cost.amin(0, keepdim=True).expand(m, m, m) if order == 1 else cost


def _cheapest(cost: Tensor, steps: int) -> list[int]:
    """The chain of `steps` steps from the first to the last point with the least sum."""
    m = len(cost)
    best = torch.full((m, m), torch.inf, dtype=torch.float64)  # of chains that end with a step here → there
    best[0] = cost[0, 0]
    origins = []
    for _ in range(steps - 1):
        total, origin = (best[:, :, None] + cost).min(0)
        origins.append(origin)
        best = total
    here, there = int(best[:, -1].argmin()), m - 1
    chain = [there, here]
    for origin in reversed(origins):
        here, there = int(origin[here, there]), here
        chain.append(here)
    return chain[::-1]


def _size(x: Tensor) -> Tensor:
    """The root mean square of each row."""
    return x.double().square().mean(1).sqrt().cpu()
