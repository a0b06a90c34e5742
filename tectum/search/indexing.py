"""From files to stored vectors: read ahead in threads, encode in batches, write in batches that survive a kill.

One batch is written as: rows into the stores, then one commit of the catalog. A process killed between the two leaves rows that
nothing points at; the next run writes them again or clears them away. So at most one batch of rows is lost, and those batches
that the model had in hand.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np

from tectum.media.source import display
from tectum.nn.inference import beside_decoders
from tectum.search.catalog import Catalog, Content, File
from tectum.search.lock import interrupt_later
from tectum.search.memory import UNIT_TOLERANCE
from tectum.search.reading import Encoder, Loaded, Part, ahead, load_file
from tectum.search.scan import Entry, Skip
from tectum.search.store import Row, Store, Value

FIELDS: Mapping[str, type] = {"content": str, "part": int, "start": int, "end": int, "excerpt": str}
_RECENT_NS = 2_000_000_000

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexConfig:
    """How much is done at once.

    Attributes:
        workers: threads that read and decode.
        ahead: files read before the model asks for them; while it is busy with one batch, the next two come in.
        encoders: threads with a batch each, so that the processor is never idle while a batch is read or written.
        encode_batch: items that go through the model together.
        write_rows: rows or files after which a batch is written.
        write_seconds: seconds after which a batch is written, however small.
    """

    workers: int = min(4, os.cpu_count() or 1)
    ahead: int = 192
    encoders: int = 2
    encode_batch: int = 64
    write_rows: int = 512
    write_seconds: float = 15.0


@dataclass(slots=True)
class Tally:
    """What happened to the files of one run, and the kinds of which vectors were stored."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    reused: int = 0
    kinds: set[str] = field(default_factory=set)
    skipped: list[Skip] = field(default_factory=list)


class Indexer:
    """Brings files into the stores and the catalog.

    Args:
        space: the model.
        stores: one store for each kind of media, created.
        catalog: what is known about files.
        config: how much at once.
        started_ns: when the folder was walked; files changed within two seconds of it are looked at again next time.
    """

    def __init__(
        self, space: Encoder, stores: Mapping[str, Store], catalog: Catalog, config: IndexConfig, started_ns: int
    ) -> None:
        self.space = space
        self.stores = stores
        self.catalog = catalog
        self.config = config
        self.tally = Tally()
        self._started_ns = started_ns
        self._known: dict[str, File] = {}
        self._contents = catalog.contents()
        self._waiting: dict[tuple[str, str], list[Loaded]] = {}
        self._queues: dict[str, list[tuple[str, Part]]] = {kind: [] for kind in stores}
        self._vectors: dict[tuple[str, str], list[tuple[Part, np.ndarray]]] = {}
        self._rows: dict[str, list[Row]] = {kind: [] for kind in stores}
        self._files: list[File] = []
        self._new: list[Content] = []
        self._written = time.monotonic()

    def run(self, entries: Sequence[Entry], known: Mapping[str, File], progress: Progress | None = None) -> Tally:
        """Index the entries; those whose size and time are as known are not opened.

        An exception, Ctrl-C among them, writes what is encoded before it goes on.
        """
        self._known = dict(known)
        todo = [entry for entry in entries if not self._as_known(entry)]
        done, total = len(entries) - len(todo), len(entries)
        if progress:
            progress(done, total, "")

        def counted(files: Iterable[Loaded]) -> Iterator[Loaded]:
            for number, loaded in enumerate(files, done + 1):
                yield loaded
                if progress:
                    progress(number, total, loaded.entry.path)

        config = self.config
        try:
            with (
                closing(ahead(todo, self._load, workers=config.workers, window=config.ahead)) as files,
                closing(self._batches(counted(files))) as batches,
                closing(ahead(batches, self._encoded, workers=config.encoders, window=config.encoders + 1)) as encoded,
            ):
                for kind, batch, vectors in encoded:
                    self._received(kind, batch, vectors)
                    self._write_if_due()
        finally:
            self._write()
        return self.tally

    def _as_known(self, entry: Entry) -> bool:
        known = self._known.get(entry.path)
        if known is None or (known.size, known.mtime_ns) != (entry.size, entry.mtime_ns):
            return False
        if known.reason:
            self.tally.skipped.append(Skip(entry.path, known.reason, known.message, remembered=True))
        else:
            self.tally.unchanged += 1
        return True

    def _load(self, entry: Entry) -> Loaded:
        """Read one file; runs in threads."""
        old = self._known.get(entry.path)
        old_skip = (old.content, Skip(old.path, old.reason, old.message, remembered=True)) if old and old.reason else None
        return load_file(self.space, entry, lambda kind, content: (kind, content) in self._contents, old_skip)

    def _batches(self, files: Iterable[Loaded]) -> Generator[tuple[str, list[tuple[str, Part]]], None, None]:
        """What the model is given: full batches, and what is left when time is up and at the end."""
        for loaded in files:
            self._take(loaded)
            full = len(self._queues.get(loaded.kind, ())) >= self.config.encode_batch
            if time.monotonic() - self._written > self.config.write_seconds:
                yield from self._queued(1)
            elif full:
                yield from self._queued(self.config.encode_batch)
            self._write_if_due()
        yield from self._queued(1)

    def _queued(self, least: int) -> Iterator[tuple[str, list[tuple[str, Part]]]]:
        """Batches out of the queues, as long as one has so many items."""
        size = self.config.encode_batch
        for kind, queue in self._queues.items():
            while len(queue) >= least:
                batch, queue[:size] = queue[:size], []
                yield kind, batch

    def _take(self, loaded: Loaded) -> None:
        """Queue what one file brings; a content that is known or already queued is not queued again."""
        key = (loaded.kind, loaded.content)
        if loaded.skip:
            self._skip(loaded, loaded.skip)
        elif key in self._contents:
            self.tally.reused += not self._same_content(loaded)
            self._file(loaded)
        elif key in self._waiting:
            self.tally.reused += 1
            self._waiting[key].append(loaded)
        else:
            self._waiting[key] = [loaded]
            self._queues[loaded.kind] += [(loaded.content, part) for part in loaded.parts]

    def _encoded(self, given: tuple[str, list[tuple[str, Part]]]) -> tuple[str, list[tuple[str, Part]], np.ndarray]:
        """A batch with its vectors; runs in threads."""
        kind, batch = given
        with beside_decoders(half_precision=self.space.precision == "bf16"):
            return kind, batch, np.asarray(self.space.encode(kind, [part.prepared for _, part in batch]), dtype=np.float32)

    def _received(self, kind: str, batch: list[tuple[str, Part]], vectors: np.ndarray) -> None:
        """Hand on the contents that are complete."""
        for (content, part), vector in zip(batch, vectors, strict=True):
            key = (kind, content)
            encoded = self._vectors.setdefault(key, [])
            part.prepared = None
            encoded.append((part, vector))
            if len(encoded) == len(self._waiting[key][0].parts):
                self._complete(key)

    def _complete(self, key: tuple[str, str]) -> None:
        kind, content = key
        encoded, files = self._vectors.pop(key), self._waiting.pop(key)
        if not all(abs(np.linalg.norm(vector) - 1) <= UNIT_TOLERANCE for _, vector in encoded):
            for loaded in files:
                message = f"{display(loaded.entry.path)} has no vector of length 1: open it elsewhere and save it anew"
                self._skip(loaded, Skip(loaded.entry.path, "broken", message))
            return
        for number, (part, vector) in enumerate(encoded):
            fields: dict[str, Value] = {
                "content": content,
                "part": number,
                "start": part.start,
                "end": part.end,
                "excerpt": part.excerpt,
            }
            self._rows[kind].append(Row(f"{content}-{number:03d}", vector, fields))
        self._new.append(Content(kind, content, len(encoded)))
        self._contents[key] = len(encoded)
        for loaded in files:
            self._file(loaded)

    def _file(self, loaded: Loaded) -> None:
        known = self._known.get(loaded.entry.path)
        if known is None or known.reason:
            self.tally.added += 1
        elif self._same_content(loaded):
            self.tally.unchanged += 1
        else:
            self.tally.changed += 1
        entry = loaded.entry
        self._files.append(File(entry.path, entry.size, self._trusted_time(entry), loaded.kind, loaded.content))

    def _skip(self, loaded: Loaded, skip: Skip) -> None:
        self.tally.skipped.append(skip)
        time_ns, content = (self._trusted_time(loaded.entry), loaded.content) if loaded.lasting else (-1, "")
        self._files.append(File(skip.path, loaded.entry.size, time_ns, loaded.kind, content, skip.reason, skip.message))

    def _same_content(self, loaded: Loaded) -> bool:
        known = self._known.get(loaded.entry.path)
        return known is not None and not known.reason and (known.kind, known.content) == (loaded.kind, loaded.content)

    def _trusted_time(self, entry: Entry) -> int:
        """The file's time, or -1 if it changed while being read, or too shortly before for its clock to have ticked."""
        try:
            state = os.stat(entry.path)
        except OSError:
            return -1
        same = (state.st_size, state.st_mtime_ns) == (entry.size, entry.mtime_ns)
        return entry.mtime_ns if same and abs(self._started_ns - entry.mtime_ns) > _RECENT_NS else -1

    def _write_if_due(self) -> None:
        many = len(self._files) + sum(map(len, self._rows.values())) >= self.config.write_rows
        if many or time.monotonic() - self._written > self.config.write_seconds:
            self._write()

    def _write(self) -> None:
        """Rows first, then the catalog in one commit: what the catalog knows is always in the stores."""
        with interrupt_later():
            for kind, rows in self._rows.items():
                if rows:
                    self.stores[kind].upsert(rows)
                    self.tally.kinds.add(kind)
            if self._files or self._new:
                self.catalog.write(files=self._files, contents=self._new)
            self._rows = {kind: [] for kind in self.stores}
            self._files, self._new = [], []
            self._written = time.monotonic()
