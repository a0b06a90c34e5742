"""Association tests: brute force over partitions, closed forms, symmetries."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tectum.errors import EvaluationError
from tectum.evaluate.association import association
from tectum.evaluate.measurement import merge


def sets(seed: int, sizes: tuple[int, int, int, int] = (4, 4, 3, 5), d: int = 6) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.normal(size=(n, d)) for n in sizes]


def associations(x: np.ndarray, y: np.ndarray, a: np.ndarray, b: np.ndarray) -> list[float]:
    def cosine(u: np.ndarray, v: np.ndarray) -> float:
        return float(u @ v / math.sqrt((u @ u) * (v @ v)))

    return [np.mean([cosine(w, v) for v in a]) - np.mean([cosine(w, v) for v in b]) for w in (*x, *y)]


@given(seed=st.integers(0, 999), first=st.integers(1, 4), second=st.integers(1, 4))
def test_effect_and_p_are_those_of_brute_force(seed: int, first: int, second: int) -> None:
    x, y, a, b = sets(seed, (first, second, 3, 5))
    s = np.array(associations(x, y, a, b))
    found = association(x, y, a, b)
    everything = range(len(s))
    splits = [(list(chosen), [i for i in everything if i not in chosen]) for chosen in combinations(everything, first)]
    differences = [s[chosen].mean() - s[rest].mean() for chosen, rest in splits]
    observed = s[:first].mean() - s[first:].mean()
    assert found.exact and found.partitions == math.comb(first + second, first)
    assert found.p == sum(difference >= observed - 1e-12 for difference in differences) / len(differences)
    assert found.effect.score(resamples=0).value == pytest.approx(observed / s.std(ddof=1))


def test_sets_apart_have_the_largest_effect_and_the_least_p() -> None:
    x, y = np.tile([1.0, 0.0], (5, 1)), np.tile([0.0, 1.0], (5, 1))
    found = association(x, y, [[1, 0]], [[0, 1]])
    assert found.p == 1 / math.comb(10, 5)
    assert found.effect.score().value == pytest.approx(2 * math.sqrt(9 / 10))
    assert association(x, y, [[1, 0]], [[0, 1]], ddof=0).effect.score().value == pytest.approx(2)
    assert association(y, x, [[1, 0]], [[0, 1]]).p == 1


def test_swapping_targets_or_attributes_turns_the_sign() -> None:
    x, y, a, b = sets(3)
    effect = association(x, y, a, b).effect.score().value
    assert association(y, x, a, b).effect.score().value == pytest.approx(-effect)
    assert association(x, y, b, a).effect.score().value == pytest.approx(-effect)
    assert association(y, x, b, a).p == pytest.approx(association(x, y, a, b).p)


def test_neither_order_nor_length_matters() -> None:
    x, y, a, b = sets(4)
    plain, other = association(x, y, a, b), association(3 * x[::-1], y * np.arange(1, 5)[:, None], a[::-1], 0.1 * b)
    assert other.effect.score().value == pytest.approx(plain.effect.score().value)
    assert other.p == plain.p


def test_equal_targets_tie_with_every_partition() -> None:
    found = association(np.ones((3, 2)), np.ones((3, 2)), [[1, 0]], [[0, 1]])
    assert found.p == 1
    assert math.isnan(found.effect.score().value)


def test_ties_are_counted_whatever_the_rounding() -> None:
    """Targets come in equal couples, one in each set: half of the differences are at least the observed zero, and the ties."""
    x = sets(5, (4, 1, 1, 1))[0]
    a, b = sets(6)[2:]
    s = associations(x, x[::-1] * 7, a, b)
    differences = [sum(s[i] for i in chosen) - sum(s) / 2 for chosen in combinations(range(8), 4)]
    assert association(x, x[::-1] * 7, a, b).p == sum(difference > -1e-12 for difference in differences) / 70


def test_many_partitions_are_sampled_and_agree_with_all() -> None:
    x, y, a, b = sets(7, (8, 8, 4, 4))
    exact = association(x, y, a, b)
    drawn = association(x, y, a, b, at_most=100, samples=20_000)
    assert exact.exact and exact.partitions == 12_870
    assert not drawn.exact and drawn.partitions == 20_000
    assert drawn.p == pytest.approx(exact.p, abs=4 * math.sqrt(exact.p * (1 - exact.p) / 20_000))
    assert drawn.p == association(x, y, a, b, at_most=100, samples=20_000).p
    assert association(x, y, a, b, at_most=100, samples=0).p == 1
    assert "random partitions" in str(drawn) and "all 12870 partitions" in str(exact)


def test_the_largest_that_is_enumerated() -> None:
    x, y, a, b = sets(8, (10, 10, 4, 4))
    found = association(x, y, a, b)
    assert found.exact and found.partitions == 184_756
    assert 0 < found.p <= 1


def test_the_effect_has_an_interval_over_targets_and_tensors_do() -> None:
    x, y, a, b = sets(9, (12, 12, 4, 4))
    measured = association(x + 2 * a[0], y, a, b, at_most=10, samples=99).effect
    score = measured.score()
    assert score.interval is not None and score.interval[0] < score.value < score.interval[1]
    assert merge([measured.rows(range(9, 24)), measured.rows(range(9))]).score() == score
    tensors = [torch.from_numpy(part) for part in (x + 2 * a[0], y, a, b)]
    assert association(*tensors, at_most=10, samples=99).effect.score() == score


def test_what_does_not_fit_is_refused() -> None:
    x, y, a, b = sets(0)
    with pytest.raises(EvaluationError, match=r"a has the shape \(6,\)"):
        association(x, y, a[0], b)
    with pytest.raises(EvaluationError, match="y has the shape"):
        association(x, y[:0], a, b)
    with pytest.raises(EvaluationError, match=r"have \[6, 6, 6, 5\] dimensions"):
        association(x, y, a, b[:, :5])
    for wrong in (0, np.nan, np.inf):
        with pytest.raises(EvaluationError, match="x has a vector that is zero or not finite"):
            association(x * wrong, y, a, b)
    with pytest.raises(EvaluationError, match="2 ids need statistics"):
        association(x, y, a, b, names=["one", "two"])
