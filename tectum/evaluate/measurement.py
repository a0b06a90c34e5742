"""From items to a score: sufficient statistics, exact merging, and the bootstrap.

A metric measures each item once, as a row of statistics: (right, 1) for accuracy, clipped and total n-gram counts and lengths
for BLEU, (errors, words) for the word error rate. A formula turns weighted rows into the value: with weight one for each row it
is the score itself, with the counts of a resample it is a bootstrap replicate (Efron 1979). So every metric has an interval, two
systems are compared on the same resamples, and shards merge into exactly what a single run gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tectum.errors import EvaluationError
from tectum.evaluate.score import Passport, Score

Formula = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Weights [b, n] ≥ 0 and statistics [n, s], both float64, to b values; nan where the weights leave it undefined."""

RESAMPLES = 1000
_WEIGHTS_AT_ONCE = 1 << 22


def of_sums(function: Callable[[np.ndarray], np.ndarray]) -> Formula:
    """The formula of a function of the summed statistics, [b, s] → [b]."""
    return lambda weights, statistics: function(weights @ statistics)


def _ratio(sums: np.ndarray) -> np.ndarray:
    return np.divide(sums[:, 0], sums[:, 1], out=np.full(len(sums), math.nan), where=sums[:, 1] != 0)


ratio = of_sums(_ratio)
"""Statistics (numerator, denominator): the sum of the first over the sum of the second. The mean of x is that of (x, 1)."""


def quotient(top: Sequence[int], bottom: Sequence[int]) -> Formula:
    """The ratio of two sums over the statistics, each column taken as often as `top` and `bottom` say.

    >>> hits_and_misses = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    >>> quotient((1, 0), (1, 1))(np.ones((1, 4)), hits_and_misses)
    array([0.75])
    """
    columns = np.array([top, bottom], np.float64).T
    return lambda weights, statistics: ratio(weights, statistics @ columns)


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a metric measured of each item.

    Attributes:
        passport: the metric and its settings.
        formula: how weighted statistics become the value.
        ids: one id for each item.
        statistics: float64 [n, s].
        groups: what is drawn together in a resample (the five captions of a picture); by default each item by itself.

    Raises:
        EvaluationError: if an id is there twice, the shapes differ, or a statistic is not finite.

    >>> right = Measurement.mean(Passport("accuracy"), ["a", "b", "c", "d"], [1, 0, 1, 1])
    >>> right.score().value
    0.75
    >>> left, rest = right.rows([3, 0]), right.rows([1, 2])
    >>> merge([rest, left]).score() == right.score()
    True
    """

    passport: Passport
    formula: Formula
    ids: tuple[str, ...]
    statistics: np.ndarray
    groups: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        name = self.passport.metric
        if self.statistics.ndim != 2 or len(self.statistics) != len(self.ids):
            shape = list(self.statistics.shape)
            raise EvaluationError(f"{name}: {len(self.ids)} ids need statistics [{len(self.ids)}, s], not {shape}")
        if self.groups is not None and len(self.groups) != len(self.ids):
            raise EvaluationError(f"{name}: {len(self.ids)} ids need as many groups, not {len(self.groups)}")
        if len(set(self.ids)) != len(self.ids):
            seen: set[str] = set()
            twice = next(key for key in self.ids if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise EvaluationError(f"{name}: the item {twice!r} is there twice: give every item once")
        finite = np.isfinite(self.statistics).all(1)
        if not finite.all():
            raise EvaluationError(f"{name}: the item {self.ids[int(finite.argmin())]!r} has a statistic that is not finite")

    @classmethod
    def mean(
        cls,
        passport: Passport,
        ids: Iterable[str],
        values: Sequence[float] | np.ndarray,
        groups: Iterable[str] | None = None,
    ) -> Measurement:
        """The measurement whose score is the mean of one value an item."""
        array = np.asarray(values, np.float64).reshape(-1)
        statistics = np.stack((array, np.ones_like(array)), 1)
        return cls(passport, ratio, tuple(ids), statistics, None if groups is None else tuple(groups))

    def rows(self, at: Sequence[int] | np.ndarray) -> Measurement:
        """Some of the items."""
        chosen = [int(i) for i in at]
        groups = None if self.groups is None else tuple(self.groups[i] for i in chosen)
        return replace(self, ids=tuple(self.ids[i] for i in chosen), statistics=self.statistics[chosen], groups=groups)

    def values(self) -> dict[str, float]:
        """The score of each item by itself."""
        one = np.ones((1, 1))
        return {key: float(self.formula(one, row[None])[0]) for key, row in zip(self.ids, self.statistics, strict=True)}

    def replicates(self, *, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
        """The values [resamples] of as many bootstrap samples; nan where one leaves the value undefined.

        The same seed draws the same items of every measurement of these ids, so the replicates of two systems are paired.
        """
        ordered = self._ordered()
        drawn = (self.formula(weights, ordered.statistics) for weights in _weights(ordered, resamples, seed))
        return np.concatenate([np.zeros(0), *drawn])

    def score(self, *, resamples: int = RESAMPLES, level: float = 0.95, seed: int = 0) -> Score:
        """The value and its percentile bootstrap interval.

        The items are put in the order of their ids first, so that neither their order nor the shards they came from matter.
        An interval of a statistic that is biased in small samples (a Fréchet distance, an entropy) is as biased as the value: it
        says how the value varies, not where the truth lies.

        Args:
            resamples: how many; 0 for no interval.
            level: of confidence.
            seed: of the resamples.
        """
        n = len(self.ids)
        if not n:
            return Score(math.nan, None, 0, self.passport)
        value = float(self.formula(np.ones((1, n)), self._ordered().statistics)[0])
        known = len(set(self.groups or self.ids)) > 1 and not math.isnan(value)
        interval = between(self.replicates(resamples=resamples, seed=seed), level) if known else None
        return Score(value, interval, n, self.passport)

    def _ordered(self) -> Measurement:
        order = sorted(range(len(self.ids)), key=self.ids.__getitem__)
        return self.rows(order)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The paired difference a − b, its interval, the two-sided bootstrap p-value, and the number of items."""

    difference: float
    interval: tuple[float, float] | None
    p: float
    n: int
    passport: Passport


def merge(parts: Sequence[Measurement]) -> Measurement:
    """The measurement of the items of all parts, as if made at once.

    Raises:
        PassportError: if they were made differently.
        EvaluationError: if there are none, or they share an item.
    """
    if not parts:
        raise EvaluationError("there is nothing to merge: give at least one part")
    first = parts[0]
    for part in parts[1:]:
        first.passport.check_same(part.passport)
    groups = None
    if any(part.groups is not None for part in parts):
        groups = tuple(group for part in parts for group in part.groups or part.ids)
    ids = tuple(key for part in parts for key in part.ids)
    return replace(first, ids=ids, statistics=np.concatenate([part.statistics for part in parts]), groups=groups)


def compare(a: Measurement, b: Measurement, *, resamples: int = RESAMPLES, level: float = 0.95, seed: int = 0) -> Comparison:
    """Two systems on the same items: the bootstrap of the difference, drawing the same items for both.

    Raises:
        PassportError: if they were made differently.
        EvaluationError: if the items are not the same.

    >>> old = Measurement.mean(Passport("accuracy"), "abcd", [1, 0, 0, 1])
    >>> new = Measurement.mean(Passport("accuracy"), "dcba", [1, 1, 0, 1])
    >>> compare(new, old).difference
    0.25
    """
    a.passport.check_same(b.passport)
    a, b = a._ordered(), b._ordered()
    if a.ids != b.ids:
        odd = min(set(a.ids) ^ set(b.ids))
        where = "first" if odd in a.ids else "second"
        name = a.passport.metric
        raise EvaluationError(f"{name}: the item {odd!r} is only in the {where} result: compare results on the same items")
    first, second = a.score(resamples=0), b.score(resamples=0)
    if len(set(a.groups or a.ids)) < 2:
        return paired(first, second, np.zeros(0), level)
    differences = a.replicates(resamples=resamples, seed=seed) - b.replicates(resamples=resamples, seed=seed)
    return paired(first, second, differences, level)


def paired(a: Score, b: Score, differences: np.ndarray, level: float = 0.95) -> Comparison:
    """The comparison of two scores, given the differences [resamples] of their paired replicates.

    The p-value is twice the smaller share of differences on one side of zero, (tail + 1) / (resamples + 1) each.

    Raises:
        PassportError: if they were made differently.
    """
    known = differences[~np.isnan(differences)]
    tail = min((known <= 0).sum(), (known >= 0).sum())
    p = min(1.0, 2 * float(tail + 1) / (len(known) + 1))
    return Comparison(a - b, between(known, level), p, a.n, a.passport)


def between(values: np.ndarray, level: float = 0.95) -> tuple[float, float] | None:
    """The central quantiles of the values that are known; None if none is."""
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _weights(measurement: Measurement, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each item is drawn in each resample, some resamples [b, n] at a time."""
    unit_of: np.ndarray | slice = slice(None)
    units = len(measurement.ids)
    if measurement.groups is not None:
        names, unit_of = np.unique(np.array(measurement.groups, object), return_inverse=True)
        units = len(names)
    generator = np.random.default_rng(seed)
    at_once = max(1, _WEIGHTS_AT_ONCE // len(measurement.ids))
    for start in range(0, resamples, at_once):
        number = min(at_once, resamples - start)
        drawn = generator.integers(units, size=(number, units)) + np.arange(number)[:, None] * units
        counts = np.bincount(drawn.ravel(), minlength=number * units).reshape(number, units)
        yield counts[:, unit_of].astype(np.float64)
