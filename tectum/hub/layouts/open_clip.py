"""open_clip's own folders for CLIP with a plain ViT: open_clip_config.json and open_clip_model.safetensors."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tectum.errors import CheckpointError
from tectum.hub.bridge import TwoTowers, agreed, build, end_pool, named
from tectum.hub.files import read_json, read_weights, write_json, write_tensors
from tectum.hub.layouts.clip_hf import possible, whole
from tectum.hub.layouts.openai import UNUSED, fits, rules
from tectum.hub.pictures import OPENAI_MEAN, OPENAI_STD
from tectum.hub.tokens import read_tokenizer, write_tokenizer
from tectum.media.image import ImageSpec
from tectum.media.text import Tokenizer
from tectum.models.clip_text import ClipTextConfig
from tectum.models.space import Space
from tectum.models.vit import ViTConfig
from tectum.nn.activation import Activation

CONFIG = "open_clip_config.json"
# open_clip's defaults. Keys that are not here change the architecture; they are refused unless they are off.
_MODEL = {"embed_dim": None, "vision_cfg": None, "text_cfg": None, "quick_gelu": False, "custom_text": False}
_VISION = {
    "image_size": 224, "layers": 12, "width": 768, "patch_size": 16, "head_width": 64, "mlp_ratio": 4.0, "pool_type": "tok",
    "pos_embed_type": "learnable",
}  # fmt: skip
_TEXT = {
    "context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12, "mlp_ratio": 4.0, "pool_type": "argmax",
}  # fmt: skip
_ELSEWHERE = {  # for training, of the tokenizer's own files, read below, or about a part whose own key is refused
    "patch_dropout", "drop_path", "init_logit_scale", "cast_dtype", "hf_tokenizer_name", "pad_id", "eos_id", "proj_type",
    "norm_kwargs", "act_kwargs", "timm_model_pretrained", "timm_pool", "timm_proj", "hf_model_pretrained", "hf_proj_type",
    "hf_pooler_type", "attn_pooler_queries", "attn_pooler_heads",
}  # fmt: skip


def load(folder: Path, activation: Activation | None) -> Space:
    """The space in a folder that open_clip pushes to a hub.

    Raises:
        CheckpointError: if the folder is incomplete, contradicts itself, or describes another architecture.
    """
    path = folder / CONFIG
    said = read_json(path)
    model = _over(_MODEL, said.get("model_cfg"), path)
    vision, text = _over(_VISION, model["vision_cfg"], path), _over(_TEXT, model["text_cfg"], path)
    if vision["pos_embed_type"] != "learnable":
        raise CheckpointError(
            f"{path} has positions of type {vision['pos_embed_type']!r}: load the transformers version of this model"
        )
    if text["pool_type"] not in ("argmax", "eos") or vision["pool_type"] != "tok":
        raise CheckpointError(f"{path} pools by {vision['pool_type']!r} and {text['pool_type']!r}, not by 'tok' and 'argmax': "
                              "load the transformers version of this model")  # fmt: skip
    tokenizer = read_tokenizer(folder, whole(text, "context_length", path), pads=False)
    if text["pool_type"] == "eos" and text.get("eos_id") != tokenizer.eos:
        end = text.get("eos_id")
        raise CheckpointError(f"{path} pools texts at eos_id {end}, but the tokenizer ends them with {tokenizer.eos}: fetch both "
                              "from one place")  # fmt: skip
    with possible(path, "configuration"):
        parts = TwoTowers(
            dim=whole(model, "embed_dim", path),
            pictures=_pictures(said.get("preprocess_cfg") or {}, vision["image_size"]),
            vision=_vision(vision, _trunk(model, vision, activation, path), path),
            text=_text(text, _trunk(model, text, activation, path), tokenizer, path),
            tokenizer=tokenizer,
        )
    weights = read_weights(folder, "open_clip_model", "model")
    if all(key.startswith("module.") for key in weights):  # saved by a distributed run
        weights = {key.removeprefix("module."): tensor for key, tensor in weights.items()}
    return build(parts, rules("text." if model["custom_text"] else ""), weights, folder, unused=UNUSED)


def save(space: Space, parts: TwoTowers, folder: Path, dtype: torch.dtype) -> None:
    """Writes what open_clip's `local-dir:` and its hub loader read."""
    fits(parts, "open_clip")
    vision, text, pictures = parts.vision, parts.text, parts.pictures
    if pictures.fit not in ("shortest", "squash") or pictures.edge or not pictures.antialias:
        raise CheckpointError(f"the layout 'open_clip' has no words for pictures prepared by {pictures}: save as 'transformers'")
    model: dict[str, Any] = {
        "embed_dim": parts.dim,
        "quick_gelu": vision.activation == "quick_gelu",
        "vision_cfg": {
            "image_size": vision.size, "layers": vision.blocks, "width": vision.width, "patch_size": vision.patch,
            "head_width": vision.width // vision.heads, "mlp_ratio": _ratio(vision),
        },
        "text_cfg": {
            "context_length": text.context, "vocab_size": text.vocab_size, "width": text.width, "heads": text.heads,
            "layers": text.blocks, "mlp_ratio": _ratio(text),
        },
    }  # fmt: skip
    if text.pool == "eos" != end_pool(parts.tokenizer):
        model["text_cfg"] |= {"pool_type": "eos", "eos_id": parts.tokenizer.eos}
    if parts.tokenizer.vocab_size != _TEXT["vocab_size"]:
        model["text_cfg"]["hf_tokenizer_name"] = space.name  # any name: open_clip then takes the folder's files, not its own
    if vision.activation == "gelu_tanh":
        for part in (model["vision_cfg"], model["text_cfg"]):
            part["act_kwargs"] = {"approximate": "tanh"}
    elif vision.activation not in ("gelu", "quick_gelu"):
        raise CheckpointError(f"the layout 'open_clip' has no activation {vision.activation!r}: save as 'transformers'")
    preprocess = {
        "size": [pictures.size, pictures.size], "mode": "RGB", "mean": list(pictures.mean), "std": list(pictures.std),
        "interpolation": pictures.filter, "resize_mode": pictures.fit, "fill_color": 0,
    }  # fmt: skip
    write_json(folder / CONFIG, {"model_cfg": model, "preprocess_cfg": preprocess})
    write_tensors(folder / "open_clip_model.safetensors", named(space, rules()), dtype)
    write_tokenizer(parts.tokenizer, folder)


def _ratio(tower: ViTConfig | ClipTextConfig) -> float:
    """hidden / width, rounded so that open_clip, which truncates the product, gets `hidden` back."""
    ratio = tower.hidden / tower.width
    return ratio if int(tower.width * ratio) == tower.hidden else math.nextafter(ratio, math.inf)


def _over(defaults: Mapping[str, Any], said: Any, path: Path) -> dict[str, Any]:
    """One part of the configuration over open_clip's defaults, if it says nothing that is not known here."""
    if not isinstance(said, dict):
        raise CheckpointError(f"{path} lacks model_cfg, vision_cfg or text_cfg: restore the file")
    strange = sorted(key for key, value in said.items() if key not in defaults and key not in _ELSEWHERE and value)
    if strange:
        raise CheckpointError(
            f"{path} asks for {strange[0]} = {said[strange[0]]!r}, an architecture that is not read from this layout: load the "
            "transformers version of this model"
        )
    return {**defaults, **said}


def _activation(model: Mapping[str, Any], part: Mapping[str, Any], path: Path) -> Activation:
    """open_clip's exact GELU unless the file says otherwise."""
    said = part.get("act_kwargs") or {}
    if said not in ({}, {"approximate": "tanh"}, {"approximate": "none"}):
        raise CheckpointError(f"{path} has act_kwargs {said}: known here is the approximation 'tanh'")
    return "quick_gelu" if model["quick_gelu"] else "gelu_tanh" if said.get("approximate") == "tanh" else "gelu"


def _trunk(model: Mapping[str, Any], part: Mapping[str, Any], given: Activation | None, path: Path) -> dict[str, Any]:
    """What both towers say by the same names."""
    width = whole(part, "width", path)
    return {
        "width": width,
        "blocks": whole(part, "layers", path),
        "hidden": int(width * float(part["mlp_ratio"])),
        "activation": agreed(_activation(model, part, path), given, path),
        "eps": float((part.get("norm_kwargs") or {}).get("eps", 1e-5)),
    }


def _vision(values: Mapping[str, Any], trunk: Mapping[str, Any], path: Path) -> ViTConfig:
    size, patch = whole(values, "image_size", path), whole(values, "patch_size", path)
    heads = trunk["width"] // max(1, whole(values, "head_width", path))
    return ViTConfig(size=size, patch=patch, heads=heads, antialias=True, **trunk)


def _text(values: Mapping[str, Any], trunk: Mapping[str, Any], tokenizer: Tokenizer, path: Path) -> ClipTextConfig:
    vocabulary, context = whole(values, "vocab_size", path), whole(values, "context_length", path)
    pool: Any = "eos" if values["pool_type"] == "eos" else end_pool(tokenizer)
    return ClipTextConfig(vocab_size=vocabulary, context=context, heads=whole(values, "heads", path), pool=pool, **trunk)


def _pictures(said: Mapping[str, Any], size: int) -> ImageSpec:
    """open_clip's preprocess_cfg over its defaults, which are OpenAI's."""
    given = said.get("size", size)
    sides = set(given) if isinstance(given, list | tuple) else {given}
    if len(sides) != 1:
        raise ValueError(f"pictures of size {given} are not square")
    fit: Any = said.get("resize_mode", "shortest")
    if fit not in ("shortest", "squash"):
        raise ValueError(f"resize_mode is {fit!r}, neither 'shortest' nor 'squash'")
    mean: Any = tuple(said.get("mean") or OPENAI_MEAN)
    std: Any = tuple(said.get("std") or OPENAI_STD)
    return ImageSpec(size=sides.pop(), fit=fit, filter=said.get("interpolation", "bicubic"), mean=mean, std=std)
