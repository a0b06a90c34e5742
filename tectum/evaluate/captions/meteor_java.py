"""METEOR 1.5 itself (Denkowski and Lavie 2014), through its Java program, as the COCO caption scorers run it.

The program is not part of tectum: give the path to `meteor-1.5.jar`, beside which its `data/paraphrase-en.gz` must lie, and
have `java` on the path. The Python package pycocoevalcap carries both files.

All captions go in at once and all statistics come out at once, in one run that ends: there is no dialogue that could deadlock
and no process left behind. Scores are then computed here, so that METEOR too has intervals and paired comparisons.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tectum.errors import EvaluationError
from tectum.evaluate.captions import meteor
from tectum.evaluate.captions.ngrams import Captions
from tectum.evaluate.measurement import Measurement
from tectum.evaluate.score import Passport

_OPTIONS = ("-", "-", "-stdio", "-l", "en", "-norm")
_MODULE_WEIGHTS = (1.0, 0.6, 0.8, 0.6)
_NUMBERS = 23


def meteor_1_5(captions: Captions, jar: Path | str, *, java: str = "java", timeout: float = 3600) -> Measurement:
    """METEOR 1.5 for English with exact, stem, synonym and paraphrase matches, in [0, 1].

    Args:
        captions: the words of each caption go to the program with spaces between them.
        jar: `meteor-1.5.jar`.
        java: the command.
        timeout: seconds until it is given up.

    Raises:
        EvaluationError: if `java`, the jar or its paraphrase table is missing, or the program does not answer every line.
    """
    jar = Path(jar)
    for file in (jar, jar.parent / "data" / "paraphrase-en.gz"):
        if not file.is_file():
            raise EvaluationError(f"METEOR 1.5 needs {file}, which is missing: pip install pycocoevalcap brings it")
    lines = _lines(captions)
    command = [java, "-Xmx2G", "-Dfile.encoding=UTF-8", "-jar", str(jar.absolute()), *_OPTIONS]
    rows = _answers(command, lines, timeout) if lines else []
    passport = Passport(
        "meteor-1.5",
        {"tokenizer": captions.tokenizer, "options": " ".join(_OPTIONS[3:]), "modules": "default", **meteor.parameters()},
    )
    statistics = np.array([_statistics(row) for row in rows], np.float64).reshape(len(rows), len(meteor.Alignment._fields))
    return Measurement(passport, meteor.formula, captions.ids, statistics)


def _lines(captions: Captions) -> list[str]:
    """`SCORE ||| reference ||| … ||| candidate` for each item; the space at the end keeps an empty candidate from being lost."""
    texts = [" ".join(words).replace("|||", " ") for words in captions.tokens]
    parts: list[list[str]] = [["SCORE"] for _ in captions.ids]
    for caption in captions.references.tolist():
        parts[captions.owner[caption]].append(texts[caption])
    return [" ||| ".join((*several, texts[item])) + " " for item, several in enumerate(parts)]


def _answers(command: Sequence[str], lines: Sequence[str], timeout: float) -> list[list[float]]:
    try:
        done = subprocess.run(
            command, input="\n".join(lines) + "\n", capture_output=True, encoding="utf-8", errors="replace", timeout=timeout
        )
    except FileNotFoundError:
        raise EvaluationError(f"METEOR 1.5 needs the command {command[0]!r}: install a Java runtime") from None
    except subprocess.TimeoutExpired:
        raise EvaluationError(f"METEOR 1.5 gave no answer in {timeout:g} s: give it more time or fewer captions") from None
    answers = done.stdout.splitlines()
    try:
        rows = [[float(number) for number in answer.split()] for answer in answers]
    except ValueError:
        rows = []
    if done.returncode or len(rows) != len(lines) or any(len(row) != _NUMBERS for row in rows):
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        reason = said[-1].strip() if said else "nothing"
        raise EvaluationError(
            f"METEOR 1.5 ended with code {done.returncode} after {len(answers)} of {len(lines)} answers and said {reason!r}: "
            f"run {' '.join(command[:5])} by hand to see why"
        )
    return rows


def _statistics(row: Sequence[float]) -> meteor.Alignment:
    """From the program's numbers: lengths and function words of both, four counts for each of four modules, chunks, matches."""
    words, functions = row[0:2], row[2:4]
    matched = [0.0, 0.0]
    for module, weight in enumerate(_MODULE_WEIGHTS):
        content, function = row[4 + 4 * module : 6 + 4 * module], row[6 + 4 * module : 8 + 4 * module]
        for side in (0, 1):
            matched[side] += weight * (meteor.DELTA * content[side] + (1 - meteor.DELTA) * function[side])
    weighted = [meteor.DELTA * (words[side] - functions[side]) + (1 - meteor.DELTA) * functions[side] for side in (0, 1)]
    whole = row[20] == 1 and row[21] == words[0] and row[22] == words[1]
    return meteor.Alignment(matched[0], matched[1], weighted[0], weighted[1], row[21], row[22], 0 if whole else row[20])
