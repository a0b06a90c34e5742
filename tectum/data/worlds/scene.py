"""Worlds and their scenes: things of a shape, colour, size and material on a ground, a pure function of (world, seed, index)."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from tectum.data.worlds.dice import Dice
from tectum.data.worlds.stamp import COLOURS, MATERIALS, SHAPES, SIZES, extent
from tectum.errors import ConfigError

GROUNDS = ("plain", "slope", "checks", "speckle")
RELATIONS = ("left of", "right of", "above", "below", "on", "under")
_TRIES = 60

Box = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """What scenes may hold.

    size         side of the pictures in pixels
    things       fewest and most things in a scene
    shapes, colours, sizes, materials, grounds, relations   which of the names in `stamp` and above there are
    repeats      chance that a further thing takes its shape, colour or both from an earlier one; else both are new, as long as
                 there are new ones
    stacked      chance that a further thing is put on an earlier one, if "on" is among the relations
    overlap      largest share of a thing's box that nearer things' boxes hide
    partial      chance that a caption without a relation names some of the things only, instead of all
    every        hold out each pair of the i-th colour and the j-th shape with (i + j) divisible by this; 0 holds out none
    part         "seen": no held-out pair occurs; "unseen": nothing else does; "all"

    Raises ConfigError if it could have no scenes.

    >>> World(colours=("red", "blue"), shapes=("cube", "cone"), every=2, part="unseen", things=(1, 1)).combinations
    (('red', 'cube'), ('blue', 'cone'))
    """

    size: int = 64
    things: tuple[int, int] = (1, 4)
    shapes: tuple[str, ...] = tuple(SHAPES)
    colours: tuple[str, ...] = tuple(COLOURS)
    sizes: tuple[str, ...] = tuple(SIZES)
    materials: tuple[str, ...] = ("matte",)
    grounds: tuple[str, ...] = GROUNDS
    relations: tuple[str, ...] = RELATIONS
    repeats: float = 0.3
    stacked: float = 0.25
    overlap: float = 0.0
    partial: float = 0.0
    every: int = 0
    part: Literal["all", "seen", "unseen"] = "all"
    combinations: tuple[tuple[str, str], ...] = field(init=False, repr=False, compare=False)
    """The (colour, shape) pairs that occur."""
    code: str = field(init=False, repr=False, compare=False)
    """Eight hex digits that stand for the options."""

    def __post_init__(self) -> None:
        for name, known in (
            ("shapes", SHAPES),
            ("colours", COLOURS),
            ("sizes", SIZES),
            ("materials", MATERIALS),
            ("grounds", GROUNDS),
            ("relations", RELATIONS),
        ):
            chosen = getattr(self, name)
            unknown = [one for one in chosen if one not in known]
            if unknown or len(set(chosen)) < len(chosen) or not (chosen or name == "relations"):
                raise ConfigError(f"{name} of a world are some of {', '.join(known)}, each once, not {chosen!r}")
        fewest, most = self.things
        if not 1 <= fewest <= most:
            raise ConfigError(f"things of a world are fewest and most, 1 or more, not {self.things!r}")
        if min(self.repeats, self.stacked, self.partial) < 0 or max(self.repeats, self.stacked, self.partial) > 1:
            raise ConfigError("repeats, stacked and partial of a world are chances, 0 … 1")
        if not 0 <= self.overlap < 1:
            raise ConfigError(f"overlap of a world is a share below 1, not {self.overlap}")
        if self.every < 0 or self.part not in ("all", "seen", "unseen") or (self.part != "all" and self.every < 2):
            raise ConfigError(f"a part {self.part!r} of a world needs every = 2 or more, not {self.every}")
        largest = max(self.side(name) for name in self.sizes)
        if min(self.side(name) for name in self.sizes) < 4:
            raise ConfigError(f"the smallest things of a world of {self.size} pixels are under 4 pixels: make it larger")
        if most * (largest + 1) ** 2 > 0.5 * (1 + self.overlap) * self.size**2:
            raise ConfigError(
                f"a world has no room for {most} things of {largest} pixels on {self.size}: make it fewer or smaller"
            )
        every = [(colour, shape) for colour in self.colours for shape in self.shapes]
        kept = tuple(pair for pair in every if self.part == "all" or self.unseen(*pair) == (self.part == "unseen"))
        if not kept:
            raise ConfigError(f"the part {self.part!r} of this world is empty: change every, the colours or the shapes")
        object.__setattr__(self, "combinations", kept)
        # Worlds that are not partial keep the scenes that they had before there was this option.
        options = repr(self) if self.partial else repr(self).replace(f", partial={self.partial!r}", "")
        object.__setattr__(self, "code", f"{zlib.crc32(options.encode()):08x}")

    def side(self, size: str) -> int:
        """Side in pixels of the square that a thing of this size is cut from."""
        return round(SIZES[size] * self.size)

    def unseen(self, colour: str, shape: str) -> bool:
        """Whether the pair is held out of the "seen" part: a rule, so that any two parts of a world are apart."""
        return self.every > 0 and (self.colours.index(colour) + self.shapes.index(shape)) % self.every == 0


class Thing(NamedTuple):
    """A thing; its box (left, top, right, bottom), in pixels, holds exactly what is drawn of it, right and bottom excluded."""

    shape: str
    colour: str
    size: str
    material: str
    box: Box


class Ground(NamedTuple):
    """What lies behind: its kind, two light colours in RGB, and a number that the rest follows from."""

    kind: str
    colours: tuple[tuple[int, int, int], tuple[int, int, int]]
    number: int


@dataclass(frozen=True, slots=True)
class Scene:
    """Things from far to near, on a ground; `key` names the scene, also among those of other worlds."""

    world: World
    key: str
    things: tuple[Thing, ...]
    ground: Ground

    def dice(self, *use: object) -> Dice:
        """Choices about this scene, another stream for each use."""
        return Dice(self.key, *use)

    def record(self) -> dict[str, Any]:
        """The scene as plain data for JSON."""
        return {"key": self.key, "size": self.world.size, "things": [thing._asdict() for thing in self.things]}


def make_scene(world: World, seed: int, index: int, attempt: int = 0) -> Scene:
    """Scene number `index` ≥ 0 of the endless series `seed`; `attempt` gives others of the same number.

    Raises:
        ConfigError: if no place is found for the things: the world is too full.

    >>> make_scene(pairs(), 0, 5) == make_scene(pairs(), 0, 5) != make_scene(pairs(), 0, 6)
    True
    """
    key = f"{world.code}-{seed}-{index}-{attempt}"
    dice = Dice(key)
    things: list[Thing] = []
    count = world.things[0] + dice.below(world.things[1] - world.things[0] + 1)
    for _ in range(_TRIES):
        things = []
        while len(things) < count and (thing := _place(world, dice, things)):
            things.append(thing)
        if len(things) == count:
            return Scene(world, key, tuple(things), _ground(world, dice))
    raise ConfigError(f"no place for {count} things on {world.size} pixels: make them fewer or smaller, or let them overlap")


def _place(world: World, dice: Dice, others: list[Thing]) -> Thing | None:
    """A further thing, where it does not hide too much of the others; None if there is no such place."""
    colour, shape = _kind(world, dice, others)
    size, material = dice.pick(world.sizes), dice.pick(world.materials)
    width, height = extent(shape, world.side(size))
    stack = bool(others) and "on" in world.relations and dice.chance(world.stacked)
    for attempt in range(_TRIES):
        if stack and attempt < _TRIES // 4:
            left, top, right, _ = dice.pick(others).box
            x = round((left + right - width) / 2 + dice.uniform(-0.15, 0.15) * (right - left))
            y = top - height
        else:
            x, y = dice.below(world.size - width + 1), dice.below(world.size - height + 1)
        box = (x, y, x + width, y + height)
        if x >= 0 and y >= 0 and box[2] <= world.size and all(_fits(world, box, others, at) for at in range(len(others))):
            return Thing(shape, colour, size, material, box)
    return None


def _fits(world: World, box: Box, others: list[Thing], at: int) -> bool:
    """Whether enough is left of the other if a box is laid over it and over what already hides it."""
    other = others[at].box
    hidden = _shared(other, box)
    if not hidden:
        return True
    if world.overlap:
        hidden += sum(_shared(other, nearer.box) for nearer in others[at + 1 :])
    return hidden <= world.overlap * (other[2] - other[0]) * (other[3] - other[1])


def _shared(a: Box, b: Box) -> int:
    """Pixels that two boxes have in common."""
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def _kind(world: World, dice: Dice, others: list[Thing]) -> tuple[str, str]:
    """Colour and shape of a further thing."""
    if others and dice.chance(world.repeats):
        model, what = dice.pick(others), dice.below(3)
        if what == 0:
            return model.colour, model.shape
        at, value = (0, model.colour) if what == 1 else (1, model.shape)
        return dice.pick([pair for pair in world.combinations if pair[at] == value])
    for _ in range(_TRIES):
        colour, shape = dice.pick(world.combinations)
        if all(other.colour != colour and other.shape != shape for other in others):
            break
    return colour, shape


def _ground(world: World, dice: Dice) -> Ground:
    def light() -> tuple[int, int, int]:
        level = 208 + dice.below(32)
        return level + dice.below(10), level + dice.below(10), level + dice.below(10)

    return Ground(dice.pick(world.grounds), (light(), light()), dice.below(1 << 30))


def singles(size: int = 64) -> World:
    """One thing, to learn what words mean and to classify.

    The presets are starting points: change them by `dataclasses.replace`.
    """
    return World(size=size, things=(1, 1))


def pairs(size: int = 64) -> World:
    """Two large things unlike in colour and shape: for relations and swapped captions."""
    return World(size=size, things=(2, 2), sizes=("large",), repeats=0.0)


def crowds(size: int = 64) -> World:
    """One to five small things, many of them alike: for counting and for questions."""
    return World(size=size, things=(1, 5), sizes=("small",), repeats=0.6)


def heaps(size: int = 64) -> World:
    """Two to five things of all sizes and materials that hide each other in part: for masks, detection and generation."""
    return World(size=size, things=(2, 5), materials=tuple(MATERIALS), overlap=0.4)
