"""Two models on the same items: CKA and RSA by definition, by scipy, and by what must not change them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial import distance as scipy_distance

from tectum.errors import EvaluationError
from tectum.evaluate.measurement import merge
from tectum.evaluate.similarity import Distance, linear_cka, minibatch_cka, rdm, rsa


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def turn(d: int, seed: int = 0) -> np.ndarray:
    return np.asarray(np.linalg.qr(random(d, d, seed=seed))[0])


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


def test_nothing_and_one_item_are_defined() -> None:
    none, one = np.zeros((0, 3)), np.ones((1, 3))
    assert math.isnan(linear_cka(none, none).value) and math.isnan(linear_cka(one, one).value)
    assert math.isnan(linear_cka(np.ones((9, 2)), random(9, 2)).value)
    assert math.isnan(rsa(one, one, distance="euclidean").value)
    assert math.isnan(rsa(np.ones((5, 1)), random(5, 2), distance="euclidean").value)
    assert math.isnan(minibatch_cka(random(3, 2), random(3, 2)).score().value)


def test_what_does_not_fit_is_told() -> None:
    a, b = random(4, 3), random(5, 3)
    spoiled = a.copy()
    spoiled[2, 1] = math.nan
    for call, message in (
        (lambda: linear_cka(a, b), "4 and 5 rows are not the same items"),
        (lambda: linear_cka(a, spoiled), "second model's features have a row 2 that is not finite"),
        (lambda: minibatch_cka(a, a, batch_size=3), "batches of 3 are too small"),
        (lambda: rsa(a, a, distance="l1"), "no distance 'l1'"),  # type: ignore[arg-type]
        (lambda: rsa(a, a, correlation="kendall"), "no correlation 'kendall'"),  # type: ignore[arg-type]
        (lambda: rdm(np.ones((2, 3))), "row 0 is constant"),
    ):
        with pytest.raises(EvaluationError, match=message):
            call()
