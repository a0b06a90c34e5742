"""Vector stores: seven methods over rows of (id, unit vector, fields), and the filters they understand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

Value = str | int | float
FieldTypes = Mapping[str, type]


@dataclass(frozen=True, slots=True)
class Row:
    """One stored vector [dim] of length 1 and what belongs to it; an empty vector [0] where none was asked for."""

    id: str
    vector: np.ndarray
    fields: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer: `score` is the dot product of unit vectors, the cosine, and `vector` [dim] the stored one."""

    id: str
    score: float
    fields: Mapping[str, Value]
    vector: np.ndarray = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Equal:
    """Rows whose field, or whose `id`, equals the value."""

    field: str
    value: Value


@dataclass(frozen=True, slots=True)
class In:
    """Rows whose field, or whose `id`, is one of the values."""

    field: str
    values: frozenset[Value]


@dataclass(frozen=True, slots=True)
class Below:
    """Rows whose field, or whose `id`, is smaller than the value; text by its code points."""

    field: str
    value: Value


@dataclass(frozen=True, slots=True)
class And:
    """Rows that pass every part (all rows if there is no part)."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Rows that pass at least one part (no row if there is no part)."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """Rows that do not pass."""

    part: Filter


Filter = Equal | In | Below | And | Or | Not


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexBuild:
    """How a store answers after `optimize`, measured.

    Attributes:
        rows: rows in the store.
        method: "exact", or the type of the approximate index.
        recall: share of the true ten nearest rows found, mean over the queries; 1 by construction where the search is exact.
        milliseconds: median time of one query.
        rebuilt: whether an approximate index was built or extended just now.

    >>> str(IndexBuild(rows=200_000, method="IVF_HNSW_SQ", recall=0.9921, milliseconds=1.13))
    '200,000 vectors, IVF_HNSW_SQ: recall 0.992 at 1.1 ms'
    """

    rows: int
    method: str
    recall: float
    milliseconds: float
    rebuilt: bool = False

    def __str__(self) -> str:
        return f"{self.rows:,} vectors, {self.method}: recall {self.recall:.3f} at {self.milliseconds:.1f} ms"


class Store(Protocol):
    """What every store can do. One process writes at a time; any number may read meanwhile."""

    def create(self, dim: int, fields: FieldTypes) -> None:
        """Make the table if it is not there; fields map names to str, int or float.

        Raises:
            StoreError: if it is there with another length or other fields.
        """

    def upsert(self, rows: Sequence[Row]) -> None:
        """Insert rows, replacing those whose id is taken, all or none of them.

        Raises:
            StoreError: if a vector is not a finite unit vector of the right length, or the fields are not the declared ones.
        """

    def delete(self, where: Filter) -> int:
        """Delete the rows that pass; returns how many."""

    def search(self, vector: np.ndarray, k: int = 10, where: Filter | None = None) -> list[Hit]:
        """The k rows that pass with the highest dot product with `vector` [dim], best first, ties by id."""

    def get(self, where: Filter | None = None, *, vectors: bool = True) -> list[Row]:
        """The rows that pass, ordered by id."""

    def count(self, where: Filter | None = None) -> int:
        """How many rows pass."""

    def optimize(self, queries: np.ndarray | None = None) -> IndexBuild:
        """Compact, build an approximate index if the store is large, and measure recall at 10 on `queries` [n, dim].

        Without queries, 256 stored rows are perturbed and asked. Only the one writer may call this.
        """
