"""Modality imbalance: an easy view that is wrong once in ten times, and a slow one that knows everything.

Both views hold the two bits of the label. The easy one shows them plainly, each wrongly with probability 0.1, and has many
further numbers by which samples can be told apart; the slow one shows each as the parity of three. So the best accuracy is 1,
with the easy view alone 0.81, and of the 2 bits the slow view has 0.94 to itself. Trained together, the easy view explains four
fifths of the samples before the slow one is read at all, and the rest are learned by heart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from challenge_pairs import Challenge, Optimizer, descend, rows
from torch import Tensor, nn
from torch.nn import functional as F

from tectum.data.information import Fact, View, World
from tectum.data.order import batch_indices
from tectum.nn.pooling import mean_pool
from tectum.nn.transformer import Transformer
from tectum.train.balance import Balance

Slowed = Literal["not", "by OGM", "by OGM-GE", "by steps"]
CUT = 16
"""Numbers of a view in one token."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """A kind of model, and as much data and time as make it hard."""

    transformer: bool
    easy_dim: int
    samples: int
    width: int
    steps: int
    batch: int

    @property
    def world(self) -> World:
        views = {"easy": View(dim=self.easy_dim, flip=0.1), "slow": View(dim=CUT, parity=3)}
        return World(views=views, facts=(Fact(("easy", "slow")),) * 2)


PERCEPTRONS = Setting(transformer=False, easy_dim=96, samples=3000, width=64, steps=800, batch=128)
TRANSFORMERS = Setting(transformer=True, easy_dim=128, samples=1500, width=32, steps=700, batch=64)


class Tokens(nn.Module):
    """A Transformer block over a view cut into tokens: [n, dim] to [n, dim / 16, width]."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Linear(CUT, width)
        self.positions = nn.Parameter(torch.randn(dim // CUT, width) * width**-0.5)
        self.transformer = Transformer(width, 1, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.transformer(self.embedding(x.unflatten(1, (-1, CUT))) + self.positions)


class Fusion(nn.Module):
    """An encoder and a head for each view; a linear map on all features, or a Transformer on all tokens, for both together."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        views, width, classes = setting.world.views, setting.width, 2 ** len(setting.world.facts)
        self.encoders = nn.ModuleDict({name: self._encoder(setting.transformer, view.dim, width) for name, view in views.items()})
        self.mixer = Transformer(width, 1, 4) if setting.transformer else None
        self.head = nn.Linear(width if setting.transformer else width * len(views), classes)
        self.heads = nn.ModuleDict({name: nn.Linear(width, classes) for name in views})

    @staticmethod
    def _encoder(transformer: bool, dim: int, width: int) -> nn.Module:
        if transformer:
            return Tokens(dim, width)
        layers = [nn.Linear(dim, width), nn.GELU(), nn.Linear(width, width), nn.GELU()]
        return nn.Sequential(*layers, nn.Unflatten(1, (1, -1)))

    def forward(self, views: Mapping[str, Tensor], *, teach: bool = True) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits of both together, and of each view alone; these reach the encoders only if they `teach`."""
        tokens = {name: self.encoders[name](x) for name, x in views.items()}
        if self.mixer is None:
            joint = self.head(torch.cat([x[:, 0] for x in tokens.values()], 1))
        else:
            joint = self.head(mean_pool(self.mixer(torch.cat(list(tokens.values()), 1))))
        return joint, {name: self.heads[name](mean_pool(x if teach else x.detach())) for name, x in tokens.items()}


@torch.no_grad()
def ogm_ge(model: Fusion, factors: Mapping[str, float], *, noise: bool) -> None:
    """OGM (Peng et al. 2022) with the factors of `Balance`: gradients are scaled, those of the view that leads by less than 1.

    OGM-GE also adds Gaussian noise as large as the gradients of a parameter were. Parameters of all shapes take part, where the
    authors' code leaves out all but convolutions.
    """
    for name, factor in factors.items():
        for parameter in model.encoders[name].parameters():
            if (gradient := parameter.grad) is not None:
                random = gradient.std() * torch.randn_like(gradient) if noise else 0.0
                parameter.grad = factor * gradient + random


def run(setting: Setting, slowed: Slowed, alone: bool, seed: int, optimizer: Optimizer) -> float:
    """Accuracy on 2000 new samples of a run in which the view that leads is slowed in some way.

    With `alone` the losses of each view alone are a part of the loss; without, they only measure the pace.
    """
    world = setting.world
    train, test = world.sample(setting.samples, 2 * seed), world.sample(2000, 2 * seed + 1)
    torch.manual_seed(seed)
    model = Fusion(setting)
    balance = Balance({name: encoder.parameters() for name, encoder in model.encoders.items()})

    def loss(step: int) -> Tensor:
        at = torch.from_numpy(batch_indices(setting.samples, setting.batch, seed, step))
        joint, each = model(rows(train.views, at), teach=alone)
        losses = {name: F.cross_entropy(logits, train.labels[at]) for name, logits in each.items()}
        balance.watch(losses)
        return F.cross_entropy(joint, train.labels[at]) + sum(losses.values())

    def between() -> None:
        if slowed in ("by OGM", "by OGM-GE"):
            ogm_ge(model, balance.factors(), noise=slowed == "by OGM-GE")

    def after() -> None:
        if slowed == "by steps":
            balance.settle()

    descend(model, loss, setting.steps, optimizer, between=between, after=after)
    with torch.no_grad():
        return (model.eval()(test.views)[0].argmax(1) == test.labels).float().mean().item()


def challenge(name: str, setting: Setting, fix: str) -> Challenge:
    """The same runs for one kind of model."""
    runs = {
        "plain": partial(run, setting, "not", False),
        "gradients scaled (OGM)": partial(run, setting, "by OGM", False),
        "gradients scaled, noise added (OGM-GE)": partial(run, setting, "by OGM-GE", False),
        "steps scaled": partial(run, setting, "by steps", False),
        "each view's own loss": partial(run, setting, "not", True),
        "own losses, steps scaled": partial(run, setting, "by steps", True),
    }
    title = f"modality imbalance, {name}: accuracy"
    return Challenge(title, fix, lambda seed, optimizer: setting.world.accuracy(), runs)


CHALLENGES = (
    challenge("perceptrons", PERCEPTRONS, "own losses, steps scaled"),
    challenge("Transformers", TRANSFORMERS, "each view's own loss"),
)
