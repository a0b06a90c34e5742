"""Time and memory of the contrastive loss, forward and backward, beside other ways and beside bare matrix products.

    python benchmarks/contrastive.py [--sizes 2048,4096,…] [--dim 512] [--scale 100] [--threads 1] [--device cpu]

- `dense` is the loss as open_clip writes it: one product for each direction and two cross-entropies over [n, n].
- `per_direction` takes Inf-CL's way (arXiv:2410.17243): tiles, but each direction for itself, with its denominators forward and
  the logits once more backward. It has tectum's tiles and powers of two, and makes both gradients of a direction from one tile,
  which Inf-CL's kernels do not: eight products where those need ten.
- `products` are four products of [n, d] with [n, d], what remains of tectum's work when all else is free: logits, logits again,
  two gradients.

Every figure is the best of several rounds, which take turns, each in a process of its own; one round above 16,384 pairs. Memory
is the peak above what the process held with its inputs, so it counts the gradients.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from measuring import peak_memory, print_table, seconds

VARIANTS = ("tectum", "dense", "per_direction", "products")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="2048,4096,8192,16384", help="pairs in the batch, separated by commas; 65536 is slow")
    parser.add_argument("--dim", type=int, default=512, help="length of the vectors")
    parser.add_argument("--scale", type=float, default=100.0, help="inverse temperature")
    parser.add_argument("--threads", type=int, default=1, help="of the processor")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--rounds", type=int, default=3, help="of which the best counts")
    parser.add_argument("--tile", type=int, default=0, help="side of the tiles; 0 for tectum's choice")
    parser.add_argument("--dense-up-to", type=int, default=16384, help="largest size for the dense loss")
    parser.add_argument("--variant", choices=VARIANTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.variant:
        print(json.dumps(measure(options)))
        return
    times, memory = [f"{name} s" for name in VARIANTS], [f"{name} MiB" for name in VARIANTS[:3]]
    heads = ("pairs", *times, *memory, *(f"tectum / {name}" for name in VARIANTS[1:]))
    print_table(heads, [line(options, n) for n in map(int, options.sizes.split(","))])


def line(options: argparse.Namespace, n: int) -> tuple[str, ...]:
    """One size: seconds of each variant, memory of each but the bare products, and ratios of the seconds."""
    variants = [name for name in VARIANTS if name != "dense" or n <= options.dense_up_to]
    rounds = options.rounds if n <= 16384 else 1
    runs = [{name: in_a_process(name, n) for name in variants} for _ in range(rounds)]
    best = {name: [min(run[name][i] for run in runs) for i in (0, 1)] for name in variants}
    times = [f"{best[name][0]:.2f}" if name in best else "-" for name in VARIANTS]
    memory = [f"{best[name][1]:.0f}" if name in best else "-" for name in VARIANTS[:3]]
    ratios = [f"{best['tectum'][0] / best[name][0]:.2f}" if name in best else "-" for name in VARIANTS[1:]]
    return (f"{n}", *times, *memory, *ratios)


def in_a_process(variant: str, n: int) -> list[float]:
    """Seconds and MiB of one variant at one size."""
    command = [sys.executable, *sys.argv, "--variant", variant, "--sizes", str(n)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(options: argparse.Namespace) -> list[float]:
    """In a fresh process: seconds and MiB of forward and backward."""
    import torch

    torch.set_num_threads(options.threads)
    loss = makers()[options.variant]
    on_card = options.device == "cuda"

    def inputs(n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        a, b = (torch.nn.functional.normalize(torch.randn(n, options.dim, generator=generator), dim=-1) for _ in "ab")
        b = torch.nn.functional.normalize(a + 0.7 * b, dim=-1)
        return tuple(x.to(options.device).requires_grad_() for x in (a, b, torch.tensor(options.scale)))

    def run(a: torch.Tensor, b: torch.Tensor, scale: torch.Tensor) -> None:
        loss(a, b, scale, options.tile or None)
        if on_card:
            torch.cuda.synchronize()

    run(*inputs(1024))
    a, b, scale = inputs(int(options.sizes))
    if on_card:
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() / 2**20 if on_card else peak_memory()
    time = seconds(lambda: run(a, b, scale))
    after = torch.cuda.max_memory_allocated() / 2**20 if on_card else peak_memory()
    return [time, after - before]


def makers() -> dict[str, Callable[..., None]]:
    """The variants, each a function that leaves gradients behind."""
    import torch
    from torch import Tensor
    from torch.nn import functional as F

    from tectum.contrastive.loss import info_nce
    from tectum.contrastive.softmax import BIT
    from tectum.contrastive.tiles import SIDES

    def tectum(a: Tensor, b: Tensor, scale: Tensor, tile: int | None) -> None:
        info_nce(a, b, scale, tile=tile).loss.backward()

    def dense(a: Tensor, b: Tensor, scale: Tensor, tile: int | None) -> None:
        by_row, by_column = scale * a @ b.T, scale * b @ a.T
        labels = torch.arange(len(a), device=a.device)
        ((F.cross_entropy(by_row, labels) + F.cross_entropy(by_column, labels)) / 2).backward()

    class OneDirection(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, a: Tensor, b: Tensor, scale: Tensor, side: int) -> Tensor:
            logarithms = []
            for rows in a.split(side):
                top, total = rows.new_full((len(rows),), -torch.inf), rows.new_zeros(len(rows))
                for columns in b.split(side):
                    logits = (rows @ columns.T).mul_(scale * BIT)
                    higher = torch.maximum(top, logits.amax(1))
                    total = total * (top - higher).exp2_() + logits.sub_(higher[:, None]).exp2_().sum(1)
                    top = higher
                logarithms.append(top + total.log2())
            logarithm = torch.cat(logarithms)
            ctx.save_for_backward(a, b, scale, logarithm)
            ctx.side = side
            return (logarithm / BIT - scale * (a * b).sum(1)).mean()

        @staticmethod
        def backward(ctx: Any, at_loss: Tensor) -> tuple[Tensor | None, ...]:
            a, b, scale, logarithm = ctx.saved_tensors
            at_a, at_b = -b, -a
            for i in range(0, len(a), ctx.side):
                rows = slice(i, i + ctx.side)
                for j in range(0, len(b), ctx.side):
                    columns = slice(j, j + ctx.side)
                    shares = (a[rows] @ b[columns].T).mul_(scale * BIT).sub_(logarithm[rows, None]).exp2_()
                    at_a[rows].addmm_(shares, b[columns])
                    at_b[columns].addmm_(shares.T, a[rows])
            factor = at_loss / len(a)
            at_scale = factor * (a * at_a).sum()
            return at_a.mul_(factor * scale), at_b.mul_(factor * scale), at_scale, None

    def per_direction(a: Tensor, b: Tensor, scale: Tensor, tile: int | None) -> None:
        side = tile or SIDES[a.device.type]
        ((OneDirection.apply(a, b, scale, side) + OneDirection.apply(b, a, scale, side)) / 2).backward()

    @torch.no_grad()
    def products(a: Tensor, b: Tensor, scale: Tensor, tile: int | None) -> None:
        for rows in a.split(4096):
            logits = rows @ b.T
            torch.mm(rows, b.T, out=logits)
            _ = logits @ b, logits.T @ rows

    return {"tectum": tectum, "dense": dense, "per_direction": per_direction, "products": products}


if __name__ == "__main__":
    main()
