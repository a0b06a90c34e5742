"""Retrieval: recall at k, ranks and average precision over any numbers of queries and items.

What is right is data: a set of items for each query, so that five captions a picture work both ways. A rank counts wrong items
only: it is that of the first right item, as the papers on images and captions have it since Hodosh et al. 2013.

Items of equal score have no order of their own: "pessimistic" puts the wrong ones first, "optimistic" the right ones, and
"average" is the mean over all orders. Constant vectors find nothing under the first, which is the default, everything under the
second, and as much as chance under the third.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from tectum.errors import EvaluationError
from tectum.evaluate.cosines import Scores
from tectum.evaluate.measurement import Formula, Measurement, ratio
from tectum.evaluate.ranking import Levels, Right, levels
from tectum.evaluate.score import Passport, Setting

Ties = Literal["pessimistic", "average", "optimistic"]


def same_group(queries: Sequence[Hashable], items: Sequence[Hashable]) -> list[np.ndarray]:
    """The right items of each query: those of its group, for example the captions of its picture.

    >>> captions = ["dog.jpg", "dog.jpg", "sea.jpg"]
    >>> [rows.tolist() for rows in same_group(["sea.jpg", "dog.jpg"], captions)]
    [[2], [0, 1]]
    """
    rows: dict[Hashable, list[int]] = {}
    for row, group in enumerate(items):
        rows.setdefault(group, []).append(row)
    found = {group: np.array(members, np.int64) for group, members in rows.items()}
    return [found.get(group, np.zeros(0, np.int64)) for group in queries]


@dataclass(frozen=True, slots=True)
class FirstHits:
    """What comes before the first right item of each query; arrays [n].

    Attributes:
        ids: of the queries.
        groups: what is drawn together in a resample; None for each query by itself.
        higher: how many wrong items score higher than the best right one.
        same: how many wrong items score the same.
        right: how many right items have that score.
        settings: what of the scores belongs in a passport.
    """

    ids: tuple[str, ...]
    groups: tuple[str, ...] | None
    higher: np.ndarray
    same: np.ndarray
    right: np.ndarray
    settings: dict[str, Setting]


def first_hits(
    scores: Scores,
    right: Right,
    *,
    ids: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    ignored: Right | None = None,
) -> FirstHits:
    """Find the first right item of each query, in one pass over tiles of the scores.

    Args:
        scores: `Cosines(queries, items)`, or `Given(matrix)`.
        right: for each query the rows of its right items, one or several.
        ids: of the queries; their rows when left out.
        groups: what is drawn together in a resample: the pictures that captions belong to.
        ignored: for each query the rows of items that do not count, such as itself.

    Raises:
        EvaluationError: if a query has no right item, or one that is not there or ignored.

    >>> from tectum.evaluate.cosines import Cosines
    >>> images, captions = [[1, 0], [0, 1]], [[2, 1], [1, 2], [1, 0], [0, 1]]
    >>> hits = first_hits(Cosines(images, captions), [[0, 1], [2, 3]])
    >>> hits.higher.tolist(), recall(hits, 1).score().value, recall(hits, 2).score().value
    ([1, 0], 0.5, 1.0)
    """
    names = _names(scores.shape[0], ids)
    found = _join(list(levels(scores, right, names=names, ignored=ignored, only_best=True)))
    settings = _settings(scores, ignored)
    return FirstHits(names, _tuple(groups), found.higher, found.same, found.right, settings)


def recall(hits: FirstHits, k: int, *, ties: Ties = "pessimistic") -> Measurement:
    """R@k: the share of queries with a right item among the first k.

    With several right items this is the hit rate, not the share of them that is found. Under "average" ties it is the probability
    that one of r right among r + e items of equal score takes one of the p places that are left: 1 − C(e, p) / C(e + r, p).

    Raises:
        EvaluationError: if k is below 1, or there is no such rule for ties.
    """
    if k < 1:
        raise EvaluationError(f"recall at {k} is not defined: k is 1 or more")
    passport = _passport(f"recall@{k}", hits.settings, ties)
    if ties == "average":
        places, missed = np.clip(k - hits.higher, 0, hits.same + hits.right), np.ones(len(hits.ids))
        for taken in range(int(places.max(initial=0))):
            left = hits.same + hits.right - taken
            missed *= np.where(taken < places, np.maximum(hits.same - taken, 0) / np.maximum(left, 1), 1)
        values = 1 - missed
    else:
        values = (hits.higher + (hits.same if ties == "pessimistic" else 0) < k).astype(np.float64)
    return _measurement(passport, hits, values, ratio)


def mean_rank(hits: FirstHits, *, ties: Ties = "pessimistic") -> Measurement:
    """The mean rank of the first right item; 1 is best."""
    return _measurement(_passport("mean-rank", hits.settings, ties), hits, _ranks(hits, ties), ratio)


def median_rank(hits: FirstHits, *, ties: Ties = "pessimistic") -> Measurement:
    """The median rank of the first right item; of an even number the mean of the middle two."""
    return _measurement(_passport("median-rank", hits.settings, ties), hits, _ranks(hits, ties), weighted_median)


def weighted_median(weights: np.ndarray, statistics: np.ndarray) -> np.ndarray:
    """The median [b] of the first statistic [n, s] under weights [b, n]: where half the weight is reached.

    Where it is reached exactly between two values, their mean; so that weights of one give the usual median.

    >>> weighted_median(np.array([[1, 1, 1, 1], [0, 3, 1, 0]]), np.array([[1], [2], [5], [9]]))
    array([3.5, 2. ])
    """
    order = np.argsort(statistics[:, 0], kind="stable")
    values, running = statistics[order, 0], np.cumsum(weights[:, order], 1)
    if not len(values):
        return np.full(len(weights), np.nan)
    half = running[:, -1:] / 2
    middle = (values[(running >= half).argmax(1)] + values[(running > half).argmax(1)]) / 2
    return np.where(half[:, 0] > 0, middle, np.nan)


def average_precision(
    scores: Scores,
    right: Right,
    *,
    ids: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    ignored: Right | None = None,
    ties: Ties = "pessimistic",
) -> Measurement:
    """Mean average precision: of each query, the mean over its right items of the share of right ones among those up to it.

    Under "average" ties it is the expectation over all orders (McSherry & Najork, ECIR 2008, eq. 5). Every right item counts, so
    this costs more than `first_hits` where a query has many. Args and Raises as there.

    >>> from tectum.evaluate.cosines import Given
    >>> average_precision(Given([[0.9, 0.8, 0.7]]), [[0, 2]]).score().value  # (1/1 + 2/3) / 2
    0.8333333333333333
    """
    passport = _passport("mean-average-precision", _settings(scores, ignored), ties)
    names = _names(scores.shape[0], ids)
    parts = [_average_precisions(part, ties) for part in levels(scores, right, names=names, ignored=ignored)]
    values = np.concatenate([np.zeros(0), *parts])
    return Measurement.mean(passport, names, values, groups)


def _average_precisions(part: Levels, ties: Ties) -> np.ndarray:
    """The average precision of each query."""
    starts = np.flatnonzero(np.diff(part.query, prepend=-1))
    until = np.cumsum(part.right)
    before = until - part.right  # Right items of higher score, those of earlier queries included.
    offset = np.repeat(before[starts], np.diff(starts, append=len(part.query)))
    total = np.add.reduceat(part.right, starts)
    if ties == "average":
        gained = _expected_gains(before - offset, part.right, part.higher, part.same)
    else:
        ahead = part.higher + (part.same if ties == "pessimistic" else 0)
        place = np.arange(until[-1]) + 1 - np.repeat(offset, part.right)
        gained = np.add.reduceat(place / (place + np.repeat(ahead, part.right)), before)
    return np.add.reduceat(gained, starts) / total


def _expected_gains(before: np.ndarray, right: np.ndarray, higher: np.ndarray, same: np.ndarray) -> np.ndarray:
    """The sum of the precisions at the right items of a level of equal scores, in the mean over its orders.

    With t = before + higher items above, place i of the n = right + same holds a right item with probability right / n, and then
    has (i − 1) (right − 1) / (n − 1) right ones before it in the level. Sums of 1 / (t + i) are differences of harmonic numbers.
    """
    above, size = before + higher, right + same
    harmonic = np.concatenate(([0.0], np.cumsum(1 / np.arange(1, int((above + size).max()) + 1))))
    sums = harmonic[above + size] - harmonic[above]
    others = (right - 1) / np.maximum(size - 1, 1)
    gains = right / size * ((before + 1) * sums + others * (size - (above + 1) * sums))
    return np.where(size == 1, (before + 1) / (above + 1), gains)


def _ranks(hits: FirstHits, ties: Ties) -> np.ndarray:
    share = {"pessimistic": 1.0, "optimistic": 0.0, "average": 1 / (hits.right + 1)}[ties]
    return 1 + hits.higher + share * hits.same


def _measurement(passport: Passport, hits: FirstHits, values: np.ndarray, formula: Formula) -> Measurement:
    return Measurement(passport, formula, hits.ids, np.stack((values, np.ones_like(values)), 1), hits.groups)


def _passport(metric: str, settings: dict[str, Setting], ties: Ties) -> Passport:
    if ties not in get_args(Ties):
        raise EvaluationError(f"there is no rule {ties!r} for equal scores: choose one of {', '.join(get_args(Ties))}")
    return Passport(metric, settings | {"ties": ties})


def _settings(scores: Scores, ignored: Right | None) -> dict[str, Setting]:
    return {**scores.settings, "items": scores.shape[1], "ignored": "none" if ignored is None else "given"}


def _names(queries: int, ids: Sequence[str] | None) -> tuple[str, ...]:
    if ids is None:
        return tuple(map(str, range(queries)))
    if len(ids) != queries:
        raise EvaluationError(f"{queries} queries need as many ids, not {len(ids)}")
    return tuple(ids)


def _tuple(groups: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if groups is None else tuple(groups)


def _join(parts: Sequence[Levels]) -> Levels:
    none = np.zeros(0, np.int64)
    return Levels(*(np.concatenate(arrays) for arrays in zip(Levels(none, none, none, none), *parts, strict=True)))
