"""How a binding fares while it is trained: numbers for the log at each evaluation, from the embeddings of some held-out items."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from tectum.contrastive.binding import Edge, bind
from tectum.contrastive.temperature import MAX_SCALE
from tectum.evaluate.cosines import Cosines
from tectum.evaluate.geometry import effective_rank, modality_gap
from tectum.evaluate.retrieval import first_hits, same_group


def diagnose(
    views: Mapping[str, Tensor],
    edges: Sequence[Edge],
    scales: Mapping[Edge, Tensor],
    ids: Mapping[str, Tensor] | None = None,
    *,
    biases: Mapping[Edge, Tensor] | None = None,
    teacher: Mapping[str, Tensor] | None = None,
    limit: float = MAX_SCALE,
) -> dict[str, float]:
    """Numbers by name, "image-text gap" and the like; what cannot be measured is left out.

    Of each edge "a-b" whose two views are there:

    - gap: the distance of the centroids of its views (arXiv:2203.02053);
    - harder: the mean share of items of b that do not belong to an item of a and yet are at least as near as the best that does.
      0.5 at chance; what stays of it late in training are errors, or false negatives;
    - duplicates: the share of off-diagonal pairs that belong together by `ids`, false negatives of a loss that knows none;
    - false negatives: "harder" in the eyes of `teacher`, as an estimate of those that the ids do not tell;
    - scale, its gradient (of the edge's loss by log scale; below zero it wants to rise), and at limit: 1 where it stands there.

    Of each view "effective rank" (EUSIPCO 2007), of the number of dimensions that it could use.

    Args:
        views: view name to unit vectors [n, d].
        edges: pairs of views; an edge without a scale has no temperature, such as a pair that was never trained.
        scales: inverse temperature of edges.
        ids: view name to the sample of each row; row i belongs to row i when left out.
        biases: of edges by sigmoid; without it they have no gradient.
        teacher: view name to vectors [n, e] of another model, row by row.
        limit: of the scales.

    Raises:
        EvaluationError: if a vector is zero or not finite.

    >>> edge = Edge(a="image", b="text")
    >>> found = diagnose({"image": torch.eye(4), "text": torch.eye(4)}, [edge], {edge: torch.tensor(100.0)})
    >>> found["image-text harder"], found["image-text at limit"], round(found["image effective rank"], 6)
    (0.0, 1.0, 4.0)
    """
    found: dict[str, float] = {}
    for edge in edges:
        if edge.a not in views or edge.b not in views:
            continue
        a, b, name = views[edge.a], views[edge.b], f"{edge.a}-{edge.b}"
        right = _right(edge, ids, len(a))
        found[f"{name} gap"] = modality_gap(a, b).score(resamples=0).value
        found[f"{name} harder"] = harder(a, b, right)
        matched, asked = sum(map(len, right)), sum(len(rows) > 0 for rows in right)
        if ids is not None and len(a) * len(b) > asked:
            found[f"{name} duplicates"] = (matched - asked) / (len(a) * len(b) - asked)
        if teacher is not None and edge.a in teacher and edge.b in teacher:
            found[f"{name} false negatives"] = harder(teacher[edge.a], teacher[edge.b], right)
        if edge in scales:
            scale = float(scales[edge].detach())
            found |= {f"{name} scale": scale, f"{name} at limit": float(scale >= limit * (1 - 1e-6))}
            if edge.loss == "softmax" or (biases is not None and edge in biases):
                found[f"{name} scale gradient"] = _gradient(edge, views, scale, ids, biases)
    for view in dict.fromkeys(view for edge in edges for view in (edge.a, edge.b) if view in views):
        found[f"{view} effective rank"] = effective_rank(views[view]).value
    return {name: value for name, value in found.items() if not math.isnan(value)}


def harder(a: Tensor, b: Tensor, right: Sequence[np.ndarray]) -> float:
    """The mean share of the wrong items of b [m, d] that are at least as near to a row of a [n, d] as its best right one.

    Rows without a right item or without a wrong one have no say; nan if there is no other.

    >>> harder(torch.eye(2), torch.tensor([[0.0, 1.0], [0.1, 1.0], [1.0, 1.0]]), [np.array([0]), np.array([0])])
    0.5
    """
    rows = [row for row, items in enumerate(right) if 0 < len(items) < len(b)]
    if not rows:
        return math.nan
    chosen = [right[row] for row in rows]
    hits = first_hits(Cosines(a[rows], b), chosen)
    return float(((hits.higher + hits.same) / (len(b) - np.array([len(items) for items in chosen]))).mean())


def _right(edge: Edge, ids: Mapping[str, Tensor] | None, rows: int) -> list[np.ndarray]:
    if ids is None:
        return list(np.arange(rows)[:, None])
    return same_group(ids[edge.a].tolist(), ids[edge.b].tolist())


def _gradient(
    edge: Edge, views: Mapping[str, Tensor], scale: float, ids: Mapping[str, Tensor] | None, biases: Mapping[Edge, Tensor] | None
) -> float:
    """Of the edge's loss by the logarithm of its scale; nan if nothing belongs together."""
    with torch.inference_mode(False), torch.enable_grad():
        pair = {view: views[view].detach().clone() for view in (edge.a, edge.b)}
        log_scale = torch.tensor(math.log(scale), requires_grad=True)
        try:
            _, parts = bind(pair, [edge], {edge: log_scale.exp()}, ids=ids, biases=biases)
        except ValueError:
            return math.nan
        (gradient,) = torch.autograd.grad(parts[edge].loss, log_scale)
    return float(gradient)
