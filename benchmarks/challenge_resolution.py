"""Progressive resolution: half of the side is a quarter of the work.

Pictures of 32 × 32 show one of four outlines, striped along or across, in any place, size and shade, under noise; the
eight kinds are to be told apart. Small pictures show the outline, and the stripes faintly. Work is counted in floating-point
operations, of which a picture of half the side takes a quarter. The best is a run of four times the work.
"""

from __future__ import annotations

from functools import lru_cache, partial

import torch
from challenge_pairs import Challenge, Optimizer, descend
from torch import Tensor, nn
from torch.nn import functional as F

from tectum.data.order import batch_indices
from tectum.models.encoders import GridConfig, GridEncoder
from tectum.train.resolution import Growth

SIDE, KINDS, PICTURES, BATCH, STEPS = 32, 8, 4000, 64, 150
FIXED = Growth(sizes=(SIDE,), starts=(0.0,))
HALF = Growth(sizes=(SIDE // 2,), starts=(0.0,))
GROWING = Growth(sizes=(SIDE // 2, SIDE), starts=(0.0, 0.7))


def draw(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Pictures [n, 1, 32, 32] and their kinds [n]."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(n, *shape, generator=generator)

    kinds = torch.randint(KINDS, (n,), generator=generator)
    axis = torch.linspace(-1, 1, SIDE)
    radius = uniform(0.35, 0.6, 1, 1)
    y, x = axis[:, None] - uniform(-0.35, 0.35, 1, 1), axis - uniform(-0.35, 0.35, 1, 1)
    far, high, wide = (x.square() + y.square()).sqrt(), y.abs(), x.abs()
    outlines = torch.stack(
        (far, torch.maximum(high, wide) * 1.15, (high + wide) * 0.8, torch.minimum(high, wide) * 3 + far * 0.6), 1
    )
    inside = outlines[torch.arange(n), kinds % 4] < radius
    rows, columns = torch.arange(SIDE)[:, None], torch.arange(SIDE)
    stripes = torch.stack(((rows // 3 + 0 * columns) % 2, (columns // 3 + 0 * rows) % 2)).float()[kinds // 4]
    front, back = uniform(0.6, 1.0, 1, 1), uniform(0.0, 0.3, 1, 1)
    pictures = torch.where(inside, front * (1 - 0.4 * stripes), back)[:, None]
    return pictures + 0.05 * torch.randn(pictures.shape, generator=generator), kinds


def shrink(pictures: Tensor, side: int) -> Tensor:
    """Pictures [n, 1, 32, 32] resized to [n, 1, side, side]."""
    return (
        pictures if side == SIDE else F.interpolate(pictures, (side, side), mode="bilinear", antialias=True, align_corners=False)
    )


def network() -> nn.Module:
    """The house's encoder of grids, small."""
    return GridEncoder(GridConfig(channels=1, widths=(16, 32), depths=(1, 1), heads=4), KINDS)


@lru_cache(maxsize=1)
def data(seed: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Pictures to learn from, and 1000 others."""
    return draw(PICTURES, 2 * seed), draw(1000, 2 * seed + 1)


def run(growth: Growth, work: float, seed: int, optimizer: Optimizer) -> float:
    """Accuracy at full size after a run of so much work, 1 being that of 150 steps at full size."""
    (pictures, kinds), (others, truths) = data(seed)
    full = growth.work() * (growth.sizes[-1] / SIDE) ** 2
    steps = round(STEPS * work / full)
    torch.manual_seed(seed)
    module = network()

    def loss(step: int) -> Tensor:
        at = torch.from_numpy(batch_indices(PICTURES, BATCH, seed, step))
        return F.cross_entropy(module(shrink(pictures[at], growth.side(step, steps))), kinds[at])

    descend(module, loss, steps, optimizer)
    with torch.no_grad():
        return (module.eval()(others).argmax(1) == truths).float().mean().item()


CHALLENGES = (
    Challenge(
        "striped outlines of 32 pixels: accuracy",
        "growing, work 0.5",
        partial(run, FIXED, 4.0),
        {
            "plain, work 0.5": partial(run, FIXED, 0.5),
            "growing, work 0.5": partial(run, GROWING, 0.5),
            "half size throughout, work 0.5": partial(run, HALF, 0.5),
            "plain, work 1": partial(run, FIXED, 1.0),
            "growing, work 1": partial(run, GROWING, 1.0),
        },
    ),
)
