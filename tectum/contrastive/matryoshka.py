"""Vectors whose beginnings are vectors too (matryoshka representation learning, Kusupati et al. 2022, arXiv:2205.13147)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from torch import Tensor
from torch.nn import functional as F

Outcome = TypeVar("Outcome", bound=tuple[Any, ...])


def truncate(vectors: Tensor, dim: int) -> Tensor:
    """The first `dim` numbers of each vector [..., d], again of length 1.

    Raises:
        ValueError: if there are not so many.

    >>> import torch
    >>> truncate(torch.tensor([[0.6, 0.0, 0.8]]), 2)
    tensor([[1., 0.]])
    """
    if not 1 <= dim <= vectors.shape[-1]:
        raise ValueError(f"vectors of {vectors.shape[-1]} numbers have no first {dim}")
    return F.normalize(vectors[..., :dim], dim=-1)


def matryoshka(
    loss: Callable[[dict[str, Tensor]], Outcome],
    views: Mapping[str, Tensor],
    dims: Sequence[int],
    weights: Sequence[float] | None = None,
) -> tuple[Tensor, dict[int, Outcome]]:
    """The weighted sum of a loss over nested beginnings of the vectors (eq. 1), and what it gave at each length.

    Args:
        loss: views by name to a tuple that has the scalar loss first, as `info_nce` and `bind` give it.
        views: unit vectors [n, d] by name.
        dims: lengths that the vectors shall be cut to, d itself among them.
        weights: of the lengths; 1 each when left out, as in the paper.

    Raises:
        ValueError: if there is no length, one does not fit, or the weights are not as many.

    >>> import torch
    >>> from tectum.contrastive.loss import info_nce
    >>> views = {name: F.normalize(torch.randn(8, 16), dim=-1) for name in ("image", "text")}
    >>> total, parts = matryoshka(lambda v: info_nce(v["image"], v["text"], 10.0), views, (4, 16))
    >>> bool(total == parts[4].loss + parts[16].loss)
    True
    """
    weights = [1.0] * len(dims) if weights is None else weights
    if not dims or len(weights) != len(dims):
        raise ValueError(f"{len(dims)} lengths need at least one, and as many weights, not {len(weights)}")
    parts = {dim: loss({name: truncate(vectors, dim) for name, vectors in views.items()}) for dim in dims}
    terms = [weight * parts[dim][0] for dim, weight in zip(dims, weights, strict=True)]
    return sum(terms[1:], start=terms[0]), parts
