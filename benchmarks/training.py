"""Samples a second of a training step of a two-tower CLIP ViT-S/16, beside open_clip's step, from the same weights.

    python benchmarks/training.py [--batches 16,32,64] [--precisions fp32,bf16] [--rounds 5] [--threads 0] [--device cpu]

A step is forward, loss, backward and optimizer: for tectum `Space`, `info_nce` and the trainer's AdamW, for open_clip what
open_clip_step.py writes out, both at open_clip's default options, so without clipping the gradient and without an average of the
weights. "bf16" is autocast over float32 weights, as both trainers have it. Pictures come as bytes to tectum, which normalises
them within the measured time, and normalised to open_clip. Captions are as long as COCO's are in CLIP's tokens, marks included
(`LENGTHS`); both get them padded to 77, as their tokenizers give them.

Before anything is timed both sides must give the same loss and the same gradient, to the tolerances of `AGREE`. Then they take
turns, and the medians count. On one thread of the processor the clock is the process's own, so that what else runs on the machine
counts less.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import open_clip_step
import tokenizers
import torch
from measuring import print_table
from open_clip_step import CONTEXT, VOCABULARY, Clip
from torch import Tensor, nn

from tectum.contrastive.loss import info_nce
from tectum.hub.bridge import named
from tectum.hub.keymap import to_theirs
from tectum.hub.layouts import openai
from tectum.hub.pictures import openai_pictures
from tectum.media.text import Tokenizer
from tectum.models.clip_text import ClipTextConfig
from tectum.models.space import Space, SpaceConfig
from tectum.models.towers import ImageTowerConfig, TextTowerConfig
from tectum.models.vit import ViTConfig
from tectum.train.config import TrainConfig
from tectum.train.optimizer import build_optimizer

SIZE, PATCH, WIDTH, HEADS = 224, 16, 384, 6
START, END = VOCABULARY - 2, VOCABULARY - 1
LENGTHS = {
    9: 96, 10: 1035, 11: 3681, 12: 4915, 13: 4847, 14: 3813, 15: 2493, 16: 1607, 17: 916, 18: 558, 19: 349, 20: 215, 21: 147,
    22: 90, 23: 54, 24: 48, 25: 23, 26: 26, 27: 31, 28: 23, 29: 14, 30: 5, 35: 25, 45: 3,
}  # fmt: skip
"""How many of the 25,014 captions of COCO val2017 are so long; above 30 they are put together."""
AGREE = {"fp32": (1e-4, 1e-4), "bf16": (2e-2, 1e-1)}
"""How far the losses may be apart; and how long the difference of the gradients, all as one vector, beside open_clip's."""


class Side(NamedTuple):
    """One way to train."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    step: Callable[[], Tensor]
    """Takes a step and returns its loss []; the gradient stays behind."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", default="16,32,64", help="pairs in the batch, separated by commas")
    parser.add_argument("--precisions", default="fp32,bf16", help="fp32, bf16 (autocast) or both, separated by a comma")
    parser.add_argument("--rounds", type=int, default=5, help="of which the medians count")
    parser.add_argument("--threads", type=int, default=0, help="of the processor; 0 for all")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    heads = ("step", "pairs", "tectum pairs/s", "open_clip pairs/s", "ratio", "gradients apart")
    runs = [(precision, int(pairs)) for precision in options.precisions.split(",") for pairs in options.batches.split(",")]
    print_table(heads, [row(precision, pairs, options) for precision, pairs in runs])


def row(precision: str, pairs: int, options: argparse.Namespace) -> tuple[str, ...]:
    """One line of the table."""
    torch.manual_seed(0)
    sides = both(precision, pairs, options.device)
    apart = check(sides, precision)
    medians = measure(sides, options)
    rates = [pairs / medians[name] for name in ("tectum", "open_clip")]
    numbers = (f"{rates[0]:.2f}", f"{rates[1]:.2f}", f"{rates[0] / rates[1]:.2f}", f"{apart:.1e}")
    return (f"{precision}, {options.device}", f"{pairs}", *numbers)


def both(precision: str, pairs: int, device: str) -> dict[str, Side]:
    """Both sides over one batch."""
    space, clip = models(device)
    levels = torch.randint(0, 256, (pairs, 3, SIZE, SIZE), dtype=torch.uint8, device=device)
    pixels, ids = openai_pictures(SIZE).normalise(levels), captions(pairs).to(device)
    autocast = partial(torch.autocast, device, dtype=torch.bfloat16, enabled=precision == "bf16")
    ours = build_optimizer(space, TrainConfig(steps=1, lr=5e-4, weight_decay=0.2, betas=(0.9, 0.98)))
    theirs = open_clip_step.optimizer_of(clip)

    def tectum() -> Tensor:
        ours.zero_grad(set_to_none=True)
        with autocast():
            vectors = space({"image": levels, "text": ids})
            loss = info_nce(vectors["image"], vectors["text"], space.scale("image", "text")).loss
        loss.backward()
        ours.step()
        space.log_scale.project_()
        return loss.detach()

    def open_clip() -> Tensor:
        return open_clip_step.step(clip, theirs, pixels, ids, autocast)

    return {"tectum": Side(space, ours, tectum), "open_clip": Side(clip, theirs, open_clip)}


def models(device: str) -> tuple[Space, Clip]:
    """Twice the same weights."""
    words = Tokenizer(inner=tokenizers.Tokenizer(tokenizers.models.BPE()), bos=START, eos=END, pad=0, context=CONTEXT)
    trunk = {"width": WIDTH, "blocks": 12, "heads": HEADS, "hidden": 4 * WIDTH, "activation": "gelu"}
    image = ImageTowerConfig(image=openai_pictures(SIZE), grid=ViTConfig(size=SIZE, patch=PATCH, **trunk))
    text = TextTowerConfig(text=ClipTextConfig(vocab_size=VOCABULARY, context=CONTEXT, **trunk))
    space = Space(SpaceConfig(name="ViT-S-16", dim=WIDTH, towers={"image": image, "text": text}), words)
    clip = Clip(dim=WIDTH, size=SIZE, patch=PATCH, width=WIDTH, text_width=WIDTH, activation=nn.GELU)
    clip.load_state_dict(named(space, openai.rules()))
    return space.train().to(device), clip.train().to(device)


def captions(pairs: int) -> Tensor:
    """Ids [pairs, 77] of random words, zeros after the end."""
    chosen = torch.multinomial(torch.tensor(list(LENGTHS.values()), dtype=torch.float64), pairs, replacement=True)
    last = torch.tensor(list(LENGTHS))[chosen][:, None] - 1
    places = torch.arange(CONTEXT)
    ids = torch.randint(1, START, (pairs, CONTEXT)).masked_fill(places == last, END).masked_fill(places > last, 0)
    ids[:, 0] = START
    return ids


def check(sides: dict[str, Side], precision: str) -> float:
    """Take the first step, compare, and say how far the gradients are apart, as a share of their length."""
    losses = {name: side.step().item() for name, side in sides.items()}
    near, share = AGREE[precision]
    assert abs(losses["tectum"] - losses["open_clip"]) <= near, f"the losses differ: {losses}"
    mine, theirs = (
        {name: parameter.grad for name, parameter in sides[side].model.named_parameters() if parameter.grad is not None}
        for side in ("tectum", "open_clip")
    )
    ours = to_theirs(openai.rules(), mine)
    assert ours.keys() == theirs.keys(), f"of one side alone: {sorted(ours.keys() ^ theirs.keys())}"
    apart = length(ours[name] - gradient for name, gradient in theirs.items()) / length(theirs.values())
    assert apart <= share, f"the gradients differ by {apart:.2%}"
    return apart


def length(tensors: Iterable[Tensor]) -> float:
    """Of all of them as one vector."""
    return torch.stack([tensor.norm() for tensor in tensors]).norm().item()


def measure(sides: dict[str, Side], options: argparse.Namespace) -> dict[str, float]:
    """Median seconds of a step."""
    on_card = options.device == "cuda"
    clock = time.process_time if not on_card and torch.get_num_threads() == 1 else time.perf_counter

    def once(step: Callable[[], Tensor]) -> float:
        start = clock()
        step()
        if on_card:
            torch.cuda.synchronize()
        return clock() - start

    runs = [{name: once(side.step) for name, side in sides.items()} for _ in range(options.rounds)]
    return {name: statistics.median(run[name] for run in runs) for name in sides}


if __name__ == "__main__":
    main()
