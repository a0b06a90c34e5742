"""Folders of Hugging Face diffusers: a network's, and a whole pipeline's with its model_index.json, both ways.

unet/       config.json, diffusion_pytorch_model.safetensors (whole, in shards, or of half precision alone)
vae/        the same
scheduler/, text_encoder/, tokenizer/, …   left as they are: `tectum.hub.diffusers.schedulers` reads the first
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch

from tectum.errors import CheckpointError
from tectum.hub.diffusers import autoencoder, dit, unet, unet_condition
from tectum.hub.diffusers.parts import WEIGHTS, Component
from tectum.hub.files import read_json, whole_folder, write_json
from tectum.nn.autoencoder import Autoencoder
from tectum.nn.dit import DiT
from tectum.nn.unet import UNet

Network = UNet | Autoencoder | DiT
CLASSES = (
    unet.CLASS, unet_condition.CLASS, autoencoder.CLASS, dit.CLASS,
    dit.OLD_CLASS,
)  # fmt: skip
"""The classes of networks that are read."""

N = TypeVar("N", bound=Network)


def load_network(folder: str | Path, *, pooled: int | None = None, compat: bool = False) -> Component[Any]:
    """The network in a folder that `save_pretrained` of one of `CLASSES` wrote, in float32.

    Args:
        folder: with config.json and safetensors.
        pooled: of a U-Net of SDXL's kind that stands alone, the width of the vector of a whole text.
        compat: whether a diffusion Transformer embeds times as diffusers does, in the place of as in training.

    Raises:
        CheckpointError: if the folder is of no such class, incomplete, contradicts itself, or has an option that is not known.
    """
    folder = Path(folder)
    said = read_json(folder / "config.json")
    name = said.get("_class_name")
    if name == unet.CLASS:
        return unet.load(folder, said)
    if name == unet_condition.CLASS:
        return unet_condition.load(folder, said, pooled)
    if name == autoencoder.CLASS:
        return autoencoder.load(folder, said)
    if name in (dit.CLASS, dit.OLD_CLASS):
        return dit.load(folder, said, compat=compat)
    raise CheckpointError(f"{folder / 'config.json'} is of the class {name!r}: read here are {', '.join(CLASSES)}")


def save_network(component: Component[N] | N, folder: str | Path, *, dtype: torch.dtype = torch.float32) -> None:
    """Writes a network as diffusers reads it, beside its final place first, so that a folder is whole or absent.

    A U-Net becomes a `UNet2DConditionModel` if it has a context, else a `UNet2DModel`.

    Args:
        component: the network, with what else its config.json should say.
        folder: where to; other files there are kept.
        dtype: what floating-point weights are stored as.

    Raises:
        CheckpointError: if diffusers has no words for something in it.
    """
    part: Component[Any] = component if isinstance(component, Component) else Component(component)
    with whole_folder(Path(folder)) as beside:
        for old in beside.glob(f"{WEIGHTS}*"):  # shards and other precisions would be read before what is written now
            old.unlink()
        if isinstance(part.network, Autoencoder):
            autoencoder.save(part, beside, dtype)
        elif isinstance(part.network, DiT):
            dit.save(part, beside, dtype)
        elif part.network.config.context is not None:
            unet_condition.save(part, beside, dtype)
        else:
            unet.save(part, beside, dtype)


@dataclass(frozen=True, eq=False, slots=True)
class Pipeline:
    """A folder with a model_index.json.

    folder: it.
    kind: the class that it is made for, such as "StableDiffusionPipeline".
    networks: those of diffusion, by name: "unet" or "transformer", "vae".
    others: the library and the class of each other part, whose files are in the folder of its name; None for a part left out.
    settings: what else the index says.
    """

    folder: Path
    kind: str
    networks: Mapping[str, Component[Any]]
    others: Mapping[str, tuple[str, str] | None] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


def load_pipeline(folder: str | Path, *, compat: bool = False) -> Pipeline:
    """The networks of a pipeline's folder, and what else is in it.

    Args:
        folder: with model_index.json.
        compat: as for `load_network`.

    Raises:
        CheckpointError: if the index is missing or damaged, a part that it names is not there, or as for `load_network`.
    """
    folder = Path(folder)
    index = read_json(folder / "model_index.json")
    networks: dict[str, Component[Any]] = {}
    others: dict[str, tuple[str, str] | None] = {}
    settings = {}
    for name, value in index.items():
        if name.startswith("_"):
            continue
        match value:
            case [None, None]:
                others[name] = None
            case [str(library), str(kind)]:
                if Path(name).name != name or not (folder / name).is_dir():
                    raise CheckpointError(f"{folder / 'model_index.json'} names a part {name!r} that is not there: fetch it too")
                if kind in CLASSES:
                    networks[name] = load_network(folder / name, compat=compat)
                else:
                    others[name] = (library, kind)
            case _:
                settings[name] = value
    return Pipeline(folder, str(index.get("_class_name")), networks, others, settings)


def save_pipeline(pipeline: Pipeline, folder: str | Path, *, dtype: torch.dtype = torch.float32) -> None:
    """Writes a pipeline's folder: its networks as they are now, its other parts copied from where it was read.

    Raises:
        CheckpointError: as for `save_network`.
    """
    with whole_folder(Path(folder)) as beside:
        index: dict[str, Any] = {"_class_name": pipeline.kind, **pipeline.settings}
        for name, component in pipeline.networks.items():
            save_network(component, beside / name, dtype=dtype)
            index[name] = ["diffusers", read_json(beside / name / "config.json")["_class_name"]]
        for name, part in pipeline.others.items():
            index[name] = list(part or (None, None))
            if part is not None:
                shutil.copytree(pipeline.folder / name, beside / name, dirs_exist_ok=True)
        write_json(beside / "model_index.json", index)
