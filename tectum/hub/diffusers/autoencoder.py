"""diffusers' `AutoencoderKL`, the autoencoder of latent diffusion: config.json and weights, both ways."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from tectum.hub.diffusers.parts import SILU, Component, Layout, Options, named, plain_attention, residual, wordless
from tectum.hub.keymap import Rule, both
from tectum.nn.autoencoder import Autoencoder, AutoencoderConfig

CLASS = "AutoencoderKL"
_DOWN, _UP = "DownEncoderBlock2D", "UpDecoderBlock2D"
_DEFAULTS: Mapping[str, Any] = {
    "in_channels": 3, "out_channels": 3, "down_block_types": (_DOWN,), "up_block_types": (_UP,), "block_out_channels": (64,),
    "layers_per_block": 1, "act_fn": "silu", "latent_channels": 4, "norm_num_groups": 32, "sample_size": 32,
    "scaling_factor": 0.18215, "shift_factor": None, "latents_mean": None, "latents_std": None, "force_upcast": True,
    "use_quant_conv": True, "use_post_quant_conv": True, "mid_block_add_attention": True,
}  # fmt: skip
_FLAGS = ("use_quant_conv", "use_post_quant_conv", "mid_block_add_attention")
_ONLY = {"act_fn": SILU, **dict.fromkeys(_FLAGS, (False, True))}
_NOTES = ("sample_size", "force_upcast")  # of its pipelines: tiles, and float32 where float16 overflows
_LAYOUT = Layout(CLASS, _DEFAULTS, _ONLY, _NOTES)


def _rules() -> Iterator[Rule]:
    yield from both("mix_moments", "quant_conv")
    yield from both("mix_latents", "post_quant_conv")
    for part, way, resampling in (("encoder", "down", "halvings"), ("decoder", "up", "doublings")):
        for name, theirs in (("conv_in", "conv_in"), ("norm_out", "conv_norm_out"), ("conv_out", "conv_out")):
            yield from both(f"{part}.{name}", f"{part}.{theirs}")
        yield from residual(f"{part}.levels.{{}}.{{}}", f"{part}.{way}_blocks.{{}}.resnets.{{}}")
        yield from both(f"{part}.{resampling}.{{}}.conv", f"{part}.{way}_blocks.{{}}.{way}samplers.0.conv")
        yield from residual(f"{part}.middle.first", f"{part}.mid_block.resnets.0")
        yield from residual(f"{part}.middle.second", f"{part}.mid_block.resnets.1")
        yield from plain_attention(f"{part}.middle.attention", f"{part}.mid_block.attentions.0")


RULES = tuple(_rules())


def load(folder: Path, said: Mapping[str, Any]) -> Component[Autoencoder]:
    """The autoencoder in a folder that `AutoencoderKL.save_pretrained` wrote.

    Raises:
        CheckpointError: if the folder is incomplete, contradicts itself, or asks for what is not known here.
    """
    given = _LAYOUT.options(folder, said)
    config = given.configure(_config)
    return _LAYOUT.component(given, lambda: Autoencoder(config), RULES)


def save(component: Component[Autoencoder], folder: Path, dtype: torch.dtype) -> None:
    """Writes what `AutoencoderKL.from_pretrained` reads.

    Raises:
        CheckpointError: if it has no words for something in the network.
    """
    _LAYOUT.write(component, folder, _said(component.network.config), named(component.network, RULES), dtype)


def _config(given: Options) -> AutoencoderConfig:
    for key, known in (("down_block_types", _DOWN), ("up_block_types", _UP)):
        if any(name != known for name in given.several(key)):
            raise given.refuse(key, f"each must be {known!r}")
    if given["out_channels"] != given["in_channels"]:
        raise given.refuse("out_channels", "it must be in_channels")
    scale, shift = _scaling(given)
    return AutoencoderConfig(
        channels=given.whole("in_channels"),
        latents=given.whole("latent_channels"),
        widths=given.wholes("block_out_channels", len(given.several("down_block_types"))),
        blocks=given.whole("layers_per_block"),
        groups=given.whole("norm_num_groups"),
        attends=given["mid_block_add_attention"],
        mixes_moments=given["use_quant_conv"],
        mixes_latents=given["use_post_quant_conv"],
        scale=scale,
        shift=shift,
    )


def _scaling(given: Options) -> tuple[float | tuple[float, ...], float | tuple[float, ...]]:
    """Scale and shift of the latents; where means and deviations are given these also count, as in SDXL's pipelines."""
    scale = given.number("scaling_factor")
    if given["latents_mean"] is None and given["latents_std"] is None:
        return scale, 0.0 if given["shift_factor"] is None else given.number("shift_factor")
    if given["shift_factor"] is not None or given["latents_mean"] is None or given["latents_std"] is None:
        raise given.refuse("latents_mean", "it goes together with latents_std, and without a shift_factor")
    means, stds = (
        tuple(Options(given.where, {key: value}).number(key) for value in given.several(key))
        for key in ("latents_mean", "latents_std")
    )
    if not all(std > 0 for std in stds):
        raise given.refuse("latents_std", "each must be above 0")
    return tuple(scale / std for std in stds), means


def _said(config: AutoencoderConfig) -> dict[str, Any]:
    wordless((f"grids of {config.dims} dimensions", config.dims != 2), ("folded grids", config.fold != 1))
    levels, scaling = len(config.widths), {}
    if isinstance(config.scale, tuple) or isinstance(config.shift, tuple):
        scales, shifts = (
            value if isinstance(value, tuple) else (value,) * config.latents for value in (config.scale, config.shift)
        )
        scaling = {"scaling_factor": 1.0, "latents_mean": list(shifts), "latents_std": [1 / scale for scale in scales]}
    else:
        scaling = {"scaling_factor": config.scale, "shift_factor": config.shift or None}
    return {
        "in_channels": config.channels,
        "out_channels": config.channels,
        "latent_channels": config.latents,
        "block_out_channels": list(config.widths),
        "down_block_types": [_DOWN] * levels,
        "up_block_types": [_UP] * levels,
        "layers_per_block": config.blocks,
        "norm_num_groups": config.groups,
        "mid_block_add_attention": config.attends,
        "use_quant_conv": config.mixes_moments,
        "use_post_quant_conv": config.mixes_latents,
        **scaling,
    }
