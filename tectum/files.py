"""Files that are whole or absent: written beside their place, forced to the disk and renamed; and what JSON makes of tuples."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def written_beside(path: str | Path) -> Iterator[IO[bytes]]:
    """A file to write to that takes the name `path` only once it is complete; what was there stays until then.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "a.txt"
    >>> with written_beside(target) as file:
    ...     _ = file.write(b"all")
    >>> target.read_bytes()
    b'all'
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with beside.open("wb+") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text in UTF-8, whole or not at all."""
    with written_beside(path) as file:
        file.write(text.encode("utf-8"))


def tupled(values: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a configuration as JSON gave them, with tuples in the place of lists.

    >>> tupled({"widths": [8, 16], "groups": 4})
    {'widths': (8, 16), 'groups': 4}
    """
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
