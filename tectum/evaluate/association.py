"""Association tests: are two sets of targets differently close to two sets of attributes?

WEAT for words (Caliskan, Bryson and Narayanan 2017, arXiv:1608.07187) and iEAT for pictures (Steed and Caliskan 2021,
arXiv:2010.15052) are one computation over vectors; in a shared space targets and attributes may also be of different modalities.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from typing import Any

import numpy as np

from tectum.errors import EvaluationError
from tectum.evaluate.measurement import Measurement
from tectum.evaluate.score import Passport

# Associations are differences of means of cosines; what differs by less is rounding.
_ROUNDING = 1e-12
_DRAWN_AT_ONCE = 1 << 21


@dataclass(frozen=True, slots=True)
class Association:
    """An effect size and the chance to see as much if targets were assigned blindly.

    Attributes:
        effect: its score is the effect size d, in [−2, 2] for sets of one size; its interval resamples the targets.
        p: one-sided, the share of assignments whose difference is at least the one observed, that one included.
        partitions: how many assignments were looked at.
        exact: whether these were all.
    """

    effect: Measurement
    p: float
    partitions: int
    exact: bool

    def __str__(self) -> str:
        how = f"all {self.partitions}" if self.exact else f"{self.partitions} random"
        return f"{self.effect.score()} p={self.p:.4g} ({how} partitions)"


def association(
    x: Any,
    y: Any,
    a: Any,
    b: Any,
    *,
    names: Sequence[str] | None = None,
    at_most: int = 200_000,
    samples: int = 99_999,
    seed: int = 0,
    ddof: int = 1,
) -> Association:
    """The association of targets X, Y with attributes A, B.

    With s(w) = mean_a cos(w, a) − mean_b cos(w, b), the effect size is d = (mean_X s − mean_Y s) / std_{X ∪ Y} s. The test
    statistic is mean_X s − mean_Y s over assignments of the targets to sets of the sizes of X and Y. Up to `at_most` assignments
    are all looked at, p = #{at least as large} / #{all}; of more, m are drawn, p = (#{at least as large} + 1) / (m + 1) (Phipson
    and Smyth 2010). d is nan if all targets have the same s.

    Args:
        x: vectors [n, d] of the first targets, of any length; so are y [m, d], a and b.
        y: the second targets.
        a: the first attributes.
        b: the second attributes.
        names: of the targets, x then y, for the ids of the measurement.
        at_most: how many assignments are enumerated.
        samples: how many are drawn if there are more.
        seed: of the draw.
        ddof: 1 divides the variance by N − 1, as the code of iEAT does; 0 by N.

    Raises:
        EvaluationError: if a set is empty or no matrix, sizes differ, or a vector is zero or not finite.

    >>> flowers, insects = [[1, 0.1], [1, 0.2]], [[0.1, 1], [0.2, 1]]
    >>> found = association(flowers, insects, a=[[1, 0]], b=[[0, 1]])
    >>> round(found.effect.score().value, 3), found.p  # the observed one of six partitions
    (1.728, 0.16666666666666666)
    """
    sets = [_unit(name, vectors) for name, vectors in zip("xyab", (x, y, a, b), strict=True)]
    if len({vectors.shape[1] for vectors in sets}) > 1:
        raise EvaluationError(f"association: x, y, a and b have {[v.shape[1] for v in sets]} dimensions: embed all in one space")
    targets, size = np.concatenate(sets[:2]), len(sets[0])
    ids = tuple(names) if names is not None else (*(f"x{i}" for i in range(size)), *(f"y{i}" for i in range(len(sets[1]))))
    s = (targets @ sets[2].T).mean(1) - (targets @ sets[3].T).mean(1)
    statistics = np.stack((s, np.arange(len(s)) < size), 1)
    passport = Passport("association-effect", {"similarity": "cosine", "ddof": ddof})
    effect = Measurement(passport, lambda weights, rows: _effect(weights, rows, ddof), ids, statistics)
    everything = math.comb(len(s), size)
    if everything <= at_most:
        chosen = np.fromiter(chain.from_iterable(combinations(range(len(s)), size)), np.int32, everything * size)
        return Association(effect, _at_least(s, chosen.reshape(-1, size)) / everything, everything, True)
    generator, reached = np.random.default_rng(seed), 0
    at_once = max(1, _DRAWN_AT_ONCE // len(s))
    for start in range(0, samples, at_once):
        drawn = generator.random((min(at_once, samples - start), len(s))).argpartition(size - 1, 1)[:, :size]
        reached += _at_least(s, drawn)
    return Association(effect, (reached + 1) / (samples + 1), samples, False)


def _at_least(s: np.ndarray, chosen: np.ndarray) -> int:
    """How many choices [k, n] have a sum of s as large as the first n have; of fixed sizes that orders as the difference does."""
    size = chosen.shape[1]
    return int((s[chosen].sum(1) >= s[:size].sum() - _ROUNDING * size).sum())


def _effect(weights: np.ndarray, statistics: np.ndarray, ddof: int) -> np.ndarray:
    s, first = statistics.T
    total, in_x = weights.sum(1), weights @ first
    known = (in_x > 0) & (in_x < total) & (total > ddof)
    safe_x, safe_y = np.where(known, in_x, 1), np.where(known, total - in_x, 1)
    difference = weights @ (s * first) / safe_x - weights @ (s * (1 - first)) / safe_y
    mean = weights @ s / np.where(known, total, 1)
    variance = (weights * (s - mean[:, None]) ** 2).sum(1) / np.where(known, total - ddof, 1)
    known &= variance > _ROUNDING**2
    return np.where(known, difference / np.sqrt(np.where(known, variance, 1)), math.nan)


def _unit(name: str, vectors: Any) -> np.ndarray:
    found = np.asarray(vectors, np.float64)
    if found.ndim != 2 or not found.size:
        raise EvaluationError(f"association: {name} has the shape {found.shape}: give at least one vector, as a matrix [n, d]")
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        raise EvaluationError(f"association: {name} has a vector that is zero or not finite: leave it out or embed it again")
    return found / lengths
