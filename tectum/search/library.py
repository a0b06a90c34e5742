"""A library: a folder that remembers the vectors of your media, and finds them by words, a picture or a sound.

    my.tectum/library.json     format, model and its fingerprint, length of the vectors
              catalog.sqlite   which path holds which content; what was skipped and why
              vectors/KIND     one LanceDB table for each kind of media
              lock             held by the one process that writes

Each kind has a table of its own, because the vectors of different modalities lie apart: an index over all of them would look for
pictures among the texts that resemble the query.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tectum.errors import LibraryError
from tectum.media.source import display
from tectum.models.arithmetic import compose
from tectum.search import layout
from tectum.search.catalog import Catalog
from tectum.search.indexing import FIELDS, IndexConfig, Indexer, Progress
from tectum.search.lock import interrupt_later, single_writer
from tectum.search.query import Searcher
from tectum.search.reading import Encoder, read_parts
from tectum.search.results import IndexReport, LibraryHit, LibraryInfo, Results
from tectum.search.scan import Skip, hash_file, scan
from tectum.search.store import In, IndexBuild, Store
from tectum.search.stores import open_store
from tectum.search.upkeep import clear_unused, heal

DEFAULT_MODEL = "space-mini"
KINDS = ("image", "audio", "text")

_RECALL_QUERIES = 256

__all__ = ["IndexReport", "Library", "LibraryHit", "LibraryInfo", "Results", "Skip"]


class Library:
    """A library at a folder, made on the first `add`.

    Args:
        path: the library's folder.
        space: the model; by default the one the library was made with, or space-mini for a new one, loaded when first needed.
        config: how much is done at once when indexing.

    Raises:
        LibraryError: if the folder is something else, or was made with another model.

    >>> import tectum
    >>> library = tectum.Library("my.tectum")               # doctest: +SKIP
    >>> library.add("holiday/").added                       # doctest: +SKIP
    2041
    >>> library.search(text="a dog on a beach").hits[0]     # doctest: +SKIP
    LibraryHit(path='/home/me/holiday/17.jpg', kind='image', relevance=0.98, ...)
    """

    def __init__(self, path: str | Path, space: Encoder | None = None, *, config: IndexConfig | None = None) -> None:
        self.path = Path(os.path.abspath(path))
        self.config = config or IndexConfig()
        self._space = space
        self._open_catalog: Catalog | None = None
        self._stores: dict[str, Store] = {}
        self._searcher: Searcher | None = None
        self._description = layout.read_description(self.path)
        if space is not None and self._description:
            layout.check_model(self.path, self._description, space)

    @classmethod
    def rebuild(cls, path: str | Path, space: Encoder | None = None, *, config: IndexConfig | None = None) -> Library:
        """Empty a library, to be filled anew, perhaps with another model. `info().roots` tells before what had been added.

        Raises:
            LibraryError: if the folder is no library, or is being written.
        """
        folder = Path(os.path.abspath(path))
        if folder.is_dir():
            layout.refuse_strangers(folder)
            with single_writer(folder / layout.LOCK):
                layout.clear(folder)
        return cls(folder, space, config=config)

    @property
    def space(self) -> Encoder:
        """The model, loaded when first needed.

        Raises:
            LibraryError: if the model at hand is another version than the library was made with.
            CheckpointError: if the model is not at hand.
        """
        if self._space is None:
            from tectum.hub import load

            space: Any = load(self._description.model if self._description else DEFAULT_MODEL)
            if self._description:
                layout.check_model(self.path, self._description, space)
            self._space = space
        return self._space

    def add(self, source: str | Path, *, progress: Progress | None = None) -> IndexReport:
        """Bring the index up to date with a folder, recursively, or with one file.

        New and changed files are read, known contents are recognised by their hash, files that are gone leave the index. What is
        indexed is kept whenever this is stopped; the next call goes on from there.

        Args:
            source: the folder or file.
            progress: called with (files done, files in all, path) for each file that is read; `search.progress` draws a bar.

        Raises:
            LibraryError: if there is nothing at `source`, or another process writes to the library.
        """
        started, started_ns = time.perf_counter(), time.time_ns()
        root = os.path.abspath(source)
        if not os.path.lexists(root):
            raise LibraryError(f"{display(root)} does not exist: give a folder or file to index")
        space = self.space
        with self._writing() as catalog:
            stores = {kind: self._store(kind) for kind in KINDS if kind in space.modalities}
            for store in stores.values():
                store.create(space.dim, FIELDS)
            settled = catalog.settled()
            heal(catalog, stores)
            found = scan(root, avoid=str(self.path))
            known = catalog.files(root)
            catalog.write(roots=[root])
            tally = Indexer(space, stores, catalog, self.config, started_ns).run(found.entries, known, progress)
            present = {entry.path for entry in found.entries}
            gone = [file for path, file in known.items() if path not in present and not _beneath(path, found.unread)]
            with interrupt_later():
                catalog.write(removed=[file.path for file in gone])
                touched = clear_unused(catalog, self._store) | tally.kinds
                builds = self._optimize(touched if settled else set(catalog.rows()), catalog)
        return IndexReport(
            added=tally.added,
            changed=tally.changed,
            removed=sum(not file.reason for file in gone),
            unchanged=tally.unchanged,
            reused=tally.reused,
            ignored=found.ignored,
            skipped=sorted([*found.skips, *tally.skipped], key=lambda skip: skip.path),
            builds=builds,
            seconds=time.perf_counter() - started,
        )

    def remove(self, source: str | Path) -> int:
        """Forget a folder or file, without touching it; returns the number of files forgotten."""
        root = os.path.abspath(source)
        self._existing()
        with self._writing() as catalog, interrupt_later():
            known = catalog.files(root)
            catalog.write(removed=list(known))
            catalog.forget_roots(root)
            self._optimize(clear_unused(catalog, self._store), catalog)
        return sum(not file.reason for file in known.values())

    def search(
        self,
        text: str | None = None,
        image: Any = None,
        audio: Any = None,
        *,
        k: int = 10,
        kind: str | None = None,
        threshold: float = 0.5,
    ) -> Results:
        """Find media by words, a picture, a sound, or any of them together.

        Several are composed: the sum of their unit vectors, renormalised. The hits' relevance is comparable across kinds; those
        below the threshold are left out, so no hit means that nothing was found.

        Args:
            text, image, audio: what to look for; a picture or sound as a path, bytes or decoded.
            k: number of hits at most; a file is listed once, with the best of its passages and the paths of its copies.
            kind: "image", "audio" or "text" to find only those.
            threshold: least relevance, in [0, 1].

        Raises:
            LibraryError: if there is no library, or nothing to look for, or an option does not fit.
            MediaError: if the picture or sound cannot be read.
        """
        self._existing()
        parts = {name: value for name, value in (("text", text), ("image", image), ("audio", audio)) if value is not None}
        if not parts or (text is not None and not text.strip()):
            raise LibraryError("there is nothing to search for: give a text that is not empty, an image or a sound")
        for name in parts:
            if name not in self.space.modalities:
                known = ", ".join(self.space.modalities)
                raise LibraryError(f"{self.space.name} knows {known}, not {name}: search by one of these")
        vectors = [np.asarray(self.space.embed(**{name: [value]})[name][0], np.float32) for name, value in parts.items()]
        return self.search_vector(_composed(vectors), tuple(parts), k=k, kind=kind, threshold=threshold)

    def search_vector(
        self,
        vector: np.ndarray,
        queries: tuple[str, ...] = ("text",),
        *,
        k: int = 10,
        kind: str | None = None,
        threshold: float = 0.5,
        without: str | None = None,
    ) -> Results:
        """`search` by a unit vector [dim], made of the modalities `queries`; the content with the hash `without` is no hit."""
        self._existing()
        if kind is not None and kind not in KINDS:
            raise LibraryError(f"kind is one of {', '.join(KINDS)}, not {kind!r}")
        if k < 1 or not 0 <= threshold <= 1:
            raise LibraryError(f"k is at least 1 and threshold lies between 0 and 1, not {k} and {threshold}")
        if self._searcher is None:
            self._searcher = Searcher(self._catalog(), self._store, self.space)
        return self._searcher.search(vector, queries, k=k, kinds=(kind,) if kind else KINDS, threshold=threshold, without=without)

    def similar(self, file: str | Path, *, k: int = 10, kind: str | None = None, threshold: float = 0.5) -> Results:
        """Find media like a file, which need not be in the library; it and its copies are no hits.

        Raises:
            LibraryError: if there is no library, or an option does not fit.
            MediaError: if the file cannot be read.
        """
        from tectum.media.kinds import sniff

        self._existing()
        path = os.path.abspath(file)
        modality = sniff(path)
        content = hash_file(path)
        rows = []
        if (modality, content) in self._catalog().contents():
            rows = self._store(modality).get(In("content", frozenset({content})))
        vectors = [row.vector for row in rows]
        if not vectors:
            prepared = [part.prepared for part in read_parts(self.space, modality, path)]
            vectors = list(np.asarray(self.space.encode(modality, prepared), np.float32))
        return self.search_vector(_composed(vectors), (modality,), k=k, kind=kind, threshold=threshold, without=content)

    def info(self) -> LibraryInfo:
        """What the library holds.

        Raises:
            LibraryError: if there is no library.
        """
        description, catalog = self._existing(), self._catalog()
        return LibraryInfo(
            path=str(self.path),
            model=description.model,
            fingerprint=description.fingerprint,
            dim=description.dim,
            files=catalog.counts(),
            vectors=catalog.rows(),
            skipped=catalog.skipped(),
            roots=catalog.roots(),
            bytes=layout.size(self.path),
        )

    def _existing(self) -> layout.Description:
        """The description as it is now; what was opened of an earlier state of the folder is let go."""
        description = layout.read_description(self.path)
        if description is None:
            raise LibraryError(
                f"there is no library at {display(self.path)}: make one with `tectum index FOLDER --library {display(self.path)}`"
            )
        self._remember(description)
        return description

    def _remember(self, description: layout.Description) -> None:
        if self._space is not None:
            layout.check_model(self.path, description, self._space)
        if self._description is None or self._description.id != description.id:
            if self._open_catalog:
                self._open_catalog.close()
            self._description, self._open_catalog, self._searcher, self._stores = description, None, None, {}

    def _catalog(self) -> Catalog:
        if self._open_catalog is None:
            self._open_catalog = Catalog(self.path / layout.CATALOG)
        return self._open_catalog

    def _store(self, kind: str) -> Store:
        if kind not in self._stores:
            self._stores[kind] = open_store(str(self.path / layout.VECTORS / kind))
        return self._stores[kind]

    @contextmanager
    def _writing(self) -> Iterator[Catalog]:
        """Hold the lock, and make the library if there is none."""
        self.path.mkdir(parents=True, exist_ok=True)
        layout.refuse_strangers(self.path)
        with single_writer(self.path / layout.LOCK):
            description = layout.read_description(self.path)
            if description is None:
                layout.clear(self.path)
                description = layout.describe(self.space)
                layout.write_description(self.path, description)
            self._remember(description)
            yield self._catalog()

    def _optimize(self, kinds: set[str], catalog: Catalog) -> dict[str, IndexBuild]:
        """Compact and measure. Recall is asked with the model's unrelated vectors of all modalities, as searches will ask."""
        vectors = [np.asarray(vectors, np.float32) for vectors in self.space.background.values() if len(vectors)]
        queries = np.concatenate(vectors) if vectors else None
        if queries is not None:
            queries = queries[np.linspace(0, len(queries) - 1, min(_RECALL_QUERIES, len(queries))).astype(int)]
        builds = {kind: self._store(kind).optimize(queries) for kind in KINDS if kind in kinds}
        if not catalog.settled():
            catalog.settle()
        return builds


def _beneath(path: str, folders: list[str]) -> bool:
    return any(path.startswith(folder.rstrip(os.sep) + os.sep) for folder in folders)


def _composed(vectors: Sequence[np.ndarray]) -> np.ndarray:
    """One query [dim] out of several."""
    try:
        return compose(vectors)
    except ValueError as error:
        raise LibraryError(f"{error}: search for the parts of the query one at a time") from None
