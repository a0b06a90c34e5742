"""Are generated items copies of training items? Nearest neighbours, calibrated by how near unseen real items come.

A distance by itself says little: what counts is whether a generated item is nearer to the training set than a real item
that was not trained on. This is the three-sample test of Meehan, Chaudhuri & Dasgupta 2020 (arXiv:2004.05675), over the
whole space.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from tectum.errors import EvaluationError
from tectum.evaluate.features import Features, check_alike
from tectum.evaluate.manifold import nearest
from tectum.evaluate.measurement import Measurement
from tectum.evaluate.score import Passport, Setting


@dataclass(frozen=True, slots=True)
class Memorisation:
    """What `memorisation` found; all arrays are in the order of `ids`.

    Attributes:
        ids: of the generated items.
        neighbours: for each, the ids of its nearest training items, the nearest first.
        distances: to them [n, k].
        ratio: distance to the nearest over the median of the null distances [n]: 0 is an exact copy, 1 typical of an unseen item.
        p: for each, the share of null items that come as near, (1 + count) / (1 + null items): the chance that an unseen real
            item is this near to the training set [n].
        copying: the mean share of null items that are farther away than a generated one, ties counted half: ½ if the generated
            items are as new as unseen real ones, near 1 if they are copies, below ½ if they lie away from the data.
    """

    ids: tuple[str, ...]
    neighbours: tuple[tuple[str, ...], ...]
    distances: np.ndarray
    ratio: np.ndarray
    p: np.ndarray
    copying: Measurement

    def nearest_first(self) -> list[int]:
        """Numbers of the generated items, the most like a copy first, to be shown beside their neighbours."""
        return np.argsort(self.ratio, kind="stable").tolist()


def memorisation(training: Features, generated: Features, *, held_out: Features | None = None, k: int = 5) -> Memorisation:
    """Find the nearest training items of every generated one, and how unusually near they are.

    The null distances are those of `held_out` real items to their nearest training item; without it, those of each training
    item to its nearest other, which are longer than they should be by a factor of about (n / (n − 1))^(1/d) only, but are 0
    for duplicates.

    Args:
        training: at least 2 items.
        generated: any number.
        held_out: real items that were not trained on.
        k: neighbours to name, at most as many as training items.

    Raises:
        PassportError: if the features were made differently.
        EvaluationError: if their sizes differ, or there are too few items.

    >>> training = Features.of([[0.0], [1.0], [3.0]], ids=["a.png", "b.png", "c.png"])
    >>> found = memorisation(training, Features.of([[1.0], [9.0]]), k=1)
    >>> found.neighbours, found.ratio.tolist()
    ((('b.png',), ('c.png',)), [0.0, 6.0])
    """
    settings = check_alike(training, generated)
    null_items = training if held_out is None else held_out
    check_alike(training, null_items)
    if len(training) < 2 or not len(generated) or not len(null_items) or not 1 <= k <= len(training):
        raise EvaluationError(
            f"{len(training)} training, {len(generated)} generated and {len(null_items)} null items with k = {k} "
            "cannot be compared: give at least 2, 1 and 1, and a k from 1 to the number of training items"
        )
    distances, rows = nearest(generated.vectors, training.vectors, k)
    null = nearest(null_items.vectors, training.vectors, 1, others=held_out is None)[0][:, 0].sort().values
    closest = distances[:, 0].contiguous()
    nearer, as_near = (torch.searchsorted(null, closest, right=right).double() for right in (False, True))
    farther = 1 - (nearer + as_near) / 2 / len(null)
    typical = float(null.median())
    if not typical:
        raise EvaluationError(
            "most null items equal a training item: remove duplicates, or give held-out items that are not among them"
        )
    made: dict[str, Setting] = {
        **settings,
        "training": len(training),
        "null": "training, each left out" if held_out is None else f"{len(held_out)} held out",
    }
    return Memorisation(
        ids=generated.ids,
        neighbours=tuple(tuple(training.ids[row] for row in found) for found in rows.tolist()),
        distances=distances.cpu().numpy(),
        ratio=(closest / typical).cpu().numpy(),
        p=((1 + as_near) / (1 + len(null))).cpu().numpy(),
        copying=Measurement.mean(Passport("copying", made), generated.ids, farther.cpu().numpy()),
    )
