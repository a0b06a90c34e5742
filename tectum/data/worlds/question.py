"""Questions about scenes, with their answers; every answer of a kind is as likely as any other, whatever the question says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from tectum.data.worlds.claim import OPPOSITES, WORDS, Claim, Noun, holds, most_counted, noun_of, phrase, relations
from tectum.data.worlds.dice import Dice
from tectum.data.worlds.scene import Scene, Thing, World, make_scene
from tectum.errors import DataError

CORNERS = ("top left", "top right", "bottom left", "bottom right")
_ATTEMPTS = 2000
_YES_NO = ("yes", "no")


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about a scene, the answer, and the kind: one of `QUESTION_KINDS`."""

    scene: Scene
    kind: str
    text: str
    answer: str


def ask(world: World, seed: int, index: int, kind: str = "") -> Question:
    """Question number `index` ≥ 0, of a kind or, left out, of one that the dice choose.

    The answer is drawn first, uniformly from `answers(world, kind)`, and then scenes are until one allows it: so a guess
    without the picture is right once in so many answers. (Where colour and shape pairs are held out, once in as many as the
    colour or shape that is named still has.)

    Raises:
        DataError: if there is no such kind, or the world hardly has scenes for it.

    >>> from tectum.data.worlds.scene import crowds
    >>> question = ask(crowds(), 0, 1, "count")
    >>> question.text, question.answer
    ('what is the number of orange objects?', '3')
    """
    dice = Dice(seed, index, "question", kind)
    kind = kind or dice.pick(list(QUESTION_KINDS))
    if kind not in QUESTION_KINDS:
        raise DataError(f"there is no kind {kind!r} of questions: choose one of {', '.join(QUESTION_KINDS)}")
    answer = dice.pick(answers(world, kind))
    for attempt in range(_ATTEMPTS):
        scene = make_scene(world, seed, index, attempt)
        text = QUESTION_KINDS[kind](scene, scene.dice("question", kind), answer)
        if text:
            return Question(scene, kind, text, answer)
    raise DataError(f"{_ATTEMPTS} scenes of this world had no {kind} question with the answer {answer!r}: widen its things")


def answers(world: World, kind: str) -> tuple[str, ...]:
    """The answers that questions of a kind can have.

    >>> from tectum.data.worlds.scene import pairs
    >>> answers(pairs(), "count"), answers(pairs(), "exists")
    (('0', '1'), ('yes', 'no'))
    """
    match kind:
        case "colour":
            return world.colours
        case "shape":
            return world.shapes
        case "count":
            return tuple(map(str, range(most_counted(world) + 1)))
        case "where":
            return CORNERS
    return _YES_NO


def corner(scene: Scene, thing: Thing) -> str:
    """The quarter of the picture that a thing's box lies in; "" if it lies in none."""
    left, top, right, bottom = thing.box
    half = scene.world.size / 2
    row = "top" if bottom <= half else "bottom" if top >= half else ""
    column = "left" if right <= half else "right" if left >= half else ""
    return f"{row} {column}" if row and column else ""


def _only(scene: Scene, nouns: list[Noun]) -> list[Noun]:
    """Those that fit exactly one thing."""
    return [noun for noun in nouns if len(noun.among(scene)) == 1]


def _colour(scene: Scene, dice: Dice, answer: str) -> str:
    nouns = _only(scene, [Noun(thing.shape) for thing in scene.things if thing.colour == answer])
    return (
        dice.pick(("what colour is {}?", "what is the colour of {}?")).format(phrase(dice.pick(nouns), article="the"))
        if nouns
        else ""
    )


def _shape(scene: Scene, dice: Dice, answer: str) -> str:
    nouns = _only(scene, [Noun(colour=thing.colour) for thing in scene.things if thing.shape == answer])
    return (
        dice.pick(("what shape is {}?", "what is the shape of {}?")).format(phrase(dice.pick(nouns), article="the"))
        if nouns
        else ""
    )


def _count(scene: Scene, dice: Dice, answer: str) -> str:
    """By one word only: of many words fewer things fit, and the question would tell the answer."""
    nouns = [Noun(shape) for shape in scene.world.shapes] + [Noun(colour=colour) for colour in scene.world.colours]
    fit = [noun for noun in nouns if len(noun.among(scene)) == int(answer)]
    if not fit:
        return ""
    many = phrase(replace(dice.pick(fit), count=2)).removeprefix("two ")
    return dice.pick(("how many {} are there?", "what is the number of {}?")).format(many)


def _exists(scene: Scene, dice: Dice, answer: str) -> str:
    there = [noun_of(scene.world, thing) for thing in scene.things]
    if answer == "no":
        # Colour and shape are both in the picture, if they can be, but not together.
        mixed = [Noun(b.shape, a.colour) for a in there for b in there if (a.colour, b.shape) in scene.world.combinations]
        absent = [Noun(shape, colour) for colour, shape in scene.world.combinations]
        there = [noun for noun in (mixed if dice.chance(0.5) else absent) if not noun.among(scene)]
    return dice.pick(("is there {}?", "can you see {}?")).format(phrase(dice.pick(there))) if there else ""


def _relation(scene: Scene, dice: Dice, answer: str) -> str:
    found = relations(scene)
    if not found:
        return ""
    relation, a, b = dice.pick(found)
    claim = Claim((noun_of(scene.world, a), noun_of(scene.world, b)), relation)
    if len(set(_only(scene, list(claim.nouns)))) < 2:
        return ""
    if answer == "no":
        claim = replace(claim, relation=OPPOSITES[relation])
    if holds(claim, scene) != (answer == "yes"):
        return ""
    a_the, b_the = (phrase(noun, article="the") for noun in claim.nouns)
    return f"is {a_the} {dice.pick(WORDS[claim.relation])} {b_the}?"


def _where(scene: Scene, dice: Dice, answer: str) -> str:
    nouns = _only(scene, [noun_of(scene.world, thing) for thing in scene.things])
    fit = [noun for noun in nouns if corner(scene, noun.among(scene)[0]) == answer]
    return dice.pick(("where is {}?", "in which corner is {}?")).format(phrase(dice.pick(fit), article="the")) if fit else ""


QUESTION_KINDS: Mapping[str, Callable[[Scene, Dice, str], str]] = {
    "colour": _colour,
    "shape": _shape,
    "count": _count,
    "exists": _exists,
    "relation": _relation,
    "where": _where,
}
"""How each kind is asked; "" where a scene allows no such question with this answer."""
