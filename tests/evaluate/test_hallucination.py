"""CHAIR: counted by hand, the matching of words, and merging."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tectum.errors import EvaluationError
from tectum.evaluate.hallucination import Vocabulary, chair, coco_objects, read_vocabulary
from tectum.evaluate.measurement import compare, merge

PETS = Vocabulary("pets", {"dog": ["puppy", "poodle"], "cat": ["kitty"], "hot dog": [], "bird": []}, ["dog house"])


def values(captions: dict[str, str], objects: dict[str, set[str]]) -> list[float]:
    return [measured.score().value for measured in chair(captions, objects, PETS).values()]


@pytest.mark.parametrize(
    ("caption", "mentions"),
    [
        ("", []),
        ("A DOG, a Dog's dogs", ["dog", "dog", "dog"]),
        ("puppies and kitties", ["dog", "cat"]),
        ("a hot dog, two hot dogs, hot-dog", ["hot dog"] * 3),
        ("hot hot dog", ["hot dog"]),
        ("the dog house and dog houses", []),
        ("dogma catalogue birdie", []),
        ("a poodle eats a bird", ["dog", "bird"]),
    ],
)
def test_words_that_mention(caption: str, mentions: list[str]) -> None:
    assert PETS.mentions(caption) == mentions


def test_chair_counts_mentions_captions_and_objects() -> None:
    captions = {"1": "a dog and a puppy and a cat", "2": "two birds", "3": "nothing here", "4": "a kitty and a bird"}
    objects = {"1": {"dog"}, "2": {"bird", "cat"}, "3": {"dog"}, "4": set()}
    assert values(captions, objects) == [3 / 6, 2 / 4, 2 / 4]


def test_a_perfect_and_an_invented_caption_are_the_ends() -> None:
    assert values({"1": "a dog and a cat"}, {"1": {"dog", "cat"}}) == [0, 0, 1]
    assert values({"1": "a bird"}, {"1": {"dog", "cat"}}) == [1, 1, 0]


def test_what_is_not_defined_is_nan() -> None:
    mentions, sentences, recall = values({"1": "a sunny day"}, {"1": set()})
    assert math.isnan(mentions) and sentences == 0 and math.isnan(recall)
    assert all(map(math.isnan, values({}, {})))


spoken_words = st.lists(st.sampled_from(["dog", "cat", "bird", "sun"]), max_size=5)


@given(st.lists(st.tuples(spoken_words, st.sets(st.sampled_from(["dog", "cat"]))), max_size=8))
def test_it_is_the_count_by_definition_and_merges(items: list[tuple[list[str], set[str]]]) -> None:
    captions = {f"{i:02}": " ".join(words) for i, (words, _) in enumerate(items)}
    objects = {f"{i:02}": held for i, (_, held) in enumerate(items)}
    whole = chair(captions, objects, PETS)
    spoken = [[word for word in words if word != "sun"] for words, _ in items]
    false = [sum(word not in held for word in words) for words, (_, held) in zip(spoken, items, strict=True)]
    if sum(map(len, spoken)):
        assert whole["chair-i"].score(resamples=0).value == sum(false) / sum(map(len, spoken))
    if items:
        assert whole["chair-s"].score(resamples=0).value == pytest.approx(sum(f > 0 for f in false) / len(items))
        parts = [chair({k: captions[k]}, {k: objects[k]}, PETS) for k in reversed(captions)]
        for name, measured in whole.items():
            assert str(merge([part[name] for part in parts]).score(resamples=9)) == str(measured.score(resamples=9))


def test_the_vocabulary_is_in_the_passport_by_contents() -> None:
    captions, objects = {"1": "a dog"}, {"1": {"dog"}}
    other = Vocabulary("pets", {"dog": [], "cat": ["kitty"], "hot dog": [], "bird": []})
    same = Vocabulary("pets", {"bird": [], "hot dog": [], "cat": ["Kitty"], "dog": ["poodle", "puppy"]}, ["Dog  House"])
    assert same.fingerprint == PETS.fingerprint != other.fingerprint
    with pytest.raises(EvaluationError, match="vocabulary is pets@"):
        compare(chair(captions, objects, PETS)["chair-i"], chair(captions, objects, other)["chair-i"])


def test_hostile_vocabularies_and_objects() -> None:
    with pytest.raises(EvaluationError, match="'Bat' names both 'animal' and 'club'"):
        Vocabulary("v", {"animal": ["bat"], "club": ["Bat"]})
    with pytest.raises(EvaluationError, match=r"'\.\.\.' has no letters"):
        Vocabulary("v", {"dog": ["..."]})
    with pytest.raises(EvaluationError, match="picture of '1' holds 'dgo'"):
        chair({"1": "a dog"}, {"1": {"dgo"}}, PETS)
    with pytest.raises(EvaluationError, match="chair: 1 predictions have no reference"):
        chair({"1": "", "2": ""}, {"1": set()}, PETS)
    assert Vocabulary("none", {}).mentions("a dog") == []


def test_a_vocabulary_file(tmp_path: Path) -> None:
    path = tmp_path / "pets.json"
    path.write_text(json.dumps({"name": "pets", "objects": dict(PETS.objects), "decoys": ["dog house"]}))
    assert read_vocabulary(str(path)).fingerprint == PETS.fingerprint
    for text in ("[]", "{}", '{"objects": ["dog"]}', '{"objects": {"dog": 3}}'):
        path.write_text(text)
        with pytest.raises(EvaluationError, match="is no vocabulary"):
            read_vocabulary(str(path))


def test_the_coco_names() -> None:
    vocabulary = coco_objects()
    assert len(vocabulary.objects) == 80
    for name in vocabulary.objects:
        assert vocabulary.mentions(f"there is a {name} here") == [name]
    caption = "Women with surfboards; a baby elephant; teddy bears on a bench; a baseball player swings a baseball bat; knives"
    expected = ["person", "surfboard", "elephant", "teddy bear", "bench", "person", "baseball bat", "knife"]
    assert vocabulary.mentions(caption) == expected
