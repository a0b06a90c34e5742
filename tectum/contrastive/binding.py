"""Binding any set of views through a list of edges (ImageBind, arXiv:2305.05665, is the star around pictures)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, get_args

import torch
from torch import Tensor

from tectum.contrastive.exchange import Alone, Exchange
from tectum.contrastive.loss import LossOutput, info_nce, sigmoid_loss
from tectum.contrastive.targets import Ids, Targets

Kind = Literal["softmax", "sigmoid"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Edge:
    """Two views to be aligned, how much that counts, by which loss, and which of them (if any) only teaches.

    `frozen` names the view whose embeddings get no gradient from this edge, as the anchor of ImageBind. (A tower that learns
    from no edge at all is frozen in the model, which also spares its work: `Space.freeze`.)

    Raises:
        ValueError: if `frozen` is neither view, or there is no such loss.
    """

    a: str
    b: str
    weight: float = 1.0
    frozen: str | None = None
    loss: Kind = "softmax"

    def __post_init__(self) -> None:
        if self.frozen not in (None, self.a, self.b):
            raise ValueError(f"the edge {self.a}-{self.b} cannot freeze {self.frozen!r}, which is not part of it")
        if self.loss not in get_args(Kind):
            raise ValueError(f"there is no loss {self.loss!r}: choose one of {', '.join(get_args(Kind))}")


def star(anchor: str, others: Iterable[str]) -> tuple[Edge, ...]:
    """Edges from one anchor to every other view.

    >>> [(edge.a, edge.b) for edge in star("image", ["text", "audio"])]
    [('image', 'text'), ('image', 'audio')]
    """
    return tuple(Edge(a=anchor, b=other) for other in others)


def complete(views: Iterable[str]) -> tuple[Edge, ...]:
    """Edges between all views.

    >>> [(edge.a, edge.b) for edge in complete(["image", "text", "audio"])]
    [('image', 'text'), ('image', 'audio'), ('text', 'audio')]
    """
    return tuple(Edge(a=a, b=b) for a, b in combinations(views, 2))


def bind(
    embeddings: Mapping[str, Tensor],
    edges: Sequence[Edge],
    scales: Mapping[Edge, Tensor],
    targets: Mapping[Edge, Tensor | Targets] | None = None,
    *,
    ids: Mapping[str, Tensor] | None = None,
    biases: Mapping[Edge, Tensor] | None = None,
    exchange: Exchange | None = None,
    tile: int | None = None,
) -> tuple[Tensor, dict[Edge, LossOutput]]:
    """The weighted sum of the losses of all edges that have something to teach, and each edge's own output.

    A batch may be ragged: samples that lack a modality are simply not among its embeddings, and `ids` says which rows belong
    together. What has no partner in the other view still serves as a negative. An edge is passed over if a view is missing, or
    if by `ids` no sample has both.

    Args:
        embeddings: view name to unit vectors [n_view, d]; a view may be absent and the counts may differ.
        edges: the graph.
        scales: inverse temperature of each edge.
        targets: what belongs together, of each edge; for an edge left out `ids` tell, or else row i belongs to row i.
        ids: view name to the sample of each row, integers [n_view], as the rows of `Space.embed_samples`.
        biases: of the edges by sigmoid (`tectum.contrastive.loss.initial_bias` to start with).
        exchange: how processes see each other's embeddings; all then give the same views, if need be of no rows [0, d].
        tile: see `info_nce`.

    Raises:
        ValueError: if no edge is left, or an edge by sigmoid has no bias.

    >>> edge = Edge(a="image", b="text")
    >>> total, parts = bind({"image": torch.eye(4), "text": torch.eye(4)}, [edge], {edge: torch.tensor(100.0)})
    >>> float(total) < 1e-6 and float(parts[edge].accuracy)
    1.0
    >>> ids = {"image": torch.tensor([7, 8, 9]), "text": torch.tensor([9, 7])}
    >>> total, _ = bind({"image": torch.eye(3), "text": torch.eye(3)[[2, 0]]}, [edge], {edge: torch.tensor(100.0)}, ids=ids)
    >>> float(total) < 1e-6
    True
    """
    outputs: dict[Edge, LossOutput] = {}
    for edge in edges:
        if edge.a not in embeddings or edge.b not in embeddings:
            continue
        wanted: Tensor | Targets | None = None if targets is None else targets.get(edge)
        if wanted is None and ids is not None and edge.a in ids and edge.b in ids:
            if not _shared(ids[edge.a], ids[edge.b], exchange or Alone()):
                continue
            wanted = Targets(positives=Ids(ids[edge.a], ids[edge.b]))
        a, b = (embeddings[view].detach() if view == edge.frozen else embeddings[view] for view in (edge.a, edge.b))
        if edge.loss == "softmax":
            outputs[edge] = info_nce(a, b, scales[edge], targets=wanted, exchange=exchange, tile=tile)
        elif biases is None or edge not in biases:
            raise ValueError(f"the edge {edge.a}-{edge.b} by sigmoid needs a bias: give one, starting at initial_bias(batch)")
        else:
            outputs[edge] = sigmoid_loss(a, b, scales[edge], biases[edge], targets=wanted, exchange=exchange, tile=tile)
    if not outputs:
        told = "" if ids is None else " of a common sample"
        raise ValueError(f"none of the {len(edges)} edges has both its views{told} among {sorted(embeddings)}")
    weighted = [edge.weight * output.loss for edge, output in outputs.items()]
    return sum(weighted[1:], start=weighted[0]), outputs


def _shared(a: Tensor, b: Tensor, exchange: Exchange) -> bool:
    """Whether any process has a row whose sample is among the columns of all; they must agree on it."""
    found = torch.isin(a, exchange.gather(b)).any().float()
    exchange.max_(found)
    return bool(found)
