"""What a library knows about files: one SQLite file that says which path holds which content, and what was skipped and why.

Vectors belong to contents (the hash of a file's bytes), and paths point at contents: a file that moved, was copied or merely
touched costs one row here and no encoding. Paths are stored as bytes, so that any name a file can have survives.
Every commit raises the generation; a reader that sees the same generation before and after has seen one state.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tectum.errors import LibraryError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, kind TEXT NOT NULL,
                    content TEXT NOT NULL, reason TEXT NOT NULL, message TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS files_by_content ON files (content, kind);
CREATE TABLE IF NOT EXISTS contents (kind TEXT NOT NULL, content TEXT NOT NULL, rows INTEGER NOT NULL,
                       PRIMARY KEY (kind, content)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS roots (path BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS generation (number INTEGER NOT NULL, settled INTEGER NOT NULL);
INSERT INTO generation SELECT 0, 0 WHERE NOT EXISTS (SELECT 1 FROM generation);
"""
_MANY = 500
_UNDER = "(path = ? OR (path > ? AND path < ?))"


@dataclass(frozen=True, slots=True)
class File:
    """One known path: indexed if `reason` is empty, else skipped for that reason.

    `mtime_ns` is -1 if the file may have changed since it was read, so that the next run looks again.
    """

    path: str
    size: int
    mtime_ns: int
    kind: str
    content: str = ""
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes that are indexed: their kind, hash, and number of rows in the store of that kind."""

    kind: str
    content: str
    rows: int


class Catalog:
    """The file `catalog.sqlite` of a library, for any number of threads and processes.

    Raises:
        LibraryError: if it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            self._connection = sqlite3.connect(path, timeout=60.0, isolation_level=None, check_same_thread=False)
            if not self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                self._connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
        except sqlite3.Error as error:
            raise LibraryError(f"{path} cannot be opened ({error}): mend it with `tectum index --rebuild`") from error

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def generation(self) -> int:
        """A number that every change raises."""
        return int(self._rows("SELECT number FROM generation")[0][0])

    def settled(self) -> bool:
        """Whether the stores were put in order after the last change; not so if a run was stopped before its end."""
        return bool(self._rows("SELECT number = settled FROM generation")[0][0])

    def settle(self) -> None:
        """Note that the stores are in order."""
        with self._transaction() as connection:
            # The transaction raises the number by one at its end.
            connection.execute("UPDATE generation SET settled = number + 1")

    def files(self, folder: str | None = None) -> dict[str, File]:
        """Known files by path: all of them, or the path itself and what lies under it."""
        query = "SELECT path, size, mtime_ns, kind, content, reason, message FROM files"
        rows = self._rows(query) if folder is None else self._rows(f"{query} WHERE {_UNDER}", _under(folder))
        found = (File(os.fsdecode(path), *rest) for path, *rest in rows)
        return {file.path: file for file in found}

    def contents(self) -> dict[tuple[str, str], int]:
        """(kind, content) to number of rows, of all contents in the stores."""
        return {(kind, content): rows for kind, content, rows in self._rows("SELECT kind, content, rows FROM contents")}

    def rows(self) -> dict[str, int]:
        """Number of rows there should be in the store of each kind."""
        return dict(self._rows("SELECT kind, sum(rows) FROM contents GROUP BY kind"))

    def counts(self) -> dict[str, int]:
        """Number of indexed files of each kind."""
        return dict(self._rows("SELECT kind, count(*) FROM files WHERE reason = '' GROUP BY kind ORDER BY kind"))

    def skipped(self) -> dict[str, int]:
        """Number of skipped files for each reason."""
        return dict(self._rows("SELECT reason, count(*) FROM files WHERE reason != '' GROUP BY reason ORDER BY reason"))

    def roots(self) -> list[str]:
        """The folders and files that were added."""
        return [os.fsdecode(path) for (path,) in self._rows("SELECT path FROM roots")]

    def paths(self, kind: str, contents: Sequence[str]) -> dict[str, list[str]]:
        """The paths, sorted, that hold each of the contents."""
        found: dict[str, list[str]] = {}
        for some in _pieces(contents):
            marks = ",".join("?" * len(some))
            query = f"SELECT content, path FROM files WHERE content IN ({marks}) AND kind = ? AND reason = '' ORDER BY path"
            for content, path in self._rows(query, (*some, kind)):
                found.setdefault(content, []).append(os.fsdecode(path))
        return found

    def write(
        self,
        *,
        files: Iterable[File] = (),
        contents: Iterable[Content] = (),
        removed: Iterable[str] = (),
        roots: Iterable[str] = (),
    ) -> None:
        """Put files, contents and roots, and forget the removed paths, all or nothing."""
        files, contents, removed = list(files), list(contents), list(removed)
        roots = set(roots) - set(self.roots())
        if not (files or contents or removed or roots):
            return
        with self._transaction() as connection:
            connection.executemany("DELETE FROM files WHERE path = ?", [(os.fsencode(path),) for path in removed])
            connection.executemany(
                "INSERT OR REPLACE INTO files VALUES (?,?,?,?,?,?,?)",
                [(os.fsencode(f.path), f.size, f.mtime_ns, f.kind, f.content, f.reason, _text(f.message)) for f in files],
            )
            connection.executemany(
                "INSERT OR REPLACE INTO contents VALUES (?,?,?)", [(c.kind, c.content, c.rows) for c in contents]
            )
            connection.executemany("INSERT OR IGNORE INTO roots VALUES (?)", [(os.fsencode(root),) for root in roots])

    def drop_unused(self) -> dict[str, list[str]]:
        """Forget the contents that no file holds any more; returns them by kind, for their rows to be deleted."""
        same = "f.content = contents.content AND f.kind = contents.kind"
        unused = f"NOT EXISTS (SELECT 1 FROM files f WHERE {same} AND f.reason = '')"
        dropped: dict[str, list[str]] = {}
        for kind, content in self._rows(f"SELECT kind, content FROM contents WHERE {unused}"):
            dropped.setdefault(kind, []).append(content)
        if dropped:
            with self._transaction() as connection:
                connection.execute(f"DELETE FROM contents WHERE {unused}")
        return dropped

    def forget(self, kind: str, contents: Sequence[str]) -> None:
        """Forget contents and the files that hold them, so that these are read again."""
        with self._transaction() as connection:
            pairs = [(kind, content) for content in contents]
            connection.executemany("DELETE FROM files WHERE kind = ? AND content = ?", pairs)
            connection.executemany("DELETE FROM contents WHERE kind = ? AND content = ?", pairs)

    def forget_roots(self, folder: str) -> None:
        """Forget that a folder, or what lies under it, was added."""
        with self._transaction() as connection:
            connection.execute(f"DELETE FROM roots WHERE {_UNDER}", _under(folder))

    def _rows(self, query: str, values: Sequence[object] = ()) -> list[tuple]:
        with self._lock:
            try:
                return self._connection.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise LibraryError(f"{self.path} cannot be read ({error}): mend it with `tectum index --rebuild`") from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("UPDATE generation SET number = number + 1")
                self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                raise LibraryError(f"{self.path} cannot be written ({error}): is the disk full or read-only?") from error
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")


def _under(folder: str) -> tuple[bytes, bytes, bytes]:
    """The values for `_UNDER`: the path itself, and all that start with it and a slash."""
    name = os.fsencode(folder)
    prefix = name.rstrip(b"/") + b"/"
    return name, prefix, prefix[:-1] + b"0"


def _pieces(values: Sequence[str]) -> Iterator[Sequence[str]]:
    for at in range(0, len(values), _MANY):
        yield values[at : at + _MANY]


def _text(message: str) -> str:
    """A message that SQLite can hold: surrogates from file names become visible escapes."""
    return message.encode("utf-8", "backslashreplace").decode("utf-8")
