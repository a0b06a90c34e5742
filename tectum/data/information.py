"""A world whose information is known: the bits of a label that views share, own alone or split among them.

Every fact is one fair bit of the label. Copied to one view it is unique information, copied to several it is redundant, split
into shares whose exclusive-or it is, it is synergistic: no share alone says anything. The partial information decomposition
(Williams & Beer 2010, arXiv:1004.2515) of Bertschinger et al. (2014, arXiv:1311.2852) then has a closed form, also where views
show some bits wrongly: facts are independent, and there it is additive; and of two noisy copies the worse is a garbling of the
better, so that its unique information is 0. How hard a view is to learn is another matter: parity, gain and clutter move it and
leave the information alone.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from tectum.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """How a view shows the bits it holds, in a vector.

    dim        length of the vector
    flip       probability that a bit is shown wrongly, drawn anew for each bit of each sample
    parity     numbers ±1 whose product the bit is: 1 is read by a linear map, 2 or more are learned late
    clutter    standard deviation of the directions that hold no bit

    Raises ConfigError naming the field that does not fit.
    """

    dim: int
    flip: float = 0.0
    parity: int = 1
    clutter: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.flip <= 0.5:
            raise ConfigError(f"flip = {self.flip} must lie in 0 … ½: a view that is mostly wrong is one that is mostly right")
        if self.parity < 1:
            raise ConfigError(f"parity = {self.parity} must be 1 or more")


@dataclass(frozen=True, slots=True)
class Fact:
    """One bit of the label and the views that hold it: a copy each, or with `split` a share each; `gain` is how loud it is."""

    views: tuple[str, ...]
    split: bool = False
    gain: float = 1.0


class Decomposition(NamedTuple):
    """What two views say about the label, in bits. The sum is what both say together."""

    redundant: float
    unique: tuple[float, float]
    synergistic: float


class Sample(NamedTuple):
    """Views [n, dim] by name, and the bits of the label [n, facts], 0 or 1 (int64)."""

    views: dict[str, Tensor]
    bits: Tensor

    @property
    def labels(self) -> Tensor:
        """The label as a number [n] in 0 … 2^facts − 1."""
        return self.bits @ (2 ** torch.arange(self.bits.shape[1]))


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """Views, facts, and a seed for the directions in which the views write their bits.

    Raises ConfigError if a fact names no view or one that is not there, or a view is too short for its bits.

    >>> world = World(views={"image": View(dim=8), "sound": View(dim=8)},
    ...               facts=(Fact(("image", "sound")), Fact(("image",)), Fact(("image", "sound"), split=True)))
    >>> world.decompose("image", "sound")
    Decomposition(redundant=1.0, unique=(1.0, 0.0), synergistic=1.0)
    >>> world.information(["sound"]), world.accuracy(["sound"])         # knows one bit, guesses two
    (1.0, 0.25)
    """

    views: Mapping[str, View]
    facts: tuple[Fact, ...]
    seed: int = 0

    def __post_init__(self) -> None:
        for fact in self.facts:
            if not fact.views or len(set(fact.views) & self.views.keys()) < len(fact.views):
                raise ConfigError(f"a fact lies in the views {fact.views}: name one or more of {sorted(self.views)}, each once")
        for name, view in self.views.items():
            if view.dim < (cells := view.parity * len(self._held(name))):
                raise ConfigError(f"the view {name!r} writes its bits into {cells} numbers: dim = {view.dim} is too short")

    def information(self, views: Collection[str] | None = None) -> float:
        """Mutual information of the label and some views (all if left out), in bits. Raises ConfigError if one is not there."""
        return sum(_information(self._flips(fact, views)) for fact in self.facts)

    def accuracy(self, views: Collection[str] | None = None) -> float:
        """Bayes-optimal accuracy: how often the best guess of the whole label from some views (all if left out) is right.

        Raises ConfigError if a view is not there.
        """
        return math.prod(_accuracy(self._flips(fact, views)) for fact in self.facts)

    def decompose(self, first: str, second: str) -> Decomposition:
        """The partial information decomposition of what two views say about the label. Raises ConfigError if one is not there."""
        redundant, unique, synergistic = 0.0, [0.0, 0.0], 0.0
        for fact in self.facts:
            one, other, both = (_information(self._flips(fact, views)) for views in ([first], [second], [first, second]))
            redundant += min(one, other)
            unique[0] += one - min(one, other)
            unique[1] += other - min(one, other)
            synergistic += both - max(one, other)
        return Decomposition(redundant, (unique[0], unique[1]), synergistic)

    def sample(self, n: int, seed: int) -> Sample:
        """Draw n samples: a pure function of the world, n and the seed."""
        generator = torch.Generator().manual_seed(seed)
        bits = torch.randint(2, (n, len(self.facts)), generator=generator)
        held: dict[str, list[Tensor]] = {name: [] for name in self.views}
        for fact, bit in zip(self.facts, bits.T, strict=True):
            for share, name in enumerate(fact.views):
                last = not fact.split or share == len(fact.views) - 1
                shown = bit if last else torch.randint(2, (n,), generator=generator)
                bit = bit ^ shown if fact.split else bit
                held[name].append(shown)
        views = {
            name: self._show(name, torch.stack(held[name], 1) if held[name] else bits[:, :0], generator) for name in self.views
        }
        return Sample(views, bits)

    def _held(self, name: str) -> list[Fact]:
        return [fact for fact in self.facts if name in fact.views]

    def _show(self, name: str, bits: Tensor, generator: torch.Generator) -> Tensor:
        view, (n, k) = self.views[name], bits.shape
        shown = bits ^ (torch.rand(n, k, generator=generator) < view.flip)
        cells = 2.0 * torch.randint(2, (n, k, view.parity), generator=generator) - 1
        cells[:, :, -1] = (2.0 * shown - 1) * cells[:, :, :-1].prod(-1)
        cells *= torch.tensor([fact.gain for fact in self._held(name)])[:, None]
        clutter = view.clutter * torch.randn(n, view.dim - k * view.parity, generator=generator)
        return torch.cat((cells.flatten(1), clutter), 1) @ self._directions(name)

    def _directions(self, name: str) -> Tensor:
        """An orthogonal matrix [dim, dim], the same for all samples."""
        order = sorted(self.views).index(name)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + order)
        return torch.linalg.qr(torch.randn(2 * (self.views[name].dim,), generator=generator)).Q

    def _flips(self, fact: Fact, views: Collection[str] | None) -> list[float]:
        """The fact as seen through independent channels, each of which turns the bit with some probability."""
        if views is not None and not set(views) <= self.views.keys():
            raise ConfigError(f"the world has the views {sorted(self.views)}, not {sorted(views)}")
        seen = [self.views[name].flip for name in fact.views if views is None or name in views]
        if not fact.split:
            return seen
        # The exclusive-or of the shares is wrong if an odd number of them is.
        return [(1 - math.prod(1 - 2 * flip for flip in seen)) / 2] if len(seen) == len(fact.views) else []


def _joint(flips: list[float]) -> list[tuple[float, float]]:
    """For each pattern that the channels may show: its probability together with a bit of 0, and with a bit of 1."""
    return [
        (
            math.prod(1 - p if not s else p for p, s in zip(flips, shown, strict=True)) / 2,
            math.prod(1 - p if s else p for p, s in zip(flips, shown, strict=True)) / 2,
        )
        for shown in product((False, True), repeat=len(flips))
    ]


def _information(flips: list[float]) -> float:
    return sum(p * math.log2(2 * p / (zero + one)) for zero, one in _joint(flips) for p in (zero, one) if p > 0)


def _accuracy(flips: list[float]) -> float:
    return sum(max(pair) for pair in _joint(flips))
