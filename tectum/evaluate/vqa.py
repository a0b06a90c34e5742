"""VQA accuracy: how many of ten people gave the answer (Antol et al. 2015, arXiv:1505.00468; Goyal et al. 2017,
arXiv:1612.00837).

An answer is right by a third for each other person who gave it, up to one; the score of a question is the mean of that over the
ten ways to leave one person out. So 0, 1, 2, 3, ≥ 4 people give 0, 0.3, 0.6, 0.9, 1.

The official scorer puts answers in a common form, and its slips are part of the numbers everybody reports, so they are kept:

- where all ten people wrote the same, nothing is put in that form, neither their answer nor the model's, so "A dog" is not "dog";
- a mark that touches a space anywhere in the text is dropped everywhere, else it becomes a space; one comma between two digits
  makes every mark drop;
- at most 32 full stops are dropped (a flag is passed where a count belongs), none before a digit, also after a digit (a mistyped
  look-behind);
- "none" is 0; an answer that is an article becomes empty; "somebody'd" loses its apostrophe.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from tectum.errors import EvaluationError
from tectum.evaluate.measurement import Measurement
from tectum.evaluate.records import pair_by_id, read_json
from tectum.evaluate.score import Passport

HUMANS = 10
T = TypeVar("T")

_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_ARTICLES = ("a", "an", "the")
_NUMBERS = {
    "none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7",
    "eight": "8", "nine": "9", "ten": "10",
}  # fmt: skip

# Right spellings; each is also known without its apostrophe, or without one of its two.
_CONTRACTED = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's how'd
how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've o'clock oughtn't 'ow's'at
shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll someone's
something'd something'd've something'll that's there'd there'd've there're there's they'd they'd've they'll they're they've 'twas
wasn't we'd've we've weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's who've
why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""


@cache
def _contractions() -> dict[str, str]:
    table = {"somebody'd": "somebodyd"}
    for right in _CONTRACTED.split():
        table |= {right[:at] + right[at + 1 :]: right for at, sign in enumerate(right) if sign == "'"}
    return table


def official_form(answer: str) -> str:
    """An answer as the official scorer compares it.

    >>> official_form("The two dogs!"), official_form("dont know"), official_form("3.5, maybe?"), official_form("none")
    ('2 dogs', "don't know", '3.5 maybe', '0')
    """
    text = asked = _one_line(answer)
    thousands = re.search(r"\d,\d", asked) is not None
    for mark in _MARKS:
        text = text.replace(mark, "" if thousands or mark + " " in asked or " " + mark in asked else " ")
    text = re.sub(r"\.(?!\d)", "", text, count=32)
    words = (_NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(_contractions().get(word, word) for word in words if word not in _ARTICLES)


def vqa_accuracy(
    answers: Mapping[str, Sequence[str]],
    predictions: Mapping[str, str],
    *,
    humans: int = HUMANS,
    normalize: Literal["disagreement", "always"] = "disagreement",
) -> Measurement:
    """The mean over questions of the leave-one-out accuracy.

    Args:
        answers: for each question what each person answered.
        predictions: for each question the model's answer.
        humans: how many people answered each question; with fewer than four no answer is ever fully right.
        normalize: when answers are put in the `official_form`; the official scorer does where people disagree.

    Raises:
        EvaluationError: if ids differ or a question has another number of answers.

    >>> right = vqa_accuracy({"q": ["cat"] * 3 + ["dog"] * 7}, {"q": "a cat"})
    >>> round(right.score().value, 9)
    0.9
    """
    pairs = pair_by_id("vqa-accuracy", answers, predictions)
    scores = []
    for key, given, predicted in pairs:
        if len(given) != humans or isinstance(given, str):
            raise EvaluationError(f"vqa-accuracy: {key!r} has {len(given)} answers, not {humans}: give all or set humans")
        said = [_one_line(text) for text in given]
        asked = _one_line(predicted)
        if normalize == "always" or len(set(said)) > 1:
            said, asked = [official_form(text) for text in said], official_form(asked)
        same = said.count(asked)
        others = same * min(1, (same - 1) / 3) + (humans - same) * min(1, same / 3)
        scores.append(others / humans)
    passport = Passport("vqa-accuracy", {"humans": humans, "normalize": normalize, "text": "vqa-official"})
    return Measurement.mean(passport, [key for key, _, _ in pairs], scores)


def read_annotations(path: str | Path) -> dict[str, list[str]]:
    """Each question's human answers, from the official annotations file.

    Raises:
        EvaluationError: if it is no such file.
    """
    shape = "question_id and answers, each with an answer"
    return _by_question(path, "annotations", shape, lambda record: [str(answer["answer"]) for answer in record["answers"]])


def read_results(path: str | Path) -> dict[str, str]:
    """Each question's predicted answer, from a results file: a list of {"question_id", "answer"}.

    Raises:
        EvaluationError: if it is no such file.
    """
    return _by_question(path, "results", "question_id and answer", lambda record: str(record["answer"]))


def read_questions(path: str | Path) -> tuple[dict[str, str], dict[str, str]]:
    """Each question's text, and the picture it is about, from the official questions file.

    Raises:
        EvaluationError: if it is no such file.
    """
    shape = "question_id, question and image_id"
    read = _by_question(path, "questions", shape, lambda record: (str(record["question"]), str(record["image_id"])))
    return {key: text for key, (text, _) in read.items()}, {key: picture for key, (_, picture) in read.items()}


def _by_question(path: str | Path, field: str, shape: str, value: Callable[[Any], T]) -> dict[str, T]:
    """The value of each question's record, in a file whose records lie in `field`, or are the whole file."""
    found = read_json(path)
    records = found.get(field) if isinstance(found, dict) else found
    if not isinstance(records, list) or not records:
        raise EvaluationError(f"{path} holds no list of {field}: give the official JSON file")
    pairs: dict[str, T] = {}
    for number, record in enumerate(records, 1):
        try:
            key, held = str(record["question_id"]), value(record)
        except (KeyError, TypeError):
            raise EvaluationError(f"{path}: record {number} of the {field} needs {shape}") from None
        if key in pairs:
            raise EvaluationError(f"{path}: the question {key!r} is there twice: keep one")
        pairs[key] = held
    return pairs


def _one_line(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()
