"""Hard negatives: those of a batch that teach, those of a whole collection or index, and batches of each other's neighbours.

The negatives of a random batch are easy once the coarse differences are learned. What is too near its anchor, though, is often a
positive that nobody has marked: each of these leaves positives out by their ids and can guard against unmarked ones.
"""

from __future__ import annotations

import math
from collections import deque

import torch
from torch import Tensor

NOBODY = -1
"""Stands in for a neighbour that is not there."""


def semi_hard(similarity: Tensor, positives: Tensor, k: int, *, margin: float = math.inf) -> Tensor:
    """The k hardest negatives of each row that are still less similar than its best positive (FaceNet, arXiv:1503.03832, eq. 4).

    The rest may be left out of the loss: `Targets(ignored=Dense(~(chosen | chosen_by_columns)))`, where the columns choose in the
    transposed matrix; positives are never ignored.

    Args:
        similarity: cosines [n, m] of a batch.
        positives: what belongs together, boolean [n, m]. A row without positives has no negatives either.
        k: most negatives of a row.
        margin: how far below the positive a negative may be, in cosines; FaceNet's squared distances are twice as much.

    Returns:
        The chosen ones, boolean [n, m]; fewer than k in a row where fewer qualify.

    >>> semi_hard(torch.tensor([[0.8, 0.9, 0.7, 0.1]]), torch.tensor([[True, False, False, False]]), 1)
    tensor([[False, False,  True, False]])
    """
    best = similarity.masked_fill(~positives, -math.inf).amax(1, keepdim=True)
    allowed = ~positives & (similarity < best) & (similarity > best - margin)
    found = similarity.masked_fill(~allowed, -math.inf).topk(min(k, similarity.shape[1]), dim=1).indices
    return torch.zeros_like(positives).scatter_(1, found, True) & allowed


def admissible(similarity: Tensor, ids: Tensor, own: Tensor, positive: Tensor, guard: float | None) -> Tensor:
    """Which neighbours may serve as negatives, boolean [n, k]: those of another id that are not suspiciously near.

    A neighbour nearer than a share `guard` of the positive's similarity is taken for an unmarked positive: the positive-aware
    mining of NV-Retriever (Moreira et al. 2024, arXiv:2407.15831, "TopK-PercPos"; its share is 0.95). That needs a model which is
    good already: a young one takes for positives the very negatives it has to learn.

    Args:
        similarity: of the neighbours to their anchors [n, k].
        ids: of the neighbours [n, k].
        own: ids of the anchors [n].
        positive: similarity of each anchor to its positive [n].
        guard: the share; None trusts the ids alone.

    >>> near = torch.tensor([[0.99, 0.9, 0.5]])
    >>> admissible(near, torch.tensor([[7, 8, 9]]), torch.tensor([7]), torch.tensor([0.9]), guard=0.95)
    tensor([[False, False,  True]])
    """
    allowed = ids != own[:, None]
    if guard is not None:
        limit = positive * torch.where(positive > 0, guard, 2 - guard)  # below the positive also where that is negative
        allowed &= similarity < limit[:, None]
    return allowed


def sift(found: Tensor, similarity: Tensor, allowed: Tensor, k: int) -> Tensor:
    """The k nearest [n, k] of what an index has found that may serve as negatives, nearest first; -1 where there are fewer.

    Args:
        found: rows of the items [n, c], in any order; ask the index for c > k of each anchor, for some will go.
        similarity: theirs to the anchors [n, c].
        allowed: boolean [n, c], as `admissible` tells.
        k: how many.

    >>> sift(torch.tensor([[4, 2, 9]]), torch.tensor([[0.9, 0.8, 0.7]]), torch.tensor([[False, True, True]]), 3)
    tensor([[ 2,  9, -1]])
    """
    best = similarity.masked_fill(~allowed, -math.inf).topk(min(k, similarity.shape[1]), dim=1)
    return torch.where(best.values > -math.inf, found.gather(1, best.indices), NOBODY)


@torch.no_grad()
def hard_neighbours(
    anchors: Tensor, items: Tensor, own: Tensor, ids: Tensor, k: int, *, guard: float | None = None, rows: int = 1024
) -> Tensor:
    """The k nearest items of each anchor that are no positives, nearest first, by exact search.

    An index serves as well, and finds them faster among many: `sift` its answers.

    Args:
        anchors: unit vectors [n, d].
        items: unit vectors [m, d].
        own: ids of the anchors [n].
        ids: of the items [m]; equal ids belong together.
        k: how many.
        guard: see `admissible`; an anchor without any positive among the items is not guarded.
        rows: anchors searched at once; changes memory only.

    Returns:
        Rows of the items [n, k], filled up with -1 where fewer than k qualify.

    >>> line = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, 0.3], [0.0, 1.0]]), dim=1)
    >>> hard_neighbours(line, line, torch.tensor([0, 0, 1, 2]), torch.tensor([0, 0, 1, 2]), 1).tolist()
    [[2], [2], [1], [2]]
    """
    found = []
    for at in range(0, len(anchors), rows):
        similarity = anchors[at : at + rows] @ items.T
        same = own[at : at + rows, None] == ids
        positive = similarity.masked_fill(~same, -math.inf).amax(1)
        positive = torch.where(same.any(1), positive, math.inf)
        allowed = admissible(similarity, ids.expand(len(similarity), -1), own[at : at + rows], positive, guard)
        found.append(sift(torch.arange(len(items), device=ids.device).expand_as(similarity), similarity, allowed, k))
    return torch.cat(found)


def neighbour_batches(neighbours: Tensor, batch: int, *, seed: int) -> Tensor:
    """An order [n] of all samples whose successive slices of `batch` hold each other's hard negatives; each sample is there once.

    A batch grows from a random sample to its neighbours, theirs, and so on, and from another random sample when they run out:
    breadth first, as the ordering by which GCBS answers the assignment it states (Sachidananda et al. 2022, arXiv:2210.12874);
    BatchSampler walks on such a graph at random (Yang et al. 2023, arXiv:2306.03355). Mine anew each epoch.

    Args:
        neighbours: rows of the samples [n, k], as `hard_neighbours` gives them, where anchors and items are the same pairs.
        batch: samples in a batch; the last one may be smaller.
        seed: of the random samples; give another one each epoch.

    Raises:
        ValueError: if the batch holds no sample.

    >>> order = neighbour_batches(torch.tensor([[2], [3], [0], [1]]), 2, seed=0)
    >>> sorted(sorted(part.tolist()) for part in order.split(2))
    [[0, 2], [1, 3]]
    """
    if batch < 1:
        raise ValueError(f"batches of {batch} hold no sample: give 1 or more")
    lists = neighbours.tolist()
    seeds = iter(torch.randperm(len(lists), generator=torch.Generator().manual_seed(seed)).tolist())
    taken = bytearray(len(lists))
    order: list[int] = []
    queue: deque[int] = deque()
    while len(order) < len(lists):
        if len(order) % batch == 0:
            queue.clear()
        sample = queue.popleft() if queue else next(seeds)
        if not taken[sample]:
            taken[sample] = True
            order.append(sample)
            queue.extend(other for other in lists[sample] if other != NOBODY and not taken[other])
    return torch.tensor(order)
