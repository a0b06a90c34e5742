"""ROUGE-L (Lin 2004), the definition of the COCO caption scorers.

For each reference the longest common subsequence of words over the candidate's length is a precision P, over the reference's a
recall R. The *largest* P and the largest R over the references, which need not be of the same reference, make F = (1 + β²) P R
/ (R + β² P) with β = 1.2; the score is the mean over items. Packages named ROUGE mostly compute another definition (β = 1, the
best F of a reference).
"""

from __future__ import annotations

import numpy as np

from tectum.evaluate.captions.ngrams import Captions
from tectum.evaluate.measurement import Measurement
from tectum.evaluate.score import Passport

BETA = 1.2
_CELLS = 1 << 16


def rouge_l(captions: Captions) -> Measurement:
    """ROUGE-L, in [0, 1]. An empty caption counts as one word, equal to that of another empty one and to nothing else.

    >>> captions = Captions.of({"a": "the cat was sat on the mat"}, {"a": ["the cat sat on the mat"]})
    >>> round(rouge_l(captions).score().value, 4)
    0.9361
    """
    references = captions.references
    owner = captions.owner[references]
    common = _common_subsequence(captions, owner, references)
    lengths = np.maximum(captions.lengths, 1)
    first = np.searchsorted(owner, np.arange(len(captions.ids)))
    if len(first):
        precision = np.maximum.reduceat(common / lengths[owner], first)
        recall = np.maximum.reduceat(common / lengths[references], first)
    else:
        precision = recall = np.zeros(0)
    below = recall + BETA**2 * precision
    values = np.divide((1 + BETA**2) * precision * recall, below, out=np.zeros_like(below), where=below > 0)
    passport = Passport("rouge-l", {"tokenizer": captions.tokenizer, "beta": BETA, "references": "largest P, largest R"})
    return Measurement.mean(passport, captions.ids, values)


def _common_subsequence(captions: Captions, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The length of the longest common subsequence of captions a[i] and b[i] [pairs], in words.

    The rows of the usual table, for many pairs at once: after another word of a, the table at each word of b is the largest so
    far along b of what it was, and of what it was one word before plus one where the words are equal.
    """
    lengths = np.maximum(captions.lengths, 1)
    found = np.zeros(len(a), np.int64)
    order = np.lexsort((lengths[b], lengths[a]))
    at = 0
    while at < len(order):
        # Pairs of like length share a table, which pads them to the longest.
        pairs = order[at : at + max(1, _CELLS // int(lengths[b[order[at]]]))]
        x, y = _padded(captions, a[pairs], -1), _padded(captions, b[pairs], -2)
        table = np.zeros((len(y) + 1, len(pairs)), np.int32)
        for word in x:
            grown = np.maximum(table[1:], table[:-1] + (y == word))
            if len(pairs) < len(y):
                np.maximum.accumulate(grown, axis=0, out=table[1:])
                continue
            # The same in a tenth of the time where pairs are many.
            for place, row in enumerate(grown):
                np.maximum(table[place], row, out=table[place + 1])
        found[pairs] = table[-1]
        at += len(pairs)
    return found


def _padded(captions: Captions, which: np.ndarray, pad: int) -> np.ndarray:
    """The words of some captions, one column each [longest, captions]; those of an empty one are the word that none has."""
    lengths = captions.lengths[which]
    starts = np.where(lengths > 0, captions.starts[which], len(captions.words) - 1)
    at = np.arange(max(1, int(lengths.max())))[:, None]
    inside = at < np.maximum(lengths, 1)
    return np.where(inside, captions.words[np.where(inside, starts + at, 0)], pad).astype(np.int32)
