"""How near R@K comes to the bare matrix product, and in how little memory.

    python benchmarks/metrics_retrieval.py [--queries 10000] [--items 50000] [--dim 512] [--large]

The peer is the product itself, in float32 and in tiles that are thrown away. Both are timed in turns in the same run, so that the
ratio means something whatever else the machine is doing.
`--large` also ranks 100,000 queries among 500,000 items, which takes minutes.
"""

from __future__ import annotations

import argparse
import statistics

import numpy as np
import torch
from measuring import peak_memory, print_table, seconds

from tectum.evaluate.cosines import Cosines
from tectum.evaluate.geometry import hubness
from tectum.evaluate.retrieval import average_precision, first_hits, median_rank, recall

ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--large", action="store_true", help="also 100,000 × 500,000")
    options = parser.parse_args()
    rows = []
    for name, signal in (("random vectors", 0.0), ("a trained model's", 1.0)):
        rows += bench_recall(name, options.queries, options.items, options.dim, signal)
    rows += bench_rest(options.queries // 5, options.items // 5, options.dim)
    if options.large:
        rows += bench_large(100_000, 500_000, options.dim)
    print_table(("what", "tectum", "matrix product", "ratio", "peak memory"), rows)


def bench_recall(name: str, n: int, m: int, dim: int, signal: float) -> list[tuple[str, ...]]:
    """R@1, 5, 10 and median rank with m / n right items for each query, from vectors to numbers."""
    queries, items, right = pairs(n, m, dim, signal)
    ours, bare = [], []
    for _ in range(ROUNDS):
        ours.append(seconds(lambda: rank(queries, items, right)))
        bare.append(seconds(lambda: product_in_tiles(queries, items)))
    what = f"R@K {n:,} × {m:,}, d = {dim}, {m // n} right, {name}"
    ratio = statistics.median(a / b for a, b in zip(ours, bare, strict=True))
    return [(what, f"{min(ours):.2f} s", f"{min(bare):.2f} s", f"{ratio:.2f} ×", f"{peak_memory():.0f} MiB")]


def bench_rest(n: int, m: int, dim: int) -> list[tuple[str, ...]]:
    """What needs more than the first hit."""
    queries, items, right = pairs(n, m, dim, 1.0)
    bare = min(seconds(lambda: product_in_tiles(queries, items)) for _ in range(ROUNDS))
    rows = []
    for what, action in (
        (f"mAP {n:,} × {m:,}, {m // n} right", lambda: average_precision(Cosines(queries, items), right).score(resamples=0)),
        (f"hubness {n:,} × {m:,}, k = 10", lambda: hubness(Cosines(queries, items), 10).score(resamples=0)),
        (f"R@1 {n:,} × {m:,}, constant vectors", lambda: rank(torch.ones_like(queries), torch.ones_like(items), right)),
    ):
        ours = min(seconds(action) for _ in range(ROUNDS))
        rows.append((what, f"{ours:.2f} s", f"{bare:.2f} s", f"{ours / bare:.2f} ×", f"{peak_memory():.0f} MiB"))
    return rows


def bench_large(n: int, m: int, dim: int) -> list[tuple[str, ...]]:
    """One pass, and the product of a hundredth of the queries times a hundred."""
    queries, items, right = pairs(n, m, dim, 1.0)
    ours = seconds(lambda: rank(queries, items, right))
    bare = 100 * seconds(lambda: product_in_tiles(queries[: n // 100], items))
    what, ratio = f"R@K {n:,} × {m:,}, d = {dim}", f"{ours / bare:.2f} ×"
    return [(what, f"{ours:.0f} s", f"{bare:.0f} s", ratio, f"{peak_memory():.0f} MiB")]


def rank(queries: torch.Tensor, items: torch.Tensor, right: np.ndarray) -> list[float]:
    hits = first_hits(Cosines(queries, items), right)
    measured = [*(recall(hits, k) for k in (1, 5, 10)), median_rank(hits)]
    return [one.score(resamples=0).value for one in measured]


def product_in_tiles(queries: torch.Tensor, items: torch.Tensor) -> None:
    buffer = torch.empty(1024, 4096)
    for at in range(0, len(items), 4096):
        part = items[at : at + 4096].T
        for start in range(0, len(queries), 1024):
            torch.mm(queries[start : start + 1024], part, out=buffer[: len(queries[start : start + 1024]), : part.shape[1]])


def pairs(n: int, m: int, dim: int, signal: float) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Unit vectors of queries and items; query i is right with m / n items in a row, which share `signal` with it."""
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(n, dim, generator=generator)
    items = torch.randn(m, dim, generator=generator)
    items += signal * 0.3 * queries.repeat_interleave(m // n, 0)
    right = np.arange(m).reshape(n, m // n)
    return torch.nn.functional.normalize(queries), torch.nn.functional.normalize(items), right


if __name__ == "__main__":
    main()
