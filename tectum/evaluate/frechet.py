"""The Fréchet distance between two sets of features, each taken for a Gaussian (Dowson & Landau 1982; FID: Heusel et al. 2017).

d² = |μ₁ − μ₂|² + tr S₁ + tr S₂ − 2 tr (S₁S₂)^½, with the covariances divided by n − 1. Over Inception features it is the
FID, over features of sounds the Fréchet audio distance (Kilgour et al. 2019).

The last trace needs no matrix square root: with S₁ = AᵀA and S₂ = BᵀB it is the sum of the singular values of ABᵀ. Those
are real and not negative, also where a covariance is singular, and with fewer items than numbers the rows of the centred
features are such an A, and no covariance is formed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from tectum.errors import EvaluationError
from tectum.evaluate.features import Features, check_alike, normal_interval
from tectum.evaluate.score import Passport, Score, Setting

_ROWS_AT_ONCE = 4096
_INFLUENCES = 4096
_BLOCK = 256


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Count, mean and scatter of features: all that the distance needs, [d, d] however many items there were.

    a + b are the moments of the items of both (Chan, Golub & LeVeque 1979). The scatter is about the mean, so that a large
    mean costs no digits. a + b and b + a are the same bits; other ways to cut the items agree to rounding, about 1e-14 of
    the scatter.

    Attributes:
        n: items.
        mean: [d], float64.
        scatter: Σ (x − mean)(x − mean)ᵀ [d, d], float64.
        settings: what the features were made with.

    >>> whole = Features.of([[0.0], [1.0], [5.0]])
    >>> parts = Moments.of(Features.of([[0.0], [1.0]])) + Moments.of(Features.of([[5.0]]))
    >>> parts.n, parts.mean.tolist(), parts.scatter.tolist() == Moments.of(whole).scatter.tolist()
    (3, [2.0], True)
    """

    n: int
    mean: Tensor
    scatter: Tensor
    settings: Mapping[str, Setting] = field(default_factory=dict)

    @classmethod
    def of(cls, features: Features) -> Moments:
        """The moments of some features."""
        if not len(features):
            raise EvaluationError("there are no features to take moments of: give at least one")

        return reduce(cls.__add__, (cls._of_rows(rows, features.settings) for rows in features.vectors.split(_ROWS_AT_ONCE)))

    @classmethod
    def _of_rows(cls, rows: Tensor, settings: Mapping[str, Setting]) -> Moments:
        rows = rows.double()
        mean = rows.mean(0)
        return cls(len(rows), mean, _gram(rows - mean), settings)

    def __add__(self, other: Moments) -> Moments:
        Passport("feature extraction", self.settings).check_same(Passport("feature extraction", other.settings))
        if self.mean.shape != other.mean.shape:
            raise EvaluationError(
                f"moments of {len(self.mean)} and of {len(other.mean)} numbers cannot be added: take both from one extractor"
            )
        n = self.n + other.n
        apart = other.mean - self.mean
        mean = (self.n * self.mean + other.n * other.mean) / n
        return Moments(n, mean, self.scatter + other.scatter + torch.outer(apart, apart) * (self.n * other.n / n), self.settings)

    @property
    def covariance(self) -> Tensor:
        """[d, d], divided by n − 1."""
        return self.scatter / (self.n - 1)


def frechet_distance(real: Features, generated: Features, *, level: float | None = 0.95) -> Score:
    """The Fréchet distance d² with the interval of its sampling noise.

    The distance of n items lies above that of infinitely many by about a constant / n (`frechet_distance_at_infinity`
    removes it), so both counts are in the passport. The interval is of the noise around the expectation at these counts:
    value ± z · standard error, from the influence of single items, at most 4,096 of each side (Rippl, Munk & Sturm 2016).
    The bootstrap is of no use here: repeated items shift the distance up, often past the interval itself.

    Args:
        real: n features.
        generated: m features of the same extractor.
        level: of confidence; None for no interval, in less than half the time.

    Raises:
        PassportError: if the features were made differently.
        EvaluationError: if their sizes differ, or one set has fewer than 2 items.

    >>> real = Features.of([[0.0], [1.0], [2.0]])
    >>> frechet_distance(real, Features.of([[10.0], [11.0], [12.0]])).value
    100.0
    """
    check_alike(real, generated, least=2)
    a, b = _Gaussian.of(real), _Gaussian.of(generated)
    passport = _passport("frechet-distance", real.settings, len(real), len(generated))
    product = _product(a, b)
    if level is None:
        return Score(_distance(a, b, product), None, len(generated), passport)
    squares, u = torch.linalg.eigh(_gram(product.T))
    roots = squares.clamp(min=0).sqrt()
    v = product.T @ u / roots.where(roots > 0, math.inf)
    value = _distance(a, b, product, squares)
    variance = _variance(real.vectors, a, b, u, roots) + _variance(generated.vectors, b, a, v, roots)
    low, high = normal_interval(value, variance, level)
    return Score(value, (max(0.0, low), high), len(generated), passport)


def frechet_distance_of_moments(real: Moments, generated: Moments) -> Score:
    """The Fréchet distance d² of moments that were added up batch by batch; without an interval, which needs the items.

    Raises as `frechet_distance`.
    """
    Passport("feature extraction", real.settings).check_same(Passport("feature extraction", generated.settings))
    if real.mean.shape != generated.mean.shape:
        raise EvaluationError(
            f"moments of {len(real.mean)} and of {len(generated.mean)} numbers cannot be compared: take both from one extractor"
        )
    if min(real.n, generated.n) < 2:
        raise EvaluationError(f"{min(real.n, generated.n)} of at least 2 items: give more of them")
    a, b = _Gaussian.of_moments(real), _Gaussian.of_moments(generated)
    value = _distance(a, b, _product(a, b))
    return Score(value, None, generated.n, _passport("frechet-distance", real.settings, real.n, generated.n))


def frechet_distance_at_infinity(
    real: Features, generated: Features, *, points: int = 15, smallest: int | None = None, seed: int = 0
) -> Score:
    """The Fréchet distance of infinitely many generated items (FID∞: Chong & Forsyth 2020), without an interval.

    The distances at `points` sizes from `smallest` (a tenth of them by default) to all generated items, each a random
    subset, fitted by a line in 1/n, at 1/n = 0. The bias of the real items' number remains, as in the paper.

    Raises as `frechet_distance`.
    """
    check_alike(real, generated, least=2)
    smallest = max(2, len(generated) // 10) if smallest is None else smallest
    if not (2 <= smallest < len(generated) and points >= 2):
        raise EvaluationError(
            f"{points} sizes from {smallest} to {len(generated)} items fix no line: give at least 2 sizes, the "
            "smallest at least 2 and below the number of items"
        )
    sizes = np.unique(np.linspace(smallest, len(generated), points).round().astype(int))
    generator = torch.Generator().manual_seed(seed)
    a = _Gaussian.of(real)
    distances = []
    for size in sizes:
        rows = torch.randperm(len(generated), generator=generator)[: int(size)]
        b = _Gaussian.of(Features(generated.vectors[rows.to(generated.vectors.device)]))
        distances.append(_distance(a, b, _product(a, b)))
    _, intercept = np.polyfit(1 / sizes, distances, 1)
    passport = _passport("frechet-distance-at-infinity", real.settings, len(real), len(generated))
    settings = {**passport.settings, "points": points, "smallest": smallest, "seed": seed}
    return Score(float(intercept), None, len(generated), Passport(passport.metric, settings))


def _passport(metric: str, settings: Mapping[str, Setting], real: int, generated: int) -> Passport:
    return Passport(metric, {**settings, "real": real, "generated": generated})


@dataclass(frozen=True, slots=True, eq=False)
class _Gaussian:
    """Mean [d] and a root [r, d] of the covariance, rootᵀ root."""

    mean: Tensor
    root: Tensor
    rows: Literal["items", "triangle", "axes"]
    """What the rows of the root are: centred items / √(n − 1), an upper triangle, or scaled eigenvectors."""

    @classmethod
    def of(cls, features: Features) -> _Gaussian:
        n, d = features.vectors.shape
        if n > d:
            return cls.of_moments(Moments.of(features))
        vectors = features.vectors.double()
        mean = vectors.mean(0)
        return cls(mean, (vectors - mean) / math.sqrt(n - 1), "items")

    @classmethod
    def of_moments(cls, moments: Moments) -> _Gaussian:
        lower, failed = torch.linalg.cholesky_ex(moments.covariance)
        if not bool(failed):
            return cls(moments.mean, lower.T, "triangle")
        values, vectors = torch.linalg.eigh(moments.covariance)
        # Of n items at most n - 1 eigenvalues are not zero: the others are rounding, and their roots would be felt.
        rank = min(moments.n - 1, len(values))
        return cls(moments.mean, values[-rank:].clamp(min=0).sqrt()[:, None] * vectors[:, -rank:].T, "axes")


def _distance(a: _Gaussian, b: _Gaussian, product: Tensor, squares: Tensor | None = None) -> float:
    """d² from C = a.root b.rootᵀ; `squares` are the eigenvalues of C Cᵀ, rising, where they are known already."""
    if squares is None:
        squares = torch.linalg.eigvalsh(_gram(product.T if len(product) <= product.shape[1] else product))
    means, traces = float((a.mean - b.mean).square().sum()), float(a.root.square().sum() + b.root.square().sum())
    roots, epsilon = squares.clamp(min=0).sqrt(), torch.finfo(torch.float64).eps
    # Eigenvalues take half the time of singular values, but their rounding, relative to the largest, is felt in small roots.
    rounding = epsilon * roots[-1] * (roots[-1] / (2 * roots)).clamp(max=epsilon**-0.5).sum()
    if float(rounding) > 1e-7 * (means + traces - 2 * float(roots.sum())):
        roots = torch.linalg.svdvals(product)
    spread = traces - 2 * float(roots.sum())
    # What is below the rounding of its own terms is nothing; so the distance of x to x is 0.
    return means + (spread if spread > epsilon * a.root.shape[1] * traces else 0.0)


def _variance(vectors: Tensor, own: _Gaussian, other: _Gaussian, u: Tensor, roots: Tensor) -> float:
    """The part of the distance's variance that comes from one set of items.

    An item x moves d² by 2 (μ − μ')·x̃ + |x̃|² − x̃ᵀTx̃, up to a constant, where x̃ = x − μ and T is the linear map that
    carries this Gaussian to the other. With x̃ = z own.root and u, σ the singular vectors and values of own.root other.rootᵀ,
    x̃ᵀTx̃ = Σ_k σ_k (z·u_k)². Some thousands of items, evenly spaced, give the standard error to a hundredth.
    """
    n = len(vectors)
    some = slice(None, None, 1 + (n - 1) // _INFLUENCES)
    centred = vectors[some].double() - own.mean
    if own.rows == "items":
        z = math.sqrt(n - 1) * u[some]
    elif own.rows == "triangle":
        z = centred @ torch.linalg.solve_triangular(own.root, u, upper=True)
    else:
        squared = own.root.square().sum(1, keepdim=True)
        z = centred @ (own.root.T @ (u / squared.where(squared > 0, math.inf)))
    influence = 2 * centred @ (own.mean - other.mean) + centred.square().sum(1) - z.square() @ roots
    return float(influence.var()) / n


def _gram(x: Tensor) -> Tensor:
    """xᵀx, from the blocks on and above the diagonal: little more than half the work."""
    d = x.shape[1]
    result = x.new_empty(d, d)
    for at in range(0, d, _BLOCK):
        block = x[:, at : at + _BLOCK].T @ x[:, at:]
        result[at : at + _BLOCK, at:] = block
        result[at:, at : at + _BLOCK] = block.T
    return result


def _product(a: _Gaussian, b: _Gaussian) -> Tensor:
    """a.root b.rootᵀ, without the zeros of a triangle."""
    if a.rows != "triangle":
        return a.root @ b.root.T
    return torch.cat([a.root[at : at + _BLOCK, at:] @ b.root[:, at:].T for at in range(0, len(a.root), _BLOCK)])
