"""What the measuring commands read: vectors, files by label, transcripts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tectum.data.embeddings import read_vectors
from tectum.errors import EvaluationError
from tectum.media.source import display

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from tectum.models.space import Space

__all__ = ["by_modality", "labelled_files", "read_sets", "read_transcripts", "read_vectors"]


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
    from tectum.evaluate.records import read_by_id

    if path.suffix.lower() not in (".json", ".jsonl"):
        try:
            return {f"line {number}": line for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)}
        except UnicodeDecodeError as error:
            raise EvaluationError(f"{display(path)} is not UTF-8 text ({error.reason}): save it as UTF-8") from None
    return {key: str(text) for key, text in read_by_id(path, "id", "text").items()}


def by_modality(paths: Sequence[Path]) -> tuple[dict[str, np.ndarray], dict[str, list[str]]]:
    """The vectors [n, d] of .npz files by kind of media (a file without kinds is one kind, called as itself), and labels.

    Raises:
        DataError: if one is no file of vectors.
    """
    import numpy as np

    vectors: dict[str, list[np.ndarray]] = {}
    labels: dict[str, list[str]] = {}
    for path in paths:
        held = read_vectors(path)
        for kind, vector, label in zip(held.kinds or [path.stem] * len(held.ids), held.vectors, held.groups, strict=True):
            vectors.setdefault(kind, []).append(vector)
            labels.setdefault(kind, []).append(label)
    return {kind: np.stack(rows) for kind, rows in vectors.items()}, labels


def read_sets(path: Path, space: Space, images: Path) -> list[np.ndarray]:
    """The vectors [n, d] of the four sets x, y, a, b of an association test: texts, or {"image": file} below `images`.

    Raises:
        EvaluationError: if it is no such file.
    """
    import numpy as np

    from tectum.evaluate.records import read_json

    sets = read_json(path)
    if not isinstance(sets, dict) or any(not isinstance(sets.get(name), list) or not sets[name] for name in "xyab"):
        raise EvaluationError(f'{display(path)} needs four lists, {{"x": [targets], "y": […], "a": [attributes], "b": […]}}')
    found = []
    for name in "xyab":
        rows = []
        for entry in sets[name]:
            picture = isinstance(entry, dict) and "image" in entry
            made = space.embed(image=[images / str(entry["image"])]) if picture else space.embed(text=[str(entry)])
            rows.append(np.asarray(next(iter(made.values()))[0]))
        found.append(np.stack(rows))
    return found
