"""What a folder of diffusers holds, and how far its pictures here are from those made there.

Nothing is loaded for it but, where it has one, a diffusion Transformer.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tectum.errors import CheckpointError
from tectum.hub.diffusers import dit
from tectum.hub.diffusers.folder import load_network, read_index
from tectum.hub.diffusers.parts import WEIGHTS
from tectum.hub.diffusers.pipelines import KINDS, pipeline_scheduler, size_of
from tectum.hub.diffusers.schedulers import Changes
from tectum.hub.diffusers.schedulers import load as load_scheduler
from tectum.hub.files import read_json
from tectum.nn.dit import DiT


class Part(NamedTuple):
    """A part of a pipeline's folder."""

    kind: str
    """Its class; "none" if it is left out."""
    parameters: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Description:
    """What is in a pipeline's folder.

    kind: the pipeline's class.
    read: whether `load` reads such a pipeline.
    parts: by name.
    """

    kind: str
    read: bool
    parts: dict[str, Part]


def describe(folder: str | Path) -> Description:
    """What is in the folder of any pipeline, by its index and the heads of its files.

    Raises:
        CheckpointError: as `read_index`.
    """
    index, parts = read_index(folder), {}
    for name, part in index.parts.items():
        if part is None:
            parts[name] = Part("none", 0, 0)
        else:
            files = [file for file in sorted((index.folder / name).iterdir()) if file.is_file()]
            parts[name] = Part(part[1], _parameters(files), sum(file.stat().st_size for file in files))
    return Description(index.kind, index.kind in KINDS, parts)


def scheduler_changes(folder: str | Path, steps: int) -> Changes:
    """Which corrections of its scheduler change what a folder makes at so many steps, see `Scheduler.changes`.

    Raises:
        CheckpointError, ConfigError: as `pipeline_scheduler`.
    """
    folder = Path(folder)
    known = read_json(folder / "model_index.json").get("_class_name") in KINDS
    scheduler = pipeline_scheduler(folder) if known else load_scheduler(folder / "scheduler")
    dynamic = scheduler.options.get("use_dynamic_shifting")
    return scheduler.changes(steps, mu=float(scheduler.options["max_shift"]) if dynamic else None)


def network_change(folder: str | Path) -> float | None:
    """How far what a folder's diffusion Transformer says is from what it says in diffusers, in the middle of the way.

    Root mean square over root mean square, on noise; None for other networks, which say the same.

    Raises:
        CheckpointError: as `load_network`.
    """
    place = Path(folder) / "transformer"
    if read_json(Path(folder) / "model_index.json").get("_class_name") != "DiTPipeline":
        return None
    component, said = load_network(place), read_json(place / "config.json")
    ours = component.network
    if not isinstance(ours, DiT):
        raise CheckpointError(f"{place / 'config.json'} is of the class {said.get('_class_name')}, which is no {dit.CLASS}")
    with torch.device("meta"):
        told = replace(ours.config.told, shift=1.0)
        theirs = DiT(replace(ours.config, told=told, eps_mlp=float(said.get("norm_eps", 1e-5))))
    theirs.load_state_dict(ours.state_dict(), assign=True)
    high, wide = size_of(Path(folder), "DiTPipeline", component)
    x = torch.randn(1, ours.config.channels_in, high, wide, generator=torch.Generator().manual_seed(0))
    inputs = x, torch.tensor([500.0]), {"class": torch.tensor([0])}

    def rms(difference: Tensor) -> float:
        return difference.square().mean().sqrt().item()

    with torch.no_grad():
        here, there = ours.eval()(*inputs), theirs.eval()(*inputs)
    return rms(here - there) / max(rms(there), math.ulp(0.0))


def _parameters(files: list[Path]) -> int:
    """Numbers in the safetensors among files; of one network in several precisions those of the first."""
    found = [file for file in files if file.suffix == ".safetensors"]
    plain = [file for file in found if file.name.startswith((f"{WEIGHTS}.safetensors", "model.safetensors"))]
    total = 0
    for file in plain or [file for file in found if "-of-" in file.name] or found[:1]:
        for name, tensor in _head(file).items():
            if name != "__metadata__":
                total += math.prod(tensor["shape"])
    return total


def _head(file: Path) -> dict[str, Any]:
    """The names, types and shapes at the beginning of a safetensors file."""
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if length > file.stat().st_size:
                raise ValueError("its head is longer than the file")
            head = json.loads(opened.read(length))
            return {name: value for name, value in head.items() if name == "__metadata__" or "shape" in value}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{file} cannot be read ({error}): copy the file again") from error
