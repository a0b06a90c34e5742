"""Growing pictures: the schedule and its work counted step by step, the operations counted by torch, and a run of equal work."""

import importlib
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from tectum.errors import ConfigError
from tectum.train.resolution import Growth

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@given(
    steps=st.integers(1, 500),
    later=st.lists(st.floats(0.01, 0.99), max_size=3, unique=True),
    sizes=st.lists(st.integers(8, 64), min_size=4, max_size=4),
)
def test_every_step_has_the_size_of_the_last_start_before_it_and_the_work_is_their_sum(
    steps: int, later: list[float], sizes: list[int]
) -> None:
    growth = Growth(sizes=tuple(sizes[: len(later) + 1]), starts=(0.0, *sorted(later)))
    sides = [growth.side(step, steps) for step in range(steps)]
    for step, side in enumerate(sides):
        begun = [size for size, start in zip(growth.sizes, growth.starts, strict=True) if start * steps <= step]
        assert side == begun[-1]
    largest = (max(growth.sizes) / growth.sizes[-1]) ** 2
    counted = sum((side / growth.sizes[-1]) ** 2 for side in sides) / steps
    assert growth.work() == pytest.approx(counted, abs=4 * largest / steps)


def test_schedules_that_make_no_sense_are_refused() -> None:
    for sizes, starts in (((), ()), ((32,), (0.1,)), ((32, 64), (0.0,)), ((32, 64), (0.0, 0.0)), ((32, 64), (0.0, 1.0))):
        with pytest.raises(ConfigError, match="rising from 0 to below 1"):
            Growth(sizes=sizes, starts=starts)


def test_growing_pictures_learn_more_from_the_same_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    shapes = importlib.import_module("challenge_resolution")
    torch.manual_seed(0)
    module, work = shapes.network(), []
    for side in (shapes.SIDE // 2, shapes.SIDE):
        with FlopCounterMode(display=False) as counter:
            module(torch.zeros(2, 1, side, side)).sum().backward()
        work.append(counter.get_total_flops())
    assert work[0] / work[1] == pytest.approx(0.25, abs=0.03)
    plain, growing = (shapes.run(growth, 0.5, 0, "adamw") for growth in (shapes.FIXED, shapes.GROWING))
    assert growing - plain > 0.3 * (1 - plain)
