"""CIDEr-D (Vedantam et al. 2015, arXiv:1411.5726, §4 and §"CIDEr-D"), what the COCO scorers call CIDEr.

An n-gram weighs log N - log max(1, df): N images, df of them with the n-gram in a reference. Candidate and reference are
vectors of count × weight; their similarity is Σ min(h, r) r / (|h| |r|), so that repeating an n-gram does not pay, times
exp(-δ² / 2σ²) with σ = 6 and δ the difference of their bigrams in number. CIDEr-D is ten times the mean over n = 1 … 4 and the
references; the score is the mean over items.

The weights are of the whole reference corpus, so the same caption scores otherwise in another set of images, and zero where
there is only one image: log 1 - log 1 = 0. The passport names the corpus, and scores from different corpora refuse to be
compared.
"""

from __future__ import annotations

import numpy as np

from tectum.evaluate.captions.ngrams import MAX_N, Captions
from tectum.evaluate.measurement import Measurement
from tectum.evaluate.score import Passport

SIGMA = 6.0
SCALE = 10.0


def cider_d(captions: Captions) -> Measurement:
    """CIDEr-D, in [0, 10].

    The document frequencies stay what they are in bootstrap resamples and in parts of the measurement.

    >>> references = {"a": ["a red bus on a street"], "b": ["two dogs play in snow"]}
    >>> captions = Captions.of({"a": "a red bus on a street", "b": "a dog in snow"}, references)
    >>> {key: round(value, 3) for key, value in cider_d(captions).values().items()}
    {'a': 10.0, 'b': 1.814}
    """
    items = len(captions.ids)
    corpus = len(np.unique(captions.owner[captions.frequencies]))
    references = captions.references
    owner = captions.owner[references]
    similarity = np.zeros(len(captions.owner))
    for rows in captions.ngrams:
        weight = np.log(max(corpus, 1)) - np.log(np.maximum(rows.frequency, 1))
        square = weight[rows.gram] ** 2
        norm = np.sqrt(np.bincount(rows.caption, rows.times**2 * square, len(captions.owner)))
        candidate = np.where(rows.twin >= 0, rows.times[rows.twin], 0)
        product = np.bincount(rows.caption, np.minimum(candidate, rows.times) * rows.times * square, len(captions.owner))
        norms = norm[owner] * norm[references]
        similarity[references] += np.divide(product[references], norms, out=np.zeros(len(references)), where=norms > 0)
    bigrams = np.maximum(captions.lengths - 1, 0)
    delta = bigrams[owner] - bigrams[references]
    similarity[references] *= np.exp(-(delta**2) / (2 * SIGMA**2)) / MAX_N
    values = SCALE * np.bincount(owner, similarity[references], items) / np.bincount(owner, minlength=items)
    passport = Passport(
        "cider-d",
        {
            "tokenizer": captions.tokenizer,
            "n": MAX_N,
            "sigma": SIGMA,
            "document_frequency": f"{corpus} images {captions.digest()}",
        },
    )
    return Measurement.mean(passport, captions.ids, values)
