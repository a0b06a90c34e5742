"""Which models are at hand, and how a name becomes a folder."""

import difflib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tectum
from tectum.errors import CheckpointError
from tectum.hub.folder import load_folder
from tectum.models.space import Space


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelInfo:
    """One line of `tectum models`."""

    name: str
    path: Path
    description: str
    modalities: tuple[str, ...]
    bytes: int


def load(name_or_folder: str | Path) -> Space:
    """Open a model by the name of a shipped one or by its folder.

    Raises:
        CheckpointError: if there is no such model, or its folder is not whole.

    >>> load("space-mini").modalities
    ('image', 'text', 'audio')
    """
    folder = Path(name_or_folder)
    if folder.is_dir():
        return load_folder(folder)
    names = {info.name: info.path for info in available()}
    if str(name_or_folder) in names:
        return load_folder(names[str(name_or_folder)])
    close = difflib.get_close_matches(str(name_or_folder), names, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"`tectum models` lists what is at hand ({', '.join(names) or 'nothing'})"
    raise CheckpointError(f"there is no model or folder named {str(name_or_folder)!r}: {hint}")


def available() -> list[ModelInfo]:
    """The models found in $TECTUM_WEIGHTS, in the installed package and in the checkout, the first of a name winning."""
    found: dict[str, ModelInfo] = {}
    for folder in _candidates():
        try:
            described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            size = (folder / "model.safetensors").stat().st_size
            info = ModelInfo(
                name=described["name"],
                path=folder,
                description=described["description"],
                modalities=tuple(described["towers"]),
                bytes=size,
            )
        except (OSError, ValueError, KeyError):
            continue
        found.setdefault(info.name, info)
    return list(found.values())


def _candidates() -> Iterator[Path]:
    package = Path(tectum.__file__).parent
    roots = [package / "weights", package.parent / "weights"]
    if os.environ.get("TECTUM_WEIGHTS"):
        roots.insert(0, Path(os.environ["TECTUM_WEIGHTS"]))
    for root in roots:
        if root.is_dir():
            yield from sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
