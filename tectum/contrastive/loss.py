"""The contrastive loss: symmetric InfoNCE or pairwise sigmoid over embeddings, with targets as data.

InfoNCE: van den Oord et al. 2018 (arXiv:1807.03748) as CLIP uses it (arXiv:2103.00020); several positives as the "out" form
of supervised contrastive learning (arXiv:2004.11362, eq. 2); sigmoid: SigLIP (arXiv:2303.15343).
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class LossOutput(NamedTuple):
    """A loss and what one wants to watch beside it."""

    loss: Tensor
    accuracy: Tensor
    """Share of rows of `a` (with a target) whose nearest `b` is a target."""


def match_ids(a: Tensor, b: Tensor) -> Tensor:
    """Targets [n, m] from ids [n] and [m]: 1 where they are equal, so that equal captions are positives, not negatives.

    >>> match_ids(torch.tensor([7, 8]), torch.tensor([8, 7, 7])).tolist()
    [[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]]
    """
    return (a[:, None] == b[None, :]).float()


def info_nce(a: Tensor, b: Tensor, scale: Tensor | float, *, targets: Tensor | None = None) -> LossOutput:
    """Mean of the two directions of the cross-entropy between scale · a bᵀ and the targets.

    L = ½ [ mean_i −Σ_j t_ij log softmax_j(s a_i·b_j) + mean_j −Σ_i t'_ij log softmax_i(s a_i·b_j) ], where t (t') is
    `targets` with each row (column) made to sum to one. A row or column without a target serves as a negative only.

    Args:
        a: unit vectors [n, d].
        b: unit vectors [m, d].
        scale: inverse temperature s > 0.
        targets: weights ≥ 0 [n, m]; the identity when left out (then n = m).

    Raises:
        ValueError: if the shapes do not fit or no target is positive.

    >>> eye = torch.eye(3)
    >>> round(info_nce(eye, eye, 10.0).loss.item(), 6)  # log(1 + 2 exp(-10))
    9.1e-05
    """
    targets = _targets(a, b, targets)
    logits = scale * _cosines(a, b)
    by_row, by_column = targets.sum(1), targets.sum(0)
    if not bool((by_row > 0).any()):
        raise ValueError("no pair has a positive target: the loss is not defined")
    rows = -(targets * logits.log_softmax(1)).sum(1) / by_row.clamp(min=1e-12)
    columns = -(targets * logits.log_softmax(0)).sum(0) / by_column.clamp(min=1e-12)
    loss = 0.5 * (_mean_where(rows, by_row > 0) + _mean_where(columns, by_column > 0))
    return LossOutput(loss, _accuracy(logits, targets))


def sigmoid_loss(
    a: Tensor, b: Tensor, scale: Tensor | float, bias: Tensor | float, *, targets: Tensor | None = None
) -> LossOutput:
    """Pairwise logistic loss, −Σ_ij log σ(z_ij (s a_i·b_j + bias)) / n with z = ±1 (SigLIP, eq. 1).

    Args and Raises as `info_nce`; soft targets in [0, 1] mix the two signs.

    >>> eye = torch.eye(2)
    >>> round(sigmoid_loss(eye, eye, 0.0, 0.0).loss.item(), 4)  # four pairs of log 2 over two rows
    1.3863
    """
    targets = _targets(a, b, targets)
    logits = scale * _cosines(a, b) + bias
    loss = F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="sum") / len(a)
    return LossOutput(loss, _accuracy(logits, targets))


def _cosines(a: Tensor, b: Tensor) -> Tensor:
    # Autocast would round cosines near 1 to steps of 0.004, as coarse as the differences that matter.
    with torch.autocast(a.device.type, enabled=False):
        return a @ b.T


def _targets(a: Tensor, b: Tensor, targets: Tensor | None) -> Tensor:
    if targets is None:
        if len(a) != len(b):
            raise ValueError(f"{len(a)} and {len(b)} embeddings need targets: without them row i pairs with row i")
        return torch.eye(len(a), dtype=a.dtype, device=a.device)
    if targets.shape != (len(a), len(b)):
        raise ValueError(f"targets of shape {tuple(targets.shape)} do not fit {len(a)} × {len(b)} embeddings")
    return targets


def _mean_where(values: Tensor, where: Tensor) -> Tensor:
    return torch.where(where, values, 0.0).sum() / where.sum()


def _accuracy(logits: Tensor, targets: Tensor) -> Tensor:
    asked = targets.sum(1) > 0
    hit = targets.gather(1, logits.argmax(1, keepdim=True)).squeeze(1) > 0
    return (hit & asked).sum() / asked.sum().clamp(min=1)
