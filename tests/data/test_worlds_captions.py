"""Captions, minimal pairs and questions, read back by an independent reader and checked against pixels.

Nothing here asks the package what a claim means: colours are read from the pixels, shapes from the fill of their boxes' pixels
by name of the scene, places from the masks of what is drawn, and texts by the grammar below.
"""

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tectum.data.worlds import (
    PAIR_KINDS,
    QUESTION_KINDS,
    Claim,
    Noun,
    Scene,
    World,
    answers,
    ask,
    captions,
    crowds,
    heaps,
    holds,
    make_scene,
    masks,
    minimal_pair,
    pairs,
    picture,
    say,
    singles,
    tell,
    write_pairs,
)
from tectum.data.worlds.stamp import COLOURS, SHAPES, stamp
from tectum.errors import DataError
from tectum.evaluate.baselines import composition_baselines, likelier
from tectum.evaluate.composition import KINDS, composition, pair_similarities, pairs_from, read_pairs

NUMBERS = {word: n for n, word in enumerate(("no", "one", "two", "three", "four", "five"))}
SECOND_NAMES = {"ball": "sphere", "block": "cube", "pyramid": "cone", "hoop": "ring", "plus sign": "cross", "rhombus": "diamond"}
SYNONYMS = SECOND_NAMES | {"object": "", "thing": ""}
LEADS = ("there is ", "there are ", "here is ", "here are ", "a picture of ", "a scene with ", "a drawing that shows ")
PLACES = {
    "to the left of": "left",
    "left of": "left",
    "to the right of": "right",
    "right of": "right",
    "on top of": "on",
    "on": "on",
    "underneath": "under",
    "under": "under",
    "higher than": "above",
    "above": "above",
    "lower than": "below",
    "below": "below",
}

Seen = dict[str, object]


def look(scene: Scene) -> list[Seen]:
    """What is in the picture: colours from the pixels, places from the masks."""
    pixels, found = picture(scene).astype(int), []
    for thing, mask in zip(scene.things, masks(scene), strict=True):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        left, top, right, bottom = thing.box
        cut, pure = stamp(thing.shape, thing.material, scene.world.side(thing.size)), np.full(mask.shape, -1.0)
        pure[top:bottom, left:right] = (cut.coverage - np.abs(cut.light))[:, :, 0]
        # The pixels that show most of the thing, and least of light, shadow and what is behind.
        best = np.argsort(np.where(mask, pure, -1.0), axis=None)[-3:]
        shown = pixels.reshape(-1, 3)[best].mean(0)
        colour = min(COLOURS, key=lambda name: np.abs(shown - COLOURS[name]).sum())
        box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        whole = box if not scene.world.overlap else thing.box
        found.append({"colour": colour, "shape": thing.shape, "size": thing.size, "material": thing.material, "box": whole})
    return found


def read_noun(text: str) -> tuple[Seen, int | None]:
    """The words of a noun phrase, and its number; None for "a"."""
    number, *words = text.split()
    count = NUMBERS.get(number)
    assert count is not None or number in ("a", "an", "the"), text
    rest = " ".join(words)
    name = next(n for n in sorted([*SYNONYMS, *SHAPES], key=len, reverse=True) if re.search(rf"\b{n}(s|es)?$", rest))
    assert rest.endswith("s" if count not in (None, 0, 1) else name[-1]), text
    adjectives = rest[: rest.rindex(name)].split()
    wanted: Seen = {"shape": SYNONYMS.get(name, name)}
    for word in adjectives:
        kind = "colour" if word in COLOURS else "size" if word in ("small", "large") else "material"
        assert kind not in wanted and (kind != "material" or word in ("matte", "shiny", "striped")), text
        wanted[kind] = word
    if number in ("a", "an"):
        assert (number == "an") == (words[0][0] in "aeiou"), text
    return wanted, count


def fitting(wanted: Seen, seen: list[Seen]) -> list[Seen]:
    return [thing for thing in seen if all(not word or thing[kind] == word for kind, word in wanted.items())]


def is_so(place: str, a: Seen, b: Seen) -> bool:
    (al, at, ar, ab), (bl, bt, br, bb) = a["box"], b["box"]
    middle = (al + ar) / 2
    return {
        "left": ar <= bl,
        "right": al >= br,
        "above": ab <= bt,
        "below": at >= bb,
        "on": ab == bt and bl <= middle <= br,
        "under": at == bb and al <= (bl + br) / 2 <= ar,
    }[place]


def is_true(text: str, seen: list[Seen]) -> bool:
    """Whether a caption says what is there."""
    body = next((text.removeprefix(lead) for lead in LEADS if text.startswith(lead)), text)
    for words, place in sorted(PLACES.items(), key=lambda item: -len(item[0])):
        parts = re.split(rf" (?:is )?{words} (?=a |an |the )", body)
        if len(parts) == 2:
            (first, none_a), (second, none_b) = read_noun(parts[0]), read_noun(parts[1])
            assert none_a is None and none_b is None
            return any(a is not b and is_so(place, a, b) for a in fitting(first, seen) for b in fitting(second, seen))
    told = [read_noun(part) for part in re.split(r", | and ", body)]
    return all((len(fitting(noun, seen)) >= 1 if n is None else len(fitting(noun, seen)) == n) for noun, n in told)


@pytest.mark.parametrize("world", [singles(), pairs(), crowds(), heaps()], ids=["singles", "pairs", "crowds", "heaps"])
def test_captions_are_true_and_vary(world: World) -> None:
    texts = []
    for index in range(60):
        scene = make_scene(world, 2, index)
        seen = look(scene)
        several = captions(scene, 8)
        assert several == captions(scene, 8)
        for text in several:
            assert is_true(text, seen), (text, seen)
        texts += several
    assert len(set(texts)) > 0.5 * len(texts)
    if world.things[1] > 1:
        for words in PLACES:
            assert any(f" {words} " in text for text in texts), words


def test_partial_captions_name_some_of_the_things() -> None:
    for chance, low, high in ((0.0, 0, 0), (0.5, 0.35, 0.65), (1.0, 1, 1)):
        world, alone = replace(pairs(), partial=chance), []
        for index in range(60):
            scene = make_scene(world, 2, index)
            listed = [claim for number in range(8) if not (claim := tell(scene, number)[0]).relation]
            assert all(holds(claim, scene) for claim in listed)
            alone += [len(claim.nouns) == 1 for claim in listed]
        assert low <= np.mean(alone) <= high
    lengths = {len(tell(make_scene(replace(heaps(), things=(4, 4), partial=1.0), 2, index))[0].nouns) for index in range(60)}
    assert lengths == {1, 2, 3}


def test_a_caption_of_one_scene_is_seldom_true_of_another() -> None:
    """So the checker above is no rubber stamp."""
    looked = [look(make_scene(pairs(), 2, index)) for index in range(40)]
    texts = [captions(make_scene(pairs(), 2, index), 1)[0] for index in range(40)]
    crossed = [is_true(text, looked[i]) for i in range(40) for j, text in enumerate(texts) if i != j]
    assert np.mean(crossed) < 0.02


WORLD_OF = {kind: crowds() if kind == "count" else pairs() for kind in PAIR_KINDS}


@pytest.mark.parametrize("kind", PAIR_KINDS)
def test_the_first_caption_of_a_minimal_pair_is_true_and_the_second_false(kind: str) -> None:
    for index in range(60):
        pair = minimal_pair(WORLD_OF[kind], kind, 0, index)
        assert pair == minimal_pair(WORLD_OF[kind], kind, 0, index)
        seen = look(pair.scene)
        assert is_true(pair.positive, seen) and not is_true(pair.negative, seen), (pair.positive, pair.negative)
        first, second = Counter(pair.positive.split()), Counter(pair.negative.split())
        changed = (first - second).total() + (second - first).total()
        if kind in ("swap-attribute", "swap-object"):
            # "a cube" and "an orange cube": the article follows its noun.
            assert not (first - second).keys() - {"a", "an"} and not (second - first).keys() - {"a", "an"}
            assert pair.positive != pair.negative
        elif kind == "add":
            assert not (first - second).keys() - {"a"} and len(pair.negative) > len(pair.positive)
        else:
            assert 1 <= changed <= 8


def test_every_kind_of_pair_is_one_that_composition_reads() -> None:
    records = [minimal_pair(WORLD_OF[kind], kind, 0, index).record() for kind in PAIR_KINDS for index in range(3)]
    assert set(PAIR_KINDS) == set(KINDS)
    assert {pair.kind for pair in pairs_from(records)} == set(KINDS)
    assert len({record["id"] for record in records}) == len(records)


@pytest.mark.parametrize("world", [pairs(), replace(crowds(), every=4, part="seen"), replace(pairs(), every=4, part="unseen")])
@pytest.mark.parametrize("kind", set(PAIR_KINDS) - {"add"})
def test_nobody_tells_the_true_caption_of_a_pair_blind(world: World, kind: str) -> None:
    """Not by length, nor by how likely its words are to follow one another: within five standard errors of a toss."""
    if kind == "count" and not world.repeats:
        pytest.skip("nothing to count where nothing is alike")
    count = 400
    learnt = [minimal_pair(world, kind, 1, index).positive for index in range(count)]
    asked = pairs_from([minimal_pair(world, kind, 0, index).record() for index in range(count)])
    blind = composition_baselines(
        asked,
        lambda pictures, texts: [0.0] * len(texts),
        text_scores={"likelier": likelier(learnt), "shorter": lambda texts: [-len(text) for text in texts]},
    )
    for name in ("text-only-likelier", "text-only-shorter"):
        assert blind[name][kind].score(resamples=0).value < 0.5 + 5 * 0.5 / count**0.5, name


def test_a_folder_of_pairs_is_read_as_it_was_made(tmp_path) -> None:
    write_pairs(tmp_path / "worlds", pairs(), seed=0, count=2)
    read = read_pairs(tmp_path / "worlds" / "pairs.jsonl")
    made = [minimal_pair(pairs(), kind, 0, index) for kind in PAIR_KINDS if kind != "count" for index in range(2)]
    assert read == pairs_from([pair.record() for pair in made])
    for one, pair in zip(read, made, strict=True):
        with Image.open(tmp_path / "worlds" / one.picture.name) as image:
            assert np.array_equal(np.asarray(image), picture(pair.scene))


def test_a_checker_scores_all_pairs_right_and_a_bag_of_words_no_swaps() -> None:
    made = {kind: [minimal_pair(WORLD_OF[kind], kind, 0, index) for index in range(20)] for kind in PAIR_KINDS}
    scenes = {pair.record()["image"]: pair.scene for several in made.values() for pair in several}
    records = pairs_from([pair.record() for several in made.values() for pair in several])

    def checker(pictures, texts):
        return [float(is_true(text, look(scenes[one.name]))) for one, text in zip(pictures, texts, strict=True)]

    def bag(pictures, texts):
        words = [[thing[k] for thing in look(scenes[one.name]) for k in ("colour", "shape")] for one in pictures]
        return [sum(SYNONYMS.get(w, w) in known for w in text.split()) for text, known in zip(texts, words, strict=True)]

    assert composition(records, pair_similarities(records, checker))["all"].score(resamples=0).value == 1
    blind = composition(records, pair_similarities(records, bag))
    assert [blind[kind].score(resamples=0).value for kind in ("swap-attribute", "swap-object", "swap-relation")] == [0, 0, 0]
    assert blind["replace"].score(resamples=0).value > 0.6


def test_pairs_of_a_part_name_only_what_the_part_has() -> None:
    for part in ("seen", "unseen"):
        world = replace(pairs(), every=4, part=part)
        for kind in set(PAIR_KINDS) - {"count"}:
            for index in range(15):
                pair = minimal_pair(world, kind, 0, index)
                for noun in (*pair.true.nouns, *pair.false.nouns):
                    assert not noun.colour or not noun.shape or (noun.colour, noun.shape) in world.combinations


def test_what_a_world_has_not_is_refused() -> None:
    for make in (lambda: minimal_pair(singles(), "swap-object", 0, 0), lambda: minimal_pair(pairs(), "count", 0, 0)):
        with pytest.raises(DataError, match="widen"):
            make()
    with pytest.raises(DataError, match="no kind 'smell'"):
        minimal_pair(pairs(), "smell", 0, 0)
    with pytest.raises(DataError, match="no kind 'smell'"):
        ask(pairs(), 0, 0, "smell")
    with pytest.raises(DataError, match="widen"):
        ask(singles(), 0, 0, "relation")


def answer(text: str, seen: list[Seen], side: int) -> str:
    """The answer to a question, by the grammar of questions."""
    if found := re.fullmatch(r"what (?:colour is|is the colour of) (the .+)\?", text):
        (thing,) = fitting(read_noun(found[1])[0], seen)
        return thing["colour"]
    if found := re.fullmatch(r"what (?:shape is|is the shape of) (the .+)\?", text):
        (thing,) = fitting(read_noun(found[1])[0], seen)
        return thing["shape"]
    if found := re.fullmatch(r"(?:how many (.+) are there|what is the number of (.+))\?", text):
        return str(len(fitting(read_noun(f"two {found[1] or found[2]}")[0], seen)))
    if found := re.fullmatch(r"(?:is there|can you see) (an? .+)\?", text):
        return "yes" if fitting(read_noun(found[1])[0], seen) else "no"
    if found := re.fullmatch(r"(?:where is|in which corner is) (the .+)\?", text):
        (thing,) = fitting(read_noun(found[1])[0], seen)
        left, top, right, bottom = thing["box"]
        assert bottom <= side / 2 or top >= side / 2
        assert right <= side / 2 or left >= side / 2
        return f"{'top' if bottom <= side / 2 else 'bottom'} {'left' if right <= side / 2 else 'right'}"
    found = re.fullmatch(r"is (the .+)\?", text)
    assert found, text
    return "yes" if is_true(re.sub(r"\bthe (?!left|right)", "a ", found[1]).replace("a orange", "an orange"), seen) else "no"


@pytest.mark.parametrize("kind", QUESTION_KINDS)
@pytest.mark.parametrize("world", [crowds(), replace(crowds(), every=4, part="seen"), pairs()], ids=["crowds", "seen", "pairs"])
def test_answers_are_true_and_balanced(world: World, kind: str) -> None:
    count, given = 400, Counter()
    for index in range(count):
        question = ask(world, 5, index, kind)
        assert question.kind == kind
        given[question.answer] += 1
        if index < 60:
            assert question == ask(world, 5, index, kind)
            assert answer(question.text, look(question.scene), world.size) == question.answer, question
    allowed = answers(world, kind)
    assert set(given) == set(allowed)
    share = 1 / len(allowed)
    assert max(given.values()) / count < share + 5 * (share * (1 - share) / count) ** 0.5


@pytest.mark.parametrize("kind", QUESTION_KINDS)
def test_the_text_of_a_question_hardly_tells_its_answer(kind: str) -> None:
    """The commonest answer to each text of 2,000 questions, tried on 600 others: little better than the least guess."""
    world = crowds()
    told: dict[str, Counter[str]] = {}
    for index in range(2000):
        question = ask(world, 6, index, kind)
        told.setdefault(question.text, Counter())[question.answer] += 1
    asked = [ask(world, 7, index, kind) for index in range(600)]
    right = np.mean([told.get(q.text, Counter([""])).most_common(1)[0][0] == q.answer for q in asked])
    share = 1 / len(answers(world, kind))
    assert right < share + 0.12


def test_all_kinds_are_asked() -> None:
    assert {ask(crowds(), 0, index).kind for index in range(60)} == set(QUESTION_KINDS)


def test_claims_mean_what_they_say() -> None:
    scene = make_scene(replace(pairs(), stacked=0), 0, 1)
    a, b = scene.things
    noun_a, noun_b = Noun(a.shape, a.colour), Noun(b.shape, b.colour)
    assert holds(Claim((noun_a, noun_b)), scene) and not holds(Claim((replace(noun_a, count=0),)), scene)
    assert holds(Claim((Noun(count=2),)), scene) and not holds(Claim((Noun(count=1),)), scene)
    assert holds(Claim((Noun(a.shape, b.colour, count=0),)), scene)
    assert say(Claim((Noun("cross", "red", count=2), Noun("cube", count=1)))) == "two red crosses and one cube"
    with pytest.raises(ValueError, match="no relation"):
        holds(Claim((noun_a, noun_b), "beside"), scene)
