"""The geometry of a space: the gap between modalities, alignment and uniformity, effective rank, neighbours, hubs, analogies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import torch
from torch import Tensor

from tectum.errors import EvaluationError
from tectum.evaluate.cosines import Cosines, Scores, as_matrix, unit_vectors
from tectum.evaluate.measurement import Measurement
from tectum.evaluate.ranking import Right
from tectum.evaluate.retrieval import first_hits, recall
from tectum.evaluate.score import Passport, Score

_ROWS = 1024


def modality_gap(a: object, b: object, *, a_ids: Sequence[str] | None = None, b_ids: Sequence[str] | None = None) -> Measurement:
    """The distance of the centroids of two modalities' unit vectors, ‖mean a − mean b‖ (Liang et al. 2022, arXiv:2203.02053).

    Args:
        a: vectors [n, d].
        b: vectors [m, d].
        a_ids: of the items of a; their rows when left out.
        b_ids: of the items of b. Items of one id are a pair and are drawn together in a resample.

    Raises:
        EvaluationError: if the shapes do not fit, or a vector is zero or not finite.

    >>> modality_gap([[1.0, 0.0], [2.0, 0.0]], [[0.0, 3.0]]).score(resamples=0).value  # √2
    1.4142135623730951
    """
    first, second = unit_vectors(a, "first"), unit_vectors(b, "second")
    _check_lengths(first, second)
    sides = torch.cat((torch.zeros(len(first)), torch.ones(len(second)))).double()
    statistics = torch.cat((sides[:, None], torch.cat((first, second))), 1).numpy()
    names = _names(len(first), a_ids), _names(len(second), b_ids)
    ids = tuple(f"{side}:{name}" for side, side_names in zip("ab", names, strict=True) for name in side_names)
    return Measurement(Passport("modality-gap"), _centroid_distance, ids, statistics, names[0] + names[1])


def _centroid_distance(weights: np.ndarray, statistics: np.ndarray) -> np.ndarray:
    in_b, vectors = statistics[:, 0], statistics[:, 1:]
    means = []
    for side in (1 - in_b, in_b):
        weight = weights * side
        total = weight.sum(1, keepdims=True)
        means.append(np.divide(weight @ vectors, total, out=np.full((len(weights), vectors.shape[1]), math.nan), where=total > 0))
    return np.linalg.norm(means[0] - means[1], axis=1)


def alignment(a: object, b: object, *, power: float = 2.0, ids: Sequence[str] | None = None) -> Measurement:
    """The mean of ‖x − y‖ᵖ over pairs of unit vectors, row with row (Wang & Isola 2020, arXiv:2005.10242, §4.1); 0 is best.

    Raises:
        EvaluationError: if the shapes differ, or a vector is zero or not finite.

    >>> alignment([[1.0, 0.0]], [[0.0, 5.0]]).score().value
    2.0000000000000004
    """
    first, second = unit_vectors(a, "first"), unit_vectors(b, "second")
    _check_lengths(first, second)
    if len(first) != len(second):
        raise EvaluationError(f"{len(first)} and {len(second)} vectors are no pairs: give row for row what belongs together")
    distances = (first - second).norm(dim=1) ** power
    return Measurement.mean(Passport("alignment", {"power": power}), _names(len(first), ids), distances.numpy())


def uniformity(vectors: object, *, t: float = 2.0, level: float = 0.95) -> Score:
    """log mean exp(−t ‖x − y‖²) over all pairs of different items (Wang & Isola 2020, §4.1); lower is more even.

    The interval is the jackknife's: a resample would hold copies of an item, at distance 0. Time grows with n², memory with n.

    Raises:
        EvaluationError: if a vector is zero or not finite.

    >>> uniformity([[1.0, 0.0], [-1.0, 0.0]]).value  # −t · 2²
    -8.0
    """
    unit = unit_vectors(vectors, "the")
    n = len(unit)
    passport = Passport("uniformity", {"t": t})
    if n < 2:
        return Score(math.nan, None, n, passport)
    sums = torch.zeros(n, dtype=torch.float64)
    for at in range(0, n, _ROWS):
        part = unit[at : at + _ROWS]
        for to in range(0, n, _ROWS):
            kernel = (2 * t * (part @ unit[to : to + _ROWS].T - 1)).exp_()
            if to == at:
                kernel.fill_diagonal_(0)
            sums[at : at + _ROWS] += kernel.sum(1)
    total = sums.sum()
    value = math.log(total / (n * (n - 1)))
    interval = None
    if n > 2:
        without = torch.log((total - 2 * sums) / ((n - 1) * (n - 2)))
        error = math.sqrt((n - 1) / n * float(((without - without.mean()) ** 2).sum()))
        reach = NormalDist().inv_cdf((1 + level) / 2) * error
        interval = (value - reach, value + reach) if math.isfinite(reach) else None
    return Score(value, interval, n, passport)


def effective_rank(vectors: object, *, centered: bool = False) -> Score:
    """exp of the entropy of the normalised singular values of the matrix [n, d] (Roy & Vetterli, EUSIPCO 2007).

    1 where all vectors are parallel, d where they spread evenly. They are taken as they are, or about their mean if `centered`.
    No interval: resamples repeat items and so lose rank.

    Raises:
        EvaluationError: if a number is not finite, or all are zero.

    >>> round(effective_rank([[3.0, 0.0], [0.0, 3.0]]).value, 9)
    2.0
    """
    matrix = as_matrix(vectors, "vectors").double()
    passport = Passport("effective-rank", {"centered": centered})
    if not len(matrix):
        return Score(math.nan, None, 0, passport)
    if not torch.isfinite(matrix).all():
        raise EvaluationError("vectors hold numbers that are not finite: leave those rows out")
    if centered:
        matrix = matrix - matrix.mean(0)
    values = torch.linalg.svdvals(triangle(matrix))
    if not values.sum() > 0:
        raise EvaluationError("all vectors are zero, or the same: their effective rank is not defined")
    shares = values / values.sum()
    return Score(float(torch.special.entr(shares).sum().exp()), None, len(matrix), passport)


def triangle(matrix: Tensor) -> Tensor:
    """The factor R [≤ d, d] of matrix = QR, made some rows at a time: of the same singular values and right vectors."""
    done = matrix[:0]
    for at in range(0, len(matrix), max(_ROWS, matrix.shape[1])):
        done = torch.linalg.qr(torch.cat((done, matrix[at : at + max(_ROWS, matrix.shape[1])])), mode="r").R
    return done


def nearest(scores: Scores, k: int, *, ignored: Right | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The k items of highest score for each query: rows [n, k], best first, and scores [n, k]; equal scores by row.

    Args:
        scores: `Cosines(queries, items)`, or `Given(matrix)`; never more than a tile of them is held.
        k: how many.
        ignored: for each query the rows of items to leave out, such as the query itself.

    Raises:
        EvaluationError: if a query has fewer than k items left.

    >>> nearest(Cosines([[1, 0]], [[0, 1], [2, 1], [3, 0]]), 2)[0]
    array([[2, 1]])
    """
    n, m = scores.shape
    left_out = [] if ignored is None else [np.unique(np.atleast_1d(np.asarray(one, np.int64))) for one in ignored]
    if ignored is not None and (len(left_out) != n or any(len(out) and not 0 <= out[0] <= out[-1] < m for out in left_out)):
        raise EvaluationError(f"ignored items do not fit: give for each of {n} queries rows from 0 to {m - 1}")
    fewest = m - max(map(len, left_out), default=0)
    if not 1 <= k <= fewest:
        raise EvaluationError(f"there are no {k} neighbours among {fewest} items: choose k from 1 to {fewest}")
    rows, values = np.empty((n, k), np.int64), np.empty((n, k))
    for at in range(0, n, _ROWS):
        queries = slice(at, min(at + _ROWS, n))
        hidden = [(query, row) for query, out in enumerate(left_out[queries]) for row in out]
        rows[queries], values[queries] = _nearest(scores, queries, k, np.array(hidden, np.int64).reshape(-1, 2))
    return rows, values


def _nearest(scores: Scores, queries: slice, k: int, hidden: np.ndarray) -> tuple[Tensor, Tensor]:
    count = queries.stop - queries.start
    best = torch.full((count, k), -math.inf, dtype=torch.float64)
    rows = torch.full((count, k), -1)
    for at in range(0, scores.shape[1], _ROWS):
        items = slice(at, min(at + _ROWS, scores.shape[1]))
        tile = scores.exact_tile(queries, items)
        query, row = hidden[(hidden[:, 1] >= at) & (hidden[:, 1] < items.stop)].T
        tile[query, row - at] = -math.inf
        # Earlier rows win ties: a later one must score more than the worst that is kept.
        better = (tile.amax(1) > best[:, -1]).nonzero()[:, 0]
        both = torch.cat((best[better], tile[better]), 1)
        both_rows = torch.cat((rows[better], torch.arange(at, items.stop).expand(len(better), -1)), 1)
        order = both.sort(dim=1, descending=True, stable=True).indices[:, :k]
        best[better], rows[better] = both.gather(1, order), both_rows.gather(1, order)
    return rows, best


def hubness(scores: Scores, k: int = 10, *, ids: Sequence[str] | None = None, ignored: Right | None = None) -> Measurement:
    """Skewness of the k-occurrence: of how often each item is among the k nearest of a query (Radovanović et al., JMLR 2010).

    0 where all items occur as often, large where a few hubs are near to everything. Shards of the queries merge exactly.
    Args and Raises as `nearest`; `ids` are those of the queries.

    >>> round(hubness(Cosines([[1, 0], [2, 1], [3, 1]], [[1, 0], [0, 1], [-1, 0]]), 1).score(resamples=0).value, 6)
    0.707107
    """
    rows, _ = nearest(scores, k, ignored=ignored)
    items = scores.shape[1]

    def skewness(weights: np.ndarray, statistics: np.ndarray) -> np.ndarray:
        found = statistics.astype(np.int64).ravel()
        return np.array([_skewness(np.bincount(found, np.repeat(weight, k), items)) for weight in weights])

    passport = Passport("hubness", {**scores.settings, "k": k, "items": items, "ignored": "none" if ignored is None else "given"})
    return Measurement(passport, skewness, _names(len(rows), ids), rows.astype(np.float64))


def _skewness(counts: np.ndarray) -> float:
    if not counts.any():
        return math.nan
    deviations = counts - counts.mean()
    spread = (deviations**2).mean()
    return float((deviations**3).mean() / spread**1.5) if spread > 0 else 0.0


def analogy_vectors(a: object, b: object, c: object) -> Tensor:
    """Where "a is to b as ? is to c" points: a − b + c of unit vectors [n, d], for example a picture, its word, and another word.

    Mikolov et al. 2013 (NAACL), 3CosAdd.

    Raises:
        EvaluationError: if the shapes differ, or a vector is zero or not finite.
    """
    parts = [unit_vectors(one, name) for one, name in ((a, "first"), (b, "second"), (c, "third"))]
    if len({part.shape for part in parts}) != 1:
        raise EvaluationError(f"a, b and c have the shapes {', '.join(str(tuple(part.shape)) for part in parts)}: give one shape")
    return parts[0] - parts[1] + parts[2]


def analogies(
    vectors: object, questions: Sequence[tuple[int, int, int, int]], k: int = 1, *, ids: Sequence[str] | None = None
) -> Measurement:
    """The share of questions (a, b, c, d), rows of the vectors, where d is among the k nearest to a − b + c.

    a, b and c themselves are no answers (Mikolov et al. 2013).

    Raises:
        EvaluationError: if a row is not there, d is one of a, b and c, or a vector is zero or not finite.

    >>> words = [[2, 0, 1], [1, 0, 1], [1, 1, 1], [2, 1, 1], [0, 1, 0]]  # king, man, woman, queen, and something else
    >>> analogies(words, [(0, 1, 2, 3)]).score().value
    1.0
    """
    unit = unit_vectors(vectors, "the")
    rows = torch.tensor(questions, dtype=torch.int64).reshape(-1, 4)
    if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < len(unit):
        raise EvaluationError(f"a question names a row that is not there: give rows from 0 to {len(unit) - 1}")
    asked = analogy_vectors(unit[rows[:, 0]], unit[rows[:, 1]], unit[rows[:, 2]])
    return recall(first_hits(Cosines(asked, unit), rows[:, 3].numpy(), ids=ids, ignored=rows[:, :3].numpy()), k)


def _names(count: int, ids: Sequence[str] | None) -> tuple[str, ...]:
    return tuple(map(str, range(count))) if ids is None else tuple(ids)


def _check_lengths(a: Tensor, b: Tensor) -> None:
    if a.shape[1] != b.shape[1]:
        raise EvaluationError(f"vectors of length {a.shape[1]} and {b.shape[1]} are not in one space: embed both with one model")
