"""BLEU-1 … BLEU-4 (Papineni et al. 2002), as the COCO caption scorers compute it.

With c_k the clipped and t_k the total k-grams of the candidates, c their words and r those of the closest references, BLEU-n =
min(1, exp(1 - r / c)) · (Π_{k ≤ n} c_k / t_k)^(1/n), where 10⁻¹⁵ is added to c_k and c, and 10⁻⁹ to t_k and r: so a corpus
without any matching 4-gram has a tiny BLEU-4, not zero or nan. All are sums over the items; a single item is a corpus of one.
"""

from __future__ import annotations

import numpy as np

from tectum.evaluate.captions.ngrams import MAX_N, Captions
from tectum.evaluate.measurement import Formula, Measurement, of_sums
from tectum.evaluate.score import Passport

_TINY, _SMALL = 1e-15, 1e-9


def bleu(captions: Captions) -> tuple[Measurement, ...]:
    """BLEU-1, BLEU-2, BLEU-3 and BLEU-4 of the corpus, in [0, 1].

    The reference length of an item is that of the reference closest in length, the shorter of two as close.

    >>> captions = Captions.of({"a": "the cat was sat on the mat"}, {"a": ["the cat sat on the mat"]})
    >>> [round(measured.score().value, 4) for measured in bleu(captions)]
    [0.8571, 0.7559, 0.6114, 0.4889]
    """
    statistics = np.concatenate([_clipped(captions), _total(captions), _closest(captions)[:, None]], axis=1)
    settings = {"tokenizer": captions.tokenizer, "reference_length": "closest", "epsilon": f"{_TINY}/{_SMALL}"}
    return tuple(Measurement(Passport(f"bleu-{n}", settings), _formula(n), captions.ids, statistics) for n in range(1, MAX_N + 1))


def _clipped(captions: Captions) -> np.ndarray:
    """Matching k-grams of each candidate [n, 4], each counted at most as often as in the reference that has it most."""
    items = len(captions.ids)
    columns = []
    for rows in captions.ngrams:
        said = rows.caption < items
        matched = (rows.twin >= 0) & ~said
        most = np.zeros_like(rows.times)
        np.maximum.at(most, rows.twin[matched], rows.times[matched])
        columns.append(np.bincount(rows.caption[said], np.minimum(rows.times, most)[said], items))
    return np.stack(columns, 1)


def _total(captions: Captions) -> np.ndarray:
    """k-grams of each candidate [n, 4]."""
    words = captions.lengths[: len(captions.ids), None]
    return np.maximum(words - np.arange(MAX_N), 0).astype(np.float64)


def _closest(captions: Captions) -> np.ndarray:
    """The words of the closest reference of each item [n]."""
    lengths, items = captions.lengths, len(captions.ids)
    references = captions.references
    owner, length = captions.owner[references], lengths[references]
    # By item, then distance, then length: the first of each item is the one.
    order = np.lexsort((length, np.abs(length - lengths[owner]), owner))
    first = np.searchsorted(owner[order], np.arange(items))
    return length[order[first]].astype(np.float64)


def _formula(n: int) -> Formula:
    def value(sums: np.ndarray) -> np.ndarray:
        clipped, total, words, closest = sums[:, :n], sums[:, MAX_N : MAX_N + n], sums[:, MAX_N], sums[:, -1]
        precision = ((clipped + _TINY) / (total + _SMALL)).prod(1) ** (1 / n)
        ratio = (words + _TINY) / (closest + _SMALL)
        return precision * np.exp(np.minimum(1 - 1 / ratio, 0))

    return of_sums(value)
