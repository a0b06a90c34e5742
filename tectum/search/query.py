"""Search of a library: per kind of media, each hit against null distributions of its own, merged by relevance."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tectum.search.catalog import Catalog
from tectum.search.reading import Encoder
from tectum.search.relevance import MIN_NULL, calibration_for, null_of, prior_of, relevance
from tectum.search.results import LibraryHit, Results
from tectum.search.store import Below, Hit, Store

# Enough own vectors for moments within 5 %, and few enough to compare each query with.
_SAMPLE = 1024
_TRIES = 5
# The nearest by cosine are put in order by relevance, which is not the same order: so many, or k.
_RESCORED = 20


@dataclass(slots=True)
class _Snapshot:
    """What stays true for one generation of the catalog."""

    generation: int
    files: dict[str, int]
    rows: dict[str, int]
    samples: dict[str, np.ndarray | None]


class Searcher:
    """Searches a library that another process may be writing.

    Args:
        catalog: the library's files.
        store: gives the store of a kind.
        space: for its background vectors and calibration.
    """

    def __init__(self, catalog: Catalog, store: Callable[[str], Store], space: Encoder) -> None:
        self.catalog = catalog
        self.store = store
        self.space = space
        self._background = {kind: np.asarray(vectors, np.float32) for kind, vectors in space.background.items()}
        self._snapshot: _Snapshot | None = None

    def search(
        self, vector: np.ndarray, queries: tuple[str, ...], *, k: int, kinds: Sequence[str], threshold: float, without: str | None
    ) -> Results:
        """The k best files of the kinds; see `Library.search`."""
        started = time.perf_counter()
        vector = np.asarray(vector, np.float32)
        for _ in range(_TRIES):
            # The writer raises the generation before rows vanish and after rows appear, so an unchanged one means one state.
            snapshot = self._current()
            present = [kind for kind in kinds if kind in snapshot.rows]
            found = [hit for kind in present for hit in self._of_kind(snapshot, kind, vector, queries, k, without)]
            if self.catalog.generation() == snapshot.generation:
                break
        found.sort(key=lambda hit: (-hit.relevance, -hit.cosine, hit.path))
        below = [hit.relevance for hit in found if hit.relevance < threshold]
        return Results(
            hits=tuple(hit for hit in found if hit.relevance >= threshold)[:k],
            considered=sum(snapshot.files.get(kind, 0) for kind in kinds),
            best_below=max(below, default=None),
            queries=queries,
            threshold=threshold,
            seconds=time.perf_counter() - started,
        )

    def _current(self) -> _Snapshot:
        generation = self.catalog.generation()
        if self._snapshot is None or self._snapshot.generation != generation:
            self._snapshot = _Snapshot(generation, self.catalog.counts(), self.catalog.rows(), {})
        return self._snapshot

    def _of_kind(
        self, snapshot: _Snapshot, kind: str, vector: np.ndarray, queries: tuple[str, ...], k: int, without: str | None
    ) -> list[LibraryHit]:
        background = self._background.get(kind, np.zeros((0, len(vector)), np.float32))
        own = self._sample(snapshot, kind)
        of_query = null_of(background @ vector, None if own is None else own @ vector)
        # Where both are of one kind the cosine says it all, and what is identical must come first.
        unrelated = self._unrelated(() if kind in queries else queries, len(vector))
        calibration = calibration_for(queries, kind, self.space.calibration)
        prior = prior_of(snapshot.rows[kind])
        hits = []
        for hit, paths in self._nearest(kind, vector, max(k, _RESCORED), without):
            start, end, excerpt = hit.fields["start"], hit.fields["end"], hit.fields["excerpt"]
            hits.append(
                LibraryHit(
                    path=paths[0],
                    kind=kind,
                    relevance=relevance(hit.score, of_query, null_of(unrelated @ hit.vector), calibration, prior),
                    cosine=hit.score,
                    excerpt=str(excerpt),
                    start=int(start),
                    end=int(end),
                    copies=tuple(paths[1:]),
                )
            )
        return hits

    def _unrelated(self, queries: tuple[str, ...], dim: int) -> np.ndarray:
        """Vectors [m, dim] of queries that ask for something else, composed like this one; none where the model ships none."""
        parts = [self._background.get(query, np.zeros((0, dim), np.float32)) for query in queries]
        number = min(map(len, parts), default=0)
        if not number:
            return np.zeros((0, dim), np.float32)
        # Spread over each part, since they are ordered by what they show.
        total = np.sum([part[np.linspace(0, len(part) - 1, number).astype(int)] for part in parts], axis=0)
        return np.asarray(total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-6), np.float32)

    def _nearest(self, kind: str, vector: np.ndarray, k: int, without: str | None) -> list[tuple[Hit, list[str]]]:
        """The best row of each of the k nearest contents that a file holds, with its paths."""
        limit = k + 1 if kind != "text" else 4 * k
        while True:
            rows = self.store(kind).search(vector, limit)
            best: dict[str, Hit] = {}
            for hit in rows:
                best.setdefault(str(hit.fields["content"]), hit)
            paths = self.catalog.paths(kind, list(best))
            found = [(hit, paths[content]) for content, hit in best.items() if content in paths and content != without]
            if len(found) >= k or len(rows) < limit:
                return found[:k]
            limit *= 4

    def _sample(self, snapshot: _Snapshot, kind: str) -> np.ndarray | None:
        """About a thousand of the library's own vectors [n, dim], those with the smallest hashes: a fair draw."""
        if kind not in snapshot.samples:
            sample: np.ndarray | None = None
            number = snapshot.rows[kind]
            bound = Below("content", f"{_SAMPLE * 0xFFFFFFFF // number:08x}") if number > _SAMPLE else None
            rows = self.store(kind).get(bound) if number >= MIN_NULL else []
            if len(rows) >= MIN_NULL:
                sample = np.stack([row.vector for row in rows])
            snapshot.samples[kind] = sample
        return snapshot.samples[kind]
