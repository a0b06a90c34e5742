"""What is printed survives every terminal."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tectum.cli import output

NASTY = "a\nb\x1b[31m [bold]x[/bold] :smile: \u202egpj.exe \udcff 🐕"


def show(code: str, encoding: str, **environment: str) -> str:
    program = "from tectum.cli import output; output.forgive_streams();" + code
    variables = {"PYTHONIOENCODING": encoding, "PATH": "", **environment}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=variables, timeout=300)
    assert done.returncode == 0, done.stderr.decode()
    return (done.stdout + done.stderr).decode(encoding)


@given(relevance=st.floats(0, 1), width=st.integers(1, 40), ascii_only=st.booleans())
def test_the_bar_has_its_width_and_grows_with_relevance(relevance: float, width: int, ascii_only: bool) -> None:
    bar = output.relevance_bar(relevance, width, ascii_only=ascii_only)
    assert len(bar) == width
    assert bar.isascii() or not ascii_only
    full = bar.count("#") + bar.count("█")
    assert abs(full - relevance * width) <= 0.5
    assert set(bar[:full]) <= {"#", "█"}


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("terminal", [{}, {"COLUMNS": "60", "FORCE_COLOR": "1"}])
def test_a_table_survives_any_encoding_and_hostile_cells(encoding: str, terminal: dict[str, str]) -> None:
    code = f"output.print_table(('file', 'relevance', 'n'), [({NASTY!r}, '0.5', '7')], right=('n',), bar='relevance')"
    text = show(code, encoding, **terminal)
    assert "[bold]x[/bold]" in text.replace("\n", "")  # neither markup nor emoji codes are read
    assert ":smile:" in text
    assert "\\x1b[31m" in text and "\x1b[31m" not in text
    assert "\u202e" not in text
    if not terminal:
        assert len(text.splitlines()) == 2


def test_without_a_terminal_a_row_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(("file",), [("x" * 300,), ("y",)])
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == ["file", "x" * 300, "y"]


def test_json_is_ascii_and_comes_back(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"path": Path("a/ü\n"), "name": NASTY, "score": 0.25})
    printed = capsys.readouterr().out
    assert printed.isascii()
    assert json.loads(printed) == {"path": "a/ü\n", "name": NASTY, "score": 0.25}


def test_a_complaint_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    output.complain("first\nsecond \x07 third")
    assert capsys.readouterr() == ("", "tectum: first second \\x07 third\n")


@given(st.integers(0, 10**12))
def test_megabytes_are_right_to_two_figures(count: int) -> None:
    number, unit = output.megabytes(count).split()
    back = float(number) * {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}[unit]
    assert back == pytest.approx(count, rel=0.05)


def test_facts_are_aligned_and_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    output.print_facts({"a": 1, "long name": "x\ny"})
    assert stream.getvalue() == "a          1\nlong name  x\\ny\n"
