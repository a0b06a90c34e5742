"""Geometry: closed forms, invariances, scipy and brute force as oracles."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial import distance as scipy_distance

from tectum.errors import EvaluationError
from tectum.evaluate.cosines import Cosines, Given
from tectum.evaluate.geometry import (
    alignment,
    analogies,
    analogy_vectors,
    effective_rank,
    hubness,
    modality_gap,
    nearest,
    triangle,
    uniformity,
)
from tectum.evaluate.measurement import merge


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def turn(d: int, seed: int = 0) -> np.ndarray:
    return np.asarray(np.linalg.qr(random(d, d, seed=seed))[0])


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


# The gap, alignment, uniformity


def test_the_gap_is_the_distance_of_the_centroids_of_unit_vectors() -> None:
    a, b = random(40, 6) + 1, random(70, 6, seed=1)
    expected = np.linalg.norm(unit(a).mean(0) - unit(b).mean(0))
    gap = modality_gap(a, b)
    assert gap.score(resamples=0).value == pytest.approx(expected, rel=1e-12)
    assert modality_gap(5 * b, a @ np.eye(6)).score(resamples=0).value == pytest.approx(expected, rel=1e-12)
    assert modality_gap(a @ turn(6), b @ turn(6)).score(resamples=0).value == pytest.approx(expected, rel=1e-12)
    assert modality_gap(a, a).score(resamples=0).value == pytest.approx(0, abs=1e-15)
    low, high = gap.score(resamples=200).interval or (0, 0)
    assert low < high < 2


def test_pairs_of_the_gap_are_drawn_together_and_shards_merge() -> None:
    x = random(30, 4)
    assert modality_gap(x, x).score().interval == pytest.approx((0, 0), abs=1e-12)
    apart = modality_gap(x, x, b_ids=[f"other {i}" for i in range(30)]).score().interval
    assert apart is not None and apart[1] > 0.1
    ids = [f"{i:02}" for i in range(30)]
    whole = modality_gap(x, x + 1, a_ids=ids, b_ids=ids)
    parts = [modality_gap(x[r], x[r] + 1, a_ids=ids[r], b_ids=ids[r]) for r in (slice(9, 30), slice(0, 9))]
    assert merge(parts).score() == whole.score()


def test_alignment_of_angles_and_powers() -> None:
    angle = np.radians([0, 60, 180])
    b = np.stack((np.cos(angle), np.sin(angle)), 1)
    a = np.repeat([[2.0, 0.0]], 3, 0)
    assert list(alignment(a, b).values().values()) == pytest.approx([0, 1, 4], abs=1e-12)
    assert list(alignment(a, b, power=1).values().values()) == pytest.approx([0, 1, 2], abs=1e-12)
    assert alignment(a, a).score().value == 0


def test_uniformity_of_known_points_and_of_the_whole_sphere() -> None:
    cross = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]], float)
    # Of the three others two are at squared distance 2, one at 4.
    assert uniformity(cross, t=1).value == pytest.approx(math.log((2 * math.exp(-2) + math.exp(-4)) / 3))
    assert uniformity(np.ones((5, 3))).value == pytest.approx(0, abs=1e-12)
    # On the circle the mean of exp(2t(cos θ − 1)) is I₀(2t) e^(−2t).
    circle = random(3000, 2)
    score = uniformity(circle)
    expected = math.log(float(torch.special.i0e(torch.tensor(4.0, dtype=torch.float64))))
    assert score.value == pytest.approx(expected, abs=0.02)
    assert score.interval is not None and score.interval[0] < expected < score.interval[1]


def test_uniformity_by_tiles_is_scipys_and_its_interval_covers() -> None:
    x = random(1500, 5)
    pairs = scipy_distance.pdist(unit(x), "sqeuclidean")
    assert uniformity(x).value == pytest.approx(math.log(np.exp(-2 * pairs).mean()), rel=1e-12)
    truth = uniformity(random(4000, 3, seed=99) + 0.5).value
    intervals = [uniformity(random(60, 3, seed=seed) + 0.5).interval for seed in range(200)]
    covered = np.mean([i is not None and i[0] < truth < i[1] for i in intervals])
    assert 0.88 < covered < 0.995


# Effective rank


def test_effective_rank_counts_even_directions() -> None:
    assert effective_rank(np.repeat(random(1, 9), 50, 0)).value == pytest.approx(1, abs=1e-9)
    for d in (2, 7):
        assert effective_rank(np.concatenate((np.eye(d), -np.eye(d)))).value == pytest.approx(d, rel=1e-12)
        assert effective_rank(np.concatenate((np.eye(d), -np.eye(d))) @ turn(d) * 7).value == pytest.approx(d, rel=1e-12)
    # Singular values 3 and 1: exp(entropy of ¾ and ¼).
    assert effective_rank(np.diag([3.0, 1.0])).value == pytest.approx(math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25)))
    assert effective_rank(random(20_000, 5)).value == pytest.approx(5, abs=0.001)
    shifted = np.eye(4) + 100
    assert effective_rank(shifted).value < 1.1 and effective_rank(shifted, centered=True).value == pytest.approx(3)


@given(n=st.integers(1, 60), d=st.integers(1, 12), seed=st.integers(0, 99))
def test_the_streamed_triangle_has_the_singular_values_of_the_whole(n: int, d: int, seed: int) -> None:
    x = torch.from_numpy(random(n, d, seed=seed))
    torch.testing.assert_close(triangle(x).T @ triangle(x), x.T @ x)
    shares = np.linalg.svd(x.numpy(), compute_uv=False)
    assert effective_rank(x).value == pytest.approx(math.exp(stats.entropy(shares)))


# Neighbours, hubs, analogies


def test_nearest_is_sorting_with_ties_by_row_in_many_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tectum.evaluate.geometry._ROWS", 16)
    queries, items = random(50, 5), random(200, 5, seed=1)[np.random.default_rng(2).integers(0, 200, 300)]
    scores = Cosines(queries, items)
    exact = scores.exact_tile(slice(0, 50), slice(0, 300)).numpy()
    rows, values = nearest(scores, 7)
    assert (rows == (-exact).argsort(1, kind="stable")[:, :7]).all()
    assert (values == np.take_along_axis(exact, rows, 1)).all()
    own = nearest(Cosines(items, items), 1, ignored=np.arange(300))[0][:, 0]
    assert (own != np.arange(300)).all()


def test_hubness_is_the_skewness_of_how_often_an_item_is_near() -> None:
    queries, items = random(400, 12), random(90, 12, seed=1)
    ids = [f"{i:03}" for i in range(400)]
    measured = hubness(Cosines(queries, items), 5, ids=ids)
    counts = np.bincount((-(unit(queries) @ unit(items).T)).argsort(1)[:, :5].ravel(), minlength=90)
    assert measured.score(resamples=0).value == pytest.approx(stats.skew(counts))
    parts = [hubness(Cosines(queries[r], items), 5, ids=ids[r]) for r in (slice(100, 400), slice(0, 100))]
    assert merge(parts).score(resamples=50) == measured.score(resamples=50)
    order = np.random.default_rng(3).permutation(90)
    assert hubness(Cosines(queries, items[order]), 5).score(resamples=0).value == pytest.approx(stats.skew(counts))
    assert hubness(Cosines(np.eye(6), np.eye(6)), 1).score(resamples=0).value == 0


def test_hubs_appear_with_dimension() -> None:
    """The theorem that gave hubness its name (Radovanović et al. 2010, §4)."""
    low, high = (random(600, d) for d in (3, 100))
    skews = [hubness(Cosines(x, x), 10, ignored=np.arange(600)).score(resamples=0).value for x in (low, high)]
    assert skews[1] > 2 * skews[0]


def test_analogies_of_sums_are_solved_and_the_words_asked_with_are_no_answers() -> None:
    parts = random(9, 64)
    words = np.stack([parts[i] + parts[3 + j] for i in range(3) for j in range(6)])
    # Row 6i + j is the sum of the i-th of three parts and the j-th of six: (i, j) − (i, m) + (k, m) is (k, j).
    pairs = [(i, k, j, m) for i, k in permutations(range(3), 2) for j, m in permutations(range(6), 2)]
    questions = [(6 * i + j, 6 * i + m, 6 * k + m, 6 * k + j) for i, k, j, m in pairs]
    assert analogies(words, questions).score(resamples=0).value > 0.95
    # The plain nearest neighbour of a − b + c is often c; it may not be the answer.
    line = np.array([[1, 0.0, 0], [1, 0.02, 0], [0, 1, 0.0], [0, 1, 0.5]])
    assert analogies(line, [(0, 1, 2, 3)]).score().value == 1
    torch.testing.assert_close(analogy_vectors([[2.0, 0.0]], [[0.0, 1.0]], [[0.0, 3.0]]), torch.tensor([[1.0, 0.0]]).double())


# Ends


def test_nothing_and_one_item_are_defined() -> None:
    none, one = np.zeros((0, 3)), np.ones((1, 3))
    assert math.isnan(modality_gap(none, none).score().value) and math.isnan(modality_gap(one, none).score().value)
    assert math.isnan(alignment(none, none).score().value) and alignment(one, one).score().interval is None
    assert math.isnan(uniformity(none).value) and math.isnan(uniformity(one).value)
    assert math.isnan(effective_rank(none).value) and effective_rank(one).value == 1
    assert math.isnan(hubness(Cosines(none, np.eye(3)), 1).score().value)
    assert math.isnan(analogies(np.eye(4), []).score().value)


def test_what_does_not_fit_is_told() -> None:
    a, b = random(4, 3), random(5, 3)
    spoiled = a.copy()
    spoiled[2, 1] = math.nan
    for call, message in (
        (lambda: modality_gap(a, random(4, 2)), "vectors of length 3 and 2 are not in one space"),
        (lambda: modality_gap(a[0], a), r"first vectors have the shape \(3,\)"),
        (lambda: modality_gap(spoiled, a), "first vector 2 is zero or not finite"),
        (lambda: alignment(a, b), "4 and 5 vectors are no pairs"),
        (lambda: uniformity(spoiled), "the vector 2 is zero or not finite"),
        (lambda: effective_rank(spoiled), "not finite"),
        (lambda: effective_rank(np.zeros((3, 3))), "all vectors are zero"),
        (lambda: nearest(Cosines(a, b), 6), "no 6 neighbours among 5 items"),
        (lambda: nearest(Cosines(b, b), 5, ignored=np.arange(5)), "no 5 neighbours among 4 items"),
        (lambda: nearest(Given(a), 1, ignored=[[9]] * 4), "ignored items do not fit"),
        (lambda: analogies(a, [(0, 1, 2, 4)]), "rows from 0 to 3"),
        (lambda: analogies(a, [(0, 1, 2, 2)]), "both right and ignored"),
        (lambda: analogy_vectors(a, a, b), "give one shape"),
    ):
        with pytest.raises(EvaluationError, match=message):
            call()
