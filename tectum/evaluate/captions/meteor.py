"""METEOR without its dictionaries: exact and stem matches only, and under that name.

METEOR 1.5 (Denkowski and Lavie 2014) also matches WordNet synonyms and a 60 MB table of paraphrases, which this does not have;
so the number here is *not* METEOR. It equals METEOR 1.5 run with `-l en -m "exact stem" -w "1.0 0.6"` on the same words. For
the metric itself see `meteor_java`.

A candidate is aligned with each reference, word to word. With w the weight of a match (1 exact, 0.6 stem) and each word counted
δ = 0.75, a function word 1 - δ, P and R are the matched weights over all of the candidate's and the reference's. Then F = 1 /
((1 - α)/P + α/R), α = 0.85, and score = F · (1 - γ (chunks / matches)^β), γ = 0.6, β = 0.2, where chunks are runs of matches
that are contiguous in both. The reference of the best score counts. Corpus scores are from the sums of the items' statistics.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tectum.evaluate.captions.ngrams import Captions
from tectum.evaluate.captions.stem import stem
from tectum.evaluate.measurement import Formula, Measurement, of_sums
from tectum.evaluate.score import Passport

ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75
"""The English parameters of METEOR 1.5, tuned to rankings by people; the default there."""
EXACT, STEM = 1.0, 0.6
_BEAM = 40

FUNCTION_WORDS = frozenset(
    word
    for line in (
        "the of to and a in that for is on 's it with was as said at he by be from have has are his but an this not i will",
        "they who their had we which were been more or s its would about new one after you also up when there than $ all out",
        "her people she year two can if last first over other into some what so no time years could 't -lrb- -rrb-",
        ", . : ? - -- — ( ) ' ’ \" “ ”",
    )
    for word in line.split()
)
"""Those of METEOR 1.5 for English, words more frequent than one in a thousand."""


class Alignment(NamedTuple):
    """What the score needs to know of a candidate aligned with a reference; sums over items for a corpus.

    Weighted matches and words of the candidate and the reference, the matched words of both, and chunks, of which an alignment of
    all words in one has none.
    """

    candidate_match: float
    reference_match: float
    candidate_weight: float
    reference_weight: float
    candidate_words: float
    reference_words: float
    chunks: float


def meteor_exact_stem(captions: Captions) -> Measurement:
    """The exact-and-stem part of METEOR 1.5, in [0, 1].

    >>> captions = Captions.of({"a": "a man rides horses", "b": "kites"}, {"a": ["the man is riding a horse"], "b": ["birds"]})
    >>> {key: round(value, 4) for key, value in meteor_exact_stem(captions).values().items()}
    {'a': 0.2598, 'b': 0.0}
    """
    settings = {"tokenizer": captions.tokenizer, "modules": "exact stem", "weights": f"{EXACT} {STEM}", **parameters()}
    rows: list[tuple[float, ...]] = [()] * len(captions.ids)
    best = [-1.0] * len(captions.ids)
    for caption in captions.references.tolist():
        item = int(captions.owner[caption])
        row = align(captions.tokens[item], captions.tokens[caption])
        score = float(_score(np.array([row]))[0])
        if score > best[item]:
            rows[item], best[item] = row, score
    statistics = np.array(rows, np.float64).reshape(len(rows), len(Alignment._fields))
    return Measurement(Passport("meteor-exact-stem", settings), formula, captions.ids, statistics)


def parameters() -> dict[str, float]:
    """For the passport."""
    return {"alpha": ALPHA, "beta": BETA, "gamma": GAMMA, "delta": DELTA}


def _score(sums: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        precision, recall = sums[:, 0] / sums[:, 2], sums[:, 1] / sums[:, 3]
        mean = 1 / ((1 - ALPHA) / precision + ALPHA / recall)
        score = mean * (1 - GAMMA * (2 * sums[:, 6] / (sums[:, 4] + sums[:, 5])) ** BETA)
    return np.where(np.isfinite(score), np.maximum(score, 0), 0.0)


formula: Formula = of_sums(_score)
"""From summed statistics in the order of `Alignment`; 0 where nothing matches."""


def align(candidate: list[str], reference: list[str]) -> Alignment:
    """The alignment that METEOR's search finds.

    >>> align(["a", "cat", "sat"], ["cats", "sat"])[-3:]
    (2, 2, 1)
    """
    pairs = _search(_options(candidate, reference))
    chunks = sum((j - 1, i - 1) != before[:2] for before, (j, i, _) in zip([(-2, -2, 0), *pairs], pairs, strict=False))
    if chunks == 1 and len(pairs) == len(candidate) == len(reference):
        chunks = 0
    return Alignment(
        candidate_match=sum(weight * _weight(candidate[i]) for _, i, weight in pairs),
        reference_match=sum(weight * _weight(reference[j]) for j, _, weight in pairs),
        candidate_weight=sum(map(_weight, candidate)),
        reference_weight=sum(map(_weight, reference)),
        candidate_words=len(pairs),
        reference_words=len(pairs),
        chunks=chunks,
    )


def _weight(word: str) -> float:
    return 1 - DELTA if word in FUNCTION_WORDS else DELTA


def _options(candidate: list[str], reference: list[str]) -> list[list[tuple[int, float]]]:
    """For each word of the reference those of the candidate that match, exact ones first: (place, weight)."""
    options = [[(i, EXACT) for i, word in enumerate(candidate) if word == wanted] for wanted in reference]
    if candidate == reference:
        return options
    stems = [stem(word) for word in candidate]
    for found, wanted in zip(options, reference, strict=True):
        root = stem(wanted)
        found += [(i, STEM) for i, word in enumerate(candidate) if stems[i] == root and word != wanted]
    return options


class _Path(NamedTuple):
    """A partial alignment; ordered by its first three fields."""

    fewer: int
    chunks: int
    distance: int
    end: int
    used: int
    pairs: tuple[tuple[int, int, float], ...]


def _search(options: list[list[tuple[int, float]]]) -> tuple[tuple[int, int, float], ...]:
    """A beam search along the reference: most exact matches, then fewest chunks, then least distance.

    This follows METEOR 1.5 in what it does and not only in what it means to do: its integer counts round the half that a stem
    match is worth in the search to nothing, and the distance of a match that was tried stays with the path that did not take it.
    """
    demand: dict[int, int] = {}
    for found in options:
        for i, _ in found:
            demand[i] = demand.get(i, 0) + 1
    fixed = [len(found) == 1 and demand[found[0][0]] == 1 for found in options]
    used = sum(1 << found[0][0] for found, sure in zip(options, fixed, strict=True) if sure)
    paths = [_Path(0, 0, 0, -1, used, ())]
    for j, found in enumerate(options):
        longer = []
        for path in _best(paths):
            distance = path.distance
            for i, weight in found:
                if fixed[j] or not path.used >> i & 1:
                    broken = path.end not in (-1, i)
                    step = _Path(
                        fewer=path.fewer - 2 * (weight == EXACT),
                        chunks=path.chunks + broken,
                        distance=distance + fixed[j] * abs(i - j),
                        end=i + 1,
                        used=path.used | 1 << i,
                        pairs=(*path.pairs, (j, i, weight)),
                    )
                    longer.append(step)
                    distance += abs(i - j)
            if not fixed[j]:
                longer.append(path._replace(chunks=path.chunks + (path.end != -1), distance=distance, end=-1))
        paths = longer
    return min(_best(paths), key=lambda path: (path.fewer, path.chunks + (path.end != -1), path.distance)).pairs


def _best(paths: list[_Path]) -> list[_Path]:
    """The beam. Only the first three fields count; equal paths stay in their order, on which the result can hang."""
    return sorted(paths, key=lambda path: path[:3])[:_BEAM] if len(paths) > 1 else paths
