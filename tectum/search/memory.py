"""Exact search in RAM by one matrix product: the `memory:` store, and the cache that the LanceDB store answers from."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from tectum.errors import StoreError
from tectum.search.store import And, Equal, FieldTypes, Filter, Hit, In, IndexBuild, Not, Or, Row, Value

UNIT_TOLERANCE = 1e-3
_TIMED_QUERIES = 32
_REMEMBERED_FILTERS = 64


class Frame:
    """Rows that do not change: ids, a matrix [n, dim] float32, and one array [n] for each field."""

    def __init__(self, ids: Sequence[str], matrix: np.ndarray, fields: Mapping[str, np.ndarray]) -> None:
        self.ids = np.array(ids, dtype=object)
        self.matrix = np.ascontiguousarray(matrix, dtype=np.float32)
        self.fields = fields
        self._selected: dict[Filter, np.ndarray] = {}

    def select(self, where: Filter | None) -> np.ndarray:
        """Indices [m] of the rows that pass."""
        if where is None:
            return np.arange(len(self.ids))
        found = self._selected.get(where)
        if found is None:
            if len(self._selected) >= _REMEMBERED_FILTERS:
                self._selected.clear()
            found = self._selected[where] = np.flatnonzero(self._mask(where))
        return found

    def top(self, vector: np.ndarray, k: int, where: Filter | None = None) -> list[Hit]:
        """The k rows that pass with the highest dot product, best first, ties by id."""
        scores = self.matrix @ check_query(vector, self.matrix.shape[1])
        rows = None if where is None else self.select(where)
        if rows is not None:
            scores = scores[rows]
        if k < 1 or not len(scores):
            return []
        # Every row as good as the k-th is sorted, so that ties are cut by id and never by memory order.
        bound = np.partition(scores, -k)[-k] if k < len(scores) else -np.inf
        best = np.flatnonzero(scores >= bound)
        indices = best if rows is None else rows[best]
        order = sorted(range(len(best)), key=lambda i: (-scores[best[i]], self.ids[indices[i]]))[:k]
        found = [(indices[i], float(scores[best[i]])) for i in order]
        return [Hit(self.ids[i], score, self._fields(i), self.matrix[i]) for i, score in found]

    def rows(self, where: Filter | None, *, vectors: bool) -> list[Row]:
        """The rows that pass, ordered by id."""
        none = np.zeros(0, np.float32)
        found = [Row(self.ids[i], self.matrix[i] if vectors else none, self._fields(i)) for i in self.select(where)]
        return sorted(found, key=lambda row: row.id)

    def _fields(self, index: int) -> dict[str, Value]:
        return {name: column[index] if column.dtype == object else column[index].item() for name, column in self.fields.items()}

    def _mask(self, where: Filter) -> np.ndarray:
        if isinstance(where, And):
            return np.logical_and.reduce([np.ones(len(self.ids), bool), *(self._mask(part) for part in where.parts)])
        if isinstance(where, Or):
            return np.logical_or.reduce([np.zeros(len(self.ids), bool), *(self._mask(part) for part in where.parts)])
        if isinstance(where, Not):
            return ~self._mask(where.part)
        column = self.ids if where.field == "id" else self.fields[where.field]
        if isinstance(where, In):
            return np.fromiter((value in where.values for value in column.tolist()), bool, len(column))
        return np.asarray(column == where.value if isinstance(where, Equal) else column < where.value, dtype=bool)


class MemoryStore:
    """The `memory:` store: rows in a dict, searched exactly. Gone when the process ends."""

    def __init__(self) -> None:
        self._dim = 0
        self._types: dict[str, type] = {}
        self._rows: dict[str, Row] = {}
        self._frame: Frame | None = None

    def create(self, dim: int, fields: FieldTypes) -> None:
        if self._dim and (self._dim, self._types) != (dim, dict(fields)):
            raise StoreError(f"the store holds vectors of {self._dim} with fields {sorted(self._types)}: open another for {dim}")
        check_types(fields)
        self._dim, self._types = dim, dict(fields)

    def upsert(self, rows: Sequence[Row]) -> None:
        vectors = check_rows(rows, self._dim, self._types)
        self._rows |= {row.id: Row(row.id, vector, row.fields) for row, vector in zip(rows, vectors, strict=True)}
        self._frame = None

    def delete(self, where: Filter) -> int:
        check_filter(where, self._types)
        doomed = [row.id for row in self._current().rows(where, vectors=False)]
        self._rows = {id: row for id, row in self._rows.items() if id not in set(doomed)} if doomed else self._rows
        self._frame = None
        return len(doomed)

    def search(self, vector: np.ndarray, k: int = 10, where: Filter | None = None) -> list[Hit]:
        check_filter(where, self._types)
        return self._current().top(vector, k, where)

    def get(self, where: Filter | None = None, *, vectors: bool = True) -> list[Row]:
        check_filter(where, self._types)
        return self._current().rows(where, vectors=vectors)

    def count(self, where: Filter | None = None) -> int:
        check_filter(where, self._types)
        return len(self._rows) if where is None else len(self._current().select(where))

    def optimize(self, queries: np.ndarray | None = None) -> IndexBuild:
        return time_exact(self._current(), queries)

    def _current(self) -> Frame:
        frame = self._frame
        if frame is None:
            if not self._dim:
                raise StoreError("the store has no table yet: call create first")
            rows = list(self._rows.values())
            matrix = np.stack([row.vector for row in rows]) if rows else np.zeros((0, self._dim), np.float32)
            columns = {name: column([row.fields[name] for row in rows], kind) for name, kind in self._types.items()}
            frame = self._frame = Frame([row.id for row in rows], matrix, columns)
        return frame


def column(values: Iterable[Value], kind: type) -> np.ndarray:
    """Values of one field as an array: text as Python strings, numbers as int64 or float64."""
    return np.array(list(values), dtype={str: object, int: np.int64, float: np.float64}[kind])


def time_exact(frame: Frame, queries: np.ndarray | None) -> IndexBuild:
    """An `IndexBuild` for exact search: recall 1 by construction, and the median time of one query."""
    queries = frame.matrix if queries is None or not len(queries) else queries
    seconds = []
    for query in queries[:_TIMED_QUERIES]:
        start = time.perf_counter()
        frame.top(query, 10)
        seconds.append(time.perf_counter() - start)
    return IndexBuild(rows=len(frame.ids), method="exact", recall=1.0, milliseconds=1e3 * float(np.median(seconds or [0.0])))


def check_types(fields: FieldTypes) -> None:
    """Refuse field names and types that some store could not hold."""
    for name, kind in fields.items():
        if not re.fullmatch("[a-z][a-z0-9_]*", name) or name in ("id", "vector"):
            raise StoreError(f"{name!r} is no name for a field: use lower-case letters, digits and _, but not 'id' or 'vector'")
        if kind not in (str, int, float):
            raise StoreError(f"field {name!r} is declared as {kind!r}: a field is str, int or float")


def check_rows(rows: Sequence[Row], dim: int, types: FieldTypes) -> np.ndarray:
    """The vectors [n, dim] float32 of rows that can be stored."""
    for row in rows:
        if np.shape(row.vector) != (dim,):
            raise StoreError(f"row {row.id!r} has a vector of shape {np.shape(row.vector)}: the store holds vectors of {dim}")
        if row.fields.keys() != types.keys():
            raise StoreError(f"row {row.id!r} has the fields {sorted(row.fields)}: the store was created with {sorted(types)}")
        for name, value in row.fields.items():
            _check_value(name, value, types[name])
        _check_value("id", row.id, str)
    vectors = np.array([row.vector for row in rows], dtype=np.float32).reshape(len(rows), dim)
    wrong = np.flatnonzero(~(np.abs(np.linalg.norm(vectors, axis=1) - 1) <= UNIT_TOLERANCE))
    if len(wrong):
        raise StoreError(f"row {rows[wrong[0]].id!r} has no finite vector of length 1: divide vectors by their norm first")
    return vectors


def check_query(vector: np.ndarray, dim: int) -> np.ndarray:
    """A query as float32 [dim]."""
    query = np.asarray(vector, dtype=np.float32)
    if query.shape != (dim,) or not np.isfinite(query).all():
        raise StoreError(f"a query must be a finite vector of {dim} numbers, not one of shape {query.shape}")
    return query


def check_filter(where: Filter | None, types: FieldTypes) -> None:
    """Refuse filters on fields that are not there or with values of another type."""
    if isinstance(where, And | Or):
        for part in where.parts:
            check_filter(part, types)
    elif isinstance(where, Not):
        check_filter(where.part, types)
    elif where is not None:
        kind = str if where.field == "id" else types.get(where.field)
        if kind is None:
            raise StoreError(f"there is no field {where.field!r} to filter by: the store has {', '.join(['id', *sorted(types)])}")
        for value in where.values if isinstance(where, In) else (where.value,):
            _check_value(where.field, value, kind)


def _check_value(name: str, value: Value, kind: type) -> None:
    if type(value) is not kind:
        raise StoreError(f"field {name!r} is {kind.__name__}, and {value!r} is {type(value).__name__}: convert it first")
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise StoreError(f"field {name!r} holds {value!r}, which is no valid Unicode: encode it reversibly first") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise StoreError(f"field {name!r} holds {value}: only finite numbers are stored and compared")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise StoreError(f"field {name!r} holds {value}, which does not fit 64 bits")
