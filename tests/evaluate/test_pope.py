"""POPE: published confusion counts, ambiguous answers, and the files as they come."""

import json
import math
from pathlib import Path

import pytest

from tectum.errors import EvaluationError
from tectum.evaluate.measurement import merge
from tectum.evaluate.pope import Question, pope, read_answers, read_questions, yes_no

NAMES = ("accuracy", "precision", "recall", "f1", "yes-ratio", "ambiguous")


def values(labels: dict[str, bool], answers: dict[str, str]) -> list[float]:
    measured = pope(labels, answers)
    return [measured["pope-" + name].score(resamples=0).value for name in NAMES]


def counted(tp: int, fp: int, tn: int, fn: int) -> tuple[dict[str, bool], dict[str, str]]:
    rows = [(True, "yes")] * tp + [(False, "yes")] * fp + [(False, "no")] * tn + [(True, "no")] * fn
    return {f"{i:04}": label for i, (label, _) in enumerate(rows)}, {f"{i:04}": text for i, (_, text) in enumerate(rows)}


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((1183, 31, 1379, 317), (0.88041, 0.97446, 0.78867, 0.87178, 0.41718)),  # LLaVA-1.5, random, LLaVA issue 626
        ((1282, 178, 1322, 218), (0.8680, 0.87808, 0.85467, 0.86622, 0.48667)),  # popular, OPERA issue 19
    ],
)
def test_published_confusion_counts(counts: tuple[int, int, int, int], expected: tuple[float, ...]) -> None:
    assert values(*counted(*counts)) == pytest.approx((*expected, 0), abs=5e-6)


def test_an_ambiguous_answer_is_wrong_and_never_a_yes() -> None:
    labels = {"1": True, "2": True, "3": False, "4": False}
    sure = values(labels, {"1": "yes", "2": "no", "3": "no", "4": "yes"})
    unsure = values(labels, {"1": "yes", "2": "hard to say", "3": "no", "4": "a dog?"})
    assert sure == [0.5, 0.5, 0.5, 0.5, 0.5, 0]
    assert unsure == [0.5, 1, 0.5, 2 / 3, 0.25, 0.5]


def test_what_is_not_defined_is_nan() -> None:
    accuracy, precision, recall, f1, yes, _ = values({"1": False, "2": False}, {"1": "no", "2": "no"})
    assert (accuracy, yes) == (1, 0)
    assert all(map(math.isnan, (precision, recall, f1)))
    assert values({"1": True}, {"1": "no"})[3] == 0
    assert all(map(math.isnan, values({}, {})))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("yes", True),
        ("Yes.", True),
        ("  YES, there is no doubt", True),
        ("**Yes**", True),
        ("no", False),
        ("No, but yes to a cat", False),
        ("No.\nYes.", False),
        ("There is not a dog in the image.", False),
        ("There isn’t one", False),
        ("The answer is yes", True),
        ("The answer is no", False),
        ("... no", False),
        ("", None),
        ("?!", None),
        ("maybe", None),
        ("There is a dog.", None),
        ("yesterday", None),
        ("nobody knows", None),
        ("No idea.", None),
        ("I am not sure.", None),
        ("I'm not entirely sure", None),
        ("I cannot tell, no", None),
        ("I don't know", None),
        ("It could be yes or no", None),
        ("sí", None),
    ],
)
def test_reading_an_answer(answer: str, said: bool | None) -> None:
    assert yes_no(answer) is said


def test_another_reader_has_another_passport() -> None:
    def first_letter(answer: str) -> bool | None:
        return {"y": True, "n": False}.get(answer[:1])

    measured = pope({"1": True}, {"1": "y"}, reader=first_letter)["pope-accuracy"]
    assert measured.score().value == 1
    assert str(measured.passport) == "pope-accuracy|ambiguous=wrong|reader=first_letter"


def test_shards_merge_into_the_whole() -> None:
    labels, answers = counted(7, 3, 8, 2)
    keys = sorted(labels, key=lambda key: int(key) % 7)
    parts = [pope({k: labels[k] for k in part}, {k: answers[k] for k in part}) for part in (keys[:5], keys[5:])]
    for name, whole in pope(labels, answers).items():
        assert merge([part[name] for part in parts]).score() == whole.score()


def lines(path: Path, records: list[dict[str, object]]) -> Path:
    path.write_text("\n".join(map(json.dumps, records)))
    return path


QUESTIONS: list[dict[str, object]] = [
    {"question_id": 1, "image": "a.jpg", "text": "Is there a snowboard in the image?", "label": "yes"},
    {"question_id": 2, "image": "a.jpg", "text": "Is there a car in the image?", "label": "No "},
]


def test_the_files_of_pope_and_of_llava(tmp_path: Path) -> None:
    questions = read_questions(lines(tmp_path / "q.json", QUESTIONS), prefix="random/")
    assert questions[0] == Question("random/1", "a.jpg", "Is there a snowboard in the image?", True)
    assert questions[1].label is False
    echoed = [{"question": str(record["text"]).lower(), "answer": answer} for record, answer in zip(QUESTIONS, "xy", strict=True)]
    ordered = lines(tmp_path / "a.json", echoed)
    assert read_answers(ordered, questions) == {"random/1": "x", "random/2": "y"}
    by_id = lines(tmp_path / "b.jsonl", [{"question_id": 2, "text": "No"}, {"question_id": 1, "text": "Yes"}])
    answers = read_answers(by_id, questions, prefix="random/")
    assert pope({q.id: q.label for q in questions}, answers)["pope-accuracy"].score().value == 1


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    questions = read_questions(lines(path, QUESTIONS))
    for records, message in [
        ([{"answer": "yes"}], "1 answers without question_id to 2 questions"),
        ([{"answer": "yes"}, {"text": "no"}], "record 1 has neither"),
        ([{"question": "Is there a car?", "answer": "yes"}, {"answer": "no"}], "answer 1 is to 'Is there a car"),
        ([{"question_id": 1, "answer": "yes"}, {"question_id": 1, "answer": "no"}], "answers some question twice"),
    ]:
        with pytest.raises(EvaluationError, match=message):
            read_answers(lines(path, records), questions)
    with pytest.raises(EvaluationError, match="label 'maybe'"):
        read_questions(lines(path, [QUESTIONS[0] | {"label": "maybe"}]))
    with pytest.raises(EvaluationError, match="record 1 has no field 'label'"):
        read_questions(lines(path, [{k: v for k, v in QUESTIONS[0].items() if k != "label"}]))
    with pytest.raises(EvaluationError, match="pope: 1 of 1 items have no prediction"):
        pope({"1": True}, {})
