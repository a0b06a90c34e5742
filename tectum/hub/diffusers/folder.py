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
FILTERS = ("safety_checker", "feature_extractor", "image_encoder")
"""Parts of pipelines that nothing here asks for, and that are large: their folders need not be there."""

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


@dataclass(frozen=True, slots=True)
class Index:
    """What a model_index.json says.

    folder: where it is.
    kind: the class of the pipeline, such as "StableDiffusionPipeline".
    parts: the library and the class of each part, whose files are in the folder of its name; None for a part left out.
    settings: what else it says.
    """

    folder: Path
    kind: str
    parts: Mapping[str, tuple[str, str] | None]
    settings: Mapping[str, Any]


def read_index(folder: str | Path) -> Index:
    """The index of a pipeline's folder.

    Raises:
        CheckpointError: if it is missing or damaged, or a part that it names is not there; of `FILTERS`, any may be left out.
    """
    folder = Path(folder)
    parts: dict[str, tuple[str, str] | None] = {}
    said = read_json(folder / "model_index.json")
    for name, value in said.items():
        match value:
            case [None, None]:
                parts[name] = None
            case [str(library), str(kind)]:
                if Path(name).name == name and (folder / name).is_dir():
                    parts[name] = library, kind
                elif name in FILTERS:
                    parts[name] = None
                else:
                    raise CheckpointError(f"{folder / 'model_index.json'} names a part {name!r} that is not there: fetch it too")
    settings = {name: value for name, value in said.items() if name not in parts and not name.startswith("_")}
    return Index(folder, str(said.get("_class_name")), parts, settings)


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
        CheckpointError: as for `read_index` and `load_network`.
    """
    index, networks = read_index(folder), {}
    others = dict(index.parts)
    for name, part in index.parts.items():
        if part is not None and part[1] in CLASSES:
            networks[name] = load_network(index.folder / name, compat=compat)
            del others[name]
    return Pipeline(index.folder, index.kind, networks, others, index.settings)


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
