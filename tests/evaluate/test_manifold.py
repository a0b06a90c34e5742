"""Precision, recall, density, coverage and nearest neighbours: definitions written out, scikit-learn, and probability theory."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tectum.errors import EvaluationError, PassportError
from tectum.evaluate import manifold as module
from tectum.evaluate.features import Features, merge
from tectum.evaluate.manifold import Manifold, expected_coverage, manifold, nearest, squared_distances
from tectum.evaluate.measurement import compare
from tectum.evaluate.measurement import merge as merge_measurements

NAMES = ("precision", "recall", "density", "coverage")


def cloud(n: int, d: int, seed: int = 0, shift: float = 0.0) -> np.ndarray:
    return shift + np.random.default_rng(seed).normal(size=(n, d))


def values(found: Manifold) -> list[float]:
    return [getattr(found, name).score(resamples=0).value for name in NAMES]


def by_definition(x: np.ndarray, y: np.ndarray, k: int) -> list[float]:
    """Whole distance matrices, as in the papers."""
    across = np.linalg.norm(x[:, None] - y[None], axis=-1)
    x_radius, y_radius = (np.sort(np.linalg.norm(z[:, None] - z[None], axis=-1), 1)[:, k] for z in (x, y))
    in_x, in_y = across <= x_radius[:, None], across <= y_radius[None]
    return [in_x.any(0).mean(), in_y.any(1).mean(), in_x.sum(0).mean() / k, in_x.any(1).mean()]


@settings(max_examples=30)
@given(st.integers(3, 40), st.integers(3, 40), st.integers(1, 4), st.integers(1, 5), st.integers(0, 10**6))
def test_the_definitions_of_the_papers(n: int, m: int, d: int, k: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    x, y = random.normal(size=(n, d)), random.normal(size=(m, d)) * 1.3 + 0.3
    k = min(k, n - 1, m - 1)
    assert values(manifold(Features.of(x), Features.of(y), k=k)) == pytest.approx(by_definition(x, y, k), abs=1e-12)


@settings(max_examples=20)
@given(st.integers(3, 30), st.integers(3, 30), st.integers(1, 3), st.integers(0, 10**6))
def test_whole_numbers_with_ties_and_duplicates_are_exact(n: int, m: int, d: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    x, y = random.integers(0, 3, (n, d)).astype(float), random.integers(0, 3, (m, d)).astype(float)
    assert values(manifold(Features.of(x), Features.of(y), k=2)) == pytest.approx(by_definition(x, y, 2), abs=1e-12)


def test_order_rotation_and_shift_change_nothing() -> None:
    x, y = cloud(60, 5), cloud(50, 5, 1, 0.4)
    random = np.random.default_rng(2)
    turn = np.linalg.qr(random.normal(size=(5, 5)))[0]
    moved = manifold(Features.of(random.permutation(x) @ turn + 3), Features.of(random.permutation(y) @ turn + 3))
    assert values(moved) == pytest.approx(values(manifold(Features.of(x), Features.of(y))), abs=1e-12)


def test_swapping_the_sides_swaps_precision_and_recall() -> None:
    x, y = Features.of(cloud(60, 3)), Features.of(cloud(50, 3, 1, 0.4))
    assert values(manifold(x, y))[:2] == values(manifold(y, x))[1::-1]


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_x_against_itself_is_perfect_also_with_duplicates(offset: float) -> None:
    x = np.repeat(cloud(20, 6), 4, 0) + offset
    found = values(manifold(Features.of(x), Features.of(x), k=3))
    assert (found[0], found[1], found[3]) == (1, 1, 1)
    assert found[2] >= 1


def test_a_far_cloud_has_none_of_it() -> None:
    assert values(manifold(Features.of(cloud(30, 4)), Features.of(cloud(30, 4, 1, 100)))) == [0, 0, 0, 0]


@pytest.mark.parametrize(("n", "m", "k"), [(30, 30, 3), (20, 50, 5), (50, 20, 1)])
def test_coverage_of_one_distribution_is_the_theorem_whatever_it_is(n: int, m: int, k: int) -> None:
    drawn = []
    for seed in range(200):
        random = np.random.default_rng(seed)
        x, y = random.exponential(size=(n, 3)), random.exponential(size=(m, 3))
        drawn.append(values(manifold(Features.of(x), Features.of(y), k=k))[3])
    error = np.std(drawn) / math.sqrt(len(drawn))
    assert np.mean(drawn) == pytest.approx(expected_coverage(n, m, k), abs=4 * error)


def test_expected_coverage_is_a_ratio_of_binomials() -> None:
    assert expected_coverage(30, 20, 4) == pytest.approx(1 - math.comb(29, 4) / math.comb(49, 4))


def test_density_of_one_distribution_is_one_on_average() -> None:
    """A real ball holds k of the n - 1 other real items, so on average k m / n of m generated ones, whatever the distribution."""
    drawn = []
    for seed in range(200):
        x, y = cloud(40, 2, 2 * seed), cloud(40, 2, 2 * seed + 1)
        drawn.append(values(manifold(Features.of(x), Features.of(y), k=3))[2])
    # of 39 others and 1 new item, the new one is among the nearest 3 with chance 3/40
    assert np.mean(drawn) == pytest.approx(40 * (3 / 40) / 3, abs=4 * np.std(drawn) / math.sqrt(200))


def test_every_item_has_its_value_and_the_score_its_interval() -> None:
    real = Features.of([[0.0], [1.0], [2.0], [9.0]], ids=["a", "b", "c", "d"])
    generated = Features.of([[0.5], [50.0]], ids=["good", "bad"])
    found = manifold(real, generated, k=1)
    assert found.precision.values() == {"bad": 0.0, "good": 1.0}
    assert found.density.values() == {"bad": 0.0, "good": 2.0}  # in the balls of a and b
    assert found.coverage.values() == {"a": 1.0, "b": 1.0, "c": 0.0, "d": 0.0}
    low, high = found.precision.score().interval  # type: ignore[misc]
    assert (low, high) == (0, 1)


def test_two_generators_are_compared_on_the_same_real_items() -> None:
    real = Features.of(cloud(200, 3))
    good, bad = (manifold(real, Features.of(cloud(200, 3, 1) * scale)) for scale in (1.0, 0.2))
    difference = compare(good.coverage, bad.coverage)
    assert difference.interval is not None
    assert difference.interval[0] > 0


def test_shards_of_generated_items_merge_into_the_precision_of_all() -> None:
    real, y = Features.of(cloud(50, 3)), cloud(40, 3, 1, 0.5)
    ids = [f"{i}.png" for i in range(40)]
    whole = Features.of(y, ids=ids)
    shards = [Features.of(y[i::3], ids=ids[i::3]) for i in (2, 0, 1)]
    assert manifold(real, merge(shards)).recall.score() == manifold(real, whole).recall.score()
    parts = [manifold(real, shard) for shard in shards]
    for name in ("precision", "density"):
        together = merge_measurements([getattr(part, name) for part in parts])
        assert together.score() == getattr(manifold(real, whole), name).score()


def test_tiles_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = Features.of(cloud(50, 4)), Features.of(cloud(41, 4, 1))
    whole = values(manifold(x, y))
    distances, rows = nearest(y.vectors, x.vectors, 4)
    monkeypatch.setattr(module, "_TILE", 7)
    assert values(manifold(x, y)) == whole
    tiled_distances, tiled_rows = nearest(y.vectors, x.vectors, 4)
    torch.testing.assert_close(tiled_distances, distances)
    assert torch.equal(tiled_rows, rows)


@pytest.mark.parametrize("tile", [5, 2048])
def test_scikit_learn_finds_the_same_neighbours(tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    neighbours = pytest.importorskip("sklearn.neighbors").NearestNeighbors
    monkeypatch.setattr(module, "_TILE", tile)
    x, y = cloud(70, 5), cloud(31, 5, 1)
    expected, at = neighbours(n_neighbors=6, algorithm="brute").fit(x).kneighbors(y)
    distances, rows = nearest(torch.from_numpy(y), torch.from_numpy(x), 6)
    np.testing.assert_allclose(distances, expected)
    np.testing.assert_array_equal(rows, at)
    expected, at = neighbours(n_neighbors=3, algorithm="brute").fit(x).kneighbors()  # without the item itself
    distances, rows = nearest(torch.from_numpy(x), torch.from_numpy(x), 3, others=True)
    np.testing.assert_allclose(distances, expected)
    np.testing.assert_array_equal(rows, at)


def test_distances_of_equal_rows_are_exactly_0() -> None:
    x = torch.from_numpy(1e3 + cloud(100, 64))
    _, _, tile = next(iter(squared_distances(x, x)))
    assert bool((tile.diagonal() == 0).all())
    assert bool((tile + torch.eye(100) > 0).all())


def test_passports_hold_k_and_the_counts_that_matter() -> None:
    real, other = Features.of(cloud(20, 3)), Features.of(cloud(30, 3, 1))
    found, more = manifold(real, other), manifold(real, Features.of(cloud(25, 3, 1)))
    found.precision.passport.check_same(more.precision.passport)
    found.density.passport.check_same(more.density.passport)
    for name in ("recall", "coverage"):
        with pytest.raises(PassportError, match="generated is 30 in one and 25 in the other"):
            getattr(found, name).passport.check_same(getattr(more, name).passport)
    with pytest.raises(PassportError, match="k is 5 in one and 3 in the other"):
        found.precision.passport.check_same(manifold(real, other, k=3).precision.passport)


def test_what_cannot_be_compared_is_told_in_a_sentence() -> None:
    x = Features.of(cloud(5, 3))
    with pytest.raises(EvaluationError, match="k is 5, and there are 5 real and 5 generated items"):
        manifold(x, x)
    with pytest.raises(EvaluationError, match="k is 0"):
        manifold(x, x, k=0)
    with pytest.raises(EvaluationError, match="1 of at least 2 items"):
        manifold(x, Features.of(cloud(1, 3)), k=1)
    with pytest.raises(EvaluationError, match="3 and of 2 numbers"):
        manifold(x, Features.of(cloud(5, 2)), k=1)
