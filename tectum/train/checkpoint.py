"""Checkpoints of a run: folders `step-N` that appear whole or not at all, so that `kill -9` never leaves half of one.

A checkpoint is written beside its place under a name that ends in `.partial`, forced to the disk and renamed, which is atomic.
The last two are kept. Tensors lie in safetensors files, everything else in `state.json`; nothing is pickled.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tectum.errors import CheckpointError, ConfigError
from tectum.files import write_text

KEEP = 2
_STEP = re.compile(r"step-(\d+)")


class Checkpoint(NamedTuple):
    """What `read` gives back: named groups of tensors ("module", "ema", "optimizer") and a JSON object."""

    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a second run out of `folder`; the lock ends with the process, however it ends. Raises ConfigError if it is held.

    Does nothing where the system has no advisory locks (Windows).
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    with (folder / "lock").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"another run is writing to {folder}: wait for it, stop it, or choose another folder") from error
        yield


def write(folder: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> None:
    """Write the checkpoint of `step` into `folder`, then remove all but the last two.

    Raises CheckpointError if the disk refuses.
    """
    place = folder / f"step-{step:08d}"
    partial = place.with_name(place.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name, group in tensors.items():
            save_tensors(partial / f"{name}.safetensors", group)
        write_text(partial / "state.json", json.dumps(state, indent=1))
        _sync(partial)
        if place.exists():
            _remove(place)
        os.rename(partial, place)
        _sync(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise CheckpointError(f"cannot write the checkpoint {place}: {error}; free or mend the disk and run again") from error
    _keep(folder, KEEP)


def find(folder: Path) -> list[Path]:
    """The whole checkpoints in `folder`, oldest first."""
    found = [path for path in folder.iterdir() if _STEP.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(found, key=step_of)


def step_of(path: Path) -> int:
    """The step in a checkpoint's name."""
    match = _STEP.fullmatch(path.name)
    if match is None:
        raise CheckpointError(f"{path} is not named like a checkpoint (step-N)")
    return int(match[1])


def read(path: Path) -> Checkpoint:
    """Read one checkpoint. Raises CheckpointError if a file is missing or damaged."""
    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        tensors = {name: load_file(path / f"{name}.safetensors") for name in ("module", "ema", "optimizer")}
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"the checkpoint {path} is damaged ({error}): remove it to continue from an earlier one") from error
    return Checkpoint(tensors, state)


def clean(folder: Path, *, everything: bool = False) -> None:
    """Remove what a killed run left half written or half removed; with `everything`, the checkpoints too."""
    for path in folder.glob("*.partial") if folder.is_dir() else ():
        shutil.rmtree(path, ignore_errors=True)
    _keep(folder, 0 if everything else KEEP)


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file beside its place, force it to the disk and rename it.

    Tensors that share memory (tied weights) are written once each, so that the file loads like a plain state dict.
    """
    beside = path.with_name(path.name + ".partial")
    save_file({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}, beside)
    _sync(beside)
    os.replace(beside, path)


def _keep(folder: Path, count: int) -> None:
    checkpoints = find(folder)
    for old in checkpoints[: max(len(checkpoints) - count, 0)]:
        _remove(old)


def _remove(path: Path) -> None:
    # Renamed first: a removal that is cut short must not leave something that looks like a checkpoint.
    doomed = path.with_name(path.name + ".removed.partial")
    shutil.rmtree(doomed, ignore_errors=True)
    os.rename(path, doomed)
    shutil.rmtree(doomed)


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows has no handle to force a folder to the disk.
        return
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
