"""BLEU, ROUGE-L and CIDEr-D: the reference scorers' values, their code as oracle, closed forms, merging and edges."""

from __future__ import annotations

import gzip
import importlib
import json
import math
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tectum.errors import EvaluationError, PassportError
from tectum.evaluate.captions.bleu import bleu
from tectum.evaluate.captions.cider import cider_d
from tectum.evaluate.captions.ngrams import Captions
from tectum.evaluate.captions.report import CAPTION_METRICS, evaluate_captions
from tectum.evaluate.captions.rouge import rouge_l
from tectum.evaluate.measurement import Measurement, compare, merge

GOLD = Path(__file__).parents[3] / "shared" / "data" / "caption_metric_gold.json.gz"
NAMES = {"Bleu_1": "bleu-1", "Bleu_2": "bleu-2", "Bleu_3": "bleu-3", "Bleu_4": "bleu-4", "ROUGE_L": "rouge-l", "CIDEr": "cider-d"}
EXACT = ("bleu", "rouge-l", "cider-d")

Corpus = tuple[dict[str, str], dict[str, list[str]]]


def random_corpus(seed: int, items: int = 8) -> Corpus:
    """Captions over few words, so that much overlaps; some empty, some references twice."""
    rng = random.Random(seed)
    words = ["a", "b", "cat", "dog", "on", "é", "日本"][: rng.randint(2, 7)]

    def caption() -> str:
        return " ".join(rng.choices(words, k=rng.choice([0, 1, 1, 2, 3, 5, 8, 12])))

    references = {f"i{n}": [caption() for _ in range(rng.randint(1, 5))] for n in range(rng.randint(1, items))}
    references["i0"].append("a cat")
    for several in references.values():
        if rng.random() < 0.3:
            several.append(several[0])
    return {key: caption() for key in references}, references


def scores(measured: dict[str, Measurement]) -> dict[str, float]:
    return {name: measurement.score(resamples=0).value for name, measurement in measured.items()}


def exact(candidates: dict[str, str], references: dict[str, list[str]]) -> dict[str, Measurement]:
    return evaluate_captions(candidates, references, metrics=EXACT, tokenizer="split")


@pytest.mark.skipif(not GOLD.is_file(), reason="needs ../shared")
def test_the_gold_values_of_the_reference_scorers_corpus_and_item() -> None:
    with gzip.open(GOLD, "rt", encoding="utf-8") as file:
        cases = json.load(file)["cases"]
    checked = 0
    for case in cases:
        items = {str(item["image_id"]): item for item in case["items"]}
        measured = exact(
            {key: item["hypothesis"] for key, item in items.items()}, {key: item["references"] for key, item in items.items()}
        )
        for theirs, ours in NAMES.items():
            assert measured[ours].score(resamples=0).value == pytest.approx(case["corpus"][theirs], abs=1e-12)
            values = measured[ours].values()
            for key, item in items.items():
                assert values[key] == pytest.approx(item["scores"][theirs], abs=1e-12), (case["name"], ours, key)
        checked += len(items)
    assert checked == 1001


def test_pycocoevalcap_agrees_on_a_thousand_random_caption_sets(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pycocoevalcap")
    modules = {"bleu": "Bleu", "rouge": "Rouge", "cider": "Cider"}
    makers: list[Any] = [getattr(importlib.import_module(f"pycocoevalcap.{m}.{m}"), name) for m, name in modules.items()]
    for seed in range(1000):
        candidates, references = random_corpus(seed)
        given = {key: [caption] for key, caption in candidates.items()}
        measured = exact(candidates, references)
        for make, names in zip(makers, (list(NAMES.values())[:4], ["rouge-l"], ["cider-d"]), strict=True):
            corpus, per_item = make().compute_score(references, given)
            corpus, per_item = (corpus, per_item) if len(names) > 1 else ([corpus], [per_item])
            for name, value, values in zip(names, corpus, per_item, strict=True):
                assert measured[name].score(resamples=0).value == pytest.approx(value, abs=1e-12), (seed, name)
                assert list(measured[name].values().values()) == pytest.approx(list(values), abs=1e-12), (seed, name)
    capsys.readouterr()


def test_sacrebleu_agrees_on_bleu_of_the_corpus() -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    for seed in range(200):
        candidates, references = random_corpus(seed, items=20)
        references = {key: [caption or "x" for caption in several] for key, several in references.items()}
        candidates = {key: caption or "y" for key, caption in candidates.items()}
        most = max(map(len, references.values()))
        streams = [[several[n] if n < len(several) else None for several in references.values()] for n in range(most)]
        measured = scores(exact(candidates, references))
        for n in range(1, 5):
            metric = sacrebleu.BLEU(tokenize="none", smooth_method="none", max_ngram_order=n, effective_order=False)
            theirs = metric.corpus_score(list(candidates.values()), streams).score / 100
            if theirs:
                assert measured[f"bleu-{n}"] == pytest.approx(theirs, abs=1e-7)
            else:  # no match of some order, or none possible: the COCO scorers have 1e-15 of one, or 1e-6
                assert measured[f"bleu-{n}"] < (1e-6) ** (1 / n) + 1e-9


def test_the_published_example_of_clipscore_from_raw_captions() -> None:
    """github.com/jmhessel/clipscore, README and example/ (MIT); there by Java's tokenizer."""
    references = {
        "image1": [
            "two cats are sleeping next to each other.",
            "a grey cat is cuddling with an orange cat on a blanket.",
            "the orange cat is happy that the black cat is close to it.",
        ],
        "image2": [
            "a dog is wearing ear muffs as it lies on a carpet.",
            "a black dog and an orange cat are looking at the photographer.",
            "headphones are placed on a dogs ears.",
        ],
    }
    good = {
        "image1": "an orange cat and a grey cat are lying together.",
        "image2": "a black dog wearing headphones looks at the camera as an orange cat walks in the background.",
    }
    bad = {
        "image1": "a calico cat and a white cat are lying together.",
        "image2": "a black dog wearing a hat looks at the camera as a tabby walks in the background.",
    }
    published = {"bleu-1": (0.6667, 0.4815), "bleu-2": (0.4899, 0.2404), "bleu-3": (0.3469, 0.1359), "bleu-4": (0.0, 0.0)}
    published |= {"rouge-l": (0.4280, 0.3121), "cider-d": (0.5637, 0.2790)}
    measured = [scores(evaluate_captions(said, references, metrics=EXACT)) for said in (good, bad)]
    for name, values in published.items():
        assert tuple(round(one[name], 4) for one in measured) == values


def test_the_published_pair_of_nlg_eval() -> None:
    measured = scores(evaluate_captions({"0": "the cat was sat on the mat"}, {"0": ["the cat sat on the mat"]}, metrics=EXACT))
    assert [round(value, 4) for value in measured.values()] == [0.8571, 0.7559, 0.6114, 0.4889, 0.9361, 0.0]


def test_a_perfect_caption_has_one_and_cider_ten() -> None:
    references = {"a": ["a red bus drives on a street", "x"], "b": ["two dogs play in deep snow"]}
    measured = exact({key: several[0] for key, several in references.items()}, references)
    values = {name: list(measurement.values().values()) for name, measurement in measured.items()}
    for name in ("bleu-1", "bleu-2", "bleu-3", "bleu-4", "rouge-l"):
        assert values[name] == pytest.approx([1, 1], abs=1e-8)
    assert values["cider-d"][1] == pytest.approx(10)
    assert values["cider-d"][0] == pytest.approx(5)  # the mean over its two references, one of which shares nothing


def test_bleu_clips_and_penalises_brevity_as_in_papineni_2002() -> None:
    captions = Captions.of({"a": "the the the the the the the"}, {"a": ["the cat is on the mat", "there is a cat on the mat"]})
    assert bleu(captions)[0].score(resamples=0).value == pytest.approx(2 / 7)
    captions = Captions.of({"a": "of the"}, {"a": ["it is a guide to action of the", "of the military it is a"]})
    assert bleu(captions)[0].score(resamples=0).value == pytest.approx(math.exp(1 - 6 / 2))
    # Equally close references: the shorter, so that no penalty is due.
    captions = Captions.of({"a": "a b c"}, {"a": ["a b c d", "a b"]})
    assert bleu(captions)[0].score(resamples=0).value == pytest.approx(1)


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=9), min_size=2, max_size=6))
def test_rouge_l_is_that_of_a_plain_common_subsequence(captions: list[list[str]]) -> None:
    def common(x: list[str], y: list[str]) -> int:
        if not x or not y:
            return 0
        return 1 + common(x[:-1], y[:-1]) if x[-1] == y[-1] else max(common(x[:-1], y), common(x, y[:-1]))

    said, *known = [caption or [""] for caption in captions]
    best = [max(common(said, one) / len(side) for one in known for side in ([said] if p else [one])) for p in (True, False)]
    expected = 2.44 * best[0] * best[1] / (best[1] + 1.44 * best[0]) if best[0] else 0.0
    made = Captions.of({"a": " ".join(captions[0])}, {"a": [" ".join(one) for one in captions[1:]]}, tokenizer="split")
    assert rouge_l(made).values()["a"] == pytest.approx(expected)


def test_long_captions_do_not_change_the_short_ones_beside_them() -> None:
    rng = random.Random(0)
    long = " ".join(rng.choices("abcdefgh", k=3000))
    candidates, references = {"x": "a b c d", "y": long}, {"x": ["a c d", "d c"], "y": [long[2:], "a b"]}
    alone = rouge_l(Captions.of({"x": "a b c d"}, {"x": references["x"]})).values()["x"]
    together = rouge_l(Captions.of(candidates, references)).values()
    assert together["x"] == alone
    assert together["y"] > 0.99


@pytest.mark.parametrize("seed", range(20))
def test_the_order_of_items_and_references_changes_nothing(seed: int) -> None:
    candidates, references = random_corpus(seed)
    measured = exact(candidates, references)
    rng = random.Random(seed + 1000)
    keys = rng.sample(list(candidates), len(candidates))
    again = exact(
        {key: candidates[key] for key in keys}, {key: rng.sample(references[key], len(references[key])) for key in keys}
    )
    for name, measurement in measured.items():
        assert again[name].passport == measurement.passport
        assert again[name].score(resamples=20).value == pytest.approx(measurement.score(resamples=20).value, abs=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_shards_merge_into_the_whole_bit_for_bit(seed: int) -> None:
    candidates, references = random_corpus(seed, items=12)
    whole = evaluate_captions(candidates, references)
    keys = list(candidates)
    cut = len(keys) // 2
    parts = [
        evaluate_captions(
            {key: candidates[key] for key in shard}, {key: references[key] for key in shard}, frequencies_of=references
        )
        for shard in (keys[cut:], keys[:cut])
    ]
    for name, measurement in whole.items():
        merged = merge([part[name] for part in parts])
        assert merged.passport == measurement.passport
        assert np.array_equal(merged._ordered().statistics, measurement._ordered().statistics)
        assert merged.score(resamples=50) == pytest.approx(measurement.score(resamples=50), nan_ok=True)


def test_cider_of_another_corpus_refuses_to_be_compared_or_merged() -> None:
    references = {"a": ["a red bus"], "b": ["a dog"], "c": ["snow"]}
    said = {"a": "a bus", "b": "a cat", "c": "snow"}
    three = cider_d(Captions.of(said, references))
    two = cider_d(Captions.of({"a": "a bus", "b": "a cat"}, {"a": ["a red bus"], "b": ["a dog"]}))
    assert "3 images" in str(three.passport)
    with pytest.raises(PassportError, match="document_frequency"):
        merge([three.rows([2]), two])
    with pytest.raises(PassportError, match="document_frequency"):
        compare(three.rows([0, 1]), two)


def test_bleu_is_of_sums_and_its_bootstrap_too() -> None:
    candidates, references = {"a": "a b c d", "b": "a b"}, {"a": ["a b c d"], "b": ["x y z w v u"]}
    measured = bleu(Captions.of(candidates, references))
    value = measured[0].score(resamples=0).value
    assert value == pytest.approx(4 / 6 * math.exp(1 - 10 / 6))
    assert value != pytest.approx(sum(measured[0].values().values()) / 2)
    replicates = measured[0].formula(np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 2.0]]), measured[0].statistics)
    assert replicates == pytest.approx([value, 1.0, 0.0], abs=1e-8)


def test_one_image_has_cider_zero_and_nothing_has_no_score() -> None:
    assert cider_d(Captions.of({"a": "a cat"}, {"a": ["a cat"]})).score(resamples=0).value == 0
    for measurement in evaluate_captions({}, {}).values():
        score = measurement.score()
        assert math.isnan(score.value) and score.n == 0


def test_empty_captions_score_nothing_and_repeated_references_only_weigh_in_cider() -> None:
    references = {"a": ["a cat on a mat", "a dog"], "b": ["snow"]}
    empty = exact({"a": "", "b": "snow"}, references)
    assert all(measurement.values()["a"] == 0 for measurement in empty.values())
    once = exact({"a": "a cat", "b": "snow"}, references)
    twice = exact({"a": "a cat", "b": "snow"}, references | {"a": [*references["a"], "a dog"]})
    for name, measurement in once.items():
        same = twice[name].values()["a"] == pytest.approx(measurement.values()["a"])
        assert same is (name != "cider-d")
    # CIDEr-D is a mean over references: the repeated one pulls.
    values = [one["cider-d"].values()["a"] for one in (once, twice)]
    alone = exact({"a": "a cat", "b": "snow"}, {"a": ["a dog"], "b": ["snow"]})
    assert values[1] < values[0] and alone["cider-d"].values()["a"] < values[0]


def test_more_of_the_right_words_never_lower_bleu_one() -> None:
    reference = {"a": ["a b c d e f"]}
    said = ["a", "a b", "a b c", "a b c d", "a b c d e", "a b c d e f"]
    values = [bleu(Captions.of({"a": caption}, reference))[0].score(resamples=0).value for caption in said]
    assert all(x < y for x, y in pairwise(values))


@pytest.mark.parametrize(
    ("candidates", "references", "said"),
    [
        ({"a": "x", "b": "y"}, {"a": ["x"]}, "'b' has a candidate but lacks references"),
        ({"a": "x"}, {"a": ["x"], "b": ["y"]}, "'b' has references but lacks a candidate"),
        ({"a": "x"}, {"a": []}, "at least one caption"),
        ({"a": "x"}, {"a": "x"}, "give a list"),
        ({"a": None}, {"a": ["x"]}, "NoneType, not text"),
        ({"a": "x"}, {"a": ["x", 3]}, "int, not text"),
    ],
)
def test_what_does_not_fit_is_one_sentence(candidates: Any, references: Any, said: str) -> None:
    with pytest.raises(EvaluationError, match=said) as caught:
        evaluate_captions(candidates, references)
    assert "\n" not in str(caught.value)


def test_an_unknown_metric_names_the_known_ones() -> None:
    with pytest.raises(EvaluationError, match=", ".join(CAPTION_METRICS)):
        evaluate_captions({"a": "x"}, {"a": ["x"]}, metrics=["spice"])
