"""What shorter and rounder vectors cost: how many of the exact nearest neighbours they keep, and how much they still find."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from tectum.errors import ConfigError, EvaluationError
from tectum.evaluate.cosines import Cosines, unit_vectors
from tectum.evaluate.geometry import nearest
from tectum.evaluate.measurement import Measurement
from tectum.evaluate.ranking import Right
from tectum.evaluate.retrieval import first_hits, recall
from tectum.evaluate.score import Passport
from tectum.models.compact import Dtype, Int8, bytes_of, compact


class Cost(NamedTuple):
    """One way to store the items."""

    dim: int
    dtype: Dtype
    bytes: int
    """Of one vector."""
    neighbours: Measurement
    """The mean share of each query's k exact nearest items that is among its k nearest now."""
    recall: Measurement | None
    """R@k of the right items, if these are known."""


def export_costs(
    queries: object,
    items: object,
    k: int = 10,
    *,
    dims: Sequence[int] | None = None,
    dtypes: Sequence[Dtype] = ("float32", "float16", "int8"),
    right: Right | None = None,
    ids: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
) -> list[Cost]:
    """Search items stored at each length and type with queries in float32, and compare with the full float32 vectors.

    Args:
        queries: vectors [n, d]; cut to the items' length, never rounded.
        items: vectors [m, d].
        k: of R@k.
        dims: lengths; d when left out.
        dtypes: "float32", "float16" or "int8" (symmetric, a scale for each vector).
        right: for each query the rows of its right items.
        ids: of the queries; their rows when left out.
        groups: of queries that are drawn together in a resample.

    Raises:
        EvaluationError: if the shapes do not fit, k is not within 1 … m, or there is no such length or type.

    >>> import torch
    >>> vectors = torch.eye(4) + 0.1
    >>> [(cost.bytes, cost.neighbours.score().value) for cost in export_costs(vectors, vectors, 1, dtypes=["float32", "int8"])]
    [(16, 1.0), (8, 1.0)]
    """
    asked, stored = unit_vectors(queries, "query").float(), unit_vectors(items, "item").float()
    names = tuple(map(str, range(len(asked)))) if ids is None else tuple(ids)
    exact, _ = nearest(Cosines(asked, stored), k)
    found = []
    for dim in dims or (stored.shape[1],):
        for dtype in dtypes:
            try:
                short, kept = compact(asked, dim), compact(stored, dim, dtype)
            except ConfigError as error:
                raise EvaluationError(str(error)) from None
            scores = Cosines(short, _decoded(kept))
            now, _ = nearest(scores, k)
            shared = [np.isin(a, b).mean() for a, b in zip(exact, now, strict=True)]
            settings = {**scores.settings, "k": k, "items": len(stored), "dim": dim, "dtype": dtype, "queries": "float32"}
            passport = Passport("neighbours-kept", settings)
            neighbours = Measurement.mean(passport, names, shared, groups)
            hits = None if right is None else recall(first_hits(scores, right, ids=names, groups=groups), k)
            found.append(Cost(dim, dtype, bytes_of(dim, dtype), neighbours, hits))
    return found


def _decoded(vectors: Tensor | Int8) -> Tensor:
    return vectors.decode() if isinstance(vectors, Int8) else vectors
