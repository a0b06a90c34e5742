"""What the pairs of a contrastive loss are to each other: positive, ignored, doubtful. Data, given out tile by tile.

`Pairs` says something about every pair of a row and a column and needs O(n + m) memory, unless it is a dense matrix that the
user already has. `Targets` puts several of them together; the losses ask it for one tile at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from torch import Tensor

from tectum.contrastive.exchange import Exchange, Span


class Pairs(Protocol):
    """A weight ≥ 0 for every pair of a row (of `a`) and a column (of `b`)."""

    def spread(self, exchange: Exchange, n: int, m: int, span: Span) -> Pairs:
        """The same with columns counted over all processes, of which this one has [m] at `span`, and [n] rows.

        Raises ValueError if they do not fit.
        """

    def tile(self, rows: slice, columns: slice, like: Tensor) -> Tensor | None:
        """The weights [rows, columns] in the type and place of `like`; None if all are 0."""


@dataclass(frozen=True, slots=True)
class Matched:
    """Row i belongs to column i (+ `offset`) and to no other."""

    offset: int = 0

    def spread(self, exchange: Exchange, n: int, m: int, span: Span) -> Matched:
        """Own rows start where own columns do."""
        if n != m:
            raise ValueError(f"{n} and {m} embeddings need targets: without them row i pairs with row i")
        return Matched(self.offset + span.start)

    def tile(self, rows: slice, columns: slice, like: Tensor) -> Tensor | None:
        """A piece of the identity."""
        n, m = rows.stop - rows.start, columns.stop - columns.start
        diagonal = self.offset + rows.start - columns.start
        if not -n < diagonal < m:
            return None
        weights = like.new_zeros(n, m)
        weights.diagonal(diagonal).fill_(1)
        return weights


@dataclass(frozen=True, slots=True, eq=False)
class Ids:
    """Rows and columns with equal ids belong together: ids `a` [n] and `b` [m], integers.

    Equal captions share an id, and so are several positives of one picture and not its negatives.

    >>> import torch
    >>> Ids(torch.tensor([7, 8]), torch.tensor([8, 7, 7])).tile(slice(0, 2), slice(0, 3), torch.zeros(())).tolist()
    [[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]]
    """

    a: Tensor
    b: Tensor

    def spread(self, exchange: Exchange, n: int, m: int, span: Span) -> Ids:
        """The columns' ids are fetched from all processes."""
        if self.a.shape != (n,) or self.b.shape != (m,):
            raise ValueError(f"ids of shapes {tuple(self.a.shape)} and {tuple(self.b.shape)} do not fit {n} × {m} embeddings")
        return Ids(self.a, exchange.gather(self.b))

    def tile(self, rows: slice, columns: slice, like: Tensor) -> Tensor | None:
        """1 where the ids are equal."""
        equal = self.a[rows, None] == self.b[columns]
        return equal.to(like) if bool(equal.any()) else None


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    """Any weights [n, m]; over several processes [own rows, columns of all]."""

    matrix: Tensor

    def spread(self, exchange: Exchange, n: int, m: int, span: Span) -> Dense:
        """Itself: it has the columns of all."""
        if self.matrix.shape != (n, span.total):
            raise ValueError(f"targets of shape {tuple(self.matrix.shape)} do not fit {n} × {span.total} embeddings")
        return self

    def tile(self, rows: slice, columns: slice, like: Tensor) -> Tensor | None:
        """A piece of the matrix."""
        return self.matrix[rows, columns].to(like)


class Tile(NamedTuple):
    """What the pairs of one tile [r, c] are; None stands for the usual."""

    positive: Tensor | None
    """Target weights; None: no pair is a target."""
    trusted: Tensor | None
    """Target weights times confidence; the same tensor as `positive` if all are trusted."""
    kept: Tensor | None
    """False for pairs that take no part; None: all take part."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Targets:
    """What a contrastive loss pulls together, pushes apart and leaves alone.

    >>> import torch
    >>> captions = torch.tensor([0, 0, 1, 2])  # two pictures have the same caption
    >>> Targets(positives=Ids(captions, captions), smoothing=0.1).positives.tile(slice(0, 1), slice(0, 4), torch.zeros(()))
    tensor([[1., 1., 0., 0.]])
    """

    positives: Pairs = Matched()
    """Weights ≥ 0 of the pairs that belong together. The softmax makes them sum to one in each row and column; the sigmoid
    takes them as probabilities."""
    ignored: Pairs | None = None
    """Pairs with a weight > 0 that are left out altogether (also of the denominators), unless they are positives."""
    confidence: Tensor | None = None
    """How far the positives are believed, 0 … 1: [n] for all of a row, or dense as in `Dense`. Doubtful pairs attract less;
    they do not become negatives. Softmax: q_ij ∝ t_ij w_ij, and the row counts Σ_j t_ij w_ij / Σ_j t_ij in the mean over rows;
    columns alike. Sigmoid: the positive term of the pair is multiplied by w_ij."""
    smoothing: float = 0.0
    """Label smoothing ε in 0 … 1 (Szegedy et al. 2016, arXiv:1512.00567, §7). Softmax: the targets of a row become
    (1-ε) q_ij + ε / (number of pairs kept); sigmoid: (1-ε) t_ij + ε / 2."""
    hardness: float = 0.0
    """β ≥ 0 of Robinson et al. 2021 (arXiv:2010.04592, eq. 4 with τ⁺ = 0), softmax only. With N negatives, their part of the
    denominator Σ_j exp(l_ij) becomes N Σ_j exp((1+β) l_ij) / Σ_j exp(β l_ij): the mean under weights ∝ exp(β l), so that hard
    negatives count more. Here l = scale · cos, as in the authors' code, and the gradient flows through the weights."""

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing <= 1:
            raise ValueError(f"smoothing = {self.smoothing} is outside 0 … 1")
        if self.hardness < 0:
            raise ValueError(f"hardness = {self.hardness} is negative: 0 weighs all negatives alike")

    def spread(self, exchange: Exchange, n: int, m: int, span: Span) -> Targets:
        """As `Pairs.spread`."""
        if self.confidence is not None and self.confidence.shape not in ((n,), (n, span.total)):
            shape = tuple(self.confidence.shape)
            raise ValueError(f"confidence of shape {shape} fits neither {n} rows nor {n} × {span.total} embeddings")
        return replace(
            self,
            positives=self.positives.spread(exchange, n, m, span),
            ignored=None if self.ignored is None else self.ignored.spread(exchange, n, m, span),
        )

    def tile(self, rows: slice, columns: slice, like: Tensor) -> Tile:
        """The pairs [rows, columns]."""
        positive = self.positives.tile(rows, columns, like)
        trusted = positive
        if positive is not None and self.confidence is not None:
            believed = self.confidence[rows, None] if self.confidence.ndim == 1 else self.confidence[rows, columns]
            trusted = positive * believed.to(like)
        ignored = None if self.ignored is None else self.ignored.tile(rows, columns, like)
        if ignored is None:
            return Tile(positive, trusted, None)
        kept = ignored <= 0 if positive is None else (ignored <= 0) | (positive > 0)
        return Tile(positive, trusted, kept)


def match_ids(a: Tensor, b: Tensor) -> Tensor:
    """Dense targets [n, m] from ids [n] and [m]: 1 where they are equal. `Ids` says the same without the matrix.

    >>> import torch
    >>> match_ids(torch.tensor([7, 8]), torch.tensor([8, 7, 7])).tolist()
    [[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]]
    """
    return (a[:, None] == b[None, :]).float()
