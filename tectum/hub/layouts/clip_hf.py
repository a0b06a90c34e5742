"""Hugging Face transformers' `CLIPModel`: config.json, model.safetensors, tokenizer and image processor files."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from tectum.errors import CheckpointError, ConfigError
from tectum.hub.bridge import BIAS, IMAGE, SCALE, TEXT, TwoTowers, agreed, build, end_pool, named
from tectum.hub.files import read_weights, write_json, write_tensors
from tectum.hub.keymap import Rule, both
from tectum.hub.pictures import read_pictures, write_pictures
from tectum.hub.tokens import read_tokenizer, write_tokenizer
from tectum.models.clip_text import ClipTextConfig
from tectum.models.roberta import RobertaConfig
from tectum.models.space import Space
from tectum.models.vit import ViTConfig
from tectum.nn.activation import Activation

ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu", "gelu_pytorch_tanh": "gelu_tanh", "quick_gelu": "quick_gelu", "relu": "relu", "silu": "silu",
    "gelu_python": "gelu", "gelu_new": "gelu_tanh", "gelu_fast": "gelu_tanh", "swish": "silu",
}  # fmt: skip
TEXT_DEFAULTS = {
    "vocab_size": 49408, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8,
    "max_position_embeddings": 77, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "eos_token_id": 49407,
}  # fmt: skip
_VISION_DEFAULTS = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12, "num_channels": 3,
    "image_size": 224, "patch_size": 32, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
}  # fmt: skip
_SIZES = {"width": "hidden_size", "hidden": "intermediate_size", "blocks": "num_hidden_layers", "heads": "num_attention_heads"}


def trunk(ours: str, theirs: str) -> tuple[Rule, ...]:
    """The blocks of one tower."""
    block, layer = f"{ours}.transformer.blocks.{{}}", f"{theirs}.encoder.layers.{{}}"
    return (
        *both(f"{block}.norm_attention", f"{layer}.layer_norm1"),
        *both(f"{block}.attention.query", f"{layer}.self_attn.q_proj"),
        *both(f"{block}.attention.key", f"{layer}.self_attn.k_proj"),
        *both(f"{block}.attention.value", f"{layer}.self_attn.v_proj"),
        *both(f"{block}.attention.out", f"{layer}.self_attn.out_proj"),
        *both(f"{block}.norm_mlp", f"{layer}.layer_norm2"),
        *both(f"{block}.mlp.0", f"{layer}.mlp.fc1"),
        *both(f"{block}.mlp.2", f"{layer}.mlp.fc2"),
    )


# What CLIP and SigLIP have in common in this layout.
SHARED = (
    Rule(f"{IMAGE}.patches.projection.weight", "vision_model.embeddings.patch_embedding.weight"),
    Rule(f"{IMAGE}.positions", "vision_model.embeddings.position_embedding.weight"),
    *trunk(IMAGE, "vision_model"),
    *both(f"{IMAGE}.transformer.norm", "vision_model.post_layernorm"),
    Rule(f"{TEXT}.tokens.weight", "text_model.embeddings.token_embedding.weight"),
    Rule(f"{TEXT}.positions", "text_model.embeddings.position_embedding.weight"),
    *trunk(TEXT, "text_model"),
    *both(f"{TEXT}.transformer.norm", "text_model.final_layer_norm"),
    Rule(SCALE, "logit_scale"),
)
RULES = (
    *SHARED,
    Rule(f"{IMAGE}.class_token", "vision_model.embeddings.class_embedding"),
    *both(f"{IMAGE}.norm", "vision_model.pre_layrnorm"),  # sic
    Rule(f"{IMAGE}.head.weight", "visual_projection.weight"),
    Rule(f"{TEXT}.head.weight", "text_projection.weight"),
)
UNUSED = r".*\.position_ids"  # counted, not learned; written by old versions


def load(folder: Path, config: Mapping[str, Any], activation: Activation | None) -> Space:
    """The space in a folder that `CLIPModel.save_pretrained` and `CLIPProcessor.save_pretrained` wrote.

    Raises:
        CheckpointError: if the folder is incomplete, contradicts itself, or asks for what is not known here.
    """
    text, vision = section(config, "text_config", TEXT_DEFAULTS), section(config, "vision_config", _VISION_DEFAULTS)
    where = folder / "config.json"
    tokenizer = read_tokenizer(folder, whole(text, "max_position_embeddings", where), pads=False)
    # Before transformers 4.31 every CLIP said 2, which was not its end token: where it says so the highest id is pooled.
    end = text["eos_token_id"]
    if end not in (2, tokenizer.eos):
        raise CheckpointError(
            f"{where} pools texts at eos_token_id {end}, but the tokenizer ends them with id {tokenizer.eos}: set "
            "text_config.eos_token_id to the tokenizer's"
        )
    parts = TwoTowers(
        dim=whole({"projection_dim": 512, **config}, "projection_dim", where),
        pictures=read_pictures(folder, "CLIP"),
        vision=vision_config(vision, where, activation, pool="class"),
        text=text_config(text, where, activation, pool=end_pool(tokenizer) if end == 2 else "eos"),
        tokenizer=tokenizer,
    )
    return build(parts, RULES, read_weights(folder, "model"), folder, unused=UNUSED)


def save(space: Space, parts: TwoTowers, folder: Path, dtype: torch.dtype) -> None:
    """Writes what `CLIPModel.from_pretrained` and `CLIPProcessor.from_pretrained` read.

    Raises:
        CheckpointError: if it would be read as another model.
    """
    end = 2 if parts.text.pool == "highest" else parts.tokenizer.eos
    if end == 2 and parts.text.pool != "highest":
        raise CheckpointError(
            "an end token of id 2 cannot be saved in the layout 'transformers', which takes it as a word for the highest id: "
            "save as 'open_clip' or without a layout"
        )
    marks = {"eos_token_id": end, "bos_token_id": parts.tokenizer.bos, "pad_token_id": parts.tokenizer.pad}
    text = {**text_section(parts.text), **marks}
    config = {"model_type": "clip", "architectures": ["CLIPModel"], "projection_dim": parts.dim}
    write(space, parts, folder, dtype, RULES, config, text=text, processor="CLIPImageProcessor")


def write(
    space: Space,
    parts: TwoTowers,
    folder: Path,
    dtype: torch.dtype,
    rules: tuple[Rule, ...],
    config: Mapping[str, Any],
    *,
    text: Mapping[str, Any],
    processor: str,
) -> None:
    """The files of a two-tower model of transformers."""
    weights = named(space, rules)
    if BIAS in space.state_dict():  # as in transformers: scale and bias of SigLIP have one axis, CLIP's scale has none
        weights |= {key: weights[key].reshape(1) for key in ("logit_scale", "logit_bias")}
    write_tensors(folder / "model.safetensors", weights, dtype)
    vision = vision_section(parts.vision)
    stored = str(dtype).removeprefix("torch.")
    write_json(folder / "config.json", {**config, "dtype": stored, "text_config": dict(text), "vision_config": vision})
    write_json(folder / "preprocessor_config.json", write_pictures(parts.pictures, processor))
    write_tokenizer(parts.tokenizer, folder)


def section(config: Mapping[str, Any], name: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """One part of config.json over the defaults of its class; the "…_dict" of old files goes before it, as in transformers."""
    said = config.get(f"{name}_dict") or config.get(name) or {}
    if not isinstance(said, dict):
        raise CheckpointError(f"config.json has a {name} that is no object: restore the file")
    return {**defaults, **said}


def vision_config(values: Mapping[str, Any], where: Path, activation: Activation | None, *, pool: Any) -> ViTConfig:
    """The picture tower that a "vision_config" describes."""
    if values.get("num_channels", 3) != 3:
        raise CheckpointError(f"{where} wants pictures of {values['num_channels']} channels: only RGB is read here")
    with possible(where, "vision_config"):
        size, patch = whole(values, "image_size", where), whole(values, "patch_size", where)
        return ViTConfig(size=size, patch=patch, pool=pool, **trunk_config(values, where, activation))


def text_config(values: Mapping[str, Any], where: Path, activation: Activation | None, *, pool: Any) -> ClipTextConfig:
    """The text tower that a "text_config" describes."""
    with possible(where, "text_config"):
        vocabulary, context = whole(values, "vocab_size", where), whole(values, "max_position_embeddings", where)
        return ClipTextConfig(vocab_size=vocabulary, context=context, pool=pool, **trunk_config(values, where, activation))


def trunk_config(values: Mapping[str, Any], where: Path, activation: Activation | None) -> dict[str, Any]:
    """What the Transformers of all towers say by the same names: sizes, activation and eps."""
    sizes = {ours: whole(values, theirs, where) for ours, theirs in _SIZES.items()}
    act = activation_of(values, "hidden_act", where, activation)
    return {**sizes, "activation": act, "eps": float(values["layer_norm_eps"])}


@contextmanager
def possible(where: Path, part: str) -> Iterator[None]:
    """An error of what a part of a configuration describes, in terms of the file."""
    try:
        yield
    except (ConfigError, TypeError, ValueError) as error:
        raise CheckpointError(f"{where} has an impossible {part}: {error}") from error


def vision_section(vision: ViTConfig) -> dict[str, Any]:
    """The inverse of `vision_config`."""
    return {"image_size": vision.size, "patch_size": vision.patch, "num_channels": 3, **trunk_section(vision)}


def text_section(text: ClipTextConfig) -> dict[str, Any]:
    """The inverse of `text_config`."""
    return {"vocab_size": text.vocab_size, "max_position_embeddings": text.context, **trunk_section(text)}


def trunk_section(tower: ViTConfig | ClipTextConfig | RobertaConfig) -> dict[str, Any]:
    """The inverse of `trunk_config`."""
    sizes = {theirs: getattr(tower, ours) for ours, theirs in _SIZES.items()}
    return {**sizes, "hidden_act": word_for(tower.activation), "layer_norm_eps": tower.eps}


def whole(values: Mapping[str, Any], key: str, where: Path) -> int:
    """A whole number of a configuration."""
    value = values.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**31:
        raise CheckpointError(f"{where} gives {key} as {value!r}, which is no whole number: restore the file")
    return value


def word_for(activation: Activation) -> str:
    """transformers' name of an activation."""
    return {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}[activation]


def activation_of(values: Mapping[str, Any], key: str, where: Path, given: Activation | None) -> Activation:
    """The activation that a configuration names."""
    said = values[key]
    if said not in ACTIVATIONS:
        raise CheckpointError(f"{where} has the activation {said!r}: known here are {', '.join(ACTIVATIONS)}")
    return agreed(ACTIVATIONS[said], given, where)
