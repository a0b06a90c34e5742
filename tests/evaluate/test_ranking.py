"""Counting what scores higher: exact against brute force whatever the vectors, their type and the machine's arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tectum.evaluate import ranking
from tectum.evaluate.cosines import Cosines, Given
from tectum.evaluate.ranking import levels
from tectum.evaluate.retrieval import first_hits


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("kind", ["random", "constant", "few", "coarse"])
@pytest.mark.parametrize("most", [1, 4, 40])
@pytest.mark.parametrize("n", [37, 40])
def test_counting_is_exact_whatever_the_vectors(n: int, most: int, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One, few and many right items, no ties and nothing but ties, in many tiles: all ways through the counting."""
    monkeypatch.setattr(ranking, "_QUERIES", 24)
    monkeypatch.setattr(ranking, "_ITEMS", 300)
    generator = np.random.default_rng(most)
    m, d = 700, 9
    queries, items = generator.standard_normal((n, d)), generator.standard_normal((m, d))
    if kind == "constant":
        queries, items = np.ones((n, d)), np.full((m, d), 3.7)
    elif kind == "few":
        items = items[generator.integers(0, 4, m)]
    elif kind == "coarse":
        queries, items = generator.integers(1, 3, (n, d)), generator.integers(1, 3, (m, d))
    right = [generator.choice(m, generator.integers(1, most + 1), replace=False) for _ in range(n)]
    ignored = [np.setdiff1d(generator.choice(m, 3), good) for good in right]
    scores = Cosines(queries, items)
    exact = scores.exact_tile(slice(0, n), slice(0, m)).numpy()
    parts = levels(scores, right, names=[str(i) for i in range(n)], ignored=ignored)
    found = [tuple(map(int, level)) for part in parts for level in zip(*part, strict=True)]
    expected = []
    for query in range(n):
        wrong = np.delete(exact[query], np.concatenate((right[query], ignored[query])))
        good = exact[query, right[query]]
        for level in sorted(set(good), reverse=True):
            expected.append((query, int((good == level).sum()), int((wrong > level).sum()), int((wrong == level).sum())))
    assert found == expected


def test_cosines_that_float32_cannot_tell_apart_are_ranked_right() -> None:
    """Cosines near 1 that fall by 3·10⁻⁸, where the numbers of float32 are 6·10⁻⁸ apart."""
    cosines = 1 - np.arange(40) * 3e-8
    items = np.stack((cosines, np.sqrt(1 - cosines**2)), 1)
    assert len(set(cosines.astype(np.float32).tolist())) < 25
    hits = first_hits(Cosines(np.repeat([[1.0, 0.0]], 40, 0), items), np.arange(40))
    assert hits.higher.tolist() == list(range(40)) and not hits.same.any()


def test_any_float_type_any_length_arrays_tensors_and_lists() -> None:
    queries, items = random(20, 8), random(30, 8, seed=1)
    expected = first_hits(Cosines(queries, items), np.arange(20)).higher.tolist()
    read_only = queries.copy()
    read_only.flags.writeable = False
    for a, b in (
        (torch.from_numpy(queries).requires_grad_(), torch.from_numpy(items)),
        (queries.astype(np.float64) * 4, items * np.float32(0.125)),
        (queries.tolist(), items.tolist()),
        (read_only, items[::-1][::-1]),
    ):
        assert first_hits(Cosines(a, b), list(range(20))).higher.tolist() == expected
    half = torch.from_numpy(queries).bfloat16()
    assert first_hits(Cosines(half, half), np.arange(20)).higher.max() == 0


def test_reduced_precision_inside_products_changes_no_rank() -> None:
    queries, items = random(50, 64), random(500, 64, seed=1)
    expected = first_hits(Cosines(queries, items), np.arange(50)).higher.tolist()
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        scores = Cosines(queries, items)
        with torch.autocast("cpu", torch.bfloat16):
            assert first_hits(scores, np.arange(50)).higher.tolist() == expected
    finally:
        torch.set_float32_matmul_precision(before)
    assert scores.slack > 2**-8


def test_memory_is_that_of_a_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tile larger than the constants say is ever asked for, and all of them together are asked for once."""
    asked: list[tuple[int, int]] = []

    class Watched(Cosines):
        def tile(self, block: torch.Tensor, items: slice, out: torch.Tensor) -> None:
            asked.append((block.shape[1], items.stop - items.start))
            super().tile(block, items, out)

    monkeypatch.setattr(ranking, "_QUERIES", 64)
    first_hits(Watched(random(200, 8), random(1000, 8, seed=1)), np.arange(200))
    assert max(n * m for n, m in asked) <= 64 * ranking._ITEMS and sum(n * m for n, m in asked) == 200 * 1000


def test_given_scores_keep_all_their_digits_and_are_not_touched() -> None:
    """Scores that float32 cannot tell apart, or hold."""
    scores = np.array([[1.0, 1.0 + 1e-12, 1.0 - 1e-12], [1e300, 1e301, -1e300]])
    before = scores.copy()
    for right, higher in (([0, 0], [1, 1]), ([1, 1], [0, 0]), ([2, 2], [2, 2])):
        hits = first_hits(Given(scores), right)
        assert hits.higher.tolist() == higher and not hits.same.any()
    assert (scores == before).all()
