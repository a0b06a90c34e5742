"""Minimal pairs: a caption that is true of a scene and one that is false, alike but for one thing.

The kinds and the records are those that `tectum.evaluate.composition` reads. No kind can be told by its words alone but "add",
where the longer caption is the false one: both captions of a pair come in the same words, name only pairs of colour and shape
that the world has, and whatever is right in one pair is wrong as often in another.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from tectum.data.worlds.claim import OPPOSITES, Claim, Noun, holds, most_counted, noun_of, relations, say
from tectum.data.worlds.dice import Dice
from tectum.data.worlds.draw import picture
from tectum.data.worlds.scene import Scene, World, make_scene
from tectum.errors import DataError
from tectum.files import write_text

_ATTEMPTS = 2000


@dataclass(frozen=True, slots=True)
class MinimalPair:
    """A scene with a true and a false claim, and both in words."""

    scene: Scene
    kind: str
    true: Claim
    false: Claim
    positive: str
    negative: str

    def record(self) -> dict[str, Any]:
        """As `tectum.evaluate.composition.pairs_from` reads it; the picture is to be saved under the name given."""
        name = f"{self.scene.key}.png"
        where = {"id": f"{self.kind}/{self.scene.key}", "image": name, "kind": self.kind}
        return {**where, "positive": self.positive, "negative": self.negative}


def minimal_pair(world: World, kind: str, seed: int, index: int) -> MinimalPair:
    """Pair number `index` ≥ 0 of a kind: a scene is drawn again until it allows one.

    Raises:
        DataError: if there is no such kind, or the world hardly has scenes for it.

    >>> from tectum.data.worlds.scene import pairs
    >>> pair = minimal_pair(pairs(), "swap-attribute", 0, 2)
    >>> pair.positive, pair.negative
    ('a scene with a pink cone to the left of a purple star', 'a scene with a purple cone to the left of a pink star')
    """
    if kind not in PAIR_KINDS:
        raise DataError(f"there is no kind {kind!r} of minimal pairs: choose one of {', '.join(PAIR_KINDS)}")
    dice = Dice(seed, index, kind)
    # What is asked is settled before the scene, so that scenes in which it is rare do not make it rarer.
    wish = dice.below(1 << 30)
    for attempt in range(_ATTEMPTS):
        scene = make_scene(world, seed, index, attempt)
        found = PAIR_KINDS[kind](scene, scene.dice(kind), wish)
        if found and holds(found[0], scene) and not holds(found[1], scene) and _known(world, found[1]):
            words = scene.dice(kind, "words").below(1 << 30)
            positive, negative = (say(claim, Dice(words)) for claim in found)
            return MinimalPair(scene, kind, *found, positive, negative)
    raise DataError(f"{_ATTEMPTS} scenes of this world had no minimal pair of the kind {kind!r}: widen its things and relations")


def write_pairs(folder: str | Path, world: World, *, seed: int, count: int, kinds: Sequence[str] = ()) -> None:
    """Write `count` pairs of each kind (all but "count" when left out) as pictures and `pairs.jsonl`, for `tectum eval pairs`.

    Raises DataError as `minimal_pair`.
    """
    folder, lines = Path(folder), []
    folder.mkdir(parents=True, exist_ok=True)
    for kind in kinds or [kind for kind in PAIR_KINDS if kind != "count"]:
        for index in range(count):
            pair = minimal_pair(world, kind, seed, index)
            Image.fromarray(picture(pair.scene)).save(folder / pair.record()["image"])
            lines.append(json.dumps(pair.record()))
    write_text(folder / "pairs.jsonl", "\n".join(lines) + "\n")


def _known(world: World, claim: Claim) -> bool:
    """Whether all colours and shapes named together occur so in the world: else an odd pair would give the false one away."""
    return all(not (noun.colour and noun.shape) or (noun.colour, noun.shape) in world.combinations for noun in claim.nouns)


Found = tuple[Claim, Claim] | None


def _two(scene: Scene, dice: Dice) -> Claim | None:
    """A true relation of two things unlike in colour and shape: a caption with one word twice would not come out of a swap."""
    found = [(name, a, b) for name, a, b in relations(scene) if a.colour != b.colour and a.shape != b.shape]
    if not found:
        return None
    relation, a, b = dice.pick(found)
    return Claim((noun_of(scene.world, a), noun_of(scene.world, b)), relation)


def _swap_attribute(scene: Scene, dice: Dice, wish: int) -> Found:
    claim = _two(scene, dice)
    if claim is None:
        return None
    a, b = claim.nouns
    return claim, replace(claim, nouns=(replace(a, colour=b.colour), replace(b, colour=a.colour)))


def _swap_object(scene: Scene, dice: Dice, wish: int) -> Found:
    claim = _two(scene, dice)
    return None if claim is None else (claim, replace(claim, nouns=claim.nouns[::-1]))


def _swap_relation(scene: Scene, dice: Dice, wish: int) -> Found:
    claim = _two(scene, dice)
    return None if claim is None else (claim, replace(claim, relation=OPPOSITES[claim.relation]))


def _replace(scene: Scene, dice: Dice, wish: int) -> Found:
    claim = _two(scene, dice) or Claim((noun_of(scene.world, dice.pick(scene.things)),))
    at, world = dice.below(len(claim.nouns)), scene.world
    noun = claim.nouns[at]
    other = replace(noun, colour=dice.pick(world.colours)) if wish % 2 else replace(noun, shape=dice.pick(world.shapes))
    rest = claim.nouns[:at] + claim.nouns[at + 1 :]
    if any(other.colour == one.colour or other.shape == one.shape for one in rest):
        return None
    return claim, replace(claim, nouns=(*claim.nouns[:at], other, *claim.nouns[at + 1 :]))


def _add(scene: Scene, dice: Dice, wish: int) -> Found:
    noun = noun_of(scene.world, dice.pick(scene.things))
    if wish % 2:
        return Claim((noun,)), Claim((noun, Noun(*dice.pick(scene.world.combinations)[::-1])))
    plain = Noun(noun.shape)
    return Claim((plain,)), Claim((replace(plain, colour=dice.pick(scene.world.colours)),))


def _negate(scene: Scene, dice: Dice, wish: int) -> Found:
    there = Claim((noun_of(scene.world, dice.pick(scene.things)),))
    absent = Claim((Noun(*dice.pick(scene.world.combinations)[::-1]),))
    return (there, _denied(there)) if wish % 2 else (_denied(absent), absent)


def _denied(claim: Claim) -> Claim:
    return Claim(tuple(replace(noun, count=0) for noun in claim.nouns))


def _count(scene: Scene, dice: Dice, wish: int) -> Found:
    """Any number and any other one, so that neither is the likelier."""
    numbers = Dice(wish).shuffled(range(1, most_counted(scene.world) + 1))
    if len(numbers) < 2:
        return None
    nouns = [Noun(shape=shape) for shape in scene.world.shapes] + [Noun(colour=colour) for colour in scene.world.colours]
    fit = [noun for noun in nouns if len(noun.among(scene)) == numbers[0]]
    if not fit:
        return None
    noun = dice.pick(fit)
    return Claim((replace(noun, count=numbers[0]),)), Claim((replace(noun, count=numbers[1]),))


PAIR_KINDS: Mapping[str, Callable[[Scene, Dice, int], Found]] = {
    "swap-attribute": _swap_attribute,
    "swap-object": _swap_object,
    "swap-relation": _swap_relation,
    "add": _add,
    "replace": _replace,
    "negate": _negate,
    "count": _count,
}
"""How each kind is made."""
