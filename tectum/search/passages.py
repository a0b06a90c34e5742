"""Split a text into passages that fit a model's context."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

MAX_PASSAGES = 256
_PIECE = re.compile(r"[A-Za-z]+|\d|[^\sA-Za-z\d]")
_SENTENCE_END = re.compile(r"[.!?…][\"'”’)\]]*\s|[。！？]")
_WORD = re.compile(r"\S+")
_LETTERS_PER_TOKEN = 6

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Passage:
    """Characters [start, end) of a text."""

    text: str
    start: int
    end: int


def passages(text: str, tokens: int, limit: int = MAX_PASSAGES) -> list[Passage]:
    """Pack a text's paragraphs into passages of at most about `tokens` tokens.

    A paragraph that is too long is cut into sentences, a sentence into words, a word into characters. If the text has more than
    `limit` passages, evenly spaced ones are kept, so that its end can be found too.

    >>> [passage.text for passage in passages("One two.\\n\\nThree four.\\n\\nFive six seven eight.", tokens=7)]
    ['One two.\\n\\nThree four.', 'Five six seven eight.']
    """
    packed: list[Passage] = []
    start = end = used = 0
    for piece_start, piece_end in _pieces(text, tokens):
        cost = count_tokens(text[piece_start:piece_end])
        if used and used + cost > tokens:
            packed.append(Passage(text[start:end], start, end))
            used = 0
        start = piece_start if not used else start
        end, used = piece_end, used + cost
    if used:
        packed.append(Passage(text[start:end], start, end))
    if len(packed) <= limit:
        return packed
    return [packed[i * (len(packed) - 1) // max(1, limit - 1)] for i in range(limit)]


def count_tokens(text: str) -> int:
    """An estimate for byte-pair encodings: one token for each six letters of a word, each digit and each other sign.

    >>> count_tokens("A photograph, 1999")
    8
    """
    return sum(-(-len(piece) // _LETTERS_PER_TOKEN) for piece in _PIECE.findall(text))


def _pieces(text: str, tokens: int) -> Iterator[Span]:
    """The largest units that fit: paragraphs, else sentences, else words, else runs of characters."""

    def cut(span: Span, units: Sequence[Callable[[str, Span], Iterable[Span]]]) -> Iterator[Span]:
        if count_tokens(text[slice(*span)]) <= tokens:
            yield span
        else:
            for part in units[0](text, span):
                yield from cut(part, units[1:])

    def characters(text: str, span: Span) -> Iterator[Span]:
        for at in range(*span, max(1, tokens)):
            yield at, min(at + max(1, tokens), span[1])

    for paragraph in _paragraphs(text):
        yield from cut(paragraph, (_sentences, _words, characters))


def _paragraphs(text: str) -> Iterator[Span]:
    """Runs of lines that are not blank. Line by line, because one expression for this takes quadratic time on some texts."""
    at = start = end = 0
    for line in text.split("\n"):
        words = line.strip()
        if words:
            first = at + line.index(words[0])
            start = first if end <= start else start
            end = first + len(words)
        elif end > start:
            yield start, end
            start = end
        at += len(line) + 1
    if end > start:
        yield start, end


def _sentences(text: str, span: Span) -> Iterator[Span]:
    start, end = span
    for match in _SENTENCE_END.finditer(text, start, end):
        yield from _stripped(text, (start, match.end()))
        start = match.end()
    yield from _stripped(text, (start, end))


def _words(text: str, span: Span) -> Iterator[Span]:
    return (match.span() for match in _WORD.finditer(text, *span))


def _stripped(text: str, span: Span) -> Iterator[Span]:
    part = text[slice(*span)]
    words = part.strip()
    if words:
        start = span[0] + len(part) - len(part.lstrip())
        yield start, start + len(words)
