"""VQA accuracy by closed form and by definition; the official form's quirks; exact match and ANLS."""

import json
import math
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tectum.errors import EvaluationError
from tectum.evaluate.answers import PLAIN, anls, exact_match
from tectum.evaluate.measurement import merge
from tectum.evaluate.records import read_json, read_records
from tectum.evaluate.vqa import _contractions, official_form, read_annotations, read_results, vqa_accuracy


def accuracy(answers: list[str], prediction: str, **settings) -> float:  # type: ignore[no-untyped-def]
    return vqa_accuracy({"q": answers}, {"q": prediction}, **settings).score().value


@pytest.mark.parametrize("agree", range(10))
def test_the_closed_form(agree: int) -> None:
    answers = ["cat"] * agree + [f"other {i}" for i in range(10 - agree)]
    assert accuracy(answers, "cat") == pytest.approx((0, 0.3, 0.6, 0.9, 1)[min(agree, 4)], abs=1e-15)
    assert accuracy(answers, "dog") == 0


@given(answers=st.lists(st.sampled_from(["x", "y", "z"]), min_size=10, max_size=10), prediction=st.sampled_from(["x", "y", "w"]))
def test_it_is_the_mean_over_the_ways_to_leave_one_out(answers: list[str], prediction: str) -> None:
    by_definition = [min(1, list(nine).count(prediction) / 3) for nine in combinations(answers, 9)]
    assert accuracy(answers, prediction) == pytest.approx(sum(by_definition) / 10, abs=1e-12)
    assert accuracy(answers[::-1], prediction) == accuracy(answers, prediction)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("", ""),
        ("  A Dog \n", "dog"),
        ("a", ""),
        ("The\tthe", ""),
        ("none", "0"),
        ("Ten", "10"),
        ("eleven", "eleven"),
        ("dont", "don't"),
        ("couldntve", "couldntve"),
        ("couldn'tve couldnt've", "couldn't've couldn't've"),
        ("somebody'd", "somebodyd"),
        ("Im", "im"),
        ("she's lets", "she's lets"),
        ("twas 'ows'at", "'twas 'ow's'at"),
        ("black/white", "black white"),
        ("black/ white", "black white"),
        ("a/b c/ d", "ab c d"),  # one slash touches a space, so all go
        ("black-white", "black white"),
        ("1,000", "1000"),
        ("1,000 x-ray", "1000 xray"),  # a comma in a number makes every mark vanish
        ("10:30", "10:30"),
        ("dog's", "dog's"),
        ("3.5", "3.5"),
        ("no.", "no"),
        ("5.", "5"),  # a right look-behind would have kept it
        ("5. 3", "5 3"),
        (".5", ".5"),
        ("a.b", "ab"),
        ("u.s.a.", "usa"),
        (".a" * 40, "a" * 32 + ".a" * 8),  # the flag as a count
        ("(what?!)", "what"),
        ("ÉCOLE", "école"),
        ("٣,٤ -x", "٣٤ x"),
    ],
)
def test_the_official_form(text: str, form: str) -> None:
    assert official_form(text) == form


def test_every_contraction_restores_one_apostrophe() -> None:
    table = _contractions()
    assert table.pop("somebody'd") == "somebodyd"
    for wrong, right in table.items():
        assert any(right[:at] + right[at + 1 :] == wrong for at, sign in enumerate(right) if sign == "'")
    assert len(table) == 113


def test_nothing_is_normalized_where_all_agree() -> None:
    assert accuracy(["a dog"] * 10, "dog") == 0
    assert accuracy(["dog"] * 10, "a dog") == 0
    assert accuracy(["dog"] * 10, "Dog") == 0
    assert accuracy([" dog\n"] * 10, "\tdog") == 1
    assert accuracy(["dog"] * 9 + ["Dog"], "a dog") == 1
    assert accuracy(["a dog"] * 10, "dog", normalize="always") == 1
    assert accuracy(["none"] * 10, "0") == 0
    assert accuracy(["none"] * 9 + ["no"], "0") == 1


def test_an_answer_that_is_an_article_becomes_empty_and_equals_other_empties() -> None:
    assert accuracy(["A"] * 9 + ["B"], "the") == 1


def test_the_number_of_humans_is_asked_for_and_named() -> None:
    with pytest.raises(EvaluationError, match="'q' has 3 answers, not 10"):
        accuracy(["x", "x", "y"], "x")
    assert accuracy(["x"] * 3, "x", humans=3) == pytest.approx(2 / 3)
    assert accuracy(["x"], "x", humans=1) == 0
    measured = vqa_accuracy({"q": ["x", "y"]}, {"q": "x"}, humans=2)
    assert str(measured.passport) == "vqa-accuracy|humans=2|normalize=disagreement|text=vqa-official"
    with pytest.raises(EvaluationError, match="not 10"):
        vqa_accuracy({"q": "ten signs!"}, {"q": "x"})


def test_ids_nothing_and_shards() -> None:
    answers = {str(i): ["yes"] * (i % 5) + ["no"] * (10 - i % 5) for i in range(12)}
    given_answers = {key: "yes" for key in answers}
    whole = vqa_accuracy(answers, given_answers)
    shards = list("5"), [key for key in answers if key != "5"]
    parts = [vqa_accuracy({key: answers[key] for key in keys}, dict.fromkeys(keys, "yes")) for keys in shards]
    assert merge(parts).score() == whole.score()
    assert math.isnan(vqa_accuracy({}, {}).score().value)
    with pytest.raises(EvaluationError, match="11 of 12 items have no prediction"):
        vqa_accuracy(answers, {"3": "yes"})


def test_the_official_files(tmp_path: Path) -> None:
    annotations, results = tmp_path / "annotations.json", tmp_path / "results.json"
    people = [{"answer": text, "answer_id": i + 1, "answer_confidence": "yes"} for i, text in enumerate(["2"] * 9 + ["two"])]
    annotations.write_text(json.dumps({"info": {}, "annotations": [{"question_id": 7, "image_id": 1, "answers": people}]}))
    results.write_text(json.dumps([{"question_id": 7, "answer": "Two."}]))
    assert vqa_accuracy(read_annotations(annotations), read_results(results)).score().value == 1
    for text, message in [
        ("[]", "holds no list of results"),
        ("{}", "holds no list of results"),
        ('[{"question_id": 7}]', "record 1 of the results needs question_id and answer"),
        ('["yes"]', "record 1 of the results needs"),
        ('[{"question_id": 7, "answer": "a"}, {"question_id": 7, "answer": "b"}]', "'7' is there twice"),
        ("{oops", "line 1 has"),
    ]:
        results.write_text(text)
        with pytest.raises(EvaluationError, match=message):
            read_results(results)
    annotations.write_text('{"annotations": [{"question_id": 7, "answers": ["cat"]}]}')
    with pytest.raises(EvaluationError, match="record 1 of the annotations needs"):
        read_annotations(annotations)


def test_json_and_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('\ufeff{"a": "one\u2028line"}\n\n{"a": 2}\n', encoding="utf-8")
    assert read_json(path) == read_records(path, "a") == [{"a": "one\u2028line"}, {"a": 2}]
    path.write_text('{"a": 1}')
    assert read_records(path) == [{"a": 1}]
    with pytest.raises(EvaluationError, match="record 1 has no field 'b'"):
        read_records(path, "a", "b")
    for text in ("", "[]", "3"):
        path.write_text(text)
        with pytest.raises(EvaluationError, match="holds no list of objects"):
            read_records(path)
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(EvaluationError, match="is not JSON in UTF-8"):
        read_json(path)
    with pytest.raises(EvaluationError, match="cannot read"):
        read_json(tmp_path / "nowhere.json")


def test_exact_match_is_with_any_reference() -> None:
    references = {"1": ["A dog.", "puppy"], "2": ["2"], "3": ["  x "]}
    predictions = {"1": "a DOG", "2": "two", "3": "x"}
    assert exact_match(references, predictions).values() == {"1": 0, "2": 0, "3": 1}
    assert exact_match(references, predictions, normalizer=PLAIN).values() == {"1": 1, "2": 0, "3": 1}
    assert math.isnan(exact_match({}, {}).score().value)
    for wrong in ([], "dog"):
        with pytest.raises(EvaluationError, match="give a list of at least one text"):
            exact_match({"1": wrong}, {"1": "dog"})
        with pytest.raises(EvaluationError, match="give a list of at least one text"):
            anls({"1": wrong}, {"1": "dog"})


@pytest.mark.parametrize(
    ("answer", "prediction", "score"),
    [
        ("abcd", "abcd", 1),
        ("abcd", "ABCD", 1),
        ("a  b", " a b ", 1),
        ("abcd", "abcx", 0.75),
        ("abc", "abcd", 0.75),
        ("abcd", "abxy", 0),  # NL = 1/2
        ("abcd", "xyzw", 0),
        ("abcd", "", 0),
        ("", "", 1),
        ("猫です", "猫だす", 2 / 3),
    ],
)
def test_anls_of_one(answer: str, prediction: str, score: float) -> None:
    assert anls({"q": [answer]}, {"q": prediction}).score().value == pytest.approx(score)


def test_anls_takes_the_best_reference_and_names_its_threshold() -> None:
    assert anls({"q": ["xxxx", "abce", "abcd"]}, {"q": "abcd"}).score().value == 1
    edge = {"q": ["abcd"]}, {"q": "abxy"}
    assert anls(*edge, at_threshold="kept").score().value == 0.5
    assert anls(*edge, threshold=0.6).score().value == 0.5
    assert str(anls(*edge).passport) == "anls|at-threshold=zero|text=lower-case|threshold=0.5"
