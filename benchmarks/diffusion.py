"""Diffusion beside diffusers, of the same weights: whole pictures, training, and errors by evaluations of the network.

    python benchmarks/diffusion.py [--only generation,training,quality] [--width 64] [--threads 1] …    # needs diffusers

- `generation`: pictures of the same prompts, scheduler and noise by `StableDiffusionPipeline` and by `tectum.hub.diffusers`.
- `training`: a step of diffusers' train_unconditional.py, and one of tectum's trainer.
- `quality`: how near the samplers of both come to the exact solution.

Both sides take turns, and medians count. On one thread the clock is the process's own, so that what else runs on the machine
counts less. A ratio is above 1 where tectum is faster, or nearer. What a step of a sampler costs beside the network is measured
by samplers.py, and one pass of the network by unet.py.
"""

from __future__ import annotations

import argparse
import os
import platform
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import diffusers
import diffusion_generation
import diffusion_quality
import diffusion_training
import torch
import transformers

PARTS = {
    "generation": diffusion_generation.compare,
    "training": diffusion_training.compare,
    "quality": diffusion_quality.compare,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help="which of these, separated by commas")
    parser.add_argument("--width", type=int, default=64, help="of the networks' finest level; Stable Diffusion has 320")
    parser.add_argument("--side", type=int, default=32, help="of the latents; Stable Diffusion has 64")
    parser.add_argument("--text", type=int, default=256, help="width of the text encoder; Stable Diffusion has 768")
    parser.add_argument("--precisions", default="fp32,bf16", help="fp32, bf16 or both, separated by a comma")
    parser.add_argument("--pictures", type=int, default=1, help="made at a time")
    parser.add_argument("--steps", type=int, default=20, help="of the sampler")
    parser.add_argument("--batch", type=int, default=16, help="pictures in a step of training")
    parser.add_argument("--repeats", type=int, default=5, help="of which the medians count")
    parser.add_argument("--threads", type=int, default=1, help="of the processor")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
    versions = {"torch": torch, "diffusers": diffusers, "transformers": transformers}
    names = ", ".join(f"{name} {module.__version__}" for name, module in versions.items())
    print(f"{processor()}, {options.threads} of {os.cpu_count()} processors, Python {platform.python_version()}, {names}")
    for part in options.only.split(","):
        print()
        PARTS[part](options)


def processor() -> str:
    """What the machine computes with."""
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
