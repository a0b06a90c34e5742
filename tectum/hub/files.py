"""Reading and writing model folders: JSON, safetensors, and folders that are whole or absent."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tectum.errors import CheckpointError

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.npz", "*.msgpack", "*.h5")


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder to write in that takes the name `folder` once it is complete; it starts with what is there already."""
    beside = folder.with_name(f".{folder.name}.writing")
    shutil.rmtree(beside, ignore_errors=True)
    if folder.exists():
        shutil.copytree(folder, beside)
    beside.mkdir(parents=True, exist_ok=True)
    try:
        yield beside
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    for file in beside.iterdir():
        if file.is_file():
            file.chmod(0o644)  # safetensors writes files that only their owner may read
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(beside, folder)
    shutil.rmtree(old, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """An object as a readable JSON file."""
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def parse_json(path: Path, text: bytes) -> dict[str, Any]:
    """The object in the bytes of a JSON file.

    Raises:
        CheckpointError: if they are not JSON, or no object.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON ({error}): restore the file") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds a {type(value).__name__} where an object is needed: restore the file")
    return value


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that must hold an object.

    Raises:
        CheckpointError: if it is missing, unreadable or holds something else.
    """
    try:
        return parse_json(path, path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}): restore the file") from error


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of one safetensors file.

    Raises:
        CheckpointError: if it is missing or damaged.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}): copy the file again") from error


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], dtype: torch.dtype) -> None:
    """A safetensors file; floating-point tensors are stored as `dtype`."""
    stored = {key: tensor.detach().to(dtype) if tensor.is_floating_point() else tensor for key, tensor in tensors.items()}
    # "format" is what transformers refuses to load a file without.
    save_file({key: tensor.contiguous() for key, tensor in stored.items()}, path, metadata={"format": "pt"})


def read_weights(folder: Path, *stems: str) -> dict[str, torch.Tensor]:
    """The tensors of the first of `stems` that is there, whole ("model.safetensors") or in shards with an index.

    Raises:
        CheckpointError: if there is none, or what is there is a pickle, or a shard is missing or damaged.
    """
    for stem in stems:
        index = folder / f"{stem}.safetensors.index.json"
        if (folder / f"{stem}.safetensors").exists():
            return read_tensors(folder / f"{stem}.safetensors")
        if index.exists():
            shards = read_json(index).get("weight_map")
            names = shards.values() if isinstance(shards, dict) else [None]
            if not all(isinstance(name, str) and Path(name).name == name for name in names):
                raise CheckpointError(f"{index} has no weight_map of files beside it: restore the file")
            return {key: tensor for name in sorted(set(names)) for key, tensor in read_tensors(folder / name).items()}
    if pickles := sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern)):
        raise CheckpointError(
            f"{folder} holds its weights in {pickles[0]}, a format that can run code when it is opened or that is not read here: "
            "convert it where you trust it, with safetensors.torch.save_file(torch.load(file, weights_only=True), "
            f"'{stems[0]}.safetensors')"
        )
    raise CheckpointError(f"{folder} holds no {stems[0]}.safetensors: fetch the weights in that format")


def read_processor(folder: Path, part: str, what: str) -> tuple[Path, dict[str, Any]]:
    """The path of preprocessor_config.json and what it says, or else those of the `part` of processor_config.json.

    Raises:
        CheckpointError: if neither is there, so that `what` cannot be known.
    """
    first, second = folder / "preprocessor_config.json", folder / "processor_config.json"
    if first.exists():
        return first, read_json(first)
    if second.exists() and (said := read_json(second).get(part)):
        return second, said
    raise CheckpointError(f"{folder} has no {first.name}: {what} cannot be known from the weights; fetch that file too")
