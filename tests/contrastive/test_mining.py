"""Mining: brute force as oracle, no positive ever, every sample once, and a run that learns details only from mined batches."""

import importlib
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from tectum.contrastive.loss import info_nce
from tectum.contrastive.mining import NOBODY, admissible, hard_neighbours, neighbour_batches, semi_hard, sift
from tectum.contrastive.targets import Dense, Targets
from tectum.search.store import Row
from tectum.search.stores import open_store

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def unit(n: int, d: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=-1)


def some_ids(n: int, seed: int) -> torch.Tensor:
    return torch.randint(max(1, n // 2), (n,), generator=torch.Generator().manual_seed(seed))


@given(n=st.integers(1, 12), m=st.integers(1, 15), k=st.integers(1, 20), rows=st.integers(1, 15), seed=st.integers(0, 99))
def test_neighbours_are_those_of_brute_force_and_never_positives(n: int, m: int, k: int, rows: int, seed: int) -> None:
    anchors, items, own, ids = unit(n, 4, seed), unit(m, 4, seed + 1), some_ids(n, seed), some_ids(m, seed + 1)
    found = hard_neighbours(anchors, items, own, ids, k, rows=rows)
    assert found.shape == (n, min(k, m))
    for anchor in range(n):
        others = [item for item in range(m) if ids[item] != own[anchor]]
        others.sort(key=lambda item: -float(anchors[anchor] @ items[item]))
        row = [item for item in found[anchor].tolist() if item != NOBODY]
        assert row == others[:k]
        assert found[anchor, len(row) :].eq(NOBODY).all()


@given(guard=st.floats(0.1, 1.0), seed=st.integers(0, 99))
def test_the_guard_keeps_away_from_the_positive_and_changes_nothing_else(guard: float, seed: int) -> None:
    items, ids = unit(20, 3, seed), some_ids(20, seed)
    anchors = F.normalize(items + 0.3 * unit(20, 3, seed + 1), dim=-1)
    free, guarded = (hard_neighbours(anchors, items, ids, ids, 20, guard=value) for value in (None, guard))
    similarity = anchors @ items.T
    positive = similarity.masked_fill(ids[:, None] != ids, -math.inf).amax(1)
    for anchor in range(20):
        limit = float(positive[anchor] - (1 - guard) * positive[anchor].abs())
        expected = [item for item in free[anchor].tolist() if item != NOBODY and float(similarity[anchor, item]) < limit]
        assert [item for item in guarded[anchor].tolist() if item != NOBODY] == expected


def test_an_anchor_without_a_positive_is_not_guarded() -> None:
    anchors, items = torch.tensor([[1.0, 0.0]]), torch.eye(2)
    assert hard_neighbours(anchors, items, torch.tensor([9]), torch.tensor([1, 2]), 2, guard=0.5).tolist() == [[0, 1]]


def test_answers_of_a_store_are_sifted_to_the_same_neighbours() -> None:
    items, ids = unit(40, 6, 0), some_ids(40, 0)
    store = open_store("memory:")
    store.create(dim=6, fields={"item": int})
    store.upsert([Row(str(i), items[i].numpy(), {"item": i}) for i in range(40)])
    hits = [store.search(vector, k=40) for vector in items.numpy()]
    rows = torch.tensor([[int(hit.fields["item"]) for hit in row] for row in hits])
    scores = torch.from_numpy(np.array([[hit.score for hit in row] for row in hits], np.float32))
    allowed = admissible(scores, ids[rows], ids, torch.ones(40), guard=0.9)
    assert torch.equal(sift(rows, scores, allowed, 5), hard_neighbours(items, items, ids, ids, 5, guard=0.9))


@given(n=st.integers(1, 9), m=st.integers(1, 9), k=st.integers(1, 10), margin=st.floats(0.05, 3), seed=st.integers(0, 99))
def test_semi_hard_negatives_lie_within_the_margin_below_the_positive(n: int, m: int, k: int, margin: float, seed: int) -> None:
    similarity = unit(n, 4, seed) @ unit(m, 4, seed + 1).T
    positives = some_ids(n, seed)[:, None] == some_ids(m, seed + 1)
    chosen = semi_hard(similarity, positives, k, margin=margin)
    assert not (chosen & positives).any()
    for row in range(n):
        best = max((float(s) for s in similarity[row][positives[row]]), default=-math.inf)
        band = sorted((float(s) for s in similarity[row][~positives[row]] if best - margin < float(s) < best), reverse=True)
        assert sorted((float(s) for s in similarity[row][chosen[row]]), reverse=True) == band[:k]


def test_the_rest_can_be_ignored_by_the_loss() -> None:
    a, b = unit(6, 4, 0), unit(6, 4, 1)
    same = torch.eye(6, dtype=torch.bool)
    chosen = semi_hard(a @ b.T, same, 2) | semi_hard((a @ b.T).T, same, 2).T
    loss = info_nce(a, b, 5.0, targets=Targets(ignored=Dense((~chosen).float()))).loss
    logits = (5 * a @ b.T).masked_fill(~(chosen | same), -math.inf)
    labels = torch.arange(6)
    torch.testing.assert_close(loss, (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2)


@given(n=st.integers(1, 40), k=st.integers(1, 5), batch=st.integers(1, 12), seed=st.integers(0, 99))
def test_batches_hold_every_sample_once_and_repeat_with_the_seed(n: int, k: int, batch: int, seed: int) -> None:
    neighbours = torch.randint(-1, n, (n, k), generator=torch.Generator().manual_seed(seed))
    order = neighbour_batches(neighbours, batch, seed=seed)
    assert sorted(order.tolist()) == list(range(n))
    assert torch.equal(order, neighbour_batches(neighbours, batch, seed=seed))


def test_batches_of_the_size_of_the_groups_are_the_groups() -> None:
    groups = torch.randperm(60, generator=torch.Generator().manual_seed(0)).reshape(12, 5)
    neighbours = torch.empty(60, 4, dtype=torch.long)
    for group in groups:
        for at, sample in enumerate(group):
            neighbours[sample] = torch.cat((group[:at], group[at + 1 :]))
    order = neighbour_batches(neighbours, 5, seed=3)
    assert sorted(map(sorted, order.reshape(12, 5).tolist())) == sorted(map(sorted, groups.tolist()))


def test_a_batch_holds_samples() -> None:
    with pytest.raises(ValueError, match="batches of 0"):
        neighbour_batches(torch.zeros(3, 1, dtype=torch.long), 0, seed=0)


def test_details_are_learned_from_mined_batches_and_not_from_random_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    mining = importlib.import_module("challenge_mining")
    plain, weighed, mined = (mining.run(0, "adamw", **how) for how in ({}, {"hardness": 1.0}, {"mined": "exactly"}))
    assert plain < 0.65 and weighed - plain > 0.1 * (1 - plain) and mined - plain > 0.8 * (1 - plain)
    # A vector store finds the same, and so do the runs.
    a, b, ids = unit(300, 8, 0), unit(300, 8, 1), torch.arange(300) // 2
    assert torch.equal(mining.stored_neighbours(a, b, ids, None), hard_neighbours(a, b, ids, ids, mining.NEIGHBOURS))
