"""Whole pipelines of diffusers: a folder with a model_index.json becomes something that makes pictures.

    model = load("stable-diffusion-v1-5")
    pictures = model.generate(["a red apple"], Sampling(steps=30, guidance=7.5, seed=1))

Read are the folders of Stable Diffusion and SDXL (text encoders of transformers' CLIP), DiT, DDPM and DDIM.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tectum.diffusion.noise import Noise
from tectum.errors import CheckpointError, ConfigError
from tectum.hub.bridge import TEXT
from tectum.hub.diffusers.folder import Pipeline, load_pipeline
from tectum.hub.diffusers.parts import Component, filled
from tectum.hub.diffusers.schedulers import Scheduler
from tectum.hub.diffusers.schedulers import load as load_scheduler
from tectum.hub.diffusers.schedulers_plans import Plan
from tectum.hub.files import read_json, read_weights
from tectum.hub.keymap import Rule
from tectum.hub.layouts.clip_hf import RULES, TEXT_DEFAULTS, UNUSED, text_config, whole
from tectum.hub.tokens import read_tokenizer
from tectum.media.text import Tokenizer
from tectum.models.clip_text import ClipText
from tectum.models.latent_diffusion import LatentDiffusion
from tectum.models.prompts import ClipPrompts
from tectum.nn.autoencoder import Autoencoder
from tectum.nn.conditions import ConditionConfig
from tectum.nn.dit import DiT
from tectum.nn.unet import UNet

_TEXTS = ("text_encoder", "tokenizer")
KINDS: Mapping[str, tuple[str, ...]] = {
    "StableDiffusionPipeline": ("unet", "vae", "scheduler", *_TEXTS),
    "StableDiffusionXLPipeline": ("unet", "vae", "scheduler", *_TEXTS, *(f"{name}_2" for name in _TEXTS)),
    "DiTPipeline": ("transformer", "vae", "scheduler"),
    "DDPMPipeline": ("unet", "scheduler"),
    "DDIMPipeline": ("unet", "scheduler"),
}
"""The pipelines that are read, and the parts that each is made of. Others in a folder, such as filters of pictures, are left."""
_PLAIN, _PROJECTED = "CLIPTextModel", "CLIPTextModelWithProjection"
_RULES = tuple(
    Rule(rule.ours.removeprefix(f"{TEXT}."), rule.theirs)
    for rule in RULES
    if isinstance(rule.ours, str) and rule.ours.startswith(f"{TEXT}.")
)
_SIZES = {"StableDiffusionPipeline": 64, "StableDiffusionXLPipeline": 128, "DiTPipeline": 32}  # where no sample_size is said


def load(folder: str | Path, *, compat: bool = False) -> LatentDiffusion:
    """The pipeline in a folder that `save_pretrained` of one of `KINDS` wrote, in float32.

    Args:
        folder: with model_index.json.
        compat: diffusers' numbers, with its faults; else none of the `schedulers.CORRECTIONS` is left out, and the times that a
            diffusion Transformer is told are embedded as they were in training.

    Raises:
        CheckpointError: if the folder is of another kind, or a part is missing, of another class, damaged or unfit for the rest.
        ConfigError: if the scheduler is one that is not known here.
    """
    folder = Path(folder)
    kind = _kind(folder)
    pipeline = load_pipeline(folder, compat=compat)
    _complete(pipeline)
    scheduler = pipeline_scheduler(folder)
    component = pipeline.networks["transformer" if kind == "DiTPipeline" else "unet"]
    network, vae = component.network, pipeline.networks.get("vae")
    if not isinstance(network, DiT if kind == "DiTPipeline" else UNet) or not (
        vae is None or isinstance(vae.network, Autoencoder)
    ):
        raise CheckpointError(f"{folder / 'model_index.json'} gives a part the class of another: restore the file")
    try:
        return LatentDiffusion(
            network,
            partial(_plan, scheduler, compat),
            size_of(folder, kind, component),
            autoencoder=None if vae is None else vae.network,
            prompts=_prompts(pipeline, network.config.told) if kind.startswith("StableDiffusion") else None,
            compat=compat,
        ).eval()
    except ConfigError as error:
        raise CheckpointError(f"the parts of {folder} do not fit: {error}") from error


def pipeline_scheduler(folder: Path) -> Scheduler:
    """The scheduler of a pipeline's folder with what the pipeline itself makes of it.

    That of Stable Diffusion neither clips latents nor begins at time 0, whatever old files say; that of DDIM makes any a DDIM's.

    Raises:
        CheckpointError, ConfigError: as `schedulers.load`.
    """
    scheduler, kind = load_scheduler(folder / "scheduler"), _kind(folder)
    if kind == "StableDiffusionPipeline":
        fixed = {"steps_offset": 1, "clip_sample": False}
        given = {key: value for key, value in fixed.items() if key in scheduler.options}
        return replace(scheduler, given={**scheduler.given, **given})
    return scheduler.swapped("DDIMScheduler") if kind == "DDIMPipeline" else scheduler


def load_text(folder: str | Path) -> tuple[ClipText, int]:
    """A text encoder of transformers, `CLIPTextModel` or `CLIPTextModelWithProjection`, and the id of the token it pools at.

    The id is 2 for "the highest", as in transformers.

    Raises:
        CheckpointError: if the folder is of another class, incomplete, or asks for what is not known here.
    """
    folder = Path(folder)
    where = folder / "config.json"
    said = {"projection_dim": 512, **TEXT_DEFAULTS, **read_json(where)}
    names = said.get("architectures") or [None]
    if names[0] not in (_PLAIN, _PROJECTED):
        raise CheckpointError(f"{where} is of the class {names[0]!r}: the text encoders read here are {_PLAIN} and {_PROJECTED}")
    end = whole(said, "eos_token_id", where)
    config = text_config(said, where, None, pool="highest" if end == 2 else "eos")
    dim = whole(said, "projection_dim", where) if names[0] == _PROJECTED else None
    theirs = read_weights(folder, "model", "model.fp16")
    if not any(key.startswith("text_model.") for key in theirs):  # written so by some versions
        theirs = {key if key.startswith("text_projection.") else f"text_model.{key}": tensor for key, tensor in theirs.items()}
    return filled(lambda: ClipText(config, dim, end), _RULES, theirs, str(folder), unused=UNUSED), end


def _kind(folder: Path) -> str:
    kind = read_json(folder / "model_index.json").get("_class_name")
    if kind not in KINDS:
        raise CheckpointError(f"{folder / 'model_index.json'} is of a {kind}: read here are {', '.join(KINDS)}")
    return str(kind)


def _complete(pipeline: Pipeline) -> None:
    where = pipeline.folder / "model_index.json"
    for name in KINDS[pipeline.kind]:
        part = pipeline.others.get(name)
        if name in pipeline.networks or (part is not None and name not in ("unet", "transformer", "vae")):
            continue
        if part is not None:
            raise CheckpointError(f"{where} has a {part[1]} as its {name}, which is not read here")
        raise CheckpointError(f"{where} has no {name}, and a {pipeline.kind} needs one: fetch the whole folder")
    for name, kind in (("text_encoder", _PLAIN), ("text_encoder_2", _PROJECTED)):
        part = pipeline.others.get(name)
        if name in KINDS[pipeline.kind] and part is not None and part[1] != kind:
            raise CheckpointError(f"{where} has a {part[1]} as its {name}: only a {kind} is read here")


def _plan(scheduler: Scheduler, compat: bool, steps: int, noise: Noise) -> Plan:
    return scheduler.plan(steps, noise=noise, compat=compat)


def size_of(folder: Path, kind: str, component: Component[Any]) -> tuple[int, int]:
    """Height and width of what the network of a pipeline's folder was made to denoise.

    Raises:
        CheckpointError: if its config.json does not say them, and they do not follow from the kind.
    """
    size = component.notes.get("sample_size") or _SIZES.get(kind)
    if kind == "StableDiffusionPipeline" and isinstance(size, int) and size < 64:
        version = str(read_json(folder / "unet" / "config.json").get("_diffusers_version", "1.0"))
        if [int(number) for number in re.findall(r"\d+", version)[:2]] < [0, 9]:
            size = 64  # then a default of 32 was written, for networks of 64
    sides = (size, size) if isinstance(size, int) else size
    if not (isinstance(sides, list | tuple) and len(sides) == 2 and all(isinstance(side, int) and side > 0 for side in sides)):
        raise CheckpointError(
            f"{folder} has a network with the sample_size {size!r}, which is no size: set it in its config.json"
        )
    return sides[0], sides[1]


def _prompts(pipeline: Pipeline, told: ConditionConfig) -> ClipPrompts:
    folder = pipeline.folder
    doubled = pipeline.kind == "StableDiffusionXLPipeline"
    if told.sizes != (6 if doubled else 0) or bool(told.pooled) != doubled:
        raise CheckpointError(
            f"the network of {folder} is told other things than that of a {pipeline.kind}: it is another kind's"
        )
    encoders, tokenizers = [], []
    for suffix in ("", "_2") if doubled else ("",):
        encoder, end = load_text(folder / f"text_encoder{suffix}")
        tokenizer = read_tokenizer(folder / f"tokenizer{suffix}", encoder.config.context, pads=False)
        _agree(folder, encoder, end, tokenizer)
        encoders.append(encoder)
        tokenizers.append(tokenizer)
    zeros = bool(pipeline.settings.get("force_zeros_for_empty_prompt", True)) and doubled
    return ClipPrompts(encoders, tokenizers, pooled=doubled, zeros=zeros)


def _agree(folder: Path, encoder: ClipText, end: int, tokenizer: Tokenizer) -> None:
    if isinstance(encoder.head, torch.nn.Linear) and end not in (2, tokenizer.eos):
        raise CheckpointError(f"{folder} pools texts at token {end}, but its tokenizer ends them with {tokenizer.eos}")
    if max(tokenizer.eos, tokenizer.pad, tokenizer.vocab_size - 1) >= encoder.config.vocab_size:
        raise CheckpointError(
            f"{folder} has a tokenizer of {tokenizer.vocab_size} tokens for a text encoder of {encoder.config.vocab_size}: "
            "fetch both again"
        )
