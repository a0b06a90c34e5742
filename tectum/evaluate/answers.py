"""A model's answers against references: put in a named form, and compared.

Exact match, and ANLS, which forgives slips of reading (Biten et al. 2019, arXiv:1905.13648).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tectum.errors import EvaluationError
from tectum.evaluate.edit_distance import edit_distance
from tectum.evaluate.measurement import Measurement
from tectum.evaluate.records import pair_by_id
from tectum.evaluate.score import Passport


@dataclass(frozen=True, slots=True)
class Normalizer:
    """A function from text to text, with the name it has in passports.

    >>> Normalizer("upper", str.upper)("a b")
    'A B'
    """

    name: str
    function: Callable[[str], str]

    def __call__(self, text: str) -> str:
        return self.function(text)


def fold_spaces(text: str) -> str:
    """One space for each run of white space, none at the ends."""
    return " ".join(text.split())


def plain_words(text: str) -> str:
    """Lower-case words and numbers without punctuation, in any script.

    Compatibility forms are unified (NFKC) and case is folded. Letters, marks and digits stay, and so do an apostrophe inside a
    word and a point inside a number; a comma before three digits goes, and all else becomes a space.

    >>> plain_words("Don’t pay $1,250.50 – it's 'free'!")
    "don't pay 1250.50 it's free"
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).replace("’", "'")
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
    inside = {found.start() for found in re.finditer(r"(?<=\w)'(?=\w)|(?<=\d)\.(?=\d)", text)}
    return fold_spaces("".join(c if i in inside or unicodedata.category(c)[0] in "LMN" else " " for i, c in enumerate(text)))


RAW = Normalizer("raw", fold_spaces)
"""As it is, but for white space."""

PLAIN = Normalizer("plain", plain_words)
"""Without case and punctuation: `plain_words`."""


def exact_match(
    references: Mapping[str, Sequence[str]], predictions: Mapping[str, str], *, normalizer: Normalizer = RAW
) -> Measurement:
    """The share of answers that equal one of their references.

    Args:
        references: for each id all the right answers.
        predictions: for each id the answer.
        normalizer: applied to both sides.

    Raises:
        EvaluationError: if ids differ or an item has no reference.

    >>> exact_match({"1": ["A dog."], "2": ["two"]}, {"1": "a dog", "2": "three"}, normalizer=PLAIN).score().value
    0.5
    """
    ids, right = [], []
    for key, answers, given in pair_by_id("exact-match", references, predictions):
        ids.append(key)
        right.append(normalizer(given) in map(normalizer, _known("exact-match", key, answers)))
    return Measurement.mean(Passport("exact-match", {"text": normalizer.name, "references": "any"}), ids, right)


def anls(
    references: Mapping[str, Sequence[str]],
    predictions: Mapping[str, str],
    *,
    threshold: float = 0.5,
    at_threshold: Literal["zero", "kept"] = "zero",
) -> Measurement:
    """Average normalised Levenshtein similarity, eq. 1 of Biten et al. 2019.

    An item scores the most over its references of 1 − NL, where NL is the edit distance over the length of the longer text, and 0
    if NL ≥ `threshold`. Case and runs of white space do not count.

    Args:
        references: for each id all the right answers.
        predictions: for each id the answer.
        threshold: τ.
        at_threshold: what NL = τ gives; the paper's equation says "zero", the challenge server's script keeps 1 − NL.

    Raises:
        EvaluationError: if ids differ or an item has no reference.

    >>> anls({"1": ["Stop sign"]}, {"1": "stop sigh"}).score().value  # one of nine letters
    0.8888888888888888
    """
    pairs = pair_by_id("anls", references, predictions)
    scores = [
        max(_similarity(answer, given, threshold, at_threshold == "kept") for answer in _known("anls", key, answers))
        for key, answers, given in pairs
    ]
    passport = Passport("anls", {"threshold": threshold, "at-threshold": at_threshold, "text": "lower-case"})
    return Measurement.mean(passport, [key for key, _, _ in pairs], scores)


def _known(metric: str, key: str, answers: Sequence[str]) -> Sequence[str]:
    if isinstance(answers, str) or not answers:
        raise EvaluationError(f"{metric}: the item {key!r} has {answers!r} for references: give a list of at least one text")
    return answers


def _similarity(answer: str, given: str, threshold: float, keep: bool) -> float:
    a, b = fold_spaces(answer.lower()), fold_spaces(given.lower())
    distance = edit_distance(a, b) / max(len(a), len(b), 1)
    return 1 - distance if distance < threshold or (keep and distance == threshold) else 0.0
