"""How fast the metrics of generated media are, and how near their values, beside the usual routes to the same numbers.

    python benchmarks/metrics_generation.py [--dim 2048] [--items 10000]

The Fréchet distance is set against `scipy.linalg.sqrtm` of the product of the covariances, as pytorch-fid and clean-fid take
it; the kernel distance against torchmetrics (or its formula written out, where it is not installed); CMMD and precision,
recall, density and coverage against whole matrices of distances, as in the code of their authors. All in one run, on the same
features: correlated and positive, with a falling spectrum. The last rows are the values published by the authors of density and
coverage for two samples of N(0, I), 10,000 × 1,000, k = 5.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import numpy as np
import scipy.linalg
import scipy.spatial.distance
import torch
from measuring import print_table, timed

from tectum.evaluate.features import Features
from tectum.evaluate.frechet import Moments, frechet_distance, frechet_distance_of_moments
from tectum.evaluate.kernel_distance import cmmd, kernel_distance
from tectum.evaluate.manifold import manifold

Row = tuple[str, str, str, str, str]
T = TypeVar("T")
SUBSETS, SUBSET_SIZE = 20, 1000
PUBLISHED = {"precision": 0.4772, "recall": 0.4705, "density": 1.0555, "coverage": 0.9735}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dim", type=int, default=2048, help="numbers of a feature")
    parser.add_argument("--items", type=int, default=10_000, help="real items, and as many generated ones")
    options = parser.parse_args()
    x, y = inception_like(options.items, options.dim, 0), inception_like(options.items, options.dim, 1, shift=0.05)
    rows = [*bench_frechet(x, y), bench_kid(x, y), bench_cmmd(x[:, :768], y[:, :768]), *bench_manifold()]
    print_table(("what", "tectum", "peer", "faster by", "value, and how far from the peer's"), rows)


def bench_frechet(x: np.ndarray, y: np.ndarray) -> list[Row]:
    """From covariances, from many features with the interval, and from fewer items than numbers."""
    d = x.shape[1]
    real, generated = Features.of(x), Features.of(y)
    moments = Moments.of(real), Moments.of(generated)
    root, theirs = best(2, lambda: by_sqrtm(*(m.mean.numpy() for m in moments), *(m.covariance.numpy() for m in moments)))
    ours, score = best(3, lambda: frechet_distance_of_moments(*moments))
    rows = [row(f"Fréchet, d = {d}, from covariances / sqrtm", ours, root, score.value, theirs)]
    covariances, _ = timed(lambda: (np.cov(x, rowvar=False), np.cov(y, rowvar=False)))
    for level, name in ((None, "without"), (0.95, "with")):
        ours, score = best(2, partial(frechet_distance, real, generated, level=level))
        rows.append(
            row(f"Fréchet, {len(x):,} features, {name} interval / cov, sqrtm", ours, covariances + root, score.value, theirs)
        )
    few = d // 2
    peer, theirs = timed(lambda: by_sqrtm(x[:few].mean(0), y[:few].mean(0), np.cov(x[:few].T), np.cov(y[:few].T)))
    ours, score = best(2, lambda: frechet_distance(Features.of(x[:few]), Features.of(y[:few])))
    return [*rows, row(f"Fréchet, {few:,} features, with interval / cov, sqrtm", ours, peer, score.value, theirs)]


def best(rounds: int, action: Callable[[], T]) -> tuple[float, T]:
    """The least seconds of some rounds, since the first one also pays for fresh memory, and what the last one gave."""
    times, results = zip(*(timed(action) for _ in range(rounds)), strict=True)
    return min(times), results[-1]


def by_sqrtm(mean_x: np.ndarray, mean_y: np.ndarray, cov_x: np.ndarray, cov_y: np.ndarray) -> float:
    """The usual route; where the product is singular, with 1e-6 on the diagonals, as in pytorch-fid."""
    root = scipy.linalg.sqrtm(cov_x @ cov_y)
    if not np.isfinite(root).all():
        root = scipy.linalg.sqrtm((cov_x + 1e-6 * np.eye(len(cov_x))) @ (cov_y + 1e-6 * np.eye(len(cov_y))))
    return float(((mean_x - mean_y) ** 2).sum() + np.trace(cov_x) + np.trace(cov_y) - 2 * np.trace(root.real))


def bench_kid(x: np.ndarray, y: np.ndarray) -> Row:
    """The same subsets through torchmetrics' function, or through the formula."""
    try:
        from torchmetrics.image.kid import poly_mmd

        name = "torchmetrics"
    except ImportError:
        poly_mmd, name = written_out_kid, "written out"
    size = min(SUBSET_SIZE, len(x))

    def peer() -> float:
        generator = torch.Generator().manual_seed(0)
        drawn = []
        for _ in range(SUBSETS):
            a, b = (torch.from_numpy(z)[torch.randperm(len(z), generator=generator)[:size]] for z in (x, y))
            drawn.append(float(poly_mmd(a, b)))
        return float(np.mean(drawn))

    theirs, value = timed(peer)
    ours, score = timed(lambda: kernel_distance(Features.of(x), Features.of(y), subsets=SUBSETS, subset_size=size))
    return row(f"kernel distance, {SUBSETS} × {size:,}, with interval / {name}, {x.dtype}", ours, theirs, score.value, value)


def written_out_kid(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    kxx, kyy, kxy = ((a @ b.T / x.shape[1] + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    n = len(x)
    return (kxx.sum() - kxx.trace() + kyy.sum() - kyy.trace()) / (n * (n - 1)) - 2 * kxy.mean()


def bench_cmmd(x: np.ndarray, y: np.ndarray) -> Row:
    """Against whole matrices in float32, as the authors' code."""

    def peer() -> float:
        a, b = (torch.nn.functional.normalize(torch.from_numpy(z)) for z in (x, y))
        means = []
        for p, q in ((a, a), (b, b), (a, b)):
            squared = p.square().sum(1)[:, None] + q.square().sum(1) - 2 * p @ q.T
            means.append(torch.exp(squared / -200).mean())
        return float(1000 * (means[0] + means[1] - 2 * means[2]))

    theirs, value = timed(peer)
    ours, score = timed(lambda: cmmd(Features.of(x), Features.of(y)))
    return row(f"CMMD, {len(x):,} × {x.shape[1]}, float64 in tiles / float32 whole", ours, theirs, score.value, value)


def bench_manifold() -> list[Row]:
    """The published values, and whole distance matrices by scikit-learn or scipy."""
    random = np.random.default_rng(0)
    x, y = random.normal(size=(2, 10_000, 1_000))
    try:
        from sklearn.metrics import pairwise_distances as distances

        name = "scikit-learn"
    except ImportError:
        distances, name = scipy.spatial.distance.cdist, "scipy"

    def peer() -> dict[str, float]:
        x_radius, y_radius = (np.partition(distances(z, z), 5, 1)[:, 5] for z in (x, y))
        across = distances(x, y)
        in_x = across < x_radius[:, None]
        return {
            "precision": in_x.any(0).mean(), "recall": (across < y_radius).any(1).mean(),
            "density": in_x.sum(0).mean() / 5, "coverage": in_x.any(1).mean(),
        }  # fmt: skip

    theirs, values = timed(peer)
    ours, found = timed(lambda: manifold(Features.of(x), Features.of(y), k=5))
    scores = {metric: getattr(found, metric).score() for metric in PUBLISHED}
    first = row(f"precision, recall, density, coverage / {name}", ours, theirs, scores["precision"].value, values["precision"])
    return [
        first,
        *(
            (f"  {score}", "", "", "", f"published {PUBLISHED[metric]:.4f}, peer {values[metric]:.4f}")
            for metric, score in scores.items()
        ),
    ]


def inception_like(n: int, d: int, seed: int, shift: float = 0.0) -> np.ndarray:
    """Positive, correlated features, float32 [n, d]."""
    mixing = np.random.default_rng(99).normal(size=(d, d)) / np.arange(1, d + 1)[:, None] ** 0.7
    normal = np.random.default_rng(seed).normal(size=(n, d))
    return np.maximum(0.4 + shift + 0.3 * normal @ mixing, 0).astype(np.float32)


def row(what: str, ours: float, peer: float, value: float, theirs: float) -> Row:
    return what, f"{ours:.2f} s", f"{peer:.2f} s", f"{peer / ours:.1f} ×", f"{value:.8g} ({abs(value / theirs - 1):.1e})"


if __name__ == "__main__":
    main()
