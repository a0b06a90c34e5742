"""METEOR's parts: the stemmer, the alignment, the score, and the Java program behind them, real and false."""

from __future__ import annotations

import gzip
import importlib.util
import os
import random
import re
import shutil
import stat
import subprocess
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from tectum.errors import EvaluationError
from tectum.evaluate.captions.meteor import ALPHA, BETA, FUNCTION_WORDS, GAMMA, align, formula, meteor_exact_stem
from tectum.evaluate.captions.meteor_java import meteor_1_5
from tectum.evaluate.captions.ngrams import Captions
from tectum.evaluate.captions.report import evaluate_captions
from tectum.evaluate.captions.stem import stem


def real_jar() -> Path:
    spec = importlib.util.find_spec("pycocoevalcap")
    jar = Path(next(iter(spec.submodule_search_locations or [""])) if spec else "", "meteor", "meteor-1.5.jar")
    if shutil.which("java") is None or not jar.is_file():
        pytest.skip("needs java and pycocoevalcap's jar")
    return jar


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("sses: caresses ties cries gas this kiwis gaps", "sses: caress tie cri gas this kiwi gap"),
        ("agreed feed plastered bled motoring sing", "agre feed plaster bled motor sing"),
        ("luxuriated hopping hoped skiing falling fizzed", "luxuri hop hope ski fall fizz"),
        ("happy say cry by enjoy", "happi say cri by enjoy"),
        ("relational valenci hesitanci digitizer conformabli", "relat valenc hesit digit conform"),
        ("triplicate formative formalize electrical hopeful goodness", "triplic format formal electr hope good"),
        ("revival allowance airliner adjustable adoption dependent", "reviv allow airlin adjust adopt depend"),
        ("skis skies dying news inning proceed early only", "ski sky die news inning proceed earli onli"),
        ("generous general communication arsenal", "generous general communic arsenal"),
        ("boy's boys' 'tis it's a as", "boy boy tis it a as"),
        ("yellow youth toys saying yyy", "yellow youth toy say yyy"),
    ],
)
def test_stems_are_those_of_the_snowball_definition(words: str, expected: str) -> None:
    assert [stem(word) for word in words.split()] == expected.split()


def test_the_score_by_hand() -> None:
    """One word of each weight: P = R = (0.75 + 0.6 · 0.75 + 0.25) / 1.75, two chunks in three matches."""
    said = {"a": "dogs the run"}
    captions = Captions.of(said, {"a": ["the dog run"]}, tokenizer="split")
    assert "the" in FUNCTION_WORDS
    both = (0.75 + 0.6 * 0.75 + 0.25) / 1.75
    expected = both * (1 - GAMMA * (3 / 3) ** BETA)
    assert meteor_exact_stem(captions).values()["a"] == pytest.approx(expected)
    captions = Captions.of({"a": "cats sit"}, {"a": ["two cats sit here"]}, tokenizer="split")
    precision, recall = 1.0, 1.5 / (1.5 + 0.25 + 0.75)
    expected = 1 / ((1 - ALPHA) / precision + ALPHA / recall) * (1 - GAMMA * 0.5**BETA)
    assert meteor_exact_stem(captions).values()["a"] == pytest.approx(expected)


def test_the_same_words_score_one_and_no_common_word_zero() -> None:
    captions = Captions.of(
        {"a": "a cat sits", "b": "a cat", "c": "", "d": ""}, {"a": ["x", "a cat sits"], "b": ["dog"], "c": ["x"], "d": [""]}
    )
    assert list(meteor_exact_stem(captions).values().values()) == [1, 0, 0, 0]


def test_the_alignment_has_fewest_chunks() -> None:
    # The second "the" belongs to "mat": taking the first would break a chunk.
    assert align(["on", "the", "mat"], ["the", "cat", "on", "the", "mat"]).chunks == 1
    assert align(list("abc"), list("cab")).chunks == 2


def test_every_word_is_matched_once() -> None:
    rng = random.Random(0)
    for _ in range(300):
        said, known = (rng.choices(["a", "the", "dog", "dogs", "run", "running"], k=rng.randint(0, 9)) for _ in "ab")
        found = align(said, known)
        exact = sum(min(said.count(word), known.count(word)) for word in set(said))
        assert found.candidate_words == found.reference_words <= min(len(said), len(known))
        assert found.candidate_words >= exact - 1  # a beam of 40, and stems may stand in the way
        value = float(formula(np.ones((1, 1)), np.array([found]))[0])
        assert 0 <= value <= 1


def test_the_corpus_score_is_of_sums() -> None:
    captions = Captions.of({"a": "a cat", "b": "dogs"}, {"a": ["a cat sits"], "b": ["a dog"]})
    measured = meteor_exact_stem(captions)
    summed = formula(np.ones((1, 1)), measured.statistics.sum(0, keepdims=True))[0]
    assert measured.score(resamples=0).value == pytest.approx(float(summed))


def test_it_is_the_java_program_with_exact_and_stem_modules(tmp_path: Path) -> None:
    jar = real_jar()
    rng = random.Random(1)
    words = [
        "the",
        "a",
        "cat",
        "cats",
        "dog",
        "dogs",
        "runs",
        "running",
        "run",
        "on",
        "of",
        "mat",
        "'s",
        "sits",
        "sitting",
        "red",
    ]
    pairs = [(rng.choices(words, k=rng.randint(1, 12)), rng.choices(words, k=rng.randint(1, 12))) for _ in range(1500)]
    pairs += [(said, said) for said, _ in pairs[:20]]
    for name, side in (("said", 0), ("known", 1)):
        (tmp_path / name).write_text("".join(" ".join(pair[side]) + "\n" for pair in pairs))
    command = ["java", "-jar", str(jar), "said", "known", "-l", "en", "-lower", "-m", "exact stem", "-w", "1.0 0.6"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    theirs = [float(value) for value in re.findall(r"Segment \d+ score:\t(\S+)", done.stdout)]
    captions = Captions.of(
        {str(n): " ".join(said) for n, (said, _) in enumerate(pairs)},
        {str(n): [" ".join(known)] for n, (_, known) in enumerate(pairs)},
        tokenizer="split",
    )
    measured = meteor_exact_stem(captions)
    assert list(measured.values().values()) == pytest.approx(theirs, abs=1e-12)
    assert measured.score(resamples=0).value == pytest.approx(float(done.stdout.split()[-1]), abs=1e-12)


def test_the_real_program_gives_the_published_numbers(tmp_path: Path) -> None:
    """nlg-eval's issue 105 and its test (MIT); the example of clipscore (MIT) for a corpus.

    None of them needs a paraphrase, so that the head of the table will do; all of it takes Java seconds to load.
    """
    jar = Path(shutil.copy(real_jar(), tmp_path))
    (tmp_path / "data").mkdir()
    with gzip.open(real_jar().parent / "data" / "paraphrase-en.gz") as table:
        (tmp_path / "data" / "paraphrase-en.gz").write_bytes(gzip.compress(b"".join(islice(table, 300))))
    known = {
        "1": ["two cats are sleeping next to each other.", "a grey cat is cuddling with an orange cat on a blanket."],
        "2": [
            "a dog is wearing ear muffs as it lies on a carpet.",
            "a black dog and an orange cat are looking at the photographer.",
        ],
    }
    known["1"].append("the orange cat is happy that the black cat is close to it.")
    known["2"].append("headphones are placed on a dogs ears.")
    said = {
        "1": "an orange cat and a grey cat are lying together.",
        "2": "a black dog wearing headphones looks at the camera as an orange cat walks in the background.",
    }
    said |= {"3": "the cat was sat on the mat", "4": "this is a good test", "5": ""}
    known |= {"3": ["the cat sat on the mat"], "4": ["this is a test", "this is also a test"], "5": ["a cat", ""]}
    measured = meteor_1_5(Captions.of(said, known), jar)
    values = measured.values()
    assert values["3"] == pytest.approx(0.51196, abs=1e-5)
    assert values["4"] == pytest.approx(0.44434387, abs=1e-8)
    assert values["5"] == 0
    assert measured.rows([0, 1]).score(resamples=0).value == pytest.approx(0.3444, abs=5e-5)


@pytest.fixture
def jar(tmp_path: Path) -> Path:
    """Files with the names of METEOR's, so that only the program is missing."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "paraphrase-en.gz").write_bytes(b"")
    (tmp_path / "meteor-1.5.jar").write_bytes(b"")
    return tmp_path / "meteor-1.5.jar"


def fake_java(folder: Path, body: str) -> str:
    """A command that is called as java is: a Python script with `lines` in and whatever it prints out."""
    path = folder / "java"
    path.write_text(f"#!{shutil.which('python3')}\nimport sys, time\nlines = sys.stdin.read().splitlines()\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


TWO = Captions.of({"a": "a cat", "b": ""}, {"a": ["a cat sits", "the ||| cat"], "b": ["snow"]}, tokenizer="split")
ROW = "2 3 1 1 1 1 1 1" + " 0" * 12 + " 1 2 2"


def test_a_false_program_gets_the_protocol_and_its_numbers_become_statistics(jar: Path, tmp_path: Path) -> None:
    java = fake_java(tmp_path, f"open('seen', 'w').write('\\n'.join([*sys.argv[1:], *lines]))\nfor line in lines: print('{ROW}')")
    folder = os.getcwd()
    os.chdir(tmp_path)
    try:
        measured = meteor_1_5(TWO, jar, java=java)
    finally:
        os.chdir(folder)
    seen = (tmp_path / "seen").read_text().split("\n")
    assert seen[-2:] == ["SCORE ||| a cat sits ||| the   cat ||| a cat ", "SCORE ||| snow |||  "]
    assert seen[seen.index("-jar") + 1 :][:7] == [str(jar), "-", "-", "-stdio", "-l", "en", "-norm"]
    # Two of two words and two of three, a content and a function word each, in one chunk.
    precision, recall = 1.0, 1.0 / 1.75
    expected = 1 / (0.15 / precision + 0.85 / recall) * (1 - 0.6 * 0.5**0.2)
    assert measured.values()["a"] == pytest.approx(expected)
    assert measured.passport.metric == "meteor-1.5"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("print('', file=sys.stderr); sys.exit(1)", "ended with code 1 after 0 of 2 answers"),
        (
            "print('java.lang.OutOfMemoryError: heap', file=sys.stderr)",
            "0 of 2 answers and said 'java.lang.OutOfMemoryError: heap'",
        ),
        ("print('')", "after 1 of 2 answers"),
        ("print('\\n')", "after 2 of 2 answers"),
        ("[print('Error: specify SCORE or EVAL') for _ in lines]", "said 'Error: specify SCORE or EVAL'"),
        (f"print('{ROW}')", "after 1 of 2 answers"),
        ("[print('1 2 3') for _ in lines]", "said '1 2 3'"),
        (f"[print('{ROW}') for _ in lines]; sys.exit(3)", "code 3"),
    ],
)
def test_a_program_that_fails_is_one_sentence(jar: Path, tmp_path: Path, body: str, said: str) -> None:
    with pytest.raises(EvaluationError, match=re.escape(said)) as caught:
        meteor_1_5(TWO, jar, java=fake_java(tmp_path, body))
    assert "\n" not in str(caught.value)


def test_a_program_that_says_much_does_not_deadlock(jar: Path, tmp_path: Path) -> None:
    """More on each stream than a pipe holds, before the first line is read: what hangs a dialogue through pipes."""
    java = fake_java(tmp_path, f"sys.stderr.write('w' * 300_000)\nfor line in lines: print('{ROW}')")
    many = Captions.of({str(n): "a cat" for n in range(9000)}, {str(n): ["a cat sits on a mat"] for n in range(9000)})
    assert meteor_1_5(many, jar, java=java).score(resamples=0).n == 9000


def test_what_is_missing_is_named(jar: Path, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="needs the command '/no/java': install a Java runtime"):
        meteor_1_5(TWO, jar, java="/no/java")
    with pytest.raises(EvaluationError, match=r"nothing\.jar, which is missing"):
        evaluate_captions({"a": "x"}, {"a": ["x"]}, meteor_jar=tmp_path / "nothing.jar")
    (jar.parent / "data" / "paraphrase-en.gz").unlink()
    with pytest.raises(EvaluationError, match=r"paraphrase-en\.gz, which is missing"):
        meteor_1_5(TWO, jar)


def test_a_program_that_hangs_is_given_up(jar: Path, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"no answer in 0.5 s"):
        meteor_1_5(TWO, jar, java=fake_java(tmp_path, "time.sleep(60)"), timeout=0.5)


def test_nothing_to_score_starts_no_program(jar: Path) -> None:
    assert meteor_1_5(Captions.of({}, {}), jar, java="/no/java").score().n == 0
