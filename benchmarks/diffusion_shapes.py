"""What the benchmarks of diffusion share: the networks of diffusers, narrower than the well-known ones, and a clock."""

from __future__ import annotations

import argparse
import time

import diffusers
import torch


def clock() -> float:
    """Seconds: the process's own on one thread, where what else runs on the machine then counts less; else by the clock."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def latents(options: argparse.Namespace) -> diffusers.UNet2DConditionModel:
    """That of Stable Diffusion 1.5, whose finest level is 320 wide, over latents of 64 × 64."""
    widths = tuple(options.width * factor for factor in (1, 2, 4, 4))
    heads = max(1, options.width // 40)  # 40 channels each at the finest level, as there
    return diffusers.UNet2DConditionModel(
        sample_size=options.side, block_out_channels=widths, attention_head_dim=heads, cross_attention_dim=options.text
    )


def pixels(options: argparse.Namespace) -> diffusers.UNet2DModel:
    """That of train_unconditional.py, whose finest level is 128 wide, over pictures of 64 × 64."""
    return diffusers.UNet2DModel(
        sample_size=2 * options.side,
        block_out_channels=tuple(options.width * factor for factor in (1, 1, 2, 2, 4, 4)),
        down_block_types=(*("DownBlock2D",) * 4, "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", *("UpBlock2D",) * 4),
    )


NETWORKS = {"pixels": pixels, "latents": latents}
