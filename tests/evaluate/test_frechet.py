"""The Fréchet distance against closed forms and scipy, and where others give complex numbers, NaN or less than 0."""

from __future__ import annotations

import math
from functools import reduce

import mpmath
import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tectum.errors import EvaluationError, PassportError
from tectum.evaluate.features import Features, merge
from tectum.evaluate.frechet import Moments, frechet_distance, frechet_distance_at_infinity, frechet_distance_of_moments


def cloud(n: int, d: int, seed: int = 0, *, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    """Correlated normal features with a falling spectrum."""
    random = np.random.default_rng(seed)
    mixing = np.random.default_rng(1000 + d).normal(size=(d, d)) / np.sqrt(np.arange(1, d + 1))
    return shift + scale * random.normal(size=(n, d)) @ mixing


def distance(x: np.ndarray, y: np.ndarray) -> float:
    return frechet_distance(Features.of(x), Features.of(y)).value


def distance_of_moments(x: np.ndarray, y: np.ndarray) -> float:
    return frechet_distance_of_moments(Moments.of(Features.of(x)), Moments.of(Features.of(y))).value


def by_scipy(x: np.ndarray, y: np.ndarray) -> float:
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = scipy.linalg.sqrtm(a @ b).real
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b - 2 * root))


def shaped(mean: list[float], deviations: list[float], turn: np.ndarray) -> np.ndarray:
    """Items whose sample mean and covariance (n - 1) are exactly these: covariance turn diag(deviations²) turnᵀ."""
    d = len(mean)
    corners = np.concatenate([np.eye(d), -np.eye(d)]) * math.sqrt((2 * d - 1) / 2)
    return np.array(mean) + corners * np.array(deviations) @ turn.T


@pytest.mark.parametrize("d", [2, 5, 40])
def test_commuting_covariances_have_a_closed_form(d: int) -> None:
    random = np.random.default_rng(d)
    turn = np.linalg.qr(random.normal(size=(d, d)))[0]
    (m1, m2), (s1, s2) = random.normal(size=(2, d)), random.uniform(0.1, 3, (2, d))
    x, y = shaped(m1.tolist(), s1.tolist(), turn), shaped(m2.tolist(), s2.tolist(), turn)
    expected = ((m1 - m2) ** 2).sum() + ((s1 - s2) ** 2).sum()
    assert distance(x, y) == pytest.approx(expected, rel=1e-12)
    assert distance_of_moments(x, y) == pytest.approx(expected, rel=1e-12)


def test_one_dimension_is_a_difference_of_means_and_deviations() -> None:
    x, y = cloud(50, 1), cloud(70, 1, 1, shift=2, scale=3)
    expected = (x.mean() - y.mean()) ** 2 + (x.std(ddof=1) - y.std(ddof=1)) ** 2
    assert distance(x, y) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("n", "m", "d"), [(200, 300, 20), (500, 400, 64), (65, 80, 64), (1000, 1000, 128)])
def test_scipy_agrees(n: int, m: int, d: int) -> None:
    x, y = cloud(n, d), cloud(m, d, 1, shift=0.3, scale=1.1)
    assert distance(x, y) == pytest.approx(by_scipy(x, y), rel=1e-9)
    assert distance_of_moments(x, y) == pytest.approx(by_scipy(x, y), rel=1e-9)


def test_fifty_digits_agree_where_the_covariance_is_ill_conditioned() -> None:
    """Eigenvalues from 1 down to 1e-12, and two sets that do not commute."""
    d = 8
    random = np.random.default_rng(0)
    fading = np.logspace(0, -6, d)
    x, y = (
        random.normal(size=(30, d)) * fading,
        random.normal(size=(30, d)) * fading @ np.linalg.qr(random.normal(size=(d, d)))[0],
    )
    with mpmath.workdps(50):

        def moments(z: np.ndarray) -> tuple[mpmath.matrix, mpmath.matrix]:
            exact = mpmath.matrix(z.tolist())
            mean = mpmath.matrix([[mpmath.fsum(exact[:, j]) / len(z) for j in range(d)]])
            centred = exact - mpmath.ones(len(z), 1) * mean
            return mean, centred.T * centred / (len(z) - 1)

        (m1, s1), (m2, s2) = moments(x), moments(y)
        values, vectors = mpmath.eigsy(s1)
        root = vectors * mpmath.diag([mpmath.sqrt(v) for v in values]) * vectors.T
        across = mpmath.fsum(mpmath.sqrt(abs(v)) for v in mpmath.eigsy(root * s2 * root, eigvals_only=True))
        trace = mpmath.fsum(s1[i, i] + s2[i, i] for i in range(d))
        expected = float(mpmath.fsum((m1[i] - m2[i]) ** 2 for i in range(d)) + trace - 2 * across)
    assert distance(x, y) == pytest.approx(expected, rel=1e-8)
    assert distance_of_moments(x, y) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(("n", "d"), [(300, 32), (20, 32), (33, 32), (32, 32), (2, 64)])
def test_the_distance_of_x_to_itself_is_nothing(n: int, d: int) -> None:
    x = 5 + cloud(n, d)
    assert distance(x, x) == 0
    assert distance_of_moments(x, x) == 0
    assert 0 <= distance(x, np.random.default_rng(0).permutation(x)) < 1e-12


@pytest.mark.parametrize(("n", "m", "d"), [(10, 10, 64), (10, 500, 64), (500, 10, 64), (64, 64, 64), (2, 2, 3), (63, 65, 64)])
def test_fewer_items_than_numbers_are_no_trouble(n: int, m: int, d: int) -> None:
    x, y = cloud(n, d), cloud(m, d, 1, shift=0.3)
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    values, vectors = np.linalg.eigh(a)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    across = np.sqrt(np.linalg.eigvalsh(root @ b @ root).clip(0)).sum()
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a) + np.trace(b) - 2 * across
    assert distance(x, y) == pytest.approx(expected, rel=1e-5)  # the reference takes roots of rounding errors
    assert distance_of_moments(x, y) == pytest.approx(distance(x, y), rel=1e-6)


def test_dead_and_doubled_numbers_change_nothing_or_what_they_should() -> None:
    x, y = cloud(100, 6), cloud(120, 6, 1, shift=0.5)
    value = distance(x, y)
    dead = (np.concatenate([z, np.full((len(z), 3), 7.0)], 1) for z in (x, y))
    assert distance(*dead) == pytest.approx(value, rel=1e-7)
    doubled = (np.concatenate([z, z], 1) for z in (x, y))
    assert distance(*doubled) == pytest.approx(2 * value, rel=1e-7)
    constant = np.full((10, 6), 2.0)
    assert distance(constant, constant + 1) == pytest.approx(6, rel=1e-12)
    interval = frechet_distance(Features.of(constant), Features.of(constant + 1)).interval
    assert interval == pytest.approx((6, 6))


@settings(max_examples=25)
@given(st.integers(2, 40), st.integers(2, 40), st.integers(1, 20), st.integers(0, 10**6))
def test_it_is_symmetric_and_blind_to_order_rotation_and_shift(n: int, m: int, d: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    x, y = random.normal(size=(n, d)), random.normal(size=(m, d)) * random.uniform(0.1, 2, d)
    value = distance(x, y)
    turn, shift = np.linalg.qr(random.normal(size=(d, d)))[0], 10 * random.normal(size=d)
    near = pytest.approx(value, rel=1e-7, abs=1e-9)
    assert value >= 0
    assert distance(y, x) == near
    assert distance(random.permutation(x), random.permutation(y)) == near
    assert distance(x @ turn + shift, y @ turn + shift) == near
    assert distance(3 * x, 3 * y) == pytest.approx(9 * value, rel=1e-7, abs=1e-9)


def test_batches_and_shards_add_up_to_the_whole() -> None:
    x = 1000 + cloud(5000, 12)
    whole = Moments.of(Features.of(x))
    exact = np.cov(x - 1000, rowvar=False)
    np.testing.assert_allclose(whole.covariance, exact, rtol=0, atol=1e-11 * np.abs(exact).max())
    chunks = [Moments.of(Features.of(part)) for part in np.split(x, [1, 17, 1000, 4096])]
    for order in (chunks, chunks[::-1]):
        total = reduce(Moments.__add__, order)
        assert total.n == whole.n
        np.testing.assert_allclose(total.mean, whole.mean, rtol=1e-14)
        np.testing.assert_allclose(total.scatter, whole.scatter, rtol=0, atol=1e-12 * float(whole.scatter.abs().max()))
    same = reduce(Moments.__add__, (Moments.of(Features.of(part)) for part in np.split(x, [4096])))
    assert torch.equal(same.scatter, whole.scatter) and torch.equal(same.mean, whole.mean)
    a, b = chunks[2] + chunks[3], chunks[3] + chunks[2]
    assert torch.equal(a.scatter, b.scatter) and torch.equal(a.mean, b.mean)


@pytest.mark.parametrize("n", [30, 300])
def test_merged_shards_score_as_the_whole_bit_for_bit(n: int) -> None:
    x, y = cloud(n, 40).astype(np.float32), Features.of(cloud(n, 40, 1, shift=0.1))
    ids = [f"{i}.png" for i in range(n)]
    shards = [Features.of(x[i::3], ids=ids[i::3]) for i in (2, 0, 1)]
    assert frechet_distance(merge(shards), y) == frechet_distance(Features.of(x, ids=ids), y)


@pytest.mark.parametrize(
    ("n", "m", "d", "shift"), [(200, 300, 8, 0.2), (24, 24, 32, 0.2), (120, 30, 24, 0.1), (200, 200, 8, 0.0)]
)
def test_the_interval_holds_the_expectation_at_this_count(n: int, m: int, d: int, shift: float) -> None:
    scores = [
        frechet_distance(Features.of(cloud(n, d, 2 * i)), Features.of(cloud(m, d, 2 * i + 1, shift=shift))) for i in range(60)
    ]
    values = np.array([score.value for score in scores])
    held = np.mean([score.interval[0] <= values.mean() <= score.interval[1] for score in scores])  # type: ignore[index]
    assert held >= 0.85
    width = np.mean([(score.interval[1] - score.value) / 1.96 for score in scores])  # type: ignore[index]
    assert 0.7 < width / values.std() < 2


def test_extrapolation_removes_the_bias_of_the_generated_count() -> None:
    """Both sides have one distribution, so the true distance is 0; one side is many items, the other few."""
    real = Features.of(cloud(20_000, 10))
    plain, extrapolated = [], []
    for seed in range(20):
        few = Features.of(cloud(300, 10, 1 + seed))
        plain.append(frechet_distance(real, few).value)
        extrapolated.append(frechet_distance_at_infinity(real, few, points=8, smallest=100, seed=seed).value)
    bias, rest = np.mean(plain), np.mean(extrapolated)
    assert bias > 10 * np.std(plain) / math.sqrt(20)
    assert abs(rest) < 0.2 * bias
    again = frechet_distance_at_infinity(real, few, points=8, smallest=100, seed=19)
    assert again.value == extrapolated[-1]
    assert (again.passport.settings["points"], again.passport.settings["seed"], again.interval) == (8, 19, None)


def test_the_passport_holds_the_extractor_and_the_counts_that_bias_the_distance() -> None:
    made = {"extractor": "tiny/image", "weights": "abc", "filter": "bicubic"}
    real, many, few = (Features.of(cloud(n, 3), settings=made) for n in (50, 40, 30))
    score = frechet_distance(real, many)
    assert str(score.passport) == "frechet-distance|extractor=tiny/image|filter=bicubic|generated=40|real=50|weights=abc"
    assert score.n == 40
    with pytest.raises(PassportError, match="generated is 40 in one and 30 in the other"):
        _ = score - frechet_distance(real, few)
    moments = frechet_distance_of_moments(Moments.of(real), Moments.of(many))
    assert (moments.passport, moments.interval) == (score.passport, None)


def test_torchmetrics_agrees() -> None:
    fid = pytest.importorskip("torchmetrics.image.fid")
    x, y = cloud(400, 32), cloud(300, 32, 1, shift=0.2)
    metric = fid.FrechetInceptionDistance(feature=Flat(32), normalize=False).set_dtype(torch.float64)
    metric.update(torch.from_numpy(x), real=True)
    metric.update(torch.from_numpy(y), real=False)
    assert float(metric.compute()) == pytest.approx(distance(x, y), rel=1e-6)


class Flat(torch.nn.Module):
    """A stand-in for the network: its input is the features already."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.num_features = d

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_what_cannot_be_compared_is_told_in_a_sentence() -> None:
    some, one = Features.of(np.ones((3, 2))), Features.of(np.ones((1, 2)))
    with pytest.raises(EvaluationError, match="1 of at least 2 items"):
        frechet_distance(some, one)
    with pytest.raises(EvaluationError, match="1 of at least 2 items"):
        frechet_distance_of_moments(Moments.of(some), Moments.of(one))
    with pytest.raises(EvaluationError, match="2 and of 3 numbers cannot be compared"):
        frechet_distance(some, Features.of(np.ones((3, 3))))
    with pytest.raises(EvaluationError, match="2 and of 3 numbers cannot be added"):
        _ = Moments.of(some) + Moments.of(Features.of(np.ones((3, 3))))
    with pytest.raises(PassportError, match="size is 64 in one and 32 in the other"):
        _ = Moments.of(Features.of(np.ones((3, 2)), settings={"size": 64})) + Moments.of(
            Features.of(np.ones((3, 2)), settings={"size": 32})
        )
    with pytest.raises(EvaluationError, match="no features to take moments of"):
        Moments.of(Features.of(np.ones((0, 2))))
    with pytest.raises(EvaluationError, match="fix no line"):
        frechet_distance_at_infinity(some, some, smallest=3)
