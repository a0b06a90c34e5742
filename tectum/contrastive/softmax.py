"""Symmetric InfoNCE as one pass over tiles forward and one backward: the formulas of `tectum.contrastive.loss.info_nce`."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from tectum.contrastive.denominators import Denominator, HardDenominator, add_both, gradient_of_both
from tectum.contrastive.exchange import Exchange
from tectum.contrastive.targets import Targets
from tectum.contrastive.tiles import Frame, Logits, Nearest, Step

BIT = math.log2(math.e)
"""Logits are in bits here: see `tectum.contrastive.denominators`."""
LEAST = 1e-12
"""Below it a sum of targets counts as none."""


class Direction:
    """The cross-entropies of all rows (`dim` = 1), or of all columns (`dim` = 0), and their gradient."""

    def __init__(self, count: int, dim: int, like: Tensor, targets: Targets) -> None:
        self.dim, self.smoothing = dim, targets.smoothing
        self.denominator = (
            HardDenominator(count, dim, like, targets.hardness) if targets.hardness else Denominator(count, dim, like)
        )
        # Over the pairs of each row: Σ t, Σ t w, Σ t w l, how many are kept, and Σ l over those.
        self.mass, self.weight, self.picked, self.count, self.spread = self.sums = like.new_zeros(5, count)

    def add(self, at: slice, step: Step) -> None:
        """Count in the targets of a tile whose rows (columns) are `at`."""
        logits, (positive, trusted, kept) = step.logits, step.tile
        if positive is not None and trusted is not None:
            mass = positive.sum(self.dim)
            self.mass[at] += mass
            self.weight[at] += mass if trusted is positive else trusted.sum(self.dim)
            self.picked[at] += (trusted * logits).sum(self.dim)
        if self.smoothing:
            self.count[at] += logits.shape[self.dim] if kept is None else kept.sum(self.dim)
            self.spread[at] += (logits if kept is None else torch.where(kept, logits, 0.0)).sum(self.dim)

    def merge(self, exchange: Exchange) -> None:
        """Put together what all processes have counted."""
        self.denominator.merge(exchange)
        exchange.sum_([self.sums])

    def entropies(self) -> Tensor:
        """The sum of the cross-entropies, each as much as its positives are trusted, and how many that makes [2]."""
        self.trust = self.weight / self.mass.clamp(min=LEAST)
        logit = self.picked / self.weight.clamp(min=LEAST)
        if self.smoothing:
            logit = (1 - self.smoothing) * logit + self.smoothing * self.spread / self.count.clamp(min=1)
        entropy = torch.where(self.trust > 0, self.trust * self.denominator.excess(logit), 0.0)
        return torch.stack((entropy.sum(), self.trust.sum()))

    def weigh(self, factor: Tensor) -> None:
        """Prepare the gradient of factor · the sum of cross-entropies."""
        trust = factor * self.trust
        self.denominator.weigh(trust)
        self.pull = (1 - self.smoothing) * factor / self.mass.clamp(min=LEAST)
        if self.smoothing:
            self.level = self.smoothing * trust / self.count.clamp(min=1)

    def pulls(self, strength: Tensor, at: slice) -> Tensor:
        """`pull` or `level` of the rows (columns) `at`, [r, 1] or [1, c]."""
        return strength[at].unsqueeze(self.dim)


class Softmax(Function):
    """(a [n, d], b [m, d], scale [], frame) to the loss [] and the accuracy []."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, scale: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
        """One pass gives the denominators of rows and columns."""
        logits = Logits(a, b, scale, None, frame, BIT)
        exchange, targets = frame.exchange, frame.targets
        rows, columns = Direction(len(a), 1, a, targets), Direction(frame.total, 0, a, targets)
        nearest = Nearest(a)
        for step in logits.forward(keep=any(ctx.needs_input_grad)):
            add_both(rows.denominator, columns.denominator, step.at, step.logits, step.tile)
            rows.add(step.rows, step)
            columns.add(step.columns, step)
            nearest.add(step)
        columns.merge(exchange)
        by_row, by_column = rows.entropies(), columns.entropies()
        hits = nearest.counts(rows.mass > 0)
        exchange.sum_([by_row, hits])
        if not bool(by_row[1] > 0):
            raise ValueError("no pair has a positive target: the loss is not defined")
        rows.weigh(0.5 / by_row[1])
        columns.weigh(0.5 / by_column[1])
        ctx.save_for_backward(a, b, scale)
        ctx.frame, ctx.kept, ctx.directions = frame, logits.kept, (rows, columns)
        loss = 0.5 * (by_row[0] / by_row[1] + by_column[0] / by_column[1])
        accuracy = hits[0] / hits[1].clamp(min=1)
        ctx.mark_non_differentiable(accuracy)
        return loss, accuracy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, at_loss: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """A second pass gives both gradients."""
        (a, b, scale), (rows, columns) = ctx.saved_tensors, ctx.directions

        def gradient(step: Step) -> Tensor:
            _, trusted, kept = step.tile
            total = gradient_of_both(rows.denominator, columns.denominator, step.at, step.logits, step.tile)
            if trusted is not None:
                pull = rows.pulls(rows.pull, step.rows) + columns.pulls(columns.pull, step.columns)
                total.addcmul_(pull, trusted, value=-1)
            if ctx.frame.targets.smoothing:
                even = rows.pulls(rows.level, step.rows) + columns.pulls(columns.level, step.columns)
                total -= even if kept is None else even * kept
            return total

        return *Logits(a, b, scale, None, ctx.frame, BIT, ctx.kept).backward(gradient, at_loss), None
