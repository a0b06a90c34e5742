"""Word errors: jiwer and torchmetrics as oracles, the axioms of a distance, and what silence does."""

import doctest
import math
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tectum.errors import EvaluationError
from tectum.evaluate.answers import PLAIN, RAW, Normalizer, plain_words
from tectum.evaluate.edit_distance import align, edit_distance
from tectum.evaluate.measurement import compare, merge
from tectum.evaluate.word_errors import align_transcripts, character_errors, word_errors

symbols = st.lists(st.sampled_from("abc"), max_size=12)
sentences = st.lists(st.sampled_from(["a", "be", "sea", "dé", "猫"]), min_size=1, max_size=9).map(" ".join)


def values(references: dict[str, str], hypotheses: dict[str, str], normalizer: Normalizer = RAW) -> dict[str, float]:
    measured = word_errors(references, hypotheses, normalizer=normalizer)
    measured["cer"] = character_errors(references, hypotheses, normalizer=normalizer)
    return {name: one.score(resamples=0).value for name, one in measured.items()}


def numbered(texts: list[str]) -> dict[str, str]:
    return {f"{number:03}": text for number, text in enumerate(texts)}


def table_distance(a: list[str], b: list[str]) -> int:
    """The definition, cell by cell."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, row = row, [i]
        for j, y in enumerate(b, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (x != y)))
    return row[-1]


@given(a=symbols, b=symbols, c=symbols)
def test_the_edit_distance_is_the_table_s_and_a_metric(a: list[str], b: list[str], c: list[str]) -> None:
    assert edit_distance(a, b) == table_distance(a, b) == edit_distance(b, a) == edit_distance(a[::-1], b[::-1])
    assert (edit_distance(a, b) == 0) == (a == b)
    assert edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c)


@given(a=symbols, b=symbols)
def test_an_alignment_is_a_shortest_way_from_one_to_the_other(a: list[str], b: list[str]) -> None:
    alignment = align(a, b)
    assert [i for i, _ in alignment.pairs if i is not None] == list(range(len(a)))
    assert [j for _, j in alignment.pairs if j is not None] == list(range(len(b)))
    hits, substitutions, deletions, insertions = alignment.counts()
    assert substitutions + deletions + insertions == edit_distance(a, b)
    assert (hits + substitutions + deletions, hits + substitutions + insertions) == (len(a), len(b))


def test_long_texts_are_aligned_and_the_distance_is_the_table_s() -> None:
    generator = random.Random(0)
    a, b = ([str(generator.randrange(300)) for _ in range(n)] for n in (700, 650))
    assert edit_distance(a, b) == table_distance(a, b) == sum(align(a, b).counts()[1:])


@given(pairs=st.lists(st.tuples(sentences, sentences), min_size=1, max_size=5))
def test_jiwer_gives_the_same_counts_and_rates(pairs: list[tuple[str, str]]) -> None:
    jiwer = pytest.importorskip("jiwer")
    said, heard = ([pair[side] for pair in pairs] for side in (0, 1))
    found, words, letters = values(numbered(said), numbered(heard)), jiwer.process_words(said, heard), jiwer.cer(said, heard)
    expected = {"wer": words.wer, "mer": words.mer, "wil": words.wil, "wip": words.wip, "cer": letters}
    assert found == pytest.approx(expected, abs=1e-12)
    counts = [alignment.counts() for alignment in align_transcripts(numbered(said), numbered(heard)).values()]
    assert tuple(map(sum, zip(*counts, strict=True))) == (words.hits, words.substitutions, words.deletions, words.insertions)


def test_torchmetrics_gives_the_same_error_rates() -> None:
    text = pytest.importorskip("torchmetrics.functional.text")
    generator = random.Random(1)
    said, heard = ([" ".join(generator.choices("abcdef", k=generator.randrange(1, 12))) for _ in range(200)] for _ in range(2))
    found = values(numbered(said), numbered(heard))
    assert found["wer"] == pytest.approx(text.word_error_rate(heard, said).item(), abs=1e-6)
    assert found["cer"] == pytest.approx(text.char_error_rate(heard, said).item(), abs=1e-6)
    distance = text.edit_distance(heard, said, reduction="none").tolist()
    assert [edit_distance(x, y) for x, y in zip(said, heard, strict=True)] == distance


def test_the_published_values() -> None:
    """The examples in the documentation of torchmetrics and jiwer."""
    said = numbered(["this is the reference", "there is another one"])
    found = values(said, numbered(["this is the prediction", "there is an other sample"]))
    assert found == pytest.approx({"wer": 4 / 8, "mer": 0.4444, "wil": 0.6528, "wip": 0.3472, "cer": 14 / 41}, abs=5e-5)
    assert values({"a": "hello duck"}, {"a": "hello world"})["wer"] == 0.5
    found = values(numbered(["hello world", "i like python"]), numbered(["hello duck", "i like monthy python"]))
    assert found["wer"] == pytest.approx(2 / 5)
    assert values(numbered(["i can spell", "i hope"]), numbered(["i kan cpell", "i hop"]))["cer"] == pytest.approx(3 / 17)
    assert edit_distance("rain", "shine") == 3


def test_rates_are_of_sums_and_not_means_of_rates() -> None:
    found = values({"long": "a b c d e f g h i", "short": "a"}, {"long": "a b c d e f g h i", "short": "b"})
    assert found["wer"] == 0.1


def test_shards_merge_into_the_whole_in_any_order() -> None:
    generator = random.Random(2)
    said, heard = (numbered([" ".join(generator.choices("abc", k=generator.randrange(6))) for _ in range(40)]) for _ in range(2))
    odd = [key for key in said if int(key) % 2]
    parts = [
        word_errors({k: said[k] for k in keys}, {k: heard[k] for k in keys}) for keys in (odd, [k for k in said if k not in odd])
    ]
    for name, whole in word_errors(said, heard).items():
        assert merge([part[name] for part in parts]).score() == whole.score()


def test_silence_counts_what_is_heard_in_it() -> None:
    spoken = values({"speech": "one two three four"}, {"speech": "one two three four"})
    both = values({"speech": "one two three four", "silence": ""}, {"speech": "one two three four", "silence": "thank you"})
    assert (spoken["wer"], both["wer"], both["mer"]) == (0, 0.5, 2 / 6)
    assert both["wip"] == pytest.approx(4 / 4 * 4 / 6)


def test_without_a_word_to_hear_the_rate_is_not_a_number() -> None:
    found = values({"a": "", "b": "  "}, {"a": "you", "b": ""})
    assert all(math.isnan(found[name]) for name in ("wer", "wil", "wip", "cer"))
    assert found["mer"] == 1  # every match that was made is an error
    assert all(math.isnan(value) for value in values({"a": ""}, {"a": ""}).values())
    assert math.isnan(word_errors({}, {})["wer"].score().value)
    assert word_errors({}, {})["wer"].score().n == 0


def test_nothing_heard_is_all_deletions() -> None:
    assert values({"a": "one two"}, {"a": ""}) == {"wer": 1, "mer": 1, "wil": 1, "wip": 0, "cer": 1}


def test_the_normalizer_is_applied_and_named() -> None:
    said, heard = {"a": "Hello, world – it's 1,000.5!"}, {"a": "hello World it’s 1000.5"}
    raw, plain = (word_errors(said, heard, normalizer=one)["wer"] for one in (RAW, PLAIN))
    assert (raw.score().value, plain.score().value) == (1.0, 0.0)
    assert str(plain.passport) == "wer|text=plain|ties=jiwer-4"
    with pytest.raises(EvaluationError, match="text is raw in one and plain in the other"):
        compare(raw, plain)
    shout = Normalizer("upper", str.upper)
    assert values({"a": "straße"}, {"a": "STRASSE"}, shout)["wer"] == 0


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("", ""),
        ("  \t\n", ""),
        ("...", ""),
        ("rock 'n' roll", "rock n roll"),
        ("ﬁne Ⅳ", "fine iv"),
        ("STRASSE Straße", "strasse strasse"),
        ("किताब", "किताब"),
        ("cafe\u0301", "café"),
        ("1,000,000 1,5 2.5 5.", "1000000 1 5 2.5 5"),
        ("e-mail_me @ home", "e mail me home"),
    ],
)
def test_plain_words(text: str, plain: str) -> None:
    assert plain_words(text) == plain == plain_words(plain)


def test_an_alignment_prints_as_two_lines_of_equal_columns() -> None:
    assert str(align(["the", "猫", "sat"], ["the", "cat", "he", "sat"])) in (
        "the *** 猫 sat\nthe cat he sat",
        "the 猫  ** sat\nthe cat he sat",
    )
    assert str(align([], [])) == "\n"
    assert str(align(["one"], [])) == "one\n***"


def test_ids_must_agree() -> None:
    with pytest.raises(EvaluationError, match="wer: 1 of 2 items have no prediction, first 'b'"):
        word_errors({"a": "x", "b": "y"}, {"a": "x"})
    with pytest.raises(EvaluationError, match="cer: 1 predictions have no reference, first 'b'"):
        character_errors({"a": "x"}, {"a": "x", "b": "y"})


def test_the_guide_runs() -> None:
    guide = Path(__file__).parents[2] / "docs" / "evaluate-speech.md"
    done = doctest.testfile(str(guide), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert done.attempted > 0
    assert done.failed == 0
