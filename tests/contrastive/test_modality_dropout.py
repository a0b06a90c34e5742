"""Modality dropout: pure in (seed, step, sample, view), with the rates asked for, and never below the least."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tectum.contrastive.dropout import modality_dropout

N = 40_000
MANY = torch.arange(N)


def near(share: float, expected: float, n: int = N) -> bool:
    """Within five standard deviations of a binomial share."""
    return abs(share - expected) <= 5 * (max(expected * (1 - expected), 1e-12) / n) ** 0.5


def dropped(kept: dict[str, torch.Tensor], view: str) -> float:
    return 1 - kept[view].double().mean().item()


@given(seed=st.integers(0, 2**32), step=st.integers(0, 10**6), order=st.randoms(use_true_random=False))
def test_a_sample_is_treated_alike_in_any_company(seed, step, order) -> None:
    rates, samples = {"image": 0.3, "text": 0.6, "audio": 0.5}, [5, 900, -7, 2**40, 12]
    whole = modality_dropout(dict.fromkeys(rates, torch.tensor(samples)), rates, seed=seed, step=step)
    some = order.sample(samples, 3)
    views = list(rates)
    order.shuffle(views)
    part = modality_dropout({view: torch.tensor(some) for view in views}, rates, seed=seed, step=step)
    for view in rates:
        assert part[view].tolist() == [whole[view][samples.index(sample)].item() for sample in some]


def test_each_view_goes_at_its_own_rate_and_by_itself() -> None:
    rates = {"image": 0.1, "text": 0.5, "audio": 0.8}
    kept = modality_dropout(dict.fromkeys([*rates, "video"], MANY), rates, seed=3, step=7, least=0)
    for view, rate in rates.items():
        assert near(dropped(kept, view), rate)
    assert kept["video"].all()
    for a, b in itertools.combinations(rates, 2):
        assert near((~kept[a] & ~kept[b]).double().mean().item(), rates[a] * rates[b])


def test_seeds_and_steps_are_independent() -> None:
    def drawn(seed, step):
        return modality_dropout({"image": MANY}, {"image": 0.5}, seed=seed, step=step, least=0)["image"]

    for one, other in itertools.combinations([(0, 0), (0, 1), (1, 0), (1, 1)], 2):
        assert near((drawn(*one) == drawn(*other)).double().mean().item(), 0.5)


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.9])
def test_the_closed_form_with_a_least_number(rate) -> None:
    """Of m views at one rate p, all are dropped with p^m, and then one of them, any, is kept."""
    kept = modality_dropout(dict.fromkeys("abc", MANY), dict.fromkeys("abc", rate), seed=0, step=0, least=1)
    for view in "abc":
        assert near(dropped(kept, view), rate - rate**3 / 3)
    assert torch.stack(list(kept.values())).any(0).all()


@given(
    present=st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=20),
    least=st.integers(0, 4),
    rate=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_samples_keep_the_least_number_of_what_they_have(present, least, rate) -> None:
    ids = {view: torch.tensor([i for i, has in enumerate(present) if has[c]], dtype=torch.int64) for c, view in enumerate("abc")}
    kept = modality_dropout(ids, dict.fromkeys("abc", rate), seed=1, step=2, least=least)
    left = np.zeros(len(present), int)
    for view, rows in ids.items():
        assert kept[view].shape == rows.shape
        np.add.at(left, rows[kept[view]].numpy(), 1)
    has = np.array(present).sum(1)
    assert (left >= np.minimum(has, least)).all() and (left <= has).all()
    if rate in (0.0, 1.0):
        assert (left == (has if rate == 0 else np.minimum(has, least))).all()


def test_the_rows_of_a_sample_go_together() -> None:
    captions = MANY.repeat_interleave(5)
    kept = modality_dropout({"image": MANY, "text": captions}, {"text": 0.5}, seed=0, step=0, least=1)["text"].view(-1, 5)
    assert (kept.all(1) | ~kept.any(1)).all()


def test_a_rate_that_is_none() -> None:
    with pytest.raises(ValueError, match=r"the rate 1.5 of text is no probability"):
        modality_dropout({"text": MANY}, {"text": 1.5}, seed=0, step=0)
    assert modality_dropout({}, {}, seed=0, step=0) == {}
