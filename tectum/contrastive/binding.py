"""Binding any set of views through a list of edges (ImageBind, arXiv:2305.05665, is the star around pictures)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from tectum.contrastive.loss import LossOutput, info_nce


@dataclass(frozen=True, kw_only=True, slots=True)
class Edge:
    """Two views to be aligned, how much that counts, and which of them (if any) only teaches.

    `frozen` names the view whose embeddings get no gradient from this edge, as the anchor of ImageBind or LiT.
    """

    a: str
    b: str
    weight: float = 1.0
    frozen: str | None = None


def star(anchor: str, others: Iterable[str]) -> tuple[Edge, ...]:
    """Edges from one anchor to every other view.

    >>> [(edge.a, edge.b) for edge in star("image", ["text", "audio"])]
    [('image', 'text'), ('image', 'audio')]
    """
    return tuple(Edge(a=anchor, b=other) for other in others)


def bind(
    embeddings: Mapping[str, Tensor],
    edges: Sequence[Edge],
    scales: Mapping[Edge, Tensor],
    targets: Mapping[Edge, Tensor] | None = None,
) -> tuple[Tensor, dict[Edge, LossOutput]]:
    """The weighted sum of InfoNCE over the edges whose two views are present, and each edge's own output.

    Args:
        embeddings: view name to unit vectors [n_view, d]; a view may be absent and the counts may differ (ragged).
        edges: the graph.
        scales: inverse temperature of each edge.
        targets: [n_a, n_b] for each edge; the identity for an edge left out.

    Raises:
        ValueError: if no edge has both its views.

    >>> import torch
    >>> edge = Edge(a="image", b="text")
    >>> total, parts = bind({"image": torch.eye(4), "text": torch.eye(4)}, [edge], {edge: torch.tensor(100.0)})
    >>> float(total) < 1e-6 and float(parts[edge].accuracy)
    1.0
    """
    outputs: dict[Edge, LossOutput] = {}
    for edge in edges:
        if edge.a in embeddings and edge.b in embeddings:
            a, b = (embeddings[view].detach() if view == edge.frozen else embeddings[view] for view in (edge.a, edge.b))
            outputs[edge] = info_nce(a, b, scales[edge], targets=None if targets is None else targets.get(edge))
    if not outputs:
        raise ValueError(f"none of the {len(edges)} edges has both its views among {sorted(embeddings)}")
    weighted = [edge.weight * output.loss for edge, output in outputs.items()]
    return sum(weighted[1:], start=weighted[0]), outputs
