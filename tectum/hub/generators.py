"""A text-to-image model on disk: config.json, model.safetensors and the tokenizer's files; no pickle.

Pictures are in -1 … 1 for the network and 8-bit for everyone else, and of the size that config.json says.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from tectum.errors import CheckpointError, ConfigError
from tectum.files import tupled
from tectum.hub.diffusers.pipelines import load as load_diffusers
from tectum.hub.files import read_json, read_tensors, whole_folder, write_json, write_tensors
from tectum.hub.names import find
from tectum.media.text import Tokenizer
from tectum.models.encoders import TextConfig
from tectum.models.latent_diffusion import LatentDiffusion
from tectum.models.text_to_image import TextToImage, TextToImageConfig
from tectum.nn.autoencoder import AutoencoderConfig
from tectum.nn.conditions import ConditionConfig
from tectum.nn.dit import DiTConfig
from tectum.nn.unet_config import Attend, Level, UNetConfig

FORMAT = 1
TYPE = "text_to_image"


def save_text_to_image(model: TextToImage, folder: str | Path, *, dtype: torch.dtype = torch.float16) -> None:
    """Write a model beside its final place and rename it there; other files of an existing folder are kept.

    Args:
        model: what is written.
        folder: where to; its parent is made.
        dtype: what floating-point weights are stored as.
    """
    with whole_folder(Path(folder)) as beside:
        described = {"format": FORMAT, "type": TYPE, **dataclasses.asdict(model.config)}
        write_json(beside / "config.json", described)
        write_tensors(beside / "model.safetensors", model.state_dict(), dtype)
        model.prompts.tokenizer.save(beside)


def load_painter(name_or_folder: str | Path) -> LatentDiffusion:
    """Open what makes pictures: one of ours as `load_text_to_image`, or a folder of diffusers with a model_index.json.

    Raises:
        CheckpointError, ConfigError: as `load_text_to_image` and `tectum.hub.diffusers.pipelines.load`.
    """
    foreign = (Path(name_or_folder) / "model_index.json").is_file()
    return load_diffusers(name_or_folder) if foreign else load_text_to_image(name_or_folder)


def load_text_to_image(name_or_folder: str | Path) -> TextToImage:
    """Open a model: the name of a shipped one, or a folder. Every weight is used, none is missing.

    Raises:
        CheckpointError: if there is none, or the folder is no such model, incomplete, or contradicts itself.

    >>> load_text_to_image("nowhere")
    Traceback (most recent call last):
        ...
    tectum.errors.CheckpointError: there is no text-to-image model or folder named 'nowhere': ...
    """
    folder = find(name_or_folder, TYPE)
    if folder is None:
        raise CheckpointError(
            f"there is no text-to-image model or folder named {str(name_or_folder)!r}: `tectum models` lists what is at hand"
        )
    path = folder / "config.json"
    described = read_json(path)
    if (described.get("type"), described.get("format")) != (TYPE, FORMAT):
        raise CheckpointError(
            f"{path} says type {described.get('type')!r}, format {described.get('format')!r}, where {TYPE!r}, format {FORMAT} is "
            "needed: give the folder of a text-to-image model that this version wrote"
        )
    try:
        model = TextToImage(_config(described), Tokenizer.load(folder))
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise CheckpointError(f"{path} does not describe a text-to-image model ({error!r}): restore the file") from error
    tokens = model.prompts.tokenizer.vocab_size
    if tokens != model.config.text.vocab_size:
        raise CheckpointError(
            f"{folder} has a tokenizer of {tokens} tokens and weights for {model.config.text.vocab_size}: "
            "restore its files from one place"
        )
    try:
        model.load_state_dict(read_tensors(folder / "model.safetensors"))
    except RuntimeError as error:
        what = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{folder / 'model.safetensors'} does not fit {path}: {what}") from error
    return model.eval()


def _config(described: dict[str, Any]) -> TextToImageConfig:
    values = {key: value for key, value in described.items() if key not in ("format", "type")}
    parts = {"text": TextConfig(**values["text"]), "autoencoder": AutoencoderConfig(**tupled(values["autoencoder"]))}
    return TextToImageConfig(**{**values, **parts, "denoiser": _denoiser(values["denoiser"])})


def _denoiser(values: dict[str, Any]) -> DiTConfig | UNetConfig:
    told = ConditionConfig(**values["told"])
    if "levels" not in values:
        return DiTConfig(**{**values, "told": told})
    levels = tuple(Level(**{**level, "attend": _attend(level["attend"])}) for level in values["levels"])
    return UNetConfig(**{**values, "told": told, "levels": levels, "middle": _attend(values["middle"])})


def _attend(values: dict[str, Any] | None) -> Attend | None:
    return None if values is None else Attend(**values)
