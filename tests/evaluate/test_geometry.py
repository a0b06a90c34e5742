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
from tectum.evaluate.similarity import Distance, linear_cka, minibatch_cka, rdm, rsa


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


# Two models


@pytest.mark.parametrize("unbiased", [False, True])
def test_cka_is_invariant_to_rotation_scale_and_shift(unbiased: bool) -> None:
    x, y = random(40, 6), random(40, 9, seed=1)
    value = linear_cka(x, y, unbiased=unbiased).value
    for other in (x @ turn(6), -3 * x, x + 5, x @ turn(6) * 0.1 - 2):
        assert linear_cka(other, y, unbiased=unbiased).value == pytest.approx(value, rel=1e-9)
        assert linear_cka(x, other, unbiased=unbiased).value == pytest.approx(1, rel=1e-9)
    order = np.random.default_rng(0).permutation(40)
    assert linear_cka(x[order], y[order], unbiased=unbiased).value == pytest.approx(value, rel=1e-9)
    assert linear_cka(y, x, unbiased=unbiased).value == pytest.approx(value, rel=1e-12)


def test_cka_is_its_definition_by_kernels() -> None:
    x, y = random(25, 6), random(25, 4, seed=1) + random(25, 4)
    n, eye = 25, np.eye(25)
    centre = eye - 1 / n

    def biased(k: np.ndarray, m: np.ndarray) -> float:
        return float(np.trace(k @ centre @ m @ centre))

    def song(k: np.ndarray, m: np.ndarray) -> float:
        k, m = k * (1 - eye), m * (1 - eye)
        one = np.ones(n)
        return float(np.trace(k @ m) + one @ k @ one * (one @ m @ one) / (n - 1) / (n - 2) - 2 / (n - 2) * one @ k @ m @ one)

    for hsic, unbiased in ((biased, False), (song, True)):
        expected = hsic(x @ x.T, y @ y.T) / math.sqrt(hsic(x @ x.T, x @ x.T) * hsic(y @ y.T, y @ y.T))
        assert linear_cka(x, y, unbiased=unbiased).value == pytest.approx(expected, rel=1e-9)


def test_unrelated_wide_features_look_alike_only_to_the_biased_estimate() -> None:
    x, y = random(30, 1000), random(30, 1000, seed=1)
    assert linear_cka(x, y).value > 0.9
    assert abs(linear_cka(x, y, unbiased=True).value) < 0.1


def test_minibatch_cka_is_the_whole_for_one_batch_and_near_it_for_many() -> None:
    x = random(1024, 8)
    y = x @ random(8, 8, seed=2) + 0.5 * random(1024, 8, seed=1)
    whole = linear_cka(x, y, unbiased=True).value
    assert minibatch_cka(x, y, batch_size=1024).score().value == pytest.approx(whole)
    ids = [f"{i:04}" for i in range(1024)]
    many = minibatch_cka(x, y, batch_size=64, ids=ids)
    assert many.score().value == pytest.approx(whole, abs=0.02) and many.score().n == 16
    low, high = many.score().interval or (0, 0)
    assert low < whole < high
    parts = [minibatch_cka(x[r], y[r], batch_size=64, ids=ids[r]) for r in (slice(640, 1024), slice(0, 640))]
    assert merge(parts).score() == many.score()


@pytest.mark.parametrize("distance", ["correlation", "cosine", "euclidean"])
def test_dissimilarities_are_scipys(distance: Distance) -> None:
    x = random(20, 7)
    expected = scipy_distance.squareform(scipy_distance.pdist(x, distance))
    torch.testing.assert_close(rdm(x, distance), torch.from_numpy(expected))


def test_rsa_is_scipys_correlation_of_the_distances() -> None:
    x, y = random(30, 7), np.round(random(30, 3, seed=1))  # rounded: many equal distances
    y[y.std(1) == 0] += [0, 1, 2]
    for distance in ("cosine", "euclidean"):
        a, b = (scipy_distance.pdist(z + 5, distance).round(12) for z in (x, y))
        found = [rsa(x + 5, y + 5, distance=distance, correlation=name, resamples=0).value for name in ("spearman", "pearson")]  # type: ignore[arg-type]
        assert found == pytest.approx([stats.spearmanr(a, b).statistic, stats.pearsonr(a, b).statistic], abs=1e-9)


def test_rsa_interval_is_that_of_resampled_items() -> None:
    x = random(40, 5)
    y = x @ random(5, 5, seed=2) + random(40, 5, seed=1)
    score = rsa(x, y, distance="euclidean", correlation="pearson", resamples=2000)
    generator, values = np.random.default_rng(1), []
    a, b = (scipy_distance.squareform(scipy_distance.pdist(z)) for z in (x, y))
    for _ in range(1000):
        drawn = generator.integers(0, 40, 40)
        pairs = drawn[:, None] < drawn[None]
        values.append(np.corrcoef(a[np.ix_(drawn, drawn)][pairs], b[np.ix_(drawn, drawn)][pairs])[0, 1])
    assert score.interval == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=0.03)
    assert rsa(x, x @ turn(5), distance="cosine", resamples=0).value == pytest.approx(1)


# Ends


def test_nothing_and_one_item_are_defined() -> None:
    none, one = np.zeros((0, 3)), np.ones((1, 3))
    assert math.isnan(modality_gap(none, none).score().value) and math.isnan(modality_gap(one, none).score().value)
    assert math.isnan(alignment(none, none).score().value) and alignment(one, one).score().interval is None
    assert math.isnan(uniformity(none).value) and math.isnan(uniformity(one).value)
    assert math.isnan(effective_rank(none).value) and effective_rank(one).value == 1
    assert math.isnan(hubness(Cosines(none, np.eye(3)), 1).score().value)
    assert math.isnan(linear_cka(none, none).value) and math.isnan(linear_cka(one, one).value)
    assert math.isnan(linear_cka(np.ones((9, 2)), random(9, 2)).value)
    assert math.isnan(rsa(one, one, distance="euclidean").value)
    assert math.isnan(rsa(np.ones((5, 1)), random(5, 2), distance="euclidean").value)
    assert math.isnan(minibatch_cka(random(3, 2), random(3, 2)).score().value)
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
        (lambda: linear_cka(a, b), "4 and 5 rows are not the same items"),
        (lambda: linear_cka(a, spoiled), "second model's features have a row 2 that is not finite"),
        (lambda: minibatch_cka(a, a, batch_size=3), "batches of 3 are too small"),
        (lambda: rsa(a, a, distance="l1"), "no distance 'l1'"),  # type: ignore[arg-type]
        (lambda: rsa(a, a, correlation="kendall"), "no correlation 'kendall'"),  # type: ignore[arg-type]
        (lambda: rdm(np.ones((2, 3))), "row 0 is constant"),
    ):
        with pytest.raises(EvaluationError, match=message):
            call()
