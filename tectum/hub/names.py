"""Which models are at hand, and how a name becomes a folder."""

import difflib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import tectum
from tectum.errors import CheckpointError
from tectum.hub.bridge import at_size
from tectum.hub.download import download, is_hub_name
from tectum.hub.folder import load_folder
from tectum.hub.layouts import is_public, load_public
from tectum.models.space import Space
from tectum.nn.activation import Activation

_MODALITIES = {"text_to_image": ("text", "image")}


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelInfo:
    """One line of `tectum models`; `kind` is "space" or "text_to_image", and says which function opens it."""

    name: str
    kind: str
    path: Path
    description: str
    modalities: tuple[str, ...]
    bytes: int


def load(name_or_folder: str | Path, *, activation: Activation | None = None, image_size: int | None = None) -> Space:
    """Open a model: the name of a shipped one, a folder, or a name on the Hugging Face hub ("openai/clip-vit-base-patch32").

    Folders are tectum's own, or CLIP, SigLIP and CLAP as transformers, open_clip and OpenAI lay them out in safetensors.

    Args:
        name_or_folder: what to open; a folder goes before a shipped name, and that before the hub.
        activation: of the blocks, where a public checkpoint does not say it; tensors cannot tell.
        image_size: side of the pictures, if not the model's own; learned positions are interpolated.

    Raises:
        CheckpointError: if there is no such model, its folder is not whole, or it does not say what its vectors depend on.
        ConfigError: if `image_size` does not fit the model.

    >>> load("nowhere")
    Traceback (most recent call last):
        ...
    tectum.errors.CheckpointError: there is no model or folder named 'nowhere': ...
    """
    space = _open(name_or_folder, activation)
    return space if image_size is None else at_size(space, image_size)


def _open(name_or_folder: str | Path, activation: Activation | None) -> Space:
    name = str(name_or_folder)
    if Path(name).is_file():
        raise CheckpointError(f"{name} is a file: give the folder with the tokenizer and the configuration beside the weights")
    folder = find(name, "space")
    if folder is not None:
        return _open_folder(folder, activation)
    if is_hub_name(name):
        space = _open_folder(download(name), activation)
        # A library remembers its model by name, and the cache is not a place to remember.
        space.config = replace(space.config, name=name, description=f"{name} from the Hugging Face hub")
        return space
    names = [info.name for info in available() if info.kind == "space"]
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"`tectum models` lists what is at hand ({', '.join(names) or 'nothing'})"
    raise CheckpointError(f"there is no model or folder named {name!r}: {hint}")


def _open_folder(folder: Path, activation: Activation | None) -> Space:
    if is_public(folder):
        return load_public(folder, activation)
    if activation is not None:
        raise CheckpointError(f"{folder} is tectum's own, which says its activations: leave activation out")
    return load_folder(folder)


def find(name_or_folder: str | Path, kind: str | None = None) -> Path | None:
    """The folder itself, or else that of the shipped model with this name, of one kind or of any; None if there is neither."""
    if Path(name_or_folder).is_dir():
        return Path(name_or_folder)
    named = (info for info in available() if info.name == str(name_or_folder))
    return next((info.path for info in named if kind in (None, info.kind)), None)


def available() -> list[ModelInfo]:
    """The models found in $TECTUM_WEIGHTS, in the installed package and in the checkout, the first of a name winning."""
    found: dict[str, ModelInfo] = {}
    for folder in _candidates():
        try:
            described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            size = (folder / "model.safetensors").stat().st_size
            info = ModelInfo(
                name=described["name"],
                kind=described["type"],
                path=folder,
                description=described["description"],
                modalities=_MODALITIES.get(described["type"]) or tuple(described["towers"]),
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
