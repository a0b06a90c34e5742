"""Hugging Face transformers' `SiglipModel`, which holds SigLIP and the fixed-size SigLIP 2."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tectum.hub.bridge import BIAS, IMAGE, TEXT, TwoTowers, build
from tectum.hub.files import read_weights
from tectum.hub.keymap import Rule, both, fused
from tectum.hub.layouts.clip_hf import SHARED, UNUSED, section, text_config, text_section, vision_config, whole, write
from tectum.hub.pictures import read_pictures
from tectum.hub.tokens import read_tokenizer
from tectum.models.space import Space
from tectum.nn.activation import Activation

TEXT_DEFAULTS = {
    "vocab_size": 32000, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "max_position_embeddings": 64, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6,
}  # fmt: skip
_VISION_DEFAULTS = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12, "num_channels": 3,
    "image_size": 224, "patch_size": 16, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6,
}  # fmt: skip
_POOL = "vision_model.head"
RULES = (
    *SHARED,
    Rule(f"{IMAGE}.patches.projection.bias", "vision_model.embeddings.patch_embedding.bias"),
    Rule(f"{IMAGE}.head.pool.probe", f"{_POOL}.probe"),
    *fused(
        f"{IMAGE}.head.pool.attention",
        ("query", "key", "value"),
        f"{_POOL}.attention.in_proj_weight",
        f"{_POOL}.attention.in_proj_bias",
    ),
    *both(f"{IMAGE}.head.pool.attention.out", f"{_POOL}.attention.out_proj"),
    *both(f"{IMAGE}.head.norm", f"{_POOL}.layernorm"),
    *both(f"{IMAGE}.head.mlp.0", f"{_POOL}.mlp.fc1"),
    *both(f"{IMAGE}.head.mlp.2", f"{_POOL}.mlp.fc2"),
    *both(f"{TEXT}.head", "text_model.head"),
    Rule(BIAS, "logit_bias"),
)


def load(folder: Path, config: Mapping[str, Any], activation: Activation | None) -> Space:
    """The space in a folder that `SiglipModel.save_pretrained` and `SiglipProcessor.save_pretrained` wrote.

    Texts are padded to the full length and padding is seen, as in training; so these are transformers' vectors without an
    attention mask, as the public processors prepare them.

    Raises:
        CheckpointError: if the folder is incomplete, contradicts itself, or asks for what is not known here.
    """
    text, vision = section(config, "text_config", TEXT_DEFAULTS), section(config, "vision_config", _VISION_DEFAULTS)
    where = folder / "config.json"
    parts = TwoTowers(
        dim=whole({"projection_size": text["hidden_size"], **_said(text)}, "projection_size", where),
        pictures=read_pictures(folder, "Siglip"),
        vision=vision_config(vision, where, activation, pool="attention"),
        text=text_config(text, where, activation, pool="last"),
        tokenizer=read_tokenizer(folder, whole(text, "max_position_embeddings", where), pads=True),
    )
    return build(parts, RULES, read_weights(folder, "model"), folder, unused=UNUSED)


def save(space: Space, parts: TwoTowers, folder: Path, dtype: torch.dtype) -> None:
    """Writes what `SiglipModel.from_pretrained` and `AutoTokenizer.from_pretrained` read."""
    marks = {"eos_token_id": parts.tokenizer.eos, "bos_token_id": parts.tokenizer.bos, "pad_token_id": parts.tokenizer.pad}
    text = {**text_section(parts.text), "projection_size": parts.dim, **marks}
    config = {"model_type": "siglip", "architectures": ["SiglipModel"]}
    write(space, parts, folder, dtype, RULES, config, text=text, processor="SiglipImageProcessor")


def _said(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
