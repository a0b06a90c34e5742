"""The contrastive loss: symmetric InfoNCE or pairwise sigmoid over embeddings, with targets as data, in O((n + m) d) memory.

InfoNCE: van den Oord et al. 2018 (arXiv:1807.03748) as CLIP uses it (arXiv:2103.00020); several positives as the "out" form
of supervised contrastive learning (arXiv:2004.11362, eq. 2); sigmoid: SigLIP (arXiv:2303.15343).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from tectum.contrastive.exchange import Alone, Exchange
from tectum.contrastive.sigmoid import Sigmoid
from tectum.contrastive.softmax import Softmax
from tectum.contrastive.targets import Dense, Targets, match_ids
from tectum.contrastive.tiles import SIDES, Frame

__all__ = ["LossOutput", "info_nce", "initial_bias", "match_ids", "sigmoid_loss"]


class LossOutput(NamedTuple):
    """A loss and what one wants to watch beside it."""

    loss: Tensor
    accuracy: Tensor
    """Share of rows of `a` (with a target) whose nearest `b` is a target."""


def info_nce(
    a: Tensor,
    b: Tensor,
    scale: Tensor | float,
    *,
    targets: Tensor | Targets | None = None,
    exchange: Exchange | None = None,
    tile: int | None = None,
) -> LossOutput:
    """Mean of the two directions of the cross-entropy between scale · a bᵀ and the targets.

    L = ½ [ mean_i −Σ_j t_ij log softmax_j(s a_i·b_j) + mean_j −Σ_i t'_ij log softmax_i(s a_i·b_j) ], where t (t') is
    `targets` with each row (column) made to sum to one. A row or column without a target serves as a negative only.
    `Targets` says what ignored and doubtful pairs, smoothing and hard negatives make of it.

    Gradients reach a, b and scale, once: the gradient has no gradient. No number depends on `tile` but by rounding. The work is
    done in single precision or better, also under autocast, which would round cosines near 1 to steps of 0.004.

    Args:
        a: unit vectors [n, d].
        b: unit vectors [m, d].
        scale: inverse temperature s > 0.
        targets: weights ≥ 0 [n, m], or `Targets`; the identity when left out (then n = m).
        exchange: how the processes of a distributed run see each other's `b` (`tectum.contrastive.exchange`); the loss is then
            that of all their rows and columns, and dense targets are [own rows, columns of all].
        tile: side of the square pieces of the matrix that exist at any one time; a good one for the device when left out.

    Raises:
        ValueError: if the shapes do not fit or no target is positive.

    >>> eye = torch.eye(3)
    >>> round(info_nce(eye, eye, 10.0).loss.item(), 6)  # log(1 + 2 exp(-10))
    9.1e-05
    """
    a, b, frame = _prepare(a, b, targets, exchange, tile)
    with torch.autocast(a.device.type, enabled=False):
        return LossOutput(*Softmax.apply(a, b, _number(scale, a), frame))


def sigmoid_loss(
    a: Tensor,
    b: Tensor,
    scale: Tensor | float,
    bias: Tensor | float,
    *,
    targets: Tensor | Targets | None = None,
    exchange: Exchange | None = None,
    tile: int | None = None,
) -> LossOutput:
    """Pairwise logistic loss, −Σ_ij log σ(z_ij (s a_i·b_j + bias)) / n with z = ±1 (SigLIP, eq. 1).

    Args and Raises as `info_nce`; soft targets in [0, 1] mix the two signs. Gradients also reach the bias, which starts well
    at `initial_bias`. Hard negatives are not defined for this loss: it raises ValueError if `Targets` asks for them.

    >>> eye = torch.eye(2)
    >>> round(sigmoid_loss(eye, eye, 0.0, 0.0).loss.item(), 4)  # four pairs of log 2 over two rows
    1.3863
    """
    a, b, frame = _prepare(a, b, targets, exchange, tile)
    if frame.targets.hardness:
        raise ValueError("hardness weighs the negatives of a softmax; the sigmoid loss has no denominator: leave it at 0")
    with torch.autocast(a.device.type, enabled=False):
        return LossOutput(*Sigmoid.apply(a, b, _number(scale, a), _number(bias, a), frame))


def initial_bias(batch: int) -> float:
    """The bias with which the sigmoid loss starts out right on average: log(p / (1-p)) where one pair in `batch` matches.

    The paper's −10 fits a batch of 22,000.

    Raises ValueError for a batch of fewer than two pairs, where every pair matches.

    >>> round(initial_bias(512), 2), round(initial_bias(22_027), 2)
    (-6.24, -10.0)
    """
    if batch < 2:
        raise ValueError(f"a batch of {batch} has no negatives to balance: give the number of pairs of all processes, 2 or more")
    return -math.log(batch - 1)


def _prepare(
    a: Tensor, b: Tensor, targets: Tensor | Targets | None, exchange: Exchange | None, tile: int | None
) -> tuple[Tensor, Tensor, Frame]:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"embeddings of shapes {tuple(a.shape)} and {tuple(b.shape)} cannot be compared: give [n, d] and [m, d]")
    if tile is not None and tile < 1:
        raise ValueError(f"tile = {tile} holds no pair: give 1 or more, or leave it out")
    exchange = exchange or Alone()
    if targets is None:
        targets = Targets()
    elif isinstance(targets, Tensor):
        targets = Targets(positives=Dense(targets))
    span = exchange.span(b)
    frame = Frame(targets.spread(exchange, len(a), len(b), span), exchange, span.total, tile or SIDES.get(a.device.type, 1024))
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    return a.to(dtype), b.to(dtype), frame


def _number(value: Tensor | float, like: Tensor) -> Tensor:
    return torch.as_tensor(value, dtype=like.dtype, device=like.device).reshape(())
