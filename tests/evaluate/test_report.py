"""Reports on disk say the same as the measurements they were made of."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from tectum.errors import EvaluationError, PassportError
from tectum.evaluate.measurement import Measurement, compare, ratio
from tectum.evaluate.report import Report, compare_reports, read_report, write_report
from tectum.evaluate.score import Passport, Score

ACCURACY = Passport("accuracy", {"top": 1})


def measured(seed: int, n: int = 40, passport: Passport = ACCURACY) -> Measurement:
    return Measurement.mean(passport, [f"ítem {i}" for i in range(n)], np.random.default_rng(seed).random(n))


def saved(path: Path, report: Report) -> Report:
    write_report(path, report)
    return read_report(path)


def test_a_report_comes_back_as_it_was(tmp_path: Path) -> None:
    undefined = Measurement(Passport("wer"), ratio, ("a", "b"), np.array([[1.0, 0.0], [0.0, 2.0]]))
    parts = {"accuracy": measured(0), "wer": undefined, "fid": Score(3.5, None, 9, Passport("fid"))}
    report = Report.of("a ‘title’ <b>", parts, {"accuracy": {"text only": measured(1)}})
    again = saved(tmp_path / "r.json", report)
    assert (again.title, list(again.entries), again.beside) == (report.title, list(report.entries), report.beside)
    assert again.entries["accuracy"] == report.entries["accuracy"]
    assert again.entries["fid"] == report.entries["fid"]
    assert math.isnan(again.entries["wer"].items["a"]) and again.entries["wer"].items["b"] == 0


def test_reports_compare_as_the_measurements_do(tmp_path: Path) -> None:
    a, b = measured(0), measured(1)
    reports = [saved(tmp_path / f"{i}.json", Report.of(str(i), {"accuracy": one})) for i, one in enumerate((a, b))]
    assert compare_reports(*reports)["accuracy"] == compare(a, b)


def test_what_cannot_be_compared_is_told() -> None:
    a = Report.of("a", {"accuracy": measured(0)})
    with pytest.raises(PassportError, match="top is 1 in one and 5 in the other"):
        compare_reports(a, Report.of("b", {"accuracy": measured(0, passport=Passport("accuracy", {"top": 5}))}))
    with pytest.raises(EvaluationError, match="'ítem 39' is only in the first report"):
        compare_reports(a, Report.of("b", {"accuracy": measured(0, 39)}))
    with pytest.raises(EvaluationError, match="a has no score 'wer', only accuracy"):
        compare_reports(a, Report.of("b", {"accuracy": measured(1)}), ["wer"])
    with pytest.raises(EvaluationError, match="compare reports of one kind"):
        compare_reports(a, Report.of("b", {"other": measured(1)}))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1, "title": "x", "scores": {"a": 3}}', '{"format": 2}'])
def test_what_is_no_report_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(EvaluationError, match=r"r\.json"):
        read_report(tmp_path / "r.json")
    with pytest.raises(EvaluationError, match="is no report"):
        read_report(tmp_path / "none.json")


def test_the_file_is_json_that_others_can_read(tmp_path: Path) -> None:
    write_report(tmp_path / "r.json", Report.of("t", {"accuracy": measured(0, 3)}))
    value = json.loads((tmp_path / "r.json").read_text())["scores"]["accuracy"]
    assert value["n"] == 3 and len(value["items"]) == 3 and value["settings"] == {"top": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]
