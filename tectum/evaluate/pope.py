"""POPE: yes-or-no questions about objects (Li et al. 2023, arXiv:2305.10355), without turning "it is hard to tell" into a yes.

With "yes" as the positive class, over n questions: accuracy (TP + TN) / n, precision TP / (TP + FP), recall TP / (positives),
F1 = 2 TP / (TP + FP + positives), yes-ratio (TP + FP) / n. An answer that says neither yes nor no is ambiguous: it is right for
nobody, so it counts against accuracy and recall, is no yes, and its share is told apart. (The official script takes whatever has
no "no" in it for a yes.) Without ambiguous answers all are the official numbers. The figure that papers report is the F1, or the
accuracy, of each of the three lists (random, popular, adversarial) and their unweighted mean.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tectum.errors import EvaluationError
from tectum.evaluate.measurement import Measurement, quotient
from tectum.evaluate.records import pair_by_id, read_records
from tectum.evaluate.score import Passport

_LABELS = {"yes": True, "no": False}

# Which of TN, FP, ambiguous negatives, FN, TP, ambiguous positives are summed above and below the line.
_RATES = {
    "pope-accuracy": ((1, 0, 0, 0, 1, 0), (1, 1, 1, 1, 1, 1)),
    "pope-precision": ((0, 0, 0, 0, 1, 0), (0, 1, 0, 0, 1, 0)),
    "pope-recall": ((0, 0, 0, 0, 1, 0), (0, 0, 0, 1, 1, 1)),
    "pope-f1": ((0, 0, 0, 0, 2, 0), (0, 1, 0, 1, 2, 1)),
    "pope-yes-ratio": ((0, 1, 0, 0, 1, 0), (1, 1, 1, 1, 1, 1)),
    "pope-ambiguous": ((0, 0, 1, 0, 0, 1), (1, 1, 1, 1, 1, 1)),
}


@dataclass(frozen=True, slots=True)
class Question:
    """A question, the picture it is about, and whether yes is right."""

    id: str
    image: str
    text: str
    label: bool


def yes_no(answer: str) -> bool | None:
    """What the first sentence of an answer says: yes, no, or neither.

    A "yes" or "no" at the start decides; else "yes" against "no", "not", "isn't", "aren't"; doubt ("not sure", "cannot tell") and
    sentences with both or none are neither.

    >>> yes_no("Yes, there is."), yes_no("There is not a dog."), yes_no("I'm not sure."), yes_no("A dog sits there.")
    (True, False, None, None)
    """
    text = answer.replace("’", "'").casefold()
    sentence = next((part for part in re.split(r"[.!?\n]", text) if re.search(r"\w", part)), "")
    first = re.match(r"\W*(yes|no)\b(?! (?:idea|clue|way to))", sentence)
    if first:
        return first[1] == "yes"
    if re.search(
        r"\b(no idea|no clue|no way to|unsure|uncertain|unclear|not (\w+ )?(sure|certain|clear|possible)"
        r"|(cannot|can't|can not|don't|do not) (\w+ )?(tell|say|know|determine|see clearly))\b",
        sentence,
    ):
        return None
    yes, no = (bool(re.search(rf"\b({words})\b", sentence)) for words in ("yes", "no|not|isn't|aren't"))
    return yes if yes != no else None


def pope(
    labels: Mapping[str, bool], answers: Mapping[str, str], *, reader: Callable[[str], bool | None] = yes_no
) -> dict[str, Measurement]:
    """ "pope-accuracy", "pope-precision", "pope-recall", "pope-f1", "pope-yes-ratio" and "pope-ambiguous".

    Args:
        labels: for each question whether yes is right.
        answers: for each question the model's text.
        reader: a text to yes, no or None; its name is in the passport.

    Raises:
        EvaluationError: if the ids differ.

    >>> scores = pope({"1": True, "2": True, "3": False, "4": False}, {"1": "Yes", "2": "Maybe", "3": "No", "4": "Yes."})
    >>> [scores["pope-" + name].score().value for name in ("accuracy", "precision", "recall", "ambiguous")]
    [0.5, 0.5, 0.5, 0.25]
    """
    pairs = pair_by_id("pope", labels, answers)
    statistics = np.zeros((len(pairs), 6))
    for row, (_, label, text) in zip(statistics, pairs, strict=True):
        said = reader(text)
        row[(3 if label else 0) + (2 if said is None else int(said))] = 1
    ids = tuple(key for key, _, _ in pairs)
    settings = {"ambiguous": "wrong", "reader": getattr(reader, "__name__", type(reader).__name__)}
    return {name: Measurement(Passport(name, settings), quotient(*parts), ids, statistics) for name, parts in _RATES.items()}


def read_questions(path: str | Path, *, prefix: str = "") -> list[Question]:
    """A question file of POPE: records of question_id, image, text and label, as JSON lines or an array.

    Args:
        path: of the file.
        prefix: put before each id, since the three lists count from 1 each.

    Raises:
        EvaluationError: if it is no such file.
    """
    questions = []
    for number, record in enumerate(read_records(path, "question_id", "image", "text", "label"), 1):
        label = _LABELS.get(str(record["label"]).strip().lower())
        if label is None:
            raise EvaluationError(f"{path}: record {number} has the label {record['label']!r}: it must be yes or no")
        questions.append(Question(prefix + str(record["question_id"]), str(record["image"]), str(record["text"]), label))
    return questions


def read_answers(path: str | Path, questions: Sequence[Question], *, prefix: str = "") -> dict[str, str]:
    """The answer ("answer" or "text") to each question, by question_id, or in the order of the questions if the file has no ids.

    Raises:
        EvaluationError: if a record has no answer, or without ids the count or a repeated question does not fit.
    """
    records = read_records(path)
    field = "answer" if all("answer" in record for record in records) else "text"
    for number, record in enumerate(records, 1):
        if field not in record:
            raise EvaluationError(f"{path}: record {number} has neither 'answer' nor 'text' like the others: add one")
    if all("question_id" in record for record in records):
        answers = {prefix + str(record["question_id"]): str(record[field]) for record in records}
        if len(answers) != len(records):
            raise EvaluationError(f"{path} answers some question twice: keep one answer for each question_id")
        return answers
    if len(records) != len(questions):
        raise EvaluationError(f"{path} has {len(records)} answers without question_id to {len(questions)} questions: answer each")
    for number, (record, question) in enumerate(zip(records, questions, strict=True), 1):
        asked = str(record.get("question", question.text))
        if asked.strip().casefold() != question.text.strip().casefold():
            raise EvaluationError(f"{path}: answer {number} is to {asked!r}, not to {question.text!r}: put answers in order")
    return {question.id: str(record[field]) for question, record in zip(questions, records, strict=True)}
