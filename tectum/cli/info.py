"""tectum info: what a library, a model folder, a folder of diffusers or a media file holds, or what this installation can do."""

from __future__ import annotations

import math
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from tectum import __version__
from tectum.cli.output import megabytes, print_facts, print_json
from tectum.errors import ConfigError

CORRECTIONS = "changed from diffusers"
"""What facts about corrections begin with; each is a share of the standard deviation of what is made."""
STEPS = (20, 30, 50)
"""For how many steps the corrections of a scheduler are told."""


def info(
    path: Annotated[
        Path | None, typer.Argument(metavar="PATH", help="A library, a model's name or folder, or a media file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """Tell what a library, a model or a file holds.

    Without a path: what this installation has.

    \b
    tectum info my.tectum
    tectum info holiday.jpg
    tectum info paint-mini
    tectum info stable-diffusion-v1-5
    """
    path = path and _folder_or_file(path)
    if path is None:
        facts = _installation()
    elif path.is_file():
        facts = _file(path)
    elif (path / "model_index.json").exists():
        facts = _pipeline(path)
    elif (path / "config.json").exists():
        facts = _model(path)
    else:
        facts = _library(path)
    if as_json:
        print_json(facts)
    else:
        print_facts({name: _told(name, value) for name, value in facts.items()})


def _folder_or_file(path: Path) -> Path:
    from tectum.hub.names import find

    found = path if path.exists() else find(path)
    if found is None:
        raise ConfigError(f"there is no {path}: give a library, a model's name or folder, or a media file")
    return found


def _installation() -> dict[str, Any]:
    import torch

    from tectum import hub

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"processor, {torch.get_num_threads()} threads"
    return {
        "tectum": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "device": device,
        "models": [model.name for model in hub.available()],
    }


def _library(path: Path) -> dict[str, Any]:
    from tectum.search.library import Library

    return asdict(Library(path).info())


def _model(path: Path) -> dict[str, Any]:
    from tectum import hub
    from tectum.hub.files import read_json
    from tectum.hub.generators import TYPE, load_text_to_image
    from tectum.models.encoders import parameter_count

    size = sum(file.stat().st_size for file in path.iterdir() if file.is_file())
    if read_json(path / "config.json").get("type") == TYPE:
        painter = load_text_to_image(path)
        return {
            "model": painter.config.name,
            "what it is": painter.config.description,
            "pixels": [painter.config.size] * 2,
            "parameters": parameter_count(painter),
            "bytes": size,
        }
    space = hub.load(path)
    return {
        "model": space.name,
        "what it is": space.config.description,
        "kinds": list(space.modalities),
        "dim": space.dim,
        "parameters": parameter_count(space),
        "fingerprint": space.fingerprint,
        "bytes": size,
    }


def _pipeline(path: Path) -> dict[str, Any]:
    """A folder of diffusers: what is in it, and how far its pictures here are from those made there of the same noise."""
    from tectum.hub.diffusers.described import describe, network_change, scheduler_changes

    found = describe(path)
    facts: dict[str, Any] = {"pipeline": found.kind, "makes pictures": "yes" if found.read else "no, its parts load one by one"}
    for name, part in found.parts.items():
        facts[name] = f"{part.kind}, {part.parameters:,} parameters" if part.parameters else part.kind
    facts["bytes"] = sum(part.bytes for part in found.parts.values())
    if "scheduler" in found.parts:
        try:
            for steps in STEPS:
                changes = scheduler_changes(path, steps)
                sizes = {"all": changes.all, **changes.each} if changes.each else {}
                facts[f"{CORRECTIONS} at {steps} steps"] = {name: _finite(size) for name, size in sizes.items()}
        except ConfigError as error:
            facts[CORRECTIONS] = str(error)
    if (change := network_change(path)) is not None:
        facts[f"{CORRECTIONS} in the network"] = {"all": _finite(change), "times": _finite(change)}
    return facts


def _finite(size: float) -> float | None:
    """JSON knows no infinity, which is how far one is from diffusers where that fails."""
    return size if math.isfinite(size) else None


def _corrections(sizes: dict[str, float | None]) -> str:
    told = {name: "from failing" if size is None else f"{100 * size:.2g} %" for name, size in sizes.items()}
    each = ", ".join(f"{name} {size}" for name, size in told.items() if name != "all")
    return f"{told['all']} of the contrast: {each}" if told else "nothing"


def _file(path: Path) -> dict[str, Any]:
    from tectum.media.kinds import sniff

    kind = sniff(path)
    facts: dict[str, Any] = {"path": str(path), "kind": kind, "bytes": path.stat().st_size}
    if kind == "image":
        from tectum.media.image import read_image

        facts["pixels"] = list(read_image(path).size)
    elif kind == "audio":
        from tectum.media.audio import sound_info

        facts |= asdict(sound_info(path))
    else:
        from tectum.media.text import read_text

        text = read_text(path)
        facts |= {"characters": len(text), "words": len(text.split())}
    return facts


def _told(name: str, value: Any) -> str:
    """A value for people: sizes with units, lists and counts on one line."""
    if name == "bytes":
        return megabytes(value)
    if name == "pixels":
        return " × ".join(map(str, value))
    if isinstance(value, dict) and name.startswith(CORRECTIONS):
        return _corrections(value)
    if isinstance(value, dict):
        return ", ".join(f"{count:,} {key}" for key, count in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}" if isinstance(value, float) else str(value)
