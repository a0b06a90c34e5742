"""Hard negatives: items of one kind differ in details that a random batch hardly ever asks for.

Two views share eight loud bits, the kind, and four quiet ones, the detail. In a random batch of 64 an item of the same kind is
rare, so that the details are learned from what little they add. The best that can be had is to find everything.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from challenge_pairs import Challenge, Optimizer, Towers, descend, recall_at_1, rows
from torch import Tensor

from tectum.contrastive.loss import info_nce
from tectum.contrastive.mining import admissible, hard_neighbours, neighbour_batches, semi_hard, sift
from tectum.contrastive.targets import Dense, Ids, Targets
from tectum.data.information import Fact, View, World
from tectum.data.order import batch_indices
from tectum.search.store import Row
from tectum.search.stores import open_store

LOUD, QUIET = Fact(("a", "b")), Fact(("a", "b"), gain=0.15)
WORLD = World(views={name: View(dim=64, clutter=0.15) for name in ("a", "b")}, facts=(LOUD,) * 8 + (QUIET,) * 4)
PAIRS, BATCH, STEPS, NEIGHBOURS = 4000, 64, 400, 8
ASKED = 32  # of the store for each anchor: room for the doubles, of which there are a handful
MINED_FROM, MINED_EVERY = 100, 100


def run(
    seed: int,
    optimizer: Optimizer,
    *,
    hardness: float = 0.0,
    hardest: int = 0,
    mined: Literal["not", "exactly", "from a store"] = "not",
    guard: float | None = None,
    marked: bool = True,
) -> float:
    """R@1 among 1000 new pairs.

    hardness    weight of hard negatives in the loss
    hardest     semi-hard negatives kept of each batch; 0 keeps all
    mined       batches are made of neighbours, found anew every hundred steps by all cosines or by a vector store
    guard       of the mining
    marked      whether it is known which items are the same; six in ten have a double
    """
    sample = WORLD.sample(PAIRS, 10 * seed)
    ids = sample.labels if marked else torch.arange(PAIRS)
    torch.manual_seed(seed)
    towers, order = Towers(64, 128, 16), torch.arange(PAIRS)

    def loss(step: int) -> Tensor:
        at = torch.from_numpy(batch_indices(PAIRS, BATCH, seed, step))
        if mined != "not" and step >= MINED_FROM:
            if (step - MINED_FROM) % MINED_EVERY == 0:
                with torch.no_grad():
                    a, b, _ = towers(sample.views)
                if mined == "exactly":
                    neighbours = hard_neighbours(a, b, ids, ids, NEIGHBOURS, guard=guard)
                else:
                    neighbours = stored_neighbours(a, b, ids, guard)
                order.copy_(neighbour_batches(neighbours, BATCH, seed=step))
            batch = batch_indices(PAIRS // BATCH, 1, seed, step)[0]
            at = order[batch * BATCH : (batch + 1) * BATCH]
        a, b, scale = towers(rows(sample.views, at))
        ignored = None if hardest == 0 else easy_ones(a @ b.T, ids[at], hardest)
        targets = Targets(positives=Ids(ids[at], ids[at]), ignored=ignored, hardness=hardness)
        return info_nce(a, b, scale, targets=targets).loss

    descend(towers, loss, STEPS, optimizer, after=towers.project_)
    return recall_at_1(towers, WORLD.sample(1000, 10 * seed + 1))


def stored_neighbours(a: Tensor, b: Tensor, ids: Tensor, guard: float | None) -> Tensor:
    """The same neighbours [n, k], found by a vector store."""
    store = open_store("memory:")
    store.create(dim=b.shape[1], fields={"item": int})
    store.upsert([Row(str(item), vector, {"item": item}) for item, vector in enumerate(b.numpy())])
    answers = [store.search(vector, ASKED) for vector in a.numpy()]
    found = torch.tensor([[int(hit.fields["item"]) for hit in hits] for hits in answers])
    similarity = torch.tensor([[hit.score for hit in hits] for hits in answers])
    allowed = admissible(similarity, ids[found], ids, (a * b).sum(1), guard)
    return sift(found, similarity, allowed, NEIGHBOURS)


@torch.no_grad()
def easy_ones(similarity: Tensor, ids: Tensor, k: int) -> Dense:
    """Pairs that are semi-hard neither for their row nor for their column."""
    same = ids[:, None] == ids
    chosen = semi_hard(similarity, same, k) | semi_hard(similarity.T, same, k).T
    return Dense((~chosen).float())


CHALLENGES = (
    Challenge(
        "fine details, random batches of 64: R@1 of 1000",
        "batches of mined neighbours",
        lambda seed, optimizer: 1.0,
        {
            "plain": run,
            "the 8 semi-hard negatives of the batch": partial(run, hardest=8),
            "hard negatives weigh more, β = 1": partial(run, hardness=1.0),
            "batches of mined neighbours": partial(run, mined="exactly"),
            "the same, found by a store": partial(run, mined="from a store"),
            "mined, guard of 0.95": partial(run, mined="exactly", guard=0.95),
            "mined, doubles not marked": partial(run, mined="exactly", marked=False),
        },
    ),
)
