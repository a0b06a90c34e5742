"""Softmax denominators along one direction of the logits, gathered tile by tile and stable at any scale.

A sum of exponentials is kept as 2^top · total, where top is the largest logit so far: nothing overflows, and what underflows
does not count (Milakov & Gimelshein 2018, arXiv:1805.02867). A share of it is 2^(logit - top) / total, which is exact where it
matters, for logits near the top: their difference is. The logarithm of the sum is as coarse as a large logit.

Logits are in bits, log2(e) times the natural ones: on processors `exp2_` is three times as fast as `exp_`, and thirty times where
results underflow, as most do at scale 100.
"""

from __future__ import annotations

import math
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor

from tectum.contrastive.exchange import Exchange
from tectum.contrastive.targets import Tile


class Denominator:
    """Σ_j 2^l_ij for every row i (`dim` = 1), or Σ_i 2^l_ij for every column j (`dim` = 0)."""

    def __init__(self, count: int, dim: int, like: Tensor) -> None:
        self.dim = dim
        self.top = like.new_full((count,), torch.finfo(like.dtype).min)
        self.total = like.new_zeros(count)
        self.factor = self.total

    def add(self, at: slice, logits: Tensor, tile: Tile) -> None:
        """Count in the logits [r, c] of a tile whose rows (columns) are `at`."""
        top = logits.amax(self.dim).clamp_(min=torch.finfo(logits.dtype).min)
        self.fold(at, top, (logits - top.unsqueeze(self.dim)).exp2_().sum(self.dim))

    def fold(self, at: slice, top: Tensor, total: Tensor) -> None:
        """Count in 2^top · total."""
        before = self.top[at]
        both = torch.maximum(before, top)
        self.total[at] = self.total[at] * (before - both).exp2_() + total * (top - both).exp2_()
        self.top[at] = both

    def merge(self, exchange: Exchange) -> None:
        """Put together what all processes have counted."""
        before = self.top.clone()
        exchange.max_(self.top)
        self.total *= (before - self.top).exp2_()
        exchange.sum_([self.total])

    def excess(self, logit: Tensor | float) -> Tensor:
        """log Σ - logit in natural units, precise also where the two are close."""
        return math.log(2) * ((self.top - logit) + self.total.log2())

    def weigh(self, weight: Tensor) -> None:
        """Prepare the gradient of Σ_i weight_i log Σ_j 2^l_ij, weights ≥ 0; a sum of nothing counts for nothing."""
        self.factor = torch.where(weight > 0, weight / self.total, 0.0)

    def gradient(self, at: slice, logits: Tensor, tile: Tile) -> Tensor:
        """By the natural logits, from the logits [r, c] of a tile."""
        return (logits - self.top[at].unsqueeze(self.dim)).exp2_().mul_(self.factor[at].unsqueeze(self.dim))


class HardDenominator:
    """Σ_positives exp(l) + N Σ_negatives exp((1+β) l) / Σ_negatives exp(β l) with N negatives: see `Targets.hardness`."""

    def __init__(self, count: int, dim: int, like: Tensor, beta: float) -> None:
        self.dim, self.beta = dim, beta
        self.near, self.tilted, self.tilt = (Denominator(count, dim, like) for _ in range(3))
        self.negatives = like.new_zeros(count)

    def add(self, at: slice, logits: Tensor, tile: Tile) -> None:
        """As `Denominator.add`."""
        near, far = self._apart(logits, tile)
        if near is not None:
            self.near.add(at, near, tile)
        self.tilted.add(at, (1 + self.beta) * far, tile)
        self.tilt.add(at, self.beta * far, tile)
        self.negatives[at] += (far > -torch.inf).sum(self.dim)

    def merge(self, exchange: Exchange) -> None:
        """As `Denominator.merge`."""
        for part in (self.near, self.tilted, self.tilt):
            part.merge(exchange)
        exchange.sum_([self.negatives])

    def excess(self, logit: Tensor | float) -> Tensor:
        """As `Denominator.excess`."""
        return torch.logaddexp(self.near.excess(logit), self._far(logit))

    def weigh(self, weight: Tensor) -> None:
        """As `Denominator.weigh`: by the chain rule, over the three sums."""
        share = (self._far(0.0) - self.excess(0.0)).exp()
        self.near.weigh(weight * (self.near.excess(0.0) - self.excess(0.0)).exp())
        self.tilted.weigh(weight * share * (1 + self.beta))
        self.tilt.weigh(weight * share * self.beta)

    def gradient(self, at: slice, logits: Tensor, tile: Tile) -> Tensor:
        """As `Denominator.gradient`."""
        near, far = self._apart(logits, tile)
        total = self.tilted.gradient(at, (1 + self.beta) * far, tile) - self.tilt.gradient(at, self.beta * far, tile)
        return total if near is None else total + self.near.gradient(at, near, tile)

    def _far(self, logit: Tensor | float) -> Tensor:
        """log of the negatives' part - logit; -∞ where there are none."""
        mean = (self.tilted.top - self.tilt.top - logit) + (self.tilted.total / self.tilt.total).log2()
        return torch.where(self.negatives > 0, self.negatives.log() + math.log(2) * mean, -torch.inf)

    def _apart(self, logits: Tensor, tile: Tile) -> tuple[Tensor | None, Tensor]:
        """The logits of positives, and those of negatives; -∞ elsewhere."""
        away = None if tile.positive is None else tile.positive > 0
        far = logits if away is None else logits.masked_fill(away, -torch.inf)
        if tile.kept is not None:
            far = far.masked_fill(~tile.kept, -torch.inf)
        return (None if away is None else logits.masked_fill(~away, -torch.inf)), far


Denominators = Denominator | HardDenominator


def add_both(rows: Denominators, columns: Denominators, at: tuple[slice, slice], logits: Tensor, tile: Tile) -> None:
    """Count in a tile [r, c] in both directions."""
    fused = kernels(logits)
    if fused is not None and isinstance(rows, Denominator) and isinstance(columns, Denominator):
        by_row, by_column = fused.sums(logits)
        rows.fold(at[0], *by_row)
        columns.fold(at[1], *by_column)
    else:
        rows.add(at[0], logits, tile)
        columns.add(at[1], logits, tile)


def gradient_of_both(rows: Denominators, columns: Denominators, at: tuple[slice, slice], logits: Tensor, tile: Tile) -> Tensor:
    """By the natural logits of a tile [r, c], the sum of both directions."""
    fused = kernels(logits)
    if fused is not None and isinstance(rows, Denominator) and isinstance(columns, Denominator):
        return fused.shares(logits, rows.top[at[0]], rows.factor[at[0]], columns.top[at[1]], columns.factor[at[1]])
    return rows.gradient(at[0], logits, tile).add_(columns.gradient(at[1], logits, tile))


def kernels(logits: Tensor) -> ModuleType | None:
    """`tectum.contrastive.triton_softmax` where it can work."""
    if not logits.is_cuda or find_spec("triton") is None:
        return None
    from tectum.contrastive import triton_softmax  # Triton is slow to import.

    return triton_softmax
