"""diffusers' `UNet2DConditionModel`, the U-Net of Stable Diffusion and SDXL: config.json and weights, both ways."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tectum.errors import CheckpointError
from tectum.hub.diffusers.parts import Component, Layout, Options, attention, embedding, named, wordless
from tectum.hub.diffusers.unet import ATTENTIONS, DEFAULTS, ONLY, SHARED, common, common_said, conditions, levels
from tectum.hub.files import read_json
from tectum.hub.keymap import Rule, both, fused
from tectum.nn.conditions import ConditionConfig
from tectum.nn.unet import UNet
from tectum.nn.unet_config import Attend, Level, UNetConfig

CLASS = "UNet2DConditionModel"
_MIDDLE = "UNetMidBlock2DCrossAttn"
_NONE = (  # options that are read where they are not set
    "reverse_transformer_layers_per_block", "encoder_hid_dim", "encoder_hid_dim_type", "num_attention_heads",
    "time_embedding_act_fn", "timestep_post_act", "cross_attention_norm",
)  # fmt: skip
_FALSE = ("dual_cross_attention", "class_embeddings_concat", "resnet_skip_time_act")
_DEFAULTS: Mapping[str, Any] = {
    **DEFAULTS, **dict.fromkeys(_NONE), **dict.fromkeys(_FALSE, False), "in_channels": 4, "out_channels": 4,
    "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"), "block_out_channels": (320, 640, 1280, 1280),
    "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3), "mid_block_type": _MIDDLE, "only_cross_attention": False,
    "cross_attention_dim": 1280, "transformer_layers_per_block": 1, "attention_head_dim": 8, "use_linear_projection": False,
    "addition_embed_type": None, "addition_time_embed_dim": None, "upcast_attention": False, "resnet_out_scale_factor": 1.0,
    "time_cond_proj_dim": None, "conv_in_kernel": 3, "conv_out_kernel": 3, "projection_class_embeddings_input_dim": None,
    "attention_type": "default", "mid_block_only_cross_attention": None, "addition_embed_type_num_heads": 64,
}  # fmt: skip
_ONLY: Mapping[str, tuple[Any, ...]] = {
    **ONLY, **dict.fromkeys(_NONE, (None,)), **dict.fromkeys(_FALSE, (False,)), "mid_block_type": (_MIDDLE, None),
    "class_embed_type": (None, "projection"), "addition_embed_type": (None, "text_time"), "conv_in_kernel": (3,),
    "conv_out_kernel": (3,), "attention_type": ("default",), "resnet_out_scale_factor": (1.0,),
}  # fmt: skip
# No number depends on them: where they would matter the network is refused, or the attention is PyTorch's fused one.
_NOTES = (
    "sample_size", "use_linear_projection", "upcast_attention", "addition_embed_type_num_heads", "mid_block_only_cross_attention",
)  # fmt: skip
_LAYOUT = Layout(CLASS, _DEFAULTS, _ONLY, _NOTES)
_PLAIN, _ATTENDING = ("DownBlock2D", "UpBlock2D"), ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D")


def spatial_transformer(ours: str, theirs: str) -> Iterator[Rule]:
    """A `SpatialTransformer`."""
    for name, name_theirs in (("norm", "norm"), ("project_in", "proj_in"), ("project_out", "proj_out")):
        yield from both(f"{ours}.{name}", f"{theirs}.{name_theirs}")
    block, block_theirs = f"{ours}.blocks.{{}}", f"{theirs}.transformer_blocks.{{}}"
    for i, name in enumerate(("norm_self", "norm_cross", "norm_mlp"), start=1):
        yield from both(f"{block}.{name}", f"{block_theirs}.norm{i}")
    yield from attention(f"{block}.attention", f"{block_theirs}.attn1", bias=False)
    yield from attention(f"{block}.cross", f"{block_theirs}.attn2", bias=False)
    feed = f"{block_theirs}.ff.net"
    yield from fused(f"{block}.mlp", ("value", "gate"), f"{feed}.0.proj.weight", f"{feed}.0.proj.bias")
    yield from both(f"{block}.mlp.out", f"{feed}.2")


_RULES = (
    *SHARED,
    Rule("told.guidance.weight", "time_embedding.cond_proj.weight"),
    *(rule for pair in ATTENTIONS for rule in spatial_transformer(*pair)),
)


def rules(config: UNetConfig) -> tuple[Rule, ...]:
    """The key map; a vector of the whole text has another name where sizes go with it."""
    return (*_RULES, *embedding("told.pooled", "add_embedding" if config.told.sizes else "class_embedding"))


def load(folder: Path, said: Mapping[str, Any], pooled: int | None = None) -> Component[UNet]:
    """The U-Net in a folder that `UNet2DConditionModel.save_pretrained` wrote.

    Args:
        folder: with config.json and the weights.
        said: what config.json says.
        pooled: width of the vector of a whole text where sizes go with it, as in SDXL; left out, that of the folder
            "text_encoder_2" beside this one.

    Raises:
        CheckpointError: if the folder is incomplete, contradicts itself, or asks for what is not known here.
    """
    given = _LAYOUT.options(folder, said)
    config = given.configure(lambda given: _config(given, pooled))
    return _LAYOUT.component(given, lambda: UNet(config), rules(config))


def save(component: Component[UNet], folder: Path, dtype: torch.dtype) -> None:
    """Writes what `UNet2DConditionModel.from_pretrained` reads.

    Raises:
        CheckpointError: if it has no words for something in the network.
    """
    config = component.network.config
    values, tensors = _said(config), named(component.network, rules(config))
    if not component.notes.get("use_linear_projection"):
        tensors = {key: _as_kernel(key, tensor) for key, tensor in tensors.items()}
    _LAYOUT.write(component, folder, values, tensors, dtype)


def _as_kernel(key: str, tensor: Tensor) -> Tensor:
    """The 1×1 convolution that a linear map over places is."""
    return tensor[..., None, None] if key.endswith((".proj_in.weight", ".proj_out.weight")) else tensor


def _config(given: Options, pooled: int | None) -> UNetConfig:
    attends = levels(given, _PLAIN, _ATTENDING)
    count = len(attends)
    # By a mistake in names that 40,000 checkpoints keep alive, this is the number of heads.
    heads, depths = (given.wholes(key, count) for key in ("attention_head_dim", "transformer_layers_per_block"))
    only_context = given.each("only_cross_attention", count)
    contexts = set(given.wholes("cross_attention_dim", count))
    if len(contexts) > 1:
        raise given.refuse("cross_attention_dim", "all levels must attend to the same tokens")
    if not min(heads) or not min(depths):
        raise given.refuse("attention_head_dim" if not min(heads) else "transformer_layers_per_block", "each must be 1 or more")
    attend = [Attend(heads=h, depth=d, only_context=bool(o)) for h, d, o in zip(heads, depths, only_context, strict=True)]
    middle = given["mid_block_type"] is not None
    return UNetConfig(
        levels=tuple(
            Level(width=width, blocks=blocks, attend=attend[i] if attends[i] else None)
            for i, (width, blocks) in enumerate(
                zip(given.wholes("block_out_channels", count), given.wholes("layers_per_block", count), strict=True)
            )
        ),
        middle=replace(attend[-1], only_context=False) if middle else None,
        told=_told(given, pooled),
        context=contexts.pop() if middle or any(attends) else None,
        **common(given),
    )


def _told(given: Options, pooled: int | None) -> ConditionConfig:
    told = conditions(given)
    if given["time_cond_proj_dim"] is not None:
        told = replace(told, guidance=given.whole("time_cond_proj_dim"))
    by_class, by_text = given["class_embed_type"] is not None, given["addition_embed_type"] is not None
    if by_class and (by_text or told.classes):
        raise given.refuse("class_embed_type", "it must stand alone, without num_class_embeds and addition_embed_type")
    if by_class:
        return replace(told, pooled=given.whole("projection_class_embeddings_input_dim"))
    if not by_text:
        return told
    width, features = given.whole("projection_class_embeddings_input_dim"), given.whole("addition_time_embed_dim")
    pooled = _pooled(given.where.parent) if pooled is None else pooled
    sizes, rest = divmod(width - pooled, max(features, 1))
    if rest or sizes < 1 or pooled < 1:
        raise CheckpointError(
            f"{given.where} embeds {width} numbers, which are no vector of {pooled} and some sizes of {features} features each: "
            "give pooled, the width of the vector of a whole text"
        )
    return replace(told, pooled=pooled, sizes=sizes, size_features=features)


def _pooled(folder: Path) -> int:
    """The width of the vectors of the text encoder beside a U-Net's folder."""
    path = folder.parent / "text_encoder_2" / "config.json"
    if not path.exists():
        raise CheckpointError(
            f"{folder / 'config.json'} does not say how wide the vector of a whole text is: give pooled, 1280 in SDXL"
        )
    return Options(path, {"projection_dim": 512, **read_json(path)}).whole("projection_dim")


def _said(config: UNetConfig) -> dict[str, Any]:
    told = config.told
    attends = [level.attend for level in config.levels]
    there = [attend for attend in (*attends, config.middle) if attend]
    last = attends[-1] and replace(attends[-1], only_context=False)
    wordless(
        ("attention that is no spatial Transformer", any(not attend.depth for attend in there)),
        ("no context", config.context is None),
        ("two blocks in the middle without attention", config.has_middle and config.middle is None),
        ("attention to the context alone in the middle", config.middle and config.middle.only_context),
        ("attention in the middle that differs from the last level's", last and config.middle and last != config.middle),
        ("a class beside a vector of a text", told.classes and told.pooled and not told.sizes),
        within=f" in a {CLASS}",
    )
    filling = [attend or config.middle or there[0] for attend in attends]  # where nothing attends any will do
    return {
        **common_said(config, _PLAIN, _ATTENDING),
        "layers_per_block": [level.blocks for level in config.levels],
        "mid_block_type": _MIDDLE if config.has_middle else None,
        "attention_head_dim": [attend.heads for attend in filling],
        "transformer_layers_per_block": [attend.depth for attend in filling],
        "only_cross_attention": [attend.only_context for attend in filling],
        "cross_attention_dim": config.context,
        "time_cond_proj_dim": told.guidance or None,
        "class_embed_type": "projection" if told.pooled and not told.sizes else None,
        "addition_embed_type": "text_time" if told.sizes else None,
        "addition_time_embed_dim": told.size_features if told.sizes else None,
        "projection_class_embeddings_input_dim": told.pooled + told.sizes * told.size_features if told.pooled else None,
    }
