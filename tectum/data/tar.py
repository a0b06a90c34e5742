"""Samples from tar archives in the WebDataset layout (Aizman et al. 2019, arXiv:2001.01858), with random access.

`0001.jpg`, `0001.txt` and `0001.json` in one archive are the sample with key `0001`: the key reaches to the first dot of the
file's name, the rest is the field.
"""

from __future__ import annotations

import tarfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tectum.data.sample import Sample, add_json, decode_text
from tectum.errors import DataError
from tectum.media.kinds import EXTENSIONS


class _Member(NamedTuple):
    field: str
    offset: int
    size: int


class TarReader:
    """The samples of one or several uncompressed tar files, in the order of their first members.

    The headers are read once, when the reader is made; after that a sample is read from its offset, from any thread. Pictures
    and sounds come as bytes under "image" and "audio", `.txt` as "text", `.json` as "json" (and "text", if it holds one);
    every other field as bytes under its own name (`0001.seg.png` gives "seg.png").

    Nothing is ever extracted to the disk. Members that a sane archive does not hold are left out and counted in `skipped`:
    "path" (absolute, or climbing by `..`), "link", "device" (also FIFOs), "sparse", "hidden" (names that start with a dot).

    Raises DataError if an archive cannot be read, is compressed, is cut short, or holds a field twice.

    >>> reader = TarReader("shard-000.tar")  # doctest: +SKIP
    >>> reader[0].keys()  # doctest: +SKIP
    dict_keys(['key', 'image', 'text'])
    """

    def __init__(self, paths: str | Path | Sequence[str | Path]) -> None:
        self.paths = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
        self.skipped: Counter[str] = Counter()
        self._samples: list[tuple[int, str, list[_Member]]] = []  # (number of the archive, key, members)
        for number, path in enumerate(self.paths):
            found = _index(path, self.skipped)
            self._samples.extend((number, key, members) for key, members in found.items())
        if not self._samples:
            raise DataError(f"{', '.join(map(str, self.paths)) or 'the list of archives'} holds no samples")

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        number, key, members = self._samples[index]
        path = self.paths[number]
        contents = _contents(path, members)
        sample: Sample = {"key": key}
        for field in sorted(contents, reverse=True):  # "txt" before "json", so that its text counts.
            where = f"{key}.{field} in {path}"
            kind = EXTENSIONS.get("." + field)
            if kind in ("image", "audio"):
                if kind in sample:
                    raise DataError(f"{key} in {path} has two files of kind {kind}: leave one of them")
                sample[kind] = contents[field]
            elif field == "txt":
                sample["text"] = decode_text(contents[field], where)
            elif field == "json":
                add_json(sample, contents[field], where)
            else:
                sample[field] = contents[field]
        return sample


def _index(path: Path, skipped: Counter[str]) -> dict[str, list[_Member]]:
    """The members of an archive by key."""
    found: dict[str, list[_Member]] = {}
    try:
        length = path.stat().st_size
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in iter(archive.next, None):
                # tarfile would keep every header in memory.
                archive.members.clear()  # type: ignore[attr-defined]
                if member.isdir():
                    continue
                reason = _unsafe(member)
                if reason is not None:
                    skipped[reason] += 1
                    continue
                if member.size < 0 or member.offset_data + member.size > length:
                    raise DataError(f"{path} is cut short within {member.name!r}: copy it again")
                where = PurePosixPath(member.name)
                stem, _, field = where.name.partition(".")
                key, field = str(where.with_name(stem)), field.lower()
                members = found.setdefault(key, [])
                if any(other.field == field for other in members):
                    raise DataError(f"{path} holds {member.name!r} twice: write the archive anew")
                members.append(_Member(field, member.offset_data, member.size))
            # tarfile stops without a word at a broken header; a whole archive ends there with an empty block.
            file.seek(archive.offset)
            ending = file.read(tarfile.BLOCKSIZE)
    except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError) as error:
        raise DataError(f"{path} is no whole, uncompressed tar archive ({error}): unpack or copy it again") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    if ending != bytes(tarfile.BLOCKSIZE):
        raise DataError(f"{path} is cut short or damaged at byte {archive.offset}: copy it again")
    return found


def _unsafe(member: tarfile.TarInfo) -> str | None:
    """Why a member is left out, or None."""
    path = PurePosixPath(member.name)
    if member.issym() or member.islnk():
        return "link"
    if not member.isreg():
        return "device"
    if member.issparse():
        return "sparse"
    if path.is_absolute() or ".." in path.parts or "\\" in member.name or not path.name:
        return "path"
    return "hidden" if path.name.startswith(".") else None


def _contents(path: Path, members: Sequence[_Member]) -> dict[str, bytes]:
    contents = {}
    try:
        with path.open("rb") as file:
            for member in members:
                file.seek(member.offset)
                contents[member.field] = file.read(member.size)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    if any(len(contents[member.field]) != member.size for member in members):
        raise DataError(f"{path} became shorter since it was opened: open it anew")
    return contents
