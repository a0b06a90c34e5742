"""The caption tokenizer: what the Java PTBTokenizer 3.4.1 answers, less the punctuation that the COCO scorers drop."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pyarrow.parquet as parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tectum.errors import EvaluationError
from tectum.evaluate.captions.tokenize import tokenize

DATA = Path(__file__).parents[3] / "shared" / "data"
DROPPED = {"''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"}


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A man's dog can't sit.", "a man 's dog ca n't sit"),
        ("They'll say it's the boys' DON'T I'd've", "they 'll say it 's the boys do n't i 'd 've"),
        ('the "peace sign", he said,"hi"', "the peace sign he said hi"),
        ("a 'no peddling' sign; one -- two ... three - four?", "a no peddling sign one two three four"),
        ("Ft. Spokane, Fort York Blvd. and Mr. X at 5 p.m. no. 7", "ft. spokane fort york blvd. and mr. x at 5 p.m. no. 7"),
        ("the U.S. flag, a T.V. and a D.V.D player, the N.B.A.", "the u.s. flag a t.v. and a d.v.d player the n.b.a."),
        ("sign for W. Centre st. or plan B. The dog", "sign for w. centre st. or plan b the dog"),
        ("at 6:55 or 5:54pm on 11.01.2009, 1,000 people", "at 6:55 or 5:54 pm on 11.01.2009 1,000 people"),
        ("10% of $5.00, -5 and 1/2 22 3/4 4x4 35mm 3.5mm", "10 % of $ 5.00 -5 and 1/2 22 3/4 4x4 35mm 3.5 mm"),
        ("upside-down multi- colored state-of-the-art", "upside-down multi colored state-of-the-art"),
        ("and/or an elephant/ w/ w/o", "and/or an elephant / w / w/o"),
        ("a river.A group parked.a it;s foo!bar wow!! what?!", "a river.a group parked.a it s foo!bar wow !! what ?!"),
        ("(left) [right] {both}", "-lrb- left -rrb- -lsb- right -rsb- -lcb- both -rcb-"),
        ("AT&T black&white M&M's fish & chips #41 #tag @user", "at&t black & white m&m 's fish & chips # 41 #tag @user"),
        ("o'clock O'Brien ma'am y'all rock 'n roll '90s o' x", "o'clock o'brien ma'am y' all rock 'n roll '90s o x"),
        ("I cannot, he's gonna, 'tis", "i can not he 's gon na 't is"),
        ("it’s “quoted” – and a…b ½ cup €5 don´t", "it 's quoted and a b 1/2 cup $ 5 don ´ t"),
        ("www.foo.org/bar.html. foo@bar.com :) http://a.b/c", "www.foo.org/bar.html foo@bar.com :-rrb- http://a.b/c"),
        ("café Zürich 日本語 の мир हिन्दी", "café zürich 日本語 の мир हिन्दी"),
        ("an emoji 😀 and a ❤️ and &amp; soft\u00adhyphen", "an emoji and a ❤ and & softhyphen"),
        ("line\nbreaks\tand\u00a0spaces \u3000 x", "line breaks and spaces x"),
        ("", ""),
        (" . ,, -- '' ", ""),
    ],
)  # fmt: skip
def test_it_says_what_the_java_tokenizer_says(caption: str, expected: str) -> None:
    assert tokenize(caption) == expected.split()


def test_split_keeps_words_as_they_are() -> None:
    assert tokenize("A cat's  . -- B.", "split") == ["A", "cat's", ".", "--", "B."]
    with pytest.raises(EvaluationError, match="choose ptb or split"):
        tokenize("a", "moses")  # type: ignore[arg-type]


@given(st.text(max_size=60))
def test_any_text_gives_words_in_lower_case_without_white_space(text: str) -> None:
    words = tokenize(text)
    assert all(word and word == word.lower() and not any(map(str.isspace, word)) for word in words)
    assert not DROPPED.intersection(words)


@pytest.mark.parametrize(
    "piece", ["a", "-", "+", ".", "a.", "a-", "'", "a'", "www.", "!", "@", "a@", "1,", "&", ":", "_", " ", "St."]
)
def test_hostile_runs_end_soon(piece: str) -> None:
    """In quadratic time each of these would take minutes."""
    assert len("".join(tokenize(piece * 50_000))) <= len(piece) * 50_000 * 5


def test_all_of_coco_val2017_is_as_the_java_tokenizer_has_it(tmp_path: Path) -> None:
    spec = importlib.util.find_spec("pycocoevalcap")
    jar = Path(next(iter(spec.submodule_search_locations or [""])) if spec else "", "tokenizer", "stanford-corenlp-3.4.1.jar")
    source = DATA / "coco_val2017_captions.parquet"
    if shutil.which("java") is None or not jar.is_file() or not source.is_file():
        pytest.skip("needs java, pycocoevalcap's jar and ../shared")
    captions = [" ".join(caption.split()) for row in parquet.read_table(source)["captions"].to_pylist() for caption in row]
    (tmp_path / "captions.txt").write_text("\n".join(captions) + "\n", "utf-8")
    command = [
        "java",
        "-Dfile.encoding=UTF-8",
        "-cp",
        jar,
        "edu.stanford.nlp.process.PTBTokenizer",
        "-preserveLines",
        "-lowerCase",
    ]
    done = subprocess.run([*command, tmp_path / "captions.txt"], capture_output=True, encoding="utf-8", check=True)
    lines = done.stdout.split("\n")[: len(captions)]
    wanted = [[word for word in line.split() if word not in DROPPED] for line in lines]
    different = [caption for caption, words in zip(captions, wanted, strict=True) if tokenize(caption) != words]
    # One caption of 25,014 ends in a single letter and a full stop, which Java keeps because of how the next caption begins.
    assert all(caption.endswith(" D.") or caption.endswith("/CTH D.") for caption in different)
    assert len(different) <= 1
