"""Counting how many wrong items score higher than a right one, over any number of queries and items, exactly.

The rank of a right item needs no sorting: it is one more than the number of items above it. So scores are made a tile at a time,
compared with the scores of the right items, and forgotten. A tile is a float32 matrix product, and its rounding decides nothing:
what lies within the error bound of a threshold is scored again exactly. Neither the order of the items, nor the cut into shards,
nor the machine changes a rank, and equal vectors tie.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tectum.errors import EvaluationError
from tectum.evaluate.cosines import Scores

_QUERIES, _ITEMS = 1024, 1020  # A tile of 4 MiB is large for the product, and still in the cache when it is compared.
_COMPARED = 8  # Up to so many thresholds a query, comparing with each is cheaper than searching among them.

Right = Sequence[int] | Sequence[Sequence[int]] | Sequence[np.ndarray] | np.ndarray
"""For each query the rows of the items that are right: one, or several."""


class Levels(NamedTuple):
    """The distinct scores of right items, query after query and best first; int64 arrays [l]."""

    query: np.ndarray
    right: np.ndarray
    """How many right items have this score."""
    higher: np.ndarray
    """How many wrong items score higher."""
    same: np.ndarray
    """How many wrong items have the same score."""


def levels(
    scores: Scores, right: Right, *, names: Sequence[str], ignored: Right | None = None, only_best: bool = False
) -> Iterator[Levels]:
    """Where the right items of each query stand among the wrong ones, for some queries at a time.

    Args:
        scores: of n queries with m items.
        right: for each query the rows of its right items.
        names: of the queries, for what there is to complain of.
        ignored: for each query the rows of items that are neither right nor wrong, such as the query itself.
        only_best: leave out all but the best right items of each query.

    Raises:
        EvaluationError: if a query has no right item, one that is not there, or one that is also ignored.
    """
    n, _ = scores.shape
    for name, given in (("right", right), ("ignored", ignored)):
        if given is not None and len(given) != n:
            raise EvaluationError(f"{n} queries need {n} sets of {name} items, not {len(given)}")
    most = right[:1].size if isinstance(right, np.ndarray) else max((np.asarray(one).size for one in right), default=1)
    block = min(_QUERIES, max(64, 2**22 // max(1, most)))
    for at in range(0, n, block):
        rows = slice(at, min(at + block, n))
        yield _block(scores, rows, names[rows], right[rows], () if ignored is None else ignored[rows], only_best)


def _block(scores: Scores, rows: slice, names: Sequence[str], right: Right, ignored: Right, only_best: bool) -> Levels:
    items = scores.shape[1]
    keys = _keys(right, items, names, "right")
    hidden = np.concatenate((keys, _keys(ignored, items, names, "ignored")))
    query, item = np.divmod(keys, items)
    missing = np.setdiff1d(np.arange(rows.stop - rows.start), query)
    if len(missing):
        raise EvaluationError(f"query {names[missing[0]]!r} has no right item and so no rank: leave it out")
    distinct, times = np.unique(hidden, return_counts=True)
    if times.max(initial=1) > 1:
        at, which = divmod(int(distinct[times.argmax()]), items)
        raise EvaluationError(f"item {which} is both right and ignored for query {names[at]!r}: leave it out of one of them")

    value = scores.exact(torch.from_numpy(query + rows.start), torch.from_numpy(item)).numpy()
    order = np.lexsort((-value, query))
    query, value = query[order], value[order]
    new_query = np.diff(query, prepend=-1) != 0
    first = np.flatnonzero(new_query | (np.diff(value, prepend=np.nan) != 0))
    count, query, value = np.diff(first, append=len(query)), query[first], value[first]
    place = np.arange(len(first)) - np.flatnonzero(new_query[first])[query]
    if only_best:
        best = place == 0
        count, query, value, place = count[best], query[best], value[best], place[best]
    thresholds = torch.full((int(place.max(initial=0)) + 1, rows.stop - rows.start), math.inf, dtype=torch.float64)
    thresholds[place, query] = torch.from_numpy(value)
    higher, same = _count(scores, rows, thresholds, distinct)
    return Levels(query + rows.start, count, higher[place, query].numpy(), same[place, query].numpy())


def _count(scores: Scores, rows: slice, thresholds: Tensor, hidden: np.ndarray) -> tuple[Tensor, Tensor]:
    """How many items that are not hidden are above, and at, each threshold; thresholds and both counts [l, queries]."""
    items = scores.shape[1]
    hidden_query, hidden_item = np.divmod(hidden, items)
    order = np.argsort(hidden_item, kind="stable")
    hidden_query, hidden_item = hidden_query[order], hidden_item[order]
    step = max(_ITEMS, len(thresholds)) if len(thresholds) > _COMPARED else _ITEMS
    buffer, masks = torch.empty(step, thresholds.shape[1]), torch.empty(2, step, thresholds.shape[1], dtype=torch.bool)
    counts, block = torch.zeros(2, *thresholds.shape, dtype=torch.int64), scores.block(rows)
    for at in range(0, items, step):
        columns = slice(at, min(at + step, items))
        here = slice(*np.searchsorted(hidden_item, (columns.start, columns.stop)))
        out = hidden_item[here] - at, hidden_query[here]
        found = None
        if len(thresholds) <= _COMPARED:
            tile = buffer[: columns.stop - at]
            scores.tile(block, columns, tile)
            tile[out] = math.nan
            found = _compare(scores, rows, at, thresholds, tile, masks)
        if found is None:
            exact = scores.exact_tile(rows, columns)
            exact[out[::-1]] = -math.inf
            found = _search(thresholds, exact)
        counts += found
    return counts[0], counts[1]


def _compare(scores: Scores, rows: slice, at: int, thresholds: Tensor, tile: Tensor, masks: Tensor) -> Tensor | None:
    """Counts [2, l, queries] above and at the thresholds; None if very many scores are too near to tell."""
    counts = torch.zeros(2, *thresholds.shape, dtype=torch.int64)
    above, not_below = masks[:, : len(tile)]
    for threshold, higher, same in zip(thresholds, *counts, strict=True):
        low, high = _around(threshold, scores.slack)
        torch.gt(tile, high, out=above)
        torch.ge(tile, low, out=not_below)
        item, query = _differing(above, not_below)
        if len(item) > tile.numel() // 32:
            return None
        exact = scores.exact(query + rows.start, item + at)
        higher += _true(above)
        higher.index_add_(0, query, (exact > threshold[query]).long())
        same.index_add_(0, query, (exact == threshold[query]).long())
    return counts


def _around(threshold: Tensor, slack: float) -> tuple[Tensor, Tensor]:
    """The float32 numbers between which a rounded score may stand for one at the threshold."""
    infinity = torch.tensor(math.inf)
    return torch.nextafter((threshold - slack).float(), -infinity), torch.nextafter((threshold + slack).float(), infinity)


def _true(mask: Tensor) -> Tensor:
    """How often each column of a mask [m, n] is true. Eight bytes are added as one number, 255 rows at most: none overflows."""
    if mask.shape[1] % 8:
        return mask.sum(0)
    parts = [rows.sum(0).view(torch.uint8).long() for rows in mask.view(torch.int64).split(255)]
    return torch.stack(parts).sum(0)


def _differing(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns where two masks differ, which is hardly anywhere: eight bytes are looked at as one number."""
    if a.shape[1] % 8:
        row, column = (a ^ b).nonzero(as_tuple=True)
        return row, column
    words = a.view(torch.int64) ^ b.view(torch.int64)
    row, word = words.nonzero(as_tuple=True)
    which, byte = words[row, word].view(torch.uint8).view(-1, 8).nonzero(as_tuple=True)
    return row[which], 8 * word[which] + byte


def _search(thresholds: Tensor, exact: Tensor) -> Tensor:
    """Counts [2, l, queries] above and at the thresholds, of exact scores [queries, items]; for any number of thresholds."""
    rising = torch.where(thresholds.isinf(), thresholds, -thresholds).T.contiguous()  # Best first is lowest first.
    found = []
    for right in (True, False):
        bucket = torch.searchsorted(rising, -exact, right=right)
        width = rising.shape[1] + 1
        bucket += width * torch.arange(len(bucket))[:, None]
        found.append(torch.bincount(bucket.flatten(), minlength=width * len(bucket)).view(-1, width)[:, :-1].cumsum(1).T)
    above, not_below = found
    return torch.stack((above, not_below - above))


def _keys(sets: Right, items: int, names: Sequence[str], kind: str) -> np.ndarray:
    """Sets of items as sorted numbers query · items + item."""
    if isinstance(sets, np.ndarray):
        flat, sizes = sets.reshape(-1), np.full(len(sets), sets[:1].size)
    else:
        given = [np.zeros(0, np.int64), *(np.asarray(one).reshape(-1) for one in sets)]
        sizes = np.array([len(one) for one in given[1:]], np.int64)
        flat = np.concatenate([one for one in given if len(one)] or given)
    query = np.repeat(np.arange(len(sizes)), sizes)
    wrong = np.flatnonzero((flat < 0) | (flat >= items)) if flat.dtype.kind in "iu" else np.flatnonzero(flat % 1 != 0)
    if len(wrong) or (len(flat) and flat.dtype.kind not in "iu"):
        at = wrong[0] if len(wrong) else 0
        raise EvaluationError(f"query {names[query[at]]!r} has a {kind} item {flat[at]}: give rows from 0 to {items - 1}")
    return np.unique(query * items + flat.astype(np.int64))
