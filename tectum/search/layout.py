"""The folder of a library: its description, and who may touch it."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from tectum.errors import LibraryError
from tectum.files import write_text
from tectum.media.source import display

if TYPE_CHECKING:
    from tectum.search.reading import Encoder

FORMAT = 1
DESCRIPTION = "library.json"
CATALOG = "catalog.sqlite"
VECTORS = "vectors"
LOCK = "lock"
_PARTS = f".{DESCRIPTION}.*.part"  # what a killed `write_text` leaves
_OURS = frozenset({DESCRIPTION, CATALOG, f"{CATALOG}-journal", VECTORS, LOCK})


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """What `library.json` says; `id` is new each time the library is made or rebuilt."""

    id: str
    model: str
    fingerprint: str
    dim: int
    metric: str = "cosine"
    format: int = FORMAT


def describe(space: Encoder) -> Description:
    """The description of a new library."""
    return Description(id=uuid.uuid4().hex, model=space.name, fingerprint=space.fingerprint, dim=space.dim)


def read_description(folder: Path) -> Description | None:
    """What a library says of itself; None if there is no library yet.

    Raises:
        LibraryError: if the folder is a file, or its library.json cannot be understood.
    """
    if folder.exists() and not folder.is_dir():
        raise LibraryError(f"{display(folder)} is a file: give a folder for the library, for example my.tectum")
    try:
        values = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise LibraryError(
                f"{display(folder)} has format {values['format']}, and this tectum reads {FORMAT}: update tectum, or rebuild "
                "the library with `tectum index --rebuild`"
            )
        return Description(**values)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise LibraryError(
            f"{display(folder / DESCRIPTION)} cannot be read ({error}): mend it with `tectum index --rebuild`"
        ) from error


def write_description(folder: Path, description: Description) -> None:
    """Write library.json, whole or not at all."""
    write_text(folder / DESCRIPTION, json.dumps(asdict(description), indent=2))


def check_model(folder: Path, description: Description, space: Encoder) -> None:
    """Refuse a model whose vectors do not belong into this library.

    Raises:
        LibraryError: if the fingerprint differs.
    """
    if (description.fingerprint, description.dim) != (space.fingerprint, space.dim):
        given = space.name if space.name != description.model else f"another version of it ({space.fingerprint[:12]})"
        raise LibraryError(
            f"{display(folder)} was made with {description.model} ({description.fingerprint[:12]}), and the model given is "
            f"{given}: use --model {description.model}, or make it anew with `tectum index --rebuild`"
        )


def refuse_strangers(folder: Path) -> None:
    """Refuse to make a library in a folder that holds something else.

    Raises:
        LibraryError: if it does.
    """
    if (folder / DESCRIPTION).exists():
        return
    strangers = sorted(name for name in os.listdir(folder) if name not in _OURS and not fnmatch(name, _PARTS))
    if strangers:
        raise LibraryError(
            f"{display(folder)} is no library and holds other files ({display(strangers[0])}): give another folder"
        )


def clear(folder: Path) -> None:
    """Remove what a library holds, its description first, so that half a library is never taken for a whole one."""
    for path in (folder / DESCRIPTION, *folder.glob(_PARTS), folder / f"{CATALOG}-journal", folder / CATALOG):
        path.unlink(missing_ok=True)
    if (folder / VECTORS).exists():
        shutil.rmtree(folder / VECTORS)


def size(folder: Path) -> int:
    """Bytes on disk, while files may come and go."""
    total = 0
    for inside, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.stat(os.path.join(inside, name)).st_size
    return total
