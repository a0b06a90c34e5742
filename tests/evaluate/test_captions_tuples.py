"""Tuple F: what the rules read, and that the score moves where meaning does."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tectum.evaluate.captions.ngrams import Captions
from tectum.evaluate.captions.stem import stem
from tectum.evaluate.captions.tokenize import tokenize
from tectum.evaluate.captions.tuples import scene_tuples, tuple_f

DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a dog", "dog"),
        ("two black dogs", "dog dog-2 dog-black"),
        ("a man riding a horse", "man horse man-ride-horse"),
        ("A man rides horses.", "man horse man-ride-horse"),
        ("a woman sitting on a wooden bench", "woman bench woman-sit woman-on-bench bench-wooden"),
        ("the cup is next to the laptop", "cup laptop cup-beside-laptop"),
        ("a cat in front of a tv", "cat tv cat-before-tv"),
        ("a group of people standing", "person person-stand"),
        ("a smiling child with a kite", "child child-smile kite child-with-kite"),
        ("a black and white cat", "cat cat-black cat-white"),
        ("the sky is blue", "sky sky-blue"),
        ("a dog and a cat", "dog cat"),
        ("a building by the water", "building water building-by-water"),
        ("three children play in the snow", "child child-3 child-play snow child-in-snow"),
        ("", ""),
        ("on of the", ""),
    ],
)
def test_what_is_read(caption: str, expected: str) -> None:
    wanted = {tuple(stem(word) for word in part.split("-")) for part in expected.split()}
    assert scene_tuples(tokenize(caption)) == wanted


def test_who_does_what_to_whom_matters_and_the_wording_does_not() -> None:
    references = {key: ["a dog chases a cat on the grass"] for key in "abcd"}
    said = {
        "a": "the dog is chasing a cat on grass",
        "b": "a cat chases a dog on the grass",
        "c": "a dog and a cat",
        "d": "a plate of food",
    }
    values = tuple_f(Captions.of(said, references)).values()
    assert values["a"] == 1
    assert 1 > values["b"] > values["c"] > values["d"] == 0


def test_it_is_the_f_of_sets() -> None:
    said = {"a": "a red bus"}
    captions = Captions.of(said, {"a": ["a bus on a street", "a big bus"]})
    # {bus, bus-red} against {bus, street, bus-on-street, bus-big}: one shared.
    assert tuple_f(captions).values()["a"] == pytest.approx(2 * 1 / (2 + 4))
    again = Captions.of(said, {"a": ["a big bus", "a bus on a street", "a big bus"]})
    assert tuple_f(again).values() == tuple_f(captions).values()


def test_nothing_said_is_zero() -> None:
    captions = Captions.of({"a": "", "b": "a cat", "c": ""}, {"a": ["a cat"], "b": [""], "c": [""]})
    assert set(tuple_f(captions).values().values()) == {0.0}


WORDS = [
    "a",
    "two",
    "black",
    "dog",
    "dogs",
    "riding",
    "rides",
    "on",
    "of",
    "in",
    "front",
    "next",
    "to",
    "and",
    "is",
    "'s",
    "open",
]


@given(st.lists(st.sampled_from(WORDS)))
def test_any_words_give_tuples_whose_parts_are_its_objects(words: list[str]) -> None:
    tuples = scene_tuples(words)
    objects = {one[0] for one in tuples if len(one) == 1}
    for one in tuples:
        assert 1 <= len(one) <= 3 and all(one)
        assert one[0] in objects and one[-1 if len(one) == 3 else 0] in objects


def test_people_agree_more_about_the_same_picture_than_about_two() -> None:
    source = DATA / "coco_val2017_captions.parquet"
    if not source.is_file():
        pytest.skip("needs ../shared")
    rows = parquet.read_table(source)["captions"].to_pylist()[:400]
    references = {str(n): row[1:] for n, row in enumerate(rows)}
    same = {str(n): row[0] for n, row in enumerate(rows)}
    other = {str(n): rows[n - 1][0] for n in range(len(rows))}
    right, wrong = (tuple_f(Captions.of(said, references)).score(resamples=0).value for said in (same, other))
    assert right > 3 * wrong
