"""Prefetching: in order, independent of timing, exceptions at their step, no thread left behind."""

import random
import threading
import time

import pytest
import torch

from tectum.data.loader import prefetch
from tectum.errors import ConfigError


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("prefetch")}


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("depth", [1, 4])
def test_batches_come_in_order_whatever_the_timing(depth, workers):
    def batch(step):
        time.sleep(random.random() * 0.003)
        return step * step

    assert list(prefetch(batch, 5, 45, depth, workers)) == [(step, step * step) for step in range(5, 45)]
    assert not threads()


def test_nothing_to_do():
    assert list(prefetch(lambda step: step, 3, 3)) == []
    assert list(prefetch(lambda step: step, 4, 3)) == []


def test_an_exception_is_raised_when_its_turn_comes():
    def batch(step):
        if step >= 3:
            raise KeyError(step)
        return step

    batches = prefetch(batch, 0, 10)
    assert [next(batches)[0] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError, match="3"):
        next(batches)
    assert not threads()


def test_it_runs_ahead_but_not_further_than_depth():
    asked: list[int] = []
    batches = prefetch(lambda step: asked.append(step), 0, 100, depth=4)
    for step in range(20):
        next(batches)
        deadline = time.monotonic() + 5
        while len(asked) < step + 5 and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.002)
        assert asked == list(range(step + 5))  # The batch in use and four more.
    batches.close()


def test_closing_drops_the_rest_and_ends_the_threads():
    asked: list[int] = []
    release = threading.Event()

    def batch(step):
        asked.append(step)
        if step:
            release.wait()
        return step

    batches = prefetch(batch, 0, 1000, depth=50)
    next(batches)
    assert threads()
    threading.Timer(0.05, release.set).start()
    batches.close()
    assert not threads()
    assert asked in ([0], [0, 1])


def test_the_consumers_random_state_is_not_touched():
    def batch(step):
        return torch.rand(100, generator=torch.Generator().manual_seed(step))

    torch.manual_seed(0)
    alone = [torch.rand(1).item() for _ in range(30)]
    torch.manual_seed(0)
    assert [torch.rand(1).item() for _ in prefetch(batch, 0, 30, workers=2)] == alone


def test_arguments_that_make_no_sense():
    with pytest.raises(ConfigError, match="depth=0"):
        prefetch(lambda step: step, 0, 1, depth=0)


def test_batches_are_made_on_one_thread_of_torch_each_and_the_consumer_keeps_its_own():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        for _, made in prefetch(lambda step: torch.get_num_threads(), 0, 6, workers=2):
            assert (made, torch.get_num_threads()) == (1, 3)
        later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        seen: list[int] = []
        later.start()
        later.join()
        assert seen == [3]
    finally:
        torch.set_num_threads(before)
