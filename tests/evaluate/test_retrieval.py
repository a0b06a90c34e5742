"""Retrieval against brute force and independent implementations; ranks that no order, shard or rounding can move."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise, permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tectum.errors import EvaluationError, PassportError
from tectum.evaluate.cosines import Cosines, Given
from tectum.evaluate.measurement import Measurement, compare, merge
from tectum.evaluate.ranking import Right
from tectum.evaluate.retrieval import (
    FirstHits,
    Ties,
    average_precision,
    first_hits,
    mean_rank,
    median_rank,
    recall,
    same_group,
    weighted_median,
)

TIES: tuple[Ties, ...] = ("pessimistic", "average", "optimistic")


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def value(measurement: Measurement) -> float:
    return measurement.score(resamples=0).value


def everything(scores: Cosines | Given, right: Right, **more: object) -> list[Measurement]:
    hits = first_hits(scores, right, **more)  # type: ignore[arg-type]
    found = [average_precision(scores, right, ties=ties, **more) for ties in TIES]  # type: ignore[arg-type]
    for ties in TIES:
        found += [recall(hits, 3, ties=ties), mean_rank(hits, ties=ties), median_rank(hits, ties=ties)]
    return found


def by_definition(scores: np.ndarray, right: Sequence[set[int]], k: int, ties: Ties) -> tuple[float, float, float]:
    """R@k, mean rank and mAP of small matrices, over every order of the items that equal scores allow."""
    hits, ranks, precisions = [], [], []
    for row, good in zip(scores, right, strict=True):
        values = []
        for order in permutations(range(len(row))):
            if any(row[a] < row[b] for a, b in pairwise(order)):
                continue
            places = [place for place, item in enumerate(order, 1) if item in good]
            wrong_before = places[0]
            values.append((wrong_before <= k, wrong_before, np.mean([n / place for n, place in enumerate(places, 1)])))
        table = np.array(values, float)
        if ties == "average":
            chosen = table.mean(0)
        else:  # a low rank is good, a high hit rate and precision are
            chosen = (table * [1, -1, 1]).max(0) if ties == "optimistic" else (table * [1, -1, 1]).min(0)
            chosen = chosen * [1, -1, 1]
        hits.append(chosen[0])
        ranks.append(chosen[1])
        precisions.append(chosen[2])
    return float(np.mean(hits)), float(np.mean(ranks)), float(np.mean(precisions))


@given(seed=st.integers(0, 10_000), ties=st.sampled_from(TIES))
def test_every_metric_is_its_definition_over_all_orders_of_equal_scores(seed: int, ties: Ties) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 3, (3, 5)).astype(float)
    right = [set(generator.choice(5, generator.integers(1, 5), replace=False).tolist()) for _ in range(3)]
    rows = [sorted(one) for one in right]
    hits = first_hits(Given(scores), rows)
    expected = by_definition(scores, right, 2, ties)
    precision = average_precision(Given(scores), rows, ties=ties)
    found = value(recall(hits, 2, ties=ties)), value(mean_rank(hits, ties=ties)), value(precision)
    assert found == pytest.approx(expected, abs=1e-12)


def test_ranks_of_vectors_are_those_of_sorting_exact_cosines() -> None:
    queries, items = random(70, 16), random(1300, 16, seed=1)
    right = [np.random.default_rng(i).choice(1300, 1 + i % 4, replace=False) for i in range(70)]
    exact = np.asarray(queries, np.float64) @ np.asarray(items, np.float64).T
    exact /= np.linalg.norm(np.asarray(items, np.float64), axis=1)
    hits = first_hits(Cosines(queries, items), right)
    order = (-exact).argsort(1)
    expected = [1 + min(np.flatnonzero(np.isin(row, good))) for row, good in zip(order, right, strict=True)]
    assert (hits.higher + 1).tolist() == expected and not hits.same.any()
    assert value(mean_rank(hits)) == np.mean(expected) and value(median_rank(hits)) == np.median(expected)
    for k in (1, 5, 10, 2000):
        assert value(recall(hits, k)) == np.mean(np.array(expected) <= k)


def test_constant_vectors_find_nothing_or_chance() -> None:
    """However float32 rounds the equal products of different places in a matrix."""
    queries, items = np.repeat(random(1, 257), 300, 0), np.repeat(random(1, 257), 999, 0)
    hits = first_hits(Cosines(queries, items), np.arange(300))
    for ties, chance in (("pessimistic", 0.0), ("average", 5 / 999), ("optimistic", 1.0)):
        assert value(recall(hits, 5, ties=ties)) == pytest.approx(chance, abs=1e-12)
    assert value(mean_rank(hits)) == 999 and value(median_rank(hits, ties="average")) == 500
    assert value(average_precision(Cosines(queries, items), np.arange(300))) == pytest.approx(1 / 999)


@pytest.mark.parametrize("per_image", [1, 5])
def test_permuting_the_items_changes_nothing_and_shards_merge_bit_for_bit(per_image: int) -> None:
    images, captions = random(90, 24), random(90 * per_image, 24, seed=2)
    captions[: 90 * per_image : 7] = captions[0]  # the same caption for many pictures
    image_of = [f"{i:03}.jpg" for i in range(90)]
    caption_of = [image_of[i // per_image] for i in range(90 * per_image)]
    whole = everything(Cosines(images, captions), same_group(image_of, caption_of), ids=image_of)
    order = np.random.default_rng(5).permutation(len(captions))
    moved = everything(Cosines(images, captions[order]), same_group(image_of, [caption_of[i] for i in order]), ids=image_of)
    shards = [
        everything(Cosines(images[rows], captions), same_group(image_of[rows], caption_of), ids=image_of[rows])
        for rows in (slice(50, 90), slice(0, 1), slice(1, 50))
    ]
    for number, measured in enumerate(whole):
        merged = merge([shard[number] for shard in shards])
        assert moved[number].score(resamples=50) == measured.score(resamples=50) == merged.score(resamples=50)
        assert moved[number].values() == measured.values() == merged.values()


def test_five_captions_a_picture_both_ways_and_resamples_draw_pictures() -> None:
    images = np.eye(6)
    captions = np.repeat(images, 5, 0) + 0.1
    names = list("abcdef")
    of_caption = [name for name in names for _ in range(5)]
    there = first_hits(Cosines(images, captions), same_group(names, of_caption), ids=names)
    ids = [f"{name}{i}" for i, name in enumerate(of_caption)]
    back = first_hits(Cosines(captions, images), same_group(of_caption, names), ids=ids, groups=of_caption)
    assert value(recall(there, 1)) == value(recall(back, 1)) == 1.0
    assert there.right.tolist() == [5] * 6 and back.right.tolist() == [1] * 30
    # If two of six pictures fail with all five captions, the deviation over pictures is √5 times that over captions.
    hits = FirstHits(back.ids, back.groups, np.repeat([0, 0, 0, 0, 1, 1], 5), back.same, back.right, back.settings)
    low, high = recall(hits, 1).score(resamples=4000).interval or (0, 0)
    assert (low, high) == pytest.approx((2 / 6, 1.0), abs=1e-9)


def test_different_k_ties_and_galleries_are_not_compared() -> None:
    hits = first_hits(Cosines(random(9, 4), random(9, 4, seed=1)), np.arange(9))
    smaller = first_hits(Cosines(random(8, 4), random(8, 4, seed=1)), np.arange(8))
    with pytest.raises(PassportError, match="different metrics"):
        compare(recall(hits, 1), recall(hits, 5))
    with pytest.raises(PassportError, match="ties is pessimistic in one and average in the other"):
        compare(recall(hits, 1), recall(hits, 1, ties="average"))
    with pytest.raises(PassportError, match="items is 9 in one and 8 in the other"):
        compare(recall(hits, 1), recall(smaller, 1))


def test_average_precision_is_scikit_learns_and_the_others_are_torchmetrics() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    torchmetrics = pytest.importorskip("torchmetrics.functional.retrieval")
    scores = np.random.default_rng(0).random((40, 333), np.float32)  # torchmetrics takes negative scores for unranked
    right = [np.random.default_rng(i).choice(333, 1 + i % 6, replace=False) for i in range(40)]
    truth = np.zeros(scores.shape, int)
    for row, good in zip(truth, right, strict=True):
        row[good] = 1
    precisions = average_precision(Given(scores), right).values()
    theirs = [sklearn.average_precision_score(t, s) for t, s in zip(truth, scores, strict=True)]
    assert list(precisions.values()) == pytest.approx(theirs)
    tensors = list(zip(torch.from_numpy(scores), torch.from_numpy(truth), strict=True))
    for k in (1, 10, 50):
        rates = [float(torchmetrics.retrieval_hit_rate(s, t, top_k=k)) for s, t in tensors]
        assert value(recall(first_hits(Given(scores), right), k)) == pytest.approx(np.mean(rates))
        one = [float(torchmetrics.retrieval_recall(s, t, top_k=k)) for s, t in tensors[::6]]  # with one right item they agree
        assert value(recall(first_hits(Given(scores[::6]), right[::6]), k)) == pytest.approx(np.mean(one))
    reciprocal = [float(torchmetrics.retrieval_reciprocal_rank(s, t)) for s, t in tensors]
    assert (1 / (first_hits(Given(scores), right).higher + 1)).tolist() == pytest.approx(reciprocal)


@given(counts=st.lists(st.tuples(st.integers(1, 50), st.integers(0, 4)), min_size=1, max_size=9))
def test_the_weighted_median_is_the_median_of_repeated_values(counts: list[tuple[int, int]]) -> None:
    values, weights = np.array(counts, float).T
    expected = np.median(np.repeat(values, weights.astype(int))) if weights.any() else math.nan
    found = weighted_median(weights[None], values[:, None])[0]
    assert found == expected or (math.isnan(found) and math.isnan(expected))


def test_no_queries_and_one_query_are_defined() -> None:
    none = first_hits(Cosines(np.zeros((0, 4)), random(5, 4)), [])
    assert math.isnan(recall(none, 1).score().value) and recall(none, 1).score().n == 0
    assert math.isnan(average_precision(Cosines(np.zeros((0, 4)), random(5, 4)), []).score().value)
    one = first_hits(Cosines(random(1, 4), random(1, 4)), [0])
    assert recall(one, 1).score().value == 1.0 and recall(one, 1).score().interval is None and value(median_rank(one)) == 1


@pytest.mark.parametrize(
    ("queries", "items", "right", "message"),
    [
        (random(4), random(3, 4), [0], r"shape \(4,\): give a matrix"),
        (random(2, 4), random(3, 5), [0, 0], "queries of length 4 have no cosine with items of length 5"),
        (random(2, 4), [[1, 2, 3, math.nan]], [0, 0], "item vector 0 is zero or not finite"),
        (np.zeros((2, 4)), random(3, 4), [0, 0], "query vector 0 is zero"),
        ([["a", "b"]], random(3, 2), [0], "no matrix of numbers"),
        ([[1.0], [1.0, 2.0]], random(3, 2), [0], "no matrix of numbers"),
        (random(2, 4) + 1j, random(3, 4), [0, 0], "are complex"),
        (random(2, 4), random(3, 4), [0], "2 queries need 2 sets of right items, not 1"),
        (random(2, 4), random(3, 4), [[0], []], "query 'b' has no right item"),
        (random(2, 4), random(3, 4), [[0], [3]], "query 'b' has a right item 3: give rows from 0 to 2"),
        (random(2, 4), random(3, 4), [[-1], [0]], "query 'a' has a right item -1"),
        (random(2, 4), random(3, 4), [[0.5], [0]], "query 'a' has a right item 0.5"),
        (random(2, 4), np.zeros((0, 4)), [[0], [0]], "query 'a' has a right item 0"),
    ],
)
def test_what_does_not_fit_is_told(queries: object, items: object, right: Right, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        first_hits(Cosines(queries, items), right, ids=["a", "b"][: len(queries)])  # type: ignore[arg-type]


def test_other_mistakes_are_told() -> None:
    scores = Given(random(2, 3))
    hits = first_hits(scores, [0, 1])
    with pytest.raises(EvaluationError, match="k is 1 or more"):
        recall(hits, 0)
    with pytest.raises(EvaluationError, match="no rule 'random' for equal scores"):
        mean_rank(hits, ties="random")  # type: ignore[arg-type]
    with pytest.raises(EvaluationError, match="2 queries need as many ids, not 1"):
        first_hits(scores, [0, 1], ids=["a"])
    with pytest.raises(EvaluationError, match="item 1 is both right and ignored for query 'b'"):
        first_hits(scores, [[0], [1]], ids=["a", "b"], ignored=[[2], [0, 1]])
    with pytest.raises(EvaluationError, match="scores of query 1 are not finite"):
        Given([[0.0], [math.inf]])
    with pytest.raises(EvaluationError, match="the item 'a' is there twice"):
        recall(first_hits(scores, [0, 1], ids=["a", "a"]), 1)
