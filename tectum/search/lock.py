"""One writer at a time, and writes that Ctrl-C does not cut in two."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from tectum.errors import LibraryError


@contextmanager
def single_writer(lock: Path) -> Iterator[None]:
    """Hold a lock file; the system lets go of it however the process ends.

    Raises:
        LibraryError: if another process holds it.
    """
    import fcntl

    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise LibraryError(
                f"{lock.parent} is being written by process {owner}: wait for it, or stop it (searching works meanwhile)"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def interrupt_later() -> Iterator[None]:
    """Let Ctrl-C wait until the block is done. Elsewhere than in the main thread, where it never strikes, nothing is changed."""
    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or previous is None:
        yield
        return
    caught: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: caught.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        if caught and callable(previous):
            previous(*caught[0])
