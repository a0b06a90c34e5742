"""A space on disk: a folder with everything the numbers depend on, and no pickle.

config.json             architecture, templates, calibration, format version
preprocess.json         per modality: picture and mel specifications
model.safetensors       weights (half precision when shipped)
background.safetensors  vectors of unrelated items per modality (optional)
tokenizer.json, …       the text tower's tokenizer
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch

from tectum.errors import CheckpointError, ConfigError
from tectum.files import tupled
from tectum.hub.files import parse_json, read_tensors, whole_folder, write_json, write_tensors
from tectum.hub.layouts import save_public
from tectum.media.image import ImageSpec
from tectum.media.mel import MelSpec
from tectum.media.text import Tokenizer
from tectum.models.clip_text import ClipTextConfig
from tectum.models.encoders import GridConfig, TextConfig
from tectum.models.htsat import HtsatConfig
from tectum.models.roberta import RobertaConfig
from tectum.models.sigmoid_space import SigmoidSpace
from tectum.models.space import Space, SpaceConfig
from tectum.models.towers import ImageTowerConfig, SoundTowerConfig, TextTower, TextTowerConfig, TowerConfig
from tectum.models.vit import ViTConfig

FORMAT = 1
_Config = TypeVar("_Config")


def save(space: Space, folder: str | Path, *, dtype: torch.dtype | None = None, layout: str | None = None) -> None:
    """Write a space beside its final place and rename it there, so that a folder is whole or absent.

    Other files of an existing folder (the model card, pictures) are kept.

    Args:
        space: the model.
        folder: where to; its parent is made.
        dtype: what floating-point weights are stored as; left out, float16 in our own layout and float32 in the others.
        layout: ours if left out; "transformers", "open_clip" or "openai" for a space built like a public CLIP, SigLIP or CLAP.

    Raises:
        CheckpointError: if the layout has no words for something in the space.
    """
    folder = Path(folder)
    if layout is not None:
        save_public(space, folder, layout, dtype or torch.float32)
        return
    with whole_folder(folder) as beside:
        _write(space, beside, dtype or torch.float16)


def _write(space: Space, beside: Path, dtype: torch.dtype) -> None:
    config = space.config
    towers = {name: _tower_to_json(tower) for name, tower in config.towers.items()}
    described = {
        "format": FORMAT,
        "type": "space",
        "name": config.name,
        "description": config.description,
        "dim": config.dim,
        "templates": list(config.templates),
        "precision": config.precision,
        "towers": {name: architecture for name, (architecture, _) in towers.items()},
        "calibration": {pair: list(values) for pair, values in space.calibration.items()},
    }
    if isinstance(space, SigmoidSpace):
        described["pairs"] = "sigmoid"
    write_json(beside / "config.json", described)
    write_json(beside / "preprocess.json", {name: specification for name, (_, specification) in towers.items()})
    write_tensors(beside / "model.safetensors", space.state_dict(), dtype)
    if space.background:
        write_tensors(beside / "background.safetensors", space.background, dtype)
    for tower in space.towers.values():
        if isinstance(tower, TextTower):
            tower.tokenizer.save(beside)


def load_folder(folder: str | Path) -> Space:
    """Read a space, checked: every weight is used, none is missing, and the shapes fit the configuration.

    Raises:
        CheckpointError: if the folder is no space, incomplete, or contradicts itself.
    """
    folder = Path(folder)
    config_text, preprocess_text = _read(folder, "config.json"), _read(folder, "preprocess.json")
    described = parse_json(folder / "config.json", config_text)
    specifications = parse_json(folder / "preprocess.json", preprocess_text)
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
            precision=described.get("precision", "fp32"),  # which the first models do not say
        )
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise CheckpointError(f"{folder / 'config.json'} does not describe a space ({error!r}): restore the file") from error
    has_text = any(isinstance(tower, TextTowerConfig) for tower in towers.values())
    try:
        kind = SigmoidSpace if described.get("pairs") == "sigmoid" else Space
        space = kind(config, Tokenizer.load(folder) if has_text else None)
    except ConfigError as error:
        raise CheckpointError(f"{folder} contradicts itself: {error}; restore its files from one place") from error
    weights = read_tensors(folder / "model.safetensors")
    try:
        space.load_state_dict(weights)
    except RuntimeError as error:
        what = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{folder / 'model.safetensors'} does not fit {folder / 'config.json'}: {what}") from error
    if (folder / "background.safetensors").exists():
        space.background = {name: rows.float() for name, rows in read_tensors(folder / "background.safetensors").items()}
    try:
        space.calibration = {pair: (float(a), float(b), float(c)) for pair, (a, b, c) in described.get("calibration", {}).items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / 'config.json'} has a calibration that is not three numbers each: restore it") from error
    space.fingerprint = _fingerprint(folder, config_text, preprocess_text)
    return space.eval()


# The encoders by the word that config.json has for them.
_GRIDS: dict[str, type[GridConfig | ViTConfig]] = {"grid": GridConfig, "vit": ViTConfig}
_SOUNDS: dict[str, type[GridConfig | HtsatConfig]] = {"grid": GridConfig, "htsat": HtsatConfig}
_TEXTS: dict[str, type[TextConfig | ClipTextConfig | RobertaConfig]] = {
    "text": TextConfig, "clip_text": ClipTextConfig, "roberta": RobertaConfig,
}  # fmt: skip
_WINDOWS = ("seconds", "max_windows", "short", "peak")


def _tower_to_json(tower: TowerConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """(architecture, preprocessing) of one tower."""
    encoder = tower.text if isinstance(tower, TextTowerConfig) else tower.grid
    word = next(word for word, kind in {**_GRIDS, **_SOUNDS, **_TEXTS}.items() if type(encoder) is kind)
    architecture = {"kind": tower.kind, word: dataclasses.asdict(encoder)}
    if isinstance(tower, ImageTowerConfig):
        return architecture, {"image": tower.image.to_dict()}
    if isinstance(tower, SoundTowerConfig):
        windows = {name: getattr(tower, name) for name in _WINDOWS}
        return architecture, {"mel": tower.mel.to_dict(), **windows}
    return architecture, {}


def _tower_from_json(architecture: dict[str, Any], specification: dict[str, Any]) -> TowerConfig:
    kind = architecture["kind"]
    if kind == TextTowerConfig.kind:
        return TextTowerConfig(text=_encoder(architecture, _TEXTS))
    if kind == ImageTowerConfig.kind:
        return ImageTowerConfig(image=ImageSpec.from_dict(specification["image"]), grid=_encoder(architecture, _GRIDS))
    if kind == SoundTowerConfig.kind:
        windows = {name: specification[name] for name in _WINDOWS if name in specification}  # the first format had two of them
        mel = MelSpec.from_dict(specification["mel"])
        return SoundTowerConfig(mel=mel, grid=_encoder(architecture, _SOUNDS), **windows)
    raise ValueError(f"unknown kind of tower {kind!r}")


def _encoder(architecture: dict[str, Any], kinds: Mapping[str, type[_Config]]) -> _Config:
    """The one encoder that a tower's architecture describes."""
    ((word, kind),) = [(word, kind) for word, kind in kinds.items() if word in architecture]
    return kind(**tupled(architecture[word]))


def _fingerprint(folder: Path, *texts: bytes) -> str:
    """sha256 over everything the vectors depend on, shortened to 16 hex digits."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text)
    for name in ("model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        if (folder / name).exists():
            digest.update((folder / name).read_bytes())
    return digest.hexdigest()[:16]


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"{folder} has no readable {name}: a model folder holds config.json, preprocess.json and model.safetensors"
        ) from error
