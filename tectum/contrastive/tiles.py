"""The walk over the logits scale · a bᵀ + bias, one tile at a time, that the contrastive losses share.

A tile is written, used and dropped while it lies in the cache, so memory is O((n + m) d): the matrix [n, m] never exists.
The backward pass writes every tile a second time, and makes both gradients from it. Tiles are kept instead for as long as those
that are kept take no more room than the embeddings do: a few hundred rows are one tile, and cost what the dense loss costs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain, pairwise, product, repeat
from typing import NamedTuple

import torch
from torch import Tensor

from tectum.contrastive.exchange import Exchange
from tectum.contrastive.targets import Targets, Tile

SIDES = {"cpu": 512, "cuda": 4096}
"""Of a square tile: it fits the second-level cache of a processor, or keeps a graphics card busy."""


class Frame(NamedTuple):
    """What a walk has beside its tensors."""

    targets: Targets
    """Spread over the processes."""
    exchange: Exchange
    total: int
    """Columns of all processes."""
    side: int
    """Of a square tile."""


class Step(NamedTuple):
    """One tile of the walk."""

    rows: slice
    columns: slice
    """Counted over all processes."""
    logits: Tensor
    """[r, c]; the least finite number for pairs that are ignored. Not to be written to."""
    tile: Tile

    @property
    def at(self) -> tuple[slice, slice]:
        """Its place."""
        return self.rows, self.columns


@dataclass(frozen=True, slots=True, eq=False)
class Logits:
    """The operands: a [n, d] and b [m, d] of one type, single precision or better; and the tiles kept from the first pass."""

    a: Tensor
    b: Tensor
    scale: Tensor
    bias: Tensor | None
    frame: Frame
    unit: float = 1.0
    """The logits are given out times this; gradients are by the logits without it."""
    kept: list[Tensor] = field(default_factory=list)

    def forward(self, keep: bool) -> Iterator[Step]:
        """All tiles; with `keep`, the first ones stay for the backward pass."""
        room = self.a.numel() + self.b.numel() if keep else 0
        for start, block in self.frame.exchange.blocks(self.b):
            for rows, columns in self._grid(block):
                step = self._step(start, block, rows, columns, None)
                room -= step.logits.numel()
                if room >= 0:
                    self.kept.append(step.logits)
                yield step

    def backward(self, gradient: Callable[[Step], Tensor], factor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of a [n, d], b [m, d] and scale [], from that of a tile's logits [r, c], times `factor`.

        Over processes they come out as `exchange` says.
        """
        at_a = torch.zeros_like(self.a)
        kept = chain(self.kept, repeat(None))

        def add(start: int, block: Tensor, at_block: Tensor) -> None:
            for rows, columns in self._grid(block):
                at_logits = gradient(self._step(start, block, rows, columns, next(kept)))
                at_a[rows].addmm_(at_logits, block[columns])
                at_block[columns].addmm_(at_logits.T, self.a[rows])

        with torch.autocast(self.a.device.type, enabled=False):
            at_b = self.frame.exchange.backward(self.b, add)
        factor = factor * self.frame.exchange.factor
        at_scale = factor * (self.a * at_a).sum()  # Σ_ij g_ij a_i·b_j without another look at the tiles
        return at_a.mul_(factor * self.scale), at_b.mul_(factor * self.scale), at_scale

    def _step(self, start: int, block: Tensor, rows: slice, columns: slice, logits: Tensor | None) -> Step:
        there = slice(start + columns.start, start + columns.stop)
        tile = self.frame.targets.tile(rows, there, self.a)
        if logits is None:
            logits = (self.a[rows] @ block[columns].T).mul_(self.scale * self.unit)
            if self.bias is not None:
                logits.add_(self.bias * self.unit)
            if tile.kept is not None:
                logits.masked_fill_(~tile.kept, torch.finfo(logits.dtype).min)
        return Step(rows, there, logits, tile)

    def _grid(self, block: Tensor) -> Iterator[tuple[slice, slice]]:
        """Tiles of at most side² pairs; wider ones where there are few rows."""
        side = self.frame.side
        widest = side**2 // max(1, min(len(self.a), side))
        return product(_parts(len(self.a), side), _parts(len(block), widest))


class Nearest:
    """Whether the nearest column of each row is a target."""

    def __init__(self, a: Tensor) -> None:
        self.best = a.new_full((len(a),), -torch.inf)
        self.hit = torch.zeros(len(a), dtype=torch.bool, device=a.device)

    def add(self, step: Step) -> None:
        """Look at one more tile."""
        best = step.logits.amax(1)
        closer = best > self.best[step.rows]
        positive, hit = step.tile.positive, torch.zeros_like(closer)
        if positive is not None:  # Finding where the largest is takes ten times as long as finding it.
            hit = positive.gather(1, step.logits.argmax(1, keepdim=True))[:, 0] > 0
        self.hit[step.rows] = torch.where(closer, hit, self.hit[step.rows])
        self.best[step.rows] = torch.maximum(best, self.best[step.rows])

    def counts(self, asked: Tensor) -> Tensor:
        """How many rows among those `asked` hit, and how many are asked [2]."""
        return torch.stack(((self.hit & asked).sum(), asked.sum())).to(self.best.dtype)


def _parts(count: int, most: int) -> list[slice]:
    """0 … count in parts of equal length, give or take one, so that none is a sliver."""
    parts = math.ceil(count / most)
    edges = [count * i // max(1, parts) for i in range(parts + 1)]
    return [slice(start, stop) for start, stop in pairwise(edges)]
