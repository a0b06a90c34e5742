"""The pairwise logistic loss over tiles: the formulas of `tectum.contrastive.loss.sigmoid_loss`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable
from torch.nn import functional as F

from tectum.contrastive.tiles import Frame, Logits, Nearest, Step


class Sigmoid(Function):
    """(a [n, d], b [m, d], scale [], bias [], frame) to the loss [] and the accuracy []."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, scale: Tensor, bias: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
        """One pass."""
        logits = Logits(a, b, scale, bias, frame)
        nearest, asked = Nearest(a), torch.zeros(len(a), dtype=torch.bool, device=a.device)
        # In double precision: a sum over n · m terms.
        total = a.new_zeros((), dtype=torch.float64)
        for step in logits.forward(keep=any(ctx.needs_input_grad)):
            attract, both = _weights(step, frame.targets.smoothing)
            terms = -F.logsigmoid(-step.logits)
            total += (terms if both is None else terms.mul_(both)).sum()
            if attract is not None:
                total -= (attract * step.logits).sum()
            if step.tile.positive is not None:
                asked[step.rows] |= (step.tile.positive > 0).any(1)
            nearest.add(step)
        rows = a.new_tensor([len(a)], dtype=torch.float64)
        hits = nearest.counts(asked).to(total)
        frame.exchange.sum_([total, rows, hits])
        ctx.save_for_backward(a, b, scale, bias, rows)
        ctx.frame, ctx.kept = frame, logits.kept
        accuracy = (hits[0] / hits[1].clamp(min=1)).to(a)
        ctx.mark_non_differentiable(accuracy)
        return (total / rows[0]).to(a), accuracy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, at_loss: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """A second pass."""
        a, b, scale, bias, rows = ctx.saved_tensors
        at_bias = torch.zeros_like(rows)

        def gradient(step: Step) -> Tensor:
            attract, both = _weights(step, ctx.frame.targets.smoothing)
            total = torch.sigmoid(step.logits)
            if both is not None:
                total *= both
            if attract is not None:
                total -= attract
            at_bias.add_(total.sum())
            return total

        factor = at_loss / rows[0].to(a)
        gradients = Logits(a, b, scale, bias, ctx.frame, kept=ctx.kept).backward(gradient, factor)
        return *gradients, factor * ctx.frame.exchange.factor * at_bias[0].to(a), None


def _weights(step: Step, smoothing: float) -> tuple[Tensor | None, Tensor | None]:
    """(p, p + q) of the tile's terms p · softplus(-l) + q · softplus(l) = (p + q) softplus(l) - p l; None for 0 and for 1."""
    positive, trusted, kept = step.tile
    if smoothing == 0 and (positive is None or trusted is None):
        return None, None  # Ignored pairs have l = -∞, as good as no term.
    if positive is None or trusted is None:
        positive = trusted = torch.zeros_like(step.logits)
    target = (1 - smoothing) * positive + smoothing / 2
    attract = torch.where(positive > 0, trusted / positive, 1.0) * target
    if kept is not None:
        attract, target = attract * kept, target * kept
    return attract, 1 - target + attract
