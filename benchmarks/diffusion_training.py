"""Pictures a second of training: the step of diffusers' train_unconditional.py, and tectum's trainer as it is."""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import diffusers
import torch
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from diffusion_shapes import NETWORKS, clock
from measuring import print_table
from torch import Tensor, nn
from torch.nn import functional as F

from tectum.diffusion.denoiser import Denoiser
from tectum.diffusion.denoiser import loss as denoising_loss
from tectum.diffusion.predictions import Prediction
from tectum.diffusion.tables import linear_betas, table
from tectum.diffusion.weights import simple
from tectum.hub.diffusers.folder import load_network
from tectum.nn.unet import UNet
from tectum.train.config import TrainConfig
from tectum.train.trainer import train

TIMES, TOKENS = 1000, 77
LR, BETAS, DECAY, WARMUP, AVERAGE = 1e-4, (0.95, 0.999), 1e-6, 500, 0.9999  # the script's
AGREE = {"fp32": 1e-4, "bf16": 2e-2}
"""How far the losses of the first step may be apart, as a share."""


class Batch(NamedTuple):
    """What one step learns from; both sides get the same."""

    x0: Tensor
    noise: Tensor
    times: Tensor
    cond: dict[str, Tensor]


def compare(options: argparse.Namespace) -> None:
    """Prints the table."""
    print(
        f"Training: networks of width {options.width}, of pictures of {2 * options.side} × {2 * options.side} or latents of "
        f"{options.side} × {options.side} and texts, {options.batch} a step; without an option they are fp32 there and bf16 here"
    )
    alike = [(precision, precision) for precision in options.precisions.split(",")]
    rows = [row(kind, *pair, options) for kind in NETWORKS for pair in dict.fromkeys((*alike, ("fp32", "bf16")))]
    print_table(("network", "there, here", "diffusers pictures/s", "tectum pictures/s", "ratio", "losses apart"), rows)


def row(kind: str, there: str, here: str, options: argparse.Namespace) -> tuple[str, ...]:
    """One line of the table."""
    torch.manual_seed(0)
    network = NETWORKS[kind](options)
    with tempfile.TemporaryDirectory() as place:
        network.save_pretrained(place)
        task = Learning(load_network(place).network, partial(batch, kind, options))
        theirs = script(network.train(), there)
        with torch.autocast("cpu", torch.bfloat16, enabled=here == "bf16"):
            mine = task.loss(task.batch(0), 0)[0].item()
        peer = theirs(task.batch(0))  # not timed: the first step is slower
        assert abs(mine - peer) <= AGREE["bf16" if "bf16" in (there, here) else "fp32"] * peer, (
            f"the losses differ: {mine} and {peer}"
        )
        spent: list[tuple[float, float]] = []
        begun = clock()

        def turn(step: int) -> None:
            nonlocal begun
            between = clock()
            torch.use_deterministic_algorithms(False)
            theirs(task.batch(step))
            torch.use_deterministic_algorithms(True, warn_only=True)
            now = clock()
            spent.append((now - between, between - begun))
            begun = now

        task.after_step = turn  # type: ignore[method-assign]
        config = TrainConfig(
            steps=options.repeats + 1, lr=LR, betas=BETAS, weight_decay=DECAY, warmup=WARMUP, ema=AVERAGE, precision=here,
            log_every=1, eval_every=0, save_every=options.repeats + 1, tensorboard=False,
        )  # fmt: skip
        train(task, config, Path(place) / "run", progress=False)
    a, b = (options.batch / statistics.median(column) for column in zip(*spent[1:], strict=True))
    return (kind, f"{there}, {here}", f"{a:.3f}", f"{b:.3f}", f"{b / a:.2f}", f"{abs(mine - peer) / peer:.1e}")


def script(model: nn.Module, precision: str) -> Callable[[Batch], float]:
    """A step of diffusers' train_unconditional.py on one machine, which returns the loss; with a text, train_text_to_image.py's.

    As there: AdamW and its options, clipping at 1, a cosine schedule and an average by EMAModel. "bf16" is autocast around the
    network, whose answer becomes float32, as Accelerate has it.
    """
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=TIMES)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, betas=BETAS, weight_decay=DECAY, eps=1e-8)
    rates = get_scheduler("cosine", optimizer, num_warmup_steps=WARMUP, num_training_steps=100_000)
    average = EMAModel(model.parameters(), decay=AVERAGE, use_ema_warmup=True, inv_gamma=1.0, power=0.75)

    def step(batch: Batch) -> float:
        told = {"encoder_hidden_states": batch.cond["tokens"]} if batch.cond else {}
        noisy = scheduler.add_noise(batch.x0, batch.noise, batch.times)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            said = model(noisy, batch.times, **told).sample
        loss = F.mse_loss(said.float(), batch.noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rates.step()
        optimizer.zero_grad()
        average.step(model.parameters())
        return loss.item()

    return step


class Learning:
    """The same as a task of the trainer."""

    def __init__(self, network: UNet, batches: Callable[[int], Batch]) -> None:
        self.module, self.batch = network, batches
        self.process, self.denoiser = table(linear_betas(TIMES)), Denoiser(network, Prediction("epsilon"))

    def loss(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, float | Tensor]]:
        """The plain error in ε."""
        at = self.process.at(batch.times)
        return denoising_loss(self.denoiser, batch.x0, batch.noise, at, simple, batch.cond).mean(), {}

    def evaluate(self, module: nn.Module, step: int) -> dict[str, float]:
        """Nothing."""
        return {}

    def after_step(self, step: int) -> None:
        """The other side's turn."""


def batch(kind: str, options: argparse.Namespace, step: int) -> Batch:
    """Random pictures, or latents and the states of texts."""
    generator = torch.Generator().manual_seed(step)
    shape = (options.batch, *((3, 2 * options.side, 2 * options.side) if kind == "pixels" else (4, options.side, options.side)))
    x0, noise = (torch.randn(shape, generator=generator) for _ in range(2))
    times = torch.randint(TIMES, (options.batch,), generator=generator)
    tokens = torch.randn(options.batch, TOKENS, options.text, generator=generator)
    return Batch(x0.clamp(-1, 1), noise, times, {"tokens": tokens} if kind == "latents" else {})
