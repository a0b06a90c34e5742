"""Scores, passports, merging and the bootstrap."""

from __future__ import annotations

import doctest
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tectum.errors import EvaluationError, PassportError
from tectum.evaluate.measurement import Measurement, compare, merge, of_sums, ratio
from tectum.evaluate.score import Passport, Score

ACCURACY = Passport("accuracy", {"top": 1})


def drawn(n: int, seed: int = 0) -> Measurement:
    values = np.random.default_rng(seed).normal(size=n)
    return Measurement.mean(ACCURACY, [f"item {i}" for i in range(n)], values)


@given(st.integers(2, 40), st.randoms(use_true_random=False))
def test_shards_in_any_order_merge_into_the_whole_bit_for_bit(n: int, random: object) -> None:
    whole = drawn(n)
    order = list(range(n))
    random.shuffle(order)  # type: ignore[attr-defined]
    cut = n // 2
    shards = [whole.rows(order[cut:]), whole.rows(order[:cut])]
    assert merge(shards).score(resamples=50) == whole.score(resamples=50)


def test_the_interval_of_a_mean_is_that_of_the_central_limit() -> None:
    measured = drawn(2000)
    score = measured.score(resamples=4000)
    values = measured.statistics[:, 0]
    error = values.std() / math.sqrt(len(values))
    assert score.interval is not None
    assert score.interval[0] == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert score.interval[1] == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_groups_are_drawn_whole() -> None:
    """Ten copies of each item say nothing new: drawn by group, the interval is that of one copy; drawn singly, it is narrower."""
    one = drawn(50)
    ids = [f"{key}/{copy}" for key in one.ids for copy in range(10)]
    groups = tuple(key for key in one.ids for _ in range(10))
    statistics = one.statistics.repeat(10, axis=0)
    grouped = Measurement(ACCURACY, ratio, tuple(ids), statistics, groups).score(resamples=3000)
    single = Measurement(ACCURACY, ratio, tuple(ids), statistics).score(resamples=3000)

    def width(score: Score) -> float:
        assert score.interval is not None
        return score.interval[1] - score.interval[0]

    assert width(grouped) == pytest.approx(width(one.score(resamples=3000)), rel=0.1)
    assert width(single) == pytest.approx(width(grouped) / math.sqrt(10), rel=0.15)


def test_a_formula_of_sums_is_not_a_mean_of_means() -> None:
    errors = Measurement(Passport("wer"), ratio, ("long", "short"), np.array([[1.0, 9.0], [1.0, 1.0]]))
    assert errors.score().value == pytest.approx(0.2)
    assert errors.values() == {"long": pytest.approx(1 / 9), "short": 1.0}


def test_nothing_has_no_score_and_one_item_no_interval() -> None:
    empty = drawn(3).rows([]).score()
    assert math.isnan(empty.value) and empty.interval is None and empty.n == 0
    one = drawn(1).score()
    assert one.interval is None and one.n == 1 and not math.isnan(one.value)
    undefined = Measurement(Passport("wer"), ratio, ("a", "b"), np.array([[1.0, 0.0], [1.0, 0.0]])).score()
    assert math.isnan(undefined.value) and undefined.interval is None


def test_a_paired_comparison_sees_what_unpaired_intervals_hide() -> None:
    """A constant gain of 0.1 beside a deviation of 1 between items."""
    old = drawn(60)
    new = Measurement.mean(ACCURACY, old.ids[::-1], old.statistics[::-1, 0] + 0.1)
    found = compare(new, old)
    assert found.difference == pytest.approx(0.1)
    assert found.interval == (pytest.approx(0.1), pytest.approx(0.1))
    assert found.p <= 2 / 1000
    same = compare(old, old)
    assert (same.difference, same.p) == (0, 1)


def test_a_fair_null_has_a_uniform_p() -> None:
    """Of 200 comparisons of equals about 5 % have p < 0.05 (binomial: more than 24 has a chance of 1 in 10,000)."""
    rng = np.random.default_rng(3)
    ids = [str(i) for i in range(80)]
    small = 0
    for seed in range(200):
        a, b = (Measurement.mean(ACCURACY, ids, rng.normal(size=80)) for _ in range(2))
        small += compare(a, b, resamples=300, seed=seed).p < 0.05
    assert small <= 24


def test_passports_that_differ_refuse_and_name_the_difference() -> None:
    a = Score(0.5, None, 3, Passport("fid", {"resize": "bicubic", "size": 299}))
    b = Score(0.4, None, 3, Passport("fid", {"resize": "box", "size": 299}))
    with pytest.raises(PassportError, match="resize is bicubic in one and box in the other"):
        _ = a - b
    with pytest.raises(PassportError, match="different metrics"):
        _ = a - Score(0.4, None, 3, Passport("kid"))
    with pytest.raises(PassportError, match="top is 1 in one and 5 in the other"):
        merge([drawn(2), Measurement.mean(Passport("accuracy", {"top": 5}), ["z"], [1.0])])
    assert a - a == 0


@pytest.mark.parametrize(
    ("ids", "values", "words"),
    [
        (("a", "a"), [[1.0, 1.0], [0.0, 1.0]], "'a' is there twice"),
        (("a", "é"), [[1.0, 1.0], [math.nan, 1.0]], "'é' has a statistic that is not finite"),
        (("a",), [[1.0, 1.0], [0.0, 1.0]], "1 ids need statistics"),
    ],
)
def test_bad_statistics_are_refused(ids: tuple[str, ...], values: list[list[float]], words: str) -> None:
    with pytest.raises(EvaluationError, match=words):
        Measurement(ACCURACY, ratio, ids, np.array(values))


def test_other_items_cannot_be_compared_and_shared_ones_not_merged() -> None:
    with pytest.raises(EvaluationError, match="'item 2' is only in the second"):
        compare(drawn(2), drawn(3))
    with pytest.raises(EvaluationError, match="twice"):
        merge([drawn(2), drawn(2)])
    with pytest.raises(EvaluationError, match="nothing to merge"):
        merge([])


def test_json_round_trip() -> None:
    for score in (drawn(9).score(), drawn(1).rows([]).score(resamples=0)):
        again = Score.from_json(score.as_json())
        assert (again.interval, again.n, again.passport) == (score.interval, score.n, score.passport)
        assert again.value == score.value or (math.isnan(again.value) and math.isnan(score.value))


def test_undefined_resamples_are_left_out() -> None:
    """A resample without any words has no error rate; the interval is that of the others."""
    measured = Measurement(Passport("wer"), ratio, ("a", "b", "c"), np.array([[1.0, 2.0], [0.0, 0.0], [0.0, 0.0]]))
    assert measured.score().interval == (0.5, 0.5)


def test_large_measurements_are_resampled_in_bounded_memory() -> None:
    measured = Measurement.mean(ACCURACY, [f"{i:06}" for i in range(100_000)], np.arange(100_000) % 2)
    formula = of_sums(lambda sums: sums[:, 0] / sums[:, 1])
    score = Measurement(ACCURACY, formula, measured.ids, measured.statistics).score(resamples=60)
    assert score.value == 0.5 and score.interval is not None


def test_the_guide_runs() -> None:
    found = doctest.testfile(str(Path(__file__).parents[2] / "docs" / "evaluate.md"), module_relative=False)
    assert found.attempted > 5 and not found.failed
