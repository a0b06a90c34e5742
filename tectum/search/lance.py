"""The LanceDB store: a folder (or s3://) that several processes may read while one writes.

LanceDB's defaults lose answers (IVF_PQ without refinement finds 16 to 41 % of the true neighbours) and its small writes pile up,
so: below `exact_below` rows the search is exact, over a copy in RAM that is loaded once per table version; above, an IVF_HNSW_SQ
index proposes at least ten times k rows whose true cosines decide, with settings that were measured to find 95 % of the true ten
nearest (or the search stays exact); rows are written in batches, and files are compacted by `optimize` only.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tectum.errors import StoreError
from tectum.search.memory import Frame, check_filter, check_query, check_rows, check_types, column, time_exact
from tectum.search.recall import QUERIES, held_out_queries, matrix_of, tenth_best
from tectum.search.sql import to_sql
from tectum.search.store import FieldTypes, Filter, Hit, IndexBuild, Row

EXACT_BELOW = 100_000
RECALL_WANTED = 0.95
# Old versions stay this long, for readers that are still in them.
KEEP_VERSIONS = timedelta(minutes=10)

_TABLE = "items"
_INDEX = "vector_idx"
_NOTE = "tectum"
_MANY_FRAGMENTS = 16
_STALE_SHARE = 0.1
_TRIES = 4
_TICK_NS = 1_000_000_000

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuning:
    """How widely an approximate search looks.

    Attributes:
        probes: IVF partitions searched.
        refine: rows whose true cosine is computed, per row wanted.
        breadth: length of HNSW's candidate list, per row refined.
    """

    probes: int
    refine: int
    breadth: float


LADDER = (
    Tuning(probes=20, refine=10, breadth=1.5),
    Tuning(probes=50, refine=20, breadth=3.0),
    Tuning(probes=200, refine=50, breadth=4.0),
)


class LanceStore:
    """Rows in one LanceDB table.

    Args:
        uri: the database's folder, or s3://bucket/folder.
        exact_below: number of rows from which an approximate index is built and used.
    """

    def __init__(self, uri: str | Path, *, exact_below: int = EXACT_BELOW) -> None:
        self.uri = str(uri)
        self.exact_below = exact_below
        self._lock = threading.RLock()
        self._table: Any = None
        self._version = 0
        self._seen: int | None = None
        self._dim = 0
        self._types: dict[str, type] = {}
        self._frame: tuple[int, Frame] | None = None
        self._note: tuple[int, dict[str, Any]] | None = None

    def create(self, dim: int, fields: FieldTypes) -> None:
        check_types(fields)
        pa, connection = _pyarrow(), self._connect()
        arrow = {str: pa.utf8(), int: pa.int64(), float: pa.float64()}
        columns = [pa.field("id", pa.utf8(), nullable=False), pa.field("vector", pa.list_(pa.float32(), dim), nullable=False)]
        columns += [pa.field(name, arrow[kind], nullable=False) for name, kind in fields.items()]
        try:
            table = connection.open_table(_TABLE)
        except ValueError:
            table = connection.create_table(_TABLE, schema=pa.schema(columns))
        self._opened(table)
        if (self._dim, self._types) != (dim, dict(fields)):
            raise StoreError(
                f"{self.uri} holds vectors of {self._dim} with fields {sorted(self._types)}, not of {dim} with {sorted(fields)}: "
                "use another folder, or remove this one"
            )

    def upsert(self, rows: Sequence[Row]) -> None:
        table = self._latest()
        latest = list({row.id: row for row in rows}.values())
        if not latest:
            return
        pa, vectors = _pyarrow(), check_rows(latest, self._dim, self._types)
        columns = [pa.array([row.id for row in latest]), pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), self._dim)]
        columns += [pa.array([row.fields[name] for row in latest]) for name in self._types]
        batch = pa.Table.from_arrays(columns, schema=pa.schema([field.remove_metadata() for field in table.schema]))
        table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(batch)

    def delete(self, where: Filter) -> int:
        table = self._latest()
        check_filter(where, self._types)
        before = table.count_rows()
        table.delete(to_sql(where))
        return before - table.count_rows()

    def search(self, vector: np.ndarray, k: int = 10, where: Filter | None = None) -> list[Hit]:
        def look() -> list[Hit]:
            table = self._latest()
            check_filter(where, self._types)
            query = check_query(vector, self._dim)
            tuning = self._tuning(table)
            if tuning is None:
                return self._exact(table).top(query, k, where)
            return self._approximate(table, query, k, where, tuning)

        return self._retried(look) if k > 0 else []

    def get(self, where: Filter | None = None, *, vectors: bool = True) -> list[Row]:
        def read() -> list[Row]:
            table = self._latest()
            check_filter(where, self._types)
            names = ["id", *self._types, *(["vector"] if vectors else [])]
            query = table.search().select(names)
            found = (query.where(to_sql(where)) if where is not None else query).to_arrow()
            matrix = matrix_of(found, self._dim) if vectors else np.zeros((found.num_rows, 0), np.float32)
            fields = found.select(list(self._types)).to_pylist() if self._types else [{}] * found.num_rows
            rows = [Row(*row) for row in zip(found["id"].to_pylist(), matrix, fields, strict=True)]
            return sorted(rows, key=lambda row: row.id)

        return self._retried(read)

    def count(self, where: Filter | None = None) -> int:
        table = self._latest()
        check_filter(where, self._types)
        return table.count_rows(None if where is None else to_sql(where))

    def optimize(self, queries: np.ndarray | None = None) -> IndexBuild:
        table = self._latest()
        self._compact(table)
        rows = table.count_rows()
        if rows < self.exact_below:
            return time_exact(self._exact(table), queries)
        note = self._read_note(table)
        statistics = table.index_stats(_INDEX)
        stale = statistics is None or statistics.num_unindexed_rows > _STALE_SHARE * rows
        given_up = statistics is None and note.get("tuning") is None and rows < 2 * note.get("trained_on", 0)
        if note and (given_up or not stale):
            return IndexBuild(rows=rows, method=note["method"], recall=note["recall"], milliseconds=note["milliseconds"])
        if statistics is None or rows > 2 * note.get("trained_on", 0):
            from lancedb.index import HnswSq

            table.create_index("vector", config=HnswSq(distance_type="cosine", ef_construction=200), replace=True, name=_INDEX)
            note = {"trained_on": rows}
        else:
            table.optimize(cleanup_older_than=KEEP_VERSIONS)
        return self._measure(table, queries, note["trained_on"])

    def _connect(self) -> Any:
        try:
            import lancedb
        except ImportError:
            raise StoreError(f"{self.uri} needs LanceDB, which is not installed: pip install 'tectum[search]'") from None
        return lancedb.connect(self.uri)

    def _latest(self) -> Any:
        """The table at its newest version."""
        with self._lock:
            if self._table is None:
                if "://" not in self.uri and not Path(self.uri).is_dir():
                    raise StoreError(f"there is no store at {self.uri}: call create first")
                try:
                    self._opened(self._connect().open_table(_TABLE))
                except (ValueError, OSError, RuntimeError) as error:
                    raise StoreError(f"the store at {self.uri} cannot be opened ({error}): remove it") from error
            seen = self._last_commit()
            if seen is None or seen != self._seen:
                self._table.checkout_latest()
                self._version = self._table.version
                # Two commits within one tick of the clock look like one: trust only what is older.
                self._seen = seen if seen is not None and time.time_ns() - seen > _TICK_NS else None
            return self._table

    def _opened(self, table: Any) -> None:
        kinds = {"string": str, "int64": int, "double": float}
        self._table, self._seen, schema = table, None, table.schema
        self._dim = schema.field("vector").type.list_size
        self._types = {field.name: kinds[str(field.type)] for field in schema if field.name not in ("id", "vector")}

    def _last_commit(self) -> int | None:
        """When a version was last added, in nanoseconds: asking the folder is a hundred times quicker than asking LanceDB."""
        try:
            return None if "://" in self.uri else os.stat(os.path.join(self.uri, f"{_TABLE}.lance", "_versions")).st_mtime_ns
        except OSError:
            return None

    def _exact(self, table: Any) -> Frame:
        """The whole table in RAM, loaded once per version."""
        with self._lock:
            if self._frame is None or self._frame[0] != self._version:
                self._frame = None
                found = table.to_arrow()
                columns = {name: column(found[name].to_pylist(), kind) for name, kind in self._types.items()}
                self._frame = (self._version, Frame(found["id"].to_pylist(), matrix_of(found, self._dim), columns))
            return self._frame[1]

    def _approximate(self, table: Any, query: np.ndarray, k: int, where: Filter | None, tuning: Tuning) -> list[Hit]:
        names = ["id", "vector", *self._types, "_distance"]
        search = table.search(query, vector_column_name="vector").distance_type("cosine").limit(k).select(names)
        # No upper limit of partitions: a narrow filter must find its rows wherever they are.
        search = search.minimum_nprobes(tuning.probes).maximum_nprobes(0).refine_factor(tuning.refine)
        search = search.ef(int(tuning.breadth * tuning.refine * k))
        found = (search.where(to_sql(where)) if where is not None else search).to_arrow()
        length = float(np.linalg.norm(query))
        fields = found.select(list(self._types)).to_pylist() if self._types else [{}] * found.num_rows
        scores = (length * (1.0 - distance) for distance in found["_distance"].to_pylist())
        hits = [Hit(*hit) for hit in zip(found["id"].to_pylist(), scores, fields, matrix_of(found, self._dim), strict=True)]
        return sorted(hits, key=lambda hit: (-hit.score, hit.id))

    def _tuning(self, table: Any) -> Tuning | None:
        """The measured settings of the approximate index, or None where search is exact."""
        with self._lock:
            if self._note is None or self._note[0] != self._version:
                large = table.count_rows() >= self.exact_below
                self._note = (self._version, self._read_note(table) if large else {})
            tuning = self._note[1].get("tuning")
        return Tuning(**tuning) if tuning else None

    def _read_note(self, table: Any) -> dict[str, Any]:
        """What `_measure` noted in the table itself, so that it changes together with the table's version."""
        text = (table.schema.field("vector").metadata or {}).get(_NOTE.encode())
        return json.loads(text) if text else {}

    def _compact(self, table: Any) -> None:
        fragments = table.stats()["fragment_stats"]
        written = fragments["num_fragments"] * fragments["lengths"]["mean"]
        if fragments["num_small_fragments"] > _MANY_FRAGMENTS or written - table.count_rows() > _STALE_SHARE * written:
            table.optimize(cleanup_older_than=KEEP_VERSIONS)

    def _measure(self, table: Any, queries: np.ndarray | None, trained_on: int) -> IndexBuild:
        """Climb the ladder of settings until recall at 10 suffices; note the result, or drop the index."""
        if queries is None or not len(queries):
            queries = held_out_queries(table, self._dim)
        queries = queries[:QUERIES]
        truth = tenth_best(table, queries, self._dim)
        rows = table.count_rows()
        for tuning in LADDER:
            found, seconds = 0, []
            for query, bound in zip(queries, truth, strict=True):
                start = time.perf_counter()
                hits = self._approximate(table, query, 10, None, tuning)
                seconds.append(time.perf_counter() - start)
                found += sum(hit.score >= bound - 1e-5 for hit in hits)
            recall, milliseconds = found / (10 * len(queries)), 1e3 * float(np.median(seconds))
            if recall >= RECALL_WANTED:
                build = IndexBuild(rows=rows, method="IVF_HNSW_SQ", recall=recall, milliseconds=milliseconds, rebuilt=True)
                self._write_note(table, build, trained_on, tuning)
                return build
        table.drop_index(_INDEX)
        build = time_exact(self._exact(table), queries)
        self._write_note(table, build, trained_on, None)
        return build

    def _write_note(self, table: Any, build: IndexBuild, trained_on: int, tuning: Tuning | None) -> None:
        note = {"method": build.method, "recall": build.recall, "milliseconds": build.milliseconds, "trained_on": trained_on}
        note["tuning"] = asdict(tuning) if tuning else None
        table.update_field_metadata({"path": "vector", "metadata": {_NOTE: json.dumps(note)}})

    def _retried(self, action: Callable[[], T]) -> T:
        """Read again, in a newer version, if the writer's clean-up took away the files of the one that was being read."""
        for attempt in range(_TRIES):
            try:
                return action()
            except (OSError, RuntimeError, ValueError) as error:
                if attempt == _TRIES - 1:
                    raise StoreError(f"the store at {self.uri} cannot be read ({error}): rebuild it") from error
                time.sleep(0.05 * 2**attempt)
        raise AssertionError


def _pyarrow() -> Any:
    import pyarrow

    return pyarrow
