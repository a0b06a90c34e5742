"""Blind baselines: they know what they may, and nothing else."""

import doctest
from pathlib import Path

import numpy as np
import pytest

from tectum.errors import EvaluationError
from tectum.evaluate.baselines import (
    Beside,
    blind_predictions,
    composition_baselines,
    likelier,
    longer,
    prior,
    shorter,
    shuffled,
)
from tectum.evaluate.composition import Pair, Picture, composition, pair_similarities
from tectum.evaluate.measurement import Measurement
from tectum.evaluate.pope import pope
from tectum.evaluate.score import Passport
from tectum.evaluate.vqa import vqa_accuracy


@pytest.mark.parametrize("n", [2, 3, 10, 101])
def test_shuffling_gives_everybody_another_s_and_loses_none(n: int) -> None:
    own = {f"{i}": i for i in range(n)}
    mixed = shuffled(own)
    assert sorted(mixed.values()) == sorted(own.values())
    assert all(mixed[key] != own[key] for key in own)
    assert mixed == shuffled(dict(reversed(own.items())))
    assert n < 10 or mixed != shuffled(own, seed=1)


def test_one_alone_cannot_be_shuffled() -> None:
    with pytest.raises(EvaluationError, match="needs two"):
        shuffled({"a": 1})


def test_the_prior_is_the_commonest_and_equals_go_by_name() -> None:
    known = [("k", "b"), ("k", "a"), ("j", "c"), ("j", "c"), ("j", "a")]
    assert prior(known, {"1": "k", "2": "j", "3": "unknown"}) == {"1": "a", "2": "c", "3": "a"}
    with pytest.raises(EvaluationError, match="at least one known answer"):
        prior([], {"1": "k"})


def world(n: int, by: str, seed: int = 0) -> tuple[dict[str, list[str]], dict[str, str], dict[str, str]]:
    """Yes-or-no answers that follow from the question's text, from the picture, or from neither."""
    generator = np.random.default_rng(seed)
    questions = {f"{i:04}": f"Is there a {generator.integers(0, 6)}?" for i in range(n)}
    images = {f"{i:04}": f"{generator.integers(0, 6)}.png" for i in range(n)}
    label = {"text": lambda k: int(questions[k][-2]) % 2, "image": lambda k: int(images[k][0]) % 2,
             "neither": lambda _: generator.integers(0, 2)}[by]  # fmt: skip
    return {key: ["yes" if label(key) else "no"] for key in questions}, questions, images


@pytest.mark.parametrize("by", ["text", "image", "neither"])
def test_each_baseline_finds_what_its_side_tells_and_no_more(by: str) -> None:
    answers, questions, images = world(600, by)
    blind = blind_predictions(answers, {key: given[0] for key, given in answers.items()}, questions=questions, images=images)
    labels = {key: given == ["yes"] for key, given in answers.items()}
    found = {name: pope(labels, told)["pope-accuracy"].score(resamples=0).value for name, told in blind.items()}
    for name, value in found.items():
        assert value == (1 if name == f"{by}-only" else pytest.approx(0.5, abs=0.08)), name
    assert set(found) == {"majority", "text-only", "image-only", "shuffled-pairs"}
    again = blind_predictions(answers, blind["majority"], questions=questions, images=images)
    assert again["text-only"] == blind["text-only"]


def test_vqa_has_the_same_baselines_in_the_same_metric() -> None:
    answers = {f"{i:02}": ["2"] * 8 + ["3"] * 2 if i < 15 else ["dog"] * 10 for i in range(20)}
    told = {key: given[0] for key, given in answers.items()}
    questions = {key: "how many?" if int(key) < 15 else "what is it?" for key in answers}
    blind = blind_predictions(answers, told, questions=questions, images=dict.fromkeys(answers, "1.png"))
    model = vqa_accuracy(answers, told)
    measured = {name: vqa_accuracy(answers, predictions) for name, predictions in blind.items()}
    assert measured["majority"].score().value == 0.75
    assert measured["text-only"].score().value == model.score().value == 1
    table = str(Beside(model, measured)).splitlines()
    assert [line.split()[0] for line in table] == ["vqa-accuracy,", "model", *measured]
    assert Beside(model, measured).above()["majority"].difference == 0.25


def test_one_question_and_none() -> None:
    one = {"1": "?"}
    assert blind_predictions({"1": ["yes"]}, {"1": "no"}, questions=one, images=one) == {"majority": {"1": "yes"}}
    assert blind_predictions({}, {}, questions={}, images={}) == {}
    with pytest.raises(EvaluationError, match="blind baselines, questions: 1 of 1"):
        blind_predictions({"1": ["yes"]}, {"1": "no"}, questions={}, images=one)


def test_different_items_or_settings_are_not_put_beside() -> None:
    model = Measurement.mean(Passport("accuracy"), "ab", [1, 0])
    with pytest.raises(EvaluationError, match="'c' is only in the second"):
        str(Beside(model, {"blind": Measurement.mean(Passport("accuracy"), "abc", [1, 0, 1])}))
    with pytest.raises(EvaluationError, match="made differently"):
        str(Beside(model, {"blind": Measurement.mean(Passport("accuracy", {"k": 1}), "ab", [1, 0])}))


def colour_pairs(n: int) -> list[Pair]:
    found = []
    for i in range(n):
        own, other = (["red", "green", "blue"][(i + step) % 3] for step in (0, 1))
        found.append(Pair(f"{i:03}", Picture(f"{own}-{i}.png"), f"a {own} cube", f"a {other} cube there", "replace"))
    return found


def sees(pictures: list[Picture], captions: list[str]) -> list[float]:
    return [float(picture.name.split("-")[0] in caption) for picture, caption in zip(pictures, captions, strict=True)]


def test_who_sees_loses_by_shuffling_and_length_alone_gives_away_a_badly_made_set() -> None:
    pairs = colour_pairs(300)
    assert composition(pairs, pair_similarities(pairs, sees))["replace"].score().value == 1
    blind = composition_baselines(pairs, sees)
    found = {name: measured["replace"].score(resamples=0).value for name, measured in blind.items()}
    assert (found["text-only-shorter"], found["text-only-longer"]) == (1, 0)
    assert found["image-only"] == pytest.approx(0.5, abs=0.09)
    assert found["shuffled-pairs"] < 0.5  # a third by luck; where neither colour fits it is a tie


def test_the_coin_falls_the_same_in_any_order_and_one_picture_is_not_shuffled() -> None:
    pairs = colour_pairs(20)
    forth, back = composition_baselines(pairs, sees), composition_baselines(pairs[::-1], sees)
    for name, measured in forth.items():
        assert measured["all"].score() == back[name]["all"].score()
    one = [Pair(str(i), Picture("red-0.png"), "a red cube", "a blue cube", "add") for i in range(3)]
    assert set(composition_baselines(one, sees)) == {"text-only-shorter", "text-only-longer", "image-only"}


def test_text_scores() -> None:
    assert shorter(["a b", ""]) == [-2, 0]
    assert longer(["a b", ""]) == [2, 0]
    score = likelier(["the dog sits on the mat", "the cat sits on the mat"])
    fluent, broken, unknown, empty = score(["The dog sits on the mat.", "mat the on sits dog the", "zebra xylophone", ""])
    assert fluent > broken
    assert np.isfinite([unknown, empty]).all()
    pairs = [Pair("1", Picture("1.png"), "the dog sits on the mat", "the mat sits on the dog", "swap-object")]
    blind = composition_baselines(pairs, sees, text_scores={"likelier": score})
    assert blind["text-only-likelier"]["swap-object"].score().value == 1


def test_the_guide_runs() -> None:
    guide = Path(__file__).parents[2] / "docs" / "evaluate-answers.md"
    done = doctest.testfile(str(guide), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert done.attempted > 0
    assert done.failed == 0
