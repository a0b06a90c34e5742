"""What the measuring commands read: vectors, files by label, transcripts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tectum.errors import EvaluationError
from tectum.media.source import display

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class Vectors:
    """Vectors [n, d], and for each an id and the group it belongs to."""

    vectors: np.ndarray
    ids: tuple[str, ...]
    groups: tuple[str, ...]


def read_vectors(path: Path) -> Vectors:
    """An .npz file with vectors [n, d], and groups [n] or paths [n].

    Raises:
        EvaluationError: if it is not that.
    """
    import zipfile

    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            held = {name: file[name] for name in ("vectors", "groups", "paths") if name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, AttributeError) as error:
        raise EvaluationError(f"{display(path)} is no .npz file of vectors ({error}): write one with `tectum embed`") from None
    vectors = held.get("vectors")
    names = held.get("groups", held.get("paths"))
    if vectors is None or names is None or vectors.ndim != 2 or names.shape != (len(vectors),):
        raise EvaluationError(f"{display(path)} needs vectors [n, d], and groups [n] or paths [n]: write it with `tectum embed`")
    groups = tuple(str(name) if "groups" in held else Path(str(name)).stem for name in names)
    return Vectors(vectors, tuple(f"{row:09d}" for row in range(len(vectors))), groups)


def labelled_files(folder: Path, kind: str) -> dict[Path, str]:
    """Each file of a kind below a folder, and its class: the name of the folder right below `folder`.

    Raises:
        EvaluationError: if there are not two classes.
    """
    from tectum.media.kinds import EXTENSIONS

    if not folder.is_dir():
        raise EvaluationError(f"{display(folder)} is no folder: give one that holds a folder for each class")
    found = {
        path: path.relative_to(folder).parts[0].replace("_", " ")
        for path in sorted(folder.glob("*/**/*"))
        if EXTENSIONS.get(path.suffix.lower()) == kind
    }
    if len(set(found.values())) < 2:
        raise EvaluationError(f"{display(folder)} holds {kind} files of fewer than two classes: put those of a class in a folder")
    return found


def read_transcripts(path: Path) -> dict[str, str]:
    """Texts by id: lines by their number, or the records {"id", "text"} of a .json or .jsonl file.

    Raises:
        EvaluationError: if it cannot be read, or an id is there twice.
    """
    from tectum.evaluate.records import read_records

    if path.suffix.lower() not in (".json", ".jsonl"):
        try:
            return {f"line {number}": line for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)}
        except UnicodeDecodeError as error:
            raise EvaluationError(f"{display(path)} is not UTF-8 text ({error.reason}): save it as UTF-8") from None
    found: dict[str, str] = {}
    for record in read_records(path, "id", "text"):
        if found.setdefault(str(record["id"]), str(record["text"])) != str(record["text"]):
            raise EvaluationError(f"{display(path)} has two texts for {record['id']!r}: keep one")
    return found
