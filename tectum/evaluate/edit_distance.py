"""The edit distance (Levenshtein 1966) of two sequences, and the alignment that shows it.

Bit-parallel: one column of the table is two integers, the rows where it grows and where it shrinks by one (Myers 1999, in the
form of Hyyrö 2003 for the distance between whole sequences). Python's integers are as long as the sequence, so a column costs a
handful of operations however long it is.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

_ZERO_WIDTH = ("Mn", "Me", "Cf")


@dataclass(frozen=True, slots=True)
class Alignment:
    """A shortest way from a reference to a hypothesis.

    Printed, it is two lines of equal columns, the reference above; a row of `*` stands for the missing symbol.

    Attributes:
        reference: its symbols.
        hypothesis: its symbols.
        pairs: (index in the reference, index in the hypothesis) in order; None where one has nothing.

    >>> print(align("the cat sat".split(), "the fat cat sits".split()))
    the *** cat sat
    the fat cat sits
    """

    reference: tuple[str, ...]
    hypothesis: tuple[str, ...]
    pairs: tuple[tuple[int | None, int | None], ...]

    def counts(self) -> tuple[int, int, int, int]:
        """(hits, substitutions, deletions, insertions)."""
        both = [(i, j) for i, j in self.pairs if i is not None and j is not None]
        hits = sum(self.reference[i] == self.hypothesis[j] for i, j in both)
        return hits, len(both) - hits, len(self.reference) - len(both), len(self.hypothesis) - len(both)

    def __str__(self) -> str:
        above: list[str] = []
        below: list[str] = []
        for i, j in self.pairs:
            top = None if i is None else self.reference[i]
            bottom = None if j is None else self.hypothesis[j]
            width = max(_width(top or ""), _width(bottom or ""))
            for line, symbol in ((above, top), (below, bottom)):
                line.append("*" * width if symbol is None else symbol + " " * (width - _width(symbol)))
        return "\n".join(" ".join(line).rstrip() for line in (above, below))


def edit_distance(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """The least number of insertions, deletions and substitutions from a to b.

    >>> edit_distance("rain", "shine")
    3
    """
    grows, shrinks = (1 << len(a)) - 1, 0
    for grows, shrinks in _columns(a, b):  # noqa: B007 (the last column is what is wanted)
        pass
    return len(b) + grows.bit_count() - shrinks.bit_count()


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> Alignment:
    """A shortest alignment.

    Several may be shortest, and they differ in hits. This takes the one that jiwer 4 (RapidFuzz) takes: what both begin and end
    with is matched first, and then, from the end, a deletion goes before a pair and a pair before an insertion.

    >>> align("a b c".split(), "b c d".split()).counts()
    (2, 0, 1, 1)
    """
    a, b = tuple(reference), tuple(hypothesis)
    shorter = min(len(a), len(b))
    start = next((k for k in range(shorter) if a[k] != b[k]), shorter)
    tail = next((k for k in range(shorter - start) if a[-1 - k] != b[-1 - k]), shorter - start)
    columns = list(_columns(a[start : len(a) - tail], b[start : len(b) - tail]))
    i, j = len(a) - tail - start, len(b) - tail - start
    back: list[tuple[int | None, int | None]] = []
    while i and j:
        if columns[j - 1][0] >> (i - 1) & 1:
            i -= 1
            back.append((start + i, None))
        elif j > 1 and columns[j - 2][1] >> (i - 1) & 1:
            j -= 1
            back.append((None, start + j))
        else:
            i, j = i - 1, j - 1
            back.append((start + i, start + j))
    head = [(k, k) for k in range(start)]
    first = [(start + k, None) for k in range(i)] + [(None, start + k) for k in range(j)]
    end = [(len(a) - k, len(b) - k) for k in range(tail, 0, -1)]
    return Alignment(a, b, (*head, *first, *back[::-1], *end))


def _columns(a: Sequence[Hashable], b: Sequence[Hashable]) -> Iterator[tuple[int, int]]:
    """For each symbol of b: the rows i (as bits) with D[i + 1] − D[i] = +1, and those with −1."""
    full = (1 << len(a)) - 1
    where: dict[Hashable, int] = {}
    for i, symbol in enumerate(a):
        where[symbol] = where.get(symbol, 0) | 1 << i
    grows, shrinks = full, 0
    for symbol in b:
        match = where.get(symbol, 0)
        level = (((match & grows) + grows) ^ grows) | match | shrinks  # D[i + 1, j] = D[i, j − 1]
        right = (shrinks | ~(level | grows)) << 1 | 1
        left = (level & grows) << 1
        grows, shrinks = (left | ~(level | right)) & full, right & level & full
        yield grows, shrinks


def _width(text: str) -> int:
    """Columns on a terminal: two for wide East Asian signs, none for marks."""
    shown = [sign for sign in text if unicodedata.category(sign) not in _ZERO_WIDTH]
    return len(shown) + sum(unicodedata.east_asian_width(sign) in "WF" for sign in shown)
