"""OpenAI's own CLIP state dict, taken out of its archive into a safetensors file: tensors and no configuration."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from tectum.errors import CheckpointError, ConfigError
from tectum.hub.bridge import IMAGE, SCALE, TEXT, TwoTowers, agreed, build, end_pool, named
from tectum.hub.files import read_weights, write_json, write_tensors
from tectum.hub.keymap import Rule, both, fused
from tectum.hub.pictures import openai_pictures, read_pictures, write_pictures
from tectum.hub.tokens import read_tokenizer, write_tokenizer
from tectum.models.clip_text import ClipTextConfig
from tectum.models.space import Space
from tectum.models.vit import ViTConfig
from tectum.nn.activation import Activation

HEAD = 64  # OpenAI's heads are all this wide
UNUSED = r"input_resolution|context_length|vocab_size|(.*\.)?attn_mask"


def trunk(ours: str, theirs: str) -> tuple[Rule, ...]:
    """The blocks of one tower."""
    block, layer = f"{ours}.transformer.blocks.{{}}", f"{theirs}transformer.resblocks.{{}}"
    return (
        *both(f"{block}.norm_attention", f"{layer}.ln_1"),
        *fused(f"{block}.attention", ("query", "key", "value"), f"{layer}.attn.in_proj_weight", f"{layer}.attn.in_proj_bias"),
        *both(f"{block}.attention.out", f"{layer}.attn.out_proj"),
        *both(f"{block}.norm_mlp", f"{layer}.ln_2"),
        *both(f"{block}.mlp.0", f"{layer}.mlp.c_fc"),
        *both(f"{block}.mlp.2", f"{layer}.mlp.c_proj"),
    )


def rules(text: str = "") -> tuple[Rule, ...]:
    """The key map; `text` goes before the keys of the text tower ("text." in some models of open_clip)."""
    return (
        Rule(f"{IMAGE}.patches.projection.weight", "visual.conv1.weight"),
        Rule(f"{IMAGE}.class_token", "visual.class_embedding"),
        Rule(f"{IMAGE}.positions", "visual.positional_embedding"),
        *both(f"{IMAGE}.norm", "visual.ln_pre"),
        *trunk(IMAGE, "visual."),
        *both(f"{IMAGE}.transformer.norm", "visual.ln_post"),
        Rule(f"{IMAGE}.head.weight", "visual.proj", transposed=True),
        Rule(f"{TEXT}.tokens.weight", f"{text}token_embedding.weight"),
        Rule(f"{TEXT}.positions", f"{text}positional_embedding"),
        *trunk(TEXT, text),
        *both(f"{TEXT}.transformer.norm", f"{text}ln_final"),
        Rule(f"{TEXT}.head.weight", f"{text}text_projection", transposed=True),
        Rule(SCALE, "logit_scale"),
    )


def load(folder: Path, activation: Activation | None) -> Space:
    """The space in a folder with model.safetensors and CLIP's tokenizer files; sizes are read from the shapes.

    Pictures are prepared as OpenAI does, unless the folder has a preprocessor_config.json.

    Raises:
        CheckpointError: if `activation` is not given (tensors cannot tell), or the tensors are no CLIP with a ViT.
    """
    weights = read_weights(folder, "model")
    chosen = agreed(None, activation, folder / "model.safetensors")
    try:
        vision, text, dim = sizes(weights, chosen)
    except (IndexError, KeyError, ConfigError) as error:
        resnet = "visual.layer1.0.conv1.weight" in weights
        what = "is a CLIP with a ResNet" if resnet else f"is no CLIP of OpenAI's layout ({error})"
        raise CheckpointError(f"{folder / 'model.safetensors'} {what}: give one with a vision Transformer") from error
    tokenizer = read_tokenizer(folder, text.context, pads=False)
    pictures = (folder / "preprocessor_config.json").exists() or (folder / "processor_config.json").exists()
    parts = TwoTowers(
        dim=dim,
        pictures=read_pictures(folder, "CLIP") if pictures else openai_pictures(vision.size),
        vision=vision,
        text=replace(text, pool=end_pool(tokenizer)),
        tokenizer=tokenizer,
    )
    return build(parts, rules(), weights, folder, unused=UNUSED)


def save(space: Space, parts: TwoTowers, folder: Path, dtype: torch.dtype) -> None:
    """Writes model.safetensors, and beside it the tokenizer and preprocessor_config.json that OpenAI keeps in code.

    The layout cannot hold the activation: loading it again needs `activation=…`.
    """
    fits(parts, "openai", heads=HEAD)
    if parts.text.pool == "eos" != end_pool(parts.tokenizer):
        raise CheckpointError(
            "the layout 'openai' pools at the highest id, which is not this tokenizer's end: save as 'transformers'"
        )
    write_tensors(folder / "model.safetensors", named(space, rules()), dtype)
    write_json(folder / "preprocessor_config.json", write_pictures(parts.pictures, "CLIPImageProcessor"))
    write_tokenizer(parts.tokenizer, folder)


def fits(parts: TwoTowers, layout: str, *, heads: int | None = None) -> None:
    """Refuses what OpenAI's and open_clip's plain layouts have no words for."""
    if parts.vision.pool != "class" or parts.vision.activation != parts.text.activation:
        raise CheckpointError(f"the layout {layout!r} holds a CLIP with one activation for both towers: save as 'transformers'")
    for tower in (parts.vision, parts.text):
        if tower.eps != 1e-5:
            raise CheckpointError(f"the layout {layout!r} means an eps of 1e-5, not {tower.eps}: save as 'transformers'")
        if heads and tower.width != tower.heads * heads:
            raise CheckpointError(
                f"the layout {layout!r} means heads of {heads} numbers, and this model has {tower.width // tower.heads}: save as "
                "'transformers' or 'open_clip'"
            )


def sizes(weights: Mapping[str, Tensor], activation: Activation) -> tuple[ViTConfig, ClipTextConfig, int]:
    """Both towers and the length of the vectors, from the shapes."""
    kernel, positions = weights["visual.conv1.weight"].shape, weights["visual.positional_embedding"].shape
    (vocabulary, width), (_, dim) = weights["token_embedding.weight"].shape, weights["text_projection"].shape
    vision = ViTConfig(
        size=round((positions[0] - 1) ** 0.5) * kernel[2],
        patch=kernel[2],
        width=kernel[0],
        blocks=_depth(weights, "visual."),
        heads=max(1, kernel[0] // HEAD),
        hidden=weights["visual.transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
        activation=activation,
    )
    text = ClipTextConfig(
        vocab_size=vocabulary,
        context=weights["positional_embedding"].shape[0],
        width=width,
        blocks=_depth(weights, ""),
        heads=max(1, width // HEAD),
        hidden=weights["transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
        activation=activation,
    )
    return vision, text, dim


def _depth(weights: Mapping[str, Tensor], prefix: str) -> int:
    pattern = re.compile(re.escape(prefix) + r"transformer\.resblocks\.(\d+)\.ln_1\.weight")
    return len(list(filter(None, map(pattern.fullmatch, weights))))
