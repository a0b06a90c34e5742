"""One forward pass of Stable Diffusion's U-Net beside diffusers' own, of the same weights, on a processor.

    python benchmarks/unet.py [--width 128] [--side 32] [--batch 2] [--threads 2] [--rounds 12]

- `diffusers` is UNet2DConditionModel as its pipelines call it.
- `tectum` is `tectum.nn.unet.UNet` as it is made; `packed` is the same after `tectum.nn.packing.pack`.

The variants take turns in every round. A ratio is the seconds of diffusers over those of the variant, of the best rounds: by the
clock, and in processor time, which other programs on the machine disturb less. The weights are random; the last column is the
largest difference from diffusers' numbers in float32, in their standard deviations.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable

import torch
from diffusers import UNet2DConditionModel
from measuring import print_table
from torch import Tensor

from tectum.hub.diffusers.parts import filled, modern
from tectum.hub.diffusers.unet_condition import rules
from tectum.nn.packing import pack
from tectum.nn.unet import UNet
from tectum.nn.unet_config import sd15

CONTEXT = 768


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=128, help="of the finest level; Stable Diffusion has 320")
    parser.add_argument("--side", type=int, default=32, help="of the latents; Stable Diffusion has 64")
    parser.add_argument("--batch", type=int, default=2, help="latents in a call; 2 are one picture with guidance")
    parser.add_argument("--threads", type=int, default=2, help="of the processor")
    parser.add_argument("--rounds", type=int, default=12, help="of which the best counts")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    heads = ("numbers", "variant", "seconds", "ratio", "processor seconds", "ratio ", "difference")
    print_table(heads, [row for dtype in (torch.float32, torch.bfloat16) for row in rows(options, dtype)])


def rows(options: argparse.Namespace, dtype: torch.dtype) -> list[tuple[str, ...]]:
    """One line for every variant."""
    best: dict[str, list[float]] = {}
    exact, variants = calls(options, dtype)
    with torch.inference_mode():
        differences = {name: ((call().float() - exact).abs().max() / exact.std()).item() for name, call in variants.items()}
        for _ in range(options.rounds):
            for name, call in variants.items():
                start = time.perf_counter(), time.process_time()
                call()
                spent = time.perf_counter() - start[0], time.process_time() - start[1]
                best[name] = [min(pair) for pair in zip(best.get(name, spent), spent, strict=True)]
    base = best["diffusers"]
    return [
        (
            str(dtype).removeprefix("torch."),
            name,
            f"{wall:.3f}",
            f"{base[0] / wall:.2f}",
            f"{cpu:.3f}",
            f"{base[1] / cpu:.2f}",
            f"{differences[name]:.1e}",
        )
        for name, (wall, cpu) in best.items()
    ]


def calls(options: argparse.Namespace, dtype: torch.dtype) -> tuple[Tensor, dict[str, Callable[[], Tensor]]]:
    """What diffusers gives in float32, and the forward passes by the names of the variants."""
    torch.manual_seed(0)
    widths = tuple(options.width * factor for factor in (1, 2, 4, 4))
    theirs = UNet2DConditionModel(sample_size=options.side, block_out_channels=widths, cross_attention_dim=CONTEXT).eval()
    config = sd15(width=options.width, context=CONTEXT)
    ours = filled(lambda: UNet(config), rules(config), modern(theirs.state_dict()), "diffusers").to(dtype)

    x = torch.randn(options.batch, 4, options.side, options.side)
    tokens = torch.randn(options.batch, 77, CONTEXT)
    times = torch.full((options.batch,), 500.0)
    with torch.inference_mode():
        exact = theirs(x, times, encoder_hidden_states=tokens).sample
    theirs, x, tokens = theirs.to(dtype), x.to(dtype), tokens.to(dtype)
    cond = {"tokens": tokens}
    packed = pack(copy.deepcopy(ours), x, times, cond)
    return exact, {
        "diffusers": lambda: theirs(x, times, encoder_hidden_states=tokens, return_dict=False)[0],
        "tectum": lambda: ours(x, times, cond),
        "packed": lambda: packed(x, times, cond),
    }


if __name__ == "__main__":
    main()
