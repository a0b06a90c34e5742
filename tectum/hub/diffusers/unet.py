"""diffusers' `UNet2DModel`, the U-Net of DDPM: config.json and diffusion_pytorch_model.safetensors, both ways."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tectum.hub.diffusers.parts import SILU, Component, Layout, Options, embedding, named, plain_attention, residual, wordless
from tectum.hub.keymap import Rule, both
from tectum.nn.conditions import ConditionConfig
from tectum.nn.residual import Modulation, Padding
from tectum.nn.unet import UNet
from tectum.nn.unet_config import Attend, Level, UNetConfig

CLASS = "UNet2DModel"
# Of both U-Nets.
DEFAULTS: Mapping[str, Any] = {
    "sample_size": None, "center_input_sample": False, "time_embedding_type": "positional", "time_embedding_dim": None,
    "freq_shift": 0, "flip_sin_to_cos": True, "layers_per_block": 2, "mid_block_scale_factor": 1, "downsample_padding": 1,
    "dropout": 0.0, "act_fn": "silu", "norm_num_groups": 32, "norm_eps": 1e-5, "resnet_time_scale_shift": "default",
    "class_embed_type": None, "num_class_embeds": None,
}  # fmt: skip
ONLY: Mapping[str, tuple[Any, ...]] = {
    "center_input_sample": (False,), "time_embedding_type": ("positional",), "mid_block_scale_factor": (1,),
    "downsample_padding": (0, 1), "act_fn": SILU, "resnet_time_scale_shift": ("default", "scale_shift"),
    "flip_sin_to_cos": (False, True),
}  # fmt: skip
_DEFAULTS: Mapping[str, Any] = {
    **DEFAULTS, "in_channels": 3, "out_channels": 3, "attention_head_dim": 8, "attn_norm_num_groups": None,
    "down_block_types": ("DownBlock2D", *("AttnDownBlock2D",) * 3), "up_block_types": (*("AttnUpBlock2D",) * 3, "UpBlock2D"),
    "mid_block_type": "UNetMidBlock2D", "block_out_channels": (224, 448, 672, 896), "downsample_type": "conv",
    "upsample_type": "conv", "add_attention": True, "num_train_timesteps": None,
}  # fmt: skip
_ONLY: Mapping[str, tuple[Any, ...]] = {
    **ONLY, "mid_block_type": ("UNetMidBlock2D", None), "downsample_type": ("conv",), "upsample_type": ("conv",),
    "class_embed_type": (None,), "add_attention": (False, True),
}  # fmt: skip
_LAYOUT = Layout(CLASS, _DEFAULTS, _ONLY, ("sample_size", "num_train_timesteps"))
_PLAIN, _ATTENDING = ("DownBlock2D", "UpBlock2D"), ("AttnDownBlock2D", "AttnUpBlock2D")
_PADDINGS: Mapping[int, Padding] = {0: "end", 1: "both"}
_MODULATIONS: Mapping[str, Modulation] = {"default": "shift", "scale_shift": "scale_shift"}

# Of both U-Nets.
SHARED = (
    *both("conv_in", "conv_in"),
    *both("norm_out", "conv_norm_out"),
    *both("conv_out", "conv_out"),
    *embedding("told.time", "time_embedding"),
    Rule("told.classes.weight", "class_embedding.weight"),
    *residual("down.{}.{}.block", "down_blocks.{}.resnets.{}"),
    *residual("middle.{}.block", "mid_block.resnets.{}"),
    *residual("up.{}.{}.block", "up_blocks.{}.resnets.{}"),
    *both("halvings.{}.conv", "down_blocks.{}.downsamplers.0.conv"),
    *both("doublings.{}.conv", "up_blocks.{}.upsamplers.0.conv"),
)
ATTENTIONS = (  # ours and theirs
    ("down.{}.{}.attention", "down_blocks.{}.attentions.{}"),
    ("middle.{}.attention", "mid_block.attentions.{}"),
    ("up.{}.{}.attention", "up_blocks.{}.attentions.{}"),
)
RULES = (*SHARED, *(rule for pair in ATTENTIONS for rule in plain_attention(*pair)))


def load(folder: Path, said: Mapping[str, Any]) -> Component[UNet]:
    """The U-Net in a folder that `UNet2DModel.save_pretrained` wrote.

    Raises:
        CheckpointError: if the folder is incomplete, contradicts itself, or asks for what is not known here.
    """
    given = _LAYOUT.options(folder, said)
    config = given.configure(_config)
    return _LAYOUT.component(given, lambda: UNet(config), RULES)


def save(component: Component[UNet], folder: Path, dtype: torch.dtype) -> None:
    """Writes what `UNet2DModel.from_pretrained` reads.

    Raises:
        CheckpointError: if it has no words for something in the network.
    """
    _LAYOUT.write(component, folder, _said(component.network.config), named(component.network, RULES), dtype)


def levels(given: Options, plain: tuple[str, str], attending: tuple[str, str]) -> list[bool]:
    """For each level whether its blocks attend; `plain` and `attending` are the names of such blocks, down and up.

    Raises:
        CheckpointError: if there are other blocks, or those up are not those down.
    """
    down, up = ([str(name).removeprefix("UNetRes") for name in given.several(f"{way}_block_types")] for way in ("down", "up"))
    for names, place, key in ((down, 0, "down_block_types"), (up, 1, "up_block_types")):
        if any(name not in (plain[place], attending[place]) for name in names):
            raise given.refuse(key, f"each must be {plain[place]!r} or {attending[place]!r}")
    attends = [name == attending[0] for name in down]
    if attends != [name == attending[1] for name in reversed(up)]:
        raise given.refuse("up_block_types", f"they must mirror down_block_types, {down}")
    return attends


def common(given: Options) -> dict[str, Any]:
    """The options of `UNetConfig` that both U-Nets have by the same names."""
    return {
        "channels_in": given.whole("in_channels"),
        "channels_out": given.whole("out_channels"),
        "has_middle": given["mid_block_type"] is not None,
        "embedding": None if given["time_embedding_dim"] is None else given.whole("time_embedding_dim"),
        "modulation": _MODULATIONS[given["resnet_time_scale_shift"]],
        "groups": given.whole("norm_num_groups"),
        "eps": given.number("norm_eps"),
        "dropout": given.number("dropout"),
        "padding": _PADDINGS[given["downsample_padding"]],
    }


def conditions(given: Options) -> ConditionConfig:
    """What both U-Nets are told: the time, and perhaps a class."""
    return ConditionConfig(
        features=given.wholes("block_out_channels", len(given.several("block_out_channels")))[0],
        order="cos_sin" if given["flip_sin_to_cos"] else "sin_cos",
        shift=given.number("freq_shift"),
        classes=0 if given["num_class_embeds"] is None else given.whole("num_class_embeds"),
    )


def common_said(config: UNetConfig, plain: tuple[str, str], attending: tuple[str, str]) -> dict[str, Any]:
    """The inverse of `levels`, `common` and `conditions`.

    Raises:
        CheckpointError: if both U-Nets of diffusers have no words for something.
    """
    told = config.told
    widths = [level.width for level in config.levels]
    wordless(
        (f"grids of {config.dims} dimensions", config.dims != 2),
        (f"{told.features} features of the time beside a first width of {widths[0]}", told.features != widths[0]),
        ("random Fourier features of the time", told.bandwidth is not None),
    )
    blocks = [plain if level.attend is None else attending for level in config.levels]
    return {
        "in_channels": config.channels_in,
        "out_channels": config.channels_out,
        "block_out_channels": widths,
        "down_block_types": [down for down, _ in blocks],
        "up_block_types": [up for _, up in reversed(blocks)],
        "time_embedding_dim": config.embedding,
        "flip_sin_to_cos": told.order == "cos_sin",
        "freq_shift": int(told.shift) if told.shift == int(told.shift) else told.shift,
        "num_class_embeds": told.classes + told.null_class or None,
        "resnet_time_scale_shift": {ours: theirs for theirs, ours in _MODULATIONS.items()}[config.modulation],
        "norm_num_groups": config.groups,
        "norm_eps": config.eps,
        "dropout": config.dropout,
        "downsample_padding": {ours: theirs for theirs, ours in _PADDINGS.items()}[config.padding],
    }


def _config(given: Options) -> UNetConfig:
    shared = common(given)
    attends = levels(given, _PLAIN, _ATTENDING)
    widths = given.wholes("block_out_channels", len(attends))
    blocks = given.whole("layers_per_block")
    head = None if given["attention_head_dim"] is None else given.whole("attention_head_dim")

    def attend(width: int) -> Attend:
        # Here it really is the width of a head, and None is one head.
        if head is not None and (head < 1 or width % head):
            raise given.refuse("attention_head_dim", f"heads of so many channels do not fill a width of {width}")
        return Attend(heads=1 if head is None else width // head)

    middle = attend(widths[-1]) if given["mid_block_type"] and given["add_attention"] else None
    norms = given["attn_norm_num_groups"]
    if norms is None and given["resnet_time_scale_shift"] == "default":
        norms = shared["groups"]
    if middle and norms != shared["groups"]:
        raise given.refuse("attn_norm_num_groups", "the attention in the middle must have the group norm of all others")
    return UNetConfig(
        levels=tuple(
            Level(width=width, blocks=blocks, attend=attend(width) if attending else None)
            for width, attending in zip(widths, attends, strict=True)
        ),
        middle=middle,
        told=conditions(given),
        **shared,
    )


def _said(config: UNetConfig) -> dict[str, Any]:
    attends = [(level.width, level.attend) for level in config.levels] + [(config.levels[-1].width, config.middle)]
    there = [(width, attend) for width, attend in attends if attend]
    heads = {width // attend.heads for width, attend in there}
    one_head = all(attend.heads == 1 for _, attend in there)
    told = config.told
    wordless(
        ("spatial Transformers", any(attend.depth for _, attend in there)),
        ("a vector of a text, or a weight of guidance", told.pooled or told.guidance),
        ("levels of different numbers of blocks", len({level.blocks for level in config.levels}) > 1),
        ("heads of different widths", not one_head and len(heads) > 1),
        within=f" in a {CLASS}",
    )
    return {
        **common_said(config, _PLAIN, _ATTENDING),
        "layers_per_block": config.levels[0].blocks,
        "mid_block_type": "UNetMidBlock2D" if config.has_middle else None,
        "add_attention": config.middle is not None,
        "attention_head_dim": None if one_head else heads.pop(),
        "attn_norm_num_groups": config.groups,
    }
