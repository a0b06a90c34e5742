"""Walk a folder for media: every file once, in the same order each time, whatever the folder holds."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from tectum.errors import MediaError
from tectum.media.kinds import EXTENSIONS, Kind
from tectum.media.source import display

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """A file that may be indexed; `path` may hold undecodable bytes as surrogates (PEP 383)."""

    path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Skip:
    """A file or folder left out, and why; `remembered` if an earlier run found out and the file has not changed since."""

    path: str
    reason: str
    message: str
    remembered: bool = False


@dataclass(slots=True)
class Scan:
    """What a walk found.

    Attributes:
        entries: media files, sorted by the bytes of their names within each folder, files before folders.
        skips: what has a media name but is no readable file, and folders that cannot be listed.
        unread: paths beneath which nothing is known.
        ignored: files of other kinds, hidden ones, and links to files found under their own names.
    """

    entries: list[Entry] = field(default_factory=list)
    skips: list[Skip] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    ignored: int = 0


def kind_of_name(path: str) -> Kind | None:
    """The kind of media that a file's extension says, if any.

    >>> kind_of_name("a/B.JPG"), kind_of_name("notes.pdf")
    ('image', None)
    """
    return EXTENSIONS.get(os.path.splitext(path)[1].lower())


def scan(root: str, *, avoid: str | None = None) -> Scan:
    """Find the media under a folder, or look at a single file.

    Links to folders are followed, after the real folders and at most once for each (device, inode), so circles end; a link to a
    file is taken if the file itself was not found. Hidden files and folders, libraries (`*.tectum`) and `avoid` are passed over.
    Nothing is opened: pipes and devices stay untouched.

    Args:
        root: an absolute path.
        avoid: a folder not to enter.
    """
    found = Scan()
    if not os.path.isdir(root):
        _add_file(found, root, set())
        return found
    seen_files: set[tuple[int, int]] = set()
    seen_folders: set[tuple[int, int]] = set()
    links_to_files: list[str] = []
    folders = [root]
    links_to_folders: list[str] = []
    while folders or links_to_folders:
        folder = folders.pop() if folders else links_to_folders.pop(0)
        inner: list[str] = []
        for entry in _list(folder, found, seen_folders):
            if entry.name.startswith("."):
                found.ignored += 1
            elif _is_folder(entry):
                if not entry.name.endswith(".tectum") and entry.path != avoid:
                    (links_to_folders if entry.is_symlink() else inner).append(entry.path)
            elif kind_of_name(entry.name) is None:
                found.ignored += 1
            elif entry.is_symlink():
                links_to_files.append(entry.path)
            else:
                _add_file(found, entry.path, seen_files)
        folders += reversed(inner)
    for path in links_to_files:
        _add_file(found, path, seen_files, link=True)
    return found


def hash_file(path: str) -> str:
    """BLAKE2b of a regular file's bytes, 160 bits in hexadecimal, read in blocks.

    Raises:
        OSError: if it cannot be read.
        MediaError: if it is a pipe or device.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise MediaError(f"{display(path)} is no regular file: only files are indexed", "unsupported")
        digest = hashlib.blake2b(digest_size=20)
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _list(folder: str, found: Scan, seen: set[tuple[int, int]]) -> Iterator[os.DirEntry[str]]:
    try:
        state = os.stat(folder)
        if (state.st_dev, state.st_ino) in seen:
            return
        seen.add((state.st_dev, state.st_ino))
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        found.unread.append(folder)
        message = f"{display(folder)} cannot be listed ({error.strerror}): check its permissions"
        found.skips.append(Skip(folder, "unreadable", message))
        return
    yield from entries


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _add_file(found: Scan, path: str, seen: set[tuple[int, int]], *, link: bool = False) -> None:
    try:
        state = os.stat(path)
    except OSError as error:
        hint = "it is a link to nothing, or in a circle: remove it" if os.path.islink(path) else "check its permissions"
        found.skips.append(Skip(path, "unreadable", f"{display(path)} cannot be read ({error.strerror}): {hint}"))
        return
    if not stat.S_ISREG(state.st_mode):
        found.skips.append(Skip(path, "unsupported", f"{display(path)} is a pipe, socket or device: only files are indexed"))
    elif link and (state.st_dev, state.st_ino) in seen:
        found.ignored += 1
    else:
        seen.add((state.st_dev, state.st_ino))
        found.entries.append(Entry(path, state.st_size, state.st_mtime_ns))
