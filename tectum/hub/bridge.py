"""What every public layout of two towers, pictures and text, needs on its way in and out."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from tectum.errors import CheckpointError, ConfigError
from tectum.hub.keymap import Rule, to_ours, to_theirs
from tectum.media.image import ImageSpec
from tectum.media.text import Tokenizer
from tectum.models.clip_text import ClipTextConfig
from tectum.models.sigmoid_space import SigmoidSpace
from tectum.models.space import Space, SpaceConfig
from tectum.models.towers import ImageTowerConfig, TextTower, TextTowerConfig, TowerConfig
from tectum.models.vit import ViTConfig
from tectum.nn.activation import Activation

IMAGE, TEXT, SCALE, BIAS = "towers.image.encoder", "towers.text.encoder", "log_scale.image-text", "logit_bias.image-text"


@dataclass(frozen=True, kw_only=True, slots=True)
class TwoTowers:
    """A CLIP or SigLIP by its parts."""

    dim: int
    pictures: ImageSpec
    vision: ViTConfig
    text: ClipTextConfig
    tokenizer: Tokenizer


def build(parts: TwoTowers, rules: Sequence[Rule], weights: Mapping[str, Tensor], folder: Path, *, unused: str = r"$^") -> Space:
    """The space of these parts with a checkpoint's weights in it.

    Raises:
        CheckpointError: if the parts contradict each other, or the weights do not fit them.
    """
    image, text = ImageTowerConfig(image=parts.pictures, grid=parts.vision), TextTowerConfig(text=parts.text)
    config = config_of(folder, parts.dim, {"image": image, "text": text})
    kind = SigmoidSpace if parts.text.pool == "last" else Space
    return assemble(kind, config, parts.tokenizer, rules, weights, folder, scale=SCALE, unused=unused)


def config_of(folder: Path, dim: int, towers: Mapping[str, TowerConfig]) -> SpaceConfig:
    """The configuration of a space that is read from a public folder."""
    return SpaceConfig(name=str(folder.resolve()), description=f"read from {folder}", dim=dim, towers=towers)


def assemble(
    kind: type[Space],
    config: SpaceConfig,
    tokenizer: Tokenizer,
    rules: Sequence[Rule],
    weights: Mapping[str, Tensor],
    folder: Path,
    *,
    scale: str,
    unused: str,
) -> Space:
    """The space of a configuration with a checkpoint's weights in it; temperatures that no rule names are that of `scale`.

    Raises:
        CheckpointError: if the configuration contradicts itself, or the weights do not fit it.
    """
    try:
        with torch.device("meta"):  # nothing is drawn that is overwritten, and wrong sizes cost no memory
            space = kind(config, tokenizer)
    except ConfigError as error:
        raise CheckpointError(f"{folder} contradicts itself: {error}; fetch its files from one place") from error
    shapes = {key: tensor.shape for key, tensor in space.state_dict().items()}
    filled = to_ours(rules, shapes, weights, where=str(folder), unused=unused)
    for key in shapes.keys() - filled.keys():
        filled[key] = filled[scale if key.startswith("log_scale.") else BIAS].clone()
    space.load_state_dict(filled, assign=True)
    space.fingerprint = fingerprint(space)
    return space.eval()


def parts_of(space: Space, layout: str) -> TwoTowers:
    """The inverse of `build`.

    Raises:
        CheckpointError: if the space is of other parts than a public CLIP or SigLIP.
    """
    towers = dict(space.config.towers)
    image, text = towers.pop("image", None), towers.pop("text", None)
    if (
        towers
        or not (isinstance(image, ImageTowerConfig) and isinstance(image.grid, ViTConfig))
        or not (isinstance(text, TextTowerConfig) and isinstance(text.text, ClipTextConfig))
        or (image.grid.pool == "attention") != (text.text.pool == "last")
    ):
        raise CheckpointError(
            f"{space.name} cannot be saved in the layout {layout!r}, which holds one picture and one text tower of CLIP's or "
            "SigLIP's kind: save it without a layout"
        )
    tower = space.tower("text")
    assert isinstance(tower, TextTower)
    return TwoTowers(dim=space.dim, pictures=image.image, vision=image.grid, text=text.text, tokenizer=tower.tokenizer)


def named(space: Space, rules: Sequence[Rule]) -> dict[str, Tensor]:
    """The weights of a space under the names of a layout."""
    return to_theirs(rules, space.state_dict())


def agreed(said: Activation | None, given: Activation | None, where: Path) -> Activation:
    """The activation that a checkpoint says or the caller gives; it changes every vector and leaves no trace in the tensors.

    Raises:
        CheckpointError: if neither knows, or they differ.
    """
    if said and given and said != given:
        raise CheckpointError(f"{where} says its activation is {said!r}, not {given!r}: leave activation out or correct the file")
    if found := said or given:
        return found
    raise CheckpointError(
        f"{where} does not say which activation its blocks have, and tensors cannot tell: give activation='quick_gelu' (OpenAI's "
        "own weights and their descendants) or activation='gelu' (most of LAION's and DataComp's)"
    )


def end_pool(tokenizer: Tokenizer) -> Literal["eos", "highest"]:
    """How a model that takes the highest id is pooled here: at the end token where that has the highest id, which is the same."""
    return "eos" if tokenizer.eos == max(tokenizer.inner.get_vocab(with_added_tokens=True).values()) else "highest"


def at_size(space: Space, size: int) -> Space:
    """The same space for pictures of another side: the weights stay, the positions are interpolated in passing.

    Raises:
        ConfigError: if the space has no picture tower, or the size is below one patch.
    """
    tower = space.tower("image")
    config = tower.config
    assert isinstance(config, ImageTowerConfig)
    if isinstance(config.grid, ViTConfig) and size < config.grid.patch:
        raise ConfigError(f"image_size is {size}, less than one patch of {config.grid.patch} pixels")
    edge = config.image.edge and round(config.image.edge * size / config.image.size)
    tower.config = replace(config, image=replace(config.image, size=size, edge=edge))
    space.config = replace(space.config, towers={**space.config.towers, "image": tower.config})
    space.fingerprint = fingerprint(space)
    return space


def fingerprint(space: Space) -> str:
    """sha256 over everything the vectors depend on, whatever layout it came in, shortened to 16 hex digits."""
    digest = hashlib.sha256(repr((space.dim, sorted(space.config.towers.items()))).encode())
    for tower in space.towers.values():
        if isinstance(tower, TextTower):
            marks = (tower.tokenizer.bos, tower.tokenizer.eos, tower.tokenizer.pad, tower.tokenizer.context)
            inner = json.loads(tower.tokenizer.inner.to_str())
            ours = {key: inner[key] for key in ("added_tokens", "normalizer", "pre_tokenizer", "model")}  # the rest is not used
            digest.update(f"{marks} {json.dumps(ours, sort_keys=True)}".encode())
    for key, tensor in sorted(space.state_dict().items()):
        digest.update(f"{key} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
