"""Exponential moving average of a module (Polyak & Juditsky 1992), which evaluates better than the last step's weights."""

from __future__ import annotations

import copy

import torch
from torch import nn


def ema_decay(decay: float, updates: int) -> float:
    """The decay of update number `updates` (from 0): min(decay, (1 + t) / (10 + t)), so that the start is soon forgotten.

    >>> ema_decay(0.999, 0), ema_decay(0.5, 1000)
    (0.1, 0.5)
    """
    return min(decay, (1 + updates) / (10 + updates))


class EMA:
    """A copy of a module, in evaluation mode, whose weights follow average <- d average + (1 - d) current.

    Floating-point buffers (the running statistics of BatchNorm) are averaged too, so that they belong to the averaged
    weights; others are copied.

    >>> module = nn.Linear(1, 1)
    >>> average = EMA(module, decay=0.0)
    >>> _ = module.weight.data.fill_(2.0)
    >>> average.update(module, 0)
    >>> average.module.weight.item()
    2.0
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.module = copy.deepcopy(module).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, module: nn.Module, updates: int) -> None:
        """Take in the weights after update number `updates` (from 0)."""
        weight = 1 - ema_decay(self.decay, updates)
        for average, current in zip(self.module.parameters(), module.parameters(), strict=True):
            average.lerp_(current, weight)
        for mean, now in zip(self.module.buffers(), module.buffers(), strict=True):
            if mean.is_floating_point():
                # Where both are equal the average is kept, since infinities (of a mask) have no difference.
                mean.copy_(torch.where(mean == now, mean, mean.lerp(now, weight)))
            else:
                mean.copy_(now)
