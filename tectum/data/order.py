"""Which samples make up which batch: a pure function of (seed, step), so that a run resumes anywhere without saved state.

The samples form one endless stream, epoch after epoch, each epoch a fresh permutation; batch `step` is the slice
[step * batch_size, (step + 1) * batch_size) of that stream. A batch that crosses an epoch's end takes the rest from the next
epoch, so nothing is dropped, skipped or repeated within an epoch.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from tectum.errors import ConfigError, DataError


@lru_cache(maxsize=16)
def permutation(n: int, seed: int, epoch: int) -> np.ndarray:
    """The order of `n` samples in one epoch, int64 [n], read-only; the last few are kept in memory.

    It sorts the raw 64-bit output of PCG64, which numpy keeps stable across versions (it does not promise this for
    `Generator.permutation`), so a run resumes exactly after numpy was upgraded.

    Raises DataError if `n` < 1 and ConfigError if `seed` or `epoch` is negative.

    >>> sorted(permutation(5, seed=0, epoch=3).tolist())
    [0, 1, 2, 3, 4]
    """
    if n < 1:
        raise DataError(f"a dataset of {n} samples has no order: give at least one sample")
    if seed < 0 or epoch < 0:
        raise ConfigError(f"seed and epoch must be 0 or more, got seed={seed}, epoch={epoch}")
    keys = np.random.PCG64(np.random.SeedSequence([seed, epoch])).random_raw(n)
    order = np.argsort(keys, kind="stable")
    order.setflags(write=False)
    return order


def batch_indices(n: int, batch_size: int, seed: int, step: int) -> np.ndarray:
    """The sample numbers of batch `step`, int64 [batch_size].

    Raises DataError if `n` < 1 and ConfigError if `batch_size` < 1 or if `seed` or `step` is negative.

    >>> first_epoch = np.concatenate([batch_indices(6, 2, seed=0, step=step) for step in range(3)])
    >>> sorted(first_epoch.tolist())
    [0, 1, 2, 3, 4, 5]
    """
    if batch_size < 1 or step < 0:
        raise ConfigError(f"batch_size must be 1 or more and step 0 or more, got batch_size={batch_size}, step={step}")
    start, stop = step * batch_size, (step + 1) * batch_size
    pieces = []
    for epoch in range(start // max(n, 1), (stop - 1) // max(n, 1) + 1):
        begin = epoch * n
        pieces.append(permutation(n, seed, epoch)[max(start - begin, 0) : stop - begin])
    return np.concatenate(pieces)
