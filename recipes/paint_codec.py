"""The autoencoder of paint-mini: emoji drawings of 64 × 64 pixels to latents of 16 × 16, and back.

    tectum train paint_codec --out runs/paint-codec

Learns by absolute error, by how unlike things look to the pictures' tower of space-mini, and by a little KL. Drawings lie on
white, and now and then on another colour; those of held-out code points are for the test. The mean and spread of the latents are
measured at the end, for the denoiser (recipes/paint_mini.py).
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import space_mini_data as corpora
import torch
from safetensors.torch import load_file
from space_mini_scores import on_white
from torch import Tensor, nn

from tectum import hub
from tectum.data import augment
from tectum.data.order import batch_indices
from tectum.files import tupled
from tectum.models.towers import ImageTower
from tectum.nn.autoencoder import Autoencoder, AutoencoderConfig, measured
from tectum.train.autoencoding import AutoencodingWeights, autoencoding_loss, perceptual_distance
from tectum.train.config import TrainConfig
from tectum.train.recipe import remember
from tectum.train.trainer import train

SIZE = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Options of the run."""

    data: Path = field(default=Path("../shared/data"), metadata={"help": "folder with the Parquet files"})
    features: str = field(default="space-mini", metadata={"help": "space whose picture tower says how things look"})
    steps: int = field(default=3000, metadata={"help": "optimizer steps"})
    batch: int = field(default=32, metadata={"help": "drawings a step"})
    lr: float = field(default=2e-3, metadata={"help": "peak learning rate"})
    latents: int = field(default=4, metadata={"help": "channels of the latents"})
    width: int = field(default=48, metadata={"help": "of the finer level; the coarser has twice as many"})
    perceptual: float = field(default=0.5, metadata={"help": "weight of the perceptual distance"})
    seed: int = field(default=0, metadata={"help": "seed of weights, order and augmentation"})
    threads: int = field(default=2, metadata={"help": "processor threads; another number gives another rounding"})


def codec_config(recipe: Recipe) -> AutoencoderConfig:
    """The autoencoder: folded once and halved once, it makes 16 × 16 of 64 × 64."""
    return AutoencoderConfig(
        latents=recipe.latents, widths=(recipe.width, 2 * recipe.width), fold=2, blocks=1, groups=8, attends=False
    )


class Codec:
    """The task."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        drawings = corpora.read_drawings(recipe.data)
        self.drawings, self.test = drawings.rows(~drawings.held_out), drawings.rows(drawings.held_out & drawings.base)
        tower = hub.load(recipe.features).tower("image")
        assert isinstance(tower, ImageTower)
        self.tower = tower.requires_grad_(False)
        torch.manual_seed(recipe.seed)
        self.module = Autoencoder(codec_config(recipe))

    def features(self, pictures: Tensor) -> Sequence[Tensor]:
        """What the convolution stages of the tower make of pictures in -1 … 1."""
        stem: Any = self.tower.encoder.stem
        maps = [stem.stem(self.tower.config.image.normalise((pictures + 1) / 2).contiguous(memory_format=torch.channels_last))]
        for block in stem.blocks[:3]:
            maps.append(block(maps[-1]))
        return maps

    def batch(self, step: int) -> Any:
        """Drawings in -1 … 1, and noise for their codes."""
        recipe = self.recipe
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        at = torch.from_numpy(batch_indices(len(self.drawings.names), recipe.batch, recipe.seed, step))
        drawings = augment.random_crop(
            self.drawings.pixels[at],
            (SIZE, SIZE),
            generator,
            scale=(0.6, 1.2),
            ratio=1.1,
            flip=self.drawings.mirrored[at],
            inside=False,
        )
        n = len(drawings)
        colour = torch.where(
            torch.rand(n, 1, 1, 1, generator=generator) < 0.8, 255.0, torch.rand(n, 3, 1, 1, generator=generator) * 255
        )
        pictures = (drawings[:, :3] + colour * (1 - drawings[:, 3:] / 255)) / 127.5 - 1
        side = SIZE // self.module.config.factor
        return pictures, torch.randn(n, recipe.latents, side, side, generator=generator)

    def loss(self, batch: Any, step: int) -> tuple[Tensor, dict[str, float | Tensor]]:
        """Error, perceptual distance and KL."""
        pictures, noise = batch
        weights = AutoencodingWeights(perceptual=self.recipe.perceptual, kl=1e-3)
        return autoencoding_loss(self.module, pictures, noise, weights, features=self.features)

    def evaluate(self, module: nn.Module, step: int) -> dict[str, float]:
        """Peak signal-to-noise ratio in dB and perceptual distance of held-out drawings."""
        assert isinstance(module, Autoencoder)
        ratios, distances = [], []
        for part in on_white(self.test.pixels[:512], SIZE).mul(2).sub(1).split(64):
            made = reconstruct(module, part)
            ratios.append(-10 * ((made - part) / 2).square().flatten(1).mean(1).log10())
            distances.append(perceptual_distance(self.features, made, part))
        return {"psnr": torch.cat(ratios).mean().item(), "perceptual": torch.cat(distances).mean().item()}

    def after_step(self, step: int) -> None:
        """Nothing."""


def reconstruct(module: Autoencoder, pictures: Tensor) -> Tensor:
    """Pictures in -1 … 1 [n, 3, h, w] through the means of their codes and back."""
    return module.decode(module.encode(pictures).mean).float().clamp(-1, 1)


@torch.no_grad()
def open_run(out: Path) -> Autoencoder:
    """The autoencoder of a finished run, with the scale and shift of its latents."""
    found = json.loads((out / "codec.json").read_text(encoding="utf-8"))
    autoencoder = Autoencoder(AutoencoderConfig(**tupled(found)))
    autoencoder.load_state_dict(load_file(out / "ema.safetensors"))
    return autoencoder.eval()


def run(recipe: Recipe, out: Path) -> None:
    """Train, then measure the latents; OUT/codec.json and OUT/ema.safetensors are the autoencoder."""
    remember(recipe, out)
    torch.set_num_threads(recipe.threads)
    task = Codec(recipe)
    config = TrainConfig(
        steps=recipe.steps,
        lr=recipe.lr,
        weight_decay=0.01,
        warmup=200,
        ema=0.998,
        seed=recipe.seed,
        eval_every=500,
        save_every=200,
    )
    train(task, config, out)
    task.module.load_state_dict(load_file(out / "ema.safetensors"))
    task.module.eval()
    pictures = on_white(task.drawings.pixels[::4], SIZE).mul(2).sub(1)
    with torch.no_grad():
        codes = torch.cat([task.module.encode(part).mean for part in pictures.split(64)])
    described = dataclasses.asdict(measured(task.module.config, codes))
    (out / "codec.json").write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
