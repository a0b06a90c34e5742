"""What the training challenges share: a loop, two small towers, and a score."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tectum.contrastive.distillation import Pair
from tectum.contrastive.temperature import Temperatures
from tectum.data.information import Sample
from tectum.evaluate.cosines import Cosines
from tectum.evaluate.retrieval import first_hits, recall, same_group
from tectum.train.config import TrainConfig
from tectum.train.optimizer import build_optimizer, learning_rate

Optimizer = Literal["adamw", "muon"]
Run = Callable[[int, Optimizer], float]
"""From the seed of data and weights, and the optimizer, to a score in 0 … 1."""


class Challenge(NamedTuple):
    """What is measured, what is best, and the runs to compare by name, the plain run first."""

    title: str
    fix: str
    """The run to recommend."""
    best: Run
    runs: Mapping[str, Run]


def descend(
    module: nn.Module,
    loss: Callable[[int], Tensor],
    steps: int,
    optimizer: Optimizer,
    *,
    between: Callable[[], None] = lambda: None,
    after: Callable[[], None] = lambda: None,
) -> None:
    """Train with warm-up and cosine; `between` is called before each step of the optimizer, `after` after it."""
    config = TrainConfig(steps=steps, lr=2e-3, warmup=20, weight_decay=0.1, optimizer=optimizer)
    updates = build_optimizer(module, config)
    for step in range(steps):
        for group in updates.param_groups:
            group["lr"] = learning_rate(config, step)
        updates.zero_grad()
        loss(step).backward()
        between()
        updates.step()
        after()


class Towers(nn.Module):
    """Two towers of one hidden layer, for the views "a" and "b" [n, dim], and a temperature."""

    def __init__(self, dim: int, width: int, out: int) -> None:
        super().__init__()
        self.towers = nn.ModuleDict(
            {name: nn.Sequential(nn.Linear(dim, width), nn.GELU(), nn.Linear(width, out)) for name in ("a", "b")}
        )
        self.temperatures = Temperatures([("a", "b")], start=10.0)

    def forward(self, views: Mapping[str, Tensor]) -> Pair:
        a, b = (F.normalize(self.towers[name](views[name]), dim=-1) for name in ("a", "b"))
        return Pair(a, b, self.temperatures.scale("a", "b"))

    def project_(self) -> None:
        """Keep the temperature in bounds, after a step."""
        self.temperatures.project_()


def rows(views: Mapping[str, Tensor], at: Tensor) -> dict[str, Tensor]:
    """Some rows of all views."""
    return {name: values[at] for name, values in views.items()}


@torch.no_grad()
def recall_at_1(towers: Towers, test: Sample) -> float:
    """Share of items "a" whose nearest "b" has the same label."""
    pair, labels = towers(test.views), test.labels.tolist()
    hits = first_hits(Cosines(pair.a, pair.b), same_group(labels, labels))
    return recall(hits, 1, ties="average").score(resamples=0).value
