"""KID and CMMD against their definitions written out, an independent kernel, and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tectum.errors import EvaluationError, PassportError
from tectum.evaluate import kernel_distance as module
from tectum.evaluate.features import Features, merge
from tectum.evaluate.kernel_distance import cmmd, kernel_distance


def cloud(n: int, d: int, seed: int = 0, shift: float = 0.0) -> np.ndarray:
    return shift + np.random.default_rng(seed).normal(size=(n, d))


def kid(x: np.ndarray, y: np.ndarray, **options: int) -> float:
    return kernel_distance(Features.of(x), Features.of(y), **options).value  # type: ignore[arg-type]


def unbiased_mmd(kxx: np.ndarray, kyy: np.ndarray, kxy: np.ndarray) -> float:
    """Gretton et al. 2012, eq. 3."""
    n, m = kxy.shape
    return (kxx.sum() - np.trace(kxx)) / (n * (n - 1)) + (kyy.sum() - np.trace(kyy)) / (m * (m - 1)) - 2 * kxy.mean()


def test_a_subset_of_everything_is_the_unbiased_statistic() -> None:
    kernel = pytest.importorskip("sklearn.metrics.pairwise").polynomial_kernel
    x, y = cloud(60, 7), cloud(60, 7, 1, 0.3)
    expected = unbiased_mmd(kernel(x), kernel(y), kernel(x, y))  # scikit-learn's defaults are KID's: degree 3, 1/d, 1
    assert kid(x, y, subsets=2, subset_size=60) == pytest.approx(expected, rel=1e-10)


def test_torchmetrics_agrees() -> None:
    theirs = pytest.importorskip("torchmetrics.image.kid").poly_mmd
    x, y = cloud(50, 5), cloud(50, 5, 1, 0.3)
    expected = float(theirs(torch.from_numpy(x), torch.from_numpy(y)))
    assert kid(x, y, subsets=2, subset_size=50) == pytest.approx(expected, rel=1e-10)


def test_subsets_are_unbiased_and_settle_on_the_statistic_of_all() -> None:
    x, y = cloud(300, 4), cloud(400, 4, 1, 0.3)
    every = (x @ x.T / 4 + 1) ** 3, (y @ y.T / 4 + 1) ** 3, (x @ y.T / 4 + 1) ** 3
    score = kernel_distance(Features.of(x), Features.of(y), subsets=2000, subset_size=30)
    assert score.value == pytest.approx(unbiased_mmd(*every), abs=0.02)
    assert score.value == kid(x, y, subsets=2000, subset_size=30)
    assert score.value != kid(x, y, subsets=2000, subset_size=30, seed=1)


@pytest.mark.parametrize(("shift", "size"), [(0.0, 100), (0.3, 20), (0.6, 100)])
def test_the_interval_of_kid_holds_its_expectation_which_has_no_bias(shift: float, size: int) -> None:
    scores = [
        kernel_distance(
            Features.of(cloud(100, 4, 2 * i)), Features.of(cloud(100, 4, 2 * i + 1, shift)), subsets=20, subset_size=size
        )
        for i in range(150)
    ]
    values = np.array([score.value for score in scores])
    # E[(x·y/4 + 1)³] of independent normal x ~ N(a1, I) and y ~ N(b1, I) in 4 dimensions: moments of x·y with a·b = s
    expected = expectation(shift, shift) + expectation(0, 0) - 2 * expectation(0, shift)
    assert values.mean() == pytest.approx(expected, abs=4 * values.std() / math.sqrt(len(values)))
    held = np.mean([score.interval[0] <= expected <= score.interval[1] for score in scores])  # type: ignore[index]
    assert held >= 0.88


def expectation(a: float, b: float) -> float:
    """E (t/4 + 1)³ for t = x·y, by the third-order expansion of independent products."""
    means = np.array([a * b] * 4)
    variances = (1 + a * a) * (1 + b * b) - (a * b) ** 2
    third = (a**3 + 3 * a) * (b**3 + 3 * b) - 3 * (a * b) * (1 + a * a) * (1 + b * b) + 2 * (a * b) ** 3
    mean, variance, skew = means.sum(), 4 * variances, 4 * third
    u = mean / 4 + 1
    return float(u**3 + 3 * u * variance / 16 + skew / 64)


def naive_cmmd(x: np.ndarray, y: np.ndarray) -> float:
    """The authors' formula in float64, over unit vectors."""
    x, y = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (x, y))

    def mean(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.exp(-((a[:, None] - b[None]) ** 2).sum(-1) / 200).mean())

    return 1000 * (mean(x, x) + mean(y, y) - 2 * mean(x, y))


@pytest.mark.parametrize(("n", "m"), [(40, 40), (30, 70), (2, 3)])
def test_cmmd_is_the_authors_formula(n: int, m: int) -> None:
    x, y = cloud(n, 16, shift=0.2), cloud(m, 16, 1, 0.4)
    assert cmmd(Features.of(x), Features.of(y)).value == pytest.approx(naive_cmmd(x, y), rel=1e-9)


def test_cmmd_knows_no_length_and_is_nothing_for_equal_sets() -> None:
    x, y = cloud(30, 8), cloud(30, 8, 1)
    once, longer = cmmd(Features.of(x), Features.of(y)), cmmd(Features.of(7 * x), Features.of(y))
    assert longer.value == pytest.approx(once.value, rel=1e-12)
    assert cmmd(Features.of(x), Features.of(x)).value == pytest.approx(0, abs=1e-12)
    opposite = np.tile([[1.0, 0.0]], (4, 1))
    assert cmmd(Features.of(opposite), Features.of(-opposite)).value == pytest.approx(2000 * (1 - math.exp(-4 / 200)))


def test_differences_far_below_float32_are_seen() -> None:
    """Kernel values that differ from 1 by 1e-10 would all be 1 in float32."""
    x = np.tile([[1.0, 0.0]], (50, 1))
    y = np.tile([[1.0, 1e-4]], (50, 1))
    assert cmmd(Features.of(x), Features.of(y)).value == pytest.approx(2000 * 1e-8 / 200, rel=1e-6)


def test_tiles_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = Features.of(cloud(50, 6)), Features.of(cloud(41, 6, 1))
    whole = cmmd(x, y)
    monkeypatch.setattr(module, "_TILE", 7)
    tiled = cmmd(x, y)
    assert tiled.value == pytest.approx(whole.value, rel=1e-9)
    assert tiled.interval == pytest.approx(whole.interval, rel=1e-9)


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.5])
def test_the_interval_of_cmmd_holds_its_expectation(shift: float) -> None:
    scores = [
        cmmd(Features.of(cloud(100, 6, 2 * i, 0.5)), Features.of(cloud(100, 6, 2 * i + 1, 0.5 + shift))) for i in range(150)
    ]
    values = np.array([score.value for score in scores])
    held = np.mean([score.interval[0] <= values.mean() <= score.interval[1] for score in scores])  # type: ignore[index]
    assert held >= 0.88


@settings(max_examples=20)
@given(st.integers(2, 30), st.integers(2, 30), st.integers(2, 8), st.integers(0, 10**6))
def test_order_rotation_and_sides_change_nothing(n: int, m: int, d: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    x, y = random.normal(size=(n, d)), random.normal(size=(m, d)) + 0.3
    turn = np.linalg.qr(random.normal(size=(d, d)))[0]
    both = Features.of(x), Features.of(y)
    near = pytest.approx(cmmd(*both).value, rel=1e-7, abs=1e-9)
    assert cmmd(*reversed(both)).value == near
    assert cmmd(Features.of(random.permutation(x) @ turn), Features.of(y @ turn)).value == near
    size = min(n, m)
    value = kid(x[:size], y[:size], subsets=2, subset_size=size)
    assert kid(y[:size] @ turn, x[:size] @ turn, subsets=2, subset_size=size) == pytest.approx(value, rel=1e-7, abs=1e-9)


def test_merged_shards_score_as_the_whole_bit_for_bit() -> None:
    x, y = cloud(40, 5), Features.of(cloud(30, 5, 1))
    ids = [f"{i}.png" for i in range(40)]
    whole, merged = Features.of(x, ids=ids), merge([Features.of(x[i::3], ids=ids[i::3]) for i in (2, 0, 1)])
    assert kernel_distance(merged, y, subset_size=10) == kernel_distance(whole, y, subset_size=10)
    assert cmmd(merged, y) == cmmd(whole, y)


def test_passports_hold_the_kernel_and_only_the_counts_that_matter() -> None:
    made = {"extractor": "tiny/image"}
    real, some, more = (Features.of(cloud(n, 3, n), settings=made) for n in (50, 40, 45))
    kid_of = [kernel_distance(real, generated, subset_size=20) for generated in (some, more)]
    assert math.isfinite(kid_of[0] - kid_of[1])  # unbiased: 40 and 45 items may be compared
    assert str(kid_of[0].passport) == (
        "kernel-distance|estimator=unbiased|extractor=tiny/image|kernel=(x·y/d + 1)³|seed=0|subset_size=20|subsets=100"
    )
    with pytest.raises(PassportError, match="generated is 40 in one and 45 in the other"):
        _ = cmmd(real, some) - cmmd(real, more)


def test_what_cannot_be_compared_is_told_in_a_sentence() -> None:
    x = Features.of(cloud(10, 3))
    with pytest.raises(EvaluationError, match="100 subsets of 1000 cannot be drawn from 10 real and 10 generated items"):
        kernel_distance(x, x)
    with pytest.raises(EvaluationError, match="1 of at least 2 items"):
        kernel_distance(x, Features.of(cloud(1, 3)), subset_size=1)
    with pytest.raises(EvaluationError, match="1 of at least 2 items"):
        cmmd(Features.of(cloud(1, 3)), x)
    with pytest.raises(EvaluationError, match="3 and of 2 numbers"):
        cmmd(x, Features.of(cloud(10, 2)))
    blank = Features.of([[1.0, 2.0], [0.0, 0.0]], ids=["a.png", "b.png"])
    with pytest.raises(EvaluationError, match=r"item 'b\.png' are all 0"):
        cmmd(blank, blank)
