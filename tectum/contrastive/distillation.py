"""What a small two-tower model learns from a large one: how alike two things are, where each lies, how those of a kind lie.

CLIP-KD (Yang et al. 2023, arXiv:2307.12732) compares the first two and others on CLIP; TinyCLIP (Wu et al. 2023,
arXiv:2309.12314) calls the first affinity mimicking. A loss is 0 with a gradient of 0 where the student does as the teacher
does. No gradient reaches the teacher.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tectum.contrastive.loss import info_nce
from tectum.contrastive.targets import Targets


class Pair(NamedTuple):
    """A model's view of a batch: unit vectors a [n, d] and b [m, d], and the inverse temperature it compares them at."""

    a: Tensor
    b: Tensor
    scale: Tensor | float


def similarity_loss(student: Pair, teacher: Pair) -> Tensor:
    """How far the student's similarity distributions are from the teacher's: KL(teacher ‖ student), in nats.

    L = ½ [mean_i KL(softmax_j t a_i·b_j ‖ softmax_j s a'_i·b'_j) + the same over columns], primed the student's. The models may
    have other dimensions. No pair needs to be known: pictures and texts that nobody has matched will do. Dense, [n, m].

    Raises:
        ValueError: if the two are not of the same numbers of items.

    >>> eye = torch.eye(2)
    >>> round(similarity_loss(Pair(eye, eye, 0.0), Pair(eye, eye, 100.0)).item(), 4)  # a sure teacher, an even student: log 2
    0.6931
    """
    ours, theirs = _logits(student), _logits(teacher).detach()
    _same_items(ours, theirs)
    both = [
        F.kl_div(ours.log_softmax(dim), theirs.log_softmax(dim), reduction="sum", log_target=True) / ours.shape[1 - dim]
        for dim in (1, 0)
    ]
    return (both[0] + both[1]) / 2


def feature_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared distance of unit vectors [n, d] from the teacher's, 2 − 2 cos: the student takes over the teacher's space.

    A student of another dimension needs a linear map onto the teacher's before, as in CLIP-KD.

    Raises:
        ValueError: if the two shapes differ.

    >>> feature_loss(torch.eye(2), torch.eye(2).flip(0)).item()
    2.0
    """
    if student.shape != teacher.shape:
        shapes = f"{tuple(student.shape)} and the teacher's {tuple(teacher.shape)}"
        raise ValueError(f"the student's vectors are {shapes}: map the former onto the latter")
    return (student - teacher.detach()).square().sum(-1).mean()


def gram_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the cosines among n items of one modality, of unit vectors [n, d] and [n, d'].

    Similarity-preserving distillation (Tung & Mori 2019, arXiv:1907.09682), here of unit vectors, which takes the place of its
    normalised rows. The models may have other dimensions, and a space is only asked for up to a rotation. Dense, [n, n].

    Raises:
        ValueError: if the two are not of the same number of items.

    >>> gram_loss(torch.eye(2), torch.tensor([[0.6, 0.8], [0.6, 0.8]])).item()
    0.5
    """
    ours, theirs = _logits(Pair(student, student, 1.0)), _logits(Pair(teacher, teacher, 1.0)).detach()
    _same_items(ours, theirs)
    return F.mse_loss(ours, theirs.to(ours))


def distill(student: Pair, teacher: Pair, weight: float, *, targets: Targets | None = None) -> Tensor:
    """(1 − weight) · the contrastive loss of the student's pairs + weight · `similarity_loss`.

    Args:
        student: learns.
        teacher: its view of the same batch.
        weight: of the teacher, 0 … 1.
        targets: of the contrastive loss, see `info_nce`.

    Raises:
        ValueError: if the weight is not in 0 … 1, or as the two losses do.

    >>> eye = torch.eye(2)
    >>> round(distill(Pair(eye, eye, 0.0), Pair(eye, eye, 0.0), 0.5).item(), 4)  # half of log 2, and nothing from an even teacher
    0.3466
    """
    if not 0 <= weight <= 1:
        raise ValueError(f"the teacher's weight is {weight}: give one in 0 … 1")
    contrastive = info_nce(student.a, student.b, student.scale, targets=targets).loss
    return (1 - weight) * contrastive + weight * similarity_loss(student, teacher)


def _same_items(ours: Tensor, theirs: Tensor) -> None:
    if ours.shape != theirs.shape:
        raise ValueError(
            f"the student compares {tuple(ours.shape)} items and the teacher {tuple(theirs.shape)}: give both the same"
        )


def _logits(pair: Pair) -> Tensor:
    dtype = torch.promote_types(pair.a.dtype, torch.float32)
    with torch.autocast(pair.a.device.type, enabled=False):
        return pair.scale * pair.a.to(dtype) @ pair.b.to(dtype).T
