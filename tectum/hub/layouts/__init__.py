"""The public checkpoint layouts, and how a folder is told to be of one of them."""

from pathlib import Path

import torch

from tectum.errors import CheckpointError
from tectum.hub.bridge import parts_of
from tectum.hub.files import parse_json, read_weights, whole_folder
from tectum.hub.layouts import clap_hf, clip_hf, open_clip, openai, siglip_hf
from tectum.models.space import Space
from tectum.nn.activation import Activation

LAYOUTS = ("transformers", "open_clip", "openai")
_SAID = ("config.json", "preprocess.json", "preprocessor_config.json", "processor_config.json", open_clip.CONFIG)
_TRANSFORMERS = {"clip": clip_hf, "siglip": siglip_hf, "clap": clap_hf}


def is_public(folder: Path) -> bool:
    """Whether a folder is to be read by `load_public`; what is damaged or unknown is left to our own layout's reader to tell."""
    path = folder / "config.json"
    if path.exists():
        try:
            described = parse_json(path, path.read_bytes())
        except CheckpointError:
            return False
        return described.get("type") != "space" and ("model_type" in described or (folder / open_clip.CONFIG).exists())
    return (folder / open_clip.CONFIG).exists() or not (folder / "preprocess.json").exists()


def load_public(folder: Path, activation: Activation | None) -> Space:
    """Read a folder of transformers (CLIP, SigLIP, fixed-size SigLIP 2, unfused CLAP), of open_clip, or OpenAI's bare tensors.

    A folder that holds the first two, as many on the hub do, is read as transformers'.

    Raises:
        CheckpointError: if the folder is of none of these, incomplete, or does not say what the vectors depend on.
    """
    path = folder / "config.json"
    described = parse_json(path, path.read_bytes()) if path.exists() else {}
    kind = described.get("model_type")
    other = (folder / open_clip.CONFIG).exists()
    if kind in _TRANSFORMERS and (not other or list(folder.glob("model*.safetensors"))):
        return _TRANSFORMERS[kind].load(folder, described, activation)
    if other:
        return open_clip.load(folder, activation)
    if kind is not None:
        hint = "; of SigLIP 2 the fixed-size models are read, not the NaFlex ones" if kind == "siglip2" else ""
        raise CheckpointError(
            f"{path} describes a {kind!r} model: read here are {', '.join(_TRANSFORMERS)} of transformers, open_clip's and "
            f"OpenAI's CLIP{hint}"
        )
    if not any(folder.glob("*.safetensors*")):
        hints = [path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern)]
        if not hints:
            raise CheckpointError(
                f"{folder} has no readable config.json: a model folder holds config.json, preprocess.json and model.safetensors"
            )
        read_weights(folder, "model")
    return openai.load(folder, activation)


def save_public(space: Space, folder: Path, layout: str, dtype: torch.dtype) -> None:
    """Write a space that came from a public checkpoint, or is built like one, in a public layout.

    Raises:
        CheckpointError: if there is no such layout, or it has no words for something in the space.
    """
    if layout not in LAYOUTS:
        raise CheckpointError(f"there is no layout {layout!r}: choose one of {', '.join(LAYOUTS)}, or none for tectum's own")
    with whole_folder(folder) as beside:
        for path in beside.iterdir():  # what another layout left there would be read before this one's
            if path.name in _SAID or ".safetensors" in path.name:
                path.unlink()
        if layout == "transformers" and set(space.config.towers) == {"audio", "text"}:
            clap_hf.save(space, beside, dtype)
            return
        parts = parts_of(space, layout)
        if layout == "transformers":
            (siglip_hf if parts.text.pool == "last" else clip_hf).save(space, parts, beside, dtype)
        else:
            (open_clip if layout == "open_clip" else openai).save(space, parts, beside, dtype)
