"""Samples from a folder of media files, each with an optional text beside it."""

from __future__ import annotations

import os
from pathlib import Path

from tectum.data.sample import Sample, add_json, decode_text
from tectum.errors import DataError
from tectum.media.kinds import EXTENSIONS


class FolderReader:
    """Pictures and sounds below `root` with sidecars of the same stem: `cat.jpg`, `cat.txt` (text), `cat.json`.

    Files of one folder and stem are one sample: `cat.jpg` and `cat.wav` make {"image": Path, "audio": Path}. The order is that
    of the sorted relative paths. Links to files count as files, links to folders are not followed, and hidden files and texts
    without a medium are left out. Text comes from the `.txt`, or else from the field "text" or "caption" of the `.json`.

    Raises DataError if `root` is no folder, holds no media, or has two pictures (or two sounds) for one sample.

    >>> reader = FolderReader("pets")  # doctest: +SKIP
    >>> reader[0]  # doctest: +SKIP
    {'key': 'cat', 'image': PosixPath('pets/cat.jpg'), 'text': 'a cat on a sofa'}
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise DataError(f"{self.root} is no folder")
        found: dict[str, dict[str, str]] = {}  # key -> role (a modality, or "txt", "json") -> relative path
        for folder, _, names in os.walk(self.root):
            for name in names:
                path = Path(folder, name)
                role = _role(path)
                if role is None or name.startswith(".") or not path.is_file():
                    continue
                relative = path.relative_to(self.root)
                files = found.setdefault(relative.with_suffix("").as_posix(), {})
                if role in files:
                    raise DataError(f"{self.root} has both {files[role]} and {relative} for one sample: rename one of them")
                files[role] = str(relative)
        self._samples = [(key, files) for key, files in sorted(found.items()) if files.keys() & {"image", "audio"}]
        if not self._samples:
            raise DataError(f"{self.root} holds no pictures or sounds")

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        key, files = self._samples[index]
        sample: Sample = {"key": key}
        for role, name in sorted(files.items(), reverse=True):  # "txt" before "json", so that its text counts.
            path = self.root / name
            if role == "txt":
                sample["text"] = decode_text(_read(path), str(path))
            elif role == "json":
                add_json(sample, _read(path), str(path))
            else:
                sample[role] = path
        return sample


def _role(path: Path) -> str | None:
    suffix = path.suffix.lower()
    if suffix in (".txt", ".json"):
        return suffix[1:]
    kind = EXTENSIONS.get(suffix)
    return kind if kind in ("image", "audio") else None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
