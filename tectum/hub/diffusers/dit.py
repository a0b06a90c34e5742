"""The diffusion Transformer as diffusers' `DiTTransformer2DModel`, both ways, and as its authors' own tensors.

They are not the same network. diffusers divides the sinusoid's exponents by 127 where the authors divide by 128, which is another
vector at all but small times, and has 1e-5 for 1e-6 in one norm; the weights it is given were trained in the authors' way.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tectum.errors import CheckpointError
from tectum.hub.diffusers.parts import Component, Layout, Options, attention, embedding, filled, named, weights, wordless
from tectum.hub.files import read_tensors
from tectum.hub.keymap import Rule, both, fused, to_theirs
from tectum.nn.conditions import ConditionConfig
from tectum.nn.dit import DiT, DiTConfig

CLASS = "DiTTransformer2DModel"
OLD_CLASS = "Transformer2DModel"  # until diffusers 0.29; other networks have the name too
_FEATURES = 256
_DEFAULTS: Mapping[str, Any] = {
    "num_attention_heads": 16, "attention_head_dim": 72, "in_channels": 4, "out_channels": None, "num_layers": 28,
    "dropout": 0.0, "norm_num_groups": 32, "attention_bias": True, "sample_size": 32, "patch_size": 2,
    "activation_fn": "gelu-approximate", "num_embeds_ada_norm": 1000, "upcast_attention": False, "norm_type": "ada_norm_zero",
    "norm_elementwise_affine": False, "norm_eps": 1e-5,
}  # fmt: skip
_ONLY: Mapping[str, tuple[Any, ...]] = {
    "dropout": (0.0,), "attention_bias": (True,), "activation_fn": ("gelu-approximate",), "norm_type": ("ada_norm_zero",),
    "norm_elementwise_affine": (False,),
}  # fmt: skip
_LAYOUT = Layout(CLASS, _DEFAULTS, _ONLY, ("sample_size", "norm_num_groups", "upcast_attention"))
# What the old class has besides, and where it has other defaults.
_OLD_NONE = ("cross_attention_dim", "num_vector_embeds", "caption_channels", "interpolation_scale", "use_additional_conditions")
_OLD_FALSE = ("use_linear_projection", "only_cross_attention", "double_self_attention")
_OLD_DEFAULTS: Mapping[str, Any] = {
    **_DEFAULTS, **dict.fromkeys(_OLD_NONE), **dict.fromkeys(_OLD_FALSE, False), "attention_head_dim": 88, "in_channels": None,
    "num_layers": 1, "attention_bias": False, "sample_size": None, "patch_size": None, "activation_fn": "geglu",
    "num_embeds_ada_norm": None, "norm_type": "layer_norm", "norm_elementwise_affine": True, "attention_type": "default",
}  # fmt: skip
_OLD_ONLY: Mapping[str, tuple[Any, ...]] = {
    **_ONLY, **dict.fromkeys(_OLD_NONE, (None,)), **dict.fromkeys(_OLD_FALSE, (False,)), "attention_type": ("default",),
}  # fmt: skip
_OLD_LAYOUT = Layout(OLD_CLASS, _OLD_DEFAULTS, _OLD_ONLY, _LAYOUT.notes)

_TOLD = "transformer_blocks.{}.norm1.emb."
_FIRST = _TOLD.format(0)
RULES = (
    *both("patches", "pos_embed.proj"),
    *embedding("told.time", f"{_FIRST}timestep_embedder"),
    Rule("told.classes.weight", f"{_FIRST}class_embedder.embedding_table.weight"),
    *both("blocks.{}.modulation", "transformer_blocks.{}.norm1.linear"),
    *attention("blocks.{}.attention", "transformer_blocks.{}.attn1", bias=True),
    *both("blocks.{}.mlp.0", "transformer_blocks.{}.ff.net.0.proj"),
    *both("blocks.{}.mlp.2", "transformer_blocks.{}.ff.net.2"),
    *both("modulation_out", "proj_out_1"),
    *both("project_out", "proj_out_2"),
)
ORIGINAL = (
    *both("patches", "x_embedder.proj"),
    *both("told.time.first", "t_embedder.mlp.0"),
    *both("told.time.second", "t_embedder.mlp.2"),
    Rule("told.classes.weight", "y_embedder.embedding_table.weight"),
    *both("blocks.{}.modulation", "blocks.{}.adaLN_modulation.1"),
    *fused("blocks.{}.attention", ("query", "key", "value"), "blocks.{}.attn.qkv.weight", "blocks.{}.attn.qkv.bias"),
    *both("blocks.{}.attention.out", "blocks.{}.attn.proj"),
    *both("blocks.{}.mlp.0", "blocks.{}.mlp.fc1"),
    *both("blocks.{}.mlp.2", "blocks.{}.mlp.fc2"),
    *both("modulation_out", "final_layer.adaLN_modulation.1"),
    *both("project_out", "final_layer.linear"),
)


def load(folder: Path, said: Mapping[str, Any], *, compat: bool = False) -> Component[DiT]:
    """The Transformer in a folder that `DiTTransformer2DModel.save_pretrained` wrote.

    Positions are those of diffusers on grids of its "sample_size"; for others they go on, where diffusers stretches them.

    Args:
        folder: with config.json and the weights.
        said: what config.json says.
        compat: whether times are embedded as diffusers does, in the place of as in training.

    Raises:
        CheckpointError: if the folder is incomplete, contradicts itself, or asks for what is not known here.
    """
    given = (_OLD_LAYOUT if said.get("_class_name") == OLD_CLASS else _LAYOUT).options(folder, said)
    config = given.configure(_config)
    if not compat:
        config = replace(config, told=replace(config.told, shift=0.0), eps_mlp=1e-6)
    tensors = weights(folder)
    for key in [key for key in tensors if ".norm1.emb." in key and not key.startswith(_FIRST)]:
        # They keep these in every block, and use each; in all weights that there are they are the same.
        first = tensors.get(_FIRST + key.split(".norm1.emb.")[1])
        if first is None or not torch.equal(tensors.pop(key), first):
            raise CheckpointError(f"{folder}: {key} differs from block 0's, and a network here has one embedding of the time")
    return _LAYOUT.component(given, lambda: DiT(config), RULES, tensors)


def save(component: Component[DiT], folder: Path, dtype: torch.dtype) -> None:
    """Writes what `DiTTransformer2DModel.from_pretrained` reads.

    Raises:
        CheckpointError: if it would be another network there: read with `compat`, or trained in diffusers' way, it is not.
    """
    config = component.network.config
    values, tensors = _said(config), named(component.network, RULES)
    shared = {key.removeprefix(_FIRST): tensor for key, tensor in tensors.items() if key.startswith(_FIRST)}
    for i in range(1, config.blocks):
        tensors |= {_TOLD.format(i) + key: tensor.clone() for key, tensor in shared.items()}
    _LAYOUT.write(component, folder, values, tensors, dtype)


def load_original(file: str | Path, config: DiTConfig) -> DiT:
    """The Transformer in its authors' state dict, taken out of its archive into a safetensors file.

    Args:
        file: the tensors.
        config: of `tectum.nn.dit.dit` for this model; the tensors do not tell the number of heads.

    Raises:
        CheckpointError: if the tensors are not those of such a network.
    """
    return filled(lambda: DiT(config), ORIGINAL, read_tensors(Path(file)), str(file), unused="pos_embed")


def original(network: DiT) -> dict[str, torch.Tensor]:
    """The weights under its authors' names, without the positions, which are computed."""
    return to_theirs(ORIGINAL, network.state_dict())


def _config(given: Options) -> DiTConfig:
    heads, channels = given.whole("num_attention_heads"), given.whole("in_channels")
    return DiTConfig(
        channels_in=channels,
        channels_out=channels if given["out_channels"] is None else given.whole("out_channels"),
        patch=given.whole("patch_size"),
        width=heads * given.whole("attention_head_dim"),
        blocks=given.whole("num_layers"),
        heads=heads,
        told=ConditionConfig(features=_FEATURES, shift=1.0, classes=given.whole("num_embeds_ada_norm"), null_class=True),
        eps_mlp=given.number("norm_eps"),
    )


def _said(config: DiTConfig) -> dict[str, Any]:
    told = config.told
    plain = ConditionConfig(features=_FEATURES, shift=1.0, classes=told.classes, null_class=told.classes > 0)
    wordless(
        (f"grids of {config.dims} dimensions", config.dims != 2),
        ("tokens to attend to", config.context is not None),
        ("a Transformer that is told no class", not told.classes),
        ("a Transformer without blocks", not config.blocks),
        (
            "times embedded in the authors' way, which it would embed in another (load with compat=True)",
            told == replace(plain, shift=0.0),
        ),
        (f"a Transformer that is told in this way, {told},", told not in (plain, replace(plain, shift=0.0))),
    )
    return {
        "num_attention_heads": config.heads,
        "attention_head_dim": config.width // config.heads,
        "in_channels": config.channels_in,
        "out_channels": config.channels_out,
        "num_layers": config.blocks,
        "patch_size": config.patch,
        "num_embeds_ada_norm": told.classes,
        "norm_eps": config.eps_mlp,
    }
