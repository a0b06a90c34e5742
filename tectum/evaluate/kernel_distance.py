"""Kernel distances between features: squared maximum mean discrepancies (Gretton et al. 2012).

MMD² = E k(x, x') + E k(y, y') − 2 E k(x, y). The kernel inception distance (KID: Bińkowski et al. 2018) has the kernel (x·y
/ d + 1)³ and no bias; CMMD (Jayasumana et al. 2024) has a Gaussian kernel over unit vectors of a CLIP-like model.

An item's witness is how much more alike it is, on average, to its own side than to the other. Both estimates are the mean
witness of the real items plus that of the generated ones, and the first-order standard error of both is that of twice the
witness.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tectum.errors import EvaluationError
from tectum.evaluate.features import Features, check_alike, normal_interval
from tectum.evaluate.score import Passport, Score, Setting

_TILE = 2048


def kernel_distance(
    real: Features, generated: Features, *, subsets: int = 100, subset_size: int = 1000, seed: int = 0, level: float = 0.95
) -> Score:
    """The unbiased MMD² with the kernel (x·y / d + 1)³, a mean over random subsets: over Inception features, the KID.

    It may be below 0, and its expectation does not depend on how many items there are. The interval is value ± z · standard
    error, of two parts: that of drawing these items, from the witnesses, and that of drawing these subsets of them, from
    their values. (The spread over subsets that is often printed beside a KID is that of a score of `subset_size` items.)

    Args:
        real: n features.
        generated: m features of the same extractor.
        subsets: how many, at least 2.
        subset_size: items of each side in a subset, from 2 to the smaller of n and m.
        seed: of the subsets.
        level: of confidence.

    Raises:
        PassportError: if the features were made differently.
        EvaluationError: if their sizes differ, or the subsets do not fit.

    >>> real, generated = Features.of([[0.0], [1.0]]), Features.of([[1.0], [2.0]])
    >>> kernel_distance(real, generated, subsets=2, subset_size=2).value  # 1 + 27 - (1 + 1 + 8 + 27) / 2
    9.5
    """
    settings = check_alike(real, generated, least=2)
    if not (subsets >= 2 and 2 <= subset_size <= min(len(real), len(generated))):
        raise EvaluationError(
            f"{subsets} subsets of {subset_size} cannot be drawn from {len(real)} real and {len(generated)} generated items: "
            "ask for at least 2, of at least 2 items and no more than there are"
        )
    generator = torch.Generator().manual_seed(seed)
    values, variances = [], []
    for _ in range(subsets):
        x, y = (_draw(items.vectors, subset_size, generator) for items in (real, generated))
        own_x, own_y, across = _polynomial(x, x), _polynomial(y, y), _polynomial(x, y)
        witness_x, witness_y = _mean_of_others(own_x) - across.mean(1), _mean_of_others(own_y) - across.mean(0)
        values.append(witness_x.mean() + witness_y.mean())
        variances.append(4 * witness_x.var() / len(real) + 4 * witness_y.var() / len(generated))
    value = float(torch.stack(values).mean())
    variance = float(torch.stack(variances).mean() + torch.stack(values).var() / subsets)
    made: dict[str, Setting] = {
        "kernel": "(x·y/d + 1)³",
        "estimator": "unbiased",
        "subsets": subsets,
        "subset_size": subset_size,
        "seed": seed,
    }
    passport = Passport("kernel-distance", {**settings, **made})
    return Score(value, normal_interval(value, variance, level), len(generated), passport)


def cmmd(real: Features, generated: Features, *, sigma: float = 10.0, scale: float = 1000.0, level: float = 0.95) -> Score:
    """The CLIP maximum mean discrepancy: scale · MMD² with the kernel exp(−|x − y|² / 2σ²) over unit vectors.

    This is the estimator of the authors, with the pairs of an item and itself: it is never below 0, has a bias that falls
    with the number of items (they are in the passport), and cmmd(x, x) is 0. Features are scaled to length 1 first, as
    theirs are. All kernel values are within 2 / σ² of 1, so what is summed, in float64 and tile by tile, is their
    difference from 1. The interval is value ± z · standard error, cut at 0.

    Raises:
        PassportError: if the features were made differently.
        EvaluationError: if their sizes differ, a side has fewer than 2 items, or one of length 0.

    >>> real, generated = Features.of([[1.0, 0.0], [1.0, 0.0]]), Features.of([[0.0, 1.0], [0.0, 1.0]])
    >>> round(cmmd(real, generated).value, 4)  # 2000 (1 - exp(-2 / 200))
    19.9003
    """
    settings = check_alike(real, generated, least=2)
    x, y = _unit(real), _unit(generated)
    own_x, _ = _kernel_means(x, x, sigma)
    own_y, _ = _kernel_means(y, y, sigma)
    across_x, across_y = _kernel_means(x, y, sigma)
    witness_x, witness_y = scale * (own_x - across_x), scale * (own_y - across_y)
    value = max(0.0, float(witness_x.mean() + witness_y.mean()))
    variance = float(4 * witness_x.var() / len(real) + 4 * witness_y.var() / len(generated))
    low, high = normal_interval(value, variance, level)
    made: dict[str, Setting] = {"kernel": "gaussian", "sigma": sigma, "scale": scale, "estimator": "biased", "vectors": "unit"}
    passport = Passport("cmmd", {**settings, **made, "real": len(real), "generated": len(generated)})
    return Score(value, (max(0.0, low), high), len(generated), passport)


def _draw(vectors: Tensor, size: int, generator: torch.Generator) -> Tensor:
    rows = torch.randperm(len(vectors), generator=generator)[:size]
    return vectors[rows.to(vectors.device)].double()


def _polynomial(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _mean_of_others(kernel: Tensor) -> Tensor:
    """The mean of each row of a square kernel matrix without its diagonal."""
    return (kernel.sum(1) - kernel.diagonal()) / (len(kernel) - 1)


def _unit(features: Features) -> Tensor:
    """Rows of length 1, in float64."""
    vectors = features.vectors.double()
    lengths = vectors.norm(dim=1)
    if not bool((lengths > 0).all()):
        raise EvaluationError(
            f"the features of item {features.ids[int(lengths.argmin())]!r} are all 0 and have no direction: leave it out"
        )
    return F.normalize(vectors, dim=1)


def _kernel_means(x: Tensor, y: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """Of unit vectors, the mean of k(x, y) − 1 for each x over all y [n], and for each y over all x [m]."""
    by_x, by_y = x.new_zeros(len(x)), x.new_zeros(len(y))
    for a, to_a in zip(x.split(_TILE), by_x.split(_TILE), strict=True):
        for b, to_b in zip(y.split(_TILE), by_y.split(_TILE), strict=True):
            kernel = (a @ b.T).sub_(1).div_(sigma**2).expm1_()  # |x − y|² = 2 − 2 x·y
            to_a += kernel.sum(1)
            to_b += kernel.sum(0)
    return by_x / len(y), by_y / len(x)
