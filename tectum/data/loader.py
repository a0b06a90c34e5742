"""Batches made ahead of the training step by background threads, handed out in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

from tectum.errors import ConfigError

T = TypeVar("T")


def prefetch(batch: Callable[[int], T], start: int, stop: int, depth: int = 4, workers: int = 1) -> Generator[tuple[int, T]]:
    """Yield `(step, batch(step))` for start <= step < stop, at most `depth` batches ahead of the consumer.

    `batch` must be a pure function of the step and, with `workers` > 1, safe to call from several threads at once: then the
    result does not depend on timing. It must not touch the global random state (that belongs to the consumer's thread). An
    exception of `batch(step)` is raised at the consumer when that step's turn comes. Closing the iterator (also by leaving a
    `for` loop) waits for the batches being made and drops the rest.

    Raises ConfigError if `depth` or `workers` < 1.

    >>> list(prefetch(lambda step: step * step, 2, 5))
    [(2, 4), (3, 9), (4, 16)]
    """
    if depth < 1 or workers < 1:
        raise ConfigError(f"prefetch needs depth and workers of 1 or more, got depth={depth}, workers={workers}")
    return _prefetch(batch, start, stop, depth, workers)


def _prefetch(batch: Callable[[int], T], start: int, stop: int, depth: int, workers: int) -> Generator[tuple[int, T]]:
    # Each of these threads would open a team of its own. With more of torch's threads than processors OpenMP puts the waiting
    # ones to sleep at once, the consumer's too, and steps of many small operations then take half as long again.
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="prefetch", initializer=torch.set_num_threads, initargs=(1,))
    pending: deque[Future[T]] = deque()
    try:
        submitted = start
        for step in range(start, stop):
            while submitted < min(step + 1 + depth, stop):
                pending.append(pool.submit(batch, submitted))
                submitted += 1
            made = pending.popleft().result()
            yield step, made
            del made
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(threads)  # The consumer never had another number: this is what threads to come begin with.
