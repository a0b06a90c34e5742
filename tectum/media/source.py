"""Where media comes from: a path, bytes in memory, or an object already decoded."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path
from typing import BinaryIO

from tectum.errors import MediaError


def display(source: object) -> str:
    """One printable line that names `source`: file names keep their letters and emoji, line breaks become \\n.

    >>> display("a\\nb.jpg")
    'a\\\\nb.jpg'
    >>> display(b"abc")
    '3 bytes in memory'
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        return f"{len(source)} bytes in memory"
    if isinstance(source, (str, os.PathLike)):
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in os.fsdecode(source))
    return f"the given {type(source).__name__}"


def open_source(source: str | Path | bytes, *, max_bytes: int | None = None) -> BinaryIO:
    """Opens a regular file, or bytes in memory, for reading. Devices, pipes, sockets and folders are refused unopened.

    Raises MediaError: "unreadable" (missing, no permission, not a regular file), "empty", "huge" (over `max_bytes`).
    """
    if not isinstance(source, (str, os.PathLike, bytes, bytearray, memoryview)):
        raise MediaError(f"a {type(source).__name__} is neither a path nor bytes: give one of them", "unsupported")
    if isinstance(source, (bytes, bytearray, memoryview)):
        size = len(source)
        file: BinaryIO = io.BytesIO(source)
    else:
        try:
            # Opening a pipe waits and opening a device may act, so look first; the second look closes the race.
            if not stat.S_ISREG(os.stat(source).st_mode):
                raise MediaError(f"{display(source)} is not a regular file: give a file with media in it", "unreadable")
            file = open(source, "rb", opener=_without_waiting)  # noqa: SIM115 - the caller closes it
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                file.close()
                raise MediaError(f"{display(source)} is not a regular file: give a file with media in it", "unreadable")
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise MediaError(
                f"{display(source)} cannot be opened ({why}): check the path and its permissions", "unreadable"
            ) from error
        size = status.st_size
    if size == 0:
        file.close()
        raise MediaError(f"{display(source)} is empty (0 bytes): restore it from a copy or delete it", "empty")
    if max_bytes is not None and size > max_bytes:
        file.close()
        raise MediaError(
            f"{display(source)} has {size:,} bytes, more than the limit of {max_bytes:,}: shrink it or raise max_bytes", "huge"
        )
    return file


def _without_waiting(name: str, flags: int) -> int:
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))
