"""Noisy pairs: 40 % of the pairs are shuffled, and a run that is long enough learns them by heart.

Two views share 16 bits. The best that can be had is a run on the pairs that were left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from challenge_pairs import Challenge, Optimizer, Towers, descend, recall_at_1, rows
from torch import Tensor

from tectum.contrastive.filtering import co_teach, forget_rate, keep_best, mixture_posterior, pair_cosines, pair_losses
from tectum.contrastive.loss import info_nce
from tectum.contrastive.targets import Targets
from tectum.data.information import Fact, Sample, View, World
from tectum.data.order import batch_indices

WORLD = World(views={name: View(dim=64) for name in ("a", "b")}, facts=(Fact(("a", "b")),) * 16)
NOISE, PAIRS, BATCH, EPOCHS, TRUSTED_FROM = 0.4, 2000, 125, 24, 4
STOPS = (4, 8, 12)
CHECKED = 400
PER_EPOCH = PAIRS // BATCH


class Noisy(NamedTuple):
    """Pairs, and which of them are wrong [n]."""

    sample: Sample
    wrong: Tensor


def noisy(seed: int) -> Noisy:
    """Pairs of which a share have been given another's second view."""
    sample = WORLD.sample(PAIRS, 10 * seed)
    wrong = torch.rand(PAIRS, generator=torch.Generator().manual_seed(seed)) < NOISE
    moved = wrong.nonzero()[:, 0]
    sample.views["b"][moved] = sample.views["b"][moved.roll(1)]
    return Noisy(sample, wrong)


def score(towers: Towers, seed: int) -> float:
    """R@1 among 500 new pairs."""
    return recall_at_1(towers, WORLD.sample(500, 10 * seed + 1))


def new_towers(seed: int) -> Towers:
    torch.manual_seed(seed)
    return Towers(64, 128, 32)


def fit(
    data: Noisy, seed: int, optimizer: Optimizer, *, epochs: int = EPOCHS, kept: Tensor | None = None, mixture: bool = False
) -> Towers:
    """A run on the pairs `kept` (all if left out), or one that believes in each as a mixture model of its losses does."""
    towers, believed = new_towers(seed), torch.ones(PAIRS)
    kept = torch.arange(PAIRS) if kept is None else kept.nonzero()[:, 0]

    def loss(step: int) -> Tensor:
        if mixture and step % PER_EPOCH == 0 and step >= TRUSTED_FROM * PER_EPOCH:
            with torch.no_grad():
                believed.copy_(mixture_posterior(pair_losses(*towers(data.sample.views))))
        at = kept[torch.from_numpy(batch_indices(len(kept), BATCH, seed, step))]
        return info_nce(*towers(rows(data.sample.views, at)), targets=Targets(confidence=believed[at])).loss

    descend(towers, loss, epochs * PER_EPOCH, optimizer, after=towers.project_)
    return towers


def plain(seed: int, optimizer: Optimizer) -> float:
    """As if all pairs were right."""
    return score(fit(noisy(seed), seed, optimizer), seed)


def stopped(seed: int, optimizer: Optimizer) -> float:
    """Shorter plain runs; the score itself tells which was best, which nobody could know."""
    return max(score(fit(noisy(seed), seed, optimizer, epochs=epochs), seed) for epochs in STOPS)


def by_mixture(seed: int, optimizer: Optimizer) -> float:
    """Each epoch a mixture model says how far each pair is believed."""
    return score(fit(noisy(seed), seed, optimizer, mixture=True), seed)


def by_co_teaching(seed: int, optimizer: Optimizer) -> float:
    """Two runs, each on the pairs that are easy for the other."""
    data, models = noisy(seed), torch.nn.ModuleList([new_towers(seed), new_towers(seed + 1000)])

    def loss(step: int) -> Tensor:
        at = torch.from_numpy(batch_indices(PAIRS, BATCH, seed, step))
        pairs = [model(rows(data.sample.views, at)) for model in models]
        masks = co_teach(*(pair_losses(*pair) for pair in pairs), forget_rate(step, noise=NOISE, ramp=TRUSTED_FROM * PER_EPOCH))
        return sum(info_nce(*pair, targets=Targets(confidence=mask)).loss for pair, mask in zip(pairs, masks, strict=True))

    def project() -> None:
        for model in models:
            model.project_()

    descend(models, loss, EPOCHS * PER_EPOCH, optimizer, after=project)
    return score(models[0], seed)


def trained_on_noise(seed: int, optimizer: Optimizer) -> Towers:
    """A judge from as many other noisy pairs, by the mixture model."""
    return fit(noisy(seed + 500), seed, optimizer, mixture=True)


def trained_on_checked(seed: int, optimizer: Optimizer) -> Towers:
    """A judge from 400 other pairs that somebody has checked."""
    data = noisy(seed + 500)
    return fit(data, seed, optimizer, epochs=STOPS[-1], kept=~data.wrong & ((~data.wrong).cumsum(0) <= CHECKED))


def by_judge(train: Callable[[int, Optimizer], Towers], seed: int, optimizer: Optimizer) -> float:
    """A run on the best 60 % by the cosines of a model that is trained already."""
    data, judge = noisy(seed), train(seed, optimizer)
    with torch.no_grad():
        cosines = pair_cosines(*judge(data.sample.views)[:2])
    return score(fit(data, seed, optimizer, kept=keep_best(cosines, 1 - NOISE)), seed)


def judge_alone(seed: int, optimizer: Optimizer) -> float:
    """What the judge from checked pairs finds itself."""
    return score(trained_on_checked(seed, optimizer), seed)


def on_right_pairs(seed: int, optimizer: Optimizer) -> float:
    """A run that is told which pairs are right."""
    data = noisy(seed)
    return score(fit(data, seed, optimizer, kept=~data.wrong), seed)


CHALLENGES = (
    Challenge(
        "noisy pairs, 40 % shuffled: R@1 of 500",
        "mixture model of the losses",
        on_right_pairs,
        {
            "plain": plain,
            "plain, the best of 4, 8 and 12 epochs": stopped,
            "mixture model of the losses": by_mixture,
            "co-teaching": by_co_teaching,
            "best 60 % by a model of other noisy pairs": partial(by_judge, trained_on_noise),
            "a model of 400 checked pairs": judge_alone,
            "best 60 % by that model": partial(by_judge, trained_on_checked),
        },
    ),
)
