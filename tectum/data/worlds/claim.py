"""Claims about a scene in a form that can be checked, and the ways to put them into words.

Captions, minimal pairs and questions are all claims: what is true is decided by `holds`, never by the text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

from tectum.data.worlds.dice import Dice
from tectum.data.worlds.scene import Box, Scene, Thing, World

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NAMES: Mapping[str, tuple[str, ...]] = {
    "sphere": ("sphere", "ball"),
    "cube": ("cube", "block"),
    "cone": ("cone", "pyramid"),
    "ring": ("ring", "hoop"),
    "cross": ("cross", "plus sign"),
    "star": ("star",),
    "heart": ("heart",),
    "diamond": ("diamond", "rhombus"),
    "": ("object", "thing"),
}
"""What shapes are called; "" is any of them."""

OPPOSITES: Mapping[str, str] = {
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
    "on": "under",
    "under": "on",
}
WORDS: Mapping[str, tuple[str, ...]] = {
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "above": ("above", "higher than"),
    "below": ("below", "lower than"),
    "on": ("on", "on top of"),
    "under": ("under", "underneath"),
}
_LISTS = ("{}", "there {be} {}", "a picture of {}", "a scene with {}", "a drawing that shows {}", "here {be} {}")
_RELATED = ("{} {r} {}", "{} is {r} {}", "there is {} {r} {}", "a picture of {} {r} {}", "a scene with {} {r} {}")


@dataclass(frozen=True, slots=True)
class Noun:
    """A noun phrase. What is "" is left open; without a count it means "at least one", with it "exactly so many"."""

    shape: str = ""
    colour: str = ""
    size: str = ""
    material: str = ""
    count: int | None = None

    def fits(self, thing: Thing) -> bool:
        """Whether a thing is one of these."""
        said = (self.shape, self.colour, self.size, self.material)
        return all(not word or word == found for word, found in zip(said, thing[:4], strict=True))

    def among(self, scene: Scene) -> list[Thing]:
        """The things of a scene that fit."""
        return [thing for thing in scene.things if self.fits(thing)]


@dataclass(frozen=True, slots=True)
class Claim:
    """That all of these are there; or, with a relation, that a thing of the first kind is so to a thing of the second."""

    nouns: tuple[Noun, ...]
    relation: str = ""


def related(relation: str, a: Box, b: Box) -> bool:
    """Whether a box is left of, right of, above, below, on or under another.

    The first four ask for boxes that do not overlap along that axis. "on" asks for boxes that touch, the upper one's middle
    over the lower one; what is on something is above it too.

    >>> related("left of", (0, 0, 9, 9), (9, 30, 20, 40)), related("left of", (0, 0, 10, 9), (9, 30, 20, 40))
    (True, False)
    """
    match relation:
        case "left of":
            return a[2] <= b[0]
        case "above":
            return a[3] <= b[1]
        case "on":
            return a[3] == b[1] and 2 * b[0] <= a[0] + a[2] <= 2 * b[2]
        case "right of" | "below" | "under":
            return related(OPPOSITES[relation], b, a)
    raise ValueError(f"there is no relation {relation!r}: choose one of {', '.join(WORDS)}")


def holds(claim: Claim, scene: Scene) -> bool:
    """Whether a claim is true of a scene.

    >>> from tectum.data.worlds.scene import make_scene, pairs
    >>> scene = make_scene(pairs(), 0, 0)
    >>> thing = scene.things[0]
    >>> holds(Claim((Noun(thing.shape),)), scene), holds(Claim((Noun(thing.shape, count=2),)), scene)
    (True, False)
    """
    found = [noun.among(scene) for noun in claim.nouns]
    if claim.relation:
        return any(a is not b and related(claim.relation, a.box, b.box) for a in found[0] for b in found[1])
    counts = [noun.count for noun in claim.nouns]
    return all(bool(things) if count is None else len(things) == count for things, count in zip(found, counts, strict=True))


def noun_of(world: World, thing: Thing, dice: Dice | None = None, count: int | None = None) -> Noun:
    """A thing in words: colour and shape, and where the world has several sizes or materials perhaps those, as the dice say."""
    size = thing.size if len(world.sizes) > 1 and dice and dice.chance(0.3) else ""
    material = thing.material if len(world.materials) > 1 and dice and dice.chance(0.3) else ""
    return Noun(thing.shape, thing.colour, size, material, count)


def most_counted(world: World) -> int:
    """The most things of one colour or shape that are counted: more than four alike are rare."""
    return min(4, world.things[1]) if world.repeats else 1


def relations(scene: Scene) -> list[tuple[str, Thing, Thing]]:
    """Everything true of two things by the world's relations; "above" and "below" are left out where it is "on"."""
    found = []
    for a, b in permutations(scene.things, 2):
        true = [name for name in scene.world.relations if related(name, a.box, b.box)]
        touching = related("on", a.box, b.box) or related("under", a.box, b.box)
        found += [(name, a, b) for name in true if not (touching and name in ("above", "below"))]
    return found


def claims(scene: Scene, dice: Dice) -> list[Claim]:
    """True claims: one that names everything (or some, if the world is `partial`), and one for each relation."""
    nouns: dict[Noun, int] = {}
    for thing in dice.shuffled(scene.things):
        noun = noun_of(scene.world, thing)
        nouns[noun] = nouns.get(noun, 0) + 1
    everything = tuple(Noun(noun.shape, noun.colour, count=None if n == 1 else n) for noun, n in nouns.items())
    if scene.world.partial and len(everything) > 1 and dice.chance(scene.world.partial):
        everything = everything[: 1 + dice.below(len(everything) - 1)]
    two = [Claim((noun_of(scene.world, a, dice), noun_of(scene.world, b, dice)), name) for name, a, b in relations(scene)]
    return [Claim(everything), *(claim for claim in two if claim.nouns[0] != claim.nouns[1])]


def tell(scene: Scene, number: int = 0) -> tuple[Claim, str]:
    """What a caption claims, and the caption: see `caption`."""
    dice = scene.dice("caption", number)
    everything, *two = claims(scene, dice)
    claim = dice.pick(two) if two and dice.chance(0.5) else everything
    return claim, say(claim, dice)


def caption(scene: Scene, number: int = 0) -> str:
    """A true caption; each number is another draw of what is said and how.

    A scene of two or more things is told by a relation in half of the captions, else by all that is there, or some of it if the
    world is `partial`.

    >>> from tectum.data.worlds.scene import make_scene, pairs
    >>> scene = make_scene(pairs(), 0, 0)
    >>> caption(scene, 0), caption(scene, 7)
    ('here is a purple cone and a pink sphere', 'a purple cone below a pink sphere')
    """
    return tell(scene, number)[1]


def captions(scene: Scene, count: int) -> list[str]:
    """Captions number 0 … count − 1: paraphrases and different facts of one scene."""
    return [caption(scene, number) for number in range(count)]


def say(claim: Claim, dice: Dice | None = None) -> str:
    """A claim in words: the plainest, or as the dice say.

    Claims of the same form are put into the same words by the same dice, so that they differ in nothing but what they claim.

    >>> say(Claim((Noun("cube", "red"), Noun("sphere", "blue")), "on"))
    'a red cube on a blue sphere'
    >>> say(Claim((Noun("star", "", count=2), Noun("ring", "orange"))))
    'two stars and an orange ring'
    """
    pick: Callable[[Sequence[str]], str] = dice.pick if dice else lambda options: options[0]
    template = pick(_RELATED if claim.relation else _LISTS)
    relation = pick(WORDS[claim.relation]) if claim.relation else ""
    style = dice.below(4) if dice else 0
    phrases = [phrase(noun, style) for noun in claim.nouns]
    if claim.relation:
        return template.format(*phrases, r=relation)
    joined = " and ".join([", ".join(phrases[:-1]), phrases[-1]] if len(phrases) > 1 else phrases)
    return template.format(joined, be="are" if claim.nouns[0].count not in (None, 0, 1) else "is")


def phrase(noun: Noun, style: int = 0, article: str = "a") -> str:
    """A noun phrase with its number or article. Odd styles use second names; from style 2 on sizes come after materials.

    >>> phrase(Noun("cube", "orange", "small")), phrase(Noun("sphere", count=3), 1), phrase(Noun("star", "red"), article="the")
    ('a small orange cube', 'three balls', 'the red star')
    """
    names = NAMES[noun.shape]
    name = names[style % 2 % len(names)]
    order = (noun.size, noun.material) if style < 2 else (noun.material, noun.size)
    words = [word for word in (*order, noun.colour) if word]
    if noun.count is not None:
        plural = name if noun.count in (0, 1) else f"{name}s" if name != "cross" else "crosses"
        return " ".join([NUMBERS[noun.count], *words, plural])
    words.append(name)
    return " ".join(["an" if article == "a" and words[0][0] in "aeiou" else article, *words])
