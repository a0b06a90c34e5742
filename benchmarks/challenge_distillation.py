"""Distillation of a large model into a small one: where pairs are few, and where the small one does not find it by itself.

Few pairs: two views share 16 bits, and the student has 300 pairs where the teacher had 8000. Of a pool of 4000 more it has views
of both kinds that belong to different samples: nobody has matched them.
Narrow: two views share 10 bits, each the parity of two numbers, and both models have the same 8000 pairs. Towers of 48 units
take far longer to find the parities than towers of 256.
The teacher has 32 numbers and the student 16. The best that can be had is the teacher.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Literal

import torch
from challenge_pairs import Challenge, Optimizer, Towers, descend, recall_at_1, rows
from torch import Tensor, nn
from torch.nn import functional as F

from tectum.contrastive.distillation import Pair, feature_loss, gram_loss, similarity_loss
from tectum.contrastive.loss import info_nce
from tectum.data.information import Fact, View, World
from tectum.data.order import batch_indices

Trouble = Literal["few", "narrow"]
WORLDS: dict[Trouble, World] = {
    "few": World(views={name: View(dim=64) for name in ("a", "b")}, facts=(Fact(("a", "b")),) * 16),
    "narrow": World(views={name: View(dim=32, parity=2, clutter=0.5) for name in ("a", "b")}, facts=(Fact(("a", "b")),) * 10),
}
PAIRS, POOL, MANY = 300, 4000, 8000
Lesson = Callable[[Pair, Pair, nn.Module], Tensor]
"""A loss from what the student and the teacher make of the same items, and a map from the one's space to the other's."""


def score(trouble: Trouble, towers: Towers, seed: int) -> float:
    """R@1 among 500 new pairs."""
    return recall_at_1(towers, WORLDS[trouble].sample(500, 10 * seed + 1))


def similarities(mine: Pair, its: Pair, onto: nn.Module) -> Tensor:
    return similarity_loss(mine, its)


def grams(mine: Pair, its: Pair, onto: nn.Module) -> Tensor:
    return 20 * (gram_loss(mine.a, its.a) + gram_loss(mine.b, its.b))


def features(mine: Pair, its: Pair, onto: nn.Module) -> Tensor:
    a, b = (F.normalize(onto(x), dim=-1) for x in mine[:2])
    return 5 * (feature_loss(a, its.a) + feature_loss(b, its.b))


def fit(
    towers: Towers,
    views: Mapping[str, Tensor],
    seed: int,
    optimizer: Optimizer,
    *,
    batch: int,
    steps: int,
    teacher: Towers | None = None,
    lesson: Lesson | None = None,
    pool: Mapping[str, Tensor] | None = None,
) -> Towers:
    """Learn from pairs, and have a lesson from the teacher, on these or on the pool."""
    onto = nn.Linear(16, 32)

    def some(views: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
        return rows(views, torch.from_numpy(batch_indices(len(views["a"]), batch, seed, step)))

    def loss(step: int) -> Tensor:
        shown = some(views, step)
        pair = towers(shown)
        own = info_nce(*pair).loss
        if teacher is None or lesson is None:
            return own
        if pool is not None:
            shown = some(pool, step)
            pair = towers(shown)
        return own + lesson(pair, teacher(shown), onto)

    descend(nn.ModuleList([towers, onto]), loss, steps, optimizer, after=towers.project_)
    return towers.requires_grad_(False)


@lru_cache(maxsize=2)
def large(trouble: Trouble, steps: int, seed: int, optimizer: Optimizer) -> Towers:
    """The teacher, or what it is after fewer steps."""
    torch.manual_seed(seed)
    world = WORLDS[trouble]
    towers = Towers(world.views["a"].dim, 256, 32)
    return fit(towers, world.sample(MANY, 10 * seed).views, seed, optimizer, batch=125, steps=steps)


def with_few_pairs(seed: int, optimizer: Optimizer, *, lesson: Lesson | None = None, matched: bool = True) -> float:
    """The small model on 300 pairs; lessons are on these, or on items that nobody has matched."""
    teacher = large("few", 600, seed, optimizer)
    world = WORLDS["few"]
    pool = {name: world.sample(POOL, 10 * seed + 3 + at).views[name] for at, name in enumerate(("a", "b"))}
    torch.manual_seed(seed + 1000)
    views, options = world.sample(PAIRS, 10 * seed + 2).views, {"batch": 100, "steps": 400}
    towers = Towers(64, 48, 16)
    fit(towers, views, seed, optimizer, **options, teacher=teacher, lesson=lesson, pool=None if matched else pool)
    return score("few", towers, seed)


def narrow(seed: int, optimizer: Optimizer, *, lesson: Lesson | None = None, steps: int = 600) -> float:
    """The small model on the teacher's own pairs."""
    teacher = None if lesson is None else large("narrow", 1600, seed, optimizer)
    views = WORLDS["narrow"].sample(MANY, 10 * seed).views
    torch.manual_seed(seed + 1000)
    towers = Towers(32, 48, 16)
    fit(towers, views, seed, optimizer, batch=125, steps=steps, teacher=teacher, lesson=lesson)
    return score("narrow", towers, seed)


def as_large(trouble: Trouble, steps: int, seed: int, optimizer: Optimizer) -> float:
    """The large model itself."""
    return score(trouble, large(trouble, steps, seed, optimizer), seed)


CHALLENGES = (
    Challenge(
        "300 pairs for a small model: R@1 of 500",
        "its features, on unmatched items",
        partial(as_large, "few", 600),
        {
            "plain": with_few_pairs,
            "the teacher's similarities, on the pairs": partial(with_few_pairs, lesson=similarities),
            "its Gram matrices, on the pairs": partial(with_few_pairs, lesson=grams),
            "its features, on the pairs": partial(with_few_pairs, lesson=features),
            "its similarities, on unmatched items": partial(with_few_pairs, lesson=similarities, matched=False),
            "its Gram matrices, on unmatched items": partial(with_few_pairs, lesson=grams, matched=False),
            "its features, on unmatched items": partial(with_few_pairs, lesson=features, matched=False),
        },
    ),
    Challenge(
        "parities for a narrow model: R@1 of 500",
        "the teacher's features",
        partial(as_large, "narrow", 1600),
        {
            "plain": narrow,
            "plain, twice the steps": partial(narrow, steps=1200),
            "as wide as the teacher": partial(as_large, "narrow", 600),
            "the teacher's similarities": partial(narrow, lesson=similarities),
            "its Gram matrices": partial(narrow, lesson=grams),
            "the teacher's features": partial(narrow, lesson=features),
        },
    ),
)
