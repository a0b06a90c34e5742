"""Hugging Face transformers' `ClapModel` without fusion: a Swin Transformer over sounds and RoBERTa over texts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tectum.errors import CheckpointError
from tectum.hub.bridge import TEXT, assemble, config_of, named
from tectum.hub.files import read_weights, write_json, write_tensors
from tectum.hub.keymap import Rule, both
from tectum.hub.layouts.clip_hf import activation_of, possible, section, trunk_config, trunk_section, whole, word_for
from tectum.hub.sounds import read_sounds, write_sounds
from tectum.hub.tokens import read_tokenizer, write_tokenizer
from tectum.models.htsat import HtsatConfig
from tectum.models.roberta import RobertaConfig
from tectum.models.space import Space
from tectum.models.towers import SoundTowerConfig, TextTower, TextTowerConfig, TowerConfig
from tectum.nn.activation import Activation
from tectum.nn.swin import relative_places

TEXT_DEFAULTS = {
    "vocab_size": 50265, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
    "hidden_act": "gelu", "max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-12, "pad_token_id": 1,
}  # fmt: skip
_SOUND_DEFAULTS = {
    "num_mel_bins": 64, "spec_size": 256, "patch_size": 4, "patch_stride": [4, 4], "patch_embeds_hidden_size": 96,
    "depths": [2, 2, 6, 2], "num_attention_heads": [4, 8, 16, 32], "window_size": 8, "mlp_ratio": 4.0, "hidden_act": "gelu",
    "layer_norm_eps": 1e-5, "hidden_size": 768,
}  # fmt: skip
# What changes the architecture of the sound tower, with the only value that is read here.
_FIXED = {
    "enable_fusion": False, "patch_embed_input_channels": 1, "flatten_patch_embeds": True, "enable_patch_layer_norm": True,
    "qkv_bias": True,
}  # fmt: skip

SOUND = "towers.audio.encoder"
SWIN, HTSAT = f"{SOUND}.swin", "audio_model.audio_encoder"
_OURS, _THEIRS = f"{SWIN}.stages.{{}}.{{}}", f"{HTSAT}.layers.{{}}.blocks.{{}}"
_TEXT_OURS, _TEXT_THEIRS = f"{TEXT}.blocks.{{}}", "text_model.encoder.layer.{}"
# One temperature is for sounds among texts, one for texts among sounds. A space has one for the pair; the second is kept safe.
AMONG_TEXTS, AMONG_SOUNDS = "log_scale.audio-text", "log_scale.text-text"


def _attention(ours: str, theirs: str) -> tuple[Rule, ...]:
    return (
        *both(f"{ours}.query", f"{theirs}.self.query"),
        *both(f"{ours}.key", f"{theirs}.self.key"),
        *both(f"{ours}.value", f"{theirs}.self.value"),
        *both(f"{ours}.out", f"{theirs}.output.dense"),
    )


RULES = (
    *(Rule(f"{SOUND}.norm_bins.{part}", f"{HTSAT}.batch_norm.{part}")
      for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")),
    *both(f"{SOUND}.patches.projection", f"{HTSAT}.patch_embed.proj"),
    *both(f"{SOUND}.norm", f"{HTSAT}.patch_embed.norm"),
    Rule(f"{_OURS}.bias", f"{_THEIRS}.attention.self.relative_position_bias_table"),
    *both(f"{_OURS}.block.norm_attention", f"{_THEIRS}.layernorm_before"),
    *_attention(f"{_OURS}.block.attention", f"{_THEIRS}.attention"),
    *both(f"{_OURS}.block.norm_mlp", f"{_THEIRS}.layernorm_after"),
    *both(f"{_OURS}.block.mlp.0", f"{_THEIRS}.intermediate.dense"),
    *both(f"{_OURS}.block.mlp.2", f"{_THEIRS}.output.dense"),
    *both(f"{SWIN}.merges.{{}}.norm", f"{HTSAT}.layers.{{}}.downsample.norm"),
    Rule(f"{SWIN}.merges.{{}}.reduction.weight", f"{HTSAT}.layers.{{}}.downsample.reduction.weight"),
    *both(f"{SWIN}.norm", f"{HTSAT}.norm"),
    *both(f"{SOUND}.head.0", "audio_projection.linear1"),
    *both(f"{SOUND}.head.2", "audio_projection.linear2"),
    Rule(f"{TEXT}.tokens.weight", "text_model.embeddings.word_embeddings.weight"),
    Rule(f"{TEXT}.positions", "text_model.embeddings.position_embeddings.weight"),
    Rule(f"{TEXT}.types", "text_model.embeddings.token_type_embeddings.weight"),
    *both(f"{TEXT}.norm", "text_model.embeddings.LayerNorm"),
    *_attention(f"{_TEXT_OURS}.attention", f"{_TEXT_THEIRS}.attention"),
    *both(f"{_TEXT_OURS}.norm_attention", f"{_TEXT_THEIRS}.attention.output.LayerNorm"),
    *both(f"{_TEXT_OURS}.mlp.0", f"{_TEXT_THEIRS}.intermediate.dense"),
    *both(f"{_TEXT_OURS}.mlp.2", f"{_TEXT_THEIRS}.output.dense"),
    *both(f"{_TEXT_OURS}.norm_mlp", f"{_TEXT_THEIRS}.output.LayerNorm"),
    *both(f"{TEXT}.head.0", "text_model.pooler.dense"),
    *both(f"{TEXT}.head.2", "text_projection.linear1"),
    *both(f"{TEXT}.head.4", "text_projection.linear2"),
    Rule(AMONG_TEXTS, "logit_scale_a"),
    Rule(AMONG_SOUNDS, "logit_scale_t"),
)  # fmt: skip
UNUSED = r".*\.(position_ids|token_type_ids|relative_position_index)"  # counted, not learned


def load(folder: Path, config: Mapping[str, Any], activation: Activation | None) -> Space:
    """The space in a folder that `ClapModel.save_pretrained` and `ClapProcessor.save_pretrained` wrote.

    Raises:
        CheckpointError: if the model is a fused one, or the folder is incomplete, contradicts itself, or asks for what is not
            known here.
    """
    text, sound = section(config, "text_config", TEXT_DEFAULTS), section(config, "audio_config", _SOUND_DEFAULTS)
    where = folder / "config.json"
    head = activation_of({"projection_hidden_act": "relu", **config}, "projection_hidden_act", where, None)
    grid, words = _htsat(sound, head, where, activation), _roberta(text, head, where, activation)
    pad = whole(text, "pad_token_id", where)
    tokenizer = read_tokenizer(folder, words.places - pad - 1, pads=False)
    if tokenizer.pad != pad:
        raise CheckpointError(
            f"{where} counts positions from pad_token_id {pad}, but the tokenizer pads with id {tokenizer.pad}: fetch both from "
            "one place"
        )
    towers: dict[str, TowerConfig] = {"audio": read_sounds(folder, grid), "text": TextTowerConfig(text=words)}
    made = config_of(folder, whole({"projection_dim": 512, **config}, "projection_dim", where), towers)
    return assemble(Space, made, tokenizer, RULES, read_weights(folder, "model"), folder, scale=AMONG_TEXTS, unused=UNUSED)


def save(space: Space, folder: Path, dtype: torch.dtype) -> None:
    """Writes what `ClapModel.from_pretrained` and `ClapProcessor.from_pretrained` read.

    Raises:
        CheckpointError: if the space is no CLAP, or the layout has no words for something in it.
    """
    sound, text, tower = space.config.towers["audio"], space.config.towers["text"], space.tower("text")
    if not (isinstance(sound, SoundTowerConfig) and isinstance(sound.grid, HtsatConfig)) or not (
        isinstance(text, TextTowerConfig) and isinstance(text.text, RobertaConfig) and isinstance(tower, TextTower)
    ):
        raise CheckpointError(f"{space.name} is no CLAP of transformers' layout: save it without a layout")
    grid, words, tokenizer = sound.grid, text.text, tower.tokenizer
    if grid.projection != words.projection:
        raise CheckpointError("the layout 'transformers' has one projection_hidden_act for both towers: save without a layout")
    head = {"projection_dim": space.dim, "projection_hidden_act": word_for(words.projection)}
    write_tensors(folder / "model.safetensors", {**named(space, RULES), **_constants(grid, words)}, dtype)
    described = {
        "model_type": "clap",
        "architectures": ["ClapModel"],
        "dtype": str(dtype).removeprefix("torch."),
        **head,
        "audio_config": {**_htsat_section(grid), **head},
        "text_config": {
            **_roberta_section(words),
            **head,
            "pad_token_id": tokenizer.pad,
            "bos_token_id": tokenizer.bos,
            "eos_token_id": tokenizer.eos,
        },
    }
    write_json(folder / "config.json", described)
    write_json(folder / "preprocessor_config.json", write_sounds(sound))
    write_tokenizer(tokenizer, folder, masks=True)


def _htsat(values: Mapping[str, Any], head: Activation, where: Path, given: Activation | None) -> HtsatConfig:
    for key, value in _FIXED.items():
        if values.get(key, value) != value:
            kind = "a fused CLAP" if key == "enable_fusion" else f"a CLAP with {key} = {values[key]!r}"
            raise CheckpointError(f"{where} describes {kind}: load an unfused one, as laion/clap-htsat-unfused is")
    patch, stride, bins = values["patch_size"], values["patch_stride"], whole(values, "num_mel_bins", where)
    if {*_pair(patch)} != {*_pair(stride)} or len({*_pair(patch)}) != 1:
        raise CheckpointError(f"{where} has patches of {patch} every {stride}: only square ones side by side are read here")
    with possible(where, "audio_config"):
        return HtsatConfig(
            bins=bins,
            side=whole(values, "spec_size", where),
            patch=whole({"patch_size": _pair(patch)[0]}, "patch_size", where),
            width=whole(values, "patch_embeds_hidden_size", where),
            depths=tuple(values["depths"]),
            heads=tuple(values["num_attention_heads"]),
            window=whole(values, "window_size", where),
            mlp_ratio=float(values["mlp_ratio"]),
            activation=activation_of(values, "hidden_act", where, given),
            eps=float(values["layer_norm_eps"]),
            projection=head,
        )


def _pair(value: Any) -> tuple[Any, Any]:
    return tuple(value) if isinstance(value, list | tuple) and len(value) == 2 else (value, value)


def _roberta(values: Mapping[str, Any], head: Activation, where: Path, given: Activation | None) -> RobertaConfig:
    with possible(where, "text_config"):
        return RobertaConfig(
            vocab_size=whole(values, "vocab_size", where),
            places=whole(values, "max_position_embeddings", where),
            types=whole(values, "type_vocab_size", where),
            projection=head,
            **trunk_config(values, where, given),
        )


def _htsat_section(grid: HtsatConfig) -> dict[str, Any]:
    return {
        "num_mel_bins": grid.bins,
        "spec_size": grid.side,
        "patch_size": grid.patch,
        "patch_stride": [grid.patch, grid.patch],
        "patch_embeds_hidden_size": grid.width,
        "hidden_size": grid.width * 2 ** (len(grid.depths) - 1),
        "depths": list(grid.depths),
        "num_attention_heads": list(grid.heads),
        "num_hidden_layers": len(grid.depths),
        "window_size": grid.window,
        "mlp_ratio": grid.mlp_ratio,
        "hidden_act": word_for(grid.activation),
        "layer_norm_eps": grid.eps,
        **_FIXED,
    }


def _roberta_section(words: RobertaConfig) -> dict[str, Any]:
    return {
        "vocab_size": words.vocab_size,
        "max_position_embeddings": words.places,
        "type_vocab_size": words.types,
        **trunk_section(words),
    }


def _constants(grid: HtsatConfig, words: RobertaConfig) -> dict[str, Tensor]:
    """What transformers keeps in the file although it follows from the configuration."""
    blocks = [f"{i}.blocks.{j}" for i, depth in enumerate(grid.depths) for j in range(depth)]
    places = {f"{HTSAT}.layers.{block}.attention.self.relative_position_index": relative_places(grid.window) for block in blocks}
    return {
        **places,
        "text_model.embeddings.position_ids": torch.arange(words.places)[None],
        "text_model.embeddings.token_type_ids": torch.zeros(1, words.places, dtype=torch.int64),
    }
