"""Scores of queries with items, a tile at a time: exact cosines, and float32 ones that say how far off they may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from tectum.errors import EvaluationError
from tectum.evaluate.score import Setting

_ROWS = 128  # So few at a time that their vectors stay in the cache.
_GRID = 2.0**26
_UNIT = _GRID**-2


class Scores(Protocol):
    """Scores of n queries with m items, made where they are asked for.

    `tile` may be off by `slack`; `exact_tile` and `exact` are not, and agree with each other.
    """

    shape: tuple[int, int]
    slack: float
    settings: Mapping[str, Setting]

    def block(self, queries: slice) -> Tensor:
        """What `tile` needs of some queries."""

    def tile(self, block: Tensor, items: slice, out: Tensor) -> None:
        """Scores of a block into `out` [items, queries], float32."""

    def exact_tile(self, queries: slice, items: slice) -> Tensor:
        """Scores [queries, items], float64, the caller's to change."""

    def exact(self, queries: Tensor, items: Tensor) -> Tensor:
        """Scores [p], float64, of p pairs of rows."""


class Cosines:
    """The cosines of query vectors [n, d] with item vectors [m, d], arrays or tensors of any length and float type.

    By definition the vectors are scaled to length 1 and rounded to multiples of 2⁻²⁶. Products of such numbers are multiples of
    2⁻⁵², and sums of them up to 2 are exact in float64 in whatever order they are added. Rounding moves a cosine by about 10⁻⁸,
    less than float32 would.

    Holds a copy of both, four bytes a number.

    Raises:
        EvaluationError: if the shapes do not fit, or a vector is zero or not finite.

    >>> Cosines(np.eye(3), [[1, 1, 0], [0, 0, 5]]).exact_tile(slice(0, 1), slice(0, 2))
    tensor([[0.7071, 0.0000]], dtype=torch.float64)
    """

    def __init__(self, queries: object, items: object) -> None:
        self._queries = _on_grid(queries, "query")
        self._items = self._queries if items is queries else _on_grid(items, "item")
        (n, d), (m, other) = self._queries.shape, self._items.shape
        if d != other:
            raise EvaluationError(f"queries of length {d} have no cosine with items of length {other}: embed both with one model")
        self.shape = (n, m)
        # Any order of d float32 additions is off by at most d · 2⁻²⁴; unless somebody allowed bfloat16 inside.
        self.slack = (d + 8) * 2.0**-24 + (2.0**-7 if torch.get_float32_matmul_precision() != "highest" else 0)
        self.settings: Mapping[str, Setting] = {"similarity": "cosine"}

    def block(self, queries: slice) -> Tensor:
        """Query vectors [d, queries], float32."""
        return self._queries[queries].float().mul_(_UNIT).T

    def tile(self, block: Tensor, items: slice, out: Tensor) -> None:
        """Cosines of a block into `out` [items, queries], off by at most `slack`."""
        torch.mm(self._items[items].float(), block, out=out)

    def exact_tile(self, queries: slice, items: slice) -> Tensor:
        """Cosines [queries, items], float64."""
        return (self._queries[queries].double() @ self._items[items].double().T).mul_(_UNIT)

    def exact(self, queries: Tensor, items: Tensor) -> Tensor:
        """Cosines [p], float64, of p pairs of rows."""
        found = [torch.zeros(0, dtype=torch.float64)]
        for a, b in zip(queries.split(_ROWS), items.split(_ROWS), strict=True):
            found.append(self._queries.index_select(0, a).double().mul_(self._items.index_select(0, b)).sum(1))
        return torch.cat(found).mul_(_UNIT)


class Given:
    """Scores [n, m] that something else has made, for example a cross-encoder: higher is better.

    Raises:
        EvaluationError: if they are no matrix, or not finite.
    """

    slack = 0.0

    def __init__(self, scores: object) -> None:
        self._scores = as_matrix(scores, "scores")
        wrong = ~torch.isfinite(self._scores).all(1)
        if wrong.any():
            raise EvaluationError(f"the scores of query {int(wrong.int().argmax())} are not finite: give a number for every item")
        self.shape = (self._scores.shape[0], self._scores.shape[1])
        self.settings: Mapping[str, Setting] = {"similarity": "given"}

    def block(self, queries: slice) -> Tensor:
        """Scores [queries, m]."""
        return self._scores[queries]

    def tile(self, block: Tensor, items: slice, out: Tensor) -> None:
        """Scores of a block into `out` [items, queries], rounded to float32."""
        out.copy_(block[:, items].T)

    def exact_tile(self, queries: slice, items: slice) -> Tensor:
        """Scores [queries, items], float64, a copy."""
        return self._scores[queries, items].to(torch.float64, copy=True)

    def exact(self, queries: Tensor, items: Tensor) -> Tensor:
        """Scores [p], float64, of p pairs of rows."""
        return self._scores[queries, items].double()


def _on_grid(values: object, what: str) -> Tensor:
    """Vectors of length 1 in units of 2⁻²⁶, int32 [n, d]."""
    vectors = as_matrix(values, f"{what} vectors")
    grid = torch.empty(vectors.shape, dtype=torch.int32)
    for at in range(0, len(vectors), _ROWS):
        part = vectors[at : at + _ROWS].double()
        grid[at : at + _ROWS] = (part * (_GRID / _lengths(part, what, at))[:, None]).round_()
    return grid


def unit_vectors(values: object, what: str) -> Tensor:
    """Vectors [n, d] of any length as unit vectors, float64.

    Raises:
        EvaluationError: if they are no matrix, or one is zero or not finite.
    """
    vectors = as_matrix(values, f"{what} vectors").double()
    return vectors / _lengths(vectors, what, 0)[:, None]


def _lengths(vectors: Tensor, what: str, start: int) -> Tensor:
    # NumPy adds up each row by itself, wherever it stands; so equal rows have equal lengths.
    lengths = torch.from_numpy(np.sqrt(np.square(vectors.numpy()).sum(1)))
    wrong = ~(torch.isfinite(lengths) & (lengths > 0))
    if wrong.any():
        row = start + int(wrong.int().argmax())
        raise EvaluationError(f"{what} vector {row} is zero or not finite and has no direction: leave it out")
    return lengths


def as_matrix(values: object, name: str) -> Tensor:
    """Numbers [n, d] as a floating tensor on the CPU.

    Raises:
        EvaluationError: if they are no matrix of numbers.
    """
    try:
        tensor = values.detach().cpu() if isinstance(values, Tensor) else torch.from_numpy(np.require(values, requirements="W"))
    except (TypeError, ValueError):
        raise EvaluationError(f"{name} are no matrix of numbers: give an array or a tensor [n, d]") from None
    if tensor.dim() != 2:
        raise EvaluationError(f"{name} have the shape {tuple(tensor.shape)}: give a matrix [n, d], one row each")
    if tensor.is_complex():
        raise EvaluationError(f"{name} are complex: give real numbers")
    return tensor if tensor.is_floating_point() else tensor.double()
