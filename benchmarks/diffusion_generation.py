"""Whole pictures by a folder of diffusers: by its own pipeline, and by `tectum.hub.diffusers.pipelines.load`."""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from diffusion_shapes import clock, latents
from measuring import print_table
from tokenizers import pre_tokenizers
from torch import Tensor, nn

from tectum.hub.diffusers.pipelines import load
from tectum.models.latent_diffusion import LatentDiffusion
from tectum.models.sampling import Sampling

GUIDANCE = 7.5
PROMPTS = ("a red apple on a table", "an oil painting of a harbour at dawn", "a cat with sunglasses", "two snowmen, flat style")
NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
SCHEDULERS: dict[str, dict[str, Any]] = {
    "DPMSolverMultistepScheduler": {},
    "DDIMScheduler": {"clip_sample": False, "set_alpha_to_one": False},
}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
Pictures = Callable[[], Tensor]


def compare(options: argparse.Namespace) -> None:
    """Prints the table."""
    print(
        f"Whole pictures: a pipeline in the shape of Stable Diffusion 1.5, random weights of width {options.width}, latents of "
        f"{options.side} × {options.side}, {options.pictures} at a time, {options.steps} steps, guidance {GUIDANCE}"
    )
    lines: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory() as place:
        folders = [saved(name, options, Path(place)) for name in SCHEDULERS]
        for precision in options.precisions.split(","):
            for folder in folders:
                lines += rows(folder, precision, options)
    print_table(("numbers, scheduler", "by", "seconds a picture", "ratio", "levels apart, mean", "most"), lines)


def rows(folder: Path, precision: str, options: argparse.Namespace) -> list[tuple[str, ...]]:
    """One line for each way to make the pictures."""
    prompts = [PROMPTS[i % len(PROMPTS)] for i in range(options.pictures)]
    start = torch.randn((options.pictures, 4, options.side, options.side), generator=torch.Generator().manual_seed(1))
    given = folder, DTYPES[precision], prompts, start, options.steps
    makers = {"diffusers": theirs(*given), "tectum": ours(*given, packs=False), "tectum, packed": ours(*given, packs=True)}
    pictures = {name: make().float() for name, make in makers.items()}  # not timed: the first call is slower
    rounds = [{name: seconds(make) for name, make in makers.items()} for _ in range(options.repeats)]
    medians = {name: statistics.median(each[name] for each in rounds) / options.pictures for name in makers}
    title = f"{precision}, {folder.name.removesuffix('Scheduler')}"
    lines = []
    for name, median in medians.items():
        apart = (pictures[name] - pictures["diffusers"]).abs()
        ratio = medians["diffusers"] / median
        lines.append((title, name, f"{median:.3f}", f"{ratio:.2f}", f"{apart.mean():.2f}", f"{apart.max():.0f}"))
    return lines


def seconds(make: Pictures) -> float:
    """Seconds it takes."""
    begun = clock()
    make()
    return clock() - begun


def theirs(folder: Path, dtype: torch.dtype, prompts: Sequence[str], start: Tensor, steps: int) -> Pictures:
    """The pipeline of diffusers with its options as they come, but for the bar, which is off."""
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder, torch_dtype=dtype)
    pipeline.set_progress_bar_config(disable=True)

    def make() -> Tensor:
        found = pipeline(list(prompts), num_inference_steps=steps, guidance_scale=GUIDANCE, latents=start.to(dtype)).images
        return torch.from_numpy(np.stack([np.asarray(picture) for picture in found])).movedim(-1, 1)

    return make


def ours(folder: Path, dtype: torch.dtype, prompts: Sequence[str], start: Tensor, steps: int, *, packs: bool) -> Pictures:
    """The same of tectum, with its weights as they are or laid out for the processor."""
    model: LatentDiffusion = load(folder).to(dtype)
    sampling = Sampling(steps=steps, guidance=GUIDANCE)
    if packs:
        model.pack(prompts, sampling)
    return lambda: model.generate(prompts, sampling, start=start)


def saved(scheduler: str, options: argparse.Namespace, place: Path) -> Path:
    """A folder with such a pipeline in it. Widths, heads, sides and the text encoder are smaller than in Stable Diffusion."""
    levels = 4
    vae = diffusers.AutoencoderKL(
        block_out_channels=tuple(max(32, options.width // 2) * factor for factor in (1, 2, 4, 4)),
        layers_per_block=2,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
    )
    text = transformers.CLIPTextConfig(
        vocab_size=515, hidden_size=options.text, intermediate_size=4 * options.text, num_hidden_layers=6,
        num_attention_heads=options.text // 64, bos_token_id=513, eos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    pipeline = diffusers.StableDiffusionPipeline(
        unet=trained(latents(options)), vae=trained(vae), text_encoder=trained(transformers.CLIPTextModel(text)),
        tokenizer=tokenizer(),
        scheduler=getattr(diffusers, scheduler)(**NOISE, **SCHEDULERS[scheduler]),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(place / scheduler)
    return place / scheduler


def trained(model: nn.Module) -> nn.Module:
    """Random weights of the sizes that training leaves: no branch is silent, and no norm is the same for all channels."""
    for name, parameter in model.named_parameters():
        noise = torch.randn_like(parameter)
        if parameter.ndim >= 2:
            parameter.data = noise * (0.02 if "embedding" in name else 0.7 * parameter[0].numel() ** -0.5)
        else:
            parameter.data = noise * 0.1 + (1.0 if name.endswith("weight") else 0.0)
    return model.eval()


def tokenizer() -> transformers.CLIPTokenizer:
    """That of CLIP with letters in the place of words: 77 tokens, whatever the text."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *(letter + "</w>" for letter in letters), "ab</w>", "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: i for i, word in enumerate(words)}
    return transformers.CLIPTokenizer(vocab=vocabulary, merges=[("a", "b</w>")], model_max_length=77, pad_token="<|endoftext|>")
