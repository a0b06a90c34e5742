"""What a model that sees one side only would score, to print beside what yours does.

Composition, VQA and POPE can all be answered well without looking: true captions are the fluent ones, most "how many" questions
want "2", a car is in most streets. A score says something about seeing only by what it has above these (Goyal et al. 2017,
arXiv:1612.00837; Hsieh et al. 2023, arXiv:2306.14610). Every baseline is put through the metric of the model itself, so it has
the same passport and the difference has an interval.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np

from tectum.errors import EvaluationError
from tectum.evaluate.composition import Pair, Similarity, composition, pair_similarities
from tectum.evaluate.measurement import Comparison, Measurement, compare
from tectum.evaluate.records import pair_by_id

T = TypeVar("T")

TextScore = Callable[[Sequence[str]], Any]
"""n captions to n numbers, the higher the likelier."""


@dataclass(frozen=True, slots=True)
class Beside:
    """A model's measurement and those of its blind baselines; printed, a table.

    >>> from tectum.evaluate.score import Passport
    >>> model = Measurement.mean(Passport("accuracy"), "abcd", [1, 1, 1, 0])
    >>> blind = Measurement.mean(Passport("accuracy"), "abcd", [0, 1, 0, 0])
    >>> print(Beside(model, {"text-only": blind}))
    accuracy, n=4   value   95 % interval        model above by
    model          0.7500 [ 0.2500,  1.0000]
    text-only      0.2500 [ 0.0000,  0.7500]   0.5000 [ 0.0000,  1.0000]
    """

    model: Measurement
    blind: Mapping[str, Measurement]

    def above(self) -> dict[str, Comparison]:
        """How far the model is above each baseline, on the same items.

        Raises:
            PassportError: if they were made differently.
            EvaluationError: if the items are not the same.
        """
        return {name: compare(self.model, baseline) for name, baseline in self.blind.items()}

    def __str__(self) -> str:
        head = f"{self.model.passport.metric}, n={len(self.model.ids)}"
        width = max(map(len, (head, "model", *self.blind)))
        lines = [f"{head:{width}}   value   95 % interval        model above by", _row("model", width, self.model)]
        for (name, baseline), above in zip(self.blind.items(), self.above().values(), strict=True):
            lines.append(f"{_row(name, width, baseline)}  {above.difference:7.4f}{_between(above.interval)}")
        return "\n".join(lines)


def shuffled(predictions: Mapping[str, T], *, seed: int = 0) -> dict[str, T]:
    """Each item gets the prediction that was made for another: ids in a random circle, each takes from the next.

    Raises:
        EvaluationError: if there are fewer than two.

    >>> shuffled({"a": 1, "b": 2})
    {'a': 2, 'b': 1}
    """
    if len(predictions) < 2:
        raise EvaluationError("shuffling needs two items: with fewer each keeps its own")
    ids = sorted(predictions)
    circle = [ids[at] for at in np.random.default_rng(seed).permutation(len(ids))]
    taken = dict(zip(circle, [*circle[1:], circle[0]], strict=True))
    return {key: predictions[taken[key]] for key in predictions}


def prior(known: Iterable[tuple[Hashable, str]], asked: Mapping[str, Hashable]) -> dict[str, str]:
    """For each id the commonest answer known for its key, or for a new key the commonest of all; of equals the first in order.

    Args:
        known: (key, answer) of a training set, such as question texts and answers.
        asked: for each id its key.

    Raises:
        EvaluationError: if no answer is known.

    >>> prior([("how many", "2"), ("how many", "2"), ("what", "dog")], {"q1": "how many", "q2": "where"})
    {'q1': '2', 'q2': '2'}
    """
    counts: dict[Hashable, Counter[str]] = {}
    every: Counter[str] = Counter()
    for key, answer in known:
        counts.setdefault(key, Counter())[answer] += 1
        every[answer] += 1
    if not every:
        raise EvaluationError("a prior needs at least one known answer: give the answers of a training set")
    best = {key: min(answers, key=lambda answer: (-answers[answer], answer)) for key, answers in counts.items()}
    anyway = min(every, key=lambda answer: (-every[answer], answer))
    return {key: best.get(about, anyway) for key, about in asked.items()}


def blind_predictions(
    answers: Mapping[str, Sequence[str]],
    predictions: Mapping[str, str],
    *,
    questions: Mapping[str, str],
    images: Mapping[str, str],
    seed: int = 0,
) -> dict[str, dict[str, str]]:
    """Predictions of the blind for VQA, POPE and other questions: score each as the model's own.

    - "majority": the commonest answer to everything;
    - "text-only": the commonest answer to the question's text, "image-only": to any question about the picture; both are learnt
      on one half of the items, drawn by `seed`, and told on the other, so that no item knows its own answer;
    - "shuffled-pairs": the model's answer to another question. It is left out with fewer than two items.

    Args:
        answers: for each id its right answers.
        predictions: for each id the model's answer.
        questions: for each id what was asked.
        images: for each id which picture it was about.
        seed: of the halves and of the shuffle.

    Raises:
        EvaluationError: if ids differ.

    >>> answers = {"1": ["yes"], "2": ["no"], "3": ["yes"]}
    >>> same = dict.fromkeys(answers, "?")
    >>> blind_predictions(answers, {"1": "yes", "2": "no", "3": "no"}, questions=same, images=same)["majority"]
    {'1': 'yes', '2': 'yes', '3': 'yes'}
    """
    for name, given in (("predictions", predictions), ("questions", questions), ("images", images)):
        pair_by_id(f"blind baselines, {name}", answers, given)
    if not answers:
        return {}
    same: dict[str, Hashable] = dict.fromkeys(answers, "")
    found = {"majority": prior(_known(answers, same, answers), same)}
    if len(answers) > 1:
        found["text-only"] = _cross_fitted(answers, {key: text.strip().casefold() for key, text in questions.items()}, seed)
        found["image-only"] = _cross_fitted(answers, images, seed)
        found["shuffled-pairs"] = shuffled(predictions, seed=seed)
    return found


def shorter(captions: Sequence[str]) -> list[int]:
    """Prefers the caption with fewer words."""
    return [-len(caption.split()) for caption in captions]


def longer(captions: Sequence[str]) -> list[int]:
    """Prefers the caption with more words."""
    return [len(caption.split()) for caption in captions]


def likelier(corpus: Iterable[str]) -> TextScore:
    """Prefers the caption whose words follow one another as in the corpus: the mean log-probability of its bigrams.

    Add-one smoothing, over case-folded words and the two ends of the caption.

    >>> score = likelier(["a dog on a mat", "a cat on a mat"])
    >>> good, bad = score(["a dog on a mat", "a mat on a dog"])
    >>> good > bad
    True
    """
    pairs: Counter[tuple[str, str]] = Counter()
    firsts: Counter[str] = Counter()
    for text in corpus:
        for first, second in _bigrams(text):
            pairs[first, second] += 1
            firsts[first] += 1
    size = len({second for _, second in pairs}) + 1

    def score(captions: Sequence[str]) -> list[float]:
        return [
            float(np.mean([math.log((pairs[pair] + 1) / (firsts[pair[0]] + size)) for pair in _bigrams(caption)]))
            for caption in captions
        ]

    return score


def composition_baselines(
    pairs: Sequence[Pair],
    similarity: Similarity,
    *,
    text_scores: Mapping[str, TextScore] | None = None,
    suite: str = "pairs",
    seed: int = 0,
) -> dict[str, dict[str, Measurement]]:
    """For each blind baseline what `composition` gives.

    - "text-only-…": the caption that the text score prefers, by default the shorter and the longer; ties are wrong here too;
    - "image-only": who sees no caption can but toss a coin;
    - "shuffled-pairs": the model with each picture exchanged for another. Left out if all pairs are of one picture.

    Args:
        pairs: what was asked.
        similarity: the model's.
        text_scores: by name, such as {"likelier": likelier(training captions)}.
        suite: as given to `composition`.
        seed: of the coin and the shuffle.
    """
    chosen: Mapping[str, TextScore] = text_scores or {"shorter": shorter, "longer": longer}
    captions = [caption for pair in pairs for caption in (pair.positive, pair.negative)]
    found = {f"text-only-{name}": np.reshape(np.asarray(score(captions), np.float64), (-1, 2)) for name, score in chosen.items()}
    # By id, so that the coin of a pair does not change with the order of the list.
    ids = sorted(pair.id for pair in pairs)
    coins = dict(zip(ids, np.random.default_rng(seed).integers(0, 2, len(ids)), strict=True))
    found["image-only"] = np.array([(coins[pair.id], 1 - coins[pair.id]) for pair in pairs], np.float64).reshape(-1, 2)
    by_name = {str(pair.picture): pair.picture for pair in pairs}
    if len(by_name) > 1:
        other = shuffled(by_name, seed=seed)
        moved = [Pair(pair.id, other[str(pair.picture)], pair.positive, pair.negative, pair.kind) for pair in pairs]
        found["shuffled-pairs"] = pair_similarities(moved, similarity)
    return {name: composition(pairs, scores, suite=suite) for name, scores in found.items()}


def _known(
    answers: Mapping[str, Sequence[str]], keys: Mapping[str, Hashable], ids: Iterable[str]
) -> Iterable[tuple[Hashable, str]]:
    return ((keys[key], answer) for key in ids for answer in answers[key])


def _cross_fitted(answers: Mapping[str, Sequence[str]], keys: Mapping[str, Hashable], seed: int) -> dict[str, str]:
    ids = sorted(answers)
    order = [ids[at] for at in np.random.default_rng(seed).permutation(len(ids))]
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    told: dict[str, str] = {}
    for learnt, half in (halves, halves[::-1]):
        told |= prior(_known(answers, keys, learnt), {key: keys[key] for key in half})
    return {key: told[key] for key in answers}


def _bigrams(text: str) -> list[tuple[str, str]]:
    words = ["", *re.findall(r"[\w']+", text.casefold()), ""]
    return list(pairwise(words))


def _row(name: str, width: int, measurement: Measurement) -> str:
    score = measurement.score()
    return f"{name:{width}} {score.value:7.4f}{_between(score.interval)}"


def _between(interval: tuple[float, float] | None) -> str:
    return f" [{interval[0]:7.4f}, {interval[1]:7.4f}]" if interval else ""
