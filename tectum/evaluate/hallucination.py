"""CHAIR: objects that a caption mentions and the picture does not hold (Rohrbach et al. 2018, arXiv:1809.02156).

CHAIR-i is the share of mentions that are hallucinated, CHAIR-s the share of captions with one; recall, which later work reports
beside them, is the share of a picture's objects that its caption mentions. All are of sums over captions. What counts as a
mention is set by the vocabulary, and so is the number: compare only scores of one vocabulary, which the passport names by its
contents.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from tectum.errors import EvaluationError
from tectum.evaluate.measurement import Measurement, ratio
from tectum.evaluate.records import pair_by_id, read_json
from tectum.evaluate.score import Passport

Form = tuple[str, ...]


@dataclass(frozen=True)
class Vocabulary:
    """Objects and the words for them.

    Words are matched without regard to case, the longest phrase first; regular plurals in -s, -es and -ies are known, others must
    be listed. A decoy is a phrase that contains an object's word and names no object, such as "train track".

    Attributes:
        name: for the passport.
        objects: for each object its other words.
        decoys: phrases that mention nothing.

    Raises:
        EvaluationError: if a phrase has no letters or names two objects.

    >>> pets = Vocabulary("pets", {"dog": ["puppy"], "hot dog": [], "cat": ["kitten"]}, decoys=["cat food"])
    >>> pets.mentions("Two puppies eat a hot dog and cat food; the cat's asleep")
    ['dog', 'hot dog', 'cat']
    """

    name: str
    objects: Mapping[str, Sequence[str]]
    decoys: Sequence[str] = ()

    def __post_init__(self) -> None:
        _ = self._forms

    @property
    def fingerprint(self) -> str:
        """Eight hexadecimal digits of what the vocabulary matches."""
        contents = sorted((list(form), named or "") for form, named in self._forms.items())
        return hashlib.sha256(json.dumps(contents).encode()).hexdigest()[:8]

    def mentions(self, caption: str) -> list[str]:
        """The objects a caption mentions, in order, each as often as it does."""
        words, found, at = _words(caption), [], 0
        while at < len(words):
            lengths = range(min(self._longest, len(words) - at), 0, -1)
            form = next((words[at : at + length] for length in lengths if words[at : at + length] in self._forms), None)
            if form is not None and (named := self._forms[form]) is not None:
                found.append(named)
            at += len(form or (1,))
        return found

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self._forms), default=0)

    @cached_property
    def _forms(self) -> dict[Form, str | None]:
        listed = [(phrase, named) for named, others in self.objects.items() for phrase in (named, *others)]
        forms: dict[Form, str | None] = {}
        for phrase, owner in [*listed, *((phrase, None) for phrase in self.decoys)]:
            form = _words(phrase)
            if not form:
                raise EvaluationError(f"vocabulary {self.name!r}: {phrase!r} has no letters: remove it")
            if forms.setdefault(form, owner) != owner:
                raise EvaluationError(f"vocabulary {self.name!r}: {phrase!r} names both {forms[form]!r} and {owner!r}: keep one")
        for form, owner in list(forms.items()):
            forms.setdefault((*form[:-1], _plural(form[-1])), owner)
        return forms


def chair(captions: Mapping[str, str], objects: Mapping[str, Collection[str]], vocabulary: Vocabulary) -> dict[str, Measurement]:
    """ "chair-i", "chair-s" and "chair-recall".

    Args:
        captions: for each id the text to judge.
        objects: for each id what its picture holds, by the vocabulary's names. The paper joins the objects that annotators
            outlined with `vocabulary.mentions` of the human captions.
        vocabulary: what is an object.

    Raises:
        EvaluationError: if ids differ or an object is not in the vocabulary.

    >>> pets = Vocabulary("pets", {"dog": ["puppy"], "cat": [], "bird": []})
    >>> scores = chair({"1": "a dog and a cat", "2": "a puppy"}, {"1": {"dog", "bird"}, "2": {"dog"}}, pets)
    >>> [round(scores[name].score().value, 4) for name in ("chair-i", "chair-s", "chair-recall")]
    [0.3333, 0.5, 0.6667]
    """
    ids, mentions, sentences, recalled = [], [], [], []
    for key, held, caption in pair_by_id("chair", objects, captions):
        present = {held} if isinstance(held, str) else set(held)
        unknown = sorted(present - vocabulary.objects.keys())
        if unknown:
            raise EvaluationError(
                f"chair: the picture of {key!r} holds {unknown[0]!r}, which is no object of the vocabulary "
                f"{vocabulary.name!r}: use its names, or add it"
            )
        found = vocabulary.mentions(caption)
        false = sum(named not in present for named in found)
        ids.append(key)
        mentions.append((false, len(found)))
        sentences.append((false > 0, 1))
        recalled.append((len(present.intersection(found)), len(present)))
    settings = {"vocabulary": f"{vocabulary.name}@{vocabulary.fingerprint}"}
    parts = {"chair-i": mentions, "chair-s": sentences, "chair-recall": recalled}
    return {
        name: Measurement(Passport(name, settings), ratio, tuple(ids), np.array(rows, np.float64).reshape(-1, 2))
        for name, rows in parts.items()
    }


def read_vocabulary(path: str | Path) -> Vocabulary:
    """A vocabulary from JSON: {"name": …, "objects": {object: [other words]}, "decoys": [phrases]}.

    Raises:
        EvaluationError: if the file is no such vocabulary.
    """
    found = read_json(path)
    try:
        objects = {str(named): [str(word) for word in words] for named, words in found["objects"].items()}
        return Vocabulary(str(found.get("name", path)), objects, [str(phrase) for phrase in found.get("decoys", [])])
    except (KeyError, TypeError, AttributeError):
        raise EvaluationError(f'{path} is no vocabulary: write {{"objects": {{"dog": ["puppy"]}}, "decoys": []}}') from None


def coco_objects() -> Vocabulary:
    """The 80 object names of COCO (Lin et al. 2014) with everyday words of ours for them.

    The words are not those of the CHAIR paper, so the scores are not its scores: hence the name in the passport. A colour that is
    also a fruit is taken for the fruit.

    >>> vocabulary = coco_objects()
    >>> len(vocabulary.objects), vocabulary.mentions("Two men wait on a train platform near a fire hydrant")
    (80, ['person', 'fire hydrant'])
    """
    objects: dict[str, list[str]] = {}
    for line in _COCO.strip().splitlines():
        named, _, others = line.partition(":")
        objects.setdefault(named, []).extend(word.strip() for word in others.split(",") if word.strip())
    return Vocabulary("coco-80-tectum", objects, _COCO_DECOYS.split(","))


def _words(text: str) -> Form:
    return tuple(re.findall(r"\w+", text.casefold()))


def _plural(word: str) -> str:
    if re.search(r"(s|x|z|ch|sh)$", word):
        return word + "es"
    return word[:-1] + "ies" if re.search(r"[^aeiou]y$", word) else word + "s"


_COCO = """
person: people, man, men, woman, women, boy, girl, child, children, kid, baby, lady, guy
person: player, rider, skier, snowboarder, surfer, baseball player, basketball player
person: ball player, football player, soccer player, tennis player
bicycle: bike
car: automobile, sedan, taxi, suv
motorcycle: motorbike, moped
airplane: plane, aeroplane, jet, aircraft
bus: minibus
train: locomotive, train car, railway car
truck: pickup, lorry, fire engine
boat: ship, sailboat, canoe, kayak, ferry
traffic light: stoplight, traffic signal
fire hydrant: hydrant
stop sign:
parking meter:
bench:
bird: pigeon, seagull, duck, goose, geese, owl, parrot, baby bird
cat: kitten, kitty
dog: puppy, doggy
horse: pony, foal, baby horse
sheep: lamb, baby sheep
cow: cattle, calf, calves, bull, ox, oxen, baby cow
elephant: baby elephant
bear: bear cub, baby bear
zebra: baby zebra
giraffe: baby giraffe
backpack: rucksack, knapsack
umbrella: parasol
handbag: purse
tie: necktie, bow tie
suitcase: luggage
frisbee: flying disc
skis: ski
snowboard:
sports ball: ball, baseball, basketball, football, soccer ball, tennis ball
kite:
baseball bat:
baseball glove: catcher mitt, baseball mitt
skateboard:
surfboard:
tennis racket: racket, racquet, tennis racquet
bottle:
wine glass: wineglass
cup: mug, teacup
fork:
knife: knives
spoon:
bowl:
banana:
apple:
sandwich: burger, hamburger
orange: tangerine
broccoli:
carrot:
hot dog: hotdog
pizza:
donut: doughnut
cake: cupcake
chair: armchair, stool
couch: sofa
potted plant: houseplant, plant
bed:
dining table: table, desk
toilet:
tv: television, tv set, television set
laptop: laptop computer, notebook computer
mouse: computer mouse
remote: remote control
keyboard:
cell phone: cellphone, mobile phone, smartphone, phone
microwave: microwave oven
oven: stove
toaster:
sink: washbasin
refrigerator: fridge
book:
clock:
vase:
scissors: pair of scissors
teddy bear: teddy, stuffed bear
hair drier: hair dryer, blow dryer
toothbrush:
"""

_COCO_DECOYS = """
train track, train station, train platform, bus stop, bus station, boat house, car park, parking lot, home plate, baseball field,
baseball game, baseball cap, baseball uniform, basketball court, football field, football game, orange juice, orange shirt,
dog house, bird house, cat food, dog food, horse racing, toilet paper, toilet seat, table tennis, table cloth, wheel chair,
chair lift, ski lift, ski slope, ski resort, phone booth, power plant, apple juice, carrot cake
"""
