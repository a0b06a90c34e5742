"""Candidate captions and their references, tokenised once and counted in numbers: what every caption metric here reads.

Words and n-grams become integers, and all captions one array, so that counting, clipping and document frequencies are a few
sorts over arrays and not a dictionary of tuples for each pair of captions.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np

from tectum.errors import EvaluationError
from tectum.evaluate.captions.tokenize import Tokenizer, tokenize

MAX_N = 4


class NGrams(NamedTuple):
    """The distinct n-grams of every caption for one n, a row each [r], ordered by n-gram and then caption."""

    caption: np.ndarray
    gram: np.ndarray
    times: np.ndarray
    """How often the caption has it."""
    twin: np.ndarray
    """The row of the same n-gram in the candidate of the caption's item, or -1."""
    frequency: np.ndarray
    """In the references of how many items each n-gram [grams] is found, at least once."""


@dataclass(frozen=True, slots=True)
class Captions:
    """n candidates, each with its references.

    Captions are numbered: the candidates 0 … n - 1, then the references, item by item, then those that only tell how frequent
    n-grams are.

    Attributes:
        ids: of the items, n.
        tokenizer: that made the words.
        tokens: the words of each caption.
        owner: the item of each caption [captions]; n and more for those that belong to none of the n.
        words: the number of each word, all captions in a row [words + 1]; at the end one that no caption has.
        starts: where each caption begins in `words` [captions + 1].
        references: the numbers of the captions that are references of the n items.
        frequencies: the numbers of those whose n-grams are counted by item for the document frequency.
        ngrams: for n = 1 … 4.
    """

    ids: tuple[str, ...]
    tokenizer: Tokenizer
    tokens: tuple[list[str], ...]
    owner: np.ndarray
    words: np.ndarray
    starts: np.ndarray
    references: np.ndarray
    frequencies: np.ndarray
    ngrams: tuple[NGrams, ...]

    @classmethod
    def of(
        cls,
        candidates: Mapping[str, str],
        references: Mapping[str, Sequence[str]],
        *,
        tokenizer: Tokenizer = "ptb",
        frequencies_of: Mapping[str, Sequence[str]] | None = None,
    ) -> Captions:
        """Tokenises and counts.

        Args:
            candidates: one caption an item.
            references: at least one caption for each of the same items.
            tokenizer: "ptb" as the COCO scorers, "split" for captions that are tokenised already.
            frequencies_of: references whose n-grams tell the document frequencies, where `references` are only a part of them
                (a shard); by default the references.

        Raises:
            EvaluationError: if an item lacks its candidate or references, or a caption is not a text.

        >>> captions = Captions.of({"7": "a cat"}, {"7": ["a cat sits", "the cat"]})
        >>> captions.lengths.tolist(), captions.owner.tolist()
        ([2, 3, 2], [0, 0, 0])
        """
        check(candidates, references)
        ids = tuple(candidates)
        texts = list(candidates.values())
        owner = list(range(len(ids)))
        for item, key in enumerate(ids):
            texts += references[key]
            owner += [item] * len(references[key])
        scored = len(texts)
        for item, several in enumerate((frequencies_of or {}).values(), len(ids)):
            texts += several
            owner += [item] * len(several)
        tokens = tuple([tokenize(text, tokenizer) for text in texts])
        lengths = np.fromiter(map(len, tokens), np.int64, len(tokens))
        starts = np.concatenate([[0], lengths.cumsum()])
        # Numbered in the order of the alphabet, so that sums over n-grams run in the same order whatever else the corpus holds.
        vocabulary = {word: number for number, word in enumerate(sorted(set(chain.from_iterable(tokens))))}
        words = np.fromiter(map(vocabulary.__getitem__, chain.from_iterable(tokens)), np.int64, starts[-1])
        words = np.append(words, len(vocabulary))
        whole = frequencies_of is None
        return cls(
            ids=ids,
            tokenizer=tokenizer,
            tokens=tokens,
            owner=np.array(owner, np.int64),
            words=words,
            starts=starts,
            references=np.arange(len(ids), scored),
            frequencies=np.arange(len(ids), scored) if whole else np.arange(scored, len(texts)),
            ngrams=_count(words, starts, np.array(owner, np.int64), len(ids), len(ids) if whole else scored),
        )

    @property
    def lengths(self) -> np.ndarray:
        """Words of each caption [captions]."""
        return np.diff(self.starts)

    def digest(self) -> str:
        """A short name for the references that the document frequencies are from; their order does not matter."""
        items: defaultdict[int, set[str]] = defaultdict(set)
        for caption in self.frequencies.tolist():
            items[int(self.owner[caption])].add(" ".join(self.tokens[caption]))
        texts = sorted("\n".join(sorted(several)) for several in items.values())
        return hashlib.sha256("\n\n".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:12]


def check(candidates: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> None:
    """Raises an EvaluationError unless every item has one candidate and at least one reference, all of them texts."""
    lonely = candidates.keys() ^ references.keys()
    if lonely:
        key = min(lonely, key=str)
        lacks, has = ("references", "a candidate") if key in candidates else ("a candidate", "references")
        raise EvaluationError(
            f"the item {key!r} has {has} but lacks {lacks}, and {len(lonely)} items in all do not fit: give both the same"
        )
    for key, several in references.items():
        if isinstance(several, str) or not len(several):
            raise EvaluationError(f"the item {key!r} has references {several!r}: give a list of at least one caption")
        for caption in (candidates[key], *several):
            if not isinstance(caption, str):
                raise EvaluationError(f"the item {key!r} has a caption that is {type(caption).__name__}, not text: give text")


def _count(words: np.ndarray, starts: np.ndarray, owner: np.ndarray, items: int, first: int) -> tuple[NGrams, ...]:
    """The n-grams for n = 1 … 4; captions from number `first` on tell the document frequencies."""
    lengths = np.diff(starts)
    caption_of = np.repeat(np.arange(len(lengths)), lengths)
    remaining = np.repeat(starts[1:], lengths) - np.arange(len(words) - 1)
    # NumPy sorts 16 bits by radix.
    first_words = words.astype(np.uint16 if words[-1] < 1 << 16 else np.int64)
    at = np.arange(len(words) - 1)
    gram_of = np.zeros(len(words), np.int64)
    orders = []
    for n in range(1, MAX_N + 1):
        # An n-gram is a word and the (n-1)-gram after it. The places of those are in order already, so that a stable sort by the
        # word puts equal n-grams together, in the order of their captions.
        if n > 1:
            at = at[at > 0] - 1
            at = at[remaining[at] >= n]
        at = at[np.argsort(first_words[at], kind="stable")]
        following = gram_of[at + 1]
        gram = (_changes(first_words[at]) | _changes(following)).cumsum() - 1
        gram_of[at] = gram
        orders.append(_rows(gram, caption_of[at], owner, items, first))
    return tuple(orders)


def _rows(gram: np.ndarray, caption: np.ndarray, owner: np.ndarray, items: int, first: int) -> NGrams:
    """Counts pairs that are in the order of n-gram and caption."""
    begin = np.flatnonzero(_changes(gram) | _changes(caption))
    times = np.diff(np.append(begin, len(gram)))
    gram, caption = gram[begin], caption[begin]
    keys = gram * (int(owner.max(initial=0)) + 1) + owner[caption]
    candidates = np.append(np.flatnonzero(caption < items), -1)
    known = keys[candidates[:-1]]
    nearest = np.searchsorted(known, keys)
    twin = np.where(np.append(known, -1)[nearest] == keys, candidates[nearest], -1)
    counted = caption >= first
    found = gram[counted][_changes(keys[counted])]
    return NGrams(caption, gram, times, twin, np.bincount(found, minlength=int(gram.max(initial=-1)) + 1))


def _changes(values: np.ndarray) -> np.ndarray:
    """Where a value differs from the one before it; the first does."""
    return np.append(True, values[1:] != values[:-1])[: len(values)]
