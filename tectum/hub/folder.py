"""A space on disk: a folder with everything the numbers depend on, and no pickle.

config.json             architecture, templates, calibration, format version
preprocess.json         per modality: picture and mel specifications
model.safetensors       weights (half precision when shipped)
background.safetensors  vectors of unrelated items per modality (optional)
tokenizer.json, …       the text tower's tokenizer
"""

import dataclasses
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tectum.errors import CheckpointError, ConfigError
from tectum.media.image import ImageSpec
from tectum.media.mel import MelSpec
from tectum.media.text import Tokenizer
from tectum.models.encoders import GridConfig, TextConfig
from tectum.models.space import Space, SpaceConfig
from tectum.models.towers import ImageTowerConfig, SoundTowerConfig, TextTower, TextTowerConfig, TowerConfig

FORMAT = 1


def save(space: Space, folder: str | Path, *, dtype: torch.dtype = torch.float16) -> None:
    """Write a space beside its final place and rename it there, so that a folder is whole or absent.

    Other files of an existing folder (the model card, pictures) are kept.

    Args:
        space: the model.
        folder: where to; its parent is made.
        dtype: what floating-point weights are stored as.
    """
    folder = Path(folder)
    beside = folder.with_name(f".{folder.name}.writing")
    shutil.rmtree(beside, ignore_errors=True)
    if folder.exists():
        shutil.copytree(folder, beside)
    beside.mkdir(parents=True, exist_ok=True)

    config = space.config
    towers = {name: _tower_to_json(tower) for name, tower in config.towers.items()}
    described = {
        "format": FORMAT,
        "type": "space",
        "name": config.name,
        "description": config.description,
        "dim": config.dim,
        "templates": list(config.templates),
        "towers": {name: architecture for name, (architecture, _) in towers.items()},
        "calibration": {pair: list(values) for pair, values in space.calibration.items()},
    }
    _write_json(beside / "config.json", described)
    _write_json(beside / "preprocess.json", {name: specification for name, (_, specification) in towers.items()})
    weights = {key: tensor.to(dtype) if tensor.is_floating_point() else tensor for key, tensor in space.state_dict().items()}
    save_file({key: tensor.contiguous() for key, tensor in weights.items()}, beside / "model.safetensors")
    if space.background:
        rows = {name: vectors.to(dtype).contiguous().clone() for name, vectors in space.background.items()}
        save_file(rows, beside / "background.safetensors")
    for tower in space.towers.values():
        if isinstance(tower, TextTower):
            tower.tokenizer.save(beside)

    for file in beside.iterdir():
        file.chmod(0o644)  # safetensors writes files that only their owner may read
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(beside, folder)
    shutil.rmtree(old, ignore_errors=True)


def load_folder(folder: str | Path) -> Space:
    """Read a space, checked: every weight is used, none is missing, and the shapes fit the configuration.

    Raises:
        CheckpointError: if the folder is no space, incomplete, or contradicts itself.
    """
    folder = Path(folder)
    config_text, preprocess_text = _read(folder, "config.json"), _read(folder, "preprocess.json")
    described, specifications = _parse(folder / "config.json", config_text), _parse(folder / "preprocess.json", preprocess_text)
    if described.get("format") != FORMAT or described.get("type") != "space":
        raise CheckpointError(
            f"{folder / 'config.json'} says type {described.get('type')!r}, format {described.get('format')!r}; this version "
            f"of tectum reads type 'space', format {FORMAT}: use the version that wrote it"
        )
    try:
        towers = {name: _tower_from_json(tower, specifications.get(name, {})) for name, tower in described["towers"].items()}
        config = SpaceConfig(
            name=described["name"],
            description=described["description"],
            dim=described["dim"],
            towers=towers,
            templates=tuple(described["templates"]),
        )
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise CheckpointError(f"{folder / 'config.json'} does not describe a space ({error!r}): restore the file") from error
    has_text = any(isinstance(tower, TextTowerConfig) for tower in towers.values())
    try:
        space = Space(config, Tokenizer.load(folder) if has_text else None)
    except ConfigError as error:
        raise CheckpointError(f"{folder} contradicts itself: {error}; restore its files from one place") from error
    weights = _read_tensors(folder / "model.safetensors")
    try:
        space.load_state_dict(weights)
    except RuntimeError as error:
        what = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{folder / 'model.safetensors'} does not fit {folder / 'config.json'}: {what}") from error
    if (folder / "background.safetensors").exists():
        space.background = {name: rows.float() for name, rows in _read_tensors(folder / "background.safetensors").items()}
    try:
        space.calibration = {pair: (float(a), float(b), float(c)) for pair, (a, b, c) in described.get("calibration", {}).items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / 'config.json'} has a calibration that is not three numbers each: restore it") from error
    space.fingerprint = _fingerprint(folder, config_text, preprocess_text)
    return space.eval()


def _tower_to_json(tower: TowerConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """(architecture, preprocessing) of one tower."""
    if isinstance(tower, ImageTowerConfig):
        return {"kind": tower.kind, "grid": dataclasses.asdict(tower.grid)}, {"image": tower.image.to_dict()}
    if isinstance(tower, SoundTowerConfig):
        windows = {"seconds": tower.seconds, "max_windows": tower.max_windows}
        return {"kind": tower.kind, "grid": dataclasses.asdict(tower.grid)}, {"mel": tower.mel.to_dict(), **windows}
    return {"kind": tower.kind, "text": dataclasses.asdict(tower.text)}, {}


def _tower_from_json(architecture: dict[str, Any], specification: dict[str, Any]) -> TowerConfig:
    kind = architecture["kind"]
    if kind == TextTowerConfig.kind:
        return TextTowerConfig(text=TextConfig(**architecture["text"]))
    shape: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in architecture["grid"].items()
    }
    grid = GridConfig(**shape)
    if kind == ImageTowerConfig.kind:
        return ImageTowerConfig(image=ImageSpec.from_dict(specification["image"]), grid=grid)
    if kind == SoundTowerConfig.kind:
        mel = MelSpec.from_dict(specification["mel"])
        return SoundTowerConfig(mel=mel, grid=grid, seconds=specification["seconds"], max_windows=specification["max_windows"])
    raise ValueError(f"unknown kind of tower {kind!r}")


def _fingerprint(folder: Path, *texts: bytes) -> str:
    """sha256 over everything the vectors depend on, shortened to 16 hex digits."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text)
    for name in ("model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        if (folder / name).exists():
            digest.update((folder / name).read_bytes())
    return digest.hexdigest()[:16]


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"{folder} has no readable {name}: a model folder holds config.json, preprocess.json and model.safetensors"
        ) from error


def _parse(path: Path, text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON ({error}): restore the file") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds a {type(value).__name__} where an object is needed: restore the file")
    return value


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}): copy the file again") from error
