"""The order of samples: a permutation in each epoch, a pure function of (seed, step), nothing skipped or repeated."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tectum.data.order import batch_indices, permutation
from tectum.errors import ConfigError, DataError

sizes = st.integers(1, 50)
seeds = st.integers(0, 2**40)


@given(n=sizes, seed=seeds, epoch=st.integers(0, 2**40))
def test_every_epoch_is_a_permutation(n, seed, epoch):
    assert sorted(permutation(n, seed, epoch).tolist()) == list(range(n))


@settings(deadline=None)
@given(n=sizes, batch_size=st.integers(1, 70), seed=seeds, step=st.integers(0, 300))
def test_a_batch_is_a_slice_of_the_stream_of_epochs(n, batch_size, seed, step):
    epochs = ((step + 1) * batch_size - 1) // n + 1
    stream = np.concatenate([permutation(n, seed, epoch) for epoch in range(epochs)])
    batch = batch_indices(n, batch_size, seed, step)
    assert batch.dtype == np.int64
    np.testing.assert_array_equal(batch, stream[step * batch_size : (step + 1) * batch_size])


@given(n=sizes, batch_size=st.integers(1, 20), seed=seeds)
def test_the_first_epochs_hold_every_sample_equally_often(n, batch_size, seed):
    batches = [batch_indices(n, batch_size, seed, step) for step in range(n)]  # n batches of b are b whole epochs.
    np.testing.assert_array_equal(np.bincount(np.concatenate(batches), minlength=n), batch_size)


def test_a_batch_does_not_depend_on_what_was_asked_before():
    steps = list(range(60))
    forward = {step: batch_indices(17, 5, 3, step) for step in steps}
    permutation.cache_clear()
    for step in reversed(steps):
        np.testing.assert_array_equal(batch_indices(17, 5, 3, step), forward[step])


def test_the_order_is_uniform_and_changes_with_seed_and_epoch():
    # Each of n samples comes first with probability 1/n: counts within five standard deviations.
    n, epochs = 5, 4000
    first = np.bincount([permutation(n, 0, epoch)[0] for epoch in range(epochs)], minlength=n)
    assert np.abs(first - epochs / n).max() < 5 * np.sqrt(epochs * (1 / n) * (1 - 1 / n))
    orders = {tuple(permutation(20, seed, epoch)) for seed in range(20) for epoch in range(20)}
    assert len(orders) == 400
    # Neither (seed, epoch) pairs with the same sum nor neighbouring epochs are related: ranks do not correlate.
    ranks = np.stack([np.argsort(permutation(2000, seed, epoch)) for seed, epoch in ((0, 1), (1, 0), (0, 2), (7, 7))])
    correlation = np.corrcoef(ranks) - np.eye(4)
    assert np.abs(correlation).max() < 5 / np.sqrt(2000)


def test_the_kept_order_cannot_be_spoilt():
    with pytest.raises(ValueError, match="read-only"):
        permutation(5, 0, 0)[0] = 1
    batch_indices(5, 5, 0, 0)[:] = 0
    assert sorted(permutation(5, 0, 0).tolist()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [((0, 1, 0, 0), DataError), ((5, 0, 0, 0), ConfigError), ((5, 1, -1, 0), ConfigError), ((5, 1, 0, -1), ConfigError)],
)
def test_arguments_that_make_no_sense(arguments, error):
    with pytest.raises(error):
        batch_indices(*arguments)
